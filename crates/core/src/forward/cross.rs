//! FULLNAT between the families: a VIP of one, servers of the other. Headers are translated as RFC 7915
//! says, as far as a balancer needs it: TCP, UDP and SCTP, whole or in fragments, and ICMP errors about
//! them. IPv4 options and IPv6 extension headers are left out, as there.

use crate::addr::Be16;
use crate::atomic;
use crate::conn;
use crate::forward::fullnat::{wanted_flow, word_of};
use crate::forward::nat;
use crate::host::{Packet, Tables};
use crate::inner::Version;
use crate::layout::Wide;
use crate::mask::masked;
use crate::parse::Flow;
use crate::proto;
use crate::wire::checksum::{Diff, add, finish};
use crate::wire::{icmp6, ipv4, ipv6, tcp, udp};

/// Bytes of an IPv6 fragment header.
const FRAGMENT_LEN: usize = 8;
/// What IPv4 grows by at most, as a fragment.
pub const LARGEST_GROWTH: u16 = (ipv6::LEN - ipv4::MIN_LEN + FRAGMENT_LEN) as u16;
/// Longest IPv4 packet that may be fragmented on its way (RFC 7915 §5.1): longer ones were told the path's
/// MTU.
const MAY_FRAGMENT: u16 = 1260;

/// How many bytes longer the packet gets.
#[inline(always)]
pub fn growth<P: Packet>(packet: &P, flow: &Flow, wide: bool) -> i32 {
    let old = (flow.l4 - flow.l3) as i32;
    new_len(packet, flow, wide) as i32 - old
}

/// Bytes of everything before the transport header (the quoted one, in an error) once it is translated.
#[inline(always)]
fn new_len<P: Packet>(packet: &P, flow: &Flow, wide: bool) -> usize {
    match (wide, flow.inner != 0) {
        (true, false) => ipv4::MIN_LEN,
        (true, true) => ipv4::MIN_LEN + icmp6::LEN + ipv4::MIN_LEN,
        (false, true) => ipv6::LEN + icmp6::LEN + ipv6::LEN,
        (false, false) if is_fragment(packet, flow.l3) => ipv6::LEN + FRAGMENT_LEN,
        (false, false) => ipv6::LEN,
    }
}

/// Whether the IPv4 packet at `l3` is a fragment.
#[inline(always)]
fn is_fragment<P: Packet>(packet: &P, l3: usize) -> bool {
    let field = packet.read::<Be16>(l3 + 6).map_or(0, Be16::get);
    field & ipv4::FRAGMENT != 0
}

/// What is kept of an IP header.
#[derive(Clone, Copy)]
struct Head {
    tos: u8,
    hops: u8,
    protocol: u8,
    /// Bytes after the header.
    payload: u16,
    /// Offset in units of eight bytes, and whether more follow, as IPv4 has it without DF; 0 for a whole
    /// packet.
    fragment: u16,
    id: u16,
}

impl Head {
    /// Of an error that came as `flow`, whole, on its way on.
    #[inline(always)]
    fn of_error(flow: &Flow, protocol: u8, payload: u16) -> Self {
        Self {
            tos: flow.tos,
            hops: flow.ttl.wrapping_sub(1),
            protocol,
            payload,
            fragment: 0,
            id: 0,
        }
    }
}

/// More fragments, in an IPv4 header.
const MORE: u16 = 0x2000;

/// Translates the wanted packet for the slot with an index; ports and transport checksum too.
#[inline(always)]
pub fn translate<T: Tables, P: Packet>(tables: &T, packet: &mut P, slot: u32) -> Option<()> {
    let (_, flow) = wanted_flow(tables)?;
    let wide = flow.key.proto & proto::WIDE != 0;
    let found = conn::slot(tables, slot)?;
    let beside = tables.wide(slot)?;
    // SAFETY: found slots lie in the table.
    let (addresses, ports) = unsafe {
        (
            atomic::load(&raw const (*found.slot).new_addresses),
            atomic::load(&raw const (*found.slot).new_ports),
        )
    };
    if flow.inner != 0 {
        return if wide {
            error_to_v4(packet, &flow, addresses, ports)
        } else {
            error_to_v6(packet, &flow, beside, ports)
        };
    }
    let old = flow.l4 - flow.l3;
    let new = new_len(packet, &flow, wide);
    let mut pseudo = addresses_of(packet, &flow, wide)?.reversed();
    if wide {
        let head = head_of_v6(packet, &flow)?;
        let id = if head.fragment == 0 && head.payload + 20 <= MAY_FRAGMENT {
            distinction(packet, &flow)
        } else {
            head.id
        };
        replace_head(packet, flow.l3, old, new, Version::V4)?;
        write_v4(packet, flow.l3, &Head { id, ..head }, addresses)?;
        pseudo = pseudo
            .and(Diff::added(addresses as u32))
            .and(Diff::added((addresses >> 32) as u32));
    } else {
        let head = head_of_v4(packet, &flow)?;
        replace_head(packet, flow.l3, old, new, Version::V6)?;
        pseudo = pseudo.and(write_v6(packet, flow.l3, &head, beside, false)?);
    }
    if !flow.whole {
        return Some(());
    }
    transport(packet, &flow, flow.l3 + new, ports, pseudo, wide)
}

