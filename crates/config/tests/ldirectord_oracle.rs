//! What ldirectord itself says about bad files is what the reader says.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use pointsman_config::ldirectord::{Severity, Surroundings, read};
use pointsman_model::{Family, Protocol};

/// No name but one service; no file under `/nonexistent`.
struct Bare;

impl Surroundings for Bare {
    fn host_addr(&self, _name: &str, _family: Family) -> Option<IpAddr> {
        None
    }

    fn service_port(&self, name: &str, _protocol: Option<Protocol>) -> Option<u16> {
        (name == "http").then_some(80)
    }

    fn host_name(&self) -> String {
        "lb1".into()
    }

    fn is_directory(&self, path: &str) -> bool {
        !path.starts_with("/nonexistent")
    }

    fn append(&self, path: &str) -> Result<(), String> {
        match path.starts_with("/nonexistent") {
            true => Err("No such file or directory".into()),
            false => Ok(()),
        }
    }
}

#[test]
fn bad_files_are_refused_with_the_originals_words() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/oracle/ldirectord");
    let transcript = fs::read_to_string(here.join("bad.transcript")).unwrap();
    let mut files = 0;
    for part in transcript.split("\n$ ").skip(1) {
        let (name, rest) = part.split_once('\n').unwrap();
        let (said, status) = rest.rsplit_once("= ").unwrap();
        let said: String = said
            .lines()
            .map(|line| line.strip_prefix("> ").unwrap_or_default().to_owned() + "\n")
            .collect();

        let text = fs::read_to_string(here.join("bad").join(name)).unwrap();
        let problems = read(&text, &Bare).problems;
        let error = problems
            .iter()
            .position(|problem| problem.severity == Severity::Error);
        let shown = &problems[..error.map_or(problems.len(), |at| at + 1)];
        let ours: String = shown
            .iter()
            .map(|problem| problem.original(&format!("./{name}"), 0) + "\n")
            .collect();
        assert_eq!(ours.replace("[0]", "[PID]"), said, "{name}");
        assert_eq!(error.is_some(), status.trim() == "2", "{name}");
        files += 1;
    }
    assert!(files >= 30, "{files} files");
}
