//! A new connection as most are: of a service found by address and port, to a real server whose
//! next hop is known, by NAT, direct routing or a tunnel. It is made where the packet is, which then goes on; all others
//! are [`crate::open`]'s.

use crate::addr::Be16;
use crate::atomic;
use crate::conn::{self, Found, Hash, NO_PARTNER, NO_SLOT, Word};
use crate::connect::{self, LOOPBACK, ReplyEnds, Special};
use crate::director::call;
use crate::forward;
use crate::host::{Host, Packet, Tables};
use crate::layout::{
    Runtime, SERVICE_ONE_PACKET, SERVICE_PERSISTENT, Schedule, ServerRecord, ServiceRecord, Wanted,
};
use crate::mask::forgotten;
use crate::next_hop;
use crate::open::{self, FTP, FTP_DATA};
use crate::parse::Flow;
use crate::proto;
use crate::sched;
use crate::track;
use crate::wide;
use crate::wire::tcp as tcp_wire;

/// What came of a packet without a connection.
pub(super) enum Opened {
    /// It has one now, in this slot.
    Made(u32),
    /// It is wanted, and by whom it shall be taken is decided: [`crate::open`] makes it.
    Wanted,
    /// No service is for it, nor anything else of ours.
    Pass,
    /// No real server of its service takes it.
    NoDestination,
    /// Nothing was done.
    Unusual,
}

/// Makes the connection of a packet that has none. `hints` are what [`conn::nearby`] found when none of them was like
/// this connection's, else zeros.
#[inline(always)]
pub(super) fn open<H: Host, P: Packet>(
    host: &H,
    packet: &P,
    flow: &Flow,
    runtime: *mut Runtime,
    hash: Hash,
    hints: [u64; 4],
) -> Opened {
    if !may_be_usual(runtime, flow) || host.ingress() == LOOPBACK || !host.is_for_us() {
        return Opened::Unusual;
    }
    let Some(wanted) = open::want(host, flow, hash.0, call::DIRECTOR) else {
        return Opened::Unusual;
    };
    // SAFETY: the record is this CPU's; the runtime record lives as long as the maps.
    unsafe {
        if open::begin(host, wanted, packet).is_none() {
            return Opened::Unusual;
        }
        let asked = open::asked_for(wanted);
        let Some(service @ (_, record)) = open::service_of(host, wanted, &asked) else {
            return if asks_more(runtime) {
                Opened::Unusual
            } else {
                Opened::Pass
            };
        };
        if atomic::load(&raw const (*record).flags) & MORE_THAN_SCHEDULED != 0 {
            return Opened::Unusual;
        }
        let Some(server) = choose(host, wanted, service) else {
            return Opened::NoDestination;
        };
        connect(host, runtime, wanted, server, hash, hints).map_or(Opened::Wanted, Opened::Made)
    }
}

/// Whether nothing but a service's address and port says what becomes of the packet.
#[inline(always)]
fn may_be_usual(runtime: *const Runtime, flow: &Flow) -> bool {
    const OPENING: u8 = tcp_wire::SYN | tcp_wire::RST;
    let [source, destination] = [flow.key.sport(), flow.key.dport()];
    // SAFETY: the runtime record lives as long as the maps.
    let more = unsafe {
        atomic::load(&raw const (*runtime).mark_services)
            | atomic::load(&raw const (*runtime).wildcards)
            | atomic::load(&raw const (*runtime).settings.drop_rate)
    };
    more == 0
        && (proto::base(flow.key.proto) != proto::TCP || flow.event & OPENING == tcp_wire::SYN)
        && source != Be16::new(FTP_DATA)
        && destination != Be16::new(FTP)
}

/// Whether a packet may be ours although no service has its address and port.
///
/// # Safety
/// `runtime` lives as long as the maps.
#[inline(always)]
unsafe fn asks_more(runtime: *const Runtime) -> bool {
    // SAFETY: passed on to the caller.
    let more = unsafe {
        atomic::load(&raw const (*runtime).ftp_services)
            | atomic::load(&raw const (*runtime).any_port_services)
            | atomic::load(&raw const (*runtime).engine_services)
            | atomic::load(&raw const (*runtime).settings.nat_icmp_send)
    };
    more != 0
}

/// Flags of services of which more than a scheduler decides.
const MORE_THAN_SCHEDULED: u32 = SERVICE_PERSISTENT | SERVICE_ONE_PACKET;

