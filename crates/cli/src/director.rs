//! `pointsman director`: run, start, stop and ask a director.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use pointsman_api::{Client, Error as ApiError, Location, Status};
use pointsman_director::{HookChoice, Options, Source, Stopped};

use crate::{report, say};

mod show;

/// Exit status of `status` when no director runs (as the LSB has it for init scripts).
const NOT_RUNNING: u8 = 3;

/// Arguments of `pointsman director`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run in the foreground until stopped or told to end.
    Run(RunArgs),
    /// Start in the background and wait until it answers.
    Start(RunArgs),
    /// End the director and remove everything it put into the kernel, rules and connections too.
    Stop {
        /// Leave programs, links and tables in place: connections keep flowing, new ones too.
        #[arg(long)]
        keep_forwarding: bool,
    },
    /// Show hooks, tables, next hops and lost packets.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// Where the programs run.
    #[arg(long, value_enum, default_value_t = HookArg::Auto)]
    hook: HookArg,
    /// Only on this interface; may be repeated. lo is always served [default: every Ethernet
    /// interface, new ones as they appear]
    #[arg(long = "interface", value_name = "NAME")]
    interfaces: Vec<String>,
    /// Slots of the connection table, 64 bytes each [default: a 256th of the memory, between 4 and
    /// 512 MiB]
    #[arg(long, value_name = "SLOTS", value_parser = clap::value_parser!(u32).range(1..))]
    connections: Option<u32>,
    /// Follow this keepalived.conf: virtual servers, health checks, VRRP, notifications [default
    /// FILE: /etc/keepalived/keepalived.conf]
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = Source::DEFAULT)]
    config: Option<PathBuf>,
    /// What `@` lines of the file are compared with [default: the host's name]
    #[arg(long, value_name = "ID", requires = "config")]
    config_id: Option<String>,
    /// Let Prometheus ask here too, by HTTP and without a password.
    #[arg(long, value_name = "ADDR:PORT")]
    metrics: Option<SocketAddr>,
}

/// [`HookChoice`] as an argument.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum HookArg {
    /// XDP where it is native and right, TC elsewhere.
    Auto,
    /// XDP, native if the driver can, generic otherwise.
    Xdp,
    /// TC everywhere.
    Tc,
}

impl RunArgs {
    fn options(&self) -> Options {
        Options {
            hook: match self.hook {
                HookArg::Auto => HookChoice::Auto,
                HookArg::Xdp => HookChoice::Xdp,
                HookArg::Tc => HookChoice::Tc,
            },
            interfaces: self.interfaces.clone(),
            connection_slots: self.connections,
            site: self.config.as_ref().map(|file| Source {
                config_id: self.config_id.clone(),
                ..Source::new(file)
            }),
            metrics: self.metrics,
        }
    }
}

/// Runs `pointsman director …`.
pub fn run(args: &Args) -> ExitCode {
    report(match &args.verb {
        Verb::Run(run) => pointsman_director::run(&run.options())
            .map(|()| ExitCode::SUCCESS)
            .map_err(anyhow::Error::from),
        Verb::Start(run) => start(&run.options()),
        Verb::Stop { keep_forwarding } => stop(*keep_forwarding),
        Verb::Status { json } => status(*json),
    })
}

fn start(options: &Options) -> anyhow::Result<ExitCode> {
    let client = pointsman_director::start(options)?;
    let status = client
        .status()
        .context("the director started but does not answer")?;
    say(&show::started(&status));
    Ok(ExitCode::SUCCESS)
}

fn stop(keep_forwarding: bool) -> anyhow::Result<ExitCode> {
    let location = Location::here()?;
    let report = match pointsman_director::stop(keep_forwarding)? {
        Stopped::WasNotRunning => {
            println!("no director runs in this network namespace; nothing to stop");
            return Ok(ExitCode::SUCCESS);
        }
        Stopped::Leftovers(report) => {
            println!("no director ran; what an earlier one left in the kernel is removed");
            report
        }
        Stopped::Ended(report) if report.kept_forwarding => {
            println!(
                "director ended; its programs keep forwarding (pinned in {})",
                location.director_pins().display()
            );
            report
        }
        Stopped::Ended(report) => {
            println!("director stopped; programs, tables and pins are removed");
            report
        }
    };
    for problem in &report.problems {
        eprintln!("pointsman: {problem}");
    }
    Ok(if report.problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn status(json: bool) -> anyhow::Result<ExitCode> {
    let status = match Client::here()?.status() {
        Ok(status) => status,
        Err(error @ ApiError::NoDirector { .. }) => {
            let location = Location::here()?;
            if json {
                println!("null");
            }
            eprintln!("pointsman: {error}");
            if location.director_pins().exists() {
                eprintln!(
                    "pointsman: programs of an earlier director are still forwarding (pinned in \
                     {}); `pointsman director start` takes them over, `stop` removes them",
                    location.director_pins().display()
                );
            }
            return Ok(ExitCode::from(NOT_RUNNING));
        }
        Err(error) => return Err(error.into()),
    };
    let text = if json {
        as_json(&status)?
    } else {
        show::status(&status)
    };
    say(&text);
    Ok(ExitCode::SUCCESS)
}

fn as_json(status: &Status) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(status)? + "\n")
}

/// `1d 2h`, `3m 4s`: the two largest units.
fn uptime(span: Duration) -> String {
    let secs = span.as_secs();
    match secs {
        0..60 => format!("{secs}s"),
        60..3600 => format!("{}m {}s", secs / 60, secs % 60),
        3600..86400 => format!("{}h {}m", secs / 3600, secs % 3600 / 60),
        _ => format!("{}d {}h", secs / 86400, secs % 86400 / 3600),
    }
}
