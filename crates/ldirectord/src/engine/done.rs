//! What one event brings about: changes of the table, lines of the log, mails, commands.

use std::time::Duration;

use pointsman_config::ldirectord::{CheckType, Config, DaemonStatus, Real, Virtual, server_label};
use pointsman_model::{Change, Forwarding, ServerKey, ServerSpec, ServiceKey, Weight};

use super::{Answer, Effect, Server, Service};
use crate::alert::Alerts;
use crate::table::Table;

/// What an event brings about, in order, over the table as it will be then.
pub(super) struct Done<'a> {
    config: &'a Config,
    status: DaemonStatus,
    alerts: &'a mut Alerts,
    pub table: &'a mut Table,
    now: Duration,
    pub effects: Vec<Effect>,
}

impl<'a> Done<'a> {
    pub fn new(
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

    pub fn change(&mut self, change: Change) {
        self.table.apply(&change);
        self.effects.push(Effect::Change(change));
    }

    pub fn log(&mut self, line: String) {
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

    pub fn up(&mut self, service: &mut Service, n: usize, forced: bool) {
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

    pub fn down(&mut self, service: &mut Service, n: usize, forced: bool) {
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
    pub fn leave_down(&mut self, service: &mut Service, n: usize, there: bool) {
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

    pub fn fallback_on(&mut self, service: &mut Service) {
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

    pub fn purge(&mut self, service: &Service, place: ServerKey, named: ServerKey, tag: &str) {
        self.change(Change::DeleteServer {
            service: service.config.key,
            server: place,
        });
        let about = format!("{} ({})", server_label(named), service.config.label());
        let text = format!("Purged real server ({tag}): {about}");
        self.tell(&service.config, text, about, None);
    }

    pub fn purge_service(&mut self, service: &Service, tag: &str) {
        if self.table.has(&service.config.key) {
            self.change(Change::DeleteService(service.config.key));
        }
        self.log(format!(
            "Purged virtual server ({tag}): {}",
            service.config.label()
        ));
    }

    pub fn monitor(&mut self, service: &Service, n: usize, answer: Answer<'_>) {
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
