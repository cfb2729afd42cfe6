//! IP tunnelling: the packet travels inside another one to the real server, which owns the VIP and
//! unpacks it (IP in IP, RFC 2003).

use crate::addr::Be16;
use crate::forward::decrement_ttl;
use crate::host::Packet;
use crate::parse::Flow;
use crate::wire::checksum::{add, finish};
use crate::wire::ipv4;

/// Bytes the outer header takes.
pub const OVERHEAD: u16 = 20;

/// Wraps a packet; `addresses` are the outer source (low half) and destination. The outer header is the kernel's: TOS of the inner packet with CE turned into
/// ECT(0), DF copied, time to live of the inner packet after its decrement, identification 0.
#[inline(always)]
pub fn forward<P: Packet>(packet: &mut P, flow: &Flow, addresses: u64) -> Option<()> {
    decrement_ttl(packet, flow)?;
    packet.push_ipv4(flow.l3, outer(flow, addresses))
}

#[inline(always)]
fn outer(flow: &Flow, addresses: u64) -> [u32; 5] {
    const CE: u8 = 3;
    const ECT_0: u8 = 2;
    let tos = if flow.tos & CE == CE {
        flow.tos & !CE | ECT_0
    } else {
        flow.tos
    };
    let total_len = Be16::new(flow.total_len.wrapping_add(OVERHEAD));
    let fragment = Be16::new(if flow.df { ipv4::DF } else { 0 });
    let mut words = [
        word([0x45, tos, low(total_len), high(total_len)]),
        word([0, 0, low(fragment), high(fragment)]),
        word([flow.ttl.wrapping_sub(1), ipv4::IPIP, 0, 0]),
        addresses as u32,
        (addresses >> 32) as u32,
    ];
    let mut sum = 0;
    for w in words {
        sum = add(sum, w);
    }
    words[2] |= u32::from(finish(sum)) << 16;
    words
}

#[inline(always)]
fn word(bytes: [u8; 4]) -> u32 {
    u32::from_ne_bytes(bytes)
}

#[inline(always)]
fn low(value: Be16) -> u8 {
    value.raw().to_ne_bytes()[0]
}

#[inline(always)]
fn high(value: Be16) -> u8 {
    value.raw().to_ne_bytes()[1]
}
