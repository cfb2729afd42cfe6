//! Local addresses and ports of FULLNAT: what a real server sees as its client.
//!
//! A port is free while no reply's slot has it: the connection table itself says so, and the port is
//! taken by publishing that slot. So a local address has all of its ports to each server and port, and
//! one rests as long as the connection does, in TIME_WAIT too.
//!
//! Addresses and ports are gone through in an order of each server's own, one after the other: the
//! next one has been free for the longest time.

use crate::atomic;
use crate::conn::{self, Key, NO_SLOT};
use crate::connect;
use crate::drop::Drop;
use crate::host::Tables;
use crate::layout::{SERVER_IPV6, ServerRecord, Wanted};
use crate::open::REFUSED;
use crate::proto;

/// Ports of a local address that are used.
pub const PORTS: u32 = 60_000;
/// The first of them; the last is 65,535.
pub const FIRST_PORT: u32 = 65_536 - PORTS;

/// Ports that are tried before a connection is refused.
const TRIES: u32 = 128;
/// The same, while none was to be found a moment ago.
const FEW: u32 = 8;

/// Where a service's local addresses lie among the words of the scheduling tables, as one word, so that a
/// packet sees the old ones or the new: offset in bits 0..32, number of IPv4 addresses in bits 32..48, of
/// IPv6 addresses in bits 48..64. Each is a word: IPv4 addresses, then places of IPv6 addresses among
/// [`Tables::wide_local`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool(pub u64);

impl Pool {
    /// `v4` IPv4 addresses and `v6` IPv6 addresses from word `offset` on.
    pub const fn new(offset: u32, v4: u16, v6: u16) -> Self {
        Self(offset as u64 | (v4 as u64) << 32 | (v6 as u64) << 48)
    }

    /// First word.
    #[inline(always)]
    pub const fn offset(self) -> u32 {
        self.0 as u32
    }

    /// IPv4 addresses.
    #[inline(always)]
    pub const fn v4(self) -> u32 {
        (self.0 >> 32) as u32 & 0xffff
    }

    /// IPv6 addresses.
    #[inline(always)]
    pub const fn v6(self) -> u32 {
        (self.0 >> 48) as u32
    }

    /// Words it takes.
    pub const fn words(self) -> u32 {
        self.v4() + self.v6()
    }

    /// How many there are of a family.
    #[inline(always)]
    const fn of(self, wide: bool) -> u32 {
        if wide { self.v6() } else { self.v4() }
    }
}

/// What [`attempt`] returns for a port that is another connection's.
pub const TAKEN: u32 = 1;

/// Finds a local address and port for the wanted connection to a server, and leaves them in
/// [`Wanted::local`] and [`Wanted::lport`]; they are taken once the reply's slot is published. 0, or as
/// [`crate::open::choose`] refuses.
#[inline(always)]
pub fn pick<T: Tables>(tables: &T, index: u32) -> u32 {
    let Some(server) = tables.server(index) else {
        return REFUSED | Drop::Internal as u32;
    };
    let now = tables.now();
    // Two loops of a fixed length: of one whose length is a choice the verifier sees no end.
    for _ in 0..FEW {
        let done = tables.attempt_apart(index);
        if done != TAKEN {
            return done;
        }
    }
    // SAFETY: server records live as long as the maps.
    if unsafe { atomic::load(&raw const (*server).local_none_at) } != now {
        for _ in FEW..TRIES {
            let done = tables.attempt_apart(index);
            if done != TAKEN {
                return done;
            }
        }
        // SAFETY: as above.
        unsafe { atomic::store(&raw mut (*server).local_none_at, now) };
    }
    REFUSED | Drop::LocalPortsExhausted as u32
}

