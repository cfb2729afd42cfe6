//! `cargo xtask soak`: a director with servers that flap, for an hour.

use anyhow::Result;

use crate::cargo::cargo;
use crate::setup::{self, Purpose};
use crate::sh;

/// Let servers flap under a director for long: every fault must be seen, and nothing may grow or be left behind.
#[derive(clap::Args)]
pub struct Args {
    /// How long, in minutes.
    #[arg(default_value_t = 60)]
    minutes: u64,
}

/// Runs the lab test `soak`, which is shorter otherwise.
pub fn main(args: &Args) -> Result<()> {
    setup::require_root("running a director in a network namespace")?;
    setup::ensure(Purpose::Test)?;
    sh::run(
        cargo()
            .args([
                "test",
                "--locked",
                "--package",
                "pointsman",
                "--test",
                "lab",
            ])
            .args(["soak", "--", "--nocapture"])
            .env("POINTSMAN_SOAK_SECONDS", (args.minutes * 60).to_string()),
    )
}
