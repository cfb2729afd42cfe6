//! Listing the connection table.

use std::net::{IpAddr, SocketAddr};

use pointsman_core::addr::{Address, Be16, Be32};
use pointsman_core::conn::{self, KIND_METHOD, Slot, Tag, Word};
use pointsman_core::forward;
use pointsman_core::host::Tables as _;
use pointsman_core::layout::{SERVER_IPV6, Wide};
use pointsman_core::proto::{self, ANY, BASE, SCTP, TCP, TEMPLATE, UDP, WIDE};
use pointsman_core::wide::rport;
use pointsman_model::{ConnectionState, ConnectionView, EngineData, Protocol, validate};

use super::maps::Maps;
use super::{address, sweep};

/// The live connections and templates, in the order of the table.
pub(crate) fn list(maps: &Maps, hz: u32) -> Vec<ConnectionView> {
    let now = maps.now();
    let mut views = Vec::new();
    sweep::each(maps, |index, tag, slot| {
        let word = Word(slot.word);
        let left = sweep::left(maps, &slot, now);
        if word.is_reply() || left < 0 {
            return;
        }
        let Some(addresses) = addresses(maps, index, &slot) else {
            return;
        };
        let class = word.proto();
        let protocol = match class & BASE {
            TCP => Some(Protocol::Tcp),
            UDP => Some(Protocol::Udp),
            SCTP => Some(Protocol::Sctp),
            ANY => None,
            _ => return,
        };
        let ipv6 = class & WIDE != 0;
        let view = ConnectionView {
            protocol,
            template: class & TEMPLATE != 0,
            client: socket(address::ip(addresses.source, ipv6), slot.ports as u16),
            virtual_addr: socket(
                address::ip(addresses.destination, ipv6),
                (slot.ports >> 16) as u16,
            ),
            destination: destination(maps, index, &slot, &addresses),
            local: local(maps, index, &slot),
            state: state(word),
            expires_secs: left as u32 / hz.max(1),
            engine: engine(maps, index, tag, word),
            synced: false,
        };
        // What lies beside the slot may have passed to another connection meanwhile.
        if conn::slot(maps, index).is_some_and(|found| found.tag == tag) {
            views.push(view);
        }
    });
    views
}

/// Addresses of a slot, whatever its family. `None` when the tables do not have them.
fn addresses(maps: &Maps, index: u32, slot: &Slot) -> Option<Wide> {
    // The key of a template may be mixed with a Call-ID: its addresses always lie beside it.
    if Word(slot.word).proto() & (WIDE | TEMPLATE) != 0 {
        return maps.wide.read(index);
    }
    let half = |word: u64| Address::v4(Be32::from_raw(word as u32));
    Some(Wide {
        source: half(slot.addresses),
        destination: half(slot.addresses >> 32),
        new_source: half(slot.new_addresses),
        new_destination: half(slot.new_addresses >> 32),
    })
}

/// The persistence engine of a template, and what it knows the client's packets by.
fn engine(maps: &Maps, index: u32, tag: u64, word: Word) -> Option<EngineData> {
    if !word.is_template() {
        return None;
    }
    let id = maps.call_ids.borrow().get(&index)?;
    let call_id = id.bytes.get(..id.len as usize)?;
    (id.template_use == Tag::use_count(tag)).then(|| EngineData {
        name: validate::SIP.to_owned(),
        data: String::from_utf8_lossy(call_id).into_owned(),
    })
}

/// What a connection by FULLNAT has in the client's place.
fn local(maps: &Maps, index: u32, slot: &Slot) -> Option<SocketAddr> {
    let (source, _) = new_ends(maps, index, slot)?;
    Some(socket(source, slot.new_ports as u16))
}

/// Source and destination that a connection's requests by FULLNAT leave with.
fn new_ends(maps: &Maps, index: u32, slot: &Slot) -> Option<(IpAddr, IpAddr)> {
    let word = Word(slot.word);
    let method = (word.kind() & KIND_METHOD) as u8;
    if word.is_template() || !forward::is_fullnat(method) {
        return None;
    }
    let ipv6 = (word.proto() & WIDE != 0) != (method == forward::FULLNAT_CROSS);
    if ipv6 {
        let wide = maps.wide.read(index)?;
        return Some((
            address::ip(wide.new_source, true),
            address::ip(wide.new_destination, true),
        ));
    }
    let v4 = |word: u64| IpAddr::from((word as u32).to_ne_bytes());
    Some((v4(slot.new_addresses), v4(slot.new_addresses >> 32)))
}

fn destination(maps: &Maps, index: u32, slot: &Slot, addresses: &Wide) -> SocketAddr {
    let word = Word(slot.word);
    let new = (slot.new_ports >> 16) as u16;
    if let Some((_, server)) = new_ends(maps, index, slot) {
        let port = match maps.server(slot.server) {
            // SAFETY: the record lies in the map.
            Some(record) if word.is_at_vip() => unsafe { rport(record, slot.ports) as u16 },
            _ => new,
        };
        return socket(server, port);
    }
    if !word.is_template() && (word.kind() & KIND_METHOD) as u8 == forward::NAT {
        let ipv6 = word.proto() & WIDE != 0;
        return socket(address::ip(addresses.new_destination, ipv6), new);
    }
    let asked = (slot.ports >> 16) as u16;
    let Some(server) = maps.servers.read(slot.server) else {
        return socket(IpAddr::from([0; 4]), asked);
    };
    // A child of a template keeps the port its client asked for.
    let controlled =
        word.is_child() && maps.controls.read(index).is_some_and(|c| c.parent_use != 0);
    let port = match server.rport.raw() {
        _ if word.is_template() => new,
        0 => asked,
        _ if controlled => asked,
        rport => rport,
    };
    let rip = address::ip(server.rip, server.flags & SERVER_IPV6 != 0);
    socket(rip, port)
}

fn socket(addr: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(addr, Be16::from_raw(port).get())
}

/// The state of a slot's word.
pub(crate) fn state(word: Word) -> ConnectionState {
    use ConnectionState as State;
    /// In the kernel's order.
    const SCTP_STATES: [State; 14] = [
        State::None,
        State::Init1,
        State::Init,
        State::CookieSent,
        State::CookieReplied,
        State::CookieWait,
        State::Cookie,
        State::CookieEchoed,
        State::Established,
        State::ShutdownSent,
        State::ShutdownReceived,
        State::ShutdownAckSent,
        State::Rejected,
        State::Closed,
    ];
    const TCP_STATES: [State; proto::tcp::STATES] = [
        State::None,
        State::Established,
        State::SynSent,
        State::SynRecv,
        State::FinWait,
        State::TimeWait,
        State::Close,
        State::CloseWait,
        State::LastAck,
        State::Listen,
        State::Synack,
    ];
    let of = |states: &[State]| {
        let at = usize::from(word.state());
        states.get(at).copied().unwrap_or(State::None)
    };
    match word.proto() {
        class if class & TEMPLATE != 0 => of(&[State::None, State::Assured]),
        class if class & BASE == TCP => of(&TCP_STATES),
        class if class & BASE == SCTP => of(&SCTP_STATES),
        _ => State::Udp,
    }
}
