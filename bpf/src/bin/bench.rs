//! Measuring: runs a program again and again on fresh packets of many flows.
//!
//! `BPF_PROG_TEST_RUN` hands run k's packet to run k+1, so a program that rewrites would measure
//! nonsense. `harness` restores the packet, makes it one of the next flow, and tail-calls the
//! program under test. Ending in `empty` it measures itself; `floor` is the least any balancer does.

#![no_std]
#![no_main]

use aya_ebpf::bindings::{TC_ACT_REDIRECT, TC_ACT_SHOT, xdp_action};
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::macros::{classifier, map, xdp};
use aya_ebpf::maps::{Array, ProgramArray};
use aya_ebpf::programs::{TcContext, XdpContext};
// The licence and the panic handler.
use pointsman_bpf as _;

/// Bytes of a packet that are restored.
const RESTORED: usize = 80;

/// What to send. The same as `Plan` in the bench that fills it.
#[repr(C)]
struct Plan {
    len: u32,
    flows: u32,
    stride: u32,
    /// Offset of the two low bytes of the address that tells flows apart.
    address_at: u32,
    /// Offset of the port that tells flows apart.
    port_at: u32,
    _reserved: u32,
    packet: [u64; RESTORED / 8],
}

#[map]
static PLAN: Array<Plan> = Array::with_max_entries(1, 0);
#[map]
static TURN: Array<u64> = Array::with_max_entries(1, 0);
#[map]
static TARGET_XDP: ProgramArray = ProgramArray::with_max_entries(1, 0);
#[map]
static TARGET_TC: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Restores the packet and calls the program under test.
#[xdp]
pub fn harness(ctx: XdpContext) -> u32 {
    if prepare_xdp(&ctx).is_some() {
        // SAFETY: called from the entry function; returns only when the slot is empty.
        unsafe { TARGET_XDP.tail_call(&ctx, 0) };
    }
    xdp_action::XDP_ABORTED
}

/// The same for programs at TC, which must leave the packet's length as it is.
#[classifier]
pub fn harness_tc(ctx: TcContext) -> i32 {
    if PLAN
        .get(0)
        .and_then(|plan| prepare(ctx.data(), ctx.data_end(), plan))
        .is_some()
    {
        // SAFETY: called from the entry function; returns only when the slot is empty.
        unsafe { TARGET_TC.tail_call(&ctx, 0) };
    }
    TC_ACT_SHOT
}

#[inline(always)]
fn prepare_xdp(ctx: &XdpContext) -> Option<()> {
    let plan = PLAN.get(0)?;
    let present = core::hint::black_box(ctx.data_end() - ctx.data()) as i32;
    let delta = present - plan.len as i32;
    // Also where nothing is to be undone: what this call of the kernel takes is the harness' time in any row, not
    // a tunnel's. SAFETY: the context is the program's own.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, delta) } != 0 {
        return None;
    }
    prepare(ctx.data(), ctx.data_end(), plan)
}

/// Writes the next flow's packet between two ends of packet memory.
#[inline(always)]
fn prepare(start: usize, end: usize, plan: &Plan) -> Option<()> {
    let turn = TURN.get_ptr_mut(0)?;
    // SAFETY: one run at a time; it may move between CPUs.
    let flow = unsafe {
        let now = *turn;
        *turn = now + 1;
        now.wrapping_mul(plan.stride.into())
            .checked_rem(plan.flows.into())? as u32
    };
    if start + RESTORED > end {
        return None;
    }
    for (i, word) in plan.packet.iter().enumerate() {
        // SAFETY: within the bytes checked above.
        unsafe { ((start + i * 8) as *mut u64).write(*word) };
    }
    let (address, port) = (flow / 60_000, 1024 + flow % 60_000);
    let at = start + (plan.address_at & 127) as usize;
    if at + 2 > end {
        return None;
    }
    // SAFETY: checked.
    unsafe {
        let bytes = at as *mut u16;
        bytes.write((u16::from_be(bytes.read()).wrapping_add(address as u16)).to_be());
    }
    let at = start + (plan.port_at & 127) as usize;
    if at + 2 > end {
        return None;
    }
    // SAFETY: checked.
    unsafe { (at as *mut u16).write((port as u16).to_be()) };
    Some(())
}

/// Nothing: what the harness itself costs.
#[xdp]
pub fn empty(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_TX
}

/// Nothing, at TC.
#[classifier]
pub fn empty_tc(_ctx: TcContext) -> i32 {
    TC_ACT_REDIRECT
}

/// Parses Ethernet, IPv4 and TCP, and swaps the addresses.
#[xdp]
pub fn floor(ctx: XdpContext) -> u32 {
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + 54 > end {
        return xdp_action::XDP_DROP;
    }
    // SAFETY: within the bytes checked above.
    unsafe {
        let kind = ((start + 12) as *const u16).read();
        let version = ((start + 14) as *const u8).read();
        let proto = ((start + 23) as *const u8).read();
        if kind != 0x0008 || version != 0x45 || proto != 6 {
            return xdp_action::XDP_PASS;
        }
        let (to_low, to_high) = (
            (start as *const u32).read(),
            ((start + 4) as *const u16).read(),
        );
        let (from_low, from_high) = (
            ((start + 6) as *const u32).read(),
            ((start + 10) as *const u16).read(),
        );
        (start as *mut u32).write(from_low);
        ((start + 4) as *mut u16).write(from_high);
        ((start + 6) as *mut u32).write(to_low);
        ((start + 10) as *mut u16).write(to_high);
    }
    xdp_action::XDP_TX
}
