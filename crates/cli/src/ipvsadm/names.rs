use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};

use pointsman_config::ipvsadm::Names;
use pointsman_model::Protocol;

/// Names as the system has them: hosts from its resolver, ports from `/etc/services`. Each address
/// is asked for once.
#[derive(Default)]
pub struct SystemNames {
    hosts: RefCell<HashMap<IpAddr, Option<String>>>,
    services: OnceCell<Services>,
}

impl Names for SystemNames {
    fn host_addr(&self, name: &str) -> Option<Ipv4Addr> {
        let mut addrs = (name, 0).to_socket_addrs().ok()?;
        addrs.find_map(|addr| match addr.ip() {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        })
    }

    fn host_name(&self, addr: IpAddr) -> Option<String> {
        let ask = || {
            let name = dns_lookup::lookup_addr(&addr).ok()?;
            // The C library answers with the number when there is no name.
            name.parse::<IpAddr>().is_err().then_some(name)
        };
        let mut hosts = self.hosts.borrow_mut();
        hosts.entry(addr).or_insert_with(ask).clone()
    }

    fn service_port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        self.services().port(name, protocol)
    }

    fn service_name(&self, port: u16, protocol: Protocol) -> Option<String> {
        self.services().name(port, protocol).map(str::to_owned)
    }
}

impl SystemNames {
    fn services(&self) -> &Services {
        self.services.get_or_init(|| {
            let text = fs::read("/etc/services").unwrap_or_default();
            Services::parse(&String::from_utf8_lossy(&text))
        })
    }
}

/// What `/etc/services` says: `name port/protocol alias… # remark`.
#[derive(Debug, Default)]
struct Services {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    /// The name, then its aliases.
    names: Vec<String>,
    port: u16,
    protocol: Protocol,
}

impl Services {
    fn parse(text: &str) -> Self {
        Self {
            entries: text.lines().filter_map(Entry::parse).collect(),
        }
    }

    fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        let named = |e: &&Entry| e.protocol == protocol && e.names.iter().any(|n| n == name);
        self.entries.iter().find(named).map(|e| e.port)
    }

    fn name(&self, port: u16, protocol: Protocol) -> Option<&str> {
        let there = |e: &&Entry| (e.port, e.protocol) == (port, protocol);
        self.entries.iter().find(there).map(|e| e.names[0].as_str())
    }
}

impl Entry {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split('#').next()?.split_whitespace();
        let name = words.next()?;
        let (port, protocol) = words.next()?.split_once('/')?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return None,
        };
        Some(Self {
            names: std::iter::once(name)
                .chain(words)
                .map(str::to_owned)
                .collect(),
            port: port.parse().ok()?,
            protocol,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_have_names_aliases_and_protocols() {
        let services = Services::parse(
            "# Network services\n\
             tcpmux\t\t1/tcp\t\t\t\t# TCP port service multiplexer\n\
             domain\t\t53/tcp\n\
             domain\t\t53/udp\n\
             http\t\t80/tcp\t\twww\t\t# WorldWideWeb HTTP\n\
             broken\n\
             odd\t\t7/ddp\n\
             big\t\t70000/tcp\n\
             m3ua\t\t2905/sctp\n",
        );
        for (name, protocol, port) in [
            ("http", Protocol::Tcp, Some(80)),
            ("www", Protocol::Tcp, Some(80)),
            ("http", Protocol::Udp, None),
            ("domain", Protocol::Udp, Some(53)),
            ("m3ua", Protocol::Sctp, Some(2905)),
            ("odd", Protocol::Tcp, None),
            ("#", Protocol::Tcp, None),
        ] {
            assert_eq!(services.port(name, protocol), port, "{name}");
        }
        assert_eq!(services.name(80, Protocol::Tcp), Some("http"));
        assert_eq!(services.name(80, Protocol::Udp), None);
        assert_eq!(services.name(2905, Protocol::Sctp), Some("m3ua"));
    }
}
