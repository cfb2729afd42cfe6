//! `cargo xtask compare`: Pointsman beside nftables, HAProxy and the kernel's IPVS, into `docs/benchmarks.md`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo;
use crate::page;
use crate::setup::{self, Purpose};
use crate::sh;
use crate::vm::{self, Accelerator, Kernel};

/// The parts of the page that are replaced: what was measured here, and in guests.
const HERE: [&str; 2] = [
    "<!-- begin: written by cargo xtask compare -->",
    "<!-- end of comparison -->",
];
const GUESTS: [&str; 2] = [
    "<!-- begin: written by cargo xtask compare --kernel -->",
    "<!-- end of comparison in guests -->",
];
/// What of ours is judged, and by whom.
const OURS: &str = "Pointsman, XDP";
const THEIRS: &str = "IPVS";
/// How many times as much is wanted, of which units.
const AIMS: [(&str, f64); 2] = [("Mpps", 3.0), ("new connections/s", 1.5)];

/// Measure Pointsman beside other balancers and write the medians into docs/benchmarks.md.
#[derive(clap::Args)]
pub struct Args {
    /// Not here, but in a guest with this kernel, which has IPVS: only floods of packets; may be repeated.
    #[arg(long = "kernel", value_enum)]
    kernels: Vec<Kernel>,
    /// Who executes a guest's instructions.
    #[arg(long, value_enum, default_value = "tcg")]
    accelerator: Accelerator,
    /// How many seconds a guest may live.
    #[arg(long, default_value_t = 3600)]
    timeout: u64,
    /// How often each is measured; the medians count.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Only print.
    #[arg(long)]
    print: bool,
}

/// Runs the bench `balancers` here, or in guests.
pub fn main(args: &Args) -> Result<()> {
    setup::ensure(Purpose::Compare)?;
    let build = [
        "bench",
        "--locked",
        "--no-run",
        "--package",
        "pointsman",
        "--bench",
        "balancers",
    ];
    let balancers = cargo::executable(&build, "balancers")?;
    let rounds = match args.rounds {
        1 => "once".to_owned(),
        more => format!("medians of {more} rounds"),
    };
    let word = format!("rounds={}", args.rounds);
    let (mut text, [begin, end]) = if args.kernels.is_empty() {
        (here(&balancers, &word, &rounds)?, HERE)
    } else {
        (String::new(), GUESTS)
    };
    for &kernel in &args.kernels {
        let options = vm::Options {
            timeout: Duration::from_secs(args.timeout),
            accelerator: args.accelerator,
            stream: true,
            ..vm::Options::default()
        };
        // What iperf3 and wrk do is lost in their own cost, where it is emulated.
        let words = ["packets", "connections", &word].map(str::to_owned);
        let command = [&[balancers.display().to_string()], &words[..]].concat();
        let output = vm::run(kernel, &command, &options)?;
        if output.status != 0 {
            bail!("the bench failed under {kernel}");
        }
        let how = match args.accelerator {
            Accelerator::Tcg => "emulated",
            Accelerator::Kvm => "virtual",
        };
        let tables = tables(output.stdout.as_bytes())?;
        let gap = if text.is_empty() { "" } else { "\n" };
        let _ = write!(
            text,
            "{gap}In a guest with Linux {kernel} and {} {how} processors, {rounds}:\n\n{tables}",
            options.cpus
        );
    }
    println!("{text}");
    if args.print {
        return Ok(());
    }
    page::replace(begin, end, &text)
}

/// Measures on this machine.
fn here(balancers: &Path, word: &str, rounds: &str) -> Result<String> {
    setup::require_root("making network namespaces")?;
    let mut bench = sh::command(balancers);
    let output = bench.arg(word).stderr(Stdio::inherit()).output();
    let output = output.context("starting the bench")?;
    if !output.status.success() {
        bail!("the bench failed");
    }
    let release = sh::read(sh::command("uname").arg("-r"))?;
    let tables = tables(&output.stdout)?;
    Ok(format!(
        "On Linux {}, {rounds}:\n\n{tables}",
        release.trim()
    ))
}

/// What the bench prints.
struct Figures(Vec<Value>);

