//! The director's two pipelines: packet in, verdict out.
//!
//! An established packet is parsed, finds its slot, is rewritten and sent; nothing on that way
//! depends on how many services, servers or connections there are. Everything else is another program's
//! work ([`call`]): a new connection first gets its slots, then takes the same way.

use crate::addr::Be32;
use crate::atomic;
use crate::conn::{
    self, Found, Hash, KIND_FTP, KIND_METHOD, KIND_REWRITE, KIND_TO_LOOPBACK, KIND_TO_STACK, Slot,
    Tag, Word,
};
use crate::connect::LOOPBACK;
use crate::drop::Drop;
use crate::forward::fullnat::{self, Plan};
use crate::forward::nat::{self, Rewrite};
use crate::forward::{self, client, cross, direct, related, tunnel};
use crate::host::{Host, Packet, Tables};
use crate::icmp;
use crate::layout::{Egress, NextHop, Runtime};
use crate::next_hop::{Refreshed, Way};
use crate::open;
use crate::outgoing;
use crate::parse::{Flow, Parsed, link, parse};
use crate::proto::{self, sctp};
use crate::reuse;
use crate::track;
use crate::wide;
use crate::wire::checksum::Diff;
use crate::wire::icmp4::Message;
use crate::wire::{ethernet, ipv4, ipv6, tcp as tcp_wire};

/// The programs that call each other, by their place in the program arrays.
pub mod call {
    /// What packets meet first: [`crate::plain`].
    pub const DIRECTOR: u32 = 0;
    /// Makes connections.
    pub const OPEN: u32 = 1;
    /// Tells a sender that nobody takes its connection.
    pub const UNREACHABLE: u32 = 2;
    /// Any IPv6.
    pub const WIDE: u32 = 3;
    /// IPv4 that is rare: ICMP errors, fragments, SCTP, AH, ESP, broken headers.
    pub const RARE: u32 = 4;
    /// IPv6 that is rare; extension headers too.
    pub const RARE_WIDE: u32 = 5;
    /// A connection of one packet.
    pub const ONE_PACKET: u32 = 6;
    /// A connection of one IPv6 packet.
    pub const ONE_PACKET_WIDE: u32 = 7;
    /// FTP control connections by NAT.
    pub const FTP: u32 = 8;
    /// FTP control connections by NAT over IPv6.
    pub const FTP_WIDE: u32 = 9;
    /// What of [`RARE`] turned out to be a flow.
    pub const RARE_FLOW: u32 = 10;
    /// What of [`RARE_WIDE`] turned out to be a flow.
    pub const RARE_FLOW_WIDE: u32 = 11;
    /// NAT of both ends whose packets change more than addresses and ports.
    pub const FULLNAT: u32 = 12;
    /// The same of IPv6.
    pub const FULLNAT_WIDE: u32 = 13;
    /// Any IPv4: what [`crate::plain`] leaves.
    pub const NARROW: u32 = 14;
    /// How many there are.
    pub const PROGRAMS: u32 = 15;
    /// None of them: where what the director's own stack sends comes from.
    pub const OUT: u32 = 0xff;
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not ours: on with it, untouched.
    Pass,
    /// Counted and gone.
    Drop(Drop),
    /// Rewritten, link-layer addresses included: out of this interface. True for a frame with a tag.
    Send(*const Egress, bool),
    /// Rewritten: out of the interface with this index, to the neighbour with this address, which
    /// the kernel resolves.
    Resolve(u32, Be32),
    /// Likewise, to the IPv6 address in [`crate::layout::Wanted::next`].
    ResolveWide(u32),
    /// Rewritten where needed: on to the director's own stack.
    Stack,
    /// Rewritten: a reply to a client on the director, to be received from `lo`.
    Loopback,
    /// Turned into an ICMP error: back out of the interface it came in by.
    Answer,
    /// Untouched, for TC on the same interface to handle.
    HandUp,
    /// Gone for now: user space has it, and puts it back when it can be forwarded.
    Held,
    /// Untouched: for another program, see [`call`].
    Call(u32),
}

