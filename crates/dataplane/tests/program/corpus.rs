//! Many packets of every kind, drawn from a seed: XDP with TC behind it, TC alone, and user space in the
//! manner of both must do the same to each, byte for byte; and together they must have gone every way.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use pointsman_core::director::call;
use pointsman_model::{
    Family, Forwarding, MarkRule, Persistence, Protocol, ServerSpec, ServiceKey, ServiceSpec,
};

use crate::frame::{ACK, FIN, RST, SYN};
use crate::packet::{ICMP6, Packet};
use crate::related::opening;
use crate::user::{Class, UserSpace};
use crate::world::{
    BACK_MAC, CLIENT_MAC, FRONT_MAC, Hooks, NET4, NET6, Net, Seen, Side, Stage, World, mac_of,
    same, service, tunnel, wide_server,
};

/// Packets drawn.
const PACKETS: usize = 3000;
/// The least that must differ from each other.
const LEAST: usize = 500;

/// Ways that user space must have gone.
const PROGRAMS: [u32; 11] = [
    call::DIRECTOR,
    call::OPEN,
    call::UNREACHABLE,
    call::NARROW,
    call::WIDE,
    call::RARE,
    call::RARE_WIDE,
    call::ONE_PACKET,
    call::ONE_PACKET_WIDE,
    call::RARE_FLOW,
    call::RARE_FLOW_WIDE,
];
const VERDICTS: [&str; 11] = [
    "Pass",
    "Drop",
    "Send",
    "Resolve",
    "ResolveWide",
    "Stack",
    "Loopback",
    "Answer",
    "HandUp",
    "Held",
    "Call",
];
const DROPS: [&str; 9] = [
    "malformed-ip",
    "malformed-transport",
    "needs-fragmentation",
    "no-destination",
    "no-route",
    "server-removed",
    "too-big",
    "ttl-exceeded",
    "tuple-busy",
];

/// xorshift64: the same packets each time.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % limit
    }

    fn of<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// What each port of the VIP is for.
mod port {
    pub const NAT: u16 = 80;
    pub const DIRECT: u16 = 81;
    pub const LOCAL: u16 = 82;
    pub const NOBODY: u16 = 83;
    pub const UNKNOWN: u16 = 84;
    pub const NOWHERE: u16 = 85;
    pub const PERSISTENT: u16 = 86;
    pub const TUNNEL: u16 = 87;
    pub const REMOVED: u16 = 88;
    pub const ONE_PACKET: u16 = 89;
    /// The same server and port as [`NAT`].
    pub const TWIN: u16 = 90;
    pub const KEYS: u16 = 500;
    pub const MARKED: u16 = 8000;
    pub const OTHER: u16 = 4000;
    pub const ALL: [u16; 14] = [
        NAT, DIRECT, LOCAL, NOBODY, UNKNOWN, NOWHERE, PERSISTENT, TUNNEL, REMOVED, ONE_PACKET,
        TWIN, KEYS, MARKED, OTHER,
    ];
}

const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

