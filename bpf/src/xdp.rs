//! XDP: frames before they become the kernel's packets.

use core::ffi::c_void;
use core::mem::{MaybeUninit, offset_of};

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::generated::{
    bpf_redirect, bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_load_bytes, bpf_xdp_store_bytes,
};
use aya_ebpf::programs::XdpContext;
use pointsman_core::director::Verdict;
use pointsman_core::forward::client;
use pointsman_core::forward::cross;
use pointsman_core::forward::fullnat::{self, Plan};
use pointsman_core::forward::tunnel::{Seal, is_summed};
use pointsman_core::host::{Packet, Shell};
use pointsman_core::inner::Version;
use pointsman_core::layout::Egress;
use pointsman_core::mask::{masked, opaque, positive};
use pointsman_core::next_hop::Refreshed;
use pointsman_core::wire::ethernet;
use pointsman_core::wire::icmp4::Message;

use crate::apart::{
    NO_SUM, apart, packet_pointer, payload, pointer, programs, seal, sum, tail_call, wrap,
};
use crate::maps::XDP_PROGRAMS;
use crate::tables::{Context, Kernel, egress_of, pm_sctp_change};

/// A frame in XDP.
pub struct Frame<'a>(&'a XdpContext);

impl Frame<'_> {
    #[inline(always)]
    fn start(&self) -> usize {
        packet_pointer::<_, { offset_of!(xdp_md, data) }>(self.0.ctx)
    }

    #[inline(always)]
    fn end(&self) -> usize {
        packet_pointer::<_, { offset_of!(xdp_md, data_end) }>(self.0.ctx)
    }

    /// Moves the link-layer header (14, 18 or 22 bytes) from `from` to the head of the frame.
    #[inline(always)]
    fn move_link_header(&mut self, from: usize, len: usize) -> Option<()> {
        self.move_addresses(from)?;
        self.move_kind(from, len)
    }

    /// Moves what follows the addresses in a link-layer header.
    #[inline(always)]
    fn move_kind(&mut self, from: usize, len: usize) -> Option<()> {
        let kind = self.read::<u16>(from + 12)?;
        self.write(12, kind)?;
        if len > 14 {
            let tag = self.read::<u32>(from + 14)?;
            self.write(14, tag)?;
        }
        if len > 18 {
            let tag = self.read::<u32>(from + 18)?;
            self.write(18, tag)?;
        }
        Some(())
    }

    /// Moves both link-layer addresses; as numbers, since arrays would be moved by a call.
    #[inline(always)]
    fn move_addresses(&mut self, from: usize) -> Option<()> {
        let (first, second) = (self.read::<u64>(from)?, self.read::<u32>(from + 8)?);
        self.write(0, first)?;
        self.write(8, second)
    }

    #[inline(always)]
    fn adjust_head(&mut self, delta: i32) -> Option<()> {
        // SAFETY: the context is the program's own.
        let code = unsafe { bpf_xdp_adjust_head(self.0.ctx, delta) };
        (code == 0).then_some(())
    }
}

