//! One-packet scheduling, and the variables that decide who gets a connection.

use pointsman_model::{Protocol, ServiceSpec, Variable, Weight};

use crate::frame::{ACK, FIN, RST, SYN};
use crate::packet::Packet;
use crate::world::{CLIENT_MAC, Hooks, NET4, NET6, Net, Stage, World, mac_of, service};

fn one_packet(net: &Net) -> ServiceSpec {
    ServiceSpec {
        one_packet: true,
        ..service(Protocol::Udp, net.vip(53))
    }
}

#[test]
fn every_datagram_is_scheduled_and_nothing_is_kept() {
    World::with(|world| {
        for net in [NET4, NET6] {
            for nat in [true, false] {
                let row = format!("one packet each, NAT {nat}, {}", net.vip);
                world.play(&row, Hooks::Agree, |s| {
                    let server = |i| {
                        if nat {
                            net.nat(i, 5353)
                        } else {
                            net.direct(i, 53)
                        }
                    };
                    s.serve(&one_packet(&net), &[server(0), server(1)]);
                    for turn in 0..6 {
                        let to = (turn + 1) % 2;
                        let asked = Packet::udp(net.client(40000), net.vip(53), b"what?");
                        let sent = s.in_front(&asked).sent_to(mac_of(net.rs[to]));
                        let expected = if nat { net.rs(to, 5353) } else { net.vip(53) };
                        assert_eq!(sent.sockets(), (net.client(40000), expected));
                        assert_eq!(sent.ttl, 63);
                        sent.check().unwrap();
                    }
                    assert_eq!(s.listing(), [""; 0]);
                    assert_eq!((s.totals().conns, s.totals().in_packets), (6, 6));
                    assert_eq!(s.counts(), (0, 0));
                    if nat {
                        let answer = Packet::udp(net.rs(0, 5353), net.client(40000), b"that!");
                        s.behind(&answer).passes_untouched();
                    }
                    assert_eq!(s.tables().sweep().live, 0);
                });
            }
            world.play(&format!("persistent too, {}", net.vip), Hooks::Agree, |s| {
                let spec = ServiceSpec {
                    persistence: Some(pointsman_model::Persistence {
                        timeout_secs: 300.try_into().unwrap(),
                    }),
                    ..one_packet(&net)
                };
                s.serve(&spec, &[net.nat(0, 53), net.nat(1, 53)]);
                for port in 40000..40005 {
                    let asked = Packet::udp(net.client(port), net.vip(53), b"what?");
                    s.in_front(&asked).sent_to(mac_of(net.rs[1]));
                }
                assert_eq!((s.listing().len(), s.totals().conns), (1, 5));
                s.age(290);
                let asked = Packet::udp(net.client(40000), net.vip(53), b"what?");
                s.in_front(&asked).sent_to(mac_of(net.rs[1]));
                s.age(290);
                s.tables().sweep();
                assert_eq!(s.listing().len(), 1, "each datagram renews the template");
                s.age(20);
                s.tables().sweep();
                assert_eq!(s.listing().len(), 0, "which has no children");
            });
            world.play(&format!("answered, {}", net.vip), Hooks::Agree, |s| {
                s.serve(&one_packet(&net), &[]);
                let asked = Packet::udp(net.client(40000), net.vip(53), b"what?");
                assert_eq!(s.in_front(&asked).counted, ["no-destination"]);
                s.tables()
                    .add_server(&one_packet(&net).key, &net.nat(0, 53))
                    .unwrap();
                let seen = s.in_front(&asked.ttl(1));
                assert_eq!(seen.counted, ["ttl-exceeded"]);
            });
            world.play(&format!("errors, {}", net.vip), Hooks::Agree, |s| {
                s.serve(&one_packet(&net), &[net.nat(0, 53)]);
                s.set(Variable::ScheduleIcmp, "1");
                let answer = Packet::udp(net.vip(53), net.client(40000), b"that!");
                let what = if net.vip.is_ipv4() { (3, 3) } else { (1, 4) };
                let error = Packet::error(net.client, net.vip, what, 0, &answer.ip());
                s.in_front(&error).passes_untouched();
                assert_eq!(s.totals().conns, 0);
            });
        }
    });
}

