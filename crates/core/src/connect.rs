//! A new connection: find the service, choose the real server, make the slots.

use crate::addr::{Address, Be16, Be32};
use crate::atomic;
use crate::conn::{
    self, FLAG_INACTIVE, FLAG_NO_OUTPUT, FLAG_REPLY, Found, Hash, KIND_REWRITE, KIND_TO_LOOPBACK,
    KIND_TO_STACK, Key, NO_PARTNER, NO_SLOT, Slot, Tag, Word,
};
use crate::drop::Drop;
use crate::forward;
use crate::host::{Host, Route, Tables};
use crate::layout::{ID_IPV4, NextHop, ServerRecord, ServiceId};
use crate::next_hop;
use crate::parse::Flow;
use crate::proto::{self, tcp};
use crate::sched::NO_SERVER;
use crate::track;
use crate::wire::{ipv4, tcp as tcp_wire};

/// Interface index of `lo` in every namespace.
pub const LOOPBACK: u32 = 1;

/// Source port of active FTP data: never a new request.
const FTP_DATA: Be16 = Be16::new(20);

/// What came of a packet without a connection: one of the constants, or the number of a [`Drop`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome(u32);

impl Outcome {
    /// No service.
    pub const NOT_OURS: Self = Self(0x100);
    /// It has a connection now.
    pub const CONNECTED: Self = Self(0x101);

    /// Why it has none.
    #[inline(always)]
    pub fn reason(self) -> Drop {
        Drop::from_number(self.0 as u8).unwrap_or(Drop::Internal)
    }

    const fn refuse(reason: Drop) -> Self {
        Self(reason as u32)
    }
}

/// Whether a packet without a connection may open one: TCP with SYN and without RST (SYN+ACK opens
/// too, as in IPVS), any UDP; never active FTP data.
#[inline(always)]
pub fn may_open(flow: &Flow) -> bool {
    let opens = flow.key.proto != ipv4::TCP
        || flow.tcp_flags & (tcp_wire::SYN | tcp_wire::RST) == tcp_wire::SYN;
    opens && flow.key.sport() != FTP_DATA
}

/// Tells schedulers what the packet asks for.
#[inline(always)]
pub fn want<T: Tables>(tables: &T, key: &Key) {
    if let Some(wanted) = tables.wanted() {
        // SAFETY: the record is this CPU's.
        unsafe {
            atomic::store(&raw mut (*wanted).source, Address::v4(key.source()));
            atomic::store(
                &raw mut (*wanted).destination,
                Address::v4(key.destination()),
            );
            atomic::store(&raw mut (*wanted).flow.key, *key);
        }
    }
}

/// Makes the connection of a packet that [`may_open`] one.
#[inline(always)]
pub fn connect<H: Host>(host: &H, flow: &Flow, hash: Hash, now: u32) -> Outcome {
    let key = &flow.key;
    let id = ServiceId {
        vip: Address::v4(key.destination()),
        vport: key.dport(),
        proto: key.proto,
        kind: ID_IPV4,
    };
    let Some(service) = host.service_index(&id) else {
        return Outcome::NOT_OURS;
    };
    if !host.is_for_us() {
        return Outcome::NOT_OURS;
    }
    host.want_apart(key);
    let index = host.schedule_apart(service);
    if index == NO_SERVER {
        return Outcome::refuse(Drop::NoDestination);
    }
    make(host, key, flow.tcp_flags, index, hash, now)
}

