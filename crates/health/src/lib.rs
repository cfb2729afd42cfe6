//! Is a real server fit? A checker asks it, a schedule says when, a verdict says what the answers
//! mean.
//!
//! - [`check`]: one checker a file. A [`Checker`] is built once from a configured
//!   [`Check`](pointsman_model::Check) and then asked again and again; each time it gives an
//!   [`Outcome`]. It knows nothing of counts, intervals or other checks.
//! - [`Context`]: what checkers share.
//! - [`net`]: sockets as a [`ProbeTarget`](pointsman_model::ProbeTarget) wants them.
//!
//! Whatever a server answers, a checker reads a bounded number of bytes, waits a bounded time, and does
//! not panic; and if it does, only its own check is restarted.

pub mod check;
mod context;
pub mod net;
mod outcome;

pub use check::{Checker, Part, Unusable};
pub use context::{Context, Steering};
pub use outcome::{Outcome, Weigh};
