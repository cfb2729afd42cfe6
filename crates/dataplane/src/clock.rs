//! The kernel's clock: how many jiffies a second has, and how many there were.

use std::thread;
use std::time::{Duration, Instant};

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};

use crate::Error;

/// Jiffies of now, by running a program that returns them.
pub(crate) fn jiffies(clock: &SchedClassifier) -> Result<u32, Error> {
    let frame = [0u8; 14];
    let options = TestRunOptions {
        data_in: Some(&frame),
        repeat: 1,
        ..TestRunOptions::default()
    };
    clock
        .test_run(options)
        .map(|run| run.return_value)
        .map_err(|e| Error::bpf("asking the kernel for its jiffies", e))
}

/// Jiffies per second: the usual value nearest to what a tenth of a second shows.
pub(crate) fn measure_hz(clock: &SchedClassifier) -> Result<u32, Error> {
    let (begin, first) = (Instant::now(), jiffies(clock)?);
    thread::sleep(Duration::from_millis(100));
    let (last, elapsed) = (jiffies(clock)?, begin.elapsed());
    let measured = f64::from(last.wrapping_sub(first)) / elapsed.as_secs_f64();
    let distance = |hz: &u32| (f64::from(*hz) - measured).abs() as u32;
    Ok([100, 250, 300, 1000]
        .into_iter()
        .min_by_key(distance)
        .expect("not empty"))
}
