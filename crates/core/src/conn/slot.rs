//! One direction of one connection in one cache line.

use crate::atomic;
use crate::conn::Key;
use crate::layout::{NextHop, WAYS};
use crate::proto::{self, tcp::Direction};

/// A 64-byte slot: everything an established packet needs.
///
/// `tag` decides: who changes it by compare-and-swap owns the slot. Its low half is the hash's
/// fingerprint, bits 32..34 the [`Status`], bits 34..64 a count of uses, so that a reader who finds
/// the same tag before and after reading has read one connection, never a mix of two.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Status, fingerprint, use count.
    pub tag: u64,
    /// [`Key::addresses`].
    pub addresses: u64,
    /// Addresses the packet leaves with, like `addresses`; those of the outer header for a tunnel. Of IPv6 see
    /// [`Word::is_at_vip`].
    pub new_addresses: u64,
    /// [`Key::ports`].
    pub ports: u32,
    /// Ports the packet leaves with, like `ports`. Of IPv6 by FULLNAT see [`Word::is_at_vip`].
    pub new_ports: u32,
    /// A [`Word`]: protocol, flags, state, kind; changed as one.
    pub word: u32,
    /// Index of the real server.
    pub server: u32,
    /// Index of the other direction's slot, or [`NO_PARTNER`].
    pub partner: u32,
    /// Jiffies at which the slot lapses.
    pub expires: u32,
    /// [`NextHop::way`].
    pub way: u64,
    /// Epoch of `way` and `mtu`, as [`Tag::stamp`] makes it.
    pub epoch: u32,
    /// Largest IP packet the way takes.
    pub mtu: u16,
    /// When the partner was last told of the life seen here: jiffies / 16.
    pub shared_at: u16,
}

/// A set: the slots one hash may use.
pub type Set = [Slot; WAYS as usize];

const _: () = assert!(size_of::<Slot>() == 64);

/// What the slots of a set held last: 16 bits of each hash, the first way lowest, 0 for a slot never
/// used. Whoever does not find its key in the way it prefers reads these 16 bytes instead of eight
/// slots. A hint may be of a connection that is gone, but none is missing: it is written by the
/// owner of a claimed slot and never cleared.
pub type Hints = [u64; 2];

/// Tag of a slot never used.
pub const TAG_EMPTY: u64 = 0;
/// [`Slot::partner`] of a slot that stands alone.
pub const NO_PARTNER: u32 = u32::MAX;

/// Flag in [`Word`]: the slot is of the reply direction.
pub const FLAG_REPLY: u32 = 1;
/// Flag in [`Word`]: counted as inactive (`IP_VS_CONN_F_INACTIVE`).
pub const FLAG_INACTIVE: u32 = 2;
/// Flag in [`Word`]: no reply was seen (`IP_VS_CONN_F_NOOUTPUT`).
pub const FLAG_NO_OUTPUT: u32 = 4;
/// Flag in [`Word`]: the slot's control names a parent. Without it nothing reads the control of what is no
/// parent itself, so that most connections never touch theirs.
pub const FLAG_CHILD: u32 = 8;

/// Part of the kind in [`Word`]: the forwarding method.
pub const KIND_METHOD: u32 = 7;
/// Kind in [`Word`]: packets are delivered to the director's own stack.
pub const KIND_TO_STACK: u32 = 8;
/// Kind in [`Word`]: packets are handed to a client on the director through `lo`.
pub const KIND_TO_LOOPBACK: u32 = 16;

/// Kind in [`Word`]: addresses and ports are rewritten although the method does not ask for it.
pub const KIND_REWRITE: u32 = 32;

/// Kind in [`Word`]: an FTP control connection by NAT, whose payload names data connections.
pub const KIND_FTP: u32 = 64;
/// Kind in [`Word`]: the client's port is not known yet (`IP_VS_CONN_F_NO_CPORT`).
pub const KIND_WILDCARD: u32 = 128;

