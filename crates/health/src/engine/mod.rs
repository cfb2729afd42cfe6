//! Runs thousands of checks and tells what changed.
//!
//! The engine has a thread of its own, so that whatever else the director does delays no probe. On
//! it each check is a task: it sleeps until its probe is due, takes a place among those that run at the
//! same time, asks, and hands the answer to its [`Schedule`](crate::schedule::Schedule). A checker that panics, or
//! does not end in its time, has failed once and is made anew.

mod status;
mod task;

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pointsman_model::{Check, CheckKind};
use pointsman_script::Policy;
use rand::RngExt;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::AbortHandle;

use crate::check::{Checker, Unusable};
use crate::passive::Evidence;
use crate::schedule::Schedule;
use crate::{Context, Weigh};

use status::Record;
pub use status::{CheckStatus, Totals};

/// Probes that run at the same time, where file descriptors allow it.
const NETWORK_PROBES: usize = 4096;
/// Commands that run at the same time.
const SCRIPTS: usize = 512;

/// What names a check to its owner.
pub trait CheckId: Clone + Eq + Hash + Debug + Send + Sync + 'static {}
impl<T: Clone + Eq + Hash + Debug + Send + Sync + 'static> CheckId for T {}

/// Something changed.
#[derive(Clone, Debug)]
pub struct Event<I> {
    /// Which check.
    pub id: I,
    /// What.
    pub change: Change,
    /// What was seen, for an operator.
    pub reason: String,
    /// What the check says of the weight now; of the last probe that said something.
    pub weight: Option<Weigh>,
    /// When the probe ended.
    pub at: Instant,
    /// How long it took.
    pub took: Duration,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The check is good now.
    Up,
    /// The check is bad now.
    Down,
    /// The first answer, and it confirms the standing the check began with.
    Confirmed,
    /// Up before and after; the weight is another.
    Weight,
    /// A failed probe that changes nothing: of a check that is down (only with `log_all_failures`), or
    /// forgiven.
    Failed {
        /// Which one in a row, and how many take the server out; `None` if it is out already.
        forgiven: Option<(u32, u32)>,
    },
    /// The checker panicked or hung, and was made anew.
    Restarted,
}

/// The running checks.
pub struct Engine<I> {
    shared: Arc<Shared<I>>,
    runtime: Handle,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

/// What the engine and its tasks have in common.
struct Shared<I> {
    /// Another one for other script rules; probes go on with what they began with.
    context: Mutex<Arc<Context>>,
    events: mpsc::UnboundedSender<Event<I>>,
    network: Arc<Semaphore>,
    scripts: Arc<Semaphore>,
    checks: Mutex<HashMap<I, Running>>,
    totals: Mutex<Totals>,
}

impl<I> Shared<I> {
    fn context(&self) -> Arc<Context> {
        Arc::clone(&lock(&self.context))
    }
}

/// One check of the table.
struct Running {
    check: Check,
    /// The script rules that held when it began.
    scripts: Policy,
    record: Arc<Mutex<Record>>,
    orders: mpsc::UnboundedSender<Order>,
    task: Option<AbortHandle>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// What a task is told.
enum Order {
    Suspend,
    Resume,
    Hurry,
    Evidence(Evidence, u32),
}

impl<I: CheckId> Engine<I> {
    /// Starts the engine's thread, in the network namespace of the caller. Events come out of the
    /// receiver.
    ///
    /// # Errors
    /// When the system gives no thread or no event queue.
    pub fn start(context: Context) -> io::Result<(Self, mpsc::UnboundedReceiver<Event<I>>)> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("health".into())
            .spawn(move || runtime.block_on(stopped.notified()))?;
        let (events, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            context: Mutex::new(Arc::new(context)),
            events,
            network: Arc::new(Semaphore::new(network_probes())),
            scripts: Arc::new(Semaphore::new(SCRIPTS)),
            checks: Mutex::default(),
            totals: Mutex::default(),
        });
        let engine = Self {
            shared,
            runtime: handle,
            stop,
            thread: Some(thread),
        };
        Ok((engine, receiver))
    }

    /// As whom scripts run from the next [`Self::set`] on, and which are refused.
    pub fn set_scripts(&self, policy: Policy) {
        let mut context = lock(&self.shared.context);
        *context = Arc::new(Context {
            scripts: policy,
            ..Context::clone(&context)
        });
    }

