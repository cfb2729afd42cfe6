//! SipHash with one compression round and three at the end, of one 32-bit word: what Maglev hashing
//! in the kernel draws its table and its look-ups from (Aumasson and Bernstein, "SipHash: a fast
//! short-input PRF", with the parameters 1 and 3).

/// SipHash-1-3 of the four little-endian bytes of `value`, under the key whose halves are `key`.
#[inline(always)]
pub const fn siphash13(value: u32, key: [u64; 2]) -> u64 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    // The last block is padded and ends with the length.
    let block = value as u64 | 4 << 56;
    v[3] ^= block;
    v = round(v);
    v[0] ^= block;
    v[2] ^= 0xff;
    v = round(round(round(v)));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline(always)]
const fn round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::hash::Hasher;

    /// The standard library's maps hash with the same function, under a key of zeros.
    #[test]
    #[allow(
        deprecated,
        reason = "the one way to the standard library's SipHash-1-3 with a known key"
    )]
    fn the_standard_library_agrees() {
        for value in [0, 1, 0x0a00_005b, u32::MAX, 0x8000_0000] {
            let mut hasher = std::hash::DefaultHasher::new();
            hasher.write(&value.to_le_bytes());
            assert_eq!(siphash13(value, [0, 0]), hasher.finish(), "{value:#x}");
        }
    }
}
