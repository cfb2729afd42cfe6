//! What `ip` says of this network namespace, and what it is told to change.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use anyhow::{Context, Result, bail};
use pointsman_dataplane::Interface;

/// The interfaces named, or every Ethernet interface.
pub fn chosen(names: &[String]) -> Result<Vec<Interface>> {
    let all = interfaces()?;
    if names.is_empty() {
        let ethernet: Vec<_> = all
            .into_iter()
            .filter(|interface| interface.ethernet)
            .collect();
        if ethernet.is_empty() {
            bail!("no Ethernet interface here; name one with --interface");
        }
        return Ok(ethernet);
    }
    let find = |name: &String| {
        all.iter()
            .find(|interface| interface.name == *name)
            .cloned()
            .with_context(|| {
                let known: Vec<_> = all
                    .iter()
                    .map(|interface| interface.name.as_str())
                    .collect();
                format!("no interface {name} here; there are {}", known.join(", "))
            })
    };
    names.iter().map(find).collect()
}

/// Interfaces of this namespace.
pub fn interfaces() -> Result<Vec<Interface>> {
    let links = ip_json(&["-details", "link", "show"])?;
    Ok(links.iter().filter_map(interface).collect())
}

fn interface(link: &serde_json::Value) -> Option<Interface> {
    let number = |value: &serde_json::Value| u32::try_from(value.as_u64()?).ok();
    let mut mac = [0; 6];
    let text = link["address"].as_str().unwrap_or_default();
    for (byte, part) in mac.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(part, 16).unwrap_or(0);
    }
    let kind = link["linkinfo"]["info_kind"].as_str().map(str::to_owned);
    let vlan_id =
        number(&link["linkinfo"]["info_data"]["id"]).filter(|_| kind.as_deref() == Some("vlan"));
    Some(Interface {
        index: number(&link["ifindex"])?,
        name: link["ifname"].as_str()?.to_owned(),
        mac,
        mtu: number(&link["mtu"])?,
        vlan: number(&link["link_index"]).zip(vlan_id.map(|id| id as u16)),
        kind,
        loopback: link["link_type"] == "loopback",
        ethernet: link["link_type"] == "ether",
    })
}

/// Addresses of an interface.
pub fn addresses_of(interface: &str) -> Result<Vec<IpAddr>> {
    let links = ip_json(&["addr", "show", "dev", interface])?;
    let addresses = links
        .iter()
        .filter_map(|link| link["addr_info"].as_array())
        .flatten();
    Ok(addresses
        .filter_map(|address| address["local"].as_str()?.parse().ok())
        .collect())
}

/// The IPv4 address by which an interface is known on its segment.
pub fn own_address(interface: &str, vips: &[IpAddr]) -> Result<Option<Ipv4Addr>> {
    let own = addresses_of(interface)?
        .into_iter()
        .find_map(|address| match address {
            IpAddr::V4(v4) if !vips.contains(&address) => Some(v4),
            _ => None,
        });
    Ok(own)
}

/// Puts a VIP on `lo`. It is never chosen as the source of this host's own connections: scope host, for
/// IPv6 deprecated. Nobody is asked whether the address is taken; everybody has it. (To questions for
/// an IPv6 address only the interface that has it answers, so those need no silencing.)
pub fn add_to_lo(vip: IpAddr) -> Result<()> {
    let prefix = host_prefix(vip);
    let mut words = vec!["addr", "add", &prefix, "dev", "lo"];
    words.extend(if vip.is_ipv4() {
        ["scope", "host"].as_slice()
    } else {
        &["nodad", "preferred_lft", "0"]
    });
    ip(&words).map(drop)
}

/// Takes it off again.
pub fn remove_from_lo(vip: IpAddr) -> Result<()> {
    ip(&["addr", "del", &host_prefix(vip), "dev", "lo"]).map(drop)
}

fn host_prefix(addr: IpAddr) -> String {
    format!("{addr}/{}", if addr.is_ipv4() { 32 } else { 128 })
}

/// The default routes of a family, as `ip route add` takes them.
pub fn default_routes(v6: bool) -> Result<Vec<String>> {
    let text = ip(&[family(v6), "route", "show", "default"])?;
    let text = String::from_utf8_lossy(&text);
    // What the kernel says of a route's present state is no part of it.
    let route = |line: &str| {
        let words = line.split_whitespace();
        let words: Vec<_> = words
            .filter(|word| !matches!(*word, "linkdown" | "dead" | "pervasive" | "offload"))
            .collect();
        words.join(" ")
    };
    Ok(text
        .lines()
        .map(route)
        .filter(|line| !line.is_empty())
        .collect())
}

/// Where packets to everywhere go first.
pub fn gateways(v6: bool) -> Result<Vec<IpAddr>> {
    let routes = ip_json(&[family(v6), "route", "show", "default"])?;
    let via = |route: &serde_json::Value| {
        let gateway = route["gateway"].as_str().or(route["via"]["host"].as_str());
        gateway?.parse().ok()
    };
    Ok(routes.iter().filter_map(via).collect())
}

/// Adds or deletes a route in `ip`'s words.
pub fn route(verb: &str, v6: bool, route: &str) -> Result<()> {
    let mut words = vec![family(v6), "route", verb];
    words.extend(route.split_whitespace());
    ip(&words).map(drop)
}

fn family(v6: bool) -> &'static str {
    if v6 { "-6" } else { "-4" }
}

fn ip(words: &[&str]) -> Result<Vec<u8>> {
    let line = format!("ip {}", words.join(" "));
    let output = Command::new("ip")
        .args(words)
        .output()
        .with_context(|| line.clone())?;
    if !output.status.success() {
        bail!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

fn ip_json(words: &[&str]) -> Result<Vec<serde_json::Value>> {
    let words: Vec<&str> = ["-json"].iter().chain(words).copied().collect();
    let text = ip(&words)?;
    // Where there is nothing to list, some versions print nothing.
    if text.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_slice(&text).with_context(|| format!("output of ip {}", words.join(" ")))
}
