//! `cargo xtask bench`: net time of each path through the programs, and a director at scale, into
//! `docs/benchmarks.md`, with a verdict on every aim and the curves.

mod aims;
mod curve;
mod figures;

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::cargo;
use crate::page;
use crate::setup::{self, Purpose};
use crate::sh;
use figures::Figures;

/// The part of the page that is replaced.
const BEGIN: &str = "<!-- begin: written by cargo xtask bench -->";
const END: &str = "<!-- end -->";
const CURVES: &str = "docs/benchmarks";

/// Measure the paths through the programs, and a director at scale, and write tables, verdicts and curves into docs/.
#[derive(clap::Args)]
pub struct Args {
    /// Measure Katran by turns, too: its XDP program is pinned here and set up for TCP to 10.2.0.1, port 80.
    #[arg(long, value_name = "PIN")]
    katran: Option<PathBuf>,
    /// Only print.
    #[arg(long)]
    print: bool,
}

/// Runs the bench of the data plane, which starts the program that is built beside it.
pub fn main(args: &Args) -> Result<()> {
    setup::ensure(Purpose::Test)?;
    setup::require_root("running eBPF programs")?;
    sh::run(cargo::cargo().args(["build", "--release", "--locked", "--package", "pointsman"]))?;
    let output = cargo::cargo()
        .args([
            "bench",
            "--locked",
            "--package",
            "pointsman-dataplane",
            "--bench",
            "paths",
        ])
        .envs(args.katran.iter().map(|pin| ("POINTSMAN_KATRAN", pin)))
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo")?;
    if !output.status.success() {
        bail!("the bench failed");
    }
    let figures = Figures::read(&output.stdout).context("what the bench printed")?;
    let (paths, scale) = (aims::table(&figures), aims::scale(&figures));
    let text = format!("{}\n{paths}\n{scale}", figures.tables());
    println!("{text}");
    if args.print {
        return Ok(());
    }
    let curves = curve::draw(&figures, &sh::root().join(CURVES))?;
    page::replace(BEGIN, END, &format!("{text}\n{curves}"))
}
