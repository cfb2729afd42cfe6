//! What happens to the table when a check has answered: pure, with the table handed in.

use std::collections::BTreeMap;
use std::time::Duration;

use pointsman_config::ldirectord::{Config, DaemonStatus, Real, Virtual, server_label};
use pointsman_model::{Change, Forwarding, ServerKey, ServerSpec, ServiceKey, Weight};

use crate::alert::{Alerts, Mail};
use crate::table::Table;

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

/// What one event brings about.
struct Done<'a> {
    config: &'a Config,
    status: DaemonStatus,
    alerts: &'a mut Alerts,
    table: &'a mut Table,
    now: Duration,
    effects: Vec<Effect>,
}

impl<'a> Done<'a> {
    fn new(
        config: &'a Config,
        status: DaemonStatus,
        alerts: &'a mut Alerts,
        table: &'a mut Table,
        now: Duration,
    ) -> Self {
        Self {
            config,
            status,
            alerts,
            table,
            now,
            effects: Vec::new(),
        }
    }

    fn change(&mut self, change: Change) {
        self.table.apply(&change);
        self.effects.push(Effect::Change(change));
    }

    fn log(&mut self, line: String) {
        self.effects.push(Effect::Log(line));
    }

    /// A line of the log that is also a mail. `since` is when a server went down, which is then
    /// told again; `None` for what is not.
    fn tell(&mut self, service: &Virtual, text: String, about: String, since: Option<Duration>) {
        self.log(text.clone());
        self.mail(service, text, about, since);
    }

    fn mail(&mut self, service: &Virtual, text: String, about: String, since: Option<Duration>) {
        let sent = self
            .alerts
            .send(self.config, service, self.status, text, &about, since);
        self.effects.extend(sent);
    }

    fn up(&mut self, service: &mut Service, n: usize, forced: bool) {
        let server = &mut service.servers[n];
        if server.failures > 0 {
            let label = server_label(server.real.key);
            let line = format!(
                "Resetting soft failure count: {label} ({})",
                service.config.id()
            );
            self.effects.push(Effect::Log(line));
        }
        let server = &mut service.servers[n];
        server.failures = 0;
        if std::mem::replace(&mut server.up, true) && !forced {
            return;
        }
        let spec = service.config.server(&server.real);
        let label = server_label(server.real.key);
        self.restore(&service.config, spec, "real", &label);
        self.fallback_off(service);
    }

    fn down(&mut self, service: &mut Service, n: usize, forced: bool) {
        let needed = self.config.failure_count(&service.config);
        let server = &mut service.servers[n];
        if !server.up && !forced {
            return;
        }
        server.failures = server.failures.saturating_add(1);
        if server.up && !forced && server.failures < needed {
            let line = format!(
                "Soft failure real server: {} ({}) failure {}/{needed}",
                server_label(server.real.key),
                service.config.id(),
                server.failures
            );
            self.log(line);
            return;
        }
        server.up = false;
        let real = server.real.clone();
        self.remove(&service.config, real.key, real.forwarding, true);
        self.fallback_on(service);
    }

    /// At the start: a server that must answer first. A quiescent one is in the table with weight 0.
    fn leave_down(&mut self, service: &mut Service, n: usize, there: bool) {
        let quiescent = self.config.quiescent(&service.config);
        if there == quiescent {
            return;
        }
        let real = service.servers[n].real.clone();
        if quiescent {
            self.quiesce(&service.config, &real, true);
        } else {
            self.remove(&service.config, real.key, real.forwarding, true);
        }
    }

    /// Puts a server in with its weight, or gives it that weight again.
    fn restore(&mut self, service: &Virtual, spec: ServerSpec, tag: &str, label: &str) {
        let there = self.table.server(&service.key, &spec.key);
        let word = match there {
            Some(there) if same(&there, &spec) => return,
            Some(_) => "Restored",
            None => "Added",
        };
        let change = match there {
            Some(_) => Change::EditServer {
                service: service.key,
                server: spec,
            },
            None => Change::AddServer {
                service: service.key,
                server: spec,
            },
        };
        self.change(change);
        let about = format!("{label} ({})", service.label());
        let weight = spec.weight.get();
        let text = format!("{word} {tag} server: {about} (Weight set to {weight})");
        // Known to mails by its place in the table, which is what a removal calls it.
        let about = format!("{} ({})", server_label(spec.key), service.label());
        self.tell(service, text, about, None);
    }

    /// Takes a server out, or its weight where it stays.
    fn remove(&mut self, service: &Virtual, key: ServerKey, method: Forwarding, real: bool) {
        let place = service.place(key, method);
        let quiescent = real && self.config.quiescent(service);
        let Some(there) = self.table.server(&service.key, &place) else {
            if quiescent && self.config.globals.readd_quiescent {
                let found = service.reals.iter().find(|real| real.key == key).cloned();
                if let Some(real) = found {
                    self.quiesce(service, &real, false);
                }
            }
            return;
        };
        let mapped = (place != key).then(|| format!(" mapped from {}", server_label(key)));
        let about = format!("{} ({})", server_label(place), service.label());
        let name = format!(
            "{}{} ({})",
            server_label(place),
            mapped.unwrap_or_default(),
            service.label()
        );
        if quiescent {
            if there.weight == Weight::QUIESCED && there.forwarding == method {
                return;
            }
            self.change(Change::EditServer {
                service: service.key,
                server: quiesced(place, method),
            });
            let text = format!("Quiescent real server: {name} (Weight set to 0)");
            self.tell(service, text, about, Some(self.now));
        } else {
            self.change(Change::DeleteServer {
                service: service.key,
                server: place,
            });
            let tag = if real { "real" } else { "fallback" };
            let since = real.then_some(self.now);
            self.tell(
                service,
                format!("Deleted {tag} server: {name}"),
                about,
                since,
            );
        }
    }

