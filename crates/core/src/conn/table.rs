//! Finding, claiming and freeing slots without locks.
//!
//! A connection may lie in two sets, each of eight neighbouring slots. It is put into the first set
//! while that has a free slot, so that most packets miss the cache once. All changes of ownership
//! are compare-and-swaps on the tag.

use crate::atomic;
use crate::conn::slot::{
    FLAG_INACTIVE, Hints, NO_PARTNER, Set, Slot, Status, Tag, Word, has_lapsed,
};
use crate::conn::{Hash, Key};
use crate::host::Tables;
use crate::layout::{EVICTIONS, WAYS};
use crate::mask::less;
use crate::overload;
use crate::proto;

/// A slot that held the wanted key.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The slot.
    pub slot: *mut Slot,
    /// Its index in the table.
    pub index: u32,
    /// Its tag when it matched. If the tag is another after reading, the reading is void.
    pub tag: u64,
}

/// Index that stands for no slot.
pub const NO_SLOT: u32 = u32::MAX;

/// The slot with an index, with its present tag; `None` beyond the table.
#[inline(always)]
pub fn slot<T: Tables>(tables: &T, index: u32) -> Option<Found> {
    let slots = tables.set(index / WAYS)?.cast::<Slot>();
    // SAFETY: masked to the set.
    unsafe {
        let slot = slots.add((index & (WAYS - 1)) as usize);
        Some(Found {
            slot,
            index,
            tag: atomic::load(&raw const (*slot).tag),
        })
    }
}

/// The slot where a key is looked for first.
#[inline(always)]
pub fn preferred<T: Tables>(tables: &T, hash: Hash) -> u32 {
    hash.first_set(tables.set_mask()) * WAYS + hash.first_way()
}

/// The slot after this one, in the same set: where [`free`] looks next.
#[inline(always)]
pub fn beside(index: u32) -> u32 {
    index & !(WAYS - 1) | (index + 1) & (WAYS - 1)
}

/// Looks a key up. A slot that lapsed counts as absent.
///
/// One miss where the key lies in the way it prefers; otherwise [`lookup`] goes on.
#[inline(always)]
pub fn find<T: Tables>(tables: &T, hash: Hash, key: &Key, now: u32) -> Option<Found> {
    match check(tables, preferred(tables, hash), hash, key, now) {
        Some(found) => Some(found),
        None => match lookup(tables, hash, key, now, NO_SLOT) {
            NO_SLOT => None,
            // Under a tag of its own: the slot may have been reused since.
            index => check(tables, index, hash, key, now),
        },
    }
}

/// As [`search`], which most new connections are spared: no hint points to what is not there.
#[inline(always)]
pub fn lookup<T: Tables>(tables: &T, hash: Hash, key: &Key, now: u32, but: u32) -> u32 {
    match nearby(tables, hash) {
        Some(hints) if hints.point(hash, but) => tables.search_apart(hash, key, now, but),
        _ => NO_SLOT,
    }
}

/// The hints of the two sets of a hash.
#[derive(Clone, Copy, Debug)]
pub struct Nearby {
    /// Those of the first set, then those of the second, half a set each.
    pub hints: [u64; 4],
    /// The first slot of each.
    halves: [u32; 4],
}

/// Reads the hints of a hash's two sets.
#[inline(always)]
pub fn nearby<T: Tables>(tables: &T, hash: Hash) -> Option<Nearby> {
    let mask = tables.set_mask();
    let [first, second] = [hash.first_set(mask), hash.second_set(mask)];
    // SAFETY: hints live as long as the maps.
    let [[a, b], [c, d]] = unsafe {
        let half = |hints: *const Hints, i| atomic::load(hints.cast::<u64>().add(i));
        let hints = tables.hints(first)?;
        let one = [half(hints, 0), half(hints, 1)];
        let hints = tables.hints(second)?;
        [one, [half(hints, 0), half(hints, 1)]]
    };
    let [first, second] = [first * WAYS, second * WAYS];
    Some(Nearby {
        hints: [a, b, c, d],
        halves: [first, first + 4, second, second + 4],
    })
}