fn tcp(net: &Net, port: u16, flags: u8) -> Packet {
    Packet::tcp(net.client(port), net.vip(80), flags, b"")
}

fn three(s: &mut Stage<'_>, net: &Net, nat: bool) {
    let server = |i| {
        if nat {
            net.nat(i, 80)
        } else {
            net.direct(i, 80)
        }
    };
    s.serve(
        &service(Protocol::Tcp, net.vip(80)),
        &[server(0), server(1), server(2)],
    );
}

/// The server, from 0, that a packet goes to.
#[track_caller]
fn to(s: &mut Stage<'_>, net: &Net, packet: &Packet) -> usize {
    let seen = s.in_front(packet);
    let mac = seen.packet[..6].to_vec();
    seen.sent_to(mac.clone().try_into().unwrap());
    let to = net.rs.iter().position(|rs| mac_of(*rs)[..] == mac[..]);
    to.expect("sent to a server")
}

#[test]
fn conn_reuse_mode_decides_about_ports_used_again() {
    World::with(|world| {
        for net in [NET4, NET6] {
            for (mode, close_moves, fin_wait_moves) in [
                ("0", false, false),
                ("1", true, false),
                ("2", true, true),
                ("3", true, true),
            ] {
                let row = format!("mode {mode}, {}", net.vip);
                world.play(&row, Hooks::Agree, |s| {
                    s.set(Variable::ConnReuseMode, mode);
                    three(s, &net, false);
                    for (port, last, moves) in [
                        (40000, RST, close_moves),
                        (40001, FIN | ACK, fin_wait_moves),
                        (40002, ACK, false),
                    ] {
                        let first = to(s, &net, &tcp(&net, port, SYN));
                        for flags in [ACK, last] {
                            assert_eq!(to(s, &net, &tcp(&net, port, flags)), first);
                        }
                        let then = to(s, &net, &tcp(&net, port, SYN));
                        assert_eq!(then != first, moves, "port {port}");
                    }
                });
            }
        }
    });
}

#[test]
fn expire_nodest_conn_lets_connections_go_with_their_server() {
    World::with(|world| {
        for net in [NET4, NET6] {
            let key = service(Protocol::Tcp, net.vip(80)).key;
            world.play(&format!("removed, {}", net.vip), Hooks::Agree, |s| {
                s.set(Variable::ExpireNodestConn, "1");
                three(s, &net, true);
                let first = to(s, &net, &tcp(&net, 40000, SYN));
                let gone = net.nat(first, 80).key;
                s.tables().delete_server(&key, &gone).unwrap();
                assert_ne!(to(s, &net, &tcp(&net, 40000, SYN)), first);
                let second = to(s, &net, &tcp(&net, 40001, SYN));
                let gone = net.nat(second, 80).key;
                s.tables().delete_server(&key, &gone).unwrap();
                s.in_front(&tcp(&net, 40001, ACK)).passes_untouched();
            });
            world.play(&format!("quiesced, {}", net.vip), Hooks::Agree, |s| {
                three(s, &net, true);
                let first = to(s, &net, &tcp(&net, 40000, SYN));
                assert_eq!(to(s, &net, &tcp(&net, 40000, ACK)), first);
                let mut spec = net.nat(first, 80);
                spec.weight = Weight::new(0).unwrap();
                s.tables().edit_server(&key, &spec).unwrap();
                assert_eq!(to(s, &net, &tcp(&net, 40000, SYN)), first);
                s.set(Variable::ExpireNodestConn, "1");
                assert_eq!(to(s, &net, &tcp(&net, 40000, ACK)), first);
                assert_ne!(to(s, &net, &tcp(&net, 40000, SYN)), first);
            });
        }
    });
}

