//! The pure parts joined to sockets, addresses and clocks, on one thread.
//!
//! Each round: wait for a packet, a message of the kernel, a watcher, an order or the next deadline;
//! then take in *all* packets before any timer is looked at. A thread that did not run for a while so
//! hears first what the others said meanwhile.

mod apply;
mod hand_over;
mod member;
mod pace;
mod review;
mod setup;
mod view;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use pointsman_model::vrrp::{VrrpEvent, VrrpSite, VrrpState, VrrpSubject, VrrpView, VrrpWord};
use pointsman_script::Policy;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use crate::Time;
use crate::announce::Announcer;
use crate::firewall;
use crate::fsm::Effect;
use crate::group::{Action, Input, Router};
use crate::links::Links;
use crate::netlink::{Monitor, Netlink};
use crate::run::{BfdListener, Error};
use crate::socket::{self, AdvertSocket, LONGEST};
use crate::track::{Condition, ProcessCount, RiseFall};
use crate::watch::{Seen, Teller, Watcher};
use member::Member;
use pace::Pacer;
use review::LinkWatch;

/// What the engine is told to do.
pub(crate) enum Command {
    Reload(Box<(VrrpSite, Policy)>, oneshot::Sender<Result<(), Error>>),
    View(oneshot::Sender<VrrpView>),
    Stop(Option<oneshot::Sender<()>>),
}

pub(crate) struct Engine {
    site: VrrpSite,
    policy: Policy,
    events: mpsc::UnboundedSender<VrrpEvent>,
    /// Hears of BFD sessions that are for health checks.
    checkers: BfdListener,
    netlink: Netlink,
    monitor: Monitor,
    monitor_ready: AsyncFd<OwnedFd>,
    links: Links,
    watch: LinkWatch,
    announcer: Announcer,
    pacer: Pacer,
    router: Router,
    members: Vec<Member>,
    sockets: Vec<AdvertSocket>,
    teller: Teller,
    tracked: Tracked,
    /// Rules of the firewall that are in force.
    firewall: firewall::Rules,
    started: Time,
    /// Something was removed that may have been ours.
    suspicious: bool,
}

/// What is tracked besides interfaces, and those who watch it.
#[derive(Default)]
struct Tracked {
    scripts: BTreeMap<String, (RiseFall, Watcher)>,
    files: BTreeMap<String, i64>,
    processes: BTreeMap<String, ProcessCount>,
    bfd: BTreeMap<String, bool>,
    bfd_watcher: Option<Watcher>,
    /// Of files and of processes.
    watchers: Vec<Watcher>,
}

impl Tracked {
    fn script(&self, name: &str) -> Condition {
        self.scripts
            .get(name)
            .map_or(Condition::Unknown, |(counter, _)| counter.condition())
    }

    fn file(&self, name: &str) -> Condition {
        self.files
            .get(name)
            .map_or(Condition::Unknown, |number| Condition::Number(*number))
    }

    /// A session is down until it is up.
    fn bfd(&self, name: &str) -> Condition {
        Condition::Good(self.bfd.get(name).copied().unwrap_or(false))
    }

    fn process(&self, name: &str) -> Condition {
        self.processes
            .get(name)
            .map_or(Condition::Unknown, ProcessCount::condition)
    }
}

