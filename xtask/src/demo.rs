//! `cargo xtask demo`: from nothing to a balanced connection.

use std::os::unix::process::CommandExt;

use anyhow::{Context, Result};

use crate::setup::{self, Purpose};
use crate::{cargo, sh};

/// Build Pointsman and run a lab: clients, director and real servers on this machine (as root).
#[derive(clap::Args)]
pub struct Args {
    /// What to pass on to `pointsman lab nat`, such as `--keep`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    lab: Vec<String>,
}

/// Runs the demo; returns only when it could not start.
pub fn main(args: &Args) -> Result<()> {
    setup::require_root("a lab of network namespaces")?;
    setup::ensure(Purpose::Demo)?;
    let build = [
        "build",
        "--locked",
        "--release",
        "--package",
        "pointsman",
        "--bin",
        "pointsman",
    ];
    let pointsman = cargo::executable(&build, "pointsman")?;
    let mut lab = sh::command(&pointsman);
    lab.args(["lab", "nat"]).args(&args.lab);
    println!("demo: {}", sh::display(&lab));
    // In place of this process, so that Ctrl-C and the exit status are the lab's own.
    Err(lab.exec()).with_context(|| format!("cannot run {}", pointsman.display()))
}
