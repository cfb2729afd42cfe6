use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, ftruncate, getpid, getppid};
use tokio::process::{Child, Command};

use crate::program::{Program, one_line};

/// From SIGTERM to SIGKILL, as in keepalived.
const GRACE: Duration = Duration::from_secs(2);
/// What a command may say on stderr before it is told that nothing more fits.
const STDERR_BYTES: i64 = 64 << 10;
/// What of it is kept.
const KEPT_BYTES: u64 = 1024;
/// What a command does not inherit, so that its user's environment cannot change what runs.
const UNSET: [&str; 3] = ["IFS", "LD_PRELOAD", "LD_LIBRARY_PATH"];

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status; 0 is success.
    Exited(u8),
    /// By this signal.
    Signalled(i32),
    /// It was ended for taking too long.
    TimedOut,
    /// It did not start, for this reason.
    NotStarted(String),
}

/// What a command that has ended left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// How it ended.
    pub ended: Ended,
    /// The last of what it said on stderr, as one line.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Run {
    /// True for exit status 0.
    pub fn succeeded(&self) -> bool {
        self.ended == Ended::Exited(0)
    }
}

/// `exited with status 1: no route to host`.
impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.ended {
            Ended::Exited(status) => write!(f, "exited with status {status}")?,
            Ended::Signalled(signal) => write!(f, "ended by signal {signal}")?,
            Ended::TimedOut => write!(f, "timed out after {:.1} s", self.took.as_secs_f64())?,
            Ended::NotStarted(why) => write!(f, "could not be started: {why}")?,
        }
        if !self.stderr.is_empty() {
            write!(f, ": {}", self.stderr)?;
        }
        Ok(())
    }
}

/// A command that goes on running beside. Dropping it ends its process group by SIGTERM.
#[derive(Debug)]
pub struct Started {
    child: Child,
    group: Group,
}

impl Program {
    /// Runs it to its end, or until `timeout`. Dropping the future ends it by SIGTERM.
    pub async fn run(&self, timeout: Option<Duration>) -> Run {
        let began = Instant::now();
        let over = |ended, stderr| Run {
            ended,
            stderr,
            took: began.elapsed(),
        };
        let said = match stderr_file() {
            Ok(file) => file,
            Err(error) => return over(Ended::NotStarted(error.to_string()), String::new()),
        };
        let started = said
            .as_fd()
            .try_clone_to_owned()
            .and_then(|stderr| self.spawn(stderr.into()));
        let mut started = match started {
            Ok(started) => started,
            Err(error) => return over(Ended::NotStarted(error.to_string()), String::new()),
        };
        let ended = started.end(timeout).await;
        over(ended, last_words(&said))
    }

    /// Starts it; nothing is kept of what it says.
    ///
    /// # Errors
    /// What the system said.
    pub fn start(&self) -> io::Result<Started> {
        self.spawn(Stdio::null())
    }

    fn spawn(&self, stderr: Stdio) -> io::Result<Started> {
        let mut command = Command::new(&self.argv[0]);
        command
            .args(&self.argv[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .process_group(0);
        for name in UNSET {
            command.env_remove(name);
        }
        if nix::unistd::geteuid() != self.uid || nix::unistd::getegid() != self.gid {
            command.uid(self.uid.as_raw()).gid(self.gid.as_raw());
        }
        let (umask, parent) = (self.umask, getpid());
        // SAFETY: only async-signal-safe calls, and nothing is allocated. The death signal is
        // asked for after the change of user, which would clear it.
        unsafe {
            command.pre_exec(move || {
                set_pdeathsig(Signal::SIGTERM)?;
                if getppid() != parent {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
                if let Some(mask) = umask {
                    libc::umask(mask);
                }
                Ok(())
            });
        }
        let child = command.spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let group = Group(pid.map(Pid::from_raw));
        Ok(Started { child, group })
    }
}

impl Started {
    /// Its process, until it was seen to end.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for its end; at `timeout` it is ended by SIGTERM, two seconds later by SIGKILL.
    pub async fn end(&mut self, timeout: Option<Duration>) -> Ended {
        let status = match timeout {
            None => self.child.wait().await,
            Some(timeout) => match tokio::time::timeout(timeout, self.child.wait()).await {
                Ok(status) => status,
                Err(_) => {
                    self.group.signal(Signal::SIGTERM);
                    let _ = tokio::time::timeout(GRACE, self.child.wait()).await;
                    // Also what its leader left behind.
                    self.group.signal(Signal::SIGKILL);
                    let _ = self.child.wait().await;
                    self.group.0 = None;
                    return Ended::TimedOut;
                }
            },
        };
        // What it started beside may live on; only its end was awaited.
        self.group.0 = None;
        match status {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => Ended::Exited(u8::try_from(code).unwrap_or(u8::MAX)),
                (None, signal) => Ended::Signalled(signal.unwrap_or(0)),
            },
            Err(error) => Ended::NotStarted(error.to_string()),
        }
    }
}

/// A process group that ends when it is dropped, unless its leader was seen to end.
#[derive(Debug)]
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.0 {
            let _ = killpg(pid, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGTERM);
    }
}

/// A file in memory that takes so much and no more. A pipe would break, and kill who writes to it,
/// once nobody reads it any more, and a command may leave others running behind.
fn stderr_file() -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let fd: OwnedFd = memfd_create("stderr", flags)?;
    ftruncate(&fd, STDERR_BYTES)?;
    let seals = SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
    fcntl(&fd, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(File::from(fd))
}

fn last_words(said: &File) -> String {
    use std::io::Seek;
    // The place that was written to last is shared with the command.
    let mut place = said;
    let end = place.stream_position().unwrap_or(0);
    let start = end.saturating_sub(KEPT_BYTES);
    let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(0)];
    match said.read_exact_at(&mut bytes, start) {
        Ok(()) => one_line(bytes),
        Err(_) => String::new(),
    }
}