/// What a tag says of its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Free.
    Empty,
    /// Somebody is filling it.
    Claimed,
    /// Holds a connection.
    Ready,
}

const CLAIMED: u64 = 1 << 32;
const READY: u64 = 2 << 32;
const STATUS: u64 = 3 << 32;
const USE_SHIFT: u32 = 34;
const USE: u64 = 1 << USE_SHIFT;

/// Reading and making tags.
#[derive(Clone, Copy, Debug)]
pub struct Tag;

impl Tag {
    /// Status of a tag.
    #[inline(always)]
    pub fn status(tag: u64) -> Status {
        match tag & STATUS {
            READY => Status::Ready,
            CLAIMED => Status::Claimed,
            _ => Status::Empty,
        }
    }

    /// True when the tag holds a connection with this fingerprint.
    #[inline(always)]
    pub fn matches(tag: u64, fingerprint: u32) -> bool {
        tag & (STATUS | 0xffff_ffff) == READY | u64::from(fingerprint)
    }

    /// The tag of someone who takes the slot over from `old`.
    #[inline(always)]
    pub fn claimed(old: u64) -> u64 {
        ((old & !(STATUS | 0xffff_ffff)).wrapping_add(USE)) | CLAIMED
    }

    /// The tag of a filled slot, from the claimed tag.
    #[inline(always)]
    pub fn ready(claimed: u64, fingerprint: u32) -> u64 {
        (claimed & !(STATUS | 0xffff_ffff)) | READY | u64::from(fingerprint)
    }

    /// The epoch as a slot with this tag keeps it: one that a former owner's packet stores late is
    /// never valid for the next one.
    #[inline(always)]
    pub fn stamp(tag: u64, epoch: u32) -> u32 {
        epoch ^ (tag >> USE_SHIFT) as u32
    }

    /// Uses of the slot so far, as [`crate::layout::Control::parent_use`] keeps it: never 0.
    #[inline(always)]
    pub fn use_count(tag: u64) -> u32 {
        ((tag >> USE_SHIFT) as u32).wrapping_add(1)
    }

    /// The tag of a freed slot; keeps the use count.
    #[inline(always)]
    pub fn empty(old: u64) -> u64 {
        old & !(STATUS | 0xffff_ffff)
    }
}

/// Protocol, flags, state and kind of a slot, changed together by compare-and-swap.
///
/// Bits 12..16 are of the slot's use count, so that nobody takes the word of one connection for that
/// of the next; bit 23 is [`Word::is_at_vip`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word(pub u32);

const FLAGS: u32 = 15;
const USE_IN_WORD: u32 = 12;
const WORD_USE: u32 = 0xf << USE_IN_WORD;
const STATE: u32 = 0x7f;
const AT_VIP: u32 = 1 << 23;

