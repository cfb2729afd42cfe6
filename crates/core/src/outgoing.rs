//! Packets of real servers by NAT that belong to no connection: what a server of SIP sends by itself, or
//! in reply to a connection of one packet, gets a connection as if its client had asked (IPVS: outgoing
//! connections of persistence engines). For the rest the server is told, if it shall be
//! (`nat_icmp_send`).

use crate::addr::{Address, Be16};
use crate::atomic;
use crate::conn::{self, FLAG_REPLY, Key, Tag, Word};
use crate::connect;
use crate::drop::Drop;
use crate::host::{Host, Packet, Tables};
use crate::layout::{
    ID_IPV4, ID_IPV6, ID_SERVER4, ID_SERVER6, NextHop, Runtime, ServiceId, Wanted,
};
use crate::open::{self, Opened};
use crate::parse::Flow;
use crate::persist;
use crate::proto::{self, sctp};
use crate::sched::NO_SERVER;
use crate::sip;
use crate::wire::tcp as tcp_wire;

/// Whether a packet that cannot open a connection is to be looked at all the same.
#[inline(always)]
pub(crate) fn is_told(runtime: *const Runtime, flow: &Flow) -> bool {
    // SAFETY: the runtime record lives as long as the maps.
    let told = unsafe { atomic::load(&raw const (*runtime).settings.nat_icmp_send) != 0 };
    told && flow.whole && flow.inner == 0
}

/// What is to be done about a packet that no service is for.
pub(crate) enum Sent {
    /// It gets a connection to this real server.
    By(u32),
    /// Nothing, or its sender is told.
    Else(Opened),
}

/// A packet that no service is for: does a real server send it?
#[inline(always)]
pub(crate) fn of<H: Host, P: Packet>(
    host: &H,
    packet: &P,
    wanted: *mut Wanted,
    runtime: *const Runtime,
) -> Sent {
    // SAFETY: the runtime record lives as long as the maps, the wanted one is this CPU's.
    let (engines, told, flow) = unsafe {
        (
            atomic::load(&raw const (*runtime).engine_services) != 0,
            atomic::load(&raw const (*runtime).settings.nat_icmp_send) != 0,
            open::wanted_flow(wanted),
        )
    };
    if !(engines || told) || !flow.whole || flow.inner != 0 {
        return Sent::Else(Opened::Pass);
    }
    let server = host.sender_apart();
    if server == NO_SERVER {
        return Sent::Else(Opened::Pass);
    }
    if engines && proto::base(flow.key.proto) == proto::UDP {
        sip::read(host, packet, wanted);
        if host.outgoing_apart(server) {
            return Sent::By(server);
        }
    }
    let ends = match proto::base(flow.key.proto) {
        proto::TCP => flow.event & tcp_wire::RST != 0,
        proto::SCTP => flow.event == sctp::EVENT_ABORT,
        _ => false,
    };
    if !told || ends {
        return Sent::Else(Opened::Pass);
    }
    host.count_drop(Drop::NoConnection);
    Sent::Else(Opened::NoDestination)
}

/// The real server by NAT whose address and port the wanted packet comes from, or [`NO_SERVER`].
#[inline(always)]
pub fn sender<T: Tables>(tables: &T) -> u32 {
    let Some(wanted) = tables.wanted() else {
        return NO_SERVER;
    };
    // SAFETY: the record is this CPU's.
    unsafe {
        let class = (*wanted).flow.key.proto;
        let mut id = ServiceId {
            vip: (*wanted).source,
            vport: Be16::from_raw((*wanted).flow.key.ports as u16),
            proto: proto::number(proto::base(class)),
            kind: if class & proto::WIDE != 0 {
                ID_SERVER6
            } else {
                ID_SERVER4
            },
        };
        let mut found = tables.service_index(&id);
        if found.is_none() {
            // A server of a mark, whatever the protocol.
            id.proto = 0;
            found = tables.service_index(&id);
        }
        found.unwrap_or(NO_SERVER)
    }
}

