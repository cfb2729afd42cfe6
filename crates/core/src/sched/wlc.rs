//! Weighted least connection (`Linux net/netfilter/ipvs/ip_vs_wlc.c`).
//!
//! The server with the fewest connections for its weight, where an active connection counts 257
//! times an inactive one. The first eligible one stays unless a later one is strictly better.
//! Products are 64 bits wide.

use crate::atomic;
use crate::host::Tables;
use crate::layout::{MAX_SERVERS_PER_SERVICE, SERVER_OVERLOADED, Schedule};
use crate::sched::Entry;

/// The least loaded server.
#[inline(always)]
pub fn choose<T: Tables>(tables: &T, schedule: Schedule) -> Option<u32> {
    let mut best: Option<(u32, u64, u64)> = None;
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
        if flags & SERVER_OVERLOADED != 0 {
            continue;
        }
        let load = u64::from(count(active)) * 257 + u64::from(count(inactive));
        let weight = u64::from(entry.weight());
        let better = match best {
            None => true,
            Some((_, best_load, best_weight)) => best_load * weight > load * best_weight,
        };
        if better {
            best = Some((entry.server(), load, weight));
        }
    }
    best.map(|(server, ..)| server)
}

/// A count that another CPU is about to raise may read as just below zero.
#[inline(always)]
fn count(shared: u32) -> u32 {
    if shared > i32::MAX as u32 { 0 } else { shared }
}
