//! Weighted least connection (`Linux net/netfilter/ipvs/ip_vs_wlc.c`).
//!
//! The server with the fewest connections for its weight, where an active connection counts 257
//! times an inactive one. The first eligible one stays unless a later one is strictly better.
//! Products are 64 bits wide.

use crate::atomic;
use crate::host::Tables;
use crate::layout::{MAX_SERVERS_PER_SERVICE, SERVER_OVERLOADED, Schedule};
use crate::sched::{Entry, NO_SERVER};

/// The least loaded server.
#[inline(always)]
pub(crate) fn choose<T: Tables>(tables: &T, schedule: Schedule) -> Option<u32> {
    // Load one at weight zero: worse than anything, so the first eligible server replaces it.
    let (mut best, mut best_load, mut best_weight) = (NO_SERVER, 1u64, 0u64);
    for i in 0..MAX_SERVERS_PER_SERVICE {
        if i >= schedule.len() {
            break;
        }
        let entry = Entry(tables.schedule_word(schedule.offset() + i)?);
        let server = tables.server(entry.server())?;
        // SAFETY: server records live as long as the maps.
        let (flags, active, inactive) = unsafe {
            (
                atomic::load(&raw const (*server).flags),
                atomic::load(&raw const (*server).active),
                atomic::load(&raw const (*server).inactive),
            )
        };
        // An overloaded server weighs nothing, which is never better: without a branch, since the
        // verifier follows every path through every turn of this loop.
        let present = ((flags / SERVER_OVERLOADED) & 1).wrapping_sub(1);
        let load = u64::from(active) * 257 + u64::from(inactive);
        let weight = u64::from(entry.weight() & present);
        if best_load * weight > load * best_weight {
            (best, best_load, best_weight) = (entry.server(), load, weight);
        }
    }
    (best != NO_SERVER).then_some(best)
}
