//! How a site stands, for the API.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pointsman_api::{
    CheckView, LostNotices, ProbeTotals, RealServerView, SiteView, VirtualServerView,
};
use pointsman_health::CheckStatus;
use pointsman_model::{ServerKey, ServiceKey, ServiceView};
use pointsman_pool::{CheckRef, CheckState, Pool, Server};

use super::Site;

impl Site {
    /// How everything stands; connections are counted from `table`.
    pub async fn view(&self, table: &[ServiceView]) -> SiteView {
        let vrrp = self.vrrp.view().await;
        let statuses: HashMap<_, _> = self.engine.snapshot().into_iter().collect();
        let loads: HashMap<(ServiceKey, ServerKey), (u32, u32)> = table
            .iter()
            .flat_map(|service| {
                service.servers.iter().map(|server| {
                    let key = (service.spec.key, server.spec.key);
                    (key, (server.active, server.inactive))
                })
            })
            .collect();
        let totals = self.engine.totals();
        let lost = self.notifier.lost();
        SiteView {
            file: self.source.file.display().to_string(),
            read_at: unix(self.read_at),
            remarks: self.read.remarks.clone(),
            refused: self.refused.clone(),
            virtual_servers: self
                .pools
                .iter()
                .map(|pool| self.pool(pool, &statuses, &loads))
                .collect(),
            vrrp,
            probes: ProbeTotals {
                probes: totals.probes,
                failures: totals.failures,
                late: totals.late,
                restarts: totals.restarts,
            },
            lost: LostNotices {
                scripts: lost.scripts,
                lines: lost.lines,
                letters: lost.letters,
                events: lost.events,
            },
            repairs: self.repairs,
        }
    }

    fn pool(
        &self,
        pool: &Pool,
        statuses: &HashMap<u64, CheckStatus>,
        loads: &HashMap<(ServiceKey, ServerKey), (u32, u32)>,
    ) -> VirtualServerView {
        let config = pool.config();
        let real_servers: Vec<_> = pool
            .servers()
            .iter()
            .map(|server| self.server(pool, server, statuses, loads))
            .collect();
        VirtualServerView {
            name: config.id.to_string(),
            services: config.keys.clone(),
            up: pool.is_up(),
            since: unix(pool.since()),
            live_weight: pool.live(),
            quorum: config.quorum,
            hysteresis: config.hysteresis,
            sorry_server: config.sorry_server.map(|sorry| sorry.key),
            sorry_in_use: pool.is_sorry(),
            suspended: self.suspended.contains(&config.id),
            real_servers,
        }
    }

    fn server(
        &self,
        pool: &Pool,
        server: &Server,
        statuses: &HashMap<u64, CheckStatus>,
        loads: &HashMap<(ServiceKey, ServerKey), (u32, u32)>,
    ) -> RealServerView {
        let key = server.config.spec.key;
        let (mut active, mut inactive) = (0u32, 0u32);
        for service in &pool.config().keys {
            let port = if key.port == 0 {
                service.port()
            } else {
                key.port
            };
            let there = loads.get(&(*service, ServerKey { port, ..key }));
            if let Some((a, i)) = there {
                active = active.saturating_add(*a);
                inactive = inactive.saturating_add(*i);
            }
        }
        let checks = server.checks.iter().enumerate().map(|(place, state)| {
            let check = CheckRef {
                id: pool.config().id.clone(),
                server: key,
                check: place,
            };
            let status = self.checks.serial(&check).and_then(|s| statuses.get(&s));
            view_of(state, status)
        });
        RealServerView {
            server: key,
            up: server.alive,
            since: unix(server.since),
            weight: server.weight().get(),
            table_weight: pool.placed_weight(key).map(|weight| weight.get()),
            held: server.held.clone(),
            active,
            inactive,
            checks: checks.collect(),
        }
    }
}

fn view_of(state: &CheckState, status: Option<&CheckStatus>) -> CheckView {
    let reason = status.map_or("", |status| &status.reason);
    CheckView {
        kind: state.check.kind.name().to_owned(),
        up: state.up,
        since: unix(state.since),
        reason: if reason.is_empty() || (!state.up && !state.reason.is_empty()) {
            state.reason.clone()
        } else {
            reason.to_owned()
        },
        forgiven: status.map_or(0, |status| status.forgiven),
        tries: state.check.pace.retries.saturating_add(1),
        probes: status.map_or(0, |status| status.probes),
        failures: status.map_or(0, |status| status.failures),
        took_ms: status.map_or(0.0, |status| status.took.as_secs_f64() * 1e3),
        next_secs: status
            .and_then(|status| status.next_due)
            .map(|due: Duration| due.as_secs_f64()),
        suspended: status.is_some_and(|status| status.suspended),
        restarts: status.map_or(0, |status| status.restarts),
    }
}

pub(super) fn unix(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
