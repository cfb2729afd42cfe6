//! From counts of clients' handshakes to evidence. Pure: time comes in.
//!
//! A refusal speaks for itself. Silence does not: a SYN may only be young, its client slow or forged. So
//! silence is judged by comparison. It counts against a server as far as its siblings completed handshakes
//! while it completed none, and only once it has lasted longer than handshakes of this service take. Where
//! siblings complete less than half of theirs, as under a flood of SYNs, or where there are none, silence
//! says nothing.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use pointsman_model::Handshakes;

use crate::Evidence;

/// Silence that is shorter says nothing.
const SHORTEST: Duration = Duration::from_millis(100);
/// Longer than this nobody waits before sending the SYN again (RFC 6298 §2.1).
const LONGEST: Duration = Duration::from_secs(1);
/// The slowest handshakes are forgotten by so much with each reading that shows some.
const FORGET: u32 = 2048;

/// Watches the servers of one service.
#[derive(Debug)]
pub struct Observer<K> {
    /// Length of a tick of the kernel.
    tick: Duration,
    servers: HashMap<K, Known<K>>,
    /// How long handshakes took at most, as a mean over one reading of one server; the older, the less.
    slowest: Option<Duration>,
}

#[derive(Debug)]
struct Known<K> {
    place: u32,
    counts: Handshakes,
    run: Option<Run<K>>,
}

/// Handshakes begun and none completed.
#[derive(Debug)]
struct Run<K> {
    since: Instant,
    begun: u32,
    refused: u32,
    /// What each sibling began and completed meanwhile.
    siblings: HashMap<K, (u32, u32)>,
    /// How many were told as unanswered.
    told: u32,
}

/// What a server did between two readings.
#[derive(Clone, Copy, Debug)]
struct Step {
    begun: u32,
    answered: u32,
    refused: u32,
}

impl<K: Copy + Eq + Hash> Observer<K> {
    /// Knows nothing yet; `tick` is the unit of [`Handshakes::waited`].
    pub fn new(tick: Duration) -> Self {
        Self {
            tick,
            servers: HashMap::new(),
            slowest: None,
        }
    }

    /// Takes a reading of all servers of the service: which, where it is counted, the counts. Tells what it
    /// means.
    pub fn read(
        &mut self,
        now: Instant,
        readings: &[(K, u32, Handshakes)],
        tell: &mut dyn FnMut(K, Evidence, u32),
    ) {
        let steps = self.steps(readings);
        let patience = match self.slowest {
            Some(slowest) => (slowest * 2).clamp(SHORTEST, LONGEST),
            None => LONGEST,
        };
        for &(server, step) in &steps {
            let Some(known) = self.servers.get_mut(&server) else {
                continue;
            };
            if step.answered > 0 {
                tell(server, Evidence::Answered, step.answered);
                known.run = None;
            }
            // With one completed, only those after it count.
            let after = |all: u32, since: u32| match step.answered {
                0 => all,
                _ => all.min(since),
            };
            let begun = after(step.begun, known.counts.begun_since);
            let refused = after(step.refused, known.counts.refused_since);
            if refused > 0 {
                tell(server, Evidence::Refused, refused);
            }
            let others = steps.iter().filter(|(other, _)| *other != server);
            match &mut known.run {
                None if begun == 0 => continue,
                None => {
                    // Which of the siblings' came after is not known: no more than here.
                    let beside = |step: &Step| step.answered.min(begun);
                    known.run = Some(Run {
                        since: now,
                        begun,
                        refused,
                        siblings: others.map(|(k, s)| (*k, (beside(s), beside(s)))).collect(),
                        told: 0,
                    });
                }
                Some(run) => {
                    run.begun = run.begun.saturating_add(begun);
                    run.refused = run.refused.saturating_add(refused);
                    for (other, step) in others {
                        let (begun, answered) = run.siblings.entry(*other).or_default();
                        *begun = begun.saturating_add(step.begun);
                        *answered = answered.saturating_add(step.answered);
                    }
                    if now.duration_since(run.since) >= patience {
                        let silent = run.unanswered();
                        if silent > run.told {
                            tell(server, Evidence::Unanswered, silent - run.told);
                            run.told = silent;
                        }
                    }
                }
            }
        }
    }