impl Nearby {
    /// Whether a hint points to where the hash may be, anywhere but in the slot `but`. Without a branch for each.
    #[inline(always)]
    pub fn point(&self, hash: Hash, but: u32) -> bool {
        const LOWEST: u64 = 0x0001_0001_0001_0001;
        let mut found = 0;
        for (mut lanes, half) in self.hints.into_iter().zip(self.halves) {
            if but != NO_SLOT {
                let here = less(but & !3 ^ half, 1);
                // No hint is 0.
                lanes &= !(u64::from(here * 0xffff) << ((but & 3) * 16));
            }
            // A lane that is alike becomes 0, and the first such lane borrows.
            let differ = lanes ^ u64::from(hash.hint()).wrapping_mul(LOWEST);
            found |= differ.wrapping_sub(LOWEST) & !differ & LOWEST << 15;
        }
        found != 0
    }

    /// Whether nobody else has put the same connection into these sets: all hints but that of the slot `mine` are as
    /// they were `then`, when none was alike; or there are none, and zeros stand for a time when one was.
    #[inline(always)]
    pub fn are_as(&self, then: [u64; 4], mine: u32) -> bool {
        let lane = 0xffff << ((mine & 3) * 16);
        let mut differ = 0;
        for ((now, then), half) in self.hints.into_iter().zip(then).zip(self.halves) {
            let kept = if half == mine & !3 { !lane } else { u64::MAX };
            differ |= (now ^ then) & kept;
        }
        differ == 0
    }
}

/// Looks for a key wherever the hints of its two sets point, passing over the slot `but`; its index or
/// [`NO_SLOT`].
#[inline(always)]
pub fn search<T: Tables>(tables: &T, hash: Hash, key: &Key, now: u32, but: u32) -> u32 {
    let mask = tables.set_mask();
    for i in 0..2 {
        let set = if i == 0 {
            hash.first_set(mask)
        } else {
            hash.second_set(mask)
        };
        let Some(hints) = tables.hints(set) else {
            return NO_SLOT;
        };
        for half in 0..2 {
            // SAFETY: half is below 2.
            let mut lanes = unsafe { atomic::load(hints.cast::<u64>().add(half as usize)) };
            for way in 0..4 {
                let index = set * WAYS + half * 4 + way;
                if lanes as u16 == hash.hint()
                    && index != but
                    && check(tables, index, hash, key, now).is_some()
                {
                    return index;
                }
                lanes >>= 16;
            }
        }
    }
    NO_SLOT
}

/// Whether [`search`] comes to the slot `a` of a hash before `b`.
#[inline(always)]
pub(crate) fn precedes<T: Tables>(tables: &T, hash: Hash, a: u32, b: u32) -> bool {
    let first = hash.first_set(tables.set_mask());
    let [set_a, set_b] = [a / WAYS, b / WAYS];
    if set_a == set_b {
        a < b
    } else {
        set_a == first
    }
}

/// Whether a slot holds a key, and has not lapsed.
#[inline(always)]
pub fn check<T: Tables>(tables: &T, index: u32, hash: Hash, key: &Key, now: u32) -> Option<Found> {
    let found = slot(tables, index)?;
    if !Tag::matches(found.tag, hash.fingerprint()) {
        return None;
    }
    // SAFETY: found slots lie in the table.
    let (same, expires) = unsafe {
        (
            Slot::key(found.slot) == *key,
            atomic::load(&raw const (*found.slot).expires),
        )
    };
    (same && (!has_lapsed(expires, now) || lives_on(tables, &found, now))).then_some(found)
}

