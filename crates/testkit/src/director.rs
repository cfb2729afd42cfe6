//! The `pointsman` program as a black box.

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::netns::{checked, run_directories};
use crate::{Error, Netns, attached_programs, wait_until};

/// Where the director's programs are to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// `--hook tc`.
    Tc,
    /// `--hook xdp`, which on veth is native.
    Xdp,
}

impl Hook {
    /// The word for `--hook`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tc => "tc",
            Self::Xdp => "xdp",
        }
    }

    /// What `director status` calls it on a veth of a new kernel.
    pub fn in_status(self) -> &'static str {
        match self {
            Self::Tc => "tcx",
            Self::Xdp => "xdp-native",
        }
    }
}

/// A director in a namespace. What it leaves behind goes with the namespace.
#[derive(Debug)]
pub struct Director<'a> {
    program: PathBuf,
    netns: &'a Netns,
}

impl<'a> Director<'a> {
    /// Names the program and the namespace; starts nothing.
    pub fn new(program: impl Into<PathBuf>, netns: &'a Netns) -> Self {
        Self {
            program: program.into(),
            netns,
        }
    }

    /// [`Director::new`] and `director start --hook`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(program: impl Into<PathBuf>, netns: &'a Netns, hook: Hook) -> Result<Self, Error> {
        let director = Self::new(program, netns);
        director.run(&["director", "start", "--hook", hook.word()])?;
        Ok(director)
    }

    /// Runs `pointsman --netns NAME …` and returns what it printed.
    ///
    /// # Errors
    /// When it does not end with 0.
    pub fn run(&self, arguments: &[&str]) -> Result<String, Error> {
        checked(self.command().args(arguments))
    }

    /// `pointsman --netns NAME`.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--netns", self.netns.name()]);
        command
    }

    /// Runs `ipvsadm` with blank-separated arguments.
    ///
    /// # Errors
    /// When it does not end with 0.
    pub fn ipvsadm(&self, arguments: &str) -> Result<String, Error> {
        checked(
            self.command()
                .arg("ipvsadm")
                .args(arguments.split_whitespace()),
        )
    }

    /// The same, fed with `input`.
    ///
    /// # Errors
    /// When it does not end with 0.
    pub fn ipvsadm_reading(&self, arguments: &str, input: &str) -> Result<String, Error> {
        let mut command = self.command();
        command.arg("ipvsadm").args(arguments.split_whitespace());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut run = || {
            let mut child = command.spawn()?;
            child
                .stdin
                .take()
                .expect("was piped")
                .write_all(input.as_bytes())?;
            child.wait_with_output()
        };
        let Output {
            status,
            stdout,
            stderr,
        } = run().map_err(Error::os(format!("ipvsadm {arguments}")))?;
        if status.success() {
            return Ok(String::from_utf8_lossy(&stdout).into_owned());
        }
        Err(Error::Command {
            command: format!("ipvsadm {arguments}"),
            status: status.to_string(),
            stderr: String::from_utf8_lossy(&stderr).trim().into(),
        })
    }

    /// `director status --json`.
    ///
    /// # Errors
    /// When none runs.
    pub fn status(&self) -> Result<serde_json::Value, Error> {
        let text = self.run(&["director", "status", "--json"])?;
        serde_json::from_str(&text)
            .map_err(|error| Error::os(format!("director status: {text}"))(error.into()))
    }

    /// Pid of the daemon: the one process of the namespace that is a `pointsman director`.
    ///
    /// # Errors
    /// When none runs.
    pub fn pid(&self) -> Result<u32, Error> {
        let is_director = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|&byte| byte == 0)
                .any(|word| word == b"director")
        };
        self.netns
            .pids()
            .into_iter()
            .find(is_director)
            .ok_or_else(|| Error::Timeout {
                what: format!("no director in {}", self.netns.name()),
                after: Duration::ZERO,
            })
    }

    /// `kill -9`, and waits until the last of its threads is gone, and its files with it.
    ///
    /// # Errors
    /// When none runs.
    pub fn kill(&self) -> Result<(), Error> {
        let pid = self.pid()?;
        let process = open_process(pid).map_err(Error::os(format!("pidfd of {pid}")))?;
        kill(Pid::from_raw(pid as i32), Signal::SIGKILL).map_err(Error::errno("kill -9"))?;
        wait_until(
            "the killed director to be gone",
            Duration::from_secs(5),
            || has_ended(&process).then_some(()),
        )
    }

    /// `director stop`.
    ///
    /// # Errors
    /// When it does not end with 0.
    pub fn stop(&self) -> Result<(), Error> {
        self.run(&["director", "stop"]).map(drop)
    }

    /// Pins, files, attached programs and routing rules that exist because of the director.
    ///
    /// # Errors
    /// When the namespace cannot be looked at.
    pub fn traces(&self) -> Result<Vec<String>, Error> {
        let mut traces = attached_programs(self.netns)?;
        let directories = run_directories(self.netns.cookie());
        for family in ["-4", "-6"] {
            let rules = self.netns.ip(&format!("{family} rule"))?;
            let ours = rules
                .lines()
                .filter(|rule| rule.trim_end().ends_with("proto 80"));
            traces.extend(ours.map(str::to_owned));
        }
        let exists = |path: &PathBuf| path.exists();
        traces.extend(
            directories
                .into_iter()
                .filter(exists)
                .map(|path| path.display().to_string()),
        );
        Ok(traces)
    }
}

fn open_process(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: plain system call; the descriptor is owned at once.
    unsafe {
        match libc::syscall(libc::SYS_pidfd_open, pid, 0) {
            fd if fd >= 0 => Ok(OwnedFd::from_raw_fd(fd as i32)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// A pidfd is readable once every thread has exited, whether or not somebody reaps the process.
fn has_ended(process: &OwnedFd) -> bool {
    let mut poll = libc::pollfd {
        fd: process.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one pollfd, and one is said.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
}
