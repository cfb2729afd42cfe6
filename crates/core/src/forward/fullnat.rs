//! NAT of both ends (FULLNAT): CIP:port → VIP:port becomes LIP:port → RIP:port, and replies are undone.
//! Replies come back to the director because the server answers one of its addresses, wherever both are.
//!
//! What changes addresses and ports alone is NAT like any other ([`crate::forward::nat`]). Here is what
//! else may have to be done, in a program of its own: telling the server who the client is, and, with a
//! server of the other address family, another IP header ([`super::cross`]).
//!
//! **TOA**: TCP option 254 with the client's port and address, right behind the fixed header: 8 bytes for
//! IPv4, 20 for IPv6. It is in every packet of the client's from the end of the handshake until the server
//! has answered one, so that a lost packet loses nothing. There is no room for it inside an aggregate of
//! segments; its first segment goes ahead with the option, and the whole follows, of which the server
//! leaves out what it has. A server that wants no connection before there is data
//! (`TCP_DEFER_ACCEPT`) looks at that segment alone.
//!
//! **PROXY protocol**, version 2: a header before the client's first byte. It goes with the packet that
//! ends the handshake, since a server may want to speak first, and again with whatever begins at the
//! first byte, until the server has acknowledged it. The client knows nothing of it, so sequence numbers
//! of the one and acknowledgements of the other are shifted from then on.
//!
//! Either way the server's maximum segment size is lowered by what is added, so that packets of full size
//! have room for it.

use crate::addr::Address;
use crate::atomic;
use crate::conn::{self, KIND_METHOD, NO_PARTNER, Slot, Word};
use crate::drop::Drop;
use crate::forward::{FULLNAT, FULLNAT_CROSS, FULLNAT_TELLS, NAT, is_fullnat};
use crate::host::{Packet, Tables};
use crate::layout::{
    CLIENT_PROXY, CLIENT_TOA, CLIENT_UNTOLD, Control, SERVER_IPV6, ServerRecord, Wanted,
};
use crate::mask::masked;
use crate::open;
use crate::parse::Flow;
use crate::proto;
use crate::wire::tcp as tcp_wire;
use crate::wire::toa;

/// The client is told by TCP option.
pub const TELL_TOA: u32 = 1;
/// The client is told by PROXY protocol.
pub const TELL_PROXY: u32 = 2;
/// The SYN was seen: where the client's bytes begin is known.
pub const TELL_SEEN: u32 = 4;
/// The server has been told.
pub const TELL_TOLD: u32 = 8;
/// The first segment of an aggregate was sent ahead with the option.
pub const TELL_AHEAD: u32 = 16;

/// Longest TCP header.
const TCP_MAX: usize = 60;
/// The method of a connection to a server, whose own method is `method`; its client speaks IPv6 (`wide`)
/// and TCP.
///
/// # Safety
/// `server` lives as long as the maps.
#[inline(always)]
pub unsafe fn method<T: Tables>(
    tables: &T,
    server: *const ServerRecord,
    method: u8,
    (wide, tcp): (bool, bool),
    local: bool,
) -> u8 {
    if !is_fullnat(method) {
        return method;
    }
    // SAFETY: passed on to the caller.
    let (to_wide, tells) = unsafe {
        (
            atomic::load(&raw const (*server).flags) & SERVER_IPV6 != 0,
            client_address(tables, server) != 0,
        )
    };
    if wide != to_wide {
        FULLNAT_CROSS
    } else if local {
        NAT
    } else if tells && tcp {
        FULLNAT_TELLS
    } else {
        FULLNAT
    }
}

/// How a server learns the client's address.
///
/// # Safety
/// `server` lives as long as the maps.
#[inline(always)]
unsafe fn client_address<T: Tables>(tables: &T, server: *const ServerRecord) -> u32 {
    // SAFETY: passed on to the caller.
    unsafe {
        let service = tables.service(atomic::load(&raw const (*server).service));
        service.map_or(0, |s| atomic::load(&raw const (*s).client_address))
    }
}

/// What is to be done to a packet besides new addresses and ports, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan(pub u64);

impl Plan {
    pub(super) const PROXY: u64 = 1 << 8;
    pub(super) const SEQUENCE: u64 = 1 << 9;
    pub(super) const ACKNOWLEDGEMENT: u64 = 1 << 10;
    pub(super) const SEGMENT_SIZE: u64 = 1 << 11;
    pub(super) const CLIENT_IPV6: u64 = 1 << 12;
    /// An aggregate whose first segment goes ahead.
    pub(super) const AHEAD: u64 = 1 << 14;
    /// The packet cannot be forwarded.
    pub const REFUSED: u64 = 1 << 13;
    /// Where what an acknowledgement is lowered by begins.
    const BACK: u64 = 16;

    /// Nothing.
    const NONE: Self = Self(0);

    #[inline(always)]
    pub(super) fn has(self, bit: u64) -> bool {
        self.0 & bit != 0
    }

    /// Bytes that are inserted.
    #[inline(always)]
    pub(super) fn inserted(self) -> usize {
        masked::<0x3f>(self.0 as usize)
    }

