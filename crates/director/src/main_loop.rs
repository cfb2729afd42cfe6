//! Requests, kernel events, timers and signals, one after the other.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt};
use pointsman_api::{Command, Reloaded, Reply, StopReport, Table};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::ldirectords::Ldirectords;
use crate::netlink::Event;
use crate::site::Request;
use crate::state::Director;
use crate::variables;

/// What is to be looked at now and then is so often.
const TICK: Duration = Duration::from_secs(1);
/// Events taken in before others get their turn.
const BURST: usize = 4096;

/// Why the loop ended.
pub(crate) struct End {
    /// Leave the kernel side in place.
    pub keep_forwarding: bool,
    /// Who waits for it.
    pub reply: Option<Reply<StopReport>>,
}

impl End {
    /// By a signal.
    fn told() -> Self {
        Self {
            keep_forwarding: false,
            reply: None,
        }
    }
}

/// An end that waits for the site: it changes the table and tells those who want to know.
struct Ending {
    end: End,
    site: oneshot::Receiver<()>,
}

impl Ending {
    /// The end, when nothing has to be waited for; a second word to stop does not wait either.
    fn begin(
        end: End,
        site: &mut Option<mpsc::Sender<Request>>,
        ending: &mut Option<Self>,
    ) -> Option<End> {
        if ending.is_some() || end.keep_forwarding {
            return Some(end);
        }
        let Some(site) = site.take() else {
            return Some(end);
        };
        let (reply, stopped) = oneshot::channel();
        if site.try_send(Request::Stop(reply)).is_err() {
            return Some(end);
        }
        *ending = Some(Self { end, site: stopped });
        None
    }
}

/// Waits until the site has stopped, where that was begun.
async fn site_ended(ending: Option<&mut Ending>) {
    match ending {
        Some(ending) => drop((&mut ending.site).await),
        None => std::future::pending().await,
    }
}

/// What the operator may send.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on these signals do not end the process by themselves.
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// Runs until told to stop.
pub(crate) async fn run(
    director: &mut Director,
    mut commands: mpsc::Receiver<Command>,
    mut events: impl Stream<Item = Event> + Unpin + Send,
    mut signals: Signals,
    mut site: Option<mpsc::Sender<Request>>,
) -> End {
    let mut ending: Option<Ending> = None;
    let mut ldirectords = Ldirectords::default();
    let fragments = match readable(director) {
        Ok(fragments) => fragments,
        Err(error) => {
            tracing::error!(%error, "fragments that come out of order will be lost");
            None
        }
    };
    let mut tick = every(TICK);
    loop {
        let resolve_at = director.resolve_at();
        let (sweep_at, estimate_at) = (director.sweep_at(), director.estimate_at());
        let fragments_due = director.dataplane().fragments_due();
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Stop { keep_forwarding, reply }) => {
                    let end = End { keep_forwarding, reply: Some(reply) };
                    match Ending::begin(end, &mut site, &mut ending) {
                        Some(end) => return end,
                        None => continue,
                    }
                }
                Some(Command::Site(reply)) => match &site {
                    // Who asks too much at once is told nothing.
                    Some(site) => drop(site.try_send(Request::View(reply))),
                    None => drop(reply.send(None)),
                },
                Some(Command::Reload { file, reply }) => match &site {
                    Some(site) => {
                        let reply = Some(reply);
                        drop(site.try_send(Request::Reload { file, reply }));
                    }
                    None => drop(reply.send(Reloaded::NoSite)),
                },
                Some(Command::Ldirectords(reply)) => {
                    drop(reply.send(ldirectords.views(&director.tables().services())));
                }
                Some(Command::LdirectordTells(view, reply)) => {
                    ldirectords.tell(view);
                    let _ = reply.send(());
                }
                Some(Command::LdirectordEnds(file, reply)) => {
                    ldirectords.end(&file);
                    let _ = reply.send(());
                }
                Some(command) => answer(director, command).await,
                None => {
                    tracing::error!("the API ended; stopping, but leaving the kernel side");
                    return End { keep_forwarding: true, reply: None };
                }
            },
            event = events.next() => match event {
                Some(event) => take_in(director, event, &mut events).await,
                None => {
                    tracing::error!("network events ended; stopping, but leaving the kernel side");
                    return End { keep_forwarding: true, reply: None };
                }
            },
            answers = director.lookups() => director.routed(answers).await,
            () = sleep_until(resolve_at.map_or_else(Instant::now, Instant::from_std)),
                if resolve_at.is_some() => director.resolve_all().await,
            () = held(fragments.as_ref()) => {
                director.dataplane().take_fragments();
                director.dataplane().put_fragments_back();
            }
            () = sleep_until(fragments_due.map_or_else(Instant::now, Instant::from_std)),
                if fragments_due.is_some() => director.dataplane().put_fragments_back(),
            () = sleep_until(sweep_at.into()) => director.sweep(),
            _ = tick.tick() => director.tick().await,
            () = sleep_until(estimate_at.into()) => director.estimate(),
            _ = signals.terminate.recv() => {
                if let Some(end) = Ending::begin(End::told(), &mut site, &mut ending) {
                    return end;
                }
            }
            _ = signals.interrupt.recv() => {
                if let Some(end) = Ending::begin(End::told(), &mut site, &mut ending) {
                    return end;
                }
            }
            _ = signals.hangup.recv() => match &site {
                Some(site) => {
                    let _ = site.try_send(Request::Reload { file: None, reply: None });
                }
                None => tracing::info!("hangup: there is nothing to reload"),
            },
            () = site_ended(ending.as_mut()) => {
                if let Some(ending) = ending {
                    return ending.end;
                }
            }
        }
    }
}

