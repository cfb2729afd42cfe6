//! NAT of both ends: local addresses and ports, there and back.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;

use pointsman_core::local::{FIRST_PORT, PORTS};
use pointsman_model::{ClientAddress, Persistence, Protocol, ServerSpec, ServiceSpec};

use crate::frame::{ACK, FIN, RST, SYN};
use crate::packet::Packet;
use crate::world::{CLIENT_MAC, Hooks, NET4, NET6, Net, Stage, World, mac_of, service};

const NETS: [(Net, &str); 2] = [(NET4, "IPv4"), (NET6, "IPv6")];

/// A TCP service on port 80 with `locals` local addresses.
fn serve(s: &mut Stage<'_>, net: &Net, servers: &[ServerSpec], locals: u16) {
    serve_as(s, net, Protocol::Tcp, servers, locals);
}

/// A service on port 80 with `locals` local addresses.
pub fn serve_as(
    s: &mut Stage<'_>,
    net: &Net,
    protocol: Protocol,
    servers: &[ServerSpec],
    locals: u16,
) {
    let spec = service(protocol, net.vip(80));
    s.serve(&spec, servers);
    for which in 0..locals {
        s.tables()
            .add_local_address(&spec.key, net.local(which))
            .unwrap();
    }
    set_turn(s, 0);
}

/// Sends a SYN from a port of the client: what the server sees as its client.
#[track_caller]
fn open(s: &mut Stage<'_>, net: &Net, port: u16) -> SocketAddr {
    let syn = Packet::tcp(net.client(port), net.vip(80), SYN, b"");
    let sent = s.in_front(&syn).sent_to(mac_of(net.rs[0]));
    sent.check().unwrap();
    assert_eq!(sent.sockets().1, net.rs(0, 8080));
    sent.sockets().0
}

