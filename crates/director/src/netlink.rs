//! The kernel's links, addresses, routes and neighbours over rtnetlink: what is there, what
//! changes, and the neighbour entries the director has the kernel keep.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::stream::{self, StreamExt, TryStream, TryStreamExt};
use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use pointsman_dataplane::Interface;
use pointsman_model::Family;
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};

use crate::next_hops::{Neighbour, NeighbourKey, NoRoute, Resolution, Route};
use crate::{Error, marks, nexthop};

/// Protocol of neighbour entries, rules and routes that a director asked for, so that it, or the one
/// after it, knows which to take back. No routing daemon has this number (`rtnetlink.h`).
pub(crate) const OURS: RouteProtocol = RouteProtocol::Other(80);

/// Route look-ups under way at a time.
const PARALLEL_LOOKUPS: usize = 64;

/// Receive buffer of the event socket: a full table of 100,000 routes flaps through it.
static EVENT_BUFFER_BYTES: libc::c_int = 8 << 20;

/// A link with what matters of its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub interface: Interface,
    /// Administratively up, with carrier.
    pub up: bool,
}

/// Something changed in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Link(Link),
    LinkGone(u32),
    /// An address came or went, with its interface.
    Address,
    /// A route, a nexthop object or a routing rule.
    Route,
    Neighbour(NeighbourKey, Option<Neighbour>),
    /// Events were lost: everything is to be read again.
    Overrun,
}

/// Requests and dumps. Clones share one socket; events have another, so that a burst of them
/// delays no request.
#[derive(Clone, Debug)]
pub(crate) struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// Opens the request socket; needs a tokio runtime.
    pub fn open() -> Result<Self, Error> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(|source| Error::Os {
            doing: "opening a netlink socket",
            source,
        })?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Every link.
    pub async fn links(&self) -> Result<Vec<Link>, Error> {
        let messages = collect("listing interfaces", self.handle.link().get().execute()).await?;
        Ok(messages.iter().filter_map(link).collect())
    }

    /// Broadcast addresses of all IPv4 subnets.
    pub async fn broadcasts(&self) -> Result<Vec<Ipv4Addr>, Error> {
        let messages = collect("listing addresses", self.handle.address().get().execute()).await?;
        Ok(messages.iter().flat_map(broadcasts).collect())
    }

    /// Every neighbour entry.
    pub async fn neighbours(&self) -> Result<Vec<(NeighbourKey, Neighbour)>, Error> {
        let messages = collect(
            "listing neighbours",
            self.handle.neighbours().get().execute(),
        )
        .await?;
        Ok(messages.iter().filter_map(neighbour).collect())
    }

    /// Looks up the routes to `servers`; the order of the answer is any.
    pub async fn resolve(&self, servers: Vec<IpAddr>) -> Vec<(IpAddr, Resolution)> {
        stream::iter(servers)
            .map(|server| async move { (server, self.route(server).await) })
            .buffer_unordered(PARALLEL_LOOKUPS)
            .collect()
            .await
    }

    async fn route(&self, server: IpAddr) -> Resolution {
        let request = match server {
            IpAddr::V4(addr) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(addr, 32)
                .build(),
            IpAddr::V6(addr) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(addr, 128)
                .build(),
        };
        let mut answers = Box::pin(self.handle.route().get(request).execute());
        match answers.next().await {
            Some(Ok(message)) => route(&message),
            Some(Err(rtnetlink::Error::NetlinkError(error))) => Err(NoRoute {
                reason: no_route_reason(&error.to_io()),
            }),
            Some(Err(error)) => Err(NoRoute {
                reason: error.to_string(),
            }),
            None => Err(NoRoute {
                reason: "the kernel did not say".to_owned(),
            }),
        }
    }

    /// Has the kernel resolve a neighbour now and keep it fresh (`NTF_EXT_MANAGED`). Must not be
    /// asked for permanent entries: the kernel would make them ordinary ones.
    pub async fn manage(&self, key: NeighbourKey) -> Result<(), rtnetlink::Error> {
        let mut request = self
            .handle
            .neighbours()
            .add(key.index, key.addr)
            .state(NeighbourState::None)
            .replace();
        request.message_mut().attributes.extend([
            NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed),
            NeighbourAttribute::Protocol(OURS),
        ]);
        request.execute().await
    }

    /// Removes a neighbour entry.
    pub async fn release(&self, key: NeighbourKey) -> Result<(), rtnetlink::Error> {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = key.index;
        let (family, addr) = match key.addr {
            IpAddr::V4(a) => (AddressFamily::Inet, NeighbourAddress::Inet(a)),
            IpAddr::V6(a) => (AddressFamily::Inet6, NeighbourAddress::Inet6(a)),
        };
        message.header.family = family;
        message
            .attributes
            .push(NeighbourAttribute::Destination(addr));
        self.handle.neighbours().del(message).execute().await
    }

    /// Makes rules and routes what services of these marks need, see [`marks`].
    pub async fn set_marks(
        &self,
        family: Family,
        wanted: &BTreeSet<u32>,
    ) -> Result<(), rtnetlink::Error> {
        marks::reconcile(&self.handle, family, wanted).await
    }

    /// Removes every entry a director asked for; the answer tells what did not work.
    pub async fn release_all(&self) -> Vec<String> {
        let ours = match self.neighbours().await {
            Ok(all) => all.into_iter().filter(|(_, neighbour)| neighbour.ours),
            Err(error) => return vec![error.to_string()],
        };
        let mut problems = Vec::new();
        for (key, _) in ours {
            if let Err(error) = self.release(key).await {
                problems.push(format!("neighbour {} stays: {error}", key.addr));
            }
        }
        problems
    }
}

