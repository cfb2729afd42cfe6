//! Schedulers: which real server takes a new connection. One a file, as IPVS names them.
//!
//! User space compiles a service's servers into a table of words; a scheduler reads the table, the
//! servers' shared counters and, where it hashes addresses, [`Wanted`]. All walk servers newest
//! first, as the kernel's list does, and give the kernel's choices.
//!
//! There are three kinds of tables. For [`wrr`] see there. [`dh`], [`sh`] and [`mh`] have
//! [`buckets`]. The others have the servers with a weight above zero, newest first, one [`Entry`]
//! each.

pub mod buckets;
pub mod dh;
pub mod fo;
pub mod lblc;
pub mod lblcr;
pub mod lc;
pub mod least;
pub mod mh;
pub mod nq;
pub mod ovf;
pub mod rr;
pub mod sed;
pub mod sh;
pub mod twos;
pub mod wlc;
pub mod wrr;

use crate::atomic;
use crate::host::Tables;
use crate::layout::{
    MAX_SERVERS_PER_SERVICE, SERVER_AVAILABLE, SERVER_OVERLOADED, Schedule, ServerRecord, Wanted,
};
use crate::mask::{less, masked};

/// Number of no scheduler: never a destination.
pub const NONE: u8 = 0;
/// Number of [`rr`].
pub const RR: u8 = 1;
/// Number of [`wrr`].
pub const WRR: u8 = 2;
/// Number of [`wlc`].
pub const WLC: u8 = 3;
/// Number of [`lc`].
pub const LC: u8 = 4;
/// Number of [`sed`].
pub const SED: u8 = 5;
/// Number of [`nq`].
pub const NQ: u8 = 6;
/// Number of [`fo`].
pub const FO: u8 = 7;
/// Number of [`ovf`].
pub const OVF: u8 = 8;
/// Number of [`dh`].
pub const DH: u8 = 9;
/// Number of [`sh`].
pub const SH: u8 = 10;
/// Number of [`mh`].
pub const MH: u8 = 11;
/// Number of [`lblc`].
pub const LBLC: u8 = 12;
/// Number of [`lblcr`].
pub const LBLCR: u8 = 13;
/// Number of [`twos`].
pub const TWOS: u8 = 14;

/// A server in a scheduling table: index in the low half, weight in the high half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(pub u64);

impl Entry {
    /// From its parts.
    pub const fn new(server: u32, weight: u32) -> Self {
        Self(server as u64 | (weight as u64) << 32)
    }
    /// Index of the real server.
    #[inline(always)]
    pub const fn server(self) -> u32 {
        self.0 as u32
    }
    /// Its weight.
    #[inline(always)]
    pub const fn weight(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// What [`schedule`] returns when no server is eligible.
pub const NO_SERVER: u32 = u32::MAX;

/// Chooses a real server of a service for a new connection: its index, or [`NO_SERVER`].
///
/// What dh, sh, mh, lblc and lblcr look at must be in [`Tables::wanted`] before: `source`,
/// `destination`, and ports and protocol of `flow.key`.
#[inline(always)]
pub fn schedule<T: Tables>(tables: &T, service: u32) -> u32 {
    let Some(record) = tables.service(service) else {
        return NO_SERVER;
    };
    // SAFETY: service records live as long as the maps.
    let schedule = Schedule(unsafe { atomic::load(&raw const (*record).schedule) });
    if schedule.is_empty() {
        return NO_SERVER;
    }
    let chosen = match schedule.sched() {
        RR => rr::choose(tables, record, schedule).map(|(server, _)| server),
        WRR => wrr::choose(tables, record, schedule),
        WLC | LC | SED | NQ | FO | OVF => least::choose(tables, schedule).map(Entry::server),
        DH => dh::choose(tables, schedule),
        SH => sh::choose(tables, record, schedule),
        MH => mh::choose(tables, record, schedule),
        LBLC => return tables.lblc_apart(service, schedule),
        LBLCR => return tables.lblcr_apart(service, schedule),
        TWOS => twos::choose(tables, schedule),
        _ => None,
    };
    chosen.unwrap_or(NO_SERVER)
}

/// What a packet asks for, as far as schedulers hash it; addresses folded to host-order words.
#[derive(Clone, Copy, Debug)]
struct Asked {
    client: u32,
    destination: u32,
    /// Client's port in host order, of a protocol that has ports.
    port: u32,
}

impl Asked {
    #[inline(always)]
    fn of<T: Tables>(tables: &T) -> Option<Self> {
        let wanted: *const Wanted = tables.wanted()?;
        // SAFETY: the record lives as long as the maps and is this CPU's.
        unsafe {
            let source = atomic::load(&raw const (*wanted).source);
            let destination = atomic::load(&raw const (*wanted).destination);
            let ports = atomic::load(&raw const (*wanted).flow.key.ports);
            Some(Self {
                client: source.folded(),
                destination: destination.folded(),
                port: u16::from_be(ports as u16).into(),
            })
        }
    }

    /// What sh and mh hash: the client's address, and its port if wanted.
    #[inline(always)]
    fn hashed(&self, with_port: bool) -> u32 {
        let port = if with_port { self.port } else { 0 };
        self.client.wrapping_add(port)
    }
}

/// The multiplicative hash of dh, sh, lblc and lblcr: the upper `BITS` bits of the product.
#[inline(always)]
const fn hash32<const BITS: u32>(value: u32) -> u32 {
    value.wrapping_mul(0x61c8_8647) >> (32 - BITS)
}

/// Numbers of a server that schedulers weigh. Nothing here branches, since the verifier follows every
/// path through every turn of a loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) flags: u32,
    pub(crate) active: u32,
    inactive: u32,
}

impl Load {
    #[inline(always)]
    pub(crate) fn of(server: *const ServerRecord) -> Self {
        // A count that another CPU is about to raise may read as just below zero: that is none.
        let count = |shared: u32| shared & less(shared, 1 << 31).wrapping_neg();
        // SAFETY: server records live as long as the maps.
        unsafe {
            Self {
                flags: atomic::load(&raw const (*server).flags),
                active: count(atomic::load(&raw const (*server).active)),
                inactive: count(atomic::load(&raw const (*server).inactive)),
            }
        }
    }

