//! Checks: each asked again a pause after its answer, all side by side.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use pointsman_config::ldirectord::{CheckType, Config, Virtual};
use pointsman_health::{Checker, Context, Outcome, Part};
use pointsman_model::{Check, ServerKey};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use crate::SharedCheck;
use crate::daemon::Event;
use crate::files::in_maintenance;

/// Checks that may be under way at once.
const AT_ONCE: usize = 512;

/// The checks of one configuration; they end when this is dropped.
pub(crate) struct Probes {
    tasks: Vec<AbortHandle>,
}

impl Drop for Probes {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Probes {
    /// Starts them. Their answers come as events of this generation.
    pub fn start<'a>(
        runtime: &Handle,
        config: &Config,
        checks: impl Iterator<Item = (&'a SharedCheck, &'a Virtual)>,
        generation: u64,
        events: &Sender<Event>,
    ) -> Self {
        let room = Arc::new(Semaphore::new(AT_ONCE));
        let mut tasks = Vec::new();
        for (place, (shared, service)) in checks.enumerate() {
            let Some(check) = config.check(service, &shared.real) else {
                continue;
            };
            let connects = match service.check_type {
                CheckType::Combined(connects) => Some(connects),
                _ => None,
            };
            let probe = Probe {
                place,
                check,
                connects,
                maintenance: config.globals.maintenance_dir.clone(),
                server: shared.real.key,
                generation,
                events: events.clone(),
                room: Arc::clone(&room),
            };
            tasks.push(runtime.spawn(probe.run()).abort_handle());
        }
        Self { tasks }
    }
}

struct Probe {
    place: usize,
    check: Check,
    /// Connects between two thorough checks.
    connects: Option<u32>,
    maintenance: Option<String>,
    server: ServerKey,
    generation: u64,
    events: Sender<Event>,
    room: Arc<Semaphore>,
}

impl Probe {
    async fn run(self) {
        let context = Context::default();
        let checker = Checker::new(&self.check, &context).map(Arc::new);
        // Connects since the last thorough check that was good; `None` asks for one.
        let mut connected: Option<u32> = None;
        loop {
            let began = Instant::now();
            let answer = if self.is_in_maintenance().await {
                Answered::Maintenance
            } else {
                let part = match (self.connects, connected) {
                    (None, _) => Part::Whole,
                    (Some(connects), Some(done)) if done < connects => Part::Connect,
                    (Some(_), _) => Part::Negotiate,
                };
                let outcome = match &checker {
                    Ok(checker) => self.ask(checker, part, &context).await,
                    Err(unusable) => Outcome::down(unusable),
                };
                connected = match (part, outcome.up) {
                    (Part::Negotiate, true) => Some(0),
                    (Part::Connect, true) => connected.map(|done| done + 1),
                    _ => None,
                };
                Answered::Outcome(outcome)
            };
            let event = Event::Answer {
                generation: self.generation,
                check: self.place,
                answer,
                took: began.elapsed(),
            };
            if self.events.send(event).is_err() {
                return;
            }
            tokio::time::sleep(self.check.pace.interval).await;
        }
    }

    /// In a task of its own: a checker that panics is only its own failure.
    async fn ask(&self, checker: &Arc<Checker>, part: Part, context: &Context) -> Outcome {
        let _place = self.room.acquire().await;
        let (checker, context) = (Arc::clone(checker), context.clone());
        let asked = tokio::spawn(async move { checker.probe(part, &context).await });
        let _stop = Stop(asked.abort_handle());
        match asked.await {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::error!("a check of {} broke: {error}", self.server.addr);
                Outcome::down("the check itself broke")
            }
        }
    }

    async fn is_in_maintenance(&self) -> bool {
        let Some(dir) = self.maintenance.clone() else {
            return false;
        };
        let server = self.server;
        let looked = tokio::task::spawn_blocking(move || in_maintenance(&dir, server));
        looked.await.unwrap_or(false)
    }
}

/// Ends a task with the one that waits for it.
struct Stop(AbortHandle);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a check gave.
pub(crate) enum Answered {
    Outcome(Outcome),
    Maintenance,
}
