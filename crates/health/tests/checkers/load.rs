//! What a check costs beside the connection it makes, and how late it is beside a plain sleep.

use std::thread;
use std::time::{Duration, Instant};

use crate::stage::Stage;

const CHECKS: u32 = 1000;
const LENGTH: Duration = Duration::from_secs(5);

/// How much too late a thread of its own is that sleeps as long as an engine that has a check due.
fn lateness_of_a_sleep(length: Duration) -> Duration {
    let began = Instant::now();
    let mut worst = Duration::ZERO;
    let nap = Duration::from_millis(1);
    while began.elapsed() < length {
        let due = Instant::now() + nap;
        thread::sleep(nap);
        worst = worst.max(due.elapsed());
    }
    worst
}

/// Ratios within one run, with wide bounds: the machine may be busy, and this is no release build.
#[test]
fn a_thousand_checks_a_second_cost_little_more_than_their_connections() {
    let stage = Stage::start(CHECKS);
    thread::sleep(Duration::from_secs(3));
    let sleeper = thread::spawn(|| lateness_of_a_sleep(LENGTH));
    let seen = stage.measure(LENGTH);
    let sleep = sleeper.join().unwrap();
    let bare = stage.bare_connection(CHECKS);
    let each = seen.engine / u32::try_from(seen.probes).unwrap().max(1);
    println!(
        "{each:?} a check, {bare:?} a bare connection; {} of {} late, {:?} (90 %), a sleep {sleep:?} at worst",
        seen.late,
        seen.probes,
        seen.lateness(90)
    );
    assert_eq!(seen.failures, 0);
    assert!(each < 12 * bare, "{each:?} a check, {bare:?} a connection");
    assert!(
        seen.lateness(90) < 4 * sleep + Duration::from_millis(20),
        "{:?} late, a sleep {sleep:?}",
        seen.lateness(90)
    );
    // As many as are due, but for what the same lateness takes.
    let due = f64::from(CHECKS) * seen.length.as_secs_f64();
    let share = 1.0 / (1.0 + 4.0 * (sleep.as_secs_f64() + 0.02));
    assert!(
        seen.probes as f64 > 0.9 * due * share,
        "{} of {due}",
        seen.probes
    );
}
