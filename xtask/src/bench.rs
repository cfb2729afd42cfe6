//! `cargo xtask bench`: net time of each path through the programs, into `docs/benchmarks.md`.

use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::cargo;
use crate::setup::{self, Purpose};
use crate::sh;

/// The part of the page that is replaced.
const BEGIN: &str = "<!-- begin: written by cargo xtask bench -->";
const END: &str = "<!-- end -->";
const PAGE: &str = "docs/benchmarks.md";

/// Measure the paths through the programs and write the table into docs/benchmarks.md.
#[derive(clap::Args)]
pub struct Args {
    /// Only print.
    #[arg(long)]
    print: bool,
}

/// Runs the bench of the data plane.
pub fn main(args: &Args) -> Result<()> {
    setup::ensure(Purpose::Test)?;
    setup::require_root("running eBPF programs")?;
    let output = cargo::cargo()
        .args([
            "bench",
            "--locked",
            "--package",
            "pointsman-dataplane",
            "--bench",
            "paths",
        ])
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo")?;
    let table = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    println!("{table}");
    if !output.status.success() {
        bail!("the bench failed");
    }
    if args.print {
        return Ok(());
    }
    let page = sh::root().join(PAGE);
    let text = fs::read_to_string(&page).with_context(|| format!("reading {PAGE}"))?;
    let (Some(begin), Some(end)) = (text.find(BEGIN), text.find(END)) else {
        bail!("{PAGE} lacks the lines {BEGIN} and {END}");
    };
    let (head, tail) = (&text[..begin + BEGIN.len()], &text[end..]);
    fs::write(&page, format!("{head}\n\n{table}\n\n{tail}"))
        .with_context(|| format!("writing {PAGE}"))?;
    eprintln!("written to {PAGE}");
    Ok(())
}
