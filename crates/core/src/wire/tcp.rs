//! TCP, RFC 9293 §3.1: only what a balancer reads.

/// Bytes of a header without options.
pub const MIN_LEN: usize = 20;
/// Offset of the sequence number.
pub const SEQUENCE: usize = 4;
/// Offset of the acknowledgement number.
pub const ACKNOWLEDGEMENT: usize = 8;
/// Offset of data offset and flags.
pub const OFFSET_FLAGS: usize = 12;
/// Offset of the checksum.
pub const CHECKSUM: usize = 16;

/// Option kind: maximum segment size.
pub const MSS: u8 = 2;
/// Length of that option.
pub const MSS_LEN: u8 = 4;

/// FIN.
pub const FIN: u8 = 0x01;
/// SYN.
pub const SYN: u8 = 0x02;
/// RST.
pub const RST: u8 = 0x04;
/// ACK.
pub const ACK: u8 = 0x10;
/// Push.
pub const PSH: u8 = 0x08;
