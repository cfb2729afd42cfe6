//! A packet that opens a connection on the ports of one that exists (`conn_reuse_mode`,
//! `expire_nodest_conn`).

use crate::atomic;
use crate::conn::{self, FLAG_NO_OUTPUT, Found, Word};
use crate::host::Tables;
use crate::layout::Runtime;
use crate::proto::{self, sctp, tcp};

/// Whether it is worth asking [`gives_way`]: a packet that is sent again, or has just opened its connection, finds
/// one that has begun.
#[inline(always)]
pub(crate) fn may_give_way(runtime: *const Runtime, found: &Found) -> bool {
    // SAFETY: found slots lie in the table, the runtime record lives as long as the maps.
    let (word, expires) = unsafe {
        (
            Word(atomic::load(&raw const (*found.slot).word)),
            atomic::load(&raw const (*runtime).settings.expire_nodest_conn) != 0,
        )
    };
    expires || is_over(word, u32::MAX)
}

/// Whether the connection that a slot held under this tag gives way to a new one, which it does by
/// being removed.
#[inline(always)]
pub fn gives_way<T: Tables>(tables: &T, index: u32, tag: u64) -> bool {
    let (Some(found), Some(runtime)) = (conn::slot(tables, index), tables.runtime()) else {
        return false;
    };
    // SAFETY: slots found by index lie in the table, records live as long as the maps.
    let gives = unsafe {
        let word = Word(atomic::load(&raw const (*found.slot).word));
        let settings = &raw const (*runtime).settings;
        let quiescent = atomic::load(&raw const (*settings).expire_nodest_conn) != 0
            && tables
                .server(atomic::load(&raw const (*found.slot).server))
                .is_some_and(|server| atomic::load(&raw const (*server).weight) == 0);
        let mode = atomic::load(&raw const (*settings).conn_reuse_mode);
        let free = mode != 0 && conn::parent(tables, index).is_none();
        !word.is_reply() && (quiescent || (free && is_over(word, mode)))
    };
    gives && tables.kill_apart(index, tag)
}

/// Whether nothing more is expected of a connection.
#[inline(always)]
fn is_over(word: Word, mode: u32) -> bool {
    match proto::base(word.proto()) {
        proto::TCP => {
            let one_way = mode & 2 != 0 && word.flags() & FLAG_NO_OUTPUT != 0;
            word.state() == tcp::TIME_WAIT
                || word.state() == tcp::CLOSE
                || (word.state() == tcp::FIN_WAIT && one_way)
        }
        proto::SCTP => word.state() == sctp::CLOSED,
        _ => false,
    }
}
