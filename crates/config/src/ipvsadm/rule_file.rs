//! Rule files as one whole, for those who want all of it or nothing.

use pointsman_model::{Change, Error};
use thiserror::Error as ThisError;

use super::args::parse;
use super::command::Command;
use super::messages::refusal;
use super::names::Names;
use super::rules::split_line;
use super::run::change;

/// A rule and where it stands.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Line of the file, from 1.
    pub line: usize,
    /// What it asks for.
    pub change: Change,
    command: Command,
}

impl Rule {
    /// What is wrong with the line when a director refuses its change.
    pub fn refused(&self, error: &Error) -> BadLine {
        BadLine {
            line: self.line,
            why: refusal(&self.command, error),
        }
    }
}

/// What is wrong with a line of a rule file, in the words of `ipvsadm`.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("line {line}: {why}")]
pub struct BadLine {
    /// Line of the file, from 1.
    pub line: usize,
    /// What is wrong.
    pub why: String,
}

/// Reads a rule file: on each line a command that changes services, servers or timeouts, as
/// `ipvsadm -S` prints them. Empty lines, and lines that begin with `#`, are skipped.
///
/// # Errors
/// The first line that is none.
pub fn read_rules(text: &str, names: &dyn Names) -> Result<Vec<Rule>, BadLine> {
    let mut rules = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let words = split_line(content);
        if words.is_empty() || content.starts_with('#') {
            continue;
        }
        let bad = |why: String| BadLine {
            line,
            why: why.trim_end().to_owned(),
        };
        let command = parse(&words, names).map_err(|mistake| bad(mistake.to_string()))?;
        match change(&command) {
            Some(Ok(Change::Zero { .. } | Change::StartDaemon(_) | Change::StopDaemon(_)))
            | None => {
                return Err(bad("not a rule".to_owned()));
            }
            Some(Ok(change)) => rules.push(Rule {
                line,
                change,
                command,
            }),
            Some(Err(error)) => return Err(bad(refusal(&command, &error))),
        }
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use pointsman_model::ServiceKey;

    use super::*;
    use crate::ipvsadm::Numeric;

    #[test]
    fn rules_keep_their_lines() {
        let text = "# saved\n\n-A -t 192.0.2.1:80 -s rr\nipvsadm -a -t 192.0.2.1:80 -r 10.0.0.1:80 -m\n--set 1 2 3";
        let rules = read_rules(text, &Numeric).unwrap();
        let lines: Vec<_> = rules.iter().map(|rule| rule.line).collect();
        assert_eq!(lines, [3, 4, 5]);
        assert!(matches!(
            &rules[0].change,
            Change::AddService(spec) if matches!(spec.key, ServiceKey::Address { port: 80, .. })
        ));
        let bad = rules[1].refused(&Error::DestinationExists);
        assert_eq!(bad.to_string(), "line 4: Destination already exists");
    }

    #[test]
    fn local_addresses_are_read_as_they_are_saved() {
        let text = "-P -t 192.0.2.1:80 -z 10.0.0.5\n-P -t 192.0.2.1:80 -z [fd00::5]\n\
                    --del-laddr -t 192.0.2.1:80 --local-address fd00::5";
        let rules = read_rules(text, &Numeric).unwrap();
        let address = |change: &Change| match change {
            Change::AddLocalAddress { address, .. } => format!("+{address}"),
            Change::DeleteLocalAddress { address, .. } => format!("-{address}"),
            other => panic!("{other:?}"),
        };
        let made: Vec<_> = rules.iter().map(|rule| address(&rule.change)).collect();
        assert_eq!(made, ["+10.0.0.5", "+fd00::5", "-fd00::5"]);
        for wrong in ["10.0.0.5:80", "[fd00::5]:80", "nobody", ""] {
            let line = format!("-P -t 192.0.2.1:80 -z {wrong}");
            assert!(read_rules(&line, &Numeric).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_first_bad_line_is_named() {
        for (line, why) in [
            (
                "-A -t 192.0.2.1",
                "Zero port specified for non-persistent service",
            ),
            (
                "-A -t 192.0.2.1:80 -s nosuch",
                "Scheduler or persistence engine not found",
            ),
            ("-A -6 -f 1", "-6 used before -f"),
            ("-L -n", "not a rule"),
            ("-Z", "not a rule"),
            ("-R", "not a rule"),
            ("-h", "not a rule"),
            ("--start-daemon master", "not a rule"),
            (
                " # no comment",
                "Try `ipvsadm -h' or 'ipvsadm --help' for more information.",
            ),
        ] {
            let text = format!("-C\n-A -t 192.0.2.1:80\n{line}\nfoo\n");
            let why = why.to_owned();
            assert_eq!(
                read_rules(&text, &Numeric).unwrap_err(),
                BadLine { line: 3, why }
            );
        }
    }
}
