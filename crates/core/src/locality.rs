//! What lblc and lblcr remember: which servers a service sends the requests for an address to.
//!
//! One table for all services, of entries of one cache line each; an address may be in [`WAYS`] of
//! them. Only who owns an entry
//! changes by compare-and-swap. Its other words are read and written one by one, so several CPUs may mix
//! them up; therefore a member counts only while it is a server of the service (`Found::member`), and
//! the worst that comes of a mix is another choice among that service's servers.
//!
//! A service may have as many entries as the kernel allows one ([`MOST_ENTRIES`]); where
//! all are taken, the one that was not used for longest is given away. User space removes what nobody used for long.

use crate::addr::Address;
use crate::atomic;
use crate::host::Tables;
use crate::layout::{LOCALITIES, SERVER_AVAILABLE};
use crate::sched::Load;

/// Entries in one set.
pub const WAYS: u32 = 8;
/// Most servers of one address.
pub const MEMBERS: u32 = 8;
/// Above so many entries, a service's cache is to shrink.
pub const MAX_ENTRIES: u32 = 16 * 1024;
/// Above so many entries, a service gets no new ones.
pub const MOST_ENTRIES: u32 = MAX_ENTRIES * 3 / 2;

/// [`Entry::owner`] while the entry is written.
const CLAIMED: u32 = u32::MAX;

/// The servers of one address in one service.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Index of the service plus one; 0 while free.
    pub owner: u32,
    /// Jiffies when it was last looked up.
    pub used: u32,
    /// Address that clients ask for.
    pub destination: Address,
    /// Jiffies when its members last changed.
    pub changed: u32,
    _reserved: u32,
    /// Indices of servers plus one, newest first; 0 after the last.
    pub members: [u32; MEMBERS as usize],
}

const _: () = assert!(size_of::<Entry>() == 64);

/// An entry of the packet's service and destination.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found(*mut Entry);

/// A server of an entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    /// Index of the server.
    pub index: u32,
    /// Weight, may be 0.
    pub weight: u32,
    /// Its numbers.
    pub load: Load,
}

/// Destination of the packet, and the index of the first entry it may be in.
#[inline(always)]
fn wanted<T: Tables>(tables: &T, service: u32) -> Option<(Address, u32)> {
    let (wanted, runtime) = (tables.wanted()?, tables.runtime()?);
    // SAFETY: both records live as long as the maps.
    let (to, seed) = unsafe {
        (
            atomic::load(&raw const (*wanted).destination),
            atomic::load(&raw const (*runtime).seed),
        )
    };
    let [a, b, c, d] = to.0.map(u64::from);
    // Keyed, so that nobody outside can aim addresses at one set.
    let mut x = (a | b << 32) ^ seed[0];
    x = x.wrapping_mul(seed[1] | 1);
    x = (x ^ x >> 32 ^ (c | d << 32)).wrapping_mul(seed[0] | 1);
    x = (x ^ x >> 29 ^ u64::from(service)).wrapping_mul(0x9fb2_1c65_1e98_df25);
    Some((to, (x >> 40) as u32 % (LOCALITIES / WAYS) * WAYS))
}

/// What [`find`] and [`add`] return for none.
pub const NO_ENTRY: u32 = u32::MAX;

/// Index of the entry of the packet's destination, which counts as used now, or [`NO_ENTRY`].
#[inline(always)]
pub fn find<T: Tables>(tables: &T, service: u32) -> u32 {
    found(tables, service).unwrap_or(NO_ENTRY)
}

#[inline(always)]
fn found<T: Tables>(tables: &T, service: u32) -> Option<u32> {
    let (to, first) = wanted(tables, service)?;
    for way in 0..WAYS {
        let found = entry(tables, first + way)?;
        if found.owner() == service.wrapping_add(1) && found.destination() == to {
            // SAFETY: the entry lies in the table.
            unsafe { atomic::store(&raw mut (*found.0).used, tables.now()) };
            return Some(first + way);
        }
    }
    None
}

/// Index of a new entry without members for the packet's destination, or [`NO_ENTRY`] if the service has
/// too many.
#[inline(always)]
pub fn add<T: Tables>(tables: &T, service: u32) -> u32 {
    added(tables, service).unwrap_or(NO_ENTRY)
}

#[inline(always)]
fn added<T: Tables>(tables: &T, service: u32) -> Option<u32> {
    let (to, first) = wanted(tables, service)?;
    let record = tables.service(service)?;
    let now = tables.now();
    // SAFETY: service records live as long as the maps.
    if unsafe { atomic::load(&raw const (*record).cached) } as i32 > MOST_ENTRIES as i32 {
        return None;
    }
    let (mut oldest, mut age) = (first, 0);
    for way in 0..WAYS {
        let other = entry(tables, first + way)?;
        let unused = if other.owner() == 0 {
            u32::MAX
        } else {
            other.unused_for(now)
        };
        if unused >= age {
            (oldest, age) = (first + way, unused);
        }
    }
    let found = entry(tables, oldest)?;
    let before = found.owner();
    if before == CLAIMED || !found.own(before, CLAIMED) {
        return None;
    }
    forget(tables, before);
    for number in 0..MEMBERS {
        found.set(number, 0);
    }
    // SAFETY: the entry lies in the table, service records live as long as the maps.
    unsafe {
        atomic::store(&raw mut (*found.0).destination, to);
        atomic::store(&raw mut (*found.0).used, now);
        atomic::store(&raw mut (*found.0).changed, now);
        found.own(CLAIMED, service.wrapping_add(1));
        atomic::add32(&raw mut (*record).cached, 1);
    }
    Some(oldest)
}

