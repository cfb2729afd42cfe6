//! Frames built and read byte by byte.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A hardware address.
pub type Mac = [u8; 6];

/// Everybody on the segment.
pub const BROADCAST: Mac = [0xff; 6];
/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of a VLAN tag.
pub const VLAN: u16 = 0x8100;
/// TCP's SYN flag.
pub const SYN: u8 = 0x02;
/// TCP's ACK flag.
pub const ACK: u8 = 0x10;

/// An Ethernet header with an optional 802.1Q tag.
#[derive(Clone, Copy, Debug)]
pub struct Ethernet {
    /// To whom.
    pub destination: Mac,
    /// From whom.
    pub source: Mac,
    /// VLAN identifier.
    pub vlan: Option<u16>,
}

impl Ethernet {
    /// The frame with `payload` of type `ethertype`.
    pub fn frame(&self, ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(18 + payload.len());
        frame.extend_from_slice(&self.destination);
        frame.extend_from_slice(&self.source);
        if let Some(vlan) = self.vlan {
            frame.extend_from_slice(&VLAN.to_be_bytes());
            frame.extend_from_slice(&vlan.to_be_bytes());
        }
        frame.extend_from_slice(&ethertype.to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    }
}

/// An IPv4 packet without options, with its header checksum; TTL 64, DF set.
pub fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 20];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    header[6] = 0x40;
    header[8] = 64;
    header[9] = protocol;
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&destination.octets());
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&header, payload].concat()
}

/// A whole IPv4 packet with a TCP segment without payload.
pub fn tcp(
    source: (Ipv4Addr, u16),
    destination: (Ipv4Addr, u16),
    flags: u8,
    sequence: u32,
) -> Vec<u8> {
    Segment {
        flags,
        sequence,
        ..Segment::default()
    }
    .packet(source.into(), destination.into())
}

/// What a TCP segment says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Segment<'a> {
    /// Flags.
    pub flags: u8,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Options, a multiple of four bytes.
    pub options: &'a [u8],
    /// Data.
    pub payload: &'a [u8],
}

impl Segment<'_> {
    /// The whole IP packet.
    ///
    /// # Panics
    /// With addresses of two families.
    pub fn packet(&self, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
        let mut segment = vec![0_u8; 20];
        segment[0..2].copy_from_slice(&source.port().to_be_bytes());
        segment[2..4].copy_from_slice(&destination.port().to_be_bytes());
        segment[4..8].copy_from_slice(&self.sequence.to_be_bytes());
        segment[8..12].copy_from_slice(&self.acknowledgement.to_be_bytes());
        segment[12] = (5 + self.options.len() as u8 / 4) << 4;
        segment[13] = self.flags;
        segment[14..16].copy_from_slice(&64_240_u16.to_be_bytes());
        segment.extend_from_slice(self.options);
        segment.extend_from_slice(self.payload);
        let length = segment.len() as u16;
        match (source.ip(), destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let sum = checksum(&[&pseudo_header(from, to, 6, length), &segment]);
                segment[16..18].copy_from_slice(&sum.to_be_bytes());
                ipv4(from, to, 6, &segment)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut header = vec![0x60, 0, 0, 0];
                header.extend_from_slice(&length.to_be_bytes());
                header.extend_from_slice(&[6, 64]);
                header.extend_from_slice(&from.octets());
                header.extend_from_slice(&to.octets());
                let pseudo = [&header[8..], &[0, 0], &length.to_be_bytes(), &[0, 0, 0, 6]].concat();
                let sum = checksum(&[&pseudo, &segment]);
                segment[16..18].copy_from_slice(&sum.to_be_bytes());
                [header, segment].concat()
            }
            _ => panic!("{source} and {destination} are of two families"),
        }
    }
}

/// A whole IPv4 packet with a UDP datagram.
pub fn udp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len() as u16;
    let mut datagram = vec![0_u8; 8];
    datagram[0..2].copy_from_slice(&source.1.to_be_bytes());
    datagram[2..4].copy_from_slice(&destination.1.to_be_bytes());
    datagram[4..6].copy_from_slice(&length.to_be_bytes());
    datagram.extend_from_slice(payload);
    let sum = checksum(&[
        &pseudo_header(source.0, destination.0, 17, length),
        &datagram,
    ]);
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    ipv4(source.0, destination.0, 17, &datagram)
}