    /// Begins anew with a server: it was out, or is back.
    pub fn forget(&mut self, server: K) {
        self.servers.remove(&server);
    }

    /// What each server did since the last reading; of one that is new nothing can be said.
    fn steps(&mut self, readings: &[(K, u32, Handshakes)]) -> Vec<(K, Step)> {
        let mut steps = Vec::with_capacity(readings.len());
        let mut old = std::mem::take(&mut self.servers);
        for &(server, place, counts) in readings {
            let known = old.remove(&server).filter(|known| known.place == place);
            let mut run = None;
            if let Some(known) = known {
                let since = |now: u32, then: u32| now.wrapping_sub(then);
                let step = Step {
                    begun: since(counts.begun, known.counts.begun),
                    answered: since(counts.answered, known.counts.answered),
                    refused: since(counts.refused, known.counts.refused),
                };
                if step.answered > 0 {
                    let waited = since(counts.waited, known.counts.waited);
                    // A tick more: they are counted down.
                    let mean = self
                        .tick
                        .mul_f64(f64::from(waited) / f64::from(step.answered));
                    let slowest = self.slowest.unwrap_or_default();
                    let faded = slowest - slowest / FORGET;
                    self.slowest = Some(faded.max(mean + self.tick));
                }
                steps.push((server, step));
                run = known.run;
            }
            let known = Known { place, counts, run };
            self.servers.insert(server, known);
        }
        steps
    }
}

impl<K> Run<K> {
    /// How many the server left unanswered, by the measure of its siblings.
    fn unanswered(&self) -> u32 {
        let siblings = self.siblings.values();
        let alive = siblings.filter(|(begun, answered)| answered.saturating_mul(2) >= *begun);
        let measure = alive.map(|(_, answered)| *answered).max().unwrap_or(0);
        self.begun.saturating_sub(self.refused).min(measure)
    }
}

#[cfg(test)]
mod tests {
    use pointsman_model::check::PassiveCheck;

    use super::*;
    use crate::passive::Passive;

    const TICK: Duration = Duration::from_millis(4);
    const READING: u32 = 50;

    /// A service of two servers, read every 50 ms, each with a passive check.
    struct Lab {
        start: Instant,
        observer: Observer<usize>,
        counts: [Handshakes; 2],
        passive: [Passive; 2],
        /// Handshakes that are to be completed, and when.
        coming: Vec<(u32, usize, u32)>,
        now: u32,
    }

    impl Lab {
        fn new() -> Self {
            Self {
                start: Instant::now(),
                observer: Observer::new(TICK),
                counts: Default::default(),
                passive: [0, 1].map(|_| Passive::new(PassiveCheck::default())),
                coming: Vec::new(),
                now: 0,
            }
        }

        fn begin(&mut self, server: usize, takes: Option<u32>) {
            let counts = &mut self.counts[server];
            counts.begun += 1;
            counts.begun_since += 1;
            if let Some(takes) = takes {
                self.coming.push((self.now + takes, server, takes));
            }
        }

        fn refuse(&mut self, server: usize) {
            self.begin(server, None);
            self.counts[server].refused += 1;
            self.counts[server].refused_since += 1;
        }

        /// One millisecond; the servers that are out after it.
        fn step(&mut self) -> Vec<usize> {
            let (now, counts) = (self.now, &mut self.counts);
            self.coming.retain(|&(due, server, took)| {
                if due == now {
                    let counts = &mut counts[server];
                    counts.answered += 1;
                    (counts.begun_since, counts.refused_since) = (0, 0);
                    counts.waited += took / 4;
                }
                due != now
            });
            let mut out = Vec::new();
            if self.now.is_multiple_of(READING) {
                let at = self.start + Duration::from_millis(self.now.into());
                let readings = [0, 1].map(|server| (server, 7, self.counts[server]));
                let passive = &mut self.passive;
                self.observer
                    .read(at, &readings, &mut |server, evidence, count| {
                        if passive[server].evidence(at, evidence, count).is_some() {
                            out.push(server);
                        }
                    });
            }
            self.now += 1;
            out
        }

