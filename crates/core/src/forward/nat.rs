//! NAT: destination towards the real server, source back to the client. Both directions are one
//! rewrite; the slot says what each address and port becomes.

use crate::addr::Address;
use crate::atomic;
use crate::conn::{KIND_METHOD, Word};
use crate::director::Mode;
use crate::forward::{self, lower_ttl};
use crate::host::{Packet, get, put};
use crate::parse::Flow;
use crate::proto;
use crate::wire::checksum::{Diff, Pseudo, add_words};
use crate::wire::{ipv4, ipv6, sctp, tcp, udp};

/// What addresses and ports become, raw, laid out as in [`crate::conn::Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Source address in the low half, destination in the high half.
    pub addresses: u64,
    /// Source port in the low half, destination port in the high half.
    pub ports: u32,
}

/// As [`Rewrite`], of IPv6: where the addresses lie in the maps. NAT of one end reads only the server's end.
#[derive(Clone, Copy, Debug)]
pub struct RewriteWide {
    /// Source address.
    pub source: *const Address,
    /// Destination address.
    pub destination: *const Address,
    /// As [`Rewrite::ports`].
    pub ports: u32,
}

/// Rewrites addresses, ports and both checksums; the time to live too when the packet is forwarded
/// (`ttl_step` 1) rather than delivered (0). A packet without its transport header keeps what it has
/// there.
#[inline(always)]
pub fn rewrite<P: Packet, M: Mode>(
    packet: &mut P,
    flow: &Flow,
    to: &Rewrite,
    ttl_step: u8,
) -> Option<()> {
    let addresses = Diff::of64(flow.key.addresses, to.addresses);
    // Time to live and protocol, checksum, addresses.
    let words = packet
        .pointer::<[u16; 6]>(flow.l3 + ipv4::TTL)?
        .cast::<u16>();
    // SAFETY: pointer() checked the bounds.
    unsafe {
        let header = lower_ttl(words, ttl_step).and(addresses);
        put(words.add(1), header.apply(get(words.add(1))));
        put(words.add(2).cast(), to.addresses);
    }
    let pseudo = Pseudo {
        sum: add_words(flow.key.addresses) + ends(flow),
        change: addresses,
        header: Diff::NONE,
    };
    transport::<P, M>(packet, flow, pseudo, to.ports)
}

/// [`Pseudo::ends`] of a packet.
#[inline(always)]
fn ends(flow: &Flow) -> u64 {
    let len = flow.total_len.wrapping_sub((flow.l4 - flow.l3) as u16);
    Pseudo::ends(proto::base(flow.key.proto), len)
}

/// Rewrites the ports and the transport checksum.
#[inline(always)]
fn transport<P: Packet, M: Mode>(
    packet: &mut P,
    flow: &Flow,
    pseudo: Pseudo,
    new_ports: u32,
) -> Option<()> {
    if M::RARE && !flow.whole {
        return Some(());
    }
    if M::RARE && proto::base(flow.key.proto) == proto::SCTP {
        return packet.sctp_ports_apart(flow.l3, flow.l4, flow.total_len, new_ports);
    }
    let ports = Diff::of32(flow.key.ports, new_ports);
    packet.write(flow.l4, new_ports)?;
    let (at, optional) = if proto::base(flow.key.proto) == proto::TCP {
        (flow.l4 + tcp::CHECKSUM, false)
    } else {
        (flow.l4 + udp::CHECKSUM, true)
    };
    if M::RARE {
        // What an extension header makes the last destination is in the pseudo header.
        packet.update_checksum(at, pseudo.change, ports, optional)?;
        if M::WIDE {
            packet.sum_changed(pseudo.header);
        }
        Some(())
    } else {
        packet.update_checksum_under(at, pseudo, ports, optional)
    }
}

