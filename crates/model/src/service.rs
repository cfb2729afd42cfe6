use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::{Counters, Rates, SchedFlags, Scheduler, ServerView};

/// Address family of a service or server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl From<IpAddr> for Family {
    fn from(addr: IpAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Transport protocol of a virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP, 6.
    Tcp,
    /// UDP, 17.
    Udp,
    /// SCTP, 132.
    Sctp,
}

impl Protocol {
    /// The IANA protocol number.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol of an IANA number, if IPVS serves it.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }

    /// `TCP`, `UDP`, `SCTP`, as listings show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

/// What identifies a virtual service within a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceKey {
    /// Protocol, VIP and port.
    Address {
        /// Transport protocol.
        protocol: Protocol,
        /// VIP.
        addr: IpAddr,
        /// Virtual port, host order; 0 means every port (persistent services only).
        port: u16,
    },
    /// A firewall mark, per family.
    Mark {
        /// The mark, never 0.
        mark: u32,
        /// Family of the packets it balances.
        family: Family,
    },
}

impl ServiceKey {
    /// Family of the packets the service balances.
    pub fn family(&self) -> Family {
        match *self {
            Self::Address { addr, .. } => addr.into(),
            Self::Mark { family, .. } => family,
        }
    }

    /// The virtual port; 0 for marks.
    pub fn port(&self) -> u16 {
        match *self {
            Self::Address { port, .. } => port,
            Self::Mark { .. } => 0,
        }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Address {
                protocol,
                addr: IpAddr::V4(a),
                port,
            } => {
                write!(f, "{} {a}:{port}", protocol.name())
            }
            Self::Address {
                protocol,
                addr: IpAddr::V6(a),
                port,
            } => {
                write!(f, "{} [{a}]:{port}", protocol.name())
            }
            Self::Mark {
                mark,
                family: Family::V4,
            } => write!(f, "FWM {mark}"),
            Self::Mark {
                mark,
                family: Family::V6,
            } => write!(f, "FWM {mark} IPv6"),
        }
    }
}

/// Persistence of a service: how long a client stays with its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persistence {
    /// Life of a template in seconds after the last new connection.
    pub timeout_secs: NonZeroU32,
}

/// How a real server by FULLNAT is told who its client is, since the packet's source does not say it any
/// more. TCP only.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAddress {
    /// Not at all.
    #[default]
    Hidden,
    /// `--toa`: TCP option 254 in the last packet of the handshake and in data until the server has
    /// answered, which a server with a TOA module reads.
    Toa,
    /// `--proxy-protocol`: a header of the PROXY protocol, version 2, before the client's first byte.
    ProxyProtocol,
}

impl ClientAddress {
    /// Not said, and so not stored.
    pub fn is_hidden(&self) -> bool {
        *self == Self::Hidden
    }
}

/// Local addresses (LIPs) a service may have.
pub const MAX_LOCAL_ADDRESSES: usize = 256;

/// A virtual service as an operator states it (`IP_VS_SVC_*`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Identity.
    pub key: ServiceKey,
    /// Scheduler.
    pub scheduler: Scheduler,
    /// `-b`.
    #[serde(default)]
    pub sched_flags: SchedFlags,
    /// `-p`.
    #[serde(default)]
    pub persistence: Option<Persistence>,
    /// `-M`: prefix of IPv4 clients that share a template; stored even when not persistent.
    #[serde(default = "all_ones")]
    pub netmask: Ipv4Addr,
    /// `-M` of an IPv6 service: prefix length 1..=128.
    #[serde(default = "host_prefix")]
    pub prefix_len: u8,
    /// `-o`, one-packet scheduling.
    #[serde(default)]
    pub one_packet: bool,
    /// `--pe`.
    #[serde(default)]
    pub persistence_engine: Option<String>,
    /// `--toa`, `--proxy-protocol`.
    #[serde(default, skip_serializing_if = "ClientAddress::is_hidden")]
    pub client_address: ClientAddress,
}

impl ServiceSpec {
    /// A plain service: no persistence, no flags.
    pub fn new(key: ServiceKey, scheduler: Scheduler) -> Self {
        Self {
            key,
            scheduler,
            sched_flags: SchedFlags::default(),
            persistence: None,
            netmask: all_ones(),
            prefix_len: host_prefix(),
            one_packet: false,
            persistence_engine: None,
            client_address: ClientAddress::Hidden,
        }
    }
}

fn all_ones() -> Ipv4Addr {
    Ipv4Addr::BROADCAST
}

fn host_prefix() -> u8 {
    128
}

/// A virtual service as it stands, with its servers **newest first**, the order schedulers walk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceView {
    /// What was asked for.
    #[serde(flatten)]
    pub spec: ServiceSpec,
    /// Totals since the service was added or zeroed.
    pub counters: Counters,
    /// Smoothed rates.
    pub rates: Rates,
    /// Real servers, newest first.
    pub servers: Vec<ServerView>,
    /// Local addresses of its servers by FULLNAT, in the order in which they were added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local_addresses: Vec<IpAddr>,
}
