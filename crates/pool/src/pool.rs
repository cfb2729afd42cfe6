//! One virtual server and its pool.

use std::time::SystemTime;

use pointsman_model::{Change, ServerKey, ServerSpec, ServiceKey, VirtualServer, Weight};

use crate::event::{CheckEvent, Effect, Event, QuorumEvent, QuorumWhy, ServerEvent, ServerWhy};
use crate::pools::Verdict;
use crate::server::{CheckState, Server};

/// A virtual server, its real servers, and what was placed in the table for it.
#[derive(Clone, Debug)]
pub struct Pool {
    pub(crate) config: VirtualServer,
    pub(crate) servers: Vec<Server>,
    /// The quorum is there.
    pub(crate) up: bool,
    /// When that last changed.
    pub(crate) since: SystemTime,
    /// The sorry server stands in for the pool.
    pub(crate) sorry_in_use: bool,
    /// What is in the table of each of its services, in the order in which it was added; ports as
    /// configured.
    pub(crate) placed: Vec<ServerSpec>,
}

impl Pool {
    /// As configured.
    pub fn config(&self) -> &VirtualServer {
        &self.config
    }

    /// Its real servers, in configuration order.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// Whether it has its quorum.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// When that last changed.
    pub fn since(&self) -> SystemTime {
        self.since
    }

    /// Whether the sorry server stands in for the pool.
    pub fn is_sorry(&self) -> bool {
        self.sorry_in_use
    }

    /// The weight with which a server stands in the table.
    pub fn placed_weight(&self, server: ServerKey) -> Option<Weight> {
        let found = self.placed.iter().find(|spec| spec.key == server);
        found.map(|spec| spec.weight)
    }

    /// Weight of live servers.
    pub fn live(&self) -> u64 {
        let alive = self.servers.iter().filter(|server| server.alive);
        alive.map(|server| u64::from(server.weight().get())).sum()
    }

    /// A pool with nothing in the table yet.
    pub(crate) fn new(config: &VirtualServer, servers: Vec<Server>, now: SystemTime) -> Self {
        Self {
            config: config.clone(),
            servers,
            up: false,
            since: now,
            sorry_in_use: false,
            placed: Vec::new(),
        }
    }

    pub(crate) fn add_services(&self, out: &mut Vec<Effect>) {
        for &key in &self.config.keys {
            let service = self.config.service(key);
            out.push(Effect::Change(Change::AddService(service)));
        }
    }

    /// Servers that are new go into the table, then the quorum is looked at.
    pub(crate) fn begin(&mut self, announce: bool, now: SystemTime, out: &mut Vec<Effect>) {
        for at in 0..self.servers.len() {
            let server = &self.servers[at];
            let config = &server.config;
            if self.placed_weight(config.spec.key).is_some() {
                continue;
            }
            if !server.alive {
                if config.inhibit_on_failure {
                    self.place(server.quiesced(), out);
                }
            } else if !self.sorry_in_use {
                self.place(server.spec(), out);
                if announce {
                    self.server_event(at, ServerWhy::Start, out);
                }
            }
        }
        self.look_at_quorum(true, now, out);
        self.place_idle_sorry(out);
    }

    /// Goes on with the sorry server in use.
    pub(crate) fn resume_sorry(&mut self, out: &mut Vec<Effect>) {
        for at in 0..self.servers.len() {
            if self.servers[at].config.inhibit_on_failure {
                self.place(self.servers[at].quiesced(), out);
            }
        }
        self.place(self.sorry(Weight::DEFAULT), out);
    }

    /// A sorry server that is inhibited waits in the table.
    pub(crate) fn place_idle_sorry(&mut self, out: &mut Vec<Effect>) {
        if let Some(sorry) = self.config.sorry_server
            && sorry.inhibit
            && self.placed_weight(sorry.key).is_none()
        {
            self.place(self.sorry(Weight::QUIESCED), out);
        }
    }

