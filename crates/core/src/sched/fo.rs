//! Weighted failover (`Linux net/netfilter/ipvs/ip_vs_fo.c`): the heaviest server, the newest of
//! equals, however busy. The next one serves when that one is quiesced or overloaded.

use crate::sched::Load;
use crate::sched::least::Measure;

/// The same load for all.
#[inline(always)]
pub(crate) fn measure(_: &Load, weight: u32) -> Measure {
    Measure {
        load: 1,
        weight: weight.into(),
    }
}
