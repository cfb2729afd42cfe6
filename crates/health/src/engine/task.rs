//! The life of one check.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use pointsman_model::{Check, CheckKind};
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};

use super::status::Record;
use super::{Change, CheckId, Event, Order, Shared, lock};
use crate::check::Checker;
use crate::passive::{Evidence, Passive};
use crate::{Outcome, Weigh};

/// After failed connections of clients, a check asks at once, but not more often than this.
const HURRY_PERIOD: Duration = Duration::from_millis(500);

pub(super) struct Task<I> {
    pub(super) id: I,
    pub(super) check: Check,
    pub(super) record: Arc<Mutex<Record>>,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
    pub(super) shared: Arc<Shared<I>>,
    /// The weight that was told last.
    pub(super) weight: Option<Weigh>,
}

/// What woke a check.
enum Woken {
    Due(Instant),
    Told(Option<Order>),
    Happened,
}

impl<I: CheckId> Task<I> {
    pub(super) async fn run(mut self, checker: Option<Checker>) {
        match (checker, &self.check.kind) {
            (Some(checker), _) => self.probes(checker).await,
            (None, CheckKind::Passive(rules)) => {
                let passive = Passive::new(*rules);
                self.listens(passive).await;
            }
            (None, _) => {}
        }
    }

    async fn probes(&mut self, mut checker: Checker) {
        let mut hurried: Option<Instant> = None;
        loop {
            let due = lock(&self.record).schedule.due();
            let woken = tokio::select! {
                biased;
                order = self.orders.recv() => Woken::Told(order),
                at = wait(due) => Woken::Due(at),
                () = checker.changed() => Woken::Happened,
            };
            let now = Instant::now();
            match woken {
                Woken::Told(None) => return,
                Woken::Told(Some(order)) => {
                    let schedule = &mut lock(&self.record).schedule;
                    match order {
                        Order::Suspend => schedule.suspend(),
                        Order::Resume => schedule.resume(now),
                        Order::Hurry => schedule.hurry(now),
                        Order::Evidence(Evidence::Answered, _) => {}
                        Order::Evidence(Evidence::Refused | Evidence::Unanswered, _) => {
                            let rested =
                                hurried.is_none_or(|last| now.duration_since(last) >= HURRY_PERIOD);
                            if rested && schedule.is_up() {
                                hurried = Some(now);
                                schedule.hurry(now);
                            }
                        }
                    }
                }
                Woken::Happened => lock(&self.record).schedule.hurry(now),
                Woken::Due(due) => {
                    if let Some(anew) = self.probe(&checker, due).await {
                        checker = anew;
                    }
                }
            }
        }
    }

    /// One probe; gives a new checker if the old one broke.
    async fn probe(&mut self, checker: &Checker, due: Instant) -> Option<Checker> {
        let places = match self.check.kind {
            CheckKind::Script(_) => Arc::clone(&self.shared.scripts),
            _ => Arc::clone(&self.shared.network),
        };
        // The semaphore is never closed.
        let _place = places.acquire_owned().await.ok()?;
        let part = lock(&self.record).schedule.part();
        let began = Instant::now();
        let context = self.shared.context();
        let broken = match survive(checker.probe(part, &context), self.limit()).await {
            Ok(outcome) => {
                self.ended(due, began, outcome);
                return None;
            }
            Err(broken) => broken,
        };
        let reason = format!("the checker {broken}; it was made anew");
        lock(&self.record).restarts += 1;
        lock(&self.shared.totals).restarts += 1;
        self.tell(Change::Restarted, &reason, began.elapsed());
        self.ended(due, began, Outcome::down(reason));
        Checker::new(&self.check, &context).ok()
    }

    /// A good checker ends well before: each of its steps is bounded by the timeout. This is for one that
    /// is not good.
    fn limit(&self) -> Duration {
        self.check.pace.timeout * checker_steps(&self.check.kind) + Duration::from_secs(5)
    }

    fn ended(&mut self, due: Instant, began: Instant, outcome: Outcome) {
        let now = Instant::now();
        let took = now - began;
        let lateness = began.saturating_duration_since(due);
        let mut record = lock(&self.record);
        record.probes += 1;
        record.took = took;
        record.lateness = lateness;
        record.worst_lateness = record.worst_lateness.max(lateness);
        let failed = outcome.counts && !outcome.up;
        record.failures += u64::from(failed);
        {
            let mut totals = lock(&self.shared.totals);
            totals.probes += 1;
            totals.failures += u64::from(failed);
            let tolerance = record.schedule.tolerance();
            totals.late += u64::from(tolerance != Duration::ZERO && lateness > tolerance);
            totals.worst_lateness = totals.worst_lateness.max(lateness);
        }
        record.reason.clone_from(&outcome.reason);
        let judged = match outcome.counts {
            true => record.schedule.finished(began, now, outcome.up),
            false => {
                record.schedule.said_nothing(now);
                Default::default()
            }
        };
        if judged.change.is_some() {
            record.changed();
        }
        if outcome.up || !outcome.counts {
            record.weight = outcome.weight;
        }
        let (weight, up) = (record.weight, record.schedule.is_up());
        drop(record);
        let change = match judged.change {
            Some(true) => Change::Up,
            Some(false) => Change::Down,
            None if failed && (judged.forgiven.is_some() || self.check.log_all_failures) => {
                Change::Failed {
                    forgiven: judged.forgiven,
                }
            }
            None if failed => return,
            None if judged.first && up => Change::Confirmed,
            None if weight != self.weight => Change::Weight,
            None => return,
        };
        self.weight = weight;
        self.tell(change, &outcome.reason, took);
    }

