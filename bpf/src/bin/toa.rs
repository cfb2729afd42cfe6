//! The real server's programs for FULLNAT: servers see the client's address.

#![no_std]
#![no_main]

use aya_ebpf::macros::{cgroup_sock_addr, sock_ops};
use aya_ebpf::programs::{SockAddrContext, SockOpsContext};
use pointsman_bpf as programs;

/// Finds the client in what a director sends.
#[sock_ops]
pub fn remember(ctx: SockOpsContext) -> u32 {
    programs::toa::remember(&ctx)
}

/// `accept`, `getpeername` over IPv4.
#[cgroup_sock_addr(getpeername4)]
pub fn peer4(ctx: SockAddrContext) -> i32 {
    programs::toa::peer4(&ctx)
}

/// `accept`, `getpeername` over IPv6.
#[cgroup_sock_addr(getpeername6)]
pub fn peer6(ctx: SockAddrContext) -> i32 {
    programs::toa::peer6(&ctx)
}
