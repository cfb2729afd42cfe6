//! Least connection (`Linux net/netfilter/ipvs/ip_vs_lc.c`): the server with the fewest connections,
//! where an active connection counts 257 times an inactive one. The newest of equals.

use crate::mask::less;
use crate::sched::Load;
use crate::sched::least::Measure;

/// Overhead; all weights above zero are one.
#[inline(always)]
pub(crate) fn measure(load: &Load, weight: u32) -> Measure {
    Measure {
        load: load.overhead(),
        weight: less(0, weight).into(),
    }
}
