//! Forwarding methods: what is rewritten on the way to a real server and back. One a file.

pub mod client;
pub mod cross;
pub mod direct;
pub mod fullnat;
pub mod nat;
pub mod related;
pub mod tunnel;

use crate::host::{Packet, get, put};
use crate::layout::{Egress, NextHop};
use crate::parse::Flow;
use crate::wire::checksum::Diff;
use crate::wire::{ipv4, ipv6};

/// Masquerading (`IP_VS_CONN_F_MASQ`).
pub const NAT: u8 = 0;
/// Local node (`IP_VS_CONN_F_LOCALNODE`).
pub const LOCAL: u8 = 1;
/// Tunnelling (`IP_VS_CONN_F_TUNNEL`).
pub const TUNNEL: u8 = 2;
/// Direct routing (`IP_VS_CONN_F_DROUTE`).
pub const DIRECT: u8 = 3;

/// NAT of both ends, within one family, with nothing to be told of the client (any more).
pub const FULLNAT: u8 = 5;
/// NAT of both ends whose packets change more than addresses and ports: [`fullnat`].
pub const FULLNAT_TELLS: u8 = 6;
/// NAT of both ends between the families; it may tell, too.
pub const FULLNAT_CROSS: u8 = 7;

/// Whether a method changes addresses and ports, and so has to see replies.
#[inline(always)]
pub const fn translates(method: u8) -> bool {
    method == NAT || is_fullnat(method)
}

/// Whether a method is NAT of both ends, of whatever kind.
#[inline(always)]
pub const fn is_fullnat(method: u8) -> bool {
    method >= FULLNAT
}

/// Writes link-layer addresses: of the next hop, and of the interface that leads there.
///
/// # Safety
/// `egress` is an entry.
#[inline(always)]
pub unsafe fn address<P: Packet>(
    packet: &mut P,
    hop: NextHop,
    egress: *const Egress,
) -> Option<()> {
    let frame = packet.pointer::<[u16; 6]>(0)?;
    // SAFETY: passed on to the caller; pointer() checked the bounds.
    unsafe { address_frame(frame.cast(), hop, egress) };
    Some(())
}

/// As [`address`].
///
/// # Safety
/// `egress` is an entry, and there are 12 bytes at `frame`.
#[inline(always)]
unsafe fn address_frame(frame: *mut u8, hop: NextHop, egress: *const Egress) {
    // SAFETY: passed on to the caller.
    unsafe {
        let own = Egress::own(egress);
        put(frame.cast(), hop.way >> 16 | own << 48);
        put(frame.cast::<u32>().add(2), (own >> 16) as u32);
    }
}

/// Takes `step` off the time to live, which the protocol follows; what that changes in a sum.
///
/// # Safety
/// Both bytes are there.
#[inline(always)]
unsafe fn lower_ttl(words: *mut u16, step: u8) -> Diff {
    // SAFETY: passed on to the caller.
    unsafe {
        let old = get(words);
        let [ttl, protocol] = old.to_ne_bytes();
        let new = u16::from_ne_bytes([ttl.wrapping_sub(step), protocol]);
        put(words, new);
        Diff::of16(old, new)
    }
}

/// Takes one off the hop limit of an IPv6 packet, which the caller found to be above one.
#[inline(always)]
pub fn decrement_hops<P: Packet>(packet: &mut P, flow: &Flow) -> Option<()> {
    let hops = flow.ttl.wrapping_sub(1);
    packet.write(flow.l3 + ipv6::HOP_LIMIT, hops)?;
    packet.sum_changed(ipv6::hops_changed(flow.ttl, hops));
    Some(())
}

/// Takes one off the time to live, which the caller found to be above one: the checksum becomes more by what the
/// header's sum becomes less (RFC 1141).
#[inline(always)]
pub fn decrement_ttl<P: Packet>(packet: &mut P, flow: &Flow) -> Option<()> {
    let words = packet.pointer::<[u16; 2]>(flow.l3 + ipv4::TTL)?;
    // SAFETY: pointer() checked the bounds; the checksum follows the protocol.
    unsafe { decrement(words.cast()) };
    Some(())
}

/// As [`decrement_ttl`], of a header whose time to live is at `ttl`.
///
/// # Safety
/// Time to live, protocol and checksum are there.
#[inline(always)]
unsafe fn decrement(ttl: *mut u8) {
    // SAFETY: passed on to the caller.
    unsafe {
        put(ttl, get(ttl).wrapping_sub(1));
        let checksum = ttl.add(2).cast::<u16>();
        let sum = u32::from(get(checksum)) + u32::from(0x0100u16.to_be());
        put(checksum, (sum + ((sum + 1) >> 16)) as u16);
    }
}
