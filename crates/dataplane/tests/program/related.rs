//! ICMP errors about balanced connections, in both directions and both families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pointsman_model::{Forwarding, Protocol, ServerSpec, Variable};

use crate::frame::{ACK, SYN, checked_ip};
use crate::packet::Packet;
use crate::world::{
    BACK_MAC, CLIENT_MAC, FRONT_MAC, Hooks, NET4, NET6, Net, STAYS_HERE, Side, Stage, World,
    mac_of, service, tunnel, wide_server,
};

const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

/// A packet that may open a connection of a protocol.
pub fn opening(protocol: Protocol, source: SocketAddr, destination: SocketAddr) -> Packet {
    match protocol {
        Protocol::Tcp => Packet::tcp(source, destination, SYN, b""),
        Protocol::Udp => Packet::udp(source, destination, b"what?"),
        Protocol::Sctp => Packet::sctp(source, destination, &[1], b""),
    }
}

/// Types and codes that are errors of a family.
fn errors(net: &Net) -> &'static [(u8, u8)] {
    if net.vip.is_ipv4() {
        &[(3, 1), (3, 3), (3, 4), (4, 0), (11, 0), (11, 1)]
    } else {
        &[(1, 0), (1, 4), (2, 0), (3, 0), (4, 1)]
    }
}

/// Somebody on the way to the client.
fn router(net: &Net) -> IpAddr {
    match net.vip {
        IpAddr::V4(_) => Ipv4Addr::new(10, 0, 0, 9).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 9).into(),
    }
}

/// Opens a connection; what the real server got.
fn connect(s: &mut Stage<'_>, net: &Net, protocol: Protocol, server: ServerSpec) -> Packet {
    s.serve(&service(protocol, net.vip(80)), &[server]);
    let asked = opening(protocol, net.client(40000), net.vip(80));
    s.in_front(&asked).sent_to(mac_of(net.rs[0]))
}

#[test]
fn an_error_of_the_real_servers_side_reaches_the_client_as_about_the_vip() {
    World::with(|world| {
        for net in [NET4, NET6] {
            for protocol in PROTOCOLS {
                for &what in errors(&net) {
                    let row = format!("{protocol:?} to {}, {what:?}", net.vip);
                    world.play(&row, Hooks::Agree, |s| {
                        let given = connect(s, &net, protocol, net.nat(0, 8080));
                        let quoted = &given.ip();
                        let error = Packet::error(net.rs[0], net.client, what, 1400, quoted);
                        let sent = s.behind(&error).sent_to(CLIENT_MAC);
                        assert_eq!(
                            (sent.source, sent.destination, sent.ttl),
                            (net.vip, net.client, 63)
                        );
                        assert_eq!(sent.body[..2], error.body[..2]);
                        assert_eq!(sent.body[4..8], error.body[4..8]);
                        let inner = sent.quoted();
                        assert_eq!(inner.sockets(), (net.client(40000), net.vip(80)));
                        assert_eq!(inner.ttl, given.ttl);
                        assert_eq!(inner.body[4..], given.body[4..]);
                        checked_ip(&sent.body[8..]).unwrap();
                        let totals = s.totals();
                        assert_eq!((totals.in_packets, totals.out_packets), (1, 1));
                    });
                }
            }
        }
    });
}

#[test]
fn an_error_of_the_clients_side_reaches_the_real_server_as_about_its_own_packet() {
    World::with(|world| {
        for net in [NET4, NET6] {
            for protocol in PROTOCOLS {
                for &what in errors(&net) {
                    let row = format!("{protocol:?} from {}, {what:?}", net.vip);
                    world.play(&row, Hooks::Agree, |s| {
                        connect(s, &net, protocol, net.nat(0, 8080));
                        let reply = opening(protocol, net.rs(0, 8080), net.client(40000));
                        let given = s.behind(&reply).sent_to(CLIENT_MAC);
                        let state = s.states();
                        let error = Packet::error(router(&net), net.vip, what, 1400, &given.ip());
                        let sent = s.in_front(&error).sent_to(mac_of(net.rs[0]));
                        assert_eq!(
                            (sent.source, sent.destination, sent.ttl),
                            (router(&net), net.rs[0], 63)
                        );
                        let inner = sent.quoted();
                        assert_eq!(inner.sockets(), (net.rs(0, 8080), net.client(40000)));
                        assert_eq!(inner.body[4..], given.body[4..]);
                        checked_ip(&sent.body[8..]).unwrap();
                        let totals = s.totals();
                        assert_eq!((totals.in_packets, totals.out_packets), (2, 1));
                        assert_eq!(s.states(), state, "an error changes no state");
                    });
                }
            }
        }
    });
}

