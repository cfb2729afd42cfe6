//! Schedulers make the choices of the kernel's IPVS. Servers are added in the order 1, 2, 3, 4; each
//! sequence was observed on the kernel.

use std::net::Ipv4Addr;

use pointsman_core::layout::SERVER_AVAILABLE;
use pointsman_core::overload;
use pointsman_model::{
    Forwarding, Protocol, SchedFlags, Scheduler, ServerSpec, ServiceSpec, Weight,
};

use crate::frame::{ACK, Frame, RST, SYN};
use crate::world::{
    CLIENT, Hooks, RS1, RS2, RS3, RS4, Stage, VIP, World, client_tcp, mac_of, server,
};

const CASES: &[(Scheduler, [u32; 4], &[usize])] = &[
    (Scheduler::Rr, [1, 1, 1, 1], &[4, 3, 2, 1, 4, 3, 2, 1]),
    (Scheduler::Rr, [1, 0, 7, 1], &[4, 3, 1, 4, 3, 1]),
    (Scheduler::Wrr, [1, 1, 1, 1], &[4, 3, 2, 1, 4, 3, 2, 1]),
    (
        Scheduler::Wrr,
        [3, 2, 1, 0],
        &[3, 2, 1, 1, 2, 1, 3, 2, 1, 1, 2, 1],
    ),
    (
        Scheduler::Wrr,
        [1, 5, 2, 7],
        &[4, 3, 2, 1, 4, 4, 4, 2, 4, 2, 4, 2, 4, 3, 2, 4],
    ),
    (
        Scheduler::Wrr,
        [6, 4, 2, 2],
        &[4, 3, 2, 1, 1, 2, 1, 4, 3, 2, 1, 1, 2, 1],
    ),
    (
        Scheduler::Wrr,
        [2, 4, 0, 8],
        &[4, 2, 1, 4, 4, 4, 2, 4, 2, 1, 4, 4, 4, 2],
    ),
    (Scheduler::Wrr, [100, 1, 1, 1], &[4, 3, 2, 1, 1, 1, 1, 1]),
    (
        Scheduler::Wrr,
        [4, 3, 2, 1],
        &[4, 3, 2, 1, 1, 2, 1, 3, 2, 1, 4, 3, 2, 1],
    ),
    (
        Scheduler::Wlc,
        [3, 2, 1, 0],
        &[3, 2, 1, 1, 2, 1, 3, 2, 1, 1, 2, 1, 3, 2],
    ),
    (
        Scheduler::Wlc,
        [1, 5, 2, 7],
        &[4, 3, 2, 1, 4, 2, 4, 2, 4, 3, 4, 2, 4, 2],
    ),
    (Scheduler::Lc, [3, 2, 1, 0], &[3, 2, 1, 3, 2, 1]),
    (
        Scheduler::Sed,
        [3, 2, 1, 0],
        &[1, 2, 1, 3, 2, 1, 1, 2, 1, 3, 2, 1, 1, 2],
    ),
    (
        Scheduler::Sed,
        [1, 5, 2, 7],
        &[4, 2, 4, 2, 4, 3, 4, 2, 4, 2, 4, 4, 3, 2],
    ),
    (
        Scheduler::Nq,
        [3, 2, 1, 0],
        &[3, 2, 1, 1, 2, 1, 1, 2, 1, 3, 2, 1, 1, 2],
    ),
    (
        Scheduler::Nq,
        [1, 5, 2, 7],
        &[4, 3, 2, 1, 4, 2, 4, 4, 2, 4, 2, 4, 4, 3],
    ),
    (Scheduler::Fo, [1, 5, 2, 7], &[4, 4, 4, 4]),
    (
        Scheduler::Ovf,
        [1, 5, 2, 7],
        &[4, 4, 4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2, 3, 3, 3, 1],
    ),
    // What asks for one address goes to one server, as long as that one is not busy.
    (Scheduler::Lblc, [1, 5, 2, 7], &[4, 4, 4, 4, 4, 4, 4, 4, 3]),
];

const SERVERS: [Ipv4Addr; 4] = [RS1, RS2, RS3, RS4];

/// Opens a connection from each port; the numbers of the servers they went to.
fn served(s: &mut Stage<'_>, ports: impl IntoIterator<Item = u16>) -> Vec<usize> {
    asked(s, ports.into_iter().map(|port| (CLIENT, port)))
}

