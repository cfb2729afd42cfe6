//! IPv6: both directions by NAT and direct routing, extension headers, and what is answered, passed
//! and refused.

use std::net::{Ipv6Addr, SocketAddr};

use pointsman_core::conn::Key;
use pointsman_model::{Forwarding, Protocol, ServiceSpec};

use crate::frame::{ACK, SYN, TCP};
use crate::fullnat::set_turn;
use crate::packet::{ICMP6, Packet};
use crate::world::{
    BACK_MAC, CLIENT_MAC, CLIENT6, DIP6, FRONT_MAC, Hooks, NET6, OTHER_VIP6, RS1_6, STAYS_HERE,
    Seen, Side, Stage, VIP6, World, mac_of, service, wide_server,
};

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION: u8 = 60;

/// PadN that fills an extension header of eight bytes.
const PAD: &[u8] = &[1, 4, 0, 0, 0, 0];

fn request(flags: u8) -> Packet {
    Packet::tcp(NET6.client(40000), NET6.vip(80), flags, b"")
}

fn reply(flags: u8) -> Packet {
    Packet::tcp(NET6.rs(0, 8080), NET6.client(40000), flags, b"hello")
}

fn nat_service(s: &mut Stage<'_>) {
    s.serve(&service(Protocol::Tcp, NET6.vip(80)), &[NET6.nat(0, 8080)]);
}

/// Nothing but addresses, ports, checksum and hop limit changed.
#[track_caller]
fn same_but_for_addresses(sent: &Packet, asked: &Packet, ttl: u8) {
    assert_eq!((sent.ttl, sent.tos), (ttl, asked.tos));
    assert_eq!(sent.extensions, asked.extensions);
    assert_eq!(sent.body[4..16], asked.body[4..16]);
    assert_eq!(sent.body[18..], asked.body[18..]);
    sent.check().unwrap();
}

#[test]
fn nat_translates_both_directions() {
    World::with(|world| {
        world.play("TCP by NAT", Hooks::Agree, |s| {
            nat_service(s);
            for flags in [SYN, ACK, ACK] {
                let asked = request(flags);
                let sent = s.in_front(&asked).sent_to(mac_of(RS1_6));
                assert_eq!(sent.sockets(), (NET6.client(40000), NET6.rs(0, 8080)));
                same_but_for_addresses(&sent, &asked, 63);
                let answer = reply(ACK);
                let sent = s.behind(&answer).sent_to(CLIENT_MAC);
                assert_eq!(sent.sockets(), (NET6.vip(80), NET6.client(40000)));
                same_but_for_addresses(&sent, &answer, 63);
            }
            assert_eq!(s.totals().conns, 1);
            assert_eq!((s.totals().in_packets, s.totals().in_bytes), (3, 180));
            assert_eq!((s.totals().out_packets, s.totals().out_bytes), (3, 195));
            assert_eq!(
                s.listing(),
                ["TCP ESTABLISHED [fd00:1::2]:40000 [fd00:1::64]:80 [fd00:2::a]:8080"]
            );
        });
        world.play("UDP by NAT, odd length", Hooks::Agree, |s| {
            s.serve(
                &service(Protocol::Udp, NET6.vip(53)),
                &[NET6.nat(0, 5353), NET6.nat(1, 5353)],
            );
            let asked = Packet::udp(NET6.client(40000), NET6.vip(53), b"what?");
            let sent = s.in_front(&asked).sent_to(mac_of(NET6.rs[1]));
            assert_eq!(sent.sockets().1, NET6.rs(1, 5353));
            sent.check().unwrap();
            let answer = Packet::udp(NET6.rs(1, 5353), NET6.client(40000), b"that!");
            let sent = s.behind(&answer).sent_to(CLIENT_MAC);
            assert_eq!(sent.sockets(), (NET6.vip(53), NET6.client(40000)));
            sent.check().unwrap();
        });
        world.play("a checksum that comes out as zero", Hooks::Agree, |s| {
            s.serve(&service(Protocol::Udp, NET6.vip(53)), &[NET6.nat(0, 53)]);
            let mut zeros = 0;
            for i in 0..=u16::MAX {
                // Only a payload whose checksum towards the server is zero is of interest.
                let there = Packet::udp(NET6.client(40000), NET6.rs(0, 53), &i.to_be_bytes());
                if there.body[6..8] == [0xff, 0xff] {
                    let asked = Packet::udp(NET6.client(40000), NET6.vip(53), &i.to_be_bytes());
                    let sent = s.in_front(&asked).sent_to(mac_of(RS1_6));
                    assert_eq!(sent.body[6..8], [0xff, 0xff]);
                    zeros += 1;
                }
            }
            assert_eq!(zeros, 1);
        });
    });
}

