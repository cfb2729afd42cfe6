//! A director's state as text.

use std::fmt::Write as _;
use std::time::Duration;

use pointsman_api::Status;

/// What `start` says.
pub fn started(status: &Status) -> String {
    let mut text = String::new();
    let how = if status.adopted {
        "took over the tables of an earlier director"
    } else {
        "fresh tables"
    };
    let _ = writeln!(text, "director started, pid {}, {how}", status.pid);
    interfaces(&mut text, status);
    text
}

/// What `status` says.
pub fn status(status: &Status) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "director {} runs, pid {}, for {}{}",
        status.version,
        status.pid,
        super::uptime(Duration::from_secs(status.uptime_secs)),
        if status.adopted {
            ", on tables taken over from an earlier one"
        } else {
            ""
        },
    );
    if !status.warnings.is_empty() {
        let _ = writeln!(text, "\nwarnings");
    }
    for warning in &status.warnings {
        let _ = writeln!(text, "  {warning}");
    }
    let _ = writeln!(text, "\ninterfaces");
    interfaces(&mut text, status);
    let tables = &status.tables;
    let _ = writeln!(text, "\ntables");
    let _ = writeln!(text, "  services     {}", tables.services);
    let _ = writeln!(text, "  real servers {}", tables.servers);
    let _ = writeln!(
        text,
        "  connections  {} live, {} slots",
        tables.connections, tables.connection_slots
    );
    if tables.evictions != 0 {
        let _ = writeln!(
            text,
            "               {} gave way to new ones before their time: the table is too small \
             (--connections), or under attack",
            tables.evictions
        );
    }
    if tables.fragments_held != 0 {
        let _ = writeln!(
            text,
            "  fragments    {} came before the first one of their packet and were kept back",
            tables.fragments_held
        );
    }
    if tables.errors_untold != 0 {
        let _ = writeln!(
            text,
            "  ICMP errors  {} not sent, since many were before",
            tables.errors_untold
        );
    }
    if tables.clients_untold != 0 {
        let _ = writeln!(
            text,
            "  TOA          {} packets had no room for their client's address",
            tables.clients_untold
        );
    }
    next_hops(&mut text, status);
    drops(&mut text, status);
    text
}

fn interfaces(text: &mut String, status: &Status) {
    let rows = status.interfaces.iter().map(|interface| {
        let hook = interface.hook.map_or("-", |hook| hook.name());
        [
            interface.name.clone(),
            hook.to_owned(),
            interface.reason.clone(),
        ]
    });
    table(text, &rows.collect::<Vec<_>>());
}

/// Only those with a problem by name; the others as a number.
fn next_hops(text: &mut String, status: &Status) {
    let (troubled, fine): (Vec<_>, Vec<_>) = status
        .next_hops
        .iter()
        .partition(|hop| hop.problem.is_some());
    if status.next_hops.is_empty() {
        return;
    }
    let _ = writeln!(text, "\nnext hops");
    let _ = writeln!(
        text,
        "  {} of {} real servers reachable",
        fine.len(),
        status.next_hops.len()
    );
    let rows = troubled.iter().take(TROUBLED_ROWS).map(|hop| {
        let way = match (&hop.gateway, &hop.interface) {
            (Some(gateway), Some(interface)) => format!("via {gateway} dev {interface}"),
            (None, Some(interface)) => format!("dev {interface}"),
            (_, None) => "no route".to_owned(),
        };
        [
            hop.server.to_string(),
            way,
            hop.problem.clone().unwrap_or_default(),
        ]
    });
    table(text, &rows.collect::<Vec<_>>());
    if troubled.len() > TROUBLED_ROWS {
        let more = troubled.len() - TROUBLED_ROWS;
        let _ = writeln!(text, "  and {more} more (--json shows all)");
    }
}

/// Unreachable servers shown by name; `--json` has all.
const TROUBLED_ROWS: usize = 20;

fn drops(text: &mut String, status: &Status) {
    let _ = writeln!(text, "\ndropped packets");
    if status.drops.is_empty() {
        let _ = writeln!(text, "  none");
    }
    let rows = status.drops.iter().map(|drop| {
        [
            drop.name.clone(),
            drop.packets.to_string(),
            drop.meaning.clone(),
        ]
    });
    table(text, &rows.collect::<Vec<_>>());
}

/// Rows of three, indented, the first two columns aligned.
fn table(text: &mut String, rows: &[[String; 3]]) {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (first, second) = (width(0), width(1));
    for [a, b, c] in rows {
        let _ = writeln!(text, "  {a:first$}  {b:second$}  {c}");
    }
}

#[cfg(test)]
mod tests {
    use pointsman_api::{DropCount, Hook, InterfaceStatus, NextHopStatus, TableStatus};

    use super::*;

    #[test]
    fn a_status_reads_well() {
        let text = status(&Status {
            version: "0.1.0".into(),
            pid: 42,
            netns_cookie: 7,
            uptime_secs: 3_700,
            adopted: false,
            tables: TableStatus {
                services: 1,
                servers: 2,
                connections: 3,
                connection_slots: 4096,
                evictions: 0,
                fragments_held: 0,
                errors_untold: 0,
                clients_untold: 0,
            },
            interfaces: vec![
                InterfaceStatus {
                    index: 1,
                    name: "lo".into(),
                    hook: Some(Hook::Tcx),
                    reason: "loopback".into(),
                },
                InterfaceStatus {
                    index: 2,
                    name: "tun0".into(),
                    hook: None,
                    reason: "not an Ethernet device".into(),
                },
            ],
            next_hops: vec![
                NextHopStatus {
                    server: "10.0.0.2".parse().unwrap(),
                    gateway: None,
                    interface: Some("eth0".into()),
                    source: None,
                    neighbour: Some("reachable".into()),
                    problem: None,
                },
                NextHopStatus {
                    server: "10.0.1.2".parse().unwrap(),
                    gateway: Some("10.0.0.1".parse().unwrap()),
                    interface: Some("eth0".into()),
                    source: None,
                    neighbour: Some("failed".into()),
                    problem: Some("10.0.0.1 does not answer ARP".into()),
                },
            ],
            drops: vec![DropCount {
                name: "no-destination".into(),
                meaning: "no real server could take the connection".into(),
                packets: 5,
            }],
            warnings: vec!["net.ipv4.ip_forward is 0".into()],
        });
        assert_eq!(
            text,
            "director 0.1.0 runs, pid 42, for 1h 1m\n\
             \n\
             warnings\n\
             \x20 net.ipv4.ip_forward is 0\n\
             \n\
             interfaces\n\
             \x20 lo    tcx  loopback\n\
             \x20 tun0  -    not an Ethernet device\n\
             \n\
             tables\n\
             \x20 services     1\n\
             \x20 real servers 2\n\
             \x20 connections  3 live, 4096 slots\n\
             \n\
             next hops\n\
             \x20 1 of 2 real servers reachable\n\
             \x20 10.0.1.2  via 10.0.0.1 dev eth0  10.0.0.1 does not answer ARP\n\
             \n\
             dropped packets\n\
             \x20 no-destination  5  no real server could take the connection\n"
        );
    }
}
