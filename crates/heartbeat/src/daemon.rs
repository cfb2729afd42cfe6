//! The daemon: VRRP says who has a group, workers take and release it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use pointsman_config::heartbeat::{VrrpPlan, plan};
use pointsman_model::vrrp::{
    Preemption, Priority, VrrpEvent, VrrpGlobals, VrrpSite, VrrpState, VrrpSubject,
};
use pointsman_script::Policy;
use pointsman_vrrp::Vrrp;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::control;
use crate::files::{Settings, load};
use crate::group::{Report, Want, Worker};

/// Priority of a group that was given away by an operator: below every other.
const GIVEN_AWAY: u8 = 50;
/// Priority of one that an operator took: above every other.
const TAKEN: u8 = 200;
/// And while it is being taken, since the other node's operator may have taken it before. That node
/// steps down to [`GIVEN_AWAY`] then.
const TAKING: u8 = 254;
/// How long a group's instance is not there, for the other to take it.
const AWAY: Duration = Duration::from_secs(2);

/// What the daemon reacts to.
pub(crate) enum Event {
    Vrrp(VrrpEvent),
    Group(String, Report),
    Asked(String, Sender<String>),
    Stop,
}

/// Runs until a signal or a `stop` ends it; everything is released then.
///
/// # Errors
/// Bad files, or what VRRP cannot do.
pub fn run(settings: Settings) -> Result<(), String> {
    let (files, lines, bad) = load(&settings)?;
    for line in &lines {
        tracing::warn!("{line}");
    }
    if bad {
        return Err("heartbeat does not start: its files have errors".into());
    }
    let plans = plan(&files.ha_cf, &files.resources, &files.keys, &files.node);
    let (events, coming) = channel();
    control::listen(events.clone())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    listen(&runtime, &events).map_err(|error| error.to_string())?;

    let mut groups = BTreeMap::new();
    for plan in plans {
        for remark in &plan.remarks {
            tracing::warn!("{}: {remark}", plan.instance.name);
        }
        let name = plan.instance.name.clone();
        let worker = Worker::start(
            settings.clone(),
            plan.group.clone(),
            name.clone(),
            events.clone(),
        );
        groups.insert(name, Held::new(plan, worker));
    }
    let keepalive = files.ha_cf.keepalive;
    let waits = groups
        .values()
        .map(|group: &Held| group.plan.startup_delay)
        .max();
    let mut daemon = Daemon {
        node: files.node.name.to_ascii_lowercase(),
        away: AWAY.max(keepalive * 2),
        startup_delay: waits.unwrap_or_default(),
        groups,
        vrrp: None,
        runtime,
    };
    let (sender, mut changes) = tokio::sync::mpsc::unbounded_channel();
    let vrrp = Vrrp::start(daemon.site(), Policy::default(), sender);
    daemon.vrrp = Some(vrrp.map_err(|error| error.to_string())?);
    daemon.startup_delay = Duration::ZERO;
    let forward = events.clone();
    std::thread::spawn(move || {
        while let Some(change) = changes.blocking_recv() {
            if forward.send(Event::Vrrp(change)).is_err() {
                return;
            }
        }
    });
    tracing::info!("heartbeat runs on {}", daemon.node);
    let reply = daemon.follow(&coming);
    daemon.stop(&coming);
    if let Some(reply) = reply {
        let _ = reply.send("stopped\n".into());
    }
    if let Ok(socket) = control::socket() {
        let _ = std::fs::remove_file(socket);
    }
    Ok(())
}

/// A group, who it is, and where it is.
struct Held {
    plan: VrrpPlan,
    worker: Worker,
    state: VrrpState,
    held: bool,
    /// Its instance comes back then.
    away_until: Option<Instant>,
    /// What an operator said of it, or a failed start.
    priority: Option<u8>,
    /// [`TAKING`] becomes [`TAKEN`] then: some adverts after it is master.
    settles: Option<Instant>,
}

impl Held {
    fn new(plan: VrrpPlan, worker: Worker) -> Self {
        Self {
            plan,
            worker,
            state: VrrpState::Init,
            held: false,
            away_until: None,
            priority: None,
            settles: None,
        }
    }
}

struct Daemon {
    node: String,
    away: Duration,
    startup_delay: Duration,
    groups: BTreeMap<String, Held>,
    vrrp: Option<Vrrp>,
    runtime: Runtime,
}

impl Daemon {
    /// What VRRP shall run now.
    fn site(&self) -> VrrpSite {
        let here = self
            .groups
            .values()
            .filter(|group| group.away_until.is_none());
        let instances = here.map(|group| {
            let mut instance = group.plan.instance.clone();
            if let Some(priority) = group.priority.and_then(|p| Priority::new(p).ok()) {
                instance.priority = priority;
                instance.preemption = if priority.get() >= TAKEN {
                    Preemption::AtOnce
                } else {
                    Preemption::Never
                };
            }
            instance
        });
        VrrpSite {
            globals: VrrpGlobals {
                startup_delay: self.startup_delay,
                ..VrrpGlobals::default()
            },
            instances: instances.collect(),
            ..VrrpSite::default()
        }
    }

    fn reload(&self) {
        if let Some(vrrp) = &self.vrrp
            && let Err(error) = self
                .runtime
                .block_on(vrrp.reload(self.site(), Policy::default()))
        {
            tracing::error!("{error}");
        }
    }

