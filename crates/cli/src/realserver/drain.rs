//! `realserver drain` and `ready`.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pointsman_api::Location;

use super::connections;
use super::state::{Mode, State, drain_mark};

/// How often connections are counted.
const LOOK: Duration = Duration::from_millis(200);
/// How often it is said how many there are.
const TELL: Duration = Duration::from_secs(5);

/// Has the agent say that no new connections are wanted, and waits until there is none left; false when the
/// time is over before.
pub fn drain(timeout: Option<u64>, ports: &[u16]) -> Result<bool> {
    let here = Location::here()?;
    let Some(state) = State::load(&here)? else {
        bail!("not set up as a real server: `pointsman realserver up` first");
    };
    if !state.mode.has_vips() && ports.is_empty() {
        let mode: Mode = state.mode;
        bail!(
            "in mode {} there is no VIP to go by: --port PORT",
            mode.word()
        );
    }
    let mark = drain_mark(&here);
    fs::write(&mark, "").with_context(|| mark.display().to_string())?;
    let start = Instant::now();
    let mut told: Option<Instant> = None;
    loop {
        let left = connections::count(&state.vips, ports)?;
        if left == 0 {
            println!("drained");
            return Ok(true);
        }
        let over = timeout.is_some_and(|limit| start.elapsed() >= Duration::from_secs(limit));
        if over || told.is_none_or(|told| told.elapsed() >= TELL) {
            println!("{left} connections left");
            told = Some(Instant::now());
        }
        if over {
            return Ok(false);
        }
        sleep(LOOK);
    }
}

/// Takes new connections again.
pub fn ready() -> Result<()> {
    let mark = drain_mark(&Location::here()?);
    match fs::remove_file(&mark) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("not draining");
        }
        done => done.with_context(|| mark.display().to_string()),
    }
}
