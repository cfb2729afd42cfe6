//! What happens to the table when a check has answered: pure, with the table handed in.

mod done;

use std::collections::BTreeMap;
use std::time::Duration;

use pointsman_config::ldirectord::{Config, DaemonStatus, Real, Virtual};
use pointsman_model::{Change, ServerKey, ServerSpec, Weight};

use crate::alert::{Alerts, Mail};
use crate::table::Table;
use done::Done;

/// Something to be done, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// To the table.
    Change(Change),
    /// A line of the log.
    Log(String),
    /// A mail.
    Mail(Mail),
    /// A line of a monitor file, without date and process.
    Monitor {
        /// The file.
        path: String,
        /// The line.
        line: String,
    },
    /// A command for the shell, waited for.
    Command(String),
}

/// A real server of a virtual service, and what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub real: Real,
    /// Place in [`Engine::checks`].
    pub check: usize,
    pub up: bool,
    pub failures: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub config: Virtual,
    pub servers: Vec<Server>,
    pub fallback: Option<ServerSpec>,
    /// Whether the fallback was put into the table.
    pub fallback_on: bool,
    /// What the fallback command was told last.
    command_said: Option<&'static str>,
}

/// A check that is asked once and counts for every virtual service that lists its server.
#[derive(Clone, Debug)]
pub struct SharedCheck {
    /// Its identity.
    pub id: String,
    /// Place of the first virtual service that lists it; its timeouts count.
    pub service: usize,
    /// The real server, as that service lists it.
    pub real: Real,
}

/// The state of one configuration.
#[derive(Clone, Debug)]
pub struct Engine {
    config: Config,
    services: Vec<Service>,
    checks: Vec<SharedCheck>,
    status: DaemonStatus,
    alerts: Alerts,
}

