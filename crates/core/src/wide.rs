//! IPv6: what the pipeline does differently, because its addresses lie beside the slot.

use crate::addr::Address;
use crate::atomic;
use crate::conn::{Found, KIND_METHOD, KIND_REWRITE, KIND_TO_LOOPBACK, Word};
use crate::director::Mode;
use crate::drop::Drop;
use crate::forward::nat::{self, RewriteWide};
use crate::forward::{self, related};
use crate::host::{Packet, Tables, get};
use crate::layout::{ServerRecord, Wanted};
use crate::parse::Flow;
use crate::wire::ipv6;

/// Whether a packet is of the connection whose slot its key found: the key holds a hash of the addresses
/// only.
#[inline(always)]
pub fn is_of<T: Tables, P: Packet>(tables: &T, packet: &P, flow: &Flow, found: &Found) -> bool {
    // What an ICMP error quotes went the other way.
    if flow.inner != 0 {
        return differs(tables, packet, flow.inner + ipv6::SOURCE, true, found.index) == Some(0);
    }
    let at = flow.l3 + ipv6::SOURCE;
    // SAFETY: found slots lie in the table.
    let word = Word(unsafe { atomic::load(&raw const (*found.slot).word) });
    if word.is_at_vip() {
        differs_at_vip(tables, packet, at, found, word) == Some(0)
    } else {
        differs(tables, packet, at, false, found.index) == Some(0)
    }
}

/// As [`differs`], of a slot that with its key and its real server tells its addresses: see [`Word::is_at_vip`].
#[inline(always)]
fn differs_at_vip<T: Tables, P: Packet>(
    tables: &T,
    packet: &P,
    at: usize,
    found: &Found,
    word: Word,
) -> Option<u64> {
    // SAFETY: found slots lie in the table.
    let (server, client) = unsafe {
        (
            atomic::load(&raw const (*found.slot).server),
            atomic::load(&raw const (*found.slot).new_addresses),
        )
    };
    let server = tables.server(server)?;
    let source = packet.pointer::<[Address; 2]>(at)?.cast::<u64>();
    // SAFETY: pointer() checked the bounds, server records live as long as the maps.
    unsafe {
        let destination = source.add(2);
        Some(if word.is_reply() {
            differ_from(source, &raw const (*server).rip) | (get(destination) ^ client)
        } else {
            differ_from(destination, &raw const (*server).vip) | (get(source) ^ client)
        })
    }
}

/// Has the addresses beside a slot fetched that will be written there soon: what is written waits for what was written
/// before it, what is read for nothing.
#[inline(always)]
pub(crate) fn expect<T: Tables>(tables: &T, slot: u32) {
    if let Some(wide) = tables.wide(slot) {
        // SAFETY: the record lies in the map.
        unsafe { atomic::load(&raw const (*wide).source.0[0]) };
    }
}

/// Bits in which an address in a packet differs from one in the maps.
///
/// # Safety
/// There are 16 bytes at `there`, and an address at `kept`, at a multiple of 8.
#[inline(always)]
unsafe fn differ_from(there: *const u64, kept: *const Address) -> u64 {
    let kept = kept.cast::<u64>();
    // SAFETY: passed on to the caller.
    unsafe { (get(there) ^ atomic::load(kept)) | (get(there.add(1)) ^ atomic::load(kept.add(1))) }
}

/// Whether the wanted connection is for the VIP of this real server, and by FULLNAT, whether it is for the port that
/// follows from its packets: see [`Word::is_at_vip`].
///
/// # Safety
/// `wanted` is this CPU's record, `server` lives as long as the maps.
#[inline(always)]
pub(crate) unsafe fn is_at_vip(
    wanted: *const Wanted,
    server: *const ServerRecord,
    fullnat: bool,
) -> bool {
    let mut differ = 0;
    if fullnat {
        // SAFETY: passed on to the caller.
        differ = unsafe { (*wanted).rport ^ rport(server, (*wanted).flow.key.ports) };
    }
    for i in 0..4 {
        // SAFETY: passed on to the caller.
        differ |=
            unsafe { (*wanted).destination.0[i] ^ atomic::load(&raw const (*server).vip.0[i]) };
    }
    differ == 0
}

/// The port at which a real server gets what comes with these ports, as [`crate::conn::Key::ports`]: its own, if it has
/// one.
///
/// # Safety
/// `server` lives as long as the maps.
#[inline(always)]
pub unsafe fn rport(server: *const ServerRecord, ports: u32) -> u32 {
    // SAFETY: passed on to the caller.
    match unsafe { atomic::load(&raw const (*server).rport).raw() } {
        0 => ports >> 16,
        own => u32::from(own),
    }
}

