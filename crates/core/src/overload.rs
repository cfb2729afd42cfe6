//! Connection thresholds of real servers: when one counts as overloaded and gets no new connections.
//!
//! A server is overloaded from its upper threshold on, until it has fewer connections than its lower one
//! (IPVS's `IP_VS_DEST_F_OVERLOAD`). Templates do not count. The kernel evaluates this when a count
//! meets a threshold exactly and when thresholds are edited; here any crossing will do, since two CPUs
//! may count at once, and it comes to the same.

use crate::atomic;
use crate::host::Tables;
use crate::layout::{SERVER_OVERLOADED, ServerRecord};

/// To be called after a connection of a server was counted, in or out, and after its thresholds changed.
///
/// # Safety
/// `server` is the record with this index.
#[inline(always)]
pub unsafe fn update<T: Tables>(tables: &T, index: u32, server: *const ServerRecord) {
    // SAFETY: passed on to the caller.
    let (flags, upper) = unsafe {
        (
            atomic::load(&raw const (*server).flags),
            atomic::load(&raw const (*server).upper_threshold),
        )
    };
    if upper != 0 || flags & SERVER_OVERLOADED != 0 {
        tables.evaluate_apart(index);
    }
}

/// Sets or clears the flag of a server as its counts and thresholds say.
#[inline(always)]
pub fn evaluate<T: Tables>(tables: &T, index: u32) {
    let Some(server) = tables.server(index) else {
        return;
    };
    // Again after each change, for whoever counted meanwhile may have seen the flag as it was before.
    for _ in 0..8 {
        // SAFETY: server records live as long as the maps.
        unsafe {
            let flags = atomic::load(&raw const (*server).flags);
            let total = atomic::load(&raw const (*server).active)
                .wrapping_add(atomic::load(&raw const (*server).inactive));
            let is = flags & SERVER_OVERLOADED != 0;
            let shall = is_overloaded(
                is,
                (total as i32).max(0) as u32,
                atomic::load(&raw const (*server).upper_threshold),
                atomic::load(&raw const (*server).lower_threshold),
            );
            if is == shall {
                return;
            }
            atomic::cas32(&raw mut (*server).flags, flags, flags ^ SERVER_OVERLOADED);
        }
    }
}

/// Whether a server with `total` connections is overloaded, given that it was or was not.
#[inline(always)]
const fn is_overloaded(was: bool, total: u32, upper: u32, lower: u32) -> bool {
    let lower = if lower != 0 { lower } else { upper - upper / 4 };
    upper != 0 && (total >= upper || (was && total >= lower))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The flag after each of these numbers of connections.
    fn flags(upper: u32, lower: u32, totals: &[u32]) -> Vec<bool> {
        let mut is = false;
        let step = |&total: &u32| {
            is = is_overloaded(is, total, upper, lower);
            is
        };
        totals.iter().map(step).collect()
    }

    #[test]
    fn a_server_is_overloaded_from_the_upper_threshold_until_below_the_lower() {
        let (t, f) = (true, false);
        assert_eq!(flags(2, 1, &[1, 2, 1, 0, 1, 2]), [f, t, t, f, f, t]);
        // Without a lower threshold three quarters count, rounded up.
        assert_eq!(flags(10, 0, &[9, 10, 11, 8, 7, 8]), [f, t, t, t, f, f]);
        assert_eq!(flags(1, 1, &[1, 0, 1]), [t, f, t]);
        assert_eq!(flags(0, 0, &[0, 1, u32::MAX]), [f, f, f]);
        assert!(!is_overloaded(true, 5, 0, 0), "no threshold, no overload");
    }
}
