//! Turning a packet into the ICMP error about it, to go back where it came from.

use core::hint::black_box;

use crate::addr::Be16;
use crate::host::Packet;
use crate::wire::checksum::{add, finish};
use crate::wire::icmp4::{self, Message};
use crate::wire::{icmp6, ipv4, ipv6, tcp};

/// Bytes put before the quoted packet: IPv4 and ICMP header.
pub const ROOM: u32 = (ipv4::MIN_LEN + icmp4::LEN) as u32;

/// Most bytes quoted: an IPv4 header with all options and a TCP header.
const QUOTED_MAX: usize = 80;

/// Rewrites the frame, whose IPv4 header lies at `l3`, into an error from the VIP to the sender, addressed to the link-layer address
/// it came from. Quotes the IP header and 8 bytes of UDP, 20 of TCP: where a checksum is still to be
/// computed by hardware the frame cannot be cut before that field.
#[inline(always)]
pub fn answer<P: Packet>(packet: &mut P, l3: usize, message: Message) -> Option<()> {
    let ip = packet.read::<ipv4::Header>(l3)?;
    let transport = if ip.protocol == ipv4::TCP {
        tcp::MIN_LEN
    } else {
        icmp4::QUOTED_TRANSPORT
    };
    let quoted = usize::from(ip.version_ihl & 0xf) * 4 + transport;
    let (destination, source) = (ip.source.raw(), ip.destination.raw());
    let tos = ip.tos & 0x1e | 0xc0;

    let icmp = [message.kind, message.code];
    let mtu = Be16::new(message.mtu);
    let mut sum = add(u32::from(u16::from_ne_bytes(icmp)), u32::from(mtu.raw()));
    // Opaque to the compiler, which would else turn the loop's fixed end and the bounds of each read
    // into forms that the verifier, 6.1's above all, cannot follow.
    let quoted = black_box(quoted);
    let mut at = 0;
    while at < QUOTED_MAX {
        if at >= quoted {
            break;
        }
        sum = add(sum, packet.read::<u32>(black_box(l3 + at))?);
        at += 4;
    }
    let checksum = finish(sum);

    let (to_low, to_high) = (packet.read::<u32>(0)?, packet.read::<u16>(4)?);
    let (from_low, from_high) = (packet.read::<u32>(6)?, packet.read::<u16>(10)?);
    packet.reshape(l3, ROOM, (l3 + quoted) as u32 + ROOM)?;
    packet.write(0, from_low)?;
    packet.write(4, from_high)?;
    packet.write(6, to_low)?;
    packet.write(10, to_high)?;

    let total_len = Be16::new((quoted as u32 + ROOM) as u16).raw();
    let first = u32::from(u16::from_ne_bytes([0x45, tos])) | u32::from(total_len) << 16;
    let third = u32::from(u16::from_ne_bytes([64, ipv4::ICMP]));
    let header_sum = add(add(first, third), add(source, destination));
    packet.write(l3, first)?;
    packet.write(l3 + 4, 0u32)?;
    packet.write(l3 + 8, third | u32::from(finish(header_sum)) << 16)?;
    packet.write(l3 + 12, source)?;
    packet.write(l3 + 16, destination)?;
    let at = l3 + ipv4::MIN_LEN;
    packet.write(
        at,
        u32::from(u16::from_ne_bytes(icmp)) | u32::from(checksum) << 16,
    )?;
    packet.write(at + 4, u32::from(mtu.raw()) << 16)
}

/// Bytes put before the quoted packet: IPv6 and ICMPv6 header.
pub const ROOM_WIDE: u32 = (ipv6::LEN + icmp6::LEN) as u32;

/// As [`answer`], for IPv6: quotes the header and the first bytes of what follows it.
#[inline(always)]
pub fn answer_wide<P: Packet>(packet: &mut P, l3: usize, message: Message) -> Option<()> {
    let ip = packet.read::<ipv6::Header>(l3)?;
    let transport = if ip.next_header == ipv4::TCP {
        tcp::MIN_LEN
    } else {
        icmp4::QUOTED_TRANSPORT
    };
    let quoted = ipv6::LEN + transport;
    let (kind, code, mtu) = icmp6::of_v4(message);
    let len = quoted as u32 + icmp6::LEN as u32;
    let mut sum = add(
        u32::from(Be16::new(len as u16).raw()),
        u32::from(Be16::new(u16::from(ipv6::ICMP)).raw()),
    );
    sum = add(sum, u32::from(u16::from_ne_bytes([kind, code])));
    sum = add(sum, mtu.to_be());
    // As in answer().
    let quoted = black_box(quoted);
    let mut at = 0;
    while at < QUOTED_MAX {
        if at >= quoted {
            break;
        }
        let word = packet.read::<u32>(black_box(l3 + at))?;
        sum = add(sum, word);
        // The addresses stand in the pseudo header too, in the other order.
        if (ipv6::SOURCE..ipv6::LEN).contains(&at) {
            sum = add(sum, word);
        }
        at += 4;
    }
    let checksum = finish(sum);

    let (to_low, to_high) = (packet.read::<u32>(0)?, packet.read::<u16>(4)?);
    let (from_low, from_high) = (packet.read::<u32>(6)?, packet.read::<u16>(10)?);
    packet.reshape(l3, ROOM_WIDE, (l3 + quoted) as u32 + ROOM_WIDE)?;
    packet.write(0, from_low)?;
    packet.write(4, from_high)?;
    packet.write(6, to_low)?;
    packet.write(10, to_high)?;

    packet.write(l3, u32::from_ne_bytes([0x60, 0, 0, 0]))?;
    let length = Be16::new(len as u16).raw();
    packet.write(
        l3 + ipv6::PAYLOAD_LEN,
        u32::from(length) | u32::from(u16::from_ne_bytes([ipv6::ICMP, 64])) << 16,
    )?;
    let inner = l3 + ROOM_WIDE as usize;
    for i in 0..4 {
        let from = black_box(inner + ipv6::SOURCE + 4 * i);
        let to = black_box(l3 + ipv6::SOURCE + 4 * i);
        let source = packet.read::<u32>(from)?;
        let destination = packet.read::<u32>(black_box(from + 16))?;
        packet.write(to, destination)?;
        packet.write(black_box(to + 16), source)?;
    }
    let at = l3 + ipv6::LEN;
    packet.write(
        at,
        u32::from(u16::from_ne_bytes([kind, code])) | u32::from(checksum) << 16,
    )?;
    packet.write(at + 4, mtu.to_be())
}
