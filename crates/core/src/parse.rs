//! Frame to flow: the one door for untrusted bytes. Whatever is not said here to be a flow is not
//! balanced; every refusal has a name.
//!
//! [`parse`] knows the packets that are many: whole TCP and UDP packets without oddities. All else that
//! may concern a balancer is [`Parsed::Rare`], and [`crate::rare`] looks closer. [`plain`] knows those that are most, by
//! which all offsets are constants of the program.

use crate::addr::Be16;
use crate::conn::Key;
use crate::host::{Packet, get};
use crate::proto;
use crate::wire::{ethernet, ipv4, ipv6, tcp, udp};

/// What the balancer needs of a packet.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// Addresses, ports, class. For IPv6 `addresses` is a hash of both.
    pub key: Key,
    /// Offset of the IP header.
    pub l3: usize,
    /// Offset of the transport header; of the quoted one in an ICMP error.
    pub l4: usize,
    /// Offset of the IP header that an ICMP error quotes, 0 in other packets. The key is that of the
    /// quoted packet, reversed.
    pub inner: usize,
    /// Bytes of the IP packet with its header.
    pub total_len: u16,
    /// Bytes of IP and transport header.
    pub headers: u16,
    /// Type of service or traffic class.
    pub tos: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Don't fragment; false for IPv6.
    pub df: bool,
    /// TCP flags, SCTP event, 0 for others.
    pub event: u8,
    /// The transport header is here and whole: not so in a later fragment.
    pub whole: bool,
}

/// What a frame is.
#[derive(Clone, Copy, Debug)]
pub enum Parsed {
    /// A TCP or UDP packet.
    Flow(Flow),
    /// Not for a balancer.
    Other,
    /// IPv6, where IPv4 was looked for.
    Wide,
    /// To be looked at more closely.
    Rare,
}

/// Parses a frame: IPv4, or `W` IPv6.
#[inline(always)]
pub fn parse<P: Packet, const W: bool>(packet: &P, seed: [u64; 2]) -> Parsed {
    let Some((l3, ether_type)) = link(packet) else {
        return Parsed::Other;
    };
    if W {
        if ether_type == ethernet::IPV6.raw() {
            return parse_ipv6(packet, l3, seed);
        }
        return Parsed::Other;
    }
    if ether_type == ethernet::IPV4.raw() {
        parse_ipv4(packet, l3)
    } else if ether_type == ethernet::IPV6.raw() {
        Parsed::Wide
    } else {
        Parsed::Other
    }
}

/// Parses a frame that holds IPv4 without tags and options, TCP or UDP, and is as long as these headers of TCP. Of
/// others, all that [`parse`] may know are [`Parsed::Rare`].
#[inline(always)]
pub fn plain<P: Packet>(packet: &P) -> Parsed {
    const L3: usize = ethernet::LEN;
    const L4: usize = L3 + ipv4::MIN_LEN;
    const VERSION_IHL: u8 = 0x45;
    let Some(frame) = packet.pointer::<[u8; L4 + tcp::MIN_LEN]>(0) else {
        return Parsed::Rare;
    };
    // SAFETY: pointer() checked the bounds of all that is read here.
    let (ether_type, ip, addresses, ports) = unsafe {
        (
            get(frame.byte_add(ethernet::TYPE).cast::<u16>()),
            get(frame.byte_add(L3).cast::<ipv4::Header>()),
            get(frame.byte_add(L3 + ipv4::SOURCE).cast::<u64>()),
            get(frame.byte_add(L4).cast::<u32>()),
        )
    };
    if ether_type != ethernet::IPV4.raw() {
        return match ether_type {
            tag if is_tag(tag) => Parsed::Rare,
            kind if kind == ethernet::IPV6.raw() => Parsed::Wide,
            _ => Parsed::Other,
        };
    }
    let total_len = ip.total_len.get();
    let fragment = ip.fragment.get();
    if ip.version_ihl != VERSION_IHL
        || fragment & ipv4::FRAGMENT != 0
        || L3 as u32 + u32::from(total_len) > packet.len()
        || total_len < ipv4::MIN_LEN as u16
    {
        return Parsed::Rare;
    }
    let len = total_len - ipv4::MIN_LEN as u16;
    // SAFETY: as above.
    let Some((event, header)) =
        (unsafe { plain_transport(ip.protocol, frame.byte_add(L4).cast(), len) })
    else {
        return Parsed::Rare;
    };
    Parsed::Flow(Flow {
        key: Key {
            addresses,
            ports,
            proto: ip.protocol,
        },
        l3: L3,
        l4: L4,
        inner: 0,
        total_len,
        headers: ipv4::MIN_LEN as u16 + header,
        tos: ip.tos,
        ttl: ip.ttl,
        df: fragment & ipv4::DF != 0,
        event,
        whole: true,
    })
}

