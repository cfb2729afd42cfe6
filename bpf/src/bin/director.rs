//! The director's programs, one object: the parts that call each other on XDP and on TC
//! ingress, TC egress, and the
//! clock.

#![no_std]
#![no_main]

use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use pointsman_bpf as programs;
use pointsman_core::director::{FullNarrow, FullWide, Narrow, OneNarrow, OneWide, Wide};
use pointsman_core::rare::{RareNarrow, RareWide};

/// XDP on an interface. Inlined into its own entry, or each packet would pay a call.
#[xdp]
#[inline(always)]
pub fn director_xdp(ctx: XdpContext) -> u32 {
    programs::xdp::plain(&ctx)
}

/// Any IPv4.
#[xdp]
pub fn narrow_xdp(ctx: XdpContext) -> u32 {
    programs::xdp::director::<Narrow>(&ctx)
}

/// Makes connections.
#[xdp]
pub fn open_xdp(ctx: XdpContext) -> u32 {
    programs::xdp::open(&ctx)
}

/// Tells a sender that no real server takes its connection.
#[xdp]
pub fn unreachable_xdp(ctx: XdpContext) -> u32 {
    programs::xdp::unreachable(&ctx)
}

/// Any IPv6.
#[xdp]
pub fn wide_xdp(ctx: XdpContext) -> u32 {
    programs::xdp::director::<Wide>(&ctx)
}

/// IPv4 that is rare.
#[xdp]
pub fn rare_xdp(ctx: XdpContext) -> u32 {
    programs::xdp::rare::<RareNarrow>(&ctx)
}

/// IPv6 that is rare.
#[xdp]
pub fn rare_wide_xdp(ctx: XdpContext) -> u32 {
    programs::xdp::rare::<RareWide>(&ctx)
}

/// What of rare IPv4 is a flow.
#[xdp]
pub fn rare_flow_xdp(ctx: XdpContext) -> u32 {
    programs::xdp::rare_flow::<RareNarrow>(&ctx)
}

/// What of rare IPv6 is a flow.
#[xdp]
pub fn rare_flow_wide_xdp(ctx: XdpContext) -> u32 {
    programs::xdp::rare_flow::<RareWide>(&ctx)
}

/// What FTP control connections say.
#[xdp]
pub fn ftp_xdp(ctx: XdpContext) -> u32 {
    programs::xdp::ftp::<Narrow>(&ctx)
}

/// What FTP control connections over IPv6 say.
#[xdp]
pub fn ftp_wide_xdp(ctx: XdpContext) -> u32 {
    programs::xdp::ftp::<Wide>(&ctx)
}

/// By FULLNAT, where more changes than addresses and ports.
#[xdp]
pub fn fullnat_xdp(ctx: XdpContext) -> u32 {
    programs::xdp::full::<FullNarrow>(&ctx)
}

/// The same of IPv6.
#[xdp]
pub fn fullnat_wide_xdp(ctx: XdpContext) -> u32 {
    programs::xdp::full::<FullWide>(&ctx)
}

/// Connections of one packet.
#[xdp]
pub fn one_packet_xdp(ctx: XdpContext) -> u32 {
    programs::xdp::one_packet::<OneNarrow>(&ctx)
}

/// Connections of one IPv6 packet.
#[xdp]
pub fn one_packet_wide_xdp(ctx: XdpContext) -> u32 {
    programs::xdp::one_packet::<OneWide>(&ctx)
}

/// Lets every frame pass: what user space puts frames back with, attached nowhere.
#[xdp]
pub fn put_back(_ctx: XdpContext) -> u32 {
    aya_ebpf::bindings::xdp_action::XDP_PASS
}

/// TC ingress on an interface. Inlined, too.
#[classifier]
#[inline(always)]
pub fn director_tc(ctx: TcContext) -> i32 {
    programs::tc::ingress(&ctx)
}

/// Any IPv4.
#[classifier]
pub fn narrow_tc(ctx: TcContext) -> i32 {
    programs::tc::director::<Narrow>(&ctx)
}

/// Makes connections.
#[classifier]
pub fn open_tc(ctx: TcContext) -> i32 {
    programs::tc::open(&ctx)
}

/// Tells a sender that no real server takes its connection.
#[classifier]
pub fn unreachable_tc(ctx: TcContext) -> i32 {
    programs::tc::unreachable(&ctx)
}

/// Any IPv6.
#[classifier]
pub fn wide_tc(ctx: TcContext) -> i32 {
    programs::tc::director::<Wide>(&ctx)
}

/// IPv4 that is rare.
#[classifier]
pub fn rare_tc(ctx: TcContext) -> i32 {
    programs::tc::rare::<RareNarrow>(&ctx)
}

/// IPv6 that is rare.
#[classifier]
pub fn rare_wide_tc(ctx: TcContext) -> i32 {
    programs::tc::rare::<RareWide>(&ctx)
}

/// What of rare IPv4 is a flow.
#[classifier]
pub fn rare_flow_tc(ctx: TcContext) -> i32 {
    programs::tc::rare_flow::<RareNarrow>(&ctx)
}

/// What of rare IPv6 is a flow.
#[classifier]
pub fn rare_flow_wide_tc(ctx: TcContext) -> i32 {
    programs::tc::rare_flow::<RareWide>(&ctx)
}

/// What FTP control connections say.
#[classifier]
pub fn ftp_tc(ctx: TcContext) -> i32 {
    programs::tc::ftp::<Narrow>(&ctx)
}

/// What FTP control connections over IPv6 say.
#[classifier]
pub fn ftp_wide_tc(ctx: TcContext) -> i32 {
    programs::tc::ftp::<Wide>(&ctx)
}

/// By FULLNAT, where more changes than addresses and ports.
#[classifier]
pub fn fullnat_tc(ctx: TcContext) -> i32 {
    programs::tc::full::<FullNarrow>(&ctx)
}

/// The same of IPv6.
#[classifier]
pub fn fullnat_wide_tc(ctx: TcContext) -> i32 {
    programs::tc::full::<FullWide>(&ctx)
}

/// Connections of one packet.
#[classifier]
pub fn one_packet_tc(ctx: TcContext) -> i32 {
    programs::tc::one_packet::<OneNarrow>(&ctx)
}

/// Connections of one IPv6 packet.
#[classifier]
pub fn one_packet_wide_tc(ctx: TcContext) -> i32 {
    programs::tc::one_packet::<OneWide>(&ctx)
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