impl Engine {
    /// Runs until it is told to stop.
    pub async fn run(
        &mut self,
        mut orders: mpsc::UnboundedReceiver<Command>,
        mut seen: mpsc::UnboundedReceiver<Seen>,
    ) {
        loop {
            let deadline = self.deadline();
            let mut order = None;
            let mut news = None;
            tokio::select! {
                biased;
                order_given = orders.recv() => match order_given {
                    Some(given) => order = Some(given),
                    None => order = Some(Command::Stop(None)),
                },
                () = readable(&self.sockets, &self.monitor_ready) => {}
                told = seen.recv() => news = told,
                () = until(deadline) => {}
            }
            let now = Time::now();
            self.hear(now);
            self.listen_to_kernel(now);
            while let Some(told) = news.take() {
                self.learn(told, now);
                news = seen.try_recv().ok();
            }
            self.tick(now);
            match order {
                None => {}
                Some(Command::View(answer)) => {
                    let _ = answer.send(self.view());
                }
                Some(Command::Reload(new, answer)) => {
                    let (site, policy) = *new;
                    let _ = answer.send(self.reload(site, policy, Time::now()));
                }
                Some(Command::Stop(answer)) => {
                    self.hand_over().await;
                    self.stop(Time::now());
                    if let Some(answer) = answer {
                        let _ = answer.send(());
                    }
                    return;
                }
            }
        }
    }

