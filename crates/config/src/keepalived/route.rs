//! Routes: `virtual_routes` and `static_routes`, in iproute2's words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use pointsman_model::Family;
use pointsman_model::vrrp::{
    Encap, Metric, MetricKind, NextHop, Route, RouteInsert, RouteKind, RoutePreference,
};

use super::keyword::{Args, EntryWords, Reader};
use super::lex::Word;
use super::names::Numbers;
use super::tree::Statement;
use crate::diag::{Severity, nearest};

const KINDS: &[(&str, RouteKind)] = &[
    ("unicast", RouteKind::Unicast),
    ("local", RouteKind::Local),
    ("broadcast", RouteKind::Broadcast),
    ("anycast", RouteKind::Anycast),
    ("multicast", RouteKind::Multicast),
    ("blackhole", RouteKind::Blackhole),
    ("unreachable", RouteKind::Unreachable),
    ("prohibit", RouteKind::Prohibit),
    ("throw", RouteKind::Throw),
    ("nat", RouteKind::Nat),
];

/// Metrics with a number, by iproute2's words.
pub const METRICS: &[(&str, MetricKind)] = &[
    ("mtu", MetricKind::Mtu),
    ("window", MetricKind::Window),
    ("rtt", MetricKind::Rtt),
    ("rttvar", MetricKind::RttVar),
    ("ssthresh", MetricKind::SsThresh),
    ("cwnd", MetricKind::Cwnd),
    ("advmss", MetricKind::AdvMss),
    ("reordering", MetricKind::Reordering),
    ("hoplimit", MetricKind::HopLimit),
    ("initcwnd", MetricKind::InitCwnd),
    ("initrwnd", MetricKind::InitRwnd),
    ("rto_min", MetricKind::RtoMin),
    ("quickack", MetricKind::QuickAck),
    ("fastopen_no_cookie", MetricKind::FastOpenNoCookie),
];

/// Options of a route, for hints and the documentation.
pub const OPTIONS: &[(&str, &str)] = &[
    ("to", "PREFIX|default|default6"),
    ("inet", ""),
    ("inet6", ""),
    ("src", "IP"),
    ("via", "[inet|inet6] IP"),
    ("gw", "[inet|inet6] IP"),
    ("or", "IP"),
    ("from", "PREFIX"),
    ("tos", "N"),
    ("dsfield", "N"),
    ("table", "N|NAME"),
    ("protocol", "N|NAME"),
    ("scope", "N|NAME"),
    ("metric", "N"),
    ("priority", "N"),
    ("preference", "N"),
    ("dev", "IF"),
    ("oif", "IF"),
    ("onlink", ""),
    ("encap", "mpls|ip|ip6 …"),
    ("expires", "SECS"),
    ("mtu", "[lock] N"),
    ("window", "N"),
    ("rtt", "[lock] TIME"),
    ("rttvar", "[lock] TIME"),
    ("ssthresh", "[lock] N"),
    ("cwnd", "[lock] N"),
    ("advmss", "[lock] N"),
    ("reordering", "[lock] N"),
    ("hoplimit", "N"),
    ("initcwnd", "N"),
    ("initrwnd", "N"),
    ("rto_min", "[lock] TIME"),
    ("quickack", "0|1"),
    ("fastopen_no_cookie", "0|1"),
    ("features", "ecn"),
    ("congctl", "[lock] NAME"),
    ("realms", "[FROM/]TO"),
    ("pref", "low|medium|high"),
    ("ttl-propagate", "enabled|disabled"),
    ("add", ""),
    ("append", ""),
    ("prepend", ""),
    ("vrf", "NAME"),
    ("no_track", ""),
    ("track_group", "NAME"),
    (
        "nexthop",
        "via IP [dev IF] [weight N] [onlink] [realms R] …",
    ),
];

/// The words of a route so far.
struct Draft {
    route: Route,
    /// `via`, `dev` and the like outside `nexthop`.
    single: NextHop,
    /// Deprecated `or`: a second gateway.
    second: Option<IpAddr>,
    destination: Option<IpNet>,
    family: Option<Family>,
}

