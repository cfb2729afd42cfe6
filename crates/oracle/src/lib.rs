//! The referee: scenarios that run over the kernel's IPVS and over Pointsman, and must come out
//! alike.
//!
//! A [`Scenario`] is a text file in `tests/oracle/scenarios`. Played over the kernel's IPVS, in a
//! virtual machine, its answers are written below its commands; played over Pointsman, on each hook,
//! they are compared with what is written there. Where Pointsman answers otherwise on purpose, the
//! file has that answer too, under a topic of `docs/differences.md`; what is not built yet is
//! listed in `tests/oracle/pending`.
//!
//! Both runs use this code, the same namespaces and the same packets; only who balances differs.

mod commands;
mod crafted;
mod ends;
mod names;
mod packet;
mod player;
mod scenario;
mod stage;
mod suite;
mod traffic;

pub use scenario::Scenario;
pub use stage::World;
pub use suite::{Suite, Verdict};
