//! `pointsman lab` itself.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::PROGRAM;

/// Namespaces whose names begin so.
fn standing(prefix: &str) -> Vec<String> {
    let entries = fs::read_dir("/run/netns").unwrap();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with(prefix)).collect()
}

fn start(arguments: &[&str]) -> Child {
    let mut command = Command::new(PROGRAM);
    command.arg("lab").args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::piped()).spawn().unwrap()
}

fn holds_what_it_claims(arguments: &[&str]) {
    let child = start(arguments);
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}\n{text}", output.status);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["ok"], true);
    let checks = report["steps"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|step| step["checks"].as_array());
    assert!(checks.flatten().count() >= 6, "{text}");
    assert_eq!(standing(&format!("pm-{pid}-")), Vec::<String>::new());
}

#[test]
fn the_nat_lab_holds_what_it_claims() {
    holds_what_it_claims(&["nat", "--json"]);
    holds_what_it_claims(&["nat", "--json", "--hook", "xdp"]);
}

#[test]
fn the_direct_routing_lab_holds_what_it_claims() {
    holds_what_it_claims(&["dr", "--json"]);
    holds_what_it_claims(&["dr", "--json", "--hook", "xdp"]);
}

#[test]
fn the_tunnelling_lab_holds_what_it_claims() {
    holds_what_it_claims(&["tun", "--json"]);
    holds_what_it_claims(&["tun", "--json", "--hook", "xdp"]);
}

#[test]
fn the_fullnat_lab_holds_what_it_claims() {
    holds_what_it_claims(&["fullnat", "--json"]);
    holds_what_it_claims(&["fullnat", "--json", "--hook", "xdp"]);
}

#[test]
fn the_firewall_mark_lab_holds_what_it_claims() {
    holds_what_it_claims(&["fwmark", "--json"]);
    holds_what_it_claims(&["fwmark", "--json", "--hook", "xdp"]);
}

#[test]
fn doctor() {
    holds_what_it_claims(&["doctor", "--json"]);
}

#[test]
fn the_failover_lab_holds_what_it_claims() {
    holds_what_it_claims(&["failover", "--json"]);
}

#[test]
fn an_interrupted_lab_leaves_nothing_behind() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut child = start(&["dr"]);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let director =
            lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("ipvsadm -A")));
        assert!(director.is_some(), "the lab got as far as the service");
        let prefix = format!("pm-{}-", child.id());
        assert!(!standing(&prefix).is_empty());
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        lines.for_each(drop);
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert_eq!(standing(&prefix), Vec::<String>::new());
    }
}

#[test]
fn a_kept_lab_stays_until_it_is_removed() {
    let name = format!("test{}", std::process::id());
    let prefix = format!("pointsman-{name}-");
    let mut child = start(&["nat", "--keep", "--name", &name]);
    let mut text = String::new();
    let mut output = child.stdout.take().unwrap();
    output.read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    let director = format!("{prefix}director");
    let listing = Command::new(PROGRAM)
        .args(["--netns", &director, "ipvsadm", "-Ln"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&listing.stdout).contains("172.25.254.100:80"));
    let mut again = start(&["nat", "--keep", "--name", &name]);
    assert!(!again.wait().unwrap().success(), "it stands already");
    assert!(start(&["remove", &name]).wait().unwrap().success());
    assert_eq!(standing(&prefix), Vec::<String>::new());
}
