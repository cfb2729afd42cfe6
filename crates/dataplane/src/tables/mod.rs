//! IPVS's operations on the tables that packets read.
//!
//! The tables are the truth: everything a restarted daemon has to know can be read back from them.
//! What this module keeps besides is an index of it, and the rate estimators.

mod adopt;
mod counters;
mod egress;
pub mod maps;
mod schedule;
mod sweep;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use pointsman_core::addr::{Be16, Be32};
use pointsman_core::atomic;
use pointsman_core::drop::Drop;
use pointsman_core::forward;
use pointsman_core::host::Tables as _;
use pointsman_core::layout::{
    EVICTIONS, MAX_SERVERS, MAX_SERVICES, Runtime, SERVER_AVAILABLE, SERVER_NEIGHBOUR_DEAD,
    SERVER_NO_ROUTE, Schedule, ServerRecord, ServiceId, ServiceRecord, VERSION, WAYS,
};
use pointsman_core::proto::{UDP_DEFAULT_SECS, UDP_TIMEOUT, tcp};
use pointsman_model::{
    ConnectionView, Counters, Encapsulation, Error, Forwarding, Protocol, RateEstimator, Rates,
    Scheduler, ServerKey, ServerSpec, ServerView, ServiceKey, ServiceSpec, ServiceView, Timeouts,
    validate,
};

use crate::{DropCount, Interface};
use maps::Maps;
use schedule::{Arena, Block, Candidate, Place};
pub use sweep::Sweep;

/// The tables shared with the programs, and IPVS's operations on them.
pub struct Tables {
    maps: Maps,
    hz: u32,
    services: Vec<Option<Service>>,
    by_key: HashMap<ServiceKey, u32>,
    servers: HashMap<u32, Server>,
    by_address: HashMap<Ipv4Addr, Vec<u32>>,
    /// Removed servers that connections may still refer to, by service and server.
    trash: HashMap<(ServiceKey, ServerKey), u32>,
    free_servers: Vec<u32>,
    next_server: u32,
    next_order: u32,
    arena: Arena,
    /// VLAN devices and their parents, by interface index.
    vlan_devices: HashMap<u32, u32>,
    /// Interfaces XDP may send out of.
    xdp: HashSet<u32>,
    totals: RateEstimator,
}

struct Service {
    spec: ServiceSpec,
    /// Newest first.
    servers: Vec<u32>,
    place: Place,
    block: Option<Block>,
    rates: RateEstimator,
}

struct Server {
    spec: ServerSpec,
    service: ServiceKey,
    rates: RateEstimator,
}

/// A runtime record for new tables.
pub(crate) fn fresh_runtime(cpus: u32, hz: u32, seed: [u64; 2]) -> Runtime {
    // SAFETY: all bits zero is a valid record.
    let mut runtime: Runtime = unsafe { std::mem::zeroed() };
    runtime.version = VERSION;
    runtime.epoch = 1;
    runtime.seed = seed;
    runtime.hz = hz;
    runtime.cpus = cpus;
    for (state, secs) in tcp::DEFAULT_SECS.into_iter().enumerate() {
        runtime.timeouts[state] = secs * hz;
    }
    runtime.timeouts[UDP_TIMEOUT] = UDP_DEFAULT_SECS * hz;
    runtime
}

impl Tables {
    /// Takes tables over, with whatever services they already hold.
    pub fn new(maps: Maps) -> Self {
        let runtime = maps.runtime.read(0).expect("one record");
        let mut tables = Self {
            hz: runtime.hz.max(1),
            arena: Arena::new(maps.schedules.len()),
            maps,
            services: Vec::new(),
            by_key: HashMap::new(),
            servers: HashMap::new(),
            by_address: HashMap::new(),
            trash: HashMap::new(),
            free_servers: Vec::new(),
            next_server: 0,
            next_order: 1,
            vlan_devices: HashMap::new(),
            xdp: HashSet::new(),
            totals: RateEstimator::default(),
        };
        tables.adopt();
        tables
    }

