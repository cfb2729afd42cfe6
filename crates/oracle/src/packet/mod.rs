//! IP packets as scenarios speak of them: what is sent, and what is said of what arrives.

mod emit;
mod read;

use std::fmt::Write;
use std::net::IpAddr;

use crate::names;

pub use emit::{fragments, identify};

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

fn icmp_protocol(v6: bool) -> u8 {
    if v6 { 58 } else { 1 }
}

fn ip_protocol(inner: &Packet) -> u8 {
    if inner.source.is_ipv6() { 41 } else { 4 }
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
