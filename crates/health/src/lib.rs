//! Is a real server fit? A checker asks it, a schedule says when, a verdict says what the answers
//! mean.
//!
//! - [`check`]: one checker a file. A [`Checker`] is built once from a configured
//!   [`Check`](pointsman_model::Check) and then asked again and again; each time it gives an
//!   [`Outcome`]. It knows nothing of counts, intervals or other checks.
//! - [`schedule`] and [`verdict`]: when the next question is due and what the answers mean, by
//!   keepalived's rules or ldirectord's; [`passive`] and [`Observer`]: what clients'
//!   connections tell; [`damping`]: weights
//!   that follow a noisy agent. All of these are pure: time comes in.
//! - [`Engine`]: runs thousands of checks and tells what changed.
//! - [`Context`]: what checkers share.
//! - [`net`]: sockets as a [`ProbeTarget`](pointsman_model::ProbeTarget) wants them.
//!
//! Whatever a server answers, a checker reads a bounded number of bytes, waits a bounded time, and does
//! not panic; and if it does, only its own check is restarted.

pub mod check;
mod context;
pub mod damping;
mod engine;
pub mod net;
mod observer;
mod outcome;
pub mod passive;
pub mod schedule;
pub mod verdict;

pub use check::{BfdSessions, Checker, Part, Unusable};
pub use context::{Context, Steering, Way};
pub use engine::{Change, CheckId, CheckStatus, Engine, Event, Totals};
pub use observer::Observer;
pub use outcome::{Outcome, Weigh};
pub use passive::Evidence;