impl Packet for Frame<'_> {
    #[inline(always)]
    fn len(&self) -> u32 {
        // Opaque, or the compiler would subtract packet pointers in 32 bits, which is refused.
        opaque(self.end() - self.start()) as u32
    }

    #[inline(always)]
    fn pointer<T>(&self, at: usize) -> Option<*mut T> {
        pointer(self.start(), self.end(), at)
    }

    #[inline(always)]
    unsafe fn load(&self, at: usize, to: *mut u8, len: usize) -> bool {
        // SAFETY: the context is the program's own; passed on to the caller.
        unsafe { bpf_xdp_load_bytes(self.0.ctx, at as u32, to.cast(), len as u32) == 0 }
    }

    #[inline(always)]
    unsafe fn store(&mut self, at: usize, from: *const u8, len: usize) -> bool {
        // SAFETY: the context is the program's own; passed on to the caller.
        unsafe {
            bpf_xdp_store_bytes(self.0.ctx, at as u32, from.cast_mut().cast(), len as u32) == 0
        }
    }

    #[inline(always)]
    fn sum(&self, at: usize, len: u32) -> Option<u32> {
        let sum = pm_sum_xdp(self.0.ctx, at as u32, len);
        (sum != NO_SUM).then_some(sum as u32)
    }

    #[inline(always)]
    fn push(&mut self, l3: usize, len: usize, _outer: Version, _shell: Shell) -> Option<()> {
        self.adjust_head(-(len as i32))?;
        // Who sends the packet writes the addresses.
        self.move_kind(len, l3)
    }

    #[inline(always)]
    fn make_room(&mut self, len: usize, _outer: Version, _shell: Shell) -> Option<()> {
        self.adjust_head(-(len as i32))
    }

    #[inline(always)]
    unsafe fn insert(&mut self, at: usize, len: u32, scratch: *mut u8) -> Option<()> {
        // What lies before the room moves forward.
        let before = masked::<0xff>(at);
        if before < ethernet::LEN {
            return None;
        }
        self.adjust_head(-(len as i32))?;
        let (from, before) = (masked::<0xff>(len as usize), positive::<0xff>(before));
        // SAFETY: the caller's scratch is longer than that.
        unsafe {
            let moved = self.load(from, scratch, before) && self.store(0, scratch, before);
            moved.then_some(())
        }
    }

    #[inline(always)]
    fn rehead(&mut self, l3: usize, old: u32, new: u32, _to: Version) -> Option<()> {
        if new >= old {
            let more = masked::<0xff>((new - old) as usize);
            self.adjust_head(-(more as i32))?;
            return self.move_link_header(more, l3);
        }
        let less = masked::<0xff>((old - new) as usize);
        if l3 > ethernet::LEN {
            let inner = self.read::<u32>(14)?;
            if l3 > ethernet::LEN + ethernet::TAG_LEN {
                let innermost = self.read::<u32>(18)?;
                self.write(less + 18, innermost)?;
            }
            self.write(less + 14, inner)?;
        }
        let (first, second) = (self.read::<u64>(0)?, self.read::<u32>(8)?);
        let kind = self.read::<u16>(12)?;
        self.write(less, first)?;
        self.write(less + 8, second)?;
        self.write(less + 12, kind)?;
        self.adjust_head(less as i32)
    }

    #[inline(always)]
    fn reshape(&mut self, l3: usize, bytes: u32, len: u32) -> Option<()> {
        self.adjust_head(-(bytes as i32))?;
        self.move_link_header(bytes as usize, l3)?;
        let present = self.len();
        let delta = len as i32 - present as i32;
        // SAFETY: the context is the program's own.
        let code = unsafe { bpf_xdp_adjust_tail(self.0.ctx, delta) };
        (code == 0).then_some(())
    }

    #[inline(always)]
    fn option_apart(&mut self, header: u32, at: u32, plan: u64) -> u32 {
        pm_option_xdp(self.0.ctx, header, at, plan)
    }

    #[inline(always)]
    fn answer_apart(&mut self, l3: usize, message: Message) -> Option<()> {
        (answer(self.0.as_ptr(), l3, message.to_word()) != 0).then_some(())
    }

    #[inline(always)]
    fn answer_wide_apart(&mut self, l3: usize, message: Message) -> Option<()> {
        (answer_wide(self.0.as_ptr(), l3, message.to_word()) != 0).then_some(())
    }

    #[inline(always)]
    fn sctp_change_apart(&self, old: u32, new: u32, len: u32) -> u32 {
        pm_sctp_change(old, new, len)
    }

    #[inline(always)]
    fn sctp_ports_apart(
        &mut self,
        l3: usize,
        l4: usize,
        total_len: u16,
        new_ports: u32,
    ) -> Option<()> {
        (sctp_ports(self.0.as_ptr(), l3, l4, total_len.into(), new_ports) != 0).then_some(())
    }
}