/// An identification for a packet that may be fragmented: one packet of a flow has another than the next.
#[inline(always)]
fn distinction<P: Packet>(packet: &P, flow: &Flow) -> u16 {
    let varying = packet.read::<u32>(flow.l4 + 4).unwrap_or(0);
    let mixed = (flow.key.ports ^ varying.rotate_left(7)).wrapping_mul(0x9e37_79b1);
    (mixed >> 16) as u16
}

/// Puts `new` bytes of another version's headers where `old` were; whoever calls writes them.
#[inline(always)]
fn replace_head<P: Packet>(
    packet: &mut P,
    l3: usize,
    old: usize,
    new: usize,
    to: Version,
) -> Option<()> {
    packet.rehead(l3, old as u32, new as u32, to)?;
    packet.write(masked::<31>(l3 - 2), to.ethertype())
}

/// The sum of the addresses of the packet.
#[inline(always)]
fn addresses_of<P: Packet>(packet: &P, flow: &Flow, wide: bool) -> Option<Diff> {
    let (at, words) = if wide {
        (flow.l3 + ipv6::SOURCE, 8)
    } else {
        (flow.l3 + ipv4::SOURCE, 2)
    };
    let mut sum = Diff::NONE;
    for i in 0..8usize {
        if i < words {
            sum = sum.and(Diff::added(packet.read::<u32>(at + 4 * i)?));
        }
    }
    Some(sum)
}

/// Ports and checksum; the pseudo header changed by `pseudo`. Its protocol and length are the same in
/// both families.
#[inline(always)]
fn transport<P: Packet>(
    packet: &mut P,
    flow: &Flow,
    l4: usize,
    ports: u32,
    pseudo: Diff,
    wide: bool,
) -> Option<()> {
    let l4 = masked::<0x1ff>(l4);
    match proto::base(flow.key.proto) {
        proto::SCTP => {
            let len = flow.total_len - (flow.l4 - flow.l3) as u16;
            // Not apart: before 6.8 a frame takes at least 32 bytes of the stack, and there are none left.
            nat::sctp_ports(packet, flow.l3, l4, len + (l4 - flow.l3) as u16, ports)
        }
        proto::TCP => {
            packet.write(l4, ports)?;
            let changed = Diff::of32(flow.key.ports, ports);
            packet.update_checksum(l4 + tcp::CHECKSUM, pseudo, changed, false)
        }
        _ => {
            let checksum = packet.read::<u16>(l4 + udp::CHECKSUM)?;
            packet.write(l4, ports)?;
            // IPv6 has no UDP without a checksum (RFC 7915 §4.5).
            if checksum == 0 && !wide {
                return udp_checksum(packet, flow.l3, l4);
            }
            let changed = Diff::of32(flow.key.ports, ports);
            packet.update_checksum(l4 + udp::CHECKSUM, pseudo, changed, true)
        }
    }
}

/// Computes the checksum of a UDP packet over IPv6 that has none.
#[inline(always)]
fn udp_checksum<P: Packet>(packet: &mut P, l3: usize, l4: usize) -> Option<()> {
    // Of a fragment nobody here knows the rest.
    if l4 != l3 + ipv6::LEN {
        return None;
    }
    let len = packet.read::<Be16>(l4 + udp::LENGTH)?;
    let mut sum = packet.sum(l4, len.get().into())?;
    sum = add(sum, len.raw().into());
    sum = add(sum, u32::from(u16::from(ipv4::UDP).to_be()));
    for i in 0..8usize {
        sum = add(sum, packet.read::<u32>(l3 + ipv6::SOURCE + 4 * i)?);
    }
    let checksum = match finish(sum) {
        0 => 0xffff,
        sum => sum,
    };
    packet.write(l4 + udp::CHECKSUM, checksum)
}

#[inline(always)]
fn head_of_v4<P: Packet>(packet: &P, flow: &Flow) -> Option<Head> {
    let ip = packet.read::<ipv4::Header>(flow.l3)?;
    Some(Head {
        tos: ip.tos,
        hops: ip.ttl.wrapping_sub(1),
        protocol: ip.protocol,
        payload: flow.total_len.checked_sub((flow.l4 - flow.l3) as u16)?,
        fragment: ip.fragment.get() & ipv4::FRAGMENT,
        id: ip.id.get(),
    })
}