/// Opens a connection from each client; the numbers of the servers they went to, 0 for a refusal.
fn asked(s: &mut Stage<'_>, clients: impl IntoIterator<Item = (Ipv4Addr, u16)>) -> Vec<usize> {
    let ask = |client| {
        let seen = s.client_sends(Frame::tcp(client, (VIP, 80), SYN));
        if seen.counted == ["no-destination"] {
            return 0;
        }
        let to = seen.sent().destination;
        1 + SERVERS.iter().position(|rip| mac_of(*rip) == to).unwrap()
    };
    clients.into_iter().map(ask).collect()
}

/// A thousand servers by NAT, told apart by their ports 1001 to 2000, in the order they are added.
fn thousand(weight: impl Fn(u16) -> u32) -> Vec<ServerSpec> {
    (1..=1000)
        .map(|n| {
            let rip = SERVERS[usize::from(n) % 4];
            server(rip, 1000 + n, Forwarding::Masquerade, weight(n))
        })
        .collect()
}

/// Opens connections to a service of [`thousand`] servers; their numbers.
fn numbers(s: &mut Stage<'_>, ports: impl IntoIterator<Item = u16>) -> Vec<u16> {
    let ask = |port| s.client_sends(client_tcp(port, SYN)).sent_as().2.1 - 1000;
    ports.into_iter().map(ask).collect()
}

fn with_thresholds(server: ServerSpec, upper_threshold: u32, lower_threshold: u32) -> ServerSpec {
    ServerSpec {
        upper_threshold,
        lower_threshold,
        ..server
    }
}

#[test]
fn schedulers_choose_as_the_kernel_does() {
    World::with(|world| {
        for (scheduler, weights, expected) in CASES {
            for method in [Forwarding::Masquerade, Forwarding::Route] {
                let row = format!("{scheduler} {weights:?}");
                world.play(&row, Hooks::Agree, |s| {
                    let servers: Vec<_> = SERVERS
                        .iter()
                        .zip(weights)
                        .map(|(rip, weight)| server(*rip, 80, method, *weight))
                        .collect();
                    s.tcp_service(*scheduler, &servers);
                    let ports = 40000..40000 + expected.len() as u16;
                    assert_eq!(served(s, ports), *expected);
                });
            }
        }
        world.play("wlc counts a closed connection little", Hooks::Agree, |s| {
            let servers = [RS1, RS2].map(|rip| server(rip, 80, Forwarding::Route, 1));
            s.tcp_service(Scheduler::Wlc, &servers);
            assert_eq!(served(s, [40000, 40001, 40002]), [2, 1, 2]);
            for port in [40000, 40002] {
                s.client_sends(client_tcp(port, ACK)).sent();
                s.client_sends(client_tcp(port, RST)).sent();
            }
            assert_eq!(
                served(s, [40003]),
                [2],
                "two inactive weigh less than one active"
            );
            assert_eq!(served(s, [40004]), [1], "257 and 2 against 257");
        });
        world.play(
            "wlc multiplies large weights without overflow",
            Hooks::Agree,
            |s| {
                let largest = i32::MAX as u32;
                let servers = [(RS1, largest), (RS2, largest / 2)];
                let servers =
                    servers.map(|(rip, weight)| server(rip, 80, Forwarding::Route, weight));
                s.tcp_service(Scheduler::Wlc, &servers);
                let mut counts = [0; 2];
                for number in served(s, 40000..40030) {
                    counts[number - 1] += 1;
                }
                assert_eq!(counts, [20, 10]);
            },
        );
        world.play(
            "a change of weight takes effect with the next connection",
            Hooks::Agree,
            |s| {
                let with = |rip, weight| server(rip, 80, Forwarding::Route, weight);
                let key = s.tcp_service(Scheduler::Rr, &[with(RS1, 1), with(RS2, 1)]);
                assert_eq!(served(s, [40000]), [2]);
                s.tables().edit_server(&key, &with(RS1, 0)).unwrap();
                assert_eq!(served(s, [40001, 40002]), [2, 2]);
                s.tables().edit_server(&key, &with(RS1, 1)).unwrap();
                assert_eq!(served(s, [40003, 40004]), [1, 2]);
                assert_eq!(Weight::new(1), Some(Weight::DEFAULT));
                s.client_sends(client_tcp(40000, SYN)).sent();
            },
        );
    });
}

