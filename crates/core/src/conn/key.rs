//! What identifies one direction of a connection, and its keyed hash.

use crate::addr::{Address, Be16, Be32};
use crate::proto;

/// Source and destination of a packet as it arrives at the director.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Source address in the low half, destination in the high half, raw. Of IPv6 a keyed hash of both,
    /// which stand beside the slot.
    pub addresses: u64,
    /// Source port in the low half, destination port in the high half, raw.
    pub ports: u32,
    /// Class: see [`crate::proto`].
    pub proto: u8,
}

impl Key {
    /// A key from its parts.
    #[inline(always)]
    pub fn new(proto: u8, source: Be32, sport: Be16, destination: Be32, dport: Be16) -> Self {
        Self {
            addresses: u64::from(source.raw()) | u64::from(destination.raw()) << 32,
            ports: u32::from(sport.raw()) | u32::from(dport.raw()) << 16,
            proto,
        }
    }

    /// A key of either family, as `proto` says.
    #[inline(always)]
    pub fn of(
        proto: u8,
        source: &Address,
        destination: &Address,
        ports: u32,
        seed: [u64; 2],
    ) -> Self {
        let addresses = if proto & proto::WIDE == 0 {
            u64::from(source.0[0]) | u64::from(destination.0[0]) << 32
        } else {
            Self::fold(
                [
                    source.half(0),
                    source.half(1),
                    destination.half(0),
                    destination.half(1),
                ],
                seed,
            )
        };
        Self {
            addresses,
            ports,
            proto,
        }
    }

    /// Two IPv6 addresses, by halves as they lie in memory, in one keyed word.
    ///
    /// Of the first halves the universal hash NH (RFC 4418, section 5.2.2), to which the second are added, that of the
    /// destination scrambled: whatever two clients of a VIP are chosen, they collide under one of 2^32 keys. And no
    /// two that differ in the second half of one address alone do under any: that half follows from the rest.
    #[inline(always)]
    pub fn fold(halves: [u64; 4], seed: [u64; 2]) -> u64 {
        let nh = |half: u64, key: u64| {
            let low = (half as u32).wrapping_add(key as u32);
            let high = ((half >> 32) as u32).wrapping_add((key >> 32) as u32);
            u64::from(low) * u64::from(high)
        };
        let [a, b, c, d] = halves;
        let first = nh(a, seed[0]).wrapping_add(nh(c, seed[1]));
        first.wrapping_add(b).wrapping_add(scrambled(d, seed))
    }

    /// Source address; of IPv4.
    #[inline(always)]
    pub fn source(&self) -> Be32 {
        Be32::from_raw(self.addresses as u32)
    }

    /// Destination address; of IPv4.
    #[inline(always)]
    pub fn destination(&self) -> Be32 {
        Be32::from_raw((self.addresses >> 32) as u32)
    }

    /// Source port.
    #[inline(always)]
    pub fn sport(&self) -> Be16 {
        Be16::from_raw(self.ports as u16)
    }

    /// Destination port.
    #[inline(always)]
    pub fn dport(&self) -> Be16 {
        Be16::from_raw((self.ports >> 16) as u16)
    }

    /// The keyed hash: two rounds of multiplication by secret odd numbers, so that nobody outside
    /// can aim flows at one set. The seed lives as long as the table.
    #[inline(always)]
    pub fn hash(&self, seed: [u64; 2]) -> Hash {
        let mut x = (self.addresses ^ seed[0]).wrapping_mul(seed[1] | 1);
        x ^= x >> 32;
        x = (x ^ (u64::from(self.ports) | u64::from(self.proto) << 32)).wrapping_mul(seed[0] | 1);
        x ^= x >> 29;
        x = x.wrapping_mul(0x9fb2_1c65_1e98_df25);
        Hash(x ^ (x >> 32))
    }
}

