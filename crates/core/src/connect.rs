//! Making a connection: the slots of both directions, from what is wanted and the real server chosen.

use crate::addr::Address;
use crate::atomic;
use crate::conn::{
    self, FLAG_CHILD, FLAG_INACTIVE, FLAG_NO_OUTPUT, FLAG_REPLY, Found, Hash, KIND_FTP,
    KIND_METHOD, KIND_REWRITE, KIND_TO_LOOPBACK, KIND_TO_STACK, KIND_WILDCARD, Key, NO_PARTNER,
    NO_SLOT, Slot, Tag, Word,
};
use crate::drop::Drop;
use crate::forward;
use crate::forward::fullnat;
use crate::host::Tables;
use crate::layout::{FIRST_STATE, NextHop, Runtime, ServerRecord, WAYS, Wanted};
use crate::local;
use crate::next_hop;
use crate::open::{self, FTP, NO_SERVICE};
use crate::overload;
use crate::proto::{self, sctp, tcp};
use crate::track;
use crate::wide;

/// Interface index of `lo` in every namespace.
pub const LOOPBACK: u32 = 1;

/// Life in seconds of a connection that no packet of its own has shown yet.
const UNSEEN_SECS: u32 = 3;

/// What came of making a connection: one of the constants, or the number of a [`Drop`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome(pub u32);

impl Outcome {
    /// The packet has a connection now.
    pub const CONNECTED: Self = Self(0x101);
    /// It has one for itself alone, in the slot of this CPU.
    pub const ONE_PACKET: Self = Self(0x102);

    /// Why it has none.
    #[inline(always)]
    pub fn reason(self) -> Drop {
        Drop::from_number(self.0 as u8).unwrap_or(Drop::Internal)
    }

    const fn refuse(reason: Drop) -> Self {
        Self(reason as u32)
    }
}

/// The slot of this CPU's one-packet connections: behind the table.
#[inline(always)]
pub fn one_packet_slot<T: Tables>(tables: &T) -> u32 {
    (tables.set_mask() + 1 + tables.cpu()) * WAYS
}

/// Makes the slots of the wanted connection to the real server with an index. `hop` is the way to it,
/// as of `epoch`.
#[inline(always)]
pub fn connect<T: Tables>(
    tables: &T,
    index: u32,
    hop: NextHop,
    epoch: u32,
    from_here: bool,
) -> Outcome {
    let (Some(runtime), Some(wanted), Some(server)) =
        (tables.runtime(), tables.wanted(), tables.server(index))
    else {
        return Outcome::refuse(Drop::Internal);
    };
    let local = hop.is_local();
    // SAFETY: the record is this CPU's, runtime and server records live as long as the maps.
    let word = unsafe {
        (*wanted).way = hop.way;
        (*wanted).mtu = hop.mtu;
        (*wanted).epoch = epoch;
        match first_word(
            tables,
            wanted,
            server,
            Special::of(wanted),
            local,
            from_here,
            track::is_secure(runtime),
        ) {
            Some(word) => word,
            None => return Outcome::refuse(Drop::NoTunnelSource),
        }
    };
    let method = (word.kind() & KIND_METHOD) as u8;
    let fullnat = forward::is_fullnat(method);
    if fullnat && local {
        // Only between the families: the director's own stack is not spoken to in another one.
        return Outcome::refuse(Drop::NoRoute);
    }
    // SAFETY: as above. Replies by FULLNAT go to an address and port that only a slot knows.
    if !fullnat && unsafe { open::is_one_packet(tables, wanted) } {
        return if tables.fill_apart(one_packet_slot(tables), NO_PARTNER, index, word) {
            Outcome::ONE_PACKET
        } else {
            Outcome::refuse(Drop::Internal)
        };
    }
    // SAFETY: as above.
    let hash = Hash(unsafe { (*wanted).hash });
    let Some(Found { index: claimed, .. }) = conn::take_place(tables, hash, tables.now()) else {
        return Outcome::refuse(Drop::TableFull);
    };
    // Where replies need translation, their slot exists before the request's can be found.
    let mut partner = NO_PARTNER;
    if (forward::translates(method) || local || from_here) && word.kind() & KIND_WILDCARD == 0 {
        let loopback = if from_here && !local {
            KIND_TO_LOOPBACK
        } else {
            0
        };
        let class = if fullnat {
            // SAFETY: as above.
            unsafe { local::class(word.proto(), server) }
        } else {
            word.proto()
        };
        let mut reply = reply_word(word);
        reply.0 = reply.0 & !0xff | u32::from(class) | loopback << 24;
        partner = if fullnat {
            make_full_reply(tables, index, reply, claimed)
        } else {
            tables.reply_apart(index, reply, claimed)
        };
        if partner >= REPLY_REFUSED {
            if let Some(request) = conn::slot(tables, claimed) {
                conn::release(request.slot);
            }
            let reason = Drop::from_number(partner as u8).unwrap_or(Drop::Internal);
            return Outcome::refuse(reason);
        }
        if local {
            // SAFETY: as above.
            unsafe { atomic::store(&raw mut (*runtime).local_replies, 1) };
        }
    }
    if !tables.fill_apart(claimed, partner, index, word) {
        return Outcome::refuse(Drop::Internal);
    }
    match conn::slot(tables, claimed) {
        Some(own) => settle_race(tables, wanted, &own),
        None => Outcome::refuse(Drop::Internal),
    }
}

