//! Forwarding methods: what is rewritten on the way to a real server and back. One a file.

pub mod direct;
pub mod nat;
pub mod related;
pub mod tunnel;

use crate::host::Packet;
use crate::parse::Flow;
use crate::wire::checksum::Diff;
use crate::wire::ipv4;

/// Masquerading (`IP_VS_CONN_F_MASQ`).
pub const NAT: u8 = 0;
/// Local node (`IP_VS_CONN_F_LOCALNODE`).
pub const LOCAL: u8 = 1;
/// Tunnelling (`IP_VS_CONN_F_TUNNEL`).
pub const TUNNEL: u8 = 2;
/// Direct routing (`IP_VS_CONN_F_DROUTE`).
pub const DIRECT: u8 = 3;

/// Takes one off the time to live, which the caller found to be above one.
#[inline(always)]
pub fn decrement_ttl<P: Packet>(packet: &mut P, flow: &Flow) -> Option<()> {
    let at = flow.l3 + ipv4::TTL;
    let [ttl, protocol] = packet.read::<[u8; 2]>(at)?;
    let (old, new) = ([ttl, protocol], [ttl.wrapping_sub(1), protocol]);
    let diff = Diff::of16(u16::from_ne_bytes(old), u16::from_ne_bytes(new));
    packet.write(at, new)?;
    let checksum = packet.read::<u16>(flow.l3 + ipv4::CHECKSUM)?;
    packet.write(flow.l3 + ipv4::CHECKSUM, diff.apply(checksum))
}
