//! NAT of both ends (FULLNAT): CIP:port → VIP:port becomes LIP:port → RIP:port, and replies are undone.
//! Replies come back to the director because the server answers one of its addresses, wherever both are.
//!
//! What changes addresses and ports alone is NAT like any other ([`crate::forward::nat`]).

use crate::atomic;
use crate::forward::{FULLNAT, FULLNAT_CROSS, FULLNAT_TELLS, NAT, is_fullnat};
use crate::host::Tables;
use crate::layout::{SERVER_IPV6, ServerRecord};

/// The method of a connection to a server, whose own method is `method`; its client speaks IPv6 (`wide`)
/// and TCP.
///
/// # Safety
/// `server` lives as long as the maps.
#[inline(always)]
pub unsafe fn method<T: Tables>(
    tables: &T,
    server: *const ServerRecord,
    method: u8,
    (wide, tcp): (bool, bool),
    local: bool,
) -> u8 {
    if !is_fullnat(method) {
        return method;
    }
    // SAFETY: passed on to the caller.
    let (to_wide, tells) = unsafe {
        let service = tables.service(atomic::load(&raw const (*server).service));
        (
            atomic::load(&raw const (*server).flags) & SERVER_IPV6 != 0,
            service.is_some_and(|s| atomic::load(&raw const (*s).client_address) != 0),
        )
    };
    if wide != to_wide {
        FULLNAT_CROSS
    } else if local {
        NAT
    } else if tells && tcp {
        FULLNAT_TELLS
    } else {
        FULLNAT
    }
}
