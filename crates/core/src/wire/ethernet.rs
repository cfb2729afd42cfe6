//! Ethernet II and the 802.1Q tag.

use crate::addr::Be16;

/// Bytes of an untagged header.
pub const LEN: usize = 14;
/// Bytes of one VLAN tag.
pub const TAG_LEN: usize = 4;
/// Offset of the source address; the destination is at 0.
pub const SOURCE: usize = 6;
/// Offset of the EtherType, or of the tag's TPID.
pub const TYPE: usize = 12;
/// Offset of the tag control information in a tagged frame.
pub const TCI: usize = 14;

/// EtherType of IPv4.
pub const IPV4: Be16 = Be16::new(0x0800);
/// EtherType of ARP.
pub const ARP: Be16 = Be16::new(0x0806);
/// EtherType of IPv6.
pub const IPV6: Be16 = Be16::new(0x86dd);
/// TPID of a customer tag.
pub const VLAN: Be16 = Be16::new(0x8100);
/// TPID of a service tag.
pub const QINQ: Be16 = Be16::new(0x88a8);