#[test]
fn both_ends_are_translated_and_replies_undone() {
    World::with(|world| {
        for (net, family) in NETS {
            world.play(
                &format!("{family}: TCP there and back"),
                Hooks::Agree,
                |s| {
                    serve(s, &net, &[net.fullnat(0, 8080)], 1);
                    let local = open(s, &net, 40000);
                    assert_eq!(local.ip(), net.local(0));
                    assert!(u32::from(local.port()) >= FIRST_PORT);
                    let reply = Packet::tcp(net.rs(0, 8080), local, SYN | ACK, b"");
                    let back = s.behind(&reply).sent_to(CLIENT_MAC);
                    back.check().unwrap();
                    assert_eq!(back.sockets(), (net.vip(80), net.client(40000)));
                    let data = Packet::tcp(net.client(40000), net.vip(80), ACK, b"data");
                    let there = s.in_front(&data).sent_to(mac_of(net.rs[0]));
                    assert_eq!(there.sockets(), (local, net.rs(0, 8080)), "the same port");
                    assert_eq!(there.ttl, 63);
                    assert_eq!(there.body[4..12], data.body[4..12], "sequence numbers");
                    assert_eq!(s.counts(), (1, 0));
                    let view = s.tables().connections().remove(0);
                    assert_eq!(view.local, Some(local));
                    assert_eq!(view.destination, net.rs(0, 8080));
                },
            );
            world.play(
                &format!("{family}: UDP there and back"),
                Hooks::Agree,
                |s| {
                    serve_as(s, &net, Protocol::Udp, &[net.fullnat(0, 5353)], 2);
                    let ask = |port| Packet::udp(net.client(port), net.vip(80), b"question");
                    let first = s
                        .in_front(&ask(1000))
                        .sent_to(mac_of(net.rs[0]))
                        .sockets()
                        .0;
                    let second = s
                        .in_front(&ask(1001))
                        .sent_to(mac_of(net.rs[0]))
                        .sockets()
                        .0;
                    assert_ne!(first.ip(), second.ip(), "local addresses in turn");
                    let reply = Packet::udp(net.rs(0, 5353), second, b"answer");
                    let back = s.behind(&reply).sent_to(CLIENT_MAC);
                    back.check().unwrap();
                    assert_eq!(back.sockets(), (net.vip(80), net.client(1001)));
                },
            );
            world.play(
                &format!("{family}: SCTP there and back"),
                Hooks::Agree,
                |s| {
                    serve_as(s, &net, Protocol::Sctp, &[net.fullnat(0, 8080)], 1);
                    let init = Packet::sctp(net.client(1000), net.vip(80), &[1], b"");
                    let sent = s.in_front(&init).sent_to(mac_of(net.rs[0]));
                    sent.check().unwrap();
                    let local = sent.sockets().0;
                    assert_eq!(local.ip(), net.local(0));
                    let reply = Packet::sctp(net.rs(0, 8080), local, &[2], b"");
                    let back = s.behind(&reply).sent_to(CLIENT_MAC);
                    back.check().unwrap();
                    assert_eq!(back.sockets(), (net.vip(80), net.client(1000)));
                },
            );
            world.play(
                &format!("{family}: without a local address"),
                Hooks::Agree,
                |s| {
                    serve(s, &net, &[net.fullnat(0, 8080)], 0);
                    let syn = Packet::tcp(net.client(40000), net.vip(80), SYN, b"");
                    s.in_front(&syn).dropped("no-local-address");
                    assert_eq!(s.counts(), (0, 0));
                },
            );
            world.play(
                &format!("{family}: a pool that changes"),
                Hooks::Agree,
                |s| {
                    serve(s, &net, &[net.fullnat(0, 8080)], 2);
                    let (first, second) = (open(s, &net, 1000), open(s, &net, 1001));
                    let key = service(Protocol::Tcp, net.vip(80)).key;
                    s.tables().delete_local_address(&key, net.local(0)).unwrap();
                    for port in 1002..1010 {
                        assert_eq!(open(s, &net, port).ip(), net.local(1));
                    }
                    s.tables().add_local_address(&key, net.local(2)).unwrap();
                    for (local, port) in [(first, 1000), (second, 1001)] {
                        let reply = Packet::tcp(net.rs(0, 8080), local, SYN | ACK, b"");
                        let back = s.behind(&reply).sent_to(CLIENT_MAC);
                        assert_eq!(back.sockets().1, net.client(port), "what is open goes on");
                        let ack = Packet::tcp(net.client(port), net.vip(80), ACK, b"");
                        let there = s.in_front(&ack).sent_to(mac_of(net.rs[0]));
                        assert_eq!(there.sockets(), (local, net.rs(0, 8080)));
                    }
                },
            );
            world.play(
                &format!("{family}: a server's port is for the service's only"),
                Hooks::Agree,
                |s| {
                    let spec = ServiceSpec {
                        persistence: Some(Persistence {
                            timeout_secs: NonZeroU32::new(300).unwrap(),
                        }),
                        ..service(Protocol::Tcp, net.vip(0))
                    };
                    s.serve(&spec, &[net.fullnat(0, 8080)]);
                    let key = spec.key;
                    s.tables().add_local_address(&key, net.local(0)).unwrap();
                    set_turn(s, 0);
                    for flags in [SYN, ACK] {
                        let packet = Packet::tcp(net.client(1000), net.vip(443), flags, b"");
                        let sent = s.in_front(&packet).sent_to(mac_of(net.rs[0]));
                        sent.check().unwrap();
                        assert_eq!(sent.sockets().1, net.rs(0, 443));
                    }
                    let views = s.tables().connections();
                    let ours = views.iter().find(|view| !view.template).unwrap();
                    assert_eq!(ours.destination, net.rs(0, 443));
                },
            );
            world.play(
                &format!("{family}: a port rests as long as its connection"),
                Hooks::Agree,
                |s| {
                    serve(s, &net, &[net.fullnat(0, 8080)], 1);
                    let local = open(s, &net, 1000);
                    let there = |flags| Packet::tcp(net.client(1000), net.vip(80), flags, b"");
                    let back = |flags| Packet::tcp(net.rs(0, 8080), local, flags, b"");
                    s.behind(&back(SYN | ACK)).sent_to(CLIENT_MAC);
                    s.in_front(&there(ACK)).sent_to(mac_of(net.rs[0]));
                    s.in_front(&there(FIN | ACK)).sent_to(mac_of(net.rs[0]));
                    s.behind(&back(FIN | ACK)).sent_to(CLIENT_MAC);
                    // All other ports come before this one is tried again; then it is passed over.
                    set_turn(s, 0);
                    assert_ne!(open(s, &net, 1001), local, "in TIME_WAIT");
                    s.age(121);
                    set_turn(s, 0);
                    assert_eq!(open(s, &net, 1002), local, "free again");
                },
            );
            world.play(&format!("{family}: ICMP errors"), Hooks::Agree, |s| {
                serve(s, &net, &[net.fullnat(0, 8080)], 1);
                let local = open(s, &net, 40000);
                let kind = if net.vip.is_ipv4() { (3, 1) } else { (1, 3) };
                // From a router behind, about what the director sent.
                let quoted = Packet::tcp(local, net.rs(0, 8080), SYN, b"").ip();
                let error = Packet::error(net.rs[3], net.local(0), kind, 0, &quoted);
                let told = s.behind(&error).sent_to(CLIENT_MAC);
                told.check().unwrap();
                assert_eq!((told.source, told.destination), (net.vip, net.client));
                let about = told.quoted().sockets();
                assert_eq!(about, (net.client(40000), net.vip(80)));
                // From a router in front, about a reply: the server is told as by its client.
                let quoted = Packet::tcp(net.vip(80), net.client(40000), ACK, b"12345678").ip();
                let error = Packet::error(net.unknown, net.vip, kind, 0, &quoted);
                let told = s.in_front(&error).sent_to(mac_of(net.rs[0]));
                told.check().unwrap();
                assert_eq!((told.source, told.destination), (net.local(0), net.rs[0]));
                assert_eq!(told.quoted().sockets(), (net.rs(0, 8080), local));
            });
            world.play(&format!("{family}: fragments"), Hooks::Agree, |s| {
                serve_as(s, &net, Protocol::Udp, &[net.fullnat(0, 5353)], 1);
                let whole = Packet::udp(net.client(1000), net.vip(80), &[7; 3000]);
                let mut bodies = Vec::new();
                for part in whole.fragments(1024) {
                    let sent = s.in_front(&part).sent_to(mac_of(net.rs[0]));
                    assert_eq!((sent.source, sent.destination), (net.local(0), net.rs[0]));
                    bodies.extend(sent.body);
                }
                let put_together = Packet::new(net.local(0), net.rs[0], whole.protocol, bodies);
                put_together.check().unwrap();
            });
        }
    });
}

