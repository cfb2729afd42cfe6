//! The true path of probes: which marks lead to which real servers.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use pointsman_api::Command;
use pointsman_health::{Steering, Way};
use pointsman_model::{ServerSpec, ServiceKey};
use pointsman_pool::Pools;
use tokio::sync::{mpsc, oneshot};

use super::Site;

/// A server that is probed through its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probed {
    vip: SocketAddr,
    service: ServiceKey,
    server: ServerSpec,
}

/// The marks that the data plane gave, by VIP and real server.
#[derive(Clone, Debug, Default)]
pub(super) struct Paths(Arc<Mutex<HashMap<(SocketAddr, SocketAddr), u32>>>);

impl Steering for Paths {
    fn way(&self, vip: SocketAddr, real: SocketAddr) -> Option<Way> {
        let marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = *marks.get(&(vip, real))?;
        drop(marks);
        let is_here = std::net::UdpSocket::bind((vip.ip(), 0)).is_ok();
        match vip.ip() {
            _ if is_here => Some(Way { mark, device: None }),
            // Another director has the VIP: the kernel sends it by `lo` if it is told to.
            IpAddr::V4(_) => Some(Way {
                mark,
                device: Some("lo"),
            }),
            // Not so with IPv6.
            IpAddr::V6(_) => None,
        }
    }
}

impl Paths {
    /// What the data plane answered.
    pub fn set(&self, probed: &[Probed], marks: Vec<Option<u32>>) {
        let ways = probed.iter().zip(marks);
        let ways = ways.filter_map(|(probed, mark)| {
            let real = SocketAddr::new(probed.server.key.addr, probed.server.key.port);
            Some(((probed.vip, real), mark?))
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = ways.collect();
    }
}

/// What checks of these pools probe along the true path.
pub(super) fn wanted(pools: &Pools) -> Vec<Probed> {
    let mut wanted = Vec::new();
    for config in pools.iter().map(|pool| pool.config()) {
        for real in &config.servers {
            let vip = real.checks.iter().find_map(|check| check.target.through);
            let service = vip.and_then(|vip| {
                let is_it = |key: &&ServiceKey| {
                    matches!(**key, ServiceKey::Address { addr, port, .. }
                        if SocketAddr::new(addr, port) == vip)
                };
                Some((vip, *config.keys.iter().find(is_it)?))
            });
            if let Some((vip, service)) = service {
                wanted.push(Probed {
                    vip,
                    service,
                    server: real.spec,
                });
            }
        }
    }
    wanted
}

/// The same, as the data plane is asked.
pub(super) fn asked(probed: &[Probed]) -> Vec<(ServiceKey, ServerSpec)> {
    let pairs = probed.iter().map(|probed| (probed.service, probed.server));
    pairs.collect()
}

impl Site {
    /// Has the data plane lead probes where they are to go. Somebody may have made services anew.
    pub(super) async fn steer(&mut self, director: &mpsc::Sender<Command>) {
        let probed = wanted(&self.pools);
        let had = std::mem::replace(&mut self.probes, !probed.is_empty());
        if !had && !self.probes {
            return;
        }
        let (reply, answer) = oneshot::channel();
        let command = Command::Probe(asked(&probed), reply);
        if director.send(command).await.is_ok()
            && let Ok(marks) = answer.await
        {
            self.paths.set(&probed, marks);
        }
    }
}