/// A route; `None` if it cannot be used.
pub fn read(reader: &mut Reader<'_>, entry: &Statement) -> Option<Route> {
    let mut words = Args::of_entry(entry);
    let first = words.peek()?.clone();
    let mut draft = Draft {
        route: Route::new(IpNet::new_assert(Ipv4Addr::UNSPECIFIED.into(), 0)),
        single: NextHop::default(),
        second: None,
        destination: None,
        family: None,
    };
    while let Some(word) = words.take() {
        if word.text == "nexthop" {
            next_hops(reader, &mut draft, &mut words)?;
            break;
        }
        if option(reader, &mut draft, word, &mut words).is_none() {
            reader.error(&first.at, "this route is left out");
            return None;
        }
    }
    let Some(destination) = draft.destination else {
        reader.error(&first.at, "the route has no destination, and is left out");
        return None;
    };
    finish(reader, draft, destination, &first)
}

fn finish(
    reader: &mut Reader<'_>,
    draft: Draft,
    destination: IpNet,
    first: &Word,
) -> Option<Route> {
    let Draft {
        mut route,
        single,
        second,
        family,
        ..
    } = draft;
    route.destination = match (destination, family) {
        // `default` alone is of the family that the rest has.
        (net, Some(Family::V6)) if net.prefix_len() == 0 && net.addr().is_ipv4() => {
            IpNet::new_assert(Ipv6Addr::UNSPECIFIED.into(), 0)
        }
        (net, _) => net,
    };
    let is_single = single != NextHop::default();
    if let Some(second) = second {
        for via in [single.via, Some(second)] {
            route.next_hops.push(NextHop {
                via,
                weight: 1,
                ..single.clone()
            });
        }
    } else if is_single && route.next_hops.is_empty() {
        route.next_hops.push(single);
    } else if is_single {
        let message = "`via`, `dev` and the like are left out where there are `nexthop`s";
        reader.error(&first.at, message);
    }
    let device = route.next_hops.iter().any(|hop| hop.interface.is_some());
    let needs_none = !matches!(route.kind, RouteKind::Unicast | RouteKind::Local);
    if !device && !needs_none && !route.no_track && route.next_hops.len() < 2 {
        reader.warn(
            &first.at,
            "a route without `dev` cannot be tracked, and is not",
        );
        route.no_track = true;
    }
    if route.protocol.is_some_and(|p| p != 18) && !route.no_track {
        let message = "a route that is tracked has protocol 18, or is `no_track`; 18 is taken";
        reader.error(&first.at, message);
        route.protocol = None;
    }
    Some(route)
}

/// `None` when the route cannot be used because of it.
fn option(
    reader: &mut Reader<'_>,
    draft: &mut Draft,
    word: &Word,
    words: &mut EntryWords<'_>,
) -> Option<()> {
    let route = &mut draft.route;
    if let Some((_, kind)) = METRICS.iter().find(|(name, _)| *name == word.text) {
        let metric = metric(reader, *kind, word, words)?;
        route.metrics.push(metric);
        return Some(());
    }
    match word.text.as_str() {
        "inet" => draft.family = Some(Family::V4),
        "inet6" => draft.family = Some(Family::V6),
        "to" => {
            let value = reader.value(words, word)?;
            return to(reader, draft, value, words);
        }
        "src" => route.source = Some(reader.address_in(words, word)?),
        "via" | "gw" => {
            if word.text == "gw" {
                reader.warn(&word.at, "`gw` is the old word for `via`");
            }
            draft.single.via = Some(gateway(reader, word, words)?);
        }
        "or" => {
            reader.warn(&word.at, "`or` is the old form of a second `nexthop`");
            draft.second = Some(gateway(reader, word, words)?);
        }
        "from" => {
            let value = reader.value(words, word)?;
            match super::address::net(reader, value)? {
                IpNet::V6(net) => route.from = Some(net),
                IpNet::V4(_) => {
                    reader.error(&value.at, "only IPv6 routes go by where packets are from");
                    return None;
                }
            }
        }
        "tos" | "dsfield" => route.tos = reader.byte(words, word)?,
        "table" => {
            let value = reader.value(words, word)?;
            route.table = Some(reader.routing_number(value, Numbers::Tables)?);
        }
        "protocol" => {
            let value = reader.value(words, word)?;
            route.protocol = u8::try_from(reader.routing_number(value, Numbers::Protocols)?).ok();
        }
        "scope" => {
            let value = reader.value(words, word)?;
            route.scope = u8::try_from(reader.routing_number(value, Numbers::Scopes)?).ok();
        }
        "metric" | "priority" | "preference" => {
            let value = reader.value(words, word)?;
            route.metric = Some(reader.unsigned(value)?);
        }
        "dev" | "oif" => draft.single.interface = Some(reader.interface(words, word)?),
        "onlink" => draft.single.onlink = true,
        "realms" => {
            let value = reader.value(words, word)?;
            draft.single.realms = Some(reader.realms(value)?);
        }
        "encap" => draft.single.encap = Some(encap(reader, word, words)?),
        "expires" => {
            let value = reader.value(words, word)?;
            route.expires = Some(Duration::from_secs(reader.unsigned(value)?.into()));
        }
        "features" => {
            let value = reader.value(words, word)?;
            let bits = reader.choice_of(value, &[("ecn", 1)])?;
            route.metrics.push(Metric {
                kind: MetricKind::Features,
                value: bits,
                locked: false,
            });
        }
        "congctl" => {
            let locked = words.take_word("lock");
            let value = reader.value(words, word)?;
            route.congestion_control = Some((value.text.clone(), locked));
        }
        "pref" => {
            let value = reader.value(words, word)?;
            let known = [
                ("low", RoutePreference::Low),
                ("medium", RoutePreference::Medium),
                ("high", RoutePreference::High),
            ];
            route.preference = Some(reader.choice_of(value, &known)?);
        }
        "ttl-propagate" => {
            let value = reader.value(words, word)?;
            let known = [("enabled", true), ("disabled", false)];
            route.ttl_propagate = Some(reader.choice_of(value, &known)?);
        }
        "add" => route.insert = RouteInsert::Add,
        "append" => route.insert = RouteInsert::Append,
        "prepend" => route.insert = RouteInsert::Prepend,
        "vrf" => route.vrf = Some(reader.value(words, word)?.text.clone()),
        "no_track" => route.no_track = true,
        "track_group" => route.track_group = Some(reader.value(words, word)?.text.clone()),
        _ => return to(reader, draft, word, words),
    }
    Some(())
}

