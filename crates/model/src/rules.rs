use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::{Change, Error, ServerSpec, ServiceKey, ServiceSpec, ServiceView, Timeouts, validate};

/// Everything an operator told a director: services with their servers, and timeouts.
///
/// It takes a [`Change`] as the kernel's IPVS does, and tells which changes lead from one set of
/// rules to another. So a list of changes can be rehearsed before a packet sees any of them.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// By the order in which they were added.
    services: BTreeMap<u64, ServiceRules>,
    places: HashMap<ServiceKey, u64>,
    timeouts: Timeouts,
}

/// A service and its servers.
#[derive(Clone, Debug, PartialEq)]
struct ServiceRules {
    spec: ServiceSpec,
    /// In the order in which they were added: schedulers walk them backwards.
    servers: Vec<ServerSpec>,
    local_addresses: Vec<IpAddr>,
}

impl Rules {
    /// The rules of services as they stand.
    pub fn of(services: &[ServiceView], timeouts: Timeouts) -> Self {
        let mut rules = Self {
            timeouts,
            ..Self::default()
        };
        for service in services {
            rules.insert(ServiceRules {
                spec: service.spec.clone(),
                servers: service.servers.iter().rev().map(|s| s.spec).collect(),
                local_addresses: service.local_addresses.clone(),
            });
        }
        rules
    }

    /// Makes one change.
    ///
    /// # Errors
    /// As the kernel's IPVS, and nothing is changed. [`Error::Invalid`] for what is
    /// about none of these.
    pub fn apply(&mut self, change: &Change) -> Result<(), Error> {
        match change {
            Change::AddService(spec) => {
                validate::service(spec)?;
                if self.places.contains_key(&spec.key) {
                    return Err(Error::ServiceExists);
                }
                self.insert(ServiceRules {
                    spec: spec.clone(),
                    servers: Vec::new(),
                    local_addresses: Vec::new(),
                });
            }
            Change::EditService(spec) => {
                let service = self.find(&spec.key)?;
                validate::service(spec)?;
                service.spec = spec.clone();
            }
            Change::DeleteService(key) => {
                let place = self.places.remove(key).ok_or(Error::NoSuchService)?;
                self.services.remove(&place);
            }
            Change::Flush => {
                self.places.clear();
                self.services.clear();
            }
            Change::AddServer { service, server } => {
                let service = self.find(service)?;
                validate::server(&service.spec, server)?;
                if service.servers.iter().any(|s| s.key == server.key) {
                    return Err(Error::DestinationExists);
                }
                service.servers.push(*server);
            }
            Change::EditServer { service, server } => {
                let service = self.find(service)?;
                validate::server(&service.spec, server)?;
                let found = service.servers.iter_mut().find(|s| s.key == server.key);
                *found.ok_or(Error::NoSuchDestination)? = *server;
            }
            Change::DeleteServer { service, server } => {
                let servers = &mut self.find(service)?.servers;
                let at = servers.iter().position(|s| s.key == *server);
                servers.remove(at.ok_or(Error::NoSuchDestination)?);
            }
            Change::AddLocalAddress { service, address } => {
                let addresses = &mut self.find(service)?.local_addresses;
                validate::local_address(addresses, *address)?;
                addresses.push(*address);
            }
            Change::DeleteLocalAddress { service, address } => {
                let addresses = &mut self.find(service)?.local_addresses;
                let at = addresses.iter().position(|a| a == address);
                addresses.remove(at.ok_or(Error::NoSuchAddress)?);
            }
            Change::SetTimeouts(change) => self.timeouts = self.timeouts.with(*change),
            Change::Zero { .. }
            | Change::StartDaemon(_)
            | Change::StopDaemon(_)
            | Change::AddMarkRule { .. }
            | Change::DeleteMarkRule { .. }
            | Change::SetMarkRules(_)
            | Change::SetVariable { .. } => {
                return Err(Error::Invalid(
                    "only services, servers and timeouts can be part of a transaction".into(),
                ));
            }
        }
        Ok(())
    }

