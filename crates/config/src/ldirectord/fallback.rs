//! `fallback = HOST[:PORT] [gate|masq|ipip]`.

use pointsman_model::{Encapsulation, Family, Forwarding, Protocol};

use super::config::Fallback;
use super::lex::is_blank;
use super::problem::Fault;
use super::value::host_and_port;
use super::{Reader, lex::Line};

/// A fallback whose names are not resolved yet.
pub(super) struct Unresolved {
    host: String,
    port: Option<String>,
    forwarding: Forwarding,
}

/// Direct routing, NAT or tunnelling.
pub(super) fn forwarding(word: &str) -> Result<Forwarding, Fault> {
    match word {
        "gate" => Ok(Forwarding::Route),
        "masq" => Ok(Forwarding::Masquerade),
        "ipip" => Ok(Forwarding::Tunnel(Encapsulation::Ipip)),
        _ => Err(Fault::new("forward method must be gate, masq or ipip", "").about(word)),
    }
}

/// The last two words count: a server and a method, or a server alone.
pub(super) fn parse(value: &str) -> Result<Unresolved, Fault> {
    let mut words = value.split(is_blank).filter(|word| !word.is_empty());
    let all: Vec<_> = words.by_ref().collect();
    let (server, method) = match all[..] {
        [] => ("", None),
        [server] => (server, None),
        [.., server, method] => (server, Some(method)),
    };
    let (host, port) = host_and_port(server);
    Ok(Unresolved {
        host: host.to_owned(),
        port: port.map(str::to_owned),
        forwarding: method.map_or(Ok(Forwarding::Route), forwarding)?,
    })
}

impl Reader<'_> {
    /// Finds address and ports. `protocols` are those it may serve: the two of a global fallback,
    /// the one of a virtual service, none for a mark.
    pub(super) fn resolve_fallback(
        &mut self,
        line: Line<'_>,
        unresolved: &Unresolved,
        family: Family,
        protocols: &[Protocol],
    ) -> Option<Fallback> {
        let result = self.try_fallback(unresolved, family, protocols);
        self.note(line, result)
    }

    fn try_fallback(
        &self,
        unresolved: &Unresolved,
        family: Family,
        protocols: &[Protocol],
    ) -> Result<Fallback, Fault> {
        let addr = self.host(&unresolved.host, family).ok_or_else(|| {
            let version = match family {
                Family::V4 => "IPv4",
                Family::V6 => "IPv6",
            };
            Fault::new(
                format!(
                    "invalid {version} address or could not resolve for fallback server: {}",
                    unresolved.host
                ),
                "",
            )
            .about(&unresolved.host)
        })?;
        let port = |protocol| match unresolved.port.as_deref() {
            None => Ok(None),
            Some(name) => match self.port(name, protocol) {
                None | Some(0) => Err(Fault::new(
                    "invalid port for fallback server",
                    "a port from 1 to 65535, or its name",
                )
                .about(name)),
                port => Ok(port),
            },
        };
        let mut fallback = Fallback {
            addr,
            tcp_port: None,
            udp_port: None,
            forwarding: unresolved.forwarding,
        };
        if protocols.is_empty() {
            fallback.tcp_port = port(None)?;
        }
        for protocol in protocols {
            match protocol {
                Protocol::Udp => fallback.udp_port = port(Some(*protocol))?,
                _ => fallback.tcp_port = port(Some(*protocol))?,
            }
        }
        Ok(fallback)
    }
}