impl Word {
    /// From its parts.
    #[inline(always)]
    pub fn new(proto: u8, flags: u32, state: u8, kind: u32) -> Self {
        Self(u32::from(proto) | flags << 8 | u32::from(state) << 16 | kind << 24)
    }
    /// Class: see [`crate::proto`].
    #[inline(always)]
    pub fn proto(self) -> u8 {
        self.0 as u8
    }
    /// `FLAG_*`.
    #[inline(always)]
    pub fn flags(self) -> u32 {
        self.0 >> 8 & FLAGS
    }
    /// State.
    #[inline(always)]
    pub fn state(self) -> u8 {
        (self.0 >> 16 & STATE) as u8
    }
    /// `KIND_*`.
    #[inline(always)]
    pub fn kind(self) -> u32 {
        self.0 >> 24
    }
    /// True for a connection of this protocol, of either family, in this state.
    #[inline(always)]
    pub fn is(self, base: u8, state: u8) -> bool {
        const MASK: u32 = proto::BASE as u32 | STATE << 16;
        self.0 & MASK == u32::from(base) | u32::from(state) << 16
    }
    /// True for a persistence template.
    #[inline(always)]
    pub fn is_template(self) -> bool {
        self.proto() & proto::TEMPLATE != 0
    }
    /// True for what may have children: it lives as long as they do.
    #[inline(always)]
    pub fn is_parent(self) -> bool {
        self.is_template() || (self.kind() & KIND_FTP != 0 && !self.is_reply())
    }
    /// True for what has a parent.
    #[inline(always)]
    pub fn is_child(self) -> bool {
        self.flags() & FLAG_CHILD != 0
    }
    /// True for the reply direction.
    #[inline(always)]
    pub fn is_reply(self) -> bool {
        self.flags() & FLAG_REPLY != 0
    }
    /// With another state and flags.
    #[inline(always)]
    pub fn with(self, flags: u32, state: u8) -> Self {
        Self(Self::new(self.proto(), flags, state, self.kind()).0 | self.0 & (WORD_USE | AT_VIP))
    }
    /// Whether the slot and its real server tell an IPv6 connection's addresses, so that those beside the slot need
    /// not be read: `new_addresses` is the first half of the client's, whose second half follows from the key; the
    /// other one is the VIP, or of replies the RIP, of the real server. By FULLNAT, of requests alone: for the port
    /// of the server, which is known, `new_ports` has the place of the local address.
    #[inline(always)]
    pub fn is_at_vip(self) -> bool {
        self.0 & AT_VIP != 0
    }
    /// See [`Word::is_at_vip`].
    #[inline(always)]
    pub fn at_vip(self, at_vip: bool) -> Self {
        Self(self.0 & !AT_VIP | (u32::from(at_vip) * AT_VIP))
    }
    /// With another forwarding method.
    #[inline(always)]
    pub fn with_method(self, method: u8) -> Self {
        Self(self.0 & !(KIND_METHOD << 24) | u32::from(method) << 24)
    }
    /// The word of a slot with this tag.
    #[inline(always)]
    pub fn of_use(self, tag: u64) -> Self {
        Self(self.0 & !WORD_USE | ((tag >> USE_SHIFT) as u32) << USE_IN_WORD & WORD_USE)
    }
    /// Which transition table applies to a packet of this slot.
    #[inline(always)]
    pub fn direction(self) -> Direction {
        if self.is_reply() {
            Direction::Reply
        } else if self.flags() & FLAG_NO_OUTPUT != 0 {
            Direction::RequestOnly
        } else {
            Direction::Request
        }
    }
}

impl Slot {
    /// The key, once the tag said the slot is ready.
    ///
    /// # Safety
    /// `slot` points into the table.
    #[inline(always)]
    pub unsafe fn key(slot: *const Self) -> Key {
        // SAFETY: the caller vouches for the pointer; the tag is checked again by whoever uses it.
        unsafe {
            Key {
                addresses: atomic::load(&raw const (*slot).addresses),
                ports: atomic::load(&raw const (*slot).ports),
                proto: Word(atomic::load(&raw const (*slot).word)).proto(),
            }
        }
    }

    /// Puts a next hop into a slot that others may be reading and that may have passed to another
    /// connection since it had `tag` and `old_way`: then the exchange fails, or the stamp is void.
    ///
    /// # Safety
    /// `slot` points into the table.
    #[inline(always)]
    pub unsafe fn set_next_hop(slot: *mut Self, tag: u64, old_way: u64, hop: NextHop, epoch: u32) {
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            if atomic::cas64(&raw mut (*slot).way, old_way, hop.way) == old_way {
                atomic::store(&raw mut (*slot).mtu, hop.mtu);
                atomic::store(&raw mut (*slot).epoch, Tag::stamp(tag, epoch));
            }
        }
    }
}

/// True when a time stamp lies in the past. Jiffies wrap; differences are signed.
#[inline(always)]
pub fn has_lapsed(expires: u32, now: u32) -> bool {
    (expires.wrapping_sub(now) as i32) < 0
}
