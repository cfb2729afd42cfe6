//! From a site to a running engine, and from one site to the next.

use std::collections::BTreeSet;
use std::sync::Arc;

use netlink_packet_core::NLM_F_CREATE;
use pointsman_model::vrrp::{
    Peers, Route, Rule, Tracking, VirtualAddress, VirtualInterface, VrrpEvent, VrrpInstance,
    VrrpSite, VrrpState, VrrpSubject, VrrpWord,
};
use pointsman_script::{Policy, Program};
use tokio::sync::mpsc;

use super::member::Member;
use super::pace::Pacer;
use super::review::LinkWatch;
use super::{Engine, Tracked};
use crate::announce::Announcer;
use crate::firewall;
use crate::group::Router;
use crate::links::Links;
use crate::netlink::{Monitor, Netlink};
use crate::run::{BfdListener, Error};
use crate::socket::AdvertSocket;
use crate::track::{ProcessCount, RiseFall};
use crate::vmac::{self, Vmac, Wanted};
use crate::watch::{Seen, watch_bfd, watch_files, watch_processes, watch_script};
use crate::{Time, address, route, rule};

impl Engine {
    /// Checks a site and begins to run it.
    pub fn start(
        site: VrrpSite,
        policy: Policy,
        (events, checkers): (mpsc::UnboundedSender<VrrpEvent>, BfdListener),
    ) -> Result<(Self, mpsc::UnboundedReceiver<Seen>), Error> {
        let mut netlink = Netlink::open().map_err(Error::os("opening a netlink socket"))?;
        let monitor = Monitor::open(watches_routes(&site))
            .map_err(Error::os("listening to the kernel's netlink"))?;
        let monitor_ready = monitor
            .waitable()
            .map_err(Error::os("listening to the kernel's netlink"))?;
        let links = Links::load(&mut netlink).map_err(Error::os("listing interfaces"))?;
        check(&site, &links)?;
        let programs = programs(&site, &policy)?;
        let announcer = Announcer::open().map_err(Error::os("opening a packet socket"))?;
        let (teller, seen) = mpsc::unbounded_channel();
        let now = Time::now();
        let mut engine = Self {
            site: VrrpSite::default(),
            policy,
            events,
            checkers,
            netlink,
            monitor,
            monitor_ready,
            links,
            watch: LinkWatch::default(),
            announcer,
            pacer: Pacer::default(),
            router: Router::default(),
            members: Vec::new(),
            sockets: Vec::new(),
            teller,
            tracked: Tracked::default(),
            firewall: firewall::Rules::default(),
            started: now,
            suspicious: false,
        };
        engine.take_over(site, programs, false, now);
        Ok((engine, seen))
    }

    /// Goes over to another site.
    pub(super) fn reload(
        &mut self,
        site: VrrpSite,
        policy: Policy,
        now: Time,
    ) -> Result<(), Error> {
        let anew = policy != self.policy;
        if site == self.site && !anew {
            return Ok(());
        }
        check(&site, &self.links)?;
        let programs = programs(&site, &policy)?;
        if watches_routes(&site) != watches_routes(&self.site) {
            let doing = "listening to the kernel's netlink";
            self.monitor = Monitor::open(watches_routes(&site)).map_err(Error::os(doing))?;
            self.monitor_ready = self.monitor.waitable().map_err(Error::os(doing))?;
        }
        tracing::info!("VRRP goes over to the new configuration");
        self.policy = policy;
        self.take_over(site, programs, anew, now);
        Ok(())
    }

