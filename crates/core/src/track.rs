//! What each packet does to its connection: state, life, counters.

use core::mem::offset_of;

use crate::atomic;
use crate::conn::{self, FLAG_INACTIVE, FLAG_NO_OUTPUT, FLAG_REPLY, Found, NO_PARTNER, Slot, Word};
use crate::host::Tables;
use crate::layout::{Runtime, Stats};
use crate::mask::masked;
use crate::proto::{self, tcp};
use crate::wire::tcp as tcp_wire;

/// What [`change`] returns when the slot passed to another connection meanwhile.
pub const GONE: u8 = u8::MAX;

/// Where the timeout lies of a connection whose packet is one of the many that change nothing: of TCP that is
/// established, acknowledging and no more, which every table leaves where it is, and of UDP, but for the first reply.
///
/// A number that the program knows: who looked it up by what the slot says would have to wait for the slot.
#[inline(always)]
pub(crate) fn settled(word: Word, event: u8) -> Option<usize> {
    const TELLING: u8 = tcp_wire::RST | tcp_wire::SYN | tcp_wire::FIN | tcp_wire::ACK;
    let first_reply = FLAG_REPLY | FLAG_NO_OUTPUT;
    let place = if event & TELLING == tcp_wire::ACK && word.is(proto::TCP, tcp::ESTABLISHED) {
        tcp::ESTABLISHED as usize
    } else if word.is(proto::UDP, proto::UDP_ANSWERED)
        || (word.is(proto::UDP, proto::UDP_NEW) && !word.is_reply())
    {
        proto::UDP_TIMEOUT
    } else {
        return None;
    };
    (word.flags() & first_reply != first_reply).then_some(place)
}

/// Follows the state machine; returns the state after this packet.
///
/// The request's slot holds the truth, the reply's a copy: each packet compares with its own slot,
/// and only one that changes something touches the other.
#[inline(always)]
pub(crate) fn follow<T: Tables>(
    tables: &T,
    runtime: *const Runtime,
    found: &Found,
    word: Word,
    event: u8,
) -> u8 {
    let secure = is_secure(runtime);
    let next = proto::next(word.direction(), word.proto(), event, word.state(), secure);
    let first_reply = word.is_reply() && word.flags() & FLAG_NO_OUTPUT != 0;
    if next == word.state() && !first_reply {
        return next;
    }
    match tables.change_apart(found.index, found.tag, event) {
        GONE => next,
        state => state,
    }
}

/// Whether TCP follows the table for a host under attack.
#[inline(always)]
pub(crate) fn is_secure(runtime: *const Runtime) -> bool {
    // SAFETY: the runtime record lives as long as the maps.
    unsafe { atomic::load(&raw const (*runtime).secure_tcp) != 0 }
}

/// Moves a connection to its next state, settles its server's counts, and brings the reply's copy up
/// to date. `index` is the slot of the packet's own direction, which had `tag`.
#[inline(always)]
pub fn change<T: Tables>(tables: &T, index: u32, tag: u64, event: u8) -> u8 {
    let Some(own) = conn::slot(tables, index) else {
        return GONE;
    };
    // SAFETY: slots found by index lie in the table.
    unsafe {
        let reply = Word(atomic::load(&raw const (*own.slot).word)).is_reply();
        let other = conn::partner(tables, own.slot, index);
        if atomic::load(&raw const (*own.slot).tag) != tag {
            return GONE;
        }
        // Two ways that do not meet: joined, they would copy what only one of them has, which the
        // verifier refuses.
        if reply {
            let Some(request) = other else {
                return GONE;
            };
            let state = move_on(tables, &request, true, event);
            if state != GONE {
                bring_up_to_date(own.slot, request.slot);
            }
            state
        } else {
            let state = move_on(tables, &own, false, event);
            if state != GONE
                && let Some(reply) = other
            {
                bring_up_to_date(reply.slot, own.slot);
            }
            state
        }
    }
}

