//! What lc, wlc, sed, nq, fo and ovf have in common: the server with the least load for its weight.
//!
//! Each scheduler says what a server's load and weight are to it (`Measure`). The first server stays
//! the best unless a later one is strictly better; products are 64 bits wide. A weight of 0 is never
//! better than anything, so it stands for "not eligible".

use crate::host::Tables;
use crate::layout::{MAX_SERVERS_PER_SERVICE, Schedule};
use crate::mask::masked;
use crate::sched::{Entry, FO, LC, Load, NOWHERE, NQ, OVF, SED, fo, lc, nq, ovf, sed, wlc};

/// What a server is to a scheduler: `load / weight` is to be as little as can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Measure {
    /// How busy it is.
    pub load: u64,
    /// What it can take; 0 when it may not be chosen.
    pub weight: u64,
}

impl Measure {
    /// Worse than any server that may be chosen.
    pub(crate) const WORST: Self = Self { load: 1, weight: 0 };

    /// True when this one is to be preferred to `other`.
    #[inline(always)]
    pub(crate) const fn beats(self, other: Self) -> bool {
        other.load * self.weight > self.load * other.weight
    }
}

/// Servers looked at in one call of [`stride`]: the verifier follows each turn of a loop, but a
/// function that stands alone only once, however often it is called.
pub const STRIDE: u32 = 32;
pub(crate) const STRIDES: u32 = MAX_SERVERS_PER_SERVICE / STRIDE;
const _: () = assert!(STRIDES * STRIDE == MAX_SERVERS_PER_SERVICE);

/// The best server of a table.
#[inline(always)]
pub(crate) fn choose<T: Tables>(tables: &T, schedule: Schedule) -> Option<Entry> {
    let best = tables.least_apart(schedule);
    if best == NOWHERE {
        return None;
    }
    tables.schedule_word(best).map(Entry)
}

/// The word of the best server of a table, or [`NOWHERE`].
#[inline(always)]
pub fn best<T: Tables>(tables: &T, schedule: Schedule) -> u32 {
    let mut best = NOWHERE;
    for i in 0..STRIDES {
        let first = i * STRIDE;
        if first >= schedule.len() {
            break;
        }
        best = tables.stride_apart(schedule, first, best);
    }
    best
}

/// The better of the server at word `best` (or [`NOWHERE`]) and the [`STRIDE`] servers of a table
/// from the one numbered `first` on: its word, or [`NOWHERE`].
#[inline(always)]
pub fn stride<T: Tables>(tables: &T, schedule: Schedule, first: u32, best: u32) -> u32 {
    match schedule.sched() {
        LC => search(tables, schedule, first, best, lc::measure),
        SED => search(tables, schedule, first, best, sed::measure),
        NQ => search(tables, schedule, first, best, nq::measure),
        FO => search(tables, schedule, first, best, fo::measure),
        OVF => search(tables, schedule, first, best, ovf::measure),
        // Also what lblc and lblcr fall back to.
        _ => search(tables, schedule, first, best, wlc::measure),
    }
}

#[inline(always)]
fn search<T: Tables>(
    tables: &T,
    schedule: Schedule,
    first: u32,
    best: u32,
    measure: impl Fn(&Load, u32) -> Measure,
) -> u32 {
    let of = |at: u32| {
        let entry = Entry(tables.schedule_word(at)?);
        let load = Load::of(tables.server(entry.server())?);
        Some(measure(&load, load.unless_overloaded(entry.weight())))
    };
    let mut best = best;
    let mut least = if best == NOWHERE {
        Measure::WORST
    } else {
        of(best).unwrap_or(Measure::WORST)
    };
    let begin = schedule.offset().wrapping_add(first);
    let end = schedule.offset().wrapping_add(schedule.len());
    for i in 0..STRIDE {
        // Masked, or the compiler would count by `at`, of which the verifier knows no bound.
        let at = begin.wrapping_add(masked::<{ STRIDE - 1 }>(i as usize) as u32);
        if at >= end {
            break;
        }
        let Some(measured) = of(at) else {
            break;
        };
        if measured.beats(least) {
            (best, least) = (at, measured);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves held connections to servers added in order, all active; their numbers.
    fn served(measure: fn(&Load, u32) -> Measure, weights: &[u32], times: usize) -> Vec<usize> {
        let mut active = vec![0; weights.len()];
        let mut served = Vec::new();
        for _ in 0..times {
            let mut least = Measure::WORST;
            let mut best = None;
            for (i, &weight) in weights.iter().enumerate().rev() {
                let load = Load {
                    flags: 0,
                    active: active[i],
                    inactive: 0,
                };
                let measured = measure(&load, weight);
                if measured.beats(least) {
                    (best, least) = (Some(i), measured);
                }
            }
            let Some(best) = best else { break };
            active[best] += 1;
            served.push(best + 1);
        }
        served
    }

    /// Sequences the kernel gave.
    #[test]
    fn held_connections_go_where_the_kernel_sends_them() {
        type Case = (fn(&Load, u32) -> Measure, &'static [u32], &'static [usize]);
        let cases: &[Case] = &[
            (
                wlc::measure,
                &[3, 2, 1, 0],
                &[3, 2, 1, 1, 2, 1, 3, 2, 1, 1, 2, 1, 3, 2],
            ),
            (
                sed::measure,
                &[3, 2, 1, 0],
                &[1, 2, 1, 3, 2, 1, 1, 2, 1, 3, 2, 1, 1, 2],
            ),
            (
                nq::measure,
                &[3, 2, 1, 0],
                &[3, 2, 1, 1, 2, 1, 1, 2, 1, 3, 2, 1, 1, 2],
            ),
            (
                wlc::measure,
                &[1, 5, 2, 7],
                &[4, 3, 2, 1, 4, 2, 4, 2, 4, 3, 4, 2, 4, 2],
            ),
            (
                sed::measure,
                &[1, 5, 2, 7],
                &[4, 2, 4, 2, 4, 3, 4, 2, 4, 2, 4, 4, 3, 2],
            ),
            (
                nq::measure,
                &[1, 5, 2, 7],
                &[4, 3, 2, 1, 4, 2, 4, 4, 2, 4, 2, 4, 4, 3],
            ),
            (fo::measure, &[1, 5, 2, 7], &[4, 4, 4, 4, 4, 4]),
            (lc::measure, &[3, 2, 1, 0], &[3, 2, 1, 3, 2, 1]),
            (
                ovf::measure,
                &[1, 5, 2, 7],
                &[4, 4, 4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2, 3, 3, 3, 1],
            ),
        ];
        for (measure, weights, expected) in cases {
            assert_eq!(
                served(*measure, weights, expected.len()),
                *expected,
                "{weights:?}"
            );
        }
        // Then refused.
        assert_eq!(
            served(ovf::measure, &[3, 2, 1, 0], 20),
            [1, 1, 1, 1, 2, 2, 2, 3, 3]
        );
        assert_eq!(
            served(ovf::measure, &[1, 1, 1, 1], 20),
            [4, 4, 3, 3, 2, 2, 1, 1]
        );
    }

    #[test]
    fn the_first_of_equals_stays() {
        let one = Measure { load: 2, weight: 1 };
        let same = Measure { load: 4, weight: 2 };
        assert!(!same.beats(one) && !one.beats(same));
        assert!(one.beats(Measure::WORST));
        assert!(!Measure { load: 0, weight: 0 }.beats(Measure::WORST));
    }
}
