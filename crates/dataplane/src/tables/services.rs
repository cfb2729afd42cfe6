//! Adding, changing and removing virtual services.

use std::net::IpAddr;

use pointsman_core::addr::{Address, Be16, Be32};
use pointsman_core::layout::{ID_IPV4, MAX_SERVICES, ServiceId, ServiceRecord};
use pointsman_model::{
    Counters, Error, Protocol, RateEstimator, ServiceKey, ServiceSpec, validate,
};

use super::locality::Upkeep;
use super::schedule::Place;
use super::{Service, Tables, counters, schedule};

impl Tables {
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
            upkeep: Upkeep::default(),
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
        Ok(())
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
}

fn service_id(key: &ServiceKey) -> Option<ServiceId> {
    match *key {
        ServiceKey::Address {
            protocol,
            addr: IpAddr::V4(vip),
            port,
        } => Some(ServiceId {
            vip: Address::v4(Be32::from_octets(vip.octets())),
            vport: Be16::new(port),
            proto: protocol.number(),
            kind: ID_IPV4,
        }),
        _ => None,
    }
}

fn describe(record: &mut ServiceRecord, spec: &ServiceSpec) {
    record.flags = spec.sched_flags.bits();
    record.timeout_secs = spec.persistence.map_or(0, |p| p.timeout_secs.get());
    record.netmask = Address::v4(Be32::from_octets(spec.netmask.octets()));
    record.sched = schedule::number(spec.scheduler).into();
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
