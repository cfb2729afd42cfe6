//! Adding, changing and removing virtual services.

use pointsman_core::addr::{Address, Be16, Be32};
use pointsman_core::layout::{
    CLIENT_PROXY, CLIENT_TOA, ENGINE_SIP, ID_IPV4, ID_IPV6, ID_MARK4, ID_MARK6, ID_SERVER4,
    ID_SERVER6, MAX_SERVICES, SERVICE_ONE_PACKET, SERVICE_PERSISTENT, ServiceId, ServiceRecord,
};
use pointsman_model::{
    ClientAddress, Counters, Error, Family, Forwarding, Protocol, RateEstimator, ServerKey,
    ServiceKey, ServiceSpec, validate,
};

use super::locality::Upkeep;
use super::schedule::Place;
use super::{Service, Tables, address, counters, schedule};

/// Control port of FTP.
const FTP: u16 = 21;

impl Tables {
    /// Adds a service.
    ///
    /// # Errors
    /// As IPVS.
    pub fn add_service(&mut self, spec: &ServiceSpec) -> Result<(), Error> {
        if self.by_key.contains_key(&spec.key) {
            return Err(Error::ServiceExists);
        }
        validate::service(spec)?;
        // Among thousands, a gap is looked for only where there is one.
        let gaps = self.by_key.len() < self.services.len();
        let free = || self.services.iter().position(Option::is_none);
        let index = match gaps.then(free).flatten() {
            Some(free) => free,
            None if self.services.len() < MAX_SERVICES as usize => {
                self.services.push(None);
                self.services.len() - 1
            }
            None => return Err(Error::NoRoom(format!("{MAX_SERVICES} virtual services"))),
        };
        let index = index as u32;
        let id = service_id(&spec.key);
        // SAFETY: all bits zero is a valid record.
        let mut record: ServiceRecord = unsafe { std::mem::zeroed() };
        record.id = id;
        record.in_use = 1;
        record.order = self.take_order();
        describe(&mut record, spec);
        self.maps.services.write(index, record);
        self.publish(id, index)?;
        counters::set_folded(&self.maps, index, Counters::default());
        self.services[index as usize] = Some(Service {
            spec: spec.clone(),
            servers: Vec::new(),
            local_addresses: Vec::new(),
            local_block: None,
            place: Place::Head,
            block: None,
            upkeep: Upkeep::default(),
            rates: RateEstimator::default(),
        });
        self.by_key.insert(spec.key, index);
        self.count_service(spec);
        self.tell_kinds();
        Ok(())
    }

