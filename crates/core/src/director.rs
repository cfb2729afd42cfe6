//! The director's two pipelines: packet in, verdict out.
//!
//! An established packet is parsed, finds its slot, is rewritten and sent; nothing on that way
//! depends on how many services, servers or connections there are. A new connection first makes its
//! slots, then takes the same way.

use crate::addr::{Address, Be16, Be32};
use crate::atomic;
use crate::conn::{
    self, Found, KIND_METHOD, KIND_REWRITE, KIND_TO_LOOPBACK, KIND_TO_STACK, Slot, Tag, Word,
};
use crate::connect::{self, LOOPBACK, Outcome};
use crate::drop::Drop;
use crate::forward::nat::{self, Rewrite};
use crate::forward::{self, direct, tunnel};
use crate::host::{Host, Packet, Tables};
use crate::layout::{Egress, ID_IPV4, NextHop, Runtime, ServiceId};
use crate::next_hop::{Refreshed, Way};
use crate::parse::{Flow, Parsed, parse};
use crate::proto::tcp;
use crate::track;
use crate::wire::icmp4::Message;
use crate::wire::tcp as tcp_wire;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not ours: on with it, untouched.
    Pass,
    /// Counted and gone.
    Drop(Drop),
    /// Rewritten, link-layer addresses included: out of this interface.
    Send(*const Egress),
    /// Rewritten: out of the interface with this index, to the neighbour with this address, which
    /// the kernel resolves.
    Resolve(u32, Be32),
    /// Rewritten where needed: on to the director's own stack.
    Stack,
    /// Rewritten: a reply to a client on the director, to be received from `lo`.
    Loopback,
    /// Turned into an ICMP error: back out of the interface it came in by.
    Answer,
    /// Untouched, for TC on the same interface to handle.
    HandUp,
    /// Untouched: it may open a connection, which [`open`] has to make first.
    Open,
}

/// Why a packet does not go on.
#[derive(Clone, Copy)]
struct Refusal {
    reason: Drop,
    /// What the sender is told, if anything.
    answer: Option<Message>,
}

impl From<Drop> for Refusal {
    #[inline(always)]
    fn from(reason: Drop) -> Self {
        Self {
            reason,
            answer: None,
        }
    }
}

#[inline(always)]
fn tell(message: Message, reason: Drop) -> Refusal {
    Refusal {
        reason,
        answer: Some(message),
    }
}

/// A packet that came in: request of a client, or reply of a remote real server.
#[inline(always)]
pub fn ingress<H: Host, P: Packet>(host: &H, packet: &mut P) -> Verdict {
    let flow = match parse(packet) {
        Parsed::Flow(flow) => flow,
        Parsed::Other => return Verdict::Pass,
        Parsed::Broken(reason) => return refuse(host, reason),
        Parsed::Portless(destination, reason) => {
            let vip = Address::v4(Be32::from_raw(destination));
            let any = ServiceId {
                vip,
                vport: Be16::new(0),
                proto: 0,
                kind: ID_IPV4,
            };
            return match host.service_index(&any) {
                Some(_) => refuse(host, reason),
                None => Verdict::Pass,
            };
        }
    };
    match balance(host, packet, &flow) {
        Ok(verdict) => verdict,
        Err(Refusal {
            reason,
            answer: Some(message),
        }) => {
            host.count_drop(reason);
            match packet.answer_apart(flow.l3, message) {
                Some(()) => Verdict::Answer,
                None => Verdict::Drop(reason),
            }
        }
        Err(Refusal {
            reason,
            answer: None,
        }) => refuse(host, reason),
    }
}

#[inline(always)]
fn refuse<T: Tables>(tables: &T, reason: Drop) -> Verdict {
    tables.count_drop(reason);
    Verdict::Drop(reason)
}

