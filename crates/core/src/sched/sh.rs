//! Source hashing (`Linux net/netfilter/ipvs/ip_vs_sh.c`): the client's address says which server.
//!
//! The [`SLOTS`] slots go round the list; each server takes as many neighbouring slots as its weight
//! says, and one if that is 0. A server that is quiesced or overloaded refuses what falls on it; with
//! `sh-fallback` others are tried in an order that depends on the client. With `sh-port` the client's
//! port is hashed too.

use crate::atomic;
use crate::host::Tables;
use crate::layout::{SERVICE_FALLBACK, SERVICE_PORT, Schedule, ServiceRecord};
use crate::sched::{Asked, buckets, hash32, is_usable};

/// Slots of the table.
pub const SLOTS: u32 = 1 << BITS;
const BITS: u32 = 8;

/// The server of the client's slot, or another one.
#[inline(always)]
pub(crate) fn choose<T: Tables>(
    tables: &T,
    service: *const ServiceRecord,
    schedule: Schedule,
) -> Option<u32> {
    let asked = Asked::of(tables)?;
    // SAFETY: service records live as long as the maps.
    let flags = unsafe { atomic::load(&raw const (*service).flags) };
    let hash = hash32::<BITS>(asked.hashed(flags & SERVICE_PORT != 0));
    let server = buckets::server(tables, schedule, hash)?;
    if is_usable(tables, server)? {
        return Some(server);
    }
    if flags & SERVICE_FALLBACK == 0 {
        return None;
    }
    for k in 0..SLOTS {
        let offset = (k + hash) % SLOTS;
        let server = buckets::server(tables, schedule, (offset + hash) % SLOTS)?;
        if is_usable(tables, server)? {
            return Some(server);
        }
    }
    None
}