#[test]
fn direct_routing_changes_the_hop_limit_only() {
    World::with(|world| {
        world.play("direct routing", Hooks::Agree, |s| {
            s.serve(
                &service(Protocol::Tcp, NET6.vip(80)),
                &[NET6.direct(0, 80), NET6.direct(1, 80)],
            );
            for flags in [SYN, ACK] {
                let asked = request(flags);
                let seen = s.in_front(&asked);
                let sent = seen.sent_to(mac_of(NET6.rs[1]));
                assert_eq!(seen.packet[6..12], BACK_MAC);
                assert_eq!(sent.ip(), asked.ttl(63).ip());
            }
            s.behind(&Packet::tcp(NET6.vip(80), NET6.client(40000), ACK, b""))
                .passes_untouched();
        });
    });
}

#[test]
fn two_clients_whose_ports_are_the_same_are_two() {
    World::with(|world| {
        world.play("clients of one port", Hooks::Agree, |s| {
            s.serve(
                &service(Protocol::Tcp, NET6.vip(80)),
                &[NET6.direct(0, 80), NET6.direct(1, 80)],
            );
            for host in 1..40u16 {
                let mut asked = request(SYN);
                let mut octets = CLIENT6.octets();
                octets[14..].copy_from_slice(&(host + 1000).to_be_bytes());
                asked.source = octets.into();
                let asked = Packet::tcp((asked.source, 40000).into(), NET6.vip(80), SYN, b"");
                let server = usize::from(host % 2);
                s.in_front(&asked).sent_to(mac_of(NET6.rs[server]));
            }
            assert_eq!(s.totals().conns, 39);
        });
    });
}

#[test]
fn extension_headers_do_not_get_in_the_way() {
    World::with(|world| {
        type With = fn(Packet) -> Packet;
        let rows: [(&str, With); 6] = [
            ("hop-by-hop", |p| p.extension(HOP_BY_HOP, PAD)),
            ("destination options", |p| p.extension(DESTINATION, PAD)),
            ("routing, all segments done", |p| {
                p.extension(ROUTING, &[4, 0, 0, 0, 0, 0])
            }),
            ("three of them", |p| {
                p.extension(HOP_BY_HOP, PAD)
                    .extension(ROUTING, &[4, 0, 0, 0, 0, 0])
                    .extension(DESTINATION, PAD)
            }),
            ("long options", |p| {
                let mut padding = vec![1, 132];
                padding.resize(134, 0);
                p.extension(DESTINATION, &padding)
            }),
            ("a fragment that is all", |p| Packet {
                fragment: Some((0, false)),
                ..p
            }),
        ];
        for (name, with) in rows {
            world.play(&format!("NAT, {name}"), Hooks::Agree, |s| {
                nat_service(s);
                for flags in [SYN, ACK] {
                    let asked = with(request(flags));
                    let sent = s.in_front(&asked).sent_to(mac_of(RS1_6));
                    assert_eq!(sent.sockets().1, NET6.rs(0, 8080));
                    same_but_for_addresses(&sent, &asked, 63);
                }
                let answer = with(reply(ACK));
                let sent = s.behind(&answer).sent_to(CLIENT_MAC);
                assert_eq!(sent.sockets(), (NET6.vip(80), NET6.client(40000)));
                same_but_for_addresses(&sent, &answer, 63);
                assert_eq!((s.totals().conns, s.totals().in_packets), (1, 2));
            });
        }
        world.play(
            "more than are followed, or none that is known",
            Hooks::Agree,
            |s| {
                nat_service(s);
                let mut asked = request(SYN);
                for _ in 0..8 {
                    asked = asked.extension(DESTINATION, PAD);
                }
                s.in_front(&asked).passes_untouched();
                let mut asked = request(SYN);
                asked.protocol = 59;
                s.in_front(&asked).passes_untouched();
            },
        );
        world.play("an extension header that is cut off", Hooks::Agree, |s| {
            nat_service(s);
            let mut asked = request(SYN).extension(DESTINATION, PAD).ip();
            asked[41] = 200;
            let frame = [&FRONT_MAC[..], &CLIENT_MAC, &[0x86, 0xdd], &asked].concat();
            s.send(Side::Front, &frame).dropped("malformed-ip");
        });
    });
}

