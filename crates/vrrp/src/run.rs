//! Starting, asking and ending the engine from outside.

use std::thread::JoinHandle;

use pointsman_model::vrrp::{VrrpEvent, VrrpSite, VrrpView};
use pointsman_script::Policy;
use tokio::sync::{mpsc, oneshot};

use crate::engine::{Command, Engine};

/// Why a site cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An instance's interface is not there, and interfaces are not said to be dynamic.
    #[error("({instance}) there is no interface {interface}")]
    NoSuchInterface {
        /// The instance.
        instance: String,
        /// The interface.
        interface: String,
    },
    /// An instance has no interface, and no source address for unicast either.
    #[error("({instance}) needs an interface")]
    NeedsInterface {
        /// The instance.
        instance: String,
    },
    /// Two instances would answer to the same adverts.
    #[error("({instance}) has the virtual router id {vrid} of ({other}) on the same interface")]
    Duplicate {
        /// The instance.
        instance: String,
        /// The one before it.
        other: String,
        /// Their id.
        vrid: u8,
    },
    /// A group names an instance that does not exist.
    #[error("sync group {group} names {instance}, which is no instance")]
    NoSuchMember {
        /// The group.
        group: String,
        /// The name.
        instance: String,
    },
    /// An instance is in two groups.
    #[error("({instance}) is in two sync groups")]
    TwoGroups {
        /// The instance.
        instance: String,
    },
    /// ipvlan is not supported.
    #[error("({instance}) use_ipvlan is not supported: use_vmac makes a macvlan")]
    Ipvlan {
        /// The instance.
        instance: String,
    },
    /// A tracked script cannot be run.
    #[error("vrrp_script {name}: {why}")]
    Script {
        /// The script.
        name: String,
        /// Why.
        why: pointsman_script::Unfit,
    },
    /// The system refused something that nothing works without.
    #[error("{doing}: {source}")]
    Os {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The engine has ended.
    #[error("the VRRP engine has ended")]
    Ended,
}

impl Error {
    pub(crate) fn os(doing: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Os { doing, source }
    }
}

/// A running engine. It has a thread of its own, so that adverts leave in time whatever else the
/// program does. Dropping it stops it as [`stop`](Self::stop) does, and waits for that.
#[derive(Debug)]
pub struct Vrrp {
    commands: mpsc::UnboundedSender<Command>,
    thread: Option<JoinHandle<()>>,
}

/// Who else is told how BFD sessions stand: a session's name, and whether it is up.
pub type BfdListener = Box<dyn Fn(&str, bool) + Send>;

impl Vrrp {
    /// Starts to run a site in the network namespace of the calling thread. What happens is told
    /// through `events`; `policy` says how tracked scripts run.
    ///
    /// # Errors
    /// Why the site cannot run; then nothing was changed that is not put back.
    pub fn start(
        site: VrrpSite,
        policy: Policy,
        events: mpsc::UnboundedSender<VrrpEvent>,
    ) -> Result<Self, Error> {
        Self::start_with(site, policy, events, Box::new(|_, _| ()))
    }

    /// The same; `checkers` hears of the BFD sessions that are for health checks, each time one comes up
    /// or goes down. Of a session that never came up it hears nothing.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(
        site: VrrpSite,
        policy: Policy,
        events: mpsc::UnboundedSender<VrrpEvent>,
        checkers: BfdListener,
    ) -> Result<Self, Error> {
        let (commands, orders) = mpsc::unbounded_channel();
        let (ready, started) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("vrrp".to_owned())
            .spawn(move || run(site, policy, (events, checkers), orders, &ready))
            .map_err(Error::os("starting a thread"))?;
        let mut this = Self {
            commands,
            thread: Some(thread),
        };
        match started.recv() {
            Ok(Ok(())) => Ok(this),
            Ok(Err(error)) => {
                this.join();
                Err(error)
            }
            Err(_) => Err(Error::Ended),
        }
    }

    /// Goes over to another site and other rules for tracked scripts: what is in both goes on as it is,
    /// masters stay masters.
    ///
    /// # Errors
    /// Why the site cannot run; then the old one runs on.
    pub async fn reload(&self, site: VrrpSite, policy: Policy) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Reload(Box::new((site, policy)), answer))?;
        answered.await.map_err(|_| Error::Ended)?
    }

    /// How it stands.
    ///
    /// # Errors
    /// [`Error::Ended`].
    pub async fn view(&self) -> Result<VrrpView, Error> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::View(answer))?;
        answered.await.map_err(|_| Error::Ended)
    }

    /// Ends: masters resign and give up their addresses, static entries and virtual MACs go, sysctls
    /// are put back.
    pub async fn stop(mut self) {
        let (answer, answered) = oneshot::channel();
        if self.send(Command::Stop(Some(answer))).is_ok() {
            let _ = answered.await;
        }
        self.join();
    }

    fn send(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).map_err(|_| Error::Ended)
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the VRRP engine panicked");
        }
    }
}

impl Drop for Vrrp {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Stop(None));
        self.join();
    }
}

fn run(
    site: VrrpSite,
    policy: Policy,
    told: (mpsc::UnboundedSender<VrrpEvent>, BfdListener),
    orders: mpsc::UnboundedReceiver<Command>,
    ready: &std::sync::mpsc::Sender<Result<(), Error>>,
) {
    be_prompt();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::os("starting a runtime"));
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    runtime.block_on(async {
        match Engine::start(site, policy, told) {
            Ok((mut engine, seen)) => {
                let _ = ready.send(Ok(()));
                engine.run(orders, seen).await;
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        }
    });
}

/// Has this thread run before ordinary ones. What it starts does not inherit that. Without the right
/// to it, nothing changes.
fn be_prompt() {
    let parameter = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameter lives through the call; 0 is the calling thread.
    let status = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &parameter)
    };
    if status != 0 {
        tracing::debug!(
            "VRRP runs at ordinary priority: {}",
            std::io::Error::last_os_error()
        );
    }
}
