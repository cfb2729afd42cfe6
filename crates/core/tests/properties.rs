//! What must hold for any packet: parsing takes everything, rewriting loses nothing, and a checksum
//! updated is a checksum recounted.

use std::mem;

use pointsman_core::addr::{Be16, Be32};
use pointsman_core::conn::Key;
use pointsman_core::director::Narrow;
use pointsman_core::forward::nat::{self, Rewrite};
use pointsman_core::host::{Packet, Shell};
use pointsman_core::icmp;
use pointsman_core::inner::Version;
use pointsman_core::parse::{Flow, Parsed, parse, plain, plain_wide};
use pointsman_core::wire::checksum::{Diff, add, finish, fold, of_bytes};
use pointsman_core::wire::icmp4::Message;
use pointsman_core::wire::ipv4;
use proptest::prelude::*;

/// A frame in plain memory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bytes(Vec<u8>);

impl Packet for Bytes {
    fn len(&self) -> u32 {
        self.0.len() as u32
    }

    fn pointer<T>(&self, at: usize) -> Option<*mut T> {
        let bytes = self.0.get(at..at.checked_add(mem::size_of::<T>())?)?;
        Some(bytes.as_ptr().cast::<T>().cast_mut())
    }

    fn push(&mut self, l3: usize, len: usize, _outer: Version, _shell: Shell) -> Option<()> {
        self.0.splice(l3..l3, vec![0; len]);
        Some(())
    }

    unsafe fn insert(&mut self, at: usize, len: u32, _scratch: *mut u8) -> Option<()> {
        self.0.get(at..)?;
        self.0.splice(at..at, vec![0; len as usize]);
        Some(())
    }

    fn rehead(&mut self, l3: usize, old: u32, new: u32, _to: Version) -> Option<()> {
        let end = l3 + old as usize;
        self.0.get(l3..end)?;
        self.0.splice(l3..end, vec![0; new as usize]);
        Some(())
    }

    fn reshape(&mut self, l3: usize, bytes: u32, len: u32) -> Option<()> {
        self.0.splice(l3..l3, vec![0; bytes as usize]);
        self.0.resize(len as usize, 0);
        Some(())
    }
}

/// A whole TCP or UDP packet with right checksums, options and tags of any number.
fn packet() -> impl Strategy<Value = (Bytes, usize)> {
    let key = (any::<u32>(), any::<u16>(), any::<u32>(), any::<u16>());
    let payload = prop::collection::vec(any::<u8>(), 0..64);
    let shape = (any::<bool>(), 0..3usize, 0..=10usize, any::<u8>());
    (key, payload, shape).prop_map(|((source, sport, destination, dport), payload, shape)| {
        let (tcp, tags, option_words, ttl) = shape;
        let mut frame = vec![2; 12];
        for _ in 0..tags {
            frame.extend_from_slice(&[0x81, 0, 0, 7]);
        }
        frame.extend_from_slice(&[8, 0]);
        let l3 = frame.len();
        let mut ip = vec![1u8; 20 + option_words * 4];
        let transport = if tcp { 20 } else { 8 };
        let total = (ip.len() + transport + payload.len()) as u16;
        ip[0] = 0x40 | (ip.len() / 4) as u8;
        ip[2..4].copy_from_slice(&total.to_be_bytes());
        ip[6..8].copy_from_slice(&ipv4::DF.to_be_bytes());
        ip[8] = ttl;
        ip[9] = if tcp { ipv4::TCP } else { ipv4::UDP };
        ip[10..12].fill(0);
        ip[12..16].copy_from_slice(&source.to_be_bytes());
        ip[16..20].copy_from_slice(&destination.to_be_bytes());
        let sum = of_bytes(&ip);
        ip[10..12].copy_from_slice(&sum.to_ne_bytes());
        let mut segment = vec![0u8; transport];
        segment[0..2].copy_from_slice(&sport.to_be_bytes());
        segment[2..4].copy_from_slice(&dport.to_be_bytes());
        if tcp {
            segment[12..14].copy_from_slice(&[0x50, 0x10]);
        } else {
            segment[4..6].copy_from_slice(&(8 + payload.len() as u16).to_be_bytes());
        }
        segment.extend_from_slice(&payload);
        let sum = match transport_sum(&ip, &segment) {
            0 if !tcp => 0xffff,
            sum => sum,
        };
        let at = if tcp { 16 } else { 6 };
        segment[at..at + 2].copy_from_slice(&sum.to_ne_bytes());
        frame.extend_from_slice(&ip);
        frame.extend_from_slice(&segment);
        (Bytes(frame), l3)
    })
}

