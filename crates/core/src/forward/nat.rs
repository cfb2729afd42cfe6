//! NAT: destination towards the real server, source back to the client. Both directions are one
//! rewrite; the slot says what each address and port becomes.

use crate::host::Packet;
use crate::parse::Flow;
use crate::wire::checksum::Diff;
use crate::wire::{ipv4, tcp, udp};

/// What addresses and ports become, raw, laid out as in [`crate::conn::Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Source address in the low half, destination in the high half.
    pub addresses: u64,
    /// Source port in the low half, destination port in the high half.
    pub ports: u32,
}

/// Rewrites addresses, ports and both checksums; the time to live too when the packet is forwarded
/// (`ttl_step` 1) rather than delivered (0).
#[inline(always)]
pub fn rewrite<P: Packet>(packet: &mut P, flow: &Flow, to: &Rewrite, ttl_step: u8) -> Option<()> {
    let addresses = Diff::of32(flow.key.addresses as u32, to.addresses as u32).and(Diff::of32(
        (flow.key.addresses >> 32) as u32,
        (to.addresses >> 32) as u32,
    ));
    let ports = Diff::of32(flow.key.ports, to.ports);

    let [ttl, proto] = packet.read::<[u8; 2]>(flow.l3 + ipv4::TTL)?;
    let lower = [ttl.wrapping_sub(ttl_step), proto];
    let header = addresses.and(Diff::of16(
        u16::from_ne_bytes([ttl, proto]),
        u16::from_ne_bytes(lower),
    ));
    let checksum = packet.read::<u16>(flow.l3 + ipv4::CHECKSUM)?;
    packet.write(flow.l3 + ipv4::TTL, lower)?;
    packet.write(flow.l3 + ipv4::CHECKSUM, header.apply(checksum))?;
    packet.write(flow.l3 + ipv4::SOURCE, to.addresses)?;

    packet.write(flow.l4, to.ports)?;
    if flow.key.proto == ipv4::TCP {
        packet.update_checksum(flow.l4 + tcp::CHECKSUM, addresses, ports, false)
    } else {
        packet.update_checksum(flow.l4 + udp::CHECKSUM, addresses, ports, true)
    }
}
