//! The real server's manners: silent about VIPs, and modest about the segments it wants to be sent.
//!
//! By direct routing and tunnelling a real server has the VIP, too, but nobody on its segment may
//! learn so: questions for it go unanswered, and the VIP never stands as sender in ARP. Clients of a
//! tunnel are told a maximum segment size that leaves room for the outer headers, so that the director
//! need not refuse what the client sends as too big.

use crate::addr::{Be16, Be32};
use crate::host::Packet;
use crate::inner::Version;
use crate::realserver::mapped;
use crate::wire::checksum::Diff;
use crate::wire::{arp, ethernet, ipv4, ipv6, tcp};

/// VIPs a real server can have.
pub const MAX_VIPS: u32 = 1024;

/// What is to be known of an interface. All zero: nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manners {
    /// The interface's own address, in wire order, for ARP questions that would have named a VIP.
    pub own: u32,
    /// Largest segment to ask for over IPv4, in bytes; 0 for any.
    pub mss_v4: u16,
    /// The same over IPv6.
    pub mss_v6: u16,
    /// 1 if ARP is to be silent.
    pub silent: u32,
}

/// What the programs have to know of their host.
pub trait Polite {
    /// What holds for the interface at hand.
    fn manners(&self) -> Manners;
    /// True for a VIP. IPv4 addresses as [`mapped`].
    fn is_vip(&self, address: [u32; 4]) -> bool;
}

/// A packet that comes in; false when it is to be dropped: an ARP request for a VIP.
#[inline(always)]
pub fn arrives<H: Polite, P: Packet>(host: &H, packet: &P) -> bool {
    if host.manners().silent == 0 || packet.read(ethernet::TYPE) != Some(ethernet::ARP) {
        return true;
    }
    let question = packet.read(ethernet::LEN + arp::OPERATION) == Some(arp::REQUEST);
    let target = packet.read::<Be32>(ethernet::LEN + arp::TARGET);
    !(question && target.is_some_and(|target| host.is_vip(mapped(target))))
}

/// A packet that goes out; false when it is to be dropped.
#[inline(always)]
pub fn leaves<H: Polite, P: Packet>(host: &H, packet: &mut P) -> bool {
    let manners = host.manners();
    let kind: Option<Be16> = packet.read(ethernet::TYPE);
    if kind == Some(ethernet::ARP) {
        return manners.silent == 0 || speaks_for_itself(host, packet, manners.own).unwrap_or(true);
    }
    let asked = match kind {
        Some(ethernet::IPV4) => manners.mss_v4,
        Some(ethernet::IPV6) => manners.mss_v6,
        _ => 0,
    };
    if asked != 0 {
        let version = if kind == Some(ethernet::IPV4) {
            Version::V4
        } else {
            Version::V6
        };
        // Without the option there is nothing to lower.
        let _ = lower(host, packet, version, asked);
    }
    true
}

/// Puts the interface's own address where ARP would name a VIP as its sender; false when the packet
/// would say no more than that the VIP is here.
#[inline(always)]
fn speaks_for_itself<H: Polite, P: Packet>(host: &H, packet: &mut P, own: u32) -> Option<bool> {
    let sender: Be32 = packet.read(ethernet::LEN + arp::SENDER)?;
    if !host.is_vip(mapped(sender)) {
        return Some(true);
    }
    let target: Be32 = packet.read(ethernet::LEN + arp::TARGET)?;
    let question = packet.read(ethernet::LEN + arp::OPERATION) == Some(arp::REQUEST);
    if !question || own == 0 || target == sender {
        return Some(false);
    }
    packet.write(ethernet::LEN + arp::SENDER, own)?;
    Some(true)
}

/// Lowers the maximum segment size (RFC 9293 §3.7.1) that a VIP's SYN asks for to `asked` bytes.
#[inline(always)]
fn lower<H: Polite, P: Packet>(
    host: &H,
    packet: &mut P,
    version: Version,
    asked: u16,
) -> Option<()> {
    const L3: usize = ethernet::LEN;
    let (source, l4) = match version {
        Version::V4 => {
            // A SYN is never in fragments, and hosts send it without IP options.
            let first: u8 = packet.read(L3)?;
            let protocol: u8 = packet.read(L3 + ipv4::TTL + 1)?;
            if first != 0x45 || protocol != ipv4::TCP {
                return None;
            }
            (mapped(packet.read(L3 + ipv4::SOURCE)?), L3 + ipv4::MIN_LEN)
        }
        Version::V6 => {
            let protocol: u8 = packet.read(L3 + ipv6::NEXT_HEADER)?;
            if protocol != ipv4::TCP {
                return None;
            }
            (packet.read(L3 + ipv6::SOURCE)?, L3 + ipv6::LEN)
        }
    };
    let flags: u8 = packet.read(l4 + tcp::OFFSET_FLAGS + 1)?;
    // Senders put the option first; what comes elsewhere stays.
    let option: [u8; 2] = packet.read(l4 + tcp::MIN_LEN)?;
    if flags & tcp::SYN == 0 || option != [tcp::MSS, tcp::MSS_LEN] || !host.is_vip(source) {
        return None;
    }
    let at = l4 + tcp::MIN_LEN + 2;
    let old: Be16 = packet.read(at)?;
    let new = Be16::new(asked);
    if old.get() <= asked {
        return None;
    }
    let change = Diff::of16(old.raw(), new.raw());
    packet.update_checksum(l4 + tcp::CHECKSUM, Diff::NONE, change, false)?;
    packet.write(at, new)
}
