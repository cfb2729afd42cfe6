//! Bytes that everybody can compute, and a sum to compare them by.

/// Byte `offset..offset + buffer.len()` of the endless blob; `offset` is a multiple of 8.
///
/// Every word depends on its place, so a lost, doubled or swapped segment changes the sum.
pub fn fill(offset: u64, buffer: &mut [u8]) {
    debug_assert_eq!(offset % 8, 0);
    for (index, chunk) in (offset / 8..).zip(buffer.chunks_mut(8)) {
        let word = mix(index).to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
}

/// The sum of the first `length` bytes of the blob.
pub fn sum_of(length: u64) -> u64 {
    let mut sum = Sum::default();
    let mut buffer = vec![0; 64 * 1024];
    let mut offset = 0;
    while offset < length {
        let part = (length - offset).min(buffer.len() as u64) as usize;
        fill(offset, &mut buffer[..part]);
        sum.add(&buffer[..part]);
        offset += part as u64;
    }
    sum.finish()
}

/// A running 64-bit sum over bytes and their order; not for adversaries.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    state: u64,
    rest: [u8; 8],
    filled: usize,
    length: u64,
}

impl Sum {
    /// Adds the next bytes; how a stream is cut does not matter.
    pub fn add(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len() as u64;
        if self.filled > 0 {
            let take = bytes.len().min(8 - self.filled);
            self.rest[self.filled..self.filled + take].copy_from_slice(&bytes[..take]);
            self.filled += take;
            bytes = &bytes[take..];
            if self.filled < 8 {
                return;
            }
            self.word(u64::from_le_bytes(self.rest));
            self.filled = 0;
        }
        let (words, tail) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        self.rest[..tail.len()].copy_from_slice(tail);
        self.filled = tail.len();
    }

    fn word(&mut self, word: u64) {
        self.state = (self.state.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    /// Bytes added so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The sum of everything added.
    pub fn finish(mut self) -> u64 {
        if self.filled > 0 {
            self.rest[self.filled..].fill(0);
            self.word(u64::from_le_bytes(self.rest));
        }
        self.word(self.length);
        self.state
    }
}

/// SplitMix64's output function.
fn mix(index: u64) -> u64 {
    let mut z = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_stream_is_cut_does_not_change_its_sum() {
        let mut blob = vec![0; 1003];
        fill(0, &mut blob);
        for cut in [1, 3, 8, 64, 999, 1003] {
            let mut sum = Sum::default();
            blob.chunks(cut).for_each(|part| sum.add(part));
            assert_eq!(sum.finish(), sum_of(1003), "cut into {cut}");
        }
    }

    #[test]
    fn swapped_bytes_and_a_lost_tail_change_the_sum() {
        let mut blob = vec![0; 64];
        fill(0, &mut blob);
        blob.swap(3, 40);
        let mut sum = Sum::default();
        sum.add(&blob);
        assert_ne!(sum.finish(), sum_of(64));
        assert_ne!(sum_of(63), sum_of(64));
    }
}
