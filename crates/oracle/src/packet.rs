//! IP packets as scenarios speak of them: what is sent, and what is said of what arrives.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pointsman_testkit::frames::checksum;

use crate::names;

/// UDP port at which a datagram is taken for a GUE tunnel's.
pub const GUE_PORT: u16 = 6080;

/// An IP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// From whom.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Type of service, or traffic class.
    pub tos: u8,
    /// IPv4's DF.
    pub dont_fragment: bool,
    /// Of fragments: offset in bytes, and whether more follow. Set by reading, not for emitting.
    pub fragment: Option<(usize, bool)>,
    /// What it carries.
    pub body: Body,
    /// What is wrong with it: checksums. Set by reading.
    pub flaws: Vec<&'static str>,
}

/// What an IP packet carries. Ports are source and destination; `data` counts bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// TCP without options; no flags when the quotation of an ICMP error ends before them.
    Tcp {
        ports: (u16, u16),
        flags: Option<u8>,
        data: usize,
    },
    /// UDP, with or without a checksum.
    Udp {
        ports: (u16, u16),
        data: usize,
        summed: bool,
    },
    /// SCTP by the types of its chunks.
    Sctp { ports: (u16, u16), chunks: Vec<u8> },
    /// ICMP of the packet's family; `rest` is the second word of its header, `about` whom an error
    /// quotes and in how many bytes.
    Icmp {
        kind: u8,
        code: u8,
        rest: u32,
        about: Option<(Box<Packet>, usize)>,
    },
    /// IP in IP.
    Ip(Box<Packet>),
    /// GRE with an IP packet.
    Gre { summed: bool, inner: Box<Packet> },
    /// GUE to [`GUE_PORT`] with its header and an IP packet.
    Gue {
        summed: bool,
        header: Vec<u8>,
        inner: Box<Packet>,
    },
    /// Anything else, later fragments too.
    Other { protocol: u8, data: usize },
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const IPV6_FRAGMENT: u8 = 44;
const GRE: u8 = 47;
const SCTP: u8 = 132;

/// Letters of TCP's flags from the lowest bit.
const FLAGS: &str = "FSRPAUEC";
/// Names of SCTP's chunks by type.
const CHUNKS: &[(&str, u8)] = &[
    ("DATA", 0),
    ("INIT", 1),
    ("INIT-ACK", 2),
    ("SACK", 3),
    ("HEARTBEAT", 4),
    ("HEARTBEAT-ACK", 5),
    ("ABORT", 6),
    ("SHUTDOWN", 7),
    ("SHUTDOWN-ACK", 8),
    ("ERROR", 9),
    ("COOKIE-ECHO", 10),
    ("COOKIE-ACK", 11),
    ("SHUTDOWN-COMPLETE", 14),
];

/// The flags that letters such as `SA` say; `.` says none.
pub fn flags(letters: &str) -> Option<u8> {
    letters
        .chars()
        .filter(|&letter| letter != '.')
        .try_fold(0, |flags, letter| {
            FLAGS.find(letter).map(|bit| flags | 1 << bit)
        })
}

/// The type of a chunk by its name.
pub fn chunk(name: &str) -> Option<u8> {
    CHUNKS.iter().find(|(of, _)| *of == name).map(|(_, n)| *n)
}

impl Packet {
    /// A packet with the usual header: TTL 64, no DF.
    pub fn new(source: IpAddr, destination: IpAddr, body: Body) -> Self {
        Self {
            source,
            destination,
            ttl: 64,
            tos: 0,
            dont_fragment: false,
            fragment: None,
            body,
            flaws: Vec::new(),
        }
    }

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

