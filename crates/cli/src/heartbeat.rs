//! `pointsman heartbeat`: groups of resources that move between two nodes.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command as Process, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use pointsman_api::Location;
use pointsman_heartbeat::{Settings, ask, problems};

/// How long it may take until it answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// Arguments of `pointsman heartbeat`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory of ha.cf, haresources and authkeys.
    #[arg(
        long,
        value_name = "DIRECTORY",
        default_value = "/etc/ha.d",
        global = true
    )]
    dir: PathBuf,
    /// Which of the nodes of ha.cf this is; otherwise `uname -n`.
    #[arg(long, value_name = "NAME", global = true)]
    node: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Start it in the background.
    Start,
    /// Run it in the foreground.
    Run,
    /// Release all resources, in order, and end it.
    Stop,
    /// Who has what. Exit status 3 when it does not run.
    Status,
    /// Give groups to the other node: all, those preferred here (local), or the others.
    Standby(Which),
    /// Take groups from the other node.
    Takeover(Which),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// all, local or foreign.
    #[arg(default_value = "all", value_parser = ["all", "local", "foreign"])]
    groups: String,
}

/// Runs `pointsman heartbeat …`.
pub fn run(args: &Args) -> ExitCode {
    crate::report(perform(args))
}

fn perform(args: &Args) -> anyhow::Result<ExitCode> {
    let settings = Settings {
        dir: args.dir.clone(),
        node: args.node.clone(),
        ldirectord: crate::ldirectord::program(),
    };
    let request = match &args.command {
        Command::Run => {
            return pointsman_heartbeat::run(settings)
                .map(|()| ExitCode::SUCCESS)
                .map_err(|error| anyhow!(error));
        }
        Command::Start => return start(&settings),
        Command::Stop => "stop".to_owned(),
        Command::Status => "status".to_owned(),
        Command::Standby(which) => format!("standby {}", which.groups),
        Command::Takeover(which) => format!("takeover {}", which.groups),
    };
    match ask(&request).map_err(|error| anyhow!(error))? {
        Some(answer) => {
            crate::say(&answer);
            Ok(ExitCode::SUCCESS)
        }
        None if matches!(args.command, Command::Stop) => Ok(ExitCode::SUCCESS),
        None => {
            crate::say("heartbeat is stopped\n");
            Ok(ExitCode::from(3))
        }
    }
}

fn start(settings: &Settings) -> anyhow::Result<ExitCode> {
    let answers = || matches!(ask("status"), Ok(Some(_)));
    if answers() {
        return Ok(ExitCode::SUCCESS);
    }
    let (lines, bad) = problems(settings).map_err(|error| anyhow!(error))?;
    for line in lines {
        eprintln!("{line}");
    }
    if bad {
        bail!("heartbeat does not start: its files have errors");
    }
    let dir = Location::here()?.run_dir();
    std::fs::create_dir_all(&dir)?;
    let log_file = dir.join("heartbeat.log");
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log_file)
        .with_context(|| log_file.display().to_string())?;
    let mut command = Process::new(std::env::current_exe()?);
    command
        .arg0("pointsman")
        .args(["heartbeat", "run", "--dir"])
        .arg(std::fs::canonicalize(&settings.dir)?);
    if let Some(node) = &settings.node {
        command.args(["--node", node]);
    }
    command
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    // SAFETY: setsid is async-signal-safe and touches nothing of the parent.
    unsafe {
        command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into));
    }
    let mut child = command.spawn()?;
    let deadline = Instant::now() + PATIENCE;
    while !answers() {
        if child.try_wait()?.is_some() || Instant::now() > deadline {
            let text = std::fs::read_to_string(&log_file).unwrap_or_default();
            let last = text.lines().last().unwrap_or_default().to_owned();
            bail!("heartbeat did not start: {last} ({})", log_file.display());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(ExitCode::SUCCESS)
}
