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
//! n following      the weights
//! words after it   their lists of entries, newest server first
//! ```
//!
//! Each list holds all servers of the list before it, and the last one all servers there are.

use crate::atomic;
use crate::host::Tables;
use crate::layout::{MAX_SERVERS_PER_SERVICE, Schedule, ServiceRecord};
use crate::sched::{Entry, FO, NOWHERE, eligible, least};

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
    // SAFETY: service records live as long as the maps.
    let turn = unsafe { atomic::add64(&raw mut (*service).turn, 1) };
    let place = turn.checked_rem(cycle)? as u32;
    if let Some((entry, _)) = eligible(tables, at(tables, schedule, place)?) {
        return Some(entry.server());
    }
    let next = match heaviest(tables, schedule) {
        Some(weight) => tables.pass_over_apart(schedule, place, weight),
        None => NOWHERE,
    };
    let to = if next == NOWHERE {
        exhausted(tables, schedule, cycle, place)? + cycle - 1
    } else {
        u64::from(next)
    };
    let passed = (to + cycle - u64::from(place)).checked_rem(cycle)?;
    // SAFETY: as above.
    unsafe { atomic::add64(&raw mut (*service).turn, passed) };
    if next == NOWHERE {
        return None;
    }
    let entry = Entry(tables.schedule_word(at(tables, schedule, next)?)?);
    Some(entry.server())
}

/// The word of the entry at a place of the cycle.
#[inline(always)]
fn at<T: Tables>(tables: &T, schedule: Schedule, place: u32) -> Option<u32> {
    Run::at(tables, schedule, place)?.word(schedule, place)
}

/// The place the kernel goes on from after it found all servers overloaded: the same, if the last choice was of the
/// lowest level, else the first.
#[inline(always)]
fn exhausted<T: Tables>(tables: &T, schedule: Schedule, cycle: u64, place: u32) -> Option<u64> {
    let last = Segment(tables.schedule_word(schedule.offset() + schedule.len())?);
    let lowest = cycle.saturating_sub(last.servers().into());
    let place = u64::from(place);
    Some(if place > lowest { place } else { 0 })
}

/// The segment a place of the cycle lies in: its number, or [`NOWHERE`].
#[inline(always)]
pub fn segment<T: Tables>(tables: &T, schedule: Schedule, place: u32) -> u32 {
    let first = schedule.offset() + 1;
    search(schedule, |number| {
        Some(Segment(tables.schedule_word(first + number)?).end() > place)
    })
}

/// The heaviest segment whose servers' weights `weight` reaches: its number, or [`NOWHERE`].
#[inline(always)]
pub fn reached<T: Tables>(tables: &T, schedule: Schedule, weight: u32) -> u32 {
    let first = schedule.offset() + 1 + schedule.len();
    search(schedule, |number| {
        Some(u64::from(weight) >= tables.schedule_word(first + number)?)
    })
}

/// The weight of the heaviest server that is not overloaded.
#[inline(always)]
fn heaviest<T: Tables>(tables: &T, schedule: Schedule) -> Option<u32> {
    let all = Segment(tables.schedule_word(schedule.offset() + schedule.len())?);
    let list = Schedule::new(schedule.offset() + all.list(), all.servers() as u16, FO);
    least::choose(tables, list).map(Entry::weight)
}

/// The first place after `place` whose server is not overloaded, or [`NOWHERE`], given the weight of the
/// heaviest such server. Levels and segments without one are not walked but left out.
#[inline(always)]
pub fn pass_over<T: Tables>(tables: &T, schedule: Schedule, place: u32, heaviest: u32) -> u32 {
    next_eligible(tables, schedule, place, heaviest).unwrap_or(NOWHERE)
}

#[inline(always)]
fn next_eligible<T: Tables>(
    tables: &T,
    schedule: Schedule,
    place: u32,
    heaviest: u32,
) -> Option<u32> {
    let run = Run::at(tables, schedule, place)?;
    let at = run.word(schedule, place)?;
    let list = schedule.offset() + run.segment.list();
    // The rest of this level.
    let found = tables.eligible_apart(at + 1, list + run.segment.servers());
    if found != NOWHERE {
        return Some(place + (found - at));
    }
    // The next level of the same servers.
    let found = tables.eligible_apart(list, list + run.segment.servers());
    let next = place - (at - list) + run.segment.servers();
    if found != NOWHERE && next < run.segment.end() {
        return Some(next + (found - list));
    }
    // The next segment, or the first of the cycle, that the heaviest server left is in.
    let last = schedule.len().checked_sub(1)?;
    let reached = tables.reached_apart(schedule, heaviest);
    let number = if run.number < last && run.number + 1 > reached {
        run.number + 1
    } else {
        reached
    };
    let run = Run::numbered(tables, schedule, number)?;
    let list = schedule.offset() + run.segment.list();
    let found = tables.eligible_apart(list, list + run.segment.servers());
    (found != NOWHERE).then(|| run.begin + (found - list))
}

/// A segment and where it begins in the cycle.
struct Run {
    number: u32,
    segment: Segment,
    begin: u32,
}

impl Run {
    /// The one a place of the cycle lies in.
    #[inline(always)]
    fn at<T: Tables>(tables: &T, schedule: Schedule, place: u32) -> Option<Self> {
        let number = tables.segment_apart(schedule, place);
        Self::numbered(tables, schedule, number)
    }

    #[inline(always)]
    fn numbered<T: Tables>(tables: &T, schedule: Schedule, number: u32) -> Option<Self> {
        let word = |at| Some(Segment(tables.schedule_word(schedule.offset() + at)?));
        Some(Self {
            number,
            segment: word(1 + number)?,
            begin: if number == 0 { 0 } else { word(number)?.end() },
        })
    }

    /// The word of the entry at a place of it.
    #[inline(always)]
    fn word(&self, schedule: Schedule, place: u32) -> Option<u32> {
        let in_list = place
            .wrapping_sub(self.begin)
            .checked_rem(self.segment.servers())?;
        Some(schedule.offset() + self.segment.list() + in_list)
    }
}

/// The first segment for which `is` holds, as it does for all after it; the last one if it holds for
/// none.
#[inline(always)]
fn search(schedule: Schedule, is: impl Fn(u32) -> Option<bool>) -> u32 {
    let find = || {
        let last = schedule.len().checked_sub(1)?;
        let mut at = 0;
        for _ in 0..STRIDE {
            if at + STRIDE > last || is(at + STRIDE - 1)? {
                break;
            }
            at += STRIDE;
        }
        for _ in 0..STRIDE {
            if at >= last || is(at)? {
                break;
            }
            at += 1;
        }
        Some(at)
    };
    find().unwrap_or(NOWHERE)
}
