//! IPv6: what the pipeline does differently, because its addresses lie beside the slot.

use crate::addr::Address;
use crate::atomic;
use crate::conn::{KIND_METHOD, KIND_REWRITE, KIND_TO_LOOPBACK, Word};
use crate::director::Mode;
use crate::drop::Drop;
use crate::forward::{self, nat, related};
use crate::host::{Packet, Tables, get};
use crate::layout::Wanted;
use crate::parse::Flow;
use crate::wire::ipv6;

/// Whether a packet is of the connection whose slot its key found: the key holds a hash of the addresses
/// only.
#[inline(always)]
pub fn is_of<T: Tables, P: Packet>(tables: &T, packet: &P, flow: &Flow, slot: u32) -> bool {
    // What an ICMP error quotes went the other way.
    let quoted = flow.inner != 0;
    let l3 = if quoted { flow.inner } else { flow.l3 };
    differs(tables, packet, l3 + ipv6::SOURCE, quoted, slot) == Some(0)
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
pub(crate) fn rewrite<T: Tables, P: Packet, M: Mode>(
    tables: &T,
    packet: &mut P,
    flow: &Flow,
    slot: u32,
    word: Word,
    ports: u32,
    delivered: bool,
) -> Result<(), Drop> {
    let (kind, reply) = (word.kind(), word.is_reply());
    let method = (kind & KIND_METHOD) as u8;
    let done = if M::RARE && flow.inner != 0 {
        if forward::translates(method) {
            let outer = related::Outer::of(method, reply);
            related::translate_wide(tables, packet, flow, slot, ports, outer, delivered)
        } else if delivered {
            Some(())
        } else {
            related::pass_on::<P, M>(packet, flow)
        }
    } else if forward::translates(method) || kind & (KIND_REWRITE | KIND_TO_LOOPBACK) != 0 {
        nat::rewrite_wide::<T, P, M>(
            tables,
            packet,
            flow,
            slot,
            word,
            ports,
            u8::from(!delivered),
        )
    } else if delivered {
        Some(())
    } else {
        forward::decrement_hops(packet, flow)
    };
    done.ok_or(Drop::Headroom)
}
