//! NAT of both ends: local addresses and ports, there and back.

use std::collections::HashSet;
use std::net::SocketAddr;

use pointsman_core::local::{FIRST_PORT, PORTS};
use pointsman_model::{Protocol, ServerSpec};

use crate::frame::{ACK, FIN, RST, SYN};
use crate::packet::Packet;
use crate::world::{CLIENT_MAC, Hooks, NET4, NET6, Net, Stage, World, mac_of, service};

const NETS: [(Net, &str); 2] = [(NET4, "IPv4"), (NET6, "IPv6")];

/// A TCP service on port 80 with `locals` local addresses.
fn serve(s: &mut Stage<'_>, net: &Net, servers: &[ServerSpec], locals: u16) {
    serve_as(s, net, Protocol::Tcp, servers, locals);
}

fn serve_as(s: &mut Stage<'_>, net: &Net, protocol: Protocol, servers: &[ServerSpec], locals: u16) {
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
                    for (local, port) in [(first, 1000), (second, 1001)] {
                        let reply = Packet::tcp(net.rs(0, 8080), local, SYN | ACK, b"");
                        let back = s.behind(&reply).sent_to(CLIENT_MAC);
                        assert_eq!(back.sockets().1, net.client(port), "what is open goes on");
                    }
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
fn set_turn(s: &mut Stage<'_>, turn: u32) {
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
                let local = open(s, &net, 1024 + i as u16);
                assert!(seen.insert(local), "{local} twice");
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