    /// From here on nothing fails: what cannot be had is told and left out. Scripts are started `anew` when
    /// other rules hold for them.
    fn take_over(
        &mut self,
        site: VrrpSite,
        programs: Vec<(String, Program)>,
        anew: bool,
        now: Time,
    ) {
        let old_site = std::mem::replace(&mut self.site, site.clone());
        self.watch.set_delays(&site.link_delays);
        self.pacer.clear();
        let configs: Vec<Arc<VrrpInstance>> = site.instances.into_iter().map(Arc::new).collect();
        self.remove_vanished(&configs, now);

        // The members that stay keep their state machines.
        let mut old: Vec<_> = std::mem::take(&mut self.members)
            .into_iter()
            .zip(std::mem::take(&mut self.router).into_instances())
            .collect();
        let mut adverts = Vec::new();
        for config in &configs {
            let same = old
                .iter()
                .position(|(member, _)| member.is_same_router(config));
            match same {
                Some(at) => {
                    let (mut member, instance) = old.remove(at);
                    let before = std::mem::replace(&mut member.config, Arc::clone(config));
                    member.receiver.reconfigure(Arc::clone(config));
                    member.tracking = None;
                    self.members.push(member);
                    let (number, actions) = self.router.adopt(instance, Arc::clone(config), now);
                    adverts.push((number, before, actions));
                }
                None => {
                    self.members.push(Member::new(Arc::clone(config)));
                    self.router.add(Arc::clone(config), None);
                }
            }
        }
        for group in &site.sync_groups {
            let members = group
                .members
                .iter()
                .filter_map(|name| configs.iter().position(|config| config.name == *name))
                .collect();
            self.router.group(members);
        }
        for number in 0..self.members.len() {
            self.prepare_interface(number);
            self.renew_interfaces(number);
            self.ensure_socket(number);
        }
        self.update_firewall();
        self.update_trackers(&old_site, programs, anew);
        self.update_statics(&old_site);
        let started = self.started;
        let globals = &self.site.globals;
        let not_before =
            (started + globals.startup_delay).max(Time::default() + globals.delay_after_boot);
        for (number, before, actions) in adverts {
            self.update_held(number, &before, now);
            self.perform(actions, now);
        }
        for number in 0..self.members.len() {
            self.review_one(number, now);
            if self.router.instance(number).state() == VrrpState::Init {
                let actions = self.router.start(number, not_before, now);
                self.perform(actions, now);
            }
        }
        let keys: BTreeSet<_> = self
            .members
            .iter()
            .filter_map(|member| member.key)
            .collect();
        self.sockets.retain(|socket| keys.contains(&socket.key));
        // One more look: what was started first may have changed what others stand on.
        self.review(now);
    }

    /// Masters that the new site has no place for resign.
    fn remove_vanished(&mut self, configs: &[Arc<VrrpInstance>], now: Time) {
        let mut kept = Vec::new();
        for number in 0..self.members.len() {
            let stays = configs
                .iter()
                .any(|config| self.members[number].is_same_router(config));
            if stays {
                kept.push(number);
                continue;
            }
            let before = self.router.instance(number).state();
            let priority = self.router.instance(number).priority();
            let actions = self.router.stop(number, now);
            self.perform(actions, now);
            let config = Arc::clone(&self.members[number].config);
            let word = if config.notify.says_deleted {
                VrrpWord::Deleted
            } else {
                VrrpWord::Fault
            };
            let subject = VrrpSubject::Instance(config.name.clone());
            self.tell(subject, before, VrrpState::Init, word, priority);
            self.members[number].remove_interfaces(&mut self.netlink);
            tracing::info!("({}) is no longer configured", config.name);
        }
    }

    fn prepare_interface(&mut self, number: usize) {
        let member = &mut self.members[number];
        let config = Arc::clone(&member.config);
        if config.promote_secondaries
            && let Some(interface) = &config.interface
        {
            member
                .saved
                .set("ipv4", interface, "promote_secondaries", "1");
        }
    }

    /// Makes virtual MACs that are not there.
    pub(super) fn renew_interfaces(&mut self, number: usize) {
        let config = Arc::clone(&self.members[number].config);
        if let Some(VirtualInterface::Vmac {
            name,
            mac,
            adverts_on_base,
            group,
        }) = &config.virtual_interface
        {
            let there = self.members[number]
                .vmac
                .as_ref()
                .is_some_and(|vmac| self.links.by_index(vmac.index).is_some());
            let parent = config.interface.clone().unwrap_or_default();
            if !there && self.links.by_name(&parent).is_some() {
                let prefix = &self.site.globals.vmac_prefix;
                let wanted = Wanted {
                    names: match name {
                        Some(name) => vec![name.clone()],
                        None => Wanted::names(prefix, config.family, config.vrid),
                    },
                    parent,
                    mac: mac.unwrap_or_else(|| vmac::mac(config.family, config.vrid)),
                    family: config.family,
                    group: *group,
                    sends: !adverts_on_base,
                };
                match Vmac::make(wanted, &mut self.netlink, &mut self.links) {
                    Ok(vmac) => self.members[number].vmac = Some(vmac),
                    Err(error) => self.members[number]
                        .say_once("cannot make the virtual MAC", || error.to_string()),
                }
            }
        }
        self.make_address_vmacs(number, &config);
    }

