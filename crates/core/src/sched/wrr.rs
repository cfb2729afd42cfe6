//! Weighted round robin (`Linux net/netfilter/ipvs/ip_vs_wrr.c`).
//!
//! The kernel walks its list at a falling weight level and takes every server whose weight reaches
//! the level. Between two distinct weights the servers taken are the same at each level, so one
//! whole cycle is a few *segments*, one for each distinct weight. The table holds them, and the
//! turn of a connection gives its place in the cycle: the same choices in two reads.
//!
//! ```text
//! word 0           length of the cycle
//! words 1..=n      one [`Segment`] for each distinct weight, heaviest first
//! following words  their lists of entries, newest server first
//! ```

use crate::atomic;
use crate::host::Tables;
use crate::layout::{MAX_SERVERS_PER_SERVICE, Schedule, ServiceRecord};
use crate::sched::eligible;

/// A segment of the cycle: every level between two distinct weights.
///
/// Bits 0..32: end of the segment in the cycle (exclusive); bits 32..53: first word of its list,
/// relative to the table; bits 53..64: servers in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment(pub u64);

impl Segment {
    /// From its parts.
    pub const fn new(end: u32, list: u32, servers: u32) -> Self {
        Self(end as u64 | (list as u64) << 32 | (servers as u64) << 53)
    }
    /// Where it ends in the cycle.
    #[inline(always)]
    pub const fn end(self) -> u32 {
        self.0 as u32
    }
    /// First word of its list, relative to the table.
    #[inline(always)]
    pub const fn list(self) -> u32 {
        (self.0 >> 32) as u32 & 0x1f_ffff
    }
    /// Servers in its list.
    #[inline(always)]
    pub const fn servers(self) -> u32 {
        (self.0 >> 53) as u32
    }
}

/// Tries in a row before giving up when servers are overloaded.
const TRIES: u32 = 8;
/// Segments are searched in strides of this many, then one by one: as many steps as the verifier
/// can follow for as many segments as a service has servers.
const STRIDE: u32 = 32;
const _: () = assert!(STRIDE * STRIDE >= MAX_SERVERS_PER_SERVICE);

/// The server at the next place of the cycle; overloaded ones are passed over.
#[inline(always)]
pub(crate) fn choose<T: Tables>(
    tables: &T,
    service: *mut ServiceRecord,
    schedule: Schedule,
) -> Option<u32> {
    let cycle = tables.schedule_word(schedule.offset())?;
    for _ in 0..TRIES {
        // SAFETY: service records live as long as the maps.
        let turn = unsafe { atomic::add64(&raw mut (*service).turn, 1) };
        let at = tables.place_apart(schedule, turn.checked_rem(cycle)? as u32);
        if let Some(entry) = eligible(tables, at) {
            return Some(entry.server());
        }
    }
    None
}

/// What [`place`] returns for a table that is not one.
pub const NOWHERE: u32 = u32::MAX;

/// Index of the word with the entry at `place` of the cycle, or [`NOWHERE`].
#[inline(always)]
pub fn place<T: Tables>(tables: &T, schedule: Schedule, place: u32) -> u32 {
    find(tables, schedule, place).unwrap_or(NOWHERE)
}

#[inline(always)]
fn find<T: Tables>(tables: &T, schedule: Schedule, place: u32) -> Option<u32> {
    let first = schedule.offset() + 1;
    let last = schedule.len().checked_sub(1)?;
    let end = |segment: u32| Some(Segment(tables.schedule_word(first + segment)?).end());
    // The first segment that ends after the place.
    let mut at = 0;
    for _ in 0..STRIDE {
        if at + STRIDE > last || end(at + STRIDE - 1)? > place {
            break;
        }
        at += STRIDE;
    }
    for _ in 0..STRIDE {
        if at >= last || end(at)? > place {
            break;
        }
        at += 1;
    }
    let begin = if at == 0 { 0 } else { end(at - 1)? };
    let segment = Segment(tables.schedule_word(first + at)?);
    let in_list = place.wrapping_sub(begin).checked_rem(segment.servers())?;
    Some(schedule.offset() + segment.list() + in_list)
}
