use std::net::IpAddr;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use crate::{Counters, Error, Rates};

/// What identifies a real server within its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServerKey {
    /// RIP.
    pub addr: IpAddr,
    /// Port, host order; 0 means the port the client asked for.
    pub port: u16,
}

/// Share of new connections; 0 quiesces. As in the kernel, 0..=2147483647.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Weight(u32);

impl Weight {
    /// No new connections; established ones continue.
    pub const QUIESCED: Self = Self(0);
    /// What `ipvsadm` sets when none is given.
    pub const DEFAULT: Self = Self(1);

    /// A weight, or `None` above 2147483647.
    pub fn new(value: u32) -> Option<Self> {
        (value <= i32::MAX as u32).then_some(Self(value))
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl From<Weight> for u32 {
    fn from(weight: Weight) -> Self {
        weight.0
    }
}

impl TryFrom<u32> for Weight {
    type Error = Error;

    fn try_from(value: u32) -> Result<Self, Error> {
        Self::new(value).ok_or_else(|| Error::OutOfRange(format!("weight {value}")))
    }
}

/// How a packet reaches a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forwarding {
    /// NAT: destination rewritten, replies translated back (`-m`, `Masq`).
    Masquerade,
    /// Direct routing: only the link-layer address changes (`-g`, `Route`).
    Route,
    /// Encapsulated towards the real server (`-i`, `Tunnel`).
    Tunnel(Encapsulation),
    /// Handed to the director's own stack (`Local`); never set by `ipvsadm`.
    Local,
    /// NAT of both ends (`--fullnat`, `FullNat`): the source becomes an address of the service's pool
    /// ([`crate::Change::AddLocalAddress`]), so that replies come back to the director from wherever
    /// the server is.
    FullNat,
}

/// Outer headers of a tunnelled packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encapsulation {
    /// IP in IP.
    Ipip,
    /// Generic UDP encapsulation.
    Gue {
        /// UDP destination port.
        port: NonZeroU16,
        /// Outer checksum.
        checksum: TunnelChecksum,
    },
    /// GRE.
    Gre {
        /// Whether the GRE checksum is present (never `Remote`).
        checksum: TunnelChecksum,
    },
}

/// Checksum option of a GUE or GRE tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelChecksum {
    /// `--tun-nocsum`
    None,
    /// `--tun-csum`
    Full,
    /// `--tun-remcsum`
    Remote,
}

/// A real server as an operator states it (`IP_VS_DEST_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSpec {
    /// Identity.
    pub key: ServerKey,
    /// Forwarding method.
    pub forwarding: Forwarding,
    /// Weight.
    pub weight: Weight,
    /// `-x`: connections at which the server counts as overloaded; 0 means no limit.
    #[serde(default)]
    pub upper_threshold: u32,
    /// `-y`: connections below which it takes new ones again; 0 means three quarters of the upper.
    #[serde(default)]
    pub lower_threshold: u32,
}

/// A real server as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerView {
    /// What was asked for.
    #[serde(flatten)]
    pub spec: ServerSpec,
    /// Connections in an active state.
    pub active: u32,
    /// Bound connections in any other state.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// Totals since the server was added or zeroed.
    pub counters: Counters,
    /// Smoothed rates.
    pub rates: Rates,
}
