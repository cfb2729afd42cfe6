//! What the client is told, and what is dropped by name, when a packet cannot go on.

use pointsman_model::{Forwarding, Protocol, Scheduler};

use crate::frame::{ACK, Frame, SYN};
use crate::user::Class;
use crate::world::{
    BACK_MAC, CLIENT, CLIENT_MAC, FRONT_MAC, Hook, Hooks, NOWHERE, RS1, RS2, Side, TUNNEL_SOURCE,
    UNKNOWN, UNREACHABLE, VIP, World, client_tcp, direct, mac_of, nat, server, server_tcp, tunnel,
};

const UNREACH: u8 = 3;
const TIME_EXCEEDED: u8 = 11;

#[test]
fn the_client_is_told_when_nobody_takes_its_connection() {
    World::with(|world| {
        world.play("quiesced servers", Hooks::Agree, |s| {
            let quiesced = |rip| server(rip, 80, Forwarding::Masquerade, 0);
            s.tcp_service(Scheduler::Rr, &[quiesced(RS1), quiesced(RS2)]);
            s.service(Protocol::Udp, 53, Scheduler::Wlc, &[quiesced(RS1)]);
            let asked = s.client_sends(client_tcp(40000, SYN));
            asked.answered(UNREACH, 3, 0, "no-destination");
            let asked = s.client_sends(Frame::udp((CLIENT, 40000), (VIP, 53), b"question"));
            asked.answered(UNREACH, 3, 0, "no-destination");
            let options = client_tcp(40000, SYN).options(&[1; 40]);
            s.client_sends(options)
                .answered(UNREACH, 3, 0, "no-destination");
            let data = client_tcp(40000, SYN).total_len(1400);
            s.client_sends(data)
                .answered(UNREACH, 3, 0, "no-destination");
            assert_eq!(s.totals().conns, 0);
        });
        for scheduler in [
            Scheduler::Rr,
            Scheduler::Wrr,
            Scheduler::Wlc,
            Scheduler::None,
        ] {
            world.play(
                &format!("no servers at all, {scheduler}"),
                Hooks::Agree,
                |s| {
                    s.tcp_service(scheduler, &[]);
                    let asked = s.client_sends(client_tcp(40000, SYN));
                    asked.answered(UNREACH, 3, 0, "no-destination");
                },
            );
        }
        world.play(
            "quiesced while connected: only new connections are refused",
            Hooks::Agree,
            |s| {
                let key = s.tcp_service(Scheduler::Rr, &[nat(RS1, 80)]);
                s.syn(40000);
                let quiesced = server(RS1, 80, Forwarding::Masquerade, 0);
                s.tables().edit_server(&key, &quiesced).unwrap();
                s.client_sends(client_tcp(40000, ACK)).sent();
                let asked = s.client_sends(client_tcp(40001, SYN));
                asked.answered(UNREACH, 3, 0, "no-destination");
            },
        );
    });
}

