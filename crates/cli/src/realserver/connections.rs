//! TCP connections of this network namespace, as `/proc/net/tcp` tells.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result};

/// Those of the calling thread, which need not be the process's.
const TABLES: [&str; 2] = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"];

/// Numbers of states as the table shows them.
const TIME_WAIT: u8 = 6;
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    local: SocketAddr,
    state: u8,
    /// Of a listener: connections that nobody has accepted yet.
    waiting: u32,
}

/// What is going on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Connections that are neither over nor waiting to be forgotten.
    pub connections: u32,
    /// Connections that no server has accepted yet.
    pub backlog: u32,
}

/// How many connections are left to one of `vips` (to anywhere if there are none), on one of `ports` (on
/// any port if there are none).
pub fn count(vips: &[IpAddr], ports: &[u16]) -> Result<usize> {
    let listening = listened_to()?;
    let left = rows()?.into_iter().filter(|row| {
        is_alive(row)
            && (vips.is_empty() || vips.contains(&row.local.ip()))
            && if ports.is_empty() {
                // A connection this host opened itself comes from a port that nobody listens on.
                !vips.is_empty() || listening.contains(&row.local.port())
            } else {
                ports.contains(&row.local.port())
            }
    });
    Ok(left.count())
}

/// Ports on which some server takes TCP connections to this address.
pub fn served_ports(addr: IpAddr) -> Result<BTreeSet<u16>> {
    let takes = |row: &Row| {
        let local = row.local.ip();
        // A wildcard IPv6 socket takes both families, if it is not told otherwise.
        row.state == LISTEN
            && (local == addr || local.is_unspecified() && (local.is_ipv6() || addr.is_ipv4()))
    };
    Ok(rows()?
        .iter()
        .filter(|row| takes(row))
        .map(|row| row.local.port())
        .collect())
}

/// What the servers of this host have to do.
pub fn load() -> Result<Load> {
    let listening = listened_to()?;
    let mut load = Load::default();
    for row in rows()? {
        if row.state == LISTEN {
            load.backlog += row.waiting;
        } else if is_alive(&row) && listening.contains(&row.local.port()) {
            load.connections += 1;
        }
    }
    Ok(load)
}

fn is_alive(row: &Row) -> bool {
    !matches!(row.state, TIME_WAIT | CLOSE | LISTEN)
}

fn listened_to() -> Result<Vec<u16>> {
    let listeners = rows()?.into_iter().filter(|row| row.state == LISTEN);
    Ok(listeners.map(|row| row.local.port()).collect())
}

fn rows() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for table in TABLES {
        // Without IPv6 there is no table of it.
        let text = match fs::read_to_string(table) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            text => text.with_context(|| table.to_owned())?,
        };
        rows.extend(text.lines().skip(1).filter_map(row));
    }
    Ok(rows)
}

/// `sl local_address rem_address st tx_queue:rx_queue …`, numbers in hexadecimal.
fn row(line: &str) -> Option<Row> {
    let mut fields = line.split_whitespace().skip(1);
    let (addr, port) = fields.next()?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let state = u8::from_str_radix(fields.nth(1)?, 16).ok()?;
    let (_, waiting) = fields.next()?.split_once(':')?;
    Some(Row {
        local: SocketAddr::new(address(addr)?, port),
        state,
        waiting: u32::from_str_radix(waiting, 16).ok()?,
    })
}

/// Words of memory, printed as numbers of this machine.
fn address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(at..at + 8)?, 16).ok();
    if text.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?.to_ne_bytes()).into());
    }
    let mut octets = [0; 16];
    for (place, chunk) in octets.chunks_exact_mut(4).enumerate() {
        chunk.copy_from_slice(&word(8 * place)?.to_ne_bytes());
    }
    Some(Ipv6Addr::from(octets).to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read() {
        let listener =
            "   0: 00000000:0050 00000000:0000 0A 00000000:00000003 00:00000000 00000000 0 0 1 1";
        let row = row(listener).unwrap();
        assert_eq!(row.local, "0.0.0.0:80".parse().unwrap());
        assert_eq!((row.state, row.waiting), (LISTEN, 3));
        let mapped = "  12: 0000000000000000FFFF00006402A8C0:0050 0000000000000000FFFF00000101A8C0:C350 01 00000000:00000000";
        assert_eq!(
            super::row(mapped).unwrap().local,
            "192.168.2.100:80".parse().unwrap()
        );
        assert_eq!(super::row("  sl  local_address"), None);
    }
}
