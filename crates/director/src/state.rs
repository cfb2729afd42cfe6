//! The director's state: the data plane and what is known of the network around it.
//!
//! One owner, no locks: requests, kernel events and timers reach it one after the other through
//! [`crate::main_loop`].

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use pointsman_dataplane::DataPlane;
use pointsman_model::{Change, Error as Refusal, Family, ServerSpec, ServiceKey};
use tokio::task::JoinSet;

use crate::links::{self, LinkChange, Links, Outcome};
use crate::netlink::{self, Event, Link, Netlink};
use crate::next_hops::{Effect, NextHops, Request, Resolution};
use crate::pace::Pace;
use crate::{Error, Options, variables};

mod status;

/// Up to so many routes are looked up before a request is answered, so that a server just added
/// is reachable; more go on beside.
const LOOKUPS_INLINE: usize = 256;

/// Routes are looked up anew so long after they changed: changes come in bursts.
const SETTLE: Duration = Duration::from_millis(100);

/// A sweep begins so long after the one before, unless that took longer.
const SWEEP: Duration = Duration::from_secs(1);

/// Sets of the connection table that are swept in one go, 2 MiB: others wait for less than a millisecond.
const SWEEP_SETS: u32 = 4096;

/// So many times as long as that took the sweep rests, so that a large table is swept in more than a second
/// and not by much more than a fortieth of a processor.
const SWEEP_REST: u32 = 40;

/// The step of IPVS's rate estimators.
const ESTIMATE: Duration = Duration::from_secs(2);

/// Services whose rates are estimated in one go: others wait for a fifth of a millisecond.
const ESTIMATE_SERVICES: usize = 64;

/// So many times as long as that took it rests: all are done well within the step.
const ESTIMATE_REST: u32 = 10;

/// Neighbours asked of the kernel at a time; the rest follow every second.
const REQUESTS: usize = 1024;

/// What to do about a kernel that takes no more neighbours.
const TABLE_FULL: &str =
    "the kernel's neighbour table is full: raise net.ipv4.neigh.default.gc_thresh3";

/// Everything a director knows and does.
pub(crate) struct Director {
    options: Options,
    cookie: u64,
    started: Instant,
    dataplane: DataPlane,
    netlink: Netlink,
    links: Links,
    hops: NextHops,
    /// Addresses that no real server can have.
    broadcasts: BTreeSet<Ipv4Addr>,
    /// Live connections at the last sweep.
    live: u32,
    sweeping: Pace,
    estimating: Pace,
    /// The kernel took no more neighbours at the last try.
    table_full: bool,
    /// Cached next hops are stale.
    epoch_due: bool,
    /// Local addresses changed.
    addresses_due: bool,
    /// Servers went; their next hops may be of no more use.
    prune_due: bool,
    /// The rules that bring marked packets back may not be what they should.
    marks_due: bool,
    /// What could not be done about them at the last try.
    marks_problem: Option<String>,
    /// When all routes are to be looked up again.
    resolve_at: Option<Instant>,
    /// Look-ups of many routes, one set at a time.
    lookups: JoinSet<Vec<(IpAddr, Resolution)>>,
}

impl Director {
    pub fn new(options: Options, cookie: u64, dataplane: DataPlane, netlink: Netlink) -> Self {
        Self {
            options,
            cookie,
            started: Instant::now(),
            sweeping: Pace::new(SWEEP, SWEEP_REST),
            estimating: Pace::new(ESTIMATE, ESTIMATE_REST),
            dataplane,
            netlink,
            links: Links::default(),
            hops: NextHops::default(),
            broadcasts: BTreeSet::new(),
            live: 0,
            table_full: false,
            epoch_due: false,
            addresses_due: false,
            prune_due: false,
            // An earlier director may have left some, also without services.
            marks_due: true,
            marks_problem: None,
            resolve_at: None,
            lookups: JoinSet::new(),
        }
    }

