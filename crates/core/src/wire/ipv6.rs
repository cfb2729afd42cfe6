//! IPv6, RFC 8200 §3 and §4.
//!
//! ```text
//!  0                   1                   2                   3
//! |Version| Traffic Class |           Flow Label                  |
//! |         Payload Length        |  Next Header  |   Hop Limit   |
//! |                       Source Address (128 bits)               |
//! |                    Destination Address (128 bits)             |
//! ```

use crate::addr::Be16;
use crate::wire::checksum::Diff;

/// Bytes of the fixed header.
pub const LEN: usize = 40;
/// Offset of the payload length.
pub const PAYLOAD_LEN: usize = 4;
/// Offset of the next header (the hop limit follows it).
pub const NEXT_HEADER: usize = 6;
/// Offset of the hop limit.
pub const HOP_LIMIT: usize = 7;
/// Offset of the source address.
pub const SOURCE: usize = 8;
/// Offset of the destination address.
pub const DESTINATION: usize = 24;

/// Next header: hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// Next header: routing.
pub const ROUTING: u8 = 43;
/// Next header: fragment.
pub const FRAGMENT: u8 = 44;
/// Next header: ICMPv6.
pub const ICMP: u8 = 58;
/// Next header: destination options.
pub const DESTINATION_OPTIONS: u8 = 60;
/// Protocol number of IPv6 in a tunnel.
pub const IPV6: u8 = 41;

/// Smallest MTU a link may have.
pub const MIN_MTU: u16 = 1280;

/// What another hop limit changes in the sum of the header.
#[inline(always)]
pub fn hops_changed(old: u8, new: u8) -> Diff {
    Diff::of16(u16::from(old).to_be(), u16::from(new).to_be())
}

/// What comes before the addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Version, traffic class, flow label, raw.
    pub version_class_flow: u32,
    /// Bytes after this header.
    pub payload_len: Be16,
    /// Next header.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
}

impl Header {
    /// Version.
    #[inline(always)]
    pub fn version(&self) -> u8 {
        (u32::from_be(self.version_class_flow) >> 28) as u8
    }
    /// Traffic class.
    #[inline(always)]
    pub fn class(&self) -> u8 {
        (u32::from_be(self.version_class_flow) >> 20) as u8
    }
}

const _: () = assert!(size_of::<Header>() == SOURCE);
