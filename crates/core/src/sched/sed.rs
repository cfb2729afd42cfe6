//! Shortest expected delay (`Linux net/netfilter/ipvs/ip_vs_sed.c`): the server that, with the new
//! connection, would have the fewest active ones for its weight.

use crate::sched::Load;
use crate::sched::least::Measure;

/// Active connections with the new one, for weight.
#[inline(always)]
pub(crate) fn measure(load: &Load, weight: u32) -> Measure {
    Measure {
        load: u64::from(load.active) + 1,
        weight: weight.into(),
    }
}