/// What keeps a slot whose own time is over: its other direction, or its children.
#[inline(always)]
fn lives_on<T: Tables>(tables: &T, of: &Found, now: u32) -> bool {
    has_children(tables, of) || partner_lives(tables, of, now)
}

/// Whether connections refer to a slot as their parent.
#[inline(always)]
pub fn has_children<T: Tables>(tables: &T, of: &Found) -> bool {
    // SAFETY: found slots lie in the table, their controls beside it.
    unsafe {
        Word(atomic::load(&raw const (*of.slot).word)).is_parent()
            && tables
                .control(of.index)
                .is_some_and(|control| atomic::load(&raw const (*control).children) as i32 > 0)
    }
}

/// A direction without traffic lives as long as the other one does.
#[inline(always)]
fn partner_lives<T: Tables>(tables: &T, of: &Found, now: u32) -> bool {
    match partner(tables, of.slot, of.index) {
        // SAFETY: partner() returns pointers into the table.
        Some(other) => !has_lapsed(
            unsafe { atomic::load(&raw const (*other.slot).expires) },
            now,
        ),
        None => false,
    }
}

/// The slot of the other direction, if it still belongs to this connection: both name each other.
#[inline(always)]
pub fn partner<T: Tables>(tables: &T, of: *const Slot, index: u32) -> Option<Found> {
    // SAFETY: the caller's slot lies in the table.
    let other = unsafe { atomic::load(&raw const (*of).partner) };
    if other == NO_PARTNER {
        return None;
    }
    let other = slot(tables, other)?;
    // SAFETY: found slots lie in the table.
    let back = unsafe { atomic::load(&raw const (*other.slot).partner) };
    (Tag::status(other.tag) == Status::Ready && back == index).then_some(other)
}

/// As [`claim`], which is spared where the way that the key prefers is free: the claimed slot.
#[inline(always)]
pub fn take_place<T: Tables>(tables: &T, hash: Hash, now: u32) -> Option<Found> {
    match slot(tables, preferred(tables, hash)) {
        Some(found) if Tag::status(found.tag) == Status::Empty && claim_of(&found) => Some(Found {
            tag: Tag::claimed(found.tag),
            ..found
        }),
        // Beyond the table lies what is no slot.
        _ => slot(tables, tables.claim_apart(hash, now)),
    }
}

/// Takes a slot for a new key: a free or lapsed one of the first set, then of the second; else the
/// half-open, closing or UDP connection of either set, in this order, that lapses first. [`NO_SLOT`] when every slot
/// holds an established connection. What was there is removed with its other direction.
///
/// The slot is the caller's alone until it is published or released.
#[inline(always)]
pub fn claim<T: Tables>(tables: &T, hash: Hash, now: u32) -> u32 {
    let mask = tables.set_mask();
    let sets = [hash.first_set(mask), hash.second_set(mask)];
    for i in 0..2 {
        let set = if i == 0 { sets[0] } else { sets[1] };
        // Somebody else may be faster, once.
        for _ in 0..2 {
            let index = tables.free_apart(set, hash.first_way(), now);
            if index == NO_SLOT {
                break;
            }
            if tables.take_apart(index) {
                return index;
            }
        }
    }
    let best = tables.evictable_apart(sets[0], now);
    let second = tables.evictable_apart(sets[1], now);
    // The first set comes first where they are alike.
    let (set, best) = if second >> WAY_BITS < best >> WAY_BITS {
        (sets[1], second)
    } else {
        (sets[0], best)
    };
    if best >> RANK_SHIFT >= u64::from(proto::UDP_RANK) {
        return NO_SLOT;
    }
    let index = set * WAYS + (best as u32 & (WAYS - 1));
    if !tables.take_apart(index) {
        return NO_SLOT;
    }
    tables.count(EVICTIONS);
    index
}