/// As [`plain`], of what it found to be IPv6: without extension headers. `None` for others.
#[inline(always)]
pub fn plain_wide<P: Packet>(packet: &P, seed: [u64; 2]) -> Option<Flow> {
    const L3: usize = ethernet::LEN;
    const L4: usize = L3 + ipv6::LEN;
    let frame = packet.pointer::<[u8; L4 + tcp::MIN_LEN]>(0)?;
    // SAFETY: pointer() checked the bounds of all that is read here.
    let (ip, addresses, ports) = unsafe {
        let half = |i| get(frame.byte_add(L3 + ipv6::SOURCE).cast::<u64>().add(i));
        (
            get(frame.byte_add(L3).cast::<ipv6::Header>()),
            Key::fold([half(0), half(1), half(2), half(3)], seed),
            get(frame.byte_add(L4).cast::<u32>()),
        )
    };
    let payload_len = ip.payload_len.get();
    if ip.version() != 6
        || (L3 + ipv6::LEN) as u32 + u32::from(payload_len) > packet.len()
        || payload_len > u16::MAX - ipv6::LEN as u16
    {
        return None;
    }
    // SAFETY: as above.
    let (event, header) =
        unsafe { plain_transport(ip.next_header, frame.byte_add(L4).cast(), payload_len) }?;
    Some(Flow {
        key: Key {
            addresses,
            ports,
            proto: ip.next_header | proto::WIDE,
        },
        l3: L3,
        l4: L4,
        inner: 0,
        total_len: payload_len + ipv6::LEN as u16,
        headers: ipv6::LEN as u16 + header,
        tos: ip.class(),
        ttl: ip.hop_limit,
        df: false,
        event,
        whole: true,
    })
}

/// Flags and bytes of the TCP or UDP header at `at` that has so many bytes behind it, itself included.
///
/// # Safety
/// There are 20 bytes at `at`.
#[inline(always)]
unsafe fn plain_transport(protocol: u8, at: *const u8, len: u16) -> Option<(u8, u16)> {
    // SAFETY: passed on to the caller.
    unsafe {
        if protocol == ipv4::TCP {
            let [offset, flags] = get(at.add(tcp::OFFSET_FLAGS).cast::<[u8; 2]>());
            let header = u16::from(offset >> 4) * 4;
            (header >= tcp::MIN_LEN as u16 && len >= header).then_some((flags, header))
        } else if protocol == ipv4::UDP {
            let total = get(at.add(4).cast::<Be16>()).get();
            (total >= udp::LEN as u16 && len >= total).then_some((0, udp::LEN as u16))
        } else {
            None
        }
    }
}

/// Offset of the network header and its raw EtherType, behind one tag, or two: a customer tag within
/// a service tag.
#[inline(always)]
pub fn link<P: Packet>(packet: &P) -> Option<(usize, u16)> {
    let mut ether_type = packet.read::<u16>(ethernet::TYPE)?;
    let mut l3 = ethernet::LEN;
    if is_tag(ether_type) {
        l3 += ethernet::TAG_LEN;
        ether_type = packet.read::<u16>(ethernet::TYPE + ethernet::TAG_LEN)?;
        if is_tag(ether_type) {
            l3 += ethernet::TAG_LEN;
            ether_type = packet.read::<u16>(ethernet::TYPE + 2 * ethernet::TAG_LEN)?;
        }
    }
    Some((l3, ether_type))
}

#[inline(always)]
fn is_tag(ether_type: u16) -> bool {
    ether_type == ethernet::VLAN.raw() || ether_type == ethernet::QINQ.raw()
}

#[inline(always)]
fn parse_ipv4<P: Packet>(packet: &P, l3: usize) -> Parsed {
    let Some(ip) = packet.read::<ipv4::Header>(l3) else {
        return Parsed::Rare;
    };
    let header_len = usize::from(ip.version_ihl & 0xf) * 4;
    let total_len = ip.total_len.get();
    let fragment = ip.fragment.get();
    if ip.version_ihl >> 4 != 4
        || header_len < ipv4::MIN_LEN
        || usize::from(total_len) < header_len
        || l3 as u32 + u32::from(total_len) > packet.len()
        || fragment & ipv4::FRAGMENT != 0
    {
        return Parsed::Rare;
    }
    let l4 = l3 + header_len;
    let Some(transport) = transport(packet, ip.protocol, l4, usize::from(total_len) - header_len)
    else {
        return unusual(ip.protocol);
    };
    Parsed::Flow(Flow {
        key: Key {
            addresses: ip.addresses(),
            ports: transport.ports,
            proto: ip.protocol,
        },
        l3,
        l4,
        inner: 0,
        total_len,
        headers: header_len as u16 + transport.len,
        tos: ip.tos,
        ttl: ip.ttl,
        df: fragment & ipv4::DF != 0,
        event: transport.flags,
        whole: true,
    })
}

