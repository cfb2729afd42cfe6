//! The eBPF side of Pointsman, as thin as it goes: what a context is, where tables lie, how a verdict
//! is carried out. Every decision is taken in `pointsman-core`.

#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod apart;
pub mod clock;
pub mod decapsulate;
pub mod maps;
pub mod quiet;
pub mod route;
pub mod tables;
pub mod tc;
pub mod toa;
pub mod xdp;

/// Nothing here panics: arithmetic wraps and accesses are checked. The linker wants the symbol.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The licence the kernel asks for before it lends its helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
pub static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