    /// Replaces a service's properties; what is omitted returns to its default.
    ///
    /// # Errors
    /// As IPVS.
    pub fn edit_service(&mut self, spec: &ServiceSpec) -> Result<(), Error> {
        let index = self.index_of(&spec.key).ok_or(Error::NoSuchService)?;
        validate::service(spec)?;
        let service = self.service_mut(index);
        let rescheduled = service.spec.scheduler != spec.scheduler;
        let old = std::mem::replace(&mut service.spec, spec.clone());
        if rescheduled {
            // The new scheduler begins without what the old one knew.
            let place = std::mem::take(&mut service.place);
            if let Err(error) = self.compile(index) {
                let service = self.service_mut(index);
                (service.spec, service.place) = (old, place);
                return Err(error);
            }
            self.forget_cache(index, old.scheduler);
        }
        if has_engine(&old) != has_engine(spec) {
            self.count_engine(&old, u32::wrapping_sub);
            self.count_engine(spec, u32::wrapping_add);
            self.tell_kinds();
            for server in self.service_mut(index).servers.clone() {
                let key = self.servers[&server].spec.key;
                self.publish_sender(server, &key, &spec.key);
            }
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
                    (&raw mut (*at).engine).write_volatile(record.engine);
                    (&raw mut (*at).client_address).write_volatile(record.client_address);
                }
            });
        }
        Ok(())
    }

    /// Removes a service and its servers; connections stay, as in IPVS, and their packets are
    /// dropped until the servers come back.
    ///
    /// # Errors
    /// [`Error::NoSuchService`].
    pub fn delete_service(&mut self, key: &ServiceKey) -> Result<(), Error> {
        let index = self.index_of(key).ok_or(Error::NoSuchService)?;
        let id = service_id(key);
        self.maps.service_ids.remove(&id);
        if let Some(any) = any_of_vip(id)
            && self.count_vip(any, u32::wrapping_sub) == 0
        {
            self.vips.remove(&any);
            self.maps.service_ids.remove(&any);
        }
        let counted = self.counters_of(index);
        self.leave_to_none(counted);
        let service = self.services[index as usize].take().expect("indexed");
        self.by_key.remove(key);
        self.count_kind(key, u32::wrapping_sub);
        self.count_engine(&service.spec, u32::wrapping_sub);
        self.tell_kinds();
        for &server in &service.servers {
            self.discard(server);
        }
        self.drop_probed_of(key);
        for block in [service.block, service.local_block].into_iter().flatten() {
            self.arena.give(block);
        }
        self.forget_cache(index, service.spec.scheduler);
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

    pub(super) fn with_service_record(
        &self,
        service: u32,
        change: impl FnOnce(*mut ServiceRecord),
    ) {
        change(
            self.maps
                .services
                .at(service)
                .expect("given out below the limit"),
        );
    }

    /// Makes a service known to packets, by its own identity and by its VIP alone.
    fn publish(&mut self, id: ServiceId, index: u32) -> Result<(), Error> {
        let ids = &mut self.maps.service_ids;
        let mut published = ids.insert(id, index);
        if let (Ok(()), Some(any)) = (&published, any_of_vip(id)) {
            published = ids.insert(any, index);
        }
        published.map_err(|reason| {
            ids.remove(&id);
            self.maps
                .services
                // SAFETY: all bits zero is a valid record: not in use.
                .write(index, unsafe { std::mem::zeroed() });
            Error::NoRoom(reason)
        })
    }

    /// Makes a real server's address and port known to packets it sends, if it is one by NAT; of several
    /// with the same, one whose service has a persistence engine, else the oldest. Whatever was known
    /// of the address and port is replaced. To be called when that of `server` changed.
    pub(super) fn publish_sender(&mut self, server: u32, key: &ServerKey, service: &ServiceKey) {
        let id = sender_id(key, service);
        let rank = |server: u32| {
            // Those that are there for probes only send nothing by themselves.
            let known = self.servers.get(&server)?;
            let sends = known.spec.forwarding == Forwarding::Masquerade
                && sender_id(&known.spec.key, &known.service) == id;
            let index = self.by_key.get(&known.service);
            let service = index.and_then(|&index| self.services[index as usize].as_ref());
            let engine = service.is_some_and(|s| has_engine(&s.spec));
            sends.then_some((engine, u32::MAX - server))
        };
        let published = self.maps.service_ids.get(&id);
        let stays = |other: u32| other != server && rank(other).is_some();
        // All are looked at only when the best one changed: thousands of services may share a server.
        let alike = if published.is_none_or(stays) {
            published.into_iter().chain([server]).collect()
        } else {
            self.by_address.get(&key.addr).cloned().unwrap_or_default()
        };
        let best = alike.into_iter().filter_map(|s| Some((rank(s)?, s))).max();
        match best {
            // There is room for all.
            Some((_, server)) => drop(self.maps.service_ids.insert(id, server)),
            None => self.maps.service_ids.remove(&id),
        }
    }

    /// Takes note of a service that is new here.
    pub(super) fn count_service(&mut self, spec: &ServiceSpec) {
        if let Some(any) = any_of_vip(service_id(&spec.key)) {
            self.count_vip(any, u32::wrapping_add);
        }
        self.count_kind(&spec.key, u32::wrapping_add);
        self.count_engine(spec, u32::wrapping_add);
    }

    fn count_engine(&mut self, spec: &ServiceSpec, change: fn(u32, u32) -> u32) {
        if has_engine(spec) {
            self.kinds.engines = change(self.kinds.engines, 1);
        }
    }

    /// Services that use a VIP, after one more or one less.
    fn count_vip(&mut self, any: ServiceId, change: fn(u32, u32) -> u32) -> u32 {
        let count = self.vips.entry(any).or_insert(0);
        *count = change(*count, 1);
        *count
    }

    fn count_kind(&mut self, key: &ServiceKey, change: fn(u32, u32) -> u32) {
        let count = match key {
            ServiceKey::Mark { .. } => &mut self.kinds.marks,
            ServiceKey::Address { port: 0, .. } => &mut self.kinds.any_port,
            ServiceKey::Address { port: FTP, .. } => &mut self.kinds.ftp,
            ServiceKey::Address { .. } => return,
        };
        *count = change(*count, 1);
    }

    /// Tells packets which kinds of services there are to look for.
    pub(super) fn tell_kinds(&self) {
        let at = self.maps.runtime.at(0).expect("one record");
        // SAFETY: the pointer is into the map; user space alone writes these.
        unsafe {
            (&raw mut (*at).mark_services).write_volatile(self.kinds.marks);
            (&raw mut (*at).any_port_services).write_volatile(self.kinds.any_port);
            (&raw mut (*at).ftp_services).write_volatile(self.kinds.ftp);
            (&raw mut (*at).engine_services).write_volatile(self.kinds.engines);
        }
    }
}

