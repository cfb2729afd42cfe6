//! Lives of connections: states, active and inactive counts, timeouts, reuse of ports.

use pointsman_model::ConnectionState::{
    self, Close, CloseWait, Established, FinWait, SynRecv, TimeWait,
};
use pointsman_model::{Handshakes, Protocol, Scheduler, Timeouts};

use crate::frame::{ACK, FIN, Frame, RST, SYN};
use crate::world::{
    CLIENT, Hooks, RS1, RS2, Side, Stage, VIP, World, client_tcp, direct, nat, server_tcp, tunnel,
};

/// From which side a packet comes, its flags, the state after it, and whether that is active.
type Step = (Side, u8, ConnectionState, bool);

const NAT_WALKS: &[(&str, &[Step])] = &[
    (
        "the client closes first",
        &[
            (Side::Front, SYN, SynRecv, true),
            (Side::Back, SYN | ACK, SynRecv, true),
            (Side::Front, ACK, Established, true),
            (Side::Front, ACK, Established, true),
            (Side::Back, ACK, Established, true),
            (Side::Front, FIN | ACK, CloseWait, false),
            (Side::Back, ACK, CloseWait, false),
            (Side::Back, FIN | ACK, TimeWait, false),
            (Side::Front, ACK, TimeWait, false),
        ],
    ),
    (
        "the server closes first",
        &[
            (Side::Front, SYN, SynRecv, true),
            (Side::Back, SYN | ACK, SynRecv, true),
            (Side::Front, ACK, Established, true),
            (Side::Back, FIN | ACK, FinWait, false),
            (Side::Front, ACK, FinWait, false),
            (Side::Front, FIN | ACK, TimeWait, false),
            (Side::Back, ACK, TimeWait, false),
        ],
    ),
    (
        "the server refuses",
        &[
            (Side::Front, SYN, SynRecv, true),
            (Side::Back, RST | ACK, Close, false),
        ],
    ),
    (
        "the client resets",
        &[
            (Side::Front, SYN, SynRecv, true),
            (Side::Back, SYN | ACK, SynRecv, true),
            (Side::Front, ACK, Established, true),
            (Side::Front, RST, Close, false),
        ],
    ),
    (
        "a packet without flags closes",
        &[
            (Side::Front, SYN, SynRecv, true),
            (Side::Back, SYN | ACK, SynRecv, true),
            (Side::Front, ACK, Established, true),
            (Side::Front, 0, Close, false),
            (Side::Front, ACK, Close, false),
        ],
    ),
];

const ONE_WAY_WALKS: &[(&str, &[Step])] = &[
    (
        "the client closes",
        &[
            (Side::Front, SYN, SynRecv, true),
            (Side::Front, SYN, SynRecv, true),
            (Side::Front, ACK, Established, true),
            (Side::Front, FIN | ACK, FinWait, false),
            (Side::Front, ACK, FinWait, false),
        ],
    ),
    (
        "the client resets",
        &[
            (Side::Front, SYN, SynRecv, true),
            (Side::Front, ACK, Established, true),
            (Side::Front, RST, Close, false),
        ],
    ),
];

fn walk(s: &mut Stage<'_>, steps: &[Step]) {
    for (i, &(side, flags, state, active)) in steps.iter().enumerate() {
        let seen = match side {
            Side::Front => s.client_sends(client_tcp(40000, flags)),
            _ => s.server_sends(server_tcp(RS1, 40000, flags)),
        };
        seen.sent();
        assert_eq!(s.states(), [state], "after step {i}");
        let counts = if active { (1, 0) } else { (0, 1) };
        assert_eq!(s.counts(), counts, "active and inactive after step {i}");
    }
    assert_eq!(s.totals().conns, 1);
}

#[test]
fn tcp_states_and_counts_are_those_of_ipvs() {
    World::with(|world| {
        for (name, steps) in NAT_WALKS {
            world.play(&format!("NAT: {name}"), Hooks::Agree, |s| {
                s.tcp_service(Scheduler::Rr, &[nat(RS1, 80)]);
                walk(s, steps);
            });
        }
        for (name, steps) in ONE_WAY_WALKS {
            for method in [direct(RS1), tunnel(RS1)] {
                world.play(&format!("replies unseen: {name}"), Hooks::Agree, |s| {
                    s.tcp_service(Scheduler::Rr, &[method]);
                    walk(s, steps);
                });
            }
        }
    });
}

/// Handshakes of the only server.
fn handshakes(s: &mut Stage<'_>) -> Handshakes {
    let keys: Vec<_> = s.tables().keys().copied().collect();
    let of = s.tables().handshakes(&keys);
    let [one] = of[..] else { panic!("{of:?}") };
    one.counts
}

