//! ARP for IPv4 over Ethernet, RFC 826: offsets from the end of the link-layer header.

use crate::addr::Be16;

/// Offset of the operation.
pub const OPERATION: usize = 6;
/// Offset of the sender's IPv4 address.
pub const SENDER: usize = 14;
/// Offset of the target's IPv4 address.
pub const TARGET: usize = 24;

/// Operation: who has the target?
pub const REQUEST: Be16 = Be16::new(1);