#[test]
fn an_error_about_a_connection_restarts_no_timer() {
    World::with(|world| {
        for net in [NET4, NET6] {
            world.play(&format!("timer, {}", net.vip), Hooks::Agree, |s| {
                let given = connect(s, &net, Protocol::Udp, net.nat(0, 8080));
                let error = Packet::error(net.rs[0], net.client, errors(&net)[1], 0, &given.ip());
                for _ in 0..3 {
                    s.age(90);
                    s.behind(&error).sent();
                }
                s.age(40);
                s.behind(&error).passes_untouched();
                assert_eq!(s.states(), []);
            });
        }
    });
}

#[test]
fn an_error_may_quote_little() {
    World::with(|world| {
        for net in [NET4, NET6] {
            world.play(&format!("quotes, {}", net.vip), Hooks::Agree, |s| {
                let given = connect(s, &net, Protocol::Tcp, net.nat(0, 8080)).ip();
                let header = given.len() - 20;
                for quoted in [header + 4, header + 8, header + 9, header + 20] {
                    let what = errors(&net)[0];
                    let error = Packet::error(net.rs[0], net.client, what, 0, &given[..quoted]);
                    let sent = s.behind(&error).sent_to(CLIENT_MAC);
                    assert_eq!(sent.quoted().sockets(), (net.client(40000), net.vip(80)));
                }
                for quoted in [0, 7, header - 1, header, header + 3] {
                    let what = errors(&net)[0];
                    let error = Packet::error(net.rs[0], net.client, what, 0, &given[..quoted]);
                    s.behind(&error).passes_untouched();
                }
                let mut cut = Packet::error(net.rs[0], net.client, (3, 1), 0, &[]);
                cut.body.clear();
                s.behind(&cut).passes_untouched();
                cut.destination = net.vip;
                cut.source = net.client;
                s.in_front(&cut).dropped("malformed-transport");
            });
        }
        world.play("options in both headers", Hooks::Agree, |s| {
            let mut given = connect(s, &NET4, Protocol::Udp, NET4.nat(0, 8080));
            given.extensions = vec![(0, vec![1; 40])];
            let mut error = Packet::error(NET4.rs[0], NET4.client, (3, 3), 0, &given.ip());
            error.extensions = vec![(0, vec![1; 40])];
            let sent = s.behind(&error).sent_to(CLIENT_MAC);
            assert_eq!(sent.quoted().sockets(), (NET4.client(40000), NET4.vip(80)));
            checked_ip(&sent.body[8..]).unwrap();
        });
        world.play("extension headers in both headers", Hooks::Agree, |s| {
            let given = connect(s, &NET6, Protocol::Udp, NET6.nat(0, 8080))
                .extension(0, &[1, 4, 0, 0, 0, 0])
                .extension(60, &[1, 4, 0, 0, 0, 0]);
            let error = Packet::error(NET6.rs[0], NET6.client, (1, 4), 0, &given.ip())
                .extension(60, &[1, 4, 0, 0, 0, 0]);
            let sent = s.behind(&error).sent_to(CLIENT_MAC);
            assert_eq!(sent.quoted().sockets(), (NET6.client(40000), NET6.vip(80)));
        });
        for net in [NET4, NET6] {
            world.play(
                &format!("fragments quoted, {}", net.vip),
                Hooks::Agree,
                |s| {
                    let given = connect(s, &net, Protocol::Udp, net.nat(0, 8080));
                    let mut whole = given.clone();
                    whole.body.resize(64, 9);
                    let parts = whole.fragments(32);
                    let what = errors(&net)[1];
                    let error = Packet::error(net.rs[0], net.client, what, 0, &parts[0].ip());
                    let sent = s.behind(&error).sent_to(CLIENT_MAC);
                    assert_eq!(sent.quoted().sockets(), (net.client(40000), net.vip(80)));
                    let error = Packet::error(net.rs[0], net.client, what, 0, &parts[1].ip());
                    s.behind(&error).passes_untouched();
                },
            );
        }
    });
}