fn services(s: &mut Stage<'_>) {
    for net in [NET4, NET6] {
        for protocol in PROTOCOLS {
            let spec = |port| service(protocol, net.vip(port));
            let masquerade = |rip, port| wide_server(rip, port, Forwarding::Masquerade);
            let pair = [net.nat(0, 8080), net.nat(1, 8080)];
            s.serve(&spec(port::NAT), &pair);
            s.serve(&spec(port::TWIN), &pair);
            let direct = [net.direct(2, port::DIRECT), net.direct(3, port::DIRECT)];
            s.serve(&spec(port::DIRECT), &direct);
            s.serve(&spec(port::LOCAL), &[masquerade(net.dip, 8080)]);
            s.serve(&spec(port::NOBODY), &[]);
            s.serve(&spec(port::UNKNOWN), &[masquerade(net.unknown, 80)]);
            s.serve(&spec(port::NOWHERE), &[masquerade(net.nowhere, 80)]);
            let persistent = ServiceSpec {
                persistence: Some(Persistence {
                    timeout_secs: NonZeroU32::new(300).unwrap(),
                }),
                ..spec(port::PERSISTENT)
            };
            s.serve(&persistent, &[net.nat(0, 8086), net.nat(1, 8086)]);
            s.serve(&spec(port::REMOVED), &[net.nat(2, 8088)]);
            let one_packet = ServiceSpec {
                one_packet: true,
                ..spec(port::ONE_PACKET)
            };
            s.serve(&one_packet, &[net.nat(0, 8089), net.direct(1, 8089)]);
            s.serve(&spec(port::KEYS), &[net.nat(3, 500)]);
            if net.vip.is_ipv4() {
                let mut server = tunnel(crate::world::RS4);
                server.key.port = port::TUNNEL;
                s.serve(&spec(port::TUNNEL), &[server]);
            }
        }
        let family = Family::from(net.vip);
        let mark = ServiceSpec {
            scheduler: pointsman_model::Scheduler::Rr,
            ..ServiceSpec::new(
                ServiceKey::Mark { mark: 7, family },
                pointsman_model::Scheduler::Rr,
            )
        };
        s.serve(&mark, &[net.nat(0, 0), net.nat(1, 0)]);
        s.tables().set_no_route(net.nowhere, true);
    }
    let rule: MarkRule = "port 8000-8009 mark 7".parse().unwrap();
    s.tables().set_mark_rules(&[rule]).unwrap();
}

fn remove_a_server(s: &mut Stage<'_>) {
    for net in [NET4, NET6] {
        for protocol in PROTOCOLS {
            let server: ServerSpec = net.nat(2, 8088);
            let key = service(protocol, net.vip(port::REMOVED)).key;
            s.tables().delete_server(&key, &server.key).unwrap();
        }
    }
}

/// A packet of a connection, either way, in one of its states.
fn of_connection(draw: &mut Draw, net: &Net) -> (Side, Packet) {
    let port = *draw.of(&port::ALL);
    let client = net.client(40_000 + draw.below(6) as u16);
    let client = if port == port::KEYS {
        net.client(500)
    } else {
        client
    };
    let payload: Vec<u8> = (0..draw.below(60)).map(|i| (i * 31) as u8).collect();
    let protocol = *draw.of(&PROTOCOLS);
    let transport = |draw: &mut Draw, from: SocketAddr, to: SocketAddr| match protocol {
        Protocol::Tcp => {
            let flags = *draw.of(&[SYN, SYN, SYN, ACK, ACK, FIN | ACK, RST, SYN | ACK, 0]);
            Packet::tcp(from, to, flags, &payload)
        }
        Protocol::Udp => Packet::udp(from, to, &payload),
        Protocol::Sctp => {
            let chunk = *draw.of(&[1, 1, 1, 0, 2, 6, 7, 8, 9, 10, 11, 14]);
            Packet::sctp(from, to, &[chunk, *draw.of(&[0, 6])], &payload)
        }
    };
    if draw.below(3) == 0 {
        let (server, rport) = *draw.of(&[
            (net.rs[0], 8080),
            (net.rs[1], 8080),
            (net.rs[0], 8086),
            (net.rs[2], 8088),
            (net.rs[0], 8000),
            (net.rs[3], 500),
        ]);
        let packet = transport(draw, SocketAddr::new(server, rport), client);
        (Side::Back, packet)
    } else {
        (Side::Front, transport(draw, client, net.vip(port)))
    }
}

