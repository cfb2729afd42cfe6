use std::time::{Duration, Instant, SystemTime};

use pointsman_model::Check;
use serde::{Deserialize, Serialize};

use crate::Weigh;
use crate::schedule::Schedule;

/// How a check stands, for status views and metrics.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckStatus {
    /// The checker's name, keepalived's where it has one.
    pub kind: String,
    /// Whether it counts as up.
    pub up: bool,
    /// Since when.
    pub since: SystemTime,
    /// What the last probe saw; before the first one, that there was none.
    pub reason: String,
    /// What it says of the weight.
    pub weight: Option<Weigh>,
    /// Time to the next probe; `None` while suspended, or until something happens.
    pub next_due: Option<Duration>,
    /// Whether checking is suspended.
    pub suspended: bool,
    /// Probes made.
    pub probes: u64,
    /// Of these, failed.
    pub failures: u64,
    /// Failures in a row that are forgiven so far.
    pub forgiven: u32,
    /// Times the checker panicked or hung and was made anew.
    pub restarts: u64,
    /// How long the last probe took.
    pub took: Duration,
    /// How much later than due the last probe began.
    pub lateness: Duration,
    /// The worst of these.
    pub worst_lateness: Duration,
}

/// Sums over all checks.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Probes made.
    pub probes: u64,
    /// Of these, failed.
    pub failures: u64,
    /// Begun later than due by more than 5 % of the check's interval.
    pub late: u64,
    /// The worst lateness.
    pub worst_lateness: Duration,
    /// Checkers made anew after they panicked or hung.
    pub restarts: u64,
}

/// What a task and its readers share.
pub(super) struct Record {
    kind: &'static str,
    pub(super) schedule: Schedule,
    since: SystemTime,
    pub(super) reason: String,
    pub(super) weight: Option<Weigh>,
    pub(super) probes: u64,
    pub(super) failures: u64,
    pub(super) restarts: u64,
    pub(super) took: Duration,
    pub(super) lateness: Duration,
    pub(super) worst_lateness: Duration,
    /// A verdict that the schedule does not hold: of a passive check.
    pub(super) passive_up: Option<bool>,
    pub(super) passive_due: Option<Instant>,
}

impl Record {
    pub(super) fn new(check: &Check, schedule: Schedule) -> Self {
        Self {
            kind: check.kind.name(),
            schedule,
            since: SystemTime::now(),
            reason: "not probed yet".into(),
            weight: None,
            probes: 0,
            failures: 0,
            restarts: 0,
            took: Duration::ZERO,
            lateness: Duration::ZERO,
            worst_lateness: Duration::ZERO,
            passive_up: None,
            passive_due: None,
        }
    }

    /// The standing changed just now.
    pub(super) fn changed(&mut self) {
        self.since = SystemTime::now();
    }

    pub(super) fn status(&self, now: Instant) -> CheckStatus {
        let due = match self.passive_up {
            Some(_) => self.passive_due,
            None => self.schedule.due(),
        };
        CheckStatus {
            kind: self.kind.to_owned(),
            up: self.passive_up.unwrap_or_else(|| self.schedule.is_up()),
            since: self.since,
            reason: self.reason.clone(),
            weight: self.weight,
            next_due: due.map(|due| due.saturating_duration_since(now)),
            suspended: self.schedule.is_suspended(),
            probes: self.probes,
            failures: self.failures,
            forgiven: self.schedule.failures(),
            restarts: self.restarts,
            took: self.took,
            lateness: self.lateness,
            worst_lateness: self.worst_lateness,
        }
    }
}
