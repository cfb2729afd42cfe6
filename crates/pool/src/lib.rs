//! Which real servers are in a virtual server's pool, and who is told.
//!
//! ```text
//!  verdicts of checks ──►┐
//!  start, reload, stop ──┼─► Pools ─► Effects, in order: changes of the table, events, log lines
//!  maintenance ─────────►┘     └────► wanted(): the table as it should be
//! ```
//!
//! Pure: no clock, socket or table; `now` is an argument, for views only. The order of effects is
//! keepalived's, so that the same
//! events give the same table, line by line. The machine remembers what it placed; [`repairs`]
//! compares that with the table as it is, for a start on tables that are already there and for
//! what somebody changed by hand.

mod event;
mod pool;
mod pools;
mod remembered;
mod repair;
mod server;
#[cfg(test)]
mod tests;

pub use event::{CheckEvent, Effect, Event, QuorumEvent, QuorumWhy, ServerEvent, ServerWhy};
pub use pool::Pool;
pub use pools::{CheckRef, Pools, Verdict};
pub use remembered::{Remembered, RememberedCheck, RememberedServer};
pub use repair::repairs;
pub use server::{CheckState, Server};
