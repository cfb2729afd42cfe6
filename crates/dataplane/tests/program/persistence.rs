//! Persistence templates: what they are about, how long they hold, when they are no good.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;

use pointsman_model::{
    Family, MarkRule, Persistence, Protocol, Scheduler, ServerSpec, ServiceKey, ServiceSpec,
    Variable, Weight,
};

use crate::frame::{ACK, FIN, RST, SYN};
use crate::packet::Packet;
use crate::world::{Hooks, NET4, NET6, Net, STAYS_HERE, Stage, World, mac_of, service};

fn persistent(spec: ServiceSpec, secs: u32) -> ServiceSpec {
    ServiceSpec {
        persistence: Some(Persistence {
            timeout_secs: NonZeroU32::new(secs).unwrap(),
        }),
        ..spec
    }
}

fn marked(mark: u32, net: &Net) -> ServiceSpec {
    let family = Family::from(net.vip);
    ServiceSpec::new(ServiceKey::Mark { mark, family }, Scheduler::Rr)
}

/// Gives packets to the VIP a mark.
fn mark(s: &mut Stage<'_>, net: &Net, mark: u32) {
    let to = Some(net.vip.into());
    let rule = MarkRule {
        to,
        mark,
        ..MarkRule::default()
    };
    s.tables().set_mark_rules(&[rule]).unwrap();
}

/// A client by its number.
fn client(net: &Net, host: u8, port: u16) -> SocketAddr {
    let addr: IpAddr = match net.client {
        IpAddr::V4(_) => Ipv4Addr::new(10, 0, host, 2).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0xfd00, 1, 0, host.into(), 0, 0, 0, 2).into(),
    };
    SocketAddr::new(addr, port)
}

/// The server, from 0, that a SYN goes to.
#[track_caller]
fn syn(s: &mut Stage<'_>, net: &Net, from: SocketAddr, port: u16) -> usize {
    goes_to(s, net, &Packet::tcp(from, net.vip(port), SYN, b""))
}

#[track_caller]
fn goes_to(s: &mut Stage<'_>, net: &Net, packet: &Packet) -> usize {
    let seen = s.in_front(packet);
    let mac = seen.packet[..6].to_vec();
    seen.sent_to(mac.clone().try_into().unwrap());
    let to = net.rs.iter().position(|rs| mac_of(*rs)[..] == mac[..]);
    to.expect("sent to a server")
}

fn pair(net: &Net, port: u16) -> [ServerSpec; 2] {
    [net.nat(0, port), net.nat(1, port)]
}

fn show(addr: IpAddr, port: u16) -> String {
    SocketAddr::new(addr, port).to_string()
}

