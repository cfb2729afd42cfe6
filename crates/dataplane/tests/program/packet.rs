//! Packets of either family, whole, in fragments, with extension headers, and errors about them.

use std::net::{IpAddr, SocketAddr};

use pointsman_testkit::frames::{Mac, checksum};

use crate::frame::{DF, ICMP, SCTP, TCP, UDP, seal_ip};

/// Protocol number of ICMPv6.
pub const ICMP6: u8 = 58;
/// Next header of a fragment header.
const FRAGMENT: u8 = 44;

/// A packet, described; [`Packet::frame`] makes it with every checksum right.
#[derive(Clone, Debug)]
pub struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub tos: u8,
    pub ttl: u8,
    pub id: u32,
    /// Don't fragment; IPv4 only.
    pub df: bool,
    /// Offset in bytes, and whether more follow.
    pub fragment: Option<(usize, bool)>,
    /// IPv4 options, or IPv6 extension headers: kind and contents behind the two bytes that each
    /// begins with.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// From the transport header on.
    pub body: Vec<u8>,
}

impl Packet {
    pub fn new(source: IpAddr, destination: IpAddr, protocol: u8, body: Vec<u8>) -> Self {
        Self {
            source,
            destination,
            protocol,
            tos: 0,
            ttl: 64,
            id: 0x1234,
            df: false,
            fragment: None,
            extensions: Vec::new(),
            body,
        }
    }

    pub fn tcp(source: SocketAddr, destination: SocketAddr, flags: u8, payload: &[u8]) -> Self {
        let mut body = ports(source, destination);
        body.extend([
            1,
            2,
            3,
            4,
            0,
            0,
            0,
            0,
            5 << 4,
            flags,
            0xfa,
            0xf0,
            0,
            0,
            0,
            0,
        ]);
        body.extend(payload);
        let mut packet = Self::new(source.ip(), destination.ip(), TCP, body);
        packet.seal(16);
        packet
    }

