//! Adding, changing and removing real servers, and what is known of the way to them.
//!
//! A removed server goes to the trash and keeps its index until no connection refers to it.

use std::net::IpAddr;

use pointsman_core::addr::Be16;
use pointsman_core::atomic;
use pointsman_core::forward;
use pointsman_core::host::Tables as _;
use pointsman_core::layout::{
    ID_REAL4, ID_REAL6, MAX_SERVERS, SERVER_AVAILABLE, SERVER_IPV6, SERVER_NEIGHBOUR_DEAD,
    SERVER_NO_ROUTE, ServerRecord, ServiceId, TUNNEL_CSUM, TUNNEL_GRE, TUNNEL_GUE, TUNNEL_IPIP,
    TUNNEL_REMCSUM,
};
use pointsman_core::overload;
use pointsman_model::{
    Encapsulation, Error, Forwarding, RateEstimator, ServerKey, ServerSpec, ServiceKey,
    TunnelChecksum, Weight, validate,
};

use super::{Server, Tables, address, counters};

impl Tables {
    /// Adds a real server at the head of its service's list.
    ///
    /// # Errors
    /// As IPVS; [`Error::NotSupported`] for what is not there yet.
    pub fn add_server(&mut self, key: &ServiceKey, spec: &ServerSpec) -> Result<(), Error> {
        let index = self.index_of(key).ok_or(Error::NoSuchService)?;
        self.check_server(index, spec)?;
        if self.find_server(index, &spec.key).is_some() {
            return Err(Error::DestinationExists);
        }
        let revived = self.trash.remove(&(*key, spec.key));
        let server = match revived {
            Some(server) => server,
            None => self.take_server()?,
        };
        // What it counted counts on, unless its service is another one of the same name.
        let counts_on = revived.is_some() && self.is_older(index, server);
        let order = self.take_order();
        if revived.is_none() {
            self.maps.servers.write(server, record(key, &spec.key));
        }
        self.with_server_record(server, |at| {
            // SAFETY: the pointer is into the map.
            unsafe {
                (&raw mut (*at).service).write_volatile(index);
                (&raw mut (*at).order).write_volatile(order);
                (&raw mut (*at).idle_since).write_volatile(0);
                (&raw mut (*at).last_weight).write_volatile(0);
            }
        });
        self.describe_server(server, spec);
        let raw = counters::raw(&self.maps, server);
        if !counts_on {
            counters::set_zero(&self.maps, server, raw);
        }
        self.servers.insert(
            server,
            Server {
                spec: *spec,
                service: *key,
                rates: RateEstimator::starting_at(raw),
            },
        );
        self.inherit(spec.key.addr, server);
        self.place_at(spec.key.addr, server);
        self.publish_sender(server, &spec.key, key);
        self.keep_place(index, None);
        self.service_mut(index).servers.insert(0, server);
        let added = self.compile(index);
        if added.is_err() {
            self.unlist(index, server);
            self.discard(server);
            return added;
        }
        if counts_on {
            let own = counters::of_server(&self.maps, server);
            let folded = counters::folded(&self.maps, index).since(own);
            counters::set_folded(&self.maps, index, folded);
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
        let known = &mut self.servers.get_mut(&server).expect("listed").spec;
        let old = std::mem::replace(known, *spec);
        self.describe_server(server, spec);
        let edited = self.compile(index);
        if edited.is_err() {
            self.servers.get_mut(&server).expect("listed").spec = old;
            self.describe_server(server, &old);
            return edited;
        }
        self.publish_sender(server, &spec.key, key);
        if old.forwarding != spec.forwarding {
            // Another tunnel takes another number of bytes.
            self.advance_epoch();
        }
        edited
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

    /// Addresses of all real servers, without repetition: their next hops are to be kept resolved.
    pub fn server_addresses(&self) -> Vec<IpAddr> {
        self.by_address.keys().copied().collect()
    }

    /// Whether some service has a real server at this address.
    pub fn has_server_at(&self, address: IpAddr) -> bool {
        self.by_address.contains_key(&address)
    }

    /// Source address of tunnels towards `server`: what the route there prefers.
    pub fn set_tunnel_source(&mut self, server: IpAddr, source: IpAddr) {
        for &index in self.by_address.get(&server).into_iter().flatten() {
            self.with_server_record(index, |at| {
                let source = address::shared(source);
                // SAFETY: the pointer is into the map.
                unsafe { (&raw mut (*at).tunnel_source).write_volatile(source) };
            });
        }
    }

    /// The neighbour towards `server` does not answer (or answers again); packets to it are a
    /// named drop while it does not.
    pub fn set_neighbour_dead(&mut self, server: IpAddr, dead: bool) {
        for &index in self.by_address.get(&server).into_iter().flatten() {
            self.set_flag(index, SERVER_NEIGHBOUR_DEAD, dead);
        }
    }

    /// No route leads to `server`, or one does (again); connections to it are refused while none
    /// does.
    pub fn set_no_route(&mut self, server: IpAddr, missing: bool) {
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

    pub(super) fn find_server(&self, index: u32, key: &ServerKey) -> Option<u32> {
        let service = self.services[index as usize].as_ref()?;
        service
            .servers
            .iter()
            .copied()
            .find(|s| self.servers[s].spec.key == *key)
    }

    pub(super) fn check_server(&self, index: u32, spec: &ServerSpec) -> Result<(), Error> {
        let service = self.services[index as usize]
            .as_ref()
            .expect("indexed services exist");
        validate::server(&service.spec, spec)
    }

    /// Writes what an operator may change about a server.
    pub(super) fn describe_server(&mut self, server: u32, spec: &ServerSpec) {
        let (kind, port, flags) = tunnel(spec.forwarding);
        self.with_server_record(server, |at| {
            // SAFETY: the pointer is into the map.
            unsafe {
                (&raw mut (*at).method).write_volatile(method(spec.forwarding));
                (&raw mut (*at).tunnel_type).write_volatile(kind);
                (&raw mut (*at).tunnel_port).write_volatile(Be16::new(port));
                (&raw mut (*at).tunnel_flags).write_volatile(flags);
                (&raw mut (*at).weight).write_volatile(spec.weight.get());
                if spec.weight != Weight::QUIESCED {
                    (&raw mut (*at).last_weight).write_volatile(spec.weight.get());
                }
                (&raw mut (*at).upper_threshold).write_volatile(spec.upper_threshold);
                (&raw mut (*at).lower_threshold).write_volatile(spec.lower_threshold);
            }
            // SAFETY: `at` is its record.
            unsafe { overload::update(&self.maps, server, at) };
        });
        self.set_flag(server, SERVER_AVAILABLE, true);
    }

    /// What is known of the way to an address holds for every server that has it.
    pub(super) fn inherit(&self, rip: IpAddr, server: u32) {
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

    pub(super) fn set_flag(&self, server: u32, flag: u32, on: bool) {
        self.with_server_record(server, |at| {
            // SAFETY: the pointer is into the map. The programs change flags too.
            unsafe {
                let flags = &raw mut (*at).flags;
                loop {
                    let old = atomic::load(flags);
                    let new = if on { old | flag } else { old & !flag };
                    if atomic::cas32(flags, old, new) == old {
                        break;
                    }
                }
            }
        });
    }

    pub(super) fn with_server_record(&self, server: u32, change: impl FnOnce(*mut ServerRecord)) {
        change(
            self.maps
                .servers
                .at(server)
                .expect("given out below the limit"),
        );
    }

    pub(super) fn take_server(&mut self) -> Result<u32, Error> {
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

    /// Whether a service was there before a server was added to it.
    fn is_older(&self, index: u32, server: u32) -> bool {
        let service = self.maps.services.read(index).map(|s| s.order);
        let server = self.maps.servers.read(server).map(|s| s.order);
        service < server
    }

    pub(super) fn unlist(&mut self, index: u32, server: u32) {
        self.service_mut(index).servers.retain(|&s| s != server);
    }

    /// Into the trash, where it stays until no connection refers to it.
    pub(super) fn discard(&mut self, server: u32) {
        self.set_flag(server, SERVER_AVAILABLE, false);
        self.nodest_due |= self.expires_nodest();
        let Some(Server { spec, service, .. }) = self.servers.remove(&server) else {
            return;
        };
        self.take_from(spec.key.addr, server);
        self.publish_sender(server, &spec.key, &service);
        self.trash.insert((service, spec.key), server);
    }

    /// A server has this address from now on.
    pub(super) fn place_at(&mut self, address: IpAddr, server: u32) {
        self.by_address.entry(address).or_default().push(server);
        // Without room only fragments of replies that come out of order would miss it.
        let _ = self.maps.service_ids.insert(real_id(address), server);
    }

    /// A server has this address no more.
    pub(super) fn take_from(&mut self, address: IpAddr, server: u32) {
        if let Some(indices) = self.by_address.get_mut(&address) {
            indices.retain(|&s| s != server);
            if indices.is_empty() {
                self.by_address.remove(&address);
                self.maps.service_ids.remove(&real_id(address));
            }
        }
    }

    /// Frees servers in the trash that were idle for two minutes, as the kernel does.
    pub(super) fn empty_trash(&mut self) {
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
                    || atomic::load(&raw const (*at).persistent) != 0
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
}

/// The record of a server that is new to a service, with what never changes of it.
pub(super) fn record(service: &ServiceKey, server: &ServerKey) -> ServerRecord {
    // SAFETY: all bits zero is a valid record.
    let mut record: ServerRecord = unsafe { std::mem::zeroed() };
    record.rip = address::shared(server.addr);
    record.rport = Be16::new(server.port);
    if let ServiceKey::Address { addr, .. } = *service {
        record.vip = address::shared(addr);
    }
    if server.addr.is_ipv6() {
        record.flags = SERVER_IPV6;
    }
    record.in_use = 1;
    record
}

/// What says that some real server has an address.
fn real_id(addr: IpAddr) -> ServiceId {
    ServiceId {
        vip: address::shared(addr),
        vport: Be16::new(0),
        proto: 0,
        kind: if addr.is_ipv4() { ID_REAL4 } else { ID_REAL6 },
    }
}

fn method(forwarding: Forwarding) -> u8 {
    match forwarding {
        Forwarding::Masquerade => forward::NAT,
        Forwarding::Local => forward::LOCAL,
        Forwarding::FullNat => forward::FULLNAT,
        Forwarding::Tunnel(_) => forward::TUNNEL,
        Forwarding::Route => forward::DIRECT,
    }
}

/// Type, port and flags of a tunnel; zeros for every other method.
fn tunnel(forwarding: Forwarding) -> (u8, u16, u8) {
    match forwarding {
        Forwarding::Tunnel(Encapsulation::Gue { port, checksum }) => {
            (TUNNEL_GUE, port.get(), tunnel_flags(checksum))
        }
        Forwarding::Tunnel(Encapsulation::Gre { checksum }) => {
            (TUNNEL_GRE, 0, tunnel_flags(checksum))
        }
        _ => (TUNNEL_IPIP, 0, 0),
    }
}

fn tunnel_flags(checksum: TunnelChecksum) -> u8 {
    match checksum {
        TunnelChecksum::None => 0,
        TunnelChecksum::Full => TUNNEL_CSUM,
        TunnelChecksum::Remote => TUNNEL_REMCSUM,
    }
}
