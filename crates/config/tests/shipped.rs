//! The example files of Debian's packages are read, and each example in them that is commented out.
//!
//! Needs the packages `ldirectord` (its example file) and, downloaded by `cargo xtask setup test`,
//! the examples of `heartbeat` in `target/heartbeat`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;

use pointsman_config::heartbeat::{Problem, authkeys, ha_cf, haresources};
use pointsman_config::ldirectord::{Severity, Surroundings, read};
use pointsman_model::{Family, Protocol};

/// Knows the names that the examples use.
struct Examples;

impl Surroundings for Examples {
    fn host_addr(&self, name: &str, family: Family) -> Option<IpAddr> {
        let number: u8 = name.strip_prefix("sql")?.parse().ok()?;
        (family == Family::V4).then(|| Ipv4Addr::new(192, 168, 10, number).into())
    }

    fn service_port(&self, _name: &str, _protocol: Option<Protocol>) -> Option<u16> {
        None
    }

    fn host_name(&self) -> String {
        "lb1".into()
    }

    fn is_directory(&self, _path: &str) -> bool {
        true
    }

    fn append(&self, _path: &str) -> Result<(), String> {
        Ok(())
    }
}

#[test]
fn every_example_of_ldirectord_is_read() {
    let path = "/usr/share/doc/ldirectord/examples/ldirectord.cf";
    let text = std::fs::read_to_string(path).expect("the Debian package ldirectord");
    let errors = |text: &str| -> Vec<String> {
        let problems = read(text, &Examples).problems;
        let bad = problems.iter().filter(|p| p.severity == Severity::Error);
        bad.map(ToString::to_string).collect()
    };
    assert_eq!(errors(&text), [""; 0], "as it is");
    // Each commented block, and each commented line of globals, by itself.
    let lines: Vec<&str> = text.lines().collect();
    let mut examples = 0;
    for (n, line) in lines.iter().enumerate() {
        let Some(code) = line.strip_prefix('#') else {
            continue;
        };
        let mut example = if code.starts_with("virtual") {
            let body = lines[n + 1..]
                .iter()
                .take_while(|line| line.starts_with("#\t") || line.starts_with("#    "))
                .map(|line| format!("{}\n", &line[1..]));
            format!("{code}\n{}", body.collect::<String>())
        } else if code.starts_with(|c: char| c.is_ascii_lowercase()) && code.contains('=') {
            code.to_owned()
        } else {
            continue;
        };
        example.push('\n');
        assert_eq!(errors(&example), [""; 0], "line {}:\n{example}", n + 1);
        examples += 1;
    }
    assert!(examples >= 20, "{examples} examples");
}

fn errors(problems: &[Problem]) -> Vec<String> {
    let bad = problems.iter().filter(|p| p.severity == Severity::Error);
    bad.map(ToString::to_string).collect()
}

/// A file of the package's documentation.
fn example(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/heartbeat");
    let path = root.join("usr/share/doc/heartbeat").join(name);
    let plain = std::fs::read_to_string(&path);
    plain.unwrap_or_else(|_| {
        let output = Command::new("gzip")
            .arg("-dc")
            .arg(path.with_added_extension("gz"))
            .output();
        let output = output.expect("gzip");
        assert!(
            output.status.success(),
            "{name}: run `cargo xtask setup test`"
        );
        String::from_utf8(output.stdout).unwrap()
    })
}

#[test]
fn every_example_of_heartbeat_is_read() {
    let ha = example("ha.cf");
    let mut directives = 0;
    for line in ha.lines().filter_map(|line| line.strip_prefix('#')) {
        if !line.starts_with(|c: char| c.is_ascii_lowercase()) {
            continue;
        }
        let whole = "bcast eth0\nnode a b\nauto_failback on\n";
        let text = match line.split_whitespace().next() {
            Some("node") => format!("bcast eth0\nauto_failback on\n{line}\nnode x\n"),
            _ => format!("{whole}{line}\n"),
        };
        assert_eq!(errors(&ha_cf::read(&text).1), [""; 0], "{line}");
        directives += 1;
    }
    assert!(directives >= 30, "{directives}");

    let mut groups = 0;
    for line in example("haresources")
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
    {
        if line.starts_with("just.linux-ha.org") || line.starts_with("node1") {
            let (file, problems) = haresources::read(line);
            assert_eq!(errors(&problems), [""; 0], "{line}");
            groups += file.groups.len();
        }
    }
    assert_eq!(groups, 5);

    let keys: String = example("authkeys")
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| line.starts_with("auth 1") || line.starts_with(['1', '2', '3']))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(errors(&authkeys::read(&keys).1), [""; 0], "{keys}");
}
