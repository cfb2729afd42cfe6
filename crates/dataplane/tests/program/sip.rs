//! The persistence engine `sip`, and packets of real servers that belong to no connection.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;

use pointsman_model::{Persistence, Protocol, Scheduler, ServiceKey, ServiceSpec, Variable};

use crate::frame::{ACK, Frame, RST, SYN};
use crate::world::{CLIENT, Hooks, RS1, RS2, RS3, Stage, VIP, World, direct, nat};

const SIP: u16 = 5060;

/// A service of SIP with two servers; the newest is RS2.
fn sip_service(s: &mut Stage<'_>, one_packet: bool) {
    let key = ServiceKey::Address {
        protocol: Protocol::Udp,
        addr: IpAddr::V4(VIP),
        port: SIP,
    };
    let mut spec = ServiceSpec::new(key, Scheduler::Rr);
    spec.persistence_engine = Some("sip".into());
    spec.persistence = Some(Persistence {
        timeout_secs: NonZeroU32::new(300).unwrap(),
    });
    spec.one_packet = one_packet;
    s.tables().add_service(&spec).unwrap();
    for rip in [RS1, RS2] {
        s.tables().add_server(&key, &nat(rip, SIP)).unwrap();
    }
}

fn message(call_id: &str) -> Vec<u8> {
    format!("INVITE sip:a@b SIP/2.0\r\nVia: x\r\nCall-ID: {call_id}\r\n\r\n").into_bytes()
}

fn asks(port: u16, payload: &[u8]) -> Frame {
    Frame::udp((CLIENT, port), (VIP, SIP), payload)
}

/// Which server a message of a call goes to.
#[track_caller]
fn call(s: &mut Stage<'_>, port: u16, call_id: &str) -> Ipv4Addr {
    let seen = s.client_sends(asks(port, &message(call_id)));
    assert_eq!(seen.sent_as().2.1, SIP);
    seen.sent_as().2.0
}

/// Call-IDs of all templates.
fn call_ids(s: &mut Stage<'_>) -> Vec<String> {
    let listed = s.tables().connections().into_iter();
    let mut ids: Vec<_> = listed
        .filter(|c| c.template)
        .map(|c| {
            assert_eq!(c.client.to_string(), "10.0.0.2:0");
            assert_eq!(c.virtual_addr.to_string(), "10.0.0.100:5060");
            let engine = c.engine.expect("engine data");
            assert_eq!(engine.name, "sip");
            engine.data
        })
        .collect();
    ids.sort();
    ids
}

#[test]
fn a_call_stays_with_its_server_whatever_its_ports() {
    World::with(|world| {
        for one_packet in [false, true] {
            world.play("calls", Hooks::Agree, move |s| {
                sip_service(s, one_packet);
                assert_eq!(call(s, 5060, "one@a"), RS2);
                assert_eq!(call(s, 5061, "two@a"), RS1);
                for port in [5062, 5063, 5064] {
                    assert_eq!(call(s, port, "one@a"), RS2);
                    assert_eq!(call(s, port + 100, "two@a"), RS1);
                }
                assert_eq!(call_ids(s), ["one@a", "two@a"]);
                let listed = s.tables().connections();
                let connections = listed.iter().filter(|c| !c.template).count();
                assert_eq!(connections, if one_packet { 0 } else { 8 });
                s.tables().clear_connections();
                assert_eq!(call_ids(s), [] as [&str; 0]);
            });
        }
    });
}

#[test]
fn the_call_id_may_stand_far_back_and_be_long() {
    World::with(|world| {
        world.play("in the second piece, and across two", Hooks::Agree, |s| {
            sip_service(s, true);
            let long = "x".repeat(255);
            for (n, before) in [400, 490, 511, 520, 1000, 1100].into_iter().enumerate() {
                let mut payload = b"INVITE sip:a@b SIP/2.0\r\nVia: ".to_vec();
                payload.resize(before, b'v');
                payload.extend_from_slice(format!("\r\ni: {n}{}\r\n", &long[1..]).as_bytes());
                for port in [5060, 5061] {
                    let seen = s.client_sends(asks(port, &payload));
                    let expected = [RS2, RS1][n % 2];
                    assert_eq!(seen.sent_as().2.0, expected, "{before}");
                }
            }
            assert_eq!(call_ids(s).len(), 6);
            assert!(call_ids(s).iter().all(|id| id.len() == 255));
        });
    });
}

