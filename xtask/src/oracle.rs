//! `cargo xtask oracle`: Pointsman against the kernel's IPVS, scenario by scenario.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::setup::{self, Purpose};
use crate::vm::{self, Kernel};
use crate::{cargo, sh};

/// Compare Pointsman with what the kernel's IPVS did in the scenarios of tests/oracle, or record it.
#[derive(clap::Args)]
pub struct Args {
    /// Write down what the kernel's IPVS does, in a virtual machine.
    #[arg(long, conflicts_with = "hook")]
    record: bool,
    /// What the real keepalived does there, in the scenarios of tests/oracle/keepalived.
    #[arg(long, requires = "record")]
    keepalived: bool,
    /// The kernel to record from.
    #[arg(long, value_enum, default_value = "6.12", requires = "record")]
    kernel: Kernel,
    /// Only on this hook.
    #[arg(long, value_enum)]
    hook: Option<Hook>,
    /// Scenarios, files without their ending; all when none is named.
    names: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Hook {
    Xdp,
    Tc,
}

/// Compares or records.
pub fn main(args: &Args) -> Result<()> {
    if args.record {
        return record(args);
    }
    setup::require_root("playing scenarios in network namespaces")?;
    setup::ensure(Purpose::Test)?;
    let pointsman = build("pointsman", "pointsman")?;
    let mut command = sh::command(build("pointsman-oracle", "oracle")?);
    command.arg("compare").arg("--program").arg(pointsman);
    match args.hook {
        Some(Hook::Xdp) => command.args(["--hook", "xdp"]),
        Some(Hook::Tc) => command.args(["--hook", "tc"]),
        None => &mut command,
    };
    sh::run(command.args(&args.names))
}

/// Plays the scenarios in a guest and takes over the files it wrote.
fn record(args: &Args) -> Result<()> {
    setup::ensure(Purpose::Record)?;
    let (scenarios, command) = if args.keepalived {
        let directory = sh::root().join("tests/oracle/keepalived");
        let script = directory.join("record.sh").display().to_string();
        let from = directory.display().to_string();
        let mut command = vec!["bash".into(), script, from, "/out".into()];
        command.extend(args.names.iter().cloned());
        (directory, command)
    } else {
        let oracle = build("pointsman-oracle", "oracle")?;
        let mut command = vec![oracle.display().to_string(), "record".into()];
        command.extend(["--out", "/out"].map(str::to_owned));
        command.extend(args.names.iter().cloned());
        (sh::root().join("tests/oracle/scenarios"), command)
    };
    let out = sh::root().join("target/oracle");
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    fs::create_dir_all(&out)?;
    let options = vm::Options {
        timeout: Duration::from_secs(3600),
        stream: true,
        out: Some(out.clone()),
        ..vm::Options::default()
    };
    let output = vm::run(args.kernel, &command, &options)?;
    let mut count = 0;
    for entry in fs::read_dir(&out)? {
        let entry = entry?;
        fs::copy(entry.path(), scenarios.join(entry.file_name()))
            .with_context(|| format!("taking over {}", entry.path().display()))?;
        count += 1;
    }
    println!("oracle: {count} scenarios recorded; `git diff tests/oracle` shows what changed");
    if output.status != 0 {
        bail!("not all of them could be recorded");
    }
    Ok(())
}

fn build(package: &str, binary: &str) -> Result<PathBuf> {
    let args = ["build", "--locked", "--package", package, "--bin", binary];
    cargo::executable(&args, binary)
}
