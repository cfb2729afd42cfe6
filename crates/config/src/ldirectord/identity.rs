//! What makes two checks one, and what things are called in logs.

use std::fmt::Write;

use pointsman_model::{Encapsulation, Family, Forwarding, ServiceKey};

use super::config::{CheckType, Real, Virtual};
use super::service;

impl Virtual {
    /// Its kind of check, in the file's words.
    pub fn check_word(&self) -> String {
        match self.check_type {
            CheckType::Negotiate => format!("negotiate {}", service::name(self.service)),
            CheckType::Connect => "connect".into(),
            CheckType::Ping => "ping".into(),
            CheckType::Off => "off".into(),
            CheckType::On => "on".into(),
            CheckType::External => "external".into(),
            CheckType::ExternalPerl => "external-perl".into(),
            CheckType::Combined(connects) => connects.to_string(),
        }
    }

    /// `tcp`, `udp`, or `fwm` for a firewall mark.
    pub fn protocol_word(&self) -> &'static str {
        match self.protocol() {
            Some(pointsman_model::Protocol::Udp) => "udp",
            Some(_) => "tcp",
            None => "fwm",
        }
    }

    /// `VIP:PORT` or the mark: what log lines and mails call it.
    pub fn label(&self) -> String {
        match self.key {
            ServiceKey::Address { addr, port, .. } => match addr {
                std::net::IpAddr::V4(v4) => format!("{v4}:{port}"),
                std::net::IpAddr::V6(v6) => format!("[{v6}]:{port}"),
            },
            ServiceKey::Mark { mark, .. } => mark.to_string(),
        }
    }

    /// `tcp:VIP:PORT`, `fwm:MARK`, `fwm6:MARK`.
    pub fn id(&self) -> String {
        let six = match self.key {
            ServiceKey::Mark {
                family: Family::V6, ..
            } => "6",
            _ => "",
        };
        format!("{}{six}:{}", self.protocol_word(), self.label())
    }

    /// The port that is checked: `checkport`, else the real server's, else the service's own.
    pub fn checked_port(&self, real: &Real) -> Option<u16> {
        let own = Some(real.key.port).filter(|port| *port > 0);
        self.check_port
            .or(own)
            .or_else(|| service::port(self.service))
    }

    /// What is sent and what must come back: the real server's pair, else the virtual service's.
    pub fn question<'a>(&'a self, real: &'a Real) -> (&'a str, &'a str) {
        match &real.question {
            Some((request, receive)) => (request, receive),
            None => (&self.request, &self.receive),
        }
    }

    /// The identity of a check: real servers with the same one are checked once, and the answer
    /// counts for every virtual service that lists them.
    pub fn check_id(&self, real: &Real) -> String {
        let check = match self.check_type {
            CheckType::Negotiate => format!("negotiate:{}", service::name(self.service)),
            CheckType::Combined(_) => format!("combined:{}", service::name(self.service)),
            CheckType::External => format!("external:{}", self.check_command),
            CheckType::ExternalPerl => format!("external-perl:{}", self.check_command),
            CheckType::Connect => "connect".into(),
            CheckType::Ping => "ping".into(),
            CheckType::Off => "off".into(),
            CheckType::On => "on".into(),
        };
        let (request, receive) = self.question(real);
        let check_port = self.check_port.map(|port| port.to_string());
        let mut id = String::new();
        for part in [
            check.as_str(),
            self.protocol_word(),
            &server_label(real.key),
            self.virtual_host.as_deref().unwrap_or_default(),
            check_port.as_deref().unwrap_or_default(),
        ] {
            id += part;
            id.push(':');
        }
        let weight = real.weight.get();
        let forward = forwarding_word(real.forwarding);
        write!(id, "{weight}:{forward}:{request}:{receive}").expect("a String takes everything");
        id
    }

    /// The identity as `monitorfile` has it: runs of colons are one blank.
    pub fn monitor_id(&self, real: &Real) -> String {
        let mut id = String::new();
        let mut colons = false;
        for c in self.check_id(real).chars().filter(|c| *c != '\\') {
            if c != ':' {
                id.push(c);
            } else if !colons {
                id.push(' ');
            }
            colons = c == ':';
        }
        id
    }
}

/// `RIP:PORT`, IPv6 in brackets.
pub fn server_label(key: pointsman_model::ServerKey) -> String {
    match key.addr {
        std::net::IpAddr::V4(v4) => format!("{v4}:{}", key.port),
        std::net::IpAddr::V6(v6) => format!("[{v6}]:{}", key.port),
    }
}

/// `gate`, `masq`, `ipip`; `fullnat`, which ldirectord's files cannot ask for.
fn forwarding_word(forwarding: Forwarding) -> &'static str {
    match forwarding {
        Forwarding::Masquerade => "masq",
        Forwarding::FullNat => "fullnat",
        Forwarding::Tunnel(
            Encapsulation::Ipip | Encapsulation::Gue { .. } | Encapsulation::Gre { .. },
        ) => "ipip",
        Forwarding::Route | Forwarding::Local => "gate",
    }
}