#[test]
fn without_a_call_id_a_packet_is_dropped() {
    World::with(|world| {
        world.play("nothing to go by", Hooks::Agree, |s| {
            sip_service(s, true);
            let too_long = format!("OPTIONS\r\ni: {}\r\n", "x".repeat(256));
            for payload in [
                &b""[..],
                b"Call-ID: first@line\r\n",
                b"INVITE\r\nCall-ID: cut@short",
                b"INVITE\r\nCall-ID: two words\r\n",
                too_long.as_bytes(),
            ] {
                s.client_sends(asks(5060, payload)).dropped("no-call-id");
            }
            assert_eq!(call_ids(s), [] as [&str; 0]);
        });
    });
}

#[test]
fn what_a_server_of_sip_sends_comes_from_the_vip() {
    World::with(|world| {
        world.play("replies of one-packet services", Hooks::Agree, |s| {
            sip_service(s, true);
            assert_eq!(call(s, 5070, "one@a"), RS2);
            let reply = Frame::udp((RS2, SIP), (CLIENT, 5070), &message("one@a"));
            let seen = s.server_sends(reply);
            assert_eq!(seen.sent_as().1, (VIP, SIP));
            assert_eq!(seen.sent_as().2, (CLIENT, 5070));
            let totals = s.totals();
            assert_eq!(
                (totals.conns, totals.in_packets, totals.out_packets),
                (2, 1, 1)
            );
            assert_eq!(call_ids(s), ["one@a"]);
            assert_eq!(s.states().len(), 1, "the template alone");
        });
        for one_packet in [true, false] {
            world.play("calls of servers", Hooks::Agree, move |s| {
                sip_service(s, one_packet);
                // RS1 would not be the next one.
                let invite = Frame::udp((RS1, SIP), (CLIENT, 5090), &message("mine@b"));
                assert_eq!(s.server_sends(invite).sent_as().1, (VIP, SIP));
                assert_eq!(call_ids(s), ["mine@b"]);
                assert_eq!(call(s, 5090, "mine@b"), RS1);
                assert_eq!(call(s, 5091, "mine@b"), RS1);
                assert_eq!(s.totals().conns, if one_packet { 3 } else { 2 });
            });
        }
        world.play("what is nobody's passes", Hooks::Agree, |s| {
            sip_service(s, true);
            for frame in [
                Frame::udp((RS1, SIP), (CLIENT, 5090), b"no Call-ID"),
                Frame::udp((RS1, 5061), (CLIENT, 5090), &message("a")),
                Frame::udp((RS3, SIP), (CLIENT, 5090), &message("a")),
                Frame::tcp((RS1, SIP), (CLIENT, 5090), ACK),
            ] {
                s.server_sends(frame).passes_untouched();
            }
            s.tables().flush();
            s.server_sends(Frame::udp((RS1, SIP), (CLIENT, 5090), &message("a")))
                .passes_untouched();
        });
    });
}

#[test]
fn servers_are_told_of_connections_that_are_gone() {
    World::with(|world| {
        world.play("nat_icmp_send", Hooks::Agree, |s| {
            s.tcp_service(Scheduler::Rr, &[nat(RS1, 80), direct(RS2)]);
            let stray = |rip, flags| Frame::tcp((rip, 80), (CLIENT, 40000), flags);
            s.server_sends(stray(RS1, ACK)).passes_untouched();
            s.tables().set_variable(Variable::NatIcmpSend, "1").unwrap();
            for flags in [ACK, SYN, SYN | ACK] {
                s.server_sends(stray(RS1, flags))
                    .answered(3, 3, 0, "no-connection");
            }
            for other in [
                stray(RS1, RST | ACK),
                stray(RS2, ACK),
                Frame::tcp((RS1, 81), (CLIENT, 40000), ACK),
                Frame::udp((RS1, 80), (CLIENT, 40000), b"x"),
                Frame::tcp((CLIENT, 40000), (VIP, 81), ACK),
            ] {
                s.server_sends(other).passes_untouched();
            }
            s.client_sends(crate::world::client_tcp(40001, SYN)).sent();
            s.client_sends(crate::world::client_tcp(40002, SYN)).sent();
            let reply = Frame::tcp((RS1, 80), (CLIENT, 40002), SYN | ACK);
            assert_eq!(s.server_sends(reply).sent_as().1, (VIP, 80));
            s.tables().set_variable(Variable::NatIcmpSend, "0").unwrap();
        });
    });
}