#[inline(always)]
fn parse_ipv6<P: Packet>(packet: &P, l3: usize, seed: [u64; 2]) -> Parsed {
    let Some(ip) = packet.read::<ipv6::Header>(l3) else {
        return Parsed::Rare;
    };
    let payload_len = ip.payload_len.get();
    if ip.version() != 6
        || l3 as u32 + ipv6::LEN as u32 + u32::from(payload_len) > packet.len()
        || payload_len > u16::MAX - ipv6::LEN as u16
    {
        return Parsed::Rare;
    }
    let l4 = l3 + ipv6::LEN;
    let Some(transport) = transport(packet, ip.next_header, l4, payload_len.into()) else {
        return unusual(ip.next_header);
    };
    let Some(addresses) = wide_addresses(packet, l3, seed) else {
        return Parsed::Rare;
    };
    Parsed::Flow(Flow {
        key: Key {
            addresses,
            ports: transport.ports,
            proto: ip.next_header | proto::WIDE,
        },
        l3,
        l4,
        inner: 0,
        total_len: payload_len + ipv6::LEN as u16,
        headers: ipv6::LEN as u16 + transport.len,
        tos: ip.class(),
        ttl: ip.hop_limit,
        df: false,
        event: transport.flags,
        whole: true,
    })
}

/// The addresses of the IPv6 header at `l3` as [`Key::addresses`] has them.
#[inline(always)]
pub fn wide_addresses<P: Packet>(packet: &P, l3: usize, seed: [u64; 2]) -> Option<u64> {
    // The one lies behind the other.
    let halves = packet.pointer::<[u64; 4]>(l3 + ipv6::SOURCE)?.cast::<u64>();
    // SAFETY: pointer() checked the bounds.
    let half = |i| unsafe { get(halves.add(i)) };
    Some(Key::fold([half(0), half(1), half(2), half(3)], seed))
}

/// What a packet is whose transport header is not a TCP or UDP header as it should be.
#[inline(always)]
fn unusual(protocol: u8) -> Parsed {
    match protocol {
        // More than one: the chances of a packet that is nobody's are small.
        ipv4::TCP
        | ipv4::UDP
        | ipv4::ICMP
        | ipv4::SCTP
        | ipv4::AH
        | ipv4::ESP
        | ipv6::HOP_BY_HOP
        | ipv6::ROUTING
        | ipv6::FRAGMENT
        | ipv6::ICMP
        | ipv6::DESTINATION_OPTIONS => Parsed::Rare,
        _ => Parsed::Other,
    }
}

/// Ports, flags and length of a TCP or UDP header.
#[derive(Clone, Copy, Debug)]
pub struct Transport {
    /// Both ports, raw.
    pub ports: u32,
    /// TCP flags.
    pub flags: u8,
    /// Bytes of the header.
    pub len: u16,
}

/// The TCP or UDP header at `l4`, in a packet with `len` bytes from there on; `None` when it is
/// another protocol or cannot be.
#[inline(always)]
pub fn transport<P: Packet>(packet: &P, protocol: u8, l4: usize, len: usize) -> Option<Transport> {
    if protocol != ipv4::TCP && protocol != ipv4::UDP {
        return None;
    }
    let ports = packet.read::<u32>(l4)?;
    if protocol == ipv4::TCP {
        let [offset, flags] = packet.read::<[u8; 2]>(l4 + tcp::OFFSET_FLAGS)?;
        let header = usize::from(offset >> 4) * 4;
        if header < tcp::MIN_LEN || len < header {
            return None;
        }
        Some(Transport {
            ports,
            flags,
            len: header as u16,
        })
    } else {
        let total = usize::from(packet.read::<Be16>(l4 + 4)?.get());
        if len < udp::LEN || total < udp::LEN || total > len {
            return None;
        }
        Some(Transport {
            ports,
            flags: 0,
            len: udp::LEN as u16,
        })
    }
}