    /// Attaches the programs and learns the network; afterwards packets are balanced.
    ///
    /// # Errors
    /// An interface the operator named that cannot carry the programs, or netlink.
    pub async fn set_up(&mut self, links: Vec<Link>) -> Result<(), Error> {
        for link in links {
            self.take_interface(link)?;
        }
        self.broadcasts = self.netlink.broadcasts().await?.into_iter().collect();
        let neighbours = self.netlink.neighbours().await?;
        let effects = self.hops.replace_neighbours(neighbours);
        self.carry_out(effects);
        let servers = self.dataplane.tables().server_addresses();
        self.add_next_hops(servers).await;
        self.bring_marked_back().await;
        self.epoch_due = true;
        self.settle().await;
        Ok(())
    }

    /// Gives the data plane away, for it to be removed or left in place.
    pub fn into_dataplane(self) -> DataPlane {
        self.dataplane
    }

    /// The data plane, for what it keeps by itself.
    pub fn dataplane(&mut self) -> &mut DataPlane {
        &mut self.dataplane
    }

    /// When [`Director::sweep`] is due.
    pub fn sweep_at(&self) -> Instant {
        self.sweeping.at()
    }

    /// When [`Director::estimate`] is due.
    pub fn estimate_at(&self) -> Instant {
        self.estimating.at()
    }

    /// When [`Director::resolve_all`] is due.
    pub fn resolve_at(&self) -> Option<Instant> {
        self.resolve_at
    }

    /// Answer of look-ups that ran beside; waits forever while there are none.
    pub async fn lookups(&mut self) -> Vec<(IpAddr, Resolution)> {
        match self.lookups.join_next().await {
            Some(Ok(answers)) => answers,
            Some(Err(error)) => {
                tracing::error!(%error, "a route look-up broke off");
                self.routes_changed();
                Vec::new()
            }
            None => std::future::pending().await,
        }
    }

    /// Makes changes in order, each by itself.
    pub async fn apply(&mut self, changes: Vec<Change>) -> Vec<Result<(), Refusal>> {
        let mut servers = BTreeSet::new();
        let results = changes
            .into_iter()
            .map(|change| {
                let server = match &change {
                    Change::AddServer { server, .. } => Some(server.key.addr),
                    _ => None,
                };
                let new = server.is_some_and(|s| !self.dataplane.tables().has_server_at(s));
                let result = self.apply_one(change);
                if let (Ok(()), Some(server)) = (&result, server) {
                    if new {
                        // Removed and added in one go: the tables know nothing of it any more.
                        self.hops.forget(server);
                    }
                    servers.insert(server);
                }
                result
            })
            .collect();
        self.add_next_hops(servers).await;
        self.bring_marked_back().await;
        results
    }

    fn apply_one(&mut self, change: Change) -> Result<(), Refusal> {
        self.check(&change)?;
        let marks = match &change {
            Change::AddService(spec) => matches!(spec.key, ServiceKey::Mark { .. }),
            Change::DeleteService(key) => matches!(key, ServiceKey::Mark { .. }),
            Change::Flush => true,
            _ => false,
        };
        self.marks_due |= marks;
        let tables = self.dataplane.tables();
        match change {
            Change::AddService(spec) => tables.add_service(&spec),
            Change::EditService(spec) => tables.edit_service(&spec),
            Change::DeleteService(key) => {
                self.prune_due = true;
                tables.delete_service(&key)
            }
            Change::Flush => {
                self.prune_due = true;
                tables.flush();
                Ok(())
            }
            Change::AddServer { service, server } => tables.add_server(&service, &server),
            Change::EditServer { service, server } => tables.edit_server(&service, &server),
            Change::DeleteServer { service, server } => {
                self.prune_due = true;
                tables.delete_server(&service, &server)
            }
            Change::AddLocalAddress { service, address } => {
                if !is_own(address) {
                    tracing::warn!(
                        "{service}: the local address {address} is on no interface; replies by \
                         FULLNAT come back once it is"
                    );
                }
                tables.add_local_address(&service, address)
            }
            Change::DeleteLocalAddress { service, address } => {
                tables.delete_local_address(&service, address)
            }
            Change::SetTimeouts(change) => {
                tables.set_timeouts(change);
                Ok(())
            }
            Change::Zero { service } => tables.zero(service.as_ref()),
            Change::AddMarkRule { at, rule } => tables.add_mark_rule(at, &rule),
            Change::DeleteMarkRule { at } => tables.delete_mark_rule(at),
            Change::SetMarkRules(rules) => tables.set_mark_rules(&rules),
            Change::SetVariable { name, value } => variables::set(tables, name, &value),
            Change::StartDaemon(_) | Change::StopDaemon(_) => Err(Refusal::NotSupported(
                "the connection synchronisation daemon".into(),
            )),
        }
    }

