//! The client's address in a TCP option (TOA), as FULLNAT directors of Alibaba's LVS and DPVS send it:
//! kind 254, then the client's port and address, both in network order.
//!
//! ```text
//!   0      1      2       4                   8                                   20
//!   ┌──────┬──────┬───────┬───────────────────┐
//!   │ 254  │  8   │ port  │ IPv4 address      │
//!   ├──────┼──────┼───────┼───────────────────┴───────────────────────────────────┐
//!   │ 254  │  20  │ port  │ IPv6 address                                          │
//!   └──────┴──────┴───────┴───────────────────────────────────────────────────────┘
//! ```
//! The kind is one of RFC 4727's for experiments, so options of others may carry it, too: what has
//! another length is none of these.

use crate::addr::Be16;
use crate::mask::masked;

/// Option kind.
pub const KIND: u8 = 254;
/// Length of the option with an IPv4 address, kind and length included.
pub const LEN_V4: u8 = 8;
/// Length of the option with an IPv6 address.
pub const LEN_V6: u8 = 20;

const END: u8 = 0;
const NOP: u8 = 1;
/// Bytes of a TCP header without options, and with all there can be.
const FIRST: usize = 20;
const LAST: usize = 60;

/// The client, as the option names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Client {
    /// In wire order; an IPv4 address is mapped into IPv6 (`::ffff:a.b.c.d`).
    pub addr: [u32; 4],
    /// Port.
    pub port: Be16,
    /// True when the client speaks IPv6, 0 or 1.
    pub wide: u16,
}

/// A TCP segment, from the first byte of its header on.
pub trait Segment {
    /// The value at `at`, at any alignment; `None` outside of what is there. `at` is less than 256.
    fn read<T: Copy>(&self, at: usize) -> Option<T>;
}

/// The option in a segment's header; `None` when there is none, or the options are no list.
#[inline(always)]
pub fn find<S: Segment>(segment: &S) -> Option<Client> {
    let words = segment.read::<u8>(12)? >> 4;
    let end = (words as usize * 4).min(LAST);
    let mut at = FIRST;
    // Each turn goes on by a byte at least.
    for _ in FIRST..LAST {
        if at >= end {
            return None;
        }
        at = masked::<63>(at);
        let kind: u8 = segment.read(at)?;
        if kind == END {
            return None;
        }
        if kind == NOP {
            at += 1;
            continue;
        }
        let len: u8 = segment.read(at + 1)?;
        if len < 2 || at + len as usize > end {
            return None;
        }
        if kind == KIND && len == LEN_V4 {
            let addr = [0, 0, 0xffff_u32.to_be(), segment.read(at + 4)?];
            let port = Be16::from_raw(segment.read(at + 2)?);
            return Some(Client {
                addr,
                port,
                wide: 0,
            });
        }
        if kind == KIND && len == LEN_V6 {
            let word = |n: usize| segment.read::<u32>(at + 4 + 4 * n);
            let addr = [word(0)?, word(1)?, word(2)?, word(3)?];
            let port = Be16::from_raw(segment.read(at + 2)?);
            return Some(Client {
                addr,
                port,
                wide: 1,
            });
        }
        at += len as usize;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Bytes<'a>(&'a [u8]);

    impl Segment for Bytes<'_> {
        fn read<T: Copy>(&self, at: usize) -> Option<T> {
            let bytes = self.0.get(at..at + size_of::<T>())?;
            // SAFETY: as many bytes as a T has, and T is plain.
            Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
        }
    }

    /// A header with these options, filled up to whole words.
    fn header(options: &[u8]) -> Vec<u8> {
        let len = (FIRST + options.len()).next_multiple_of(4);
        let mut header = vec![0; len];
        header[12] = (len as u8 / 4) << 4;
        header[FIRST..][..options.len()].copy_from_slice(options);
        header
    }

    const V4: [u8; 8] = [254, 8, 0x30, 0x39, 192, 0, 2, 7];

    #[test]
    fn the_client_is_found_wherever_the_option_stands() {
        let timestamps = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
        let cases: [&[&[u8]]; 3] = [&[&V4], &[&timestamps, &V4], &[&V4, &timestamps]];
        for options in cases {
            let client = find(&Bytes(&header(&options.concat()))).unwrap();
            assert_eq!(client.addr[3], u32::from_ne_bytes([192, 0, 2, 7]));
            assert_eq!(client.addr[2], 0xffff_u32.to_be());
            assert_eq!(client.port.get(), 12345);
            assert_eq!(client.wide, 0);
        }
    }

    #[test]
    fn the_client_may_speak_ipv6() {
        let mut option = vec![254, 20, 0x1f, 0x90];
        option.extend(
            "2001:db8::7"
                .parse::<std::net::Ipv6Addr>()
                .unwrap()
                .octets(),
        );
        let client = find(&Bytes(&header(&option))).unwrap();
        assert_eq!((client.wide, client.port.get()), (1, 8080));
        assert_eq!(client.addr[0], 0x2001_0db8_u32.to_be());
        assert_eq!(client.addr[3], 7_u32.to_be());
    }

    #[test]
    fn what_is_not_such_an_option_is_left_alone() {
        let cases: [(&str, &[u8]); 6] = [
            ("no option", &[]),
            ("another length", &[254, 6, 0xf9, 0x89, 1, 2]),
            ("longer than the header", &[254, 8, 0x30, 0x39]),
            (
                "behind the end of the list",
                &[0, 0, 0, 0, 254, 8, 0x30, 0x39, 192, 0, 2, 7],
            ),
            (
                "a length of nothing",
                &[5, 0, 254, 8, 0x30, 0x39, 192, 0, 2, 7],
            ),
            ("a length of one", &[5, 1, 254, 8, 0x30, 0x39, 192, 0, 2, 7]),
        ];
        for (what, options) in cases {
            assert_eq!(find(&Bytes(&header(options))), None, "{what}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            find(&Bytes(&bytes));
        }
    }
}