/// True when the kernel has room for no more neighbours (`gc_thresh3`).
pub(crate) fn is_table_full(error: &rtnetlink::Error) -> bool {
    match error {
        rtnetlink::Error::NetlinkError(error) => {
            error.to_io().raw_os_error() == Some(libc::ENOBUFS)
        }
        _ => false,
    }
}

/// Follows the kernel's changes from now on; needs a tokio runtime. The stream ends only when the
/// socket breaks.
pub(crate) fn follow() -> io::Result<impl stream::Stream<Item = Event> + Unpin> {
    use std::os::fd::AsRawFd;
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Neigh,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv4Rule,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv6Route,
        MulticastGroup::Ipv6Rule,
    ];
    let (mut connection, _, messages) = rtnetlink::new_multicast_connection(&groups)?;
    let fd = connection.socket_mut().as_raw_fd();
    // SAFETY: the option is an int and the descriptor is open. Failure leaves the default size,
    // which only makes overruns likelier; those are handled.
    unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const EVENT_BUFFER_BYTES).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        );
    }
    tokio::spawn(connection);
    let events = messages.filter_map(async |(message, _)| event(message.payload));
    let nexthops = nexthop::follow()?.map(|()| Event::Route);
    Ok(Box::pin(stream::select(events, nexthops)))
}

async fn collect<T>(
    doing: &'static str,
    messages: impl TryStream<Ok = T, Error = rtnetlink::Error>,
) -> Result<Vec<T>, Error> {
    messages
        .try_collect()
        .await
        .map_err(|source| Error::Netlink { doing, source })
}