    /// Adds a service.
    ///
    /// # Errors
    /// As IPVS; [`Error::NotSupported`] for what is not there yet.
    pub fn add_service(&mut self, spec: &ServiceSpec) -> Result<(), Error> {
        supported_service(spec)?;
        validate::service(spec)?;
        if self.by_key.contains_key(&spec.key) {
            return Err(Error::ServiceExists);
        }
        let index = match self.services.iter().position(Option::is_none) {
            Some(free) => free,
            None if self.services.len() < MAX_SERVICES as usize => {
                self.services.push(None);
                self.services.len() - 1
            }
            None => return Err(Error::NoRoom(format!("{MAX_SERVICES} virtual services"))),
        };
        let index = index as u32;
        let id = service_id(&spec.key).ok_or_else(|| Error::NotSupported("IPv6".into()))?;
        self.maps
            .service_ids
            .insert(id, index)
            .map_err(Error::NoRoom)?;
        let any = ServiceId {
            vport: Be16::default(),
            proto: 0,
            ..id
        };
        self.maps
            .service_ids
            .insert(any, index)
            .map_err(Error::NoRoom)?;
        // SAFETY: all bits zero is a valid record.
        let mut record: ServiceRecord = unsafe { std::mem::zeroed() };
        record.id = id;
        record.in_use = 1;
        record.order = self.take_order();
        describe(&mut record, spec);
        self.maps.services.write(index, record);
        counters::set_folded(&self.maps, index, Counters::default());
        self.services[index as usize] = Some(Service {
            spec: spec.clone(),
            servers: Vec::new(),
            place: Place::Head,
            block: None,
            rates: RateEstimator::default(),
        });
        self.by_key.insert(spec.key, index);
        Ok(())
    }

    /// Replaces a service's properties; what is omitted returns to its default.
    ///
    /// # Errors
    /// As IPVS.
    pub fn edit_service(&mut self, spec: &ServiceSpec) -> Result<(), Error> {
        let index = self.index_of(&spec.key).ok_or(Error::NoSuchService)?;
        supported_service(spec)?;
        validate::service(spec)?;
        let service = self.service_mut(index);
        let rescheduled = service.spec.scheduler != spec.scheduler;
        service.spec = spec.clone();
        if rescheduled {
            service.place = Place::Head;
        }
        if let Some(mut record) = self.maps.services.read(index) {
            describe(&mut record, spec);
            // The scheduling word and its turns are the programs' business: write around them.
            self.with_service_record(index, |at| {
                // SAFETY: the pointer is into the map.
                unsafe {
                    (&raw mut (*at).flags).write_volatile(record.flags);
                    (&raw mut (*at).timeout_secs).write_volatile(record.timeout_secs);
                    (&raw mut (*at).netmask).write_volatile(record.netmask);
                    (&raw mut (*at).sched).write_volatile(record.sched);
                }
            });
        }
        if rescheduled {
            self.compile(index)
        } else {
            Ok(())
        }
    }

    /// Removes a service and its servers; connections stay, as in IPVS, and their packets are
    /// dropped until the servers come back.
    ///
    /// # Errors
    /// [`Error::NoSuchService`].
    pub fn delete_service(&mut self, key: &ServiceKey) -> Result<(), Error> {
        let index = self.index_of(key).ok_or(Error::NoSuchService)?;
        if let Some(id) = service_id(key) {
            self.maps.service_ids.remove(&id);
            let ServiceKey::Address { addr, .. } = key else {
                unreachable!("it has an id")
            };
            let last = !self.by_key.keys().any(
                |other| matches!(other, ServiceKey::Address { addr: a, .. } if a == addr && other != key),
            );
            if last {
                let any = ServiceId {
                    vport: Be16::default(),
                    proto: 0,
                    ..id
                };
                self.maps.service_ids.remove(&any);
            }
        }
        let service = self.services[index as usize].take().expect("indexed");
        self.by_key.remove(key);
        for &server in &service.servers {
            self.discard(server);
        }
        if let Some(block) = service.block {
            self.arena.give(block);
        }
        // SAFETY: all bits zero is a valid record: not in use, nothing to schedule.
        self.maps
            .services
            .write(index, unsafe { std::mem::zeroed() });
        self.advance_epoch();
        Ok(())
    }

