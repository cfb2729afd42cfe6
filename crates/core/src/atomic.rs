//! Atomic access to memory that eBPF programs and user space share.
//!
//! On the eBPF target the standard atomics offer loads and stores only; there the compiler's own
//! intrinsics become the kernel's atomic instructions. Both meet on the same words: compare-and-swap
//! and exchange are full barriers, loads and stores are relaxed.
//!
//! # Safety
//! Every function needs a pointer that is valid, aligned to its type, and shared with others only
//! through these functions (or through volatile reads that are validated afterwards).

#[cfg(target_arch = "bpf")]
mod imp {
    use core::intrinsics::{self, AtomicOrdering::SeqCst};

    #[inline(always)]
    pub unsafe fn cas64(at: *mut u64, old: u64, new: u64) -> u64 {
        unsafe { intrinsics::atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(at, old, new).0 }
    }
    #[inline(always)]
    pub unsafe fn cas32(at: *mut u32, old: u32, new: u32) -> u32 {
        unsafe { intrinsics::atomic_cxchg::<u32, { SeqCst }, { SeqCst }>(at, old, new).0 }
    }
    #[inline(always)]
    pub unsafe fn swap64(at: *mut u64, new: u64) -> u64 {
        unsafe { intrinsics::atomic_xchg::<u64, { SeqCst }>(at, new) }
    }
    #[inline(always)]
    pub unsafe fn swap32(at: *mut u32, new: u32) -> u32 {
        unsafe { intrinsics::atomic_xchg::<u32, { SeqCst }>(at, new) }
    }
    #[inline(always)]
    pub unsafe fn add64(at: *mut u64, value: u64) -> u64 {
        unsafe { intrinsics::atomic_xadd::<u64, u64, { SeqCst }>(at, value) }
    }
    #[inline(always)]
    pub unsafe fn add32(at: *mut u32, value: u32) -> u32 {
        unsafe { intrinsics::atomic_xadd::<u32, u32, { SeqCst }>(at, value) }
    }
}

#[cfg(not(target_arch = "bpf"))]
mod imp {
    use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

    #[inline(always)]
    pub unsafe fn cas64(at: *mut u64, old: u64, new: u64) -> u64 {
        // SAFETY: the caller vouches for the pointer.
        match unsafe { AtomicU64::from_ptr(at) }.compare_exchange(old, new, SeqCst, SeqCst) {
            Ok(seen) | Err(seen) => seen,
        }
    }
    #[inline(always)]
    pub unsafe fn cas32(at: *mut u32, old: u32, new: u32) -> u32 {
        // SAFETY: the caller vouches for the pointer.
        match unsafe { AtomicU32::from_ptr(at) }.compare_exchange(old, new, SeqCst, SeqCst) {
            Ok(seen) | Err(seen) => seen,
        }
    }
    #[inline(always)]
    pub unsafe fn swap64(at: *mut u64, new: u64) -> u64 {
        // SAFETY: the caller vouches for the pointer.
        unsafe { AtomicU64::from_ptr(at) }.swap(new, SeqCst)
    }
    #[inline(always)]
    pub unsafe fn swap32(at: *mut u32, new: u32) -> u32 {
        // SAFETY: the caller vouches for the pointer.
        unsafe { AtomicU32::from_ptr(at) }.swap(new, SeqCst)
    }
    #[inline(always)]
    pub unsafe fn add64(at: *mut u64, value: u64) -> u64 {
        // SAFETY: the caller vouches for the pointer.
        unsafe { AtomicU64::from_ptr(at) }.fetch_add(value, SeqCst)
    }
    #[inline(always)]
    pub unsafe fn add32(at: *mut u32, value: u32) -> u32 {
        // SAFETY: the caller vouches for the pointer.
        unsafe { AtomicU32::from_ptr(at) }.fetch_add(value, SeqCst)
    }
}

macro_rules! public {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty;)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        /// See the module.
        #[inline(always)]
        pub unsafe fn $name($($arg: $ty),*) -> $ret {
            // SAFETY: passed on to the caller.
            unsafe { imp::$name($($arg),*) }
        }
    )*};
}

public! {
    /// Compare-and-swap; returns what was there.
    cas64(at: *mut u64, old: u64, new: u64) -> u64;
    /// Compare-and-swap; returns what was there.
    cas32(at: *mut u32, old: u32, new: u32) -> u32;
    /// Exchange; returns what was there. A full barrier: what was written before is visible first.
    swap64(at: *mut u64, new: u64) -> u64;
    /// Exchange; returns what was there.
    swap32(at: *mut u32, new: u32) -> u32;
    /// Wrapping addition; returns what was there.
    add64(at: *mut u64, value: u64) -> u64;
    /// Wrapping addition; returns what was there.
    add32(at: *mut u32, value: u32) -> u32;
}

/// Relaxed load.
///
/// # Safety
/// See the module.
#[inline(always)]
pub unsafe fn load<T: Copy>(at: *const T) -> T {
    // SAFETY: the caller vouches for the pointer; volatile keeps the compiler from reading twice.
    unsafe { at.read_volatile() }
}

/// Relaxed store.
///
/// # Safety
/// See the module.
#[inline(always)]
pub unsafe fn store<T: Copy>(at: *mut T, value: T) {
    // SAFETY: the caller vouches for the pointer.
    unsafe { at.write_volatile(value) }
}
