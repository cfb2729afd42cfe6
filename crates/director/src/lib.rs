//! The Pointsman daemon: one task owns the state; requests and kernel events change it.
//!
//! ```text
//!  API (axum, worker thread) ── Command ──►┐
//!  netlink events ─────────── Event ──────►├─ main_loop ─► state::Director ─► DataPlane (maps, programs)
//!  site (checks, VRRP) ────── Command ────►┤       │ asks            └─────► Netlink (neighbours, routes)
//!  timers, signals ───────────────────────►┘       │
//!                                                  └─ links, next_hops: pure, return what is to be done
//! ```
//!
//! The kernel side needs no daemon: programs, links and maps are pinned, so a director that is
//! killed leaves everything forwarding and the next one adopts it. Only a stop removes it.
//!
//! [`run`] is the daemon in this process, [`start`] one in the background, [`ensure_running`] what
//! commands use that find none, [`stop`] the end of it.

mod checks;
mod error;
mod gc;
mod home;
mod launch;
mod ldirectords;
mod links;
mod main_loop;
mod marks;
mod netlink;
#[cfg(test)]
mod network_tests;
mod next_hops;
mod nexthop;
mod pace;
mod run;
mod site;
mod state;
mod sysctl;
mod teardown;
mod transaction;
mod variables;

pub use error::Error;
pub use launch::{Stopped, ensure_running, start, stop};
pub use pointsman_dataplane::HookChoice;
pub use run::run;
pub use site::Source;

use std::net::SocketAddr;

/// What the operator chose for a director.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the programs go.
    pub hook: HookChoice,
    /// Only these interfaces, and `lo`; empty for every Ethernet interface, new ones too.
    pub interfaces: Vec<String>,
    /// Slots of the connection table; `None` sizes it from memory.
    pub connection_slots: Option<u32>,
    /// The configuration to follow; without one the director does what it is told.
    pub site: Option<Source>,
    /// Where Prometheus may ask by TCP, without a password.
    pub metrics: Option<SocketAddr>,
}
