use std::time::SystemTime;

use pointsman_model::{
    Change, FlushOnStop, ServerKey, ServerSpec, ServiceSpec, ServiceView, Site, SorryServer,
    VirtualId, VirtualServer, Weight,
};

use crate::event::Effect;
use crate::pool::{Pool, at_service};
use crate::remembered::Remembered;
use crate::server::Server;

/// All pools of a site.
#[derive(Clone, Debug, Default)]
pub struct Pools {
    pools: Vec<Pool>,
    flush_on_stop: FlushOnStop,
    announce_new: bool,
}

/// Names a check of a site.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CheckRef {
    /// Virtual server.
    pub id: VirtualId,
    /// Real server.
    pub server: ServerKey,
    /// Place in the server's list.
    pub check: usize,
}

/// What a check says, retries counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The server is fit.
    pub up: bool,
    /// Why, in words.
    pub reason: String,
    /// What is to be added to the server's configured weight; counts only with `up`.
    pub weight: i64,
}

impl Pools {
    /// Begins: services and servers that wait for nothing go into the table, then quorums are
    /// looked at.
    ///
    /// What `remembered` says of a server is where that server goes on, silently.
    pub fn start(
        site: &Site,
        remembered: Option<&Remembered>,
        now: SystemTime,
    ) -> (Self, Vec<Effect>) {
        let mut pools = Self {
            pools: Vec::new(),
            flush_on_stop: site.globals.lvs_flush_on_stop,
            announce_new: site.globals.rs_init_notifies,
        };
        let mut out = Vec::new();
        if site.globals.lvs_flush && remembered.is_none() {
            out.push(Effect::Change(Change::Flush));
        }
        for config in &site.virtual_servers {
            let known = remembered.and_then(|remembered| remembered.of(&config.id));
            let mut pool = Pool::new(config, fresh(config, now), now);
            pool.add_services(&mut out);
            match known {
                Some(known) => known.resume(&mut pool, now, &mut out),
                None => pool.begin(pools.announce_new, now, &mut out),
            }
            pools.pools.push(pool);
        }
        (pools, out)
    }

    /// A check has spoken. One that the site has no more is ignored.
    pub fn verdict(&mut self, check: &CheckRef, verdict: Verdict, now: SystemTime) -> Vec<Effect> {
        let mut out = Vec::new();
        if let Some((pool, server)) = self.find(&check.id, check.server)
            && check.check < pool.servers[server].checks.len()
        {
            pool.verdict(server, check.check, verdict, now, &mut out);
        }
        out
    }

    /// Keeps a server out for a reason, or lets it in again with `None`.
    pub fn hold(
        &mut self,
        id: &VirtualId,
        server: ServerKey,
        why: Option<String>,
        now: SystemTime,
    ) -> Vec<Effect> {
        let mut out = Vec::new();
        if let Some((pool, server)) = self.find(id, server) {
            pool.hold(server, why, now, &mut out);
        }
        out
    }

    /// Takes a new configuration: what vanished goes first, then what changed, then what is new.
    /// What stayed the same is not touched.
    pub fn reload(&mut self, site: &Site, now: SystemTime) -> Vec<Effect> {
        let mut out = Vec::new();
        self.flush_on_stop = site.globals.lvs_flush_on_stop;
        self.announce_new = site.globals.rs_init_notifies;
        let mut old = std::mem::take(&mut self.pools);
        let mut kept = Vec::new();
        for mut pool in old.drain(..) {
            let stays = site
                .virtual_servers
                .iter()
                .any(|new| new.id == pool.config.id);
            if stays {
                kept.push(pool);
            } else {
                out.push(Effect::Log(format!(
                    "Removing Virtual Server {}",
                    pool.config.id
                )));
                pool.end(false, false, &mut out);
            }
        }
        let mut next = Vec::new();
        for config in &site.virtual_servers {
            match kept.iter().position(|pool| pool.config.id == config.id) {
                Some(at) => {
                    let mut pool = kept.swap_remove(at);
                    take_over(&mut pool, config, now, &mut out);
                    next.push((pool, false));
                }
                None => next.push((Pool::new(config, fresh(config, now), now), true)),
            }
        }
        for (mut pool, new) in next {
            if new {
                pool.add_services(&mut out);
            }
            pool.begin(self.announce_new, now, &mut out);
            self.pools.push(pool);
        }
        out
    }

    /// Ends: everything of the site leaves the table.
    pub fn stop(&mut self) -> Vec<Effect> {
        let mut out = Vec::new();
        let flush = self.flush_on_stop != FlushOnStop::Off;
        if self.flush_on_stop == FlushOnStop::Everything {
            out.push(Effect::Change(Change::Flush));
        }
        for pool in &mut self.pools {
            let mut own = Vec::new();
            pool.end(true, flush, &mut own);
            if self.flush_on_stop == FlushOnStop::Everything {
                own.retain(|effect| !matches!(effect, Effect::Change(_)));
            }
            out.append(&mut own);
        }
        self.pools.clear();
        out
    }

    /// The table as it should be: services in configuration order, servers in the order in which
    /// they were added.
    pub fn wanted(&self) -> Vec<(ServiceSpec, Vec<ServerSpec>)> {
        let pools = self.pools.iter();
        pools
            .flat_map(|pool| {
                pool.config.keys.iter().map(|&key| {
                    let servers = pool.placed.iter().map(|&spec| at_service(spec, key));
                    (pool.config.service(key), servers.collect())
                })
            })
            .collect()
    }

