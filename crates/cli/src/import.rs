//! `pointsman import`: takes over the services of another load balancer.

use std::collections::HashSet;
use std::io::{self, Write};
use std::process::ExitCode;

use pointsman_config::ipvsadm::{Numeric, print_rules};
use pointsman_kernel::Snapshot;
use pointsman_model::{Change, ServiceKey};

use crate::report;

/// Arguments of `pointsman import`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: Source,
    /// Print the rules, as `ipvsadm -Sn` does, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print what is taken over as JSON: services as `ipvsadm -L --json` has them, and timeouts.
    #[arg(long)]
    json: bool,
}

/// Whom to take over from.
#[derive(Debug, clap::Args)]
#[group(required = true)]
struct Source {
    /// The kernel's own IPVS in this network namespace.
    #[arg(long)]
    from_kernel: bool,
}

/// Runs `pointsman import …`.
pub fn run(args: &Args) -> ExitCode {
    report(import(args).map(|()| ExitCode::SUCCESS))
}

fn import(args: &Args) -> anyhow::Result<()> {
    let snapshot = pointsman_kernel::read()?;
    if !args.dry_run {
        let client = pointsman_director::ensure_running()?;
        let present = client.services()?.iter().map(|s| s.spec.key).collect();
        client.transact(&changes(&snapshot, &present))?;
    }
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &snapshot)?;
        writeln!(out)?;
    } else if args.dry_run {
        print_rules(&mut out, &Numeric, &snapshot.services)?;
    } else {
        let servers: usize = snapshot.services.iter().map(|s| s.servers.len()).sum();
        let services = snapshot.services.len();
        writeln!(
            out,
            "taken over from the kernel: services {services}, real servers {servers}, timeouts"
        )?;
    }
    Ok(())
}

/// What makes a director hold what the kernel holds. Of the services that are `present`, those that
/// the kernel has too become as they are there; others stay.
fn changes(snapshot: &Snapshot, present: &HashSet<ServiceKey>) -> Vec<Change> {
    let mut changes = vec![Change::SetTimeouts(snapshot.timeouts)];
    for service in &snapshot.services {
        let key = service.spec.key;
        if present.contains(&key) {
            changes.push(Change::DeleteService(key));
        }
        changes.push(Change::AddService(service.spec.clone()));
        // Each goes before those that are there: the oldest first.
        let servers = service.servers.iter().rev();
        changes.extend(servers.map(|server| Change::AddServer {
            service: key,
            server: server.spec,
        }));
    }
    changes
}