#[track_caller]
fn answered(seen: &Seen, kind: u8, code: u8, mtu: u32, reason: &str) {
    assert_eq!(seen.counted, [reason], "{seen:x?}");
    let asked = Packet::of(&seen.sent_in);
    assert_eq!(
        (&seen.packet[..6], &seen.packet[6..12]),
        (&seen.sent_in[6..12], &seen.sent_in[..6]),
        "turned round"
    );
    let answer = Packet::of(&seen.packet);
    assert_eq!(
        (
            answer.source,
            answer.destination,
            answer.protocol,
            answer.ttl
        ),
        (asked.destination, asked.source, ICMP6, 64)
    );
    answer.check().unwrap();
    assert_eq!(answer.body[..2], [kind, code]);
    assert_eq!(answer.body[4..8], mtu.to_be_bytes());
    let quoted = &answer.body[8..];
    let mut expected = seen.sent_in[14..14 + quoted.len()].to_vec();
    if kind == 2 {
        // As the kernel: one is off the hop limit already.
        expected[7] -= 1;
    }
    assert_eq!(*quoted, expected);
    assert_eq!(quoted.len(), asked.ip().len().min(1280 - 48));
    let quoted = answer.quoted();
    let least = if asked.protocol == TCP { 20 } else { 8 };
    assert!(quoted.body.len() >= least, "ports are quoted");
    assert_eq!(quoted.sockets(), asked.sockets());
}

#[test]
fn the_director_answers_for_the_vip() {
    World::with(|world| {
        type With = fn(Packet) -> Packet;
        let plain: With = |p| p;
        let extended: With = |p| p.extension(HOP_BY_HOP, PAD).extension(DESTINATION, PAD);
        for (name, with) in [("plain", plain), ("extended", extended)] {
            world.play(&format!("no server takes it, {name}"), Hooks::Agree, |s| {
                s.serve(&service(Protocol::Tcp, NET6.vip(80)), &[]);
                s.serve(&service(Protocol::Udp, NET6.vip(80)), &[]);
                let seen = s.in_front(&with(request(SYN)));
                answered(&seen, 1, 4, 0, "no-destination");
                let asked = Packet::udp(NET6.client(40000), NET6.vip(80), b"odd");
                answered(&s.in_front(&with(asked)), 1, 4, 0, "no-destination");
            });
            world.play(&format!("hop limit, {name}"), Hooks::Agree, |s| {
                nat_service(s);
                for ttl in [1, 0] {
                    let seen = s.in_front(&with(request(SYN).ttl(ttl)));
                    answered(&seen, 3, 0, 0, "ttl-exceeded");
                }
                s.in_front(&with(request(ACK).ttl(2)))
                    .sent_to(mac_of(RS1_6));
            });
            world.play(&format!("packet too big, {name}"), Hooks::Agree, |s| {
                nat_service(s);
                s.in_front(&request(SYN)).sent();
                let asked = Packet::tcp(NET6.client(40000), NET6.vip(80), ACK, &[7; 1441]);
                let seen = s.in_front(&with(asked));
                answered(&seen, 2, 0, 1500, "too-big");
                let asked = Packet::tcp(NET6.client(40000), NET6.vip(80), ACK, &[7; 1420]);
                s.in_front(&asked).sent();
            });
        }
        world.play("no route to the server", Hooks::Agree, |s| {
            let spec = wide_server(NET6.nowhere, 80, Forwarding::Masquerade);
            s.serve(&service(Protocol::Tcp, NET6.vip(80)), &[spec]);
            s.tables().set_no_route(NET6.nowhere, true);
            answered(&s.in_front(&request(SYN)), 1, 3, 0, "no-route");
        });
        world.play(
            "a neighbour nobody knows",
            Hooks::Differ("only TC can have the kernel resolve"),
            |s| {
                let spec = wide_server(NET6.unknown, 80, Forwarding::Masquerade);
                s.serve(&service(Protocol::Tcp, NET6.vip(80)), &[spec]);
                let asked = request(SYN);
                let seen = s.in_front(&asked);
                if s.is_xdp() {
                    seen.passes_untouched();
                } else {
                    let sent = seen.resolved();
                    assert_eq!(sent.destination, NET6.unknown);
                    same_but_for_addresses(&sent, &asked, 63);
                }
            },
        );
    });
}