    /// Removes every service; connections stay, as in IPVS.
    pub fn flush(&mut self) {
        let keys: Vec<_> = self.by_key.keys().copied().collect();
        for key in keys {
            self.delete_service(&key).expect("it is there");
        }
    }

    /// Adds a real server at the head of its service's list.
    ///
    /// # Errors
    /// As IPVS; [`Error::NotSupported`] for what is not there yet.
    pub fn add_server(&mut self, key: &ServiceKey, spec: &ServerSpec) -> Result<(), Error> {
        let index = self.index_of(key).ok_or(Error::NoSuchService)?;
        let rip = self.check_server(index, spec)?;
        if self.find_server(index, &spec.key).is_some() {
            return Err(Error::DestinationExists);
        }
        let revived = self.trash.remove(&(*key, spec.key));
        let server = match revived {
            Some(server) => server,
            None => self.take_server()?,
        };
        let order = self.take_order();
        if revived.is_none() {
            // SAFETY: all bits zero is a valid record.
            let mut record: ServerRecord = unsafe { std::mem::zeroed() };
            record.rip = Be32::from_octets(rip.octets());
            record.rport = Be16::new(spec.key.port);
            record.in_use = 1;
            self.maps.servers.write(server, record);
        }
        self.with_server_record(server, |at| {
            // SAFETY: the pointer is into the map.
            unsafe {
                (&raw mut (*at).service).write_volatile(index);
                (&raw mut (*at).order).write_volatile(order);
                (&raw mut (*at).idle_since).write_volatile(0);
            }
        });
        self.describe_server(server, spec);
        counters::zero_server(&self.maps, server);
        let raw = counters::raw(&self.maps, server);
        self.servers.insert(
            server,
            Server {
                spec: *spec,
                service: *key,
                rates: RateEstimator::starting_at(raw),
            },
        );
        self.inherit(rip, server);
        self.by_address.entry(rip).or_default().push(server);
        self.keep_place(index, None);
        self.service_mut(index).servers.insert(0, server);
        let added = self.compile(index);
        if added.is_err() {
            self.unlist(index, server);
            self.discard(server);
            return added;
        }
        if revived.is_some() {
            self.advance_epoch();
        }
        Ok(())
    }

    /// Replaces a real server's properties; its place in the list stays.
    ///
    /// # Errors
    /// As IPVS.
    pub fn edit_server(&mut self, key: &ServiceKey, spec: &ServerSpec) -> Result<(), Error> {
        let index = self.index_of(key).ok_or(Error::NoSuchService)?;
        self.check_server(index, spec)?;
        let server = self
            .find_server(index, &spec.key)
            .ok_or(Error::NoSuchDestination)?;
        self.keep_place(index, None);
        self.servers.get_mut(&server).expect("listed").spec = *spec;
        self.describe_server(server, spec);
        self.compile(index)
    }

    /// Removes a real server; its connections stay and their packets are dropped, as in IPVS.
    ///
    /// # Errors
    /// As IPVS.
    pub fn delete_server(&mut self, key: &ServiceKey, spec: &ServerKey) -> Result<(), Error> {
        let index = self.index_of(key).ok_or(Error::NoSuchService)?;
        let server = self
            .find_server(index, spec)
            .ok_or(Error::NoSuchDestination)?;
        self.keep_place(index, Some(server));
        self.unlist(index, server);
        let left = counters::of_server(&self.maps, server);
        let folded = counters::folded(&self.maps, index).plus(left);
        counters::set_folded(&self.maps, index, folded);
        self.discard(server);
        self.advance_epoch();
        self.compile(index)
    }

    /// Every service, in order of creation; servers newest first.
    pub fn services(&self) -> Vec<ServiceView> {
        let mut indices: Vec<(u32, u32)> = (0..self.services.len() as u32)
            .filter(|&i| self.services[i as usize].is_some())
            .map(|i| (self.maps.services.read(i).map_or(0, |r| r.order), i))
            .collect();
        indices.sort_unstable();
        indices
            .into_iter()
            .map(|(_, index)| self.view(index))
            .collect()
    }

    /// One service.
    pub fn service(&self, key: &ServiceKey) -> Option<ServiceView> {
        self.index_of(key).map(|index| self.view(index))
    }