/// What the packets of a slot become, by [`crate::conn::Slot::new_ports`] and what lies elsewhere.
#[inline(always)]
pub(crate) fn rewrite_of<T: Tables>(
    tables: &T,
    flow: &Flow,
    slot: u32,
    word: Word,
    server: u32,
    ports: u32,
) -> Option<RewriteWide> {
    let method = (word.kind() & KIND_METHOD) as u8;
    // SAFETY: server records live as long as the maps, the records lie in the maps.
    let (source, destination, ports) = unsafe {
        if word.is_at_vip() && forward::is_fullnat(method) {
            let server = tables.server(server)?;
            (
                tables.wide_local(ports >> 16)?,
                &raw const (*server).rip,
                ports & 0xffff | rport(server, flow.key.ports) << 16,
            )
        // What an error quotes has both ends to change.
        } else if word.is_at_vip() && method == forward::NAT && flow.inner == 0 {
            let server = tables.server(server)?;
            (&raw const (*server).vip, &raw const (*server).rip, ports)
        } else {
            let wide = tables.wide(slot)?;
            (
                &raw const (*wide).new_source,
                &raw const (*wide).new_destination,
                ports,
            )
        }
    };
    Some(RewriteWide {
        source,
        destination,
        ports,
    })
}

/// Whether the addresses of a slot are those of the connection that is wanted: their keys may be the same.
///
/// # Safety
/// `wanted` is this CPU's record.
#[inline(always)]
pub(crate) unsafe fn is_between<T: Tables>(tables: &T, slot: u32, wanted: *const Wanted) -> bool {
    let Some(wide) = tables.wide(slot) else {
        return false;
    };
    let mut differ = 0;
    // SAFETY: passed on to the caller; the other record lies in the map.
    unsafe {
        for i in 0..4 {
            differ |= atomic::load(&raw const (*wide).source.0[i]) ^ (*wanted).source.0[i];
            differ |=
                atomic::load(&raw const (*wide).destination.0[i]) ^ (*wanted).destination.0[i];
        }
    }
    differ == 0
}

/// Whether packets of a slot go to this address.
///
/// # Safety
/// The address lies in the maps.
#[inline(always)]
pub(crate) unsafe fn is_to<T: Tables>(tables: &T, slot: u32, address: *const Address) -> bool {
    let Some(wide) = tables.wide(slot) else {
        return false;
    };
    let mut differ = 0;
    for i in 0..4 {
        // SAFETY: passed on to the caller; the record lies in the map.
        differ |= unsafe {
            atomic::load(&raw const (*wide).destination.0[i])
                ^ atomic::load(&raw const (*address).0[i])
        };
    }
    differ == 0
}

/// Bits in which the addresses at `at` and those of a slot differ, source from source or, `turned`, from
/// destination.
#[inline(always)]
fn differs<T: Tables, P: Packet>(
    tables: &T,
    packet: &P,
    at: usize,
    turned: bool,
    slot: u32,
) -> Option<u64> {
    let wide = tables.wide(slot)?;
    let first = packet.pointer::<[Address; 2]>(at)?.cast::<u64>();
    let mut differ = 0;
    // SAFETY: the record lies in the map and begins with both addresses, pointer() checked the bounds.
    unsafe {
        let kept = (&raw const (*wide).source).cast::<u64>();
        for i in 0..4 {
            let other = if turned { i ^ 2 } else { i };
            differ |= get(first.add(other)) ^ atomic::load(kept.add(i));
        }
    }
    Some(differ)
}

/// The forwarding method's own work. `delivered` packets stay on the director.
#[inline(always)]
pub(crate) fn rewrite<P: Packet, M: Mode>(
    packet: &mut P,
    flow: &Flow,
    word: Word,
    to: &RewriteWide,
    delivered: bool,
) -> Result<(), Drop> {
    let (kind, reply) = (word.kind(), word.is_reply());
    let method = (kind & KIND_METHOD) as u8;
    let done = if M::RARE && flow.inner != 0 {
        if forward::translates(method) {
            let outer = related::Outer::of(method, reply);
            related::translate_wide(packet, flow, to, outer, delivered)
        } else if delivered {
            Some(())
        } else {
            related::pass_on::<P, M>(packet, flow)
        }
    } else if forward::translates(method) || kind & (KIND_REWRITE | KIND_TO_LOOPBACK) != 0 {
        nat::rewrite_wide::<P, M>(packet, flow, to, word, u8::from(!delivered))
    } else if delivered {
        Some(())
    } else {
        forward::decrement_hops(packet, flow)
    };
    done.ok_or(Drop::Headroom)
}