/// One is completed, so that nothing is left of who had the server's place before; what was counted until then.
fn completed(s: &mut Stage<'_>) -> Handshakes {
    // What came since an answer is known for each CPU by itself.
    // SAFETY: all bits zero is an empty set; it lives through the call; 0 is the calling thread.
    unsafe {
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu() as usize, &mut one);
        let pinned = libc::sched_setaffinity(0, size_of_val(&one), &one);
        assert_eq!(pinned, 0, "{}", std::io::Error::last_os_error());
    }
    s.client_sends(client_tcp(1000, SYN)).sent();
    s.client_sends(client_tcp(1000, ACK)).sent();
    handshakes(s)
}

/// Begun, answered, refused; begun and refused since the last answer, less what other CPUs have left.
fn since(s: &mut Stage<'_>, then: Handshakes) -> (u32, u32, u32, u32, u32) {
    let now = handshakes(s);
    (
        now.begun - then.begun,
        now.answered - then.answered,
        now.refused - then.refused,
        now.begun_since - then.begun_since,
        now.refused_since - then.refused_since,
    )
}

#[test]
fn handshakes_are_counted_once_and_as_they_end() {
    World::with(|world| {
        world.play("NAT: refused, answered, silent", Hooks::Agree, |s| {
            s.tcp_service(Scheduler::Rr, &[nat(RS1, 80)]);
            let then = completed(s);
            for port in [1001, 1002] {
                s.client_sends(client_tcp(port, SYN)).sent();
                s.server_sends(server_tcp(RS1, port, RST | ACK)).sent();
            }
            assert_eq!(since(s, then), (2, 0, 2, 2, 2));
            s.client_sends(client_tcp(1003, SYN)).sent();
            s.client_sends(client_tcp(1003, SYN)).sent();
            s.server_sends(server_tcp(RS1, 1003, SYN | ACK)).sent();
            assert_eq!(
                since(s, then),
                (3, 0, 2, 3, 2),
                "the client has not spoken yet"
            );
            s.age(1);
            for _ in 0..3 {
                s.client_sends(client_tcp(1003, ACK)).sent();
                s.server_sends(server_tcp(RS1, 1003, ACK)).sent();
            }
            assert_eq!(since(s, then), (3, 1, 2, 0, 0));
            s.server_sends(server_tcp(RS1, 1003, RST)).sent();
            s.client_sends(client_tcp(1004, SYN)).sent();
            assert_eq!(since(s, then), (4, 1, 2, 1, 0), "an end is no refusal");
            let waited = handshakes(s).waited - then.waited;
            let hz = s.tables().hz();
            assert!(
                (hz..=2 * hz).contains(&waited),
                "{waited} ticks for a second"
            );
        });
        for method in [direct(RS1), tunnel(RS1)] {
            world.play("replies unseen", Hooks::Agree, |s| {
                s.tcp_service(Scheduler::Rr, &[method]);
                let then = completed(s);
                s.client_sends(client_tcp(1001, SYN)).sent();
                s.client_sends(client_tcp(1002, SYN)).sent();
                s.client_sends(client_tcp(1002, RST)).sent();
                assert_eq!(since(s, then), (2, 0, 0, 2, 0));
                s.client_sends(client_tcp(1001, ACK)).sent();
                s.client_sends(client_tcp(1001, FIN | ACK)).sent();
                assert_eq!(since(s, then), (2, 1, 0, 0, 0));
            });
        }
    });
}

#[test]
fn a_syn_on_the_ports_of_a_closed_connection_is_scheduled_anew() {
    World::with(|world| {
        let close: &[(&str, &[(Side, u8)])] = &[
            ("CLOSE", &[(Side::Front, RST)]),
            (
                "TIME_WAIT",
                &[(Side::Front, FIN | ACK), (Side::Back, FIN | ACK)],
            ),
        ];
        for (state, steps) in close {
            world.play(&format!("a SYN in {state}"), Hooks::Agree, |s| {
                s.tcp_service(Scheduler::Rr, &[nat(RS1, 80), nat(RS2, 80)]);
                assert_eq!(s.syn(40000), RS2);
                s.server_sends(server_tcp(RS2, 40000, SYN | ACK)).sent();
                s.client_sends(client_tcp(40000, ACK)).sent();
                for &(side, flags) in *steps {
                    match side {
                        Side::Front => s.client_sends(client_tcp(40000, flags)).sent(),
                        _ => s.server_sends(server_tcp(RS2, 40000, flags)).sent(),
                    };
                }
                assert_eq!(s.counts(), (0, 1));
                assert_eq!(s.syn(40000), RS1, "the next server in turn");
                assert_eq!((s.counts(), s.states()), ((1, 0), vec![SynRecv]));
                s.server_sends(server_tcp(RS1, 40000, SYN | ACK)).sent();
                s.server_sends(server_tcp(RS2, 40000, ACK))
                    .passes_untouched();
            });
        }
        world.play(
            "a SYN in ESTABLISHED and FIN_WAIT stays",
            Hooks::Agree,
            |s| {
                s.tcp_service(Scheduler::Rr, &[direct(RS1), direct(RS2)]);
                for flags in [SYN, ACK, SYN, FIN | ACK, SYN] {
                    let to = s.client_sends(client_tcp(40000, flags)).sent().destination;
                    assert_eq!(to, crate::world::mac_of(RS2));
                }
                assert_eq!(s.totals().conns, 1);
            },
        );
    });
}

