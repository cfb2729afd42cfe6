//! The task that follows a site.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use pointsman_api::{Command, RefusedFile, Reloaded, Reply, SiteView};
use pointsman_health::{Change as Probe, Event as ProbeEvent};
use pointsman_model::vrrp::VrrpEvent;
use pointsman_model::{Change, CheckKind, Error as Refusal, ServiceView, VirtualName};
use pointsman_notify::Notice;
use pointsman_pool::{Effect, Verdict, repairs};
use pointsman_script::Policy;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use super::{Site, describe, notices, router, run_bounded, timeouts, view::unix, vrrp};

/// The table is compared with what is wanted so often.
const REPAIR: Duration = Duration::from_secs(5);
/// The state is written so long after it changed, and local addresses are looked at so often.
const SECOND: Duration = Duration::from_secs(1);
/// Answers of checks that are taken in at a time.
const BURST: usize = 512;
/// Repairs that are named one by one in the log.
const NAMED: usize = 8;

/// What is asked of a site.
pub(crate) enum Request {
    /// How it stands.
    View(Reply<Option<SiteView>>),
    /// Read the configuration again, or another file.
    Reload {
        /// Another file.
        file: Option<String>,
        /// Nobody waits after a signal.
        reply: Option<Reply<Reloaded>>,
    },
    /// Leave the table and end.
    Stop(Reply<()>),
}

impl Site {
    pub(super) async fn run(
        mut self,
        director: mpsc::Sender<Command>,
        mut requests: mpsc::Receiver<Request>,
    ) {
        let mut repair = tokio::time::interval(REPAIR);
        let mut second = tokio::time::interval(SECOND);
        repair.set_missed_tick_behavior(MissedTickBehavior::Delay);
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut evidence = tokio::time::interval(super::evidence::PERIOD);
        evidence.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unsaved = false;
        loop {
            tokio::select! {
                event = self.events.recv() => {
                    let Some(event) = event else { return };
                    let mut effects = self.probed(event);
                    for _ in 1..BURST {
                        match self.events.try_recv() {
                            Ok(event) => effects.extend(self.probed(event)),
                            Err(_) => break,
                        }
                    }
                    unsaved |= !effects.is_empty();
                    self.carry_out(effects, &director).await;
                }
                event = self.vrrp.events.recv() => if let Some(event) = event {
                    let notice = self.vrrp_notice(&event);
                    self.notifier.tell(notice);
                },
                request = requests.recv() => match request {
                    Some(Request::View(reply)) => {
                        let table = table(&director).await.unwrap_or_default();
                        let _ = reply.send(Some(self.view(&table).await));
                    }
                    Some(Request::Reload { file, reply }) => {
                        let reloaded = self.reload(file, &director).await;
                        unsaved = true;
                        if let Some(reply) = reply {
                            let _ = reply.send(reloaded);
                        }
                    }
                    Some(Request::Stop(reply)) => {
                        self.stop(&director).await;
                        let _ = reply.send(());
                        return;
                    }
                    None => return,
                },
                _ = evidence.tick(), if !self.watched.is_empty() => self.observe(&director).await,
                _ = repair.tick() => self.repair(&director).await,
                _ = second.tick() => {
                    if std::mem::take(&mut unsaved) {
                        self.state_file.save(&self.pools.remember());
                    }
                    self.follow_addresses();
                    self.steer(&director).await;
                }
            }
        }
    }