    /// What only this host can know of a change.
    pub fn check(&self, change: &Change) -> Result<(), Refusal> {
        let (Change::AddServer { server, .. } | Change::EditServer { server, .. }) = change else {
            return Ok(());
        };
        match server.key.addr {
            IpAddr::V4(addr) if self.broadcasts.contains(&addr) => Err(Refusal::Invalid(format!(
                "{addr} is a broadcast address of this host"
            ))),
            _ => Ok(()),
        }
    }

    /// The tables, for reading.
    pub fn tables(&mut self) -> &mut pointsman_dataplane::Tables {
        self.dataplane.tables()
    }

    /// Lets probes reach these servers, and no others.
    pub async fn set_probed(&mut self, servers: &[(ServiceKey, ServerSpec)]) -> Vec<Option<u32>> {
        let marks = self.dataplane.tables().set_probed(servers);
        self.prune_due = true;
        self.add_next_hops(servers.iter().map(|(_, spec)| spec.key.addr))
            .await;
        marks
    }

    /// Lapsed connections go, of a part of the table.
    pub fn sweep(&mut self) {
        let begun = Instant::now();
        let done = self.dataplane.tables().sweep_part(SWEEP_SETS);
        self.sweeping.done(begun, Instant::now(), done.is_some());
        self.live = done.map_or(self.live, |done| done.live);
    }

    /// Every second: what is kept by the clock is looked at, and what others undid is done again.
    pub async fn tick(&mut self) {
        variables::defend(self.dataplane.tables());
        self.dataplane.tables().tend();
        for name in crate::sysctl::enforce() {
            tracing::warn!("{name} had been changed; it is set again");
        }
        if std::mem::take(&mut self.prune_due) {
            let present = self.dataplane.tables().server_addresses();
            let present = present.into_iter().collect();
            self.hops.retain(&present);
        }
        self.reconcile().await;
        self.bring_marked_back().await;
        self.settle().await;
    }

    /// Rates are estimated, of a part of the services.
    pub fn estimate(&mut self) {
        let begun = Instant::now();
        let done = self.dataplane.tables().estimate_part(ESTIMATE_SERVICES);
        self.estimating.done(begun, Instant::now(), done);
    }

    /// Takes in one event; [`Director::settle`] follows when the burst is over.
    pub async fn event(&mut self, event: Event) {
        match event {
            Event::Link(link) => match self.links.compare(&link) {
                LinkChange::None => {}
                LinkChange::State => {
                    self.links.set_state(link);
                    self.routes_changed();
                }
                LinkChange::Interface => {
                    // A refusal is logged and shown; it ends a start, not a running director.
                    let _ = self.take_interface(link);
                    self.routes_changed();
                }
            },
            Event::LinkGone(index) => self.interface_gone(index),
            Event::Address => {
                self.addresses_due = true;
                self.routes_changed();
            }
            Event::Route => self.routes_changed(),
            Event::Neighbour(key, neighbour) => {
                let effects = self.hops.neighbour(key, neighbour);
                self.carry_out(effects);
            }
            Event::Overrun => {
                tracing::warn!("network events were lost; reading everything again");
                if let Err(error) = self.read_again().await {
                    tracing::error!(%error, "the network could not be read");
                }
            }
        }
    }

