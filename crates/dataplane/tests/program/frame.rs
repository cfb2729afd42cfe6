//! Frames to send at the programs, and a full recount of what comes out.

use std::net::Ipv4Addr;

use pointsman_testkit::frames::{Mac, checksum};

use crate::packet::Packet;

/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of IP in IP.
pub const IPIP: u8 = 4;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of SCTP.
pub const SCTP: u8 = 132;

/// TCP flags.
pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;

/// Don't fragment, in the fragment field.
pub const DF: u16 = 0x4000;

/// An IPv4 frame, described; [`Frame::bytes`] makes it with every checksum right.
#[derive(Clone, Debug)]
pub struct Frame {
    pub to: Mac,
    pub from: Mac,
    /// VLAN tags, outermost first: TPID and identifier.
    pub tags: Vec<(u16, u16)>,
    pub source: (Ipv4Addr, u16),
    pub destination: (Ipv4Addr, u16),
    pub protocol: u8,
    pub tos: u8,
    pub ttl: u8,
    /// Flags and offset.
    pub fragment: u16,
    /// IPv4 options, a multiple of four bytes.
    pub options: Vec<u8>,
    pub tcp_flags: u8,
    pub payload: Vec<u8>,
    /// UDP without a checksum.
    pub no_checksum: bool,
}

impl Frame {
    pub fn tcp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), flags: u8) -> Self {
        Self {
            to: [0; 6],
            from: [0; 6],
            tags: Vec::new(),
            source,
            destination,
            protocol: TCP,
            tos: 0,
            ttl: 64,
            fragment: DF,
            options: Vec::new(),
            tcp_flags: flags,
            payload: Vec::new(),
            no_checksum: false,
        }
    }

    pub fn udp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), payload: &[u8]) -> Self {
        Self {
            protocol: UDP,
            payload: payload.to_vec(),
            ..Self::tcp(source, destination, 0)
        }
    }

    pub fn between(self, from: Mac, to: Mac) -> Self {
        Self { from, to, ..self }
    }

    pub fn tagged(mut self, tpid: u16, id: u16) -> Self {
        self.tags.push((tpid, id));
        self
    }

    pub fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    pub fn fragment(self, fragment: u16) -> Self {
        Self { fragment, ..self }
    }

    pub fn options(self, options: &[u8]) -> Self {
        let options = options.to_vec();
        Self { options, ..self }
    }

    /// With as much payload as makes the IP packet `total` bytes long.
    pub fn total_len(mut self, total: usize) -> Self {
        let headers = 20 + self.options.len() + self.transport_header_len();
        self.payload = (0..total - headers).map(|i| i as u8).collect();
        self
    }

    /// Offset of the IPv4 header.
    pub fn l3(&self) -> usize {
        14 + 4 * self.tags.len()
    }

    fn transport_header_len(&self) -> usize {
        if self.protocol == TCP { 20 } else { 8 }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = [self.to, self.from].concat();
        for (tpid, id) in &self.tags {
            frame.extend_from_slice(&tpid.to_be_bytes());
            frame.extend_from_slice(&id.to_be_bytes());
        }
        frame.extend_from_slice(&[0x08, 0x00]);
        let mut ip = vec![0u8; 20];
        ip.extend_from_slice(&self.options);
        let total = ip.len() + self.transport_header_len() + self.payload.len();
        ip[0] = 0x40 | (ip.len() / 4) as u8;
        ip[1] = self.tos;
        ip[2..4].copy_from_slice(&(total as u16).to_be_bytes());
        ip[4..6].copy_from_slice(&0x1234u16.to_be_bytes());
        ip[6..8].copy_from_slice(&self.fragment.to_be_bytes());
        ip[8] = self.ttl;
        ip[9] = self.protocol;
        ip[12..16].copy_from_slice(&self.source.0.octets());
        ip[16..20].copy_from_slice(&self.destination.0.octets());
        seal_ip(&mut ip);
        let mut segment = vec![0u8; self.transport_header_len()];
        segment[0..2].copy_from_slice(&self.source.1.to_be_bytes());
        segment[2..4].copy_from_slice(&self.destination.1.to_be_bytes());
        if self.protocol == TCP {
            segment[4..8].copy_from_slice(&0x0102_0304u32.to_be_bytes());
            segment[12] = 5 << 4;
            segment[13] = self.tcp_flags;
            segment[14..16].copy_from_slice(&64_240u16.to_be_bytes());
        } else {
            let len = (8 + self.payload.len()) as u16;
            segment[4..6].copy_from_slice(&len.to_be_bytes());
        }
        segment.extend_from_slice(&self.payload);
        if !self.no_checksum {
            let at = if self.protocol == TCP { 16 } else { 6 };
            let pseudo = pseudo(&ip, segment.len());
            let sum = checksum(&[&pseudo, &segment]);
            segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        frame.extend_from_slice(&ip);
        frame.extend_from_slice(&segment);
        frame
    }
}

/// Puts the right header checksum into an IPv4 header.
pub fn seal_ip(header: &mut [u8]) {
    header[10..12].fill(0);
    let sum = checksum(&[header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Recounts every checksum of a frame, inside a tunnel and inside an ICMP error too.
pub fn recount(frame: &[u8]) -> Result<(), String> {
    let mut at = 12;
    while matches!(frame.get(at..at + 2), Some([0x81, 0x00] | [0x88, 0xa8])) {
        at += 4;
    }
    match frame.get(at..at + 2) {
        Some([0x08, 0x00]) => recount_ipv4(&frame[at + 2..]),
        Some([0x86, 0xdd]) => recount_ipv6(&frame[at + 2..]),
        _ => Ok(()),
    }
}

fn recount_ipv4(packet: &[u8]) -> Result<(), String> {
    let cut = || format!("length of {} bytes in all", packet.len());
    let header_len = usize::from(packet.first().ok_or_else(cut)? & 0xf) * 4;
    let header = packet.get(..header_len.max(20)).ok_or_else(cut)?;
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let payload = packet.get(header.len()..total).ok_or_else(cut)?;
    if checksum(&[header]) != 0 {
        return Err("IPv4 header checksum".into());
    }
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
    match header[9] {
        IPIP if !fragment => recount_ipv4(payload).map_err(|what| format!("inner {what}")),
        _ => Packet::of_ip(&packet[..total]).ok_or_else(cut)?.check(),
    }
}

fn recount_ipv6(packet: &[u8]) -> Result<(), String> {
    let cut = || format!("length of {} bytes in all", packet.len());
    let header = packet.get(..40).ok_or_else(cut)?;
    let total = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
    Packet::of_ip(packet.get(..total).ok_or_else(cut)?)
        .ok_or_else(cut)?
        .check()
}

fn pseudo(header: &[u8], len: usize) -> [u8; 12] {
    let mut pseudo = [0; 12];
    pseudo[0..8].copy_from_slice(&header[12..20]);
    pseudo[9] = header[9];
    pseudo[10..12].copy_from_slice(&(len as u16).to_be_bytes());
    pseudo
}

/// Recounts the header checksum of an IPv4 packet that may be cut off; of IPv6 there is none.
pub fn checked_ip(packet: &[u8]) -> Result<(), String> {
    let len = usize::from(packet[0] & 0xf) * 4;
    if packet[0] >> 4 == 4 && checksum(&[&packet[..len]]) != 0 {
        return Err("quoted IPv4 header checksum".into());
    }
    Ok(())
}
