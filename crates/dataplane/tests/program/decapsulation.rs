//! The real server's program: what it unwraps, what it leaves alone, what it drops.

use std::net::IpAddr;
use std::path::Path;

use pointsman_dataplane::realserver::{self, Accept, Decapsulator};
use pointsman_testkit::{Names, Netns, Pins, wire};

use crate::wrap::{Header, SHELLS, Shell, TCP, UDP, ip, is_v4, transport, unfinished, wrap};

const MAC: [u8; 6] = [2, 0, 0, 0, 3, 1];
const PORT: u16 = 6080;
const PORTS: (u16, u16) = (0xd54b, PORT);
const PASS: i32 = -1;
const SHOT: i32 = 2;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Director, real server.
fn outers() -> [(IpAddr, IpAddr); 2] {
    [("10.0.0.1", "10.0.0.11"), ("fd00::1", "fd00::11")].map(|(a, b)| (address(a), address(b)))
}

/// Client, VIP.
fn inners() -> [(IpAddr, IpAddr); 2] {
    [
        ("198.51.100.2", "192.0.2.1"),
        ("2001:db8::2", "2001:db8::100"),
    ]
    .map(|(a, b)| (address(a), address(b)))
}

fn packets(len: usize, tos: u8) -> Vec<Vec<u8>> {
    let payload: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
    let mut packets = Vec::new();
    for (client, vip) in inners() {
        for protocol in [TCP, UDP] {
            packets.push(transport(
                &Header::new(client, vip).tos(tos),
                (5003, 55),
                protocol,
                &payload,
            ));
        }
    }
    packets
}

fn frame(packet: &[u8]) -> Vec<u8> {
    let ethertype: [u8; 2] = if is_v4(packet) { [8, 0] } else { [0x86, 0xdd] };
    [&MAC[..], &[2, 0, 0, 0, 0, 9], &ethertype, packet].concat()
}

/// A real server whose interface has `MAC`.
struct Server<'a> {
    decapsulator: Decapsulator,
    pins: &'a Path,
    index: u32,
}

impl Server<'_> {
    fn receives(&mut self, frame: &[u8]) -> (i32, Vec<u8>) {
        let run = self.decapsulator.run(frame, self.index).unwrap();
        (run.verdict, run.packet)
    }

    fn count(&self, name: &str) -> u64 {
        let counts = realserver::counts(self.pins).unwrap();
        counts.iter().find(|c| c.name == name).unwrap().packets
    }

    #[track_caller]
    fn unwraps(&mut self, outer: &[u8], inner: &[u8], what: &str) {
        let (verdict, packet) = self.receives(&frame(outer));
        assert_eq!(verdict, PASS, "{what}: {:?}", realserver::counts(self.pins));
        assert_eq!(packet, frame(inner), "{what}: {packet:x?}");
    }

    #[track_caller]
    fn leaves(&mut self, outer: &[u8], what: &str) {
        let before = realserver::counts(self.pins).unwrap();
        let (verdict, packet) = self.receives(&frame(outer));
        assert_eq!((verdict, packet), (PASS, frame(outer)), "{what}");
        assert_eq!(realserver::counts(self.pins).unwrap(), before, "{what}");
    }

    #[track_caller]
    fn drops(&mut self, outer: &[u8], name: &str, what: &str) {
        let before = self.count(name);
        let (verdict, _) = self.receives(&frame(outer));
        assert_eq!((verdict, self.count(name)), (SHOT, before + 1), "{what}");
    }
}