#[test]
fn a_thousand_servers_are_looked_at_and_chosen_from_as_four_are() {
    World::with(|world| {
        // So few that the small table of these tests evicts none, which counts would show.
        let newest_first: Vec<u16> = (881..=1000).rev().collect();
        world.play("a thousand equals", Hooks::Agree, |s| {
            let key = s.tcp_service(Scheduler::Rr, &thousand(|_| 1));
            for scheduler in [
                Scheduler::Rr,
                Scheduler::Wrr,
                Scheduler::Lc,
                Scheduler::Wlc,
                Scheduler::Sed,
                Scheduler::Nq,
            ] {
                s.tables().clear_connections();
                s.tables()
                    .edit_service(&ServiceSpec::new(key, Scheduler::None))
                    .unwrap();
                s.tables()
                    .edit_service(&ServiceSpec::new(key, scheduler))
                    .unwrap();
                assert_eq!(numbers(s, 40000..40120), newest_first, "{scheduler}");
                assert_eq!(s.tables().evictions(), 0, "{scheduler}");
            }
            s.tables().edit_server(&key, &thousand(|_| 3)[6]).unwrap();
            for (scheduler, expected) in [
                (Scheduler::Fo, [7, 7, 7, 7, 7]),
                (Scheduler::Ovf, [7, 7, 7, 7, 1000]),
                (Scheduler::Wlc, [1000, 999, 998, 997, 996]),
                (Scheduler::Sed, [7, 7, 1000, 999, 998]),
            ] {
                s.tables().clear_connections();
                s.tables()
                    .edit_service(&ServiceSpec::new(key, scheduler))
                    .unwrap();
                assert_eq!(numbers(s, 40000..40005), expected, "{scheduler}");
            }
        });
        world.play("more than 1,024 with a weight", Hooks::Agree, |s| {
            let key = s.tcp_service(Scheduler::None, &thousand(|_| 1));
            let more = |n: u16| server(RS1, 3000 + n, Forwarding::Masquerade, 1);
            for n in 0..25 {
                s.tables().add_server(&key, &more(n)).unwrap();
            }
            for scheduler in [Scheduler::Mh, Scheduler::Wlc] {
                let spec = ServiceSpec::new(key, scheduler);
                let refused = s.tables().edit_service(&spec).unwrap_err();
                assert!(refused.to_string().contains("1024 at most"), "{refused}");
                let kept = s.tables().service(&key).unwrap().spec.scheduler;
                assert_eq!(kept, Scheduler::None);
            }
            s.tables().delete_server(&key, &more(24).key).unwrap();
            let mut spec = ServiceSpec::new(key, Scheduler::Mh);
            spec.sched_flags = SchedFlags::FLAG_1 | SchedFlags::FLAG_2;
            s.tables().edit_service(&spec).unwrap();
            let ask = |s: &mut Stage<'_>, port| s.client_sends(client_tcp(port, SYN)).sent_as().2.1;
            let first: Vec<_> = (40000..40100).map(|port| ask(s, port)).collect();
            let different: std::collections::HashSet<_> = first.iter().collect();
            assert!(different.len() > 80, "{} servers", different.len());
        });
    });
}

#[test]
fn overloaded_servers_are_passed_over() {
    World::with(|world| {
        world.play(
            "a threshold refuses, and lets in again",
            Hooks::Agree,
            |s| {
                let one = with_thresholds(server(RS1, 80, Forwarding::Masquerade, 1), 2, 1);
                let key = s.tcp_service(Scheduler::Wlc, &[one]);
                assert_eq!(served(s, 40000..40003), [1, 1, 0]);
                // Total 1 is not below the lower threshold; 0 is.
                s.tables().edit_server(&key, &one).unwrap();
                assert_eq!(served(s, [40003]), [0]);
                s.age(61);
                s.tables().sweep();
                assert_eq!(served(s, [40004, 40005, 40006]), [1, 1, 0]);
                let more = with_thresholds(one, 4, 3);
                s.tables().edit_server(&key, &more).unwrap();
                assert_eq!(served(s, 40007..40010), [1, 1, 0]);
                let none = with_thresholds(one, 0, 0);
                s.tables().edit_server(&key, &none).unwrap();
                assert_eq!(served(s, 40010..40012), [1, 1]);
            },
        );
        world.play(
            "every scheduler refuses when all are full",
            Hooks::Agree,
            |s| {
                // lblc does not ask whether the server it remembers is overloaded, as the kernel.
                let all = Scheduler::ALL.into_iter();
                for scheduler in all.filter(|s| *s != Scheduler::Lblc) {
                    s.tables().flush();
                    s.tables().clear_connections();
                    let full = |rip| with_thresholds(server(rip, 80, Forwarding::Route, 3), 1, 1);
                    let key = s.tcp_service(scheduler, &[full(RS1)]);
                    let first = usize::from(scheduler != Scheduler::None);
                    assert_eq!(served(s, [40000, 40001]), [first, 0], "{scheduler}");
                    s.tables().add_server(&key, &full(RS2)).unwrap();
                    let mut spec = ServiceSpec::new(key, scheduler);
                    spec.sched_flags = SchedFlags::FLAG_1;
                    s.tables().edit_service(&spec).unwrap();
                    let second = served(s, [40002])[0];
                    assert!(second != 1, "{scheduler}: RS1 is full");
                    if scheduler != Scheduler::Dh {
                        assert_eq!(second, 2 * first, "{scheduler}");
                    }
                    assert_eq!(served(s, 40003..40010), [0; 7], "{scheduler}");
                }
            },
        );
        world.play("all but one of a thousand are full", Hooks::Agree, |s| {
            let mut servers = thousand(|n| if n > 500 { 1000 } else { 1 });
            for server in &mut servers {
                if server.key.port != 1003 {
                    (server.upper_threshold, server.lower_threshold) = (1, 1);
                }
            }
            let key = s.tcp_service(Scheduler::None, &servers);
            // As if each had a connection of long ago; servers in the trash are others'.
            let hold = |s: &mut Stage<'_>, connections: u32| {
                let maps = s.tables().maps();
                for index in 0..maps.servers.len() {
                    let at = maps.servers.at(index).unwrap();
                    // SAFETY: within the map; nothing else runs.
                    unsafe {
                        if (*at).flags & SERVER_AVAILABLE != 0 && (*at).upper_threshold != 0 {
                            (*at).inactive = connections;
                            overload::update(maps, index, at);
                        }
                    }
                }
            };
            hold(s, 1);
            for scheduler in [Scheduler::Rr, Scheduler::Wrr, Scheduler::Wlc, Scheduler::Fo] {
                s.tables().clear_connections();
                s.tables()
                    .edit_service(&ServiceSpec::new(key, scheduler))
                    .unwrap();
                assert_eq!(numbers(s, 40000..40003), [3, 3, 3], "{scheduler}");
            }
            hold(s, 0);
        });
    });
}