impl Context for XdpContext {
    const HANDS_UP: bool = true;

    #[inline(always)]
    fn raw(&self) -> *mut c_void {
        self.as_ptr()
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        // SAFETY: the context is the program's own.
        unsafe { (*self.ctx).ingress_ifindex }
    }

    /// Nobody has marked it yet.
    #[inline(always)]
    fn mark(&self) -> u32 {
        0
    }

    /// XDP sees flooded frames too: compare the destination with the interface's own address.
    #[inline(always)]
    fn is_for_us(&self) -> bool {
        let (Some((_, egress)), Some(to)) =
            (egress_of(self.ingress()), Frame(self).read::<[u16; 3]>(0))
        else {
            return true;
        };
        // SAFETY: the pointer is into the map.
        to == unsafe { (*egress).mac }
    }

    #[inline(always)]
    fn wrap(&self, l3: u32, server: u32) -> Option<()> {
        let sum = if is_summed(&Kernel(self), server) {
            pm_payload_xdp(self.ctx, l3)
        } else {
            0
        };
        if sum == NO_SUM {
            return None;
        }
        let seal = pm_seal_xdp(self.ctx, l3, server, sum as u32);
        (seal != Seal::NONE && pm_wrap_xdp(self.ctx, l3, server, seal) == 0).then_some(())
    }

    #[inline(always)]
    fn plan(&self, slot: u32, mtu: u32) -> u64 {
        pm_plan_xdp(self.ctx, slot, mtu)
    }

    #[inline(always)]
    fn edit(&self, plan: u64) -> bool {
        pm_edit_xdp(self.ctx, plan) == 0
    }

    #[inline(always)]
    fn cross(&self, slot: u32) -> bool {
        pm_cross_xdp(self.ctx, slot) == 0
    }

    #[inline(always)]
    fn refresh(
        ctx: *mut c_void,
        index: u32,
        tag: u64,
        epoch: u32,
        found: &mut MaybeUninit<Refreshed>,
    ) {
        refresh(ctx, index, tag, epoch, found);
    }
}

/// All of a frame is readable in XDP.
#[inline(always)]
fn pull(_ctx: &XdpContext, _bytes: u32) {}

const HEADERS: u32 = 0;
const QUOTED: u32 = 0;
const RARE_HEADERS: u32 = 0;

/// [`crate::apart::payload`]. Global, too.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_payload_xdp(ctx: *mut xdp_md, l3: u32) -> u64 {
    payload(&Frame(&XdpContext::new(ctx)), l3)
}

/// [`crate::apart::seal`]. Global, as what is in `tables.rs`.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_seal_xdp(ctx: *mut xdp_md, l3: u32, server: u32, sum: u32) -> u64 {
    let ctx = XdpContext::new(ctx);
    seal(&Kernel(&ctx), &Frame(&ctx), l3, server, sum)
}

/// [`crate::apart::wrap`]. Global, too.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_wrap_xdp(ctx: *mut xdp_md, l3: u32, server: u32, seal: u64) -> u32 {
    let ctx = XdpContext::new(ctx);
    wrap(&Kernel(&ctx), &mut Frame(&ctx), l3, server, seal)
}

/// [`fullnat::plan`]. Global, too.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_plan_xdp(ctx: *mut xdp_md, slot: u32, mtu: u32) -> u64 {
    let ctx = XdpContext::new(ctx);
    fullnat::plan(&Kernel(&ctx), &Frame(&ctx), slot, mtu)
}

/// [`client::edit`]; 0 if it did. Global, too.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_edit_xdp(ctx: *mut xdp_md, plan: u64) -> u32 {
    let ctx = XdpContext::new(ctx);
    let done = client::edit(&Kernel(&ctx), &mut Frame(&ctx), Plan(plan));
    done.is_none().into()
}