#[inline(always)]
fn balance<H: Host, P: Packet>(host: &H, packet: &mut P, flow: &Flow) -> Result<Verdict, Refusal> {
    let runtime = host.runtime().ok_or(Drop::Internal)?;
    // SAFETY: the runtime record lives as long as the maps.
    let seed = unsafe { atomic::load(&raw const (*runtime).seed) };
    let hash = flow.key.hash(seed);
    let now = host.now();
    match conn::find(host, hash, &flow.key, now) {
        Some(found) if !is_reuse(&found, flow) || !host.kill_apart(found.index, found.tag) => {
            established(host, packet, flow, runtime, &found, now)
        }
        _ if connect::may_open(flow) => Ok(Verdict::Open),
        _ => Ok(Verdict::Pass),
    }
}

/// What came of a packet that may open a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// It has a connection now: run [`ingress`] again.
    Connected,
    /// Not ours: on with it.
    Pass,
    /// Counted and gone.
    Drop(Drop),
    /// Counted; [`unreachable()`] tells the sender that nobody takes its connection.
    NoDestination,
}

/// Makes the connection of a packet for which [`ingress`] said [`Verdict::Open`].
#[inline(always)]
pub fn open<H: Host, P: Packet>(host: &H, packet: &P) -> Opened {
    let Parsed::Flow(flow) = parse(packet) else {
        return Opened::Pass;
    };
    let Some(runtime) = host.runtime() else {
        return Opened::Pass;
    };
    // SAFETY: the runtime record lives as long as the maps.
    let hash = flow
        .key
        .hash(unsafe { atomic::load(&raw const (*runtime).seed) });
    let refused = match connect::connect(host, &flow, hash, host.now()) {
        Outcome::CONNECTED => return Opened::Connected,
        Outcome::NOT_OURS => return Opened::Pass,
        outcome => outcome.reason(),
    };
    host.count_drop(refused);
    if refused == Drop::NoDestination {
        Opened::NoDestination
    } else {
        Opened::Drop(refused)
    }
}

/// Turns a packet whose service has no destination into "port unreachable", to go back out of the
/// interface it came in by; false when it cannot be and has to be dropped.
#[inline(always)]
pub fn unreachable<P: Packet>(packet: &mut P) -> bool {
    match parse(packet) {
        Parsed::Flow(flow) => packet
            .answer_apart(flow.l3, Message::PORT_UNREACHABLE)
            .is_some(),
        _ => false,
    }
}

/// A SYN that reuses the ports of a connection that is over starts a new one
/// (`conn_reuse_mode` 1).
#[inline(always)]
fn is_reuse(found: &Found, flow: &Flow) -> bool {
    if flow.tcp_flags & (tcp_wire::SYN | tcp_wire::RST) != tcp_wire::SYN {
        return false;
    }
    // SAFETY: found slots lie in the table.
    let word = Word(unsafe { atomic::load(&raw const (*found.slot).word) });
    !word.is_reply() && (word.state() == tcp::TIME_WAIT || word.state() == tcp::CLOSE)
}

