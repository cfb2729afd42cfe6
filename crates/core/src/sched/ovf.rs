//! Weighted overflow (`Linux net/netfilter/ipvs/ip_vs_ovf.c`): the heaviest server, the newest of equals,
//! as long as its active connections are no more than its weight; then the next. When all are full,
//! none.

use crate::mask::less;
use crate::sched::Load;
use crate::sched::least::Measure;

/// The same load for all; full servers count nothing.
#[inline(always)]
pub(crate) fn measure(load: &Load, weight: u32) -> Measure {
    Measure {
        load: 1,
        weight: u64::from(weight) * u64::from(1 - less(weight, load.active)),
    }
}
