//! Virtual routes as rtnetlink has them.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    MplsLabel, RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteIp6Tunnel,
    RouteIp6TunnelFlags, RouteIpTunnel, RouteIpTunnelFlags, RouteLwEnCapType, RouteLwTunnelEncap,
    RouteMessage, RouteMetric, RouteMplsIpTunnel, RouteMplsTtlPropagation, RouteNextHop,
    RouteNextHopFlags, RoutePreference as Preference, RouteProtocol, RouteRealm, RouteScope,
    RouteType, RouteVia,
};
use pointsman_model::Family;
use pointsman_model::vrrp::{
    Encap, Metric, MetricKind, NextHop, Route, RouteInsert, RouteKind, RoutePreference,
};

use crate::address::{KEEPALIVED, Request, family};
use crate::links::Links;

/// Metrics by their numbers, for the mask of locked ones.
const LOCKABLE_CONGESTION_CONTROL: u32 = 1 << 16;

/// Adds a route; the error names an interface that is not there.
pub(crate) fn add(route: &Route, links: &Links) -> Result<Request, String> {
    let flags = match route.insert {
        RouteInsert::Prepend => NLM_F_CREATE,
        RouteInsert::Append => NLM_F_CREATE | NLM_F_APPEND,
        RouteInsert::Add => NLM_F_CREATE | NLM_F_EXCL,
    };
    Ok((RouteNetlinkMessage::NewRoute(message(route, links)?), flags))
}

/// Removes it.
pub(crate) fn remove(route: &Route, links: &Links) -> Result<Request, String> {
    Ok((RouteNetlinkMessage::DelRoute(message(route, links)?), 0))
}

/// Whether a listed route is this one: destination, table, kind and metric.
pub(crate) fn is_listed(route: &Route, links: &Links, listed: &RouteMessage) -> bool {
    let Ok(ours) = message(route, links) else {
        return false;
    };
    let table = |message: &RouteMessage| {
        message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                RouteAttribute::Table(table) => Some(*table),
                _ => None,
            })
            .unwrap_or(u32::from(message.header.table))
    };
    let destination = |message: &RouteMessage| {
        message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                RouteAttribute::Destination(address) => Some(address.clone()),
                _ => None,
            })
    };
    let wide = ours.header.destination_prefix_length == 0;
    ours.header.address_family == listed.header.address_family
        && ours.header.destination_prefix_length == listed.header.destination_prefix_length
        && ours.header.kind == listed.header.kind
        && table(&ours) == table(listed)
        && (wide || destination(&ours) == destination(listed))
}

fn message(route: &Route, links: &Links) -> Result<RouteMessage, String> {
    let mut message = RouteMessage::default();
    let table = match &route.vrf {
        _ if route.table.is_some() => route.table.unwrap_or_default(),
        // The table of a VRF is that of its device; looked up by its rules.
        Some(vrf) => return Err(format!("vrf {vrf}: give the table of the VRF instead")),
        None if route.kind == RouteKind::Local => 255,
        None => u32::from(RouteHeader::RT_TABLE_MAIN),
    };
    let header = &mut message.header;
    header.address_family = family(route.family());
    header.destination_prefix_length = route.destination.prefix_len();
    header.source_prefix_length = route.from.map_or(0, |from| from.prefix_len());
    header.tos = route.tos;
    header.table = u8::try_from(table).unwrap_or(0);
    header.protocol = RouteProtocol::from(route.protocol.unwrap_or(KEEPALIVED));
    header.kind = kind(route.kind);
    header.scope = route.scope.map_or_else(|| scope(route), RouteScope::from);
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Table(table));
    if route.destination.prefix_len() > 0 {
        let network = route.destination.trunc().addr();
        attributes.push(RouteAttribute::Destination(address(network)));
    }
    if let Some(from) = route.from {
        attributes.push(RouteAttribute::Source(address(from.trunc().addr().into())));
    }
    if let Some(source) = route.source {
        attributes.push(RouteAttribute::PrefSource(address(source)));
    }
    if let Some(metric) = route.metric {
        attributes.push(RouteAttribute::Priority(metric));
    }
    if let Some(expires) = route.expires {
        let seconds = u32::try_from(expires.as_secs()).unwrap_or(u32::MAX);
        attributes.push(RouteAttribute::Expires(seconds));
    }
    if let Some(preference) = route.preference {
        attributes.push(RouteAttribute::Preference(match preference {
            RoutePreference::Low => Preference::Low,
            RoutePreference::Medium => Preference::Medium,
            RoutePreference::High => Preference::High,
        }));
    }
    if let Some(propagate) = route.ttl_propagate {
        attributes.push(RouteAttribute::TtlPropagate(if propagate {
            RouteMplsTtlPropagation::Enabled
        } else {
            RouteMplsTtlPropagation::Disabled
        }));
    }
    let metrics = metrics(route);
    if !metrics.is_empty() {
        attributes.push(RouteAttribute::Metrics(metrics));
    }
    match &route.next_hops[..] {
        [] => {}
        [hop] => {
            attributes.extend(way(hop, route.family()));
            if let Some(interface) = &hop.interface {
                attributes.push(RouteAttribute::Oif(index(interface, links)?));
            }
            if hop.onlink {
                message.header.flags |= RouteFlags::Onlink;
            }
        }
        hops => {
            let mut next_hops = Vec::new();
            for hop in hops {
                let mut next = RouteNextHop::default();
                next.hops = u8::try_from(hop.weight.max(1) - 1).unwrap_or(u8::MAX);
                if hop.onlink {
                    next.flags |= RouteNextHopFlags::Onlink;
                }
                if let Some(interface) = &hop.interface {
                    next.interface_index = index(interface, links)?;
                }
                next.attributes = way(hop, route.family());
                next_hops.push(next);
            }
            attributes.push(RouteAttribute::MultiPath(next_hops));
        }
    }
    Ok(message)
}