/// An ICMP error about a packet of a connection, or another message.
fn message(draw: &mut Draw, net: &Net) -> (Side, Packet) {
    let what = if net.vip.is_ipv4() {
        *draw.of(&[(3, 1), (3, 3), (3, 4), (11, 0), (8, 0), (0, 0)])
    } else {
        *draw.of(&[(1, 0), (1, 4), (2, 0), (3, 0), (128, 0), (135, 0)])
    };
    let (side, about) = of_connection(draw, net);
    let about = about.ttl(1 + draw.below(64) as u8);
    let whole = about.ip();
    let quoted = &whole[..whole.len() - draw.below(whole.len() / 3)];
    // Whoever got the packet complains to whom it came from.
    let (source, destination) = match side {
        Side::Front => (net.rs[0], about.source),
        _ => (net.client, about.source),
    };
    let turned = about.source == net.client;
    let side = if turned { Side::Back } else { Side::Front };
    (side, Packet::error(source, destination, what, 1300, quoted))
}

/// A message of the kind that a client of the connection table gets about what the VIP said.
fn answer_to_reply(draw: &mut Draw, net: &Net) -> (Side, Packet) {
    let port = *draw.of(&[port::NAT, port::DIRECT, port::LOCAL, port::TUNNEL]);
    let client = net.client(40_000 + draw.below(6) as u16);
    let about = opening(*draw.of(&PROTOCOLS), net.vip(port), client);
    let what = if net.vip.is_ipv4() { (3, 3) } else { (1, 4) };
    let error = Packet::error(net.client, net.vip, what, 0, &about.ip());
    (Side::Front, error)
}

fn frames(draw: &mut Draw, id: u32) -> Vec<(Side, Vec<u8>)> {
    let net = *draw.of(&[NET4, NET6]);
    let (side, mut packet) = match draw.below(20) {
        0..=1 => message(draw, &net),
        2 => answer_to_reply(draw, &net),
        3 => {
            let protocol = *draw.of(&[50, 51]);
            let body = (0..40).collect();
            let asked = Packet::new(net.client, net.vip, protocol, body);
            (Side::Front, asked)
        }
        4 => {
            let source: IpAddr = *draw.of(&[net.dip, net.vip]);
            let from = SocketAddr::new(source, 41_000 + draw.below(3) as u16);
            let to = net.vip(*draw.of(&[port::NAT, port::DIRECT, port::NOBODY]));
            (Side::Loopback, opening(*draw.of(&PROTOCOLS), from, to))
        }
        5 => {
            let to = SocketAddr::new(net.dip, 41_000 + draw.below(3) as u16);
            let from = net.rs(draw.below(2), 8080);
            let mut packet = opening(*draw.of(&PROTOCOLS), from, to);
            packet.tos = 8;
            (Side::Back, packet)
        }
        6 => {
            let client = net.client(40_000 + draw.below(6) as u16);
            let from = SocketAddr::new(net.dip, 8080);
            let packet = opening(*draw.of(&PROTOCOLS), from, client);
            if draw.below(2) == 0 {
                (Side::Out, packet)
            } else {
                let given = opening(*draw.of(&PROTOCOLS), client, from);
                let what = if net.vip.is_ipv4() { (3, 3) } else { (1, 4) };
                let error = Packet::error(net.dip, net.client, what, 0, &given.ip());
                (Side::Out, error)
            }
        }
        _ => of_connection(draw, &net),
    };
    packet.tos = *draw.of(&[0, 0, 3, 0xb8]);
    let own = side != Side::Out;
    match draw.below(16) {
        0 if own => packet.ttl = *draw.of(&[0, 1, 2]),
        1 if own && packet.protocol == 17 => {
            let (from, to) = packet.sockets();
            packet = Packet::udp(from, to, &[3; 1473]);
            packet.df = draw.below(2) == 0;
        }
        2 if net.vip.is_ipv4() => packet.extensions = vec![(0, vec![1; 4 * draw.below(11)])],
        2 if packet.protocol != ICMP6 => {
            for _ in 0..draw.below(4) {
                packet = packet.extension(*draw.of(&[0, 43, 60]), &[1, 4, 0, 0, 0, 0]);
            }
        }
        3 if own && packet.body.len() > 24 => {
            let parts = packet.clone().id(id).fragments(24);
            return parts.iter().map(|part| framed(side, part)).collect();
        }
        4 if own && packet.body.len() > 24 => {
            // The first one never comes.
            let parts = packet.clone().id(id).fragments(24);
            return vec![framed(side, &parts[1])];
        }
        5 if own => {
            let len = draw.below(packet.body.len() + 1);
            packet.body.truncate(len);
        }
        6 if own => {
            let (side, mut frame) = framed(side, &packet);
            let at = 14 + draw.below(frame.len().min(80) - 14);
            frame[at] ^= 1 << draw.below(8);
            return vec![(side, frame)];
        }
        _ => {}
    }
    vec![framed(side, &packet)]
}

