//! Reading back: services as they stand, totals, rates, drops.

use pointsman_core::drop::Drop;
use pointsman_core::layout::{CLIENT_UNTOLD, EVICTIONS, HELD, UNTOLD};
use pointsman_model::{
    Counters, Error, RateEstimator, Rates, ServerHandshakes, ServerView, ServiceKey, ServiceView,
};

use super::{Tables, counters};
use crate::DropCount;

impl Tables {
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

    /// What identifies each service, in any order.
    pub fn keys(&self) -> impl Iterator<Item = &ServiceKey> {
        self.by_key.keys()
    }

    /// One service.
    pub fn service(&self, key: &ServiceKey) -> Option<ServiceView> {
        self.index_of(key).map(|index| self.view(index))
    }

    /// What became of clients' handshakes with the servers of some services.
    pub fn handshakes(&self, services: &[ServiceKey]) -> Vec<ServerHandshakes> {
        let indices = services.iter().filter_map(|key| self.index_of(key));
        let servers = indices.flat_map(|index| {
            let service = self.services[index as usize].as_ref();
            service.expect("indexed services exist").servers.iter()
        });
        let of_server = |&place: &u32| {
            let known = &self.servers[&place];
            ServerHandshakes {
                service: known.service,
                server: known.spec.key,
                place,
                counts: counters::handshakes(&self.maps, place),
            }
        };
        servers.map(of_server).collect()
    }

    /// Totals and rates of the namespace, with what removed services counted.
    pub fn totals(&self) -> (Counters, Rates) {
        (self.totals.totals(), self.totals.rates())
    }

    /// What each CPU ever counted, zeroed by nothing.
    pub fn per_cpu(&self) -> Vec<Counters> {
        counters::per_cpu(&self.maps)
    }

    /// Zeroes one service and its servers, or everything: what the last estimation showed. What has
    /// come since is shown by the next.
    ///
    /// # Errors
    /// [`Error::NoSuchService`].
    pub fn zero(&mut self, key: Option<&ServiceKey>) -> Result<(), Error> {
        match key {
            Some(key) => {
                let index = self.index_of(key).ok_or(Error::NoSuchService)?;
                let shown = self.zero_service(index);
                self.leave_to_none(shown);
            }
            None => {
                let since = self.sum().since(self.totals.totals());
                let indices: Vec<u32> = self.by_key.values().copied().collect();
                for index in indices {
                    self.zero_service(index);
                }
                counters::set_folded(&self.maps, counters::NO_SERVICE, Counters::default());
                let left = since.since(self.sum());
                counters::set_folded(&self.maps, counters::NO_SERVICE, left);
                self.totals = RateEstimator::default();
            }
        }
        Ok(())
    }

    /// Zeroes a service with its servers, and tells what it showed.
    fn zero_service(&mut self, index: u32) -> Counters {
        let now = self.counters_of(index);
        let service = self.services[index as usize].as_mut().expect("indexed");
        let shown = std::mem::take(&mut service.rates).totals();
        for server in &service.servers {
            if let Some(of_server) = self.servers.get_mut(server) {
                let shown = of_server.rates.totals();
                counters::set_zero(&self.maps, *server, shown);
                of_server.rates = RateEstimator::starting_at(shown);
            }
        }
        counters::set_folded(&self.maps, index, Counters::default());
        let left = now.since(shown).since(self.counters_of(index));
        counters::set_folded(&self.maps, index, left);
        shown
    }

    /// What a service counted and no longer does stays in the namespace's totals.
    pub(super) fn leave_to_none(&mut self, counted: Counters) {
        let folded = counters::folded(&self.maps, counters::NO_SERVICE).plus(counted);
        counters::set_folded(&self.maps, counters::NO_SERVICE, folded);
    }

    /// Steps every estimator, unless `run_estimation` is off.
    pub fn estimate(&mut self) {
        self.estimated = 0;
        self.estimate_part(self.services.len());
    }

    /// The same for so many further services; true with the last of them. To be done every two seconds.
    pub fn estimate_part(&mut self, services: usize) -> bool {
        if !self.estimates() {
            return true;
        }
        let from = self.estimated;
        self.estimated = (from + services).min(self.services.len());
        for index in from as u32..self.estimated as u32 {
            let Some(service) = self.services[index as usize].as_mut() else {
                continue;
            };
            let mut total = counters::folded(&self.maps, index);
            for server in &service.servers {
                let raw = counters::raw(&self.maps, *server);
                total = total.plus(raw.since(counters::zero(&self.maps, *server)));
                let of_server = self.servers.get_mut(server).expect("listed");
                of_server.rates.step(raw);
            }
            service.rates.step(total);
        }
        let done = self.estimated == self.services.len();
        if done {
            self.estimated = 0;
            let left = counters::folded(&self.maps, counters::NO_SERVICE);
            let totals = self.services.iter().flatten().map(|s| s.rates.totals());
            self.totals.step(totals.fold(left, Counters::plus));
        }
        done
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

    /// Fragments that were held back until their first one came.
    pub fn fragments_held(&self) -> u64 {
        counters::drops(&self.maps, HELD)
    }

    /// Packets by FULLNAT that should have told the client's address and had no room for it.
    pub fn clients_untold(&self) -> u64 {
        counters::drops(&self.maps, CLIENT_UNTOLD)
    }

    /// ICMP errors that were not sent, since too many were before.
    pub fn errors_untold(&self) -> u64 {
        counters::drops(&self.maps, UNTOLD)
    }

    /// Half-open or closing connections that gave their slot to a new one.
    pub fn evictions(&self) -> u64 {
        counters::drops(&self.maps, EVICTIONS)
    }

    pub(super) fn view(&self, index: u32) -> ServiceView {
        let service = self.services[index as usize]
            .as_ref()
            .expect("indexed services exist");
        ServiceView {
            spec: service.spec.clone(),
            counters: service.rates.totals(),
            rates: service.rates.rates(),
            local_addresses: service.local_addresses.clone(),
            servers: service
                .servers
                .iter()
                .map(|&server| self.server_view(server))
                .collect(),
        }
    }

    pub(super) fn server_view(&self, index: u32) -> ServerView {
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
            persistent: count(record.persistent),
            counters: server
                .rates
                .totals()
                .since(counters::zero(&self.maps, index)),
            rates: server.rates.rates(),
        }
    }

    /// What a service has counted by now: what its servers count, and what removed ones left.
    pub(super) fn counters_of(&self, index: u32) -> Counters {
        let service = self.services[index as usize]
            .as_ref()
            .expect("indexed services exist");
        service
            .servers
            .iter()
            .map(|&server| counters::of_server(&self.maps, server))
            .fold(counters::folded(&self.maps, index), Counters::plus)
    }

    /// What the namespace has counted by now.
    pub(super) fn sum(&self) -> Counters {
        self.by_key
            .values()
            .map(|&index| self.counters_of(index))
            .fold(
                counters::folded(&self.maps, counters::NO_SERVICE),
                Counters::plus,
            )
    }
}
