//! Interfaces and their addresses, as the kernel tells of them.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use pointsman_model::Family;

use crate::netlink::Netlink;

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub index: u32,
    pub name: String,
    /// Administratively up, with carrier.
    pub up: bool,
    pub multicast: bool,
    /// Takes announcements: neither loopback nor without ARP.
    pub arp: bool,
    pub mac: Option<[u8; 6]>,
    pub addresses: Vec<Address>,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub ip: IpAddr,
    secondary: bool,
    /// Duplicate address detection is not over.
    tentative: bool,
}

impl Link {
    /// What adverts come from: the primary IPv4 address, or the link-local one of IPv6; never a
    /// virtual one.
    pub fn source(&self, family: Family, is_virtual: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let fits = |address: &&Address| {
            let of_family = match (family, address.ip) {
                (Family::V4, IpAddr::V4(_)) => true,
                (Family::V6, IpAddr::V6(ip)) => ip.is_unicast_link_local(),
                _ => false,
            };
            of_family && !address.tentative && !is_virtual(address.ip)
        };
        let primary = self.addresses.iter().filter(fits).find(|a| !a.secondary);
        primary
            .or_else(|| self.addresses.iter().find(fits))
            .map(|address| address.ip)
    }
}

/// All interfaces, by index.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links(BTreeMap<u32, Link>);

/// What a message was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// An interface or its addresses changed.
    Changed,
    /// An address is gone.
    AddressGone(u32, IpAddr),
    /// A route or a rule is gone.
    RouteGone,
    Nothing,
}

impl Links {
    /// Asks for everything.
    pub fn load(netlink: &mut Netlink) -> io::Result<Self> {
        let mut links = Self::default();
        let all = [
            RouteNetlinkMessage::GetLink(LinkMessage::default()),
            RouteNetlinkMessage::GetAddress(AddressMessage::default()),
        ];
        for question in all {
            for answer in netlink.dump(question)? {
                links.take(&answer);
            }
        }
        Ok(links)
    }

    /// Takes in what the kernel told.
    pub fn take(&mut self, message: &RouteNetlinkMessage) -> Told {
        match message {
            RouteNetlinkMessage::NewLink(message) => self.new_link(message),
            RouteNetlinkMessage::DelLink(message) => {
                self.0.remove(&message.header.index);
                Told::Changed
            }
            RouteNetlinkMessage::NewAddress(message) => {
                let Some((index, address)) = address(message) else {
                    return Told::Nothing;
                };
                if let Some(link) = self.0.get_mut(&index) {
                    match link.addresses.iter_mut().find(|a| a.ip == address.ip) {
                        Some(known) => *known = address,
                        None => link.addresses.push(address),
                    }
                }
                Told::Changed
            }
            RouteNetlinkMessage::DelAddress(message) => {
                let Some((index, address)) = address(message) else {
                    return Told::Nothing;
                };
                if let Some(link) = self.0.get_mut(&index) {
                    link.addresses.retain(|known| known.ip != address.ip);
                }
                Told::AddressGone(index, address.ip)
            }
            RouteNetlinkMessage::DelRoute(_) | RouteNetlinkMessage::DelRule(_) => Told::RouteGone,
            _ => Told::Nothing,
        }
    }

    fn new_link(&mut self, message: &LinkMessage) -> Told {
        let index = message.header.index;
        let flags = message.header.flags;
        let mut link = Link {
            index,
            up: flags.contains(LinkFlags::Up) && flags.contains(LinkFlags::Running),
            multicast: flags.contains(LinkFlags::Multicast),
            arp: !flags.intersects(LinkFlags::Noarp | LinkFlags::Loopback),
            ..Link::default()
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name.clone(),
                LinkAttribute::Address(mac) => link.mac = mac[..].try_into().ok(),
                _ => {}
            }
        }
        if link.name.is_empty() {
            // A message about a bridge port, not about the link.
            return Told::Nothing;
        }
        if let Some(known) = self.0.get_mut(&index) {
            link.addresses = std::mem::take(&mut known.addresses);
        }
        self.0.insert(index, link);
        Told::Changed
    }

    pub fn by_name(&self, name: &str) -> Option<&Link> {
        self.0.values().find(|link| link.name == name)
    }

    pub fn by_index(&self, index: u32) -> Option<&Link> {
        self.0.get(&index)
    }

    /// Whether this host has the address.
    pub fn has(&self, ip: IpAddr) -> bool {
        self.0
            .values()
            .any(|link| link.addresses.iter().any(|address| address.ip == ip))
    }
}

fn address(message: &AddressMessage) -> Option<(u32, Address)> {
    let mut flags = AddressFlags::empty();
    let (mut local, mut other) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => other = Some(*ip),
            AddressAttribute::Flags(f) => flags = *f,
            _ => {}
        }
    }
    let address = Address {
        ip: local.or(other)?,
        secondary: flags.contains(AddressFlags::Secondary),
        tentative: flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed),
    };
    Some((message.header.index, address))
}