    /// Until the end; who asked for it.
    fn follow(&mut self, coming: &Receiver<Event>) -> Option<Sender<String>> {
        loop {
            let now = Instant::now();
            let next = self
                .groups
                .values()
                .flat_map(|group| [group.away_until, group.settles])
                .flatten()
                .min();
            let wait = next.map_or(Duration::from_secs(3600), |at| {
                at.saturating_duration_since(now)
            });
            match coming.recv_timeout(wait) {
                Ok(Event::Stop) => return None,
                Ok(Event::Vrrp(change)) => self.changed(&change),
                Ok(Event::Group(name, report)) => self.reported(&name, &report),
                Ok(Event::Asked(request, reply)) => {
                    if request == "stop" {
                        return Some(reply);
                    }
                    let _ = reply.send(self.asked(&request));
                }
                Err(RecvTimeoutError::Timeout) => self.due(),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn changed(&mut self, change: &VrrpEvent) {
        let VrrpSubject::Instance(name) = &change.subject else {
            return;
        };
        let Some(group) = self.groups.get_mut(name) else {
            return;
        };
        if group.state == change.to {
            return;
        }
        tracing::info!("{name}: {} -> {}", group.state.name(), change.to.name());
        let taken_from_us = group.state == VrrpState::Master && change.to == VrrpState::Backup;
        group.state = change.to;
        group.worker.want(if change.to == VrrpState::Master {
            Want::Hold
        } else {
            Want::Leave
        });
        if change.to == VrrpState::Master && group.priority == Some(TAKING) {
            group.settles = Some(Instant::now() + self.away);
        }
        if taken_from_us && group.priority.is_some_and(|priority| priority >= TAKEN) {
            group.priority = Some(GIVEN_AWAY);
            group.settles = None;
            self.reload();
        }
    }

    fn reported(&mut self, name: &str, report: &Report) {
        let Some(group) = self.groups.get_mut(name) else {
            return;
        };
        match report {
            Report::Taken => {
                group.held = true;
                tracing::info!("{name}: all resources are here");
            }
            Report::Released => group.held = false,
            Report::Failed(pause) => {
                group.held = false;
                group.state = VrrpState::Fault;
                // Not taken back from a node where it runs.
                group.priority = Some(GIVEN_AWAY);
                group.settles = None;
                group.away_until = Some(Instant::now() + *pause);
                self.reload();
            }
        }
    }

    /// Instances that were away take part again; priorities of a take-over are lowered.
    fn due(&mut self) {
        let now = Instant::now();
        for group in self.groups.values_mut() {
            if group.away_until.is_some_and(|until| until <= now) {
                group.away_until = None;
            }
            if group.settles.is_some_and(|at| at <= now) {
                group.settles = None;
                group.priority = Some(TAKEN);
            }
        }
        self.reload();
    }

    fn asked(&mut self, request: &str) -> String {
        let (word, which) = request.split_once(' ').unwrap_or((request, "all"));
        match (word, which) {
            ("status", _) => self.status(),
            ("standby" | "takeover", "all" | "local" | "foreign") => {
                let node = self.node.clone();
                let mut names = Vec::new();
                for (name, group) in &mut self.groups {
                    let local = group.plan.group.node == node;
                    let meant = which == "all" || (which == "local") == local;
                    if !meant {
                        continue;
                    }
                    names.push(name.clone());
                    if word == "standby" {
                        group.worker.want(Want::Leave);
                        group.state = VrrpState::Backup;
                        group.priority = Some(GIVEN_AWAY);
                        group.settles = None;
                        group.away_until = Some(Instant::now() + self.away);
                    } else {
                        group.priority = Some(TAKING);
                        let is_master = group.state == VrrpState::Master;
                        group.settles = is_master.then(|| Instant::now() + self.away);
                        group.away_until = None;
                    }
                }
                self.reload();
                format!("{word}: {}\n", names.join(", "))
            }
            _ => format!("{request}: not understood\n"),
        }
    }

    fn status(&self) -> String {
        let mut text = format!("heartbeat is running on {}\n", self.node);
        for (name, group) in &self.groups {
            let state = if group.away_until.is_some() {
                "left to the other node"
            } else if group.held {
                "held"
            } else if group.state == VrrpState::Master {
                "being taken"
            } else {
                "not held"
            };
            let preferred = &group.plan.group.node;
            let vrid = group.plan.instance.vrid;
            let _ = writeln!(
                text,
                "{name}: {state} ({}, preferred on {preferred}, virtual router {vrid})",
                group.state.name()
            );
            for resource in &group.plan.group.resources {
                let _ = writeln!(text, "  {}", resource.text);
            }
        }
        text
    }

    /// Releases everything, then resigns: the other node finds the addresses free.
    fn stop(&mut self, coming: &Receiver<Event>) {
        for group in self.groups.values() {
            group.worker.want(Want::Leave);
        }
        let mut waiting: Vec<String> = self
            .groups
            .iter()
            .filter(|(_, group)| group.held || group.state == VrrpState::Master)
            .map(|(name, _)| name.clone())
            .collect();
        while !waiting.is_empty() {
            match coming.recv() {
                Ok(Event::Group(name, Report::Released | Report::Failed(_))) => {
                    waiting.retain(|other| *other != name);
                }
                Ok(Event::Asked(_, reply)) => {
                    let _ = reply.send("stopping\n".into());
                }
                Ok(_) => {}
                Err(_) => return,
            }
        }
        if let Some(vrrp) = self.vrrp.take() {
            self.runtime.block_on(vrrp.stop());
        }
    }
}

fn listen(runtime: &Runtime, events: &Sender<Event>) -> std::io::Result<()> {
    let _inside = runtime.enter();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind)?;
        let events = events.clone();
        runtime.spawn(async move {
            while signals.recv().await.is_some() {
                let _ = events.send(Event::Stop);
            }
        });
    }
    Ok(())
}
