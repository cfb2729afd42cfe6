//! `realserver agent`: how much this server can take, in the words of HAProxy's agent-check.
//!
//! Whoever connects is told one line and no more: `up ready 73%` while the server takes connections,
//! `up drain` while it is being drained, `down` when it is not set up as it should be. The percentage is
//! of the weight that the director's configuration gives the server: what is free of its processors, and
//! less while connections wait to be accepted.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use pointsman_api::Location;

use super::connections::{self, Load};
use super::state::drain_mark;
use super::status;

/// How long a director may take to read a line.
const PATIENCE: Duration = Duration::from_secs(2);
/// Waiting connections at which nothing is free any more.
const BACKLOG: f64 = 128.0;

/// Answers until it is stopped.
pub fn serve(listen: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("listening on {listen}"))?;
    let here = Location::here()?;
    println!("agent listens on {listen}");
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, or a client that was quicker: neither lasts.
                eprintln!("pointsman realserver agent: {error}");
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        // One after the other: a line fits into any send buffer, so nobody waits for a slow reader.
        let mut stream = stream;
        let told = stream
            .set_write_timeout(Some(PATIENCE))
            .and_then(|()| stream.write_all(line(&here).as_bytes()));
        if let Err(error) = told {
            eprintln!("pointsman realserver agent: {error}");
        }
    }
}

/// Prints what a director would be told, and what it is made from.
pub fn once() -> Result<()> {
    let Load {
        connections,
        backlog,
    } = connections::load()?;
    let busy = 100.0 * processors_busy()?;
    print!("{}", line(&Location::here()?));
    println!("processors {busy:.0}% busy, {backlog} connections wait, {connections} are served");
    Ok(())
}

fn line(here: &Location) -> String {
    if drain_mark(here).exists() {
        return "up drain\n".to_owned();
    }
    if let Some(missing) = status::missing(here) {
        return format!("down #{missing}\n");
    }
    match (connections::load(), processors_busy()) {
        (Ok(load), Ok(busy)) => format!("up ready {}%\n", free(busy, load)),
        (Err(error), _) | (_, Err(error)) => format!("fail #{error:#}\n"),
    }
}

/// Percent of what the server could take; never 0, which would mean that it drains.
fn free(busy: f64, load: Load) -> u32 {
    let queued = f64::from(load.backlog) / BACKLOG;
    let used = busy.max(queued).clamp(0.0, 1.0);
    ((100.0 * (1.0 - used)).round() as u32).max(1)
}

/// Share of the processors that was wanted in the last minute; more than 1 where there was a queue.
fn processors_busy() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg").context("/proc/loadavg")?;
    let load: f64 = text
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .context("/proc/loadavg begins with a number")?;
    let processors = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(load / processors as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_free_falls_with_load_and_with_waiting_connections() {
        let cases = [
            (0.0, 0, 100),
            (0.25, 0, 75),
            (0.25, 64, 50),
            (3.0, 0, 1),
            (0.0, 9999, 1),
        ];
        for (busy, backlog, percent) in cases {
            let load = Load {
                connections: 0,
                backlog,
            };
            assert_eq!(free(busy, load), percent, "{busy} {backlog}");
        }
    }
}
