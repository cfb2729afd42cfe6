//! Fragments: in order, out of order, of both directions and families.

use pointsman_model::{Protocol, ServerSpec};

use crate::frame::{ACK, SYN};
use crate::packet::Packet;
use crate::user::Class;
use crate::world::{CLIENT_MAC, Hooks, NET4, NET6, Net, Seen, Stage, World, mac_of, service};

/// A datagram of 100 bytes, in fragments of 32.
fn request(net: &Net, id: u32) -> Vec<Packet> {
    Packet::udp(net.client(40000), net.vip(53), &[5; 92])
        .id(id)
        .fragments(32)
}

fn reply(net: &Net, id: u32) -> Vec<Packet> {
    Packet::udp(net.rs(0, 5353), net.client(40000), &[6; 92])
        .id(id)
        .fragments(32)
}

/// The packet that fragments make.
fn whole(parts: &[Packet]) -> Packet {
    let mut parts = parts.to_vec();
    parts.sort_by_key(|part| part.fragment.unwrap().0);
    let body = parts.iter().flat_map(|part| part.body.clone()).collect();
    Packet {
        fragment: None,
        body,
        ..parts[0].clone()
    }
}

fn serve(s: &mut Stage<'_>, net: &Net, server: ServerSpec) {
    s.serve(&service(Protocol::Udp, net.vip(53)), &[server]);
}

#[test]
fn fragments_follow_the_first_one() {
    World::with(|world| {
        for net in [NET4, NET6] {
            world.play(&format!("NAT, {}", net.vip), Hooks::Agree, |s| {
                serve(s, &net, net.nat(0, 5353));
                let parts: Vec<Packet> = request(&net, 1)
                    .iter()
                    .map(|part| {
                        let sent = s.in_front(part).sent_to(mac_of(net.rs[0]));
                        assert_eq!((sent.ttl, sent.id), (63, part.id));
                        assert_eq!(sent.fragment, part.fragment);
                        sent
                    })
                    .collect();
                let sent = whole(&parts);
                assert_eq!(sent.sockets(), (net.client(40000), net.rs(0, 5353)));
                sent.check().unwrap();
                let parts: Vec<Packet> = reply(&net, 2)
                    .iter()
                    .map(|part| s.behind(part).sent_to(CLIENT_MAC))
                    .collect();
                let sent = whole(&parts);
                assert_eq!(sent.sockets(), (net.vip(53), net.client(40000)));
                sent.check().unwrap();
                let totals = s.totals();
                assert_eq!(
                    (totals.conns, totals.in_packets, totals.out_packets),
                    (1, 4, 4)
                );
            });
            world.play(&format!("direct routing, {}", net.vip), Hooks::Agree, |s| {
                serve(s, &net, net.direct(0, 53));
                for part in request(&net, 3) {
                    let sent = s.in_front(&part).sent_to(mac_of(net.rs[0]));
                    assert_eq!(sent.ip(), part.ttl(63).ip());
                }
            });
            world.play(&format!("TCP, {}", net.vip), Hooks::Agree, |s| {
                s.serve(&service(Protocol::Tcp, net.vip(80)), &[net.nat(0, 8080)]);
                s.in_front(&Packet::tcp(net.client(1), net.vip(80), SYN, b""))
                    .sent();
                let asked = Packet::tcp(net.client(1), net.vip(80), ACK, &[9; 80]).id(4);
                let parts: Vec<Packet> = asked
                    .fragments(48)
                    .iter()
                    .map(|part| s.in_front(part).sent_to(mac_of(net.rs[0])))
                    .collect();
                whole(&parts).check().unwrap();
            });
        }
    });
}

#[test]
fn the_last_fragments_of_others_are_no_business_of_ours() {
    World::with(|world| {
        for net in [NET4, NET6] {
            world.play(&format!("others, {}", net.vip), Hooks::Agree, |s| {
                serve(s, &net, net.nat(0, 5353));
                let mut other = request(&net, 5);
                for part in &mut other {
                    part.destination = net.dip;
                }
                for part in other.iter().rev() {
                    s.in_front(part).passes_untouched();
                }
                let mut other = request(&net, 6);
                for part in &mut other {
                    part.protocol = 47;
                    s.in_front(part).passes_untouched();
                }
                // The first one is here, and opens nothing: the others are known all the same.
                let other = Packet::udp(net.client(1), net.vip(54), &[5; 92]).id(7);
                for part in other.fragments(32) {
                    s.in_front(&part).passes_untouched();
                }
            });
            world.play(
                &format!("too short to have ports, {}", net.vip),
                Hooks::Agree,
                |s| {
                    serve(s, &net, net.nat(0, 5353));
                    s.serve(&service(Protocol::Tcp, net.vip(80)), &[net.nat(0, 80)]);
                    let asked = Packet::tcp(net.client(1), net.vip(80), SYN, &[9; 80]).id(8);
                    let first = &asked.fragments(8)[0];
                    s.in_front(first).dropped("malformed-transport");
                },
            );
        }
    });
}

/// Kept back: neither passed on nor counted as a loss.
#[track_caller]
fn held(s: &mut Stage<'_>, send: impl Fn(&mut Stage<'_>) -> Seen) {
    let before = s.tables().fragments_held();
    let seen = send(s);
    let held = s.tables().fragments_held() - before;
    if s.is_xdp() {
        seen.passes_untouched();
        assert_eq!(held, 0, "TC sees it next");
    } else {
        assert_eq!((seen.class, held), (Class::Drop, 1));
        assert!(seen.counted.is_empty(), "{:?}", seen.counted);
    }
}

#[test]
fn a_fragment_before_the_first_one_is_held() {
    const WHY: Hooks = Hooks::Differ("TC holds, XDP hands up");
    World::with(|world| {
        for net in [NET4, NET6] {
            world.play(&format!("requests, {}", net.vip), WHY, |s| {
                serve(s, &net, net.nat(0, 5353));
                let id = 100 + u32::from(s.is_xdp());
                let parts = request(&net, id);
                for part in parts[1..].iter().rev() {
                    held(s, |s| s.in_front(part));
                }
                let mut sent = vec![s.in_front(&parts[0]).sent_to(mac_of(net.rs[0]))];
                for part in parts[1..].iter().rev() {
                    sent.push(s.in_front(part).sent_to(mac_of(net.rs[0])));
                }
                whole(&sent).check().unwrap();
            });
            world.play(&format!("replies, {}", net.vip), WHY, |s| {
                serve(s, &net, net.nat(0, 5353));
                s.in_front(&Packet::udp(net.client(40000), net.vip(53), b"what?"))
                    .sent();
                let id = 200 + u32::from(s.is_xdp());
                let parts = reply(&net, id);
                held(s, |s| s.behind(&parts[3]));
                let mut sent = vec![s.behind(&parts[0]).sent_to(CLIENT_MAC)];
                for part in &parts[1..] {
                    sent.push(s.behind(part).sent_to(CLIENT_MAC));
                }
                whole(&sent).check().unwrap();
                s.tables().flush();
                let other = &reply(&net, 300 + u32::from(s.is_xdp()))[1];
                s.behind(other).passes_untouched();
            });
        }
    });
}