#[test]
fn connections_lapse_when_their_time_is_over_and_no_sooner() {
    World::with(|world| {
        world.play("traffic keeps a connection", Hooks::Agree, |s| {
            s.tcp_service(Scheduler::Rr, &[nat(RS1, 80)]);
            s.syn(40000);
            s.client_sends(client_tcp(40000, ACK)).sent();
            for _ in 0..3 {
                s.age(890);
                s.client_sends(client_tcp(40000, ACK)).sent();
            }
            assert_eq!(s.tables().sweep().live, 1);
            s.age(902);
            s.client_sends(client_tcp(40000, ACK)).passes_untouched();
            s.server_sends(server_tcp(RS1, 40000, ACK))
                .passes_untouched();
            assert_eq!(
                (s.states(), s.counts()),
                (vec![], (1, 0)),
                "until the sweep"
            );
            let swept = s.tables().sweep();
            assert_eq!((swept.live, swept.lapsed, s.counts()), (0, 1, (0, 0)));
        });
        world.play("a long download keeps both directions", Hooks::Agree, |s| {
            s.tcp_service(Scheduler::Rr, &[nat(RS1, 80)]);
            s.syn(40000);
            s.client_sends(client_tcp(40000, ACK)).sent();
            for _ in 0..5 {
                s.age(600);
                s.server_sends(server_tcp(RS1, 40000, ACK)).sent();
                assert_eq!(s.tables().sweep().live, 1);
            }
            s.client_sends(client_tcp(40000, ACK)).sent();
        });
        world.play(
            "a half-open connection lapses after its 60 seconds",
            Hooks::Agree,
            |s| {
                s.tcp_service(Scheduler::Rr, &[nat(RS1, 80), nat(RS2, 80)]);
                assert_eq!(s.syn(40000), RS2);
                s.age(58);
                assert_eq!(s.syn(40000), RS2, "a repeated SYN");
                s.age(62);
                assert_eq!(s.syn(40000), RS1, "a new connection");
                // The lapsed one gave its slot up, or waits for the sweep.
                s.tables().sweep();
                assert_eq!(s.counts(), (1, 0));
            },
        );
        world.play("timeouts as set", Hooks::Agree, |s| {
            s.tcp_service(Scheduler::Rr, &[direct(RS1)]);
            let times = Timeouts {
                tcp: 20,
                tcp_fin: 5,
                udp: 7,
            };
            s.tables().set_timeouts(times);
            assert_eq!(s.tables().timeouts(), times);
            s.service(Protocol::Udp, 53, Scheduler::Rr, &[direct(RS1)]);
            let datagram = || Frame::udp((CLIENT, 40000), (VIP, 53), b"");
            s.syn(40000);
            s.client_sends(client_tcp(40000, ACK)).sent();
            s.client_sends(datagram()).sent();
            s.age(8);
            assert_eq!(s.states(), [Established], "UDP is over");
            s.age(10);
            s.client_sends(client_tcp(40000, FIN | ACK)).sent();
            assert_eq!(s.states(), [FinWait]);
            s.age(6);
            assert_eq!(s.states(), []);
            let swept = s.tables().sweep();
            assert_eq!((swept.live, swept.lapsed), (0, 2));
        });
        world.play(
            "a change of timeouts leaves running timers alone",
            Hooks::Agree,
            |s| {
                s.tcp_service(Scheduler::Rr, &[direct(RS1)]);
                s.syn(40000);
                s.client_sends(client_tcp(40000, ACK)).sent();
                s.tables().set_timeouts(Timeouts {
                    tcp: 10,
                    tcp_fin: 0,
                    udp: 0,
                });
                s.age(800);
                s.client_sends(client_tcp(40000, ACK)).sent();
                s.age(11);
                s.client_sends(client_tcp(40000, ACK)).passes_untouched();
            },
        );
    });
}