    /// Adds a server with weight 0.
    fn quiesce(&mut self, service: &Virtual, real: &Real, starting: bool) {
        let place = service.place(real.key, real.forwarding);
        self.change(Change::AddServer {
            service: service.key,
            server: quiesced(place, real.forwarding),
        });
        let about = format!("{} ({})", server_label(place), service.label());
        let text = format!("Quiescent real server: {about} (Weight set to 0)");
        let word = if starting { "" } else { "Readd " };
        self.log(format!("{word}{text}"));
        self.mail(service, text, about, Some(self.now));
    }

    fn fallback_on(&mut self, service: &mut Service) {
        if service.servers.iter().any(|server| server.up) {
            return;
        }
        if let Some(spec) = service.fallback
            && !std::mem::replace(&mut service.fallback_on, true)
        {
            self.restore(&service.config, spec, "fallback", &server_label(spec.key));
        }
        self.command(service, "start");
    }

    fn fallback_off(&mut self, service: &mut Service) {
        if !service.servers.iter().any(|server| server.up) {
            return;
        }
        service.fallback_on = false;
        if let Some(spec) = service.fallback {
            // A fallback that is also a live real server stays.
            let of_real = |server: &Server| service.config.server(&server.real).key == spec.key;
            if !service
                .servers
                .iter()
                .any(|server| server.up && of_real(server))
            {
                self.remove(&service.config, spec.key, spec.forwarding, false);
            }
        }
        self.command(service, "stop");
    }

    /// Tells the fallback command, once for each change.
    fn command(&mut self, service: &mut Service, word: &'static str) {
        if service.command_said.replace(word) == Some(word) {
            return;
        }
        if let Some(command) = self.config.fallback_command(&service.config) {
            // For a mark the original has no address here.
            let address = match service.config.key {
                ServiceKey::Address { .. } => service.config.label(),
                ServiceKey::Mark { .. } => ":0".into(),
            };
            let protocol = service.config.protocol_word();
            let line = format!("{command} {word} {address} {protocol}");
            self.effects.push(Effect::Command(line));
        }
    }

    fn purge(&mut self, service: &Service, place: ServerKey, named: ServerKey, tag: &str) {
        self.change(Change::DeleteServer {
            service: service.config.key,
            server: place,
        });
        let about = format!("{} ({})", server_label(named), service.config.label());
        let text = format!("Purged real server ({tag}): {about}");
        self.tell(&service.config, text, about, None);
    }

    fn purge_service(&mut self, service: &Service, tag: &str) {
        if self.table.has(&service.config.key) {
            self.change(Change::DeleteService(service.config.key));
        }
        self.log(format!(
            "Purged virtual server ({tag}): {}",
            service.config.label()
        ));
    }

    fn monitor(&mut self, service: &Service, n: usize, answer: Answer<'_>) {
        use pointsman_config::ldirectord::CheckType;
        let Some(path) = service.config.monitor_file.clone() else {
            return;
        };
        let quiet = matches!(
            service.config.check_type,
            CheckType::On | CheckType::Off | CheckType::ExternalPerl
        );
        let (word, text) = match answer {
            Answer::Up(_) | Answer::Down(_) if quiet => return,
            Answer::Up(text) => ("up", text),
            Answer::Down(text) => ("down", text),
            Answer::Maintenance => ("down", "Server in maintenance"),
        };
        let text = if text.is_empty() { "-" } else { text };
        let id = service.config.monitor_id(&service.servers[n].real);
        let line = format!("{id} [{word}] {}", escaped(text));
        self.effects.push(Effect::Monitor { path, line });
    }
}

fn quiesced(key: ServerKey, forwarding: Forwarding) -> ServerSpec {
    ServerSpec {
        key,
        forwarding,
        weight: Weight::QUIESCED,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

/// A server on the director itself is shown with a method of its own, which nobody asked for.
fn same(there: &ServerSpec, wanted: &ServerSpec) -> bool {
    let method = there.forwarding == wanted.forwarding || there.forwarding == Forwarding::Local;
    method
        && there.weight == wanted.weight
        && there.upper_threshold == wanted.upper_threshold
        && there.lower_threshold == wanted.lower_threshold
}

/// What would break a line is written as `%XX`.
fn escaped(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars() {
        match c {
            '%' | '|' | '\r' | '\n' => line += &format!("%{:02x}", c as u32),
            c => line.push(c),
        }
    }
    line
}

#[cfg(test)]
mod tests;
