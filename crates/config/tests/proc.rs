//! `/proc/net` and connection listings say what the kernel and the original said.

mod support;

use pointsman_config::ipvsadm::{Numeric, print_connections};
use pointsman_config::proc;
use pointsman_model::{ConnectionView, Counters, Rates};
use support::kernel::proc_connection;

const RECORD: &str = include_str!("../../../tests/oracle/kernel.recorded");

/// Each recorded command with its output, in order.
fn recorded() -> Vec<(&'static str, String)> {
    let mut commands: Vec<(&str, String)> = Vec::new();
    for line in RECORD.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            commands.push((command, String::new()));
        } else if let Some(output) = line.strip_prefix("> ") {
            let (_, said) = commands.last_mut().unwrap();
            *said += &format!("{output}\n");
        }
    }
    commands
}

/// What a command said.
fn said(command: &str) -> String {
    let mut commands = recorded().into_iter();
    commands.find(|(c, _)| *c == command).unwrap().1
}

fn connections(proc: &str) -> Vec<ConnectionView> {
    let rows = proc.lines().skip(1);
    rows.map(|row| proc_connection(&row.split_whitespace().collect::<Vec<_>>()))
        .collect()
}

fn text(print: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    print(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn connections_are_listed_as_recorded() {
    let recorded = recorded();
    let mut listings = 0;
    for pair in recorded.windows(2) {
        let [("cat /proc/net/ip_vs_conn", held), (command, said)] = pair else {
            continue;
        };
        let held_views = connections(held);
        assert_eq!(held_views.len(), 8);
        assert_eq!(&text(|out| proc::print_connections(out, &held_views)), held);
        let ours = match *command {
            "cat /proc/net/ip_vs_conn_sync" => {
                text(|out| proc::print_connections_sync(out, &held_views))
            }
            "ipvsadm -Lnc" => text(|out| print_connections(out, &Numeric, &held_views, false)),
            "ipvsadm -Lnc --persistent-conn" => {
                text(|out| print_connections(out, &Numeric, &held_views, true))
            }
            other => panic!("{other}"),
        };
        assert_eq!(&ours, said, "{command}");
        listings += 1;
    }
    assert_eq!(listings, 3);
}

#[test]
fn a_connection_learned_from_another_director_is_told_apart() {
    let mut views = connections(&said("cat /proc/net/ip_vs_conn"));
    views[4].synced = true;
    let text = text(|out| proc::print_connections_sync(out, &views[4..5]));
    assert_eq!(
        text.lines().nth(1),
        Some("TCP C6336402 9C41 C0000201 0050 0A00000B 0050 ESTABLISHED SYNC       887")
    );
}

#[test]
fn totals_are_shown_as_recorded() {
    let totals = Counters {
        conns: 22,
        in_packets: 25,
        out_packets: 8,
        in_bytes: 2556,
        out_bytes: 588,
    };
    let rates = Rates {
        cps: 3,
        in_pps: 3,
        out_pps: 1,
        in_bps: 319,
        out_bps: 73,
    };
    // More than the totals: what came after the last estimation.
    let first = Counters {
        in_packets: 28,
        out_packets: 11,
        in_bytes: 2760,
        out_bytes: 876,
        ..totals
    };
    assert_eq!(
        text(|out| proc::print_stats(out, totals, rates)),
        said("cat /proc/net/ip_vs_stats")
    );
    assert_eq!(
        text(|out| proc::print_stats_percpu(out, &[first, Counters::default()], totals, rates)),
        said("cat /proc/net/ip_vs_stats_percpu")
    );
}