/// Whether a persistence engine works for a service: only a persistent one's does.
pub(super) fn has_engine(spec: &ServiceSpec) -> bool {
    spec.persistence_engine.is_some() && spec.persistence.is_some()
}

/// What packets look a service up by.
fn service_id(key: &ServiceKey) -> ServiceId {
    match *key {
        ServiceKey::Address {
            protocol,
            addr,
            port,
        } => ServiceId {
            vip: address::shared(addr),
            vport: Be16::new(port),
            proto: protocol.number(),
            kind: if addr.is_ipv4() { ID_IPV4 } else { ID_IPV6 },
        },
        ServiceKey::Mark { mark, family } => ServiceId {
            vip: Address([mark, 0, 0, 0]),
            vport: Be16::new(0),
            proto: 0,
            kind: match family {
                Family::V4 => ID_MARK4,
                Family::V6 => ID_MARK6,
            },
        },
    }
}

/// What packets of a real server look it up by.
pub(super) fn sender_id(server: &ServerKey, service: &ServiceKey) -> ServiceId {
    ServiceId {
        vip: address::shared(server.addr),
        vport: Be16::new(server.port),
        proto: match service {
            ServiceKey::Address { protocol, .. } => protocol.number(),
            ServiceKey::Mark { .. } => 0,
        },
        kind: if server.addr.is_ipv4() {
            ID_SERVER4
        } else {
            ID_SERVER6
        },
    }
}

/// The key of an identity, reading back what [`service_id`] made.
pub(super) fn service_key(id: &ServiceId) -> Option<ServiceKey> {
    let mark = |family| ServiceKey::Mark {
        mark: id.vip.0[0],
        family,
    };
    Some(match id.kind {
        ID_MARK4 => mark(Family::V4),
        ID_MARK6 => mark(Family::V6),
        kind => ServiceKey::Address {
            protocol: Protocol::from_number(id.proto)?,
            addr: address::ip(id.vip, kind == ID_IPV6),
            port: id.vport.get(),
        },
    })
}

/// What says that some service uses a VIP: no service has protocol 0 and an address. `None` for marks,
/// which have no VIP.
fn any_of_vip(id: ServiceId) -> Option<ServiceId> {
    matches!(id.kind, ID_IPV4 | ID_IPV6).then_some(ServiceId {
        vport: Be16::new(0),
        proto: 0,
        ..id
    })
}

fn describe(record: &mut ServiceRecord, spec: &ServiceSpec) {
    record.flags = spec.sched_flags.bits();
    if spec.persistence.is_some() {
        record.flags |= SERVICE_PERSISTENT;
    }
    if spec.one_packet {
        record.flags |= SERVICE_ONE_PACKET;
    }
    record.timeout_secs = spec.persistence.map_or(0, |p| p.timeout_secs.get());
    record.netmask = match spec.key.family() {
        Family::V4 => Address::v4(Be32::from_octets(spec.netmask.octets())),
        Family::V6 => prefix_mask(spec.prefix_len),
    };
    record.sched = schedule::number(spec.scheduler).into();
    record.engine = match spec.persistence_engine {
        Some(_) => ENGINE_SIP,
        None => 0,
    };
    record.client_address = match spec.client_address {
        ClientAddress::Hidden => 0,
        ClientAddress::Toa => CLIENT_TOA,
        ClientAddress::ProxyProtocol => CLIENT_PROXY,
    };
}

/// The mask of an IPv6 prefix.
pub(super) fn prefix_mask(len: u8) -> Address {
    let bits = match len {
        0 => 0,
        len => u128::MAX << (128 - u32::from(len.min(128))),
    };
    Address::v6(bits.to_be_bytes())
}