/// Goes back to a server's first address and port.
pub fn set_turn(s: &mut Stage<'_>, turn: u32) {
    let maps = s.tables().maps();
    for server in 0..512 {
        if let Some(at) = maps.servers.at(server) {
            // SAFETY: the pointer is into the map; nothing else runs.
            unsafe { (&raw mut (*at).local_turn).write_volatile(turn) };
        }
    }
}

#[test]
fn a_local_address_has_sixty_thousand_ports_to_each_server() {
    World::alone(1 << 19, |world| {
        world.play_at_random("60,000 connections", |s| {
            let net = NET4;
            serve(s, &net, &[net.fullnat(0, 8080)], 1);
            let mut seen = HashSet::new();
            for i in 0..PORTS {
                let port = 1024 + i as u16;
                let local = open(s, &net, port);
                assert!(seen.insert(local), "{local} twice");
                // Established, or the first is over before an emulated machine comes to the last.
                s.behind(&Packet::tcp(net.rs(0, 8080), local, SYN | ACK, b""));
                s.in_front(&Packet::tcp(net.client(port), net.vip(80), ACK, b""));
            }
            let syn = |port| Packet::tcp(net.client(port), net.vip(80), SYN, b"");
            s.in_front(&syn(1023)).dropped("local-ports-exhausted");
            // One that ends makes room for one.
            let local = *seen.iter().next().unwrap();
            let reset = Packet::tcp(net.rs(0, 8080), local, RST | ACK, b"");
            let client = s.behind(&reset).sent_to(CLIENT_MAC).sockets().1;
            s.in_front(&syn(1023)).dropped("local-ports-exhausted");
            s.forget_seen();
            assert_ne!(client, net.client(1023));
        });
    });
}

