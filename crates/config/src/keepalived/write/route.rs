use pointsman_model::Family;
use pointsman_model::vrrp::{
    Encap, MetricKind, NextHop, Route, RouteInsert, RouteKind, RoutePreference, Rule, RuleAction,
};

use super::super::route::METRICS;
use super::{Writer, word};

pub fn routes(out: &mut Writer, keyword: &str, routes: &[Route]) {
    if !routes.is_empty() {
        out.block(keyword, |out| {
            routes.iter().for_each(|r| out.line(route(r)))
        });
    }
}

pub fn rules(out: &mut Writer, keyword: &str, rules: &[Rule]) {
    if !rules.is_empty() {
        out.block(keyword, |out| rules.iter().for_each(|r| out.line(rule(r))));
    }
}

/// Words of one line.
struct Words(Vec<String>);

impl Words {
    fn add(&mut self, word: impl ToString) {
        self.0.push(word.to_string());
    }

    fn option(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.add(name);
            self.add(value);
        }
    }

    fn name(&mut self, name: &str, value: Option<&String>) {
        self.option(name, value.map(|value| word(value)));
    }
}

fn realms(realms: u32) -> String {
    format!("{}/{}", realms >> 16, realms & 0xffff)
}

fn route(route: &Route) -> String {
    let mut words = Words(Vec::new());
    match route.kind {
        RouteKind::Unicast => {}
        RouteKind::Local => words.add("local"),
        RouteKind::Broadcast => words.add("broadcast"),
        RouteKind::Anycast => words.add("anycast"),
        RouteKind::Multicast => words.add("multicast"),
        RouteKind::Blackhole => words.add("blackhole"),
        RouteKind::Unreachable => words.add("unreachable"),
        RouteKind::Prohibit => words.add("prohibit"),
        RouteKind::Throw => words.add("throw"),
        RouteKind::Nat => words.add("nat"),
    }
    words.add(route.destination);
    words.option("src", route.source);
    words.option("from", route.from);
    if route.tos != 0 {
        words.option("tos", Some(route.tos));
    }
    words.option("table", route.table);
    words.option("protocol", route.protocol);
    words.option("scope", route.scope);
    words.option("metric", route.metric);
    words.option("expires", route.expires.map(|time| time.as_secs()));
    for metric in &route.metrics {
        if metric.kind == MetricKind::Features {
            words.option("features", (metric.value & 1 != 0).then_some("ecn"));
        } else if let Some((name, _)) = METRICS.iter().find(|(_, kind)| *kind == metric.kind) {
            words.add(name);
            if metric.locked {
                words.add("lock");
            }
            words.add(metric.value);
        }
    }
    if let Some((name, locked)) = &route.congestion_control {
        words.add(if *locked { "congctl lock" } else { "congctl" });
        words.add(word(name));
    }
    words.option(
        "pref",
        route.preference.map(|preference| match preference {
            RoutePreference::Low => "low",
            RoutePreference::Medium => "medium",
            RoutePreference::High => "high",
        }),
    );
    let enabled = |on| if on { "enabled" } else { "disabled" };
    words.option("ttl-propagate", route.ttl_propagate.map(enabled));
    match route.insert {
        RouteInsert::Prepend => {}
        RouteInsert::Append => words.add("append"),
        RouteInsert::Add => words.add("add"),
    }
    words.name("vrf", route.vrf.as_ref());
    if route.no_track {
        words.add("no_track");
    }
    words.name("track_group", route.track_group.as_ref());
    match &route.next_hops[..] {
        [single] if single.weight == 0 => next_hop(&mut words, single),
        several => {
            for hop in several {
                words.add("nexthop");
                next_hop(&mut words, hop);
                words.option("weight", Some(hop.weight.max(1)));
            }
        }
    }
    words.0.join(" ")
}

fn next_hop(words: &mut Words, hop: &NextHop) {
    words.option("via", hop.via);
    words.name("dev", hop.interface.as_ref());
    if hop.onlink {
        words.add("onlink");
    }
    words.option("realms", hop.realms.map(realms));
    match &hop.encap {
        None => {}
        Some(Encap::Mpls { labels, ttl }) => {
            let labels: Vec<String> = labels.iter().map(u32::to_string).collect();
            words.add("encap mpls");
            words.add(labels.join("/"));
            words.option("ttl", *ttl);
        }
        Some(Encap::Ip {
            id,
            destination,
            source,
            tos,
            ttl,
            flags,
            family,
        }) => {
            words.add(match family {
                Family::V4 => "encap ip",
                Family::V6 => "encap ip6",
            });
            words.option("id", *id);
            words.option("dst", *destination);
            words.option("src", *source);
            words.option("tos", *tos);
            words.option("ttl", *ttl);
            words.option("flags", *flags);
        }
    }
}

fn rule(rule: &Rule) -> String {
    let mut words = Words(Vec::new());
    if rule.invert {
        words.add("not");
    }
    words.option("from", rule.from);
    words.option("to", rule.to);
    words.option("preference", rule.preference);
    words.option("tos", rule.tos);
    words.option(
        "fwmark",
        rule.mark.map(|(mark, mask)| match mask {
            Some(mask) => format!("{mark}/{mask}"),
            None => mark.to_string(),
        }),
    );
    words.option("realms", rule.realms.map(realms));
    words.option("suppress_prefixlength", rule.suppress_prefix_length);
    words.option("suppress_ifgroup", rule.suppress_interface_group);
    words.name("iif", rule.incoming.as_ref());
    words.name("oif", rule.outgoing.as_ref());
    words.option("tunnel-id", rule.tunnel_id);
    words.option(
        "uidrange",
        rule.users.map(|(low, high)| format!("{low}-{high}")),
    );
    words.option("protocol", rule.protocol);
    words.option("ipproto", rule.ip_protocol);
    let ports = |(low, high): (u16, u16)| format!("{low}-{high}");
    words.option("sport", rule.source_ports.map(ports));
    words.option("dport", rule.destination_ports.map(ports));
    if rule.family == Family::V6 {
        words.add("inet6");
    }
    if rule.no_track {
        words.add("no_track");
    }
    words.name("track_group", rule.track_group.as_ref());
    match rule.action {
        RuleAction::Table(table) => words.option("table", Some(table)),
        RuleAction::L3mdev => words.add("l3mdev"),
        RuleAction::Goto(preference) => words.option("goto", Some(preference)),
        RuleAction::Nop => words.add("nop"),
        RuleAction::Blackhole => words.add("blackhole"),
        RuleAction::Unreachable => words.add("unreachable"),
        RuleAction::Prohibit => words.add("prohibit"),
    }
    words.0.join(" ")
}
