//! IPv4, RFC 791 §3.1.
//!
//! ```text
//!  0                   1                   2                   3
//! |Version|  IHL  |Type of Service|          Total Length         |
//! |         Identification        |Flags|      Fragment Offset    |
//! |  Time to Live |    Protocol   |         Header Checksum       |
//! |                       Source Address                          |
//! |                    Destination Address                        |
//! ```

use crate::addr::{Be16, Be32};

/// Bytes of a header without options.
pub const MIN_LEN: usize = 20;
/// Offset of the time to live (the protocol follows it).
pub const TTL: usize = 8;
/// Offset of the header checksum.
pub const CHECKSUM: usize = 10;
/// Offset of the source address.
pub const SOURCE: usize = 12;
/// Offset of the destination address.
pub const DESTINATION: usize = 16;

/// Flag: don't fragment.
pub const DF: u16 = 0x4000;
/// Fragment offset, in units of eight bytes.
pub const OFFSET: u16 = 0x1fff;
/// More-fragments flag and fragment offset: non-zero in every fragment.
pub const FRAGMENT: u16 = 0x3fff;

/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of IP in IP (RFC 2003).
pub const IPIP: u8 = 4;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of SCTP.
pub const SCTP: u8 = 132;
/// Protocol number of ESP.
pub const ESP: u8 = 50;
/// Protocol number of AH.
pub const AH: u8 = 51;

/// The fixed part of a header.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Version and header length in words.
    pub version_ihl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Bytes of header and payload.
    pub total_len: Be16,
    /// Identification.
    pub id: Be16,
    /// Flags and fragment offset.
    pub fragment: Be16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol.
    pub protocol: u8,
    /// Header checksum, raw.
    pub checksum: u16,
    /// Source address.
    pub source: Be32,
    /// Destination address.
    pub destination: Be32,
}

impl Header {
    /// Both addresses as [`crate::conn::Key`] holds them.
    #[inline(always)]
    pub fn addresses(&self) -> u64 {
        u64::from(self.source.raw()) | u64::from(self.destination.raw()) << 32
    }
}

const _: () = assert!(size_of::<Header>() == MIN_LEN);