/// Rewrites the ports of an SCTP packet and its checksum, which is zero while hardware still has to
/// compute it. `total_len` is the IP packet's.
#[inline(always)]
pub fn sctp_ports<P: Packet>(
    packet: &mut P,
    l3: usize,
    l4: usize,
    total_len: u16,
    new_ports: u32,
) -> Option<()> {
    let old_ports = packet.read::<u32>(l4)?;
    if old_ports == new_ports {
        return Some(());
    }
    let len = u32::from(total_len).wrapping_sub(l4.wrapping_sub(l3) as u32);
    let checksum = packet.read::<u32>(l4 + sctp::CHECKSUM)?;
    packet.write(l4, new_ports)?;
    if checksum == 0 {
        return Some(());
    }
    let change = packet.sctp_change_apart(old_ports, new_ports, len);
    packet.write(l4 + sctp::CHECKSUM, checksum ^ change.to_le())
}

/// Writes an IPv6 address over the one at `at`; what was there sums to, and what that changes in a sum.
#[inline(always)]
pub(crate) fn replace_address<P: Packet>(
    packet: &mut P,
    at: usize,
    new: *const Address,
) -> Option<(u64, Diff)> {
    let there = packet.pointer::<Address>(at)?;
    // SAFETY: the address lies in a map, at a multiple of 8 bytes; pointer() checked the bounds.
    Some(unsafe { swap_address(there.cast(), new) })
}

/// As [`replace_address`].
///
/// # Safety
/// There are 16 bytes at `there`, and an address at `new`, at a multiple of 8.
#[inline(always)]
unsafe fn swap_address(there: *mut u64, new: *const Address) -> (u64, Diff) {
    let (mut sum, mut diff) = (0, Diff::NONE);
    for i in 0..2 {
        // SAFETY: passed on to the caller.
        unsafe {
            let new = atomic::load(new.cast::<u64>().add(i));
            let old = get(there.add(i));
            sum += add_words(old);
            diff = diff.and(Diff::of64(old, new));
            put(there.add(i), new);
        }
    }
    (sum, diff)
}

/// What an IPv6 address sums to.
///
/// # Safety
/// There are 16 bytes at `there`.
#[inline(always)]
unsafe fn sum_address(there: *const u64) -> u64 {
    // SAFETY: passed on to the caller.
    unsafe { add_words(get(there)) + add_words(get(there.add(1))) }
}

/// As [`rewrite`], for IPv6.
#[inline(always)]
pub fn rewrite_wide<P: Packet, M: Mode>(
    packet: &mut P,
    flow: &Flow,
    to: &RewriteWide,
    word: Word,
    hop_step: u8,
) -> Option<()> {
    let hops = flow.ttl.wrapping_sub(hop_step);
    let header = packet.pointer::<[u64; 5]>(flow.l3)?.cast::<u8>();
    // SAFETY: pointer() checked the bounds; the addresses lie in the map, at multiples of 8 bytes.
    let (sum, addresses) = unsafe {
        put(header.add(ipv6::HOP_LIMIT), hops);
        let (here, there) = (
            header.add(ipv6::SOURCE).cast::<u64>(),
            header.add(ipv6::DESTINATION).cast::<u64>(),
        );
        // The client's stays what it is, but for NAT of both ends and clients on the director.
        let one = (word.kind() & KIND_METHOD) as u8 == forward::NAT;
        if one && word.is_reply() {
            let (from, change) = swap_address(here, to.source);
            (from + sum_address(there), change)
        } else if one {
            let (at, change) = swap_address(there, to.destination);
            (sum_address(here) + at, change)
        } else {
            let (from, source) = swap_address(here, to.source);
            let (at, destination) = swap_address(there, to.destination);
            (from + at, source.and(destination))
        }
    };
    let pseudo = Pseudo {
        sum: sum + ends(flow),
        change: addresses,
        // The header holds no checksum that would make up for it.
        header: addresses.and(ipv6::hops_changed(flow.ttl, hops)),
    };
    transport::<P, M>(packet, flow, pseudo, to.ports)
}