fn index(interface: &str, links: &Links) -> Result<u32, String> {
    links
        .by_name(interface)
        .map(|link| link.index)
        .ok_or_else(|| format!("there is no interface {interface}"))
}

/// As iproute2 chooses it.
fn scope(route: &Route) -> RouteScope {
    let gateway = route.next_hops.len() > 1 || route.next_hops.iter().any(|hop| hop.via.is_some());
    match route.kind {
        _ if route.family() == Family::V6 => RouteScope::Universe,
        RouteKind::Local | RouteKind::Nat => RouteScope::Host,
        RouteKind::Broadcast | RouteKind::Multicast | RouteKind::Anycast => RouteScope::Link,
        RouteKind::Unicast if !gateway => RouteScope::Link,
        _ => RouteScope::Universe,
    }
}

fn way(hop: &NextHop, of: Family) -> Vec<RouteAttribute> {
    let mut attributes = Vec::new();
    match hop.via {
        Some(via) if Family::from(via) == of => {
            attributes.push(RouteAttribute::Gateway(address(via)));
        }
        Some(IpAddr::V4(via)) => attributes.push(RouteAttribute::Via(RouteVia::Inet(via))),
        Some(IpAddr::V6(via)) => attributes.push(RouteAttribute::Via(RouteVia::Inet6(via))),
        None => {}
    }
    if let Some(realms) = hop.realms {
        attributes.push(RouteAttribute::Realm(RouteRealm {
            source: (realms >> 16) as u16,
            destination: realms as u16,
        }));
    }
    if let Some(encap) = &hop.encap {
        let (kind, encap) = wrapped(encap);
        attributes.push(RouteAttribute::EncapType(kind));
        attributes.push(RouteAttribute::Encap(encap));
    }
    attributes
}

