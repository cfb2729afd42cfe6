//! `cargo xtask vm`: a command in a guest, for people.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::{Accelerator, Kernel, Options};

/// Run a command as root under another kernel, over a throw-away copy of this machine's files.
#[derive(clap::Args)]
pub struct Args {
    /// The kernel to boot.
    #[arg(long, value_enum, default_value = "6.12")]
    kernel: Kernel,
    /// Number of processors.
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    /// Memory in MiB, including what the guest writes to its files.
    #[arg(long, default_value_t = 4096)]
    memory: u32,
    /// How many seconds the guest may live.
    #[arg(long, default_value_t = 300)]
    timeout: u64,
    /// Who executes the guest's instructions.
    #[arg(long, value_enum, default_value = "tcg")]
    accelerator: Accelerator,
    /// A directory of this machine that the guest may write to, as `/out`.
    #[arg(long)]
    out: Option<PathBuf>,
    /// The command and its arguments, run in the root of the repository.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Runs the command and exits as it did.
pub fn main(args: &Args) -> Result<()> {
    let options = Options {
        cpus: args.cpus,
        memory_mib: args.memory,
        timeout: Duration::from_secs(args.timeout),
        accelerator: args.accelerator,
        stream: true,
        env: Vec::new(),
        out: args.out.clone(),
    };
    let output = super::run(args.kernel, &args.command, &options)?;
    std::process::exit(output.status)
}
