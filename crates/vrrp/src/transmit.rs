//! From an instance's state to the bytes of its adverts.

use std::net::IpAddr;
use std::time::Duration;

use pointsman_model::Family;
use pointsman_model::vrrp::{Authentication, Peers, VrrpInstance, VrrpVersion};

use crate::auth::{self, AH_BYTES, Signed};
use crate::packet::{AH, Advert, Covers, VRRP, ipv4_header, write_checksum};
use crate::receive::{Receiver, auth_type};

/// A packet to be sent: over IPv4 with its header, over IPv6 the payload only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Whom to.
    pub destination: IpAddr,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Numbers IPv4 packets.
#[derive(Debug, Default)]
pub struct Transmitter {
    id: u16,
}

impl Transmitter {
    /// One advert to everyone it goes to; `wall` is the time since 1970.
    pub fn packets<'a>(
        &'a mut self,
        config: &'a VrrpInstance,
        source: IpAddr,
        priority: u8,
        receiver: &mut Receiver,
        wall: Duration,
    ) -> impl Iterator<Item = Outgoing> + 'a {
        let mut message = message(config, priority);
        // Over IPv4 the checksum leaves the trailer out, over IPv6 it is part of the payload; what
        // is signed has no checksum.
        let trailer = config
            .hmac
            .as_ref()
            .filter(|hmac| hmac.mode != pointsman_model::vrrp::HmacMode::ReceiveOnly)
            .and_then(|hmac| {
                let signed = Signed {
                    version: config.version,
                    vrid: config.vrid.get(),
                    source,
                    message: &message,
                };
                auth::trailer(hmac, signed, receiver.sequences.next(wall))
            });
        let body = message.len();
        message.extend(trailer.iter().flatten());
        let (group, peers) = match &config.peers {
            Peers::Multicast(group) => (Some(*group), &[][..]),
            Peers::Unicast(unicast) => (None, &unicast.peers[..]),
        };
        let ah_sequence = match config.authentication {
            Authentication::Ah(_) => receiver.next_ah_sequence(),
            _ => 0,
        };
        group
            .into_iter()
            .chain(peers.iter().map(|peer| peer.address))
            .map(move |destination| {
                let mut bytes = message.clone();
                let covers = covers(config, source, destination);
                match config.family {
                    Family::V4 => write_checksum(&mut bytes[..body], covers),
                    Family::V6 => write_checksum(&mut bytes, covers),
                }
                if let (IpAddr::V4(source), IpAddr::V4(destination)) = (source, destination) {
                    self.id = self.id.wrapping_add(1).max(1);
                    bytes = ipv4(config, source, destination, self.id, ah_sequence, &bytes);
                }
                Outgoing { destination, bytes }
            })
    }
}

fn message(config: &VrrpInstance, priority: u8) -> Vec<u8> {
    Advert {
        version: config.version,
        vrid: config.vrid.get(),
        priority,
        auth_type: auth_type(&config.authentication),
        auth_data: match &config.authentication {
            Authentication::Pass(key) => auth::padded(key),
            _ => [0; 8],
        },
        interval: config.advert_interval,
        family: config.family,
        addresses: config
            .addresses
            .iter()
            .map(|address| address.ip())
            .collect(),
    }
    .emit()
}

fn covers(config: &VrrpInstance, source: IpAddr, destination: IpAddr) -> Covers {
    match (config.family, config.version) {
        (Family::V4, VrrpVersion::V2) => Covers::Message,
        (Family::V4, VrrpVersion::V3) if config.checksum_as_v2 => Covers::Message,
        _ => Covers::PseudoHeader(source, destination),
    }
}

fn ipv4(
    config: &VrrpInstance,
    source: std::net::Ipv4Addr,
    destination: std::net::Ipv4Addr,
    id: u16,
    ah_sequence: u32,
    message: &[u8],
) -> Vec<u8> {
    let (unicast, ttl) = match &config.peers {
        Peers::Multicast(_) => (false, 255),
        Peers::Unicast(unicast) => (true, unicast.ttl.unwrap_or(255)),
    };
    match &config.authentication {
        Authentication::Ah(key) => {
            let header = ipv4_header(source, destination, ttl, id, AH, AH_BYTES + message.len());
            let ah = auth::ah(key, &header, unicast, ah_sequence, message);
            [&header[..], &ah, message].concat()
        }
        _ => {
            let header = ipv4_header(source, destination, ttl, id, VRRP, message.len());
            [&header[..], message].concat()
        }
    }
}