#[inline(always)]
fn head_of_v6<P: Packet>(packet: &P, flow: &Flow) -> Option<Head> {
    let ip = packet.read::<ipv6::Header>(flow.l3)?;
    let mut head = Head {
        tos: ip.class(),
        hops: ip.hop_limit.wrapping_sub(1),
        protocol: proto::number(proto::base(flow.key.proto)),
        payload: flow.total_len.checked_sub((flow.l4 - flow.l3) as u16)?,
        fragment: 0,
        id: 0,
    };
    let before = flow.l4 - flow.l3;
    // A fragment header is the last one before what is fragmented.
    let behind = before == ipv6::LEN + FRAGMENT_LEN && ip.next_header == ipv6::FRAGMENT;
    if before > ipv6::LEN && !behind && !flow.whole {
        return None;
    }
    if behind {
        let at = flow.l3 + ipv6::LEN;
        let field = packet.read::<Be16>(at + 2)?.get();
        head.fragment = field >> 3 | if field & 1 != 0 { MORE } else { 0 };
        head.id = packet.read::<Be16>(at + 6)?.get();
    }
    Some(head)
}

/// Writes an IPv4 header; addresses as in a slot.
#[inline(always)]
fn write_v4<P: Packet>(packet: &mut P, l3: usize, head: &Head, addresses: u64) -> Option<()> {
    let total = head.payload.checked_add(ipv4::MIN_LEN as u16)?;
    let df = head.fragment == 0 && total > MAY_FRAGMENT;
    let flags = head.fragment | if df { ipv4::DF } else { 0 };
    let first = u32::from(u16::from_ne_bytes([0x45, head.tos])) | u32::from(total.to_be()) << 16;
    let second = u32::from(head.id.to_be()) | u32::from(flags.to_be()) << 16;
    let third = u32::from(u16::from_ne_bytes([head.hops, head.protocol]));
    let (source, destination) = (addresses as u32, (addresses >> 32) as u32);
    let sum = add(add(add(first, second), third), add(source, destination));
    packet.write(l3, first)?;
    packet.write(l3 + 4, second)?;
    packet.write(l3 + 8, third | u32::from(finish(sum)) << 16)?;
    packet.write(l3 + 12, source)?;
    packet.write(l3 + 16, destination)
}

/// Writes an IPv6 header, and a fragment header where it is one; the addresses' sum. `swapped` for what an
/// error quotes, which went the other way.
#[inline(always)]
fn write_v6<P: Packet>(
    packet: &mut P,
    l3: usize,
    head: &Head,
    beside: *const Wide,
    swapped: bool,
) -> Option<Diff> {
    let fragment = head.fragment != 0;
    let payload = head
        .payload
        .checked_add(if fragment { FRAGMENT_LEN as u16 } else { 0 })?;
    let next = if fragment {
        ipv6::FRAGMENT
    } else {
        head.protocol
    };
    packet.write(
        l3,
        u32::from_ne_bytes([0x60 | head.tos >> 4, head.tos << 4, 0, 0]),
    )?;
    packet.write(
        l3 + ipv6::PAYLOAD_LEN,
        u32::from(payload.to_be()) | u32::from(u16::from_ne_bytes([next, head.hops])) << 16,
    )?;
    let mut sum = Diff::NONE;
    // SAFETY: the record lies in the map.
    let (source, destination) = unsafe {
        (
            &raw const (*beside).new_source,
            &raw const (*beside).new_destination,
        )
    };
    let (source, destination) = if swapped {
        (destination, source)
    } else {
        (source, destination)
    };
    for i in 0..4usize {
        // SAFETY: as above.
        let (from, to) = unsafe { (word_of(source, i), word_of(destination, i)) };
        packet.write(l3 + ipv6::SOURCE + 4 * i, from)?;
        packet.write(l3 + ipv6::DESTINATION + 4 * i, to)?;
        sum = sum.and(Diff::added(from)).and(Diff::added(to));
    }
    if fragment {
        let at = l3 + ipv6::LEN;
        let offset = (head.fragment & ipv4::OFFSET) << 3 | u16::from(head.fragment & MORE != 0);
        packet.write(
            at,
            u32::from(u16::from_ne_bytes([head.protocol, 0])) | u32::from(offset.to_be()) << 16,
        )?;
        packet.write(at + 4, u32::from(head.id).to_be())?;
    }
    Some(sum)
}

