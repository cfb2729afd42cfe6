//! Weighted least connection (`Linux net/netfilter/ipvs/ip_vs_wlc.c`): the server with the fewest
//! connections for its weight, where an active connection counts 257 times an inactive one.

use crate::sched::Load;
use crate::sched::least::Measure;

/// Overhead for weight.
#[inline(always)]
pub(crate) fn measure(load: &Load, weight: u32) -> Measure {
    Measure {
        load: load.overhead(),
        weight: weight.into(),
    }
}
