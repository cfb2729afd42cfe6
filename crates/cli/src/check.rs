//! `pointsman check`: reads a configuration, says everything that is wrong with it, changes nothing.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use pointsman_config::diag::{Diagnostic, Diagnostics, Place, Severity, SourceLine};
use pointsman_config::ipvsadm::read_rules;
use pointsman_config::{heartbeat, keepalived, ldirectord};

/// Say what is wrong with a configuration file; nothing is started or changed.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 good, 4 nothing of it can be used, 5 errors, but it would run."
)]
pub struct Args {
    /// The file; for keepalived.conf it may be a pattern.
    #[arg(default_value = "/etc/keepalived/keepalived.conf")]
    file: PathBuf,
    /// What kind of file it is; otherwise its name says so.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// What `@` lines of keepalived.conf are compared with, instead of the host's name up to its
    /// first dot.
    #[arg(long, value_name = "ID")]
    config_id: Option<String>,
    /// Seed of `${_RANDOM}` in keepalived.conf.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Also say what is accepted but has no effect here.
    #[arg(long)]
    all: bool,
    /// Print what was found as JSON.
    #[arg(long)]
    json: bool,
}

/// The kinds of files that can be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// keepalived.conf
    Keepalived,
    /// ldirectord.cf
    Ldirectord,
    /// haresources of heartbeat
    Haresources,
    /// ha.cf of heartbeat
    HaCf,
    /// authkeys of heartbeat
    Authkeys,
    /// rules as `ipvsadm-save` prints them
    Ipvsadm,
}

/// Status for a file of which nothing can be used, as keepalived's `--config-test` has it.
const UNUSABLE: u8 = 4;
/// Status for errors that would not keep it from running.
const ERRORS: u8 = 5;

pub fn run(args: &Args) -> ExitCode {
    let format = args.format.unwrap_or_else(|| Format::of(&args.file));
    let diagnostics = match format {
        Format::Keepalived => {
            let options = options(args.config_id.clone(), args.seed);
            keepalived::read(&args.file, &options).diagnostics
        }
        other => plain(other, &args.file),
    };
    if args.json {
        crate::say(&json(&diagnostics));
    } else {
        crate::say(&text(&diagnostics, args.all));
    }
    match diagnostics.worst() {
        Some(Severity::Fatal) => ExitCode::from(UNUSABLE),
        Some(Severity::Error) => ExitCode::from(ERRORS),
        _ => ExitCode::SUCCESS,
    }
}

impl Format {
    /// By the file's name: heartbeat's are always called the same, ldirectord's end in `.cf`.
    pub fn of(file: &Path) -> Self {
        let name = file
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        match name {
            "haresources" => Self::Haresources,
            "ha.cf" => Self::HaCf,
            "authkeys" => Self::Authkeys,
            _ if name.ends_with(".cf") => Self::Ldirectord,
            _ if name.ends_with(".rules") => Self::Ipvsadm,
            _ => Self::Keepalived,
        }
    }
}

/// Files whose readers know lines and columns only.
fn plain(format: Format, path: &Path) -> Diagnostics {
    let file = path.to_string_lossy();
    let mut diagnostics = Diagnostics::default();
    let text = match std::fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => {
            let place = Place::file(&file);
            diagnostics.push(Diagnostic::new(Severity::Fatal, place, error.to_string()));
            return diagnostics;
        }
    };
    let at = |number: usize, column: usize| {
        let line = SourceLine {
            file: file.as_ref().into(),
            number: number as u32,
            text: text
                .lines()
                .nth(number.wrapping_sub(1))
                .unwrap_or_default()
                .to_owned(),
        };
        Place::new(&line.into(), column as u32, 1)
    };
    let heartbeat = |problem: heartbeat::Problem| {
        let severity = severity(problem.severity);
        Diagnostic::new(severity, at(problem.line, problem.column), problem.text)
    };
    match format {
        Format::Keepalived => {}
        Format::Ldirectord => {
            for problem in ldirectord::read(&text, &pointsman_ldirectord::System).problems {
                let place = match problem.line {
                    Some(line) => at(line, problem.column),
                    None => Place::file(&file),
                };
                let message = problem.text.trim().to_owned();
                let expected = problem.expected;
                let hint = (!expected.is_empty()).then(|| format!("expected {expected}"));
                let severity = severity(problem.severity);
                diagnostics.push(Diagnostic::new(severity, place, message).hint(hint));
            }
        }
        Format::Haresources => {
            let problems = heartbeat::haresources::read(&text).1;
            problems
                .into_iter()
                .map(heartbeat)
                .for_each(|d| diagnostics.push(d));
        }
        Format::HaCf => {
            let problems = heartbeat::ha_cf::read(&text).1;
            problems
                .into_iter()
                .map(heartbeat)
                .for_each(|d| diagnostics.push(d));
        }
        Format::Authkeys => {
            let problems = heartbeat::authkeys::read(&text).1;
            problems
                .into_iter()
                .map(heartbeat)
                .for_each(|d| diagnostics.push(d));
        }
        Format::Ipvsadm => {
            if let Err(bad) = read_rules(&text, &crate::ipvsadm::SystemNames::default()) {
                let place = at(bad.line, 1);
                diagnostics.push(Diagnostic::new(Severity::Error, place, bad.why));
            }
        }
    }
    diagnostics
}

fn severity(of: ldirectord::Severity) -> Severity {
    match of {
        ldirectord::Severity::Error => Severity::Error,
        ldirectord::Severity::Warning => Severity::Warning,
    }
}

/// What keepalived.conf is read with on this machine.
pub fn options(config_id: Option<String>, random_seed: u64) -> keepalived::Options {
    let host_name = nix::unistd::gethostname().unwrap_or_default();
    let host_name = host_name.to_string_lossy().into_owned();
    let short = host_name.split('.').next().unwrap_or_default().to_owned();
    keepalived::Options {
        config_id: config_id.unwrap_or(short),
        host_name,
        environment: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        random_seed,
        all_include_checks: false,
        interfaces: interfaces(),
    }
}

/// The interfaces of this network namespace.
fn interfaces() -> Option<Vec<String>> {
    let names = nix::net::if_::if_nameindex().ok()?;
    Some(
        names
            .iter()
            .map(|i| i.name().to_string_lossy().into_owned())
            .collect(),
    )
}

fn text(diagnostics: &Diagnostics, all: bool) -> String {
    let least = if all {
        Severity::NoEffect
    } else {
        Severity::Warning
    };
    let mut text = diagnostics.render(least);
    let count = |severity| diagnostics.count(severity);
    let errors = count(Severity::Error) + count(Severity::Fatal);
    let (warnings, nothing) = (count(Severity::Warning), count(Severity::NoEffect));
    if errors + warnings == 0 {
        text.push_str("good");
    } else {
        text.push_str(&format!("{errors} errors, {warnings} warnings"));
    }
    if nothing > 0 {
        let more = if all { "" } else { " (--all lists them)" };
        text.push_str(&format!("; {nothing} keywords have no effect here{more}"));
    }
    text.push('\n');
    text
}

fn json(diagnostics: &Diagnostics) -> String {
    let value = serde_json::json!({
        "status": diagnostics.worst(),
        "errors": diagnostics.count(Severity::Error) + diagnostics.count(Severity::Fatal),
        "warnings": diagnostics.count(Severity::Warning),
        "diagnostics": diagnostics,
    });
    format!("{value:#}\n")
}
