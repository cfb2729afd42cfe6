//! What the director is told of the servers, for `pointsman status`, JSON and metrics.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pointsman_api::{CheckView, LdirectordView, RealServerView, VirtualServerView};

use crate::engine::{Engine, Server, Service};
use crate::probes::Answered;

/// What is remembered between two tellings.
pub(crate) struct Report {
    /// Of each check of the engine.
    checks: Vec<Seen>,
    /// Of each virtual service, and of its servers.
    stand: Vec<(Since, Vec<Since>)>,
}

/// What a check saw.
#[derive(Clone, Default)]
struct Seen {
    /// The last time.
    reason: String,
    took: Duration,
    maintenance: bool,
    probes: u64,
    failures: u64,
}

/// How something stands, and since when, in Unix seconds.
#[derive(Clone, Copy)]
struct Since {
    up: bool,
    at: u64,
}

impl Since {
    fn new() -> Self {
        Self {
            up: false,
            at: unix_now(),
        }
    }

    /// When it came to stand so.
    fn stands(&mut self, up: bool) -> u64 {
        if self.up != up {
            *self = Self { up, at: unix_now() };
        }
        self.at
    }
}

impl Report {
    /// Nothing was seen yet.
    pub fn new(engine: &Engine) -> Self {
        let stand = engine.services().iter();
        Self {
            checks: vec![Seen::default(); engine.checks().len()],
            stand: stand
                .map(|service| (Since::new(), vec![Since::new(); service.servers.len()]))
                .collect(),
        }
    }

    /// A check has answered.
    pub fn answered(&mut self, check: usize, answered: &Answered, took: Duration) {
        let Some(seen) = self.checks.get_mut(check) else {
            return;
        };
        seen.took = took;
        match answered {
            Answered::Maintenance => {
                seen.maintenance = true;
                seen.reason.clear();
            }
            Answered::Outcome(outcome) => {
                seen.maintenance = false;
                seen.reason.clone_from(&outcome.reason);
                seen.probes += 1;
                seen.failures += u64::from(!outcome.up);
            }
        }
    }

    /// How everything stands.
    pub fn view(&mut self, engine: &Engine, file: &Path) -> LdirectordView {
        let virtual_servers =
            engine
                .services()
                .iter()
                .zip(&mut self.stand)
                .map(|(service, (since, servers))| {
                    let real_servers = service.servers.iter().zip(servers);
                    let real_servers = real_servers.map(|(server, since)| {
                        real_server(engine, service, server, since, &self.checks[server.check])
                    });
                    virtual_server(service, since, real_servers.collect())
                });
        LdirectordView {
            file: file.display().to_string(),
            pid: std::process::id(),
            every_secs: u64::from(engine.config().globals.check_interval.max(1)),
            told_at: 0,
            virtual_servers: virtual_servers.collect(),
        }
    }
}

fn virtual_server(
    service: &Service,
    since: &mut Since,
    real_servers: Vec<RealServerView>,
) -> VirtualServerView {
    let live = real_servers.iter().filter(|server| server.up);
    let up = live.clone().next().is_some();
    VirtualServerView {
        name: service.config.key.to_string(),
        services: vec![service.config.key],
        up,
        since: since.stands(up),
        live_weight: live.map(|server| u64::from(server.weight)).sum(),
        quorum: 1,
        hysteresis: 0,
        sorry_server: service.fallback.map(|fallback| fallback.key),
        sorry_in_use: service.fallback_on && !up,
        suspended: false,
        real_servers,
    }
}

fn real_server(
    engine: &Engine,
    service: &Service,
    server: &Server,
    since: &mut Since,
    seen: &Seen,
) -> RealServerView {
    let spec = service.config.server(&server.real);
    let since = since.stands(server.up);
    let checked = engine.config().check(&service.config, &server.real);
    let reason = match checked {
        Some(_) => seen.reason.clone(),
        None => "it is not checked".into(),
    };
    let check = CheckView {
        kind: service.config.check_word(),
        up: server.up,
        since,
        reason,
        forgiven: if server.up { server.failures } else { 0 },
        tries: engine.config().failure_count(&service.config),
        probes: seen.probes,
        failures: seen.failures,
        took_ms: seen.took.as_secs_f64() * 1e3,
        next_secs: None,
        suspended: false,
        restarts: 0,
    };
    RealServerView {
        server: spec.key,
        up: server.up,
        since,
        weight: spec.weight.get(),
        // The director knows the table better.
        table_weight: None,
        held: seen.maintenance.then(|| "in maintenance".into()),
        active: 0,
        inactive: 0,
        checks: vec![check],
    }
}

fn unix_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}