/// The real server for the packet, said in `wanted` to be decided; `None` where no one is eligible.
///
/// # Safety
/// `wanted` is this CPU's record.
#[inline(always)]
unsafe fn choose<T: Tables>(
    tables: &T,
    wanted: *mut Wanted,
    (service, record): (u32, *mut ServiceRecord),
) -> Option<(u32, *mut ServerRecord)> {
    // SAFETY: passed on to the caller; records live as long as the maps.
    unsafe {
        (*wanted).mark = 0;
        (*wanted).service = service;
        let schedule = Schedule(atomic::load(&raw const (*record).schedule));
        // The usual one without a call.
        let (index, server) = if schedule.sched() == sched::RR {
            sched::rr::choose(tables, record, schedule)?
        } else {
            let index = tables.schedule_apart(service);
            (index, tables.server(index)?)
        };
        open::take_port(wanted, server, true);
        (*wanted).server = index;
        Some((index, server))
    }
}

/// Makes the connection that is wanted, unless it takes more than its slots to be filled.
///
/// # Safety
/// `wanted` is this CPU's record.
#[inline(always)]
unsafe fn connect<T: Tables>(
    tables: &T,
    runtime: *mut Runtime,
    wanted: *mut Wanted,
    (index, server): (u32, *mut ServerRecord),
    hash: Hash,
    hints: [u64; 4],
) -> Option<u32> {
    // SAFETY: passed on to the caller; records live as long as the maps.
    unsafe {
        let epoch = atomic::load(&raw const (*runtime).epoch);
        let hop = next_hop::known(server, epoch).filter(|hop| !hop.is_local())?;
        let method = atomic::load(&raw const (*server).method);
        if forward::is_fullnat(method) {
            return None;
        }
        ((*wanted).way, (*wanted).mtu, (*wanted).epoch) = (hop.way, hop.mtu, epoch);
        let secure = track::is_secure(runtime);
        let special = Special::NONE;
        let word = connect::first_word(tables, wanted, server, special, false, false, secure)?;
        let word = Word(forgotten(word.0, hash.0));
        let claimed = conn::take_place(tables, hash, tables.now())?;
        let mut partner = NO_PARTNER;
        if forward::translates(method) {
            let to = (index, server);
            match reply(
                tables,
                runtime,
                wanted,
                to,
                connect::reply_word(word),
                claimed.index,
            ) {
                Some(index) => partner = index,
                None => {
                    conn::release(claimed.slot);
                    return None;
                }
            }
        }
        let partner = forgotten(partner, hash.0);
        let server = (index, server);
        let tag = connect::fill_slot(
            tables, runtime, wanted, &claimed, partner, server, word, false,
        );
        let own = Found { tag, ..claimed };
        // Whoever made it at the same time left a hint, and may have removed this one.
        let alone = conn::nearby(tables, hash).is_some_and(|near| near.are_as(hints, own.index));
        if !alone || !connect::is_whole(tables, &own) {
            connect::settle_race(tables, wanted, &own);
        }
        Some(own.index)
    }
}

/// Makes the slot of the wanted connection's replies by NAT; its index. `None` where another connection may have these
/// addresses and ports.
///
/// # Safety
/// `wanted` is this CPU's record.
#[inline(always)]
unsafe fn reply<T: Tables>(
    tables: &T,
    runtime: *mut Runtime,
    wanted: *const Wanted,
    (index, server): (u32, *mut ServerRecord),
    word: Word,
    partner: u32,
) -> Option<u32> {
    // SAFETY: passed on to the caller.
    unsafe {
        let now = tables.now();
        let seed = atomic::load(&raw const (*runtime).seed);
        let ends = ReplyEnds::of_nat(wanted, server);
        let key = ends.key(word.proto(), seed);
        let hash = key.hash(seed);
        if conn::lookup(tables, hash, &key, now, NO_SLOT) != NO_SLOT {
            return None;
        }
        let claimed = conn::take_place(tables, hash, now)?;
        if word.proto() & proto::WIDE != 0 {
            wide::expect(tables, partner);
            wide::expect(tables, claimed.index);
        }
        let expires = now.wrapping_add(connect::first_life(runtime, wanted, word));
        connect::write_reply(tables, wanted, &claimed, &key, &ends, word);
        connect::live(claimed.slot, index, partner, expires, now);
        conn::publish(tables, &claimed, hash);
        Some(claimed.index)
    }
}
