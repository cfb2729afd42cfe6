//! The packet inside a tunnel, as both its ends have to see it: how long it is, and what its bytes
//! sum to.

use crate::host::Packet;
use crate::wire::checksum::{add, add_all};
use crate::wire::{ethernet, ipv4, ipv6, tcp, udp};

/// Version of the Internet Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Version {
    /// By the number that stands for a packet of this version inside another (4, 41).
    #[inline(always)]
    pub fn of_protocol(protocol: u8) -> Option<Self> {
        match protocol {
            ipv4::IPIP => Some(Self::V4),
            ipv6::IPV6 => Some(Self::V6),
            _ => None,
        }
    }

    /// By EtherType as it lies in the frame.
    #[inline(always)]
    pub fn of_ethertype(raw: u16) -> Option<Self> {
        if raw == ethernet::IPV4.raw() {
            Some(Self::V4)
        } else if raw == ethernet::IPV6.raw() {
            Some(Self::V6)
        } else {
            None
        }
    }

    /// See [`Version::of_protocol`].
    #[inline(always)]
    pub const fn protocol(self) -> u8 {
        match self {
            Self::V4 => ipv4::IPIP,
            Self::V6 => ipv6::IPV6,
        }
    }

    /// EtherType as it lies in the frame.
    #[inline(always)]
    pub const fn ethertype(self) -> u16 {
        match self {
            Self::V4 => ethernet::IPV4.raw(),
            Self::V6 => ethernet::IPV6.raw(),
        }
    }

    /// Bytes of a header without options.
    #[inline(always)]
    pub const fn header_len(self) -> usize {
        match self {
            Self::V4 => ipv4::MIN_LEN,
            Self::V6 => ipv6::LEN,
        }
    }
}

/// Where the transport checksum of a packet lies and what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// Offset of the transport header.
    pub at: usize,
    /// Protocol.
    pub protocol: u8,
    /// Offset of its checksum.
    pub checksum: usize,
    /// Sum of the pseudo header.
    pub pseudo: u32,
}

/// The transport checksum of the IP packet at `at`, `len` bytes long. `None` if it has none that covers
/// all of its payload. Its pseudo header is that of a packet of `datagram` bytes.
#[inline(always)]
pub fn transport<P: Packet>(
    packet: &P,
    version: Version,
    at: usize,
    len: u32,
    datagram: u32,
) -> Option<Transport> {
    let (header_len, protocol, addresses) = match version {
        Version::V4 => {
            let ip = packet.read::<ipv4::Header>(at)?;
            if ip.fragment.get() & ipv4::FRAGMENT != 0 || u32::from(ip.total_len.get()) != len {
                return None;
            }
            let sum = add(ip.source.raw(), ip.destination.raw());
            (usize::from(ip.version_ihl & 0xf) * 4, ip.protocol, sum)
        }
        Version::V6 => {
            let [payload_len, next_header] = packet.read::<[u16; 2]>(at + ipv6::PAYLOAD_LEN)?;
            if u32::from(u16::from_be(payload_len)) + ipv6::LEN as u32 != len {
                return None;
            }
            let sum = add_all(packet.read::<[u32; 8]>(at + ipv6::SOURCE)?);
            (ipv6::LEN, next_header.to_ne_bytes()[0], sum)
        }
    };
    let start = at + header_len;
    let transport_len = len.wrapping_sub(header_len as u32);
    let checksum = match protocol {
        ipv4::TCP => start + tcp::CHECKSUM,
        ipv4::UDP => {
            let [length, checksum] = packet.read::<[u16; 2]>(start + udp::LENGTH)?;
            // Without checksum, or one that is about less than the whole.
            if checksum == 0 || u32::from(u16::from_be(length)) != transport_len {
                return None;
            }
            start + udp::CHECKSUM
        }
        _ => return None,
    };
    Some(Transport {
        at: start,
        protocol,
        checksum,
        pseudo: add(
            add(
                addresses,
                u32::from(((datagram - header_len as u32) as u16).to_be()),
            ),
            u32::from(u16::from(protocol).to_be()),
        ),
    })
}

/// What the bytes of the IP packet at `at`, `len` bytes long, sum to once all of its checksums are right.
///
/// With a TCP or UDP checksum that follows from the headers: a segment and its pseudo header sum to
/// zero. The payload need not be read, nor the checksum be there already, which a network card may
/// still have to fill in ("local checksum offload" in the kernel). If the checksum is wrong, so is one
/// made of this sum, and whoever would have dropped the inner packet drops the outer one.
///
/// `datagram` is `len`, but for an aggregate the length of the packets it will be.
#[inline(always)]
pub fn sum<P: Packet>(
    packet: &P,
    version: Version,
    at: usize,
    len: u32,
    datagram: u32,
) -> Option<u32> {
    let Some(transport) = transport(packet, version, at, len, datagram) else {
        return packet.sum(at, len);
    };
    let header = match version {
        // Sums to zero.
        Version::V4 => 0,
        Version::V6 => {
            let sum = add_all(packet.read::<[u32; 10]>(at)?);
            // The payload length of each packet instead of the aggregate's.
            let less = ((len - datagram) as u16).to_be();
            add(sum, !u32::from(less))
        }
    };
    Some(add(header, !transport.pseudo))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_numbers() {
        for version in [Version::V4, Version::V6] {
            assert_eq!(Version::of_protocol(version.protocol()), Some(version));
            assert_eq!(Version::of_ethertype(version.ethertype()), Some(version));
        }
        assert_eq!(Version::of_protocol(6), None);
    }
}
