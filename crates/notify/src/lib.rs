//! Tells scripts, FIFOs, mail servers and webhooks what happened.
//!
//! ```text
//!                    ┌─► FIFO lines, written at once, never waited for
//!  Notice ─► Notifier┼─► scripts, started at once, so many at a time
//!                    ├─► mail queue ─► a task: SMTP or sendmail
//!                    └─► webhook queue ─► a task each: HTTP POST
//! ```
//!
//! Whoever notices something hands it over and goes on: queues are bounded, rates limited, and
//! what does not fit is counted and logged. The texts are the caller's; [`keepalived`] has
//! keepalived's.

mod fifo;
pub mod keepalived;
mod letter;
mod mail;
mod notice;
mod notifier;
mod rate;
mod webhook;

pub use letter::Letter;
pub use notice::{Notice, Topic};
pub use notifier::{Lost, Notifier};
