//! A packet without a connection: which service it is for, which real server takes it.
//!
//! Works on [`Wanted`], where the pipeline put the packet's flow.

use crate::addr::Be16;
use crate::atomic;
use crate::conn::{self, KIND_WILDCARD, Key, NO_SLOT, Word};
use crate::connect::{self, Outcome};
use crate::director::{Verdict, call};
use crate::drop::Drop;
use crate::host::{Host, Packet, Route, Tables};
use crate::layout::{
    FIRST_STATE, ID_IPV4, ID_IPV6, ID_MARK4, ID_MARK6, NextHop, RECENT, Runtime,
    SERVICE_ONE_PACKET, SERVICE_PERSISTENT, ServerRecord, ServiceId, ServiceRecord, Wanted,
};
use crate::mask::masked;
use crate::next_hop;
use crate::outgoing::{self, Sent};
use crate::parse::Flow;
use crate::persist;
use crate::probe;
use crate::proto::{self, sctp};
use crate::sched::NO_SERVER;
use crate::sip;
use crate::wire::{ipv4, ipv6, tcp as tcp_wire};

/// Source port of active FTP data: never a new request.
pub(crate) const FTP_DATA: u16 = 20;
/// Port of FTP control connections.
pub const FTP: u16 = 21;
/// Ports below are no FTP data ports (`ip_unprivileged_port_start`).
pub(crate) const UNPRIVILEGED: u16 = 1024;

/// What came of a packet that may open a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// It has a connection now: start over.
    Connected,
    /// Its connection is for this packet alone, in the slot of this CPU.
    OnePacket,
    /// Not ours: on with it.
    Pass,
    /// Counted and gone.
    Drop(Drop),
    /// Counted; the sender is to be told that nobody takes its connection.
    NoDestination,
}

/// Whether a packet without a connection may open one: TCP with SYN and without RST (SYN+ACK opens
/// too, as in IPVS), SCTP with INIT, any UDP; nothing whose ports are not known.
#[inline(always)]
pub(crate) fn may_open(runtime: *const Runtime, flow: &Flow) -> bool {
    // SAFETY: the runtime record lives as long as the maps.
    let sloppy = |sctp: bool| unsafe {
        if sctp {
            atomic::load(&raw const (*runtime).settings.sloppy_sctp) != 0
        } else {
            atomic::load(&raw const (*runtime).settings.sloppy_tcp) != 0
        }
    };
    match proto::base(flow.key.proto) {
        // SAFETY: as above.
        _ if flow.inner != 0 => unsafe {
            atomic::load(&raw const (*runtime).settings.schedule_icmp) != 0
        },
        _ if !flow.whole => false,
        proto::TCP => {
            let flags = flow.event & (tcp_wire::SYN | tcp_wire::RST);
            flags == tcp_wire::SYN || (flags == 0 && sloppy(false))
        }
        proto::SCTP => {
            flow.event == sctp::EVENT_INIT || (flow.event != sctp::EVENT_ABORT && sloppy(true))
        }
        _ => true,
    }
}

/// Hands a packet that `may_open` a connection on to [`open`]; `origin` is the program to start over
/// with.
#[inline(always)]
pub fn want<T: Tables>(tables: &T, flow: &Flow, hash: u64, origin: u32) -> Option<*mut Wanted> {
    let wanted = tables.wanted()?;
    // SAFETY: the record is this CPU's alone.
    unsafe {
        (*wanted).flow.key.addresses = flow.key.addresses;
        (*wanted).flow.key.ports = flow.key.ports;
        (*wanted).flow.key.proto = flow.key.proto;
        (*wanted).flow.l3 = flow.l3;
        (*wanted).flow.l4 = flow.l4;
        (*wanted).flow.inner = flow.inner;
        (*wanted).flow.total_len = flow.total_len;
        (*wanted).flow.headers = flow.headers;
        (*wanted).flow.tos = flow.tos;
        (*wanted).flow.ttl = flow.ttl;
        (*wanted).flow.df = flow.df;
        (*wanted).flow.event = flow.event;
        (*wanted).flow.whole = flow.whole;
        (*wanted).hash = hash;
        (*wanted).origin = origin;
        (*wanted).server = NO_SERVER;
    }
    Some(wanted)
}