/// What tells of fragments that programs hold.
fn readable(
    director: &mut Director,
) -> Result<Option<AsyncFd<OwnedFd>>, pointsman_dataplane::Error> {
    let fd = director.dataplane().fragments_readable()?;
    // SAFETY: an owned descriptor is open, and the same one, until it is dropped.
    Ok(
        unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }
            .inspect_err(|error| tracing::error!(%error, "fragments cannot be waited for"))
            .ok(),
    )
}

/// Waits until there are some.
async fn held(fragments: Option<&AsyncFd<OwnedFd>>) {
    match fragments {
        Some(fragments) => match fragments.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// Timers never catch up: a late tick is one tick.
fn every(period: Duration) -> tokio::time::Interval {
    let mut timer = interval(period);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer
}

/// Takes in an event and those that are there already.
async fn take_in(
    director: &mut Director,
    first: Event,
    events: &mut (impl Stream<Item = Event> + Unpin),
) {
    director.event(first).await;
    for _ in 0..BURST {
        match events.next().now_or_never() {
            Some(Some(event)) => director.event(event).await,
            Some(None) | None => break,
        }
    }
    director.settle().await;
}

async fn answer(director: &mut Director, command: Command) {
    // Who asked may be gone; then nobody misses the answer.
    match command {
        Command::Apply(changes, reply) => {
            let _ = reply.send(director.apply(changes).await);
        }
        Command::Transact(changes, reply) => {
            let _ = reply.send(director.transact(changes).await);
        }
        Command::Services(reply) => {
            let _ = reply.send(director.tables().services());
        }
        Command::Service(key, reply) => {
            let _ = reply.send(director.tables().service(&key));
        }
        Command::Handshakes(services, reply) => {
            let _ = reply.send(director.tables().handshakes(&services));
        }
        Command::Probe(servers, reply) => {
            let _ = reply.send(director.set_probed(&servers).await);
        }
        Command::Connections(reply) => {
            let _ = reply.send(director.tables().connections());
        }
        Command::ClearConnections(reply) => {
            director.dataplane().clear_connections();
            let _ = reply.send(());
        }
        Command::Table(reply) => {
            let tables = director.tables();
            let _ = reply.send(Table {
                connection_slots: tables.connection_slots(),
                hz: tables.hz(),
            });
        }
        Command::Timeouts(reply) => {
            let _ = reply.send(director.tables().timeouts());
        }
        Command::Variables(reply) => {
            let _ = reply.send(variables::list(director.tables()));
        }
        Command::MarkRules(reply) => {
            let _ = reply.send(director.tables().mark_rules());
        }
        Command::Totals(reply) => {
            let _ = reply.send(director.totals());
        }
        Command::Drops { all, reply } => {
            let _ = reply.send(director.drops(all));
        }
        Command::Status(reply) => {
            let _ = reply.send(director.status());
        }
        Command::Site(_)
        | Command::Ldirectords(_)
        | Command::LdirectordTells(..)
        | Command::LdirectordEnds(..)
        | Command::Reload { .. }
        | Command::Stop { .. } => unreachable!("the loop takes it"),
    }
}