/// Turns the wanted packet round, into one of the client's: it is to get the connection that its Call-ID
/// belongs to. False when its server's service is none that does so, or without a Call-ID.
#[inline(always)]
pub fn want<T: Tables>(tables: &T, server: u32) -> bool {
    let (Some(wanted), Some(runtime), Some(record)) =
        (tables.wanted(), tables.runtime(), tables.server(server))
    else {
        return false;
    };
    // SAFETY: the wanted record is this CPU's, the others live as long as the maps.
    unsafe {
        let service = atomic::load(&raw const (*record).service);
        let Some(of) = tables.service(service) else {
            return false;
        };
        let (id, rport) = (&raw const (*of).id, (*record).rport.raw());
        let address = (*id).kind == ID_IPV4 || (*id).kind == ID_IPV6;
        if !sip::is_engine(tables, service)
            || !address
            || (*id).vport.raw() == 0
            || rport == 0
            || sip::call_id(wanted) == 0
        {
            return false;
        }
        let seed = atomic::load(&raw const (*runtime).seed);
        let sent_to = (*wanted).flow.key.ports >> 16;
        let client: Address = (*wanted).destination;
        connect::copy(&raw mut (*wanted).source, &client);
        connect::copy(&raw mut (*wanted).destination, &raw const (*id).vip);
        let class = (*wanted).flow.key.proto;
        let ports = sent_to | u32::from((*id).vport.raw()) << 16;
        let key = Key::of(
            class,
            &(*wanted).source,
            &(*wanted).destination,
            ports,
            seed,
        );
        (*wanted).flow.key.addresses = key.addresses;
        (*wanted).flow.key.ports = key.ports;
        (*wanted).hash = key.hash(seed).0;
        (*wanted).service = service;
        (*wanted).mark = 0;
        (*wanted).rport = u32::from(rport);
        (*wanted).outgoing = 1;
        persist::follow(tables, service, server, wanted)
    }
}

/// Turns this CPU's connection of one packet into its other direction, if the packet is a real server's.
#[inline(always)]
pub(crate) fn turn<T: Tables>(tables: &T, wanted: *mut Wanted) {
    let index = connect::one_packet_slot(tables);
    let Some(found) = conn::slot(tables, index) else {
        return;
    };
    // SAFETY: both are this CPU's.
    unsafe {
        if atomic::load(&raw const (*wanted).outgoing) == 0 {
            return;
        }
        let slot = found.slot;
        let word = Word(atomic::load(&raw const (*slot).word));
        let (addresses, ports) = (
            atomic::load(&raw const (*slot).addresses),
            atomic::load(&raw const (*slot).ports),
        );
        let (new_addresses, new_ports) = (
            atomic::load(&raw const (*slot).new_addresses),
            atomic::load(&raw const (*slot).new_ports),
        );
        // What comes is what the slot made of a request, the other way, and the reverse.
        let (comes_from, comes_by) = (new_addresses.rotate_left(32), new_ports.rotate_left(16));
        (*wanted).flow.key.addresses = comes_from;
        (*wanted).flow.key.ports = comes_by;
        atomic::store(&raw mut (*slot).addresses, comes_from);
        atomic::store(&raw mut (*slot).ports, comes_by);
        atomic::store(&raw mut (*slot).new_addresses, addresses.rotate_left(32));
        atomic::store(&raw mut (*slot).new_ports, ports.rotate_left(16));
        let flags = word.flags() | FLAG_REPLY;
        atomic::store(
            &raw mut (*slot).word,
            word.with(flags, word.state()).at_vip(false).0,
        );
        atomic::store(&raw mut (*slot).way, NextHop::NONE.way);
        atomic::store(&raw mut (*slot).epoch, Tag::stamp(found.tag, 0));
        if word.proto() & proto::WIDE != 0
            && let Some(wide) = tables.wide(index)
        {
            connect::copy(&raw mut (*wide).source, &raw const (*wide).new_destination);
            connect::copy(&raw mut (*wide).destination, &raw const (*wanted).source);
            connect::copy(
                &raw mut (*wide).new_source,
                &raw const (*wanted).destination,
            );
            connect::copy(
                &raw mut (*wide).new_destination,
                &raw const (*wanted).source,
            );
        }
    }
}
