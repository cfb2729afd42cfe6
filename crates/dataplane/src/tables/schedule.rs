//! Compiles a service's servers into the table its scheduler reads, and keeps the scheduler's place
//! across changes as the kernel does.

use std::collections::BTreeMap;

use pointsman_core::layout::MAX_SERVERS_PER_SERVICE;
use pointsman_core::sched::{self, Entry, wrr::Segment};
use pointsman_model::{Error, Scheduler};

use super::hashing;

/// A server as a scheduler counts it, in list order (newest first).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Index of the server.
    pub server: u32,
    /// Weight, may be 0.
    pub weight: u32,
    /// The last weight above zero it had; 0 if none.
    pub last_weight: u32,
    /// Its address, folded, plus its port, both in host order: what mh hashes.
    pub identity: u32,
}

/// Where a scheduler stands, in terms that survive a change of its table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Place {
    /// At the head of the list.
    #[default]
    Head,
    /// rr: after this server.
    After(u32),
    /// wrr: at the head of the list with this weight level; 0 is "not started".
    Level(u32),
}

/// A compiled table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Compiled {
    /// Words as they go into the schedules map.
    pub words: Vec<u64>,
    /// What the scheduler counts, for [`pointsman_core::layout::Schedule::len`].
    pub len: u16,
    /// The first turn.
    pub turn: u64,
}

/// Number of a scheduler in the tables.
pub(crate) fn number(scheduler: Scheduler) -> u8 {
    match scheduler {
        Scheduler::Rr => sched::RR,
        Scheduler::Wrr => sched::WRR,
        Scheduler::Lc => sched::LC,
        Scheduler::Wlc => sched::WLC,
        Scheduler::Lblc => sched::LBLC,
        Scheduler::Lblcr => sched::LBLCR,
        Scheduler::Dh => sched::DH,
        Scheduler::Sh => sched::SH,
        Scheduler::Sed => sched::SED,
        Scheduler::Nq => sched::NQ,
        Scheduler::Fo => sched::FO,
        Scheduler::Ovf => sched::OVF,
        Scheduler::Mh => sched::MH,
        Scheduler::Twos => sched::TWOS,
        Scheduler::None => sched::NONE,
    }
}

/// The scheduler with a number.
pub(crate) fn of_number(sched: u8) -> Scheduler {
    Scheduler::ALL
        .into_iter()
        .find(|scheduler| number(*scheduler) == sched)
        .unwrap_or(Scheduler::None)
}

/// Makes the table of `scheduler` for `list`, to be entered at `place`.
///
/// # Errors
/// [`Error::NoRoom`] for more servers than a table takes.
pub(crate) fn compile(
    scheduler: Scheduler,
    list: &[Candidate],
    place: Place,
) -> Result<Compiled, Error> {
    let eligible = || {
        let eligible: Vec<Candidate> = list.iter().copied().filter(|c| c.weight > 0).collect();
        check_room(eligible.len()).map(|()| eligible)
    };
    Ok(match scheduler {
        Scheduler::Rr => plain(&eligible()?, rr_turn(list, place)),
        Scheduler::Wrr => {
            let eligible = eligible()?;
            Cycle::new(&eligible).map_or_else(Compiled::default, |c| c.compile(place))
        }
        Scheduler::Lc
        | Scheduler::Wlc
        | Scheduler::Lblc
        | Scheduler::Lblcr
        | Scheduler::Sed
        | Scheduler::Nq
        | Scheduler::Fo
        | Scheduler::Ovf
        | Scheduler::Twos => plain(&eligible()?, 0),
        Scheduler::Dh => hashing::dh(list),
        Scheduler::Sh => hashing::sh(list),
        Scheduler::Mh => {
            let claimants: Vec<_> = list.iter().copied().filter(|c| c.last_weight > 0).collect();
            check_room(claimants.len())?;
            hashing::mh(&claimants)
        }
        Scheduler::None => Compiled::default(),
    })
}

