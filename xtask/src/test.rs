//! `cargo xtask test`: every check that a change must pass, in one command.

use std::fmt;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cargo::{cargo, cargo_outside_workspace};
use crate::setup::{self, Purpose};
use crate::sh;

/// Check the formatting, lints and documentation, build everything, run all tests (as root).
#[derive(clap::Args)]
pub struct Args {
    /// Only formatting, lints and unit tests; needs no root.
    #[arg(long)]
    quick: bool,
}

/// Runs the stages in order; the first that fails is the last.
pub fn main(args: &Args) -> Result<()> {
    let mut tally = Tally::default();
    let result = stages(args, &mut tally);
    if let Err(error) = &result {
        eprintln!("test: {error:#}");
    }
    // Last and alone on its line, for whoever reads only the end.
    println!("{tally}");
    if result.is_err() {
        std::process::exit(1);
    }
    Ok(())
}

fn stages(args: &Args, tally: &mut Tally) -> Result<()> {
    if args.quick {
        stage("set-up", || setup::ensure(Purpose::Build))?;
    } else {
        setup::require_root("running all tests (`--quick` runs those that do without)")?;
        stage("set-up", || setup::ensure(Purpose::Test))?;
    }
    stage("format", format)?;
    stage("lints", lints)?;
    if args.quick {
        return stage("unit tests", || tests(&["--lib", "--bins"], tally));
    }
    stage("documentation", documentation)?;
    stage("build", || {
        sh::run(cargo().args(["build", "--workspace", "--locked"]))
    })?;
    stage("tests", || tests(&[], tally))
}

/// Runs one stage and prints how long it took, whether it passed or not.
fn stage(name: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("test: {name} ...");
    let start = Instant::now();
    let result = run().with_context(|| name.to_owned());
    let verdict = if result.is_ok() { "passed" } else { "failed" };
    println!(
        "test: {name} {verdict} after {:.1} s",
        start.elapsed().as_secs_f32()
    );
    result
}

fn format() -> Result<()> {
    sh::run(cargo().args(["fmt", "--all", "--check"]))?;
    sh::run(
        cargo_outside_workspace()
            .args(["fmt", "--check"])
            .current_dir(sh::root().join("bpf")),
    )
}

fn lints() -> Result<()> {
    sh::run(
        cargo()
            .args(["clippy", "--workspace", "--all-targets", "--locked"])
            .args(["--", "--deny", "warnings"]),
    )?;
    sh::run(
        cargo_outside_workspace()
            .args(["clippy", "--release", "--locked", "--target-dir"])
            .arg(sh::root().join("target/bpf"))
            .args(["--", "--deny", "warnings"])
            .current_dir(sh::root().join("bpf"))
            // For this one command: the eBPF target has no prebuilt core, and building it is not
            // yet stable. Exported to the workspace it would turn on nightly features there.
            .env("RUSTC_BOOTSTRAP", "1"),
    )
}

fn documentation() -> Result<()> {
    sh::run(
        cargo()
            .args(["doc", "--no-deps", "--workspace", "--locked"])
            .env("RUSTDOCFLAGS", "--deny warnings"),
    )
}

/// Runs the tests of all crates, those after a failure too, and adds them to `tally`.
fn tests(which: &[&str], tally: &mut Tally) -> Result<()> {
    let mut command = cargo();
    command
        .args(["test", "--workspace", "--locked", "--no-fail-fast"])
        .args(which);
    if io::stderr().is_terminal() {
        command.args(["--color", "always"]);
    }
    let shown = sh::display(&command);
    let succeeded = pass_through(command, |line| tally.read(line))?;
    match tally.failed {
        0 if succeeded => Ok(()),
        0 => bail!("{shown} failed without a failed test"),
        failed => bail!("{failed} tests failed"),
    }
}

/// Runs `command`, printing its lines as they come and showing each to `look`; whether it exited 0.
fn pass_through(mut command: Command, mut look: impl FnMut(&str)) -> Result<bool> {
    // One pipe for both streams keeps their lines in order.
    let (reader, writer) = io::pipe()?;
    let mut child = command
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()
        .with_context(|| format!("cannot run {}", sh::display(&command)))?;
    // The command still holds writing ends of the pipe, and while one is open it has no end.
    drop(command);
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let mut ended = None;
    loop {
        match lines.recv_timeout(Duration::from_millis(500)) {
            Ok(line) => {
                let line = String::from_utf8_lossy(&line);
                println!("{line}");
                look(&line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            // Silent since its end: whatever holds the pipe, it is not what we wait for.
            Err(RecvTimeoutError::Timeout) if ended.is_some() => {
                eprintln!(
                    "test: a process that the tests started still runs and holds their output"
                );
                break;
            }
            Err(RecvTimeoutError::Timeout) => ended = child.try_wait()?,
        }
    }
    Ok(child.wait()?.success())
}

/// How many tests ran, by what cargo's test runner said of them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    /// Adds a line such as `test result: ok. 5 passed; 0 failed; 0 ignored; …`; others add nothing.
    fn read(&mut self, line: &str) {
        let Some((_, counts)) = line.split_once("test result: ") else {
            return;
        };
        let count = |what: &str| -> u64 {
            let before = counts.split(what).next().unwrap_or_default();
            before
                .split_whitespace()
                .next_back()
                .and_then(|n| n.parse().ok())
                .unwrap_or(0)
        };
        self.passed += count(" passed;");
        self.failed += count(" failed;");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_left_behind_does_not_keep_us_waiting() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & echo $!; echo last; exit 3"]);
        let mut lines = Vec::new();
        let start = Instant::now();
        let succeeded = pass_through(command, |line| lines.push(line.to_owned())).unwrap();
        assert!(!succeeded);
        assert_eq!(lines[1..], ["last"]);
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "{:?}",
            start.elapsed()
        );
        Command::new("kill").arg(&lines[0]).status().unwrap();
    }

    #[test]
    fn a_tally_sums_the_result_lines_and_nothing_else() {
        let mut tally = Tally::default();
        for line in [
            "running 5 tests",
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
            "test tests::seven passed; ... ok",
        ] {
            tally.read(line);
        }
        assert_eq!(
            tally,
            Tally {
                passed: 8,
                failed: 2
            }
        );
        assert_eq!(tally.to_string(), "8 passed, 2 failed");
    }
}
