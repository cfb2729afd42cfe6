//! What an operator sets beside services: variables and mark rules, by command and across a restart.
//!
//! Needs root and `ip`; fails without.

use std::io::Write as _;
use std::process::{Output, Stdio};

use pointsman_api::Location;
use pointsman_testkit::{Director, Names, Netns};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");

/// Runs the program in a namespace; its exit status, output and complaints.
fn run(netns: &Netns, arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut child = Director::new(PROGRAM, netns)
        .command()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Whoever does not read may be gone by now.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[track_caller]
fn says(netns: &Netns, arguments: &[&str], expected: &str) {
    let (code, out, err) = run(netns, arguments, "");
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), expected, ""));
}

#[track_caller]
fn refuses(netns: &Netns, arguments: &[&str], reason: &str) {
    let (code, _, err) = run(netns, arguments, "");
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains(reason), "{err}");
}

#[test]
fn variables_and_mark_rules_are_set_shown_and_outlive_the_director() {
    let names = Names::transient();
    let netns = Netns::new(&names, "director").unwrap();
    refuses(&netns, &["sysctl", "-a"], "no director runs");
    refuses(&netns, &["mark", "list"], "no director runs");
    let (code, _, err) = run(&netns, &["director", "start"], "");
    assert_eq!(code, Some(0), "{err}");

    let (_, all, _) = run(&netns, &["sysctl", "-a"], "");
    assert_eq!(all.lines().count(), 31);
    for line in [
        "net.ipv4.vs.am_droprate = 10",
        "net.ipv4.vs.sync_threshold = 3\t50",
        "net.ipv4.vs.snat_reroute = 1",
    ] {
        assert!(all.lines().any(|l| l == line), "{all}");
    }
    says(
        &netns,
        &["sysctl", "sloppy_tcp=1", "net/ipv4/vs/drop_entry = 3"],
        "net.ipv4.vs.sloppy_tcp = 1\nnet.ipv4.vs.drop_entry = 3\n",
    );
    says(&netns, &["sysctl", "-n", "net.ipv4.vs.sloppy_tcp"], "1\n");
    says(&netns, &["sysctl", "-n", "snat_reroute=1"], "1\n");
    for (argument, reason) in [
        ("drop_entry=4", "modes are 0 to 3"),
        ("conntrack=1", "conntrack stays 0"),
        ("nonsense", "no such variable"),
        ("sloppy_tcp=x", "no 32-bit number"),
    ] {
        refuses(&netns, &["sysctl", argument], reason);
    }
    // One that is refused does not stop the next.
    let (code, out, _) = run(&netns, &["sysctl", "drop_entry=9", "pmtu_disc=0"], "");
    assert_eq!(
        (code, out.as_str()),
        (Some(1), "net.ipv4.vs.pmtu_disc = 0\n")
    );

    let add = "mark add to 192.0.2.0/24 protocol tcp port 80,443 in eth0 mark 7";
    says(&netns, &add.split(' ').collect::<Vec<_>>(), "");
    says(&netns, &["mark", "add", "--at", "1", "mark", "0x10"], "");
    let listed = "1: mark 16\n2: to 192.0.2.0/24 protocol tcp port 80,443 in eth0 mark 7\n";
    says(&netns, &["mark", "list"], listed);
    refuses(&netns, &["mark", "add", "to", "www", "mark", "1"], "to www");
    refuses(&netns, &["mark", "del", "3"], "there are 2");
    let (code, _, err) = run(&netns, &["mark", "set"], "mark 1\nmark x\n");
    assert_eq!(code, Some(1));
    assert!(err.contains("line 2"), "{err}");
    says(&netns, &["mark", "list"], listed);

    // Killed and started anew, it finds everything as it was.
    Director::new(PROGRAM, &netns).kill().unwrap();
    let (code, out, err) = run(&netns, &["director", "start"], "");
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("took over"), "{out}");
    says(
        &netns,
        &["sysctl", "-n", "sloppy_tcp", "drop_entry", "pmtu_disc"],
        "1\n3\n0\n",
    );
    says(&netns, &["mark", "list"], listed);
    let (_, json, _) = run(&netns, &["mark", "list", "--json"], "");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[1]["to"], "192.0.2.0/24");
    assert_eq!(json[1]["ports"][1], "443");

    says(&netns, &["mark", "del", "1"], "");
    let (code, _, err) = run(
        &netns,
        &["mark", "set"],
        "# all\n1: mark 3\n\nport 1-2 mark 4\n",
    );
    assert_eq!(code, Some(0), "{err}");
    says(&netns, &["mark", "list"], "1: mark 3\n2: port 1-2 mark 4\n");
    says(&netns, &["mark", "flush"], "");
    says(&netns, &["mark", "list"], "");

    let (code, _, err) = run(&netns, &["director", "stop"], "");
    assert_eq!(code, Some(0), "{err}");
    let location = Location::of_netns(netns.name()).unwrap();
    assert!(!location.pin_dir().exists());
}
