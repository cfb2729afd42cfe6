//! When a check asks next, and what. Pure: time comes in, nothing sleeps.

use std::time::{Duration, Instant};

use pointsman_model::{Check, CheckKind, Counting};

use crate::check::Part;
use crate::verdict::{Judged, Verdict};

/// keepalived's pause before the very first probe.
const START: Duration = Duration::from_secs(1);
/// ldirectord asks at once; its checks are spread over this share of their interval, so that thousands
/// do not start in the same millisecond.
const SPREAD: f64 = 0.1;

/// The timetable of one check, with its verdict.
#[derive(Clone, Debug)]
pub struct Schedule {
    counting: Counting,
    interval: Duration,
    retry_delay: Duration,
    sequence: Sequence,
    from_start: bool,
    on_events: bool,
    verdict: Verdict,
    due: Option<Instant>,
    suspended: bool,
}

/// The questions of a check, where there are several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sequence {
    /// One question.
    Single,
    /// The urls of an HTTP check.
    Urls { count: usize, fast: bool, at: Urls },
    /// ldirectord's `checktype=N`: this many connects are left until the next negotiate.
    Combined { connects: u32, left: u32 },
}

/// Where in its urls an HTTP check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Urls {
    /// Up: one after the other.
    Round(usize),
    /// Down: only the one that failed.
    Failed(usize),
    /// On the way up: all of them, from the first.
    Recovery(usize),
}

impl Schedule {
    /// A timetable that begins `now`. `random` is uniform in 0..1.
    pub fn new(check: &Check, now: Instant, random: f64) -> Self {
        let pace = &check.pace;
        let on_events = matches!(check.kind, CheckKind::File(_) | CheckKind::Bfd(_));
        let sequence = match &check.kind {
            CheckKind::Http(http) => Sequence::Urls {
                count: http.urls.len().max(1),
                fast: http.fast_recovery,
                // What is down at the start comes up after one pass over all, as a server that recovers.
                at: match check.alpha {
                    true => Urls::Recovery(0),
                    false => Urls::Round(0),
                },
            },
            CheckKind::Combined(combined) => Sequence::Combined {
                connects: combined.connects,
                left: 0,
            },
            _ => Sequence::Single,
        };
        let wait = match pace.counting {
            _ if on_events => Duration::ZERO,
            Counting::Retries => START + pace.warmup.mul_f64(random),
            Counting::Rounds => pace.interval.mul_f64(SPREAD * random),
        };
        let retries = if on_events { 0 } else { pace.retries };
        Self {
            counting: pace.counting,
            interval: pace.interval,
            retry_delay: pace.retry_delay,
            sequence,
            from_start: pace.counting == Counting::Retries
                && matches!(check.kind, CheckKind::Script(_)),
            on_events,
            verdict: Verdict::new(pace.counting, retries, check.alpha),
            due: Some(now + wait),
            suspended: false,
        }
    }

    /// When the next probe is due; `None` while suspended, or until something happens.
    pub fn due(&self) -> Option<Instant> {
        self.due.filter(|_| !self.suspended)
    }

    /// What the next probe asks.
    pub fn part(&self) -> Part {
        match self.sequence {
            Sequence::Single => Part::Whole,
            Sequence::Urls { at, .. } => {
                let (Urls::Round(url) | Urls::Failed(url) | Urls::Recovery(url)) = at;
                Part::Url(url)
            }
            Sequence::Combined { left: 0, .. } => Part::Negotiate,
            Sequence::Combined { .. } => Part::Connect,
        }
    }

    /// Whether the server counts as up.
    pub fn is_up(&self) -> bool {
        self.verdict.is_up()
    }

    /// Failures in a row while up, forgiven so far.
    pub fn failures(&self) -> u32 {
        self.verdict.failures()
    }

    /// Whether checking is suspended.
    pub fn is_suspended(&self) -> bool {
        self.suspended
    }

    /// How long after its due time a probe may begin before it counts as late: 5 % of the interval.
    pub fn tolerance(&self) -> Duration {
        self.interval / 20
    }

