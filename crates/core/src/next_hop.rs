//! Ways out: looked up once, kept in the slot and with the server, valid for one epoch.

use crate::addr::Be32;
use crate::atomic;
use crate::conn::{self, KIND_METHOD, Slot, Word};
use crate::drop::Drop;
use crate::forward::{self, tunnel};
use crate::host::{Host, Route};
use crate::layout::{
    NextHop, SERVER_AVAILABLE, SERVER_IPV6, SERVER_NEIGHBOUR_DEAD, SERVER_NO_ROUTE, ServerRecord,
};
use crate::proto;

/// How a packet leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To a known neighbour.
    Neighbour(NextHop),
    /// Out of this interface to this address, by the kernel's neighbour resolution.
    Kernel(u32, Be32),
    /// Likewise, to the IPv6 address in [`crate::layout::Wanted::next`]. The second field means nothing: a
    /// payload that is not there would leave a register unset, which the verifier refuses to see moved.
    KernelWide(u32, Be32),
    /// To the director's own stack.
    Local,
}

/// The way to a real server that its record keeps, whose sequence number was `seq`, if it is whole and of this epoch.
///
/// # Safety
/// `server` is a record in the table.
#[inline(always)]
unsafe fn kept(server: *const ServerRecord, seq: u32, epoch: u32) -> Option<NextHop> {
    // SAFETY: passed on to the caller.
    unsafe {
        if seq & 1 != 0 || atomic::load(&raw const (*server).next_hop_epoch) != epoch {
            return None;
        }
        let hop = NextHop::new(
            atomic::load(&raw const (*server).next_hop.way),
            atomic::load(&raw const (*server).next_hop.mtu),
        );
        (atomic::load(&raw const (*server).next_hop_seq) == seq).then_some(hop)
    }
}

/// The way to a real server if it need not be looked up.
///
/// # Safety
/// As [`kept`].
#[inline(always)]
pub(crate) unsafe fn known(server: *const ServerRecord, epoch: u32) -> Option<NextHop> {
    // SAFETY: passed on to the caller.
    unsafe {
        kept(
            server,
            atomic::load(&raw const (*server).next_hop_seq),
            epoch,
        )
    }
}

/// The way to a real server, from its record while that is of the present epoch.
#[inline(always)]
pub(crate) fn of_server<H: Host>(host: &H, server: *mut ServerRecord, epoch: u32) -> Route {
    // SAFETY: server records live as long as the maps; the sequence number tells whether the next
    // hop was whole.
    unsafe {
        let seq = atomic::load(&raw const (*server).next_hop_seq);
        if let Some(hop) = kept(server, seq, epoch) {
            return Route::Resolved(hop);
        }
        let flags = atomic::load(&raw const (*server).flags);
        let route = if flags & SERVER_IPV6 != 0 {
            host.route_wide(&raw const (*server).rip)
        } else {
            host.route(Be32::from_raw(atomic::load(&raw const (*server).rip.0[0])))
        };
        if route == Route::Resolved(NextHop::LOCAL) && flags & SERVER_NO_ROUTE != 0 {
            return Route::Unreachable;
        }
        if let Route::Resolved(hop) = route
            && seq & 1 == 0
            && atomic::cas32(&raw mut (*server).next_hop_seq, seq, seq | 1) == seq
        {
            atomic::store(&raw mut (*server).next_hop.way, hop.way);
            atomic::store(&raw mut (*server).next_hop.mtu, hop.mtu);
            atomic::store(&raw mut (*server).next_hop_epoch, epoch);
            atomic::cas32(
                &raw mut (*server).next_hop_seq,
                seq | 1,
                seq.wrapping_add(2),
            );
        }
        route
    }
}

/// What [`refresh`] found.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Refreshed {
    /// [`Refreshed::HOP`], [`Refreshed::UNRESOLVED`], [`Refreshed::UNREACHABLE`], or the number of a
    /// [`Drop`].
    pub code: u32,
    /// Interface of an unresolved way.
    pub ifindex: u32,
    /// Next address of an unresolved way.
    pub next: Be32,
    /// The way.
    pub hop: NextHop,
}

impl Refreshed {
    /// `hop` is the way.
    pub const HOP: u32 = 0x100;
    /// Known but for the neighbour.
    pub const UNRESOLVED: u32 = 0x101;
    /// None.
    pub const UNREACHABLE: u32 = 0x102;
    /// Known but for the neighbour, whose IPv6 address is in [`crate::layout::Wanted::next`].
    pub const UNRESOLVED_WIDE: u32 = 0x103;
    /// The server was removed, and the connection is to go with it (`expire_nodest_conn`).
    pub const EXPIRED: u32 = 0x104;
}