    /// Reads a packet; `None` when there is no whole header.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        Self::read_as(bytes, false)
    }

    fn read_as(bytes: &[u8], quoted: bool) -> Option<Self> {
        let mut flaws = Vec::new();
        let mut fragment = None;
        let (source, destination): (IpAddr, IpAddr);
        let (tos, ttl, dont_fragment, mut protocol, mut rest, length);
        match bytes.first()? >> 4 {
            4 => {
                let header = bytes.get(..usize::from(bytes[0] & 15) * 4)?;
                if header.len() < 20 {
                    return None;
                }
                if checksum(&[header]) != 0 {
                    flaws.push("BAD HEADER CHECKSUM");
                }
                source = Ipv4Addr::from(<[u8; 4]>::try_from(&header[12..16]).ok()?).into();
                destination = Ipv4Addr::from(<[u8; 4]>::try_from(&header[16..20]).ok()?).into();
                (tos, ttl, protocol) = (header[1], header[8], header[9]);
                let word = be16(header, 6)?;
                dont_fragment = word & 0x4000 != 0;
                if word & 0x3fff != 0 {
                    fragment = Some((usize::from(word & 0x1fff) * 8, word & 0x2000 != 0));
                }
                length = usize::from(be16(header, 2)?).checked_sub(header.len())?;
                rest = &bytes[header.len()..];
            }
            6 => {
                let header = bytes.get(..40)?;
                source = Ipv6Addr::from(<[u8; 16]>::try_from(&header[8..24]).ok()?).into();
                destination = Ipv6Addr::from(<[u8; 16]>::try_from(&header[24..40]).ok()?).into();
                (tos, ttl, protocol) = (header[0] << 4 | header[1] >> 4, header[7], header[6]);
                dont_fragment = false;
                let mut whole = usize::from(be16(header, 4)?);
                rest = &bytes[40..];
                if protocol == IPV6_FRAGMENT {
                    let word = be16(rest, 2)?;
                    fragment = Some((usize::from(word & 0xfff8), word & 1 != 0));
                    protocol = rest[0];
                    rest = rest.get(8..)?;
                    whole = whole.checked_sub(8)?;
                }
                length = whole;
            }
            _ => return None,
        }
        if rest.len() < length && !quoted {
            flaws.push("CUT OFF");
        }
        // Ethernet pads short frames.
        rest = &rest[..rest.len().min(length)];
        let reading = Reading {
            source,
            destination,
            rest,
            // What was cut off cannot be summed up, and quotations are not.
            sum: fragment.is_none() && !quoted && rest.len() == length,
            length,
        };
        let body = if fragment.is_some_and(|(offset, _)| offset > 0) {
            None
        } else {
            reading.body(protocol, &mut flaws)
        };
        let data = length;
        Some(Self {
            source,
            destination,
            ttl,
            tos,
            dont_fragment,
            fragment,
            body: body.unwrap_or(Body::Other { protocol, data }),
            flaws,
        })
    }

    /// The packet inside all tunnels.
    pub fn innermost(&self) -> &Self {
        match &self.body {
            Body::Ip(inner) | Body::Gre { inner, .. } | Body::Gue { inner, .. } => {
                inner.innermost()
            }
            _ => self,
        }
    }

    /// Source and destination port.
    pub fn ports(&self) -> Option<(u16, u16)> {
        match self.body {
            Body::Tcp { ports, .. } | Body::Udp { ports, .. } | Body::Sctp { ports, .. } => {
                Some(ports)
            }
            _ => None,
        }
    }

    /// One line that says it all: `c1:1024 > rs3:80 tcp S ttl 63`.
    pub fn describe(&self) -> String {
        let mut text = match self.ports() {
            Some((from, to)) => format!(
                "{}:{from} > {}:{to}",
                names::name(self.source),
                names::name(self.destination)
            ),
            None => format!(
                "{} > {}",
                names::name(self.source),
                names::name(self.destination)
            ),
        };
        self.body.describe(self.source.is_ipv6(), &mut text);
        write!(text, " ttl {}", self.ttl).unwrap();
        if self.tos != 0 {
            write!(text, " tos {:#04x}", self.tos).unwrap();
        }
        if self.dont_fragment {
            text += " df";
        }
        if let Some((offset, more)) = self.fragment {
            write!(text, " fragment {offset}").unwrap();
            text += if more { "+" } else { " last" };
        }
        for flaw in &self.flaws {
            write!(text, " {flaw}").unwrap();
        }
        if let Body::Ip(inner) | Body::Gre { inner, .. } | Body::Gue { inner, .. } = &self.body {
            write!(text, " [ {} ]", inner.describe()).unwrap();
        }
        text
    }
}

impl Body {
    fn protocol(&self, v6: bool) -> u8 {
        match self {
            Self::Tcp { .. } => TCP,
            Self::Udp { .. } | Self::Gue { .. } => UDP,
            Self::Sctp { .. } => SCTP,
            Self::Icmp { .. } => icmp_protocol(v6),
            Self::Ip(inner) => ip_protocol(inner),
            Self::Gre { .. } => GRE,
            Self::Other { protocol, .. } => *protocol,
        }
    }

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