/// A packet of TCP with options, sequence and acknowledgement number.
fn segment(
    (source, destination): (SocketAddr, SocketAddr),
    flags: u8,
    (sequence, acknowledged): (u32, u32),
    options: &[u8],
    payload: &[u8],
) -> Packet {
    let mut packet = Packet::tcp(source, destination, flags, b"");
    packet.body[4..8].copy_from_slice(&sequence.to_be_bytes());
    packet.body[8..12].copy_from_slice(&acknowledged.to_be_bytes());
    packet.body[12] = ((20 + options.len()) as u8 / 4) << 4;
    packet.body.extend(options);
    packet.body.extend(payload);
    packet.seal(16);
    packet
}

/// Sequence and acknowledgement number, options, payload.
fn inside(packet: &Packet) -> (u32, u32, Vec<u8>, Vec<u8>) {
    let word = |at: usize| u32::from_be_bytes(packet.body[at..at + 4].try_into().unwrap());
    let header = usize::from(packet.body[12] >> 4) * 4;
    let (options, payload) = (&packet.body[20..header], &packet.body[header..]);
    (word(4), word(8), options.to_vec(), payload.to_vec())
}

/// TOA as a server's module reads it: kind, length, port, address.
fn toa(client: SocketAddr) -> Vec<u8> {
    let mut option = match client {
        SocketAddr::V4(_) => vec![254, 8],
        SocketAddr::V6(_) => vec![254, 20],
    };
    option.extend(client.port().to_be_bytes());
    match client.ip() {
        std::net::IpAddr::V4(v4) => option.extend(v4.octets()),
        std::net::IpAddr::V6(v6) => option.extend(v6.octets()),
    }
    option
}

/// A PROXY protocol header, version 2, as its specification gives it (§2.2).
fn proxy(client: SocketAddr, vip: SocketAddr) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    let mut addresses = Vec::new();
    for socket in [client, vip] {
        match socket.ip() {
            std::net::IpAddr::V4(v4) => addresses.extend(v4.octets()),
            std::net::IpAddr::V6(v6) => addresses.extend(v6.octets()),
        }
    }
    header.push(if client.is_ipv4() { 0x11 } else { 0x21 });
    header.extend((addresses.len() as u16 + 4).to_be_bytes());
    header.extend(addresses);
    header.extend(client.port().to_be_bytes());
    header.extend(vip.port().to_be_bytes());
    header
}