    /// What an answer of a check means for its pool.
    fn probed(&mut self, event: ProbeEvent<u64>) -> Vec<Effect> {
        let Some((check, configured)) = self.checks.get(event.id) else {
            return Vec::new();
        };
        let (check, kind) = (check.clone(), configured.kind.name());
        let tries = configured.pace.retries;
        let server = notices::server_label(&check.id, check.server);
        let pool = self.pools.iter().find(|pool| pool.config().id == check.id);
        let known = pool.and_then(|pool| {
            let mut servers = pool.servers().iter();
            servers.find(|known| known.config.spec.key == check.server)
        });
        let Some(known) = known else {
            return Vec::new();
        };
        let weight = known.config.spec.weight.get();
        let stands = known.checks.get(check.check).is_some_and(|state| state.up);
        let stood_otherwise = matches!(event.change, Probe::Up | Probe::Down);
        if stood_otherwise && matches!(configured.kind, CheckKind::Passive(_)) {
            let services = pool.map_or(&[][..], |pool| &pool.config().keys);
            self.watched.forget(check.server, services);
        }
        let up = match event.change {
            Probe::Up => {
                tracing::info!(
                    "{kind} on service {server} of {} success: {}",
                    check.id,
                    event.reason
                );
                true
            }
            Probe::Down => {
                tracing::warn!(
                    "{kind} on service {server} of {} failed after {tries} retries: {}",
                    check.id,
                    event.reason
                );
                false
            }
            Probe::Confirmed => stands,
            Probe::Weight => true,
            Probe::Failed { forgiven } => {
                match forgiven {
                    Some((failures, of)) => tracing::info!(
                        "{kind} on service {server} of {} failed ({failures} of {of} tries): {}",
                        check.id,
                        event.reason
                    ),
                    None => tracing::info!(
                        "{kind} on service {server} of {} failed: {}",
                        check.id,
                        event.reason
                    ),
                }
                return Vec::new();
            }
            Probe::Restarted => {
                tracing::error!(
                    "{kind} of service {server} of {} broke off and is made anew: {}",
                    check.id,
                    event.reason
                );
                return Vec::new();
            }
        };
        let verdict = Verdict {
            up,
            reason: event.reason,
            weight: event.weight.map_or(0, |weigh| weigh.difference(weight)),
        };
        self.pools.verdict(&check, verdict, SystemTime::now())
    }

    /// Changes the table, then tells; returns how many changes there were.
    async fn carry_out(&mut self, effects: Vec<Effect>, director: &mpsc::Sender<Command>) -> usize {
        let mut changes = Vec::new();
        let mut told = Vec::new();
        for effect in effects {
            match effect {
                Effect::Change(change) => changes.push(change),
                Effect::Log(line) => tracing::info!("{line}"),
                Effect::Event(event) => {
                    told.push(notices::of(
                        &event,
                        &self.pools,
                        &self.read.site,
                        &self.router,
                    ));
                }
            }
        }
        let count = changes.len();
        if !apply(changes, director).await {
            // Somebody changed the table beside us.
            self.repair(director).await;
        }
        for notice in told {
            self.notifier.tell(notice);
        }
        count
    }

    /// Undoes what others did to the services of the site.
    async fn repair(&mut self, director: &mpsc::Sender<Command>) {
        let wanted = self.pools.wanted();
        if wanted.is_empty() {
            return;
        }
        let Some(table) = table(director).await else {
            return;
        };
        let mut changes = repairs(&wanted, &table);
        changes.extend(self.pools.local_address_repairs(&table));
        if changes.is_empty() {
            return;
        }
        let mut named: Vec<_> = changes.iter().take(NAMED).map(describe).collect();
        if changes.len() > NAMED {
            named.push(format!("and {} more", changes.len() - NAMED));
        }
        tracing::warn!(
            "the table was not as the configuration says; repaired: {}",
            named.join(", ")
        );
        self.repairs += 1;
        apply(changes, director).await;
    }

    /// Takes a new configuration, or says why not.
    async fn reload(&mut self, file: Option<String>, director: &mpsc::Sender<Command>) -> Reloaded {
        let source = match &file {
            Some(file) => self.source.with_file(file),
            None => self.source.clone(),
        };
        let name = source.file.display().to_string();
        tracing::info!("Reloading {name}");
        let read = source.read();
        let now = SystemTime::now();
        if let Some(problems) = read.worse_than(&self.read) {
            let problems = problems.to_owned();
            return self.refuse(name, problems, now);
        }
        let policy = Policy::of(&read.site.globals);
        if let Err(error) = self.vrrp.reload(&read.site.vrrp, policy.clone()).await {
            return self.refuse(name, error.to_string(), now);
        }
        self.engine.set_scripts(policy);
        let old = std::mem::replace(&mut self.read, read);
        self.vrrp_before = Some(old.site.vrrp.clone());
        self.source = source;
        self.read_at = now;
        self.refused = None;
        let site = &self.read.site;
        self.router = router(site);
        let mut effects = self.pools.reload(site, now);
        if old.site.globals.lvs_timeouts != site.globals.lvs_timeouts {
            effects.extend(timeouts(site.globals.lvs_timeouts).map(Effect::Change));
        }
        if old.site.globals != site.globals {
            self.notifier.configure(&site.globals);
        }
        let changes = self.carry_out(effects, director).await;
        self.steer(director).await;
        self.start_checks();
        self.repair(director).await;
        let remarks = self.read.remarks.clone();
        if !remarks.is_empty() {
            tracing::warn!("{name}\n{}", remarks.trim_end());
        }
        tracing::info!("{name}: reloaded, {changes} changes");
        Reloaded::Done {
            file: name,
            changes,
            remarks,
        }
    }