/// Every number as another one, the difference of two being any with about one of 2^31 keys: two rounds of a Feistel
/// network whose functions multiply and shift.
#[inline(always)]
fn scrambled(half: u64, seed: [u64; 2]) -> u64 {
    let [high, low] = [half >> 32, half & 0xffff_ffff];
    let low = low.wrapping_add(high.wrapping_mul(!seed[0]) >> 32) & 0xffff_ffff;
    let high = high.wrapping_add(low.wrapping_mul(!seed[1]) >> 32);
    high << 32 | low
}

/// Hash of a [`Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(pub u64);

impl Hash {
    /// What the tag word of a slot remembers of it; never 0.
    #[inline(always)]
    pub fn fingerprint(self) -> u32 {
        (self.0 >> 32) as u32 | 1
    }

    /// What the hints of a set remember of it; never 0.
    #[inline(always)]
    pub fn hint(self) -> u16 {
        (self.0 >> 48) as u16 | 1
    }

    /// The set looked at first.
    #[inline(always)]
    pub fn first_set(self, mask: u32) -> u32 {
        self.0 as u32 & mask
    }

    /// The set looked at next: never the first, unless the table has a single set.
    #[inline(always)]
    pub fn second_set(self, mask: u32) -> u32 {
        (self.0 as u32 ^ (self.fingerprint().wrapping_mul(0x5bd1_e995) | 1)) & mask
    }

    /// The slot of a set looked at first: spreads entries so that most are found at once.
    #[inline(always)]
    pub fn first_way(self) -> u32 {
        (self.0 >> 29) as u32 & 7
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Multiplication keeps a difference in the highest bit, whatever the key: nothing may take it out again.
    #[test]
    fn no_few_bits_make_other_addresses_the_same_key_under_any_seed() {
        let seeds = [
            [0x2545_f491_4f6c_dd1d, 0x9e37_79b9_7f4a_7c15],
            [0xd1b5_4a32_d192_ed03, 0x8cb9_2ba7_2f3d_8dd7],
        ];
        let addresses = [
            0xfd00_0001,
            0x0200_0000_0000_0000,
            0xfd00_0002,
            0x6400 << 48,
        ];
        let flip = |bits: &[usize]| {
            let mut halves = addresses;
            for bit in bits {
                halves[bit / 64] ^= 1 << (bit % 64);
            }
            halves
        };
        for seed in seeds {
            let key = Key::fold(addresses, seed);
            for a in 0..256 {
                assert_ne!(Key::fold(flip(&[a]), seed), key, "{a}");
                for b in 0..a {
                    assert_ne!(Key::fold(flip(&[a, b]), seed), key, "{a} {b}");
                    for c in 0..b {
                        assert_ne!(Key::fold(flip(&[a, b, c]), seed), key, "{a} {b} {c}");
                    }
                }
            }
        }
    }

    /// What [`crate::conn::Word::is_at_vip`] builds upon.
    #[test]
    fn the_second_half_of_either_address_follows_from_the_key_and_the_rest() {
        let mut x = 0x0123_4567_89ab_cdef_u64;
        let mut any = || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x
        };
        for _ in 0..10_000 {
            let seed = [any(), any()];
            let [a, b, c, d] = [any(), any(), any(), any()];
            let key = Key::fold([a, b, c, d], seed);
            assert_eq!(key.wrapping_sub(Key::fold([a, 0, c, d], seed)), b);
            let rest = Key::fold([a, b, c, 0], seed).wrapping_sub(scrambled(0, seed));
            assert_eq!(unscrambled(key.wrapping_sub(rest), seed), d);
        }
    }

    /// The rounds of [`scrambled`], backwards.
    fn unscrambled(half: u64, seed: [u64; 2]) -> u64 {
        let [high, low] = [half >> 32, half & 0xffff_ffff];
        let high = high.wrapping_sub(low.wrapping_mul(!seed[1]) >> 32) & 0xffff_ffff;
        let low = low.wrapping_sub(high.wrapping_mul(!seed[0]) >> 32) & 0xffff_ffff;
        high << 32 | low
    }
}
