//! Generic UDP encapsulation (draft-ietf-intarea-gue), as Linux speaks it (`include/net/gue.h`).
//!
//! ```text
//!  0                   1                   2                   3
//! |Ver|C|  Hlen   | Proto/ctype   |             Flags             |
//! |            Private flags (if flag 0x0001 is set)              |
//! |    Checksum start             |      Checksum offset          |  remote checksum offload
//! ```

/// Bytes of a header without options.
pub const LEN: usize = 4;
/// Bytes of a header with private flags and remote checksum offload.
pub const LEN_REMCSUM: usize = 12;
/// What there may be in the first byte: version 0, no control message, length of options in words.
pub const HLEN: u8 = 0x1f;
/// Flag: private flags follow.
pub const PRIVATE: u16 = 0x0001;
/// Private flag: where the checksum to be completed starts and lies.
pub const REMCSUM: u32 = 0x8000_0000;
