//! `pointsman check` and `pointsman convert` on files: what is said of them, where, and with which
//! status; what `convert` prints is good.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");

const LDIRECTORD: &str = "\
checkinterval=5
quiescent=yes
fallback=127.0.0.1
virtual=192.0.2.1:80
\treal=10.0.0.2:80 masq 5
\treal=10.0.0.3->10.0.0.5:80 gate
\tservice=http
\trequest=\"index.html\"
\treceive=\"Test\"
\tscheduler=wlc
\tpersistent=600
virtual=7
\treal=10.0.0.2 gate
\tprotocol=fwm
\tservice=http
\tcheckport=80
virtual=192.0.2.1:25
\treal=10.0.0.2:25 masq
\tservice=smtp
virtual=192.0.2.1:53
\tprotocol=udp
\treal=10.0.0.2:53 masq
\tservice=dns
\trequest=\"x.example\"
virtual=192.0.2.1:443
\treal=10.0.0.2:443 ipip
\tservice=https
\trequest=\"/x\"
virtual6=[2001:db8::1]:80
\treal6=[2001:db8::2]:80 gate
\tchecktype=connect
virtual=192.0.2.2:80
\treal=10.0.0.2:80 masq
\tchecktype=external
\tcheckcommand=\"/bin/true\"
virtual=192.0.2.3:80
\treal=10.0.0.2:80 masq
\tchecktype=ping
";

/// Runs the program beside a file of this name and content; status and standard output.
fn run(directory: &TempDir, words: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(PROGRAM)
        .args(words)
        .current_dir(directory.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text)
}

#[track_caller]
fn check(name: &str, content: &str, status: i32, places: &[&str]) {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join(name), content).unwrap();
    let (code, text) = run(&directory, &["check", name]);
    assert_eq!(code, Some(status), "{text}");
    let said: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with(&format!("{name}:")))
        .collect();
    assert_eq!(said, places, "{text}");
    if status == 0 {
        assert_eq!(text, "good\n");
    }
}

#[test]
fn good_files_are_good() {
    check("www.cf", LDIRECTORD, 0, &[]);
    check(
        "haresources",
        "node1 IPaddr::192.0.2.1/24/eth0 ldirectord httpd\n",
        0,
        &[],
    );
    check(
        "ha.cf",
        "keepalive 1\ndeadtime 4\nbcast eth0\nauto_failback on\nnode a b\n",
        0,
        &[],
    );
    check("authkeys", "auth 1\n1 sha1 secret\n", 0, &[]);
    check(
        "saved.rules",
        "-A -t 192.0.2.1:80 -s wlc\n-a -t 192.0.2.1:80 -r 10.0.0.2:80 -m\n",
        0,
        &[],
    );
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    check(
        "www.cf",
        "checkinterval=0\nvirtual=192.0.2.1:80\n\treal=10.0.0.2:80 masq 1\n\tscheduler=wrong\n",
        5,
        &[
            "www.cf:1:15: error: invalid check interval value",
            "www.cf:4:12: error: invalid scheduler: wrong is not known",
        ],
    );
    check(
        "haresources",
        "node1 IPaddr::10.0.0.300/24/eth0 x\n",
        5,
        &["haresources:1:7: error: 10.0.0.300: expected an address"],
    );
    check(
        "ha.cf",
        "keepalive two\nbcast eth0\nauto_failback on\nnode a b\n",
        5,
        &["ha.cf:1:11: error: two: expected seconds, or a number with us, ms, s, m or h"],
    );
    check(
        "authkeys",
        "auth 3\n1 crc\n",
        5,
        &["authkeys:1:6: error: auth 3: expected a line `3 sha1 KEY` for it"],
    );
    check(
        "saved.rules",
        "-A -t 192.0.2.1:80 -s wlc\n-a -t 192.0.2.1:80 -r 10.0.0.2:80 -q\n",
        5,
        &["saved.rules:2:1: error: -q: unknown option"],
    );
}

#[test]
fn a_file_that_is_not_there_is_unusable() {
    let directory = TempDir::new().unwrap();
    for name in ["www.cf", "haresources", "ha.cf", "authkeys", "x.rules"] {
        let (code, text) = run(&directory, &["check", name]);
        assert_eq!(code, Some(4), "{text}");
    }
}

#[test]
fn a_converted_ldirectord_cf_is_a_good_keepalived_conf() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("www.cf"), LDIRECTORD).unwrap();
    let (code, converted) = run(&directory, &["convert", "www.cf"]);
    assert_eq!(code, Some(0), "{converted}");
    for line in [
        "# not converted: line 22: a dns check became a plain connection (TCP_CHECK)",
        "virtual_server 192.0.2.1 80 {",
        "virtual_server fwmark 7 {",
        "virtual_server 2001:db8::1 80 {",
        "    persistence_timeout 600",
    ] {
        assert!(converted.lines().any(|l| l == line), "{line}\n{converted}");
    }
    fs::write(directory.path().join("keepalived.conf"), converted).unwrap();
    let (code, text) = run(&directory, &["check", "keepalived.conf"]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn converted_haresources_are_a_good_keepalived_conf() {
    let directory = TempDir::new().unwrap();
    for (name, content) in [
        ("haresources", "a IPaddr::192.0.2.1/24/eth0 httpd\n"),
        (
            "ha.cf",
            "keepalive 1\ndeadtime 4\nbcast eth0\nauto_failback on\nnode a b\n",
        ),
        ("authkeys", "auth 1\n1 sha1 secret\n"),
    ] {
        fs::write(directory.path().join(name), content).unwrap();
    }
    let words = ["convert", "haresources", "--node", "a"];
    let (code, converted) = run(&directory, &words);
    assert_eq!(code, Some(0), "{converted}");
    assert!(converted.contains("192.0.2.1/24"), "{converted}");
    fs::write(directory.path().join("keepalived.conf"), converted).unwrap();
    let (code, text) = run(&directory, &["check", "keepalived.conf"]);
    assert_eq!(code, Some(0), "{text}");
}