/// Looks the way of a connection up again and keeps it in its slot, which had `tag`. The code is a
/// [`Drop`] when the slot passed to another connection, the server was removed, or its neighbour is
/// known to be dead.
#[inline(always)]
pub fn refresh<H: Host>(host: &H, index: u32, tag: u64, epoch: u32) -> Refreshed {
    let mut found = Refreshed {
        code: Drop::Internal as u32,
        ifindex: 0,
        next: Be32::new(0),
        hop: NextHop::NONE,
    };
    let Some(own) = conn::slot(host, index) else {
        return found;
    };
    // SAFETY: slots found by index lie in the table, server records live as long as the maps.
    let (word, addresses, server, old_way, old_mtu, present) = unsafe {
        (
            Word(atomic::load(&raw const (*own.slot).word)),
            atomic::load(&raw const (*own.slot).new_addresses),
            atomic::load(&raw const (*own.slot).server),
            atomic::load(&raw const (*own.slot).way),
            atomic::load(&raw const (*own.slot).mtu),
            atomic::load(&raw const (*own.slot).tag),
        )
    };
    if present != tag {
        found.code = Drop::SlotReused as u32;
        return found;
    }
    let mut dead = false;
    let mut via = core::ptr::null();
    let cross = (word.kind() & KIND_METHOD) as u8 == forward::FULLNAT_CROSS;
    let route = if word.is_reply() {
        // Where they go, which by FULLNAT is not where they come to.
        if (word.proto() & proto::WIDE != 0) != cross {
            let Some(wide) = host.wide(index) else {
                return found;
            };
            // SAFETY: the record lies in the map.
            host.route_wide(unsafe { &raw const (*wide).new_destination })
        } else {
            host.route(Be32::from_raw((addresses >> 32) as u32))
        }
    } else {
        let Some(server) = host.server(server) else {
            return found;
        };
        // SAFETY: as above.
        let flags = unsafe { atomic::load(&raw const (*server).flags) };
        if flags & SERVER_AVAILABLE == 0 {
            // SAFETY: the runtime record lives as long as the maps.
            let expires = host.runtime().is_some_and(|runtime| unsafe {
                atomic::load(&raw const (*runtime).settings.expire_nodest_conn) != 0
            });
            found.code = if expires {
                Refreshed::EXPIRED
            } else {
                Drop::ServerRemoved as u32
            };
            return found;
        }
        via = server;
        dead = flags & SERVER_NEIGHBOUR_DEAD != 0;
        of_server(host, server, epoch)
    };
    match route {
        Route::Resolved(hop) => {
            found.code = Refreshed::HOP;
            found.hop = for_connection(hop, word, via);
            // What was learned of a way holds as long as it is the same.
            if found.hop.way == old_way && old_mtu != 0 && old_mtu < found.hop.mtu {
                found.hop = NextHop::new(old_way, old_mtu);
            }
            // SAFETY: as above.
            unsafe { Slot::set_next_hop(own.slot, tag, old_way, found.hop, epoch) };
        }
        Route::Unresolved(..) | Route::UnresolvedWide(_) if dead && !H::HANDS_UP => {
            found.code = Drop::NeighbourDead as u32
        }
        Route::Unresolved(ifindex, next) => {
            found.code = Refreshed::UNRESOLVED;
            found.ifindex = ifindex;
            found.next = next;
            found.hop = for_connection(NextHop::new(0, host.mtu(ifindex)), word, via);
        }
        Route::UnresolvedWide(ifindex) => {
            found.code = Refreshed::UNRESOLVED_WIDE;
            found.ifindex = ifindex;
            found.hop = for_connection(NextHop::new(0, host.mtu(ifindex)), word, via);
        }
        Route::Unreachable => found.code = Refreshed::UNREACHABLE,
    }
    found
}

/// The hop as a slot of a connection to `server` keeps it: what a tunnel adds is off its MTU, and one that
/// is more than a packet in another of its own version is marked.
#[inline(always)]
pub(crate) fn for_connection(hop: NextHop, word: Word, server: *const ServerRecord) -> NextHop {
    let tunnelled = !word.is_reply() && (word.kind() & KIND_METHOD) as u8 == forward::TUNNEL;
    if !tunnelled || hop.is_local() || server.is_null() {
        return hop;
    }
    // SAFETY: server records live as long as the maps.
    let (overhead, plain) = unsafe {
        (
            tunnel::overhead(server),
            tunnel::is_plain(server, word.proto() & proto::WIDE != 0),
        )
    };
    let hop = NextHop::new(hop.way, hop.mtu.saturating_sub(overhead));
    if plain { hop } else { hop.wrapped() }
}