/// [`client::option`]. Global, too.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_option_xdp(ctx: *mut xdp_md, header: u32, at: u32, plan: u64) -> u32 {
    client::option(&mut Frame(&XdpContext::new(ctx)), header, at, plan)
}

/// [`cross::translate`]; 0 if it did. Global, too.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_cross_xdp(ctx: *mut xdp_md, slot: u32) -> u32 {
    let ctx = XdpContext::new(ctx);
    cross::translate(&Kernel(&ctx), &mut Frame(&ctx), slot)
        .is_none()
        .into()
}

/// [`Packet::sum`], or [`NO_SUM`]. Global, as what is in `tables.rs`: the verifier looks at its loop once.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_sum_xdp(ctx: *mut xdp_md, at: u32, len: u32) -> u64 {
    // SAFETY: the helper checks the bounds; the buffer has as many bytes as are asked for.
    sum(at, len, |at, to, len| unsafe {
        bpf_xdp_load_bytes(ctx.cast(), at, to, len) as i64
    })
}

apart!(XdpContext, Frame);
programs!(XdpContext, Frame, u32);

#[inline(always)]
fn act(ctx: &XdpContext, frame: &mut Frame<'_>, verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Pass | Verdict::Stack | Verdict::HandUp => xdp_action::XDP_PASS,
        Verdict::Send(egress, tagged) => send(ctx, frame, egress, tagged),
        Verdict::Answer => xdp_action::XDP_TX,
        Verdict::Drop(_) => xdp_action::XDP_DROP,
        Verdict::Call(program) => go_on(ctx, program),
        // Only TC can do these; the core hands them up instead.
        Verdict::Resolve(..) | Verdict::ResolveWide(_) | Verdict::Loopback | Verdict::Held => {
            xdp_action::XDP_ABORTED
        }
    }
}

/// Goes on in another program.
#[inline(always)]
fn go_on(ctx: &XdpContext, program: u32) -> u32 {
    // SAFETY: called from the entry function.
    unsafe { tail_call(ctx.as_ptr(), &XDP_PROGRAMS, program) };
    xdp_action::XDP_ABORTED
}

/// Out of an interface, with the VLAN tag it wants.
///
/// A tag stays as it is when the frame leaves by the interface it came from and that interface asks
/// for none: one-armed on a trunk without VLAN devices.
#[inline(always)]
fn send(ctx: &XdpContext, frame: &mut Frame<'_>, egress: *const Egress, tagged: bool) -> u32 {
    // SAFETY: the pointer is into the map.
    let (ifindex, vlan) = unsafe { ((*egress).xdp_ifindex, (*egress).vlan) };
    let back = ifindex == ctx.ingress();
    let retagged = match (vlan, tagged) {
        (0, false) => Some(()),
        (0, true) if back => Some(()),
        (0, true) => untag(frame),
        (id, true) => frame.write(ethernet::TCI, id.to_be()),
        (id, false) => tag(frame, id),
    };
    if retagged.is_none() {
        return xdp_action::XDP_ABORTED;
    }
    if back {
        return xdp_action::XDP_TX;
    }
    // SAFETY: the helper only records where the frame goes.
    unsafe { bpf_redirect(ifindex, 0) as u32 }
}

#[inline(always)]
fn untag(frame: &mut Frame<'_>) -> Option<()> {
    let (first, second) = (frame.read::<u64>(0)?, frame.read::<u32>(8)?);
    frame.adjust_head(ethernet::TAG_LEN as i32)?;
    frame.write(0, first)?;
    frame.write(8, second)
}

#[inline(always)]
fn tag(frame: &mut Frame<'_>, id: u16) -> Option<()> {
    frame.adjust_head(-(ethernet::TAG_LEN as i32))?;
    frame.move_addresses(ethernet::TAG_LEN)?;
    let tag = u32::from(ethernet::VLAN.raw()) | u32::from(id.to_be()) << 16;
    frame.write(ethernet::TYPE, tag)
}