/// Client and servers of each pair of families: names, the client's net, the servers' net.
fn pairs() -> [(&'static str, Net, Net); 4] {
    [
        ("IPv4", NET4, NET4),
        ("IPv6", NET6, NET6),
        ("NAT64", NET6, NET4),
        ("NAT46", NET4, NET6),
    ]
}

/// A service in front, a server behind, a local address; what tells the client's address.
fn serve_pair(s: &mut Stage<'_>, front: &Net, back: &Net, protocol: Protocol, tell: ClientAddress) {
    let mut spec = service(protocol, front.vip(80));
    spec.client_address = tell;
    s.serve(&spec, &[back.fullnat(0, 8080)]);
    s.tables()
        .add_local_address(&spec.key, back.local(0))
        .unwrap();
    set_turn(s, 0);
}

const MSS: [u8; 4] = [2, 4, 0x05, 0xb4];

#[test]
fn a_vip_of_one_family_has_servers_of_the_other() {
    World::with(|world| {
        for (name, front, back) in &pairs()[2..] {
            let (front, back) = (*front, *back);
            world.play(&format!("{name}: TCP there and back"), Hooks::Agree, |s| {
                serve_pair(s, &front, &back, Protocol::Tcp, ClientAddress::Hidden);
                let ends = (front.client(40000), front.vip(80));
                let syn = segment(ends, SYN, (1000, 0), &MSS, b"");
                let sent = s.in_front(&syn).sent_to(mac_of(back.rs[0]));
                sent.check().unwrap();
                let (local, server) = sent.sockets();
                assert_eq!((local.ip(), server), (back.local(0), back.rs(0, 8080)));
                assert_eq!(sent.ttl, 63);
                assert_eq!(inside(&sent), (1000, 0, MSS.to_vec(), vec![]));
                let answer = segment((server, local), SYN | ACK, (7, 1001), &MSS, b"");
                let told = s.behind(&answer).sent_to(CLIENT_MAC);
                told.check().unwrap();
                assert_eq!(told.sockets(), (ends.1, ends.0));
                let mut data = segment(ends, ACK, (1001, 8), &[], &[9; 1400]);
                data.tos = 0x2c;
                let there = s.in_front(&data).sent_to(mac_of(back.rs[0]));
                there.check().unwrap();
                assert_eq!(inside(&there).3, [9; 1400]);
                assert_eq!(there.tos, 0x2c);
                assert_eq!(
                    there.df,
                    back.vip.is_ipv4(),
                    "longer than 1260: not to be cut"
                );
                assert_eq!(s.counts(), (1, 0));
                let view = s.tables().connections().remove(0);
                assert_eq!((view.local, view.destination), (Some(local), server));
                assert_eq!(view.client, ends.0);
            });
            world.play(
                &format!("{name}: UDP, with and without checksum"),
                Hooks::Agree,
                |s| {
                    serve_pair(s, &front, &back, Protocol::Udp, ClientAddress::Hidden);
                    let ask = Packet::udp(front.client(1000), front.vip(80), b"question!");
                    let sent = s.in_front(&ask).sent_to(mac_of(back.rs[0]));
                    sent.check().unwrap();
                    assert_eq!(sent.body[8..], *b"question!");
                    let answer = Packet::udp(back.rs(0, 8080), sent.sockets().0, b"answer");
                    let told = s.behind(&answer).sent_to(CLIENT_MAC);
                    told.check().unwrap();
                    assert_eq!(told.sockets(), (front.vip(80), front.client(1000)));
                    if front.vip.is_ipv4() {
                        let mut bare = ask;
                        bare.body[6..8].fill(0);
                        let sent = s.in_front(&bare).sent_to(mac_of(back.rs[0]));
                        sent.check().unwrap();
                        assert_ne!(sent.body[6..8], [0, 0], "IPv6 has none without");
                    }
                },
            );
            world.play(&format!("{name}: SCTP"), Hooks::Agree, |s| {
                serve_pair(s, &front, &back, Protocol::Sctp, ClientAddress::Hidden);
                let init = Packet::sctp(front.client(1000), front.vip(80), &[1], b"");
                let sent = s.in_front(&init).sent_to(mac_of(back.rs[0]));
                sent.check().unwrap();
                assert_eq!(sent.sockets().1, back.rs(0, 8080));
            });
            world.play(&format!("{name}: fragments"), Hooks::Agree, |s| {
                serve_pair(s, &front, &back, Protocol::Udp, ClientAddress::Hidden);
                let whole = Packet::udp(front.client(1000), front.vip(80), &[7; 3000]);
                let mut bodies = Vec::new();
                for (i, part) in whole.fragments(1024).iter().enumerate() {
                    let sent = s.in_front(part).sent_to(mac_of(back.rs[0]));
                    assert_eq!((sent.source, sent.destination), (back.local(0), back.rs[0]));
                    assert_eq!(sent.fragment, Some((1024 * i, i < 2)));
                    assert_eq!(sent.id & 0xffff, part.id & 0xffff);
                    bodies.extend(sent.body);
                }
                let put_together = Packet::new(back.local(0), back.rs[0], whole.protocol, bodies);
                put_together.check().unwrap();
            });
            world.play(&format!("{name}: IPv4 options go"), Hooks::Agree, |s| {
                serve_pair(s, &front, &back, Protocol::Udp, ClientAddress::Hidden);
                if front.vip.is_ipv4() {
                    let ask = Packet::udp(front.client(1000), front.vip(80), b"question")
                        .extension(0, &[1; 8]);
                    let sent = s.in_front(&ask).sent_to(mac_of(back.rs[0]));
                    sent.check().unwrap();
                    assert_eq!(sent.body[8..], *b"question");
                }
            });
            world.play(&format!("{name}: ICMP errors"), Hooks::Agree, |s| {
                serve_pair(s, &front, &back, Protocol::Tcp, ClientAddress::Hidden);
                let ends = (front.client(40000), front.vip(80));
                let sent = s.in_front(&segment(ends, SYN, (1, 0), &[], b""));
                let (local, server) = sent.sent_to(mac_of(back.rs[0])).sockets();
                let port = |net: &Net| if net.vip.is_ipv4() { (3, 3) } else { (1, 4) };
                let big = |net: &Net| if net.vip.is_ipv4() { (3, 4) } else { (2, 0) };
                let quoted = segment((local, server), ACK, (1, 2), &[], b"12345678").ip();
                for (of, mtu, seen) in [(&port as &dyn Fn(&Net) -> (u8, u8), 0, 0), (&big, 1400, 1)]
                {
                    let error = Packet::error(back.rs[3], back.local(0), of(&back), mtu, &quoted);
                    let told = s.behind(&error).sent_to(CLIENT_MAC);
                    told.check().unwrap();
                    assert_eq!((told.source, told.destination), (front.vip, front.client));
                    assert_eq!((told.body[0], told.body[1]), of(&front));
                    assert_eq!(told.quoted().sockets(), ends);
                    let rest = u32::from_be_bytes(told.body[4..8].try_into().unwrap());
                    let expected = if front.vip.is_ipv4() { 1380 } else { 1420 };
                    assert_eq!(rest, seen * expected, "what the client may send");
                }
                let quoted = segment((ends.1, ends.0), ACK, (1, 2), &[], b"12345678").ip();
                let error = Packet::error(front.unknown, front.vip, port(&front), 0, &quoted);
                let told = s.in_front(&error).sent_to(mac_of(back.rs[0]));
                told.check().unwrap();
                assert_eq!((told.source, told.destination), (back.local(0), back.rs[0]));
                assert_eq!(told.quoted().sockets(), (server, local));
            });
            world.play(
                &format!("{name}: too long is told to the client"),
                Hooks::Agree,
                |s| {
                    serve_pair(s, &front, &back, Protocol::Tcp, ClientAddress::Hidden);
                    let ends = (front.client(40000), front.vip(80));
                    s.in_front(&segment(ends, SYN, (1, 0), &[], b""))
                        .sent_to(mac_of(back.rs[0]));
                    for df in [true, false] {
                        let mut data = segment(ends, ACK, (2, 8), &[], &[9; 1450]);
                        data.df = df;
                        let seen = s.in_front(&data);
                        if front.vip.is_ipv4() {
                            // 1,490 bytes are 1,510 of IPv6, and the other way round they fit. Fragments
                            // of what is told will have room for their header.
                            assert_eq!(seen.counted, ["too-big"]);
                            let told = Packet::of(&seen.packet);
                            assert_eq!(told.body[..2], [3, 4]);
                            assert_eq!(told.body[6..8], 1472u16.to_be_bytes());
                        } else {
                            seen.sent_to(mac_of(back.rs[0])).check().unwrap();
                        }
                    }
                },
            );
        }
    });
}

#[test]
fn the_client_is_told_by_toa() {
    World::with(|world| {
        for (name, front, back) in pairs() {
            world.play(&format!("{name}: TOA"), Hooks::Agree, |s| {
                serve_pair(s, &front, &back, Protocol::Tcp, ClientAddress::Toa);
                let ends = (front.client(40000), front.vip(80));
                let to = mac_of(back.rs[0]);
                let option = toa(ends.0);
                let syn = s
                    .in_front(&segment(ends, SYN, (1000, 0), &MSS, b""))
                    .sent_to(to);
                assert_eq!(inside(&syn).2, MSS, "not in the SYN");
                let (local, server) = syn.sockets();
                let answer = segment((server, local), SYN | ACK, (7, 1001), &MSS, b"");
                let told = s.behind(&answer).sent_to(CLIENT_MAC);
                told.check().unwrap();
                let size = 1460 - option.len() as u16;
                let [high, low] = size.to_be_bytes();
                assert_eq!(inside(&told).2, [2, 4, high, low], "room for the option");
                let stamps = [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8];
                let last = s
                    .in_front(&segment(ends, ACK, (1001, 8), &stamps, b""))
                    .sent_to(to);
                last.check().unwrap();
                let with: Vec<u8> = [&option[..], &stamps].concat();
                assert_eq!(inside(&last), (1001, 8, with.clone(), vec![]));
                let data = segment(ends, ACK, (1001, 8), &stamps, &[5; 700]);
                let first = s.in_front(&data).sent_to(to);
                first.check().unwrap();
                assert_eq!(
                    inside(&first),
                    (1001, 8, with, vec![5; 700]),
                    "nor is it lost"
                );
                let acknowledged = segment((server, local), ACK, (8, 1701), &[], b"");
                s.behind(&acknowledged).sent_to(CLIENT_MAC);
                let more = s
                    .in_front(&segment(ends, ACK, (1701, 8), &stamps, b"x"))
                    .sent_to(to);
                more.check().unwrap();
                assert_eq!(inside(&more).2, stamps, "told once, told for good");
            });
            world.play(&format!("{name}: TOA without room"), Hooks::Agree, |s| {
                serve_pair(s, &front, &back, Protocol::Tcp, ClientAddress::Toa);
                let ends = (front.client(40000), front.vip(80));
                let to = mac_of(back.rs[0]);
                s.in_front(&segment(ends, SYN, (1000, 0), &[], b""))
                    .sent_to(to);
                let before = s.tables().clients_untold();
                let full = [1; 36];
                let last = s
                    .in_front(&segment(ends, ACK, (1001, 8), &full, b""))
                    .sent_to(to);
                last.check().unwrap();
                assert_eq!(inside(&last).2, full);
                // As the server's side has it, it fits its way without the option and not with it.
                let len = if back.vip.is_ipv4() { 1458 } else { 1438 };
                let long = segment(ends, ACK, (1001, 8), &[], &vec![1; len]);
                let sent = s.in_front(&long).sent_to(to);
                assert!(inside(&sent).2.is_empty());
                assert_eq!(s.tables().clients_untold() - before, 2);
            });
        }
    });
}

#[test]
fn the_client_is_told_by_proxy_protocol() {
    World::with(|world| {
        for (name, front, back) in pairs() {
            world.play(&format!("{name}: PROXY protocol"), Hooks::Agree, |s| {
                serve_pair(
                    s,
                    &front,
                    &back,
                    Protocol::Tcp,
                    ClientAddress::ProxyProtocol,
                );
                let ends = (front.client(40000), front.vip(80));
                let to = mac_of(back.rs[0]);
                let header = proxy(ends.0, ends.1);
                let n = header.len() as u32;
                let first = u32::MAX - 10;
                let byte = |i: u32| first.wrapping_add(1 + i);
                let syn = s
                    .in_front(&segment(ends, SYN, (first, 0), &MSS, b""))
                    .sent_to(to);
                assert_eq!(inside(&syn), (first, 0, MSS.to_vec(), vec![]));
                let (local, server) = syn.sockets();
                let back_again = (server, local);
                let answer = segment(back_again, SYN | ACK, (7, byte(0)), &MSS, b"");
                let told = s.behind(&answer).sent_to(CLIENT_MAC);
                told.check().unwrap();
                let [high, low] = (1460 - n as u16).to_be_bytes();
                assert_eq!(inside(&told), (7, byte(0), vec![2, 4, high, low], vec![]));
                // With the end of the handshake, and again with the first data.
                let last = s
                    .in_front(&segment(ends, ACK, (byte(0), 8), &[], b""))
                    .sent_to(to);
                last.check().unwrap();
                assert_eq!(inside(&last), (byte(0), 8, vec![], header.clone()));
                let data = s
                    .in_front(&segment(ends, ACK, (byte(0), 8), &[], &[5; 600]))
                    .sent_to(to);
                data.check().unwrap();
                let whole = [&header[..], &[5; 600]].concat();
                assert_eq!(inside(&data), (byte(0), 8, vec![], whole));
                let next = s
                    .in_front(&segment(ends, ACK, (byte(600), 8), &[], b"next"))
                    .sent_to(to);
                assert_eq!(inside(&next), (byte(600 + n), 8, vec![], b"next".to_vec()));
                next.check().unwrap();
                // Of the header alone the client learns nothing.
                let got = segment(back_again, ACK, (8, byte(n)), &[], b"");
                let told = s.behind(&got).sent_to(CLIENT_MAC);
                told.check().unwrap();
                assert_eq!(inside(&told).1, byte(0));
                // A range that came out of order, at an odd place.
                let (from, to_byte) = (byte(600 + n).to_be_bytes(), byte(604 + n).to_be_bytes());
                let sack = [&[1, 5, 10][..], &from, &to_byte, &[0]].concat();
                let got = segment(back_again, ACK, (8, byte(n)), &sack, b"");
                let told = s.behind(&got).sent_to(CLIENT_MAC);
                told.check().unwrap();
                let (from, to_byte) = (byte(600).to_be_bytes(), byte(604).to_be_bytes());
                let sack = [&[1, 5, 10][..], &from, &to_byte, &[0]].concat();
                assert_eq!(inside(&told).2, sack);
                // From now on a repeated first byte is shifted like any other.
                let again = s
                    .in_front(&segment(ends, ACK, (byte(0), 8), &[], &[5; 600]))
                    .sent_to(to);
                again.check().unwrap();
                assert_eq!(inside(&again), (byte(n), 8, vec![], vec![5; 600]));
                let end = s
                    .in_front(&segment(ends, FIN | ACK, (byte(604), 8), &[], b""))
                    .sent_to(to);
                assert_eq!(inside(&end).0, byte(604 + n));
                let reset = s
                    .in_front(&segment(ends, RST, (byte(605), 0), &[], b""))
                    .sent_to(to);
                assert_eq!(inside(&reset).0, byte(605 + n));
            });
            world.play(
                &format!("{name}: a server that refuses"),
                Hooks::Agree,
                |s| {
                    serve_pair(
                        s,
                        &front,
                        &back,
                        Protocol::Tcp,
                        ClientAddress::ProxyProtocol,
                    );
                    let ends = (front.client(40000), front.vip(80));
                    let syn = segment(ends, SYN, (1000, 0), &[], b"");
                    let (local, server) = s.in_front(&syn).sent_to(mac_of(back.rs[0])).sockets();
                    let refusal = segment((server, local), RST | ACK, (0, 1001), &[], b"");
                    let told = s.behind(&refusal).sent_to(CLIENT_MAC);
                    assert_eq!(inside(&told).1, 1001);
                },
            );
            world.play(&format!("{name}: data in a SYN"), Hooks::Agree, |s| {
                serve_pair(
                    s,
                    &front,
                    &back,
                    Protocol::Tcp,
                    ClientAddress::ProxyProtocol,
                );
                let ends = (front.client(40000), front.vip(80));
                let syn = segment(ends, SYN, (1000, 0), &[], b"early");
                s.in_front(&syn).dropped("client-address");
            });
        }
    });
}
