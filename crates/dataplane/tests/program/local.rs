//! The director as one of its own real servers, and as a client of its own VIP.

use pointsman_model::Scheduler;

use crate::frame::{ACK, Frame, SYN};
use crate::user::Class;
use crate::world::{
    BACK_MAC, CLIENT, CLIENT_MAC, DIP, FRONT_MAC, Hook, Hooks, RS1, STAYS_HERE, Side,
    TUNNEL_SOURCE, VIP, World, client_tcp, direct, mac_of, nat, tunnel,
};

#[test]
fn a_server_on_the_director_answers_as_the_vip() {
    World::with(|world| {
        world.play(
            "replies of a local server by NAT",
            Hooks::Differ(STAYS_HERE),
            |s| {
                s.tcp_service(Scheduler::Rr, &[nat(DIP, 8080)]);
                assert_eq!(s.client_sends(client_tcp(40000, SYN)).class, Class::Pass);
                let reply = |flags| Frame::tcp((DIP, 8080), (CLIENT, 40000), flags);
                let reply = reply(SYN | ACK).between(FRONT_MAC, CLIENT_MAC);
                let sent = s.send(Side::Out, &reply.bytes());
                let expected = Frame::tcp((VIP, 80), (CLIENT, 40000), SYN | ACK);
                let expected = expected.between(FRONT_MAC, CLIENT_MAC).bytes();
                assert_eq!((sent.class, sent.packet), (Class::Pass, expected));
                assert_eq!(s.totals().out_packets, 1);
            },
        );
        world.play(
            "a local server by DR keeps the VIP and is counted",
            Hooks::Agree,
            |s| {
                s.tcp_service(Scheduler::Rr, &[direct(DIP)]);
                s.client_sends(client_tcp(40000, SYN)).passes_untouched();
                let reply = Frame::tcp((VIP, 80), (CLIENT, 40000), SYN | ACK);
                let reply = reply.between(FRONT_MAC, CLIENT_MAC).bytes();
                s.send(Side::Out, &reply).passes_untouched();
                let counted_here = u64::from(s.hook != Hook::Xdp);
                let totals = s.totals();
                assert_eq!((totals.in_packets, totals.out_packets), (counted_here, 1));
            },
        );
        world.play(
            "what else the director sends is left alone",
            Hooks::Differ(STAYS_HERE),
            |s| {
                s.tcp_service(Scheduler::Rr, &[nat(DIP, 8080), nat(RS1, 80)]);
                s.client_sends(client_tcp(40000, SYN)).sent();
                s.client_sends(client_tcp(40001, SYN));
                for (source, port) in [(DIP, 22), (DIP, 8080), (RS1, 80), (VIP, 80)] {
                    let other = Frame::tcp((source, port), (CLIENT, 40000), ACK);
                    let other = other.between(FRONT_MAC, CLIENT_MAC).bytes();
                    s.send(Side::Out, &other).passes_untouched();
                }
            },
        );
    });
}

#[test]
fn a_client_on_the_director_reaches_the_vip_over_lo() {
    World::with(|world| {
        let no_xdp = Hooks::Differ("lo has no XDP, and XDP hands replies for lo up");
        let cases = [
            ("its own address, NAT", DIP, nat(RS1, 80), (DIP, (RS1, 80))),
            ("its own address, DR", DIP, direct(RS1), (DIP, (VIP, 80))),
            ("its own address, TUN", DIP, tunnel(RS1), (DIP, (VIP, 80))),
            ("the VIP, NAT", VIP, nat(RS1, 80), (VIP, (RS1, 80))),
            ("the VIP, DR", VIP, direct(RS1), (TUNNEL_SOURCE, (VIP, 80))),
            ("the VIP, TUN", VIP, tunnel(RS1), (TUNNEL_SOURCE, (VIP, 80))),
        ];
        for (name, source, method, (seen_from, seen_at)) in cases {
            world.play(&format!("a client from {name}"), no_xdp, |s| {
                s.tcp_service(Scheduler::Rr, &[method]);
                if s.hook == Hook::Xdp {
                    return;
                }
                let asked = Frame::tcp((source, 40000), (VIP, 80), SYN);
                let there = s.send(Side::Loopback, &asked.bytes());
                let view = there.sent();
                assert_eq!((view.destination, view.source), (mac_of(RS1), BACK_MAC));
                let expected = Frame::tcp((seen_from, 40000), seen_at, SYN).ttl(63).bytes();
                let packet = &there.packet[there.packet.len() - 40..];
                assert_eq!(packet, &expected[14..]);
                let reply = Frame::tcp(seen_at, (seen_from, 40000), SYN | ACK);
                let reply = reply.between(mac_of(RS1), BACK_MAC);
                let back = s.send(Side::Back, &reply.bytes());
                let expected = Frame::tcp((VIP, 80), (source, 40000), SYN | ACK).bytes();
                assert_eq!((back.class, back.packet), (Class::Sent, expected));
            });
        }
    });
}
