//! Weighted random twos choice (`Linux net/netfilter/ipvs/ip_vs_twos.c`): two servers are drawn at
//! random by weight, and the one with fewer connections for its weight is taken.
//!
//! Draws are from 0 up to the sum of weights, both included, so that the first server has one part
//! more, as in the kernel.

use crate::host::Tables;
use crate::layout::{MAX_SERVERS_PER_SERVICE, Schedule};
use crate::sched::least::Measure;
use crate::sched::{Entry, Load, NOWHERE, wlc};

/// The better of two servers that were drawn.
#[inline(always)]
pub(crate) fn choose<T: Tables>(tables: &T, schedule: Schedule) -> Option<u32> {
    let total = tables.weights_apart(schedule);
    if total == 0 {
        return None;
    }
    let draw = || {
        let random = u64::from(tables.random()) << 32 | u64::from(tables.random());
        let drawn = tables.drawn_apart(schedule, random.checked_rem(total + 1)?);
        (drawn != NOWHERE).then_some(drawn)
    };
    // Servers that became overloaded meanwhile may leave a draw without one.
    let (first, second) = (draw()?, draw()?);
    let (server, one) = measure(tables, first)?;
    let (other, two) = measure(tables, second)?;
    Some(if two.beats(one) { other } else { server })
}

#[inline(always)]
fn measure<T: Tables>(tables: &T, at: u32) -> Option<(u32, Measure)> {
    let entry = Entry(tables.schedule_word(at)?);
    let load = Load::of(tables.server(entry.server())?);
    Some((entry.server(), wlc::measure(&load, entry.weight())))
}

/// Sum of the weights of servers that are not overloaded.
#[inline(always)]
pub fn weights<T: Tables>(tables: &T, schedule: Schedule) -> u64 {
    let mut total = 0;
    for number in 0..MAX_SERVERS_PER_SERVICE {
        let Some((_, weight)) = numbered(tables, schedule, number) else {
            break;
        };
        total += weight;
    }
    total
}

/// The word of the server that a draw from 0 up to the sum of weights falls on, or [`NOWHERE`].
#[inline(always)]
pub fn drawn<T: Tables>(tables: &T, schedule: Schedule, draw: u64) -> u32 {
    let mut left = draw.saturating_sub(1);
    for number in 0..MAX_SERVERS_PER_SERVICE {
        let Some((at, weight)) = numbered(tables, schedule, number) else {
            break;
        };
        if left < weight {
            return at;
        }
        left -= weight;
    }
    NOWHERE
}

/// Word and weight of a server, 0 of an overloaded one; `None` after the last.
#[inline(always)]
fn numbered<T: Tables>(tables: &T, schedule: Schedule, number: u32) -> Option<(u32, u64)> {
    if number >= schedule.len() {
        return None;
    }
    let at = schedule.offset().wrapping_add(number);
    let entry = Entry(tables.schedule_word(at)?);
    let load = Load::of(tables.server(entry.server())?);
    Some((at, load.unless_overloaded(entry.weight()).into()))
}
