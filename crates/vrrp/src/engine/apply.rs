//! Effects of the state machine on the world.

use std::io;
use std::time::SystemTime;

use pointsman_model::Family;
use pointsman_model::vrrp::{Peers, Route, Rule, VirtualAddress, VrrpState, VrrpSubject, VrrpWord};

use super::pace::Pacer;
use super::{Engine, wall};
use crate::address::{self, Request};
use crate::fsm::Effect;
use crate::{Time, announce, route, rule, sysctl};

impl Engine {
    pub(super) fn apply(&mut self, number: usize, effect: Effect, now: Time) {
        match effect {
            Effect::Advert(priority) => self.advert(number, priority),
            Effect::TakeAddresses => self.take_addresses(number),
            Effect::DropAddresses => self.drop_addresses(number),
            Effect::Announce(repeat) => {
                let held = self.members[number].held.clone();
                for _ in 0..repeat {
                    for (address, index) in &held {
                        self.announce(number, address.ip(), *index);
                    }
                }
                self.pacer.send_due(&self.announcer, now);
            }
            Effect::AnnounceElsewhere => self.announce_elsewhere(number, now),
            Effect::AnnounceSource => {
                let member = &self.members[number];
                let source = self.router.instance(number).source();
                let index = member.base(&self.links).map(|link| link.index);
                if let (Peers::Unicast(_), Some(source), Some(index)) =
                    (&member.config.peers, source, index)
                {
                    self.announce(number, source, index);
                    self.pacer.send_due(&self.announcer, now);
                }
            }
            Effect::Changed(from, to) => self.changed(number, from, to),
            Effect::LowerHeard => {
                let state = self.router.instance(number).state();
                self.tell_of(number, state, state, VrrpWord::MasterRxLowerPri);
            }
            Effect::PriorityChanged(_) => {
                if self.members[number].config.notify.priority_changes {
                    let state = self.router.instance(number).state();
                    let word = match state {
                        VrrpState::Master => VrrpWord::MasterPriority,
                        VrrpState::Backup => VrrpWord::BackupPriority,
                        VrrpState::Init | VrrpState::Fault => return,
                    };
                    self.tell_of(number, state, state, word);
                }
            }
            Effect::Log(note) => {
                let name = &self.members[number].config.name;
                if note.is_detail() {
                    tracing::debug!("({name}) {note}");
                } else {
                    tracing::info!("({name}) {note}");
                }
            }
        }
    }

    pub(super) fn advert(&mut self, number: usize, priority: u8) {
        let Some(source) = self.router.instance(number).source() else {
            return;
        };
        let member = &mut self.members[number];
        let Some(socket) = member
            .key
            .and_then(|key| self.sockets.iter().find(|socket| socket.key == key))
        else {
            return;
        };
        let ttl = match &member.config.peers {
            Peers::Multicast(_) => None,
            Peers::Unicast(unicast) => unicast.ttl,
        };
        let mut failed = None;
        let packets = member.transmitter.packets(
            &member.config,
            source,
            priority,
            &mut member.receiver,
            wall(),
        );
        for packet in packets {
            if let Err(error) = socket.send(source, packet.destination, ttl, &packet.bytes) {
                failed = Some(format!("to {}: {error}", packet.destination));
            }
        }
        member.receiver.counters.advert_sent += 1;
        if priority == 0 {
            member.receiver.counters.pri_zero_sent += 1;
            tracing::debug!("({}) sent 0 priority", member.config.name);
        }
        if let Some(failed) = failed {
            member.say_once("cannot send adverts", || failed);
        }
    }

    fn take_addresses(&mut self, number: usize) {
        tracing::debug!("({}) setting VIPs.", self.members[number].config.name);
        let wanted = self.wanted_addresses(number);
        for (address, index) in wanted {
            self.hold(number, address, index);
        }
        let config = self.members[number].config.clone();
        for route in &config.routes {
            self.hold_route(number, route);
        }
        for rule in &config.rules {
            self.hold_rule(number, rule);
        }
    }

    /// Addresses with the interfaces they go to; those without one are told of.
    pub(super) fn wanted_addresses(&mut self, number: usize) -> Vec<(VirtualAddress, u32)> {
        let member = &self.members[number];
        let default = &self.site.globals.default_interface;
        let mut wanted = Vec::new();
        let mut homeless = Vec::new();
        for address in member.addresses() {
            match member.home(address, &self.links, default) {
                Some(index) => wanted.push((address.clone(), index)),
                None => homeless.push(address.address.to_string()),
            }
        }
        if !homeless.is_empty() {
            self.members[number].say_once("no interface for", || homeless.join(", "));
        }
        wanted
    }

    pub(super) fn hold(&mut self, number: usize, address: VirtualAddress, index: u32) {
        match self.request(address::add(&address, index)) {
            Ok(()) => self.members[number].held.push((address, index)),
            Err(error) => {
                let name = &self.members[number].config.name;
                tracing::error!("({name}) cannot add {}: {error}", address.address);
            }
        }
    }