    /// A check has spoken.
    pub(crate) fn verdict(
        &mut self,
        server: usize,
        check: usize,
        verdict: Verdict,
        now: SystemTime,
        out: &mut Vec<Effect>,
    ) {
        let weight = self.servers[server].weight();
        let state = &mut self.servers[server].checks[check];
        let changed = state.up != verdict.up;
        let first = !state.ran;
        state.ran = true;
        state.up = verdict.up;
        if changed || first || !verdict.up {
            state.reason.clone_from(&verdict.reason);
        }
        if changed {
            state.since = now;
        }
        state.weight = if verdict.up { verdict.weight } else { 0 };
        // Out of the pool first, with the weight it had; in again with its new one.
        if self.servers[server].weight() != weight && verdict.up && !changed {
            self.weight_changed(server, weight, now, out);
        }
        let decided = self.settle(server, now, out);
        let waited = self.servers[server].checks[check].check.alpha || !verdict.up;
        if first && !changed && waited {
            self.server_event(server, ServerWhy::Checks, out);
        }
        if changed {
            let id = self.config.id.clone();
            let server = &self.servers[server];
            out.push(Effect::Event(Event::Check(CheckEvent {
                id,
                server: server.config.spec.key,
                check,
                up: verdict.up,
                reason: verdict.reason,
                server_up: server.alive,
                decided,
                mail: server.config.smtp_alert,
            })));
        }
    }

    /// Keeps a server out, or lets it in again.
    pub(crate) fn hold(
        &mut self,
        server: usize,
        why: Option<String>,
        now: SystemTime,
        out: &mut Vec<Effect>,
    ) {
        self.servers[server].held = why;
        self.settle(server, now, out);
    }

    /// Brings a server into the pool or out of it, where its checks now say so; true when it
    /// came or went.
    pub(crate) fn settle(&mut self, server: usize, now: SystemTime, out: &mut Vec<Effect>) -> bool {
        let alive = self.servers[server].is_fit();
        if self.servers[server].alive == alive {
            return false;
        }
        self.log_server(server, alive, out);
        self.servers[server].alive = alive;
        self.servers[server].since = now;
        if !self.sorry_in_use {
            self.place_or_remove(server, out);
        }
        self.server_event(server, ServerWhy::Checks, out);
        self.look_at_quorum(false, now, out);
        true
    }

    fn place_or_remove(&mut self, at: usize, out: &mut Vec<Effect>) {
        let server = &self.servers[at];
        let key = server.config.spec.key;
        if server.alive {
            self.place(server.spec(), out);
        } else if server.config.inhibit_on_failure {
            self.place(server.quiesced(), out);
        } else {
            self.remove(key, out);
        }
    }

    /// Its weight is another one now.
    pub(crate) fn weight_changed(
        &mut self,
        at: usize,
        old: Weight,
        now: SystemTime,
        out: &mut Vec<Effect>,
    ) {
        let server = &self.servers[at];
        let key = server.config.spec.key;
        out.push(Effect::Log(format!(
            "Changing weight from {} to {} for {}active service {} of VS {}",
            old.get(),
            server.weight().get(),
            if server.alive { "" } else { "in" },
            self.config.server_label(key),
            self.config.id
        )));
        if server.alive && !self.sorry_in_use && self.placed_weight(key).is_some() {
            self.place(server.spec(), out);
        }
        self.look_at_quorum(false, now, out);
    }

    /// Gains or loses the quorum. At a beginning, `start`, a virtual server without it gets its
    /// sorry server.
    pub(crate) fn look_at_quorum(&mut self, start: bool, now: SystemTime, out: &mut Vec<Effect>) {
        let live = self.live();
        let (quorum, hysteresis) = (self.config.quorum, self.config.hysteresis);
        let threshold = if self.up {
            quorum.saturating_sub(hysteresis)
        } else {
            quorum.saturating_add(hysteresis)
        };
        let idle_sorry = self.config.sorry_server.is_some() && !self.sorry_in_use;
        let enough = live >= u64::from(threshold);
        if !self.up && enough {
            self.up = true;
            self.since = now;
            out.push(Effect::Log(format!(
                "Gained quorum {quorum}+{hysteresis}={threshold} <= {live} for VS {}",
                self.config.id
            )));
            if self.sorry_in_use {
                self.sorry_goes(out);
            }
        } else if (self.up && (live == 0 || !enough)) || (start && !self.up && idle_sorry) {
            self.up = false;
            self.since = now;
            out.push(Effect::Log(format!(
                "{} {quorum}-{hysteresis}={threshold} > {live} for VS {}",
                if start {
                    "Starting with quorum down"
                } else {
                    "Lost quorum"
                },
                self.config.id
            )));
            if idle_sorry {
                self.sorry_comes(out);
            }
        } else {
            return;
        }
        let why = if start {
            QuorumWhy::Start
        } else {
            QuorumWhy::Weight
        };
        self.quorum_event(why, threshold, live, out);
    }

