//! States, timeouts and transitions of the transport protocols, as data.

pub mod tcp;

use crate::wire::ipv4;

/// TCP in a class byte.
pub const TCP: u8 = 6;
/// UDP in a class byte.
pub const UDP: u8 = 17;
/// SCTP in a class byte: the low bits of 132.
pub const SCTP: u8 = 4;
/// Any protocol in a class byte: persistence templates of firewall marks.
pub const ANY: u8 = 0;
/// Bit of a class byte: IPv6, the addresses lie in the wide table.
pub const WIDE: u8 = 64;
/// Bit of a class byte: a persistence template.
pub const TEMPLATE: u8 = 128;
/// The part of a class byte that says the transport protocol.
pub const BASE: u8 = 63;

/// Index of UDP's only state in [`crate::layout::Runtime::timeouts`].
pub const UDP_TIMEOUT: usize = 16;

/// Default UDP timeout in seconds (`spec`: ip_vs_proto_udp.c).
pub const UDP_DEFAULT_SECS: u32 = 300;

/// Index of SCTP's first state in [`crate::layout::Runtime::timeouts`].
pub const SCTP_TIMEOUTS: usize = 17;

/// Default timeout of each SCTP state in seconds, in the kernel's order of states
/// (`Linux net/netfilter/ipvs/ip_vs_proto_sctp.c`).
pub const SCTP_DEFAULT_SECS: [u32; 14] = [2, 4, 61, 61, 61, 61, 61, 61, 900, 61, 61, 61, 4, 61];

/// Where a state's timeout lies in [`crate::layout::Runtime::timeouts`]. Always below 32.
#[inline(always)]
pub fn timeout_index(proto: u8, state: u8) -> usize {
    if proto == ipv4::TCP {
        (state & 15) as usize
    } else {
        UDP_TIMEOUT
    }
}

/// Whether a connection in this state counts as active.
#[inline(always)]
pub fn is_active(proto: u8, state: u8) -> bool {
    proto == ipv4::TCP && tcp::is_active(state)
}

/// UDP gives its slot last, but it does: no handshake proves that a client exists, and a flood of
/// forged sources must not keep TCP out.
const UDP_RANK: u8 = 3;

/// How readily a connection gives its slot to a new one: 0 never, otherwise lower goes first.
#[inline(always)]
pub fn eviction_rank(proto: u8, state: u8) -> u8 {
    if proto == ipv4::TCP {
        tcp::eviction_rank(state)
    } else {
        UDP_RANK
    }
}