#[test]
fn twos_draws_by_weight_and_takes_the_better() {
    World::with(|world| {
        world.play_at_random("loads follow weights", |s| {
            let servers: Vec<_> = SERVERS
                .iter()
                .zip(1..)
                .map(|(rip, weight)| server(*rip, 53, Forwarding::Route, weight))
                .collect();
            s.service(Protocol::Udp, 53, Scheduler::Twos, &servers);
            for port in 40000..40500 {
                s.client_sends(Frame::udp((CLIENT, port), (VIP, 53), b"?"))
                    .sent();
            }
            let held: Vec<u32> = s.servers().iter().rev().map(|s| s.inactive).collect();
            for (held, weight) in held.iter().zip(1..) {
                assert!(
                    held.abs_diff(50 * weight) <= 10,
                    "{held:?} at weight {weight}"
                );
            }
        });
        world.play_at_random("without load the newest has a part more", |s| {
            let servers = [RS1, RS2, RS3].map(|rip| server(rip, 80, Forwarding::Route, 1));
            s.tcp_service(Scheduler::Twos, &servers);
            let mut counts = [0u32; 3];
            for port in 0..1600 {
                counts[served(s, [40000 + port])[0] - 1] += 1;
                s.tables().clear_connections();
            }
            // 1/4, 1/4 and 1/2, within five standard deviations.
            for (count, expected) in counts.into_iter().zip([400u32, 400, 800]) {
                assert!(count.abs_diff(expected) < 100, "{counts:?}");
            }
        });
        world.play_at_random("weight zero and overload", |s| {
            let weights = [(RS1, 0), (RS2, 1), (RS3, 5), (RS4, 0)];
            let servers = weights.map(|(rip, weight)| {
                with_thresholds(server(rip, 80, Forwarding::Route, weight), 2, 1)
            });
            s.tcp_service(Scheduler::Twos, &servers);
            let mut served = served(s, 40000..40006);
            served.sort_unstable();
            assert_eq!(served, [0, 0, 2, 2, 3, 3]);
        });
    });
}

#[test]
fn a_scheduler_is_changed_under_way() {
    World::with(|world| {
        world.play("edits", Hooks::Agree, |s| {
            let servers = SERVERS.map(|rip| server(rip, 80, Forwarding::Route, 100));
            let key = s.tcp_service(Scheduler::Rr, &servers);
            assert_eq!(served(s, [40000]), [4]);
            let all = Scheduler::ALL.into_iter();
            let all = all.filter(|scheduler| *scheduler != Scheduler::Twos);
            for (scheduler, port) in all.zip(40001..) {
                s.tables()
                    .edit_service(&ServiceSpec::new(key, scheduler))
                    .unwrap();
                let kept = s.tables().service(&key).unwrap().spec.scheduler;
                assert_eq!(kept, scheduler);
                let to = served(s, [port])[0];
                assert_eq!(to == 0, scheduler == Scheduler::None, "{scheduler}");
            }
        });
    });
}
