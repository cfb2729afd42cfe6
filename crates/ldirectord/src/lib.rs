//! ldirectord: keeps the real servers of a configuration's virtual services in the director's table,
//! or out of it.
//!
//! Each configuration has a daemon of its own, as in the original, so that its pid file, signals, log
//! and exit codes are those that scripts and service files know, and several of them live side by
//! side. It balances nothing itself: it asks the director of its network namespace for each change, and
//! the director goes on without it.
//!
//! * [`Engine`]: what happens to the table when a check has answered; pure.
//! * [`run`]: the daemon: checks, signals, files and mails around it.
//! * [`command`]: `start`, `stop`, `status` and the others.

mod alert;
pub mod command;
mod daemon;
mod engine;
mod files;
mod log;
mod mailer;
mod probes;
mod report;
mod surroundings;
mod table;

pub use alert::Mail;
pub use daemon::{Options, run};
pub use engine::{Answer, Effect, Engine, SharedCheck};
pub use surroundings::System;
pub use table::Table;