/// Makes the slots of a connection to the real server with an index.
#[inline(always)]
fn make<H: Host>(host: &H, key: &Key, tcp_flags: u8, index: u32, hash: Hash, now: u32) -> Outcome {
    let (Some(runtime), Some(server)) = (host.runtime(), host.server(index)) else {
        return Outcome::refuse(Drop::Internal);
    };
    // SAFETY: runtime and server records live as long as the maps.
    let (epoch, method, rip, rport, own) = unsafe {
        (
            atomic::load(&raw const (*runtime).epoch),
            atomic::load(&raw const (*server).method),
            Be32::from_raw(atomic::load(&raw const (*server).rip.0[0])),
            atomic::load(&raw const (*server).rport),
            Be32::from_raw(atomic::load(&raw const (*server).tunnel_source.0[0])),
        )
    };
    let (hop, epoch) = match next_hop::of_server(host, server, epoch) {
        Route::Resolved(hop) => (hop, epoch),
        // Epoch 0 is never the present one: the packet's own way through looks it up again.
        _ => (NextHop::NONE, 0),
    };
    let nat = method == forward::NAT;
    let rport = if nat && rport.raw() != 0 {
        rport
    } else {
        key.dport()
    };
    let local = hop.is_local();
    let from_here = host.ingress() == LOOPBACK;
    // A client on the director that took the VIP for its own address: the real server owns the VIP
    // too and could not answer it, so the packet leaves with the director's own address.
    let borrowed = from_here && !local && !nat && key.source() == key.destination();
    if own.raw() == 0 && (borrowed || (method == forward::TUNNEL && !local)) {
        return Outcome::refuse(Drop::NoTunnelSource);
    }
    let word = first_word(key.proto, tcp_flags, method, local, borrowed);
    let expires = now.wrapping_add(track::timeout(runtime, key.proto, word.state()));

    let claimed = host.claim_apart(hash, now);
    if claimed == NO_SLOT {
        return Outcome::refuse(Drop::TableFull);
    }
    let Some(request) = conn::slot(host, claimed) else {
        return Outcome::refuse(Drop::Internal);
    };
    // Where replies need translation, their slot exists before the request's can be found.
    let mut partner = NO_PARTNER;
    if nat || local || from_here {
        let loopback = if from_here && !local {
            KIND_TO_LOOPBACK
        } else {
            0
        };
        let client = if borrowed { own } else { key.source() };
        let (address, port) = if nat {
            (rip, rport)
        } else {
            (key.destination(), key.dport())
        };
        let reply = Reply {
            key: Key::new(key.proto, address, port, client, key.sport()),
            word: Word::new(
                key.proto,
                word.flags() & FLAG_NO_OUTPUT | FLAG_REPLY,
                word.state(),
                word.kind() | loopback,
            ),
            server: index,
            partner: request.index,
            expires,
            now,
        };
        partner = make_reply(host, key, &reply);
        if partner >= REPLY_REFUSED {
            conn::release(request.slot);
            let reason = Drop::from_number(partner as u8).unwrap_or(Drop::Internal);
            return Outcome::refuse(reason);
        }
    }
    let (source, destination) = match method {
        forward::NAT => (key.source(), rip),
        forward::TUNNEL => (own, rip),
        _ => (if borrowed { own } else { key.source() }, key.destination()),
    };
    let ports = u32::from(key.sport().raw()) | u32::from(rport.raw()) << 16;
    fill(request.slot, key, word, (source, destination, ports));
    let hop = next_hop::for_connection(hop, word);
    let mine;
    // SAFETY: the slot is ours until it is published; records live as long as the maps.
    unsafe {
        let slot = request.slot;
        live(slot, index, partner, expires, now);
        atomic::store(&raw mut (*slot).way, hop.way);
        atomic::store(&raw mut (*slot).mtu, hop.mtu);
        atomic::store(&raw mut (*slot).epoch, Tag::stamp(request.tag, epoch));
        count_in(server, word);
        host.evaluate_apart(index);
        if partner != NO_PARTNER && local {
            atomic::store(&raw mut (*runtime).local_replies, 1);
        }
        let tag = conn::publish(host, request.index, slot, hash);
        mine = Found { tag, ..request };
        if let Some(stats) = host.stats(index) {
            (*stats).conns = (*stats).conns.wrapping_add(1);
        }
    }
    settle_race(host, key, hash, now, &mine)
}

/// Two CPUs may have opened the same flow at once: the first in search order stays. And the reply's
/// slot may have been taken before the request's could be found.
#[inline(always)]
fn settle_race<T: Tables>(tables: &T, key: &Key, hash: Hash, now: u32, mine: &Found) -> Outcome {
    let first = tables.search_apart(hash, key, now);
    if first == mine.index {
        // SAFETY: found slots lie in the table.
        let alone = unsafe { atomic::load(&raw const (*mine.slot).partner) } == NO_PARTNER;
        if alone || conn::partner(tables, mine.slot, mine.index).is_some() {
            return Outcome::CONNECTED;
        }
    }
    tables.kill_apart(mine.index, mine.tag);
    if first == NO_SLOT || first == mine.index {
        return Outcome::refuse(Drop::SlotReused);
    }
    Outcome::CONNECTED
}

/// Protocol, flags, state and kind of a new request.
#[inline(always)]
fn first_word(proto: u8, tcp_flags: u8, method: u8, local: bool, borrowed: bool) -> Word {
    let nat = method == forward::NAT;
    let direction = if nat {
        tcp::Direction::Request
    } else {
        tcp::Direction::RequestOnly
    };
    let state = if proto == ipv4::TCP {
        tcp::next(direction, tcp_flags, tcp::NONE)
    } else {
        0
    };
    let no_output = if nat { 0 } else { FLAG_NO_OUTPUT };
    let inactive = if proto::is_active(proto, state) {
        0
    } else {
        FLAG_INACTIVE
    };
    let to_stack = if local { KIND_TO_STACK } else { 0 };
    let rewrite = if borrowed { KIND_REWRITE } else { 0 };
    Word::new(
        proto,
        no_output | inactive,
        state,
        u32::from(method) | to_stack | rewrite,
    )
}