/// The checksum over pseudo header and segment, whose own field counts like the rest.
fn transport_sum(ip: &[u8], segment: &[u8]) -> u16 {
    let mut whole = ip[12..20].to_vec();
    whole.extend_from_slice(&[0, ip[9]]);
    whole.extend_from_slice(&(segment.len() as u16).to_be_bytes());
    whole.extend_from_slice(segment);
    of_bytes(&whole)
}

/// Both checksums of a frame are right.
fn sums_hold(frame: &Bytes, l3: usize) -> bool {
    let packet = &frame.0[l3..];
    let (ip, segment) = packet.split_at(usize::from(packet[0] & 0xf) * 4);
    of_bytes(ip) == 0 && transport_sum(ip, segment) == 0
}

fn flow_of(frame: &Bytes) -> Flow {
    match parse::<_, false>(frame, [1, 2]) {
        Parsed::Flow(flow) => flow,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_bytes_are_parsed_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
        let frame = Bytes(bytes);
        let _ = parse::<_, false>(&frame, [1, 2]);
        let _ = (plain(&frame), plain_wide(&frame, [1, 2]));
    }

    #[test]
    fn what_is_plain_is_parsed_as_any_packet_is(
        (frame, l3) in packet(),
        garbage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        wide in any::<bool>(),
    ) {
        let mut frame = frame;
        if wide {
            // Its transport header and payload behind an IPv6 header, whatever the rest was.
            let protocol = frame.0[l3 + 9];
            let behind = frame.0.split_off(l3 + usize::from(frame.0[l3] & 0xf) * 4);
            frame.0.truncate(l3);
            frame.0[l3 - 2..].copy_from_slice(&[0x86, 0xdd]);
            frame.0.extend([0x60, 0x12, 0x34, 0x56]);
            frame.0.extend((behind.len() as u16).to_be_bytes());
            frame.0.extend([protocol, 64]);
            frame.0.extend(1..=32);
            frame.0.extend(behind);
        }
        let untouched = garbage.is_empty();
        for (at, value) in garbage {
            let at = at.index(frame.0.len());
            frame.0[at] = value;
        }
        let said = match plain(&frame) {
            Parsed::Flow(flow) => Some((flow, parse::<_, false>(&frame, [1, 2]))),
            Parsed::Wide => plain_wide(&frame, [1, 2]).map(|flow| (flow, parse::<_, true>(&frame, [1, 2]))),
            Parsed::Rare => None,
            Parsed::Other => {
                let any = parse::<_, false>(&frame, [1, 2]);
                prop_assert!(matches!(any, Parsed::Other), "{any:?}");
                None
            }
        };
        // Without a tag and options, and no shorter than TCP, a packet is plain.
        let headers = if wide { 54 } else { 34 };
        let whole = l3 == 14 && (wide || frame.0[14] == 0x45) && frame.0.len() >= headers + 20;
        prop_assert!(said.is_some() || !(untouched && whole));
        if let Some((flow, any)) = said {
            prop_assert_eq!(format!("{:?}", Parsed::Flow(flow)), format!("{:?}", any));
        }
    }

    #[test]
    fn any_ipv4_header_is_parsed_within_its_frame(
        (frame, l3) in packet(),
        garbage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        message in any::<bool>(),
    ) {
        let mut frame = frame;
        for (at, value) in garbage {
            let at = l3 + at.index(frame.0.len() - l3);
            frame.0[at] = value;
        }
        frame.0.truncate(cut.index(frame.0.len() + 1));
        if let Parsed::Flow(flow) = parse::<_, false>(&frame, [1, 2]) {
            prop_assert!(flow.l4 >= flow.l3 + 20);
            prop_assert!(flow.l3 + usize::from(flow.headers) <= frame.0.len());
            prop_assert!(flow.headers <= flow.total_len);
            prop_assert!(flow.l3 + usize::from(flow.total_len) <= frame.0.len());
            // What parses can be answered and rewritten.
            let mut answered = frame.clone();
            let message = if message { Message::TIME_EXCEEDED } else { Message::fragmentation_needed(1480) };
            prop_assert!(icmp::answer(&mut answered, flow.l3, message).is_some());
            let to = Rewrite { addresses: 1, ports: 2 };
            prop_assert!(nat::rewrite::<_, Narrow>(&mut frame, &flow, &to, 1).is_some());
        }
    }

    #[test]
    fn a_parsed_flow_says_what_the_packet_said((frame, l3) in packet()) {
        let flow = flow_of(&frame);
        let ip = &frame.0[l3..];
        let four = |at: usize| Be32::from_octets(ip[at..at + 4].try_into().unwrap());
        let two = |at: usize| Be16::new(u16::from_be_bytes([frame.0[at], frame.0[at + 1]]));
        let key = Key::new(ip[9], four(12), two(flow.l4), four(16), two(flow.l4 + 2));
        prop_assert_eq!((flow.l3, flow.key, flow.ttl, flow.df), (l3, key, ip[8], true));
        prop_assert_eq!(flow.key.source(), four(12));
        prop_assert_eq!(flow.key.dport(), two(flow.l4 + 2));
    }

    #[test]
    fn nat_there_and_back_is_nothing_and_checksums_are_a_recount(
        (frame, l3) in packet(),
        addresses in any::<u64>(),
        ports in any::<u32>(),
    ) {
        prop_assert!(sums_hold(&frame, l3));
        let before = flow_of(&frame);
        let mut there = frame.clone();
        nat::rewrite::<_, Narrow>(&mut there, &before, &Rewrite { addresses, ports }, 0).unwrap();
        prop_assert!(sums_hold(&there, l3));
        let after = flow_of(&there);
        prop_assert_eq!((after.key.addresses, after.key.ports), (addresses, ports));
        let back = Rewrite { addresses: before.key.addresses, ports: before.key.ports };
        let mut again = there.clone();
        nat::rewrite::<_, Narrow>(&mut again, &after, &back, 0).unwrap();
        prop_assert!(sums_hold(&again, l3));
        prop_assert_eq!(again, frame);
    }

    #[test]
    fn an_error_about_any_packet_has_right_checksums((frame, l3) in packet(), mtu in any::<u16>()) {
        let mut answer = frame.clone();
        icmp::answer(&mut answer, l3, Message::fragmentation_needed(mtu)).unwrap();
        let ip = &answer.0[l3..];
        prop_assert_eq!(of_bytes(&ip[..20]), 0);
        prop_assert_eq!(of_bytes(&ip[20..]), 0);
        prop_assert_eq!(&ip[28..], &frame.0[l3..][..ip.len() - 28]);
        prop_assert_eq!(usize::from(u16::from_be_bytes([ip[2], ip[3]])), ip.len());
    }

    #[test]
    fn differences_add_up_and_undo_each_other(
        words in prop::collection::vec(any::<u32>(), 2..8),
        a in any::<u32>(),
        b in any::<u32>(),
        at in any::<prop::sample::Index>(),
    ) {
        let sum = |words: &[u32]| finish(words.iter().fold(0, |sum, w| add(sum, *w)));
        let mut words = words;
        let at = at.index(words.len());
        // All zero has two sums.
        words[(at + 1) % 2] |= 1;
        let (old, checksum) = (words[at], sum(&words));
        words[at] = a;
        let first = Diff::of32(old, a).apply(checksum);
        words[at] = b;
        let recount = sum(&words);
        if words.iter().any(|w| *w != 0) && recount != 0xffff {
            prop_assert_eq!(Diff::of32(a, b).apply(first), recount, "one after the other");
            let both = Diff::of32(old, a).and(Diff::of32(a, b));
            prop_assert_eq!(both.apply(checksum), recount, "both at once");
            prop_assert_eq!(Diff::of32(old, b).apply(checksum), recount, "as one");
        }
        prop_assert_eq!(Diff::NONE.apply(checksum), checksum);
        prop_assert_eq!(add(a, b), add(b, a));
        prop_assert_eq!(fold(add(a, b)), fold(add(u32::from(fold(a)), u32::from(fold(b)))));
    }

    #[test]
    fn a_hash_depends_on_key_and_seed_alone(
        addresses in any::<u64>(),
        ports in any::<u32>(),
        seed in any::<[u64; 2]>(),
        mask_bits in 1..20u32,
    ) {
        let key = Key { addresses, ports, proto: ipv4::TCP };
        let hash = key.hash(seed);
        prop_assert_eq!(hash, key.hash(seed));
        let mask = (1 << mask_bits) - 1;
        prop_assert_ne!(hash.first_set(mask), hash.second_set(mask));
        prop_assert!(hash.first_way() < 8 && hash.fingerprint() != 0);
        let other = Key { proto: ipv4::UDP, ..key };
        prop_assert_ne!(hash, other.hash(seed));
    }
}
