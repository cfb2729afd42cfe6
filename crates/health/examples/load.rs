//! What thousands of checks cost, and whether any is late.
//!
//! ```sh
//! cargo run --release -p pointsman-health --example load -- [CHECKS] [SECONDS]
//! ```
//!
//! In a network namespace of its own: CHECKS `TCP_CHECK`s (5,000), each every second, of listeners in this
//! process, for SECONDS (20) after a warm-up. Prints probes per second, the processor time of the engine's
//! thread (with what the kernel does for it, which on `lo` is the server's side too), and lateness.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use pointsman_health::{Context, Engine};
use pointsman_model::{Check, CheckKind, Counting, Pace, ProbeTarget};
use pointsman_testkit::{Names, Netns};

/// Listeners; the checks' targets are spread over these and over addresses of 127/8.
const PORTS: u16 = 20;

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|word| word.parse().expect("a number"));
    let checks: u32 = arguments.next().unwrap_or(5000);
    let seconds: u32 = arguments.next().unwrap_or(20);
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
    let check = |n: u32| {
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
    };
    let (engine, _events) = netns.run(|| Engine::start(Context::default()).expect("a thread"));
    let problems = engine.set((0..checks).map(|n| (n, check(n))));
    assert!(problems.is_empty(), "{problems:?}");
    thread::sleep(Duration::from_secs(4));
    let (before, cpu, began) = (engine.totals(), engine_seconds(), Instant::now());
    thread::sleep(Duration::from_secs(1) * seconds);
    let (after, cpu, took) = (engine.totals(), engine_seconds() - cpu, began.elapsed());
    let mut lateness: Vec<_> = engine.snapshot().iter().map(|(_, s)| s.lateness).collect();
    lateness.sort_unstable();
    println!(
        "{checks} checks: {:.0} probes/s, engine {:.2} of a core, failures {}, late by more than 5 %: {}, \
         lateness p50 {:?} p99 {:?}, worst ever {:?}",
        (after.probes - before.probes) as f64 / took.as_secs_f64(),
        cpu / took.as_secs_f64(),
        after.failures - before.failures,
        after.late - before.late,
        lateness[lateness.len() / 2],
        lateness[lateness.len() * 99 / 100],
        after.worst_lateness,
    );
}

/// Processor time of the thread named `health`, seconds: fields 14 and 15 of its `stat`, proc_pid_stat(5).
fn engine_seconds() -> f64 {
    let tasks = fs::read_dir("/proc/self/task").expect("/proc");
    let ticks: u64 = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("stat")).ok())
        .filter(|stat| stat.contains("(health)"))
        .flat_map(|stat| {
            let fields = stat.rsplit(") ").next().unwrap_or_default().to_owned();
            let times: Vec<u64> = fields
                .split(' ')
                .skip(11)
                .take(2)
                .filter_map(|field| field.parse().ok())
                .collect();
            times
        })
        .sum();
    ticks as f64 / 100.0
}
