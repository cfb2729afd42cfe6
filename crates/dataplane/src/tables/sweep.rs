//! Walking the connection table: removing what lapsed, and what defence or removed servers ask for.

use std::ops::{AddAssign, Range};

use pointsman_core::atomic;
use pointsman_core::conn::{self, Slot, Status, Tag, Word, has_lapsed};
use pointsman_core::host::Tables as _;
use pointsman_core::layout::{SERVER_AVAILABLE, SERVICE_ONE_PACKET, WAYS};
use pointsman_core::proto::{BASE, SCTP, TCP, TEMPLATE, UDP_TIMEOUT};
use pointsman_model::ConnectionState;

use super::connections;
use super::maps::Maps;

/// A parent that outlives its own time for the sake of its children is given so much at a time.
const REARM_SECS: u32 = 60;

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Live connections and templates.
    pub live: u32,
    /// Lapsed connections removed.
    pub lapsed: u32,
}

impl AddAssign for Sweep {
    fn add_assign(&mut self, other: Self) {
        self.live += other.live;
        self.lapsed += other.lapsed;
    }
}

/// Removes what lapsed in some sets; whoever frees a slot takes the connection off its server's counts.
/// Parents go on while they have children.
pub(crate) fn sweep(maps: &Maps, sets: Range<u32>) -> Sweep {
    let now = maps.now();
    let hz = maps.runtime.read(0).map_or(1, |r| r.hz.max(1));
    let mut done = Sweep::default();
    each_of_sets(maps, sets, &mut |index, tag, slot| {
        let word = Word(slot.word);
        if word.is_reply() {
            // A reply without its request goes when its own time is over.
            let orphan = has_lapsed(slot.expires, now) && request_of(maps, index, &slot).is_none();
            if orphan {
                conn::kill(maps, index, tag);
            }
            return;
        }
        // The other direction, in another cache line, is looked at only where it decides.
        if !has_lapsed(slot.expires, now) || left(maps, &slot, now) >= 0 {
            done.live += 1;
        } else if has_children(maps, index) {
            rearm(maps, index, &slot, now, hz);
            done.live += 1;
        } else {
            done.lapsed += u32::from(conn::kill(maps, index, tag));
        }
    });
    done
}

/// Forgets the Call-IDs of templates that are gone.
pub(crate) fn forget_call_ids(maps: &Maps) {
    let mut ids = maps.call_ids.borrow_mut();
    for slot in ids.keys() {
        let stale = |of: u32| {
            conn::slot(maps, slot).is_none_or(|found| {
                Tag::status(found.tag) != Status::Ready || Tag::use_count(found.tag) != of
            })
        };
        if ids.get(&slot).is_some_and(|id| stale(id.template_use)) {
            ids.remove(&slot);
        }
    }
}

/// Removes everything.
pub(crate) fn clear(maps: &Maps) {
    each(maps, |index, tag, slot| {
        if !Word(slot.word).is_reply() {
            conn::kill(maps, index, tag);
        }
    });
    each(maps, |index, tag, _| {
        conn::kill(maps, index, tag);
    });
}

/// Removes the connections of servers that are no longer in their service, and the parents that are
/// left without children by it (`expire_nodest_conn`).
pub(crate) fn expire_nodest(maps: &Maps) -> u32 {
    let mut gone = 0;
    each(maps, |index, tag, slot| {
        let available = maps
            .servers
            .read(slot.server)
            .is_none_or(|server| server.flags & SERVER_AVAILABLE != 0);
        if !available && !Word(slot.word).is_reply() && !has_children(maps, index) {
            gone += remove(maps, index, tag, false);
        }
    });
    gone
}

/// One step of `drop_entry`: looks at a 32nd of the sets, drawn at random, and removes what an
/// attack leaves behind: half-open connections, templates that nothing confirmed, and every second of
/// the other connections without states that were idle for a minute.
///
/// IPVS also removes established connections that were idle for a minute after eight packets at most,
/// and judges all by their packets. Packets of a connection are not counted here, and an idle session
/// must not end for having been silent: established TCP and SCTP stay.
pub(crate) fn drop_entries(maps: &Maps, random: &mut impl FnMut() -> u32) -> u32 {
    let now = maps.now();
    let Some(runtime) = maps.runtime.read(0) else {
        return 0;
    };
    let idle = |slot: &Slot, life: u32| {
        life.wrapping_sub(left(maps, slot, now).max(0) as u32) as i32 >= (60 * runtime.hz) as i32
    };
    let mut gone = 0;
    for _ in 0..(maps.hints.len() / 32).max(1) {
        let set = random() & maps.set_mask();
        each_of_set(maps, set, &mut |index, tag, slot| {
            let word = Word(slot.word);
            if word.is_reply() || has_children(maps, index) {
                return;
            }
            let class = word.proto();
            let goes = if class & TEMPLATE != 0 {
                if is_one_packet(maps, &slot) {
                    let life = maps.controls.read(index).map_or(0, |c| c.timeout);
                    idle(&slot, life) && random() & 1 == 0
                } else {
                    connections::state(word) != ConnectionState::Assured
                }
            } else if matches!(class & BASE, TCP | SCTP) {
                matches!(
                    connections::state(word),
                    ConnectionState::SynRecv
                        | ConnectionState::Synack
                        | ConnectionState::Init1
                        | ConnectionState::Init
                )
            } else {
                idle(&slot, runtime.timeouts[UDP_TIMEOUT]) && random() & 1 == 0
            };
            if goes {
                gone += remove(maps, index, tag, true);
            }
        });
    }
    gone
}