    /// Does once what a burst of events asked for many times.
    pub async fn settle(&mut self) {
        if std::mem::take(&mut self.addresses_due) {
            match self.netlink.broadcasts().await {
                Ok(addresses) => self.broadcasts = addresses.into_iter().collect(),
                Err(error) => tracing::warn!(%error, "addresses could not be read"),
            }
        }
        if std::mem::take(&mut self.epoch_due) {
            self.dataplane.tables().advance_epoch();
        }
    }

    /// Looks up the routes of all servers again.
    pub async fn resolve_all(&mut self) {
        self.resolve_at = None;
        let servers = self.hops.servers().map(|(server, _)| server).collect();
        self.resolve(servers).await;
        self.settle().await;
    }

    /// Takes in the answers of [`Director::lookups`].
    pub async fn routed(&mut self, answers: Vec<(IpAddr, Resolution)>) {
        for (server, resolution) in answers {
            let missing = resolution.is_err();
            self.dataplane.tables().set_no_route(server, missing);
            let effects = self.hops.routed(server, resolution);
            self.carry_out(effects);
        }
        self.reconcile().await;
    }

    /// Puts the programs on an interface that is new or has changed, where they belong. Only a
    /// refusal by an interface that the operator named is an error.
    fn take_interface(&mut self, link: Link) -> Result<(), Error> {
        let index = link.interface.index;
        self.dataplane.tables().set_interface(&link.interface);
        let outcome = match links::wanted(&link, &self.options.interfaces) {
            Ok(()) => match self.dataplane.attach(&link.interface, self.options.hook) {
                Ok(attachment) => {
                    tracing::info!(
                        interface = attachment.name,
                        hook = ?attachment.hook,
                        "attached: {}",
                        attachment.reason
                    );
                    Outcome::Attached
                }
                Err(error) if self.options.interfaces.contains(&link.interface.name) => {
                    self.links.insert(link, Outcome::Left(error.to_string()));
                    return Err(error.into());
                }
                Err(error) => {
                    tracing::warn!(interface = link.interface.name, %error, "not attached");
                    Outcome::Left(error.to_string())
                }
            },
            Err(reason) => {
                // An earlier director may have served it.
                if self.links.is_attached(index) || self.dataplane.adopted() {
                    self.dataplane.detach(index);
                }
                Outcome::Left(reason)
            }
        };
        self.links.insert(link, outcome);
        Ok(())
    }

    fn interface_gone(&mut self, index: u32) {
        let name = self.links.name(index).map(str::to_owned);
        if !self.links.remove(index) {
            return;
        }
        tracing::info!(interface = name, "gone");
        self.dataplane.detach(index);
        self.dataplane.tables().remove_interface(index);
        self.hops.interface_gone(index);
        self.routes_changed();
    }

    fn routes_changed(&mut self) {
        self.epoch_due = true;
        self.marks_due = true;
        self.resolve_at
            .get_or_insert_with(|| Instant::now() + SETTLE);
    }

    async fn read_again(&mut self) -> Result<(), Error> {
        let links = self.netlink.links().await?;
        let present: BTreeSet<_> = links.iter().map(|link| link.interface.index).collect();
        for index in self.links.indices() {
            if !present.contains(&index) {
                self.interface_gone(index);
            }
        }
        for link in links {
            if self.links.compare(&link) != LinkChange::None {
                let _ = self.take_interface(link);
            }
        }
        self.addresses_due = true;
        self.routes_changed();
        let neighbours = self.netlink.neighbours().await?;
        let effects = self.hops.replace_neighbours(neighbours);
        self.carry_out(effects);
        Ok(())
    }

