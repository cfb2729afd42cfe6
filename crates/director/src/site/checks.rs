//! Which running check belongs to which real server.

use std::collections::HashMap;

use pointsman_model::Check;
use pointsman_pool::{CheckRef, Pools};

/// Running checks by serial number. A check that changed is another one with another number, so
/// that its first answer counts as one.
#[derive(Debug, Default)]
pub(super) struct Checks {
    last: u64,
    running: HashMap<u64, Running>,
    serials: HashMap<CheckRef, u64>,
}

#[derive(Clone, Debug)]
struct Running {
    check: CheckRef,
    /// As configured.
    configured: Check,
    /// As the engine runs it: it begins where the pool stands.
    begun: Check,
}

impl Checks {
    /// Takes the checks of all pools; those that stayed the same keep their numbers.
    pub fn renew(&mut self, pools: &Pools) {
        let mut old = std::mem::take(&mut self.running);
        let serials = std::mem::take(&mut self.serials);
        for pool in pools.iter() {
            for server in pool.servers() {
                for (place, state) in server.checks.iter().enumerate() {
                    let check = CheckRef {
                        id: pool.config().id.clone(),
                        server: server.config.spec.key,
                        check: place,
                    };
                    let known = serials.get(&check).copied();
                    let same = known.and_then(|serial| {
                        let running = old.remove(&serial)?;
                        (running.configured == state.check).then_some((serial, running))
                    });
                    let (serial, running) = same.unwrap_or_else(|| {
                        self.last += 1;
                        let mut begun = state.check.clone();
                        begun.alpha = !state.up;
                        let running = Running {
                            check: check.clone(),
                            configured: state.check.clone(),
                            begun,
                        };
                        (self.last, running)
                    });
                    self.serials.insert(check, serial);
                    self.running.insert(serial, running);
                }
            }
        }
    }

    /// What the engine is to run.
    pub fn list(&self) -> Vec<(u64, Check)> {
        let running = self.running.iter();
        running
            .map(|(&serial, running)| (serial, running.begun.clone()))
            .collect()
    }

    /// The check behind a number.
    pub fn get(&self, serial: u64) -> Option<(&CheckRef, &Check)> {
        let running = self.running.get(&serial)?;
        Some((&running.check, &running.configured))
    }

    /// The number of a check.
    pub fn serial(&self, check: &CheckRef) -> Option<u64> {
        self.serials.get(check).copied()
    }

    /// Numbers of all checks of a virtual server.
    pub fn of(&self, id: &pointsman_model::VirtualId) -> Vec<u64> {
        let running = self.running.iter();
        running
            .filter(|(_, running)| running.check.id == *id)
            .map(|(&serial, _)| serial)
            .collect()
    }
}