fn event(payload: NetlinkPayload<RouteNetlinkMessage>) -> Option<Event> {
    let message = match payload {
        NetlinkPayload::InnerMessage(message) => message,
        NetlinkPayload::Overrun(_) => return Some(Event::Overrun),
        _ => return None,
    };
    match message {
        RouteNetlinkMessage::NewLink(message) => link(&message).map(Event::Link),
        // A bridge that loses a port says so in its own family; the link itself stays.
        RouteNetlinkMessage::DelLink(message) => {
            let gone = message.header.interface_family == AddressFamily::Unspec;
            gone.then_some(Event::LinkGone(message.header.index))
        }
        RouteNetlinkMessage::NewAddress(_) | RouteNetlinkMessage::DelAddress(_) => {
            Some(Event::Address)
        }
        RouteNetlinkMessage::NewRoute(message) | RouteNetlinkMessage::DelRoute(message) => {
            // Cloned routes are per-destination exceptions (path MTU), not configuration.
            let configured = !message.header.flags.contains(RouteFlags::Cloned);
            configured.then_some(Event::Route)
        }
        RouteNetlinkMessage::NewRule(_) | RouteNetlinkMessage::DelRule(_) => Some(Event::Route),
        RouteNetlinkMessage::NewNeighbour(message) => {
            neighbour(&message).map(|(key, neighbour)| Event::Neighbour(key, Some(neighbour)))
        }
        RouteNetlinkMessage::DelNeighbour(message) => {
            neighbour(&message).map(|(key, _)| Event::Neighbour(key, None))
        }
        _ => None,
    }
}

fn link(message: &LinkMessage) -> Option<Link> {
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let mut interface = Interface {
        index: message.header.index,
        name: String::new(),
        mac: [0; 6],
        mtu: 0,
        kind: None,
        vlan: None,
        loopback: message.header.flags.contains(LinkFlags::Loopback),
        ethernet: message.header.link_layer_type == LinkLayerType::Ether,
    };
    let (mut parent, mut vlan_id) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            LinkAttribute::Address(mac) => {
                if let Ok(mac) = mac.as_slice().try_into() {
                    interface.mac = mac;
                }
            }
            LinkAttribute::Link(index) => parent = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(kind) => interface.kind = Some(kind.to_string()),
                        LinkInfo::Data(InfoData::Vlan(parts)) => {
                            vlan_id = parts.iter().find_map(|part| match part {
                                InfoVlan::Id(id) => Some(*id),
                                _ => None,
                            });
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    interface.vlan = parent.zip(vlan_id);
    let up = message
        .header
        .flags
        .contains(LinkFlags::Up | LinkFlags::LowerUp);
    (!interface.name.is_empty()).then_some(Link { interface, up })
}

/// The broadcast address that was set, and the one that follows from the prefix (`Linux
/// net/ipv4/fib_frontend.c: fib_add_ifaddr` makes routes for both).
fn broadcasts(message: &AddressMessage) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Broadcast(addr) => found.push(*addr),
            AddressAttribute::Address(IpAddr::V4(addr)) if message.header.prefix_len < 31 => {
                let hosts = u32::MAX
                    .checked_shr(message.header.prefix_len.into())
                    .unwrap_or(0);
                found.push(Ipv4Addr::from_bits(addr.to_bits() | hosts));
            }
            _ => {}
        }
    }
    found
}

fn neighbour(message: &NeighbourMessage) -> Option<(NeighbourKey, Neighbour)> {
    let mut addr = None;
    let mut neighbour = Neighbour {
        state: message.header.state,
        mac: Vec::new(),
        managed: false,
        ours: false,
    };
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => addr = Some((*a).into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) => {
                addr = Some((*a).into());
            }
            NeighbourAttribute::LinkLayerAddress(mac) => neighbour.mac.clone_from(mac),
            NeighbourAttribute::ExtFlags(flags) => {
                neighbour.managed = flags.contains(NeighbourExtFlags::Managed);
            }
            // Who makes one of ours permanent makes it theirs; the kernel keeps the number.
            NeighbourAttribute::Protocol(OURS) => {
                neighbour.ours = neighbour.state != NeighbourState::Permanent;
            }
            _ => {}
        }
    }
    Some((
        NeighbourKey {
            index: message.header.ifindex,
            addr: addr?,
        },
        neighbour,
    ))
}

