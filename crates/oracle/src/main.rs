//! `oracle record` on a kernel with IPVS, `oracle compare` anywhere: what `cargo xtask oracle` runs.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use pointsman_oracle::{Suite, Verdict};
use pointsman_testkit::Hook;

/// Play the scenarios of tests/oracle/scenarios.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Over this kernel's IPVS: write the files with its answers.
    Record {
        /// Where to write them.
        #[arg(long)]
        out: PathBuf,
        /// Which; all of them otherwise.
        names: Vec<String>,
    },
    /// Over Pointsman: compare.
    Compare {
        /// The `pointsman` executable.
        #[arg(long)]
        program: PathBuf,
        /// Where its programs run; both otherwise.
        #[arg(long, value_enum)]
        hook: Option<Where>,
        /// Which; all of them otherwise.
        names: Vec<String>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Where {
    Xdp,
    Tc,
}

fn main() -> ExitCode {
    let suite = env::current_dir()
        .map_err(Into::into)
        .and_then(|root| Suite::load(&root));
    let result = suite.and_then(|suite| match Cli::parse().command {
        Command::Record { out, names } => record(&suite, &out, &suite.choose(&names)?),
        Command::Compare {
            program,
            hook,
            names,
        } => {
            let hooks = match hook {
                None => vec![Hook::Xdp, Hook::Tc],
                Some(Where::Xdp) => vec![Hook::Xdp],
                Some(Where::Tc) => vec![Hook::Tc],
            };
            compare(&suite, &program, &hooks, &suite.choose(&names)?)
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn record(suite: &Suite, out: &std::path::Path, names: &[String]) -> Result<()> {
    let mut failed = 0;
    for name in names {
        let start = Instant::now();
        match suite.record(name) {
            Ok(text) => {
                fs::write(out.join(format!("{name}.scn")), text)?;
                println!(
                    "oracle: {name} recorded in {:.1} s",
                    seconds(start.elapsed())
                );
            }
            Err(error) => {
                failed += 1;
                println!("oracle: {name} NOT recorded: {error:#}");
            }
        }
    }
    if failed > 0 {
        bail!("{failed} scenarios could not be played");
    }
    Ok(())
}

/// Plays every scenario on every hook, as many at once as there are processors.
fn compare(
    suite: &Suite,
    program: &std::path::Path,
    hooks: &[Hook],
    names: &[String],
) -> Result<()> {
    let start = Instant::now();
    let report = |verdict: &Verdict| {
        println!(
            "{:28} {:4} {:5.1} s  {}",
            verdict.name,
            verdict.hook.word(),
            seconds(verdict.took),
            verdict.word()
        );
        if let Some(note) = verdict.reused_note() {
            println!("{note}");
        }
    };
    let verdicts = suite.compare_all(names, program, hooks, report);
    let chosen = names.len() < suite.choose(&[])?.len();
    for verdict in &verdicts {
        // What is pending differs at length, and is shown when it is asked for by name.
        if let Some(text) = verdict
            .differences
            .as_ref()
            .filter(|_| chosen || verdict.is_failure())
        {
            println!("\n{} on {}:\n{text}", verdict.name, verdict.hook.word());
        }
    }
    println!();
    for verdict in &verdicts {
        if let Some(reason) = &verdict.pending {
            println!(
                "{}: {} ({}): {reason}",
                verdict.word(),
                verdict.name,
                verdict.hook.word()
            );
        }
    }
    let count = |word: &str| {
        verdicts
            .iter()
            .filter(|verdict| verdict.word() == word)
            .count()
    };
    println!(
        "oracle: {} alike, {} different, {} pending, {} no longer to be pending, {} played again; {:.0} s",
        count("alike"),
        count("DIFFERENT"),
        count("pending"),
        count("alike, and listed as pending"),
        verdicts
            .iter()
            .filter(|verdict| verdict.reused.is_some())
            .count(),
        seconds(start.elapsed())
    );
    if verdicts.iter().any(Verdict::is_failure) {
        bail!("Pointsman and the kernel differ");
    }
    Ok(())
}

fn seconds(duration: Duration) -> f32 {
    duration.as_secs_f32()
}
