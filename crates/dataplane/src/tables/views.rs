//! Reading back: services as they stand, totals, rates, drops.

use pointsman_core::drop::Drop;
use pointsman_core::layout::EVICTIONS;
use pointsman_model::{Counters, Error, RateEstimator, Rates, ServerView, ServiceKey, ServiceView};

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

    /// Totals and rates of all services together.
    pub fn totals(&self) -> (Counters, Rates) {
        (self.sum_of_services(), self.totals.rates())
    }

    /// What each CPU ever counted, zeroed by nothing.
    pub fn per_cpu(&self) -> Vec<Counters> {
        counters::per_cpu(&self.maps)
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

    /// Steps every rate estimator, unless `run_estimation` is off; to be called every two seconds.
    pub fn estimate(&mut self) {
        if !self.estimates() {
            return;
        }
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

    pub(super) fn view(&self, index: u32) -> ServiceView {
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
            counters: counters::of_server(&self.maps, index),
            rates: server.rates.rates(),
        }
    }

    /// A service counts what its servers count, and what removed ones left.
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

    pub(super) fn sum_of_services(&self) -> Counters {
        self.by_key
            .values()
            .map(|&index| self.counters_of(index))
            .fold(Counters::default(), Counters::plus)
    }
}