    fn describe(&self, v6: bool, text: &mut String) {
        match self {
            Self::Tcp { flags, data, .. } => {
                *text += " tcp";
                if let Some(flags) = flags {
                    let letters = FLAGS.chars().enumerate();
                    let set = letters.filter(|(bit, _)| flags >> bit & 1 == 1);
                    let set: String = set.map(|(_, letter)| letter).collect();
                    write!(text, " {}", if set.is_empty() { "." } else { &set }).unwrap();
                }
                describe_data(*data, text);
            }
            Self::Udp { data, summed, .. } => {
                *text += " udp";
                if !summed {
                    *text += " nosum";
                }
                describe_data(*data, text);
            }
            Self::Sctp { chunks, .. } => {
                *text += " sctp";
                for chunk in chunks {
                    match CHUNKS.iter().find(|(_, of)| of == chunk) {
                        Some((name, _)) => write!(text, " {name}").unwrap(),
                        None => write!(text, " {chunk}").unwrap(),
                    }
                }
            }
            Self::Icmp {
                kind,
                code,
                rest,
                about,
            } => {
                *text += if v6 { " icmp6" } else { " icmp" };
                write!(text, " {kind}/{code}").unwrap();
                if about.is_some() && *rest != 0 {
                    write!(text, " mtu {rest}").unwrap();
                }
                if let Some((packet, quoted)) = about {
                    write!(text, " about ( {} ) in {quoted} bytes", packet.describe()).unwrap();
                }
            }
            Self::Ip(_) => *text += " ipip",
            Self::Gre { summed, .. } => *text += if *summed { " gre sum" } else { " gre" },
            Self::Gue { summed, header, .. } => {
                *text += if *summed { " gue sum" } else { " gue" };
                for byte in header {
                    write!(text, " {byte:02x}").unwrap();
                }
            }
            Self::Other { protocol, data } => {
                write!(text, " proto {protocol}").unwrap();
                describe_data(*data, text);
            }
        }
    }
}

fn describe_data(data: usize, text: &mut String) {
    if data > 0 {
        write!(text, " len {data}").unwrap();
    }
}

/// What lies behind an IP header.
struct Reading<'a> {
    source: IpAddr,
    destination: IpAddr,
    rest: &'a [u8],
    /// Whether transport checksums can be verified.
    sum: bool,
    /// How much the IP header says there is.
    length: usize,
}

impl Reading<'_> {
    fn body(&self, protocol: u8, flaws: &mut Vec<&'static str>) -> Option<Body> {
        let rest = self.rest;
        let mut verify = |covered: bool| {
            let pseudo = pseudo_header(self.source, self.destination, protocol, rest.len());
            let pseudo = if covered { &pseudo[..] } else { &[] };
            if self.sum && checksum(&[pseudo, rest]) != 0 {
                flaws.push("BAD CHECKSUM");
            }
        };
        match protocol {
            TCP => {
                let ports = (be16(rest, 0)?, be16(rest, 2)?);
                verify(true);
                let header = rest.get(12).map_or(20, |&b| usize::from(b >> 4) * 4);
                Some(Body::Tcp {
                    ports,
                    flags: rest.get(13).copied(),
                    data: self.length.saturating_sub(header),
                })
            }
            UDP => {
                let ports = (be16(rest, 0)?, be16(rest, 2)?);
                let summed = be16(rest, 6)? != 0;
                if summed {
                    verify(true);
                }
                if ports.1 == GUE_PORT
                    && let Some(header) = rest.get(8..12 + usize::from(rest.get(8)? & 0x1f) * 4)
                    && let Some(inner) = Packet::read(&rest[8 + header.len()..])
                {
                    return Some(Body::Gue {
                        summed,
                        header: header.into(),
                        inner: inner.into(),
                    });
                }
                let data = self.length.saturating_sub(8);
                Some(Body::Udp {
                    ports,
                    data,
                    summed,
                })
            }
            SCTP => {
                let ports = (be16(rest, 0)?, be16(rest, 2)?);
                if self.sum {
                    let mut zeroed = rest.to_vec();
                    zeroed.get_mut(8..12)?.fill(0);
                    if crc32c(&zeroed).to_le_bytes() != rest[8..12] {
                        flaws.push("BAD CHECKSUM");
                    }
                }
                let mut chunks = Vec::new();
                let mut at = 12;
                while let (Some(&kind), Some(length)) = (rest.get(at), be16(rest, at + 2)) {
                    chunks.push(kind);
                    at += usize::from(length.max(4)).next_multiple_of(4);
                }
                Some(Body::Sctp { ports, chunks })
            }
            _ if protocol == icmp_protocol(self.source.is_ipv6()) => {
                let header = rest.get(..8)?;
                verify(self.source.is_ipv6());
                let (kind, code) = (header[0], header[1]);
                let is_error = if self.source.is_ipv6() {
                    kind < 128
                } else {
                    matches!(kind, 3 | 4 | 5 | 11 | 12)
                };
                let quote = &rest[8..];
                let about = Packet::read_as(quote, true).filter(|_| is_error);
                Some(Body::Icmp {
                    kind,
                    code,
                    rest: u32::from_be_bytes(header[4..8].try_into().ok()?),
                    about: about.map(|about| (about.into(), quote.len())),
                })
            }
            4 | 41 => Some(Body::Ip(Packet::read(rest)?.into())),
            GRE => {
                let summed = rest.first()? & 0x80 != 0;
                if summed && checksum(&[rest]) != 0 {
                    flaws.push("BAD CHECKSUM");
                }
                let inner = Packet::read(rest.get(if summed { 8 } else { 4 }..)?)?.into();
                Some(Body::Gre { summed, inner })
            }
            _ => None,
        }
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
            bytes[6..8].copy_from_slice(&(offset / 8 | more << 13).to_be_bytes());
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

/// The pseudo header of RFC 793 or RFC 8200.
pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(40);
    for address in [source, destination] {
        match address {
            IpAddr::V4(v4) => bytes.extend(v4.octets()),
            IpAddr::V6(v6) => bytes.extend(v6.octets()),
        }
    }
    // In a sum the four bytes of IPv6's length and the two of IPv4's come to the same.
    bytes.extend((length as u32).to_be_bytes());
    bytes.extend([0, 0, 0, protocol]);
    bytes
}