    pub fn udp(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Self {
        let mut body = ports(source, destination);
        body.extend((8 + payload.len() as u16).to_be_bytes());
        body.extend([0, 0]);
        body.extend(payload);
        let mut packet = Self::new(source.ip(), destination.ip(), UDP, body);
        packet.seal(6);
        packet
    }

    /// SCTP with chunks of these types, of eight bytes each, the last one with `payload` behind it.
    pub fn sctp(
        source: SocketAddr,
        destination: SocketAddr,
        chunks: &[u8],
        payload: &[u8],
    ) -> Self {
        let mut body = ports(source, destination);
        body.extend([9, 8, 7, 6, 0, 0, 0, 0]);
        for (i, chunk) in chunks.iter().enumerate() {
            let more = if i + 1 == chunks.len() { payload } else { &[] };
            body.extend([*chunk, 0]);
            body.extend((8 + more.len() as u16).to_be_bytes());
            body.extend([0xaa, 0xbb, 0xcc, 0xdd]);
            body.extend(more);
        }
        let sum = crc32c(&body);
        body[8..12].copy_from_slice(&sum.to_le_bytes());
        Self::new(source.ip(), destination.ip(), SCTP, body)
    }

    /// An ICMP error about `quoted`, which begins with an IP header.
    pub fn error(
        source: IpAddr,
        destination: IpAddr,
        (kind, code): (u8, u8),
        rest: u32,
        quoted: &[u8],
    ) -> Self {
        let mut body = vec![kind, code, 0, 0];
        body.extend(rest.to_be_bytes());
        body.extend(quoted);
        let protocol = if source.is_ipv4() { ICMP } else { ICMP6 };
        let mut packet = Self::new(source, destination, protocol, body);
        packet.seal(2);
        packet
    }

    pub fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    pub fn id(self, id: u32) -> Self {
        Self { id, ..self }
    }

    /// With an IPv6 extension header, or IPv4 options, behind those it has.
    pub fn extension(mut self, kind: u8, contents: &[u8]) -> Self {
        self.extensions.push((kind, contents.to_vec()));
        self
    }

    /// The packet in fragments whose payloads have `size` bytes, a multiple of eight.
    pub fn fragments(&self, size: usize) -> Vec<Self> {
        let len = self.body.len();
        let cut = |(i, part): (usize, &[u8])| Self {
            fragment: Some((i * size, (i + 1) * size < len)),
            body: part.to_vec(),
            ..self.clone()
        };
        self.body.chunks(size).enumerate().map(cut).collect()
    }

    /// The packet from its IP header on.
    pub fn ip(&self) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let options: Vec<u8> = self
                    .extensions
                    .iter()
                    .flat_map(|(_, contents)| contents.clone())
                    .collect();
                let len = 20 + options.len();
                let mut ip = vec![0x40 | (len / 4) as u8, self.tos];
                ip.extend(((len + self.body.len()) as u16).to_be_bytes());
                ip.extend((self.id as u16).to_be_bytes());
                let (offset, more) = self.fragment.unwrap_or((0, false));
                let flags = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
                ip.extend((flags | if self.df { DF } else { 0 }).to_be_bytes());
                ip.extend([self.ttl, self.protocol, 0, 0]);
                ip.extend(source.octets());
                ip.extend(destination.octets());
                ip.extend(options);
                seal_ip(&mut ip);
                ip.extend(&self.body);
                ip
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut kinds: Vec<u8> = self.extensions.iter().map(|(kind, _)| *kind).collect();
                if self.fragment.is_some() {
                    kinds.push(FRAGMENT);
                }
                kinds.push(self.protocol);
                let mut rest = Vec::new();
                for ((_, contents), next) in self.extensions.iter().zip(&kinds[1..]) {
                    assert_eq!(contents.len() % 8, 6, "an extension header of whole octets");
                    rest.extend([*next, (contents.len() / 8) as u8]);
                    rest.extend(contents);
                }
                if let Some((offset, more)) = self.fragment {
                    rest.extend([self.protocol, 0]);
                    rest.extend((offset as u16 | u16::from(more)).to_be_bytes());
                    rest.extend(self.id.to_be_bytes());
                }
                rest.extend(&self.body);
                let mut ip = vec![0x60 | self.tos >> 4, self.tos << 4, 0, 7];
                ip.extend((rest.len() as u16).to_be_bytes());
                ip.extend([kinds[0], self.ttl]);
                ip.extend(source.octets());
                ip.extend(destination.octets());
                ip.extend(rest);
                ip
            }
            _ => panic!("two families in one packet"),
        }
    }

    /// The packet in a frame.
    pub fn frame(&self, from: Mac, to: Mac) -> Vec<u8> {
        let kind = if self.source.is_ipv4() {
            [0x08, 0x00]
        } else {
            [0x86, 0xdd]
        };
        [&to[..], &from, &kind, &self.ip()].concat()
    }

    /// Puts the right checksum into the body, at `at`.
    pub fn seal(&mut self, at: usize) {
        self.body[at..at + 2].fill(0);
        let pseudo = if self.protocol == ICMP {
            Vec::new()
        } else {
            self.pseudo_header()
        };
        let sum = checksum(&[&pseudo, &self.body]);
        let sum = if self.protocol == UDP && sum == 0 {
            0xffff
        } else {
            sum
        };
        self.body[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }

    /// What its transport checksum covers besides the body.
    pub fn pseudo_header(&self) -> Vec<u8> {
        pseudo(
            self.source,
            self.destination,
            self.protocol,
            self.body.len(),
        )
    }

    /// Reads a frame without tags; fragments and extension headers are taken apart too.
    pub fn of(frame: &[u8]) -> Self {
        Self::of_ip(&frame[14..]).unwrap_or_else(|| panic!("no packet in {frame:x?}"))
    }

    /// Reads a packet from its IP header on; what an error quotes may be cut off.
    pub fn of_ip(ip: &[u8]) -> Option<Self> {
        let be16 = |at: usize| Some(u16::from_be_bytes(ip.get(at..at + 2)?.try_into().ok()?));
        let end = |total: usize| total.min(ip.len());
        if ip.first()? >> 4 == 4 {
            let address = |at: usize| Some(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?.into());
            let len = usize::from(ip[0] & 0xf) * 4;
            let total = end(be16(2)?.into());
            let fragment = be16(6)?;
            let body = ip.get(len..total)?.to_vec();
            return Some(Self {
                tos: ip[1],
                ttl: ip[8],
                id: be16(4)?.into(),
                df: fragment & DF != 0,
                fragment: (fragment & 0x3fff != 0)
                    .then_some((usize::from(fragment & 0x1fff) * 8, fragment & 0x2000 != 0)),
                extensions: match ip.get(20..len)? {
                    [] => Vec::new(),
                    options => vec![(0, options.to_vec())],
                },
                ..Self::new(address(12)?, address(16)?, ip[9], body)
            });
        }
        let address = |at: usize| Some(<[u8; 16]>::try_from(ip.get(at..at + 16)?).ok()?.into());
        let total = end(40 + usize::from(be16(4)?));
        let mut packet = Self {
            tos: ip[0] << 4 | ip[1] >> 4,
            ttl: ip[7],
            ..Self::new(address(8)?, address(24)?, ip[6], Vec::new())
        };
        let mut at = 40;
        while matches!(packet.protocol, 0 | 43 | 44 | 60) {
            let kind = packet.protocol;
            packet.protocol = *ip.get(at)?;
            if kind == FRAGMENT {
                let offset = be16(at + 2)?;
                packet.fragment = Some((usize::from(offset & !7), offset & 1 != 0));
                packet.id = u32::from_be_bytes(ip.get(at + 4..at + 8)?.try_into().ok()?);
                at += 8;
                if offset >= 8 {
                    break;
                }
            } else {
                let len = (usize::from(*ip.get(at + 1)?) + 1) * 8;
                packet
                    .extensions
                    .push((kind, ip.get(at + 2..at + len)?.to_vec()));
                at += len;
            }
        }
        packet.body = ip.get(at..total)?.to_vec();
        Some(packet)
    }

    /// Source and destination with their ports.
    pub fn sockets(&self) -> (SocketAddr, SocketAddr) {
        let port = |at: usize| u16::from_be_bytes([self.body[at], self.body[at + 1]]);
        (
            SocketAddr::new(self.source, port(0)),
            SocketAddr::new(self.destination, port(2)),
        )
    }

    /// The packet that an ICMP error quotes.
    pub fn quoted(&self) -> Self {
        assert!(matches!(self.protocol, ICMP | ICMP6), "no ICMP: {self:?}");
        Self::of_ip(&self.body[8..]).expect("a quoted packet")
    }

    /// Whether every checksum is right that can be counted.
    pub fn check(&self) -> Result<(), String> {
        if self.fragment.is_some() {
            return Ok(());
        }
        let sum = checksum(&[&self.pseudo_header(), &self.body]);
        match self.protocol {
            TCP if sum != 0 => Err("TCP checksum".into()),
            UDP if sum != 0 && self.body.get(6..8) != Some(&[0, 0]) => Err("UDP checksum".into()),
            ICMP6 if sum != 0 => Err("ICMPv6 checksum".into()),
            ICMP if checksum(&[&self.body]) != 0 => Err("ICMP checksum".into()),
            SCTP if self.body.len() >= 12 => {
                let mut zeroed = self.body.clone();
                zeroed[8..12].fill(0);
                if self.body[8..12] == crc32c(&zeroed).to_le_bytes() {
                    Ok(())
                } else {
                    Err("SCTP checksum".into())
                }
            }
            _ => Ok(()),
        }
    }
}

fn ports(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    [
        source.port().to_be_bytes(),
        destination.port().to_be_bytes(),
    ]
    .concat()
}

/// The pseudo header of either family (RFC 9293 §3.1, RFC 8200 §8.1).
fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut pseudo = [source.octets(), destination.octets()].concat();
            pseudo.extend([0, protocol]);
            pseudo.extend((len as u16).to_be_bytes());
            pseudo
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut pseudo = [source.octets(), destination.octets()].concat();
            pseudo.extend((len as u32).to_be_bytes());
            pseudo.extend([0, 0, 0, protocol]);
            pseudo
        }
        _ => panic!("two families in one packet"),
    }
}

/// CRC32c, bit by bit (RFC 9260 appendix A).
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    !crc
}
