//! Names of addresses, so that scenarios and what they print can be read.
//!
//! ```text
//! c1 … c40     10.1.0.1 …      c1v6    fd00:1::1 …       clients
//! rs1 … rs40   10.2.0.1 …      rs1v6   fd00:2::1 …       real servers
//! VIP1 …       10.1.100.1 …    VIP1v6  fd00:100::1 …     virtual addresses; VIP is VIP1
//! D1, D2       10.1.255.254, 10.2.255.254, also v6       the director, towards clients and servers
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use pointsman_testkit::frames::Mac;

use crate::packet::Packet;

/// Which cable of the director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one with the clients.
    Client,
    /// The one with the real servers.
    Server,
}

impl Side {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Client => 1,
            Self::Server => 2,
        }
    }
}

/// Addresses by family of host `index` (of 16 bits) in network `network`.
fn address(network: Network, index: u16, v6: bool) -> IpAddr {
    let [high, low] = index.to_be_bytes();
    let (second, group) = match network {
        Network::Side(side) => (side.number(), u16::from(side.number())),
        Network::Virtual if v6 => (1, 0x100),
        Network::Virtual => return IpAddr::V4(Ipv4Addr::new(10, 1, 100, low)),
    };
    if v6 {
        IpAddr::V6(Ipv6Addr::new(0xfd00, group, 0, 0, 0, 0, 0, index))
    } else {
        IpAddr::V4(Ipv4Addr::new(10, second, high, low))
    }
}

#[derive(Clone, Copy)]
enum Network {
    Side(Side),
    Virtual,
}

/// The host part of the director's own addresses.
pub const DIRECTOR: u16 = 0xfffe;
/// The host part of whoever asks whether everything has passed.
pub const PROBER: u16 = 0xfa01;

/// A host of a cable.
pub fn host(side: Side, index: u16, v6: bool) -> IpAddr {
    address(Network::Side(side), index, v6)
}

/// On which cable an address lives, and the hardware address it has there.
pub fn mac(address: IpAddr) -> Option<(Side, Mac)> {
    let (side, index) = match address {
        IpAddr::V4(v4) => {
            let [_, second, high, low] = v4.octets();
            let side = match (v4.octets()[0], second) {
                (10, 1) if high != 100 => Side::Client,
                (10, 2) => Side::Server,
                _ => return None,
            };
            (side, u16::from_be_bytes([high, low]))
        }
        IpAddr::V6(v6) => {
            let groups = v6.segments();
            let side = match (groups[0], groups[1]) {
                (0xfd00, 1) => Side::Client,
                (0xfd00, 2) => Side::Server,
                _ => return None,
            };
            (side, groups[7])
        }
    };
    let [high, low] = index.to_be_bytes();
    (index != DIRECTOR).then_some((side, [2, 0, 0, side.number(), high, low]))
}

/// The hardware address from which an IP packet is sent on a cable: that of its source if it lives
/// there, else a router's.
pub fn sender(side: Side, packet: &[u8]) -> Mac {
    let source = Packet::read(packet).map(|packet| packet.source);
    match source.and_then(mac) {
        Some((lives, mac)) if lives == side => mac,
        _ => [2, 0, 0, side.number(), 0xfe, 1],
    }
}

/// Who has a hardware address: `rs3`.
pub fn owner(mac: Mac) -> String {
    match mac {
        [2, _, _, 1, 0, n] => format!("c{n}"),
        [2, _, _, 2, 0, n] => format!("rs{n}"),
        [2, _, _, _, 0xfe, 1] => "router".into(),
        [2, _, _, side, high, low] => format!("10.{side}.{high}.{low}"),
        [first, ..] if first & 1 == 1 => "everybody".into(),
        _ => "somebody".into(),
    }
}

/// The number of a real server by its address or hardware address.
pub fn server_number(mac: Mac) -> u16 {
    u16::from_be_bytes([mac[4], mac[5]])
}

/// The address that `name` means; a literal address means itself.
pub fn resolve(name: &str) -> Result<IpAddr> {
    if let Ok(address) = name.parse() {
        return Ok(address);
    }
    named(name).with_context(|| format!("{name} is no address and no name of one"))
}

fn named(name: &str) -> Option<IpAddr> {
    let (stem, v6) = match name.strip_suffix("v6") {
        Some(stem) => (stem, true),
        None => (name, false),
    };
    match stem {
        "VIP" => return Some(address(Network::Virtual, 1, v6)),
        "D1" => return Some(host(Side::Client, DIRECTOR, v6)),
        "D2" => return Some(host(Side::Server, DIRECTOR, v6)),
        _ => {}
    }
    let (network, number) = [
        ("VIP", Network::Virtual),
        ("c", Network::Side(Side::Client)),
        ("rs", Network::Side(Side::Server)),
    ]
    .into_iter()
    .find_map(|(prefix, network)| Some((network, stem.strip_prefix(prefix)?)))?;
    let number: u8 = number.parse().ok().filter(|&n| n > 0)?;
    Some(address(network, number.into(), v6))
}

/// The name of an address, or the address.
pub fn name(address: IpAddr) -> String {
    let suffix = if address.is_ipv6() { "v6" } else { "" };
    let stem = match address {
        IpAddr::V4(v4) => match v4.octets() {
            [10, 1, 100, 1] => Some("VIP".into()),
            [10, 1, 100, n] => Some(format!("VIP{n}")),
            [10, 1, 0, n] => Some(format!("c{n}")),
            [10, 2, 0, n] => Some(format!("rs{n}")),
            [10, 1, 255, 254] => Some("D1".into()),
            [10, 2, 255, 254] => Some("D2".into()),
            _ => None,
        },
        IpAddr::V6(v6) => match v6.segments() {
            [0xfd00, 0x100, 0, 0, 0, 0, 0, 1] => Some("VIP".into()),
            [0xfd00, 0x100, 0, 0, 0, 0, 0, n] => Some(format!("VIP{n}")),
            [0xfd00, 1, 0, 0, 0, 0, 0, DIRECTOR] => Some("D1".into()),
            [0xfd00, 2, 0, 0, 0, 0, 0, DIRECTOR] => Some("D2".into()),
            [0xfd00, 1, 0, 0, 0, 0, 0, n] => Some(format!("c{n}")),
            [0xfd00, 2, 0, 0, 0, 0, 0, n] => Some(format!("rs{n}")),
            _ => None,
        },
    };
    stem.map_or_else(|| address.to_string(), |stem| stem + suffix)
}

/// `text` with addresses in the place of their names.
pub fn substitute(text: &str) -> String {
    let mut out = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_alphanumeric() {
            word.push(c);
            continue;
        }
        match named(&word) {
            Some(address) => out += &address.to_string(),
            None => out += &word,
        }
        word.clear();
        out.push(c);
    }
    out.pop();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_each_others() {
        for name_of in ["VIP", "VIP7v6", "c12", "rs40v6", "D1", "D2v6"] {
            assert_eq!(name(resolve(name_of).unwrap()), name_of);
        }
        assert_eq!(resolve("192.0.2.1").unwrap().to_string(), "192.0.2.1");
        assert!(resolve("c0").is_err());
    }

    #[test]
    fn names_in_a_command_become_addresses() {
        assert_eq!(
            substitute("-a -t [VIPv6]:80 -r rs3:80 -c -s rr"),
            "-a -t [fd00:100::1]:80 -r 10.2.0.3:80 -c -s rr"
        );
    }
}