    /// Totals and rates of all services together.
    pub fn totals(&self) -> (Counters, Rates) {
        (self.sum_of_services(), self.totals.rates())
    }

    /// Live connections, in the order of the table.
    pub fn connections(&self) -> Vec<ConnectionView> {
        sweep::list(&self.maps, self.hz)
    }

    /// Slots of the connection table.
    pub fn connection_slots(&self) -> u32 {
        self.maps.connections.len() * WAYS
    }

    /// Present timeouts.
    pub fn timeouts(&self) -> Timeouts {
        let runtime = self.maps.runtime.read(0).expect("one record");
        let secs = |at: usize| runtime.timeouts[at] / self.hz;
        Timeouts {
            tcp: secs(tcp::ESTABLISHED.into()),
            tcp_fin: secs(tcp::FIN_WAIT.into()),
            udp: secs(UDP_TIMEOUT),
        }
    }

    /// Changes timeouts; zeros keep the present value. Running timers are not touched.
    pub fn set_timeouts(&mut self, change: Timeouts) {
        let new = self.timeouts().with(change);
        let hz = self.hz;
        let at = self.maps.runtime.at(0).expect("one record");
        for (index, secs) in [
            (usize::from(tcp::ESTABLISHED), new.tcp),
            (usize::from(tcp::FIN_WAIT), new.tcp_fin),
            (UDP_TIMEOUT, new.udp),
        ] {
            // Time stamps are compared as signed differences: half the range is the most.
            let jiffies = secs.saturating_mul(hz).min(i32::MAX as u32);
            // SAFETY: the pointer is into the map, the index below 32.
            unsafe { (&raw mut (*at).timeouts[index]).write_volatile(jiffies) };
        }
    }

    /// Zeroes one service and its servers, or everything.
    ///
    /// # Errors
    /// [`Error::NoSuchService`].
    pub fn zero(&mut self, key: Option<&ServiceKey>) -> Result<(), Error> {
        let indices: Vec<u32> = match key {
            Some(key) => vec![self.index_of(key).ok_or(Error::NoSuchService)?],
            None => self.by_key.values().copied().collect(),
        };
        for index in indices {
            counters::set_folded(&self.maps, index, Counters::default());
            let service = self.services[index as usize].as_mut().expect("indexed");
            service.rates = RateEstimator::default();
            for server in &service.servers {
                counters::zero_server(&self.maps, *server);
                let raw = counters::raw(&self.maps, *server);
                if let Some(server) = self.servers.get_mut(server) {
                    server.rates = RateEstimator::starting_at(raw);
                }
            }
        }
        self.totals = RateEstimator::starting_at(self.sum_of_services());
        Ok(())
    }

    /// Steps every rate estimator; to be called every two seconds.
    pub fn estimate(&mut self) {
        let sum = self.sum_of_services();
        self.totals.step(sum);
        for index in 0..self.services.len() as u32 {
            if self.services[index as usize].is_none() {
                continue;
            }
            let total = self.counters_of(index);
            let service = self.services[index as usize].as_mut().expect("checked");
            service.rates.step(total);
            for server in &service.servers {
                let raw = counters::raw(&self.maps, *server);
                self.servers
                    .get_mut(server)
                    .expect("listed")
                    .rates
                    .step(raw);
            }
        }
    }

    /// Removes lapsed connections, settles the counts of their servers, and frees servers nobody
    /// refers to any more; to be called every second.
    pub fn sweep(&mut self) -> Sweep {
        let done = self.sweep_connections();
        self.empty_trash();
        done
    }

    /// The part of [`Tables::sweep`] that may run while packets do.
    pub fn sweep_connections(&self) -> Sweep {
        sweep::sweep(&self.maps)
    }

    /// An interface appeared or changed.
    pub fn set_interface(&mut self, interface: &Interface) {
        if let Some((parent, _)) = interface.vlan {
            self.vlan_devices.insert(interface.index, parent);
            self.count_vlan_devices();
        }
        let sends = interface.vlan.map_or(interface.index, |(parent, _)| parent);
        let xdp = self.xdp.contains(&sends);
        if egress::set(&mut self.maps, interface, xdp) {
            self.advance_epoch();
        }
    }