    /// Makes these the running checks. A check that is there already, by the same id and equal,
    /// goes on undisturbed; one that is configured otherwise, or a script for which other rules hold, begins
    /// anew, but keeps its standing. Those
    /// that cannot work are given back, each with its reason; they stand as they began.
    pub fn set(&self, checks: impl IntoIterator<Item = (I, Check)>) -> Vec<(I, Unusable)> {
        let mut unusable = Vec::new();
        let context = self.shared.context();
        let mut table = lock(&self.shared.checks);
        let mut old = std::mem::take(&mut *table);
        for (id, check) in checks {
            let running = match old.remove(&id) {
                Some(running)
                    if running.check == check
                        && (running.scripts == context.scripts
                            || !matches!(check.kind, CheckKind::Script(_))) =>
                {
                    running
                }
                replaced => {
                    let (running, problem) = self.begin(&id, check, replaced.as_ref(), &context);
                    unusable.extend(problem.map(|problem| (id.clone(), problem)));
                    running
                }
            };
            table.insert(id, running);
        }
        unusable
    }

    fn begin(
        &self,
        id: &I,
        check: Check,
        replaced: Option<&Running>,
        context: &Context,
    ) -> (Running, Option<Unusable>) {
        let mut schedule = Schedule::new(&check, Instant::now(), rand::rng().random());
        if let Some(replaced) = replaced {
            schedule.inherit(&lock(&replaced.record).schedule);
        }
        let mut record = Record::new(&check, schedule);
        let (orders, receiver) = mpsc::unbounded_channel();
        let made = match check.kind {
            CheckKind::Passive(_) => Ok(None),
            _ => Checker::new(&check, context).map(Some),
        };
        let (task, problem) = match made {
            Ok(checker) => {
                let record = Arc::new(Mutex::new(record));
                let task = task::Task {
                    id: id.clone(),
                    check: check.clone(),
                    record: Arc::clone(&record),
                    orders: receiver,
                    shared: Arc::clone(&self.shared),
                    weight: None,
                };
                let task = self.runtime.spawn(task.run(checker)).abort_handle();
                return (
                    Running {
                        check,
                        scripts: context.scripts.clone(),
                        record,
                        orders,
                        task: Some(task),
                    },
                    None,
                );
            }
            Err(problem) => (None, problem),
        };
        record.reason = format!("cannot be checked: {problem}");
        let running = Running {
            check,
            scripts: context.scripts.clone(),
            record: Arc::new(Mutex::new(record)),
            orders,
            task,
        };
        (running, Some(problem))
    }

    /// No more probes of these until [`Self::resume`]; their standing stays (`ha_suspend`).
    pub fn suspend<'a>(&self, ids: impl IntoIterator<Item = &'a I>) {
        ids.into_iter()
            .for_each(|id| self.order(id, Order::Suspend));
    }

    /// Probes of these go on.
    pub fn resume<'a>(&self, ids: impl IntoIterator<Item = &'a I>) {
        ids.into_iter().for_each(|id| self.order(id, Order::Resume));
    }

    /// Brings a check's next probe forward to now.
    pub fn hurry(&self, id: &I) {
        self.order(id, Order::Hurry);
    }

    /// What happened to connections of a server. To its passive check this is what it decides by; another
    /// check asks at once when connections fail, so that it need not wait for its turn.
    pub fn evidence(&self, id: &I, evidence: Evidence, count: u32) {
        self.order(id, Order::Evidence(evidence, count));
    }

    fn order(&self, id: &I, order: Order) {
        if let Some(running) = lock(&self.shared.checks).get(id) {
            // The task is gone only when the check is.
            let _ = running.orders.send(order);
        }
    }

    /// How every check stands, in no order.
    pub fn snapshot(&self) -> Vec<(I, CheckStatus)> {
        let now = Instant::now();
        lock(&self.shared.checks)
            .iter()
            .map(|(id, running)| (id.clone(), lock(&running.record).status(now)))
            .collect()
    }

    /// How one check stands.
    pub fn status(&self, id: &I) -> Option<CheckStatus> {
        let checks = lock(&self.shared.checks);
        Some(lock(&checks.get(id)?.record).status(Instant::now()))
    }

    /// Sums over all checks that ever ran here.
    pub fn totals(&self) -> Totals {
        lock(&self.shared.totals).clone()
    }
}

/// Ends all checks and the thread; scripts that run are ended too.
impl<I> Drop for Engine<I> {
    fn drop(&mut self) {
        lock(&self.shared.checks).clear();
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            // It cannot have panicked: tasks that panic are caught.
            let _ = thread.join();
        }
    }
}

/// How many probes may hold a socket at the same time. The limit of open files is raised as far as the
/// process may; half of it is left to others.
fn network_probes() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, hard)| {
        let wanted = hard.min(65_536).max(soft);
        match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
            Ok(()) => wanted,
            Err(_) => soft,
        }
    });
    NETWORK_PROBES.min(usize::try_from(limit / 2).unwrap_or(NETWORK_PROBES))
}

/// What a panic left is still true: every holder writes whole values.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
