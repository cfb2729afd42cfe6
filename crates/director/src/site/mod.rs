//! The configuration that a director follows: virtual servers with their checks, and who is told.
//!
//! ```text
//!  file ─► source ─► model::Site ─┬─► pool::Pools ──changes──► the director's command channel
//!                                 ├─► health::Engine ──events─► pools
//!                                 └─► notify::Notifier ◄─events─ pools
//! ```
//!
//! [`Site::begin`] brings the table to what is wanted before the first request is answered; then
//! the site is a task of its own, which changes the table through the same commands as everybody.

mod checks;
mod evidence;
mod notices;
mod run;
mod source;
mod state_file;
mod steering;
mod view;
mod vrrp;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pointsman_api::{Command, Location, RefusedFile};
use pointsman_health::{Context, Engine};
use pointsman_model::vrrp::VrrpSite;
use pointsman_model::{Change, Timeouts, VirtualId};
use pointsman_notify::Notifier;
use pointsman_pool::{Effect, Pools, repairs};
use tokio::sync::mpsc;

use crate::Error;
use crate::state::Director;
use checks::Checks;
pub(crate) use run::Request;
pub use source::Source;
use state_file::StateFile;

/// A configuration that was read and can be followed.
pub(crate) struct Plan {
    source: Source,
    read: source::Read,
}

impl Plan {
    /// Reads it.
    ///
    /// # Errors
    /// [`Error::Configuration`] when nothing of it can be used.
    pub fn read(source: &Source) -> Result<Self, Error> {
        let read = source.read();
        if let Some(problems) = read.fatal {
            return Err(Error::Configuration { problems });
        }
        if !read.remarks.is_empty() {
            tracing::warn!("{}\n{}", source.file.display(), read.remarks.trim_end());
        }
        Ok(Self {
            source: source.clone(),
            read,
        })
    }
}

/// A site that is followed.
pub(crate) struct Site {
    source: Source,
    read: source::Read,
    read_at: SystemTime,
    refused: Option<RefusedFile>,
    pools: Pools,
    engine: Engine<u64>,
    events: mpsc::UnboundedReceiver<pointsman_health::Event<u64>>,
    checks: Checks,
    /// Services whose clients' connections are watched.
    watched: evidence::Watched,
    /// Where probes along the true path go.
    paths: steering::Paths,
    /// Whether there are any.
    probes: bool,
    /// Length of a tick of the kernel.
    tick: Duration,
    notifier: Notifier,
    vrrp: vrrp::Engine,
    /// VRRP before the last reload.
    vrrp_before: Option<VrrpSite>,
    state_file: StateFile,
    router: String,
    repairs: u64,
    /// Whose checks wait for their VIP (`ha_suspend`).
    suspended: HashSet<VirtualId>,
}

impl Site {
    /// Brings the table to what is wanted. Where an earlier director of the same tables was
    /// killed, its state goes on.
    ///
    /// # Errors
    /// When the system gives no thread for checks.
    pub async fn begin(
        plan: Plan,
        director: &mut Director,
        location: &Location,
        adopted: bool,
    ) -> Result<Self, Error> {
        let now = SystemTime::now();
        let state_file = StateFile::new(location);
        let remembered = adopted.then(|| state_file.load()).flatten();
        let site = &plan.read.site;
        let policy = pointsman_script::Policy::of(&site.globals);
        let mut notifier = Notifier::new(&site.globals);
        run_bounded(site.globals.startup_script.as_ref(), &site.globals).await;

        let table = director.tables().services();
        let (pools, effects) = Pools::start(site, remembered.as_ref(), now);
        let mut changes = Vec::new();
        let flush = effects.contains(&Effect::Change(Change::Flush));
        if flush {
            changes.push(Change::Flush);
        }
        let there = if flush { &[][..] } else { &table };
        changes.extend(repairs(&pools.wanted(), there));
        changes.extend(pools.local_address_repairs(there));
        changes.extend(timeouts(site.globals.lvs_timeouts));
        let described: Vec<_> = changes.iter().map(describe).collect();
        let results = director.apply(changes).await;
        for (change, result) in described.iter().zip(results) {
            if let Err(error) = result {
                tracing::error!("{change}: {error}");
            }
        }
        // Last, so that nobody is sent to a VIP whose services are not there yet: an owner takes it at
        // once, and a start-up script may run for longer than a master may be silent.
        let paths = steering::Paths::default();
        let probed = steering::wanted(&pools);
        let marks = director.set_probed(&steering::asked(&probed)).await;
        paths.set(&probed, marks);
        let context = Context {
            scripts: policy.clone(),
            steering: Some(Arc::new(paths.clone())),
            ..Context::default()
        };
        let vrrp =
            vrrp::Engine::start(&site.vrrp, policy, context.bfd.clone()).map_err(|error| {
                let problems = error.to_string();
                Error::Configuration { problems }
            })?;
        let router = router(site);
        for effect in effects {
            match effect {
                Effect::Change(_) => {}
                Effect::Log(line) => tracing::info!("{line}"),
                Effect::Event(event) => {
                    notifier.tell(notices::of(&event, &pools, site, &router));
                }
            }
        }
        let started = Engine::start(context);
        let (engine, events) = started.map_err(|source| Error::Os {
            doing: "starting health checks",
            source,
        })?;
        let mut site = Self {
            source: plan.source,
            read: plan.read,
            read_at: now,
            refused: None,
            pools,
            engine,
            events,
            checks: Checks::default(),
            watched: evidence::Watched::default(),
            paths,
            probes: !probed.is_empty(),
            tick: Duration::from_secs(1) / director.tables().hz(),
            notifier,
            vrrp,
            vrrp_before: None,
            state_file,
            router,
            repairs: 0,
            suspended: HashSet::new(),
        };
        site.start_checks();
        site.state_file.save(&site.pools.remember());
        Ok(site)
    }

