//! States, timeouts and transitions of the transport protocols, as data.
//!
//! Slots and keys name a protocol by a *class*: what it carries in the low six bits, whether its
//! addresses are IPv6, and whether it is a persistence template, so that none is taken for another.

pub mod sctp;
pub mod tcp;

use tcp::Direction;

/// The part of a class that names the transport protocol.
pub const BASE: u8 = 0x3f;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// SCTP: its protocol number, 132, without the bits that do not fit.
pub const SCTP: u8 = 132 & BASE;
/// Any: of the template of a firewall mark.
pub const ANY: u8 = 0;
/// Bit of a class: addresses are IPv6 and lie beside the slot.
pub const WIDE: u8 = 0x40;
/// Bit of a class: a persistence template.
pub const TEMPLATE: u8 = 0x80;

/// The transport protocol of a class.
#[inline(always)]
pub const fn base(class: u8) -> u8 {
    class & BASE
}

/// Protocol number of a base, as services and packets have it.
#[inline(always)]
pub const fn number(base: u8) -> u8 {
    if base == SCTP { 132 } else { base }
}

/// Index of UDP's timeout in [`crate::layout::Runtime::timeouts`].
pub const UDP_TIMEOUT: usize = 16;
/// Index of the timeout of SCTP's first state.
pub const SCTP_TIMEOUT: usize = 17;

/// Default UDP timeout in seconds (`spec`: ip_vs_proto_udp.c).
pub const UDP_DEFAULT_SECS: u32 = 300;

/// UDP's state until a reply passes.
pub const UDP_NEW: u8 = 0;
/// UDP's state once a reply has passed. Listings show both alike; it assures the template.
pub const UDP_ANSWERED: u8 = 1;

/// A template's state before a connection of it was established.
pub const TEMPLATE_NONE: u8 = 0;
/// A template's state once one was.
pub const TEMPLATE_ASSURED: u8 = 1;

/// The state after a packet: of TCP its flags say which event it is, of SCTP the event itself.
#[inline(always)]
pub fn next(direction: Direction, class: u8, event: u8, state: u8, secure: bool) -> u8 {
    match base(class) {
        TCP => tcp::next(direction, event, state, secure),
        SCTP => sctp::next(direction, event, state),
        UDP if matches!(direction, Direction::Reply) => UDP_ANSWERED,
        _ => state,
    }
}

/// A transition table with each row at a multiple of 16, so that a shift finds it; what no packet can
/// reach is `closed`.
const fn padded<const STATES: usize, const ROWS: usize>(
    closed: u8,
    rows: [[u8; STATES]; ROWS],
) -> [u8; 512] {
    let mut out = [closed; 512];
    let mut row = 0;
    while row < ROWS {
        let mut state = 0;
        while state < STATES {
            out[row * 16 + state] = rows[row][state];
            state += 1;
        }
        row += 1;
    }
    out
}

/// Where a state's timeout lies in [`crate::layout::Runtime::timeouts`]. Always below 32.
#[inline(always)]
pub fn timeout_index(class: u8, state: u8) -> usize {
    match base(class) {
        TCP => (state & 15) as usize,
        SCTP => SCTP_TIMEOUT + (state & 15) as usize % sctp::STATES,
        _ => UDP_TIMEOUT,
    }
}

/// Whether a connection in this state counts as active.
#[inline(always)]
pub fn is_active(class: u8, state: u8) -> bool {
    match base(class) {
        TCP => tcp::is_active(state),
        SCTP => state == sctp::ESTABLISHED,
        _ => false,
    }
}

/// Whether a connection that comes into this state assures its template.
#[inline(always)]
pub fn assures(class: u8, state: u8) -> bool {
    match base(class) {
        TCP => state == tcp::ESTABLISHED,
        SCTP => state == sctp::ESTABLISHED,
        _ => state == UDP_ANSWERED,
    }
}

/// UDP gives its slot last, but it does: no handshake proves that a client exists, and a flood of
/// forged sources must not keep TCP out.
pub(crate) const UDP_RANK: u8 = 3;

/// How readily a connection gives its slot to a new one: 0 never, otherwise lower goes first.
#[inline(always)]
pub fn eviction_rank(class: u8, state: u8) -> u8 {
    match base(class) {
        TCP => tcp::eviction_rank(state),
        SCTP => sctp::eviction_rank(state),
        _ => UDP_RANK,
    }
}