/// Ports that are tried when another CPU takes the one that was found.
const RACES: u32 = 4;

/// The slot of the wanted connection's replies by FULLNAT, as [`make_reply`]: with a local port that is
/// this connection's alone.
#[inline(always)]
fn make_full_reply<T: Tables>(tables: &T, index: u32, word: Word, partner: u32) -> u32 {
    let mut made = REPLY_REFUSED | Drop::LocalPortsExhausted as u32;
    for _ in 0..RACES {
        let refused = tables.local_apart(index);
        if refused != 0 {
            return refused;
        }
        made = tables.reply_apart(index, word, partner);
        if made != REPLY_REFUSED | Drop::TupleBusy as u32 {
            return made;
        }
    }
    made
}

/// Fills the claimed slot of the wanted connection's request and makes it visible. The slot of this
/// CPU's one-packet connections is never claimed and nobody looks for it.
#[inline(always)]
pub fn fill_request<T: Tables>(
    tables: &T,
    index: u32,
    partner: u32,
    server_index: u32,
    word: Word,
) -> bool {
    let (Some(runtime), Some(wanted), Some(server), Some(found)) = (
        tables.runtime(),
        tables.wanted(),
        tables.server(server_index),
        conn::slot(tables, index),
    ) else {
        return false;
    };
    let one_packet = index == one_packet_slot(tables);
    // SAFETY: the slot is ours until it is published; records live as long as the maps.
    unsafe {
        let server = (server_index, server);
        fill_slot(
            tables, runtime, wanted, &found, partner, server, word, one_packet,
        );
    }
    true
}

/// As [`fill_request`], of a slot and a real server that were looked up; the tag under which it can be found.
///
/// # Safety
/// The slot is the caller's, the records live as long as the maps, the wanted one is this CPU's.
#[inline(always)]
#[allow(
    clippy::too_many_arguments,
    reason = "looked up once, and no place to keep them together"
)]
pub(crate) unsafe fn fill_slot<T: Tables>(
    tables: &T,
    runtime: *mut Runtime,
    wanted: *const Wanted,
    found: &Found,
    partner: u32,
    (server_index, server): (u32, *mut ServerRecord),
    word: Word,
    one_packet: bool,
) -> u64 {
    let now = tables.now();
    let index = found.index;
    // SAFETY: passed on to the caller.
    unsafe {
        let expires = now.wrapping_add(first_life(runtime, wanted, word));
        let hash = Hash((*wanted).hash);
        let mut tag = found.tag;
        if one_packet {
            tag = Tag::ready(Tag::claimed(tag), hash.fingerprint());
            atomic::store(&raw mut (*found.slot).tag, tag);
        }
        write_request(tables, wanted, found, server, word);
        live(found.slot, server_index, partner, expires, now);
        let hop = NextHop::new((*wanted).way, (*wanted).mtu);
        let hop = next_hop::for_connection(hop, word, server);
        atomic::store(&raw mut (*found.slot).way, hop.way);
        atomic::store(&raw mut (*found.slot).mtu, hop.mtu);
        atomic::store(
            &raw mut (*found.slot).epoch,
            Tag::stamp(tag, (*wanted).epoch),
        );
        // FULLNAT keeps there what remains to be told of the client.
        if word.is_child()
            || word.is_parent()
            || forward::is_fullnat((word.kind() & KIND_METHOD) as u8)
        {
            join_parent(tables, index, wanted, now);
        }
        // Data of FTP belongs to the connection that asked for it.
        if (*wanted).service != NO_SERVICE
            && let Some(stats) = tables.stats(server_index)
        {
            (*stats).conns = (*stats).conns.wrapping_add(1);
            if proto::base(word.proto()) == proto::TCP && tcp::is_half_open(word.state()) {
                let begun = &raw mut (*stats).handshakes.begun;
                *begun = (*begun).wrapping_add(1);
            }
        }
        if one_packet {
            // No child any more once its template has its new life.
            if word.is_child() {
                conn::leave_parent(tables, index);
            }
            return tag;
        }
        count_in(server, word);
        overload::update(tables, server_index, server);
        if word.kind() & KIND_WILDCARD != 0 {
            atomic::store(&raw mut (*runtime).wildcards, 1);
        }
        conn::publish(tables, found, hash)
    }
}

