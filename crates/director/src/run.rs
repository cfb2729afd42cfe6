//! A director in this process, from the first check to the last pin.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use pointsman_api::{Location, StopReport};
use pointsman_dataplane::DataPlane;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot};

use crate::error::file;
use crate::home::{self, Home};
use crate::main_loop::{self, End, Signals};
use crate::netlink::{self, Link, Netlink};
use crate::site::{Plan, Site};
use crate::state::Director;
use crate::{Error, Options, checks, gc, sysctl, teardown};

/// Requests that may wait for their turn.
const QUEUE: usize = 64;
/// How long answers under way may take at the end.
const GRACE: Duration = Duration::from_secs(2);

/// Runs a director in the calling thread's network namespace until it is stopped. Call it before
/// any other thread starts.
///
/// # Errors
/// Why it could not start; then everything is as it was before, or, where an earlier director's
/// programs were found, still forwarding.
pub fn run(options: &Options) -> Result<(), Error> {
    checks::root()?;
    checks::kernel()?;
    let location = Location::here()?;
    let home = Home::take(location.clone())?;
    gc::collect(&location);
    // The state lives on this thread; the other serves the API and reads netlink.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|source| Error::Os {
            doing: "starting the runtime",
            source,
        })?;
    let done = runtime.block_on(serve(options, &home));
    runtime.shutdown_timeout(GRACE);
    match done {
        Ok(StopReport {
            kept_forwarding: false,
            ..
        }) => home.clear(),
        Ok(_) | Err(_) => home.leave(),
    }
    done.map(drop)
}

async fn serve(options: &Options, home: &Home) -> Result<StopReport, Error> {
    let location = home.location();
    // A file that cannot be used changes nothing.
    let plan = options.site.as_ref().map(Plan::read).transpose()?;
    let metrics = match options.metrics {
        None => None,
        Some(address) => Some(
            TcpListener::bind(address)
                .await
                .map_err(|source| Error::Metrics { address, source })?,
        ),
    };
    let signals = Signals::catch().map_err(|source| Error::Os {
        doing: "catching signals",
        source,
    })?;
    // Events are followed before anything is read: what changes in between is seen twice, not
    // never.
    let events = netlink::follow().map_err(|source| Error::Os {
        doing: "opening a netlink socket",
        source,
    })?;
    let netlink = Netlink::open()?;
    let links = netlink.links().await?;
    all_chosen_exist(options, &links)?;

    home::make_pin_dir(location)?;
    let dataplane = open_dataplane(location, options)?;
    let adopted = dataplane.adopted();
    if adopted && options.connection_slots.is_some() {
        tracing::warn!(
            "the connection table of the earlier director is kept; --connections counts for a \
             fresh one, after a stop"
        );
    }
    let mut director = Director::new(
        options.clone(),
        location.cookie(),
        dataplane,
        netlink.clone(),
    );
    let set_up = async {
        sysctl::apply(&location.sysctl_file())?;
        director.set_up(links).await?;
        let site = match plan {
            Some(plan) => Some(Site::begin(plan, &mut director, location, adopted).await?),
            None => None,
        };
        Ok((listen(location)?, site))
    };
    let (listener, site) = match set_up.await {
        Ok(listener) => listener,
        Err(error) => {
            if !adopted {
                teardown::kernel_side(Some(director.into_dataplane()), &netlink, location).await;
            }
            return Err(error);
        }
    };

    let (requests, commands) = mpsc::channel(QUEUE);
    let site = site.map(|site| site.follow(requests.clone()));
    let (end_api, api_ends) = oneshot::channel();
    if let Some(listener) = metrics {
        // It ends with the runtime.
        tokio::spawn(pointsman_api::serve_metrics(
            listener,
            requests.clone(),
            std::future::pending(),
        ));
    }
    let api = tokio::spawn(pointsman_api::serve(listener, requests, async {
        let _ = api_ends.await;
    }));
    tracing::info!(
        pid = std::process::id(),
        socket = %location.socket().display(),
        "director runs, {}",
        if adopted { "on tables of an earlier one" } else { "on fresh tables" }
    );
    notify(sd_notify::NotifyState::Ready);

    let End {
        keep_forwarding,
        reply,
    } = main_loop::run(&mut director, commands, events, signals, site).await;
    notify(sd_notify::NotifyState::Stopping);
    let report = if keep_forwarding {
        StopReport {
            kept_forwarding: true,
            problems: Vec::new(),
        }
    } else {
        teardown::kernel_side(Some(director.into_dataplane()), &netlink, location).await
    };
    for problem in &report.problems {
        tracing::error!("{problem}");
    }
    tracing::info!(
        "director ends, {}",
        if keep_forwarding {
            "its programs keep forwarding"
        } else {
            "its programs are removed"
        }
    );
    if let Some(reply) = reply {
        let _ = reply.send(report.clone());
    }
    let _ = end_api.send(());
    let _ = tokio::time::timeout(GRACE, api).await;
    Ok(report)
}

fn open_dataplane(location: &Location, options: &Options) -> Result<DataPlane, Error> {
    let pins = location.director_pins();
    let sizes = pointsman_dataplane::Options {
        connection_slots: options.connection_slots,
    };
    let fresh = home::is_pin_dir_empty(location);
    let mut opened = DataPlane::open(&pins, &sizes);
    // A director that was killed while it made its maps left no version in them and attached
    // nothing.
    if let Err(pointsman_dataplane::Error::Layout { found: 0, .. }) = &opened
        && !home::has_pinned_links(location)
    {
        tracing::warn!("removing the maps of a director that never came to run");
        home::clear_pins(location)?;
        home::make_pin_dir(location)?;
        opened = DataPlane::open(&pins, &sizes);
    }
    let opened = opened.and_then(|mut plane| {
        // Here, where a kernel that refuses them ends the start; every interface needs them.
        plane.load(pointsman_dataplane::Programs::Tc)?;
        Ok(plane)
    });
    if opened.is_err()
        && fresh
        && let Err(error) = home::clear_pins(location)
    {
        // Half a set of maps must not look like something to adopt.
        tracing::warn!(%error, "pins stay");
    }
    Ok(opened?)
}

fn all_chosen_exist(options: &Options, links: &[Link]) -> Result<(), Error> {
    let missing = options
        .interfaces
        .iter()
        .find(|name| !links.iter().any(|link| link.interface.name == **name));
    match missing {
        None => Ok(()),
        Some(name) => {
            let known: Vec<_> = links.iter().map(|link| &link.interface.name[..]).collect();
            Err(Error::NoSuchInterface {
                name: name.clone(),
                known: known.join(", "),
            })
        }
    }
}

/// Opens the API's socket. The directory above it lets only root through.
fn listen(location: &Location) -> Result<UnixListener, Error> {
    let path = location.socket();
    // What is there was left by a killed director: the lock is ours.
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path).map_err(file("listening on", &path))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
        .map_err(file("restricting", &path))?;
    Ok(listener)
}

/// Tells systemd, where it asked.
fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "systemd was not told");
    }
}
