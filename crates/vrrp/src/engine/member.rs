//! What the engine keeps of one instance beside its state machine.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use pointsman_model::vrrp::{
    Authentication, Peers, Route, Rule, VirtualAddress, VirtualInterface, VrrpInstance,
};

use crate::group::Tracking;
use crate::links::Links;
use crate::netlink::Netlink;
use crate::receive::Receiver;
use crate::socket::Key;
use crate::sysctl::Saved;
use crate::transmit::Transmitter;
use crate::vmac::Vmac;

pub(super) struct Member {
    pub config: Arc<VrrpInstance>,
    pub receiver: Receiver,
    pub transmitter: Transmitter,
    /// The socket it hears and speaks by.
    pub key: Option<Key>,
    /// Virtual MAC of the instance.
    pub vmac: Option<Vmac>,
    /// Virtual MACs of addresses on other interfaces.
    pub address_vmacs: Vec<Vmac>,
    /// Addresses that are on interfaces because of us.
    pub held: Vec<(VirtualAddress, u32)>,
    pub held_routes: Vec<Route>,
    pub held_rules: Vec<Rule>,
    /// What the state machine was told of its tracked objects; `None` before it was.
    pub tracking: Option<Tracking>,
    /// Why it is in FAULT.
    pub faults: Vec<String>,
    pub since: SystemTime,
    pub saved: Saved,
    /// Kinds of trouble already told since the last change of state.
    said: BTreeSet<&'static str>,
}

impl Member {
    pub fn new(config: Arc<VrrpInstance>) -> Self {
        Self {
            receiver: Receiver::new(Arc::clone(&config)),
            config,
            transmitter: Transmitter::default(),
            key: None,
            vmac: None,
            address_vmacs: Vec::new(),
            held: Vec::new(),
            held_routes: Vec::new(),
            held_rules: Vec::new(),
            tracking: None,
            faults: Vec::new(),
            since: SystemTime::now(),
            saved: Saved::default(),
            said: BTreeSet::new(),
        }
    }

    /// Whether a configuration is of the same virtual router, seen from the same place.
    pub fn is_same_router(&self, other: &VrrpInstance) -> bool {
        let ours = &self.config;
        let same_peers = match (&ours.peers, &other.peers) {
            (Peers::Multicast(a), Peers::Multicast(b)) => a == b,
            (Peers::Unicast(_), Peers::Unicast(_)) => ours.source == other.source,
            _ => false,
        };
        ours.vrid == other.vrid
            && ours.family == other.family
            && ours.interface == other.interface
            && ours.virtual_interface == other.virtual_interface
            && same_peers
    }

    /// Whether adverts that come by this socket may be for it.
    pub fn listens(&self, key: Key) -> bool {
        self.key.is_some_and(|own| {
            own.family == key.family && own.interface == key.interface && own.local == key.local
        })
    }

    /// Whether adverts to `destination` are for it.
    pub fn is_addressed(&self, destination: IpAddr) -> bool {
        match &self.config.peers {
            Peers::Multicast(group) => *group == destination,
            Peers::Unicast(_) => self
                .config
                .source
                .map_or(!destination.is_multicast(), |own| own == destination),
        }
    }

    /// The interface that adverts go by.
    pub fn advert_interface<'a>(&'a self, links: &'a Links) -> Option<&'a crate::links::Link> {
        let on_vmac = matches!(
            self.config.virtual_interface,
            Some(VirtualInterface::Vmac {
                adverts_on_base: false,
                ..
            })
        );
        if on_vmac && matches!(self.config.peers, Peers::Multicast(_)) {
            return links.by_index(self.vmac.as_ref()?.index);
        }
        self.base(links)
    }

    /// The interface that it is configured on.
    pub fn base<'a>(&self, links: &'a Links) -> Option<&'a crate::links::Link> {
        let name = self
            .config
            .interface
            .as_ref()
            .or(self.config.vrf.as_ref())?;
        links.by_name(name)
    }

    /// Where an address goes.
    pub fn home(&self, address: &VirtualAddress, links: &Links, default: &str) -> Option<u32> {
        match &address.interface {
            Some(name) if Some(name) == self.config.interface.as_ref() && self.vmac.is_none() => {
                links.by_name(name).map(|link| link.index)
            }
            Some(name) => {
                let own = self
                    .address_vmacs
                    .iter()
                    .find(|vmac| vmac.wanted.parent == *name)
                    .filter(|_| address.use_vmac || self.config.vmac_for_addresses);
                match own {
                    Some(vmac) => Some(vmac.index),
                    None => links.by_name(name).map(|link| link.index),
                }
            }
            None => match (&self.vmac, &self.config.interface) {
                (Some(vmac), _) => Some(vmac.index),
                (None, Some(name)) => links.by_name(name).map(|link| link.index),
                (None, None) => links.by_name(default).map(|link| link.index),
            },
        }
    }

    /// All its addresses, advertised ones first.
    pub fn addresses(&self) -> impl Iterator<Item = &VirtualAddress> {
        self.config.addresses.iter().chain(&self.config.excluded)
    }

    /// The socket it needs.
    pub fn wanted_key(&self, links: &Links) -> Option<Key> {
        let interface = self.advert_interface(links).map(|link| link.index);
        let local = match interface {
            Some(_) => None,
            None => Some(self.config.source?),
        };
        if interface.is_none() && self.config.interface.is_some() {
            return None;
        }
        Some(Key {
            family: self.config.family,
            interface,
            local,
            ah: matches!(self.config.authentication, Authentication::Ah(_)),
        })
    }

    /// Logs trouble of a kind once until the state changes.
    pub fn say_once(&mut self, kind: &'static str, what: impl FnOnce() -> String) {
        if self.said.insert(kind) {
            tracing::warn!("({}) {kind}: {}", self.config.name, what());
        }
    }

    /// Another state: trouble may be told again.
    pub fn forget_said(&mut self) {
        self.said.clear();
    }

    /// Removes virtual MACs and puts sysctls back.
    pub fn remove_interfaces(&mut self, netlink: &mut Netlink) {
        for vmac in self
            .vmac
            .take()
            .into_iter()
            .chain(self.address_vmacs.drain(..))
        {
            vmac.remove(netlink);
        }
        self.saved.restore();
    }
}
