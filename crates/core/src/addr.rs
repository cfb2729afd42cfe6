//! Values in wire order, as types, so that nobody wonders whether a port is swapped.

/// A 16-bit value in network byte order, as it lies in the packet.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Be16(u16);

impl Be16 {
    /// From host order.
    #[inline(always)]
    pub const fn new(value: u16) -> Self {
        Self(value.to_be())
    }

    /// From the bits as loaded from wire memory.
    #[inline(always)]
    pub const fn from_raw(raw: u16) -> Self {
        Self(raw)
    }

    /// In host order.
    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }

    /// The bits as they lie in wire memory.
    #[inline(always)]
    pub const fn raw(self) -> u16 {
        self.0
    }
}

/// A 32-bit value in network byte order: an IPv4 address.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Be32(u32);

impl Be32 {
    /// From host order.
    #[inline(always)]
    pub const fn new(value: u32) -> Self {
        Self(value.to_be())
    }

    /// From the bits as loaded from wire memory.
    #[inline(always)]
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// From the four bytes of an address.
    #[inline(always)]
    pub const fn from_octets(octets: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(octets))
    }

    /// The four bytes of the address.
    #[inline(always)]
    pub const fn octets(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }

    /// In host order.
    #[inline(always)]
    pub const fn get(self) -> u32 {
        u32::from_be(self.0)
    }

    /// The bits as they lie in wire memory.
    #[inline(always)]
    pub const fn raw(self) -> u32 {
        self.0
    }
}

/// An address of either family, as four words of wire memory; an IPv4 address is the first of them.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Address(pub [u32; 4]);

impl Address {
    /// No address.
    pub const NONE: Self = Self([0; 4]);

    /// An IPv4 address.
    #[inline(always)]
    pub const fn v4(address: Be32) -> Self {
        Self([address.raw(), 0, 0, 0])
    }

    /// From the bytes of an IPv6 address.
    #[inline(always)]
    pub const fn v6(octets: [u8; 16]) -> Self {
        let mut words = [0; 4];
        let mut i = 0;
        while i < 4 {
            words[i] = u32::from_ne_bytes([
                octets[4 * i],
                octets[4 * i + 1],
                octets[4 * i + 2],
                octets[4 * i + 3],
            ]);
            i += 1;
        }
        Self(words)
    }

    /// The IPv4 address.
    #[inline(always)]
    pub const fn as_v4(&self) -> Be32 {
        Be32::from_raw(self.0[0])
    }

    /// Eight of its bytes as a word of memory: the first (0) or the last (1).
    #[inline(always)]
    pub const fn half(&self, which: usize) -> u64 {
        let (first, second) = (self.0[2 * which], self.0[2 * which + 1]);
        if cfg!(target_endian = "little") {
            first as u64 | (second as u64) << 32
        } else {
            (first as u64) << 32 | second as u64
        }
    }

    /// The bytes of the IPv6 address.
    pub fn octets(&self) -> [u8; 16] {
        let mut octets = [0; 16];
        for (chunk, word) in octets.chunks_exact_mut(4).zip(self.0) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        octets
    }

    /// All words folded into one, in host order, as IPVS's hashing schedulers do.
    #[inline(always)]
    pub const fn folded(&self) -> u32 {
        u32::from_be(self.0[0] ^ self.0[1] ^ self.0[2] ^ self.0[3])
    }
}
