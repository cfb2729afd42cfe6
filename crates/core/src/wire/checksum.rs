//! The Internet checksum: RFC 1071 sums and RFC 1624 updates.
//!
//! Sums are kept as `u32` one's-complement accumulators in the byte order of memory, which
//! RFC 1071 §2(B) allows; only the folded result touches the packet.

/// A difference between old and new contents, to be applied to a checksum.
///
/// Kept wide and folded late: carries that are folded one by one would be branches, which a verifier
/// follows both ways each time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Diff(u64);

impl Diff {
    /// No change.
    pub const NONE: Self = Self(0);

    /// `old` became `new`: RFC 1624 eqn 3 without the outer terms (`~m + m'`).
    #[inline(always)]
    pub fn of32(old: u32, new: u32) -> Self {
        Self(u64::from(!old) + u64::from(new))
    }

    /// Two words at once, one behind the other.
    #[inline(always)]
    pub fn of64(old: u64, new: u64) -> Self {
        Self::of32(old as u32, new as u32).and(Self::of32((old >> 32) as u32, (new >> 32) as u32))
    }

    /// From an accumulator as [`Diff::raw`] gives it.
    #[inline(always)]
    pub fn from_raw(raw: u32) -> Self {
        Self(raw.into())
    }

    /// A 16-bit field changed.
    #[inline(always)]
    pub fn of16(old: u16, new: u16) -> Self {
        Self((u64::from(!old)) + u64::from(new))
    }

    /// A word is there that was not.
    #[inline(always)]
    pub fn added(new: u32) -> Self {
        Self(new.into())
    }

    /// True when nothing changed: both zeros of one's complement.
    #[inline(always)]
    pub fn is_none(self) -> bool {
        self.raw().wrapping_add(1) <= 1
    }

    /// The other way round: what was added is taken away.
    #[inline(always)]
    pub fn reversed(self) -> Self {
        Self(u64::from(!self.raw()))
    }

    /// Both changes.
    #[inline(always)]
    pub fn and(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// The accumulator, for helpers that take one of 32 bits.
    #[inline(always)]
    pub fn raw(self) -> u32 {
        let sum = add_words(self.0);
        ((sum >> 32) + sum) as u32
    }

    /// The checksum field after the change (RFC 1624 eqn 3: `HC' = ~(~HC + ~m + m')`).
    #[inline(always)]
    pub fn apply(self, checksum: u16) -> u16 {
        !fold(Self(self.0 + u64::from(!checksum)).raw())
    }
}

/// A change of the pseudo header that a transport checksum covers.
#[derive(Clone, Copy, Debug)]
pub struct Pseudo {
    /// What the pseudo header summed to before, not folded.
    pub sum: u64,
    /// What changed in it.
    pub change: Diff,
    /// What the bytes of the IP header changed by: nothing where they hold a checksum of their own.
    pub header: Diff,
}

impl Pseudo {
    /// Sum of a pseudo header without its addresses: protocol and length, in host order.
    #[inline(always)]
    pub fn ends(protocol: u8, len: u16) -> u64 {
        u64::from(u16::from(protocol).to_be()) + u64::from(len.to_be())
    }

    /// Whether this pseudo header, as it was before, is all that a checksum covers, as [`is_unfinished`] says; to
    /// which both zeros are one. A division takes less than folding what is only compared.
    #[inline(always)]
    pub fn is_all(&self, checksum: u16) -> bool {
        (self.sum + u64::from(!checksum)).is_multiple_of(0xffff)
    }

    /// What all bytes from the IP header on change by when the transport checksum is brought up to date.
    #[inline(always)]
    pub fn on_bytes(&self) -> Diff {
        self.header.and(self.change.reversed())
    }
}

/// Whether a checksum field holds no more than what the pseudo header sums to: hardware is to add the rest. By
/// chance one whole checksum in 65,535 looks like that, too.
#[inline(always)]
pub fn is_unfinished(checksum: u16, pseudo: u32) -> bool {
    checksum == fold(pseudo)
}

/// The two words of one, added without loss.
#[inline(always)]
pub fn add_words(both: u64) -> u64 {
    (both >> 32) + (both & 0xffff_ffff)
}

/// One's-complement addition of accumulators.
#[inline(always)]
pub fn add(a: u32, b: u32) -> u32 {
    let sum = u64::from(a) + u64::from(b);
    (sum as u32).wrapping_add((sum >> 32) as u32)
}

/// The sum of words as they lie in memory.
#[inline(always)]
pub fn add_all<const N: usize>(words: [u32; N]) -> u32 {
    words.into_iter().fold(0, add)
}

/// Folds an accumulator into 16 bits (not inverted).
#[inline(always)]
pub fn fold(sum: u32) -> u16 {
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + sum) as u16
}

/// The checksum of a message whose words sum to `sum`.
#[inline(always)]
pub fn finish(sum: u32) -> u16 {
    !fold(sum)
}

/// The checksum of a message whose words sum to `sum`, not folded yet.
#[inline(always)]
pub fn finish_wide(sum: u64) -> u16 {
    !fold(Diff(sum).raw())
}

/// The checksum of whole bytes, the slow and sure way; odd lengths are padded with zero.
pub fn of_bytes(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        let word = u16::from_ne_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
        sum = add(sum, u32::from(word));
    }
    finish(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071 §3: the sum of 00 01 f2 03 f4 f5 f6 f7 is ddf2.
    #[test]
    fn the_example_of_rfc_1071_sums_to_ddf2() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(of_bytes(&bytes), !u16::from_be_bytes([0xdd, 0xf2]).to_be());
    }

    #[test]
    fn what_the_pseudo_header_sums_to_is_all_of_an_unfinished_checksum() {
        for sum in [
            0x1_2345_6789,
            0xffff,
            0x1_fffe,
            0xffff_ffff,
            0x3_ffff_0000,
            7,
        ] {
            let pseudo = Pseudo {
                sum,
                change: Diff::NONE,
                header: Diff::NONE,
            };
            let unfinished = fold(Diff(sum).raw());
            for checksum in 0..=u16::MAX {
                let zeros = checksum == 0 && unfinished == 0xffff;
                let wanted = is_unfinished(checksum, Diff(sum).raw()) || zeros;
                assert_eq!(pseudo.is_all(checksum), wanted, "{sum:#x} {checksum:#x}");
            }
        }
    }

    #[test]
    fn an_update_equals_a_recount() {
        let mut bytes: [u8; 20] = core::array::from_fn(|i| (i * 37 + 11) as u8);
        bytes[10..12].fill(0);
        let before = of_bytes(&bytes);
        let old = u32::from_ne_bytes(bytes[12..16].try_into().unwrap());
        let new = u32::from_ne_bytes([192, 168, 0, 10]);
        bytes[12..16].copy_from_slice(&new.to_ne_bytes());
        assert_eq!(Diff::of32(old, new).apply(before), of_bytes(&bytes));
        assert!(!Diff::of32(old, new).is_none() && Diff::of32(old, old).is_none());
    }
}