/// Which packets a program is for.
pub trait Mode {
    /// IPv6.
    const WIDE: bool;
    /// Packets that are rare: without a transport header, SCTP.
    const RARE: bool = false;
    /// Packets of FTP control connections, whose text is read first.
    const FTP: bool = false;
    /// Packets by FULLNAT that change more than addresses and ports.
    const FULL: bool = false;
    /// Place of the program, to start over with.
    const ORIGIN: u32;
}

/// Any IPv4.
#[derive(Clone, Copy, Debug)]
pub struct Narrow;
impl Mode for Narrow {
    const WIDE: bool = false;
    const FTP: bool = true;
    const ORIGIN: u32 = call::NARROW;
}

/// Any IPv6.
#[derive(Clone, Copy, Debug)]
pub struct Wide;
impl Mode for Wide {
    const WIDE: bool = true;
    const FTP: bool = true;
    const ORIGIN: u32 = call::WIDE;
}

/// A connection of one packet.
#[derive(Clone, Copy, Debug)]
pub struct OneNarrow;
impl Mode for OneNarrow {
    const WIDE: bool = false;
    const ORIGIN: u32 = call::DIRECTOR;
}

/// A connection of one IPv6 packet.
#[derive(Clone, Copy, Debug)]
pub struct OneWide;
impl Mode for OneWide {
    const WIDE: bool = true;
    const ORIGIN: u32 = call::WIDE;
}

/// By FULLNAT, whole or in fragments, and errors about it.
#[derive(Clone, Copy, Debug)]
pub struct FullNarrow;
impl Mode for FullNarrow {
    const WIDE: bool = false;
    const RARE: bool = true;
    const FULL: bool = true;
    const ORIGIN: u32 = call::DIRECTOR;
}

/// The same of IPv6.
#[derive(Clone, Copy, Debug)]
pub struct FullWide;
impl Mode for FullWide {
    const WIDE: bool = true;
    const RARE: bool = true;
    const FULL: bool = true;
    const ORIGIN: u32 = call::WIDE;
}

/// Why a packet does not go on.
#[derive(Clone, Copy)]
pub(crate) struct Refusal {
    reason: Drop,
    /// What the sender is told, as [`Message::to_word`], or [`NO_ANSWER`].
    answer: u32,
}

/// No message has type 0.
const NO_ANSWER: u32 = 0;

impl From<Drop> for Refusal {
    #[inline(always)]
    fn from(reason: Drop) -> Self {
        Self {
            reason,
            answer: NO_ANSWER,
        }
    }
}

#[inline(always)]
fn tell(message: Message, reason: Drop) -> Refusal {
    Refusal {
        reason,
        answer: message.to_word(),
    }
}

/// A packet that came in: request of a client, or reply of a remote real server.
#[inline(always)]
pub fn ingress<H: Host, P: Packet, M: Mode>(host: &H, packet: &mut P) -> Verdict {
    let Some(runtime) = host.runtime() else {
        return Verdict::Pass;
    };
    // SAFETY: the runtime record lives as long as the maps.
    let seed = unsafe { atomic::load(&raw const (*runtime).seed) };
    let flow = match parsed::<P, M>(packet, seed) {
        Parsed::Flow(flow) => flow,
        Parsed::Other => return Verdict::Pass,
        Parsed::Wide => return Verdict::Call(call::WIDE),
        Parsed::Rare => return to_rare::<H, M>(host, false),
    };
    balance::<H, P, M>(host, packet, &flow, runtime, seed)
}

/// On to the program for rare packets.
#[inline(always)]
fn to_rare<T: Tables, M: Mode>(tables: &T, out: bool) -> Verdict {
    let Some(wanted) = tables.wanted() else {
        return Verdict::Pass;
    };
    let program = if M::WIDE { call::RARE_WIDE } else { call::RARE };
    let origin = if out { call::OUT } else { program };
    // SAFETY: the record is this CPU's.
    unsafe { atomic::store(&raw mut (*wanted).origin, origin) };
    Verdict::Call(program)
}

#[inline(always)]
pub(crate) fn parsed<P: Packet, M: Mode>(packet: &P, seed: [u64; 2]) -> Parsed {
    if M::WIDE {
        parse::<P, true>(packet, seed)
    } else {
        parse::<P, false>(packet, seed)
    }
}