    /// How many bytes longer the packet gets, may be negative.
    #[inline(always)]
    pub fn growth(self) -> i32 {
        (self.0 >> 32) as u32 as i32
    }

    #[inline(always)]
    fn grown(self, bytes: i32) -> Self {
        Self(self.0 & 0xffff_ffff | u64::from(bytes as u32) << 32)
    }

    /// Whether there is anything to do inside TCP.
    #[inline(always)]
    pub fn edits(self) -> bool {
        self.0 & (0x3f | Self::SEQUENCE | Self::ACKNOWLEDGEMENT | Self::SEGMENT_SIZE) != 0
    }

    /// Bytes before the client's first one, by PROXY protocol.
    #[inline(always)]
    pub(super) fn shift(self) -> u32 {
        proxy_len(self.has(Self::CLIENT_IPV6))
    }

    /// What an acknowledgement is lowered by: as much of the shift as the server has.
    #[inline(always)]
    pub(super) fn back(self) -> u32 {
        (self.0 >> Self::BACK) as u32 & 0x3f
    }
}

/// Bytes of TOA.
#[inline(always)]
pub(super) const fn toa_len(wide: bool) -> u32 {
    let len = if wide { toa::LEN_V6 } else { toa::LEN_V4 };
    len as u32
}

/// Bytes of a PROXY protocol header.
#[inline(always)]
const fn proxy_len(wide: bool) -> u32 {
    if wide { 52 } else { 28 }
}

/// What is to be done to the wanted packet, which the slot with an index is for and whose way takes `mtu`
/// bytes; a [`Plan`].
#[inline(always)]
pub fn plan<T: Tables, P: Packet>(tables: &T, packet: &P, slot: u32, mtu: u32) -> u64 {
    let (Some(wanted), Some(own)) = (tables.wanted(), conn::slot(tables, slot)) else {
        return Plan::REFUSED;
    };
    // SAFETY: the wanted record is this CPU's, found slots lie in the table.
    let (flow, word) = unsafe {
        (
            open::wanted_flow(wanted),
            Word(atomic::load(&raw const (*own.slot).word)),
        )
    };
    let cross = (word.kind() & KIND_METHOD) as u8 == FULLNAT_CROSS;
    let wide = flow.key.proto & proto::WIDE != 0;
    let mut growth = 0;
    if cross {
        growth = super::cross::growth(packet, &flow, wide);
    }
    if proto::base(flow.key.proto) != proto::TCP || !flow.whole || flow.inner != 0 {
        return Plan::NONE.grown(growth).0;
    }
    let client_wide = wide != (cross && word.is_reply());
    // SAFETY: as above.
    let told = unsafe { tell(tables, packet, &flow, own.slot, slot, word, client_wide) };
    let mut plan = Plan(told);
    let more = plan.inserted() as i32;
    let len = i32::from(packet.largest_datagram(flow.total_len, flow.headers)) + growth + more;
    if more != 0 && !plan.has(Plan::PROXY) && len > mtu as i32 {
        tables.count(CLIENT_UNTOLD);
        plan = Plan::NONE;
    }
    plan.grown(growth + plan.inserted() as i32).0
}