#[test]
fn time_to_live_and_size_are_answered_by_the_director() {
    World::with(|world| {
        let methods = [("NAT", nat(RS1, 80), 1500), ("DR", direct(RS1), 1500)];
        for (name, method, mtu) in methods.into_iter().chain([("TUN", tunnel(RS1), 1480)]) {
            world.play(&format!("{name}: time to live"), Hooks::Agree, |s| {
                s.tcp_service(Scheduler::Rr, &[method]);
                for ttl in [1, 0] {
                    let asked = s.client_sends(client_tcp(40000, SYN).ttl(ttl));
                    asked.answered(TIME_EXCEEDED, 0, 0, "ttl-exceeded");
                }
                s.client_sends(client_tcp(40000, SYN).ttl(2)).sent();
            });
            world.play(
                &format!("{name}: as large as the path takes"),
                Hooks::Agree,
                |s| {
                    s.tcp_service(Scheduler::Rr, &[method]);
                    s.syn(40000);
                    s.client_sends(client_tcp(40000, ACK).total_len(mtu)).sent();
                },
            );
            world.play(&format!("{name}: too large, DF"), Hooks::Agree, |s| {
                s.tcp_service(Scheduler::Rr, &[method]);
                s.syn(40000);
                let asked = s.client_sends(client_tcp(40000, ACK).total_len(mtu + 1));
                asked.answered(UNREACH, 4, mtu as u16, "too-big");
                let options = client_tcp(40000, ACK).options(&[1; 8]).total_len(mtu + 1);
                s.client_sends(options)
                    .answered(UNREACH, 4, mtu as u16, "too-big");
            });
            world.play(&format!("{name}: too large, no DF"), Hooks::Agree, |s| {
                s.tcp_service(Scheduler::Rr, &[method]);
                s.syn(40000);
                let frame = client_tcp(40000, ACK).fragment(0).total_len(mtu + 1);
                s.client_sends(frame).dropped("needs-fragmentation");
            });
        }
        world.play("replies, too", Hooks::Agree, |s| {
            s.tcp_service(Scheduler::Rr, &[nat(RS1, 80)]);
            s.syn(40000);
            let reply = |flags| server_tcp(RS1, 40000, flags);
            let asked = s.server_sends(reply(SYN | ACK).ttl(1));
            asked.answered(TIME_EXCEEDED, 0, 0, "ttl-exceeded");
            let asked = s.server_sends(reply(ACK).total_len(1501));
            asked.answered(UNREACH, 4, 1500, "too-big");
        });
        let tags = Hooks::Differ("TC finds a received tag beside the packet, not in it");
        world.play("answers keep the tag they came with", tags, |s| {
            s.tcp_service(Scheduler::Rr, &[nat(RS1, 80)]);
            let tagged = client_tcp(40000, SYN).ttl(1).tagged(0x8100, 7);
            let asked = s.client_sends(tagged);
            assert_eq!(asked.counted, ["ttl-exceeded"]);
            if s.hook == Hook::Xdp {
                assert_eq!(asked.class, Class::Sent);
                assert_eq!(asked.packet[12..19], [0x81, 0, 0, 7, 8, 0, 0x45]);
                assert_eq!(asked.packet[18 + 9], 1);
            }
        });
    });
}

#[test]
fn a_server_without_a_way_is_a_named_drop() {
    World::with(|world| {
        world.play("a route that says unreachable", Hooks::Agree, |s| {
            s.tcp_service(Scheduler::Rr, &[nat(UNREACHABLE, 80)]);
            for flags in [SYN, ACK] {
                let asked = s.client_sends(client_tcp(40000, flags));
                asked.answered(UNREACH, 1, 0, "no-route");
            }
        });
        world.play("no route at all", Hooks::Agree, |s| {
            for (port, method) in [(80, nat(NOWHERE, 80)), (81, direct(NOWHERE))] {
                s.service(Protocol::Tcp, port, Scheduler::Rr, &[method]);
                s.tables().set_no_route(NOWHERE.into(), true);
                for flags in [SYN, ACK] {
                    let asked = s.client_sends(Frame::tcp((CLIENT, 40000), (VIP, port), flags));
                    asked.answered(UNREACH, 1, 0, "no-route");
                }
            }
        });
        world.play(
            "what is known of an address holds for servers added later",
            Hooks::Agree,
            |s| {
                s.tcp_service(Scheduler::Rr, &[nat(NOWHERE, 80), tunnel(RS1)]);
                s.tables().set_no_route(NOWHERE.into(), true);
                for (port, method) in [(81, nat(NOWHERE, 81)), (82, tunnel(RS1))] {
                    let key = s.service(Protocol::Tcp, port, Scheduler::Rr, &[]);
                    s.tables().add_server(&key, &method).unwrap();
                }
                let asked = s.client_sends(Frame::tcp((CLIENT, 40000), (VIP, 81), SYN));
                asked.answered(UNREACH, 1, 0, "no-route");
                let wrapped = s.client_sends(Frame::tcp((CLIENT, 40000), (VIP, 82), SYN));
                assert_eq!(wrapped.sent().ip.unwrap().source, TUNNEL_SOURCE);
            },
        );
        let by_tc = Hooks::Differ("XDP hands up what the kernel has to resolve");
        for method in [nat(UNKNOWN, 80), direct(UNKNOWN)] {
            world.play("an unknown neighbour", by_tc, |s| {
                s.tcp_service(Scheduler::Rr, &[method]);
                for flags in [SYN, ACK] {
                    let seen = s.client_sends(client_tcp(40000, flags));
                    match s.hook {
                        Hook::Xdp => seen.passes_untouched(),
                        Hook::Tc => assert_eq!(seen.sent().ip.unwrap().ttl, 63),
                    }
                }
            });
            world.play("a dead neighbour", by_tc, |s| {
                s.tcp_service(Scheduler::Rr, &[method]);
                s.tables().set_neighbour_dead(UNKNOWN.into(), true);
                for flags in [SYN, ACK] {
                    let seen = s.client_sends(client_tcp(40000, flags));
                    match s.hook {
                        Hook::Xdp => seen.passes_untouched(),
                        Hook::Tc => seen.dropped("neighbour-dead"),
                    }
                }
                s.tables().set_neighbour_dead(UNKNOWN.into(), false);
                if s.hook == Hook::Tc {
                    s.client_sends(client_tcp(40000, ACK)).sent();
                }
            });
        }
    });
}

