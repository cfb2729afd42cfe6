//! Listeners, an engine that checks them each second, and what is seen of it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use pointsman_health::{Context, Engine};
use pointsman_model::{Check, CheckKind, Counting, Pace, ProbeTarget};
use pointsman_testkit::{Names, Netns};

/// Listeners; the checks' targets are spread over these and over addresses of 127/8.
const PORTS: u16 = 20;

/// A namespace with listeners, checked by an engine of this process.
pub struct Stage {
    engine: Engine<u32>,
    netns: Netns,
}

/// What was seen in some time.
pub struct Seen {
    /// That time.
    pub length: Duration,
    /// Probes that ended.
    pub probes: u64,
    /// Of these, failed.
    pub failures: u64,
    /// Begun later than due by more than 5 % of their interval.
    pub late: u64,
    /// Processor time of the engine's thread.
    pub engine: Duration,
    /// Of the whole process.
    pub process: Duration,
    /// Of each check's last probe, the least first.
    lateness: Vec<Duration>,
    /// Since the engine started.
    pub worst_lateness: Duration,
}

impl Seen {
    /// So many percent of the checks were no later than this.
    pub fn lateness(&self, percent: usize) -> Duration {
        self.lateness[(self.lateness.len() - 1) * percent / 100]
    }
}

impl Stage {
    /// Starts `checks` checks, each every second.
    pub fn start(checks: u32) -> Self {
        let netns = Netns::new(&Names::transient(), "load").expect("root, and iproute2");
        for port in 1..=PORTS {
            let listener =
                netns.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a port"));
            // SAFETY: listen on an open socket only changes its backlog.
            unsafe { libc::listen(listener.as_raw_fd(), 4096) };
            thread::spawn(move || {
                for stream in listener.incoming() {
                    drop(stream);
                }
            });
        }
        let (engine, _events) = netns.run(|| Engine::start(Context::default()).expect("a thread"));
        let problems = engine.set((0..checks).map(|n| (n, check(n))));
        assert!(problems.is_empty(), "{problems:?}");
        Self { engine, netns }
    }

    /// Processor time of a connection that is made and closed, the mean of so many.
    pub fn bare_connection(&self, count: u32) -> Duration {
        self.netns.run(|| {
            let before = thread_time();
            for n in 0..count {
                let port = u16::try_from(n % u32::from(PORTS)).expect("small") + 1;
                drop(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens"));
            }
            (thread_time() - before) / count
        })
    }

    /// Watches for so long.
    pub fn measure(&self, length: Duration) -> Seen {
        let (before, engine, process) = (self.engine.totals(), engine_time(), process_time());
        let began = Instant::now();
        thread::sleep(length);
        let (after, length) = (self.engine.totals(), began.elapsed());
        let (engine, process) = (engine_time() - engine, process_time() - process);
        let checks = self.engine.snapshot();
        let mut lateness: Vec<_> = checks.iter().map(|(_, check)| check.lateness).collect();
        lateness.sort_unstable();
        Seen {
            length,
            probes: after.probes - before.probes,
            failures: after.failures - before.failures,
            late: after.late - before.late,
            engine,
            process,
            lateness,
            worst_lateness: after.worst_lateness,
        }
    }
}

/// Processor time of the calling thread.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    time.expect("every thread has such a clock").into()
}

fn check(n: u32) -> Check {
    let [_, _, high, low] = (n / u32::from(PORTS) + 1).to_be_bytes();
    let addr = IpAddr::from([127, 0, high, low]);
    let port = u16::try_from(n % u32::from(PORTS)).expect("small") + 1;
    Check {
        kind: CheckKind::Tcp,
        target: ProbeTarget::new(addr, port),
        pace: Pace {
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            retries: 1,
            retry_delay: Duration::from_millis(200),
            warmup: Duration::from_secs(1),
            counting: Counting::Retries,
        },
        alpha: false,
        log_all_failures: false,
    }
}

fn process_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("of oneself it is always allowed");
    let micros = (usage.user_time() + usage.system_time()).num_microseconds();
    Duration::from_micros(micros.unsigned_abs())
}

/// Processor time of the thread named `health`, in nanoseconds: the first field of its `schedstat`.
fn engine_time() -> Duration {
    let tasks = fs::read_dir("/proc/self/task").expect("/proc");
    let nanos = tasks.flatten().find_map(|task| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let times = fs::read_to_string(task.path().join("schedstat")).ok()?;
        (name.trim() == "health").then(|| times.split(' ').next()?.parse().ok())?
    });
    Duration::from_nanos(nanos.expect("the engine runs"))
}
