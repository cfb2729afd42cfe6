//! Never queue (`Linux net/netfilter/ipvs/ip_vs_nq.c`): a server without active connections, the newest
//! of several; if there is none, as sed.

use crate::mask::less;
use crate::sched::Load;
use crate::sched::least::Measure;

/// As sed, but an idle server has no load: nothing after it is strictly better.
#[inline(always)]
pub(crate) fn measure(load: &Load, weight: u32) -> Measure {
    Measure {
        load: (u64::from(load.active) + 1) * u64::from(less(0, load.active)),
        weight: weight.into(),
    }
}
