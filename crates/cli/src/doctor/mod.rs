//! `pointsman doctor`: what keeps a set-up from working, and the command that mends it.
//!
//! Where a director runs it looks at the director, where `realserver up` was used (or `--vip` says what
//! should be so) at the real server. It changes nothing; on the segment it asks for VIPs as any host
//! would, and listens.

mod director;
mod firewall;
mod host;
mod realserver;
mod segment;

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use pointsman_api::{Client, Error as ApiError, Location};
use serde::Serialize;

use crate::realserver::state::{Mode, State};
use crate::{report, say};

/// Find out what keeps this director or real server from working.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Look at this host as a real server for the VIP, whoever set it up; may be repeated
    #[arg(long)]
    vip: Vec<IpAddr>,
    /// How the director forwards to this real server
    #[arg(long, value_enum, default_value_t = Mode::Dr, requires = "vip")]
    mode: Mode,
    /// Port that clients ask for; may be repeated
    #[arg(long)]
    port: Vec<u16>,
    /// The gateway that replies must take (with --mode nat)
    #[arg(long, requires = "vip")]
    director: Option<IpAddr>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable name for machines.
    pub name: &'static str,
    /// What is so, and what comes of it.
    pub what: String,
    /// What mends it: commands, or where to look.
    pub mend: Vec<String>,
}

impl Finding {
    /// A finding that one or more commands mend.
    pub fn new(
        name: &'static str,
        what: impl Into<String>,
        mend: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self {
            name,
            what: what.into(),
            mend: mend.into_iter().map(Into::into).collect(),
        }
    }
}

/// Runs it in the calling thread's network namespace.
pub fn run(args: &DoctorArgs) -> ExitCode {
    report(examine(args).map(|findings| {
        print(args.json, &findings);
        if findings.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }))
}

fn examine(args: &DoctorArgs) -> Result<Vec<Finding>> {
    let here = Location::here()?;
    let mut findings = Vec::new();
    let client = Client::here()?;
    let director = match client.status() {
        Ok(status) => Some(status),
        Err(ApiError::NoDirector { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let mut server = State::load(&here)?;
    if !args.vip.is_empty() {
        server = Some(State {
            mode: args.mode,
            vips: args.vip.clone(),
            directors: args.director.into_iter().map(Into::into).collect(),
            ..server.unwrap_or_default()
        });
    }
    if director.is_none() && server.is_none() {
        bail!(
            "no director runs here, and `pointsman realserver up` was not used; for a real server set up by \
             hand: --vip ADDRESS --mode dr|tun|nat|fullnat"
        );
    }
    if let Some(status) = &director {
        findings.extend(director::examine(&client, status)?);
    }
    if let Some(server) = &server {
        findings.extend(realserver::examine(&here, server, &args.port)?);
    }
    Ok(findings)
}

fn print(json: bool, findings: &[Finding]) {
    if json {
        say(&format!("{:#}\n", serde_json::json!(findings)));
        return;
    }
    if findings.is_empty() {
        say("nothing found\n");
        return;
    }
    for finding in findings {
        say(&format!("{}\n    {}\n", finding.name, finding.what));
        for mend in &finding.mend {
            say(&format!("    → {mend}\n"));
        }
    }
    let plural = if findings.len() == 1 { "" } else { "s" };
    say(&format!("{} finding{plural}\n", findings.len()));
}