/// Life in jiffies of the wanted connection until a packet gives it another.
///
/// # Safety
/// `wanted` is this CPU's record, `runtime` lives as long as the maps.
#[inline(always)]
pub(crate) unsafe fn first_life(runtime: *const Runtime, wanted: *const Wanted, word: Word) -> u32 {
    // SAFETY: passed on to the caller.
    unsafe {
        if (*wanted).flow.inner != 0 {
            // Made for an ICMP error, which gives no life.
            return atomic::load(&raw const (*runtime).hz).wrapping_mul(UNSEEN_SECS);
        }
    }
    track::timeout(runtime, word.proto(), word.state())
}

/// Whether the director's own address towards a real server is known: needed as the source of a tunnel.
///
/// # Safety
/// `server` lives as long as the maps.
#[inline(always)]
unsafe fn own_address(server: *const ServerRecord) -> bool {
    // SAFETY: passed on to the caller.
    unsafe {
        let words = &raw const (*server).tunnel_source.0;
        (*words)[0] | (*words)[1] | (*words)[2] | (*words)[3] != 0
    }
}

/// Whether the packet's source is the VIP it is for.
///
/// # Safety
/// `wanted` is this CPU's record.
#[inline(always)]
unsafe fn is_own_vip(wanted: *const Wanted) -> bool {
    // SAFETY: passed on to the caller.
    unsafe {
        let (source, destination) = (
            &raw const (*wanted).source.0,
            &raw const (*wanted).destination.0,
        );
        let mut differ = 0;
        for i in 0..4 {
            differ |= (*source)[i] ^ (*destination)[i];
        }
        differ == 0
    }
}

/// Protocol, flags, state and kind of a connection's replies, from those of its requests.
#[inline(always)]
pub(crate) fn reply_word(request: Word) -> Word {
    let nat = (request.kind() & KIND_METHOD) as u8 == forward::NAT;
    let flags = request.flags() & FLAG_NO_OUTPUT | FLAG_REPLY;
    let word = Word::new(request.proto(), flags, request.state(), request.kind());
    word.at_vip(nat && request.is_at_vip())
}

/// Whether a request's slot has that of its replies, if it ever had one.
#[inline(always)]
pub(crate) fn is_whole<T: Tables>(tables: &T, own: &Found) -> bool {
    // SAFETY: found slots lie in the table.
    let alone = unsafe { atomic::load(&raw const (*own.slot).partner) } == NO_PARTNER;
    alone || conn::partner(tables, own.slot, own.index).is_some()
}

