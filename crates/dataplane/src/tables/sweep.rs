//! Walking the connection table: removing what lapsed, listing what lives.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use pointsman_core::addr::{Be16, Be32};
use pointsman_core::conn::{self, KIND_METHOD, Slot, Status, Tag, Word, has_lapsed};
use pointsman_core::forward;
use pointsman_core::host::Tables as _;
use pointsman_core::layout::WAYS;
use pointsman_core::proto::tcp;
use pointsman_core::wire::ipv4;
use pointsman_model::{ConnectionState, ConnectionView, Protocol};

use super::maps::Maps;

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Live connections.
    pub live: u32,
    /// Lapsed connections removed.
    pub lapsed: u32,
}

/// Removes what lapsed; whoever frees a slot takes the connection off its server's counts.
pub(crate) fn sweep(maps: &Maps) -> Sweep {
    let now = maps.now();
    let mut done = Sweep::default();
    each(maps, |index, tag, slot| {
        let word = Word(slot.word);
        let lapsed = has_lapsed(slot.expires, now);
        if word.is_reply() {
            // A reply without its request goes when its own time is over.
            let orphan = lapsed && request_of(maps, index, &slot).is_none();
            if orphan {
                conn::kill(maps, index, tag);
            }
        } else if lapsed && reply_lapsed(maps, &slot, now) {
            done.lapsed += u32::from(conn::kill(maps, index, tag));
        } else {
            done.live += 1;
        }
    });
    done
}

/// Removes everything.
pub(crate) fn clear(maps: &Maps) {
    each(maps, |index, tag, slot| {
        if !Word(slot.word).is_reply() {
            conn::kill(maps, index, tag);
        }
    });
    each(maps, |index, tag, _| {
        conn::kill(maps, index, tag);
    });
}

/// The live connections, in the order of the table.
pub(crate) fn list(maps: &Maps, hz: u32) -> Vec<ConnectionView> {
    let now = maps.now();
    let mut views = Vec::new();
    each(maps, |_, _, slot| {
        let word = Word(slot.word);
        if word.is_reply() || (has_lapsed(slot.expires, now) && reply_lapsed(maps, &slot, now)) {
            return;
        }
        let Some(protocol) = Protocol::from_number(word.proto()) else {
            return;
        };
        let other = reply_of(maps, &slot).map_or(slot.expires, |reply| reply.expires);
        let left = (slot.expires.wrapping_sub(now) as i32).max(other.wrapping_sub(now) as i32);
        views.push(ConnectionView {
            protocol,
            client: socket(slot.addresses as u32, slot.ports as u16),
            virtual_addr: socket((slot.addresses >> 32) as u32, (slot.ports >> 16) as u16),
            destination: destination(maps, &slot),
            state: state(word),
            expires_secs: left.max(0) as u32 / hz.max(1),
        });
    });
    views
}

fn each(maps: &Maps, mut visit: impl FnMut(u32, u64, Slot)) {
    for set in 0..maps.hints.len() {
        let Some(slots) = maps.connections.at(set) else {
            return;
        };
        for way in 0..WAYS {
            // SAFETY: way is below WAYS; the copy is discarded if the tag changed meanwhile.
            let (tag, slot, after) = unsafe {
                let slot = slots.cast::<Slot>().add(way as usize);
                let tag = (&raw const (*slot).tag).read_volatile();
                if Tag::status(tag) != Status::Ready {
                    continue;
                }
                (
                    tag,
                    slot.read_volatile(),
                    (&raw const (*slot).tag).read_volatile(),
                )
            };
            if tag == after {
                visit(set * WAYS + way, tag, slot);
            }
        }
    }
}

fn partner_of(maps: &Maps, slot: &Slot) -> Option<Slot> {
    let other = conn::slot(maps, slot.partner)?;
    // SAFETY: found slots lie in the table.
    (Tag::status(other.tag) == Status::Ready).then(|| unsafe { other.slot.read_volatile() })
}

fn reply_of(maps: &Maps, request: &Slot) -> Option<Slot> {
    partner_of(maps, request).filter(|other| Word(other.word).is_reply())
}

fn request_of(maps: &Maps, index: u32, reply: &Slot) -> Option<Slot> {
    partner_of(maps, reply).filter(|other| other.partner == index)
}

fn reply_lapsed(maps: &Maps, request: &Slot, now: u32) -> bool {
    reply_of(maps, request).is_none_or(|reply| has_lapsed(reply.expires, now))
}

fn destination(maps: &Maps, slot: &Slot) -> SocketAddr {
    let word = Word(slot.word);
    match (word.kind() & KIND_METHOD) as u8 {
        forward::NAT => socket(
            (slot.new_addresses >> 32) as u32,
            (slot.new_ports >> 16) as u16,
        ),
        _ => {
            let rip = maps
                .servers
                .read(slot.server)
                .map_or(Be32::default(), |s| s.rip.as_v4());
            socket(rip.raw(), (slot.ports >> 16) as u16)
        }
    }
}

fn socket(addr: u32, port: u16) -> SocketAddr {
    let addr = IpAddr::V4(Ipv4Addr::from(Be32::from_raw(addr).octets()));
    SocketAddr::new(addr, Be16::from_raw(port).get())
}

fn state(word: Word) -> ConnectionState {
    if word.proto() != ipv4::TCP {
        return ConnectionState::Udp;
    }
    match word.state() {
        tcp::ESTABLISHED => ConnectionState::Established,
        tcp::SYN_SENT => ConnectionState::SynSent,
        tcp::SYN_RECV => ConnectionState::SynRecv,
        tcp::FIN_WAIT => ConnectionState::FinWait,
        tcp::TIME_WAIT => ConnectionState::TimeWait,
        tcp::CLOSE => ConnectionState::Close,
        tcp::CLOSE_WAIT => ConnectionState::CloseWait,
        tcp::LAST_ACK => ConnectionState::LastAck,
        tcp::LISTEN => ConnectionState::Listen,
        tcp::SYNACK => ConnectionState::Synack,
        _ => ConnectionState::None,
    }
}
