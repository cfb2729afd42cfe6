//! `pointsman restore`: a rule file as one transaction.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use anyhow::{Context, anyhow};
use pointsman_api::Error as ApiError;
use pointsman_config::ipvsadm::read_rules;
use pointsman_model::Change;

use crate::ipvsadm::SystemNames;
use crate::report;

/// Arguments of `pointsman restore`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Rules as `ipvsadm-save` prints them; `-` for standard input.
    file: PathBuf,
}

/// Runs `pointsman restore …`.
pub fn run(args: &Args) -> ExitCode {
    report(restore(&args.file).map(|()| ExitCode::SUCCESS))
}

fn restore(file: &Path) -> anyhow::Result<()> {
    let text = if file == Path::new("-") {
        let mut text = Vec::new();
        io::stdin().lock().read_to_end(&mut text).map(|_| text)
    } else {
        fs::read(file)
    };
    let text = text.with_context(|| format!("cannot read {}", file.display()))?;
    let text = String::from_utf8_lossy(&text);
    let unchanged = |bad| anyhow!("{}, {bad}; nothing was changed", file.display());
    let rules = read_rules(&text, &SystemNames::default()).map_err(unchanged)?;
    let changes: Vec<_> = std::iter::once(Change::Flush)
        .chain(rules.iter().map(|rule| rule.change.clone()))
        .collect();
    match pointsman_director::ensure_running()?.transact(&changes) {
        Ok(()) => Ok(()),
        // The flush before the rules is never refused.
        Err(ApiError::RefusedChange(refused)) if refused.change > 0 => {
            let rule = &rules[refused.change - 1];
            Err(unchanged(rule.refused(&refused.error)))
        }
        Err(error) => Err(error.into()),
    }
}