fn ports_of((source, destination): (u16, u16)) -> Vec<u8> {
    [source.to_be_bytes(), destination.to_be_bytes()].concat()
}

fn icmp_protocol(v6: bool) -> u8 {
    if v6 { 58 } else { 1 }
}

fn ip_protocol(inner: &Packet) -> u8 {
    if inner.source.is_ipv6() { 41 } else { 4 }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// CRC-32C as SCTP uses it (RFC 9260 appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases() -> Vec<Packet> {
        let (client, server) = (
            names::resolve("c1").unwrap(),
            names::resolve("rs2").unwrap(),
        );
        let v6 = |name: &str| names::resolve(name).unwrap();
        let tcp = Body::Tcp {
            ports: (1024, 80),
            flags: flags("SA"),
            data: 3,
        };
        let udp = |summed| Body::Udp {
            ports: (5, 53),
            data: 100,
            summed,
        };
        let sctp = Body::Sctp {
            ports: (7, 8),
            chunks: vec![1, 6],
        };
        let one = Packet::new(client, server, tcp.clone());
        let six = Packet::new(v6("c3v6"), v6("VIPv6"), tcp);
        let wrapped = |body| Packet::new(server, client, body);
        vec![
            one.clone(),
            six.clone(),
            wrapped(udp(true)),
            wrapped(udp(false)),
            wrapped(sctp),
            wrapped(Body::Icmp {
                kind: 3,
                code: 4,
                rest: 1480,
                about: Some((one.clone().into(), 43)),
            }),
            Packet::new(
                v6("D1v6"),
                v6("c1v6"),
                Body::Icmp {
                    kind: 1,
                    code: 4,
                    rest: 0,
                    about: Some((six.clone().into(), 63)),
                },
            ),
            wrapped(Body::Ip(six.into())),
            wrapped(Body::Gre {
                summed: true,
                inner: one.clone().into(),
            }),
            wrapped(Body::Gue {
                summed: true,
                header: vec![0, 4, 0, 0],
                inner: one.into(),
            }),
            wrapped(Body::Other {
                protocol: 50,
                data: 9,
            }),
        ]
    }

    #[test]
    fn what_was_emitted_reads_back() {
        for packet in cases() {
            assert_eq!(Packet::read(&packet.emit()), Some(packet));
        }
    }

    #[test]
    fn a_flipped_bit_is_a_flaw() {
        let bytes = cases()[0].emit();
        for at in [8, 25] {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert_ne!(Packet::read(&bytes).unwrap().flaws, [""; 0]);
        }
    }

    #[test]
    fn a_description_names_the_ends() {
        let said: Vec<_> = cases().iter().map(Packet::describe).collect();
        assert_eq!(said[0], "c1:1024 > rs2:80 tcp SA len 3 ttl 64");
        assert_eq!(
            said[5],
            "rs2 > c1 icmp 3/4 mtu 1480 about ( c1:1024 > rs2:80 tcp SA len 3 ttl 64 ) in 43 \
             bytes ttl 64"
        );
        assert_eq!(
            said[7],
            "rs2 > c1 ipip ttl 64 [ c3v6:1024 > VIPv6:80 tcp SA len 3 ttl 64 ]"
        );
    }

    #[test]
    fn fragments_say_where_they_belong() {
        let whole = cases()[2].emit();
        let said: Vec<_> = fragments(&whole, 64, 7)
            .iter()
            .map(|bytes| Packet::read(bytes).unwrap().describe())
            .collect();
        assert_eq!(
            said,
            [
                "rs2:5 > c1:53 udp len 56 ttl 64 fragment 0+",
                "rs2 > c1 proto 17 len 44 ttl 64 fragment 64 last"
            ]
        );
    }

    #[test]
    fn every_truncation_reads_without_panic() {
        for packet in cases() {
            let bytes = packet.emit();
            for length in 0..bytes.len() {
                let _ = Packet::read(&bytes[..length]);
            }
        }
    }
}