    /// An interface is gone.
    pub fn remove_interface(&mut self, index: u32) {
        if self.vlan_devices.remove(&index).is_some() {
            self.count_vlan_devices();
        }
        if egress::remove(&mut self.maps, index) {
            self.advance_epoch();
        }
    }

    /// Whether XDP may send out of an interface: only where it runs natively itself. Elsewhere the
    /// driver may drop what it is handed, silently; TC sends in its place.
    pub fn set_xdp(&mut self, index: u32, native: bool) {
        if native {
            self.xdp.insert(index);
        } else {
            self.xdp.remove(&index);
        }
        egress::set_xdp(&self.maps, index, index, native);
        for (&vlan, _) in self
            .vlan_devices
            .iter()
            .filter(|&(_, &parent)| parent == index)
        {
            egress::set_xdp(&self.maps, vlan, index, native);
        }
    }

    /// A route, neighbour, address or link changed: cached next hops are looked up again.
    pub fn advance_epoch(&mut self) {
        // A large odd step: slots keep epochs mixed with their use count (`Tag::stamp`), and a stamp
        // of one epoch and use must not look like one of another.
        const STEP: u32 = 0x9e37_79b1;
        let at = self.maps.runtime.at(0).expect("one record");
        // SAFETY: the pointer is into the map; user space alone writes the epoch.
        unsafe {
            let epoch = &raw mut (*at).epoch;
            epoch.write_volatile(epoch.read_volatile().wrapping_add(STEP).max(1));
        }
    }

    /// Addresses of all real servers, without repetition: their next hops are to be kept resolved.
    pub fn server_addresses(&self) -> Vec<Ipv4Addr> {
        self.by_address.keys().copied().collect()
    }

    /// Whether some service has a real server at this address.
    pub fn has_server_at(&self, address: Ipv4Addr) -> bool {
        self.by_address.contains_key(&address)
    }

    /// Source address of tunnels towards `server`: what the route there prefers.
    pub fn set_tunnel_source(&mut self, server: Ipv4Addr, source: Ipv4Addr) {
        for &index in self.by_address.get(&server).into_iter().flatten() {
            self.with_server_record(index, |at| {
                let source = Be32::from_octets(source.octets());
                // SAFETY: the pointer is into the map.
                unsafe { (&raw mut (*at).tunnel_source).write_volatile(source) };
            });
        }
    }

    /// The neighbour towards `server` does not answer (or answers again); packets to it are a
    /// named drop while it does not.
    pub fn set_neighbour_dead(&mut self, server: Ipv4Addr, dead: bool) {
        for &index in self.by_address.get(&server).into_iter().flatten() {
            self.set_flag(index, SERVER_NEIGHBOUR_DEAD, dead);
        }
    }

    /// No route leads to `server`, or one does (again); connections to it are refused while none
    /// does.
    pub fn set_no_route(&mut self, server: Ipv4Addr, missing: bool) {
        let mut changed = false;
        for &index in self.by_address.get(&server).into_iter().flatten() {
            let old = self.maps.servers.read(index).map_or(0, |s| s.flags) & SERVER_NO_ROUTE != 0;
            changed |= old != missing;
            self.set_flag(index, SERVER_NO_ROUTE, missing);
        }
        if changed {
            self.advance_epoch();
        }
    }

    /// Packets dropped, by reason; with `all` also the reasons that never occurred.
    pub fn drops(&self, all: bool) -> Vec<DropCount> {
        Drop::ALL
            .iter()
            .map(|reason| DropCount {
                name: reason.name().into(),
                meaning: reason.meaning().into(),
                packets: counters::drops(&self.maps, *reason as u32),
            })
            .filter(|count| all || count.packets != 0)
            .collect()
    }

    /// Half-open or closing connections that gave their slot to a new one.
    pub fn evictions(&self) -> u64 {
        counters::drops(&self.maps, EVICTIONS)
    }

    /// Removes every connection.
    pub fn clear_connections(&mut self) {
        sweep::clear(&self.maps);
    }

    /// The tables themselves, for tests and benches.
    pub fn maps(&self) -> &Maps {
        &self.maps
    }