        /// 100 connections a second, by turns, completed after `takes`; `dead` answers nothing from `from`
        /// on, or refuses. When the first server is out, and which.
        fn traffic(
            &mut self,
            takes: [u32; 2],
            dead: Option<(usize, bool)>,
            until: u32,
        ) -> Option<(u32, usize)> {
            let from = self.now;
            while self.now < from + until {
                if self.now.is_multiple_of(10) {
                    let server = (self.now / 10 % 2) as usize;
                    match dead {
                        Some((dead, true)) if dead == server => self.refuse(server),
                        Some((dead, false)) if dead == server => self.begin(server, None),
                        _ => self.begin(server, Some(takes[server])),
                    }
                }
                if let Some(&server) = self.step().first() {
                    return Some((self.now - from, server));
                }
            }
            None
        }
    }

    #[test]
    fn a_dead_listener_of_two_is_out_within_300_ms() {
        for refuses in [true, false] {
            for offset in 0..50 {
                let mut lab = Lab::new();
                assert_eq!(lab.traffic([3, 3], None, 2000 + offset), None);
                let out = lab.traffic([3, 3], Some((1, refuses)), 1000);
                let (after, server) = out.expect("it is taken out");
                assert!(server == 1 && after <= 300, "{server} after {after} ms");
            }
        }
    }

    #[test]
    fn healthy_servers_stay_however_slow_their_clients_are() {
        for takes in [[1, 1], [1, 60], [90, 1], [300, 300], [700, 700]] {
            let mut lab = Lab::new();
            assert_eq!(lab.traffic(takes, None, 20_000), None, "{takes:?}");
            // Quiet, then many at once.
            for _ in 0..20 {
                for _ in 0..2000 {
                    assert_eq!(lab.step(), [0; 0]);
                }
                for n in 0..60 {
                    lab.begin(n % 2, Some(takes[n % 2]));
                }
                assert_eq!(lab.traffic(takes, None, 1500), None, "{takes:?}");
            }
            // One comes back among clients that are being served.
            lab.observer.forget(1);
            assert_eq!(lab.traffic(takes, None, 5000), None, "{takes:?}");
        }
    }

    #[test]
    fn a_flood_of_forged_clients_takes_nobody_out() {
        let mut lab = Lab::new();
        assert_eq!(lab.traffic([5, 5], None, 2000), None);
        let mut draw = 1u32;
        for n in 0..100_000 {
            for server in [0, 1] {
                (0..10).for_each(|_| lab.begin(server, None));
            }
            // A real client now and then, to a server drawn by lot: runs of ten are among them.
            if n % 10 == 0 {
                draw = draw.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                lab.begin((draw >> 31) as usize, Some(5));
            }
            assert_eq!(lab.step(), [0; 0], "after {n} ms");
        }
    }

    #[test]
    fn when_all_are_silent_it_is_not_their_fault() {
        let mut lab = Lab::new();
        assert_eq!(lab.traffic([5, 5], None, 2000), None);
        for n in 0..5000 {
            if n % 10 == 0 {
                lab.begin((n / 10 % 2) as usize, None);
            }
            assert_eq!(lab.step(), [0; 0]);
        }
        // Alone, too.
        let mut observer = Observer::new(TICK);
        let mut counts = Handshakes::default();
        for n in 0..100 {
            counts.begun += 5;
            counts.begun_since += 5;
            let now = Instant::now() + Duration::from_millis(50) * n;
            observer.read(now, &[(0, 0, counts)], &mut |_, evidence, _| {
                panic!("{evidence:?}")
            });
        }
    }

    #[test]
    fn what_came_before_an_answer_is_no_run() {
        let now = Instant::now();
        let mut observer = Observer::new(TICK);
        let mut told = Vec::new();
        let mut read = |counts| {
            observer.read(now, &[('s', 1, counts)], &mut |_, evidence, count| {
                told.push((evidence, count));
            });
            std::mem::take(&mut told)
        };
        let first = Handshakes {
            begun: 9,
            refused: 9,
            ..Handshakes::default()
        };
        assert_eq!(read(first), []);
        let mixed = Handshakes {
            begun: 20,
            refused: 16,
            answered: 3,
            begun_since: 4,
            refused_since: 2,
            waited: 0,
        };
        let wanted = [(Evidence::Answered, 3), (Evidence::Refused, 2)];
        assert_eq!(read(mixed), wanted);
        // Counted elsewhere, they are other counts.
        observer.read(now, &[('s', 2, first)], &mut |_, evidence, _| {
            panic!("{evidence:?}")
        });
    }
}
