//! TC: the kernel's packets, with offloads. Aggregates and unfinished checksums stay what they are.

use core::ffi::c_void;
use core::mem::{MaybeUninit, offset_of};

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{
    __sk_buff, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
    BPF_F_ADJ_ROOM_ENCAP_L4_GRE, BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO,
    BPF_F_INGRESS, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, TC_ACT_SHOT,
    bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, bpf_redir_neigh,
};
use aya_ebpf::helpers::generated::{
    bpf_clone_redirect, bpf_csum_update, bpf_l4_csum_replace, bpf_redirect, bpf_redirect_neigh,
    bpf_skb_adjust_room, bpf_skb_change_proto, bpf_skb_change_tail, bpf_skb_load_bytes,
    bpf_skb_pull_data, bpf_skb_store_bytes, bpf_skb_vlan_pop,
};
use aya_ebpf::programs::TcContext;
use pointsman_core::addr::Be32;
use pointsman_core::connect::LOOPBACK;
use pointsman_core::director::{self, Narrow, Verdict, Wide, call};
use pointsman_core::forward::client;
use pointsman_core::forward::cross;
use pointsman_core::forward::fullnat::{self, Plan};
use pointsman_core::forward::tunnel::{Seal, is_summed};
use pointsman_core::fragment::{BACK_MAGIC, HELD_FRAME, Held};
use pointsman_core::host::{Packet, Shell};
use pointsman_core::inner::Version;
use pointsman_core::layout::Egress;
use pointsman_core::mask::{masked, opaque};
use pointsman_core::next_hop::Refreshed;
use pointsman_core::wire::checksum::{Diff, Pseudo};
use pointsman_core::wire::icmp4::Message;
use pointsman_core::wire::{ethernet, ipv4, ipv6};

use crate::apart::{
    NO_SUM, apart, packet_pointer, payload, pointer, programs, seal, sum, tail_call, wrap,
};
use crate::maps::{FRAGMENTS_HELD, RUNTIME, TC_PROGRAMS, WANTED};
use crate::tables::{Context, Kernel, cpu, pm_sctp_change};

/// "On with it": the next program, then the stack. The same number for tcx and clsact.
pub(crate) const NEXT: i32 = -1;
/// Away with it.
pub(crate) const SHOT: i32 = TC_ACT_SHOT;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const PACKET_HOST: u32 = 0;

/// Traffic control index of a packet on its way to `lo` because netfilter marked it.
const MARKED: u32 = 0x504d;
/// Traffic control index of such a packet once it has come round.
const TAKEN: u32 = 0x504e;

/// Bytes the parser may look at: two tags, an ICMP error, and in it an IPv6 header and ports, which is
/// more than IPv4 with all options and TCP.
const HEADERS: u32 = 14 + 8 + 40 + 8 + 40 + 8;

/// Bytes an ICMP error may quote, and the link-layer header.
const QUOTED: u32 = 22 + 1280;
/// Bytes the parser may look at in rare packets: options and extension headers, without and within.
const RARE_HEADERS: u32 = 576;

/// A packet in TC.
pub struct Skb<'a>(pub(crate) &'a TcContext);

impl Skb<'_> {
    /// The context helpers want.
    #[inline(always)]
    pub(crate) fn raw(&self) -> *mut __sk_buff {
        self.0.skb.skb
    }
}

