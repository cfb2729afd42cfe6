//! Locality-based least connection with replication (`Linux net/netfilter/ipvs/ip_vs_lblcr.c`): what is
//! asked of one address goes to a set of servers, which grows while they are busy.
//!
//! Of an address's set the least loaded server is taken, by the rule of wlc. When it is busy while others
//! idle, the service's least loaded one joins the set. A set of several that did not change for
//! `lblcr_expiration` loses its most loaded member. The cache is [`crate::locality`].

use crate::atomic;
use crate::host::Tables;
use crate::layout::Schedule;
use crate::locality::{self, MEMBERS, NO_ENTRY};
use crate::sched::least::Measure;
use crate::sched::{Entry, Load, NO_SERVER, lblc, least, wlc};

/// The least loaded server of the destination's set, or of the service, or [`NO_SERVER`].
#[inline(always)]
pub fn choose<T: Tables>(tables: &T, service: u32, schedule: Schedule) -> u32 {
    let now = tables.now();
    let mut index = tables.find_apart(service);
    if let Some(entry) = locality::entry(tables, index) {
        let best = tables.least_busy_apart(service, index);
        if !entry.is_free(1) && entry.unchanged_for(now) > expiration(tables) {
            entry.leave(tables.busiest_apart(service, index));
            entry.changed(now);
        }
        if let Some(server) = tables.server(best) {
            // SAFETY: server records live as long as the maps.
            let weight = unsafe { atomic::load(&raw const (*server).weight) };
            if !lblc::is_busy(tables, schedule, Load::of(server).active, weight) {
                return best;
            }
        }
    }
    let Some(chosen) = least::choose(tables, schedule).map(Entry::server) else {
        return NO_SERVER;
    };
    if index == NO_ENTRY {
        index = tables.add_apart(service);
    }
    if let Some(entry) = locality::entry(tables, index)
        && !entry.has(chosen)
    {
        if !entry.is_free(MEMBERS - 1) {
            entry.leave(tables.busiest_apart(service, index));
        }
        entry.join(chosen);
        entry.changed(now);
    }
    chosen
}

/// Jiffies after which a set that did not change shrinks.
#[inline(always)]
fn expiration<T: Tables>(tables: &T) -> u32 {
    match tables.runtime() {
        // SAFETY: the runtime record lives as long as the maps.
        Some(runtime) => unsafe { atomic::load(&raw const (*runtime).settings.lblcr_expiration) },
        None => u32::MAX,
    }
}

/// The least loaded server of an entry's set that may be chosen, or [`NO_SERVER`].
#[inline(always)]
pub fn least_busy<T: Tables>(tables: &T, service: u32, entry: u32) -> u32 {
    let Some(entry) = locality::entry(tables, entry) else {
        return NO_SERVER;
    };
    let (mut best, mut least) = (NO_SERVER, Measure::WORST);
    for number in 0..MEMBERS {
        let Some(member) = entry.member(tables, service, number) else {
            continue;
        };
        let measured = wlc::measure(&member.load, member.load.unless_overloaded(member.weight));
        if measured.beats(least) {
            (best, least) = (member.index, measured);
        }
    }
    best
}

/// Number of the most loaded member of an entry's set, the oldest of those that are no servers any more
/// if there are such.
#[inline(always)]
pub fn busiest<T: Tables>(tables: &T, service: u32, entry: u32) -> u32 {
    let Some(entry) = locality::entry(tables, entry) else {
        return 0;
    };
    let (mut busiest, mut most) = (0, Measure { load: 0, weight: 1 });
    for number in 0..MEMBERS {
        if entry.is_free(number) {
            break;
        }
        let Some(member) = entry.member(tables, service, number) else {
            (busiest, most) = (number, Measure { load: 1, weight: 0 });
            continue;
        };
        let measured = wlc::measure(&member.load, member.weight);
        // A quiesced one is not asked, as in the kernel.
        if measured.weight != 0 && most.beats(measured) {
            (busiest, most) = (number, measured);
        }
    }
    busiest
}