#[inline(always)]
pub(crate) fn refuse<T: Tables>(tables: &T, reason: Drop) -> Verdict {
    tables.count_drop(reason);
    Verdict::Drop(reason)
}

/// Looks for the packet's connection and forwards it, or says who makes one.
#[inline(always)]
pub(crate) fn balance<H: Host, P: Packet, M: Mode>(
    host: &H,
    packet: &mut P,
    flow: &Flow,
    runtime: *mut Runtime,
    seed: [u64; 2],
) -> Verdict {
    let hash = flow.key.hash(seed);
    let now = host.now();
    if let Some(found) = conn::find(host, hash, &flow.key, now)
        && (!M::WIDE || wide::is_of(host, packet, flow, &found))
        && !(opens(flow)
            && reuse::may_give_way(runtime, &found)
            && host.reuse_apart(found.index, found.tag))
    {
        return established::<H, P, M>(host, packet, flow, runtime, &found, now);
    }
    unknown(host, flow, runtime, hash, M::ORIGIN)
}

/// A packet without a connection: whether one is made, after which the program `origin` starts over.
#[inline(always)]
pub(crate) fn unknown<T: Tables>(
    tables: &T,
    flow: &Flow,
    runtime: *mut Runtime,
    hash: Hash,
    origin: u32,
) -> Verdict {
    if !open::may_open(runtime, flow) && !outgoing::is_told(runtime, flow) {
        return Verdict::Pass;
    }
    match open::want(tables, flow, hash.0, origin) {
        Some(_) => Verdict::Call(call::OPEN),
        None => Verdict::Pass,
    }
}

/// Forwards a packet of a connection.
#[inline(always)]
pub(crate) fn established<H: Host, P: Packet, M: Mode>(
    host: &H,
    packet: &mut P,
    flow: &Flow,
    runtime: *mut Runtime,
    found: &Found,
    now: u32,
) -> Verdict {
    let refusal = match forward::<H, P, M>(host, packet, flow, runtime, found, now) {
        Ok(verdict) => return verdict,
        Err(refusal) => refusal,
    };
    let Refusal { reason, answer } = refusal;
    host.count_drop(reason);
    // No error about an error.
    if answer == NO_ANSWER || (M::RARE && flow.inner != 0) {
        return Verdict::Drop(reason);
    }
    let message = Message::from_word(answer);
    if !icmp::may_tell(host, message) {
        return Verdict::Drop(reason);
    }
    let answered = if M::WIDE {
        packet.answer_wide_apart(flow.l3, message)
    } else {
        packet.answer_apart(flow.l3, message)
    };
    match answered {
        Some(()) => Verdict::Answer,
        None => Verdict::Drop(reason),
    }
}

/// Turns a packet whose service has no destination, which was counted, into "port unreachable", to go
/// back out of the interface it came in by; drops it when it cannot be.
#[inline(always)]
pub fn unreachable<T: Tables, P: Packet>(tables: &T, packet: &mut P) -> Verdict {
    const UNTOLD: Verdict = Verdict::Drop(Drop::NoDestination);
    let Some(wanted) = tables.wanted() else {
        return UNTOLD;
    };
    // SAFETY: the record is this CPU's.
    let flow = unsafe { open::wanted_flow(wanted) };
    if !icmp::may_tell(tables, Message::PORT_UNREACHABLE) {
        return UNTOLD;
    }
    let told = if flow.key.proto & proto::WIDE != 0 {
        packet.answer_wide_apart(flow.l3, Message::PORT_UNREACHABLE)
    } else {
        packet.answer_apart(flow.l3, Message::PORT_UNREACHABLE)
    };
    told.map_or(UNTOLD, |()| Verdict::Answer)
}