impl Packet for Skb<'_> {
    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: the context is the program's own.
        unsafe { (*self.raw()).len }
    }

    #[inline(always)]
    fn pointer<T>(&self, at: usize) -> Option<*mut T> {
        const DATA: usize = offset_of!(__sk_buff, data);
        const END: usize = offset_of!(__sk_buff, data_end);
        let ctx = self.raw();
        pointer(
            packet_pointer::<_, DATA>(ctx),
            packet_pointer::<_, END>(ctx),
            at,
        )
    }

    #[inline(always)]
    unsafe fn load(&self, at: usize, to: *mut u8, len: usize) -> bool {
        // SAFETY: the context is the program's own; passed on to the caller.
        unsafe { bpf_skb_load_bytes(self.raw().cast(), at as u32, to.cast(), len as u32) == 0 }
    }

    #[inline(always)]
    unsafe fn store(&mut self, at: usize, from: *const u8, len: usize) -> bool {
        // SAFETY: the context is the program's own; passed on to the caller.
        unsafe { bpf_skb_store_bytes(self.raw(), at as u32, from.cast(), len as u32, 0) == 0 }
    }

    /// By helper: only the kernel knows whether the checksum is whole, partial or hardware's. Where hardware summed all
    /// bytes it takes the change of the checksum off, but does not know what the header changed by.
    #[inline(always)]
    fn update_checksum(
        &mut self,
        at: usize,
        addresses: Diff,
        ports: Diff,
        optional: bool,
    ) -> Option<()> {
        // Where there is none, nothing makes up for new ports.
        if optional && self.read::<u16>(at)? == 0 {
            self.sum_changed(ports);
            return Some(());
        }
        let zero = if optional {
            u64::from(BPF_F_MARK_MANGLED_0)
        } else {
            0
        };
        // SAFETY: the context is the program's own.
        let replace = |diff: Diff, flags| unsafe {
            bpf_l4_csum_replace(self.raw(), at as u32, 0, diff.raw().into(), flags)
        };
        // Mostly a server's port is its service's.
        if !ports.is_none() && replace(ports, zero) != 0 {
            return None;
        }
        let code = replace(addresses, zero | u64::from(BPF_F_PSEUDO_HDR));
        (code == 0).then_some(())
    }

    /// By hand, which takes a third of the time, unless hardware is to finish the checksum.
    #[inline(always)]
    fn update_checksum_under(
        &mut self,
        at: usize,
        pseudo: Pseudo,
        ports: Diff,
        optional: bool,
    ) -> Option<()> {
        let old = self.read::<u16>(at)?;
        let changed = if optional && old == 0 || self.is_aggregate() || pseudo.is_all(old) {
            self.update_checksum(at, pseudo.change, ports, optional)?;
            pseudo.header
        } else {
            self.change_checksum(at, old, pseudo.change.and(ports), optional)?;
            pseudo.on_bytes()
        };
        self.sum_changed(changed);
        Some(())
    }

    /// Where the network card summed all bytes (`CHECKSUM_COMPLETE`).
    #[inline(always)]
    fn sum_changed(&mut self, change: Diff) {
        // SAFETY: the context is the program's own.
        unsafe { bpf_csum_update(self.raw(), change.raw()) };
    }

    #[inline(always)]
    fn largest_datagram(&self, total_len: u16, headers: u16) -> u16 {
        // SAFETY: the context is the program's own.
        let segment = unsafe { (*self.raw()).gso_size };
        if segment == 0 {
            total_len
        } else {
            (segment as u16).saturating_add(headers)
        }
    }

    #[inline(always)]
    fn sum(&self, at: usize, len: u32) -> Option<u32> {
        let sum = pm_sum_tc(self.raw(), at as u32, len);
        (sum != NO_SUM).then_some(sum as u32)
    }

    #[inline(always)]
    fn is_aggregate(&self) -> bool {
        // SAFETY: the context is the program's own.
        unsafe { (*self.raw()).gso_size != 0 }
    }

    /// Tells the kernel what comes before the packet, so that it can still cut an aggregate into
    /// segments, and compute their checksums. The segments stay as long as they were made: that they
    /// fit with what is added was checked.
    #[inline(always)]
    fn push(&mut self, _l3: usize, len: usize, outer: Version, shell: Shell) -> Option<()> {
        let flags = match outer {
            Version::V4 => BPF_F_ADJ_ROOM_ENCAP_L3_IPV4,
            Version::V6 => BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
        } | match shell {
            Shell::Ip => 0,
            Shell::Udp => BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
            Shell::Gre => BPF_F_ADJ_ROOM_ENCAP_L4_GRE,
        } | BPF_F_ADJ_ROOM_FIXED_GSO;
        // SAFETY: the context is the program's own.
        let code =
            unsafe { bpf_skb_adjust_room(self.raw(), len as i32, BPF_ADJ_ROOM_MAC, flags.into()) };
        (code == 0).then_some(())
    }

    #[inline(always)]
    fn split_off(&mut self, len: u32) -> Option<()> {
        let ctx = self.raw();
        // SAFETY: the context is the program's own.
        let code = unsafe {
            let whole = bpf_clone_redirect(ctx, (*ctx).ifindex, u64::from(BPF_F_INGRESS));
            whole | bpf_skb_change_tail(ctx, len, 0)
        };
        (code == 0).then_some(())
    }

    /// What comes behind the room moves back: a checksum that hardware is to fill in is counted from where
    /// the transport header lies.
    #[inline(always)]
    unsafe fn insert(&mut self, at: usize, len: u32, _scratch: *mut u8) -> Option<()> {
        (pm_insert_tc(self.raw(), at as u32, len) == 0).then_some(())
    }

    #[inline(always)]
    fn rehead(&mut self, _l3: usize, old: u32, new: u32, to: Version) -> Option<()> {
        const BETWEEN: i32 = (ipv6::LEN - ipv4::MIN_LEN) as i32;
        let (protocol, rest) = match to {
            Version::V4 => (ethernet::IPV4, new as i32 - old as i32 + BETWEEN),
            Version::V6 => (ethernet::IPV6, new as i32 - old as i32 - BETWEEN),
        };
        // SAFETY: the context is the program's own. The first makes the packet one of the other version in
        // the kernel's eyes, too.
        let code = unsafe {
            let changed = bpf_skb_change_proto(self.raw(), protocol.raw(), 0);
            if changed != 0 || rest == 0 {
                changed
            } else {
                let fixed = u64::from(BPF_F_ADJ_ROOM_FIXED_GSO);
                bpf_skb_adjust_room(self.raw(), rest, BPF_ADJ_ROOM_MAC, fixed)
            }
        };
        (code == 0).then_some(())
    }

    #[inline(always)]
    fn reshape(&mut self, _l3: usize, bytes: u32, len: u32) -> Option<()> {
        // SAFETY: the context is the program's own.
        let code = unsafe {
            bpf_skb_change_tail(self.raw(), len - bytes, 0)
                | bpf_skb_adjust_room(self.raw(), bytes as i32, BPF_ADJ_ROOM_MAC, 0)
        };
        (code == 0).then_some(())
    }

    #[inline(always)]
    fn hold(&mut self) -> bool {
        hold(self.0.as_ptr()) != 0
    }

    #[inline(always)]
    fn option_apart(&mut self, header: u32, at: u32, plan: u64) -> u32 {
        pm_option_tc(self.raw(), header, at, plan)
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

impl Context for TcContext {
    const HANDS_UP: bool = false;

    #[inline(always)]
    fn raw(&self) -> *mut c_void {
        self.as_ptr()
    }

    /// A packet that comes round by `lo` for its mark came from elsewhere, nobody knows any more where.
    #[inline(always)]
    fn ingress(&self) -> u32 {
        // SAFETY: the context is the program's own.
        unsafe {
            if (*self.skb.skb).tc_index == TAKEN {
                0
            } else {
                (*self.skb.skb).ingress_ifindex
            }
        }
    }

    #[inline(always)]
    fn mark(&self) -> u32 {
        // SAFETY: the context is the program's own.
        unsafe { (*self.skb.skb).mark }
    }

    #[inline(always)]
    fn is_for_us(&self) -> bool {
        // SAFETY: the context is the program's own.
        unsafe { (*self.skb.skb).pkt_type == PACKET_HOST }
    }

    #[inline(always)]
    fn wrap(&self, l3: u32, server: u32) -> Option<()> {
        let sum = if is_summed(&Kernel(self), server) {
            pm_payload_tc(self.skb.skb, l3)
        } else {
            0
        };
        if sum == NO_SUM {
            return None;
        }
        let seal = pm_seal_tc(self.skb.skb, l3, server, sum as u32);
        (seal != Seal::NONE && pm_wrap_tc(self.skb.skb, l3, server, seal) == 0).then_some(())
    }

    #[inline(always)]
    fn plan(&self, slot: u32, mtu: u32) -> u64 {
        pm_plan_tc(self.skb.skb, slot, mtu)
    }

    #[inline(always)]
    fn edit(&self, plan: u64) -> bool {
        pm_edit_tc(self.skb.skb, plan) == 0
    }

    #[inline(always)]
    fn cross(&self, slot: u32) -> bool {
        pm_cross_tc(self.skb.skb, slot) == 0
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

/// [`crate::apart::payload`]. Global, too.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_payload_tc(ctx: *mut __sk_buff, l3: u32) -> u64 {
    payload(&Skb(&TcContext::new(ctx)), l3)
}

/// [`crate::apart::seal`]. Global, as what is in `tables.rs`.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_seal_tc(ctx: *mut __sk_buff, l3: u32, server: u32, sum: u32) -> u64 {
    let ctx = TcContext::new(ctx);
    seal(&Kernel(&ctx), &Skb(&ctx), l3, server, sum)
}

/// [`crate::apart::wrap`]. Global, too.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_wrap_tc(ctx: *mut __sk_buff, l3: u32, server: u32, seal: u64) -> u32 {
    let ctx = TcContext::new(ctx);
    wrap(&Kernel(&ctx), &mut Skb(&ctx), l3, server, seal)
}