    /// TC leaves tagged frames to VLAN devices if there are any.
    fn count_vlan_devices(&self) {
        let at = self.maps.runtime.at(0).expect("one record");
        let count = self.vlan_devices.len() as u32;
        // SAFETY: the pointer is into the map.
        unsafe { (&raw mut (*at).vlan_devices).write_volatile(count) };
    }

    fn index_of(&self, key: &ServiceKey) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    fn service_mut(&mut self, index: u32) -> &mut Service {
        self.services[index as usize]
            .as_mut()
            .expect("indexed services exist")
    }

    fn find_server(&self, index: u32, key: &ServerKey) -> Option<u32> {
        let service = self.services[index as usize].as_ref()?;
        service
            .servers
            .iter()
            .copied()
            .find(|s| self.servers[s].spec.key == *key)
    }

    fn check_server(&self, index: u32, spec: &ServerSpec) -> Result<Ipv4Addr, Error> {
        let service = self.services[index as usize]
            .as_ref()
            .expect("indexed services exist");
        validate::server(&service.spec, spec)?;
        let missing = match spec.forwarding {
            Forwarding::Tunnel(Encapsulation::Gue { .. } | Encapsulation::Gre { .. }) => {
                Some("GUE and GRE tunnels")
            }
            _ if spec.upper_threshold != 0 || spec.lower_threshold != 0 => {
                Some("connection thresholds")
            }
            _ => None,
        };
        if let Some(what) = missing {
            return Err(Error::NotSupported(what.into()));
        }
        match spec.key.addr {
            IpAddr::V4(rip) => Ok(rip),
            IpAddr::V6(_) => Err(Error::NotSupported("IPv6 real servers".into())),
        }
    }

    /// Writes what an operator may change about a server.
    fn describe_server(&mut self, server: u32, spec: &ServerSpec) {
        self.with_server_record(server, |at| {
            // SAFETY: the pointer is into the map.
            unsafe {
                (&raw mut (*at).method).write_volatile(method(spec.forwarding));
                (&raw mut (*at).weight).write_volatile(spec.weight.get());
            }
        });
        self.set_flag(server, SERVER_AVAILABLE, true);
    }

    /// What is known of the way to an address holds for every server that has it.
    fn inherit(&self, rip: Ipv4Addr, server: u32) {
        let sibling = self
            .by_address
            .get(&rip)
            .and_then(|servers| servers.first());
        let Some(known) = sibling.and_then(|&sibling| self.maps.servers.read(sibling)) else {
            return;
        };
        for flag in [SERVER_NEIGHBOUR_DEAD, SERVER_NO_ROUTE] {
            self.set_flag(server, flag, known.flags & flag != 0);
        }
        self.with_server_record(server, |at| {
            // SAFETY: the pointer is into the map.
            unsafe { (&raw mut (*at).tunnel_source).write_volatile(known.tunnel_source) };
        });
    }

    fn set_flag(&self, server: u32, flag: u32, on: bool) {
        self.with_server_record(server, |at| {
            // SAFETY: the pointer is into the map; user space alone writes the flags.
            unsafe {
                let flags = &raw mut (*at).flags;
                let old = flags.read_volatile();
                flags.write_volatile(if on { old | flag } else { old & !flag });
            }
        });
    }

    fn with_server_record(&self, server: u32, change: impl FnOnce(*mut ServerRecord)) {
        change(
            self.maps
                .servers
                .at(server)
                .expect("given out below the limit"),
        );
    }

    fn with_service_record(&self, service: u32, change: impl FnOnce(*mut ServiceRecord)) {
        change(
            self.maps
                .services
                .at(service)
                .expect("given out below the limit"),
        );
    }

    fn take_order(&mut self) -> u32 {
        self.next_order += 1;
        self.next_order - 1
    }

    fn take_server(&mut self) -> Result<u32, Error> {
        if let Some(free) = self.free_servers.pop() {
            return Ok(free);
        }
        if self.next_server == MAX_SERVERS {
            return Err(Error::NoRoom(format!(
                "{MAX_SERVERS} real servers over all services"
            )));
        }
        self.next_server += 1;
        Ok(self.next_server - 1)
    }

