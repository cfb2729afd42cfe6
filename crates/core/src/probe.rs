//! The director's own probes along the true path: the mark of a probe's socket names the real server.
//!
//! Such a server has a record of its own, in no service's list: a probe finds it whatever the weight of the
//! server and whether or not the service has it, and clients' counts stay clients'.

use crate::atomic;
use crate::connect::LOOPBACK;
use crate::host::Tables;
use crate::layout::{MAX_SERVERS, SERVER_AVAILABLE, SERVER_PROBED};
use crate::sched::NO_SERVER;

/// Marks of probes, with the server's index in the lower bits.
const MARKS: u32 = 0x504c_0000;
const INDEX: u32 = MAX_SERVERS - 1;
const _: () = assert!(MAX_SERVERS.is_power_of_two() && MARKS & INDEX == 0);

/// The mark that leads to a server.
pub const fn mark(server: u32) -> u32 {
    MARKS | server & INDEX
}

/// The server that a packet's mark names, if it is the director's own; else [`NO_SERVER`].
#[inline(always)]
pub(crate) fn named(mark: u32, ingress: u32) -> u32 {
    if ingress == LOOPBACK && mark & !INDEX == MARKS {
        mark & INDEX
    } else {
        NO_SERVER
    }
}

/// Whether a server may be probed through a service.
#[inline(always)]
pub(crate) fn is_of<T: Tables>(tables: &T, server: u32, service: u32) -> bool {
    const WANTED: u32 = SERVER_AVAILABLE | SERVER_PROBED;
    let Some(record) = tables.server(server) else {
        return false;
    };
    // SAFETY: server records live as long as the maps.
    unsafe {
        atomic::load(&raw const (*record).flags) & WANTED == WANTED
            && atomic::load(&raw const (*record).service) == service
    }
}