/// Two CPUs may have opened the same flow at once: the first in search order stays. Each of them looks after its own
/// can be found, so that at least one sees the other, and removes whichever it is. Where other IPv6 addresses have the same
/// key, theirs stays. And the reply's slot may have been
/// taken before the request's could be found.
#[inline(always)]
pub(crate) fn settle_race<T: Tables>(tables: &T, wanted: *const Wanted, own: &Found) -> Outcome {
    // SAFETY: the record is this CPU's.
    let (key, hash) = unsafe { ((*wanted).flow.key, Hash((*wanted).hash)) };
    let now = tables.now();
    let other = conn::lookup(tables, hash, &key, now, own.index);
    if other != NO_SLOT
        && let Some(other) = conn::check(tables, other, hash, &key, now)
    {
        // SAFETY: as above.
        let alike = key.proto & proto::WIDE == 0
            || unsafe { wide::is_between(tables, other.index, wanted) };
        if !alike {
            tables.kill_apart(own.index, own.tag);
            return Outcome::refuse(Drop::SlotReused);
        }
        if conn::precedes(tables, hash, other.index, own.index) {
            tables.kill_apart(own.index, own.tag);
            return Outcome::CONNECTED;
        }
        tables.kill_apart(other.index, other.tag);
    }
    if is_whole(tables, own) {
        return Outcome::CONNECTED;
    }
    tables.kill_apart(own.index, own.tag);
    Outcome::refuse(Drop::SlotReused)
}

/// What may be special about a connection, besides what follows from its packet and its real server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Special {
    /// It is made for an ICMP error.
    quoted: bool,
    /// It has a parent.
    child: bool,
    /// State it starts in.
    state: u32,
    /// `KIND_*`.
    kind: u32,
}

impl Special {
    /// Nothing.
    pub(crate) const NONE: Self = Self {
        quoted: false,
        child: false,
        state: FIRST_STATE,
        kind: 0,
    };

    /// What is wanted.
    ///
    /// # Safety
    /// `wanted` is this CPU's record.
    #[inline(always)]
    unsafe fn of(wanted: *const Wanted) -> Self {
        // SAFETY: passed on to the caller.
        unsafe {
            Self {
                quoted: (*wanted).flow.inner != 0,
                child: (*wanted).parent_use != 0,
                state: (*wanted).state,
                kind: (*wanted).kind,
            }
        }
    }
}

/// Protocol, flags, state and kind of the wanted connection's request; `None` when it needs the
/// director's own address towards the real server, which is not known yet.
///
/// # Safety
/// `wanted` is this CPU's record, `server` lives as long as the maps.
#[inline(always)]
pub(crate) unsafe fn first_word<T: Tables>(
    tables: &T,
    wanted: *const Wanted,
    server: *const ServerRecord,
    special: Special,
    local: bool,
    from_here: bool,
    secure: bool,
) -> Option<Word> {
    // SAFETY: passed on to the caller.
    let (class, event, method, dport) = unsafe {
        (
            (*wanted).flow.key.proto,
            (*wanted).flow.event,
            atomic::load(&raw const (*server).method),
            (*wanted).flow.key.dport(),
        )
    };
    let mut kind = special.kind;
    let (wide, tcp) = (class & proto::WIDE != 0, proto::base(class) == proto::TCP);
    // A server that is the director itself needs no local address to find the way back.
    // SAFETY: passed on to the caller.
    let method = unsafe { fullnat::method(tables, server, method, (wide, tcp), local) };
    let nat = forward::translates(method);
    // A client on the director that took the VIP for its own address: the real server owns the VIP
    // too and could not answer it, so the packet leaves with the director's own address.
    // SAFETY: passed on to the caller.
    let (borrowed, own) = unsafe {
        (
            from_here && !local && !nat && is_own_vip(wanted),
            own_address(server),
        )
    };
    if !own && (borrowed || (method == forward::TUNNEL && !local)) {
        return None;
    }
    let direction = if nat {
        tcp::Direction::Request
    } else {
        tcp::Direction::RequestOnly
    };
    let state = if special.state != FIRST_STATE {
        special.state as u8
    } else if proto::base(class) == proto::SCTP || special.quoted {
        // The packet itself moves it on: a second INIT would count as another one. An error moves nothing.
        sctp::NONE
    } else {
        proto::next(direction, class, event, 0, secure)
    };
    let no_output = if nat { 0 } else { FLAG_NO_OUTPUT };
    let inactive = if proto::is_active(class, state) {
        0
    } else {
        FLAG_INACTIVE
    };
    kind |= u32::from(method);
    kind |= if local { KIND_TO_STACK } else { 0 };
    kind |= if borrowed { KIND_REWRITE } else { 0 };
    if method == forward::NAT && class & proto::BASE == proto::TCP && dport.get() == FTP {
        kind |= KIND_FTP;
    }
    let child = if special.child { FLAG_CHILD } else { 0 };
    let word = Word::new(class, no_output | inactive | child, state, kind);
    let fullnat = forward::is_fullnat(method);
    // SAFETY: passed on to the caller.
    let at_vip = wide
        && method != forward::FULLNAT_CROSS
        && unsafe { wide::is_at_vip(wanted, server, fullnat) };
    Some(word.at_vip(at_vip))
}

