//! Destination hashing (`Linux net/netfilter/ipvs/ip_vs_dh.c`): the address asked for says which
//! server, so this is for services of firewall marks before transparent caches.
//!
//! The [`SLOTS`] slots go round the list of servers, whatever their weights. A server that is
//! quiesced or overloaded refuses what falls on it: there is no other choice.

use crate::host::Tables;
use crate::layout::Schedule;
use crate::sched::{Asked, buckets, hash32, is_usable};

/// Slots of the table.
pub const SLOTS: u32 = 1 << BITS;
const BITS: u32 = 8;

/// The server of the destination's slot.
#[inline(always)]
pub(crate) fn choose<T: Tables>(tables: &T, schedule: Schedule) -> Option<u32> {
    let slot = hash32::<BITS>(Asked::of(tables)?.destination);
    let server = buckets::server(tables, schedule, slot)?;
    is_usable(tables, server)?.then_some(server)
}