/// `[TYPE] PREFIX`, which may stand without `to`.
fn to(
    reader: &mut Reader<'_>,
    draft: &mut Draft,
    word: &Word,
    words: &mut EntryWords<'_>,
) -> Option<()> {
    let mut word = word;
    if let Some((_, kind)) = KINDS.iter().find(|(name, _)| *name == word.text) {
        draft.route.kind = *kind;
        match words.peek() {
            Some(next) if next.text == "to" => return Some(()),
            Some(next) => {
                word = next;
                words.take();
            }
            None => return Some(()),
        }
    }
    let any4 = IpNet::new_assert(Ipv4Addr::UNSPECIFIED.into(), 0);
    let any6 = IpNet::new_assert(Ipv6Addr::UNSPECIFIED.into(), 0);
    let destination = match word.text.as_str() {
        "default" => any4,
        "default6" => any6,
        text if text.starts_with(|c: char| c.is_ascii_digit()) || text.contains(':') => {
            super::address::net(reader, word)?
        }
        other => {
            let near = nearest(other, OPTIONS.iter().map(|(name, _)| *name));
            let hint = near.map(|near| format!("did you mean `{near}`?"));
            let message = format!("`{other}` is no option of a route, nor a prefix");
            reader.say(Severity::Error, word.at.clone(), message, hint);
            return None;
        }
    };
    if draft.destination.is_some() {
        reader.error(&word.at, "there is a destination already");
        return None;
    }
    if word.text != "default" {
        draft.family = Some(destination.addr().into());
    }
    draft.destination = Some(destination);
    Some(())
}

fn gateway(reader: &mut Reader<'_>, word: &Word, words: &mut EntryWords<'_>) -> Option<IpAddr> {
    let _ = words.take_word("inet") || words.take_word("inet6");
    reader.address_in(words, word)
}

