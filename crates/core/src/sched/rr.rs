//! Round robin: each server of the table in turn (`Linux net/netfilter/ipvs/ip_vs_rr.c`).
//!
//! The table holds the servers with a weight above zero, newest first, one word each.

use crate::atomic;
use crate::host::Tables;
use crate::layout::{Schedule, ServiceRecord};
use crate::sched::eligible;

/// Tries in a row before giving up when servers are overloaded.
const TRIES: u32 = 16;

/// The next server; overloaded ones are passed over.
#[inline(always)]
pub(crate) fn choose<T: Tables>(
    tables: &T,
    service: *mut ServiceRecord,
    schedule: Schedule,
) -> Option<u32> {
    for _ in 0..TRIES {
        // SAFETY: service records live as long as the maps.
        let turn = unsafe { atomic::add64(&raw mut (*service).turn, 1) };
        let at = schedule.offset() + turn.checked_rem(u64::from(schedule.len()))? as u32;
        if let Some(entry) = eligible(tables, at) {
            return Some(entry.server());
        }
    }
    None
}