/// A free or lapsed slot of a set, looked for from way `first` on, or [`NO_SLOT`].
#[inline(always)]
pub fn free<T: Tables>(tables: &T, set: u32, first: u32, now: u32) -> u32 {
    for i in 0..WAYS {
        let index = set * WAYS + ((first + i) & (WAYS - 1));
        let Some(found) = slot(tables, index) else {
            return NO_SLOT;
        };
        let free = match Tag::status(found.tag) {
            Status::Empty => true,
            Status::Claimed => false,
            Status::Ready => {
                // SAFETY: found slots lie in the table.
                has_lapsed(
                    unsafe { atomic::load(&raw const (*found.slot).expires) },
                    now,
                ) && !lives_on(tables, &found, now)
            }
        };
        if free {
            return index;
        }
    }
    NO_SLOT
}

// What [`evictable`] returns: the rank, then the time left (at most 2^31 jiffies), then the way, in one
// number to take the least of.
const WAY_BITS: u32 = 8;
const RANK_SHIFT: u32 = 40;
/// Rank of what is not evicted.
const NEVER: u64 = 0xff;

/// What of a set is evicted first.
#[inline(always)]
pub fn evictable<T: Tables>(tables: &T, set: u32, now: u32) -> u64 {
    let mut best = u64::MAX;
    for way in 0..WAYS {
        let Some(found) = slot(tables, set * WAYS + way) else {
            return u64::MAX;
        };
        // SAFETY: found slots lie in the table.
        let (word, expires) = unsafe {
            (
                Word(atomic::load(&raw const (*found.slot).word)),
                atomic::load(&raw const (*found.slot).expires),
            )
        };
        // Rank 0, never, becomes the largest.
        let mut rank = u64::from(proto::eviction_rank(word.proto(), word.state()).wrapping_sub(1));
        if has_children(tables, &found) {
            rank = NEVER;
        }
        let left = u64::from(expires.wrapping_sub(now) & 0x7fff_ffff);
        let candidate = rank << RANK_SHIFT | left << WAY_BITS | u64::from(way);
        if candidate < best {
            best = candidate;
        }
    }
    best
}

/// Takes a slot over, whatever it holds; false when somebody else was faster.
#[inline(always)]
pub fn take<T: Tables>(tables: &T, index: u32) -> bool {
    let Some(found) = slot(tables, index) else {
        return false;
    };
    if Tag::status(found.tag) == Status::Claimed || !claim_of(&found) {
        return false;
    }
    if Tag::status(found.tag) == Status::Ready {
        clear_out(tables, &found);
    }
    true
}

/// Claims a slot that still has the tag it was found with.
#[inline(always)]
fn claim_of(found: &Found) -> bool {
    // SAFETY: found slots lie in the table.
    unsafe {
        let tag = &raw mut (*found.slot).tag;
        atomic::cas64(tag, found.tag, Tag::claimed(found.tag)) == found.tag
    }
}

/// Settles what a slot held that was just claimed, and removes the other direction. While the claim
/// lasts, nobody else can be the partner of this slot.
#[inline(always)]
fn clear_out<T: Tables>(tables: &T, claimed: &Found) {
    let other = settle(tables, claimed);
    if other != NO_PARTNER
        && let Some(other) = slot(tables, other)
        && Tag::status(other.tag) == Status::Ready
        // SAFETY: found slots lie in the table; the tag says whether this was the present owner's.
        && unsafe { atomic::load(&raw const (*other.slot).partner) } == claimed.index
        && claim_of(&other)
    {
        settle(tables, &other);
        release(other.slot);
    }
}

/// Makes a claimed and filled slot visible; its tag.
#[inline(always)]
pub(crate) fn publish<T: Tables>(tables: &T, claimed: &Found, hash: Hash) -> u64 {
    if let Some(hints) = tables.hints(claimed.index / WAYS) {
        // SAFETY: the lane is one of eight.
        unsafe {
            let lane = hints
                .cast::<u16>()
                .add((claimed.index & (WAYS - 1)) as usize);
            atomic::store(lane, hash.hint());
        }
    }
    let tag = Tag::ready(claimed.tag, hash.fingerprint());
    // SAFETY: the caller claimed the slot; the exchange orders contents and hint before the tag.
    unsafe { atomic::swap64(&raw mut (*claimed.slot).tag, tag) };
    tag
}

