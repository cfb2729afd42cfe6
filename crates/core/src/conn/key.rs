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
    #[inline(always)]
    pub fn fold(halves: [u64; 4], seed: [u64; 2]) -> u64 {
        // An address each, side by side: one after the other, multiplications would wait for each other.
        let lane = |[high, low]: [u64; 2], [first, second]: [u64; 2]| {
            let x = (high ^ second).wrapping_mul(first | 1);
            let x = (x ^ (x >> 32) ^ low).wrapping_mul(second | 1);
            x ^ (x >> 30)
        };
        let [a, b, c, d] = halves;
        lane([a, b], seed).wrapping_add(lane([c, d], [seed[1], seed[0]]))
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
