//! The director's programs, one object: three parts each for XDP and TC ingress, TC egress, and the
//! clock.

#![no_std]
#![no_main]

use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use pointsman_bpf as programs;

/// XDP on an interface.
#[xdp]
pub fn director_xdp(ctx: XdpContext) -> u32 {
    programs::xdp::director(&ctx)
}

/// What [`director_xdp`] calls for a packet without a connection.
#[xdp]
pub fn open_xdp(ctx: XdpContext) -> u32 {
    programs::xdp::open(&ctx)
}

/// What [`open_xdp`] calls when a service has no destination.
#[xdp]
pub fn unreachable_xdp(ctx: XdpContext) -> u32 {
    programs::xdp::unreachable(&ctx)
}

/// TC ingress on an interface.
#[classifier]
pub fn director_tc(ctx: TcContext) -> i32 {
    programs::tc::ingress(&ctx)
}

/// What [`director_tc`] calls for a packet without a connection.
#[classifier]
pub fn open_tc(ctx: TcContext) -> i32 {
    programs::tc::open(&ctx)
}

/// What [`open_tc`] calls when a service has no destination.
#[classifier]
pub fn unreachable_tc(ctx: TcContext) -> i32 {
    programs::tc::unreachable(&ctx)
}

/// TC egress on an interface.
#[classifier]
pub fn director_out(ctx: TcContext) -> i32 {
    programs::tc::egress(&ctx)
}

/// Run once by user space, attached nowhere.
#[classifier]
pub fn clock(_ctx: TcContext) -> i32 {
    programs::clock::jiffies()
}