/// Tries the next local address and port of a server, as [`pick`]; [`TAKEN`] when they are not free.
#[inline(always)]
pub fn attempt<T: Tables>(tables: &T, index: u32) -> u32 {
    let (Some(runtime), Some(wanted), Some(server)) =
        (tables.runtime(), tables.wanted(), tables.server(index))
    else {
        return REFUSED | Drop::Internal as u32;
    };
    // SAFETY: the records live as long as the maps, the wanted one is this CPU's.
    let (seed, pool, wide) = unsafe {
        let Some(service) = tables.service(atomic::load(&raw const (*server).service)) else {
            return REFUSED | Drop::Internal as u32;
        };
        (
            atomic::load(&raw const (*runtime).seed),
            Pool(atomic::load(&raw const (*service).locals)),
            atomic::load(&raw const (*server).flags) & SERVER_IPV6 != 0,
        )
    };
    let count = pool.of(wide);
    if count == 0 {
        return REFUSED | Drop::NoLocalAddress as u32;
    }
    // SAFETY: server records live as long as the maps.
    let turn = unsafe { atomic::add32(&raw mut (*server).local_turn, 1) };
    let (which, port) = place(turn, count, index, seed[0]);
    if !put(tables, wanted, pool, wide, which) {
        return REFUSED | Drop::Internal as u32;
    }
    // SAFETY: as above.
    unsafe {
        atomic::store(&raw mut (*wanted).lport, u32::from((port as u16).to_be()));
        let key = reply_key(wanted, server, seed);
        if conn::lookup(tables, key.hash(seed), &key, tables.now(), NO_SLOT) == NO_SLOT {
            0
        } else {
            TAKEN
        }
    }
}

/// Which address, and which port, is a server's `turn`-th: every pair once before any comes again.
/// Ports of an address follow each other by a step that has no factor in common with their number, so
/// that two servers at one address and port get in each other's way no more than by chance.
#[inline(always)]
fn place(turn: u32, addresses: u32, server: u32, seed: u64) -> (u32, u32) {
    let mut mixed = (u64::from(server) ^ seed).wrapping_mul(0x9fb2_1c65_1e98_df25);
    mixed ^= mixed >> 32;
    // 60,000 is 2^5 · 3 · 5^4.
    let step = (mixed as u32 % (PORTS / 30 - 1)) * 30 + 7;
    let offset = (mixed >> 32) as u32 % PORTS;
    let round = turn / addresses;
    let port = (u64::from(round) * u64::from(step) + u64::from(offset)) % u64::from(PORTS);
    (turn % addresses, FIRST_PORT + port as u32)
}

/// Puts an address of the pool where the connection is made from.
#[inline(always)]
fn put<T: Tables>(tables: &T, wanted: *mut Wanted, pool: Pool, wide: bool, which: u32) -> bool {
    let first = if wide { pool.v4() } else { 0 };
    let Some(word) = tables.schedule_word(pool.offset() + first + which) else {
        return false;
    };
    let word = word as u32;
    // SAFETY: the wanted record is this CPU's, the address lies in the map.
    unsafe {
        let local = &raw mut (*wanted).local;
        if wide {
            let Some(address) = tables.wide_local(word) else {
                return false;
            };
            connect::copy(local, address);
            (*wanted).local_index = word;
        } else {
            atomic::store(&raw mut (*local).0[0], word);
            for i in 1..4 {
                atomic::store(&raw mut (*local).0[i], 0);
            }
        }
    }
    true
}

/// The key of the replies of the wanted connection by FULLNAT.
///
/// # Safety
/// `wanted` is this CPU's record, `server` lives as long as the maps.
#[inline(always)]
pub unsafe fn reply_key(wanted: *const Wanted, server: *const ServerRecord, seed: [u64; 2]) -> Key {
    // SAFETY: passed on to the caller.
    unsafe {
        let class = class((*wanted).flow.key.proto, server);
        let ports = (*wanted).rport & 0xffff | (*wanted).lport << 16;
        Key::of(class, &(*server).rip, &(*wanted).local, ports, seed)
    }
}

/// The class of the replies of a connection of some class, by FULLNAT.
///
/// # Safety
/// `server` lives as long as the maps.
#[inline(always)]
pub unsafe fn class(request: u8, server: *const ServerRecord) -> u8 {
    // SAFETY: passed on to the caller.
    let wide = unsafe { atomic::load(&raw const (*server).flags) } & SERVER_IPV6 != 0;
    request & !proto::WIDE | if wide { proto::WIDE } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_port_of_every_address_comes_once() {
        for (server, addresses) in [(0, 1), (7, 2), (131_071, 3)] {
            let all: HashSet<_> = (0..PORTS * addresses)
                .map(|turn| place(turn, addresses, server, 0x1234_5678_9abc_def0))
                .collect();
            assert_eq!(all.len() as u32, PORTS * addresses);
            assert!(
                all.iter()
                    .all(|(which, port)| *which < addresses && (FIRST_PORT..65_536).contains(port))
            );
        }
    }
}
