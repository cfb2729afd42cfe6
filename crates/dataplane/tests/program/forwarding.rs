//! Forwarding methods: what a connection's packets become, there and back.

use pointsman_model::{Protocol, Scheduler};

use crate::frame::{ACK, FIN, Frame, IPIP, SYN};
use crate::user::Class;
use crate::world::{
    BACK_MAC, CLIENT, CLIENT_MAC, DIP, FRONT_MAC, Hook, Hooks, RS1, RS2, RS3, STAYS_HERE, Side,
    Stage, TUNNEL_SOURCE, VIP, World, client_tcp, direct, mac_of, nat, server_tcp, tunnel,
};

#[test]
fn packets_are_forwarded_as_their_method_says() {
    World::with(|world| {
        world.play("NAT there and back, servers in turn", Hooks::Agree, |s| {
            s.tcp_service(Scheduler::Rr, &[nat(RS1, 80), nat(RS2, 80)]);
            for (port, rip) in [(40000, RS2), (40001, RS1), (40002, RS2)] {
                let there = s.client_sends(client_tcp(port, SYN));
                assert_eq!(there.sent_as(), (mac_of(rip), (CLIENT, port), (rip, 80)));
                assert_eq!(there.sent().ip.unwrap().ttl, 63);
                assert_eq!(there.sent().source, BACK_MAC);
                let back = s.server_sends(server_tcp(rip, port, SYN | ACK));
                assert_eq!(back.sent_as(), (CLIENT_MAC, (VIP, 80), (CLIENT, port)));
                assert_eq!(back.sent().source, FRONT_MAC);
                assert_eq!(back.sent().ip.unwrap().ttl, 63);
                let more = s.client_sends(client_tcp(port, ACK).total_len(577));
                assert_eq!(more.sent_as().0, mac_of(rip));
            }
            let totals = s.totals();
            assert_eq!(
                (totals.conns, totals.in_packets, totals.out_packets),
                (3, 6, 3)
            );
            assert_eq!(
                (totals.in_bytes, totals.out_bytes),
                (3 * (40 + 577), 3 * 40)
            );
        });
        world.play("NAT to another port", Hooks::Agree, |s| {
            s.tcp_service(Scheduler::Rr, &[nat(RS1, 8080)]);
            let there = s.client_sends(client_tcp(40000, SYN));
            assert_eq!(there.sent_as().2, (RS1, 8080));
            let back = s.server_sends(Frame::tcp((RS1, 8080), (CLIENT, 40000), SYN | ACK));
            assert_eq!(back.sent_as().1, (VIP, 80));
            s.server_sends(server_tcp(RS1, 40000, SYN | ACK))
                .passes_untouched();
        });
        world.play("NAT to port 0 keeps the port", Hooks::Agree, |s| {
            s.tcp_service(Scheduler::Rr, &[nat(RS1, 0)]);
            assert_eq!(
                s.client_sends(client_tcp(40000, SYN)).sent_as().2,
                (RS1, 80)
            );
        });
        world.play(
            "direct routing changes link-layer addresses and TTL only",
            Hooks::Agree,
            |s| {
                s.tcp_service(Scheduler::Rr, &[direct(RS1), direct(RS2)]);
                for (port, rip) in [(40000, RS2), (40001, RS1), (40002, RS2)] {
                    let frame = client_tcp(port, SYN).options(&[1, 1, 1, 0]);
                    let there = s.client_sends(frame.clone());
                    assert_eq!(there.sent().destination, mac_of(rip));
                    let expected = frame.ttl(63).between(BACK_MAC, mac_of(rip)).bytes();
                    assert_eq!(there.packet, expected);
                }
            },
        );
        world.play("a tunnel wraps the packet", Hooks::Agree, |s| {
            s.tcp_service(Scheduler::Rr, &[tunnel(RS1), tunnel(RS2)]);
            for (port, rip) in [(40000, RS2), (40001, RS1), (40002, RS2)] {
                let mut frame = client_tcp(port, SYN);
                frame.tos = 0x2b;
                let there = s.client_sends(frame.clone());
                let view = there.sent();
                let ip = view.ip.unwrap();
                assert_eq!((view.destination, view.source), (mac_of(rip), BACK_MAC));
                assert_eq!((ip.source, ip.destination), (TUNNEL_SOURCE, rip));
                assert_eq!((ip.protocol, ip.ttl), (IPIP, 63));
                let outer = &there.packet[14..34];
                assert_eq!(outer[1], 0x2a, "CE becomes ECT(0)");
                assert_eq!(outer[2..8], [0, 60, 0, 0, 0x40, 0], "length, id, DF");
                assert_eq!(there.packet[34..], frame.ttl(63).bytes()[14..]);
            }
        });
        world.play(
            "a tunnel does not set DF where the packet has none",
            Hooks::Agree,
            |s| {
                s.tcp_service(Scheduler::Rr, &[tunnel(RS1)]);
                let there = s.client_sends(client_tcp(40000, SYN).fragment(0));
                assert_eq!(there.packet[20..22], [0, 0]);
            },
        );
        world.play(
            "a server on the director itself by NAT",
            Hooks::Differ(STAYS_HERE),
            |s| {
                s.tcp_service(Scheduler::Rr, &[nat(DIP, 8080)]);
                let there = s.client_sends(client_tcp(40000, SYN));
                if s.hook == Hook::Xdp {
                    return there.passes_untouched();
                }
                assert_eq!(there.class, Class::Pass);
                let expected = Frame::tcp((CLIENT, 40000), (DIP, 8080), SYN);
                let expected = expected.between(CLIENT_MAC, FRONT_MAC).bytes();
                assert_eq!(there.packet, expected, "as if sent there, TTL untouched");
            },
        );
        world.play("a tunnel without a source address yet", Hooks::Agree, |s| {
            s.tcp_service(Scheduler::Rr, &[tunnel(RS3)]);
            s.tables()
                .set_tunnel_source(RS3.into(), "0.0.0.0".parse().unwrap());
            s.client_sends(client_tcp(40000, SYN))
                .dropped("no-tunnel-source");
            assert_eq!(s.counts(), (0, 0));
        });
    });
}