    /// IPVS's overhead: 256 for each active connection, 1 for each connection.
    #[inline(always)]
    fn overhead(&self) -> u64 {
        u64::from(self.active) * 257 + u64::from(self.inactive)
    }

    /// `weight`, or 0 of an overloaded server.
    #[inline(always)]
    fn unless_overloaded(&self, weight: u32) -> u32 {
        let overloaded = masked::<1>((self.flags / SERVER_OVERLOADED) as usize) as u32;
        weight & overloaded.wrapping_sub(1)
    }
}

/// Where [`first_eligible`] found nothing.
pub const NOWHERE: u32 = u32::MAX;

/// The first of the entries at words `from..to` whose server is not overloaded: the word, or
/// [`NOWHERE`]. At most as many are looked at as a service has servers.
#[inline(always)]
pub fn first_eligible<T: Tables>(tables: &T, from: u32, to: u32) -> u32 {
    for i in 0..MAX_SERVERS_PER_SERVICE {
        let at = from.wrapping_add(i);
        if at >= to {
            break;
        }
        if eligible(tables, at).is_some() {
            return at;
        }
    }
    NOWHERE
}

/// The entry at a word of the tables and its server, if that is not overloaded.
#[inline(always)]
fn eligible<T: Tables>(tables: &T, at: u32) -> Option<(Entry, *mut ServerRecord)> {
    let entry = Entry(tables.schedule_word(at)?);
    let server = tables.server(entry.server())?;
    // SAFETY: server records live as long as the maps.
    let flags = unsafe { atomic::load(&raw const (*server).flags) };
    (flags & SERVER_OVERLOADED == 0).then_some((entry, server))
}

/// Whether a server that a table without weights names may take a connection: it is there, its weight
/// above zero, and it is not overloaded. `None` beyond the servers.
#[inline(always)]
fn is_usable<T: Tables>(tables: &T, index: u32) -> Option<bool> {
    let server = tables.server(index)?;
    // SAFETY: server records live as long as the maps.
    let (flags, weight) = unsafe {
        (
            atomic::load(&raw const (*server).flags),
            atomic::load(&raw const (*server).weight),
        )
    };
    // In one number, as in [`Load`].
    let available = masked::<1>((flags / SERVER_AVAILABLE) as usize) as u32;
    let overloaded = masked::<1>((flags / SERVER_OVERLOADED) as usize) as u32;
    Some(available & !overloaded & less(0, weight) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{Address, Be32};

    #[test]
    fn addresses_hash_as_in_the_kernel() {
        for (address, bits8) in [
            ([198, 51, 100, 2], 194),
            ([198, 51, 100, 77], 103),
            ([10, 1, 2, 3], 2),
            ([203, 0, 113, 9], 64),
        ] {
            let folded = Address::v4(Be32::from_octets(address)).folded();
            assert_eq!(hash32::<8>(folded), bits8, "{address:?}");
        }
        let client = Address::v4(Be32::from_octets([198, 51, 100, 2])).folded();
        assert_eq!(hash32::<8>(client.wrapping_add(40000)), 102);
        assert_eq!(hash32::<8>(client.wrapping_add(40001)), 199);
        assert_eq!(hash32::<10>(client), 776);
        let other = Address::v4(Be32::from_octets([203, 0, 113, 9])).folded();
        assert_eq!(hash32::<10>(other), 257);
        let mut v6 = [0; 16];
        v6[..6].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8, 0, 0x0c]);
        v6[15] = 2;
        assert_eq!(Address::v6(v6).folded(), 0x200d_0dba);
        assert_eq!(hash32::<8>(0x200d_0dba), 236);
    }

    #[test]
    fn a_count_just_below_zero_is_none() {
        // SAFETY: all bits zero is a valid record.
        let mut server: ServerRecord = unsafe { core::mem::zeroed() };
        (server.active, server.inactive) = (0u32.wrapping_sub(1), 3);
        assert_eq!(Load::of(&server).overhead(), 3);
    }
}