/// Gives a claimed slot back unused.
#[inline(always)]
pub(crate) fn release(slot: *mut Slot) {
    // SAFETY: the caller claimed the slot.
    unsafe {
        let tag = atomic::load(&raw const (*slot).tag);
        atomic::swap64(&raw mut (*slot).tag, Tag::empty(tag));
    }
}

/// Removes the connection that a slot held under this tag, both directions. False when somebody else
/// was first.
#[inline(always)]
pub fn kill<T: Tables>(tables: &T, index: u32, tag: u64) -> bool {
    let Some(found) = slot(tables, index) else {
        return false;
    };
    let found = Found { tag, ..found };
    if Tag::status(tag) != Status::Ready || !claim_of(&found) {
        return false;
    }
    clear_out(tables, &found);
    release(found.slot);
    true
}

/// Takes the connection of a slot that was just claimed off its server's counts, if the slot is the
/// request's; index of the other direction. A state change that comes later finds the word gone.
#[inline(always)]
fn settle<T: Tables>(tables: &T, claimed: &Found) -> u32 {
    // SAFETY: found slots lie in the table, server records live as long as the maps.
    unsafe {
        let word = Word(atomic::swap32(&raw mut (*claimed.slot).word, 0));
        let index = atomic::load(&raw const (*claimed.slot).server);
        if let Some(server) = tables.server(index)
            && !word.is_reply()
        {
            let count = if word.is_template() {
                &raw mut (*server).persistent
            } else if word.flags() & FLAG_INACTIVE != 0 {
                &raw mut (*server).inactive
            } else {
                &raw mut (*server).active
            };
            atomic::add32(count, 1u32.wrapping_neg());
            overload::update(tables, index, server);
        }
        if word.is_child() {
            leave_parent(tables, claimed.index);
        }
        atomic::load(&raw const (*claimed.slot).partner)
    }
}

/// The parent of a slot, if it still is the connection it was.
#[inline(always)]
pub fn parent<T: Tables>(tables: &T, index: u32) -> Option<Found> {
    let own = slot(tables, index)?;
    // SAFETY: found slots lie in the table.
    let word = Word(unsafe { atomic::load(&raw const (*own.slot).word) });
    if !word.is_child() {
        return None;
    }
    named_parent(tables, index)
}

/// The parent that the control of a child names.
#[inline(always)]
fn named_parent<T: Tables>(tables: &T, index: u32) -> Option<Found> {
    let control = tables.control(index)?;
    // SAFETY: controls lie beside the table.
    let (parent, parent_use) = unsafe {
        (
            atomic::load(&raw const (*control).parent),
            atomic::load(&raw const (*control).parent_use),
        )
    };
    if parent_use == 0 {
        return None;
    }
    let parent = slot(tables, parent)?;
    (Tag::use_count(parent.tag) == parent_use && Tag::status(parent.tag) == Status::Ready)
        .then_some(parent)
}

/// One child less for the parent of a child that is being freed.
#[inline(always)]
pub(crate) fn leave_parent<T: Tables>(tables: &T, index: u32) {
    if let Some(parent) = named_parent(tables, index)
        && let Some(control) = tables.control(parent.index)
    {
        // SAFETY: controls lie beside the table.
        unsafe { atomic::add32(&raw mut (*control).children, 1u32.wrapping_neg()) };
    }
    if let Some(control) = tables.control(index) {
        // SAFETY: as above; the slot is claimed.
        unsafe { atomic::store(&raw mut (*control).parent_use, 0) };
    }
}

const _: () = assert!(size_of::<Set>() == 64 * WAYS as usize);