/// The packet's flow as [`want`] kept it, with offsets that any reader can see are small.
///
/// # Safety
/// `wanted` is this CPU's record.
#[inline(always)]
pub unsafe fn wanted_flow(wanted: *const Wanted) -> Flow {
    // SAFETY: passed on to the caller.
    unsafe {
        Flow {
            key: Key {
                addresses: (*wanted).flow.key.addresses,
                ports: (*wanted).flow.key.ports,
                proto: (*wanted).flow.key.proto,
            },
            l3: masked::<0x1f>(atomic::load(&raw const (*wanted).flow.l3)),
            l4: masked::<0x1ff>(atomic::load(&raw const (*wanted).flow.l4)),
            inner: masked::<0x1ff>(atomic::load(&raw const (*wanted).flow.inner)),
            total_len: (*wanted).flow.total_len,
            headers: (*wanted).flow.headers,
            tos: (*wanted).flow.tos,
            ttl: (*wanted).flow.ttl,
            df: atomic::load((&raw const (*wanted).flow.df).cast::<u8>()) != 0,
            event: (*wanted).flow.event,
            whole: atomic::load((&raw const (*wanted).flow.whole).cast::<u8>()) != 0,
        }
    }
}

/// Makes the connection of the packet that is wanted, and says which program goes on.
#[inline(always)]
pub fn open<H: Host, P: Packet>(host: &H, packet: &P) -> Verdict {
    let opened = attempt(host, packet);
    let Some(wanted) = host.wanted() else {
        return Verdict::Pass;
    };
    // SAFETY: the record is this CPU's.
    let (origin, wide) = unsafe {
        (
            atomic::load(&raw const (*wanted).origin),
            (*wanted).flow.key.proto & proto::WIDE != 0,
        )
    };
    match opened {
        Opened::Connected => Verdict::Call(origin),
        Opened::OnePacket if wide => Verdict::Call(call::ONE_PACKET_WIDE),
        Opened::OnePacket => Verdict::Call(call::ONE_PACKET),
        Opened::Pass => Verdict::Pass,
        Opened::Drop(reason) => Verdict::Drop(reason),
        Opened::NoDestination => Verdict::Call(call::UNREACHABLE),
    }
}

#[inline(always)]
fn attempt<H: Host, P: Packet>(host: &H, packet: &P) -> Opened {
    let (Some(wanted), Some(runtime)) = (host.wanted(), host.runtime()) else {
        return Opened::Pass;
    };
    // SAFETY: the record is this CPU's, the runtime lives as long as the maps.
    let (epoch, mut server) = unsafe {
        (
            atomic::load(&raw const (*runtime).epoch),
            atomic::load(&raw const (*wanted).server),
        )
    };
    if server == NO_SERVER {
        // SAFETY: as above.
        if unsafe { begin(host, wanted, packet) }.is_none() {
            return Opened::Pass;
        }
        // SAFETY: as above.
        let flow = unsafe { wanted_flow(wanted) };
        let opens = may_open(runtime, &flow);
        // SAFETY: as above.
        if opens && unsafe { atomic::load(&raw const (*runtime).wildcards) } != 0 {
            server = host.wildcard_apart();
        }
        if server == NO_SERVER {
            let service = if opens {
                host.service_apart(host.mark())
            } else {
                NO_SERVICE
            };
            if !host.is_for_us() {
                return Opened::Pass;
            }
            if service == NO_SERVICE {
                match outgoing::of(host, packet, wanted, runtime) {
                    Sent::By(sender) => server = sender,
                    Sent::Else(opened) => return opened,
                }
            } else {
                if sip::is_engine(host, service) {
                    sip::read(host, packet, wanted);
                }
                server = host.choose_apart(service, probe::named(host.mark(), host.ingress()));
            }
        }
    }
    if server >= REFUSED {
        return match server {
            NO_SERVER => {
                host.count_drop(Drop::NoDestination);
                // SAFETY: as above.
                if unsafe { (*wanted).flow.inner } != 0 {
                    return Opened::Drop(Drop::NoDestination);
                }
                Opened::NoDestination
            }
            ACCEPT => Opened::Pass,
            other => {
                let reason = Drop::from_number(other as u8).unwrap_or(Drop::Internal);
                host.count_drop(reason);
                Opened::Drop(reason)
            }
        };
    }
    let Some(record) = host.server(server) else {
        return Opened::Pass;
    };
    let (hop, epoch) = match next_hop::of_server(host, record, epoch) {
        Route::Resolved(hop) => (hop, epoch),
        // Epoch 0 is never the present one: the packet's own way through looks it up again.
        _ => (NextHop::NONE, 0),
    };
    let from_here = host.ingress() == connect::LOOPBACK;
    match Outcome(host.connect_apart(server, hop, epoch, from_here)) {
        Outcome::CONNECTED => Opened::Connected,
        Outcome::ONE_PACKET => {
            outgoing::turn(host, wanted);
            Opened::OnePacket
        }
        refused => {
            let reason = refused.reason();
            host.count_drop(reason);
            Opened::Drop(reason)
        }
    }
}

