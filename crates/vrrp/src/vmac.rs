//! Virtual MACs: a macvlan in private mode over an instance's interface, with the virtual router's
//! own address, so that clients keep their ARP entry over a failover (RFC 9568 §7.3).

use std::io;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoMacVlan, LinkAttribute,
    LinkFlags, LinkInfo, LinkMessage, MacVlanMode,
};
use pointsman_model::Family;
use pointsman_model::vrrp::Vrid;

use crate::address;
use crate::links::{Link, Links};
use crate::netlink::Netlink;
use crate::sysctl::{self, Saved};

/// The virtual router's MAC (RFC 9568 §7.3).
pub(crate) fn mac(family: Family, vrid: Vrid) -> [u8; 6] {
    let kind = match family {
        Family::V4 => 1,
        Family::V6 => 2,
    };
    [0x00, 0x00, 0x5e, 0x00, kind, vrid.get()]
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Names in order of preference; the first that is free, or taken by this very macvlan.
    pub names: Vec<String>,
    pub parent: String,
    pub mac: [u8; 6],
    pub family: Family,
    pub group: Option<u32>,
    /// Adverts go by it, so that over IPv6 it needs a link-local address.
    pub sends: bool,
}

impl Wanted {
    /// Names as keepalived chooses them: `vrrp.51`, then `vrrp6.51` for IPv6, then by number.
    pub fn names(prefix: &str, family: Family, vrid: Vrid) -> Vec<String> {
        let mut names = vec![format!("{prefix}.{vrid}")];
        if family == Family::V6 {
            names.push(format!("{prefix}6.{vrid}"));
        }
        names.extend((1..=255).map(|n| format!("{prefix}{n}.{vrid}")));
        names
    }
}

/// A virtual MAC that exists; removed when it is told to.
#[derive(Debug)]
pub(crate) struct Vmac {
    pub wanted: Wanted,
    pub name: String,
    pub index: u32,
    saved: Saved,
}

impl Vmac {
    /// Makes it, or takes over one of the same parent, address and name, and brings it up.
    pub fn make(wanted: Wanted, netlink: &mut Netlink, links: &mut Links) -> io::Result<Self> {
        let parent = links
            .by_name(&wanted.parent)
            .ok_or_else(|| io::Error::other(format!("there is no interface {}", wanted.parent)))?
            .clone();
        let free = |name: &&String| match links.by_name(name) {
            None => true,
            Some(link) => link.mac == Some(wanted.mac),
        };
        let name = wanted
            .names
            .iter()
            .find(free)
            .ok_or_else(|| io::Error::other("every name for a virtual MAC is taken"))?
            .clone();
        if let Some(leftover) = links.by_name(&name) {
            // Of an engine that was killed: its mode and parent are not known, so it goes.
            let index = leftover.index;
            remove(index, netlink)?;
        }
        create(&name, &wanted, &parent, netlink)?;
        *links = Links::load(netlink)?;
        let index = links
            .by_name(&name)
            .ok_or_else(|| io::Error::other("the virtual MAC did not appear"))?
            .index;
        // Before it is up, so that it makes no address of its own. There is nothing to set where IPv6
        // is disabled.
        if let Err(error) = without_own_addresses(index, netlink) {
            tracing::debug!("{name} keeps its address generation mode: {error}");
        }
        let mut saved = Saved::default();
        prepare(&name, &wanted, &mut saved);
        up(index, netlink)?;
        if wanted.family == Family::V6
            && wanted.sends
            && let Some(ip) = parent.source(Family::V6, |_| false)
        {
            let (message, flags) = address::add_link_local(ip, index);
            netlink.request(message, flags)?;
        }
        *links = Links::load(netlink)?;
        Ok(Self {
            wanted,
            name,
            index,
            saved,
        })
    }

    /// Removes it and puts sysctls back.
    pub fn remove(mut self, netlink: &mut Netlink) {
        if let Err(error) = remove(self.index, netlink) {
            tracing::warn!("cannot remove the virtual MAC {}: {error}", self.name);
        }
        self.saved.restore();
    }
}

fn create(name: &str, wanted: &Wanted, parent: &Link, netlink: &mut Netlink) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Link(parent.index),
        LinkAttribute::Address(wanted.mac.to_vec()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::MacVlan),
            LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(
                MacVlanMode::Private,
            )])),
        ]),
    ];
    message
        .attributes
        .extend(wanted.group.map(LinkAttribute::Group));
    netlink.request(
        RouteNetlinkMessage::NewLink(message),
        NLM_F_CREATE | NLM_F_EXCL,
    )
}

fn without_own_addresses(index: u32, netlink: &mut Netlink) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = vec![LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
        vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)],
    )])];
    netlink.request(RouteNetlinkMessage::SetLink(message), 0)
}

fn up(index: u32, netlink: &mut Netlink) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    netlink.request(RouteNetlinkMessage::SetLink(message), 0)
}

fn remove(index: u32, netlink: &mut Netlink) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    netlink.request(RouteNetlinkMessage::DelLink(message), 0)
}

/// ARP for virtual addresses is answered by the virtual MAC only, and packets that come back to it
/// from our own addresses are taken.
fn prepare(name: &str, wanted: &Wanted, saved: &mut Saved) {
    // keepalived sets all interfaces to 0 and keeps what "all" said in each of them.
    if let Some(all) = sysctl::read("ipv4", "all", "rp_filter")
        && all != "0"
    {
        for entry in std::fs::read_dir("/proc/sys/net/ipv4/conf")
            .into_iter()
            .flatten()
        {
            let Ok(entry) = entry else { continue };
            let Ok(interface) = entry.file_name().into_string() else {
                continue;
            };
            let stricter = sysctl::read("ipv4", &interface, "rp_filter")
                .is_some_and(|own| own < all && interface != "all");
            if stricter && interface != name {
                saved.set("ipv4", &interface, "rp_filter", &all);
            }
        }
        saved.set("ipv4", "all", "rp_filter", "0");
    }
    saved.set("ipv4", &wanted.parent, "arp_ignore", "1");
    saved.set("ipv4", &wanted.parent, "arp_filter", "1");
    // Those of the macvlan itself go with it.
    let mut own = Saved::default();
    own.set("ipv4", name, "arp_ignore", "1");
    if wanted.family == Family::V4 {
        own.set("ipv4", name, "accept_local", "1");
        own.set("ipv4", name, "rp_filter", "0");
        own.set("ipv4", name, "promote_secondaries", "1");
    }
    own.forget();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_keepaliveds() {
        let vrid = Vrid::new(51).unwrap();
        assert_eq!(mac(Family::V4, vrid), [0, 0, 0x5e, 0, 1, 51]);
        assert_eq!(mac(Family::V6, vrid), [0, 0, 0x5e, 0, 2, 51]);
        let names = Wanted::names("vrrp", Family::V6, vrid);
        assert_eq!(names[..3], ["vrrp.51", "vrrp6.51", "vrrp1.51"]);
    }
}