/// What a check gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// Fit, with a remark for the monitor file.
    Up(&'a str),
    /// Unfit, with the reason.
    Down(&'a str),
    /// The maintenance directory has a file for it.
    Maintenance,
}

impl Engine {
    /// Everything down, nothing done yet.
    pub fn new(config: Config) -> Self {
        let mut checks: Vec<SharedCheck> = Vec::new();
        let mut places = BTreeMap::new();
        let mut services = Vec::new();
        for (n, service) in config.virtuals.iter().enumerate() {
            let mut servers = Vec::new();
            for real in &service.reals {
                let id = service.check_id(real);
                let check = *places.entry(id.clone()).or_insert_with(|| {
                    checks.push(SharedCheck {
                        id,
                        service: n,
                        real: real.clone(),
                    });
                    checks.len() - 1
                });
                servers.push(Server {
                    real: real.clone(),
                    check,
                    up: false,
                    failures: 0,
                });
            }
            services.push(Service {
                fallback: config.fallback_server(service),
                config: service.clone(),
                servers,
                fallback_on: false,
                command_said: None,
            });
        }
        Self {
            config,
            services,
            checks,
            status: DaemonStatus::Starting,
            alerts: Alerts::default(),
        }
    }

    /// The configuration it follows.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The checks it wants, each once.
    pub fn checks(&self) -> &[SharedCheck] {
        &self.checks
    }

    /// The virtual service of a check.
    pub fn service(&self, check: &SharedCheck) -> &Virtual {
        &self.services[check.service].config
    }

    /// The daemon's phase, for mails.
    pub fn status(&self) -> DaemonStatus {
        self.status
    }

    /// The first round of checks is over, or a new configuration was taken.
    pub fn runs(&mut self) {
        self.status = DaemonStatus::Running;
    }

    /// Brings the table to the configuration: services made or edited, servers that are in the table
    /// with a weight kept and up, those without one down, foreign ones removed; then the fallback
    /// where nothing is up.
    ///
    /// Unlike the original, a server that is not in the table is not put there until its first
    /// good answer.
    pub fn start(&mut self, table: &mut Table, now: Duration) -> Vec<Effect> {
        let mut done = Done::new(&self.config, self.status, &mut self.alerts, table, now);
        let old = done.table.clone();
        for service in &self.services {
            let spec = service.config.spec();
            let (change, word) = if old.has(&spec.key) {
                (Change::EditService(spec), "Changed")
            } else {
                (Change::AddService(spec), "Added")
            };
            done.change(change);
            done.log(format!("{word} virtual server: {}", service.config.label()));
        }
        for service in &mut self.services {
            let mut known: Vec<ServerKey> = service.fallback.iter().map(|f| f.key).collect();
            for n in 0..service.servers.len() {
                let server = &service.servers[n];
                let spec = service.config.server(&server.real);
                known.push(spec.key);
                let there = old.server(&service.config.key, &spec.key);
                if there.is_some_and(|there| there.weight != Weight::QUIESCED) {
                    done.up(service, n, true);
                } else {
                    done.leave_down(service, n, there.is_some());
                }
            }
            for key in old.servers(&service.config.key) {
                if !known.contains(&key) {
                    done.purge(service, key, key, "start");
                }
            }
            done.fallback_on(service);
        }
        done.effects
    }

    /// Takes another configuration over a running one: services of the old one that it does not
    /// have are removed.
    pub fn reload(&mut self, config: Config, table: &mut Table, now: Duration) -> Vec<Effect> {
        let old = std::mem::replace(self, Self::new(config));
        self.alerts = old.alerts;
        self.status = DaemonStatus::Reloading;
        let mut effects = self.start(table, now);
        let mut done = Done::new(&self.config, self.status, &mut self.alerts, table, now);
        for service in &old.services {
            let kept = |new: &Virtual| new.key == service.config.key;
            if !self.config.virtuals.iter().any(kept) {
                done.purge_service(service, "start");
            }
        }
        effects.append(&mut done.effects);
        effects
    }

    /// An answer for every virtual service that lists the server. Unless a state changes, `table` is
    /// not asked.
    pub fn answer(
        &mut self,
        check: usize,
        answer: Answer<'_>,
        table: &mut dyn FnMut() -> Table,
        now: Duration,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        for service in &mut self.services {
            for n in 0..service.servers.len() {
                if service.servers[n].check != check {
                    continue;
                }
                let before = service.servers[n].up;
                let forced = answer == Answer::Maintenance;
                let up = matches!(answer, Answer::Up(_));
                // The table is read only where it may be written.
                let mut view = if up != before || forced {
                    table()
                } else {
                    Table::default()
                };
                let mut done =
                    Done::new(&self.config, self.status, &mut self.alerts, &mut view, now);
                match answer {
                    Answer::Up(_) => done.up(service, n, false),
                    Answer::Down(_) => done.down(service, n, false),
                    Answer::Maintenance => done.down(service, n, true),
                }
                done.monitor(service, n, answer);
                effects.append(&mut done.effects);
            }
        }
        effects
    }

    /// Puts back what is missing as a whole: the table was cleared, or the director started anew.
    ///
    /// Single servers that somebody removed or weighed by hand are left alone, as the original does.
    pub fn repair(&mut self, table: &mut Table, now: Duration) -> Vec<Effect> {
        let mut done = Done::new(&self.config, self.status, &mut self.alerts, table, now);
        for service in &mut self.services {
            if done.table.has(&service.config.key) {
                continue;
            }
            done.change(Change::AddService(service.config.spec()));
            done.log(format!("Added virtual server: {}", service.config.label()));
            service.fallback_on = false;
            for n in 0..service.servers.len() {
                if service.servers[n].up {
                    done.up(service, n, true);
                } else {
                    done.leave_down(service, n, false);
                }
            }
            done.fallback_on(service);
        }
        done.effects
    }

    /// Mails about servers that are still down.
    pub fn remind(&mut self, now: Duration) -> Vec<Effect> {
        let mut mails = Vec::new();
        for (key, label) in self.alerts.due(now) {
            let Some(service) = self.services.iter().find(|s| s.config.key == key) else {
                self.alerts.forget(key, &label);
                continue;
            };
            let subject = format!("Inaccessible real server: {label}");
            mails.extend(self.alerts.send(
                &self.config,
                &service.config,
                self.status,
                subject,
                &label,
                Some(now),
            ));
        }
        mails
    }

    /// Takes its services out of the table, unless `cleanstop` says no.
    pub fn stop(&mut self, table: &mut Table, now: Duration) -> Vec<Effect> {
        self.status = DaemonStatus::Stopping;
        let mut done = Done::new(&self.config, self.status, &mut self.alerts, table, now);
        for service in &mut self.services {
            if !self.config.clean_stop(&service.config) {
                continue;
            }
            for n in 0..service.servers.len() {
                let server = &mut service.servers[n];
                if std::mem::take(&mut server.up) {
                    let real = server.real.clone();
                    let place = service.config.place(real.key, real.forwarding);
                    done.purge(service, place, real.key, "stop");
                }
            }
            done.purge_service(service, "stop");
        }
        done.effects
    }

    /// Its virtual services, with how their servers stand.
    pub(crate) fn services(&self) -> &[Service] {
        &self.services
    }
}

#[cfg(test)]
mod tests;
