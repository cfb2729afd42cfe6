//! `cargo xtask compare`: Pointsman beside nftables, HAProxy and the kernel's IPVS, into `docs/benchmarks.md`.

use std::fmt::Write;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo;
use crate::page;
use crate::setup::{self, Purpose};
use crate::sh;
use crate::vm::{self, Kernel};

/// The part of the page that is replaced.
const BEGIN: &str = "<!-- begin: written by cargo xtask compare -->";
const END: &str = "<!-- end of comparison -->";

/// Measure Pointsman beside other balancers and write the medians into docs/benchmarks.md.
#[derive(clap::Args)]
pub struct Args {
    /// Also in a guest with this kernel, which has IPVS; may be repeated.
    #[arg(long = "kernel", value_enum)]
    kernels: Vec<Kernel>,
    /// How many seconds a guest may live.
    #[arg(long, default_value_t = 1800)]
    timeout: u64,
    /// How often each is measured; the medians count.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Only print.
    #[arg(long)]
    print: bool,
}

/// Runs the bench `balancers` here, and in guests.
pub fn main(args: &Args) -> Result<()> {
    setup::ensure(Purpose::Compare)?;
    setup::require_root("making network namespaces")?;
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
    let output = sh::command(&balancers)
        .arg(format!("rounds={}", args.rounds))
        .stderr(Stdio::inherit())
        .output()
        .context("starting the bench")?;
    if !output.status.success() {
        bail!("the bench failed");
    }
    let release = sh::read(sh::command("uname").arg("-r"))?;
    let rounds = match args.rounds {
        1 => "once".to_owned(),
        more => format!("medians of {more} rounds"),
    };
    let mut text = format!(
        "On Linux {}, {rounds}:\n\n{}",
        release.trim(),
        table(&output.stdout)?
    );
    for &kernel in &args.kernels {
        let options = vm::Options {
            timeout: Duration::from_secs(args.timeout),
            ..vm::Options::default()
        };
        // Emulated: once is long enough, and what iperf3 and wrk do is lost in their own cost.
        let words = ["packets", "rounds=1"].map(str::to_owned);
        let command = [&[balancers.display().to_string()], &words[..]].concat();
        let output = vm::run(kernel, &command, &options)?;
        if output.status != 0 {
            bail!("under {kernel}: {}", output.stderr);
        }
        let table = table(output.stdout.as_bytes())?;
        let _ = write!(
            text,
            "\nIn an emulated guest with Linux {kernel}, once:\n\n{table}"
        );
    }
    println!("{text}");
    if args.print {
        return Ok(());
    }
    page::replace(BEGIN, END, &text)
}

/// The bench's JSON as Markdown: a table for each network, a row for each balancer.
fn table(json: &[u8]) -> Result<String> {
    let rows: Vec<Value> = serde_json::from_slice(json).context("what the bench printed")?;
    fn of<'a>(row: &'a Value, key: &str) -> &'a str {
        row[key].as_str().unwrap_or_default()
    }
    let distinct = |key: &str| {
        let mut names: Vec<&str> = Vec::new();
        for name in rows.iter().map(|row| of(row, key)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    };
    let units = distinct("unit");
    let columns: Vec<_> = units.iter().map(|unit| unit.to_string()).collect();
    let tables = distinct("network").into_iter().map(|network| {
        let cell = |balancer: &str, at: usize| {
            let same = |row: &&Value| {
                let keys = ["network", "balancer", "unit"].map(|key| of(row, key));
                keys == [network, balancer, units[at]]
            };
            rows.iter().find(same)?["value"].as_f64().map(significant)
        };
        page::table(network, &columns, &distinct("balancer"), cell)
    });
    Ok(tables.collect::<Vec<_>>().join("\n"))
}

/// Three digits.
fn significant(value: f64) -> String {
    let digits = 2 - value.abs().max(1e-9).log10().floor() as i32;
    format!("{value:.*}", digits.clamp(0, 6) as usize)
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
            | M | Mpps | connections/s |\n|---|---:|---:|\n| B | 2.00 | – |\n";
        assert_eq!(table(json).unwrap(), wanted);
        assert!(table(b"{}").is_err());
    }
}