/// [`fullnat::plan`]. Global, too.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_plan_tc(ctx: *mut __sk_buff, slot: u32, mtu: u32) -> u64 {
    let ctx = TcContext::new(ctx);
    fullnat::plan(&Kernel(&ctx), &Skb(&ctx), slot, mtu)
}

/// [`client::edit`]; 0 if it did. Global, too.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_edit_tc(ctx: *mut __sk_buff, plan: u64) -> u32 {
    let ctx = TcContext::new(ctx);
    let done = client::edit(&Kernel(&ctx), &mut Skb(&ctx), Plan(plan));
    done.is_none().into()
}

/// [`client::option`]. Global, too.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_option_tc(ctx: *mut __sk_buff, header: u32, at: u32, plan: u64) -> u32 {
    client::option(&mut Skb(&TcContext::new(ctx)), header, at, plan)
}

/// [`cross::translate`]; 0 if it did. Global, too.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_cross_tc(ctx: *mut __sk_buff, slot: u32) -> u32 {
    let ctx = TcContext::new(ctx);
    cross::translate(&Kernel(&ctx), &mut Skb(&ctx), slot)
        .is_none()
        .into()
}

/// Bytes moved at a time.
const PIECE: u32 = 256;
/// Pieces that the longest packet has.
const PIECES: u32 = (1 << 16) / PIECE;

