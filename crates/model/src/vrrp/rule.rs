use ipnet::IpNet;
use serde::Serialize;

use crate::Family;

/// A virtual or static routing rule, in iproute2's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Its family.
    pub family: Family,
    /// `not`: all that do not match.
    pub invert: bool,
    /// Source of packets.
    pub from: Option<IpNet>,
    /// Destination of packets.
    pub to: Option<IpNet>,
    /// `preference`; the front end gives one to those that have none, from 16384 downwards.
    pub preference: Option<u32>,
    /// `tos`.
    pub tos: Option<u8>,
    /// `fwmark`: mark and mask.
    pub mark: Option<(u32, Option<u32>)>,
    /// `realms`: source in the upper 16 bits, destination in the lower.
    pub realms: Option<u32>,
    /// `suppress_prefixlength`.
    pub suppress_prefix_length: Option<u32>,
    /// `suppress_ifgroup`.
    pub suppress_interface_group: Option<u32>,
    /// `iif`.
    pub incoming: Option<String>,
    /// `oif`.
    pub outgoing: Option<String>,
    /// `tunnel-id`.
    pub tunnel_id: Option<u64>,
    /// `uidrange`.
    pub users: Option<(u32, u32)>,
    /// `protocol`: who made the rule; `None` for keepalived's 18.
    pub protocol: Option<u8>,
    /// `ipproto`.
    pub ip_protocol: Option<u8>,
    /// `sport`.
    pub source_ports: Option<(u16, u16)>,
    /// `dport`.
    pub destination_ports: Option<(u16, u16)>,
    /// What happens to packets that match.
    pub action: RuleAction,
    /// `no_track`: that somebody else deletes it is ignored.
    pub no_track: bool,
    /// `track_group` of a static rule.
    pub track_group: Option<String>,
}

impl Rule {
    /// A rule for all packets of a family.
    pub fn new(family: Family, action: RuleAction) -> Self {
        Self {
            family,
            invert: false,
            from: None,
            to: None,
            preference: None,
            tos: None,
            mark: None,
            realms: None,
            suppress_prefix_length: None,
            suppress_interface_group: None,
            incoming: None,
            outgoing: None,
            tunnel_id: None,
            users: None,
            protocol: None,
            ip_protocol: None,
            source_ports: None,
            destination_ports: None,
            action,
            no_track: false,
            track_group: None,
        }
    }
}

/// What a rule does (`FR_ACT_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum RuleAction {
    /// `table N`.
    Table(u32),
    /// `l3mdev`: the table of the packet's VRF.
    L3mdev,
    /// `goto N`.
    Goto(u32),
    /// `nop`.
    Nop,
    /// `blackhole`.
    Blackhole,
    /// `unreachable`.
    Unreachable,
    /// `prohibit`.
    Prohibit,
}
