//! What a director that was killed leaves for the next one.

use std::time::SystemTime;

use pointsman_model::{ServerKey, VirtualId};
use serde::{Deserialize, Serialize};

use crate::event::Effect;
use crate::pool::Pool;
use crate::pools::Pools;

/// The state of all pools, for a start that goes on where another ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    pools: Vec<RememberedPool>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RememberedPool {
    id: VirtualId,
    up: bool,
    since: SystemTime,
    sorry_in_use: bool,
    servers: Vec<RememberedServer>,
}

/// A server's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RememberedServer {
    server: ServerKey,
    alive: bool,
    since: SystemTime,
    checks: Vec<RememberedCheck>,
}

/// A check's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RememberedCheck {
    /// Its kind, so that it is not taken for another one.
    kind: String,
    up: bool,
    ran: bool,
    reason: String,
    weight: i64,
    since: SystemTime,
}

impl Pools {
    /// What the next director should know.
    pub fn remember(&self) -> Remembered {
        let pools = self.iter().map(|pool| RememberedPool {
            id: pool.config.id.clone(),
            up: pool.up,
            since: pool.since,
            sorry_in_use: pool.sorry_in_use,
            servers: pool
                .servers
                .iter()
                .map(|server| RememberedServer {
                    server: server.config.spec.key,
                    alive: server.alive,
                    since: server.since,
                    checks: server
                        .checks
                        .iter()
                        .map(|state| RememberedCheck {
                            kind: state.check.kind.name().to_owned(),
                            up: state.up,
                            ran: state.ran,
                            reason: state.reason.clone(),
                            weight: state.weight,
                            since: state.since,
                        })
                        .collect(),
                })
                .collect(),
        });
        Remembered {
            pools: pools.collect(),
        }
    }
}

impl Remembered {
    pub(crate) fn of(&self, id: &VirtualId) -> Option<&RememberedPool> {
        self.pools.iter().find(|pool| pool.id == *id)
    }
}

impl RememberedPool {
    /// Goes on where it was, telling nobody; what the configuration changed meanwhile counts as a
    /// change now.
    pub fn resume(&self, pool: &mut Pool, now: SystemTime, out: &mut Vec<Effect>) {
        for server in &mut pool.servers {
            let key = server.config.spec.key;
            let Some(known) = self.servers.iter().find(|known| known.server == key) else {
                continue;
            };
            for (state, known) in server.checks.iter_mut().zip(&known.checks) {
                if state.check.kind.name() == known.kind {
                    state.up = known.up;
                    state.ran = known.ran;
                    state.reason.clone_from(&known.reason);
                    state.weight = known.weight;
                    state.since = known.since;
                }
            }
            server.alive = server.is_fit();
            if server.alive == known.alive {
                server.since = known.since;
            }
        }
        pool.up = self.up;
        pool.since = self.since;
        pool.sorry_in_use = self.sorry_in_use && pool.config.sorry_server.is_some();
        if pool.sorry_in_use {
            pool.resume_sorry(out);
        }
        pool.begin(false, now, out);
    }
}
