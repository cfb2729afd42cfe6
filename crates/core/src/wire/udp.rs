//! UDP, RFC 768.

/// Bytes of the header.
pub const LEN: usize = 8;
/// Offset of the destination port.
pub const DESTINATION: usize = 2;
/// Offset of the length.
pub const LENGTH: usize = 4;
/// Offset of the checksum; zero there means none was computed.
pub const CHECKSUM: usize = 6;