fn route(message: &RouteMessage) -> Resolution {
    let refused = |reason: &str| {
        Err(NoRoute {
            reason: reason.to_owned(),
        })
    };
    match message.header.kind {
        RouteType::Unicast | RouteType::Local => {}
        RouteType::BlackHole => return refused("its route is a blackhole"),
        RouteType::Unreachable => return refused("its route says unreachable"),
        RouteType::Prohibit => return refused("its route says prohibited"),
        RouteType::Broadcast => return refused("it is a broadcast address"),
        other => return refused(&format!("its route has type {other:?}")),
    }
    let (mut index, mut gateway, mut source) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(oif) => index = Some(*oif),
            RouteAttribute::Gateway(RouteAddress::Inet(addr)) => {
                gateway = Some(IpAddr::V4(*addr));
            }
            RouteAttribute::Gateway(RouteAddress::Inet6(addr)) => {
                gateway = Some(IpAddr::V6(*addr));
            }
            RouteAttribute::Via(RouteVia::Inet6(addr)) => gateway = Some(IpAddr::V6(*addr)),
            RouteAttribute::PrefSource(RouteAddress::Inet(addr)) => {
                source = Some(IpAddr::V4(*addr));
            }
            RouteAttribute::PrefSource(RouteAddress::Inet6(addr)) => {
                source = Some(IpAddr::V6(*addr));
            }
            _ => {}
        }
    }
    match index {
        Some(index) => Ok(Route {
            index,
            gateway,
            source,
            local: message.header.kind == RouteType::Local,
        }),
        None => refused("its route names no interface"),
    }
}

fn no_route_reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENETUNREACH) => "no route leads to it".to_owned(),
        Some(libc::EHOSTUNREACH) => "its route says unreachable".to_owned(),
        Some(libc::EACCES) => "its route says prohibited".to_owned(),
        Some(libc::EINVAL) => "its route is a blackhole".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_broadcast_addresses_of_a_subnet_are_known() {
        let mut message = AddressMessage::default();
        message.header.prefix_len = 24;
        message.attributes = vec![
            AddressAttribute::Address("10.1.2.3".parse().unwrap()),
            AddressAttribute::Broadcast("10.1.2.127".parse().unwrap()),
        ];
        let expected: Vec<Ipv4Addr> =
            vec!["10.1.2.255".parse().unwrap(), "10.1.2.127".parse().unwrap()];
        assert_eq!(broadcasts(&message), expected);
        message.header.prefix_len = 32;
        message.attributes.truncate(1);
        assert!(broadcasts(&message).is_empty());
    }

    #[test]
    fn a_vlan_device_names_parent_and_tag() {
        use netlink_packet_route::link::InfoKind;
        let mut message = LinkMessage::default();
        message.header.index = 7;
        message.header.link_layer_type = LinkLayerType::Ether;
        message.attributes = vec![
            LinkAttribute::IfName("eth0.5".into()),
            LinkAttribute::Link(2),
            LinkAttribute::Mtu(1500),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Vlan),
                LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(5)])),
            ]),
        ];
        let link = link(&message).unwrap();
        assert_eq!(link.interface.vlan, Some((2, 5)));
        assert_eq!(link.interface.kind.as_deref(), Some("vlan"));
        assert!(link.interface.ethernet && !link.interface.loopback && !link.up);
    }

    #[test]
    fn a_route_over_a_gateway_is_read() {
        let mut message = RouteMessage::default();
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![
            RouteAttribute::Oif(3),
            RouteAttribute::Gateway(RouteAddress::Inet("10.0.0.1".parse().unwrap())),
            RouteAttribute::PrefSource(RouteAddress::Inet("10.0.0.9".parse().unwrap())),
        ];
        let route = route(&message).unwrap();
        assert_eq!(route.index, 3);
        assert_eq!(route.gateway, Some("10.0.0.1".parse().unwrap()));
        assert_eq!(route.source, Some("10.0.0.9".parse().unwrap()));
        assert!(!route.local);
    }
}
