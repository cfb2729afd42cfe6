use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

/// `bfd_instance`: a session of Bidirectional Forwarding Detection (RFC 5880, asynchronous mode).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BfdInstance {
    /// Its name.
    pub name: String,
    /// The other end.
    pub neighbour: IpAddr,
    /// Address packets are sent from.
    pub source: Option<IpAddr>,
    /// Least time between packets that we take.
    pub min_rx: Duration,
    /// Least time between packets that we send, once up.
    pub min_tx: Duration,
    /// Time between packets while not up.
    pub idle_tx: Duration,
    /// How many packets may be missing.
    pub multiplier: u8,
    /// Waits for the other end to begin.
    pub passive: bool,
    /// `ttl` or `hoplimit` of packets sent.
    pub ttl: u8,
    /// `max_hops`: how many hops packets received may have made.
    pub max_hops: u8,
    /// `multihop` (RFC 5883): UDP port 4784 instead of 3784.
    pub multihop: bool,
    /// `vrrp`: VRRP is told.
    pub for_vrrp: bool,
    /// `checker`: health checks are told.
    pub for_checkers: bool,
}
