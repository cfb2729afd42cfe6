//! Round robin: each server of the table in turn (`Linux net/netfilter/ipvs/ip_vs_rr.c`).

use crate::atomic;
use crate::host::Tables;
use crate::layout::{Schedule, ServerRecord, ServiceRecord};
use crate::sched::{Entry, NOWHERE, eligible};

/// The next server; overloaded ones are passed over.
#[inline(always)]
pub(crate) fn choose<T: Tables>(
    tables: &T,
    service: *mut ServiceRecord,
    schedule: Schedule,
) -> Option<(u32, *mut ServerRecord)> {
    let len = schedule.len();
    // SAFETY: service records live as long as the maps.
    let turn = unsafe { atomic::add64(&raw mut (*service).turn, 1) };
    let place = turn.checked_rem(u64::from(len))? as u32;
    let at = schedule.offset() + place;
    if let Some((entry, server)) = eligible(tables, at) {
        return Some((entry.server(), server));
    }
    let end = schedule.offset() + len;
    let mut found = tables.eligible_apart(at + 1, end);
    if found == NOWHERE {
        found = tables.eligible_apart(schedule.offset(), at);
    }
    // Those passed over had their turn; if it was everybody, the place stays as it was.
    let passed = if found == NOWHERE {
        len - 1
    } else if found > at {
        found - at
    } else {
        found + len - at
    };
    // SAFETY: as above.
    unsafe { atomic::add64(&raw mut (*service).turn, passed.into()) };
    if found == NOWHERE {
        return None;
    }
    let index = Entry(tables.schedule_word(found)?).server();
    Some((index, tables.server(index)?))
}