    /// Takes over the standing of the check that this one replaces.
    pub fn inherit(&mut self, old: &Self) {
        self.verdict.inherit(&old.verdict);
        self.suspended = old.suspended;
        if let Sequence::Urls { at, .. } = &mut self.sequence {
            *at = match self.verdict.is_up() {
                true => Urls::Round(0),
                false => Urls::Recovery(0),
            };
        }
    }

    /// No probes until [`Self::resume`]; the standing stays.
    pub fn suspend(&mut self) {
        self.suspended = true;
    }

    /// Probes go on: what fell due meanwhile is due `now`.
    pub fn resume(&mut self, now: Instant) {
        if std::mem::take(&mut self.suspended) {
            self.due = self.due.map(|due| due.max(now));
        }
    }

    /// Brings the next probe forward to `now`: there is reason to look.
    pub fn hurry(&mut self, now: Instant) {
        self.due = Some(self.due.map_or(now, |due| due.min(now)));
    }

    /// A probe that began at `began` has ended `now`.
    pub fn finished(&mut self, began: Instant, now: Instant, good: bool) -> Judged {
        let (judged, pause) = match (self.sequence, good) {
            (Sequence::Urls { count, fast, at }, _) => self.url_finished(count, fast, at, good),
            (Sequence::Single, true) => (self.verdict.good(), self.interval),
            (Sequence::Combined { connects, left }, true) => {
                let left = if left == 0 { connects } else { left - 1 };
                self.sequence = Sequence::Combined { connects, left };
                (self.verdict.good(), self.interval)
            }
            (Sequence::Single | Sequence::Combined { .. }, false) => {
                if let Sequence::Combined { left, .. } = &mut self.sequence {
                    *left = 0;
                }
                self.bad()
            }
        };
        let since = if self.from_start { began } else { now };
        self.due = (!self.on_events).then_some((since + pause).max(now));
        judged
    }

    /// A probe has ended `now` without a word on the server.
    pub fn said_nothing(&mut self, now: Instant) {
        self.due = (!self.on_events).then_some(now + self.interval);
    }

    fn url_finished(
        &mut self,
        count: usize,
        fast: bool,
        at: Urls,
        good: bool,
    ) -> (Judged, Duration) {
        let recovery_pause = if fast { Duration::ZERO } else { self.interval };
        let (at, answer) = match (at, good) {
            (Urls::Round(url), true) => {
                let next = (url + 1) % count;
                let judged = match next {
                    0 => self.verdict.good(),
                    _ => self.verdict.good_so_far(),
                };
                (Urls::Round(next), (judged, self.interval))
            }
            (Urls::Round(url), false) => {
                let answer = self.bad();
                let at = match self.verdict.is_up() {
                    true => Urls::Round(url),
                    false => Urls::Failed(url),
                };
                (at, answer)
            }
            (Urls::Failed(_), true) => (
                Urls::Recovery(0),
                (self.verdict.good_so_far(), recovery_pause),
            ),
            (Urls::Recovery(url), true) if url + 1 < count => (
                Urls::Recovery(url + 1),
                (self.verdict.good_so_far(), recovery_pause),
            ),
            (Urls::Recovery(_), true) => (Urls::Round(0), (self.verdict.good(), self.interval)),
            (Urls::Failed(url) | Urls::Recovery(url), false) => (Urls::Failed(url), self.bad()),
        };
        self.sequence = Sequence::Urls { count, fast, at };
        let (judged, mut pause) = answer;
        if let Urls::Failed(_) = at {
            pause = pause.max(self.retry_delay);
        }
        (judged, pause)
    }

    /// A failure, and the pause after it.
    fn bad(&mut self) -> (Judged, Duration) {
        let judged = self.verdict.bad();
        let pause = match (judged.forgiven, self.counting) {
            (Some(_), Counting::Retries) => self.retry_delay,
            _ => self.interval,
        };
        (judged, pause)
    }
}

#[cfg(test)]
mod tests;
