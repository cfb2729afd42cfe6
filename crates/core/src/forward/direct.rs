//! Direct routing: the packet stays as it is but for the time to live; only the link-layer address
//! leads it to the real server, which owns the VIP without answering ARP for it.

use crate::forward::decrement_ttl;
use crate::host::Packet;
use crate::parse::Flow;

/// Prepares a packet for its real server.
#[inline(always)]
pub fn forward<P: Packet>(packet: &mut P, flow: &Flow) -> Option<()> {
    decrement_ttl(packet, flow)
}
