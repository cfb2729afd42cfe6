//! A new connection as most are: of a service found by address and port, to a real server by direct routing or a tunnel
//! whose next hop is known. It is made where the packet is, which then goes on; all others are [`crate::open`]'s.

use crate::addr::Be16;
use crate::atomic;
use crate::conn::{self, Found, Hash, NO_PARTNER, NO_SLOT};
use crate::connect::{self, LOOPBACK};
use crate::director::call;
use crate::forward;
use crate::host::{Host, Packet};
use crate::layout::{
    Runtime, SERVICE_ONE_PACKET, SERVICE_PERSISTENT, Schedule, ServerRecord, Wanted,
};
use crate::next_hop;
use crate::open::{self, FTP, FTP_DATA};
use crate::parse::Flow;
use crate::proto;
use crate::sched::{self, NO_SERVER};
use crate::track;
use crate::wire::tcp as tcp_wire;

/// What came of a packet without a connection.
pub(super) enum Opened {
    /// It has one now.
    Found(Found),
    /// It is wanted, and by whom it shall be taken is decided: [`crate::open`] makes it.
    Wanted,
    /// No service is for it, nor anything else of ours.
    Pass,
    /// Nothing was done.
    Unusual,
}

/// Makes the connection of a packet that has none.
#[inline(always)]
pub(super) fn open<H: Host, P: Packet>(
    host: &H,
    packet: &P,
    flow: &Flow,
    runtime: *mut Runtime,
    hash: Hash,
) -> Opened {
    if !may_be_usual(runtime, flow) || host.ingress() == LOOPBACK || !host.is_for_us() {
        return Opened::Unusual;
    }
    let Some(wanted) = open::want(host, flow, hash.0, call::DIRECTOR) else {
        return Opened::Unusual;
    };
    // SAFETY: the record is this CPU's; the runtime record lives as long as the maps.
    unsafe {
        let Some(service) = service(host, packet, wanted) else {
            return if asks_more(runtime) {
                Opened::Unusual
            } else {
                Opened::Pass
            };
        };
        let Some(server) = choose(host, wanted, service) else {
            return Opened::Unusual;
        };
        connect(host, runtime, wanted, server, hash).map_or(Opened::Wanted, Opened::Found)
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

/// The service of the packet's address and port.
///
/// # Safety
/// `wanted` is this CPU's record.
#[inline(always)]
unsafe fn service<H: Host, P: Packet>(host: &H, packet: &P, wanted: *mut Wanted) -> Option<u32> {
    // SAFETY: passed on to the caller.
    unsafe {
        open::begin(host, wanted, packet)?;
        open::service_of(host, wanted, &open::asked_for(wanted))
    }
}

/// The real server for the packet, said in `wanted` to be decided; `None` where more than a scheduler decides.
///
/// # Safety
/// `wanted` is this CPU's record.
#[inline(always)]
unsafe fn choose<H: Host>(
    host: &H,
    wanted: *mut Wanted,
    service: u32,
) -> Option<(u32, *mut ServerRecord)> {
    // SAFETY: passed on to the caller; records live as long as the maps.
    unsafe {
        let record = host.service(service)?;
        let flags = atomic::load(&raw const (*record).flags);
        if flags & (SERVICE_PERSISTENT | SERVICE_ONE_PACKET) != 0 {
            return None;
        }
        (*wanted).mark = 0;
        (*wanted).service = service;
        let schedule = Schedule(atomic::load(&raw const (*record).schedule));
        // The usual one without a call.
        let server = if schedule.sched() == sched::RR {
            sched::rr::choose(host, record, schedule)?
        } else {
            host.schedule_apart(service)
        };
        if server == NO_SERVER {
            return None;
        }
        let record = host.server(server)?;
        open::take_port(wanted, record, true);
        (*wanted).server = server;
        Some((server, record))
    }
}

/// Makes the connection that is wanted, unless it takes more than a slot to be filled.
///
/// # Safety
/// `wanted` is this CPU's record.
#[inline(always)]
unsafe fn connect<H: Host>(
    host: &H,
    runtime: *mut Runtime,
    wanted: *mut Wanted,
    (index, server): (u32, *mut ServerRecord),
    hash: Hash,
) -> Option<Found> {
    // SAFETY: passed on to the caller; records live as long as the maps.
    unsafe {
        let epoch = atomic::load(&raw const (*runtime).epoch);
        let hop = next_hop::known(server, epoch).filter(|hop| !hop.is_local())?;
        if forward::translates(atomic::load(&raw const (*server).method)) {
            return None;
        }
        ((*wanted).way, (*wanted).mtu, (*wanted).epoch) = (hop.way, hop.mtu, epoch);
        let secure = track::is_secure(runtime);
        let word = connect::first_word(host, wanted, server, false, false, secure)?;
        let claimed = conn::take_place(host, hash, host.now());
        if claimed == NO_SLOT {
            return None;
        }
        let found = conn::slot(host, claimed)?;
        let server = (index, server);
        let tag = connect::fill_slot(
            host, runtime, wanted, &found, NO_PARTNER, server, word, false,
        );
        // Whoever made it at the same time may have removed this one: the tag tells.
        connect::settle_race(host, wanted, claimed);
        Some(Found { tag, ..found })
    }
}
