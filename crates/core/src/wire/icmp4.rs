//! ICMP, RFC 792: the errors a director sends.

/// Bytes of the header of an error message, before the quoted packet.
pub const LEN: usize = 8;
/// Bytes of the transport header that are quoted at least.
pub const QUOTED_TRANSPORT: usize = 8;

/// An error to send back to where a packet came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Next-hop MTU of "fragmentation needed" (RFC 1191 §4), otherwise 0.
    pub mtu: u16,
}

impl Message {
    /// Destination unreachable, host: there is no route to the real server.
    pub const HOST_UNREACHABLE: Self = Self {
        kind: 3,
        code: 1,
        mtu: 0,
    };
    /// Destination unreachable, port: no real server takes new connections.
    pub const PORT_UNREACHABLE: Self = Self {
        kind: 3,
        code: 3,
        mtu: 0,
    };
    /// Time to live exceeded in transit.
    pub const TIME_EXCEEDED: Self = Self {
        kind: 11,
        code: 0,
        mtu: 0,
    };

    /// Destination unreachable, fragmentation needed and DF set.
    #[inline(always)]
    pub fn fragmentation_needed(mtu: u16) -> Self {
        Self {
            kind: 3,
            code: 4,
            mtu,
        }
    }

    /// All of it in one word, to be passed in a register.
    #[inline(always)]
    pub fn to_word(self) -> u32 {
        u32::from(self.kind) | u32::from(self.code) << 8 | u32::from(self.mtu) << 16
    }

    /// From [`Message::to_word`].
    #[inline(always)]
    pub fn from_word(word: u32) -> Self {
        Self {
            kind: word as u8,
            code: (word >> 8) as u8,
            mtu: (word >> 16) as u16,
        }
    }
}
