//! `pointsman reload`: the running director reads its configuration again.

use std::path::PathBuf;
use std::process::ExitCode;

use pointsman_api::{Client, Reloaded};

use crate::{report, say};

/// Arguments of `pointsman reload`.
#[derive(Debug, clap::Args)]
pub struct ReloadArgs {
    /// Another file than before; it counts from now on.
    file: Option<PathBuf>,
}

/// Runs `pointsman reload`.
pub fn run(args: &ReloadArgs) -> ExitCode {
    report(reload(args))
}

fn reload(args: &ReloadArgs) -> anyhow::Result<ExitCode> {
    // The director works in another directory.
    let file = args.file.as_ref().map(std::path::absolute).transpose()?;
    let file = file.map(|file| file.display().to_string());
    Ok(match Client::here()?.reload(file)? {
        Reloaded::Done {
            file,
            changes,
            remarks,
        } => {
            eprint!("{remarks}");
            say(&match changes {
                0 => format!("{file}: read; the table is as it was\n"),
                1 => format!("{file}: read; one change of the table\n"),
                n => format!("{file}: read; {n} changes of the table\n"),
            });
            ExitCode::SUCCESS
        }
        Reloaded::Refused { file, problems } => {
            eprint!("{problems}");
            eprintln!("pointsman: {file} is refused; nothing is changed");
            ExitCode::FAILURE
        }
        Reloaded::NoSite => {
            eprintln!(
                "pointsman: this director follows no configuration: start it with `pointsman \
                 director start --config FILE`"
            );
            ExitCode::FAILURE
        }
    })
}