#[test]
fn a_template_is_about_what_its_service_says() {
    World::with(|world| {
        for net in [NET4, NET6] {
            let template = |protocol: &str, state: &str, virt: String, dest: String| {
                format!("{protocol} {state} {} {virt} {dest}", show(net.client, 0))
            };
            world.play(&format!("of a port, {}", net.vip), Hooks::Agree, |s| {
                let spec = persistent(service(Protocol::Tcp, net.vip(80)), 300);
                s.serve(&spec, &pair(&net, 8080));
                let first = syn(s, &net, net.client(40000), 80);
                for port in 40001..40004 {
                    assert_eq!(syn(s, &net, net.client(port), 80), first);
                }
                assert_ne!(syn(s, &net, client(&net, 7, 40000), 80), first);
                let virt = show(net.vip, 80);
                let line = template("TCP", "NONE", virt, show(net.rs[first], 8080));
                assert!(s.listing().contains(&line), "{:#?}", s.listing());
                assert_eq!(s.totals().conns, 5);
                let persistent: u32 = s.servers().iter().map(|s| s.persistent).sum();
                assert_eq!((persistent, s.counts()), (2, (5, 0)));
            });
            world.play(&format!("of every port, {}", net.vip), Hooks::Agree, |s| {
                let spec = persistent(service(Protocol::Tcp, net.vip(0)), 300);
                s.serve(&spec, &pair(&net, 0));
                let first = syn(s, &net, net.client(40000), 80);
                for port in [443, 8080, 21] {
                    assert_eq!(syn(s, &net, net.client(40000), port), first);
                }
                let virt = show(net.vip, 0);
                let line = template("TCP", "NONE", virt, show(net.rs[first], 0));
                assert!(s.listing().contains(&line), "{:#?}", s.listing());
                let udp = Packet::udp(net.client(40000), net.vip(80), b"");
                s.in_front(&udp).passes_untouched();
            });
            world.play(&format!("of FTP, {}", net.vip), Hooks::Agree, |s| {
                let spec = persistent(service(Protocol::Tcp, net.vip(21)), 300);
                s.serve(&spec, &[net.direct(0, 21), net.direct(1, 21)]);
                let first = syn(s, &net, net.client(40000), 21);
                let virt = show(net.vip, 0);
                let line = template("TCP", "NONE", virt, show(net.rs[first], 0));
                assert!(s.listing().contains(&line), "{:#?}", s.listing());
                // Passive data, an unprivileged port; others are not FTP's.
                assert_eq!(syn(s, &net, net.client(40001), 30000), first);
                assert_eq!(syn(s, &net, net.client(40002), 20), first);
                let other = Packet::tcp(net.client(40003), net.vip(80), SYN, b"");
                s.in_front(&other).passes_untouched();
            });
            world.play(&format!("of a mark, {}", net.vip), Hooks::Agree, |s| {
                s.serve(&persistent(marked(85, &net), 300), &pair(&net, 0));
                mark(s, &net, 85);
                let first = syn(s, &net, net.client(40000), 80);
                for port in [443, 8080] {
                    assert_eq!(syn(s, &net, net.client(40000), port), first);
                }
                let udp = Packet::udp(net.client(40000), net.vip(53), b"");
                assert_eq!(goes_to(s, &net, &udp), first);
                let lines = s.listing();
                let templates = lines.iter().filter(|line| line.starts_with("IP "));
                assert_eq!(templates.count(), 1, "{lines:#?}");
            });
        }
    });
}

#[test]
fn a_netmask_makes_clients_share() {
    World::with(|world| {
        for net in [NET4, NET6] {
            world.play(&format!("netmask, {}", net.vip), Hooks::Agree, |s| {
                let spec = ServiceSpec {
                    netmask: Ipv4Addr::new(255, 255, 0, 0),
                    prefix_len: 48,
                    ..persistent(service(Protocol::Tcp, net.vip(80)), 300)
                };
                s.serve(&spec, &pair(&net, 80));
                let first = syn(s, &net, client(&net, 1, 40000), 80);
                for host in [2, 77, 255] {
                    assert_eq!(syn(s, &net, client(&net, host, 40000), 80), first);
                }
                let other: IpAddr = match net.client {
                    IpAddr::V4(_) => Ipv4Addr::new(10, 1, 0, 2).into(),
                    IpAddr::V6(_) => Ipv6Addr::new(0xfd00, 1, 1, 0, 0, 0, 0, 2).into(),
                };
                assert_ne!(syn(s, &net, SocketAddr::new(other, 40000), 80), first);
            });
        }
    });
}