/// Changes the truth and the counts as one: who frees the slot finds the word as it was or as it is.
///
/// # Safety
/// `truth` lies in the table.
#[inline(always)]
unsafe fn move_on<T: Tables>(tables: &T, truth: &Found, reply: bool, event: u8) -> u8 {
    let Some(runtime) = tables.runtime() else {
        return GONE;
    };
    let secure = is_secure(runtime);
    // SAFETY: passed on to the caller; server records live as long as the maps.
    unsafe {
        for _ in 0..3 {
            let old = Word(atomic::load(&raw const (*truth.slot).word));
            let server = atomic::load(&raw const (*truth.slot).server);
            if atomic::load(&raw const (*truth.slot).tag) != truth.tag {
                return GONE;
            }
            let direction = if reply {
                tcp::Direction::Reply
            } else {
                old.direction()
            };
            let state = proto::next(direction, old.proto(), event, old.state(), secure);
            let mut flags = old.flags() & !FLAG_INACTIVE;
            if reply {
                flags &= !FLAG_NO_OUTPUT;
            }
            if !proto::is_active(old.proto(), state) {
                flags |= FLAG_INACTIVE;
            }
            let word = &raw mut (*truth.slot).word;
            if atomic::cas32(word, old.0, old.with(flags, state).0) != old.0 {
                continue;
            }
            if (old.flags() ^ flags) & FLAG_INACTIVE != 0
                && let Some(server) = tables.server(server)
            {
                let step = if flags & FLAG_INACTIVE != 0 {
                    1u32.wrapping_neg()
                } else {
                    1
                };
                atomic::add32(&raw mut (*server).active, step);
                atomic::add32(&raw mut (*server).inactive, step.wrapping_neg());
            }
            if state != old.state() && proto::assures(old.proto(), state) {
                assure(tables, truth.index);
            }
            let reset = reply && event & tcp_wire::RST != 0;
            handshake(tables, runtime, truth.slot, (old, state), server, reset);
            return state;
        }
        // Lost the race each time: others are moving it on.
        Word(atomic::load(&raw const (*truth.slot).word)).state()
    }
}

/// Counts a handshake of TCP that this packet completed or, being a `reset` of the server's, ended.
///
/// # Safety
/// The slot lies in the table; records live as long as the maps.
#[inline(always)]
unsafe fn handshake<T: Tables>(
    tables: &T,
    runtime: *const Runtime,
    slot: *const Slot,
    (old, state): (Word, u8),
    server: u32,
    reset: bool,
) {
    let answered = state == tcp::ESTABLISHED;
    if proto::base(old.proto()) != proto::TCP
        || !tcp::is_half_open(old.state())
        || !(answered || reset)
    {
        return;
    }
    let Some(stats) = tables.stats(server) else {
        return;
    };
    // SAFETY: passed on to the caller; the counters are this CPU's alone while it runs the program.
    unsafe {
        let counted = &raw mut (*stats).handshakes;
        if answered {
            let life = timeout(runtime, old.proto(), old.state());
            let left = atomic::load(&raw const (*slot).expires).wrapping_sub(tables.now());
            let waited = life.wrapping_sub(left);
            // A life that was changed meanwhile tells nothing.
            if waited <= life {
                (*counted).waited = (*counted).waited.wrapping_add(waited);
            }
            (*counted).answered = (*counted).answered.wrapping_add(1);
            (*counted).begun_then = (*counted).begun;
            (*counted).refused_then = (*counted).refused;
        } else {
            (*counted).refused = (*counted).refused.wrapping_add(1);
        }
    }
}

/// Marks the template of a connection as worth keeping.
///
/// # Safety
/// The slot lies in the table.
#[inline(always)]
unsafe fn assure<T: Tables>(tables: &T, index: u32) {
    if let Some(parent) = conn::parent(tables, index) {
        // SAFETY: passed on to the caller.
        unsafe {
            let word = &raw mut (*parent.slot).word;
            let old = Word(atomic::load(word));
            if old.is_template() {
                atomic::cas32(
                    word,
                    old.0,
                    old.with(old.flags(), proto::TEMPLATE_ASSURED).0,
                );
            }
        }
    }
}

