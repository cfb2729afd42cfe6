//! `pointsman convert`: other configurations, and the running state, as keepalived.conf.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use anyhow::{Context, bail};
use clap::ValueEnum;
use pointsman_config::convert::{self, Converted};
use pointsman_config::heartbeat::{Node, authkeys, ha_cf, haresources, plan};
use pointsman_config::ipvsadm::read_rules;
use pointsman_config::{keepalived, ldirectord};

use crate::check::Format;
use crate::ipvsadm::SystemNames;

/// Print a keepalived.conf that says what another configuration says. What it has no words for is said
/// in comments and on standard error.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// ldirectord.cf, haresources, or rules of `ipvsadm-save`; `-` for standard input; without one,
    /// what the director has now.
    file: Option<PathBuf>,
    /// What kind of file it is; otherwise its name says so.
    #[arg(long, value_enum)]
    from: Option<From>,
    /// For haresources: which of the two nodes the result is for; otherwise `uname -n`.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
}

/// The kinds of files that can be converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum From {
    /// ldirectord.cf
    Ldirectord,
    /// haresources, with ha.cf and authkeys beside it
    Haresources,
    /// rules as `ipvsadm-save` prints them
    Ipvsadm,
}

/// Runs `pointsman convert …`.
pub fn run(args: &Args) -> ExitCode {
    crate::report(convert(args).map(|()| ExitCode::SUCCESS))
}

fn convert(args: &Args) -> anyhow::Result<()> {
    let converted = match &args.file {
        None => convert::services(&pointsman_api::Client::here()?.services()?),
        Some(file) => {
            let guessed = match Format::of(file) {
                Format::Ldirectord => From::Ldirectord,
                Format::Haresources => From::Haresources,
                _ => From::Ipvsadm,
            };
            match args.from.unwrap_or(guessed) {
                From::Ldirectord => from_ldirectord(file)?,
                From::Haresources => from_haresources(file, args.node.clone())?,
                From::Ipvsadm => from_rules(file)?,
            }
        }
    };
    let mut text = String::new();
    for remark in &converted.remarks {
        eprintln!("pointsman: not converted: {remark}");
        text += &format!("# not converted: {remark}\n");
    }
    text += &keepalived::write(&converted.site);
    crate::say(&text);
    Ok(())
}

fn from_ldirectord(file: &Path) -> anyhow::Result<Converted> {
    let reading = ldirectord::read(&text(file)?, &pointsman_ldirectord::System);
    for problem in &reading.problems {
        eprintln!("{}:{problem}", file.display());
    }
    match reading.config() {
        Ok(config) => Ok(convert::ldirectord(&config)),
        Err(_) => bail!("{} has errors", file.display()),
    }
}

fn from_haresources(file: &Path, node: Option<String>) -> anyhow::Result<Converted> {
    let (resources, mut problems) = haresources::read(&text(file)?);
    for problem in problems.drain(..) {
        eprintln!("{}:{problem}", file.display());
    }
    let beside = |name: &str| {
        let path = file.with_file_name(name);
        text(&path).map(|text| (path, text))
    };
    let (path, content) = beside("ha.cf")?;
    let (ha_cf, found) = ha_cf::read(&content);
    for problem in found {
        eprintln!("{}:{problem}", path.display());
    }
    let (path, content) = beside("authkeys")?;
    let (keys, found) = authkeys::read(&content);
    for problem in found {
        eprintln!("{}:{problem}", path.display());
    }
    let node = Node {
        name: node.unwrap_or_else(|| {
            let name = nix::unistd::gethostname().unwrap_or_default();
            name.to_string_lossy().into_owned()
        }),
        addrs: Vec::new(),
    };
    Ok(convert::heartbeat(&plan(&ha_cf, &resources, &keys, &node)))
}

fn from_rules(file: &Path) -> anyhow::Result<Converted> {
    let rules = read_rules(&text(file)?, &SystemNames::default())
        .with_context(|| file.display().to_string())?;
    Ok(convert::changes(rules.iter().map(|rule| &rule.change)))
}

fn text(file: &Path) -> anyhow::Result<String> {
    let bytes = if file == Path::new("-") {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::stdin().lock(), &mut bytes).map(|_| bytes)
    } else {
        fs::read(file)
    };
    let bytes = bytes.with_context(|| format!("cannot read {}", file.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
