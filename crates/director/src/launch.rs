//! Directors of other processes: starting one in the background, stopping one.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman_api::{Client, Location, StopReport};
use pointsman_dataplane::HookChoice;

use crate::error::file;
use crate::{Error, Options, checks, home, teardown};

/// How long a director may take until it answers. Loading programs takes a second; on a machine
/// that is busy with other things it was seen to take twenty.
const START_DEADLINE: Duration = Duration::from_secs(90);
/// How long it may take to end after it has answered the stop.
const END_DEADLINE: Duration = Duration::from_secs(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);
/// Lines of its log shown when it does not start.
const LOG_LINES: usize = 12;
/// And so much of each.
const LOG_COLUMNS: usize = 300;

/// What [`stop`] found and did.
#[derive(Debug)]
pub enum Stopped {
    /// A director ran and has ended.
    Ended(StopReport),
    /// None ran, but an earlier one had left programs in the kernel; they are removed.
    Leftovers(StopReport),
    /// Nothing was there.
    WasNotRunning,
}

/// A client of the director in this network namespace, starting one with default options when none
/// runs. Cheap when one does.
///
/// # Errors
/// [`Error::DidNotStart`] with the last lines of its log.
pub fn ensure_running() -> Result<Client, Error> {
    let location = Location::here()?;
    if answers(&location) {
        return Ok(Client::at(&location.socket())?);
    }
    checks::root()?;
    let options = Options {
        hook: HookChoice::Auto,
        interfaces: Vec::new(),
        connection_slots: None,
        site: None,
        metrics: None,
    };
    launch(&location, &options)
}

/// Starts a director in the background, in a session of its own, and waits until it answers.
///
/// # Errors
/// [`Error::AnotherDirector`] when one runs, [`Error::DidNotStart`] when it gives up.
pub fn start(options: &Options) -> Result<Client, Error> {
    checks::root()?;
    let location = Location::here()?;
    match home::occupant(&location) {
        Some(pid) => Err(Error::AnotherDirector { pid }),
        None => launch(&location, options),
    }
}

/// Ends the director of this network namespace and waits until it is gone. When none runs but an
/// earlier one was killed, what that one left in the kernel is removed instead (unless
/// `keep_forwarding`).
///
/// # Errors
/// [`Error::DidNotEnd`] when it hangs; what the removal of leftovers gave.
pub fn stop(keep_forwarding: bool) -> Result<Stopped, Error> {
    checks::root()?;
    let location = Location::here()?;
    let Some(pid) = home::occupant(&location) else {
        if keep_forwarding || !teardown::anything_left(&location) {
            return Ok(Stopped::WasNotRunning);
        }
        return teardown::leftovers(location).map(Stopped::Leftovers);
    };
    let report = Client::at(&location.socket())?.stop(keep_forwarding)?;
    let deadline = Instant::now() + END_DEADLINE;
    while home::running(&location).is_some() || home::is_alive(pid) {
        if Instant::now() > deadline {
            return Err(Error::DidNotEnd {
                pid,
                secs: END_DEADLINE.as_secs(),
            });
        }
        std::thread::sleep(PAUSE);
    }
    Ok(Stopped::Ended(report))
}

fn launch(location: &Location, options: &Options) -> Result<Client, Error> {
    let mut child = spawn(location, options)?;
    let deadline = Instant::now() + START_DEADLINE;
    loop {
        if answers(location) {
            return Ok(Client::at(&location.socket())?);
        }
        // Another process may have been faster: then ours ends, and the other will answer.
        let ended = child.try_wait().map_err(|source| Error::Os {
            doing: "waiting",
            source,
        })?;
        if let Some(status) = ended
            && home::running(location).is_none()
            && !answers(location)
        {
            return Err(did_not_start(location, status.to_string()));
        }
        if Instant::now() > deadline {
            // Not killed: it would leave half of what it is making.
            let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
            let how = format!(
                "no answer within {} seconds; pid {} is told to end",
                START_DEADLINE.as_secs(),
                child.id()
            );
            return Err(did_not_start(location, how));
        }
        std::thread::sleep(PAUSE);
    }
}

/// To be listened to is not enough: the socket of a dying director still takes connections.
fn answers(location: &Location) -> bool {
    Client::at(&location.socket()).is_ok_and(|client| client.table().is_ok())
}