fn metric(
    reader: &mut Reader<'_>,
    kind: MetricKind,
    word: &Word,
    words: &mut EntryWords<'_>,
) -> Option<Metric> {
    let locked = words.take_word("lock");
    let value = reader.value(words, word)?;
    let timed = matches!(
        kind,
        MetricKind::Rtt | MetricKind::RttVar | MetricKind::RtoMin
    );
    let value = if timed {
        let text = value.text.as_str();
        let (digits, scale) = match text.strip_suffix("ms") {
            Some(digits) => (digits, Some(1)),
            None => match text.strip_suffix('s') {
                Some(digits) => (digits, Some(1000)),
                None => (text, None),
            },
        };
        // A number without unit is in the kernel's own.
        let kernel = match kind {
            MetricKind::Rtt => 8,
            MetricKind::RttVar => 4,
            _ => 1,
        };
        let factor = scale.map_or(1, |scale: u32| scale * kernel);
        let number: Option<u32> = digits.parse().ok();
        let number = number.and_then(|n| n.checked_mul(factor));
        if number.is_none() {
            reader.error(&value.at, format!("`{text}` is no time, as 20ms or 1s"));
        }
        number?
    } else {
        let most = match kind {
            MetricKind::HopLimit => 255,
            MetricKind::QuickAck | MetricKind::FastOpenNoCookie => 1,
            _ => u32::MAX,
        };
        reader.number_of(value, 0..=most.into())? as u32
    };
    Some(Metric {
        kind,
        value,
        locked,
    })
}

fn encap(reader: &mut Reader<'_>, word: &Word, words: &mut EntryWords<'_>) -> Option<Encap> {
    let kind = reader.value(words, word)?;
    match kind.text.as_str() {
        "mpls" => {
            let list = reader.value(words, kind)?;
            let labels: Option<Vec<u32>> = list
                .text
                .split('/')
                .map(|label| label.parse().ok().filter(|n| *n < 1 << 20))
                .collect();
            let Some(labels) = labels else {
                reader.error(
                    &list.at,
                    format!("`{}` are no MPLS labels, as 16/17", list.text),
                );
                return None;
            };
            let ttl = if words.take_word("ttl") {
                Some(reader.byte(words, kind)?)
            } else {
                None
            };
            Some(Encap::Mpls { labels, ttl })
        }
        "ip" | "ip6" => {
            let family = if kind.text == "ip" {
                Family::V4
            } else {
                Family::V6
            };
            let (mut id, mut destination, mut source) = (None, None, None);
            let (mut tos, mut ttl, mut flags) = (None, None, None);
            while let Some(word) = words.peek() {
                let word = word.clone();
                match word.text.as_str() {
                    "id" => {
                        words.take();
                        let value = reader.value(words, &word)?;
                        id = Some(reader.number_of(value, 0..=i64::MAX)? as u64);
                    }
                    "dst" => {
                        words.take();
                        destination = Some(reader.address_in(words, &word)?);
                    }
                    "src" => {
                        words.take();
                        source = Some(reader.address_in(words, &word)?);
                    }
                    "tos" | "dsfield" | "tc" => {
                        words.take();
                        tos = Some(reader.byte(words, &word)?);
                    }
                    "ttl" | "hoplimit" => {
                        words.take();
                        ttl = Some(reader.byte(words, &word)?);
                    }
                    "flags" => {
                        words.take();
                        let value = reader.value(words, &word)?;
                        flags = u16::try_from(reader.unsigned(value)?).ok();
                    }
                    _ => break,
                }
            }
            Some(Encap::Ip {
                id,
                destination,
                source,
                tos,
                ttl,
                flags,
                family,
            })
        }
        other => {
            let message = format!("routes with `encap {other}` cannot be made here");
            let hint = "mpls, ip and ip6 can".to_owned();
            reader.say(Severity::Error, kind.at.clone(), message, Some(hint));
            None
        }
    }
}

/// What follows the first `nexthop`.
fn next_hops(reader: &mut Reader<'_>, draft: &mut Draft, words: &mut EntryWords<'_>) -> Option<()> {
    let mut hop = NextHop {
        weight: 1,
        ..NextHop::default()
    };
    while let Some(word) = words.take() {
        match word.text.as_str() {
            "nexthop" => {
                let next = NextHop {
                    weight: 1,
                    ..NextHop::default()
                };
                draft
                    .route
                    .next_hops
                    .push(std::mem::replace(&mut hop, next));
            }
            "via" => hop.via = Some(gateway(reader, word, words)?),
            "dev" | "oif" => hop.interface = Some(reader.interface(words, word)?),
            "weight" => {
                let value = reader.value(words, word)?;
                hop.weight = reader.number_of(value, 1..=256)? as u16;
            }
            "onlink" => hop.onlink = true,
            "realms" => {
                let value = reader.value(words, word)?;
                hop.realms = Some(reader.realms(value)?);
            }
            "encap" => hop.encap = Some(encap(reader, word, words)?),
            other => {
                reader.error(&word.at, format!("`{other}` is no option of a nexthop"));
                return None;
            }
        }
    }
    draft.route.next_hops.push(hop);
    Some(())
}
