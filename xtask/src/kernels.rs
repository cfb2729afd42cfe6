//! `cargo xtask kernels`: the program tests, a lab, and the kernel's own IPVS beside ours, under the
//! kernels that Debian ships.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::cargo;
use crate::setup::{self, Purpose};
use crate::vm::{self, Kernel};

/// Run the program tests, a NAT lab and the comparison with the kernel's own IPVS under Debian's
/// kernels, in virtual machines.
#[derive(clap::Args)]
pub struct Args {
    /// Only this kernel; may be repeated.
    #[arg(long = "kernel", value_enum)]
    kernels: Vec<Kernel>,
    /// How many seconds one guest may live.
    #[arg(long, default_value_t = 1800)]
    timeout: u64,
}

/// What a kernel has of that which the data plane asks for: printed as `has WHAT yes|no`.
const FEATURES: &str = r#"
has() { if eval "$2" >/dev/null 2>&1; then echo "has $1 yes"; else echo "has $1 no"; fi; }
has BTF 'test -r /sys/kernel/btf/vmlinux'
has tcx 'grep -qw tcx_prog_attach /proc/kallsyms'
"#;

/// Runs everything under every kernel, and fails at the end if anything failed.
pub fn main(args: &Args) -> Result<()> {
    setup::ensure(Purpose::Kernels)?;
    let tests = cargo::executable(
        &[
            "test",
            "--locked",
            "--no-run",
            "--package",
            "pointsman-dataplane",
            "--test",
            "program",
        ],
        "program",
    )?;
    let beside = cargo::executable(
        &[
            "test",
            "--locked",
            "--no-run",
            "--package",
            "pointsman",
            "--test",
            "kernel",
        ],
        "kernel",
    )?;
    let build = [
        "build",
        "--locked",
        "--package",
        "pointsman",
        "--bin",
        "pointsman",
    ];
    let pointsman = cargo::executable(&build, "pointsman")?;
    let [tests, beside, pointsman] =
        [tests, beside, pointsman].map(|path| path.display().to_string());

    let options = vm::Options {
        timeout: Duration::from_secs(args.timeout),
        stream: true,
        env: vec![("RUST_BACKTRACE".into(), "1".into())],
        ..vm::Options::default()
    };
    // One guest each, so that what the first leaves behind cannot help or hinder the second.
    let runs: [(&str, Vec<&str>); 4] = [
        ("features", vec!["sh", "-c", FEATURES]),
        (
            "program tests",
            // At least two threads, for tests share what is loaded while one of them runs: emulated
            // machines take minutes to verify the programs.
            vec![&tests, "--nocapture", "--test-threads=2"],
        ),
        (
            "beside the kernel's IPVS",
            // One at a time: each starts a director, whose programs such a machine verifies for more than a
            // minute as it is.
            vec![&beside, "--nocapture", "--ignored", "--test-threads=1"],
        ),
        ("NAT lab", vec![&pointsman, "lab", "nat"]),
    ];
    let chosen = if args.kernels.is_empty() {
        &Kernel::ALL[..]
    } else {
        &args.kernels
    };
    let mut report = Report::default();
    for &kernel in chosen {
        for (name, command) in &runs {
            println!("kernels: {kernel}: {name} ...");
            let start = Instant::now();
            let command: Vec<_> = command.iter().map(|word| (*word).to_owned()).collect();
            let outcome = match vm::run(kernel, &command, &options) {
                Ok(output) => {
                    report.read(kernel, &output.stdout);
                    report.read(kernel, &output.stderr);
                    match output.status {
                        0 => "passed".to_owned(),
                        status => format!("FAILED with status {status}"),
                    }
                }
                Err(error) => format!("FAILED: {error:#}"),
            };
            let seconds = start.elapsed().as_secs();
            println!("kernels: {kernel}: {name} {outcome} after {seconds} s");
            if outcome != "passed" {
                report.failed.push(format!("{name} under {kernel}"));
            }
        }
    }
    print!("{}", report.table(chosen));
    if !report.failed.is_empty() {
        bail!("failed: {}", report.failed.join(", "));
    }
    Ok(())
}

/// What the guests' output tells, gathered.
#[derive(Default)]
struct Report {
    /// Features, then programs, in the order in which they were first seen.
    rows: Vec<(String, BTreeMap<Kernel, String>)>,
    failed: Vec<String>,
}

impl Report {
    /// Takes the lines `has WHAT yes|no` and `verified NAME N insns` from a guest's output.
    fn read(&mut self, kernel: Kernel, output: &str) {
        for line in output.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            if let ["has", feature, answer] = *words {
                self.set(kernel, feature, answer);
            }
            // Anywhere in the line: the test runner has put `test NAME ... ` before it.
            for words in words.windows(4) {
                if let ["verified", program, count, "insns"] = *words {
                    self.set(kernel, program, count);
                }
            }
        }
    }

    fn set(&mut self, kernel: Kernel, row: &str, value: &str) {
        let index = self
            .rows
            .iter()
            .position(|(name, _)| name == row)
            .unwrap_or_else(|| {
                self.rows.push((row.to_owned(), BTreeMap::new()));
                self.rows.len() - 1
            });
        self.rows[index].1.insert(kernel, value.to_owned());
    }

    /// A row for each feature and, with its verified instructions, each program.
    fn table(&self, kernels: &[Kernel]) -> String {
        let width = self
            .rows
            .iter()
            .map(|(name, _)| name.len())
            .max()
            .unwrap_or(0)
            .max(24);
        let mut table = format!("{:width$}", "verified instructions");
        for kernel in kernels {
            table += &format!("{:>12}", kernel.to_string());
        }
        table += "\n";
        for (name, values) in &self.rows {
            table += &format!("{name:width$}");
            for kernel in kernels {
                table += &format!("{:>12}", values.get(kernel).map_or("-", String::as_str));
            }
            table += "\n";
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_a_column_for_each_kernel() {
        let mut report = Report::default();
        report.read(
            Kernel::V6_1,
            "has tcx no\ntest a ... verified director_xdp 1234 insns\n",
        );
        report.read(Kernel::V6_12, "has tcx yes\n");
        let table = report.table(&Kernel::ALL);
        let rows: Vec<Vec<_>> = table
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            rows,
            [
                vec!["verified", "instructions", "6.1", "6.12"],
                vec!["tcx", "no", "yes"],
                vec!["director_xdp", "1234", "-"],
            ]
        );
    }
}
