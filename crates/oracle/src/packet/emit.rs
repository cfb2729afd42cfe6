//! Packets as bytes: their headers, checksums and fragments.

use std::net::IpAddr;

use pointsman_testkit::frames::checksum;

use super::{Body, GUE_PORT, IPV6_FRAGMENT, Packet, crc32c, pseudo_header};

impl Packet {
    /// The bytes, all checksums right. Payload is the letter x.
    pub fn emit(&self) -> Vec<u8> {
        let body = self.body.emit(self.source, self.destination);
        self.header(body.len(), self.body.protocol(self.source.is_ipv6()), body)
    }

    fn header(&self, length: usize, protocol: u8, body: Vec<u8>) -> Vec<u8> {
        let mut packet;
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                packet = vec![0_u8; 20];
                packet[0] = 0x45;
                packet[1] = self.tos;
                packet[2..4].copy_from_slice(&(20 + length as u16).to_be_bytes());
                packet[4..6].copy_from_slice(&0x1234_u16.to_be_bytes());
                packet[6] = if self.dont_fragment { 0x40 } else { 0 };
                packet[8] = self.ttl;
                packet[9] = protocol;
                packet[12..16].copy_from_slice(&source.octets());
                packet[16..20].copy_from_slice(&destination.octets());
                sum_header(&mut packet);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                packet = vec![0_u8; 40];
                packet[0] = 0x60 | self.tos >> 4;
                packet[1] = self.tos << 4;
                packet[4..6].copy_from_slice(&(length as u16).to_be_bytes());
                packet[6] = protocol;
                packet[7] = self.ttl;
                packet[8..24].copy_from_slice(&source.octets());
                packet[24..40].copy_from_slice(&destination.octets());
            }
            _ => panic!("{} and {} differ in family", self.source, self.destination),
        }
        packet.extend(body);
        packet
    }
}

impl Body {
    fn emit(&self, source: IpAddr, destination: IpAddr) -> Vec<u8> {
        let mut bytes;
        let sum_at = match self {
            Self::Tcp { ports, flags, data } => {
                bytes = ports_of(*ports);
                bytes.extend(1000_u32.to_be_bytes());
                bytes.extend(2000_u32.to_be_bytes());
                bytes.extend([5 << 4, flags.unwrap_or(0), 0xff, 0xff, 0, 0, 0, 0]);
                bytes.resize(20 + data, b'x');
                16
            }
            Self::Udp {
                ports,
                data,
                summed,
            } => {
                bytes = ports_of(*ports);
                bytes.extend((8 + *data as u16).to_be_bytes());
                bytes.extend([0, 0]);
                bytes.resize(8 + data, b'x');
                if !summed {
                    return bytes;
                }
                6
            }
            Self::Sctp { ports, chunks } => {
                bytes = ports_of(*ports);
                bytes.extend([0, 0, 0, 1, 0, 0, 0, 0]);
                for &chunk in chunks {
                    // INIT and INIT-ACK have 16 more bytes: tag, window, streams, first TSN.
                    let length = if matches!(chunk, 1 | 2) { 20 } else { 8 };
                    bytes.extend([chunk, 0, 0, length]);
                    bytes.resize(bytes.len() + usize::from(length) - 4, 1);
                }
                let sum = crc32c(&bytes);
                bytes[8..12].copy_from_slice(&sum.to_le_bytes());
                return bytes;
            }
            Self::Icmp {
                kind,
                code,
                rest,
                about,
            } => {
                bytes = vec![*kind, *code, 0, 0];
                bytes.extend(rest.to_be_bytes());
                match about {
                    Some((packet, quoted)) => {
                        let packet = packet.emit();
                        bytes.extend(&packet[..packet.len().min(*quoted)]);
                    }
                    None => bytes.resize(64, b'x'),
                }
                2
            }
            Self::Ip(inner) => return inner.emit(),
            Self::Gre { summed, inner } => {
                let kind: [u8; 2] = if inner.source.is_ipv6() {
                    [0x86, 0xdd]
                } else {
                    [8, 0]
                };
                bytes = vec![if *summed { 0x80 } else { 0 }, 0, kind[0], kind[1]];
                bytes.resize(if *summed { 8 } else { 4 }, 0);
                bytes.extend(inner.emit());
                if *summed {
                    let sum = checksum(&[&bytes]);
                    bytes[4..6].copy_from_slice(&sum.to_be_bytes());
                }
                return bytes;
            }
            Self::Gue {
                summed,
                header,
                inner,
            } => {
                let inner = inner.emit();
                bytes = ports_of((40000, GUE_PORT));
                bytes.extend((8 + (header.len() + inner.len()) as u16).to_be_bytes());
                bytes.extend([0, 0]);
                bytes.extend(header);
                bytes.extend(inner);
                if !summed {
                    return bytes;
                }
                6
            }
            Self::Other { data, .. } => return vec![b'x'; *data],
        };
        let pseudo = match self {
            Self::Icmp { .. } if source.is_ipv4() => Vec::new(),
            _ => pseudo_header(
                source,
                destination,
                self.protocol(source.is_ipv6()),
                bytes.len(),
            ),
        };
        let mut sum = checksum(&[&pseudo, &bytes]);
        if sum == 0 && matches!(self, Self::Udp { .. } | Self::Gue { .. }) {
            sum = 0xffff;
        }
        bytes[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

/// Gives an IPv4 packet another identification; those of IPv6 have none.
pub fn identify(packet: &mut [u8], identification: u16) {
    if packet[0] >> 4 == 4 {
        packet[4..6].copy_from_slice(&identification.to_be_bytes());
        sum_header(&mut packet[..20]);
    }
}

/// The fragments of a whole packet, each but the last with `size` bytes behind the IP header.
pub fn fragments(packet: &[u8], size: usize, identification: u16) -> Vec<Vec<u8>> {
    let v6 = packet[0] >> 4 == 6;
    let (header, body) = packet.split_at(if v6 { 40 } else { 20 });
    let count = body.chunks(size).len();
    let pieces = body.chunks(size).enumerate();
    let fragment = |(n, piece): (usize, &[u8])| {
        let (offset, more) = ((n * size) as u16, u16::from(n + 1 < count));
        let mut bytes = header.to_vec();
        if v6 {
            bytes[4..6].copy_from_slice(&(8 + piece.len() as u16).to_be_bytes());
            bytes[6] = IPV6_FRAGMENT;
            bytes.extend([header[6], 0]);
            bytes.extend((offset | more).to_be_bytes());
            bytes.extend(u32::from(identification).to_be_bytes());
        } else {
            bytes[2..4].copy_from_slice(&(20 + piece.len() as u16).to_be_bytes());
            bytes[6..8].copy_from_slice(&((offset / 8) | (more << 13)).to_be_bytes());
            identify(&mut bytes, identification);
        }
        bytes.extend(piece);
        bytes
    };
    pieces.map(fragment).collect()
}

fn sum_header(header: &mut [u8]) {
    header[10..12].fill(0);
    let sum = checksum(&[header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn ports_of((source, destination): (u16, u16)) -> Vec<u8> {
    [source.to_be_bytes(), destination.to_be_bytes()].concat()
}