/// [`Packet::insert`]; 0 if it did. Global, too.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_insert_tc(ctx: *mut __sk_buff, at: u32, len: u32) -> u32 {
    let Some(wanted) = WANTED.get_ptr_mut(cpu()) else {
        return 1;
    };
    // SAFETY: the context is the program's own, the record this CPU's; a piece is shorter than its text.
    unsafe {
        let scratch = (&raw mut (*wanted).text).cast::<u8>();
        let whole = (*ctx).len;
        if at > whole || bpf_skb_change_tail(ctx, whole + len, 0) != 0 {
            return 1;
        }
        let mut left = whole - at;
        if left == 0 {
            return 0;
        }
        // From the end: first what is no whole piece, 1 to 256 bytes.
        let odd = masked::<{ PIECE - 1 }>(left as usize - 1) as u32 + 1;
        left -= odd;
        if bpf_skb_load_bytes(ctx.cast(), at + left, scratch.cast(), odd)
            | bpf_skb_store_bytes(ctx, at + left + len, scratch.cast(), odd, 0)
            != 0
        {
            return 1;
        }
        for _ in 0..PIECES {
            if left < PIECE {
                break;
            }
            left -= PIECE;
            if bpf_skb_load_bytes(ctx.cast(), at + left, scratch.cast(), PIECE)
                | bpf_skb_store_bytes(ctx, at + left + len, scratch.cast(), PIECE, 0)
                != 0
            {
                return 1;
            }
        }
        u32::from(left != 0)
    }
}