    pub(super) fn hold_route(&mut self, number: usize, wanted: &Route) {
        let result = match route::add(wanted, &self.links) {
            Ok((message, flags)) => {
                // An identical one is taken over.
                match self.request((message, flags)) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                    other => other.map_err(|error| error.to_string()),
                }
            }
            Err(why) => Err(why),
        };
        match result {
            Ok(()) => self.members[number].held_routes.push(wanted.clone()),
            Err(why) => {
                let name = &self.members[number].config.name;
                tracing::error!(
                    "({name}) cannot add the route to {}: {why}",
                    wanted.destination
                );
            }
        }
    }

    pub(super) fn hold_rule(&mut self, number: usize, wanted: &Rule) {
        match self.request(rule::add(wanted)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                let name = &self.members[number].config.name;
                tracing::error!("({name}) cannot add a rule: {error}");
            }
            _ => self.members[number].held_rules.push(wanted.clone()),
        }
    }

    fn drop_addresses(&mut self, number: usize) {
        self.pacer.forget(number);
        let member = &mut self.members[number];
        tracing::debug!("({}) removing VIPs.", member.config.name);
        let rules = std::mem::take(&mut member.held_rules);
        let routes = std::mem::take(&mut member.held_routes);
        let mut held = std::mem::take(&mut member.held);
        for wanted in rules.iter().rev() {
            self.drop_rule(wanted);
        }
        for wanted in routes.iter().rev() {
            self.drop_route(wanted);
        }
        // Also what an engine that was killed has left.
        let member = &self.members[number];
        let default = &self.site.globals.default_interface;
        for address in member.addresses() {
            let Some(index) = member.home(address, &self.links, default) else {
                continue;
            };
            let is_there = self
                .links
                .by_index(index)
                .is_some_and(|link| link.addresses.iter().any(|a| a.ip == address.ip()));
            let is_held = held
                .iter()
                .any(|(known, at)| known.ip() == address.ip() && *at == index);
            if is_there && !is_held {
                held.push((address.clone(), index));
            }
        }
        for (address, index) in &held {
            self.drop_address(address, *index);
        }
    }

    pub(super) fn drop_address(&mut self, address: &VirtualAddress, index: u32) {
        match self.request(address::remove(address, index)) {
            Ok(()) => {}
            Err(error) if is_gone(&error) => {}
            Err(error) => tracing::warn!("cannot remove {}: {error}", address.address),
        }
    }

    pub(super) fn drop_route(&mut self, wanted: &Route) {
        if let Ok(request) = route::remove(wanted, &self.links)
            && let Err(error) = self.request(request)
            && !is_gone(&error)
        {
            tracing::warn!("cannot remove the route to {}: {error}", wanted.destination);
        }
    }

    pub(super) fn drop_rule(&mut self, wanted: &Rule) {
        if let Err(error) = self.request(rule::remove(wanted))
            && !is_gone(&error)
        {
            tracing::warn!("cannot remove a rule: {error}");
        }
    }

    pub(super) fn request(&mut self, (message, flags): Request) -> io::Result<()> {
        self.netlink.request(message, flags)
    }

    pub(super) fn announce(&mut self, number: usize, ip: std::net::IpAddr, index: u32) {
        let Some(link) = self.links.by_index(index).filter(|link| link.arp) else {
            return;
        };
        let Some(mac) = link.mac else { return };
        let router = ip.is_ipv6()
            && sysctl::read("ipv6", &link.name, "forwarding").is_some_and(|value| value != "0");
        let family = Family::from(ip);
        let pace = Pacer::pace(
            &self.site.globals,
            &self.site.garp_groups,
            &link.name,
            index,
            family,
        );
        let frame = announce::frame(ip, mac, router);
        self.pacer.queue(pace, family, number, index, frame);
    }

    fn announce_elsewhere(&mut self, number: usize, now: Time) {
        let member = &self.members[number];
        let home = member.advert_interface(&self.links).map(|link| link.index);
        let all = member.config.garp.extra_all;
        let elsewhere: Vec<_> = member
            .held
            .iter()
            .filter(|(_, index)| Some(*index) != home)
            .filter(|(_, index)| all || member.address_vmacs.iter().any(|v| v.index == *index))
            .map(|(address, index)| (address.ip(), *index))
            .collect();
        for (ip, index) in elsewhere {
            self.announce(number, ip, index);
        }
        self.pacer.send_due(&self.announcer, now);
    }

    fn changed(&mut self, number: usize, from: VrrpState, to: VrrpState) {
        let member = &mut self.members[number];
        member.since = SystemTime::now();
        member.forget_said();
        if to == VrrpState::Master {
            member.receiver.counters.become_master += 1;
        }
        if from == VrrpState::Master {
            member.receiver.counters.release_master += 1;
        }
        if to == VrrpState::Fault {
            let name = &member.config.name;
            for fault in &member.faults {
                tracing::info!("({name}) entering FAULT state ({fault})");
            }
        }
        let word = match to {
            VrrpState::Master => VrrpWord::Master,
            VrrpState::Backup => VrrpWord::Backup,
            VrrpState::Fault | VrrpState::Init => VrrpWord::Fault,
        };
        self.tell_of(number, from, to, word);
    }

    fn tell_of(&self, number: usize, from: VrrpState, to: VrrpState, word: VrrpWord) {
        let name = self.members[number].config.name.clone();
        let priority = self.router.instance(number).priority();
        self.tell(VrrpSubject::Instance(name), from, to, word, priority);
    }
}

/// Whether there was nothing to remove.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EADDRNOTAVAIL | libc::ESRCH | libc::ENOENT | libc::ENODEV)
    )
}