/// Connections to two services that are the same server's, from the same ports of a client.
fn twins() -> Vec<(Side, Vec<u8>)> {
    let mut frames = Vec::new();
    for net in [NET4, NET6] {
        for (port, flags) in [(port::NAT, SYN), (port::NAT, ACK), (port::TWIN, SYN)] {
            let packet = Packet::tcp(net.client(42_000), net.vip(port), flags, b"");
            frames.push(framed(Side::Front, &packet));
        }
    }
    frames
}

fn framed(side: Side, packet: &Packet) -> (Side, Vec<u8>) {
    let frame = match side {
        Side::Front => packet.frame(CLIENT_MAC, FRONT_MAC),
        Side::Back => packet.frame(mac_of(packet.source), BACK_MAC),
        Side::Loopback => packet.frame([0; 6], [0; 6]),
        Side::Out => packet.frame(FRONT_MAC, CLIENT_MAC),
    };
    (side, frame)
}

#[test]
fn every_host_does_the_same_to_packets_of_every_kind() {
    World::with(|world| {
        let mut draw = Draw(0x5eed_0f90_1775);
        let mut sent = twins();
        while sent.len() < PACKETS {
            let id = sent.len() as u32 + 10_000;
            sent.extend(frames(&mut draw, id));
        }
        let mut different = sent.iter().map(|(_, frame)| frame).collect::<Vec<_>>();
        different.sort();
        different.dedup();
        assert!(different.len() >= LEAST, "{} packets", different.len());

        drop(UserSpace::paths());
        let mut hosts: Vec<Vec<Seen>> = Vec::new();
        world.play(
            "the corpus",
            Hooks::Differ("each hands up what is TC's"),
            |s| {
                services(s);
                let mut seen = Vec::new();
                for (i, (side, frame)) in sent.iter().enumerate() {
                    if i == PACKETS / 2 {
                        remove_a_server(s);
                    }
                    seen.push(s.arrives(*side, frame));
                }
                hosts.push(seen);
            },
        );
        let [xdp, _, tc, _] = &hosts[..] else {
            panic!("four hosts")
        };
        same("XDP with TC behind it and TC alone differ", xdp, tc);

        let mut paths = UserSpace::paths();
        for seen in tc {
            let class = match seen.class {
                Class::Pass if seen.packet != seen.sent_in => "changed, to the stack",
                Class::Pass => "untouched",
                Class::Drop => "gone",
                Class::Sent => "sent",
            };
            *paths.entry(class.into()).or_default() += 1;
            for reason in &seen.counted {
                *paths.entry(format!("counted {reason}")).or_default() += 1;
            }
        }
        for (path, count) in &paths {
            println!("{count:>6} {path}");
        }
        missing_none(&paths);
    });
}

fn missing_none(paths: &BTreeMap<String, u32>) {
    let wanted = PROGRAMS
        .iter()
        .map(|program| format!("program {program}"))
        .chain(VERDICTS.iter().map(|verdict| format!("verdict {verdict}")))
        .chain(DROPS.iter().map(|reason| format!("counted {reason}")));
    let missing: Vec<String> = wanted.filter(|way| !paths.contains_key(way)).collect();
    assert!(missing.is_empty(), "no packet went by {missing:?}");
}
