//! The line that begins a block.

use std::net::Ipv6Addr;

use pointsman_model::{Family, Protocol};

use super::lex::is_blank;
use super::problem::Fault;
use super::value::{digits, is_port, run};

/// `virtual = …` or `virtual6 = …`.
pub(super) struct Header<'a> {
    pub family: Family,
    value: &'a str,
}

/// What the value says, before names are resolved: the protocol that names depend on comes later.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Target {
    Address { host: String, port: String },
    Mark(u32),
}

impl Target {
    /// UDP for the port of DNS, else TCP; a mark has none.
    pub fn protocol(&self) -> Option<Protocol> {
        match self {
            Self::Mark(_) => None,
            Self::Address { port, .. } if port == "53" || port == "domain" => Some(Protocol::Udp),
            Self::Address { .. } => Some(Protocol::Tcp),
        }
    }
}

pub(super) fn header(line: &str) -> Option<Header<'_>> {
    let rest = line.strip_prefix("virtual")?;
    let (family, rest) = match rest.strip_prefix('6') {
        Some(rest) => (Family::V6, rest),
        None => (Family::V4, rest),
    };
    let value = rest.trim_start_matches(is_blank).strip_prefix('=')?;
    let value = value.trim_start_matches(is_blank);
    Some(Header { family, value })
}

impl Header<'_> {
    /// The value; what follows it is ignored, as in the original.
    pub fn target(&self) -> Result<Target, Fault> {
        let value = self.value;
        if let Some((host, port)) = bracketed(value) {
            if self.family == Family::V4 {
                return Err(Fault::new(
                    "cannot specify an IPv6 address here. please use \"virtual6\" instead.",
                    "",
                ));
            }
            let addr: Ipv6Addr = host.parse().map_err(|_| {
                Fault::new(
                    "invalid ipv6 address for virtual server",
                    "[IPv6 address]:port",
                )
            })?;
            return Ok(Target::Address {
                host: addr.to_string(),
                port: port.to_owned(),
            });
        }
        if let Some((host, port)) = plain(value) {
            return Ok(Target::Address {
                host: host.to_owned(),
                port: port.to_owned(),
            });
        }
        let invalid = |expected| Fault::new("invalid address for virtual server", expected);
        let expected = match self.family {
            Family::V4 => "address:port, name:port, or a firewall mark",
            Family::V6 => "[address]:port, name:port, or a firewall mark",
        };
        if !value.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(invalid(expected));
        }
        match digits(value).and_then(|mark| mark.parse().ok()) {
            None | Some(0) => Err(invalid("a firewall mark from 1 to 4294967295")),
            Some(mark) => Ok(Target::Mark(mark)),
        }
    }

    /// An address without a port counts as a mark, whose number is its first part.
    pub fn is_address_taken_for_mark(&self) -> bool {
        let word = run(self.value, |c| !is_blank(c)).unwrap_or_default();
        word.contains('.')
    }
}

/// `[…]:port`.
fn bracketed(value: &str) -> Option<(&str, &str)> {
    let (host, rest) = value.strip_prefix('[')?.split_once(']')?;
    let digit = |c: char| c.is_ascii_hexdigit() || c == ':';
    let port = port_of(rest)?;
    (!host.is_empty() && host.chars().all(digit)).then_some((host, port))
}

/// `host:port`.
fn plain(value: &str) -> Option<(&str, &str)> {
    let of_host = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    let end = value.find(|c| !of_host(c)).filter(|end| *end > 0)?;
    Some((&value[..end], port_of(&value[end..])?))
}

fn port_of(rest: &str) -> Option<&str> {
    let rest = rest.strip_prefix(':')?;
    let end = rest.find(|c| !is_port(c)).unwrap_or(rest.len());
    (end > 0).then(|| &rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_an_address_a_name_or_a_mark() {
        let address = |host: &str, port: &str| {
            Some(Target::Address {
                host: host.into(),
                port: port.into(),
            })
        };
        for (line, expected) in [
            ("virtual=10.0.0.1:80", address("10.0.0.1", "80")),
            (
                "virtual = www.example:http # x",
                address("www.example", "http"),
            ),
            ("virtual6 = [2001:db8::1]:80", address("2001:db8::1", "80")),
            ("virtual6 = www:80", address("www", "80")),
            ("virtual = 17", Some(Target::Mark(17))),
            ("virtual6 = 17", Some(Target::Mark(17))),
            ("virtual = 10.0.0.1", Some(Target::Mark(10))),
            ("virtual = 0", None),
            ("virtual = 4294967296", None),
            ("virtual = [2001:db8::1]:80", None),
            ("virtual6 = [:::::]:80", None),
            ("virtual =", None),
            ("virtual = www", None),
        ] {
            assert_eq!(header(line).unwrap().target().ok(), expected, "{line}");
        }
        assert!(header("virtuals = 1").is_none());
        assert!(header(" virtual = 1").is_none());
    }
}