/// The part of a plan that tells the client's address; moves on what is known of it.
///
/// # Safety
/// `own` lies in the table.
#[inline(always)]
unsafe fn tell<T: Tables, P: Packet>(
    tables: &T,
    packet: &P,
    flow: &Flow,
    own: *mut Slot,
    index: u32,
    word: Word,
    client_wide: bool,
) -> u64 {
    let client = if client_wide { Plan::CLIENT_IPV6 } else { 0 };
    let reply = word.is_reply();
    // SAFETY: passed on to the caller.
    let request = if reply {
        unsafe { atomic::load(&raw const (*own).partner) }
    } else {
        index
    };
    if request == NO_PARTNER {
        return 0;
    }
    let Some(control) = tables.control(request) else {
        return 0;
    };
    let (Some(sequence), Some(acknowledged)) = (
        packet.read::<u32>(flow.l4 + tcp_wire::SEQUENCE),
        packet.read::<u32>(flow.l4 + tcp_wire::ACKNOWLEDGEMENT),
    ) else {
        return 0;
    };
    let (syn, rst) = (
        flow.event & tcp_wire::SYN != 0,
        flow.event & tcp_wire::RST != 0,
    );
    // SAFETY: controls lie beside the table.
    let (tells, first) = unsafe {
        // Anybody can send a SYN; where a connection stands it begins nothing.
        if !reply && syn && word.state() != proto::tcp::ESTABLISHED {
            return begin(tables, own, control, u32::from_be(sequence), flow);
        }
        (
            atomic::load(&raw const (*control).children),
            atomic::load(&raw const (*control).timeout),
        )
    };
    if tells & TELL_SEEN == 0 {
        return 0;
    }
    if reply && syn {
        return if tells & (TELL_TOA | TELL_PROXY) != 0 {
            let proxy = if tells & TELL_PROXY != 0 {
                Plan::PROXY
            } else {
                0
            };
            Plan::SEGMENT_SIZE | client | proxy
        } else {
            0
        };
    }
    let told = tells & TELL_TOLD != 0;
    if tells & TELL_TOA != 0 {
        if told || reply && flow.event & tcp_wire::ACK != 0 {
            // SAFETY: as above.
            unsafe { settle(tables, own, control, tells) };
            return 0;
        }
        if reply || syn || rst || packet.is_aggregate() && tells & TELL_AHEAD != 0 {
            return 0;
        }
        let len = toa_len(client_wide);
        let header = usize::from(flow.headers) - (flow.l4 - flow.l3);
        if header + len as usize > TCP_MAX {
            tables.count(CLIENT_UNTOLD);
            return 0;
        }
        let mut ahead = 0;
        if packet.is_aggregate() {
            ahead = Plan::AHEAD;
            // SAFETY: as above.
            unsafe { atomic::store(&raw mut (*control).children, tells | TELL_AHEAD) };
        }
        return u64::from(len) | client | ahead;
    }
    if tells & TELL_PROXY == 0 {
        return 0;
    }
    let proxy = Plan::PROXY | client;
    let shift = proxy_len(client_wide);
    if reply {
        let past = u32::from_be(acknowledged).wrapping_sub(first);
        if flow.event & tcp_wire::ACK == 0 || (past as i32) < 0 {
            return 0;
        }
        if past < shift {
            return proxy | Plan::ACKNOWLEDGEMENT | u64::from(past) << Plan::BACK;
        }
        if !told {
            // SAFETY: as above.
            unsafe { atomic::store(&raw mut (*control).children, tells | TELL_TOLD) };
        }
        return proxy | Plan::ACKNOWLEDGEMENT | u64::from(shift) << Plan::BACK;
    }
    let at_first = u32::from_be(sequence) == first && !told;
    if at_first && rst {
        0
    } else if at_first && !packet.is_aggregate() {
        proxy | u64::from(shift)
    } else {
        proxy | Plan::SEQUENCE
    }
}

/// A SYN: from here on the client's bytes are counted.
///
/// # Safety
/// Slot and control lie in the tables.
#[inline(always)]
unsafe fn begin<T: Tables>(
    tables: &T,
    own: *const Slot,
    control: *mut Control,
    sequence: u32,
    flow: &Flow,
) -> u64 {
    // SAFETY: passed on to the caller; server records live as long as the maps.
    unsafe {
        let address = match tables.server(atomic::load(&raw const (*own).server)) {
            Some(server) => client_address(tables, server),
            None => 0,
        };
        let tells = match address {
            CLIENT_TOA => TELL_TOA,
            CLIENT_PROXY => TELL_PROXY,
            _ => 0,
        };
        // Data in a SYN would have to come behind the header; without, the client repeats it later.
        if tells == TELL_PROXY && flow.total_len > flow.headers {
            return Plan::REFUSED;
        }
        atomic::store(&raw mut (*control).timeout, sequence.wrapping_add(1));
        atomic::store(&raw mut (*control).children, tells | TELL_SEEN);
    }
    0
}

/// The server has been told by TOA: nothing is left to do, and within one family the connection's
/// packets take the fast way from here on.
///
/// # Safety
/// Slot and control lie in the tables.
#[inline(always)]
unsafe fn settle<T: Tables>(tables: &T, own: *mut Slot, control: *mut Control, tells: u32) {
    // SAFETY: passed on to the caller.
    unsafe {
        atomic::store(&raw mut (*control).children, tells | TELL_TOLD);
        let partner = atomic::load(&raw const (*own).partner);
        if let Some(other) = conn::slot(tables, partner) {
            make_plain(other.slot);
        }
        make_plain(own);
    }
}

/// # Safety
/// The slot lies in the table.
#[inline(always)]
unsafe fn make_plain(slot: *mut Slot) {
    // SAFETY: passed on to the caller. Who changes the word meanwhile leaves it for the next packet.
    unsafe {
        let word = &raw mut (*slot).word;
        let old = atomic::load(word);
        if (Word(old).kind() & KIND_METHOD) as u8 == FULLNAT_TELLS {
            atomic::cas32(word, old, Word(old).with_method(FULLNAT).0);
        }
    }
}

/// An address as a slot's packets get it, for those who read it word by word.
///
/// # Safety
/// `address` lies in the maps.
#[inline(always)]
pub(super) unsafe fn word_of(address: *const Address, i: usize) -> u32 {
    // SAFETY: passed on to the caller; an address has four words.
    unsafe { atomic::load(address.cast::<u32>().add(i)) }
}

/// Why a plan refuses.
pub const REFUSAL: Drop = Drop::ClientAddress;

/// The wanted record of this CPU, where the flow lies.
#[inline(always)]
pub(super) fn wanted_flow<T: Tables>(tables: &T) -> Option<(*mut Wanted, Flow)> {
    let wanted = tables.wanted()?;
    // SAFETY: the wanted record is this CPU's.
    Some((wanted, unsafe { open::wanted_flow(wanted) }))
}