fn wrapped(encap: &Encap) -> (RouteLwEnCapType, Vec<RouteLwTunnelEncap>) {
    match encap {
        Encap::Mpls { labels, ttl } => {
            let last = labels.len().saturating_sub(1);
            let labels = labels
                .iter()
                .enumerate()
                .map(|(place, label)| MplsLabel {
                    label: *label,
                    traffic_class: 0,
                    bottom_of_stack: place == last,
                    ttl: 0,
                })
                .collect();
            let mut parts = vec![RouteLwTunnelEncap::Mpls(RouteMplsIpTunnel::Destination(
                labels,
            ))];
            parts.extend(ttl.map(|ttl| RouteLwTunnelEncap::Mpls(RouteMplsIpTunnel::Ttl(ttl))));
            (RouteLwEnCapType::Mpls, parts)
        }
        Encap::Ip {
            id,
            destination,
            source,
            tos,
            ttl,
            flags,
            family: Family::V4,
        } => {
            let four = |ip: &Option<IpAddr>| match ip {
                Some(IpAddr::V4(ip)) => Some(*ip),
                _ => None,
            };
            let mut parts = Vec::new();
            parts.extend(id.map(RouteIpTunnel::Id));
            parts.extend(four(destination).map(RouteIpTunnel::Destination));
            parts.extend(four(source).map(RouteIpTunnel::Source));
            parts.extend(tos.map(RouteIpTunnel::Tos));
            parts.extend(ttl.map(RouteIpTunnel::Ttl));
            parts.extend(
                flags.map(|f| RouteIpTunnel::Flags(RouteIpTunnelFlags::from_bits_retain(f))),
            );
            let parts = parts.into_iter().map(RouteLwTunnelEncap::Ip).collect();
            (RouteLwEnCapType::Ip, parts)
        }
        Encap::Ip {
            id,
            destination,
            source,
            tos,
            ttl,
            flags,
            family: Family::V6,
        } => {
            let six = |ip: &Option<IpAddr>| match ip {
                Some(IpAddr::V6(ip)) => Some(*ip),
                _ => None,
            };
            let mut parts = Vec::new();
            parts.extend(id.map(RouteIp6Tunnel::Id));
            parts.extend(six(destination).map(RouteIp6Tunnel::Destination));
            parts.extend(six(source).map(RouteIp6Tunnel::Source));
            parts.extend(tos.map(RouteIp6Tunnel::Tc));
            parts.extend(ttl.map(RouteIp6Tunnel::Hoplimit));
            parts.extend(
                flags.map(|f| RouteIp6Tunnel::Flags(RouteIp6TunnelFlags::from_bits_retain(f))),
            );
            let parts = parts.into_iter().map(RouteLwTunnelEncap::Ip6).collect();
            (RouteLwEnCapType::Ip6, parts)
        }
    }
}

fn metrics(route: &Route) -> Vec<RouteMetric> {
    let mut locked = 0;
    let mut metrics: Vec<RouteMetric> = route
        .metrics
        .iter()
        .map(|metric| {
            let (number, metric_value) = numbered(metric);
            if metric.locked {
                locked |= 1u32 << number;
            }
            metric_value
        })
        .collect();
    if let Some((name, lock)) = &route.congestion_control {
        metrics.push(RouteMetric::CcAlgo(name.clone()));
        if *lock {
            locked |= LOCKABLE_CONGESTION_CONTROL;
        }
    }
    if locked != 0 {
        metrics.insert(0, RouteMetric::Lock(locked));
    }
    metrics
}

/// Number (`RTAX_*`) and value.
fn numbered(metric: &Metric) -> (u32, RouteMetric) {
    let value = metric.value;
    match metric.kind {
        MetricKind::Mtu => (2, RouteMetric::Mtu(value)),
        MetricKind::Window => (3, RouteMetric::Window(value)),
        MetricKind::Rtt => (4, RouteMetric::Rtt(value)),
        MetricKind::RttVar => (5, RouteMetric::RttVar(value)),
        MetricKind::SsThresh => (6, RouteMetric::SsThresh(value)),
        MetricKind::Cwnd => (7, RouteMetric::Cwnd(value)),
        MetricKind::AdvMss => (8, RouteMetric::Advmss(value)),
        MetricKind::Reordering => (9, RouteMetric::Reordering(value)),
        MetricKind::HopLimit => (10, RouteMetric::Hoplimit(value)),
        MetricKind::InitCwnd => (11, RouteMetric::InitCwnd(value)),
        MetricKind::Features => (12, RouteMetric::Features(value)),
        MetricKind::RtoMin => (13, RouteMetric::RtoMin(value)),
        MetricKind::InitRwnd => (14, RouteMetric::InitRwnd(value)),
        MetricKind::QuickAck => (15, RouteMetric::QuickAck(value)),
        MetricKind::FastOpenNoCookie => (17, RouteMetric::FastopenNoCookie(value)),
    }
}

fn kind(kind: RouteKind) -> RouteType {
    match kind {
        RouteKind::Unicast => RouteType::Unicast,
        RouteKind::Local => RouteType::Local,
        RouteKind::Broadcast => RouteType::Broadcast,
        RouteKind::Anycast => RouteType::Anycast,
        RouteKind::Multicast => RouteType::Multicast,
        RouteKind::Blackhole => RouteType::BlackHole,
        RouteKind::Unreachable => RouteType::Unreachable,
        RouteKind::Prohibit => RouteType::Prohibit,
        RouteKind::Throw => RouteType::Throw,
        RouteKind::Nat => RouteType::Nat,
    }
}

fn address(ip: IpAddr) -> RouteAddress {
    match ip {
        IpAddr::V4(ip) => RouteAddress::Inet(ip),
        IpAddr::V6(ip) => RouteAddress::Inet6(ip),
    }
}