/// Forwards a packet whose connection is for it alone, in the slot of this CPU.
#[inline(always)]
pub fn one_packet<H: Host, P: Packet, M: Mode>(host: &H, packet: &mut P) -> Verdict {
    let (Some(runtime), Some(wanted)) = (host.runtime(), host.wanted()) else {
        return Verdict::Pass;
    };
    let Some(found) = conn::slot(host, crate::connect::one_packet_slot(host)) else {
        return refuse(host, Drop::Internal);
    };
    // SAFETY: the record is this CPU's.
    let mut flow = unsafe { open::wanted_flow(wanted) };
    (flow.inner, flow.whole) = (0, true);
    established::<H, P, M>(host, packet, &flow, runtime, &found, host.now())
}

/// Forwards a packet by FULLNAT that another program found to be one of these, and left in
/// [`crate::layout::Wanted`].
#[inline(always)]
pub fn full<H: Host, P: Packet, M: Mode>(host: &H, packet: &mut P) -> Verdict {
    let (Some(runtime), Some(wanted)) = (host.runtime(), host.wanted()) else {
        return Verdict::Pass;
    };
    // SAFETY: the runtime record lives as long as the maps, the wanted one is this CPU's.
    let (seed, flow) = unsafe {
        (
            atomic::load(&raw const (*runtime).seed),
            open::wanted_flow(wanted),
        )
    };
    let now = host.now();
    let Some(found) = conn::find(host, flow.key.hash(seed), &flow.key, now) else {
        return refuse(host, Drop::SlotReused);
    };
    if M::WIDE && !wide::is_of(host, packet, &flow, &found) {
        return refuse(host, Drop::SlotReused);
    }
    established::<H, P, M>(host, packet, &flow, runtime, &found, now)
}

/// Gives a packet back what forwarding took off its time to live.
#[inline(always)]
pub fn step_back<P: Packet>(packet: &mut P) -> Option<()> {
    let (l3, ether_type) = link(packet)?;
    if ether_type == ethernet::IPV6.raw() {
        let hops = packet.read::<u8>(l3 + ipv6::HOP_LIMIT)?;
        return packet.write(l3 + ipv6::HOP_LIMIT, hops.wrapping_add(1));
    }
    if ether_type != ethernet::IPV4.raw() {
        return Some(());
    }
    let [ttl, protocol] = packet.read::<[u8; 2]>(l3 + ipv4::TTL)?;
    let new = [ttl.wrapping_add(1), protocol];
    let diff = Diff::of16(u16::from_ne_bytes([ttl, protocol]), u16::from_ne_bytes(new));
    let checksum = packet.read::<u16>(l3 + ipv4::CHECKSUM)?;
    packet.write(l3 + ipv4::TTL, new)?;
    packet.write(l3 + ipv4::CHECKSUM, diff.apply(checksum))
}

/// Whether a packet asks for a new connection: on the ports of one that is over, it may get it.
#[inline(always)]
pub(crate) fn opens(flow: &Flow) -> bool {
    match proto::base(flow.key.proto) {
        proto::TCP => flow.event & (tcp_wire::SYN | tcp_wire::RST) == tcp_wire::SYN,
        proto::SCTP => flow.event == sctp::EVENT_INIT && flow.whole,
        _ => false,
    }
}

