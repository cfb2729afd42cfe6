//! The typed truth about what a director should do: virtual services, their real servers, the
//! protocol timeouts; and what can be read back: counters, rates, connections.
//!
//! Front ends (`ipvsadm`, configuration files, the API) build these values; the data plane applies
//! them. Rules that the kernel's IPVS enforces live in [`validate`], once, so that every front end
//! refuses the same things with the same words. Nothing here knows a map, a socket or a clock.

mod change;
pub mod check;
mod connection;
mod counters;
mod daemon;
mod error;
mod handshakes;
mod mark;
mod notify;
mod rules;
mod scheduler;
mod server;
mod service;
mod site;
mod timeouts;
pub mod validate;
mod variable;
mod virtual_server;
pub mod vrrp;

pub use change::Change;
pub use check::{Check, CheckKind, Counting, Pace, ProbeTarget};
pub use connection::{ConnectionState, ConnectionView, EngineData};
pub use counters::{Counters, RateEstimator, Rates};
pub use daemon::{DaemonRole, DaemonSpec, DaemonView};
pub use error::Error;
pub use handshakes::{Handshakes, ServerHandshakes};
pub use mark::{MarkRule, PortRange};
pub use notify::{Fifo, Mail, MailTls, Script, ScriptUser, Webhook};
pub use rules::Rules;
pub use scheduler::{SchedFlags, Scheduler};
pub use server::{
    Encapsulation, Forwarding, ServerKey, ServerSpec, ServerView, TunnelChecksum, Weight,
};
pub use service::{
    ClientAddress, Family, MAX_LOCAL_ADDRESSES, Persistence, Protocol, ServiceKey, ServiceSpec,
    ServiceView,
};
pub use site::{BoundedScript, FlushOnStop, Globals, Site, SyncDaemon};
pub use timeouts::Timeouts;
pub use variable::{Range, Variable, VariableView};
pub use virtual_server::{
    PoolServer, SorryServer, VirtualId, VirtualName, VirtualServer, protocol_word,
};