/// The servers themselves, a word each.
fn plain(eligible: &[Candidate], turn: u64) -> Compiled {
    let entry = |c: &Candidate| Entry::new(c.server, c.weight).0;
    Compiled {
        words: eligible.iter().map(entry).collect(),
        len: eligible.len() as u16,
        turn,
    }
}

fn check_room(servers: usize) -> Result<(), Error> {
    if servers > MAX_SERVERS_PER_SERVICE as usize {
        return Err(Error::NoRoom(format!(
            "{servers} real servers with a weight above zero in one service; \
             {MAX_SERVERS_PER_SERVICE} at most"
        )));
    }
    Ok(())
}

/// Place among the eligible servers of the first one after `place`, wrapping to the head.
fn rr_turn(list: &[Candidate], place: Place) -> u64 {
    let Place::After(last) = place else {
        return 0;
    };
    let Some(at) = list.iter().position(|c| c.server == last) else {
        return 0;
    };
    let passed = list[..=at].iter().filter(|c| c.weight > 0).count();
    let eligible = list.iter().filter(|c| c.weight > 0).count();
    if passed == eligible { 0 } else { passed as u64 }
}

/// Where wrr stands after `turn` of a table made for `list`, having begun at `first`.
pub(crate) fn wrr_level(list: &[Candidate], first: u64, turn: u64, begun: u32) -> u32 {
    let eligible: Vec<Candidate> = list.iter().copied().filter(|c| c.weight > 0).collect();
    match Cycle::new(&eligible) {
        Some(cycle) if turn > first => cycle.level_at((turn - 1) % cycle.len),
        _ => begun,
    }
}

/// The weight level wrr enters a changed list at, given the level it stood at.
pub(crate) fn wrr_entry_level(list: &[Candidate], level: u32) -> u32 {
    let eligible: Vec<Candidate> = list.iter().copied().filter(|c| c.weight > 0).collect();
    let Some(cycle) = Cycle::new(&eligible) else {
        return 0;
    };
    let top = cycle.top_level();
    if level > top || level == 0 {
        top
    } else if cycle.step > 1 {
        level / cycle.step * cycle.step + 1
    } else {
        level
    }
}

/// One cycle of weighted round robin: levels fall from the heaviest weight in steps of the greatest
/// common divisor; at each level every server whose weight reaches it takes a turn.
struct Cycle<'a> {
    eligible: &'a [Candidate],
    /// The greatest common divisor of the weights.
    step: u32,
    /// Distinct weights in steps, heaviest first, each with the number of servers that reach it.
    groups: Vec<(u32, u32)>,
    /// Turns in the cycle.
    len: u64,
}

impl<'a> Cycle<'a> {
    fn new(eligible: &'a [Candidate]) -> Option<Self> {
        let step = eligible.iter().fold(0, |d, c| gcd(d, c.weight));
        if step == 0 {
            return None;
        }
        let mut counts = BTreeMap::new();
        for c in eligible {
            *counts.entry(c.weight / step).or_insert(0u32) += 1;
        }
        let mut reached = 0;
        let groups: Vec<_> = counts
            .into_iter()
            .rev()
            .map(|(weight, count)| {
                reached += count;
                (weight, reached)
            })
            .collect();
        let len = eligible.iter().map(|c| u64::from(c.weight / step)).sum();
        Some(Self {
            eligible,
            step,
            groups,
            len,
        })
    }

    fn top_level(&self) -> u32 {
        (self.groups[0].0 - 1) * self.step + 1
    }

