//! Frame to flow: the one door for untrusted bytes. Whatever is not said here to be a flow is not
//! balanced; every refusal has a name.

use crate::addr::Be16;
use crate::conn::Key;
use crate::drop::Drop;
use crate::host::Packet;
use crate::wire::{ethernet, ipv4, tcp, udp};

/// What the balancer needs of an IPv4 packet that carries TCP or UDP.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// Offset of the IPv4 header.
    pub l3: usize,
    /// Offset of the transport header.
    pub l4: usize,
    /// Addresses, ports, protocol.
    pub key: Key,
    /// IPv4 total length.
    pub total_len: u16,
    /// Type of service.
    pub tos: u8,
    /// Time to live.
    pub ttl: u8,
    /// Don't fragment.
    pub df: bool,
    /// TCP flags; 0 for UDP.
    pub tcp_flags: u8,
    /// Bytes of IPv4 and transport header.
    pub headers: u16,
}

/// What a frame is.
#[derive(Clone, Copy, Debug)]
pub enum Parsed {
    /// A TCP or UDP packet.
    Flow(Flow),
    /// Not for a balancer: another protocol.
    Other,
    /// Broken in a way that no stack would accept.
    Broken(Drop),
    /// Addressed like a flow, but without usable ports: fragment or broken transport header. Dropped
    /// only if the destination is a VIP, which the caller knows.
    Portless(u32, Drop),
}

/// Parses a frame.
#[inline(always)]
pub fn parse<P: Packet>(packet: &P) -> Parsed {
    let Some(mut ether_type) = packet.read::<u16>(ethernet::TYPE) else {
        return Parsed::Other;
    };
    let mut l3 = ethernet::LEN;
    // One tag, or two: a customer tag within a service tag.
    if is_tag(ether_type) {
        l3 += ethernet::TAG_LEN;
        match packet.read::<u16>(ethernet::TYPE + ethernet::TAG_LEN) {
            Some(inner) => ether_type = inner,
            None => return Parsed::Other,
        }
        if is_tag(ether_type) {
            l3 += ethernet::TAG_LEN;
            match packet.read::<u16>(ethernet::TYPE + 2 * ethernet::TAG_LEN) {
                Some(inner) => ether_type = inner,
                None => return Parsed::Other,
            }
        }
    }
    if ether_type != ethernet::IPV4.raw() {
        return Parsed::Other;
    }
    parse_ipv4(packet, l3)
}

#[inline(always)]
fn is_tag(ether_type: u16) -> bool {
    ether_type == ethernet::VLAN.raw() || ether_type == ethernet::QINQ.raw()
}

#[inline(always)]
fn parse_ipv4<P: Packet>(packet: &P, l3: usize) -> Parsed {
    let Some(ip) = packet.read::<ipv4::Header>(l3) else {
        return Parsed::Broken(Drop::MalformedIp);
    };
    let header_len = usize::from(ip.version_ihl & 0xf) * 4;
    let total_len = ip.total_len.get();
    if ip.version_ihl >> 4 != 4
        || header_len < ipv4::MIN_LEN
        || usize::from(total_len) < header_len
        || l3 as u32 + u32::from(total_len) > packet.len()
    {
        return Parsed::Broken(Drop::MalformedIp);
    }
    let proto = ip.protocol;
    if proto != ipv4::TCP && proto != ipv4::UDP {
        return Parsed::Other;
    }
    let destination = ip.destination.raw();
    let fragment = ip.fragment.get();
    if fragment & ipv4::FRAGMENT != 0 {
        return Parsed::Portless(destination, Drop::Fragment);
    }
    let l4 = l3 + header_len;
    let transport_len = usize::from(total_len) - header_len;
    let broken = Parsed::Portless(destination, Drop::MalformedTransport);
    let Some(ports) = packet.read::<u32>(l4) else {
        return broken;
    };
    let (tcp_flags, l4_len) = if proto == ipv4::TCP {
        let Some([offset, flags]) = packet.read::<[u8; 2]>(l4 + tcp::OFFSET_FLAGS) else {
            return broken;
        };
        let len = usize::from(offset >> 4) * 4;
        if len < tcp::MIN_LEN || transport_len < len {
            return broken;
        }
        (flags, len)
    } else {
        let Some(len) = packet.read::<Be16>(l4 + 4) else {
            return broken;
        };
        if transport_len < udp::LEN
            || usize::from(len.get()) < udp::LEN
            || usize::from(len.get()) > transport_len
        {
            return broken;
        }
        (0, udp::LEN)
    };
    Parsed::Flow(Flow {
        l3,
        l4,
        key: Key {
            addresses: ip.addresses(),
            ports,
            proto,
        },
        total_len,
        tos: ip.tos,
        ttl: ip.ttl,
        df: fragment & ipv4::DF != 0,
        tcp_flags,
        headers: (header_len + l4_len) as u16,
    })
}
