//! A virtual server as keepalived means it: one or more virtual services of IPVS
//! with a pool of checked real servers behind them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::{
    Check, ClientAddress, Forwarding, Persistence, Protocol, SchedFlags, Scheduler, Script,
    ServerKey, ServerSpec, ServiceKey, ServiceSpec,
};

/// What a virtual server is called; with the protocol, what makes it the same after a reload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VirtualName {
    /// `virtual_server IP PORT`.
    Address {
        /// VIP.
        addr: IpAddr,
        /// Port, host order; 0 for every port.
        port: u16,
    },
    /// `virtual_server fwmark N`.
    Mark(u32),
    /// `virtual_server group NAME`.
    Group(String),
}

/// What identifies a virtual server of a site, and what logs, FIFOs and mails call it:
/// `[192.0.2.1]:tcp:80`, `FWM 1`, `[GROUP]:0`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VirtualId {
    /// Name.
    pub name: VirtualName,
    /// `None` for a mark, or a group of marks.
    pub protocol: Option<Protocol>,
}

impl fmt::Display for VirtualId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            VirtualName::Address { addr, port } => {
                write!(f, "[{addr}]:{}:{port}", protocol_word(self.protocol))
            }
            VirtualName::Mark(mark) => write!(f, "FWM {mark}"),
            VirtualName::Group(name) => write!(f, "[{name}]:0"),
        }
    }
}

/// `tcp`, `udp`, `sctp`, or `none` where marks stand for the protocol.
pub fn protocol_word(protocol: Option<Protocol>) -> &'static str {
    match protocol {
        Some(Protocol::Tcp) => "tcp",
        Some(Protocol::Udp) => "udp",
        Some(Protocol::Sctp) => "sctp",
        None => "none",
    }
}

/// A virtual server with its pool. All inherited values are resolved: a reader of a file writes the
/// virtual server's value into every real server and check that has none of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VirtualServer {
    /// Its name and protocol.
    pub id: VirtualId,
    /// The services of IPVS it stands for, in configuration order: one, or each address and mark
    /// of its group, ranges expanded.
    pub keys: Vec<ServiceKey>,
    /// Scheduler.
    pub scheduler: Scheduler,
    /// Flags of the scheduler.
    pub sched_flags: SchedFlags,
    /// `persistence_timeout`.
    pub persistence: Option<Persistence>,
    /// `persistence_granularity` of IPv4.
    pub netmask: Ipv4Addr,
    /// `persistence_granularity` of IPv6.
    pub prefix_len: u8,
    /// `ops`.
    pub one_packet: bool,
    /// `persistence_engine`.
    pub persistence_engine: Option<String>,
    /// `laddr_group_name`: what its servers by FULLNAT see as clients.
    #[serde(default)]
    pub local_addresses: Vec<IpAddr>,
    /// How servers by FULLNAT learn the client's address.
    #[serde(default)]
    pub client_address: ClientAddress,
    /// Total weight of live servers from which (with the hysteresis on top) it is up.
    pub quorum: u32,
    /// How far the weight may fall below the quorum until it is down; less than the quorum.
    pub hysteresis: u32,
    /// Run when the quorum is gained.
    pub quorum_up: Option<Script>,
    /// Run when it is lost.
    pub quorum_down: Option<Script>,
    /// Servers start out of the pool until their first good check; kept in each server too
    /// ([`PoolServer::alpha`]).
    pub alpha: bool,
    /// At a stop, down scripts and mails go out as if everything had failed.
    pub omega: bool,
    /// Checks run only while the VIP is on this host.
    pub ha_suspend: bool,
    /// Takes the whole pool's place while there is no quorum.
    pub sorry_server: Option<SorryServer>,
    /// Mails about the quorum.
    pub smtp_alert: bool,
    /// The pool, in configuration order.
    pub servers: Vec<PoolServer>,
}

/// The server that answers when no other can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SorryServer {
    /// Address and port; port 0 is the service's.
    pub key: ServerKey,
    /// Forwarding method.
    pub forwarding: Forwarding,
    /// Kept in the table with weight 0 while it is not needed.
    pub inhibit: bool,
}

/// A real server of a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolServer {
    /// How it stands in the table while it is healthy, with its configured weight; port 0 is the
    /// service's.
    pub spec: ServerSpec,
    /// A failed server stays in the table with weight 0, keeping its connections.
    pub inhibit_on_failure: bool,
    /// Counts as failed until its first good check.
    pub alpha: bool,
    /// Run when it comes up.
    pub notify_up: Option<Script>,
    /// Run when it goes down.
    pub notify_down: Option<Script>,
    /// Mails about its state.
    pub smtp_alert: bool,
    /// What it must pass, all of it; without any it is always up.
    pub checks: Vec<Check>,
}

impl VirtualServer {
    /// A virtual server with keepalived's defaults and no servers.
    pub fn new(id: VirtualId, keys: Vec<ServiceKey>) -> Self {
        Self {
            id,
            keys,
            scheduler: Scheduler::Wlc,
            sched_flags: SchedFlags::default(),
            persistence: None,
            netmask: Ipv4Addr::BROADCAST,
            prefix_len: 128,
            one_packet: false,
            persistence_engine: None,
            local_addresses: Vec::new(),
            client_address: ClientAddress::Hidden,
            quorum: 1,
            hysteresis: 0,
            quorum_up: None,
            quorum_down: None,
            alpha: false,
            omega: false,
            ha_suspend: false,
            sorry_server: None,
            smtp_alert: false,
            servers: Vec::new(),
        }
    }

    /// The service of IPVS behind one of its keys.
    pub fn service(&self, key: ServiceKey) -> ServiceSpec {
        ServiceSpec {
            key,
            scheduler: self.scheduler,
            sched_flags: self.sched_flags,
            persistence: self.persistence,
            netmask: self.netmask,
            prefix_len: self.prefix_len,
            one_packet: self.one_packet,
            persistence_engine: self.persistence_engine.clone(),
            client_address: self.client_address,
        }
    }

    /// What logs, FIFOs and mails call a real server of it: `[10.0.0.1]:tcp:80`.
    pub fn server_label(&self, server: ServerKey) -> String {
        format!(
            "[{}]:{}:{}",
            server.addr,
            protocol_word(self.id.protocol),
            server.port
        )
    }
}

impl PoolServer {
    /// A server that nothing checks.
    pub fn new(spec: ServerSpec) -> Self {
        Self {
            spec,
            inhibit_on_failure: false,
            alpha: false,
            notify_up: None,
            notify_down: None,
            smtp_alert: false,
            checks: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_servers_are_called_as_keepalived_calls_them() {
        let address = VirtualName::Address {
            addr: [192, 0, 2, 1].into(),
            port: 80,
        };
        for (name, protocol, label) in [
            (address, Some(Protocol::Tcp), "[192.0.2.1]:tcp:80"),
            (VirtualName::Mark(7), None, "FWM 7"),
            (
                VirtualName::Group("web".into()),
                Some(Protocol::Udp),
                "[web]:0",
            ),
        ] {
            assert_eq!(VirtualId { name, protocol }.to_string(), label);
        }
    }
}