/// Says of the connection that is wanted what the packet says of it.
///
/// # Safety
/// `wanted` is this CPU's record.
#[inline(always)]
pub(crate) unsafe fn begin<H: Host, P: Packet>(
    host: &H,
    wanted: *mut Wanted,
    packet: &P,
) -> Option<()> {
    // SAFETY: passed on to the caller.
    unsafe {
        take_addresses(wanted, packet)?;
        (*wanted).parent_use = 0;
        (*wanted).kind = 0;
        (*wanted).outgoing = 0;
        (*wanted).ingress = host.ingress();
        (*wanted).state = FIRST_STATE;
    }
    Some(())
}

/// Copies the packet's addresses where functions without the packet find them.
///
/// # Safety
/// `wanted` is this CPU's record.
#[inline(always)]
unsafe fn take_addresses<P: Packet>(wanted: *mut Wanted, packet: &P) -> Option<()> {
    // SAFETY: passed on to the caller.
    unsafe {
        let key = &raw const (*wanted).flow.key;
        if (*key).proto & proto::WIDE == 0 {
            (*wanted).source.0[0] = (*key).addresses as u32;
            (*wanted).destination.0[0] = ((*key).addresses >> 32) as u32;
            for i in 1..4 {
                (*wanted).source.0[i] = 0;
                (*wanted).destination.0[i] = 0;
            }
        } else {
            let inner = masked::<0x1ff>(atomic::load(&raw const (*wanted).flow.inner));
            let l3 = masked::<0x1f>(atomic::load(&raw const (*wanted).flow.l3));
            // What an error quotes went the other way.
            let (from, to) = if inner != 0 {
                (inner + ipv6::DESTINATION, inner + ipv6::SOURCE)
            } else {
                (l3 + ipv6::SOURCE, l3 + ipv6::DESTINATION)
            };
            for i in 0..4 {
                (*wanted).source.0[i] = packet.read::<u32>(from + 4 * i)?;
                (*wanted).destination.0[i] = packet.read::<u32>(to + 4 * i)?;
            }
        }
    }
    Some(())
}

/// What [`find_service`] returns when there is none.
pub const NO_SERVICE: u32 = u32::MAX;

/// The service of the packet that is wanted, as IPVS looks for it: by mark, by address and port, the
/// FTP service of an unprivileged or data port, the service of every port.
#[inline(always)]
pub fn find_service<T: Tables>(tables: &T, mark: u32) -> u32 {
    let (Some(wanted), Some(runtime)) = (tables.wanted(), tables.runtime()) else {
        return NO_SERVICE;
    };
    // SAFETY: the record is this CPU's, the runtime lives as long as the maps.
    unsafe {
        let class = (*wanted).flow.key.proto;
        let wide = class & proto::WIDE != 0;
        let mut id = asked_for(wanted);
        let mut found = None;
        (*wanted).mark = 0;
        if atomic::load(&raw const (*runtime).mark_services) != 0 {
            let mark = if mark != 0 { mark } else { tables.mark_apart() };
            if mark != 0 {
                let mut marked = id;
                marked.vip.0[0] = mark;
                for i in 1..4 {
                    marked.vip.0[i] = 0;
                }
                marked.vport = Be16::new(0);
                marked.proto = 0;
                marked.kind = if wide { ID_MARK6 } else { ID_MARK4 };
                found = service_of(tables, wanted, &marked);
                if found.is_some() {
                    (*wanted).mark = mark;
                }
            }
        }
        if found.is_none() {
            found = service_of(tables, wanted, &id);
        }
        if found.is_none()
            && id.proto == ipv4::TCP
            && atomic::load(&raw const (*runtime).ftp_services) != 0
            && (id.vport.get() == FTP_DATA || id.vport.get() >= UNPRIVILEGED)
        {
            id.vport = Be16::new(FTP);
            found = service_of(tables, wanted, &id);
        }
        if found.is_none() && atomic::load(&raw const (*runtime).any_port_services) != 0 {
            id.vport = Be16::new(0);
            found = service_of(tables, wanted, &id);
        }
        let found = found.map_or(NO_SERVICE, |(index, _)| index);
        (*wanted).service = found;
        found
    }
}