impl Figures {
    /// Different values of a key among the rows of a network, or of all; in their order.
    fn distinct(&self, key: &str, network: Option<&str>) -> Vec<&str> {
        let mut names = Vec::new();
        for row in &self.0 {
            let name = row[key].as_str().unwrap_or_default();
            let here = network.is_none_or(|network| row["network"] == network);
            if here && !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    fn value(&self, network: &str, balancer: &str, unit: &str) -> Option<f64> {
        let wanted = [("network", network), ("balancer", balancer), ("unit", unit)];
        let is_it = |row: &&Value| wanted.iter().all(|&(key, value)| row[key] == value);
        self.0.iter().find(is_it)?["value"].as_f64()
    }
}

/// The bench's JSON as Markdown: a table for each network, a row for each balancer; verdicts, where
/// there is IPVS.
fn tables(json: &[u8]) -> Result<String> {
    let rows = serde_json::from_slice(json).context("what the bench printed")?;
    let figures = Figures(rows);
    let networks = figures.distinct("network", None);
    let tables = networks.iter().map(|network| {
        let units = figures.distinct("unit", Some(network));
        let columns: Vec<_> = units.iter().map(|unit| unit.to_string()).collect();
        let cell = |balancer: &str, at: usize| {
            let value = figures.value(network, balancer, units[at]);
            value.map(page::significant)
        };
        let balancers = figures.distinct("balancer", Some(network));
        page::table(network, &columns, &balancers, cell)
    });
    let mut tables: Vec<_> = tables.collect();
    tables.extend(verdicts(&figures, &networks));
    Ok(tables.join("\n"))
}

/// A table that judges: in each network, each aim that was measured.
fn verdicts(figures: &Figures, networks: &[&str]) -> Option<String> {
    let mut judged = BTreeMap::new();
    for network in networks {
        for (unit, aim) in AIMS {
            let value = |balancer| figures.value(network, balancer, unit);
            if let Some((ours, theirs)) = value(OURS).zip(value(THEIRS)) {
                // As it is printed.
                let ratio = (ours / theirs * 100.0).round() / 100.0;
                let met = page::met(ratio >= aim).to_owned();
                let cells = [format!("≥ {aim}"), format!("{ratio:.2}"), met];
                judged.insert(format!("{network}: {unit}"), cells);
            }
        }
    }
    let rows: Vec<_> = judged.keys().map(String::as_str).collect();
    let columns = ["aim", "measured", "met"].map(str::to_owned);
    let title = format!("{OURS}, to {THEIRS}");
    let table = || {
        page::table(&title, &columns, &rows, |row, at| {
            Some(judged[row][at].clone())
        })
    };
    (!rows.is_empty()).then(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_row_for_each_balancer() {
        let json = br#"[
            {"network": "N", "balancer": "A", "unit": "Mpps", "value": 0.51234},
            {"network": "N", "balancer": "A", "unit": "connections/s", "value": 12345.6},
            {"network": "N", "balancer": "B", "unit": "connections/s", "value": 99.96},
            {"network": "M", "balancer": "B", "unit": "Mpps", "value": 2.0}]"#;
        let wanted = "| N | Mpps | connections/s |\n|---|---:|---:|\n\
            | A | 0.512 | 12346 |\n| B | – | 100.0 |\n\n\
            | M | Mpps |\n|---|---:|\n| B | 2.00 |\n";
        assert_eq!(tables(json).unwrap(), wanted);
        assert!(tables(b"{}").is_err());
    }

    #[test]
    fn what_is_measured_of_both_is_judged() {
        let json = br#"[
            {"network": "N", "balancer": "Pointsman, XDP", "unit": "Mpps", "value": 2.996},
            {"network": "N", "balancer": "IPVS", "unit": "Mpps", "value": 1.0},
            {"network": "N", "balancer": "IPVS", "unit": "Gbit/s", "value": 1.0},
            {"network": "M", "balancer": "Pointsman, XDP", "unit": "new connections/s", "value": 14},
            {"network": "M", "balancer": "IPVS", "unit": "new connections/s", "value": 10}]"#;
        let wanted = "\n| Pointsman, XDP, to IPVS | aim | measured | met |\n|---|---:|---:|---:|\n\
            | M: new connections/s | ≥ 1.5 | 1.40 | **no** |\n| N: Mpps | ≥ 3 | 3.00 | yes |\n";
        assert!(tables(json).unwrap().ends_with(wanted));
    }
}
