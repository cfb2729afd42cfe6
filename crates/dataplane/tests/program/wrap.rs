//! Packets in packets, put together by hand: no code is shared with the one under test.

use std::net::IpAddr;

use pointsman_testkit::frames::checksum;

/// What lies between outer and inner IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    Ipip,
    Gue,
    GueChecksum,
    /// With remote checksum offload; the inner transport checksum is left unfinished.
    GueRemote,
    Gre,
    GreChecksum,
}

pub const SHELLS: [Shell; 6] = [
    Shell::Ipip,
    Shell::Gue,
    Shell::GueChecksum,
    Shell::GueRemote,
    Shell::Gre,
    Shell::GreChecksum,
];

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

/// An IP header, of the version its addresses have.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub tos: u8,
    pub ttl: u8,
    /// IPv4 alone has these.
    pub id: u16,
    pub df: bool,
}

impl Header {
    pub fn new(source: IpAddr, destination: IpAddr) -> Self {
        Self {
            source,
            destination,
            tos: 0,
            ttl: 63,
            id: 0,
            df: true,
        }
    }

    pub fn tos(self, tos: u8) -> Self {
        Self { tos, ..self }
    }
}

/// An IP packet.
pub fn ip(header: &Header, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let Header { tos, ttl, .. } = *header;
    match (header.source, header.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let len = (20 + payload.len()) as u16;
            let mut packet = vec![0x45, tos, 0, 0, 0, 0, 0, 0, ttl, protocol, 0, 0];
            packet[2..4].copy_from_slice(&len.to_be_bytes());
            packet[4..6].copy_from_slice(&header.id.to_be_bytes());
            packet[6] = if header.df { 0x40 } else { 0 };
            packet.extend(source.octets());
            packet.extend(destination.octets());
            let sum = checksum(&[&packet]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            packet.extend(payload);
            packet
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut packet = vec![0x60 | tos >> 4, tos << 4, 0, 0];
            packet.extend((payload.len() as u16).to_be_bytes());
            packet.extend([protocol, ttl]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
            packet.extend(payload);
            packet
        }
        _ => panic!("two versions in one header"),
    }
}

/// Pseudo header of a transport checksum, in the form of IPv6, which sums up to that of IPv4.
pub fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> Vec<u8> {
    let mut pseudo = Vec::new();
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => pseudo.extend(address.octets()),
            IpAddr::V6(address) => pseudo.extend(address.octets()),
        }
    }
    pseudo.extend((len as u32).to_be_bytes());
    pseudo.extend([0, 0, 0, protocol]);
    pseudo
}

/// A TCP segment or UDP datagram with a right checksum, as an IP packet.
pub fn transport(header: &Header, ports: (u16, u16), protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(ports.0.to_be_bytes());
    segment.extend(ports.1.to_be_bytes());
    let at = if protocol == TCP {
        segment.extend([1, 2, 3, 4, 5, 6, 7, 8, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
        16
    } else {
        segment.extend((8 + payload.len() as u16).to_be_bytes());
        segment.extend([0, 0]);
        6
    };
    segment.extend(payload);
    let pseudo = pseudo(header.source, header.destination, protocol, segment.len());
    let sum = checksum(&[&pseudo, &segment]);
    let sum = if sum == 0 { 0xffff } else { sum };
    segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    ip(header, protocol, &segment)
}

/// Version of a packet.
pub fn is_v4(packet: &[u8]) -> bool {
    packet[0] >> 4 == 4
}

/// Header length, protocol, and place of the transport checksum within the packet.
fn transport_of(packet: &[u8]) -> (usize, u8, usize) {
    let (header_len, protocol) = if is_v4(packet) {
        (usize::from(packet[0] & 0xf) * 4, packet[9])
    } else {
        (40, packet[6])
    };
    let at = header_len + if protocol == TCP { 16 } else { 6 };
    (header_len, protocol, at)
}

fn addresses(packet: &[u8]) -> (IpAddr, IpAddr) {
    let v4 = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).unwrap());
    let v6 = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap());
    if is_v4(packet) {
        (v4(12), v4(16))
    } else {
        (v6(8), v6(24))
    }
}

/// What the transport checksum is before anybody has summed up the segment: the pseudo header's sum.
pub fn unfinished(packet: &[u8]) -> Vec<u8> {
    let (header_len, protocol, at) = transport_of(packet);
    let (source, destination) = addresses(packet);
    let sum = !checksum(&[&pseudo(
        source,
        destination,
        protocol,
        packet.len() - header_len,
    )]);
    let mut packet = packet.to_vec();
    packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Wraps a packet.
pub fn wrap(inner: &[u8], shell: Shell, outer: &Header, gue_ports: (u16, u16)) -> Vec<u8> {
    let number = if is_v4(inner) { 4 } else { 41 };
    let ethertype: [u8; 2] = if is_v4(inner) {
        [0x08, 0x00]
    } else {
        [0x86, 0xdd]
    };
    let (protocol, payload) = match shell {
        Shell::Ipip => (number, inner.to_vec()),
        Shell::Gue | Shell::GueChecksum | Shell::GueRemote => {
            let mut gue = vec![0, number, 0, 0];
            let mut inner = inner.to_vec();
            if shell == Shell::GueRemote {
                let (start, _, at) = transport_of(&inner);
                gue = vec![2, number, 0, 1, 0x80, 0, 0, 0];
                gue.extend((start as u16).to_be_bytes());
                gue.extend((at as u16).to_be_bytes());
                inner = unfinished(&inner);
            }
            let len = 8 + gue.len() + inner.len();
            let mut udp = gue_ports.0.to_be_bytes().to_vec();
            udp.extend(gue_ports.1.to_be_bytes());
            udp.extend((len as u16).to_be_bytes());
            udp.extend([0, 0]);
            udp.extend(gue);
            udp.extend(inner);
            if shell != Shell::Gue {
                let pseudo = pseudo(outer.source, outer.destination, UDP, len);
                let sum = checksum(&[&pseudo, &udp]);
                udp[6..8].copy_from_slice(&sum.to_be_bytes());
            }
            (UDP, udp)
        }
        Shell::Gre => (47, [&[0, 0], &ethertype[..], inner].concat()),
        Shell::GreChecksum => {
            let mut gre = [&[0x80, 0], &ethertype[..], &[0; 4], inner].concat();
            let sum = checksum(&[&gre]);
            gre[4..6].copy_from_slice(&sum.to_be_bytes());
            (47, gre)
        }
    };
    ip(outer, protocol, &payload)
}
