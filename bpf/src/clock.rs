//! Tells user space the jiffies of now: what slots are stamped with.

use aya_ebpf::helpers::generated::bpf_jiffies64;

/// The low half of the present jiffies, as a program's return value.
#[inline(always)]
pub fn jiffies() -> i32 {
    // SAFETY: the helper takes nothing.
    unsafe { bpf_jiffies64() as i32 }
}