#[test]
fn what_stays_on_the_director() {
    World::with(|world| {
        world.play("a server on the director", Hooks::Differ(STAYS_HERE), |s| {
            let spec = wide_server(NET6.dip, 8080, Forwarding::Masquerade);
            s.serve(&service(Protocol::Tcp, NET6.vip(80)), &[spec]);
            let asked = request(SYN);
            let seen = s.in_front(&asked);
            if s.is_xdp() {
                seen.passes_untouched();
                return;
            }
            let given = Packet::of(&seen.packet);
            assert_eq!(given.sockets().1, (DIP6, 8080).into());
            same_but_for_addresses(&given, &asked, 64);
            let answer = Packet::tcp((DIP6, 8080).into(), NET6.client(40000), SYN | ACK, b"");
            let frame = answer.frame(FRONT_MAC, CLIENT_MAC);
            let seen = s.send(Side::Out, &frame);
            let sent = Packet::of(&seen.packet);
            assert_eq!(sent.sockets(), (NET6.vip(80), NET6.client(40000)));
            same_but_for_addresses(&sent, &answer, 64);
        });
        world.play(
            "a client on the director",
            Hooks::Differ("a client on the director is TC's"),
            |s| {
                if s.is_xdp() {
                    return;
                }
                nat_service(s);
                let asked = Packet::tcp((DIP6, 40000).into(), NET6.vip(80), SYN, b"");
                let seen = s.send(Side::Loopback, &asked.frame([0; 6], [0; 6]));
                let sent = seen.sent_to(mac_of(RS1_6));
                assert_eq!(sent.sockets().1, NET6.rs(0, 8080));
                let answer = Packet::tcp(NET6.rs(0, 8080), (DIP6, 40000).into(), SYN | ACK, b"");
                let sent = s.behind(&answer).sent_to([0; 6]);
                assert_eq!(sent.sockets(), (NET6.vip(80), (DIP6, 40000).into()));
                same_but_for_addresses(&sent, &answer, 64);
            },
        );
    });
}

#[test]
fn what_is_not_balanced_passes_untouched() {
    World::with(|world| {
        world.play("neighbour discovery and echo", Hooks::Agree, |s| {
            nat_service(s);
            // Router solicitation and advertisement, neighbour solicitation and advertisement,
            // echo and its reply.
            for kind in [133, 134, 135, 136, 128, 129] {
                let body = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &VIP6.octets()].concat();
                let packet = Packet::new(NET6.client, NET6.vip, ICMP6, body).ttl(255);
                s.in_front(&packet).passes_untouched();
            }
        });
        world.play("what no service wants", Hooks::Agree, |s| {
            nat_service(s);
            let other = Packet::tcp(NET6.client(40000), NET6.vip(81), SYN, b"");
            s.in_front(&other).passes_untouched();
            s.in_front(&request(ACK)).passes_untouched();
            let other = Packet::tcp(NET6.client(40000), (DIP6, 80).into(), SYN, b"");
            s.in_front(&other).passes_untouched();
            let other = Packet::udp(NET6.client(40000), NET6.vip(80), b"");
            s.in_front(&other).passes_untouched();
            s.behind(&reply(ACK)).passes_untouched();
        });
        world.play("broken headers", Hooks::Agree, |s| {
            nat_service(s);
            let whole = request(SYN).frame(CLIENT_MAC, FRONT_MAC);
            for len in 54..whole.len() {
                let seen = s.send(Side::Front, &whole[..len]);
                seen.dropped("malformed-ip");
            }
            let mut short = request(SYN);
            short.body.truncate(19);
            s.in_front(&short).dropped("malformed-transport");
            let mut version = whole.clone();
            version[14] = 0x50;
            s.send(Side::Front, &version).dropped("malformed-ip");
        });
    });
}

/// Gives a service the local address that its servers by FULLNAT need.
fn add_local_address(s: &mut Stage<'_>, spec: &ServiceSpec) {
    let address = NET6.local(0);
    s.tables().add_local_address(&spec.key, address).unwrap();
    set_turn(s, 0);
}