fn is_one_packet(maps: &Maps, slot: &Slot) -> bool {
    maps.servers
        .read(slot.server)
        .and_then(|server| maps.services.read(server.service))
        .is_some_and(|service| service.flags & SERVICE_ONE_PACKET != 0)
}

/// Removes a connection before its time, and its parent if that is left without children; with
/// `spare_assured` not a template that was confirmed. How many went.
fn remove(maps: &Maps, index: u32, tag: u64, spare_assured: bool) -> u32 {
    let parent = conn::parent(maps, index);
    if !conn::kill(maps, index, tag) {
        return 0;
    }
    let Some(parent) = parent.filter(|parent| !conn::has_children(maps, parent)) else {
        return 1;
    };
    // SAFETY: found slots lie in the table.
    let word = Word(unsafe { atomic::load(&raw const (*parent.slot).word) });
    let assured = connections::state(word) == ConnectionState::Assured;
    if spare_assured && assured {
        return 1;
    }
    1 + u32::from(conn::kill(maps, parent.index, parent.tag))
}

fn has_children(maps: &Maps, index: u32) -> bool {
    conn::slot(maps, index).is_some_and(|found| conn::has_children(maps, &found))
}

/// Gives a parent more time. One that was used meanwhile needs none.
fn rearm(maps: &Maps, index: u32, slot: &Slot, now: u32, hz: u32) {
    let Some(found) = conn::slot(maps, index) else {
        return;
    };
    let expires = now.wrapping_add(REARM_SECS * hz);
    // SAFETY: found slots lie in the table, controls live as long as the maps. Should the slot have
    // passed to another connection, its time is another, and the exchange fails.
    unsafe {
        let at = &raw mut (*found.slot).expires;
        if atomic::cas32(at, slot.expires, expires) == slot.expires
            && let Some(control) = maps.controls.at(index)
        {
            atomic::store(&raw mut (*control).timeout, REARM_SECS * hz);
        }
    }
}

/// Every connection of the table, each direction by itself.
pub(crate) fn each(maps: &Maps, mut visit: impl FnMut(u32, u64, Slot)) {
    each_of_sets(maps, 0..maps.hints.len(), &mut visit);
}

fn each_of_sets(maps: &Maps, sets: Range<u32>, visit: &mut impl FnMut(u32, u64, Slot)) {
    for set in sets {
        each_of_set(maps, set, visit);
    }
}

fn each_of_set(maps: &Maps, set: u32, visit: &mut impl FnMut(u32, u64, Slot)) {
    let Some(slots) = maps.connections.at(set) else {
        return;
    };
    for way in 0..WAYS {
        // SAFETY: way is below WAYS; the copy is discarded if the tag changed meanwhile.
        let (tag, slot, after) = unsafe {
            let slot = slots.cast::<Slot>().add(way as usize);
            let tag = (&raw const (*slot).tag).read_volatile();
            if Tag::status(tag) != Status::Ready {
                continue;
            }
            (
                tag,
                slot.read_volatile(),
                (&raw const (*slot).tag).read_volatile(),
            )
        };
        if tag == after {
            visit(set * WAYS + way, tag, slot);
        }
    }
}

/// Jiffies until neither direction has time left; below zero when it is over.
pub(crate) fn left(maps: &Maps, request: &Slot, now: u32) -> i32 {
    let own = request.expires.wrapping_sub(now) as i32;
    let reply = partner_of(maps, request).filter(|other| Word(other.word).is_reply());
    reply.map_or(own, |reply| own.max(reply.expires.wrapping_sub(now) as i32))
}

fn partner_of(maps: &Maps, slot: &Slot) -> Option<Slot> {
    let other = conn::slot(maps, slot.partner)?;
    // SAFETY: found slots lie in the table.
    (Tag::status(other.tag) == Status::Ready).then(|| unsafe { other.slot.read_volatile() })
}

fn request_of(maps: &Maps, index: u32, reply: &Slot) -> Option<Slot> {
    partner_of(maps, reply).filter(|other| other.partner == index)
}