#[test]
fn a_template_outlives_its_connections_and_no_more() {
    World::with(|world| {
        for net in [NET4, NET6] {
            world.play(&format!("life, {}", net.vip), Hooks::Agree, |s| {
                let spec = persistent(service(Protocol::Tcp, net.vip(80)), 100);
                s.serve(&spec, &pair(&net, 80));
                let first = syn(s, &net, net.client(40000), 80);
                s.in_front(&Packet::tcp(net.client(40000), net.vip(80), RST, b""));
                s.age(50);
                s.tables().sweep();
                assert_eq!(s.listing().len(), 2, "RST in SYN_RECV changes nothing");
                s.age(45);
                s.tables().sweep();
                assert_eq!(s.listing().len(), 1, "the template alone");
                assert_eq!(syn(s, &net, net.client(40001), 80), first);
                s.age(90);
                s.tables().sweep();
                assert_eq!(s.listing().len(), 1, "a new connection renewed it");
                s.age(20);
                s.tables().sweep();
                assert_eq!(s.listing().len(), 0);
                let persistent: u32 = s.servers().iter().map(|s| s.persistent).sum();
                assert_eq!((persistent, s.counts()), (0, (0, 0)));
            });
            world.play(&format!("children, {}", net.vip), Hooks::Agree, |s| {
                let spec = persistent(service(Protocol::Tcp, net.vip(80)), 100);
                s.serve(&spec, &pair(&net, 80));
                let first = syn(s, &net, net.client(40000), 80);
                s.in_front(&Packet::tcp(net.client(40000), net.vip(80), ACK, b""))
                    .sent();
                s.age(200);
                s.tables().sweep();
                assert_eq!(s.listing().len(), 2, "while there are children");
                assert_eq!(syn(s, &net, net.client(40001), 80), first);
            });
        }
    });
}

#[test]
fn a_template_is_assured_once_a_connection_is_established() {
    World::with(|world| {
        for net in [NET4, NET6] {
            let state = |s: &mut Stage<'_>| {
                let all = s.tables().connections();
                let template = all.iter().find(|c| c.template).expect("a template");
                template.state.name()
            };
            world.play(&format!("TCP, {}", net.vip), Hooks::Agree, |s| {
                let spec = persistent(service(Protocol::Tcp, net.vip(80)), 300);
                s.serve(&spec, &[net.nat(0, 80)]);
                syn(s, &net, net.client(40000), 80);
                assert_eq!(state(s), "NONE");
                for flags in [ACK, FIN | ACK] {
                    s.in_front(&Packet::tcp(net.client(40000), net.vip(80), flags, b""))
                        .sent();
                    assert_eq!(state(s), "ASSURED");
                }
            });
            world.play(&format!("UDP, {}", net.vip), Hooks::Agree, |s| {
                let spec = persistent(service(Protocol::Udp, net.vip(53)), 300);
                s.serve(&spec, &[net.nat(0, 53)]);
                let asked = Packet::udp(net.client(40000), net.vip(53), b"what?");
                s.in_front(&asked).sent();
                s.in_front(&asked).sent();
                assert_eq!(state(s), "NONE");
                let answer = Packet::udp(net.rs(0, 53), net.client(40000), b"that!");
                s.behind(&answer).sent();
                assert_eq!(state(s), "ASSURED");
            });
            world.play(&format!("SCTP, {}", net.vip), Hooks::Agree, |s| {
                let spec = persistent(service(Protocol::Sctp, net.vip(80)), 300);
                s.serve(&spec, &[net.direct(0, 80)]);
                for (chunk, expected) in [(1, "NONE"), (10, "ASSURED")] {
                    let asked = Packet::sctp(net.client(40000), net.vip(80), &[chunk], b"");
                    s.in_front(&asked).sent();
                    assert_eq!(state(s), expected);
                }
            });
        }
    });
}