#[test]
fn udp_goes_both_ways_and_keeps_a_missing_checksum_missing() {
    World::with(|world| {
        let there = |port| Frame::udp((CLIENT, port), (VIP, 53), b"question");
        let back = |rip, port| Frame::udp((rip, 5353), (CLIENT, port), b"answers!!");
        world.play("UDP by NAT", Hooks::Agree, |s| {
            s.service(
                Protocol::Udp,
                53,
                Scheduler::Rr,
                &[nat(RS1, 5353), nat(RS2, 5353)],
            );
            for (port, rip) in [(40000, RS2), (40001, RS1), (40000, RS2)] {
                let sent = s.client_sends(there(port));
                assert_eq!(sent.sent_as(), (mac_of(rip), (CLIENT, port), (rip, 5353)));
                let sent = s.server_sends(back(rip, port));
                assert_eq!(sent.sent_as(), (CLIENT_MAC, (VIP, 53), (CLIENT, port)));
            }
            assert_eq!(s.counts(), (0, 2), "UDP never counts as active");
            assert_eq!(s.totals().conns, 2);
        });
        world.play("UDP without checksum", Hooks::Agree, |s| {
            s.service(Protocol::Udp, 53, Scheduler::Rr, &[nat(RS1, 5353)]);
            let bare = |frame| Frame {
                no_checksum: true,
                ..frame
            };
            for sent in [
                s.client_sends(bare(there(40000))),
                s.server_sends(bare(back(RS1, 40000))),
            ] {
                sent.sent();
                assert_eq!(sent.packet[40..42], [0, 0]);
            }
        });
        world.play(
            "a UDP checksum that becomes zero is sent as ffff",
            Hooks::Agree,
            |s| {
                s.service(Protocol::Udp, 53, Scheduler::Rr, &[nat(RS1, 5353)]);
                // Two bytes of payload that bring the checksum of the translated packet to zero.
                let plain = Frame::udp((CLIENT, 40000), (RS1, 5353), &[0, 0]).bytes();
                let payload = [plain[40], plain[41]];
                let sent = s.client_sends(Frame::udp((CLIENT, 40000), (VIP, 53), &payload));
                sent.sent();
                assert_eq!(sent.packet[40..42], [0xff, 0xff]);
            },
        );
        world.play("UDP by DR and TUN", Hooks::Agree, |s| {
            let servers = [direct(RS1), tunnel(RS2)];
            s.service(Protocol::Udp, 53, Scheduler::Rr, &servers);
            let wrapped = s.client_sends(there(40000));
            assert_eq!(wrapped.sent().ip.unwrap().destination, RS2);
            let direct = s.client_sends(there(40001));
            assert_eq!(direct.sent_as(), (mac_of(RS1), (CLIENT, 40001), (VIP, 53)));
        });
        world.play(
            "TCP and UDP services on one port are two",
            Hooks::Agree,
            |s| {
                s.service(Protocol::Udp, 53, Scheduler::Rr, &[nat(RS1, 5353)]);
                let tcp = Frame::tcp((CLIENT, 40000), (VIP, 53), SYN);
                s.client_sends(tcp).passes_untouched();
            },
        );
    });
}