#[inline(always)]
fn established<H: Host, P: Packet>(
    host: &H,
    packet: &mut P,
    flow: &Flow,
    runtime: *mut Runtime,
    found: &Found,
    now: u32,
) -> Result<Verdict, Refusal> {
    let slot = found.slot;
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
        let found = host.refresh_apart(found.index, found.tag, present);
        match found.code {
            Refreshed::HOP if found.hop.is_local() => Way::Local,
            Refreshed::HOP => Way::Neighbour(found.hop),
            Refreshed::UNRESOLVED if H::HANDS_UP => return Ok(Verdict::HandUp),
            Refreshed::UNRESOLVED => Way::Kernel(found.ifindex, found.next),
            Refreshed::UNREACHABLE => {
                return Err(tell(Message::HOST_UNREACHABLE, Drop::NoRoute));
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

    if !matches!(way, Way::Local) && flow.ttl <= 1 {
        return Err(tell(Message::TIME_EXCEEDED, Drop::TtlExceeded));
    }
    if let Way::Neighbour(hop) = way
        && packet.largest_datagram(flow.total_len, flow.headers) > hop.mtu
    {
        if !flow.df {
            return Err(Drop::NeedsFragmentation.into());
        }
        return Err(tell(Message::fragmentation_needed(hop.mtu), Drop::TooBig));
    }

    rewrite(packet, flow, kind, &to, matches!(way, Way::Local))?;
    match way {
        Way::Neighbour(hop) => {
            // SAFETY: egress entries live as long as the maps.
            let own = unsafe { atomic::load(&raw const (*egress).mac) };
            packet
                .write(0, (hop.way >> 16) as u32)
                .ok_or(Drop::Internal)?;
            packet
                .write(4, (hop.way >> 48) as u16)
                .ok_or(Drop::Internal)?;
            packet.write(6, own).ok_or(Drop::Internal)?;
            Ok(Verdict::Send(egress))
        }
        Way::Kernel(ifindex, next) => Ok(Verdict::Resolve(ifindex, next)),
        Way::Local if kind & KIND_TO_LOOPBACK != 0 => Ok(Verdict::Loopback),
        Way::Local => Ok(Verdict::Stack),
    }
}

/// State, life and counters.
#[inline(always)]
fn account<T: Tables>(
    tables: &T,
    runtime: *mut Runtime,
    found: &Found,
    word: Word,
    server: u32,
    flow: &Flow,
    now: u32,
) {
    let state = track::follow(tables, found, word, flow.tcp_flags);
    let timeout = track::timeout(runtime, word.proto(), state);
    track::refresh(tables, found, state != word.state(), timeout, now);
    if let Some(stats) = tables.stats(server) {
        track::count(stats, word.is_reply(), u32::from(flow.total_len));
    }
}

/// What a slot's packets become.
///
/// # Safety
/// `slot` points into the table.
#[inline(always)]
unsafe fn rewrite_of(slot: *const Slot) -> Rewrite {
    // SAFETY: passed on to the caller.
    unsafe {
        Rewrite {
            addresses: atomic::load(&raw const (*slot).new_addresses),
            ports: atomic::load(&raw const (*slot).new_ports),
        }
    }
}

/// The forwarding method's own work. `delivered` packets stay on the director.
#[inline(always)]
fn rewrite<P: Packet>(
    packet: &mut P,
    flow: &Flow,
    kind: u32,
    to: &Rewrite,
    delivered: bool,
) -> Result<(), Drop> {
    let method = (kind & KIND_METHOD) as u8;
    let tunnelled = method == forward::TUNNEL && !delivered;
    let mut done = Some(());
    if method == forward::NAT || kind & KIND_REWRITE != 0 || kind & KIND_TO_LOOPBACK != 0 {
        // Inside a tunnel only the source of a client on the director changes.
        const SOURCE: u64 = 0xffff_ffff;
        let mut inner = *to;
        if tunnelled {
            inner.addresses = to.addresses & SOURCE | flow.key.addresses & !SOURCE;
        }
        done = nat::rewrite(packet, flow, &inner, u8::from(!delivered && !tunnelled));
    } else if !delivered && !tunnelled {
        done = direct::forward(packet, flow);
    }
    if tunnelled {
        done = done.and_then(|()| tunnel::forward(packet, flow, to.addresses));
    }
    done.ok_or(Drop::Headroom)
}

/// A packet the director's own stack sends: the reply of a real server on the director itself.
#[inline(always)]
pub fn egress<T: Tables, P: Packet>(tables: &T, packet: &mut P) -> Verdict {
    let Parsed::Flow(flow) = parse(packet) else {
        return Verdict::Pass;
    };
    let Some(runtime) = tables.runtime() else {
        return Verdict::Pass;
    };
    // SAFETY: the runtime record lives as long as the maps.
    let hash = flow
        .key
        .hash(unsafe { atomic::load(&raw const (*runtime).seed) });
    let now = tables.now();
    let Some(found) = conn::find(tables, hash, &flow.key, now) else {
        return Verdict::Pass;
    };
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
    account(tables, runtime, &found, word, server, &flow, now);
    if (word.kind() & KIND_METHOD) as u8 == forward::NAT
        && nat::rewrite(packet, &flow, &to, 0).is_none()
    {
        return refuse(tables, Drop::Headroom);
    }
    Verdict::Stack
}