/// From here on, what [`make_reply`] returns is a [`Drop`] in its low byte and no slot.
pub const REPLY_REFUSED: u32 = 0xffff_ff00;

/// Where the wanted connection's replies come from and go to, at the director.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplyEnds {
    from: *const Address,
    to: *const Address,
    /// As [`Key::ports`].
    ports: u32,
}

impl ReplyEnds {
    /// By NAT of one end.
    ///
    /// # Safety
    /// `wanted` is this CPU's record, `server` lives as long as the maps.
    #[inline(always)]
    pub(crate) unsafe fn of_nat(wanted: *const Wanted, server: *const ServerRecord) -> Self {
        // SAFETY: passed on to the caller.
        unsafe {
            Self {
                from: &raw const (*server).rip,
                to: &raw const (*wanted).source,
                ports: (*wanted).rport & 0xffff | u32::from((*wanted).flow.key.sport().raw()) << 16,
            }
        }
    }

    /// Of a connection of this kind.
    ///
    /// # Safety
    /// As [`ReplyEnds::of_nat`].
    #[inline(always)]
    unsafe fn of(wanted: *const Wanted, server: *const ServerRecord, kind: u32) -> Self {
        let method = (kind & KIND_METHOD) as u8;
        // SAFETY: passed on to the caller.
        unsafe {
            let mut ends = Self::of_nat(wanted, server);
            if !forward::translates(method) {
                let port = u32::from((*wanted).flow.key.dport().raw());
                ends.from = &raw const (*wanted).destination;
                ends.ports = ends.ports & !0xffff | port;
            }
            if forward::is_fullnat(method) {
                ends.to = &raw const (*wanted).local;
                ends.ports = ends.ports & 0xffff | (*wanted).lport << 16;
            } else if kind & KIND_REWRITE != 0 {
                ends.to = &raw const (*server).tunnel_source;
            }
            ends
        }
    }

    /// The key of the replies.
    ///
    /// # Safety
    /// The records live as long as the maps.
    #[inline(always)]
    pub(crate) unsafe fn key(&self, class: u8, seed: [u64; 2]) -> Key {
        // SAFETY: passed on to the caller.
        unsafe { Key::of(class, &*self.from, &*self.to, self.ports, seed) }
    }
}

/// Claims, fills and publishes the reply's slot of the wanted connection; its index. `partner` is the
/// request's.
#[inline(always)]
pub fn make_reply<T: Tables>(tables: &T, index: u32, word: Word, partner: u32) -> u32 {
    let (Some(runtime), Some(wanted), Some(server)) =
        (tables.runtime(), tables.wanted(), tables.server(index))
    else {
        return REPLY_REFUSED | Drop::Internal as u32;
    };
    let now = tables.now();
    let fullnat = forward::is_fullnat((word.kind() & KIND_METHOD) as u8);
    // SAFETY: the records live as long as the maps, the wanted one is this CPU's.
    let (ends, key, hash) = unsafe {
        let seed = atomic::load(&raw const (*runtime).seed);
        let ends = ReplyEnds::of(wanted, server, word.kind());
        let key = ends.key(word.proto(), seed);
        (ends, key, key.hash(seed))
    };
    let other = conn::lookup(tables, hash, &key, now, NO_SLOT);
    if other != NO_SLOT
        && let Some(other) = conn::check(tables, other, hash, &key, now)
        && (fullnat || !gives_way(tables, &other, &ends))
    {
        return REPLY_REFUSED | Drop::TupleBusy as u32;
    }
    let Some(found) = conn::take_place(tables, hash, now) else {
        return REPLY_REFUSED | Drop::TableFull as u32;
    };
    // SAFETY: the slot is ours until it is published.
    let tag = unsafe {
        let expires = now.wrapping_add(first_life(runtime, wanted, word));
        write_reply(tables, wanted, &found, &key, &ends, word);
        live(found.slot, index, partner, expires, now);
        conn::publish(tables, &found, hash)
    };
    // Two CPUs may have found the same port free: each publishes, then looks, so that at least one of them
    // sees the other, and leaves it the port.
    if fullnat && conn::lookup(tables, hash, &key, now, found.index) != NO_SLOT {
        tables.kill_apart(found.index, tag);
        return REPLY_REFUSED | Drop::TupleBusy as u32;
    }
    found.index
}

