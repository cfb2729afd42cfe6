//! What the state of interfaces and tracked objects means for each instance, looked at anew after
//! every change.

use std::collections::BTreeMap;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::rule::RuleMessage;
use pointsman_model::Family;
use pointsman_model::vrrp::{LinkDelay, Peers, Tracking as Tracks, VrrpState};

use super::Engine;
use crate::Time;
use crate::group::{Input, Tracking};
use crate::links::{Links, Told};
use crate::track::{Condition, influence};
use crate::{address, route, rule};

/// Whether interfaces count as up: what the kernel says, after their delays.
#[derive(Debug, Default)]
pub(super) struct LinkWatch {
    delays: Vec<LinkDelay>,
    counted: BTreeMap<String, bool>,
    pending: BTreeMap<String, (bool, Time)>,
}

impl LinkWatch {
    pub fn set_delays(&mut self, delays: &[LinkDelay]) {
        self.delays = delays.to_vec();
    }

    /// When an interface's delay is over.
    pub fn deadline(&self) -> Option<Time> {
        self.pending.values().map(|(_, due)| *due).min()
    }

    /// Whether the interface counts as up.
    pub fn is_up(&mut self, name: &str, links: &Links, now: Time) -> bool {
        let up = links.by_name(name).is_some_and(|link| link.up);
        let Some(delay) = self.delays.iter().find(|delay| delay.interface == name) else {
            return up;
        };
        let counted = *self.counted.entry(name.to_owned()).or_insert(up);
        if counted == up {
            self.pending.remove(name);
            return up;
        }
        let wait = if up { delay.up } else { delay.down };
        let (_, due) = *self
            .pending
            .entry(name.to_owned())
            .and_modify(|pending| {
                if pending.0 != up {
                    *pending = (up, now + wait);
                }
            })
            .or_insert((up, now + wait));
        if due <= now {
            self.pending.remove(name);
            self.counted.insert(name.to_owned(), up);
            return up;
        }
        counted
    }
}

impl Engine {
    /// Takes in what the kernel told of links, addresses and routes.
    pub(super) fn listen_to_kernel(&mut self, now: Time) {
        let mut changed = false;
        match self.monitor.take() {
            Some(messages) => {
                for message in &messages {
                    match self.links.take(message) {
                        Told::Nothing => {}
                        Told::Changed => changed = true,
                        Told::RouteGone => self.suspicious = true,
                        Told::AddressGone(index, ip) => {
                            changed = true;
                            let ours =
                                |(address, at): &(pointsman_model::vrrp::VirtualAddress, u32)| {
                                    *at == index && address.ip() == ip
                                };
                            self.suspicious |= self.members.iter().any(|m| m.held.iter().any(ours))
                                || self.site.static_addresses.iter().any(|a| a.ip() == ip);
                        }
                    }
                }
            }
            None => {
                tracing::warn!("messages of the kernel were lost; reading everything again");
                match Links::load(&mut self.netlink) {
                    Ok(links) => self.links = links,
                    Err(error) => tracing::error!("cannot list interfaces: {error}"),
                }
                changed = true;
                self.suspicious = true;
            }
        }
        if changed {
            self.review(now);
        }
        if std::mem::take(&mut self.suspicious) {
            self.look_for_robbery(now);
        }
    }

    /// Looks at every instance: its socket, its source, its faults and weights.
    pub(super) fn review(&mut self, now: Time) {
        for number in 0..self.members.len() {
            self.review_one(number, now);
        }
    }

    pub(super) fn review_one(&mut self, number: usize, now: Time) {
        self.renew_interfaces(number);
        self.ensure_socket(number);
        let source = self.source(number);
        if source != self.router.instance(number).source() {
            let actions = self.router.on(number, Input::Source(source), now);
            self.perform(actions, now);
        }
        let (tracking, faults) = self.assess(number, now);
        self.members[number].faults = faults;
        if Some(tracking) != self.members[number].tracking {
            self.members[number].tracking = Some(tracking);
            let actions = self.router.on(number, Input::Tracking(tracking), now);
            self.perform(actions, now);
        }
    }

