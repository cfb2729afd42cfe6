//! `pointsman proc`: what the kernel's IPVS would show in `/proc/net`.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::ValueEnum;
use pointsman_api::Client;
use pointsman_config::proc;

use crate::report;

/// Arguments of `pointsman proc`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file of /proc/net.
    #[arg(value_enum)]
    file: File,
}

/// Files that the kernel's IPVS has in `/proc/net`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum File {
    /// Services and real servers.
    #[value(name = "ip_vs")]
    Services,
    /// Connections.
    #[value(name = "ip_vs_conn")]
    Connections,
    /// Connections, and where they were learned.
    #[value(name = "ip_vs_conn_sync")]
    ConnectionsSync,
    /// Totals and rates.
    #[value(name = "ip_vs_stats")]
    Stats,
    /// What each CPU counted.
    #[value(name = "ip_vs_stats_percpu")]
    StatsPerCpu,
}

/// Runs `pointsman proc …`.
pub fn run(args: &Args) -> ExitCode {
    report(print(args.file).map(|()| ExitCode::SUCCESS))
}

fn print(file: File) -> anyhow::Result<()> {
    let client = Client::here()?;
    let mut out = BufWriter::new(io::stdout().lock());
    match file {
        File::Services => {
            let table = client.table()?;
            let services = client.services()?;
            proc::print_services(&mut out, &services, table.connection_slots, table.hz)?;
        }
        File::Connections => proc::print_connections(&mut out, &client.connections()?)?,
        File::ConnectionsSync => proc::print_connections_sync(&mut out, &client.connections()?)?,
        File::Stats => {
            let totals = client.totals()?;
            proc::print_stats(&mut out, totals.counters, totals.rates)?;
        }
        File::StatsPerCpu => {
            let totals = client.totals()?;
            let (counters, rates) = (totals.counters, totals.rates);
            proc::print_stats_percpu(&mut out, &totals.per_cpu, counters, rates)?;
        }
    }
    out.flush()?;
    Ok(())
}