#[inline(always)]
fn forward<H: Host, P: Packet, M: Mode>(
    host: &H,
    packet: &mut P,
    flow: &Flow,
    runtime: *mut Runtime,
    found: &Found,
    now: u32,
) -> Result<Verdict, Refusal> {
    let slot = found.slot;
    // First: what is read from the slot only then needs not be kept over a call.
    // SAFETY: found slots lie in the table; a slot that was reused is discovered when the packet is back.
    if M::FTP
        && flow.total_len > flow.headers
        && unsafe { Word(atomic::load(&raw const (*slot).word)) }.kind() & KIND_FTP != 0
        && host.unread_apart(found.tag)
    {
        return Ok(Verdict::Call(if M::WIDE {
            call::FTP_WIDE
        } else {
            call::FTP
        }));
    }
    // SAFETY: slot and runtime live as long as the maps; a reading of a slot that was reused
    // meanwhile is discovered by its tag below.
    let (word, server, to, epoch, hop, present, tag) = unsafe {
        (
            Word(atomic::load(&raw const (*slot).word)),
            atomic::load(&raw const (*slot).server),
            rewrite_of(slot),
            atomic::load(&raw const (*slot).epoch),
            NextHop::new(
                atomic::load(&raw const (*slot).way),
                atomic::load(&raw const (*slot).mtu),
            ),
            atomic::load(&raw const (*runtime).epoch),
            atomic::load(&raw const (*slot).tag),
        )
    };
    if tag != found.tag {
        return Err(Drop::SlotReused.into());
    }
    let kind = word.kind();
    if !M::FULL && (kind & KIND_METHOD) as u8 >= forward::FULLNAT_TELLS {
        let program = if M::WIDE {
            call::FULLNAT_WIDE
        } else {
            call::FULLNAT
        };
        return open::want(host, flow, 0, M::ORIGIN)
            .map(|_| Verdict::Call(program))
            .ok_or(Drop::Internal.into());
    }
    let (mut wrapped, mut mtu) = (hop.is_wrapped(), hop.mtu);
    let way = if kind & KIND_TO_LOOPBACK != 0 {
        // A reply to a client on the director comes by twice: from outside, and then from `lo`, where
        // it was sent; a client bound to an address of its own even sees it unchanged.
        if host.ingress() == LOOPBACK {
            return Ok(Verdict::Pass);
        }
        Way::Local
    } else if epoch == Tag::stamp(found.tag, present) {
        if hop.is_local() {
            Way::Local
        } else {
            Way::Neighbour(hop)
        }
    } else {
        let index = found.index;
        let found = host.refresh_apart(index, tag, present);
        (wrapped, mtu) = (found.hop.is_wrapped(), found.hop.mtu);
        match found.code {
            Refreshed::HOP if found.hop.is_local() => Way::Local,
            Refreshed::HOP => Way::Neighbour(found.hop),
            Refreshed::UNRESOLVED | Refreshed::UNRESOLVED_WIDE if H::HANDS_UP => {
                return Ok(Verdict::HandUp);
            }
            Refreshed::UNRESOLVED => Way::Kernel(found.ifindex, found.next),
            Refreshed::UNRESOLVED_WIDE => Way::KernelWide(found.ifindex, found.next),
            Refreshed::UNREACHABLE => {
                return Err(tell(Message::HOST_UNREACHABLE, Drop::NoRoute));
            }
            Refreshed::EXPIRED => {
                host.kill_apart(index, tag);
                return Ok(Verdict::Call(M::ORIGIN));
            }
            reason => {
                return Err(Drop::from_number(reason as u8)
                    .unwrap_or(Drop::Internal)
                    .into());
            }
        }
    };

    // What XDP cannot send or deliver itself goes up before anything is counted or changed: TC on the
    // same interface sees it next.
    if H::HANDS_UP && matches!(way, Way::Local) {
        return Ok(Verdict::HandUp);
    }
    let mut egress = core::ptr::null();
    if let Way::Neighbour(hop) = way {
        egress = host.egress(hop.egress()).ok_or(Drop::Internal)?;
        // SAFETY: egress entries live as long as the maps.
        if H::HANDS_UP && unsafe { atomic::load(&raw const (*egress).xdp_ifindex) } == 0 {
            return Ok(Verdict::HandUp);
        }
    }

    account(host, runtime, found, word, server, flow, now);

    let crosses = M::FULL && (kind & KIND_METHOD) as u8 == forward::FULLNAT_CROSS;
    let mut plan = Plan(0);
    let way_mtu = mtu;
    if M::FULL {
        plan = host.plan_apart(packet, found.index, mtu);
        if plan.0 & Plan::REFUSED != 0 {
            return Err(fullnat::REFUSAL.into());
        }
        // What the packet may have now so that it fits later.
        let room = i32::from(mtu) - plan.growth();
        mtu = room.clamp(0, i32::from(u16::MAX)) as u16;
    }
    if !matches!(way, Way::Local) && flow.ttl <= 1 {
        return Err(tell(Message::TIME_EXCEEDED, Drop::TtlExceeded));
    }
    if !matches!(way, Way::Local)
        && packet.exceeds(flow.total_len, flow.headers, mtu)
        && !(M::RARE && flow.inner != 0 && !M::WIDE)
    {
        // Who sends IPv4 to IPv6 servers hears of it in any case: nobody else would fragment what has
        // grown.
        if !M::WIDE && !flow.df && !crosses {
            return Err(Drop::NeedsFragmentation.into());
        }
        if crosses && !M::WIDE {
            mtu = way_mtu.saturating_sub(cross::LARGEST_GROWTH);
        }
        // The kernel takes one off the time to live first, and quotes that.
        if M::WIDE {
            forward::decrement_hops(packet, flow);
        } else {
            forward::decrement_ttl(packet, flow);
        }
        return Err(tell(Message::fragmentation_needed(mtu), Drop::TooBig));
    }

    let stays = matches!(way, Way::Local);
    let apart = wrapped && !stays;
    if M::FULL && plan.edits() {
        client::make_room(host, packet, flow, plan).ok_or(Drop::Headroom)?;
        host.edit_apart(packet, plan).ok_or(fullnat::REFUSAL)?;
    }
    if crosses {
        host.cross_apart(packet, found.index)
            .ok_or(Drop::Headroom)?;
    } else if M::WIDE {
        let to = wide::rewrite_of(host, flow, found.index, word, server, to.ports)
            .ok_or(Drop::Internal)?;
        wide::rewrite::<P, M>(packet, flow, word, &to, stays)?;
        // What changes more by FULLNAT enters no tunnel.
        if !M::FULL && !apart && !stays && (kind & KIND_METHOD) as u8 == forward::TUNNEL {
            tunnel::forward_wide(host, packet, flow, server).ok_or(Drop::Headroom)?;
        }
    } else {
        rewrite::<P, M>(packet, flow, word, &to, stays, apart)?;
    }
    if apart && host.wrap_apart(packet, flow.l3, server).is_none() {
        return Err(Drop::Headroom.into());
    }
    match way {
        Way::Neighbour(hop) => {
            // SAFETY: egress entries live as long as the maps.
            unsafe { forward::address(packet, hop, egress) }.ok_or(Drop::Internal)?;
            Ok(Verdict::Send(egress, flow.l3 != ethernet::LEN))
        }
        Way::Kernel(ifindex, next) => Ok(Verdict::Resolve(ifindex, next)),
        Way::KernelWide(ifindex, _) => Ok(Verdict::ResolveWide(ifindex)),
        Way::Local if kind & KIND_TO_LOOPBACK != 0 => Ok(Verdict::Loopback),
        Way::Local => Ok(Verdict::Stack),
    }
}