    /// Follows it in a task of its own, which is asked through the sender.
    pub fn follow(self, director: mpsc::Sender<Command>) -> mpsc::Sender<Request> {
        let (sender, requests) = mpsc::channel(16);
        tokio::spawn(self.run(director, requests));
        sender
    }

    fn start_checks(&mut self) {
        // New ones run; those that should not are suspended within a second.
        self.suspended.clear();
        self.checks.renew(&self.pools);
        self.watched.renew(&self.pools, self.tick);
        for (serial, problem) in self.engine.set(self.checks.list()) {
            if let Some((check, _)) = self.checks.get(serial) {
                tracing::error!(
                    "real server {} of {}: cannot be checked: {problem}",
                    check.server.addr,
                    check.id
                );
            }
        }
    }
}

/// Timeouts that are to be set, if any.
fn timeouts(wanted: Timeouts) -> Option<Change> {
    let kept = Timeouts {
        tcp: 0,
        tcp_fin: 0,
        udp: 0,
    };
    (wanted != kept).then_some(Change::SetTimeouts(wanted))
}

fn router(site: &pointsman_model::Site) -> String {
    let host = || nix::unistd::gethostname().ok()?.into_string().ok();
    let named = site.globals.router_id.clone();
    named.or_else(host).unwrap_or_else(|| "pointsman".into())
}

/// A change in the words of logs.
fn describe(change: &Change) -> String {
    let server =
        |key: pointsman_model::ServerKey| std::net::SocketAddr::new(key.addr, key.port).to_string();
    match change {
        Change::AddService(spec) => format!("add service {}", spec.key),
        Change::EditService(spec) => format!("edit service {}", spec.key),
        Change::DeleteService(key) => format!("delete service {key}"),
        Change::AddServer {
            service,
            server: spec,
        } => format!(
            "add server {} with weight {} to {service}",
            server(spec.key),
            spec.weight.get()
        ),
        Change::EditServer {
            service,
            server: spec,
        } => format!(
            "set server {} of {service} to weight {}",
            server(spec.key),
            spec.weight.get()
        ),
        Change::DeleteServer {
            service,
            server: key,
        } => format!("delete server {} of {service}", server(*key)),
        Change::Flush => "flush the table".to_owned(),
        Change::SetTimeouts(_) => "set timeouts".to_owned(),
        other => format!("{other:?}"),
    }
}

async fn run_bounded(
    script: Option<&pointsman_model::BoundedScript>,
    globals: &pointsman_model::Globals,
) {
    let Some(bounded) = script else { return };
    let policy = pointsman_script::Policy::of(globals);
    match pointsman_script::Program::prepare(&bounded.script, &policy) {
        Ok(program) => {
            let run = program.run(Some(bounded.timeout)).await;
            if !run.succeeded() {
                tracing::warn!("{program}: {run}");
            }
        }
        Err(error) => tracing::warn!("{}: {error}", bounded.script),
    }
}

/// Where the state is kept between a kill and the next start.
pub(crate) fn state_path(location: &Location) -> PathBuf {
    location.run_dir().join("site.json")
}