/// Writes what a reply is and becomes. No way out is known yet.
///
/// # Safety
/// The caller claimed the slot; `wanted` is this CPU's record.
#[inline(always)]
pub(crate) unsafe fn write_reply<T: Tables>(
    tables: &T,
    wanted: *const Wanted,
    reply: &Found,
    key: &Key,
    ends: &ReplyEnds,
    word: Word,
) {
    // SAFETY: passed on to the caller.
    unsafe {
        let request = (*wanted).flow.key;
        let new_addresses = if word.is_at_vip() {
            (*wanted).source.half(0)
        } else {
            u64::from((*wanted).destination.0[0]) | u64::from((*wanted).source.0[0]) << 32
        };
        fill(
            reply,
            key,
            word,
            new_addresses,
            request.ports.rotate_left(16),
        );
        if (key.proto | request.proto) & proto::WIDE != 0
            && let Some(record) = tables.wide(reply.index)
        {
            copy(&raw mut (*record).source, ends.from);
            copy(&raw mut (*record).destination, ends.to);
            copy(
                &raw mut (*record).new_source,
                &raw const (*wanted).destination,
            );
            copy(
                &raw mut (*record).new_destination,
                &raw const (*wanted).source,
            );
        }
        atomic::store(&raw mut (*reply.slot).way, NextHop::NONE.way);
        atomic::store(&raw mut (*reply.slot).epoch, Tag::stamp(reply.tag, 0));
    }
}

/// A connection in closing makes room for one with the same reply tuple.
#[inline(always)]
fn gives_way<T: Tables>(tables: &T, other: &Found, ends: &ReplyEnds) -> bool {
    // SAFETY: found slots lie in the table.
    let word = Word(unsafe { atomic::load(&raw const (*other.slot).word) });
    proto::eviction_rank(word.proto(), word.state()) != 0
        // SAFETY: the ends lie in the maps.
        && (word.proto() & proto::WIDE == 0
            || unsafe { wide::is_to(tables, other.index, ends.to) })
        && tables.kill_apart(other.index, other.tag)
}

/// Writes what a packet of the request is and becomes.
///
/// # Safety
/// The caller claimed the slot; `wanted` is this CPU's record.
#[inline(always)]
unsafe fn write_request<T: Tables>(
    tables: &T,
    wanted: *const Wanted,
    request: &Found,
    server: *const ServerRecord,
    word: Word,
) {
    // SAFETY: passed on to the caller.
    unsafe {
        let method = (word.kind() & KIND_METHOD) as u8;
        let borrowed = word.kind() & KIND_REWRITE != 0;
        let key = (*wanted).flow.key;
        let vip = (*wanted).destination.0[0];
        let client = (*wanted).source.0[0];
        let rip = atomic::load(&raw const (*server).rip.0[0]);
        let own = atomic::load(&raw const (*server).tunnel_source.0[0]);
        let fullnat = forward::is_fullnat(method);
        let (source, destination) = match method {
            _ if fullnat => ((*wanted).local.0[0], rip),
            forward::NAT => (client, rip),
            forward::TUNNEL => (own, rip),
            _ => (if borrowed { own } else { client }, vip),
        };
        let new_addresses = if word.is_at_vip() {
            (*wanted).source.half(0)
        } else {
            u64::from(source) | u64::from(destination) << 32
        };
        let rport = if fullnat && word.is_at_vip() {
            (*wanted).local_index
        } else if forward::translates(method) {
            (*wanted).rport
        } else {
            u32::from(key.dport().raw())
        };
        let sport = if fullnat {
            (*wanted).lport
        } else {
            u32::from(key.sport().raw())
        };
        fill(
            request,
            &key,
            word,
            new_addresses,
            sport & 0xffff | rport << 16,
        );
        if (key.proto & proto::WIDE != 0 || method == forward::FULLNAT_CROSS)
            && let Some(record) = tables.wide(request.index)
        {
            copy(&raw mut (*record).source, &raw const (*wanted).source);
            copy(
                &raw mut (*record).destination,
                &raw const (*wanted).destination,
            );
            copy(
                &raw mut (*record).new_source,
                if fullnat {
                    &raw const (*wanted).local
                } else if borrowed {
                    &raw const (*server).tunnel_source
                } else {
                    &raw const (*wanted).source
                },
            );
            copy(
                &raw mut (*record).new_destination,
                if forward::translates(method) {
                    &raw const (*server).rip
                } else {
                    &raw const (*wanted).destination
                },
            );
        }
    }
}