    fn make_address_vmacs(&mut self, number: usize, config: &VrrpInstance) {
        let parents: BTreeSet<&String> = config
            .addresses
            .iter()
            .chain(&config.excluded)
            .filter(|address| address.use_vmac || config.vmac_for_addresses)
            .filter_map(|address| address.interface.as_ref())
            .filter(|parent| Some(*parent) != config.interface.as_ref())
            .collect();
        for parent in parents {
            let there = self.members[number]
                .address_vmacs
                .iter()
                .any(|vmac| vmac.wanted.parent == *parent);
            if there || self.links.by_name(parent).is_none() {
                continue;
            }
            let prefix = &self.site.globals.vmac_addr_prefix;
            let wanted = Wanted {
                names: Wanted::names(prefix, config.family, config.vrid),
                parent: parent.clone(),
                mac: vmac::mac(config.family, config.vrid),
                family: config.family,
                group: None,
                sends: false,
            };
            match Vmac::make(wanted, &mut self.netlink, &mut self.links) {
                Ok(vmac) => self.members[number].address_vmacs.push(vmac),
                Err(error) => self.members[number]
                    .say_once("cannot make the virtual MAC", || error.to_string()),
            }
        }
    }

    /// Opens the socket an instance needs now, and joins its group.
    pub(super) fn ensure_socket(&mut self, number: usize) {
        let member = &mut self.members[number];
        let Some(key) = member.wanted_key(&self.links) else {
            member.key = None;
            return;
        };
        if member.key == Some(key) {
            return;
        }
        let buffer = member.config.receive_buffer_bytes;
        let mut place = self.sockets.iter().position(|socket| socket.key == key);
        if place.is_none() {
            match AdvertSocket::open(key, buffer) {
                Ok(socket) => {
                    self.sockets.push(socket);
                    place = Some(self.sockets.len() - 1);
                }
                Err(error) => {
                    member.say_once("cannot open a socket", || error.to_string());
                }
            }
        }
        let Some(place) = place else {
            member.key = None;
            return;
        };
        if let Peers::Multicast(group) = member.config.peers
            && let Err(error) = self.sockets[place].join(group)
        {
            member.say_once("cannot join the group", || format!("{group}: {error}"));
            return;
        }
        member.key = Some(key);
    }

    /// Brings the addresses, routes and rules of a master that stays to the new configuration.
    fn update_held(&mut self, number: usize, before: &VrrpInstance, now: Time) {
        if self.router.instance(number).state() != VrrpState::Master {
            return;
        }
        let wanted = self.wanted_addresses(number);
        let held = std::mem::take(&mut self.members[number].held);
        let (kept, gone): (Vec<_>, Vec<_>) = held.into_iter().partition(|one| wanted.contains(one));
        self.members[number].held = kept;
        for (address, index) in gone {
            self.drop_address(&address, index);
        }
        for (address, index) in wanted {
            if !self.members[number]
                .held
                .contains(&(address.clone(), index))
            {
                let ip = address.ip();
                self.hold(number, address, index);
                for _ in 0..self.members[number].config.garp.repeat {
                    self.announce(number, ip, index);
                }
            }
        }
        let config = Arc::clone(&self.members[number].config);
        for route in before.routes.iter().filter(|r| !config.routes.contains(r)) {
            self.drop_route(route);
            self.members[number]
                .held_routes
                .retain(|held| held != route);
        }
        for route in config.routes.iter().filter(|r| !before.routes.contains(r)) {
            self.hold_route(number, route);
        }
        for rule in before.rules.iter().filter(|r| !config.rules.contains(r)) {
            self.drop_rule(rule);
            self.members[number].held_rules.retain(|held| held != rule);
        }
        for rule in config.rules.iter().filter(|r| !before.rules.contains(r)) {
            self.hold_rule(number, rule);
        }
        self.pacer.send_due(&self.announcer, now);
    }

