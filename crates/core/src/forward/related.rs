//! ICMP errors about a connection's packets: the receiver must find in them the packet it sent.

use crate::director::Mode;
use crate::forward::nat::{Rewrite, RewriteWide, replace_address};
use crate::forward::{decrement_hops, decrement_ttl, is_fullnat};
use crate::host::Packet;
use crate::mask::masked;
use crate::parse::Flow;
use crate::wire::checksum::Diff;
use crate::wire::{icmp6, ipv4, ipv6};

/// Offset of the checksum in an ICMP header of either version.
const CHECKSUM: usize = 2;

/// Which addresses of an error's outer header change: NAT of one end leaves the other, which may be a
/// router's; NAT of both ends shows nobody an address of the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    /// The source.
    pub source: bool,
    /// The destination.
    pub destination: bool,
}

impl Outer {
    /// For a method, in a direction.
    #[inline(always)]
    pub fn of(method: u8, reply: bool) -> Self {
        let both = is_fullnat(method);
        Self {
            source: reply || both,
            destination: !reply || both,
        }
    }
}

/// Translates an error that goes the way of a slot: what [`Outer`] says, and the quoted packet, which went
/// the other way.
#[inline(always)]
pub fn translate<P: Packet>(
    packet: &mut P,
    flow: &Flow,
    to: &Rewrite,
    outer: Outer,
    delivered: bool,
) -> Option<()> {
    if !delivered {
        decrement_ttl(packet, flow)?;
    }
    // The outer header.
    let mut changed = Diff::NONE;
    if outer.source {
        let old = packet.read::<u32>(flow.l3 + ipv4::SOURCE)?;
        packet.write(flow.l3 + ipv4::SOURCE, to.addresses as u32)?;
        changed = Diff::of32(old, to.addresses as u32);
    }
    if outer.destination {
        let new = (to.addresses >> 32) as u32;
        let old = packet.read::<u32>(flow.l3 + ipv4::DESTINATION)?;
        packet.write(flow.l3 + ipv4::DESTINATION, new)?;
        changed = changed.and(Diff::of32(old, new));
    }
    let checksum = packet.read::<u16>(flow.l3 + ipv4::CHECKSUM)?;
    packet.write(flow.l3 + ipv4::CHECKSUM, changed.apply(checksum))?;
    // The quoted header: its own checksum keeps its sum, and so the message's, what it was.
    let inner = flow.inner;
    let (source, destination) = ((to.addresses >> 32) as u32, to.addresses as u32);
    let old_source = packet.read::<u32>(inner + ipv4::SOURCE)?;
    let old_destination = packet.read::<u32>(inner + ipv4::DESTINATION)?;
    let addresses = Diff::of32(old_source, source).and(Diff::of32(old_destination, destination));
    let checksum = packet.read::<u16>(inner + ipv4::CHECKSUM)?;
    packet.write(inner + ipv4::SOURCE, source)?;
    packet.write(inner + ipv4::DESTINATION, destination)?;
    packet.write(inner + ipv4::CHECKSUM, addresses.apply(checksum))?;
    ports(packet, flow, to.ports, Diff::NONE, Diff::NONE)
}

/// The quoted ports, and the message's checksum.
#[inline(always)]
fn ports<P: Packet>(
    packet: &mut P,
    flow: &Flow,
    new_ports: u32,
    inside: Diff,
    pseudo: Diff,
) -> Option<()> {
    let old = packet.read::<u32>(flow.l4)?;
    let new = new_ports.rotate_left(16);
    packet.write(flow.l4, new)?;
    let changed = inside.and(Diff::of32(old, new));
    // The ICMP header lies before what it quotes.
    let checksum = masked::<0x1ff>(flow.inner.wrapping_sub(icmp6::LEN - CHECKSUM));
    packet.update_checksum(checksum, pseudo, changed, false)
}

/// As [`translate`], for ICMPv6.
#[inline(always)]
pub fn translate_wide<P: Packet>(
    packet: &mut P,
    flow: &Flow,
    to: &RewriteWide,
    outer: Outer,
    delivered: bool,
) -> Option<()> {
    let mut pseudo = Diff::NONE;
    if outer.source {
        (_, pseudo) = replace_address(packet, flow.l3 + ipv6::SOURCE, to.source)?;
    }
    if outer.destination {
        let (_, changed) = replace_address(packet, flow.l3 + ipv6::DESTINATION, to.destination)?;
        pseudo = pseudo.and(changed);
    }
    packet.sum_changed(pseudo);
    let (_, source) = replace_address(packet, flow.inner + ipv6::SOURCE, to.destination)?;
    let (_, destination) = replace_address(packet, flow.inner + ipv6::DESTINATION, to.source)?;
    let inside = source.and(destination);
    if !delivered {
        decrement_hops(packet, flow)?;
    }
    ports(packet, flow, to.ports, inside, pseudo)
}

/// The way an error goes that only has to reach the real server as it is.
#[inline(always)]
pub fn pass_on<P: Packet, M: Mode>(packet: &mut P, flow: &Flow) -> Option<()> {
    if M::WIDE {
        decrement_hops(packet, flow)
    } else {
        decrement_ttl(packet, flow)
    }
}