    fn unlist(&mut self, index: u32, server: u32) {
        self.service_mut(index).servers.retain(|&s| s != server);
    }

    /// Into the trash, where it stays until no connection refers to it.
    fn discard(&mut self, server: u32) {
        self.set_flag(server, SERVER_AVAILABLE, false);
        let Some(Server { spec, service, .. }) = self.servers.remove(&server) else {
            return;
        };
        if let IpAddr::V4(rip) = spec.key.addr
            && let Some(indices) = self.by_address.get_mut(&rip)
        {
            indices.retain(|&s| s != server);
            if indices.is_empty() {
                self.by_address.remove(&rip);
            }
        }
        self.trash.insert((service, spec.key), server);
    }

    /// Frees servers in the trash that were idle for two minutes, as the kernel does.
    fn empty_trash(&mut self) {
        const IDLE_SECS: u32 = 120;
        let now = self.maps.now() / self.hz;
        let maps = &self.maps;
        let free_servers = &mut self.free_servers;
        self.trash.retain(|_, &mut server| {
            let at = maps.servers.at(server).expect("given out below the limit");
            // SAFETY: the pointer is into the map.
            unsafe {
                if atomic::load(&raw const (*at).active) != 0
                    || atomic::load(&raw const (*at).inactive) != 0
                {
                    (&raw mut (*at).idle_since).write_volatile(0);
                    return true;
                }
                let since = (&raw const (*at).idle_since).read_volatile();
                if since == 0 {
                    (&raw mut (*at).idle_since).write_volatile(now.max(1));
                    return true;
                }
                if now.wrapping_sub(since) < IDLE_SECS {
                    return true;
                }
                at.write_volatile(std::mem::zeroed());
            }
            free_servers.push(server);
            false
        });
    }

    /// Notes where the scheduler stands, before the list changes; `leaving` is about to be removed.
    fn keep_place(&mut self, index: u32, leaving: Option<u32>) {
        let candidates = self.candidates(index);
        let record = self
            .maps
            .services
            .read(index)
            .expect("given out below the limit");
        let service = self.service_mut(index);
        match service.spec.scheduler {
            Scheduler::Rr => {
                let eligible: Vec<u32> = candidates
                    .iter()
                    .filter(|c| c.weight > 0)
                    .map(|c| c.server)
                    .collect();
                if record.turn > record.first_turn && !eligible.is_empty() {
                    let last = ((record.turn - 1) % eligible.len() as u64) as usize;
                    service.place = Place::After(eligible[last]);
                }
                if let Some(leaving) = leaving
                    && service.place == Place::After(leaving)
                {
                    let at = service
                        .servers
                        .iter()
                        .position(|&s| s == leaving)
                        .unwrap_or(0);
                    service.place = match at {
                        0 => Place::Head,
                        _ => Place::After(service.servers[at - 1]),
                    };
                }
            }
            Scheduler::Wrr => {
                let begun = match service.place {
                    Place::Level(level) => level,
                    _ => 0,
                };
                let level = schedule::wrr_level(&candidates, record.first_turn, record.turn, begun);
                service.place = Place::Level(level);
            }
            Scheduler::Wlc | Scheduler::None => {}
        }
    }

    fn candidates(&self, index: u32) -> Vec<Candidate> {
        let service = self.services[index as usize]
            .as_ref()
            .expect("indexed services exist");
        let weight = |s: &u32| self.servers[s].spec.weight.get();
        service
            .servers
            .iter()
            .map(|s| Candidate {
                server: *s,
                weight: weight(s),
            })
            .collect()
    }