#[test]
fn what_is_no_error_or_about_nothing_of_ours_passes() {
    World::with(|world| {
        for net in [NET4, NET6] {
            world.play(&format!("others, {}", net.vip), Hooks::Agree, |s| {
                let given = connect(s, &net, Protocol::Tcp, net.nat(0, 8080));
                let informational: &[u8] = if net.vip.is_ipv4() {
                    &[0, 5, 8, 12, 13]
                } else {
                    &[128, 129, 135, 255]
                };
                for &kind in informational {
                    let message = Packet::error(net.rs[0], net.client, (kind, 0), 0, &given.ip());
                    s.behind(&message).passes_untouched();
                }
                let what = errors(&net)[0];
                let about =
                    |packet: &Packet| Packet::error(net.rs[0], net.client, what, 0, &packet.ip());
                let mut other = given.clone();
                other.body[1] ^= 1;
                s.behind(&about(&other)).passes_untouched();
                let mut other = given.clone();
                other.protocol = 47;
                s.behind(&about(&other)).passes_untouched();
                // The other way round: it was not the client who sent this.
                let other = opening(Protocol::Tcp, net.rs(0, 8080), net.client(40000));
                s.behind(&about(&other)).passes_untouched();
            });
        }
    });
}

#[test]
fn direct_routing_and_tunnels_pass_errors_on_unchanged() {
    World::with(|world| {
        for net in [NET4, NET6] {
            world.play(&format!("direct routing, {}", net.vip), Hooks::Agree, |s| {
                connect(s, &net, Protocol::Tcp, net.direct(0, 80));
                let reply = Packet::tcp(net.vip(80), net.client(40000), ACK, b"");
                let error = Packet::error(router(&net), net.vip, errors(&net)[0], 0, &reply.ip());
                let seen = s.in_front(&error);
                let sent = seen.sent_to(mac_of(net.rs[0]));
                assert_eq!(seen.packet[6..12], BACK_MAC);
                assert_eq!(sent.ip(), error.ttl(63).ip());
            });
        }
        world.play("a tunnel", Hooks::Agree, |s| {
            s.tcp_service(pointsman_model::Scheduler::Rr, &[tunnel(crate::world::RS1)]);
            let asked = opening(Protocol::Tcp, NET4.client(40000), NET4.vip(80));
            s.in_front(&asked).sent();
            let reply = Packet::tcp(NET4.vip(80), NET4.client(40000), ACK, b"");
            let error = Packet::error(router(&NET4), NET4.vip, (3, 4), 1300, &reply.ip());
            let sent = s.in_front(&error).sent_to(mac_of(NET4.rs[0]));
            assert_eq!(sent.protocol, 4);
            assert_eq!(sent.body, error.ttl(63).ip());
        });
    });
}

#[test]
fn errors_stay_on_the_director_where_the_server_is() {
    World::with(|world| {
        for net in [NET4, NET6] {
            let row = format!("a local server, {}", net.vip);
            world.play(&row, Hooks::Differ(STAYS_HERE), |s| {
                let server = wide_server(net.dip, 8080, Forwarding::Masquerade);
                s.serve(&service(Protocol::Tcp, net.vip(80)), &[server]);
                let asked = opening(Protocol::Tcp, net.client(40000), net.vip(80));
                s.in_front(&asked);
                let reply = Packet::tcp(net.vip(80), net.client(40000), ACK, b"");
                let what = errors(&net)[1];
                let error = Packet::error(router(&net), net.vip, what, 0, &reply.ip());
                let seen = s.in_front(&error);
                if s.is_xdp() {
                    seen.passes_untouched();
                    return;
                }
                let given = Packet::of(&seen.packet);
                assert_eq!((given.destination, given.ttl), (net.dip, 64));
                assert_eq!(given.quoted().sockets().0, (net.dip, 8080).into());
                // What the director's stack says about the local server's packets.
                let given = opening(Protocol::Tcp, net.client(40000), (net.dip, 8080).into());
                let error = Packet::error(net.dip, net.client, what, 0, &given.ip());
                let seen = s.send(Side::Out, &error.frame(FRONT_MAC, CLIENT_MAC));
                let sent = Packet::of(&seen.packet);
                assert_eq!((sent.source, sent.ttl), (net.vip, 64));
                assert_eq!(sent.quoted().sockets(), (net.client(40000), net.vip(80)));
            });
        }
    });
}

