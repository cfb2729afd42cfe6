//! Maglev hashing (`Linux net/netfilter/ipvs/ip_vs_mh.c`; Eisenbud and others, "Maglev: A Fast and
//! Reliable Software Network Load Balancer", 2016): the client's address says which server, and a
//! change of servers moves few clients.
//!
//! Servers take turns, more of them for more weight, to claim slots in an order of their own until all
//! [`SLOTS`] are taken. A server keeps the slots of its last weight above zero while it is quiesced, so
//! that nobody else's clients move; it refuses those that fall on it, as it does while it is
//! overloaded. With `mh-fallback` others are tried in an order that depends on the client. With
//! `mh-port` the client's port is hashed too.

use crate::atomic;
use crate::host::Tables;
use crate::layout::{
    MAX_SERVERS_PER_SERVICE, SERVICE_FALLBACK, SERVICE_PORT, Schedule, ServiceRecord,
};
use crate::mask::masked;
use crate::sched::{Asked, NO_SERVER, buckets, is_usable};
use crate::siphash::siphash13;

/// Slots of the table: a prime, the kernel's default (`CONFIG_IP_VS_MH_TAB_INDEX` 12).
pub const SLOTS: u32 = 4093;
const KEY_1: u64 = 2_654_435_761;
const KEY_2: u64 = 2_654_446_892;

/// Fallbacks tried in one call of [`try_others`]: the verifier follows each turn of a loop.
pub const TRIES: u32 = 64;

/// The server of the client's slot, or another one.
#[inline(always)]
pub(crate) fn choose<T: Tables>(
    tables: &T,
    service: *const ServiceRecord,
    schedule: Schedule,
) -> Option<u32> {
    // SAFETY: service records live as long as the maps.
    let flags = unsafe { atomic::load(&raw const (*service).flags) };
    let hashed = Asked::of(tables)?.hashed(flags & SERVICE_PORT != 0);
    let server = buckets::server(tables, schedule, slot(hashed))?;
    if is_usable(tables, server)? {
        return Some(server);
    }
    // Without a look at the servers first, each refusal would cost thousands of tries.
    if flags & SERVICE_FALLBACK == 0 || !tables.any_usable_apart(schedule) {
        return None;
    }
    for i in 0..SLOTS.div_ceil(TRIES) {
        let other = tables.try_others_apart(schedule, hashed, i * TRIES);
        if other != NO_SERVER {
            return Some(other);
        }
    }
    None
}

/// Whether any server of the table may take a connection.
#[inline(always)]
pub fn any_usable<T: Tables>(tables: &T, schedule: Schedule) -> bool {
    let servers = tables.schedule_word(schedule.offset()).unwrap_or(0);
    for number in 0..MAX_SERVERS_PER_SERVICE {
        if u64::from(number) >= servers {
            break;
        }
        let Some(server) = buckets::numbered(tables, schedule, number) else {
            break;
        };
        match is_usable(tables, server) {
            Some(true) => return true,
            Some(false) => {}
            None => break,
        }
    }
    false
}

/// The fallbacks from number `begin` on of a client hashed as `hashed`: the first usable server, or
/// [`NO_SERVER`].
#[inline(always)]
pub fn try_others<T: Tables>(tables: &T, schedule: Schedule, hashed: u32, begin: u32) -> u32 {
    let first = slot(hashed);
    for i in 0..TRIES {
        // Masked, or the compiler would count by `k`, of which the verifier knows no bound.
        let k = begin.wrapping_add(masked::<{ TRIES - 1 }>(i as usize) as u32);
        if k >= SLOTS {
            break;
        }
        let offset = (k + first) % SLOTS;
        let slot = slot(hashed.wrapping_add(offset));
        let Some(server) = buckets::server(tables, schedule, slot) else {
            break;
        };
        match is_usable(tables, server) {
            Some(true) => return server,
            Some(false) => {}
            None => break,
        }
    }
    NO_SERVER
}

#[inline(always)]
const fn slot(value: u32) -> u32 {
    hash(value, KEY_1) % SLOTS
}

#[inline(always)]
const fn hash(value: u32, key: u64) -> u32 {
    siphash13(value, [key, key]) as u32
}

/// The order in which a server wants slots: the first, and how many further on each next one is.
/// `identity` is its address, folded, plus its port, both in host order.
pub const fn preference(identity: u32) -> (u32, u32) {
    (slot(identity), hash(identity, KEY_2) % (SLOTS - 1) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values the kernel gave.
    #[test]
    fn slots_and_preferences_are_the_kernels() {
        assert_eq!(hash(0, KEY_1), 0x1d5a_77c2);
        assert_eq!(hash(1, KEY_1), 0x16ec_66b2);
        assert_eq!(hash(0, KEY_2), 0xf882_433f);
        for (hashed, expected) in [
            (0, 2495),
            (1, 979),
            (0xc633_6402, 940),
            (0xc634_0042, 2070),
            (0x200d_0dba, 2334),
        ] {
            assert_eq!(slot(hashed), expected, "{hashed:#x}");
        }
        // 10.0.0.11 to .13, port 80.
        assert_eq!(preference(0x0a00_005b), (4032, 1541));
        assert_eq!(preference(0x0a00_005c), (870, 874));
        assert_eq!(preference(0x0a00_005d), (2586, 2286));
    }
}
