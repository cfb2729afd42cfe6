//! Headers as they lie on the wire: offsets, field values, checksums. One header a file.
//!
//! Nothing here looks at more than one header or decides anything.

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod gre;
pub mod gue;
pub mod icmp4;
pub mod icmp6;
pub mod ipv4;
pub mod ipv6;
pub mod sctp;
pub mod tcp;
pub mod toa;
pub mod udp;