/// An ARP request: who has `target`? Tell `sender`.
pub fn arp_request(sender: (Mac, Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
    arp.extend_from_slice(&sender.0);
    arp.extend_from_slice(&sender.1.octets());
    arp.extend_from_slice(&[0; 6]);
    arp.extend_from_slice(&target.octets());
    arp
}

/// The Internet checksum (RFC 1071) over even-length parts and a last one of any length.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn pseudo_header(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: u16) -> [u8; 12] {
    let mut header = [0; 12];
    header[0..4].copy_from_slice(&source.octets());
    header[4..8].copy_from_slice(&destination.octets());
    header[9] = protocol;
    header[10..12].copy_from_slice(&length.to_be_bytes());
    header
}

/// What a frame says, as far as an assertion wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// To whom.
    pub destination: Mac,
    /// From whom.
    pub source: Mac,
    /// VLAN identifier of the outermost tag.
    pub vlan: Option<u16>,
    /// EtherType behind the tag.
    pub ethertype: u16,
    /// IPv4 header, when there is one.
    pub ip: Option<Ip>,
}

/// An IPv4 header and the ports behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Protocol.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// Source and destination port of TCP or UDP.
    pub ports: Option<(u16, u16)>,
    /// TCP's flags.
    pub tcp_flags: Option<u8>,
    /// Header checksum is right.
    pub checksum_ok: bool,
}

impl View {
    /// Reads a frame; `None` when it is shorter than an Ethernet header.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let destination = frame.get(0..6)?.try_into().ok()?;
        let source = frame.get(6..12)?.try_into().ok()?;
        let mut ethertype = be16(frame, 12)?;
        let mut payload = frame.get(14..)?;
        let mut vlan = None;
        if ethertype == VLAN {
            vlan = Some(be16(payload, 0)? & 0x0fff);
            ethertype = be16(payload, 2)?;
            payload = payload.get(4..)?;
        }
        let ip = if ethertype == IPV4 {
            Ip::of(payload)
        } else {
            None
        };
        Some(Self {
            destination,
            source,
            vlan,
            ethertype,
            ip,
        })
    }
}

impl Ip {
    /// Reads an IPv4 packet, also the inner one of a tunnel.
    pub fn of(packet: &[u8]) -> Option<Self> {
        let header_length = usize::from(packet.first()? & 0x0f) * 4;
        let header = packet.get(..header_length.max(20))?;
        let address = |at: usize| {
            Some(Ipv4Addr::from(
                <[u8; 4]>::try_from(header.get(at..at + 4)?).ok()?,
            ))
        };
        let protocol = header[9];
        let payload = packet.get(header_length..)?;
        let ports = match protocol {
            6 | 17 => be16(payload, 0).zip(be16(payload, 2)),
            _ => None,
        };
        let tcp_flags = if protocol == 6 {
            payload.get(13).copied()
        } else {
            None
        };
        Some(Self {
            source: address(12)?,
            destination: address(16)?,
            protocol,
            ttl: header[8],
            ports,
            tcp_flags,
            checksum_ok: checksum(&[header]) == 0,
        })
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const B: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

    #[test]
    fn a_built_frame_reads_back() {
        let header = Ethernet {
            destination: [1; 6],
            source: [2; 6],
            vlan: Some(42),
        };
        let frame = header.frame(IPV4, &tcp((A, 1000), (B, 80), SYN, 7));
        let view = View::of(&frame).unwrap();
        assert_eq!((view.vlan, view.ethertype), (Some(42), IPV4));
        let ip = view.ip.unwrap();
        assert_eq!((ip.source, ip.destination), (A, B));
        assert_eq!((ip.ports, ip.tcp_flags), (Some((1000, 80)), Some(SYN)));
        assert!(ip.checksum_ok);
    }

    #[test]
    fn every_truncation_reads_without_panic() {
        let header = Ethernet {
            destination: [1; 6],
            source: [2; 6],
            vlan: Some(42),
        };
        let frame = header.frame(IPV4, &udp((A, 1), (B, 2), b"payload"));
        for length in 0..frame.len() {
            let _ = View::of(&frame[..length]);
        }
    }
}
