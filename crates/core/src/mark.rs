//! Native mark rules: which firewall mark a packet has that opens a connection.
//!
//! Netfilter would set marks after these programs have taken a packet, so they have rules of their own:
//! the first that matches gives its mark. Packets of connections never meet them.

use crate::atomic;
use crate::host::Tables;
use crate::layout::{MARK_PORT_RANGES, MAX_MARK_RULES, MarkRule, Wanted};

/// The mark that rules give the packet that is wanted; 0 when none matches, or the first one that does
/// says so.
#[inline(always)]
pub fn mark_of<T: Tables>(tables: &T) -> u32 {
    let (Some(runtime), Some(wanted)) = (tables.runtime(), tables.wanted()) else {
        return 0;
    };
    // SAFETY: the runtime record lives as long as the maps. Read once: one word says where the
    // present rules are and how many.
    let present = unsafe { atomic::load(&raw const (*runtime).mark_rules) };
    let (first, count) = (present >> 16, present & 0xffff);
    for i in 0..MAX_MARK_RULES {
        if i >= count {
            break;
        }
        let Some(rule) = tables.mark_rule(first + i) else {
            break;
        };
        // SAFETY: rules live as long as the maps, and the wanted record is this CPU's.
        unsafe {
            if matches(rule, wanted) {
                return atomic::load(&raw const (*rule).mark);
            }
        }
    }
    0
}

/// Differences are gathered in one word and looked at once: a branch for each would be a path for each.
///
/// # Safety
/// Both pointers are valid.
#[inline(always)]
unsafe fn matches(rule: *const MarkRule, wanted: *const Wanted) -> bool {
    // SAFETY: the caller vouches for the pointers.
    unsafe {
        let mut differs = 0u32;
        for word in 0..4 {
            let destination = atomic::load(&raw const (*wanted).destination.0[word]);
            let mask = atomic::load(&raw const (*rule).destination_mask.0[word]);
            differs |= destination & mask ^ atomic::load(&raw const (*rule).destination.0[word]);
            let source = atomic::load(&raw const (*wanted).source.0[word]);
            let mask = atomic::load(&raw const (*rule).source_mask.0[word]);
            differs |= source & mask ^ atomic::load(&raw const (*rule).source.0[word]);
        }
        let class = u32::from(atomic::load(&raw const (*wanted).flow.key.proto));
        let mask = u32::from(atomic::load(&raw const (*rule).class_mask));
        differs |= class & mask ^ u32::from(atomic::load(&raw const (*rule).class));
        let ingress = atomic::load(&raw const (*wanted).ingress);
        let mask = atomic::load(&raw const (*rule).ifindex_mask);
        differs |= ingress & mask ^ atomic::load(&raw const (*rule).ifindex);

        let ports = atomic::load(&raw const (*wanted).flow.key.ports);
        let port = u32::from(u16::from_be((ports >> 16) as u16));
        let mut inside = 0u32;
        for i in 0..MARK_PORT_RANGES {
            let range = atomic::load(&raw const (*rule).ports[i]);
            // The sign of a difference that is below zero where the port is outside.
            let below = port.wrapping_sub(range & 0xffff);
            let above = (range >> 16).wrapping_sub(port);
            inside |= !(below | above) >> 31;
        }
        (differs | (inside ^ 1)) == 0
    }
}
