//! Schedulers make the choices of the kernel's IPVS. Servers are added in the order 1, 2, 3, 4; each
//! sequence was observed on the kernel.

use pointsman_model::{Forwarding, Scheduler, Weight};

use crate::frame::{ACK, RST, SYN};
use crate::world::{Hooks, RS1, RS2, RS3, RS4, Stage, World, client_tcp, server};

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
];

const SERVERS: [std::net::Ipv4Addr; 4] = [RS1, RS2, RS3, RS4];

/// Opens a connection from each port; the numbers of the servers they went to.
fn served(s: &mut Stage<'_>, ports: impl IntoIterator<Item = u16>) -> Vec<usize> {
    ports
        .into_iter()
        .map(|port| {
            let rip = s.syn(port);
            1 + SERVERS.iter().position(|server| *server == rip).unwrap()
        })
        .collect()
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
