//! The real server's side of tunnelling: outer header off, inner packet on to the stack.

use crate::host::Packet;
use crate::wire::{ethernet, ipv4};

/// What to take off a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    /// Offset of the outer header.
    pub l3: usize,
    /// Its length with options.
    pub len: usize,
}

/// Recognises IP in IP (RFC 2003): an unfragmented outer header around a plausible IPv4 packet.
#[inline(always)]
pub fn outer<P: Packet>(packet: &P) -> Option<Outer> {
    let l3 = ethernet::LEN;
    if packet.read::<u16>(ethernet::TYPE)? != ethernet::IPV4.raw() {
        return None;
    }
    let ip = packet.read::<ipv4::Header>(l3)?;
    let len = usize::from(ip.version_ihl & 0xf) * 4;
    if ip.version_ihl >> 4 != 4
        || len != ipv4::MIN_LEN
        || ip.protocol != ipv4::IPIP
        || ip.fragment.get() & ipv4::FRAGMENT != 0
    {
        return None;
    }
    let inner = packet.read::<ipv4::Header>(l3 + len)?;
    (inner.version_ihl >> 4 == 4 && inner.version_ihl & 0xf >= 5).then_some(Outer { l3, len })
}