    fn tell(&self, change: Change, reason: &str, took: Duration) {
        // Nobody listens only when the director is about to end.
        let _ = self.shared.events.send(Event {
            id: self.id.clone(),
            change,
            reason: reason.to_owned(),
            weight: self.weight,
            at: Instant::now(),
            took,
        });
    }

    /// A passive check: it asks nobody.
    async fn listens(&mut self, mut passive: Passive) {
        let mut reason = "no connection of a client failed yet";
        if self.check.alpha {
            passive.stays_out(Instant::now());
            reason = "it was out before";
        }
        {
            let mut record = lock(&self.record);
            record.passive_up = Some(passive.due().is_none());
            record.passive_due = passive.due();
            record.reason = reason.into();
        }
        let mut suspended = false;
        loop {
            let woken = tokio::select! {
                biased;
                order = self.orders.recv() => Woken::Told(order),
                at = wait(passive.due()) => Woken::Due(at),
            };
            let now = Instant::now();
            match woken {
                Woken::Told(None) => return,
                Woken::Told(Some(Order::Suspend)) => suspended = true,
                Woken::Told(Some(Order::Resume)) => suspended = false,
                Woken::Told(Some(Order::Hurry)) | Woken::Happened => {}
                Woken::Told(Some(Order::Evidence(evidence, count))) => {
                    if suspended {
                        continue;
                    }
                    if let Some(reason) = passive.evidence(now, evidence, count) {
                        self.stands(false, &reason, passive.due());
                    }
                }
                Woken::Due(_) => {
                    passive.come_back(now);
                    self.stands(true, "clients may try it again", None);
                }
            }
        }
    }

    fn stands(&self, up: bool, reason: &str, due: Option<Instant>) {
        let mut record = lock(&self.record);
        record.passive_up = Some(up);
        record.passive_due = due;
        record.failures += u64::from(!up);
        record.reason = reason.to_owned();
        record.changed();
        drop(record);
        let change = if up { Change::Up } else { Change::Down };
        self.tell(change, reason, Duration::ZERO);
    }
}

/// An answer, or how the checker broke: it may take no longer than `limit`, and a panic ends only it.
async fn survive(
    answer: impl Future<Output = Outcome>,
    limit: Duration,
) -> Result<Outcome, String> {
    let answer = AssertUnwindSafe(answer).catch_unwind();
    match timeout(limit, answer).await {
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(panic)) => {
            let words = panic
                .downcast_ref::<&str>()
                .map(|words| (*words).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            Err(format!("panicked: {words}"))
        }
        Err(_) => Err(format!("did not end within {limit:?}")),
    }
}

/// How many waits of one timeout each a probe may consist of, generously.
fn checker_steps(kind: &CheckKind) -> u32 {
    match kind {
        CheckKind::Tcp
        | CheckKind::Dns(_)
        | CheckKind::Udp(_)
        | CheckKind::File(_)
        | CheckKind::Bfd(_)
        | CheckKind::Always(_)
        | CheckKind::Passive(_)
        | CheckKind::Script(_)
        | CheckKind::Negotiate(_)
        | CheckKind::Combined(_)
        | CheckKind::Agent(_) => 3,
        CheckKind::Ping(ping) => ping.count.max(1) + 1,
        CheckKind::Http(_) | CheckKind::Smtp(_) => 12,
    }
}

/// Until `due`, or for ever.
async fn wait(due: Option<Instant>) -> Instant {
    match due {
        Some(due) => {
            sleep_until(due.into()).await;
            due
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_checker_that_panics_has_failed() {
        let limit = Duration::from_secs(60);
        let broken = survive(async { panic!("no such page") }, limit).await;
        assert_eq!(broken, Err("panicked: no such page".into()));
        let number = 7;
        let broken = survive(async { panic!("page {number}") }, limit).await;
        assert_eq!(broken, Err("panicked: page 7".into()));
    }

    #[tokio::test]
    async fn a_checker_that_hangs_has_failed() {
        let broken = survive(std::future::pending(), Duration::from_millis(20)).await;
        assert_eq!(broken, Err("did not end within 20ms".into()));
        let fine = survive(async { Outcome::up("fine") }, Duration::from_millis(20)).await;
        assert_eq!(fine, Ok(Outcome::up("fine")));
    }
}
