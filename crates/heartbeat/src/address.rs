//! Service addresses: put on an interface, announced, taken away.

use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use pointsman_config::heartbeat::Address;
use pointsman_vrrp::announce::{Announcer, frame};

/// Announcements, and the pause between them, as IPaddr sends them.
const ANNOUNCEMENTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// Whether the address is on this node.
pub(crate) fn is_here(address: &Address) -> bool {
    let to = address.addr.to_string();
    !said(&["-o", "address", "show", "to", &to])
        .trim()
        .is_empty()
}

/// Puts it there and announces it.
pub(crate) fn add(address: &Address) -> Result<(), String> {
    let (prefix_len, interface) = place(address)?;
    let with_prefix = format!("{}/{prefix_len}", address.addr);
    let mut words = vec!["address", "add", with_prefix.as_str()];
    let broadcast = address.broadcast.map(|broadcast| broadcast.to_string());
    match address.addr {
        IpAddr::V4(_) => words.extend(["broadcast", broadcast.as_deref().unwrap_or("+")]),
        IpAddr::V6(_) => {}
    }
    words.extend(["dev", interface.as_str()]);
    if let Some(label) = &address.label {
        words.extend(["label", label.as_str()]);
    }
    if address.addr.is_ipv6() {
        words.push("nodad");
    }
    ip(&words)?;
    announce(address.addr, interface);
    Ok(())
}

/// Takes it away.
pub(crate) fn remove(address: &Address) -> Result<(), String> {
    if !is_here(address) {
        return Ok(());
    }
    let (prefix_len, interface) = place(address)?;
    let with_prefix = format!("{}/{prefix_len}", address.addr);
    ip(&["address", "del", &with_prefix, "dev", &interface])
}

/// Prefix and interface: as given, else of the narrowest route to the address.
fn place(address: &Address) -> Result<(u8, String), String> {
    if let (Some(prefix_len), Some(interface)) = (address.prefix_len, &address.interface) {
        return Ok((prefix_len, interface.clone()));
    }
    let family = if address.addr.is_ipv4() { "-4" } else { "-6" };
    let to = address.addr.to_string();
    let routes = said(&[family, "-o", "route", "show", "match", &to]);
    let mut found: Option<(u8, String)> = None;
    for line in routes.lines() {
        let mut words = line.split_whitespace();
        let Some((_, len)) = words.next().and_then(|network| network.split_once('/')) else {
            continue;
        };
        let (Ok(len), Some(interface)) = (len.parse(), words.skip_while(|w| *w != "dev").nth(1))
        else {
            continue;
        };
        let fits = address
            .interface
            .as_deref()
            .is_none_or(|wanted| wanted == interface);
        if fits && found.as_ref().is_none_or(|(narrowest, _)| len > *narrowest) {
            found = Some((len, interface.to_owned()));
        }
    }
    match found {
        Some((len, interface)) => Ok((
            address.prefix_len.unwrap_or(len),
            address.interface.clone().unwrap_or(interface),
        )),
        None => Err(format!(
            "no route to a network with {to}, which tells prefix and interface"
        )),
    }
}

/// Tells the neighbours, in the background.
fn announce(addr: IpAddr, interface: String) {
    std::thread::spawn(move || {
        let mac = mac_of(&interface);
        let index = nix::net::if_::if_nametoindex(interface.as_str()).ok();
        let (Some(mac), Some(index)) = (mac, index) else {
            return;
        };
        let Ok(announcer) = Announcer::open() else {
            return;
        };
        for _ in 0..ANNOUNCEMENTS {
            if let Err(error) = announcer.send(index, &frame(addr, mac, false)) {
                tracing::debug!("announcing {addr}: {error}");
                return;
            }
            std::thread::sleep(PAUSE);
        }
    });
}

/// Not from `/sys`, which may be another network namespace's.
fn mac_of(interface: &str) -> Option<[u8; 6]> {
    let mut all = nix::ifaddrs::getifaddrs().ok()?;
    all.find_map(|entry| {
        let link = (entry.interface_name == interface).then_some(entry.address?)?;
        link.as_link_addr()?.addr()
    })
}

fn said(words: &[&str]) -> String {
    let output = Command::new("ip").args(words).stdin(Stdio::null()).output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

fn ip(words: &[&str]) -> Result<(), String> {
    let output = Command::new("ip")
        .args(words)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {}: {}", words.join(" "), error.trim()))
}
