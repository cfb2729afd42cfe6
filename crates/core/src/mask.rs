//! Keeping the compiler from knowing better than the verifier.

/// `value & MASK`, by an instruction that stays.
///
/// The compiler drops a mask it can prove needless; the kernel's verifier, older ones above all, may
/// not find the proof, and refuses the access that follows.
#[inline(always)]
pub fn masked<const MASK: u32>(value: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: one arithmetic instruction on a register that is read and written.
        unsafe { core::arch::asm!("{0} &= {1}", inout(reg) value, const MASK) };
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        value & MASK as usize
    }
}

/// The same value, which is at least 1 and at most `MASK`, by instructions that stay.
///
/// For lengths that the kernel's helpers must not be given as 0: verifiers before 6.8 learn nothing
/// about a range from a comparison with 0.
#[inline(always)]
pub fn positive<const MASK: u32>(value: usize) -> usize {
    masked::<MASK>(value.wrapping_sub(1)) + 1
}

/// The same value, which the compiler knows nothing about: what it computes from it stays as written.
#[inline(always)]
pub fn opaque(value: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: one arithmetic instruction on a register that is read and written. (With none, two lines of
        // debug information would share a place, which the kernel refuses.)
        unsafe { core::arch::asm!("{0} += 0", inout(reg) value) };
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        value
    }
}

/// The same value, of which the verifier no longer knows by which ways it came about, so that it follows what comes next
/// once, not for each of them. `other` is any number that it knows nothing about.
#[inline(always)]
pub fn forgotten(value: u32, other: u64) -> u32 {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = u64::from(value);
        // SAFETY: arithmetic on a register that is read and written, and one that is read.
        unsafe {
            core::arch::asm!(
                "{0} ^= {1}",
                "{0} ^= {1}",
                inout(reg) value,
                in(reg) other,
            );
        }
        value as u32
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        let _ = other;
        value
    }
}

/// 1 if `a` is less than `b`, else 0, without a branch: in a loop, the verifier would follow both ways
/// on every turn.
#[inline(always)]
pub fn less(a: u32, b: u32) -> u32 {
    let difference = u64::from(a).wrapping_sub(u64::from(b));
    masked::<1>((difference >> 32) as usize) as u32
}