    /// `(heaviest, lightest exclusive, servers)` of each run of levels with the same servers.
    fn runs(&self) -> impl Iterator<Item = (u32, u32, u32)> + '_ {
        let lighter = self.groups.iter().skip(1).map(|g| g.0).chain([0]);
        self.groups
            .iter()
            .zip(lighter)
            .map(|(&(weight, servers), below)| (weight, below, servers))
    }

    /// The level of a turn of the cycle.
    fn level_at(&self, turn: u64) -> u32 {
        let mut begin = 0;
        for (weight, below, servers) in self.runs() {
            let end = begin + u64::from(weight - below) * u64::from(servers);
            if turn < end {
                let fallen = ((turn - begin) / u64::from(servers)) as u32;
                return (weight - fallen - 1) * self.step + 1;
            }
            begin = end;
        }
        1
    }

    /// The first turn at a level.
    fn turn_of(&self, level: u32) -> u64 {
        let wanted = (level.max(1) - 1) / self.step + 1;
        let mut begin = 0;
        for (weight, below, servers) in self.runs() {
            if wanted > below {
                return begin + u64::from(weight.saturating_sub(wanted)) * u64::from(servers);
            }
            begin += u64::from(weight - below) * u64::from(servers);
        }
        0
    }

    fn compile(&self, place: Place) -> Compiled {
        let level = match place {
            Place::Level(level) if level != 0 => level,
            _ => self.top_level(),
        };
        let segments = self.groups.len() as u32;
        let mut words = vec![self.len.min(u32::MAX.into())];
        let (mut weights, mut lists) = (Vec::<u64>::new(), Vec::new());
        // Segment ends are 32 bits wide: a cycle beyond that (weights of hundreds of millions) ends
        // early, which changes shares by less than one part in four billion.
        let mut end = 0u64;
        for (weight, below, servers) in self.runs() {
            end += u64::from(weight - below) * u64::from(servers);
            let list = 1 + 2 * segments + lists.len() as u32;
            words.push(Segment::new(end.min(u32::MAX.into()) as u32, list, servers).0);
            let reach = weight * self.step;
            weights.push(reach.into());
            lists.extend(
                self.eligible
                    .iter()
                    .filter(|c| c.weight >= reach)
                    .map(|c| Entry::new(c.server, c.weight).0),
            );
        }
        words.extend(weights);
        words.extend(lists);
        Compiled {
            words,
            len: segments as u16,
            turn: self.turn_of(level) % self.len,
        }
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds servers 1..=n one after the other to an empty service, as users do, then takes turns.
    fn served(scheduler: Scheduler, weights: &[u32], turns: usize) -> Vec<u32> {
        let mut list: Vec<Candidate> = Vec::new();
        let mut level = 0;
        for (i, &weight) in weights.iter().enumerate() {
            list.insert(
                0,
                Candidate {
                    server: i as u32 + 1,
                    weight,
                    ..Candidate::default()
                },
            );
            level = wrr_entry_level(&list, level);
        }
        let place = if scheduler == Scheduler::Wrr {
            Place::Level(level)
        } else {
            Place::Head
        };
        let table = compile(scheduler, &list, place).unwrap();
        (0..turns as u64)
            .map(|t| choose(&table, scheduler, table.turn + t))
            .collect()
    }

    fn choose(table: &Compiled, scheduler: Scheduler, turn: u64) -> u32 {
        if scheduler == Scheduler::Rr {
            return Entry(table.words[(turn % u64::from(table.len)) as usize]).server();
        }
        let place = (turn % table.words[0]) as u32;
        let segments: Vec<_> = table.words[1..=table.len as usize]
            .iter()
            .map(|&w| Segment(w))
            .collect();
        let at = segments.iter().position(|s| place < s.end()).unwrap();
        let begin = if at == 0 { 0 } else { segments[at - 1].end() };
        let s = segments[at];
        Entry(table.words[(s.list() + (place - begin) % s.servers()) as usize]).server()
    }

    /// Sequences the kernel gave.
    #[test]
    fn wrr_serves_in_the_order_of_the_kernel() {
        let cases: &[(&[u32], &[u32])] = &[
            (&[1, 1, 1, 1], &[4, 3, 2, 1, 4, 3, 2, 1]),
            (&[3, 2, 1, 0], &[3, 2, 1, 1, 2, 1, 3, 2, 1, 1, 2, 1]),
            (
                &[1, 5, 2, 7],
                &[4, 3, 2, 1, 4, 4, 4, 2, 4, 2, 4, 2, 4, 3, 2, 4],
            ),
            (&[6, 4, 2, 2], &[4, 3, 2, 1, 1, 2, 1, 4, 3, 2, 1, 1, 2, 1]),
            (&[2, 4, 0, 8], &[4, 2, 1, 4, 4, 4, 2, 4, 2, 1, 4, 4, 4, 2]),
            (&[100, 1, 1, 1], &[4, 3, 2, 1, 1, 1, 1, 1]),
            (&[4, 3, 2, 1], &[4, 3, 2, 1, 1, 2, 1, 3, 2, 1, 4, 3, 2, 1]),
        ];
        for (weights, expected) in cases {
            assert_eq!(
                served(Scheduler::Wrr, weights, expected.len()),
                *expected,
                "weights {weights:?}"
            );
        }
    }

    #[test]
    fn rr_goes_from_the_newest_to_the_oldest_and_passes_over_weight_zero() {
        assert_eq!(served(Scheduler::Rr, &[1, 1, 1, 1], 5), [4, 3, 2, 1, 4]);
        assert_eq!(served(Scheduler::Rr, &[1, 0, 1], 3), [3, 1, 3]);
    }

    #[test]
    fn rr_goes_on_after_the_server_it_served_last() {
        let list = [4, 3, 2, 1].map(|server| Candidate {
            server,
            weight: 1,
            ..Candidate::default()
        });
        let table = compile(Scheduler::Rr, &list, Place::After(3)).unwrap();
        assert_eq!(choose(&table, Scheduler::Rr, table.turn), 2);
        let table = compile(Scheduler::Rr, &list, Place::After(1)).unwrap();
        assert_eq!(choose(&table, Scheduler::Rr, table.turn), 4);
    }

    #[test]
    fn wrr_keeps_its_level_across_a_change() {
        let list = [(3, 4), (2, 2), (1, 1)].map(|(server, weight)| Candidate {
            server,
            weight,
            ..Candidate::default()
        });
        // Turns: level 4: 3; level 3: 3; level 2: 3 2; level 1: 3 2 1.
        assert_eq!(wrr_level(&list, 0, 0, 4), 4);
        assert_eq!(wrr_level(&list, 0, 1, 4), 4);
        assert_eq!(wrr_level(&list, 0, 2, 4), 3);
        assert_eq!(wrr_level(&list, 0, 4, 4), 2);
        assert_eq!(wrr_level(&list, 0, 7, 4), 1);
        assert_eq!(wrr_level(&list, 0, 8, 4), 4);
    }

    proptest::proptest! {
        #[test]
        fn whole_cycles_give_each_server_its_weight(
            weights in proptest::collection::vec(0..40u32, 1..12),
            cycles in 1..4usize,
        ) {
            let step = weights.iter().fold(0, |d, w| gcd(d, *w));
            proptest::prop_assume!(step != 0);
            let count = |served: &[u32], i: usize| {
                served.iter().filter(|s| **s == i as u32 + 1).count()
            };
            let turns = weights.iter().map(|w| (w / step) as usize).sum::<usize>();
            let served_wrr = served(Scheduler::Wrr, &weights, turns * cycles);
            let eligible = weights.iter().filter(|w| **w > 0).count();
            let served_rr = served(Scheduler::Rr, &weights, eligible * cycles);
            for (i, weight) in weights.iter().enumerate() {
                let share = (weight / step) as usize * cycles;
                proptest::prop_assert_eq!(count(&served_wrr, i), share);
                let turn = usize::from(*weight > 0) * cycles;
                proptest::prop_assert_eq!(count(&served_rr, i), turn);
            }
        }
    }
}