fn spawn(location: &Location, options: &Options) -> Result<Child, Error> {
    let run_dir = location.run_dir();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&run_dir)
        .map_err(file("making", &run_dir))?;
    let log_path = location.log_file();
    // Two starters at once write to one log; only the first of them may empty it.
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&log_path)
        .map_err(file("opening", &log_path))?;
    if home::running(location).is_none() {
        let _ = log.set_len(0);
    }
    let errors = log.try_clone().map_err(file("opening", &log_path))?;
    let mut command = Command::new(this_program());
    // The file may be called ipvsadm; the name says which role it plays.
    command.arg0("pointsman");
    command
        .arg("director")
        .arg("run")
        .args(arguments(options))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors);
    // SAFETY: setsid is async-signal-safe and touches nothing of the parent.
    unsafe {
        command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into));
    }
    command.spawn().map_err(|source| Error::Os {
        doing: "starting a director",
        source,
    })
}

/// By its path, for the sake of `ps`; as the kernel holds it, where the file was replaced since.
fn this_program() -> PathBuf {
    std::env::current_exe()
        .ok()
        .filter(|path| path.exists())
        .unwrap_or_else(|| PathBuf::from("/proc/self/exe"))
}

fn arguments(options: &Options) -> Vec<OsString> {
    let hook = match options.hook {
        HookChoice::Auto => "auto",
        HookChoice::Xdp => "xdp",
        HookChoice::Tc => "tc",
    };
    let mut args = vec!["--hook".into(), hook.into()];
    for name in &options.interfaces {
        args.extend(["--interface".into(), name.into()]);
    }
    if let Some(slots) = options.connection_slots {
        args.extend(["--connections".into(), slots.to_string().into()]);
    }
    if let Some(source) = &options.site {
        // It runs in another directory.
        let file = std::path::absolute(&source.file).unwrap_or_else(|_| source.file.clone());
        args.extend(["--config".into(), file.into()]);
        if let Some(id) = &source.config_id {
            args.extend(["--config-id".into(), id.into()]);
        }
    }
    if let Some(address) = options.metrics {
        args.extend(["--metrics".into(), address.to_string().into()]);
    }
    args
}

fn did_not_start(location: &Location, how: String) -> Error {
    let text = fs::read_to_string(location.log_file()).unwrap_or_default();
    let (log, whole) = excerpt(&text);
    if whole {
        let _ = fs::remove_file(location.log_file());
        home::remove_empty_run_dirs(location);
        return Error::DidNotStart { how, log };
    }
    let how = format!(
        "{how}; all of its log is in {}",
        location.log_file().display()
    );
    Error::DidNotStart { how, log }
}

/// Head and tail of what was said last, long lines cut; `true` when nothing is missing. The
/// kernel's reason for refusing a program has thousands of lines.
fn excerpt(log: &str) -> (Vec<String>, bool) {
    let lines: Vec<_> = log.lines().collect();
    let last = lines
        .iter()
        .rposition(|line| line.starts_with("pointsman: "));
    let said = &lines[last.unwrap_or(lines.len().saturating_sub(LOG_LINES))..];
    let mut whole = said.iter().all(|line| line.len() <= LOG_COLUMNS);
    let cut = |line: &&str| line.chars().take(LOG_COLUMNS).collect::<String>();
    let mut log: Vec<_>;
    if said.len() > LOG_LINES {
        whole = false;
        let (head, tail) = (LOG_LINES / 3, LOG_LINES - LOG_LINES / 3 - 1);
        log = said[..head].iter().map(cut).collect();
        log.push("…".to_owned());
        log.extend(said[said.len() - tail..].iter().map(cut));
    } else {
        log = said.iter().map(cut).collect();
    }
    (log, whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_shown_with_its_head_and_without_what_came_before() {
        let (log, whole) = excerpt("INFO attached\npointsman: no interface nope\n");
        assert_eq!(
            (log, whole),
            (vec!["pointsman: no interface nope".to_owned()], true)
        );

        let long: String = (0..500).map(|n| format!("line {n}\n")).collect();
        let (log, whole) = excerpt(&format!("pointsman: refused\n{long}"));
        assert_eq!((log.len(), whole), (LOG_LINES, false));
        assert_eq!(log[0], "pointsman: refused");
        assert_eq!(log[LOG_LINES - 1], "line 499");
    }

    #[test]
    fn a_process_that_only_waits_for_its_parent_is_not_alive() {
        assert!(home::is_alive(std::process::id()));
        let mut child = Command::new("true").spawn().unwrap();
        while home::is_alive(child.id()) {
            std::thread::sleep(PAUSE);
        }
        child.wait().unwrap();
    }
}
