//! Locality-based least connection (`Linux net/netfilter/ipvs/ip_vs_lblc.c`): what is asked of one
//! address goes to one server, so this is for services of firewall marks before transparent caches.
//!
//! A cache remembers the server of each address. The server stays as long as it is there, has a weight,
//! and is not busy while others idle; else wlc chooses another one. The cache is [`crate::locality`].

use crate::host::Tables;
use crate::layout::Schedule;
use crate::locality::{self, NO_ENTRY};
use crate::sched::least::{STRIDE, STRIDES};
use crate::sched::{Entry, Load, NO_SERVER, least};

/// The server of the destination, or the least loaded one, or [`NO_SERVER`].
#[inline(always)]
pub fn choose<T: Tables>(tables: &T, service: u32, schedule: Schedule) -> u32 {
    let mut index = tables.find_apart(service);
    if let Some(entry) = locality::entry(tables, index)
        && let Some(server) = entry.member(tables, service, 0)
        && server.weight != 0
        && !is_busy(tables, schedule, server.load.active, server.weight)
    {
        return server.index;
    }
    let Some(chosen) = least::choose(tables, schedule).map(Entry::server) else {
        return NO_SERVER;
    };
    if index == NO_ENTRY {
        index = tables.add_apart(service);
    }
    if let Some(entry) = locality::entry(tables, index) {
        entry.replace(chosen);
    }
    chosen
}

/// More active connections than its weight, while another server has less than half of its own.
#[inline(always)]
pub(crate) fn is_busy<T: Tables>(tables: &T, schedule: Schedule, active: u32, weight: u32) -> bool {
    active > weight && half_idle(tables, schedule)
}

/// Whether a server of the table has less than half as many active connections as its weight.
#[inline(always)]
pub(crate) fn half_idle<T: Tables>(tables: &T, schedule: Schedule) -> bool {
    for i in 0..STRIDES {
        let first = i * STRIDE;
        if first >= schedule.len() {
            break;
        }
        if tables.half_idle_apart(schedule, first) {
            return true;
        }
    }
    false
}

/// Whether one of the [`STRIDE`] servers of the table from the one numbered `first` on is half idle.
#[inline(always)]
pub fn half_idle_among<T: Tables>(tables: &T, schedule: Schedule, first: u32) -> bool {
    for i in first..first + STRIDE {
        if i >= schedule.len() {
            break;
        }
        let Some(entry) = tables.schedule_word(schedule.offset() + i).map(Entry) else {
            break;
        };
        if let Some(server) = tables.server(entry.server())
            && u64::from(Load::of(server).active) * 2 < entry.weight().into()
        {
            return true;
        }
    }
    false
}