#[test]
fn sloppy_and_secure_tcp() {
    World::with(|world| {
        use pointsman_model::ConnectionState::{Established, SynRecv, Synack};
        for net in [NET4, NET6] {
            world.play(&format!("sloppy_tcp, {}", net.vip), Hooks::Agree, |s| {
                three(s, &net, true);
                s.in_front(&tcp(&net, 40000, ACK)).passes_untouched();
                s.set(Variable::SloppyTcp, "1");
                s.in_front(&tcp(&net, 40000, RST)).passes_untouched();
                s.in_front(&tcp(&net, 40000, ACK)).sent();
                assert_eq!(s.states(), [Established]);
            });
            world.play(
                &format!("secure_tcp, NAT, {}", net.vip),
                Hooks::Agree,
                |s| {
                    s.set(Variable::SecureTcp, "3");
                    s.tables().defend(u64::MAX);
                    three(s, &net, true);
                    let first = to(s, &net, &tcp(&net, 40000, SYN));
                    s.in_front(&tcp(&net, 40000, ACK)).sent();
                    assert_eq!(s.states(), [SynRecv]);
                    let answer = Packet::tcp(net.rs(first, 80), net.client(40000), SYN | ACK, b"");
                    s.behind(&answer).sent_to(CLIENT_MAC);
                    assert_eq!(s.states(), [Synack]);
                },
            );
            world.play(&format!("secure_tcp, DR, {}", net.vip), Hooks::Agree, |s| {
                s.set(Variable::SecureTcp, "3");
                s.tables().defend(u64::MAX);
                three(s, &net, false);
                s.in_front(&tcp(&net, 40000, SYN)).sent();
                assert_eq!(s.states(), [Synack]);
                s.in_front(&tcp(&net, 40000, ACK)).sent();
                assert_eq!(s.states(), [Established]);
            });
        }
    });
}

#[test]
fn drop_packet_loses_the_first_the_eleventh_and_so_on() {
    World::with(|world| {
        for net in [NET4, NET6] {
            world.play(&format!("mode 3, {}", net.vip), Hooks::Agree, |s| {
                three(s, &net, true);
                s.set(Variable::DropPacket, "3");
                s.tables().defend(u64::MAX);
                let lost: Vec<u16> = (1..=30)
                    .filter(|i| !s.in_front(&tcp(&net, 40000 + i, SYN)).counted.is_empty())
                    .collect();
                assert_eq!(lost, [1, 11, 21]);
                s.in_front(&tcp(&net, 40002, ACK)).sent();
            });
        }
    });
}

#[test]
fn ah_and_esp_follow_their_key_exchange() {
    World::with(|world| {
        for net in [NET4, NET6] {
            for nat in [true, false] {
                world.play(&format!("NAT {nat}, {}", net.vip), Hooks::Agree, |s| {
                    let server = |i| {
                        if nat {
                            net.nat(i, 500)
                        } else {
                            net.direct(i, 500)
                        }
                    };
                    s.serve(&service(Protocol::Udp, net.vip(500)), &[server(0)]);
                    let packet =
                        |from, to, protocol| Packet::new(from, to, protocol, (0..41).collect());
                    for protocol in [50, 51] {
                        s.in_front(&packet(net.client, net.vip, protocol))
                            .passes_untouched();
                    }
                    let keys = Packet::udp(net.client(500), net.vip(500), b"keys");
                    s.in_front(&keys).sent();
                    for protocol in [50, 51] {
                        let asked = packet(net.client, net.vip, protocol);
                        let sent = s.in_front(&asked).sent_to(mac_of(net.rs[0]));
                        let to = if nat { net.rs[0] } else { net.vip };
                        assert_eq!((sent.destination, sent.ttl), (to, 63));
                        assert_eq!(sent.body, asked.body);
                        if nat {
                            let answer = packet(net.rs[0], net.client, protocol);
                            let sent = s.behind(&answer).sent_to(CLIENT_MAC);
                            assert_eq!((sent.source, &sent.body), (net.vip, &answer.body));
                        }
                    }
                    assert_eq!((s.totals().conns, s.totals().in_packets), (1, 3));
                    s.age(299);
                    s.in_front(&packet(net.client, net.vip, 50)).sent();
                    s.age(299);
                    s.in_front(&packet(net.client, net.vip, 51)).sent();
                });
            }
        }
    });
}