#[test]
fn clients_whose_addresses_have_the_same_key_are_kept_apart() {
    World::with(|world| {
        let methods = [
            (NET6.direct(0, 80), "slot-reused"),
            (NET6.nat(0, 80), "tuple-busy"),
            (NET6.fullnat(0, 80), "slot-reused"),
        ];
        for (server, reason) in methods {
            world.play("the second one is refused", Hooks::Agree, |s| {
                let spec = service(Protocol::Tcp, NET6.vip(80));
                s.serve(&spec, &[server]);
                add_local_address(s, &spec);
                // A product with zero is zero, whatever the other factor.
                let [first, second] = s.tables().maps().runtime.read(0).unwrap().seed;
                assert_eq!(
                    first as u32, second as u32,
                    "so that keys of replies are the same, too"
                );
                let client = |n: u8| {
                    let mut octets = [0, 0, 0, 0, 0, 0, 0, n, 0, 0, 0, 0, 0, 0, 0, 1];
                    octets[..4].copy_from_slice(&(first as u32).wrapping_neg().to_le_bytes());
                    SocketAddr::new(Ipv6Addr::from(octets).into(), 40000)
                };
                let asks = |n, flags| Packet::tcp(client(n), NET6.vip(80), flags, b"");
                s.in_front(&asks(1, SYN)).sent_to(mac_of(RS1_6));
                s.in_front(&asks(2, SYN)).dropped(reason);
                s.in_front(&asks(1, ACK)).sent_to(mac_of(RS1_6));
                let held: Vec<_> = s.servers().iter().map(|s| s.active + s.inactive).collect();
                assert_eq!(held, [1]);
            });
        }
    });
}

/// An address whose packets to the second of these have the key of those from `like` to the first. What it begins with
/// differs from what `like` does by `begin`.
fn of_the_same_key(s: &mut Stage<'_>, like: Ipv6Addr, to: [Ipv6Addr; 2], begin: u64) -> Ipv6Addr {
    let seed = s.tables().maps().runtime.read(0).unwrap().seed;
    let halves = |address: Ipv6Addr| {
        let octets = address.octets();
        [0, 8].map(|at| u64::from_ne_bytes(octets[at..at + 8].try_into().unwrap()))
    };
    let key = |[a, b]: [u64; 2], to| {
        let [c, d] = halves(to);
        Key::fold([a, b, c, d], seed)
    };
    let wanted = key(halves(like), to[0]);
    let first = halves(like)[0] ^ begin;
    let second = wanted.wrapping_sub(key([first, 0], to[1]));
    assert_eq!(key([first, second], to[1]), wanted);
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&first.to_ne_bytes());
    octets[8..].copy_from_slice(&second.to_ne_bytes());
    octets.into()
}

#[test]
fn connections_to_two_vips_under_one_key_are_kept_apart() {
    World::with(|world| {
        for server in [NET6.direct(0, 80), NET6.nat(0, 80), NET6.fullnat(0, 80)] {
            world.play("the second one is refused", Hooks::Agree, |s| {
                let vips = [VIP6, OTHER_VIP6].map(|vip| SocketAddr::new(vip.into(), 80));
                let spec = service(Protocol::Tcp, vips[0]);
                s.serve(&spec, &[server]);
                add_local_address(s, &spec);
                s.serve(&service(Protocol::Tcp, vips[1]), &[NET6.direct(1, 80)]);
                let like = of_the_same_key(s, CLIENT6, [VIP6, OTHER_VIP6], 0);
                let other = SocketAddr::new(like.into(), 40000);
                let asks = |client, vip, flags| Packet::tcp(client, vip, flags, b"");
                s.in_front(&asks(NET6.client(40000), vips[0], SYN))
                    .sent_to(mac_of(RS1_6));
                s.in_front(&asks(other, vips[1], SYN))
                    .dropped("slot-reused");
                s.in_front(&asks(other, vips[1], ACK)).passes_untouched();
                s.in_front(&asks(NET6.client(40000), vips[0], ACK))
                    .sent_to(mac_of(RS1_6));
            });
        }
    });
}

#[test]
fn what_has_the_key_of_a_reply_and_comes_from_elsewhere_is_none() {
    World::with(|world| {
        world.play("not translated", Hooks::Agree, |s| {
            nat_service(s);
            s.in_front(&request(SYN)).sent_to(mac_of(RS1_6));
            let from = of_the_same_key(s, RS1_6, [CLIENT6; 2], 1);
            let mut answer = reply(SYN | ACK);
            answer.source = from.into();
            s.behind(&answer).passes_untouched();
            s.behind(&reply(SYN | ACK)).sent_to(CLIENT_MAC);
        });
    });
}
