//! The tables of dh, sh and mh: a fixed number of slots, each of which belongs to a server.
//!
//! A slot holds a number of ten bits, six of them a word; after the slots come the servers that the
//! numbers stand for, two a word. So the 4,093 slots of mh take 683 words and not 4,093, and fit with
//! up to 680 servers into 1,024.
//!
//! ```text
//! word 0           how many servers
//! slots ÷ 6        numbers of servers, ten bits each
//! servers ÷ 2      indices of servers, 32 bits each
//! ```

use crate::host::Tables;
use crate::layout::{MAX_SERVERS_PER_SERVICE, Schedule};

/// Bits of a server's number.
const BITS: u32 = 10;
/// Slots in a word.
const IN_WORD: u32 = u64::BITS / BITS;
const _: () = assert!(MAX_SERVERS_PER_SERVICE <= 1 << BITS);

/// Words of a table.
pub const fn words(slots: u32, servers: u32) -> u32 {
    list(slots) + servers.div_ceil(2)
}

/// The word the servers begin at.
#[inline(always)]
const fn list(slots: u32) -> u32 {
    1 + slots.div_ceil(IN_WORD)
}

/// The server that a slot belongs to; a table has no slots without server.
#[inline(always)]
pub(crate) fn server<T: Tables>(tables: &T, schedule: Schedule, slot: u32) -> Option<u32> {
    let word = tables.schedule_word(schedule.offset() + 1 + slot / IN_WORD)?;
    let number = (word >> (slot % IN_WORD * BITS)) as u32 & ((1 << BITS) - 1);
    numbered(tables, schedule, number)
}

/// The server with a number.
#[inline(always)]
pub(crate) fn numbered<T: Tables>(tables: &T, schedule: Schedule, number: u32) -> Option<u32> {
    let word = tables.schedule_word(schedule.offset() + list(schedule.len()) + number / 2)?;
    Some((word >> (number % 2 * 32)) as u32)
}

/// A slot's part of its word: which word after the first, and the bits of `number` in it.
pub const fn slot(slot: u32, number: u16) -> (u32, u64) {
    (
        1 + slot / IN_WORD,
        (number as u64) << (slot % IN_WORD * BITS),
    )
}

/// A server's part of its word in a table of `slots` slots: which word, and the bits of its index.
pub const fn listed(slots: u32, number: u32, server: u32) -> (u32, u64) {
    (
        list(slots) + number / 2,
        (server as u64) << (number % 2 * 32),
    )
}
