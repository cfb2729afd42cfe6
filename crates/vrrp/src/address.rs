//! Virtual addresses, routes and rules as rtnetlink has them.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope, CacheInfo,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use pointsman_model::Family;
use pointsman_model::vrrp::{Broadcast, VirtualAddress};

/// What is asked for: a message and the flags that say how.
pub(crate) type Request = (RouteNetlinkMessage, u16);

/// Number of keepalived in protocol fields, by which leftovers are known (`linux/rtnetlink.h`).
pub(crate) const KEEPALIVED: u8 = 18;

const IFA_PROTO: u16 = 11;

/// Adds an address to interface `index`; one that is there already is taken over.
pub(crate) fn add(address: &VirtualAddress, index: u32) -> Request {
    let mut message = message(address, index);
    let flags = &address.flags;
    let mut bits = AddressFlags::empty();
    for (wanted, bit) in [
        (flags.home, AddressFlags::Homeaddress),
        (flags.nodad, AddressFlags::Nodad),
        (flags.mngtmpaddr, AddressFlags::Managetempaddr),
        (flags.noprefixroute, AddressFlags::Noprefixroute),
        (flags.autojoin, AddressFlags::Mcautojoin),
    ] {
        if wanted {
            bits |= bit;
        }
    }
    let attributes = &mut message.attributes;
    if !bits.is_empty() {
        attributes.push(AddressAttribute::Flags(bits));
    }
    if let (Some(broadcast), IpNet::V4(net)) = (address.broadcast, address.address) {
        attributes.push(AddressAttribute::Broadcast(match broadcast {
            Broadcast::Ones => net.broadcast(),
            Broadcast::Zeros => net.network(),
            Broadcast::Address(given) => given,
        }));
    }
    if let Some(label) = &address.label {
        attributes.push(AddressAttribute::Label(label.clone()));
    }
    if let Some(lifetime) = address.preferred_lifetime {
        let mut cache = CacheInfo::default();
        cache.ifa_preferred = u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX);
        cache.ifa_valid = u32::MAX;
        attributes.push(AddressAttribute::CacheInfo(cache));
    }
    attributes.push(AddressAttribute::Other(DefaultNla::new(
        IFA_PROTO,
        vec![KEEPALIVED],
    )));
    (
        RouteNetlinkMessage::NewAddress(message),
        NLM_F_CREATE | NLM_F_REPLACE,
    )
}

/// Removes it.
pub(crate) fn remove(address: &VirtualAddress, index: u32) -> Request {
    (RouteNetlinkMessage::DelAddress(message(address, index)), 0)
}

/// A link-local address for a virtual MAC, so that adverts have a source.
pub(crate) fn add_link_local(ip: IpAddr, index: u32) -> Request {
    let mut address = VirtualAddress::new(IpNet::new(ip, 64).expect("64 fits IPv6"));
    address.flags.nodad = true;
    let (message, _) = add(&address, index);
    (message, NLM_F_CREATE | NLM_F_EXCL)
}

fn message(address: &VirtualAddress, index: u32) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.family());
    message.header.index = index;
    message.header.prefix_len = address.address.prefix_len();
    message.header.flags = AddressHeaderFlags::empty();
    message.header.scope = match (address.scope, address.ip()) {
        (Some(scope), _) => AddressScope::from(scope),
        (None, IpAddr::V6(ip)) if ip.is_unicast_link_local() => AddressScope::Link,
        (None, IpAddr::V4(ip)) if ip.is_loopback() => AddressScope::Host,
        (None, _) => AddressScope::Universe,
    };
    let ip = address.ip();
    message.attributes.push(AddressAttribute::Local(ip));
    message
        .attributes
        .push(AddressAttribute::Address(address.peer.unwrap_or(ip)));
    message
}

pub(crate) fn family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

/// As a status shows it: `10.0.0.1/24 dev eth0`.
pub(crate) fn text(address: &VirtualAddress, interface: &str) -> String {
    let mut text = address.address.to_string();
    if let Some(peer) = address.peer {
        text.push_str(&format!(" peer {peer}"));
    }
    text.push_str(&format!(" dev {interface}"));
    if let Some(label) = &address.label {
        text.push_str(&format!(" label {label}"));
    }
    text
}