/// Takes an entry off the count of its owner.
#[inline(always)]
fn forget<T: Tables>(tables: &T, owner: u32) {
    if owner != 0
        && let Some(record) = tables.service(owner - 1)
    {
        // SAFETY: service records live as long as the maps.
        unsafe { atomic::add32(&raw mut (*record).cached, 1u32.wrapping_neg()) };
    }
}

/// The entry with an index; `None` beyond the table.
#[inline(always)]
pub(crate) fn entry<T: Tables>(tables: &T, index: u32) -> Option<Found> {
    tables.locality(index).map(Found)
}

/// Removes an entry that belongs to a service and was not used for `unused` jiffies; for user space.
/// False when it is another's, or was used.
pub fn remove<T: Tables>(tables: &T, index: u32, service: u32, unused: u32) -> bool {
    let removed = entry(tables, index).is_some_and(|found| {
        found.owner() == service + 1
            && found.unused_for(tables.now()) >= unused
            && found.own(service + 1, 0)
    });
    if removed {
        forget(tables, service + 1);
    }
    removed
}

impl Found {
    #[inline(always)]
    fn owner(self) -> u32 {
        // SAFETY: the entry lies in the table.
        unsafe { atomic::load(&raw const (*self.0).owner) }
    }

    #[inline(always)]
    fn destination(self) -> Address {
        // SAFETY: as above.
        unsafe { atomic::load(&raw const (*self.0).destination) }
    }

    #[inline(always)]
    fn own(self, before: u32, after: u32) -> bool {
        // SAFETY: as above.
        unsafe { atomic::cas32(&raw mut (*self.0).owner, before, after) == before }
    }

    /// Jiffies since it was looked up; another CPU may have done so a moment after `now`.
    #[inline(always)]
    fn unused_for(self, now: u32) -> u32 {
        // SAFETY: as above.
        let used = unsafe { atomic::load(&raw const (*self.0).used) };
        (now.wrapping_sub(used) as i32).max(0) as u32
    }

    #[inline(always)]
    fn at(self, number: u32) -> *mut u32 {
        // SAFETY: callers' numbers are below MEMBERS.
        unsafe {
            (&raw mut (*self.0).members)
                .cast::<u32>()
                .add(number as usize)
        }
    }

    /// Index of a member plus one, 0 for none.
    #[inline(always)]
    fn get(self, number: u32) -> u32 {
        // SAFETY: the entry lies in the table.
        unsafe { atomic::load(self.at(number)) }
    }

    #[inline(always)]
    fn set(self, number: u32, member: u32) {
        // SAFETY: as above.
        unsafe { atomic::store(self.at(number), member) };
    }

    /// True when there is no member `number` (below [`MEMBERS`]).
    #[inline(always)]
    pub(crate) fn is_free(self, number: u32) -> bool {
        self.get(number) == 0
    }

    /// A member (`number` below [`MEMBERS`]), if it still is a server of the service.
    #[inline(always)]
    pub(crate) fn member<T: Tables>(self, tables: &T, service: u32, number: u32) -> Option<Member> {
        let index = self.get(number).checked_sub(1)?;
        let server = tables.server(index)?;
        let load = Load::of(server);
        // SAFETY: server records live as long as the maps.
        let (of, weight) = unsafe {
            (
                atomic::load(&raw const (*server).service),
                atomic::load(&raw const (*server).weight),
            )
        };
        let listed = load.flags & SERVER_AVAILABLE != 0 && of == service;
        listed.then_some(Member {
            index,
            weight,
            load,
        })
    }

    /// Makes a server the only member.
    #[inline(always)]
    pub(crate) fn replace(self, server: u32) {
        self.set(0, server + 1);
    }

    /// True when a server is a member.
    #[inline(always)]
    pub(crate) fn has(self, server: u32) -> bool {
        (0..MEMBERS).any(|number| self.get(number) == server + 1)
    }

    /// Adds a member, the newest; of a full set the oldest is lost.
    #[inline(always)]
    pub(crate) fn join(self, server: u32) {
        let mut member = server + 1;
        for number in 0..MEMBERS {
            let next = self.get(number);
            self.set(number, member);
            member = next;
        }
    }

    /// Removes a member.
    #[inline(always)]
    pub(crate) fn leave(self, leaving: u32) {
        for number in 0..MEMBERS - 1 {
            if number >= leaving {
                self.set(number, self.get(number + 1));
            }
        }
        self.set(MEMBERS - 1, 0);
    }

    /// Jiffies since its members changed.
    #[inline(always)]
    pub(crate) fn unchanged_for(self, now: u32) -> u32 {
        // SAFETY: the entry lies in the table.
        let changed = unsafe { atomic::load(&raw const (*self.0).changed) };
        (now.wrapping_sub(changed) as i32).max(0) as u32
    }

    /// Its members changed now.
    #[inline(always)]
    pub(crate) fn changed(self, now: u32) {
        // SAFETY: the entry lies in the table.
        unsafe { atomic::store(&raw mut (*self.0).changed, now) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_member_comes_first_and_one_leaves_a_full_set() {
        // SAFETY: all bits zero is a valid entry.
        let mut entry: Entry = unsafe { core::mem::zeroed() };
        let found = Found(&raw mut entry);
        for server in 10..18 {
            found.join(server);
        }
        assert_eq!(entry.members, [18, 17, 16, 15, 14, 13, 12, 11]);
        found.leave(2);
        found.join(20);
        assert_eq!(entry.members, [21, 18, 17, 15, 14, 13, 12, 11]);
        found.leave(7);
        assert_eq!(entry.members, [21, 18, 17, 15, 14, 13, 12, 0]);
        found.leave(0);
        assert_eq!(entry.members, [18, 17, 15, 14, 13, 12, 0, 0]);
        assert!(found.has(17) && !found.has(20));
    }
}