    fn update_firewall(&mut self) {
        let mut rules = firewall::Rules::default();
        for member in &self.members {
            if !member.config.accept && !member.config.priority.is_owner() {
                rules
                    .deaf
                    .extend(member.addresses().map(|address| address.ip()));
            }
            let vmacs = member.vmac.iter().chain(&member.address_vmacs);
            rules.mute.extend(vmacs.map(|vmac| vmac.name.clone()));
        }
        if rules == self.firewall {
            return;
        }
        let result = if rules.is_empty() {
            firewall::remove(&self.site.globals)
        } else {
            firewall::apply(&self.site.globals, &rules)
        };
        match result {
            Ok(()) => self.firewall = rules,
            Err(error) => {
                tracing::error!(
                    "no rules of the firewall, so that no_accept addresses take packets and \
                     virtual MACs may speak for themselves: {error}"
                );
            }
        }
    }

    fn update_trackers(&mut self, old: &VrrpSite, programs: Vec<(String, Program)>, anew: bool) {
        let site = &self.site;
        let teller = &self.teller;
        let mut scripts = std::mem::take(&mut self.tracked.scripts);
        for (name, program) in programs {
            let Some(script) = site.scripts.iter().find(|script| script.name == name) else {
                continue;
            };
            let entry = match scripts.remove(&name) {
                Some(running) if old.scripts.contains(script) && !anew => running,
                Some((counter, _)) => (
                    counter.retuned(script),
                    watch_script(script, program, teller.clone()),
                ),
                None => (
                    RiseFall::new(script),
                    watch_script(script, program, teller.clone()),
                ),
            };
            self.tracked.scripts.insert(name, entry);
        }
        if site.bfd_instances != old.bfd_instances {
            self.tracked.bfd.clear();
            self.tracked.bfd_watcher = None;
            if !site.bfd_instances.is_empty() {
                match watch_bfd(&site.bfd_instances, teller.clone()) {
                    Ok(watcher) => self.tracked.bfd_watcher = Some(watcher),
                    Err(error) => tracing::error!("cannot keep BFD sessions: {error}"),
                }
            }
        }
        if site.track_files == old.track_files && site.track_processes == old.track_processes {
            return;
        }
        self.tracked.watchers.clear();
        let names: BTreeSet<_> = site.track_files.iter().map(|file| &file.name).collect();
        self.tracked.files.retain(|name, _| names.contains(name));
        if !site.track_files.is_empty() {
            match watch_files(&site.track_files, teller.clone()) {
                Ok(watcher) => self.tracked.watchers.push(watcher),
                Err(error) => tracing::error!("cannot watch tracked files: {error}"),
            }
        }
        let known = std::mem::take(&mut self.tracked.processes);
        for process in &site.track_processes {
            let counter = known
                .get(&process.name)
                .filter(|_| old.track_processes.contains(process))
                .copied()
                .unwrap_or_else(|| ProcessCount::new(process));
            self.tracked.processes.insert(process.name.clone(), counter);
        }
        if !site.track_processes.is_empty() {
            let watcher = watch_processes(&site.track_processes, teller.clone());
            self.tracked.watchers.push(watcher);
        }
    }

    fn update_statics(&mut self, old: &VrrpSite) {
        let new = self.site.clone();
        for rule in old
            .static_rules
            .iter()
            .filter(|r| !new.static_rules.contains(r))
        {
            self.drop_rule(rule);
        }
        for route in old
            .static_routes
            .iter()
            .filter(|r| !new.static_routes.contains(r))
        {
            self.drop_route(route);
        }
        for address in &old.static_addresses {
            if !new.static_addresses.contains(address)
                && let Some(index) = self.static_home(address)
            {
                self.drop_address(address, index);
            }
        }
        for address in &new.static_addresses {
            if !old.static_addresses.contains(address) {
                self.add_static_address(address);
            }
        }
        for route in &new.static_routes {
            if !old.static_routes.contains(route) {
                self.add_static_route(route);
            }
        }
        for rule in &new.static_rules {
            if !old.static_rules.contains(rule) {
                self.add_static_rule(rule);
            }
        }
    }

    /// Removes all static entries.
    pub(super) fn remove_statics(&mut self) {
        let site = std::mem::take(&mut self.site);
        let globals = site.globals.clone();
        self.site.globals = globals.clone();
        self.update_statics(&site);
        self.site = VrrpSite { globals, ..site };
    }

    pub(super) fn static_home(&self, address: &VirtualAddress) -> Option<u32> {
        let name = address
            .interface
            .as_ref()
            .unwrap_or(&self.site.globals.default_interface);
        self.links.by_name(name).map(|link| link.index)
    }

