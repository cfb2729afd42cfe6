//! Packets out of bytes that may be anything.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pointsman_testkit::frames::checksum;

use super::{
    Body, GRE, GUE_PORT, IPV6_FRAGMENT, Packet, SCTP, TCP, UDP, crc32c, icmp_protocol,
    pseudo_header,
};

impl Packet {
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

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}