/// [`Packet::sum`], or [`NO_SUM`]. Global, as what is in `tables.rs`: the verifier looks at its loop once.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_sum_tc(ctx: *mut __sk_buff, at: u32, len: u32) -> u64 {
    // SAFETY: the helper checks the bounds; the buffer has as many bytes as are asked for.
    sum(at, len, |at, to, len| unsafe {
        bpf_skb_load_bytes(ctx.cast(), at, to, len) as i64
    })
}

apart!(TcContext, Skb);
programs!(TcContext, Skb, i32);

/// Brings the first `bytes` into the part of the packet a program can read.
#[inline(always)]
pub(crate) fn pull(ctx: &TcContext, bytes: u32) {
    // SAFETY: the context is the program's own.
    let len = unsafe { (*ctx.skb.skb).len };
    let linear = (ctx.data_end() - ctx.data()) as u32;
    if linear < len && linear < bytes {
        let want = if len < bytes { len } else { bytes };
        // SAFETY: as above. If it fails the parser finds the packet too short.
        unsafe { bpf_skb_pull_data(ctx.skb.skb, want) };
    }
}

/// What packets meet first on TC ingress.
#[inline(always)]
pub fn ingress(ctx: &TcContext) -> i32 {
    // SAFETY: the context is the program's own.
    let (from, round) = unsafe { ((*ctx.skb.skb).ingress_ifindex, (*ctx.skb.skb).tc_index) };
    if from == LOOPBACK
        && round != TAKEN
        && let Some(ifindex) = goes_back(ctx)
    {
        // SAFETY: the helper only records where the packet goes.
        return unsafe { bpf_redirect(ifindex, u64::from(BPF_F_INGRESS)) as i32 };
    }
    // SAFETY: as above.
    if unsafe { (*ctx.skb.skb).vlan_present } != 0 && has_vlan_devices() {
        return NEXT;
    }
    // SAFETY: as above.
    if round == TAKEN && unsafe { (*ctx.skb.skb).mark } == 0 {
        return NEXT;
    }
    if round == MARKED {
        pull(ctx, HEADERS);
        // The stack forwarded it to `lo`, and took one off its time to live; the director does that.
        if director::step_back(&mut Skb(ctx)).is_none() {
            return SHOT;
        }
        // SAFETY: as above.
        unsafe { (*ctx.skb.skb).tc_index = TAKEN };
    }
    plain(ctx)
}

/// The interface of a fragment that user space held and now puts back, as it says before the packet,
/// where only XDP can write.
#[inline(always)]
fn goes_back(ctx: &TcContext) -> Option<u32> {
    const META: usize = offset_of!(__sk_buff, data_meta);
    const DATA: usize = offset_of!(__sk_buff, data);
    let meta = packet_pointer::<_, META>(ctx.skb.skb);
    let data = packet_pointer::<_, DATA>(ctx.skb.skb);
    let words = pointer::<[u32; 2]>(meta, data, 0)?.cast::<u32>();
    // SAFETY: pointer() checked the bounds.
    unsafe { (words.read() == BACK_MAGIC).then(|| words.add(1).read()) }
}

#[inline(always)]
fn act(ctx: &TcContext, skb: &mut Skb<'_>, verdict: Verdict) -> i32 {
    match verdict {
        Verdict::Pass | Verdict::Stack | Verdict::HandUp => next(ctx),
        Verdict::Send(egress, _) => send(ctx, egress),
        Verdict::Resolve(ifindex, next) => resolve(ctx, ifindex, next),
        Verdict::ResolveWide(ifindex) => resolve_wide(ctx, ifindex),
        Verdict::Loopback => to_loopback(skb),
        Verdict::Answer => send_back(ctx),
        Verdict::Drop(_) | Verdict::Held => SHOT,
        Verdict::Call(program) => go_on(ctx, program),
    }
}