#[test]
fn a_template_whose_server_is_of_no_use_gives_way() {
    World::with(|world| {
        for net in [NET4, NET6] {
            let quiesce = |s: &mut Stage<'_>, server: usize| {
                let key = service(Protocol::Tcp, net.vip(80)).key;
                let spec = ServerSpec {
                    weight: Weight::new(0).unwrap(),
                    ..net.nat(server, 80)
                };
                s.tables().edit_server(&key, &spec).unwrap();
            };
            let spec = persistent(service(Protocol::Tcp, net.vip(80)), 300);
            world.play(&format!("quiesced, {}", net.vip), Hooks::Agree, |s| {
                s.serve(&spec, &pair(&net, 80));
                let first = syn(s, &net, net.client(40000), 80);
                quiesce(s, first);
                assert_eq!(syn(s, &net, net.client(40001), 80), first, "all the same");
                s.set(Variable::ExpireQuiescentTemplate, "1");
                let second = syn(s, &net, net.client(40002), 80);
                assert_ne!(second, first);
                assert_eq!(syn(s, &net, net.client(40003), 80), second);
                let neutral = format!("{} {}", show(net.vip, 65535), show(net.rs[first], 65535));
                let lines = s.listing();
                assert!(lines.iter().any(|l| l.ends_with(&neutral)), "{lines:#?}");
            });
            world.play(&format!("removed, {}", net.vip), Hooks::Agree, |s| {
                s.serve(&spec, &pair(&net, 80));
                let first = syn(s, &net, net.client(40000), 80);
                let gone = net.nat(first, 80).key;
                s.tables().delete_server(&spec.key, &gone).unwrap();
                let second = syn(s, &net, net.client(40001), 80);
                assert_ne!(second, first);
                assert_eq!(syn(s, &net, net.client(40002), 80), second);
                s.in_front(&Packet::tcp(net.client(40000), net.vip(80), ACK, b""))
                    .dropped("server-removed");
            });
            world.play(&format!("nobody is left, {}", net.vip), Hooks::Agree, |s| {
                s.serve(&spec, &pair(&net, 80));
                quiesce(s, 0);
                quiesce(s, 1);
                let asked = Packet::tcp(net.client(40000), net.vip(80), SYN, b"");
                assert_eq!(s.in_front(&asked).counted, ["no-destination"]);
                assert_eq!(s.listing(), [""; 0]);
            });
        }
        world.play("a server on the director", Hooks::Differ(STAYS_HERE), |s| {
            let spec = persistent(service(Protocol::Tcp, NET4.vip(80)), 300);
            let mut server = NET4.nat(0, 80);
            server.key.addr = NET4.dip;
            s.serve(&spec, &[server]);
            for port in [40000, 40001] {
                s.in_front(&Packet::tcp(NET4.client(port), NET4.vip(80), SYN, b""));
            }
            assert_eq!(s.listing().len(), 3);
        });
    });
}

#[test]
fn a_mark_makes_a_service_of_many_addresses() {
    World::with(|world| {
        for net in [NET4, NET6] {
            world.play(&format!("rules, {}", net.vip), Hooks::Agree, |s| {
                s.serve(&marked(7, &net), &pair(&net, 0));
                s.serve(&service(Protocol::Tcp, net.vip(443)), &[net.nat(2, 443)]);
                let port = |text: &str, mark| -> MarkRule {
                    let mut rule: MarkRule = format!("port {text} mark {mark}").parse().unwrap();
                    rule.to = Some(net.vip.into());
                    rule
                };
                let rules = [port("8443", 0), port("80,8000-9000", 7), port("443", 9)];
                s.tables().set_mark_rules(&rules).unwrap();
                assert_eq!(syn(s, &net, net.client(40000), 80), 1);
                assert_eq!(syn(s, &net, net.client(40000), 8000), 0);
                assert_eq!(syn(s, &net, net.client(40001), 9000), 1);
                assert_eq!(
                    syn(s, &net, net.client(40000), 443),
                    2,
                    "no service has mark 9"
                );
                for other in [79, 81, 7999, 9001, 8443] {
                    let asked = Packet::tcp(net.client(40000), net.vip(other), SYN, b"");
                    s.in_front(&asked).passes_untouched();
                }
                let udp = Packet::udp(net.client(40000), net.vip(8080), b"");
                assert_eq!(goes_to(s, &net, &udp), 0);
                let sent = s
                    .in_front(&Packet::tcp(net.client(40002), net.vip(8080), SYN, b""))
                    .sent_to(mac_of(net.rs[1]));
                assert_eq!(sent.sockets().1, net.rs(1, 8080), "the port asked for");
            });
        }
    });
}