    fn refuse(&mut self, file: String, problems: String, now: SystemTime) -> Reloaded {
        tracing::error!(
            "{file}: refused, nothing is changed\n{}",
            problems.trim_end()
        );
        self.refused = Some(RefusedFile {
            at: unix(now),
            file: file.clone(),
            problems: problems.clone(),
        });
        Reloaded::Refused { file, problems }
    }

    fn vrrp_notice(&self, event: &VrrpEvent) -> Notice {
        let site = &self.read.site;
        let before = self.vrrp_before.as_ref();
        vrrp::notice(event, &site.vrrp, before, &site.globals, &self.router)
    }

    /// Leaves the table; who wants to be told of the end is told.
    async fn stop(&mut self, director: &mpsc::Sender<Command>) {
        // Others take over while the rest goes on.
        self.vrrp.stop().await;
        while let Ok(event) = self.vrrp.events.try_recv() {
            let notice = self.vrrp_notice(&event);
            self.notifier.tell_last(notice).await;
        }
        let site = self.read.site.clone();
        let effects = self.pools.stop();
        let mut changes = Vec::new();
        let mut told = Vec::new();
        for effect in effects {
            match effect {
                Effect::Change(change) => changes.push(change),
                Effect::Log(line) => tracing::info!("{line}"),
                Effect::Event(event) => {
                    told.push(notices::of(&event, &self.pools, &site, &self.router));
                }
            }
        }
        apply(changes, director).await;
        for notice in told {
            self.notifier.tell_last(notice).await;
        }
        let nobody = pointsman_notify::Notifier::new(&pointsman_model::Globals::default());
        std::mem::replace(&mut self.notifier, nobody).end().await;
        run_bounded(site.globals.shutdown_script.as_ref(), &site.globals).await;
        self.state_file.remove();
    }

    /// Virtual servers with `ha_suspend` are checked only while their VIP is on this host.
    fn follow_addresses(&mut self) {
        let mut suspends = self.pools.iter().map(|pool| pool.config());
        if !suspends.any(|config| config.ha_suspend) {
            return;
        }
        let Ok(addresses) = nix::ifaddrs::getifaddrs() else {
            return;
        };
        let local: BTreeSet<IpAddr> = addresses.filter_map(|a| address(a.address?)).collect();
        for pool in self.pools.iter() {
            let config = pool.config();
            let VirtualName::Address { addr, .. } = config.id.name else {
                continue;
            };
            if !config.ha_suspend {
                continue;
            }
            let is_here = local.contains(&addr);
            if is_here && self.suspended.remove(&config.id) {
                tracing::info!("{}: its address is here, checks go on", config.id);
                self.engine.resume(&self.checks.of(&config.id));
            } else if !is_here && self.suspended.insert(config.id.clone()) {
                tracing::info!("{}: its address is not here, checks wait", config.id);
                self.engine.suspend(&self.checks.of(&config.id));
            }
        }
    }
}

fn address(address: nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
}

/// The table as it is; `None` when the director is ending.
async fn table(director: &mpsc::Sender<Command>) -> Option<Vec<ServiceView>> {
    let (reply, answer) = oneshot::channel();
    director.send(Command::Services(reply)).await.ok()?;
    answer.await.ok()
}

/// All changes of one event in one go; false when one did not fit the table.
async fn apply(changes: Vec<Change>, director: &mpsc::Sender<Command>) -> bool {
    if changes.is_empty() {
        return true;
    }
    let named: Vec<_> = changes.iter().map(describe).collect();
    let (reply, answer) = oneshot::channel();
    if director.send(Command::Apply(changes, reply)).await.is_err() {
        return true;
    }
    let results = answer.await.unwrap_or_default();
    let mut fits = true;
    for (change, result) in named.iter().zip(results) {
        match result {
            Ok(()) => {}
            Err(
                error @ (Refusal::NoSuchService
                | Refusal::NoSuchDestination
                | Refusal::ServiceExists
                | Refusal::DestinationExists),
            ) => {
                tracing::debug!("{change}: {error}");
                fits = false;
            }
            Err(error) => tracing::error!("{change}: {error}"),
        }
    }
    fits
}