    fn deadline(&self) -> Option<Time> {
        [
            self.router.deadline(),
            self.pacer.deadline(),
            self.watch.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Takes in every packet that has come.
    fn hear(&mut self, now: Time) {
        let mut buffer = [0; LONGEST];
        for number in 0..self.sockets.len() {
            let key = self.sockets[number].key;
            while let Some((len, beside)) = self.sockets[number].receive(&mut buffer) {
                let Ok(datagram) = socket::datagram(key.family, &buffer[..len], beside) else {
                    continue;
                };
                let Some(member) = self.member_of(key, &datagram) else {
                    if self.site.globals.log_unknown_vrids {
                        tracing::info!(
                            "advert from {} of the virtual router {:?}, which is not configured here",
                            datagram.source(),
                            datagram.vrid()
                        );
                    }
                    continue;
                };
                let result = self.members[member].receiver.receive(&datagram, wall());
                match result {
                    Ok(accepted) => {
                        if accepted.other_addresses {
                            self.members[member].say_once("its addresses are not ours", || {
                                datagram.source().to_string()
                            });
                        }
                        let actions = self.router.on(member, Input::Heard(accepted.heard), now);
                        self.perform(actions, now);
                    }
                    Err(refusal) => {
                        self.members[member].say_once("advert refused", || {
                            format!("{}: {refusal}", datagram.source())
                        });
                    }
                }
            }
        }
    }

    fn member_of(
        &self,
        key: socket::Key,
        datagram: &crate::receive::Datagram<'_>,
    ) -> Option<usize> {
        let vrid = datagram.vrid()?;
        let candidates = || {
            self.members
                .iter()
                .enumerate()
                .filter(move |(_, member)| member.config.vrid.get() == vrid && member.listens(key))
        };
        candidates()
            .find(|(_, member)| member.is_addressed(datagram.destination()))
            .or_else(|| candidates().next())
            .map(|(number, _)| number)
    }

    fn learn(&mut self, seen: Seen, now: Time) {
        let changed = match seen {
            Seen::Script {
                name,
                success,
                said,
            } => {
                let Some((counter, _)) = self.tracked.scripts.get_mut(&name) else {
                    return;
                };
                let changed = counter.result(success);
                if changed && success {
                    tracing::info!("VRRP_Script({name}) succeeded");
                } else if changed {
                    tracing::info!("VRRP_Script({name}) failed ({said})");
                }
                changed
            }
            Seen::File { name, number } => {
                let changed = self.tracked.files.insert(name.clone(), number) != Some(number);
                if changed {
                    tracing::info!("track file {name} now holds {number}");
                }
                changed
            }
            Seen::Bfd { name, up } => {
                let before = self.tracked.bfd.insert(name.clone(), up);
                let changed = before != Some(up);
                if changed {
                    tracing::info!("BFD session {name} is {}", if up { "up" } else { "down" });
                }
                let mut sessions = self.site.bfd_instances.iter();
                let is_theirs =
                    sessions.any(|session| session.name == name && session.for_checkers);
                // That a session which has just been made is not up yet says nothing of a server.
                if changed && is_theirs && (up || before.is_some()) {
                    (self.checkers)(&name, up);
                }
                changed
            }
            Seen::Processes { name, count } => {
                let Some(counter) = self.tracked.processes.get_mut(&name) else {
                    return;
                };
                let changed = counter.counted(count, now);
                if changed {
                    tracing::info!("tracked process {name}: {count} run");
                }
                changed
            }
        };
        if changed {
            self.review(now);
        }
    }

    fn tick(&mut self, now: Time) {
        if self.watch.deadline().is_some_and(|due| due <= now) {
            self.review(now);
        }
        if self.router.deadline().is_some_and(|due| due <= now) {
            let actions = self.router.tick(now);
            self.perform(actions, now);
        }
        self.pacer.send_due(&self.announcer, now);
    }

    /// All that was made goes. Masters have resigned.
    fn stop(&mut self, now: Time) {
        // What is due already is not waited for: the others shall know at once.
        for number in 0..self.members.len() {
            let before = self.router.instance(number).state();
            let priority = self.router.instance(number).priority();
            let mut actions = self.router.stop(number, now);
            // A second resignation would have further backups wait for the skew once more.
            actions.retain(|action| !matches!(action, Action::Instance(_, Effect::Advert(0))));
            self.perform(actions, now);
            let name = self.members[number].config.name.clone();
            self.tell(
                VrrpSubject::Instance(name),
                before,
                VrrpState::Init,
                VrrpWord::Stop,
                priority,
            );
        }
        for group in 0..self.site.sync_groups.len() {
            let name = self.site.sync_groups[group].name.clone();
            let before = self.router.group_state(group);
            self.tell(
                VrrpSubject::Group(name),
                before,
                VrrpState::Init,
                VrrpWord::Stop,
                0,
            );
        }
        self.remove_statics();
        for member in &mut self.members {
            member.remove_interfaces(&mut self.netlink);
        }
        if !self.firewall.is_empty()
            && let Err(error) = firewall::remove(&self.site.globals)
        {
            tracing::warn!("cannot take back rules of the firewall: {error}");
        }
        tracing::info!("VRRP stopped");
    }

    fn tell(
        &self,
        subject: VrrpSubject,
        from: VrrpState,
        to: VrrpState,
        word: VrrpWord,
        priority: u8,
    ) {
        // Nobody may be listening any more.
        let _ = self.events.send(VrrpEvent {
            subject,
            from,
            to,
            word,
            priority,
        });
    }

    fn perform(&mut self, actions: Vec<Action>, now: Time) {
        for action in actions {
            match action {
                Action::Instance(number, effect) => self.apply(number, effect, now),
                Action::Group(number, from, to) => {
                    let name = self.site.sync_groups[number].name.clone();
                    tracing::info!(
                        "VRRP_Group({name}) Syncing instances to {} state",
                        to.name()
                    );
                    let word = match to {
                        VrrpState::Master => VrrpWord::Master,
                        VrrpState::Backup => VrrpWord::Backup,
                        VrrpState::Fault | VrrpState::Init => VrrpWord::Fault,
                    };
                    self.tell(VrrpSubject::Group(name), from, to, word, 0);
                }
            }
        }
    }
}

/// Time since 1970.
fn wall() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// Returns when a socket may have something.
async fn readable(sockets: &[AdvertSocket], monitor: &AsyncFd<OwnedFd>) {
    poll_fn(|context| {
        let mut ready = false;
        let all = sockets.iter().map(|socket| &socket.fd);
        for fd in all.chain(std::iter::once(monitor)) {
            match fd.poll_read_ready(context) {
                // The caller reads until there is nothing left, so that the next edge wakes us.
                Poll::Ready(Ok(mut guard)) => {
                    guard.clear_ready();
                    ready = true;
                }
                Poll::Ready(Err(_)) => ready = true,
                Poll::Pending => {}
            }
        }
        if ready {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

async fn until(deadline: Option<Time>) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline.since(Time::now())).await,
        None => std::future::pending().await,
    }
}
