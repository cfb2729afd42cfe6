//! What thousands of checks cost, and whether any is late.
//!
//! ```sh
//! cargo run --release -p pointsman-health --example load -- [CHECKS] [SECONDS]
//! ```
//!
//! In a network namespace of its own: CHECKS `TCP_CHECK`s (5,000), each every second, of listeners in this
//! process, for SECONDS (20) after a warm-up. Prints probes per second, processor time, and lateness.
//!
//! The processor time of the engine's thread has in it what the kernel does for it, which on `lo` is the server's
//! side of the connection too; that of the process has the listeners' threads as well.

mod stage;

use std::time::Duration;

use stage::Stage;

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|word| word.parse().expect("a number"));
    let checks: u32 = arguments.next().unwrap_or(5000);
    let seconds: u32 = arguments.next().unwrap_or(20);
    let stage = Stage::start(checks);
    std::thread::sleep(Duration::from_secs(4));
    let seen = stage.measure(Duration::from_secs(1) * seconds);
    println!(
        "{checks} checks: {:.0} probes/s, process {:.2} of a core, of which engine {:.2}, failures {}, \
         {:?} a check beside {:?} for a bare connection, late by more than 5 %: {}, lateness p50 {:?} p99 {:?}, worst ever {:?}",
        seen.probes as f64 / seen.length.as_secs_f64(),
        seen.process.as_secs_f64() / seen.length.as_secs_f64(),
        seen.engine.as_secs_f64() / seen.length.as_secs_f64(),
        seen.failures,
        seen.engine / u32::try_from(seen.probes).expect("not that many").max(1),
        stage.bare_connection(10_000),
        seen.late,
        seen.lateness(50),
        seen.lateness(99),
        seen.worst_lateness,
    );
}
