//! Reading services and servers back from tables that an earlier daemon left.

use std::net::Ipv4Addr;
use std::num::{NonZeroU16, NonZeroU32};

use pointsman_core::forward;
use pointsman_core::layout::{
    CLIENT_PROXY, CLIENT_TOA, ENGINE_SIP, MAX_SERVERS, MAX_SERVICES, SERVER_AVAILABLE, SERVER_IPV6,
    SERVER_PROBED, SERVICE_ONE_PACKET, Schedule, ServerRecord, ServiceRecord, TUNNEL_CSUM,
    TUNNEL_GRE, TUNNEL_GUE, TUNNEL_REMCSUM,
};
use pointsman_core::local::Pool;
use pointsman_core::sched;
use pointsman_model::{
    ClientAddress, Encapsulation, Family, Forwarding, Persistence, RateEstimator, SchedFlags,
    Scheduler, ServerKey, ServerSpec, ServiceSpec, TunnelChecksum, Weight, validate,
};

use super::arena::Block;
use super::locality::Upkeep;
use super::schedule::{self, Place};
use super::{Server, Service, Tables, address, counters, services};

impl Tables {
    /// Rebuilds the index from the tables. Counters go on, rates start from zero.
    pub(super) fn adopt(&mut self) {
        self.adopt_wide_locals();
        self.adopt_services();
        self.adopt_servers();
        for index in 0..self.services.len() as u32 {
            if let Some(service) = self.services[index as usize].as_mut() {
                // The scheduler's place is taken from its turns when the list next changes.
                service.place = match service.spec.scheduler {
                    Scheduler::Wrr => Place::Level(0),
                    _ => Place::Head,
                };
                let total = self.counters_of(index);
                let service = self.services[index as usize].as_mut().expect("just seen");
                service.rates = RateEstimator::starting_at(total);
            }
        }
        self.totals = RateEstimator::starting_at(self.sum());
    }

    fn adopt_services(&mut self) {
        for index in 0..MAX_SERVICES {
            let Some(record) = self.maps.services.read(index).filter(|r| r.in_use != 0) else {
                continue;
            };
            let Some(spec) = service_spec(&record) else {
                continue;
            };
            self.services
                .resize_with(self.services.len().max(index as usize + 1), || None);
            self.next_order = self.next_order.max(record.order + 1);
            let block = self.block_of(&record);
            if let Some(block) = block {
                self.arena.adopt(block);
            }
            let (local_addresses, local_block) = self.read_pool(Pool(record.locals));
            if let Some(block) = local_block {
                self.arena.adopt(block);
            }
            self.count_service(&spec);
            self.by_key.insert(spec.key, index);
            self.services[index as usize] = Some(Service {
                spec,
                servers: Vec::new(),
                local_addresses,
                local_block,
                place: Place::Head,
                block,
                upkeep: Upkeep::default(),
                rates: RateEstimator::default(),
            });
        }
        self.tell_kinds();
    }

    fn adopt_servers(&mut self) {
        let mut listed: Vec<(u32, u32, u32)> = Vec::new();
        for index in 0..MAX_SERVERS {
            let Some(record) = self.maps.servers.read(index).filter(|r| r.in_use != 0) else {
                continue;
            };
            self.free_servers.extend(self.next_server..index);
            self.next_server = index + 1;
            self.next_order = self.next_order.max(record.order + 1);
            let service = self
                .services
                .get(record.service as usize)
                .and_then(Option::as_ref);
            let spec = server_spec(&record);
            match service {
                // Whoever probes asks for it again.
                _ if record.flags & SERVER_PROBED != 0 => self.bury(index, spec.key),
                Some(service) if record.flags & SERVER_AVAILABLE != 0 => {
                    let raw = counters::raw(&self.maps, index);
                    let rates = RateEstimator::starting_at(raw);
                    let service = service.spec.key;
                    self.servers.insert(
                        index,
                        Server {
                            spec,
                            service,
                            rates,
                        },
                    );
                    self.by_address
                        .entry(spec.key.addr)
                        .or_default()
                        .push(index);
                    listed.push((record.order, record.service, index));
                }
                Some(service) => {
                    self.trash.insert((service.spec.key, spec.key), index);
                }
                // Its service is gone: nobody can revive it, but connections may refer to it.
                None => self.bury(index, spec.key),
            }
        }
        listed.sort_unstable_by(|a, b| b.cmp(a));
        for (_, service, server) in listed {
            self.services[service as usize]
                .as_mut()
                .expect("checked")
                .servers
                .push(server);
        }
    }

