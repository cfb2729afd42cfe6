//! Developer commands, run as `cargo xtask COMMAND`.
//!
//! Each command first installs what it needs and this machine lacks, and says so. Nothing here is
//! part of the product: the workspace builds and installs with plain cargo once `setup` has run.

mod bench;
mod cargo;
mod compare;
mod deb;
mod demo;
mod kernels;
mod oracle;
mod page;
mod setup;
mod sh;
mod soak;
mod test;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Developer commands of Pointsman.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Setup(setup::Args),
    Demo(demo::Args),
    Test(test::Args),
    Bench(bench::Args),
    Compare(compare::Args),
    Kernels(kernels::Args),
    Oracle(oracle::Args),
    Soak(soak::Args),
    Vm(vm::command::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Setup(args) => setup::main(&args),
        Command::Demo(args) => demo::main(&args),
        Command::Test(args) => test::main(&args),
        Command::Bench(args) => bench::main(&args),
        Command::Compare(args) => compare::main(&args),
        Command::Kernels(args) => kernels::main(&args),
        Command::Oracle(args) => oracle::main(&args),
        Command::Soak(args) => soak::main(&args),
        Command::Vm(args) => vm::command::main(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not by returning it: that prints a backtrace where RUST_BACKTRACE is set for the tests.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