/// State, life and counters.
#[inline(always)]
pub(crate) fn account<T: Tables>(
    tables: &T,
    runtime: *mut Runtime,
    found: &Found,
    word: Word,
    server: u32,
    flow: &Flow,
    now: u32,
) {
    if flow.inner == 0 {
        follow(tables, runtime, found, word, flow, now);
    }
    if let Some(stats) = tables.stats(server) {
        track::count(stats, word, u32::from(flow.total_len));
    }
}

/// The state machine, for packets that show theirs, and the life that every packet gives.
#[inline(always)]
fn follow<T: Tables>(
    tables: &T,
    runtime: *mut Runtime,
    found: &Found,
    word: Word,
    flow: &Flow,
    now: u32,
) {
    let settled = track::settled(word, flow.event).filter(|_| flow.whole);
    let (timeout, changed) = match settled {
        Some(index) => (track::timeout_at(runtime, index), false),
        None => {
            let mut state = word.state();
            if flow.whole {
                state = track::follow(tables, runtime, found, word, flow.event);
            }
            let timeout = track::timeout(runtime, word.proto(), state);
            (timeout, state != word.state())
        }
    };
    track::refresh(tables, found, changed, timeout, now);
}

/// What a slot's packets become.
///
/// # Safety
/// `slot` points into the table.
#[inline(always)]
pub(crate) unsafe fn rewrite_of(slot: *const Slot) -> Rewrite {
    // SAFETY: passed on to the caller.
    unsafe {
        Rewrite {
            addresses: atomic::load(&raw const (*slot).new_addresses),
            ports: atomic::load(&raw const (*slot).new_ports),
        }
    }
}