    /// Makes a service's scheduling table anew and puts it in place with one store.
    fn compile(&mut self, index: u32) -> Result<(), Error> {
        let candidates = self.candidates(index);
        let service = self.services[index as usize]
            .as_mut()
            .expect("indexed services exist");
        let scheduler = service.spec.scheduler;
        if scheduler == Scheduler::Wrr {
            let level = match service.place {
                Place::Level(level) => level,
                _ => 0,
            };
            service.place = Place::Level(schedule::wrr_entry_level(&candidates, level));
        }
        let compiled = schedule::compile(scheduler, &candidates, service.place)?;
        let block = self.arena.take(compiled.words.len())?;
        for (i, word) in compiled.words.iter().enumerate() {
            self.maps.schedules.write(block.offset + i as u32, *word);
        }
        let word = Schedule::new(block.offset, compiled.len, schedule::number(scheduler)).0;
        let at = self
            .maps
            .services
            .at(index)
            .expect("given out below the limit");
        // SAFETY: the pointer is into the map. Turns first: a packet between the stores takes a
        // turn of the old table at a new place, which is a turn like any other.
        unsafe {
            atomic::swap64(&raw mut (*at).first_turn, compiled.turn);
            atomic::swap64(&raw mut (*at).turn, compiled.turn);
            atomic::swap64(&raw mut (*at).schedule, word);
        }
        if let Some(old) = self.service_mut(index).block.replace(block) {
            self.arena.give(old);
        }
        Ok(())
    }

    fn view(&self, index: u32) -> ServiceView {
        let service = self.services[index as usize]
            .as_ref()
            .expect("indexed services exist");
        ServiceView {
            spec: service.spec.clone(),
            counters: self.counters_of(index),
            rates: service.rates.rates(),
            servers: service
                .servers
                .iter()
                .map(|&server| self.server_view(server))
                .collect(),
        }
    }

    fn server_view(&self, index: u32) -> ServerView {
        let server = &self.servers[&index];
        let record = self
            .maps
            .servers
            .read(index)
            .expect("given out below the limit");
        // A count another CPU is about to raise may read as just below zero.
        let count = |shared: u32| (shared as i32).max(0) as u32;
        ServerView {
            spec: server.spec,
            active: count(record.active),
            inactive: count(record.inactive),
            persistent: 0,
            counters: counters::of_server(&self.maps, index),
            rates: server.rates.rates(),
        }
    }

    /// A service counts what its servers count, and what removed ones left.
    fn counters_of(&self, index: u32) -> Counters {
        let service = self.services[index as usize]
            .as_ref()
            .expect("indexed services exist");
        service
            .servers
            .iter()
            .map(|&server| counters::of_server(&self.maps, server))
            .fold(counters::folded(&self.maps, index), Counters::plus)
    }

    fn sum_of_services(&self) -> Counters {
        self.by_key
            .values()
            .map(|&index| self.counters_of(index))
            .fold(Counters::default(), Counters::plus)
    }
}

fn service_id(key: &ServiceKey) -> Option<ServiceId> {
    match *key {
        ServiceKey::Address {
            protocol,
            addr: IpAddr::V4(vip),
            port,
        } => Some(ServiceId {
            vip: Be32::from_octets(vip.octets()),
            vport: Be16::new(port),
            proto: protocol.number(),
            zero: 0,
        }),
        _ => None,
    }
}

fn describe(record: &mut ServiceRecord, spec: &ServiceSpec) {
    record.flags = spec.sched_flags.bits();
    record.timeout_secs = spec.persistence.map_or(0, |p| p.timeout_secs.get());
    record.netmask = Be32::from_octets(spec.netmask.octets());
    record.sched = schedule::number(spec.scheduler).into();
}

fn method(forwarding: Forwarding) -> u8 {
    match forwarding {
        Forwarding::Masquerade => forward::NAT,
        Forwarding::Local => forward::LOCAL,
        Forwarding::Tunnel(_) => forward::TUNNEL,
        Forwarding::Route => forward::DIRECT,
    }
}

fn supported_service(spec: &ServiceSpec) -> Result<(), Error> {
    let missing = match spec.key {
        ServiceKey::Mark { .. } => Some("firewall-mark services"),
        ServiceKey::Address {
            addr: IpAddr::V6(_),
            ..
        } => Some("IPv6 services"),
        ServiceKey::Address {
            protocol: Protocol::Sctp,
            ..
        } => Some("SCTP services"),
        _ if spec.persistence.is_some() => Some("persistent services"),
        _ if spec.one_packet => Some("one-packet scheduling"),
        _ => None,
    };
    match missing {
        Some(what) => Err(Error::NotSupported(what.into())),
        None => Ok(()),
    }
}