/// Word by word: an assignment would be a call.
///
/// # Safety
/// Both are addresses in the maps.
#[inline(always)]
pub(crate) unsafe fn copy(to: *mut Address, from: *const Address) {
    for i in 0..4 {
        // SAFETY: passed on to the caller.
        unsafe { atomic::store(&raw mut (*to).0[i], atomic::load(&raw const (*from).0[i])) };
    }
}

/// Writes key, word and what addresses and ports become.
///
/// # Safety
/// The caller claimed the slot.
#[inline(always)]
unsafe fn fill(claimed: &Found, key: &Key, word: Word, new_addresses: u64, new_ports: u32) {
    let (slot, word) = (claimed.slot, word.of_use(claimed.tag));
    // SAFETY: passed on to the caller.
    unsafe {
        atomic::store(&raw mut (*slot).addresses, key.addresses);
        atomic::store(&raw mut (*slot).ports, key.ports);
        atomic::store(&raw mut (*slot).word, word.0);
        atomic::store(&raw mut (*slot).new_addresses, new_addresses);
        atomic::store(&raw mut (*slot).new_ports, new_ports);
    }
}

/// Writes whom a slot belongs to and how long it lives.
///
/// # Safety
/// The caller claimed the slot.
#[inline(always)]
pub(crate) unsafe fn live(slot: *mut Slot, server: u32, partner: u32, expires: u32, now: u32) {
    // SAFETY: passed on to the caller.
    unsafe {
        atomic::store(&raw mut (*slot).server, server);
        atomic::store(&raw mut (*slot).partner, partner);
        atomic::store(&raw mut (*slot).expires, expires);
        atomic::store(&raw mut (*slot).shared_at, (now >> 4) as u16);
    }
}

/// Begins the slot's control: no children yet, a child itself of the wanted parent if there is one, whose
/// life, if it is a template, begins anew.
///
/// # Safety
/// The caller claimed the slot; `wanted` is this CPU's record.
#[inline(always)]
unsafe fn join_parent<T: Tables>(tables: &T, index: u32, wanted: *const Wanted, now: u32) {
    // SAFETY: passed on to the caller.
    unsafe {
        let Some(own) = tables.control(index) else {
            return;
        };
        let (parent, parent_use) = ((*wanted).parent, (*wanted).parent_use);
        atomic::store(&raw mut (*own).children, 0);
        atomic::store(&raw mut (*own).parent, parent);
        atomic::store(&raw mut (*own).parent_use, parent_use);
        if parent_use == 0 {
            return;
        }
        if let (Some(found), Some(control)) = (conn::parent(tables, index), tables.control(parent))
        {
            atomic::add32(&raw mut (*control).children, 1);
            if Word(atomic::load(&raw const (*found.slot).word)).is_template() {
                let life = atomic::load(&raw const (*control).timeout);
                atomic::store(&raw mut (*found.slot).expires, now.wrapping_add(life));
            }
        } else {
            atomic::store(&raw mut (*own).parent_use, 0);
        }
    }
}

/// Counts a connection of its server.
///
/// # Safety
/// Server records live as long as the maps.
#[inline(always)]
unsafe fn count_in(server: *mut ServerRecord, word: Word) {
    // SAFETY: passed on to the caller.
    unsafe {
        if word.flags() & FLAG_INACTIVE != 0 {
            atomic::add32(&raw mut (*server).inactive, 1);
        } else {
            atomic::add32(&raw mut (*server).active, 1);
        }
    }
}
