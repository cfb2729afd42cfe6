//! What each packet does to its connection: state, life, counters.

use crate::atomic;
use crate::conn::{self, FLAG_INACTIVE, FLAG_NO_OUTPUT, NO_PARTNER, Slot, Word};
use crate::host::Tables;
use crate::layout::{Runtime, Stats};
use crate::mask::masked;
use crate::proto::{self, tcp};
use crate::wire::ipv4;

/// Follows the state machine; returns the state after this packet.
///
/// The request's slot holds the truth, the reply's a copy: each packet compares with its own slot,
/// and only one that changes something touches the other.
#[inline(always)]
pub fn follow<T: Tables>(tables: &T, index: u32, word: Word, tcp_flags: u8) -> u8 {
    let next = next(word, tcp_flags);
    let first_reply = word.is_reply() && word.flags() & FLAG_NO_OUTPUT != 0;
    if next == word.state() && !first_reply {
        return next;
    }
    tables.change_apart(index, tcp_flags)
}

#[inline(always)]
fn next(word: Word, tcp_flags: u8) -> u8 {
    if word.proto() == ipv4::TCP {
        tcp::next(word.direction(), tcp_flags, word.state())
    } else {
        word.state()
    }
}

/// Moves a connection to its next state, settles its server's counts, and brings the reply's copy up
/// to date. `index` is the slot of the packet's own direction.
#[inline(always)]
pub fn change<T: Tables>(tables: &T, index: u32, tcp_flags: u8) -> u8 {
    let Some(own) = conn::slot(tables, index) else {
        return tcp::NONE;
    };
    // SAFETY: slots found by index lie in the table.
    unsafe {
        let own_word = Word(atomic::load(&raw const (*own.slot).word));
        let other = atomic::load(&raw const (*own.slot).partner);
        let other = conn::slot(tables, other);
        let reply = own_word.is_reply();
        let (truth, copy) = if reply {
            match other {
                Some(request) => (request.slot, own.slot),
                None => return own_word.state(),
            }
        } else {
            (
                own.slot,
                other.map_or(core::ptr::null_mut(), |reply| reply.slot),
            )
        };
        for _ in 0..3 {
            let old = Word(atomic::load(&raw const (*truth).word));
            let direction = if reply {
                tcp::Direction::Reply
            } else {
                old.direction()
            };
            let state = if old.proto() == ipv4::TCP {
                tcp::next(direction, tcp_flags, old.state())
            } else {
                old.state()
            };
            let mut flags = old.flags() & !FLAG_INACTIVE;
            if reply {
                flags &= !FLAG_NO_OUTPUT;
            }
            if !proto::is_active(old.proto(), state) {
                flags |= FLAG_INACTIVE;
            }
            if atomic::cas32(&raw mut (*truth).word, old.0, old.with(flags, state).0) != old.0 {
                continue;
            }
            if (old.flags() ^ flags) & FLAG_INACTIVE != 0
                && let Some(server) = tables.server(atomic::load(&raw const (*truth).server))
            {
                let step = if flags & FLAG_INACTIVE != 0 {
                    1u32.wrapping_neg()
                } else {
                    1
                };
                atomic::add32(&raw mut (*server).active, step);
                atomic::add32(&raw mut (*server).inactive, step.wrapping_neg());
            }
            if !copy.is_null() {
                let reply = Word(atomic::load(&raw const (*copy).word));
                let flags = reply.flags() & !FLAG_NO_OUTPUT | flags & FLAG_NO_OUTPUT;
                atomic::store(&raw mut (*copy).word, reply.with(flags, state).0);
            }
            return state;
        }
        // Lost the race each time: others are moving it on.
        Word(atomic::load(&raw const (*truth).word)).state()
    }
}

/// Life of a connection in this state, in jiffies.
#[inline(always)]
pub fn timeout(runtime: *const Runtime, proto: u8, state: u8) -> u32 {
    let index = masked::<31>(proto::timeout_index(proto, state));
    // SAFETY: the runtime record lives as long as the maps and has 32 timeouts.
    unsafe { atomic::load((&raw const (*runtime).timeouts).cast::<u32>().add(index)) }
}

/// Restarts the timer. A stamp is written only when it moved by a quarter of a second or so, and the
/// other direction is told only now and then (a sixteenth of the timeout) or when the state changed.
#[inline(always)]
pub fn refresh<T: Tables>(tables: &T, slot: *mut Slot, changed: bool, timeout: u32, now: u32) {
    const NEAR: u32 = 64;
    let expires = now.wrapping_add(timeout);
    // SAFETY: the slot lies in the table.
    unsafe {
        let old = atomic::load(&raw const (*slot).expires);
        if expires.wrapping_sub(old).wrapping_add(NEAR) > 2 * NEAR || changed {
            atomic::store(&raw mut (*slot).expires, expires);
        }
        if atomic::load(&raw const (*slot).partner) == NO_PARTNER {
            return;
        }
        let since = ((now >> 4) as u16).wrapping_sub(atomic::load(&raw const (*slot).shared_at));
        if changed || u32::from(since) > timeout >> 8 {
            atomic::store(&raw mut (*slot).shared_at, (now >> 4) as u16);
            if let Some(other) = conn::partner(tables, slot) {
                atomic::store(&raw mut (*other.slot).expires, expires);
            }
        }
    }
}

/// Counts a packet on this CPU.
#[inline(always)]
pub fn count(stats: *mut Stats, reply: bool, bytes: u32) {
    // SAFETY: the counters are this CPU's alone while it runs the program.
    unsafe {
        let (packets, total) = if reply {
            (&raw mut (*stats).out_packets, &raw mut (*stats).out_bytes)
        } else {
            (&raw mut (*stats).in_packets, &raw mut (*stats).in_bytes)
        };
        *packets = (*packets).wrapping_add(1);
        *total = (*total).wrapping_add(u64::from(bytes));
    }
}