/// Identity of the service of the address and port that the packet is for.
///
/// # Safety
/// `wanted` is this CPU's record.
#[inline(always)]
pub(crate) unsafe fn asked_for(wanted: *const Wanted) -> ServiceId {
    // SAFETY: passed on to the caller.
    unsafe {
        let class = (*wanted).flow.key.proto;
        let wide = class & proto::WIDE != 0;
        ServiceId {
            vip: (*wanted).destination,
            vport: Be16::from_raw(((*wanted).flow.key.ports >> 16) as u16),
            proto: proto::number(proto::base(class)),
            kind: if wide { ID_IPV6 } else { ID_IPV4 },
        }
    }
}

/// The service with this identity, and its index.
///
/// # Safety
/// `wanted` is this CPU's record.
#[inline(always)]
pub(crate) unsafe fn service_of<T: Tables>(
    tables: &T,
    wanted: *mut Wanted,
    id: &ServiceId,
) -> Option<(u32, *mut ServiceRecord)> {
    const SHIFT: u32 = 32 - RECENT.ilog2();
    let mixed = (id.vip.folded() ^ u32::from(id.vport.raw())).wrapping_mul(0x61c8_8647) >> SHIFT;
    // SAFETY: passed on to the caller; service records live as long as the maps.
    unsafe {
        let at = masked::<{ RECENT as u32 - 1 }>(mixed as usize);
        let recent = (&raw mut (*wanted).recent).cast::<u32>().add(at);
        let index = atomic::load(recent);
        if let Some(record) = tables.service(index)
            && atomic::load(&raw const (*record).in_use) != 0
            && is_id(&raw const (*record).id, id)
        {
            return Some((index, record));
        }
        // A copy, or `id` would lie in memory for those who never come here.
        let id = *id;
        let index = tables.service_index(&id)?;
        atomic::store(recent, index);
        Some((index, tables.service(index)?))
    }
}

/// Whether an identity in the maps is this one.
///
/// # Safety
/// `stored` points into the maps.
#[inline(always)]
unsafe fn is_id(stored: *const ServiceId, id: &ServiceId) -> bool {
    // SAFETY: passed on to the caller.
    unsafe {
        let mut differ = 0;
        for i in 0..4 {
            differ |= atomic::load(&raw const (*stored).vip.0[i]) ^ id.vip.0[i];
        }
        differ |= u32::from((*stored).vport.raw() ^ id.vport.raw());
        differ |= u32::from((*stored).proto ^ id.proto) | u32::from((*stored).kind ^ id.kind);
        differ == 0
    }
}

/// From here on, what [`choose`] returns is no server: [`NO_SERVER`], [`ACCEPT`], or a [`Drop`] in its
/// low byte.
pub const REFUSED: u32 = 0xffff_ff00;
/// What [`choose`] returns for a packet that is not to be balanced after all.
pub const ACCEPT: u32 = 0xffff_fffe;
const _: () = assert!(ACCEPT as u8 as usize >= crate::layout::DROP_SLOTS as usize);

/// The real server for the packet that is wanted, or why there is none. A probe names the one it is for as
/// `probed`.
#[inline(always)]
pub fn choose<T: Tables>(tables: &T, service: u32, probed: u32) -> u32 {
    let (Some(wanted), Some(runtime), Some(record)) =
        (tables.wanted(), tables.runtime(), tables.service(service))
    else {
        return REFUSED | Drop::Internal as u32;
    };
    // SAFETY: the record is this CPU's, the others live as long as the maps.
    unsafe {
        if probed == NO_SERVER && is_to_drop(runtime) {
            return REFUSED | Drop::DropRate as u32;
        }
        // A connection of one packet has no others that an error could be about.
        if (*wanted).flow.inner != 0 && is_one_packet(tables, wanted) {
            return ACCEPT;
        }
        let ports = (*wanted).flow.key.ports;
        if Be16::from_raw(ports as u16).get() == FTP_DATA {
            return ACCEPT;
        }
        let dport = Be16::from_raw((ports >> 16) as u16);
        let vport = (*record).id.vport;
        let persistent = (*record).flags & SERVICE_PERSISTENT != 0;
        let server = if probed != NO_SERVER {
            if probe::is_of(tables, probed, service) {
                probed
            } else {
                NO_SERVER
            }
        } else if persistent {
            persist::choose(tables, service, wanted)
        } else if (*wanted).mark == 0 && vport != dport {
            NO_SERVER
        } else {
            tables.schedule_apart(service)
        };
        if server >= REFUSED {
            let unrelated = vport.get() == FTP && dport != vport;
            // A marked packet goes where it wanted to go anyway.
            let bypass = (*wanted).mark != 0
                && atomic::load(&raw const (*runtime).settings.cache_bypass) != 0;
            if server == NO_SERVER && (unrelated || bypass) {
                return ACCEPT;
            }
            return server;
        }
        let Some(chosen) = tables.server(server) else {
            return REFUSED | Drop::Internal as u32;
        };
        // A persistent service's server port stands for the service's port only.
        take_port(wanted, chosen, !persistent || dport == vport);
        server
    }
}

