use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{Error, Family, Protocol};

/// A native mark rule: packets that match all of it and open a connection get its mark, as a rule of
/// netfilter would give it. Of several rules the first that matches decides.
///
/// As text, words in pairs: `from 198.51.100.0/24 to 192.0.2.0/24 protocol tcp port 80,443,8000-8100
/// in eth0 mark 7`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MarkRule {
    /// Family of the packets; `None` for both, or as the addresses say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// Source network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpNet>,
    /// Destination network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<IpNet>,
    /// Transport protocol; `None` for every one that is balanced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Destination ports, one range of which has to hold the packet's; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortRange>,
    /// Name of the interface the packet comes in by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The mark; 0 for none, which exempts from the rules that follow.
    pub mark: u32,
}

/// Ports from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    /// First port, host order.
    pub first: u16,
    /// Last port, host order.
    pub last: u16,
}

impl MarkRule {
    /// Most ranges of ports in one rule.
    pub const MAX_PORT_RANGES: usize = 8;

    /// Checks a rule.
    ///
    /// # Errors
    /// [`Error::Invalid`] for addresses of two families, for more than [`Self::MAX_PORT_RANGES`]
    /// ranges, or for a name that no interface can have.
    pub fn validate(&self) -> Result<(), Error> {
        let of = |net: IpNet| Family::from(net.addr());
        let families = [self.family, self.from.map(of), self.to.map(of)];
        let mut families = families.into_iter().flatten();
        if let Some(first) = families.next()
            && families.any(|other| other != first)
        {
            return Err(Error::Invalid(
                "addresses of two families in one rule".into(),
            ));
        }
        if self.ports.len() > Self::MAX_PORT_RANGES {
            return Err(Error::Invalid(format!(
                "{} ranges of ports in one rule; {} at most",
                self.ports.len(),
                Self::MAX_PORT_RANGES
            )));
        }
        match &self.interface {
            Some(name) if !is_interface_name(name) => Err(Error::Invalid(format!(
                "no interface can be named {name:?}"
            ))),
            _ => Ok(()),
        }
    }
}

/// Fifteen bytes without blanks and slashes (`Linux dev_valid_name`).
fn is_interface_name(name: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || c == '/' || c == ':' || c == '\0';
    !matches!(name, "" | "." | "..") && name.len() < 16 && !name.contains(bad)
}

impl fmt::Display for MarkRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.family {
            Some(Family::V4) => f.write_str("family ipv4 ")?,
            Some(Family::V6) => f.write_str("family ipv6 ")?,
            None => {}
        }
        if let Some(from) = self.from {
            write!(f, "from {from} ")?;
        }
        if let Some(to) = self.to {
            write!(f, "to {to} ")?;
        }
        if let Some(protocol) = self.protocol {
            write!(f, "protocol {} ", protocol.name().to_ascii_lowercase())?;
        }
        for (i, range) in self.ports.iter().enumerate() {
            write!(f, "{}{range}", if i == 0 { "port " } else { "," })?;
        }
        if !self.ports.is_empty() {
            f.write_str(" ")?;
        }
        if let Some(interface) = &self.interface {
            write!(f, "in {interface} ")?;
        }
        write!(f, "mark {}", self.mark)
    }
}

impl FromStr for MarkRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut rule = Self::default();
        let mut mark = None;
        let mut words = text.split_whitespace();
        while let Some(word) = words.next() {
            let value = words
                .next()
                .ok_or_else(|| Error::Invalid(format!("{word} wants a value")))?;
            let wrong = || Error::Invalid(format!("{word} {value}"));
            let twice = match word {
                "family" => {
                    let family = match value {
                        "ipv4" => Family::V4,
                        "ipv6" => Family::V6,
                        _ => return Err(wrong()),
                    };
                    rule.family.replace(family).is_some()
                }
                "from" => rule.from.replace(net(value).ok_or_else(wrong)?).is_some(),
                "to" => rule.to.replace(net(value).ok_or_else(wrong)?).is_some(),
                "protocol" => {
                    let protocol = match value {
                        "tcp" => Protocol::Tcp,
                        "udp" => Protocol::Udp,
                        "sctp" => Protocol::Sctp,
                        _ => return Err(wrong()),
                    };
                    rule.protocol.replace(protocol).is_some()
                }
                "port" => {
                    let ports: Result<_, _> = value.split(',').map(PortRange::from_str).collect();
                    !std::mem::replace(&mut rule.ports, ports?).is_empty()
                }
                "in" => rule.interface.replace(value.to_owned()).is_some(),
                "mark" => mark.replace(number(value).ok_or_else(wrong)?).is_some(),
                _ => {
                    return Err(Error::Invalid(format!(
                        "{word}; expected family, from, to, protocol, port, in or mark"
                    )));
                }
            };
            if twice {
                return Err(Error::Invalid(format!("{word} is given twice")));
            }
        }
        rule.mark = mark.ok_or_else(|| Error::Invalid("a rule wants a mark".into()))?;
        rule.validate()?;
        Ok(rule)
    }
}

/// A network, or one address; bits beyond the prefix are cut off.
fn net(text: &str) -> Option<IpNet> {
    let net = match text.parse::<IpAddr>() {
        Ok(address) => address.into(),
        Err(_) => text.parse::<IpNet>().ok()?,
    };
    Some(net.trunc())
}

/// Decimal, or hexadecimal behind `0x`.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.last != self.first {
            write!(f, "-{}", self.last)?;
        }
        Ok(())
    }
}

impl FromStr for PortRange {
    type Err = Error;

    /// `80` or `8000-8100`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(Error::Invalid(format!(
                "port {text:?}; expected 80 or 8000-8100"
            ))),
        }
    }
}

impl TryFrom<String> for PortRange {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_survives_the_way_through_its_text() {
        for text in [
            "mark 0",
            "family ipv6 mark 4294967295",
            "from 198.51.100.0/24 to 192.0.2.1/32 protocol tcp port 80,443,8000-8100 in eth0 mark 7",
            "to 2001:db8::/32 protocol sctp port 0-65535 mark 1",
        ] {
            assert_eq!(text.parse::<MarkRule>().unwrap().to_string(), text);
        }
        let rule: MarkRule = " mark 0x10  to 192.0.2.77/24\n".parse().unwrap();
        assert_eq!(rule.to_string(), "to 192.0.2.0/24 mark 16");
    }

    #[test]
    fn what_is_no_rule_is_refused_with_the_place() {
        for (text, reason) in [
            ("", "wants a mark"),
            ("to 192.0.2.0/24", "wants a mark"),
            ("to", "to wants a value"),
            ("to 192.0.2.0/33 mark 1", "to 192.0.2.0/33"),
            ("to www mark 1", "to www"),
            ("mark 4294967296", "mark 4294967296"),
            ("mark 1 mark 2", "twice"),
            ("mark 1 port 80 port 81", "twice"),
            ("mark 1 port 90-80", "90-80"),
            ("mark 1 port 80,", "\"\""),
            ("mark 1 port 1,2,3,4,5,6,7,8,9", "8 at most"),
            ("mark 1 protocol icmp", "protocol icmp"),
            ("mark 1 colour red", "colour"),
            ("mark 1 in a-name-too-long-for-it", "a-name"),
            ("mark 1 from 192.0.2.1 to ::1", "two families"),
            ("mark 1 family ipv6 to 192.0.2.1", "two families"),
        ] {
            match text.parse::<MarkRule>() {
                Err(Error::Invalid(told)) => assert!(told.contains(reason), "{text}: {told}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