    /// The words a service's table takes.
    fn block_of(&self, record: &ServiceRecord) -> Option<Block> {
        let schedule = Schedule(record.schedule);
        if record.schedule == 0 {
            return None;
        }
        let word = |at| self.maps.schedules.read(schedule.offset() + at);
        let words = match schedule.sched() {
            _ if schedule.is_empty() => 0,
            sched::WRR => {
                let last = sched::wrr::Segment(word(schedule.len())?);
                last.list() + last.servers()
            }
            sched::DH | sched::SH | sched::MH => {
                sched::buckets::words(schedule.len(), word(0)? as u32)
            }
            _ => schedule.len(),
        };
        Some(Block {
            offset: schedule.offset(),
            len: words.max(1).next_power_of_two(),
        })
    }
}

fn service_spec(record: &ServiceRecord) -> Option<ServiceSpec> {
    let key = services::service_key(&record.id)?;
    let mut spec = ServiceSpec::new(key, schedule::of_number(record.sched as u8));
    spec.sched_flags = SchedFlags::from_bits_truncate(record.flags);
    spec.persistence =
        NonZeroU32::new(record.timeout_secs).map(|timeout_secs| Persistence { timeout_secs });
    match key.family() {
        Family::V4 => spec.netmask = Ipv4Addr::from(record.netmask.as_v4().octets()),
        Family::V6 => {
            let ones = record.netmask.0.map(u32::count_ones);
            spec.prefix_len = ones.iter().sum::<u32>() as u8;
        }
    }
    spec.one_packet = record.flags & SERVICE_ONE_PACKET != 0;
    if record.engine == ENGINE_SIP {
        spec.persistence_engine = Some(validate::SIP.to_owned());
    }
    spec.client_address = match record.client_address {
        CLIENT_TOA => ClientAddress::Toa,
        CLIENT_PROXY => ClientAddress::ProxyProtocol,
        _ => ClientAddress::Hidden,
    };
    Some(spec)
}

fn server_spec(record: &ServerRecord) -> ServerSpec {
    ServerSpec {
        key: ServerKey {
            addr: address::ip(record.rip, record.flags & SERVER_IPV6 != 0),
            port: record.rport.get(),
        },
        forwarding: match record.method {
            forward::NAT => Forwarding::Masquerade,
            forward::TUNNEL => Forwarding::Tunnel(encapsulation(record)),
            forward::LOCAL => Forwarding::Local,
            forward::FULLNAT => Forwarding::FullNat,
            _ => Forwarding::Route,
        },
        weight: Weight::new(record.weight).unwrap_or(Weight::QUIESCED),
        upper_threshold: record.upper_threshold,
        lower_threshold: record.lower_threshold,
    }
}

fn encapsulation(record: &ServerRecord) -> Encapsulation {
    let checksum = match record.tunnel_flags {
        TUNNEL_CSUM => TunnelChecksum::Full,
        TUNNEL_REMCSUM => TunnelChecksum::Remote,
        _ => TunnelChecksum::None,
    };
    match (
        record.tunnel_type,
        NonZeroU16::new(record.tunnel_port.get()),
    ) {
        (TUNNEL_GUE, Some(port)) => Encapsulation::Gue { port, checksum },
        (TUNNEL_GRE, _) => Encapsulation::Gre { checksum },
        _ => Encapsulation::Ipip,
    }
}