    /// What is to be changed so that services have the local addresses of FULLNAT that the site
    /// gives them, and no others.
    pub fn local_address_repairs(&self, table: &[ServiceView]) -> Vec<Change> {
        let mut changes = Vec::new();
        for pool in &self.pools {
            let wanted = &pool.config.local_addresses;
            for &service in &pool.config.keys {
                let view = table.iter().find(|view| view.spec.key == service);
                let there = view.map_or(&[][..], |view| &view.local_addresses);
                let missing = wanted.iter().filter(|address| !there.contains(address));
                changes
                    .extend(missing.map(|&address| Change::AddLocalAddress { service, address }));
                let stale = there.iter().filter(|address| !wanted.contains(address));
                changes
                    .extend(stale.map(|&address| Change::DeleteLocalAddress { service, address }));
            }
        }
        changes
    }

    /// All pools, in configuration order.
    pub fn iter(&self) -> impl Iterator<Item = &Pool> {
        self.pools.iter()
    }

    fn find(&mut self, id: &VirtualId, server: ServerKey) -> Option<(&mut Pool, usize)> {
        let pool = self.pools.iter_mut().find(|pool| pool.config.id == *id)?;
        let mut servers = pool.servers.iter();
        let at = servers.position(|known| known.config.spec.key == server)?;
        Some((pool, at))
    }
}

fn fresh(config: &VirtualServer, now: SystemTime) -> Vec<Server> {
    let servers = config.servers.iter();
    servers.map(|server| Server::new(server, now)).collect()
}

/// The same virtual server with a new configuration; new servers come in later.
fn take_over(pool: &mut Pool, config: &VirtualServer, now: SystemTime, out: &mut Vec<Effect>) {
    let old = std::mem::replace(&mut pool.config, config.clone());
    let (gone, new): (Vec<_>, Vec<_>) = (
        old.keys
            .iter()
            .filter(|key| !config.keys.contains(key))
            .collect(),
        config
            .keys
            .iter()
            .filter(|key| !old.keys.contains(key))
            .collect(),
    );
    for &key in &gone {
        out.push(Effect::Change(Change::DeleteService(*key)));
    }
    for key in config.keys.iter().filter(|key| old.keys.contains(key)) {
        let service = config.service(*key);
        if service != old.service(*key) {
            out.push(Effect::Change(Change::EditService(service)));
        }
    }
    // What is placed stays placed; a new address of a group gets all of it.
    for &key in &new {
        out.push(Effect::Change(Change::AddService(config.service(*key))));
        for &spec in &pool.placed {
            let server = at_service(spec, *key);
            let service = *key;
            out.push(Effect::Change(Change::AddServer { service, server }));
        }
    }
    for at in 0..pool.servers.len() {
        let key = pool.servers[at].config.spec.key;
        if !config.servers.iter().any(|server| server.spec.key == key) {
            let label = pool.config.server_label(key);
            out.push(Effect::Log(format!("service {label} no longer exist")));
            pool.server_leaves(at, false, true, out);
        }
    }
    let before = std::mem::replace(&mut pool.servers, fresh(config, now));
    for at in 0..pool.servers.len() {
        let key = pool.servers[at].config.spec.key;
        let Some(was) = before.iter().find(|was| was.config.spec.key == key) else {
            continue;
        };
        let mut server = pool.servers[at].clone();
        pool.migrate(was, &mut server);
        pool.servers[at] = server;
        let server = &pool.servers[at];
        if was.weight() != server.weight() {
            out.push(Effect::Log(format!(
                "Changing weight from {} to {} for {}active service {} of VS {}",
                was.weight().get(),
                server.weight().get(),
                if server.alive { "" } else { "in" },
                pool.config.server_label(key),
                pool.config.id
            )));
        }
        pool.refresh(at, now, out);
    }
    pool.change_sorry(old.sorry_server, out);
}

impl Pool {
    /// A server whose configuration may have changed stands in the table as it should now.
    fn refresh(&mut self, at: usize, now: SystemTime, out: &mut Vec<Effect>) {
        let was_alive = self.servers[at].alive;
        if self.servers[at].is_fit() != was_alive {
            self.settle(at, now, out);
            return;
        }
        let server = &self.servers[at];
        let key = server.config.spec.key;
        let is_there = self.placed_weight(key).is_some();
        if server.alive && !self.sorry_in_use {
            if is_there {
                self.place(server.spec(), out);
            }
        } else if server.config.inhibit_on_failure {
            self.place(server.quiesced(), out);
        } else if self
            .config
            .sorry_server
            .is_none_or(|sorry| sorry.key != key)
        {
            self.remove(key, out);
        }
    }

    /// The sorry server may be another one, or none.
    fn change_sorry(&mut self, old: Option<SorryServer>, out: &mut Vec<Effect>) {
        let Some(old) = old else { return };
        let new = self.config.sorry_server;
        if new == Some(old) {
            return;
        }
        let same_key = new.is_some_and(|new| new.key == old.key);
        if !same_key {
            out.push(Effect::Log(format!(
                "Removing sorry server {} from VS {}",
                self.config.server_label(old.key),
                self.config.id
            )));
            self.remove(old.key, out);
        } else if let Some(new) = new
            && !new.inhibit
            && !self.sorry_in_use
        {
            self.remove(old.key, out);
        }
        if !self.sorry_in_use {
            return;
        }
        match new {
            Some(_) => {
                // At once, so that the service is not left without anybody.
                self.place(self.sorry(Weight::DEFAULT), out);
            }
            None => {
                self.sorry_in_use = false;
                self.reinstate(out);
            }
        }
    }
}