/// A reply slot to be made.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// How replies arrive.
    key: Key,
    word: Word,
    server: u32,
    partner: u32,
    expires: u32,
    now: u32,
}

/// From here on, what [`make_reply`] returns is a [`Drop`] in its low byte and no slot.
pub const REPLY_REFUSED: u32 = 0xffff_ff00;

/// Claims, fills and publishes the reply's slot; its index.
#[inline(always)]
pub fn make_reply<T: Tables>(tables: &T, request: &Key, reply: &Reply) -> u32 {
    let Some(runtime) = tables.runtime() else {
        return REPLY_REFUSED | Drop::Internal as u32;
    };
    // SAFETY: the runtime record lives as long as the maps.
    let hash = reply
        .key
        .hash(unsafe { atomic::load(&raw const (*runtime).seed) });
    let other = tables.search_apart(hash, &reply.key, reply.now);
    if other != NO_SLOT
        && let Some(other) = conn::check(tables, other, hash, &reply.key, reply.now)
        && !gives_way(tables, &other)
    {
        return REPLY_REFUSED | Drop::TupleBusy as u32;
    }
    let claimed = tables.claim_apart(hash, reply.now);
    if claimed == NO_SLOT {
        return REPLY_REFUSED | Drop::TableFull as u32;
    }
    let Some(found) = conn::slot(tables, claimed) else {
        return REPLY_REFUSED | Drop::Internal as u32;
    };
    let ports = request.ports.rotate_left(16);
    fill(
        found.slot,
        &reply.key,
        reply.word,
        (request.destination(), request.source(), ports),
    );
    // SAFETY: the slot is ours until it is published; no way out is known yet.
    unsafe {
        live(
            found.slot,
            reply.server,
            reply.partner,
            reply.expires,
            reply.now,
        );
        atomic::store(&raw mut (*found.slot).way, NextHop::NONE.way);
        atomic::store(&raw mut (*found.slot).epoch, Tag::stamp(found.tag, 0));
    }
    conn::publish(tables, claimed, found.slot, hash);
    claimed
}

/// A connection in closing makes room for one with the same reply tuple.
#[inline(always)]
fn gives_way<T: Tables>(tables: &T, other: &Found) -> bool {
    // SAFETY: found slots lie in the table.
    let word = Word(unsafe { atomic::load(&raw const (*other.slot).word) });
    proto::eviction_rank(word.proto(), word.state()) != 0
        && tables.kill_apart(other.index, other.tag)
}

/// Writes what a packet of this slot is and becomes: `to` is source, destination, ports.
#[inline(always)]
fn fill(slot: *mut Slot, key: &Key, word: Word, to: (Be32, Be32, u32)) {
    // SAFETY: the caller claimed the slot.
    unsafe {
        let word = word.of_use(atomic::load(&raw const (*slot).tag));
        atomic::store(&raw mut (*slot).addresses, key.addresses);
        atomic::store(&raw mut (*slot).ports, key.ports);
        atomic::store(&raw mut (*slot).word, word.0);
        let addresses = u64::from(to.0.raw()) | u64::from(to.1.raw()) << 32;
        atomic::store(&raw mut (*slot).new_addresses, addresses);
        atomic::store(&raw mut (*slot).new_ports, to.2);
    }
}

/// Writes whom a slot belongs to and how long it lives.
///
/// # Safety
/// The caller claimed the slot.
#[inline(always)]
unsafe fn live(slot: *mut Slot, server: u32, partner: u32, expires: u32, now: u32) {
    // SAFETY: passed on to the caller.
    unsafe {
        atomic::store(&raw mut (*slot).server, server);
        atomic::store(&raw mut (*slot).partner, partner);
        atomic::store(&raw mut (*slot).expires, expires);
        atomic::store(&raw mut (*slot).shared_at, (now >> 4) as u16);
    }
}

#[inline(always)]
fn count_in(server: *mut ServerRecord, word: Word) {
    // SAFETY: server records live as long as the maps.
    unsafe {
        if word.flags() & FLAG_INACTIVE != 0 {
            atomic::add32(&raw mut (*server).inactive, 1);
        } else {
            atomic::add32(&raw mut (*server).active, 1);
        }
    }
}
