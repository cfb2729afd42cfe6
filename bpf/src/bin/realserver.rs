//! The real server's program: takes the outer headers off tunnelled packets.

#![no_std]
#![no_main]

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use pointsman_bpf as programs;

/// TC ingress on the interface tunnelled packets arrive by.
#[classifier]
pub fn decapsulate(ctx: TcContext) -> i32 {
    programs::decapsulate::ingress(&ctx)
}