    fn source(&self, number: usize) -> Option<std::net::IpAddr> {
        let member = &self.members[number];
        if member.config.source.is_some() {
            return member.config.source;
        }
        let is_virtual = |ip| {
            self.members
                .iter()
                .any(|other| other.addresses().any(|address| address.ip() == ip))
        };
        let family = member.config.family;
        let advert_interface = member.advert_interface(&self.links)?;
        // A virtual MAC has no IPv4 address of its own.
        let link = match family {
            Family::V4 => member.base(&self.links)?,
            Family::V6 => advert_interface,
        };
        // A virtual link-local address may be the only one, as on a virtual MAC of its own.
        link.source(family, is_virtual)
    }

    fn assess(&mut self, number: usize, now: Time) -> (Tracking, Vec<String>) {
        let mut faults = Vec::new();
        let mut sum = Tracking::default();
        let member = &self.members[number];
        let config = member.config.clone();
        let mut watched = Vec::new();
        if let Some(name) = &config.interface
            && !config.ignores_interface
        {
            watched.push(name.clone());
        }
        if !config.ignores_interface {
            for address in member.addresses().filter(|address| !address.no_track) {
                watched.extend(address.interface.clone());
            }
        }
        watched.dedup();
        if let Some(name) = config.interface.as_ref()
            && self.links.by_name(name).is_none()
        {
            faults.push(format!("interface {name} is not there"));
            watched.retain(|other| other != name);
        }
        for name in watched {
            if !self.watch.is_up(&name, &self.links, now) {
                faults.push(format!("interface {name} down"));
            }
        }
        let member = &self.members[number];
        match &config.peers {
            Peers::Multicast(_) => {
                if let Some(link) = member.base(&self.links)
                    && !link.multicast
                {
                    faults.push(format!("interface {} has no multicast", link.name));
                }
            }
            Peers::Unicast(unicast) => {
                if unicast.peers.is_empty() {
                    faults.push("unicast without a peer".to_owned());
                }
            }
        }
        match self.router.instance(number).source() {
            None => faults.push("no source address for adverts".to_owned()),
            Some(source) => {
                if config.track_source && !self.links.has(source) {
                    faults.push(format!("source address {source} is not on this host"));
                }
            }
        }
        if member.key.is_none() && faults.is_empty() {
            faults.push("no socket for adverts".to_owned());
        }
        let owner = config.priority.is_owner();
        let group = self
            .site
            .sync_groups
            .iter()
            .find(|group| group.members.contains(&config.name));
        let own_weights = !owner && group.is_none_or(|group| group.member_weights);
        let group_tracking = group.map(|group| group.tracking.clone());
        self.track(&config.tracking, own_weights, now, &mut sum, &mut faults);
        if let Some(tracking) = group_tracking {
            self.track(&tracking, !owner, now, &mut sum, &mut faults);
        }
        sum.fault = !faults.is_empty();
        (sum, faults)
    }

    fn track(
        &mut self,
        tracks: &Tracks,
        weighted: bool,
        now: Time,
        sum: &mut Tracking,
        faults: &mut Vec<String>,
    ) {
        for (kind, tracked) in [
            ("interface", &tracks.interfaces),
            ("script", &tracks.scripts),
            ("file", &tracks.files),
            ("process", &tracks.processes),
            ("BFD session", &tracks.bfd),
        ] {
            for entry in tracked {
                let name = &entry.name;
                let condition = match kind {
                    "interface" => Condition::Good(self.watch.is_up(name, &self.links, now)),
                    "script" => self.tracked.script(name),
                    "file" => self.tracked.file(name),
                    "process" => self.tracked.process(name),
                    _ => self.tracked.bfd(name),
                };
                let mut one = Tracking::default();
                influence(entry.weight, condition, weighted, &mut one);
                sum.waiting |= one.waiting;
                sum.weight += one.weight;
                if one.fault {
                    faults.push(format!("tracked {kind} {name}"));
                }
            }
        }
    }