    async fn add_next_hops(&mut self, servers: impl IntoIterator<Item = IpAddr>) {
        let new = self.hops.add(servers);
        self.resolve(new).await;
        self.settle().await;
    }

    async fn resolve(&mut self, servers: Vec<IpAddr>) {
        if servers.len() <= LOOKUPS_INLINE {
            let answers = self.netlink.resolve(servers).await;
            self.routed(answers).await;
        } else if self.lookups.is_empty() {
            let netlink = self.netlink.clone();
            self.lookups
                .spawn(async move { netlink.resolve(servers).await });
        } else {
            // Answers of two sets could overtake each other.
            self.resolve_at
                .get_or_insert_with(|| Instant::now() + SETTLE);
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Source { server, source } => {
                    self.dataplane.tables().set_tunnel_source(server, source);
                }
                Effect::Dead { server, dead, news } => {
                    if dead {
                        tracing::warn!(
                            "real server {server}: its next hop does not answer {}; packets to \
                             it are dropped until it does",
                            discovery(server)
                        );
                    } else if news {
                        tracing::info!("real server {server}: its next hop answers");
                    }
                    self.dataplane.tables().set_neighbour_dead(server, dead);
                }
                Effect::Epoch => self.epoch_due = true,
            }
        }
    }

    /// Firewall marks that services balance.
    fn marks(&mut self) -> impl Iterator<Item = (Family, u32)> {
        self.dataplane.tables().keys().filter_map(|key| match *key {
            ServiceKey::Mark { mark, family } => Some((family, mark)),
            ServiceKey::Address { .. } => None,
        })
    }

    /// Has the kernel's rules bring packets that netfilter marked back to the programs; once a second
    /// at most, where somebody else keeps changing them.
    async fn bring_marked_back(&mut self) {
        if !std::mem::take(&mut self.marks_due) {
            return;
        }
        let services: Vec<_> = self.marks().collect();
        let mut problem = None;
        for family in [Family::V4, Family::V6] {
            let of_family = services.iter().filter(|(of, _)| *of == family);
            let marks: BTreeSet<_> = of_family.map(|(_, mark)| *mark).collect();
            if let Err(error) = self.netlink.set_marks(family, &marks).await {
                // A kernel without IPv6 has no rules for it, nor needs any.
                if !marks.is_empty() {
                    problem = Some(format!(
                        "packets that netfilter marks do not come back: {error}"
                    ));
                    self.marks_due = true;
                }
            }
        }
        if problem != self.marks_problem
            && let Some(problem) = &problem
        {
            tracing::warn!("{problem}");
        }
        self.marks_problem = problem;
    }

    /// Has the kernel's neighbour table hold what real servers need.
    async fn reconcile(&mut self) {
        for request in self.hops.reconcile(REQUESTS) {
            match request {
                Request::Manage(key) => match self.netlink.manage(key).await {
                    Ok(()) => {}
                    Err(error) if netlink::is_table_full(&error) => {
                        if !std::mem::replace(&mut self.table_full, true) {
                            tracing::warn!("{TABLE_FULL}; not all real servers are kept resolved");
                        }
                        return;
                    }
                    Err(error) => {
                        tracing::debug!(neighbour = %key.addr, %error, "not resolved");
                    }
                },
                Request::Release(key) => {
                    if let Err(error) = self.netlink.release(key).await {
                        tracing::debug!(neighbour = %key.addr, %error, "not released");
                    }
                }
            }
        }
        self.table_full = false;
    }
}

/// Whether this host has an address.
fn is_own(address: IpAddr) -> bool {
    std::net::UdpSocket::bind((address, 0)).is_ok()
}

/// How the link-layer address of a neighbour is asked for.
fn discovery(neighbour: IpAddr) -> &'static str {
    match neighbour {
        IpAddr::V4(_) => "ARP",
        IpAddr::V6(_) => "neighbour discovery",
    }
}
