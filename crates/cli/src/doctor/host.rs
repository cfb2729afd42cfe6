//! What this host says of itself.

use std::fs;
use std::net::IpAddr;
use std::process::Command;

use crate::realserver::sysctl;

/// A sysctl of IPv4 interfaces for which the kernel takes the greater of `all` and the interface's own.
pub fn greater(name: &str, interface: &str) -> u32 {
    ["all", interface]
        .into_iter()
        .map(|scope| value(&format!("net/ipv4/conf/{scope}/{name}")))
        .max()
        .unwrap_or(0)
}

/// A sysctl by path below `/proc/sys`; 0 where there is none.
pub fn value(key: &str) -> u32 {
    sysctl::read(key)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// What a program prints; `None` where it is missing or fails.
pub fn output(program: &str, args: &[&str]) -> Option<String> {
    let done = Command::new(program).args(args).output().ok()?;
    done.status
        .success()
        .then(|| String::from_utf8_lossy(&done.stdout).into_owned())
}

/// An address of an interface, as it was configured.
#[derive(Clone, Debug)]
pub struct Assigned {
    /// The interface.
    pub interface: String,
    /// The address.
    pub addr: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
}

/// All addresses of this network namespace.
pub fn addresses() -> Vec<Assigned> {
    let text = output("ip", &["-json", "addr"]).unwrap_or_default();
    let links: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap_or_default();
    let mut addresses = Vec::new();
    for link in &links {
        let interface = link["ifname"].as_str().unwrap_or_default();
        for address in link["addr_info"].as_array().into_iter().flatten() {
            let addr = address["local"].as_str().and_then(|text| text.parse().ok());
            let prefix = address["prefixlen"].as_u64();
            if let (Some(addr), Some(prefix)) = (addr, prefix) {
                addresses.push(Assigned {
                    interface: interface.to_owned(),
                    addr,
                    prefix: prefix as u8,
                });
            }
        }
    }
    addresses
}

/// Whoever has this link-layer address, as far as the neighbour table knows.
pub fn neighbour_of(mac: &str) -> Option<String> {
    let text = output("ip", &["-json", "neigh"])?;
    let entries: Vec<serde_json::Value> = serde_json::from_str(&text).ok()?;
    entries
        .iter()
        .find(|entry| entry["lladdr"] == mac)
        .and_then(|entry| Some(entry["dst"].as_str()?.to_owned()))
}

/// True while the kernel's own IPVS is there, and how many services it has.
pub fn kernel_ipvs() -> Option<usize> {
    let text = fs::read_to_string("/proc/thread-self/net/ip_vs").ok()?;
    Some(services_in(&text))
}

fn services_in(table: &str) -> usize {
    let is_service = |line: &&str| {
        ["TCP ", "UDP ", "SCTP ", "FWM "]
            .iter()
            .any(|word| line.starts_with(word))
    };
    table.lines().filter(is_service).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_of_the_kernel_are_counted() {
        let table = "IP Virtual Server version 1.2.1 (size=4096)\n\
            Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n\
            TCP  C0000201:0050 rr \n  -> 0A000001:0050      Masq    1      0          0\nFWM  00000003 wlc \n";
        assert_eq!(services_in(table), 2);
    }
}