    /// The fewest changes that lead from these rules to others: what is the same stays untouched.
    /// What may be refused comes first, what is removed last.
    pub fn changes_to(&self, target: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for new in target.services.values() {
            let key = new.spec.key;
            let (old, local) = match self.places.get(&key) {
                Some(place) => {
                    let old = &self.services[place];
                    if old.spec != new.spec {
                        changes.push(Change::EditService(new.spec.clone()));
                    }
                    (&old.servers[..], &old.local_addresses[..])
                }
                None => {
                    changes.push(Change::AddService(new.spec.clone()));
                    (&[][..], &[][..])
                }
            };
            // New servers find their addresses there; old ones keep theirs until they go.
            address_changes(key, local, &new.local_addresses, &mut changes);
            server_changes(key, old, &new.servers, &mut changes);
        }
        let gone = |s: &&ServiceRules| !target.places.contains_key(&s.spec.key);
        changes.extend(
            self.services
                .values()
                .filter(gone)
                .map(|s| Change::DeleteService(s.spec.key)),
        );
        if self.timeouts != target.timeouts {
            changes.push(Change::SetTimeouts(target.timeouts));
        }
        changes
    }

    fn insert(&mut self, service: ServiceRules) {
        let place = self
            .services
            .last_key_value()
            .map_or(0, |(last, _)| last + 1);
        self.places.insert(service.spec.key, place);
        self.services.insert(place, service);
    }

    fn find(&mut self, key: &ServiceKey) -> Result<&mut ServiceRules, Error> {
        let place = self.places.get(key).ok_or(Error::NoSuchService)?;
        Ok(self
            .services
            .get_mut(place)
            .expect("places lead to services"))
    }
}

/// From one pool of local addresses to another. Their order has no meaning: those that stay, stay.
fn address_changes(service: ServiceKey, old: &[IpAddr], new: &[IpAddr], changes: &mut Vec<Change>) {
    let only_in = |one: &[IpAddr], other: &[IpAddr]| -> Vec<IpAddr> {
        one.iter().filter(|a| !other.contains(a)).copied().collect()
    };
    let added = only_in(new, old).into_iter();
    changes.extend(added.map(|address| Change::AddLocalAddress { service, address }));
    let gone = only_in(old, new).into_iter();
    changes.extend(gone.map(|address| Change::DeleteLocalAddress { service, address }));
}

