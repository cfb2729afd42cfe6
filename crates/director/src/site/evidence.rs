//! What clients' connections tell of real servers, brought to their checks.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use pointsman_api::Command;
use pointsman_health::Observer;
use pointsman_model::{Check, CheckKind, Handshakes, ServerKey, ServiceKey};
use pointsman_pool::{CheckRef, Pools};
use tokio::sync::{mpsc, oneshot};

use super::Site;

/// How often the data plane is asked.
pub(super) const PERIOD: Duration = Duration::from_millis(50);

/// The services whose servers have passive checks.
#[derive(Debug, Default)]
pub(super) struct Watched {
    observers: HashMap<ServiceKey, Observer<ServerKey>>,
}

impl Watched {
    /// Takes the services of all pools; those that stay are known on.
    pub fn renew(&mut self, pools: &Pools, tick: Duration) {
        let is_passive = |check: &Check| matches!(check.kind, CheckKind::Passive(_));
        let wanted: HashSet<ServiceKey> = pools
            .iter()
            .map(|pool| pool.config())
            .filter(|config| {
                let mut checks = config.servers.iter().flat_map(|server| &server.checks);
                checks.any(is_passive)
            })
            .flat_map(|config| config.keys.iter().copied())
            .collect();
        self.observers.retain(|key, _| wanted.contains(key));
        for key in wanted {
            let observer = || Observer::new(tick);
            self.observers.entry(key).or_insert_with(observer);
        }
    }

    /// Whether nobody needs to be asked.
    pub fn is_empty(&self) -> bool {
        self.observers.is_empty()
    }

    /// A server went out, or came back: what was counted is of another time.
    pub fn forget(&mut self, server: ServerKey, services: &[ServiceKey]) {
        for service in services {
            if let Some(observer) = self.observers.get_mut(service) {
                observer.forget(server);
            }
        }
    }
}

impl Site {
    /// Asks the data plane what became of clients' handshakes, and tells the checks of their servers.
    pub(super) async fn observe(&mut self, director: &mpsc::Sender<Command>) {
        let services: Vec<_> = self.watched.observers.keys().copied().collect();
        let (reply, answer) = oneshot::channel();
        let asked = director.send(Command::Handshakes(services, reply)).await;
        let Ok(counted) = (match asked {
            Ok(()) => answer.await,
            Err(_) => return,
        }) else {
            return;
        };
        let now = Instant::now();
        let mut readings: HashMap<ServiceKey, Vec<(ServerKey, u32, Handshakes)>> = HashMap::new();
        for of in counted {
            let reading = (of.server, of.place, of.counts);
            readings.entry(of.service).or_default().push(reading);
        }
        let mut told = Vec::new();
        for (service, observer) in &mut self.watched.observers {
            let readings = readings.remove(service).unwrap_or_default();
            observer.read(now, &readings, &mut |server, evidence, count| {
                told.push((*service, server, evidence, count));
            });
        }
        for (service, server, evidence, count) in told {
            let pool = self
                .pools
                .iter()
                .find(|pool| pool.config().keys.contains(&service));
            let Some(pool) = pool else { continue };
            let mut servers = pool.servers().iter();
            let Some(known) = servers.find(|known| known.config.spec.key == server) else {
                continue;
            };
            for check in 0..known.checks.len() {
                let id = pool.config().id.clone();
                let serial = self.checks.serial(&CheckRef { id, server, check });
                if let Some(serial) = serial {
                    self.engine.evidence(&serial, evidence, count);
                }
            }
        }
    }
}
