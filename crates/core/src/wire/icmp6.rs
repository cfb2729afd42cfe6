//! ICMPv6, RFC 4443: the errors a director sends.

use crate::wire::icmp4::Message;

/// Bytes of the header of an error message, before the quoted packet.
pub const LEN: usize = 8;
/// Types below are errors.
pub const INFORMATIONAL: u8 = 128;
/// Destination unreachable.
pub const UNREACHABLE: u8 = 1;
/// Packet too big.
pub const TOO_BIG: u8 = 2;
/// Time exceeded.
pub const TIME_EXCEEDED: u8 = 3;

/// Type, code and MTU (host order) of what says the same as an IPv4 message.
#[inline(always)]
pub fn of_v4(message: Message) -> (u8, u8, u32) {
    match (message.kind, message.code) {
        (3, 3) => (UNREACHABLE, 4, 0),
        (3, 4) => (TOO_BIG, 0, u32::from(message.mtu)),
        (3, _) => (UNREACHABLE, 3, 0),
        _ => (TIME_EXCEEDED, 0, 0),
    }
}
