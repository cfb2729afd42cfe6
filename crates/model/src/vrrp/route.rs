use std::net::IpAddr;
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};
use serde::Serialize;

use crate::Family;

/// A virtual or static route, in iproute2's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// What happens to packets.
    pub kind: RouteKind,
    /// Where to; `default` is a prefix of length 0.
    pub destination: IpNet,
    /// `src`: preferred source address.
    pub source: Option<IpAddr>,
    /// `from`: of packets; IPv6 only.
    pub from: Option<Ipv6Net>,
    /// `tos`.
    pub tos: u8,
    /// Number of the table; `None` for main, or that of `vrf`.
    pub table: Option<u32>,
    /// Number of the protocol; `None` for keepalived's 18.
    pub protocol: Option<u8>,
    /// Number of the scope; `None` for what the kind and next hop imply.
    pub scope: Option<u8>,
    /// `metric`.
    pub metric: Option<u32>,
    /// One for `via`, `dev`, `onlink`, `encap` and `realms`; several for `nexthop`s; none where the
    /// kind needs none.
    pub next_hops: Vec<NextHop>,
    /// `expires`; IPv6 only.
    pub expires: Option<Duration>,
    /// Metrics with a number.
    pub metrics: Vec<Metric>,
    /// `congctl`: name and whether it is locked.
    pub congestion_control: Option<(String, bool)>,
    /// `pref`; IPv6 only.
    pub preference: Option<RoutePreference>,
    /// `ttl-propagate`; MPLS.
    pub ttl_propagate: Option<bool>,
    /// Where among routes of the same destination.
    pub insert: RouteInsert,
    /// `vrf`.
    pub vrf: Option<String>,
    /// `no_track`: that somebody else deletes it is ignored.
    pub no_track: bool,
    /// `track_group` of a static route.
    pub track_group: Option<String>,
}

impl Route {
    /// A unicast route without any option.
    pub fn new(destination: IpNet) -> Self {
        Self {
            kind: RouteKind::Unicast,
            destination,
            source: None,
            from: None,
            tos: 0,
            table: None,
            protocol: None,
            scope: None,
            metric: None,
            next_hops: Vec::new(),
            expires: None,
            metrics: Vec::new(),
            congestion_control: None,
            preference: None,
            ttl_propagate: None,
            insert: RouteInsert::Prepend,
            vrf: None,
            no_track: false,
            track_group: None,
        }
    }

    /// Its family.
    pub fn family(&self) -> Family {
        self.destination.addr().into()
    }
}

/// What a route does with packets (`RTN_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[expect(missing_docs, reason = "the kernel's own names")]
pub enum RouteKind {
    Unicast,
    Local,
    Broadcast,
    Anycast,
    Multicast,
    Blackhole,
    Unreachable,
    Prohibit,
    Throw,
    Nat,
}

/// One way of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NextHop {
    /// `via`; may be of the other family.
    pub via: Option<IpAddr>,
    /// `dev`.
    pub interface: Option<String>,
    /// `weight`, 1 to 256; 0 counts as 1.
    pub weight: u16,
    /// `onlink`.
    pub onlink: bool,
    /// `realms`: source in the upper 16 bits, destination in the lower.
    pub realms: Option<u32>,
    /// `encap`.
    pub encap: Option<Encap>,
}

/// What packets are wrapped into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Encap {
    /// `encap mpls`: labels, outermost first, and TTL.
    Mpls {
        /// Labels of 20 bits.
        labels: Vec<u32>,
        /// TTL of the labels.
        ttl: Option<u8>,
    },
    /// `encap ip` and `encap ip6`, for a device of external tunnels.
    Ip {
        /// Tunnel id.
        id: Option<u64>,
        /// Outer destination.
        destination: Option<IpAddr>,
        /// Outer source.
        source: Option<IpAddr>,
        /// Outer TOS or traffic class.
        tos: Option<u8>,
        /// Outer TTL or hop limit.
        ttl: Option<u8>,
        /// Flags of the tunnel.
        flags: Option<u16>,
        /// The outer family.
        family: Family,
    },
}

/// A metric of a route (`RTAX_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Metric {
    /// Which.
    pub kind: MetricKind,
    /// Its value, in the kernel's unit: `rtt` in eighths and `rttvar` in quarters of milliseconds,
    /// `rto_min` in milliseconds.
    pub value: u32,
    /// `lock`.
    pub locked: bool,
}

/// Which metric (`RTAX_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[expect(missing_docs, reason = "the kernel's own names")]
pub enum MetricKind {
    Mtu,
    Window,
    Rtt,
    RttVar,
    SsThresh,
    Cwnd,
    AdvMss,
    Reordering,
    HopLimit,
    InitCwnd,
    /// Bits; `ecn` is 1.
    Features,
    RtoMin,
    InitRwnd,
    QuickAck,
    FastOpenNoCookie,
}

/// `pref` of an IPv6 route (RFC 4191).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[expect(missing_docs, reason = "low, medium, high")]
pub enum RoutePreference {
    Low,
    Medium,
    High,
}

/// Where a route comes among those of the same destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum RouteInsert {
    /// Before them.
    #[default]
    Prepend,
    /// After them.
    Append,
    /// There must be none.
    Add,
}