/// An ICMP error becomes one of ICMPv6 (RFC 7915 §4.2).
#[inline(always)]
fn error_to_v6<P: Packet>(
    packet: &mut P,
    flow: &Flow,
    beside: *const Wide,
    ports: u32,
) -> Option<()> {
    let icmp = masked::<0x1ff>(flow.inner.wrapping_sub(icmp6::LEN));
    let [kind, code] = packet.read::<[u8; 2]>(icmp)?;
    let told = packet.read::<Be16>(icmp + 6)?.get();
    let (kind, code, rest) = match (kind, code) {
        (3, 2) => (4, 1, u32::from(ipv6::NEXT_HEADER as u16)),
        (3, 3) => (1, 4, 0),
        (3, 4) => {
            let mtu = told.saturating_add(20).max(ipv6::MIN_MTU);
            (2, 0, u32::from(mtu))
        }
        (3, 9 | 10 | 13 | 15) => (1, 1, 0),
        (3, 14) => return None,
        (3, _) => (1, 0, 0),
        (11, code) => (3, code, 0),
        _ => return None,
    };
    let quoted = packet.read::<ipv4::Header>(flow.inner)?;
    let before = (flow.l4 - flow.l3) as u16;
    let left = flow.total_len.checked_sub(before)?;
    let inner = Head {
        tos: quoted.tos,
        hops: quoted.ttl,
        protocol: quoted.protocol,
        payload: quoted
            .total_len
            .get()
            .saturating_sub((flow.l4 - flow.inner) as u16),
        fragment: 0,
        id: 0,
    };
    let len = left.checked_add((icmp6::LEN + ipv6::LEN) as u16)?;
    let outer = Head::of_error(flow, ipv6::ICMP, len);
    let l3 = flow.l3;
    let new = ipv6::LEN + icmp6::LEN + ipv6::LEN;
    replace_head(packet, l3, before.into(), new, Version::V6)?;
    let pseudo = write_v6(packet, l3, &outer, beside, false)?;
    let icmp = l3 + ipv6::LEN;
    write_v6(packet, icmp + icmp6::LEN, &inner, beside, true)?;
    packet.write(l3 + new, ports.rotate_left(16))?;
    packet.write(icmp, u32::from(u16::from_ne_bytes([kind, code])))?;
    packet.write(icmp + 4, rest.to_be())?;
    let mut sum = packet.sum(icmp, len.into())?;
    sum = add(sum, pseudo.raw());
    sum = add(sum, u32::from(len.to_be()));
    sum = add(sum, u32::from(u16::from(ipv6::ICMP).to_be()));
    packet.write(icmp + 2, finish(sum))
}

/// An ICMPv6 error becomes one of ICMP (RFC 7915 §5.2).
#[inline(always)]
fn error_to_v4<P: Packet>(packet: &mut P, flow: &Flow, addresses: u64, ports: u32) -> Option<()> {
    let icmp = masked::<0x1ff>(flow.inner.wrapping_sub(icmp6::LEN));
    let [kind, code] = packet.read::<[u8; 2]>(icmp)?;
    let told = u32::from_be(packet.read::<u32>(icmp + 4)?);
    let (kind, code, rest) = match (kind, code) {
        (1, 1) => (3, 10, 0),
        (1, 4) => (3, 3, 0),
        (1, _) => (3, 1, 0),
        (2, _) => (3, 4, told.saturating_sub(20).min(0xffff)),
        (3, code) => (11, code, 0),
        (4, 1) => (3, 2, 0),
        _ => return None,
    };
    let quoted = packet.read::<ipv6::Header>(flow.inner)?;
    let before = (flow.l4 - flow.l3) as u16;
    let left = flow.total_len.checked_sub(before)?;
    let less = (flow.l4 - flow.inner - ipv6::LEN) as u16;
    let inner = Head {
        tos: quoted.class(),
        hops: quoted.hop_limit,
        protocol: proto::number(proto::base(flow.key.proto)),
        payload: quoted.payload_len.get().saturating_sub(less).min(0xff00),
        fragment: 0,
        id: 0,
    };
    let len = left.checked_add((icmp6::LEN + ipv4::MIN_LEN) as u16)?;
    let outer = Head::of_error(flow, ipv4::ICMP, len);
    let l3 = flow.l3;
    let new = ipv4::MIN_LEN + icmp6::LEN + ipv4::MIN_LEN;
    replace_head(packet, l3, before.into(), new, Version::V4)?;
    let icmp = l3 + ipv4::MIN_LEN;
    write_v4(packet, icmp + icmp6::LEN, &inner, addresses.rotate_left(32))?;
    write_v4(packet, l3, &outer, addresses)?;
    packet.write(l3 + new, ports.rotate_left(16))?;
    packet.write(icmp, u32::from(u16::from_ne_bytes([kind, code])))?;
    packet.write(icmp + 4, rest.to_be())?;
    let sum = packet.sum(icmp, len.into())?;
    packet.write(icmp + 2, finish(sum))
}