#[test]
fn a_removed_server_drops_its_packets_until_it_comes_back() {
    World::with(|world| {
        for method in [nat(RS1, 80), direct(RS1)] {
            world.play("server removed and added again", Hooks::Agree, |s| {
                let key = s.tcp_service(Scheduler::Rr, &[method]);
                s.syn(40000);
                s.tables().delete_server(&key, &method.key).unwrap();
                s.client_sends(client_tcp(40000, ACK))
                    .dropped("server-removed");
                s.tables().add_server(&key, &nat(RS2, 80)).unwrap();
                assert_eq!(s.syn(40001), RS2, "new connections go elsewhere");
                s.client_sends(client_tcp(40000, ACK))
                    .dropped("server-removed");
                s.tables().add_server(&key, &method).unwrap();
                let back = s.client_sends(client_tcp(40000, ACK));
                assert_eq!(back.sent().destination, mac_of(RS1));
                assert_eq!(s.counts(), (2, 0));
            });
            world.play("service removed and added again", Hooks::Agree, |s| {
                let key = s.tcp_service(Scheduler::Rr, &[method]);
                s.syn(40000);
                s.tables().delete_service(&key).unwrap();
                s.client_sends(client_tcp(40000, ACK))
                    .dropped("server-removed");
                s.client_sends(client_tcp(40001, SYN)).passes_untouched();
                s.tcp_service(Scheduler::Rr, &[method]);
                s.client_sends(client_tcp(40000, ACK)).sent();
                assert_eq!(s.counts(), (1, 0));
            });
        }
        world.play(
            "replies of a removed server still reach the client",
            Hooks::Agree,
            |s| {
                let key = s.tcp_service(Scheduler::Rr, &[nat(RS1, 80)]);
                s.syn(40000);
                s.tables().delete_server(&key, &nat(RS1, 80).key).unwrap();
                let reply = s.server_sends(server_tcp(RS1, 40000, SYN | ACK));
                assert_eq!(reply.sent_as().1, (VIP, 80));
            },
        );
        world.play("answers go back to whoever asked", Hooks::Agree, |s| {
            s.tcp_service(Scheduler::Rr, &[]);
            let frame = client_tcp(40000, SYN).between([2, 7, 7, 7, 7, 7], BACK_MAC);
            let asked = s.send(Side::Back, &frame.bytes());
            asked.answered(UNREACH, 3, 0, "no-destination");
            assert_eq!(asked.packet[0..6], [2, 7, 7, 7, 7, 7]);
            assert_ne!(CLIENT_MAC, FRONT_MAC);
        });
    });
}

#[test]
fn a_flood_of_what_is_refused_is_not_answered_by_another() {
    World::with(|world| {
        const SENT: u64 = 200;
        world.play("port unreachable is limited", Hooks::Agree, |s| {
            s.tcp_service(Scheduler::Rr, &[]);
            let before = s.tables().errors_untold();
            // How many are told is a matter of time, which stands still in user space.
            let frame = client_tcp(40000, SYN)
                .between(CLIENT_MAC, FRONT_MAC)
                .bytes();
            s.send(Side::Front, &frame)
                .answered(3, 3, 0, "no-destination");
            let told = (1..SENT)
                .filter(|_| s.send_at_once(Side::Front, &frame).class == Class::Sent)
                .count() as u64;
            let untold = s.tables().errors_untold() - before;
            assert_eq!(1 + told + untold, SENT, "each is counted");
            assert!(told >= 49, "{told}: at least the burst");
            s.send(Side::Front, &frame)
                .answered(3, 3, 0, "no-destination");
            s.forget_seen();
        });
        world.play("what finds path MTUs is not", Hooks::Agree, |s| {
            s.tcp_service(Scheduler::Rr, &[direct(RS1)]);
            s.client_sends(client_tcp(40000, SYN)).sent();
            let frame = client_tcp(40000, ACK).total_len(1501);
            let frame = frame.between(CLIENT_MAC, FRONT_MAC).bytes();
            for _ in 0..SENT {
                let seen = s.send_at_once(Side::Front, &frame);
                seen.answered(3, 4, 1500, "too-big");
            }
        });
    });
}