fn with_server(accept: Accept, f: impl FnOnce(&mut Server<'_>, &Netns) + Send) {
    let names = Names::transient();
    let (server, peer) = (
        Netns::new(&names, "server").unwrap(),
        Netns::new(&names, "peer").unwrap(),
    );
    wire::cable((&server, "eth0"), (&peer, "eth0")).unwrap();
    server
        .ip("link set eth0 address 02:00:00:00:03:01")
        .unwrap();
    server.ip("address add 10.0.0.11/24 dev eth0").unwrap();
    server
        .sysctl("net.ipv6.conf.eth0.disable_ipv6", "0")
        .unwrap();
    server.ip("address add fd00::11/64 dev eth0 nodad").unwrap();
    let index = server.index("eth0").unwrap();
    let pins = Pins::new().unwrap();
    server.run(|| {
        let decapsulator =
            Decapsulator::load(pins.path(), &accept).unwrap_or_else(|e| panic!("{e}"));
        let mut real = Server {
            decapsulator,
            pins: pins.path(),
            index,
        };
        f(&mut real, &server);
    });
}

fn anybody() -> Accept {
    Accept {
        directors: Vec::new(),
        gue_ports: vec![PORT, 5555],
    }
}

/// Any inner packet in any shell in any outer packet comes out as it was, its checksum complete.
#[test]
fn every_tunnel_is_unwrapped() {
    with_server(anybody(), |server, _| {
        let mut n = 0;
        // Payloads below and above what the program reads at once, and of odd length.
        for len in [0, 1, 40, 127, 128, 129, 1300] {
            for inner in packets(len, 0) {
                for (director, rip) in outers() {
                    for shell in SHELLS {
                        let outer = wrap(&inner, shell, &Header::new(director, rip), PORTS);
                        let what = format!("{shell:?} from {director}, {len} bytes, {inner:x?}");
                        server.unwraps(&outer, &inner, &what);
                        n += 1;
                    }
                }
            }
        }
        assert_eq!(server.count("decapsulated"), n);
    });
}

/// What the kernel's IPVS sent, captured: a client's datagram of one byte (0x78) to 192.0.2.1:55.
#[test]
fn what_the_kernel_sent_is_unwrapped() {
    let (client, vip) = inners()[0];
    let inner = |id: [u8; 2]| {
        let mut inner = transport(&Header::new(client, vip).tos(0), (5003, 55), UDP, b"x");
        inner[4..6].copy_from_slice(&id);
        inner[10..12].fill(0);
        let sum = pointsman_testkit::frames::checksum(&[&inner[..20]]);
        inner[10..12].copy_from_slice(&sum.to_be_bytes());
        inner
    };
    let captures: [(&str, [u8; 2], &str); 3] = [
        (
            "GUE",
            [0xd9, 0x25],
            "4500003d000040003f1127a50a0000010a00000bd54b17c00029000000040000",
        ),
        (
            "GRE with checksum",
            [0x46, 0xda],
            "45000039000040003f2f278b0a0000010a00000b8000080064510000",
        ),
        (
            "GRE",
            [0x40, 0x74],
            "45000035000040003f2f278f0a0000010a00000b00000800",
        ),
    ];
    with_server(anybody(), |server, _| {
        for (what, id, head) in captures {
            let mut outer: Vec<u8> = (0..head.len())
                .step_by(2)
                .map(|i| u8::from_str_radix(&head[i..i + 2], 16).unwrap())
                .collect();
            outer.extend(inner(id));
            server.unwraps(&outer, &inner(id), what);
        }
    });
}

/// A sender's kernel may have left a checksum to a network card where there is none: over veth.
#[test]
fn unfinished_checksums_are_no_wrong_ones() {
    with_server(anybody(), |server, _| {
        for inner in packets(100, 0) {
            let partial = unfinished(&inner);
            for (director, rip) in outers() {
                for shell in [Shell::GueChecksum, Shell::GreChecksum] {
                    // The outer checksum counts on the inner one's being filled in.
                    let whole = wrap(&inner, shell, &Header::new(director, rip), PORTS);
                    let at = whole.len() - inner.len();
                    let outer = [&whole[..at], &partial[..]].concat();
                    server.unwraps(&outer, &partial, &format!("inner unfinished, {shell:?}"));
                }
                // The outer one itself: nothing yet, or the sum of its pseudo header.
                let mut outer = wrap(
                    &inner,
                    Shell::GreChecksum,
                    &Header::new(director, rip),
                    PORTS,
                );
                let at = outer.len() - inner.len() - 4;
                outer[at..at + 2].fill(0);
                server.unwraps(&outer, &inner, "outer unfinished, GRE");
                for shell in [Shell::GueChecksum, Shell::GueRemote] {
                    let outer =
                        unfinished(&wrap(&inner, shell, &Header::new(director, rip), PORTS));
                    server.unwraps(&outer, &inner, &format!("outer unfinished, {shell:?}"));
                }
            }
        }
    });
}

#[test]
fn a_wrong_checksum_is_dropped() {
    with_server(anybody(), |server, _| {
        // Without a checksum of its own the payload is walked over.
        let (client, vip) = inners()[0];
        let mut bare = transport(&Header::new(client, vip).tos(0), (1, 2), UDP, &[7; 300]);
        bare[26..28].fill(0);
        for (director, rip) in outers() {
            for shell in [Shell::GueChecksum, Shell::GreChecksum] {
                let mut outer = wrap(&bare, shell, &Header::new(director, rip), PORTS);
                server.unwraps(&outer, &bare, "walked over");
                let last = outer.len() - 1;
                outer[last] ^= 1;
                server.drops(&outer, "tunnel-checksum", "one bit of the payload");
                for inner in packets(10, 0) {
                    let mut outer = wrap(&inner, shell, &Header::new(director, rip), PORTS);
                    let at = outer.len() - inner.len() - 2;
                    // The last field of the shell.
                    outer[at] ^= 0x10;
                    if shell == Shell::GreChecksum {
                        server.drops(&outer, "tunnel-checksum", "one bit of the header");
                    }
                    outer[at] ^= 0x10;
                    let source = if is_v4(&outer) { 15 } else { 23 };
                    outer[source] ^= 2;
                    if shell == Shell::GueChecksum {
                        server.drops(&outer, "tunnel-checksum", "one bit of the pseudo header");
                    }
                }
            }
        }
        let inner = &packets(10, 0)[0];
        let (director, rip) = outers()[0];
        let mut outer = wrap(inner, Shell::GueRemote, &Header::new(director, rip), PORTS);
        outer[20 + 8 + 4 + 5] += 1;
        server.drops(&outer, "tunnel-checksum", "a start that is no header");
    });
}

#[test]
fn only_directors_may_send_when_they_are_named() {
    let accept = Accept {
        directors: vec![address("10.0.0.1"), address("fd00::1")],
        gue_ports: vec![PORT],
    };
    with_server(accept, |server, _| {
        let inner = &packets(10, 0)[0];
        for shell in SHELLS {
            for (director, rip) in outers() {
                let outer = wrap(inner, shell, &Header::new(director, rip), PORTS);
                server.unwraps(&outer, inner, "from a director");
            }
            for (stranger, rip) in [("10.0.0.2", "10.0.0.11"), ("fd00::2", "fd00::11")] {
                let outer = wrap(
                    inner,
                    shell,
                    &Header::new(address(stranger), address(rip)),
                    PORTS,
                );
                server.drops(&outer, "not-from-a-director", stranger);
            }
        }
    });
}

/// RFC 6040: what routers told the outer packet, the inner one has to know.
#[test]
fn congestion_is_handed_on() {
    with_server(anybody(), |server, _| {
        for (director, rip) in outers() {
            for (inner_tos, expected) in [
                (0xb8 | 2, Some(0xb8 | 3)),
                (1, Some(3)),
                (3, Some(3)),
                (0, None),
            ] {
                for (before, after) in packets(20, inner_tos)
                    .iter()
                    .zip(packets(20, expected.unwrap_or(0)))
                {
                    let outer = wrap(
                        before,
                        Shell::Ipip,
                        &Header::new(director, rip).tos(3),
                        PORTS,
                    );
                    match expected {
                        Some(_) => server.unwraps(&outer, &after, "congested"),
                        None => server.drops(&outer, "tunnel-congestion", "cannot tell"),
                    }
                    let outer = wrap(
                        before,
                        Shell::Ipip,
                        &Header::new(director, rip).tos(2),
                        PORTS,
                    );
                    server.unwraps(&outer, before, "not congested");
                }
            }
        }
    });
}

#[test]
fn what_is_no_tunnelled_packet_is_left_alone() {
    with_server(anybody(), |server, _| {
        let inner = packets(30, 0)[0].clone();
        for (director, rip) in outers() {
            for shell in SHELLS {
                let whole = wrap(&inner, shell, &Header::new(director, rip), PORTS);
                // Cut anywhere: the lengths no longer agree.
                for len in (if is_v4(&whole) { 20 } else { 40 })..whole.len() {
                    server.receives_cut(&whole[..len]);
                }
                let header_len = if is_v4(&whole) { 20 } else { 40 };
                if is_v4(&whole) {
                    let mut fragment = whole.clone();
                    fragment[6] = 0x20;
                    server.leaves(&fragment, "a fragment");
                }
                let mut other = whole.clone();
                match shell {
                    Shell::Ipip => other[header_len] = 0x55,
                    Shell::Gre | Shell::GreChecksum => other[header_len] |= 0x20,
                    _ => other[header_len + 2] ^= 1,
                }
                server.leaves(
                    &other,
                    &format!("{shell:?}: another version, a key, another port"),
                );
                if matches!(shell, Shell::Gue | Shell::GueChecksum | Shell::GueRemote) {
                    for (at, value) in [(8, 0x20), (8, 0x40), (8, 0x1f), (9, 50), (10, 0x80)] {
                        let mut other = whole.clone();
                        other[header_len + at] = value;
                        server.leaves(&other, &format!("GUE byte {at} is {value:#x}"));
                    }
                }
            }
        }
        let (director, rip) = outers()[0];
        let datagram = ip(&Header::new(director, rip), UDP, &[0; 8]);
        server.leaves(&datagram, "UDP");
    });
}

impl Server<'_> {
    /// Nothing that is cut may be taken for whole.
    #[track_caller]
    fn receives_cut(&mut self, outer: &[u8]) {
        let (verdict, packet) = self.receives(&frame(outer));
        assert_eq!(
            (verdict, packet),
            (PASS, frame(outer)),
            "cut to {}",
            outer.len()
        );
    }
}

/// A real server that is a router too forwards other people's tunnels as they are.
#[test]
fn tunnels_to_others_are_left_alone() {
    with_server(anybody(), |server, netns| {
        netns.sysctl("net.ipv4.ip_forward", "1").unwrap();
        netns.sysctl("net.ipv6.conf.all.forwarding", "1").unwrap();
        for inner in packets(10, 0) {
            for (director, rip) in outers() {
                for shell in SHELLS {
                    let outer = wrap(&inner, shell, &Header::new(director, rip), PORTS);
                    server.unwraps(&outer, &inner, "to a router's own address");
                }
            }
            for (a, b) in [("10.0.0.1", "10.0.0.12"), ("fd00::1", "fd00::12")] {
                let outer = wrap(
                    &inner,
                    Shell::Ipip,
                    &Header::new(address(a), address(b)),
                    PORTS,
                );
                server.leaves(&outer, "to somebody else");
            }
        }
    });
}