/// The forwarding method's own work. `delivered` packets stay on the director. What goes `apart` through a
/// tunnel is made ready for it and no more.
#[inline(always)]
fn rewrite<P: Packet, M: Mode>(
    packet: &mut P,
    flow: &Flow,
    word: Word,
    to: &Rewrite,
    delivered: bool,
    apart: bool,
) -> Result<(), Drop> {
    let kind = word.kind();
    let method = (kind & KIND_METHOD) as u8;
    let tunnelled = method == forward::TUNNEL && !delivered;
    let mut done = Some(());
    if M::RARE && flow.inner != 0 {
        if forward::translates(method) {
            let outer = related::Outer::of(method, word.is_reply());
            done = related::translate(packet, flow, to, outer, delivered);
        } else if !delivered && !tunnelled {
            done = related::pass_on::<P, M>(packet, flow);
        }
    } else if forward::translates(method)
        || kind & KIND_REWRITE != 0
        || kind & KIND_TO_LOOPBACK != 0
    {
        // Inside a tunnel only the source of a client on the director changes.
        const SOURCE: u64 = 0xffff_ffff;
        let mut inner = *to;
        if tunnelled {
            inner.addresses = to.addresses & SOURCE | flow.key.addresses & !SOURCE;
        }
        done = nat::rewrite::<P, M>(packet, flow, &inner, u8::from(!delivered && !tunnelled));
    } else if !delivered && !tunnelled {
        done = direct::forward(packet, flow);
    }
    if tunnelled && done.is_some() {
        done = if apart {
            direct::forward(packet, flow)
        } else {
            tunnel::forward(packet, flow, to.addresses)
        };
    }
    done.ok_or(Drop::Headroom)
}

/// A packet the director's own stack sends: the reply of a real server on the director itself.
#[inline(always)]
pub fn egress<T: Tables, P: Packet, M: Mode>(tables: &T, packet: &mut P) -> Verdict {
    let Some(runtime) = tables.runtime() else {
        return Verdict::Pass;
    };
    // SAFETY: the runtime record lives as long as the maps.
    let seed = unsafe { atomic::load(&raw const (*runtime).seed) };
    let flow = match parsed::<P, M>(packet, seed) {
        Parsed::Flow(flow) => flow,
        Parsed::Wide => return Verdict::Call(call::WIDE),
        Parsed::Rare => return to_rare::<T, M>(tables, true),
        Parsed::Other => return Verdict::Pass,
    };
    leave::<T, P, M>(tables, packet, &flow, runtime, seed)
}

/// Sends a reply of a real server on the director on its way, as of the VIP.
#[inline(always)]
pub(crate) fn leave<T: Tables, P: Packet, M: Mode>(
    tables: &T,
    packet: &mut P,
    flow: &Flow,
    runtime: *mut Runtime,
    seed: [u64; 2],
) -> Verdict {
    let hash = flow.key.hash(seed);
    let now = tables.now();
    let Some(found) = conn::find(tables, hash, &flow.key, now) else {
        return Verdict::Pass;
    };
    if M::WIDE && !wide::is_of(tables, packet, flow, &found) {
        return Verdict::Pass;
    }
    // SAFETY: found slots lie in the table.
    let (word, server, to) = unsafe {
        (
            Word(atomic::load(&raw const (*found.slot).word)),
            atomic::load(&raw const (*found.slot).server),
            rewrite_of(found.slot),
        )
    };
    if !word.is_reply() || word.kind() & KIND_TO_STACK == 0 {
        return Verdict::Pass;
    }
    account(tables, runtime, &found, word, server, flow, now);
    if (word.kind() & KIND_METHOD) as u8 != forward::NAT {
        return Verdict::Stack;
    }
    let done = if M::WIDE {
        wide::rewrite_of(tables, flow, found.index, word, server, to.ports)
            .ok_or(Drop::Internal)
            .and_then(|to| wide::rewrite::<P, M>(packet, flow, word, &to, true))
    } else {
        rewrite::<P, M>(packet, flow, word, &to, true, false)
    };
    match done {
        Ok(()) => Verdict::Stack,
        Err(reason) => refuse(tables, reason),
    }
}
