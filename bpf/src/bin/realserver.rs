//! The real server's programs: take the outer headers off tunnelled packets, and keep VIPs quiet.

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

/// TC ingress where VIPs are to be kept quiet.
#[classifier]
pub fn arrives(ctx: TcContext) -> i32 {
    programs::quiet::ingress(&ctx)
}

/// TC egress there, and where tunnelled clients are told to send less.
#[classifier]
pub fn leaves(ctx: TcContext) -> i32 {
    programs::quiet::egress(&ctx)
}