#[test]
fn ip_options_padding_and_vlan_tags_do_not_get_in_the_way() {
    World::with(|world| {
        let methods = [nat(RS1, 80), direct(RS1), tunnel(RS1)];
        for (method, name) in methods.iter().zip(["NAT", "DR", "TUN"]) {
            world.play(&format!("{name} with IP options"), Hooks::Agree, |s| {
                s.tcp_service(Scheduler::Rr, &[*method]);
                for (i, words) in [1, 2, 10].into_iter().enumerate() {
                    let frame = client_tcp(40000 + i as u16, SYN).options(&vec![1; words * 4]);
                    assert_eq!(s.client_sends(frame).sent().destination, mac_of(RS1));
                }
            });
            world.play(
                &format!("{name} with Ethernet padding"),
                Hooks::Agree,
                |s| {
                    s.tcp_service(Scheduler::Rr, &[*method]);
                    let mut frame = client_tcp(40000, SYN)
                        .between(CLIENT_MAC, FRONT_MAC)
                        .bytes();
                    frame.resize(60, 0);
                    assert_eq!(s.send(Side::Front, &frame).sent().destination, mac_of(RS1));
                },
            );
        }
        // In a test run a tag lies in the frame for TC too; what the kernel does when it receives
        // one, taking it out, does not happen.
        let tags = Hooks::Differ("TC finds a received tag beside the packet, not in it");
        world.play(
            "NAT leaves by another interface without the tag",
            tags,
            |s| {
                s.tcp_service(Scheduler::Rr, &[nat(RS1, 80)]);
                let sent = s.client_sends(client_tcp(40000, SYN).tagged(0x8100, 7));
                let tag = (s.hook == Hook::Tc).then_some(7);
                assert_eq!((sent.sent_as().2, sent.sent().vlan), ((RS1, 80), tag));
            },
        );
        world.play("of two tags the outer one is taken off", tags, |s| {
            s.tcp_service(Scheduler::Rr, &[nat(RS1, 80), direct(RS2)]);
            for port in [40000, 40001] {
                let frame = client_tcp(port, SYN).tagged(0x88a8, 100).tagged(0x8100, 7);
                let sent = s.client_sends(frame);
                sent.sent();
                let expected: &[u8] = match s.hook {
                    Hook::Xdp => &[0x81, 0, 0, 7, 8, 0, 0x45],
                    Hook::Tc => &[0x88, 0xa8, 0, 100, 0x81, 0, 0, 7, 8, 0, 0x45],
                };
                assert_eq!(&sent.packet[12..12 + expected.len()], expected);
            }
        });
        world.play("one-armed, a tag stays", Hooks::Agree, |s| {
            s.tcp_service(Scheduler::Rr, &[direct(RS1)]);
            let frame = client_tcp(40000, SYN)
                .tagged(0x8100, 7)
                .between(CLIENT_MAC, BACK_MAC);
            let sent = s.send(Side::Back, &frame.bytes());
            assert_eq!(
                (sent.sent().destination, sent.sent().vlan),
                (mac_of(RS1), Some(7))
            );
        });
    });
}