/// Writes the truth's state and flag into the reply's copy.
///
/// # Safety
/// Both lie in the table.
#[inline(always)]
unsafe fn bring_up_to_date(copy: *mut Slot, truth: *mut Slot) {
    // SAFETY: passed on to the caller.
    unsafe {
        for _ in 0..3 {
            // The copy first: whoever writes it later has seen the truth that is read next.
            let old = Word(atomic::load(&raw const (*copy).word));
            let truth = Word(atomic::load(&raw const (*truth).word));
            let flags = old.flags() & !FLAG_NO_OUTPUT | truth.flags() & FLAG_NO_OUTPUT;
            let new = old.with(flags, truth.state());
            if !old.is_reply() || atomic::cas32(&raw mut (*copy).word, old.0, new.0) == old.0 {
                return;
            }
        }
    }
}

/// Life of a connection in this state, in jiffies.
#[inline(always)]
pub(crate) fn timeout(runtime: *const Runtime, proto: u8, state: u8) -> u32 {
    timeout_at(runtime, proto::timeout_index(proto, state))
}

/// The timeout that lies there, in jiffies.
#[inline(always)]
pub(crate) fn timeout_at(runtime: *const Runtime, index: usize) -> u32 {
    let index = masked::<31>(index);
    // SAFETY: the runtime record lives as long as the maps and has 32 timeouts.
    unsafe { atomic::load((&raw const (*runtime).timeouts).cast::<u32>().add(index)) }
}

/// Restarts the timer. A stamp is written only when it moved by a quarter of a second or so, and the
/// other direction is told only now and then (a sixteenth of the timeout) or when the state changed.
#[inline(always)]
pub(crate) fn refresh<T: Tables>(tables: &T, found: &Found, changed: bool, timeout: u32, now: u32) {
    const NEAR: u32 = 64;
    let slot = found.slot;
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
            if let Some(other) = conn::partner(tables, slot, found.index) {
                atomic::store(&raw mut (*other.slot).expires, expires);
            }
        }
    }
}

/// Counts a packet on this CPU.
#[inline(always)]
pub(crate) fn count(stats: *mut Stats, word: Word, bytes: u32) {
    /// From what counts packets of clients to what counts those to them.
    const OUT: usize = offset_of!(Stats, out_packets) - offset_of!(Stats, in_packets);
    const { assert!(OUT == 16 && offset_of!(Stats, out_bytes) - offset_of!(Stats, in_bytes) == OUT) };
    // Without a branch: a multiple of the flag.
    let out = masked::<{ OUT as u32 }>((word.flags() * OUT as u32) as usize);
    // SAFETY: the counters are this CPU's alone while it runs the program, and lie in the record.
    unsafe {
        let stats = stats.byte_add(out);
        let (packets, total) = (&raw mut (*stats).in_packets, &raw mut (*stats).in_bytes);
        *packets = (*packets).wrapping_add(1);
        *total = (*total).wrapping_add(u64::from(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_settled_stays_as_it_is() {
        let mut settled = [0; 2];
        for class in [
            proto::TCP,
            proto::TCP | proto::WIDE,
            proto::UDP,
            proto::UDP | proto::WIDE,
            proto::SCTP,
        ] {
            for state in 0..16 {
                for flags in 0..16 {
                    let word = Word::new(class, flags, state, 0);
                    for event in 0..=u8::MAX {
                        let Some(index) = super::settled(word, event) else {
                            continue;
                        };
                        settled[usize::from(proto::base(class) == proto::UDP)] += 1;
                        for secure in [false, true] {
                            let next = proto::next(word.direction(), class, event, state, secure);
                            assert_eq!(next, state, "{word:?} {event:#x}");
                        }
                        assert!(!word.is_reply() || flags & FLAG_NO_OUTPUT == 0, "{word:?}");
                        assert_eq!(index, proto::timeout_index(class, state), "{word:?}");
                    }
                }
            }
        }
        // Both families, twelve of sixteen flags: of TCP an ACK with any of the four flags that tell nothing; of UDP
        // all events, a reply once there was one.
        assert_eq!(settled, [2 * 12 * 16, 2 * (8 + 12) * 256]);
    }
}