    fn sorry_comes(&mut self, out: &mut Vec<Effect>) {
        let Some(sorry) = self.config.sorry_server else {
            return;
        };
        self.log_sorry(if sorry.inhibit { "Enabling" } else { "Adding" }, "to", out);
        self.log_pool("Removing alive servers from", out);
        for at in 0..self.servers.len() {
            let server = &self.servers[at];
            if !server.alive {
                continue;
            }
            if server.config.inhibit_on_failure {
                self.place(server.quiesced(), out);
            } else {
                self.remove(server.config.spec.key, out);
            }
        }
        self.place(self.sorry(Weight::DEFAULT), out);
        self.sorry_in_use = true;
    }

    fn sorry_goes(&mut self, out: &mut Vec<Effect>) {
        let Some(sorry) = self.config.sorry_server else {
            return;
        };
        let verb = if sorry.inhibit {
            "Disabling"
        } else {
            "Removing"
        };
        self.log_sorry(verb, "from", out);
        if sorry.inhibit {
            self.place(self.sorry(Weight::QUIESCED), out);
        } else {
            self.remove(sorry.key, out);
        }
        self.sorry_in_use = false;
        self.reinstate(out);
    }

    /// Live servers go back into the table.
    pub(crate) fn reinstate(&mut self, out: &mut Vec<Effect>) {
        self.log_pool("Adding alive servers to", out);
        for at in 0..self.servers.len() {
            if self.servers[at].alive {
                self.place(self.servers[at].spec(), out);
            }
        }
    }

    pub(crate) fn sorry(&self, weight: Weight) -> ServerSpec {
        let sorry = self
            .config
            .sorry_server
            .expect("asked only where there is one");
        ServerSpec {
            key: sorry.key,
            forwarding: sorry.forwarding,
            weight,
            upper_threshold: 0,
            lower_threshold: 0,
        }
    }

    /// Puts a server into the table, as the table is: added, edited, or left alone.
    pub(crate) fn place(&mut self, spec: ServerSpec, out: &mut Vec<Effect>) {
        match self.placed.iter_mut().find(|there| there.key == spec.key) {
            Some(there) if *there == spec => {}
            Some(there) => {
                *there = spec;
                for &service in &self.config.keys {
                    let server = at_service(spec, service);
                    out.push(Effect::Change(Change::EditServer { service, server }));
                }
            }
            None => {
                self.placed.push(spec);
                for &service in &self.config.keys {
                    let server = at_service(spec, service);
                    out.push(Effect::Change(Change::AddServer { service, server }));
                }
            }
        }
    }

    /// Takes a server out of the table, if it is there.
    pub(crate) fn remove(&mut self, key: ServerKey, out: &mut Vec<Effect>) {
        let Some(at) = self.placed.iter().position(|there| there.key == key) else {
            return;
        };
        let spec = self.placed.remove(at);
        for &service in &self.config.keys {
            let server = at_service(spec, service).key;
            out.push(Effect::Change(Change::DeleteServer { service, server }));
        }
    }

    pub(crate) fn server_event(&self, at: usize, why: ServerWhy, out: &mut Vec<Effect>) {
        let server = &self.servers[at];
        let config = &server.config;
        let script = if server.alive {
            &config.notify_up
        } else {
            &config.notify_down
        };
        out.push(Effect::Event(Event::Server(ServerEvent {
            id: self.config.id.clone(),
            server: config.spec.key,
            up: server.alive,
            why,
            script: script.clone(),
            mail: config.smtp_alert && matches!(why, ServerWhy::Removed | ServerWhy::Stop),
        })));
    }

    pub(crate) fn quorum_event(
        &self,
        why: QuorumWhy,
        threshold: u32,
        live: u64,
        out: &mut Vec<Effect>,
    ) {
        let script = if self.up {
            &self.config.quorum_up
        } else {
            &self.config.quorum_down
        };
        out.push(Effect::Event(Event::Quorum(QuorumEvent {
            id: self.config.id.clone(),
            up: self.up,
            why,
            quorum: self.config.quorum,
            hysteresis: self.config.hysteresis,
            threshold,
            live,
            script: script.clone(),
            mail: self.config.smtp_alert,
        })));
    }