/// The port that the real server gets the packet at: its own, if it is `meant` and has one, or the packet's.
///
/// # Safety
/// `wanted` is this CPU's record, `server` one in the table.
#[inline(always)]
pub(crate) unsafe fn take_port(wanted: *mut Wanted, server: *const ServerRecord, meant: bool) {
    // SAFETY: passed on to the caller.
    unsafe {
        let own = (*server).rport.raw();
        let asked = ((*wanted).flow.key.ports >> 16) as u16;
        (*wanted).rport = u32::from(if own != 0 && meant { own } else { asked });
    }
}

/// `drop_packet`: one in so many new connections goes.
///
/// # Safety
/// `runtime` lives as long as the maps.
#[inline(always)]
unsafe fn is_to_drop(runtime: *mut Runtime) -> bool {
    // SAFETY: passed on to the caller.
    unsafe {
        let rate = atomic::load(&raw const (*runtime).settings.drop_rate);
        if rate == 0 {
            return false;
        }
        let counter = &raw mut (*runtime).settings.drop_counter;
        let left = atomic::add32(counter, 1u32.wrapping_neg()).wrapping_sub(1);
        if left as i32 > 0 {
            return false;
        }
        atomic::store(counter, rate);
        true
    }
}

/// The real server of a connection whose client port was not known until this packet (FTP data), or
/// [`NO_SERVER`]. The packet's connection takes its place.
#[inline(always)]
pub fn take_wildcard<T: Tables>(tables: &T) -> u32 {
    let (Some(wanted), Some(runtime)) = (tables.wanted(), tables.runtime()) else {
        return NO_SERVER;
    };
    // SAFETY: the record is this CPU's, slots found by index lie in the table.
    unsafe {
        let key = Key {
            addresses: (*wanted).flow.key.addresses,
            ports: (*wanted).flow.key.ports & 0xffff_0000,
            proto: (*wanted).flow.key.proto,
        };
        let hash = key.hash(atomic::load(&raw const (*runtime).seed));
        let found = conn::lookup(tables, hash, &key, tables.now(), NO_SLOT);
        if found == NO_SLOT {
            return NO_SERVER;
        }
        let Some(found) = conn::slot(tables, found) else {
            return NO_SERVER;
        };
        let word = Word(atomic::load(&raw const (*found.slot).word));
        if word.kind() & KIND_WILDCARD == 0 {
            return NO_SERVER;
        }
        let server = atomic::load(&raw const (*found.slot).server);
        (*wanted).rport = atomic::load(&raw const (*found.slot).new_ports) >> 16;
        (*wanted).service = NO_SERVICE;
        if let Some(parent) = conn::parent(tables, found.index) {
            (*wanted).parent = parent.index;
            (*wanted).parent_use = conn::Tag::use_count(parent.tag);
        }
        if tables.kill_apart(found.index, found.tag) {
            server
        } else {
            NO_SERVER
        }
    }
}

/// True when the connection being made is for one packet.
///
/// # Safety
/// `wanted` is this CPU's record.
#[inline(always)]
pub unsafe fn is_one_packet<T: Tables>(tables: &T, wanted: *const Wanted) -> bool {
    // SAFETY: passed on to the caller; service records live as long as the maps.
    unsafe {
        (*wanted).flow.key.proto & proto::BASE == proto::UDP
            && tables
                .service((*wanted).service)
                .is_some_and(|service| (*service).flags & SERVICE_ONE_PACKET != 0)
    }
}
