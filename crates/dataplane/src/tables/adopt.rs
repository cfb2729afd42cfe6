//! Reading services and servers back from tables that an earlier daemon left.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;

use pointsman_core::forward;
use pointsman_core::layout::{
    MAX_SERVERS, MAX_SERVICES, SERVER_AVAILABLE, Schedule, ServerRecord, ServiceRecord,
};
use pointsman_core::sched;
use pointsman_model::{
    Encapsulation, Forwarding, Persistence, Protocol, RateEstimator, SchedFlags, Scheduler,
    ServerKey, ServerSpec, ServiceKey, ServiceSpec, Weight,
};

use super::arena::Block;
use super::locality::Upkeep;
use super::schedule::{self, Place};
use super::{Server, Service, Tables, counters};

impl Tables {
    /// Rebuilds the index from the tables. Counters go on, rates start from zero.
    pub(super) fn adopt(&mut self) {
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
        self.totals = RateEstimator::starting_at(self.sum_of_services());
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
            self.by_key.insert(spec.key, index);
            self.services[index as usize] = Some(Service {
                spec,
                servers: Vec::new(),
                place: Place::Head,
                block,
                upkeep: Upkeep::default(),
                rates: RateEstimator::default(),
            });
        }
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
                    if let IpAddr::V4(rip) = spec.key.addr {
                        self.by_address.entry(rip).or_default().push(index);
                    }
                    listed.push((record.order, record.service, index));
                }
                Some(service) => {
                    self.trash.insert((service.spec.key, spec.key), index);
                }
                // Its service is gone: nobody can revive it, but connections may refer to it.
                None => {
                    let key = ServiceKey::Mark {
                        mark: u32::MAX - index,
                        family: pointsman_model::Family::V4,
                    };
                    self.trash.insert((key, spec.key), index);
                }
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
    let key = ServiceKey::Address {
        protocol: Protocol::from_number(record.id.proto)?,
        addr: IpAddr::V4(Ipv4Addr::from(record.id.vip.as_v4().octets())),
        port: record.id.vport.get(),
    };
    let mut spec = ServiceSpec::new(key, schedule::of_number(record.sched as u8));
    spec.sched_flags = SchedFlags::from_bits_truncate(record.flags);
    spec.persistence =
        NonZeroU32::new(record.timeout_secs).map(|timeout_secs| Persistence { timeout_secs });
    spec.netmask = Ipv4Addr::from(record.netmask.as_v4().octets());
    Some(spec)
}

fn server_spec(record: &ServerRecord) -> ServerSpec {
    ServerSpec {
        key: ServerKey {
            addr: IpAddr::V4(Ipv4Addr::from(record.rip.as_v4().octets())),
            port: record.rport.get(),
        },
        forwarding: match record.method {
            forward::NAT => Forwarding::Masquerade,
            forward::TUNNEL => Forwarding::Tunnel(Encapsulation::Ipip),
            forward::LOCAL => Forwarding::Local,
            _ => Forwarding::Route,
        },
        weight: Weight::new(record.weight).unwrap_or(Weight::QUIESCED),
        upper_threshold: record.upper_threshold,
        lower_threshold: record.lower_threshold,
    }
}
