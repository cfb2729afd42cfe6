//! Many clients at once, for as long as somebody watches.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::http::{Reply, get_with};
use crate::{Error, Netns, wait_until};

/// Clients that fetch the page again and again, each time over a new connection.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    answered: AtomicU64,
    pages: Mutex<BTreeMap<String, u64>>,
    failures: Mutex<Vec<String>>,
    silence: Mutex<Silence>,
}

/// Time between answers.
#[derive(Debug, Default)]
struct Silence {
    last: Option<Instant>,
    longest: Duration,
}

impl Silence {
    fn answered(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            self.longest = self.longest.max(now.saturating_duration_since(last));
        }
    }
}

/// What a load saw.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Requests answered, by page.
    pub pages: BTreeMap<String, u64>,
    /// What went wrong, request by request.
    pub failures: Vec<String>,
    /// The longest time between two answers, whoever of the clients got them.
    pub silence: Duration,
}

impl Outcome {
    /// Requests answered.
    pub fn answered(&self) -> u64 {
        self.pages.values().sum()
    }
}

impl Shared {
    fn record(&self, outcome: Result<Reply, Error>) {
        match outcome {
            Ok(reply) => {
                self.silence.lock().unwrap().answered(Instant::now());
                *self.pages.lock().unwrap().entry(reply.body).or_default() += 1;
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => self.failures.lock().unwrap().push(error.to_string()),
        }
    }
}

impl Load {
    /// Starts `clients` threads in `netns`, as fast as they can. A request that takes longer than `patience` has
    /// failed: a connection that is retried by TCP (1 s) must not pass for one that worked.
    pub fn start(netns: &Netns, server: SocketAddrV4, clients: usize, patience: Duration) -> Self {
        Self::start_paced(netns, server, clients, patience, Duration::ZERO)
    }

    /// The same, each client resting between its requests: the load is there to notice failures,
    /// and leaves the machine to others.
    pub fn start_paced(
        netns: &Netns,
        server: SocketAddrV4,
        clients: usize,
        patience: Duration,
        rest: Duration,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let start_one = |_| {
            let shared = Arc::clone(&shared);
            netns.spawn(move || {
                while !shared.stop.load(Ordering::Relaxed) {
                    shared.record(get_with(server, "/", patience));
                    std::thread::sleep(rest);
                }
            })
        };
        let clients = (0..clients).map(start_one).collect();
        Self { shared, clients }
    }

    /// Waits until `count` more requests have been answered.
    ///
    /// # Errors
    /// When that takes longer than `limit`.
    pub fn wait_for(&self, count: u64, limit: Duration) -> Result<(), Error> {
        let goal = self.shared.answered.load(Ordering::Relaxed) + count;
        let done = || (self.shared.answered.load(Ordering::Relaxed) >= goal).then_some(());
        wait_until(format!("{count} more answers"), limit, done)
    }

    /// Forgets how long the silences were; the next one begins with the last answer.
    pub fn forget_silence(&self) {
        self.shared.silence.lock().unwrap().longest = Duration::ZERO;
    }

    /// Failures so far.
    pub fn failures(&self) -> usize {
        self.shared.failures.lock().unwrap().len()
    }

    /// Lets every client finish its request, and tells.
    pub fn stop(mut self) -> Outcome {
        self.end();
        let pages = std::mem::take(&mut *self.shared.pages.lock().unwrap());
        let failures = std::mem::take(&mut *self.shared.failures.lock().unwrap());
        let silence = self.shared.silence.lock().unwrap().longest;
        Outcome {
            pages,
            failures,
            silence,
        }
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}