/// From one list of servers to another. Schedulers choose by the order of the list, and a server
/// can only be added at its end: servers stay as far as the old list begins like the new one, once
/// what has to go is gone; the others are added, those that stood elsewhere after being removed.
fn server_changes(
    service: ServiceKey,
    old: &[ServerSpec],
    new: &[ServerSpec],
    changes: &mut Vec<Change>,
) {
    let mut rest = old.iter();
    let kept = new
        .iter()
        .take_while(|new| rest.any(|old| old.key == new.key))
        .count();
    let (kept, added) = new.split_at(kept);
    let stays: HashMap<_, _> = kept.iter().map(|s| (s.key, s)).collect();
    for server in old {
        match stays.get(&server.key) {
            None => changes.push(Change::DeleteServer {
                service,
                server: server.key,
            }),
            Some(&wanted) if wanted != server => changes.push(Change::EditServer {
                service,
                server: *wanted,
            }),
            Some(_) => {}
        }
    }
    changes.extend(
        added
            .iter()
            .map(|&server| Change::AddServer { service, server }),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Forwarding, Protocol, Scheduler, ServerKey, Weight};

    fn key(port: u16) -> ServiceKey {
        ServiceKey::Address {
            protocol: Protocol::Tcp,
            addr: [192, 0, 2, 1].into(),
            port,
        }
    }

    fn service(port: u16) -> ServiceSpec {
        ServiceSpec::new(key(port), Scheduler::Rr)
    }

    fn server(last: u8, weight: u32) -> ServerSpec {
        ServerSpec {
            key: ServerKey {
                addr: [10, 0, 0, last].into(),
                port: 80,
            },
            forwarding: Forwarding::Masquerade,
            weight: Weight::new(weight).unwrap(),
            upper_threshold: 0,
            lower_threshold: 0,
        }
    }

    /// A service on port 80 with these servers, the number being address and weight.
    fn rules(servers: &[u8]) -> Rules {
        let mut rules = Rules::default();
        rules.apply(&Change::AddService(service(80))).unwrap();
        for &n in servers {
            let server = server(n, n.into());
            let add = Change::AddServer {
                service: key(80),
                server,
            };
            rules.apply(&add).unwrap();
        }
        rules
    }

    fn held(rules: &Rules) -> Vec<ServiceRules> {
        rules.services.values().cloned().collect()
    }

    #[test]
    fn changes_are_taken_and_refused_as_in_the_kernel() {
        let mut rules = rules(&[1]);
        let add = |service, server| Change::AddServer { service, server };
        let edit = |service, server| Change::EditServer { service, server };
        let mut thresholds = server(1, 1);
        thresholds.lower_threshold = 1;
        let mut multicast = server(2, 1);
        multicast.key.addr = [224, 0, 0, 1].into();
        for (change, refusal) in [
            (Change::AddService(service(80)), Error::ServiceExists),
            (Change::EditService(service(81)), Error::NoSuchService),
            (Change::DeleteService(key(81)), Error::NoSuchService),
            (add(key(81), server(1, 1)), Error::NoSuchService),
            (add(key(80), server(1, 1)), Error::DestinationExists),
            (edit(key(80), server(2, 1)), Error::NoSuchDestination),
        ] {
            let before = held(&rules);
            assert_eq!(rules.apply(&change), Err(refusal));
            assert_eq!(held(&rules), before);
        }
        let refused = |rules: &mut Rules, change| rules.apply(&change).unwrap_err();
        assert!(matches!(
            refused(&mut rules, edit(key(80), thresholds)),
            Error::OutOfRange(_)
        ));
        assert!(matches!(
            refused(&mut rules, add(key(80), multicast)),
            Error::Invalid(_)
        ));
        let zero = Change::Zero { service: None };
        assert!(matches!(refused(&mut rules, zero), Error::Invalid(_)));
    }

    #[test]
    fn what_is_the_same_stays_untouched() {
        let old = rules(&[1, 2, 3]);
        assert_eq!(old.changes_to(&old), []);
        let mut new = rules(&[1, 2, 3, 4]);
        let heavier = Change::EditServer {
            service: key(80),
            server: server(2, 9),
        };
        new.apply(&heavier).unwrap();
        let added = Change::AddServer {
            service: key(80),
            server: server(4, 4),
        };
        assert_eq!(old.changes_to(&new), [heavier, added]);
    }

    /// Whatever the order of the old list, the new one comes out, servers in its order.
    #[test]
    fn changes_lead_from_any_list_of_servers_to_any_other() {
        let lists: &[&[u8]] = &[
            &[],
            &[1],
            &[1, 2, 3],
            &[3, 2, 1],
            &[2, 3],
            &[1, 3],
            &[4, 1, 2, 3],
            &[1, 4, 2, 3, 5],
        ];
        for from in lists {
            for to in lists {
                let (mut rules, target) = (rules(from), rules(to));
                for change in rules.changes_to(&target) {
                    rules.apply(&change).unwrap();
                }
                assert_eq!(held(&rules), held(&target), "{from:?} to {to:?}");
            }
        }
    }

    #[test]
    fn local_addresses_change_one_by_one() {
        let address = |last: u8| IpAddr::from([10, 9, 0, last]);
        let add = |last| Change::AddLocalAddress {
            service: key(80),
            address: address(last),
        };
        let delete = |last| Change::DeleteLocalAddress {
            service: key(80),
            address: address(last),
        };
        let (mut old, mut new) = (rules(&[1]), rules(&[1]));
        for change in [add(1), add(2)] {
            old.apply(&change).unwrap();
        }
        for change in [add(2), add(3)] {
            new.apply(&change).unwrap();
        }
        assert_eq!(old.changes_to(&new), [add(3), delete(1)]);
        assert_eq!(old.apply(&add(2)), Err(Error::AddressExists));
        assert_eq!(old.apply(&delete(9)), Err(Error::NoSuchAddress));
        let multicast = Change::AddLocalAddress {
            service: key(80),
            address: [224, 0, 0, 1].into(),
        };
        assert!(matches!(old.apply(&multicast), Err(Error::Invalid(_))));
    }

    #[test]
    fn services_go_last() {
        let mut target = Rules::default();
        target.apply(&Change::AddService(service(81))).unwrap();
        let timeouts = Timeouts {
            tcp: 60,
            ..Timeouts::default()
        };
        target.apply(&Change::SetTimeouts(timeouts)).unwrap();
        assert_eq!(
            rules(&[1]).changes_to(&target),
            [
                Change::AddService(service(81)),
                Change::DeleteService(key(80)),
                Change::SetTimeouts(timeouts),
            ]
        );
    }
}