    pub(super) fn add_static_address(&mut self, address: &VirtualAddress) {
        let added = match self.static_home(address) {
            Some(index) => self
                .request(address::add(address, index))
                .map_err(|error| error.to_string()),
            None => Err("there is no interface for it".to_owned()),
        };
        if let Err(why) = added {
            tracing::error!("cannot add the static address {}: {why}", address.address);
        }
    }

    pub(super) fn add_static_route(&mut self, wanted: &Route) {
        let added = route::add(wanted, &self.links).and_then(|(message, flags)| {
            self.netlink
                .request(message, flags | NLM_F_CREATE)
                .map_err(|error| error.to_string())
        });
        if let Err(why) = added {
            tracing::error!(
                "cannot add the static route to {}: {why}",
                wanted.destination
            );
        }
    }

    pub(super) fn add_static_rule(&mut self, wanted: &Rule) {
        if let Err(error) = self.request(rule::add(wanted)) {
            tracing::error!("cannot add a static rule: {error}");
        }
    }
}

/// What no running engine can make good.
fn check(site: &VrrpSite, links: &Links) -> Result<(), Error> {
    for (number, config) in site.instances.iter().enumerate() {
        let instance = || config.name.clone();
        if matches!(
            config.virtual_interface,
            Some(VirtualInterface::Ipvlan { .. })
        ) {
            return Err(Error::Ipvlan {
                instance: instance(),
            });
        }
        match &config.interface {
            Some(interface)
                if !site.globals.dynamic_interfaces && links.by_name(interface).is_none() =>
            {
                return Err(Error::NoSuchInterface {
                    instance: instance(),
                    interface: interface.clone(),
                });
            }
            None if config.source.is_none() || matches!(config.peers, Peers::Multicast(_)) => {
                return Err(Error::NeedsInterface {
                    instance: instance(),
                });
            }
            _ => {}
        }
        let clash = site.instances[..number].iter().find(|other| {
            let same_peers = match (&config.peers, &other.peers) {
                (Peers::Multicast(a), Peers::Multicast(b)) => a == b,
                (Peers::Unicast(a), Peers::Unicast(b)) => a
                    .peers
                    .iter()
                    .any(|peer| b.peers.iter().any(|p| p.address == peer.address)),
                _ => false,
            };
            other.vrid == config.vrid
                && other.family == config.family
                && other.interface == config.interface
                && same_peers
        });
        if let Some(other) = clash {
            return Err(Error::Duplicate {
                instance: instance(),
                other: other.name.clone(),
                vrid: config.vrid.get(),
            });
        }
    }
    let mut grouped = BTreeSet::new();
    for group in &site.sync_groups {
        for name in &group.members {
            if !site.instances.iter().any(|config| config.name == *name) {
                return Err(Error::NoSuchMember {
                    group: group.name.clone(),
                    instance: name.clone(),
                });
            }
            if !grouped.insert(name) {
                return Err(Error::TwoGroups {
                    instance: name.clone(),
                });
            }
        }
    }
    Ok(())
}

/// The scripts that somebody tracks, ready to run. One that cannot run is an error: to go on as if it
/// succeeded, as keepalived does, would hide it.
fn programs(site: &VrrpSite, policy: &Policy) -> Result<Vec<(String, Program)>, Error> {
    let tracking = || {
        let instances = site.instances.iter().map(|config| &config.tracking);
        instances.chain(site.sync_groups.iter().map(|group| &group.tracking))
    };
    let is_tracked = |name: &str| {
        tracking().any(|tracking: &Tracking| tracking.scripts.iter().any(|t| t.name == name))
    };
    let mut programs = Vec::new();
    for script in &site.scripts {
        if !is_tracked(&script.name) {
            tracing::warn!("script {} is not used", script.name);
            continue;
        }
        let program = Program::prepare(&script.script, policy).map_err(|why| Error::Script {
            name: script.name.clone(),
            why,
        })?;
        for warning in program.warnings() {
            tracing::warn!("vrrp_script {}: {warning}", script.name);
        }
        programs.push((script.name.clone(), program));
    }
    Ok(programs)
}

fn watches_routes(site: &VrrpSite) -> bool {
    !site.static_routes.is_empty()
        || !site.static_rules.is_empty()
        || site
            .instances
            .iter()
            .any(|config| !config.routes.is_empty() || !config.rules.is_empty())
}