    /// Something was removed: was it ours, and not by us?
    fn look_for_robbery(&mut self, now: Time) {
        let Ok(links) = Links::load(&mut self.netlink) else {
            return;
        };
        self.links = links;
        let routes_matter = self.members.iter().any(|m| {
            m.held_routes.iter().any(|r| !r.no_track) || m.held_rules.iter().any(|r| !r.no_track)
        });
        let (routes, rules) = if routes_matter || self.has_static_routes() {
            (self.listed_routes(), self.listed_rules())
        } else {
            (Vec::new(), Vec::new())
        };
        for number in 0..self.members.len() {
            if self.router.instance(number).state() != VrrpState::Master {
                continue;
            }
            let member = &self.members[number];
            let on = |ip, index| {
                self.links
                    .by_index(index)
                    .is_some_and(|link| link.addresses.iter().any(|a| a.ip == ip))
            };
            let address = member
                .held
                .iter()
                .find(|(address, index)| !address.no_track && !on(address.ip(), *index))
                .map(|(address, _)| format!("address {}", address.address));
            let lost_route = member
                .held_routes
                .iter()
                .find(|wanted| {
                    !wanted.no_track
                        && !routes
                            .iter()
                            .any(|r| route::is_listed(wanted, &self.links, r))
                })
                .map(|wanted| format!("route to {}", wanted.destination));
            let lost_rule = member
                .held_rules
                .iter()
                .find(|wanted| {
                    !wanted.no_track && !rules.iter().any(|r| rule::is_listed(wanted, r))
                })
                .map(|_| "rule".to_owned());
            if let Some(lost) = address.or(lost_route).or(lost_rule) {
                tracing::warn!(
                    "({}) somebody removed our {lost}; going to BACKUP",
                    member.config.name
                );
                let actions = self.router.on(number, Input::Robbed, now);
                self.perform(actions, now);
            }
        }
        self.restore_statics(&routes, &rules, now);
    }

    fn listed_routes(&mut self) -> Vec<RouteMessage> {
        let mut listed = Vec::new();
        for family in [Family::V4, Family::V6] {
            let mut question = RouteMessage::default();
            question.header.address_family = address::family(family);
            let answers = self.netlink.dump(RouteNetlinkMessage::GetRoute(question));
            listed.extend(answers.unwrap_or_default().into_iter().filter_map(
                |answer| match answer {
                    RouteNetlinkMessage::NewRoute(route) => Some(route),
                    _ => None,
                },
            ));
        }
        listed
    }

    fn listed_rules(&mut self) -> Vec<RuleMessage> {
        let mut listed = Vec::new();
        for family in [Family::V4, Family::V6] {
            let mut question = RuleMessage::default();
            question.header.family = address::family(family);
            let answers = self.netlink.dump(RouteNetlinkMessage::GetRule(question));
            listed.extend(answers.unwrap_or_default().into_iter().filter_map(
                |answer| match answer {
                    RouteNetlinkMessage::NewRule(rule) => Some(rule),
                    _ => None,
                },
            ));
        }
        listed
    }

    fn has_static_routes(&self) -> bool {
        !self.site.static_routes.is_empty() || !self.site.static_rules.is_empty()
    }

    /// Static entries that somebody removed are added again; instances of their track group react.
    fn restore_statics(&mut self, routes: &[RouteMessage], rules: &[RuleMessage], now: Time) {
        let mut groups = Vec::new();
        for address in self.site.static_addresses.clone() {
            let Some(index) = self.static_home(&address) else {
                continue;
            };
            let there = self
                .links
                .by_index(index)
                .is_some_and(|link| link.addresses.iter().any(|a| a.ip == address.ip()));
            if !there {
                tracing::warn!("somebody removed the static address {}", address.address);
                groups.extend(address.track_group.clone());
                self.add_static_address(&address);
            }
        }
        for wanted in self.site.static_routes.clone() {
            if !routes
                .iter()
                .any(|r| route::is_listed(&wanted, &self.links, r))
            {
                tracing::warn!(
                    "somebody removed the static route to {}",
                    wanted.destination
                );
                groups.extend(wanted.track_group.clone());
                self.add_static_route(&wanted);
            }
        }
        for wanted in self.site.static_rules.clone() {
            if !rules.iter().any(|r| rule::is_listed(&wanted, r)) {
                tracing::warn!("somebody removed a static rule");
                groups.extend(wanted.track_group.clone());
                self.add_static_rule(&wanted);
            }
        }
        let names: Vec<String> = self
            .site
            .track_groups
            .iter()
            .filter(|group| groups.contains(&group.name))
            .flat_map(|group| group.instances.clone())
            .collect();
        for number in 0..self.members.len() {
            if names.contains(&self.members[number].config.name) {
                let actions = self.router.on(number, Input::Robbed, now);
                self.perform(actions, now);
            }
        }
    }
}
