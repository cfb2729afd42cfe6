//! Schedulers: which real server takes a new connection. One a file, as IPVS names them.
//!
//! User space compiles a service's servers into a table of words; a scheduler reads the table and
//! the servers' shared counters. All walk servers newest first, as the kernel's list does, and give
//! the kernel's choices.

pub mod rr;
pub mod wlc;
pub mod wrr;

use crate::host::Tables;
use crate::layout::{SERVER_OVERLOADED, Schedule};

/// Number of no scheduler: never a destination.
pub const NONE: u8 = 0;
/// Number of [`rr`].
pub const RR: u8 = 1;
/// Number of [`wrr`].
pub const WRR: u8 = 2;
/// Number of [`wlc`].
pub const WLC: u8 = 3;

/// A server in a scheduling table: index in the low half, weight in the high half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(pub u64);

impl Entry {
    /// From its parts.
    pub const fn new(server: u32, weight: u32) -> Self {
        Self(server as u64 | (weight as u64) << 32)
    }
    /// Index of the real server.
    #[inline(always)]
    pub const fn server(self) -> u32 {
        self.0 as u32
    }
    /// Its weight.
    #[inline(always)]
    pub const fn weight(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// What [`schedule`] returns when no server is eligible.
pub const NO_SERVER: u32 = u32::MAX;

/// Chooses a real server of a service for a new connection: its index, or [`NO_SERVER`].
#[inline(always)]
pub fn schedule<T: Tables>(tables: &T, service: u32) -> u32 {
    let Some(service) = tables.service(service) else {
        return NO_SERVER;
    };
    // SAFETY: service records live as long as the maps.
    let schedule = Schedule(unsafe { crate::atomic::load(&raw const (*service).schedule) });
    if schedule.is_empty() {
        return NO_SERVER;
    }
    let chosen = match schedule.sched() {
        RR => rr::choose(tables, service, schedule),
        WRR => wrr::choose(tables, service, schedule),
        WLC => wlc::choose(tables, schedule),
        _ => None,
    };
    chosen.unwrap_or(NO_SERVER)
}

/// The entry at a word of the tables, if its server is not overloaded.
#[inline(always)]
fn eligible<T: Tables>(tables: &T, at: u32) -> Option<Entry> {
    let entry = Entry(tables.schedule_word(at)?);
    let server = tables.server(entry.server())?;
    // SAFETY: server records live as long as the maps.
    let flags = unsafe { crate::atomic::load(&raw const (*server).flags) };
    (flags & SERVER_OVERLOADED == 0).then_some(entry)
}
