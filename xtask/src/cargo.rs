//! Cargo as the other commands call it.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::sh;

/// The cargo that runs this program, in the root of the repository.
pub fn cargo() -> Command {
    sh::command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Cargo for what stands outside the workspace: flags meant for the workspace do not reach it.
pub fn cargo_outside_workspace() -> Command {
    let mut command = cargo();
    for variable in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_BUILD_TARGET",
    ] {
        command.env_remove(variable);
    }
    command
}

/// Builds with `args` (`build …` or `test --no-run …`) and returns the one executable called `target`.
pub fn executable(args: &[&str], target: &str) -> Result<PathBuf> {
    let mut command = cargo();
    command
        .args(args)
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit());
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", sh::display(&command)))?;
    if !output.status.success() {
        bail!("{} ended with {}", sh::display(&command), output.status);
    }
    String::from_utf8(output.stdout)?
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == target)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| {
            format!(
                "{} built no executable called {target}",
                sh::display(&command)
            )
        })
}
