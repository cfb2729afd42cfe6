use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pointsman_model::Protocol;

/// Names of hosts and ports, both ways. [`Numeric`] knows none.
pub trait Names {
    /// The IPv4 address of a host name.
    fn host_addr(&self, name: &str) -> Option<Ipv4Addr>;
    /// The name of an address.
    fn host_name(&self, addr: IpAddr) -> Option<String>;
    /// The port of a service name.
    fn service_port(&self, name: &str, protocol: Protocol) -> Option<u16>;
    /// The name of a port.
    fn service_name(&self, port: u16, protocol: Protocol) -> Option<String>;
}

/// Numbers only.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numeric;

impl Names for Numeric {
    fn host_addr(&self, _name: &str) -> Option<Ipv4Addr> {
        None
    }

    fn host_name(&self, _addr: IpAddr) -> Option<String> {
        None
    }

    fn service_port(&self, _name: &str, _protocol: Protocol) -> Option<u16> {
        None
    }

    fn service_name(&self, _port: u16, _protocol: Protocol) -> Option<String> {
        None
    }
}

/// `host:port`, `[host]:port` for IPv6. The servers of a firewall mark have no protocol, and so no
/// port names.
pub(super) fn endpoint(
    names: &dyn Names,
    addr: IpAddr,
    port: u16,
    protocol: Option<Protocol>,
) -> String {
    let mut text = host(names, addr);
    text.push(':');
    match protocol
        .filter(|_| port != 0)
        .and_then(|p| names.service_name(port, p))
    {
        Some(name) => text.push_str(&name),
        None => write!(text, "{port}").expect("a String takes everything"),
    }
    text
}

/// A host without a port: `host`, `[host]` for IPv6.
pub(super) fn host(names: &dyn Names, addr: IpAddr) -> String {
    match (names.host_name(addr), addr) {
        (Some(name), IpAddr::V4(_)) => name,
        (Some(name), IpAddr::V6(_)) => format!("[{name}]"),
        (None, IpAddr::V4(v4)) => v4.to_string(),
        (None, IpAddr::V6(v6)) => format!("[{}]", ipv6(v6)),
    }
}

/// As `inet_ntop` of the C library, which shows the deprecated IPv4-compatible addresses dotted;
/// Rust's own text does not.
fn ipv6(addr: Ipv6Addr) -> String {
    let [.., high, low] = addr.segments();
    let compatible = addr.segments()[..6] == [0; 6] && high != 0;
    if compatible {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        return format!("::{}", Ipv4Addr::new(a, b, c, d));
    }
    addr.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_addresses_read_as_in_the_c_library() {
        for text in [
            "::",
            "::1",
            "::ff",
            "::192.0.0.0",
            "::192.0.2.1",
            "::ffff:192.0.2.1",
            "1:0:0:2::3",
            "1:0:2:3:4:5:6:7",
            "fd00::1:80",
            "1::",
        ] {
            assert_eq!(ipv6(text.parse().unwrap()), text);
        }
    }
}