#[test]
fn what_opens_no_connection_passes() {
    World::with(|world| {
        let passes = |s: &mut Stage<'_>, frame: Frame| s.client_sends(frame).passes_untouched();
        world.play("without any service", Hooks::Agree, |s| {
            passes(s, client_tcp(40000, SYN));
            passes(s, Frame::udp((CLIENT, 1), (VIP, 53), b""));
        });
        world.play("other ports, protocols, addresses", Hooks::Agree, |s| {
            s.tcp_service(Scheduler::Rr, &[nat(RS1, 80)]);
            passes(s, Frame::tcp((CLIENT, 40000), (VIP, 81), SYN));
            passes(s, Frame::tcp((CLIENT, 40000), (DIP, 80), SYN));
            passes(s, Frame::udp((CLIENT, 40000), (VIP, 80), b""));
            passes(s, Frame::tcp((CLIENT, 40000), (VIP, 0), SYN));
            let mut icmp = client_tcp(40000, SYN);
            icmp.protocol = crate::frame::ICMP;
            let mut bytes = icmp.between(CLIENT_MAC, FRONT_MAC).bytes();
            bytes[14 + 9] = 1;
            s.send(Side::Front, &bytes).passes_untouched();
            assert_eq!(s.totals().conns, 0);
        });
        world.play("packets that are not the first", Hooks::Agree, |s| {
            s.tcp_service(Scheduler::Rr, &[nat(RS1, 80)]);
            for flags in [0, ACK, FIN, FIN | ACK, 0x04, 0x04 | SYN, 0x08 | ACK] {
                passes(s, client_tcp(40000, flags));
            }
            assert_eq!(s.totals().conns, 0);
        });
        world.play("SYN with ACK opens, as in IPVS", Hooks::Agree, |s| {
            s.tcp_service(Scheduler::Rr, &[nat(RS1, 80)]);
            s.client_sends(client_tcp(40000, SYN | ACK)).sent();
            assert_eq!(s.totals().conns, 1);
        });
        world.play("active FTP data", Hooks::Agree, |s| {
            s.tcp_service(Scheduler::Rr, &[nat(RS1, 80)]);
            passes(s, client_tcp(20, SYN));
        });
        world.play("flooded frames for another host", Hooks::Agree, |s| {
            s.tcp_service(Scheduler::Rr, &[nat(RS1, 80)]);
            let frame = client_tcp(40000, SYN).between(CLIENT_MAC, [2, 9, 9, 9, 9, 9]);
            s.send(Side::Front, &frame.bytes()).passes_untouched();
        });
        world.play("a source port of zero is a port", Hooks::Agree, |s| {
            s.tcp_service(Scheduler::Rr, &[nat(RS1, 80)]);
            let sent = s.client_sends(client_tcp(0, SYN));
            assert_eq!(sent.sent_as().1, (CLIENT, 0));
            assert_eq!(
                s.server_sends(server_tcp(RS1, 0, SYN | ACK)).sent_as().2,
                (CLIENT, 0)
            );
        });
        world.play("frames that are not IP", Hooks::Agree, |s| {
            s.tcp_service(Scheduler::Rr, &[nat(RS1, 80)]);
            for kind in [[0x08, 0x06], [0x88, 0xcc], [0x00, 0x26], [0x81, 0x00]] {
                let mut frame = vec![0u8; 60];
                frame[0..6].copy_from_slice(&FRONT_MAC);
                frame[6..12].copy_from_slice(&CLIENT_MAC);
                frame[12..14].copy_from_slice(&kind);
                s.send(Side::Front, &frame).passes_untouched();
            }
        });
    });
}