#[test]
fn no_error_is_sent_about_an_error() {
    World::with(|world| {
        for net in [NET4, NET6] {
            world.play(&format!("refused, {}", net.vip), Hooks::Agree, |s| {
                connect(s, &net, Protocol::Tcp, net.nat(0, 8080));
                let reply = Packet::tcp(net.vip(80), net.client(40000), ACK, b"");
                let error = Packet::error(router(&net), net.vip, errors(&net)[0], 0, &reply.ip());
                s.in_front(&error.clone().ttl(1)).dropped("ttl-exceeded");
                s.in_front(&error).sent();
            });
        }
    });
}

#[test]
fn schedule_icmp_opens_connections_for_what_errors_quote() {
    World::with(|world| {
        for net in [NET4, NET6] {
            world.play(&format!("schedule_icmp, {}", net.vip), Hooks::Agree, |s| {
                s.serve(&service(Protocol::Tcp, net.vip(80)), &[net.nat(0, 8080)]);
                let reply = Packet::tcp(net.vip(80), net.client(40000), ACK, b"");
                let what = errors(&net)[0];
                let error = Packet::error(router(&net), net.vip, what, 0, &reply.ip());
                s.in_front(&error).passes_untouched();
                s.set(Variable::ScheduleIcmp, "1");
                let sent = s.in_front(&error).sent_to(mac_of(net.rs[0]));
                assert_eq!(
                    sent.quoted().sockets(),
                    (net.rs(0, 8080), net.client(40000))
                );
                assert_eq!(s.totals().conns, 1);
                let other = Packet::tcp(net.vip(81), net.client(40000), ACK, b"");
                let error = Packet::error(router(&net), net.vip, what, 0, &other.ip());
                s.in_front(&error).passes_untouched();
            });
            world.play(&format!("nobody, {}", net.vip), Hooks::Agree, |s| {
                s.serve(&service(Protocol::Tcp, net.vip(80)), &[]);
                s.set(Variable::ScheduleIcmp, "1");
                let reply = Packet::tcp(net.vip(80), net.client(40000), ACK, b"");
                let error = Packet::error(router(&net), net.vip, errors(&net)[0], 0, &reply.ip());
                s.in_front(&error).dropped("no-destination");
            });
        }
    });
}

#[test]
fn a_tunnel_that_is_too_narrow_makes_the_client_send_less() {
    World::with(|world| {
        world.play("fragmentation needed on the way", Hooks::Agree, |s| {
            let server = tunnel(crate::world::RS1);
            s.tcp_service(pointsman_model::Scheduler::Rr, &[server]);
            let asked = |port, len: usize| {
                let mut packet =
                    Packet::tcp(NET4.client(port), NET4.vip(80), ACK, &vec![7; len - 40]);
                packet.df = true;
                packet
            };
            for port in [40000, 40001] {
                let syn = opening(Protocol::Tcp, NET4.client(port), NET4.vip(80));
                s.in_front(&syn).sent();
            }
            let outer = s.in_front(&asked(40000, 1480)).sent_to(mac_of(NET4.rs[0]));
            assert_eq!(outer.ip().len(), 1500);
            let way = "192.168.0.254".parse().unwrap();
            let own = outer.source;
            let about = |outer: &Packet, code, mtu, len| {
                let quoted = outer.ip();
                Packet::error(way, own, (3, code), mtu, &quoted[..len])
            };
            // Too little is quoted, another code, not our tunnel: nothing is learned.
            let mut other = outer.clone();
            other.destination = NET4.rs[1];
            for error in [
                about(&outer, 4, 1300, 28),
                about(&outer, 1, 1300, 548),
                about(&other, 4, 1300, 548),
            ] {
                s.behind_router(&error).passes_untouched();
                s.in_front(&asked(40000, 1480)).sent();
            }
            s.behind_router(&about(&outer, 4, 1300, 548))
                .passes_untouched();
            let seen = s.in_front(&asked(40000, 1281));
            seen.answered(3, 4, 1280, "too-big");
            s.in_front(&asked(40000, 1280)).sent();
            s.in_front(&asked(40001, 1480)).sent();
            // Looked up again, the way is the same and as narrow.
            s.tables().advance_epoch();
            let seen = s.in_front(&asked(40000, 1281));
            seen.answered(3, 4, 1280, "too-big");
            s.in_front(&asked(40001, 1480)).sent();
            // Eight bytes of the quoted request are enough; nobody may ask for next to nothing.
            s.behind_router(&about(&outer, 4, 68, 48))
                .passes_untouched();
            let seen = s.in_front(&asked(40000, 533));
            seen.answered(3, 4, 532, "too-big");
        });
    });
}
