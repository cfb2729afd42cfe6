//! `pointsman mark`: native mark rules, which stand in for netfilter's marks.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use pointsman_api::Client;
use pointsman_model::MarkRule;

/// Arguments of `pointsman mark`.
#[derive(Debug, clap::Args)]
pub struct MarkArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Add a rule at the end.
    Add {
        /// Insert it as this number instead, counted from 1.
        #[arg(long, value_name = "NUMBER")]
        at: Option<usize>,
        /// The rule: `[family ipv4|ipv6] [from NET] [to NET] [protocol tcp|udp|sctp] [port PORTS] [in
        /// INTERFACE] mark MARK`, as in `to 192.0.2.0/24 protocol tcp port 80,443,8000-8100 mark 7`.
        #[arg(required = true, value_name = "RULE")]
        rule: Vec<String>,
    },
    /// Remove a rule.
    Del {
        /// Its number, counted from 1.
        number: usize,
    },
    /// Show the rules in the order in which they are tried.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove all rules.
    Flush,
    /// Replace all rules at once by those of a file, a line each, as `list` shows them.
    Set {
        /// The file [default: standard input]
        file: Option<PathBuf>,
    },
}

/// Runs `pointsman mark …`.
pub fn run(args: &MarkArgs) -> ExitCode {
    match attempt(&args.verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pointsman: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn attempt(verb: &Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Add { at, rule } => {
            let rule: MarkRule = rule.join(" ").parse()?;
            Client::here()?.add_mark_rule(*at, &rule)?;
        }
        Verb::Del { number } => Client::here()?.delete_mark_rule(*number)?,
        Verb::List { json } => {
            let rules = Client::here()?.mark_rules()?;
            crate::say(&if *json {
                serde_json::to_string_pretty(&rules)? + "\n"
            } else {
                listing(&rules)
            });
        }
        Verb::Flush => Client::here()?.set_mark_rules(&[])?,
        Verb::Set { file } => {
            let (name, text) = match file {
                Some(path) => {
                    let name = path.display().to_string();
                    let text = std::fs::read_to_string(path).with_context(|| name.clone())?;
                    (name, text)
                }
                None => {
                    let mut text = String::new();
                    std::io::stdin().read_to_string(&mut text)?;
                    ("standard input".to_owned(), text)
                }
            };
            Client::here()?.set_mark_rules(&read(&text).context(name)?)?;
        }
    }
    Ok(())
}

fn listing(rules: &[MarkRule]) -> String {
    let lines = rules.iter().enumerate();
    lines
        .map(|(i, rule)| format!("{}: {rule}\n", i + 1))
        .collect()
}

/// Reads what [`listing`] wrote; numbers, empty lines and comments (`#`) are passed over.
fn read(text: &str) -> anyhow::Result<Vec<MarkRule>> {
    let mut rules = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let rule = match line.split_once(':') {
            Some((number, rest)) if number.bytes().all(|b| b.is_ascii_digit()) => rest,
            _ => line,
        };
        if !rule.is_empty() {
            rules.push(rule.parse().with_context(|| format!("line {}", i + 1))?);
        }
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_can_be_set() {
        let text = "1: to 2001:db8::/32 protocol tcp port 80 mark 7\n2: mark 0\n";
        let rules = read(text).unwrap();
        assert_eq!(listing(&rules), text);
        let more = "# web\n\n to 2001:db8::/32 protocol tcp port 80 mark 7 # here\nmark 0";
        assert_eq!(read(more).unwrap(), rules);
        let error = read("mark 1\nmark\n").unwrap_err();
        assert_eq!(format!("{error:#}"), "line 2: invalid: mark wants a value");
    }
}