    /// Everything of it leaves the table, servers first.
    pub(crate) fn end(&mut self, stopping: bool, flush: bool, out: &mut Vec<Effect>) {
        let announces = self.config.omega || !stopping;
        if !flush {
            if let Some(sorry) = self.config.sorry_server {
                self.remove(sorry.key, out);
            }
            for at in 0..self.servers.len() {
                self.server_leaves(at, stopping, announces, out);
            }
        }
        if (stopping && announces) || (!stopping && self.up) {
            self.up = false;
            let threshold = self.config.quorum.saturating_sub(self.config.hysteresis);
            let live = self.live();
            let why = if stopping {
                QuorumWhy::Stop
            } else {
                QuorumWhy::Weight
            };
            self.quorum_event(why, threshold, live, out);
        }
        for &key in &self.config.keys {
            out.push(Effect::Change(Change::DeleteService(key)));
        }
        self.placed.clear();
    }

    /// A server leaves for good.
    pub(crate) fn server_leaves(
        &mut self,
        at: usize,
        stopping: bool,
        announces: bool,
        out: &mut Vec<Effect>,
    ) {
        let server = &self.servers[at];
        let key = server.config.spec.key;
        let inhibited = server.config.inhibit_on_failure && !server.alive;
        if stopping || self.placed_weight(key).is_some() {
            out.push(Effect::Log(format!(
                "{} {}service {} from VS {}",
                if stopping {
                    "Shutting down"
                } else {
                    "Removing"
                },
                if inhibited { "(inhibited) " } else { "" },
                self.config.server_label(key),
                self.config.id
            )));
        }
        self.remove(key, out);
        if std::mem::replace(&mut self.servers[at].alive, false) && announces {
            let why = if stopping {
                ServerWhy::Stop
            } else {
                ServerWhy::Removed
            };
            self.server_event(at, why, out);
        }
    }

    fn log_server(&self, at: usize, alive: bool, out: &mut Vec<Effect>) {
        let config = &self.servers[at].config;
        let (verb, preposition) = match (config.inhibit_on_failure, alive) {
            (true, true) => ("Enabling", "of"),
            (true, false) => ("Disabling", "of"),
            (false, true) => ("Adding", "to"),
            (false, false) => ("Removing", "from"),
        };
        out.push(Effect::Log(format!(
            "{verb} service {} {preposition} VS {}",
            self.config.server_label(config.spec.key),
            self.config.id
        )));
    }

    fn log_sorry(&self, verb: &str, preposition: &str, out: &mut Vec<Effect>) {
        if let Some(sorry) = self.config.sorry_server {
            out.push(Effect::Log(format!(
                "{verb} sorry server {} {preposition} VS {}",
                self.config.server_label(sorry.key),
                self.config.id
            )));
        }
    }

    fn log_pool(&self, what: &str, out: &mut Vec<Effect>) {
        out.push(Effect::Log(format!(
            "{what} the pool for VS {}",
            self.config.id
        )));
    }

    /// The states of a server's checks after a reload: those of checks that stay the same; a
    /// changed one starts afresh, but as things stood while the sorry server is in use.
    pub(crate) fn migrate(&self, old: &Server, new: &mut Server) {
        for state in &mut new.checks {
            let same = old.checks.iter().find(|was| was.check == state.check);
            let any = old.checks.first().filter(|_| self.sorry_in_use);
            if let Some(was) = same.or(any) {
                *state = CheckState {
                    check: state.check.clone(),
                    ..was.clone()
                };
            } else {
                state.up = true;
            }
        }
        let failed = new.checks.iter().any(|state| state.ran && !state.up);
        let asked = new.checks.iter().any(|state| state.ran);
        if failed || (!old.alive && !asked) {
            let waits = |state: &&mut CheckState| !state.ran && state.check.alpha;
            for state in new.checks.iter_mut().filter(waits) {
                state.up = false;
            }
        }
        new.held.clone_from(&old.held);
        new.alive = old.alive;
        new.since = old.since;
    }
}

/// A server without a port of its own has its service's.
pub(crate) fn at_service(spec: ServerSpec, service: ServiceKey) -> ServerSpec {
    let port = match spec.key.port {
        0 => service.port(),
        port => port,
    };
    ServerSpec {
        key: ServerKey { port, ..spec.key },
        ..spec
    }
}
