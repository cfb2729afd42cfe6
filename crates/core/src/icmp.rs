//! Turning a packet into the ICMP error about it, to go back where it came from.

use core::hint::black_box;

use crate::addr::Be16;
use crate::atomic;
use crate::host::{Packet, Tables};
use crate::layout::UNTOLD;
use crate::wire::checksum::{add, finish, finish_wide};
use crate::wire::icmp4::{self, Message};
use crate::wire::{icmp6, ipv4, ipv6};

/// Bytes put before the quoted packet: IPv4 and ICMP header.
pub const ROOM: u32 = (ipv4::MIN_LEN + icmp4::LEN) as u32;

/// Most bytes quoted: what makes an error of 576 bytes, as the kernel does (RFC 1812 §4.3.2.3).
const QUOTED_MAX: usize = 576 - ROOM as usize;
/// Most bytes quoted over IPv6: what makes an error of the smallest MTU (RFC 4443 §2.4 c).
const QUOTED_MAX_WIDE: usize = ipv6::MIN_MTU as usize - ROOM_WIDE as usize;

/// ICMP errors a second that each CPU sends, "too big" not counted (`icmp_msgs_per_sec`).
pub const PER_SECOND: u32 = 1000;
/// Errors sent at once after a time without (`icmp_msgs_burst`).
pub const BURST: u32 = 50;

/// Whether a sender may be told: a bucket of tokens on each CPU, so that a flood of what is refused is
/// not answered by another. What finds path MTUs always passes, as in the kernel (`icmp_ratemask`).
#[inline(always)]
pub fn may_tell<T: Tables>(tables: &T, message: Message) -> bool {
    if message.mtu != 0 {
        return true;
    }
    let (Some(runtime), Some(wanted)) = (tables.runtime(), tables.wanted()) else {
        return false;
    };
    let now = tables.now();
    // SAFETY: the runtime record lives as long as the maps, the wanted one is this CPU's.
    unsafe {
        // A token has as many parts as a second has jiffies: each jiffy adds as many as there are tokens
        // a second.
        let token = atomic::load(&raw const (*runtime).hz);
        let full = token.wrapping_mul(BURST);
        let elapsed = now.wrapping_sub(atomic::load(&raw const (*wanted).credit_at));
        let mut credit = atomic::load(&raw const (*wanted).credit);
        credit = if elapsed >= token {
            full
        } else {
            credit.wrapping_add(elapsed.wrapping_mul(PER_SECOND))
        };
        if credit > full {
            credit = full;
        }
        let may = credit >= token;
        if may {
            credit = credit.wrapping_sub(token);
        }
        atomic::store(&raw mut (*wanted).credit, credit);
        atomic::store(&raw mut (*wanted).credit_at, now);
        if !may {
            tables.count(UNTOLD);
        }
        may
    }
}

/// Rewrites the frame, whose IPv4 header lies at `l3`, into an error from the VIP to the sender,
/// addressed to the link-layer address it came from. Quotes as much of the packet as the kernel would.
#[inline(always)]
pub fn answer<P: Packet>(packet: &mut P, l3: usize, message: Message) -> Option<()> {
    let ip = packet.read::<ipv4::Header>(l3)?;
    let quoted = usize::from(ip.total_len.get()).min(QUOTED_MAX);
    let (destination, source) = (ip.source.raw(), ip.destination.raw());
    let tos = ip.tos & 0x1e | 0xc0;

    let icmp = [message.kind, message.code];
    let mtu = Be16::new(message.mtu);
    let header = u64::from(u16::from_ne_bytes(icmp)) + u64::from(mtu.raw());
    let checksum = finish_wide(header + sum::<P, QUOTED_MAX>(packet, l3, quoted)?);

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

/// The sum of `len` bytes of a packet, at most `MAX`.
#[inline(always)]
fn sum<P: Packet, const MAX: usize>(packet: &P, from: usize, len: usize) -> Option<u64> {
    // Opaque to the compiler, which would else turn the loop's fixed end and the bounds of each read
    // into forms that the verifier, 6.1's above all, cannot follow.
    let len = black_box(len);
    let mut sum = 0;
    let mut at = 0;
    while at < MAX {
        if at + 4 > len {
            break;
        }
        sum += u64::from(packet.read::<u32>(black_box(from + at))?);
        at += 4;
    }
    if len & 2 != 0 {
        sum += u64::from(packet.read::<u16>(black_box(from + at))?);
        at += 2;
    }
    if len & 1 != 0 {
        let last = packet.read::<u8>(black_box(from + at))?;
        sum += u64::from(u16::from_ne_bytes([last, 0]));
    }
    Some(sum)
}

/// As [`answer`], for IPv6.
#[inline(always)]
pub fn answer_wide<P: Packet>(packet: &mut P, l3: usize, message: Message) -> Option<()> {
    let ip = packet.read::<ipv6::Header>(l3)?;
    let quoted = (usize::from(ip.payload_len.get()) + ipv6::LEN).min(QUOTED_MAX_WIDE);
    let (kind, code, mtu) = icmp6::of_v4(message);
    let len = quoted as u32 + icmp6::LEN as u32;
    // The pseudo header has the packet's own addresses, in the other order.
    let header = u64::from(Be16::new(len as u16).raw())
        + u64::from(Be16::new(u16::from(ipv6::ICMP)).raw())
        + u64::from(u16::from_ne_bytes([kind, code]))
        + u64::from(mtu.to_be())
        + sum::<P, 32>(packet, l3 + ipv6::SOURCE, 32)?;
    let checksum = finish_wide(header + sum::<P, QUOTED_MAX_WIDE>(packet, l3, quoted)?);

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
