//! GRE, RFC 2784: what IPVS sends and takes.
//!
//! ```text
//!  0                   1                   2                   3
//! |C|       Reserved0       | Ver |         Protocol Type         |
//! |      Checksum (optional)      |       Reserved1 (Optional)    |
//! ```

/// Protocol number.
pub const PROTOCOL: u8 = 47;
/// Bytes of a header without checksum.
pub const LEN: usize = 4;
/// Bytes of a header with checksum.
pub const LEN_CHECKSUM: usize = 8;
/// Flag: checksum present.
pub const CHECKSUM: u16 = 0x8000;