/// On to the stack. A packet that came round for its mark would be forwarded to `lo` again and again:
/// it comes in once more without the mark.
#[inline(always)]
fn next(ctx: &TcContext) -> i32 {
    // SAFETY: the context is the program's own, the helper only records where the packet goes.
    unsafe {
        if (*ctx.skb.skb).tc_index != TAKEN {
            return NEXT;
        }
        (*ctx.skb.skb).mark = 0;
        bpf_redirect(LOOPBACK, u64::from(BPF_F_INGRESS)) as i32
    }
}

/// Hands a copy of the packet to user space; 0 when it has no room.
#[inline(never)]
extern "C" fn hold(ctx: *mut c_void) -> u32 {
    let skb = ctx.cast::<__sk_buff>();
    // SAFETY: the context is the program's own.
    let whole = unsafe { (*skb).len };
    // Bounds one by one: 6.1 learns nothing from a comparison with zero, nor from one of a difference.
    let len = masked::<0x7ff>(whole as usize);
    if len > HELD_FRAME || len as u32 != whole {
        return 0;
    }
    let len = opaque(len);
    if len < ethernet::LEN {
        return 0;
    }
    let Some(mut entry) = FRAGMENTS_HELD.reserve::<Held>(0) else {
        return 0;
    };
    let held = entry.as_mut_ptr();
    // SAFETY: the entry is ours until it is submitted; the helper writes within the frame.
    let code = unsafe {
        (*held).ifindex = (*skb).ingress_ifindex;
        (*held).len = len as u32;
        let tagged = (*skb).vlan_present != 0;
        (*held).tag = if tagged { (*skb).vlan_tci } else { 0 };
        (*held).tag_kind = if tagged {
            u32::from(u16::from_be((*skb).vlan_proto as u16))
        } else {
            0
        };
        bpf_skb_load_bytes(skb.cast(), 0, (&raw mut (*held).frame).cast(), len as u32)
    };
    if code != 0 {
        entry.discard(0);
        return 0;
    }
    entry.submit(0);
    1
}

/// Goes on in another program.
#[inline(always)]
fn go_on(ctx: &TcContext, program: u32) -> i32 {
    // SAFETY: called from the entry function.
    unsafe { tail_call(ctx.as_ptr(), &TC_PROGRAMS, program) };
    SHOT
}

/// The director on TC egress: replies of real servers on the director itself.
#[inline(always)]
pub fn egress(ctx: &TcContext) -> i32 {
    let Some(runtime) = RUNTIME.get_ptr(0) else {
        return NEXT;
    };
    // SAFETY: the pointer is into the map, the context is the program's own.
    unsafe {
        // What netfilter marked and a routing rule of the director sends to `lo`: ingress takes it there.
        let skb = ctx.skb.skb;
        if (*skb).ifindex == LOOPBACK
            && (*skb).ingress_ifindex > LOOPBACK
            && (*skb).mark != 0
            && (&raw const (*runtime).mark_services).read_volatile() != 0
        {
            (*skb).tc_index = MARKED;
            return NEXT;
        }
        if (&raw const (*runtime).local_replies).read_volatile() == 0 {
            return NEXT;
        }
    }
    pull(ctx, HEADERS);
    let verdict = match director::egress::<_, _, Narrow>(&Kernel(ctx), &mut Skb(ctx)) {
        Verdict::Call(call::WIDE) => director::egress::<_, _, Wide>(&Kernel(ctx), &mut Skb(ctx)),
        verdict => verdict,
    };
    match verdict {
        Verdict::Drop(_) => SHOT,
        Verdict::Call(program) => go_on(ctx, program),
        _ => NEXT,
    }
}

#[inline(always)]
fn has_vlan_devices() -> bool {
    match RUNTIME.get_ptr(0) {
        // SAFETY: the pointer is into the map.
        Some(runtime) => unsafe { (&raw const (*runtime).vlan_devices).read_volatile() != 0 },
        None => false,
    }
}

/// Out of an interface; a tag stays only on the way back out of the interface it came from.
#[inline(always)]
fn send(ctx: &TcContext, egress: *const Egress) -> i32 {
    // SAFETY: the pointer is into the map, the context is the program's own.
    unsafe {
        let ifindex = (*egress).ifindex;
        if (*ctx.skb.skb).vlan_present != 0 && ifindex != ctx.ingress() {
            bpf_skb_vlan_pop(ctx.skb.skb);
        }
        bpf_redirect(ifindex, 0) as i32
    }
}

#[inline(always)]
fn resolve(ctx: &TcContext, ifindex: u32, next: Be32) -> i32 {
    // struct bpf_redir_neigh: the family, then room for an IPv6 address, of which IPv4 takes the first
    // word. Written one by one: clearing it in one go would be a call, with a stack frame.
    let mut params = MaybeUninit::<bpf_redir_neigh>::uninit();
    let words = [AF_INET, next.raw(), 0, 0, 0];
    const _: () = assert!(size_of::<bpf_redir_neigh>() == 20);
    // SAFETY: five words fill the struct; the context is the program's own.
    unsafe {
        for (i, word) in words.into_iter().enumerate() {
            params
                .as_mut_ptr()
                .cast::<u32>()
                .add(i)
                .write_volatile(word);
        }
        if (*ctx.skb.skb).vlan_present != 0 && ifindex != ctx.ingress() {
            bpf_skb_vlan_pop(ctx.skb.skb);
        }
        let size = size_of::<bpf_redir_neigh>() as i32;
        bpf_redirect_neigh(ifindex, params.as_mut_ptr(), size, 0) as i32
    }
}

/// As [`resolve`], to the IPv6 address in [`pointsman_core::layout::Wanted::next`].
#[inline(always)]
fn resolve_wide(ctx: &TcContext, ifindex: u32) -> i32 {
    let Some(wanted) = WANTED.get_ptr(cpu()) else {
        return SHOT;
    };
    let mut params = MaybeUninit::<bpf_redir_neigh>::uninit();
    // SAFETY: five words fill the struct; the pointer is into the map; the context is the program's own.
    unsafe {
        let words = params.as_mut_ptr().cast::<u32>();
        words.write_volatile(AF_INET6);
        for i in 0..4 {
            words
                .add(i + 1)
                .write_volatile((&raw const (*wanted).next.0[i]).read_volatile());
        }
        if (*ctx.skb.skb).vlan_present != 0 && ifindex != ctx.ingress() {
            bpf_skb_vlan_pop(ctx.skb.skb);
        }
        let size = size_of::<bpf_redir_neigh>() as i32;
        bpf_redirect_neigh(ifindex, params.as_mut_ptr(), size, 0) as i32
    }
}

/// To a client on the director: received from `lo`, whose link-layer address is zero.
#[inline(always)]
fn to_loopback(skb: &mut Skb<'_>) -> i32 {
    // As numbers: arrays would be moved by a call.
    if skb
        .write(0, 0u64)
        .and_then(|()| skb.write(8, 0u32))
        .is_none()
    {
        return SHOT;
    }
    // SAFETY: the helper only records where the packet goes.
    unsafe { bpf_redirect(LOOPBACK, u64::from(BPF_F_INGRESS)) as i32 }
}

/// Back to where it came from: a client on the director listens on `lo`.
#[inline(always)]
fn send_back(ctx: &TcContext) -> i32 {
    let ifindex = ctx.ingress();
    // SAFETY: the context is the program's own.
    let flags = unsafe {
        if ifindex == 0 {
            // Nobody knows where it came in: the stack forwards the answer.
            (*ctx.skb.skb).mark = 0;
            return bpf_redirect(LOOPBACK, u64::from(BPF_F_INGRESS)) as i32;
        }
        if ifindex == LOOPBACK {
            u64::from(BPF_F_INGRESS)
        } else {
            0
        }
    };
    // SAFETY: the helper only records where the packet goes.
    unsafe { bpf_redirect(ifindex, flags) as i32 }
}
