//! Choices that the kernel's IPVS (Linux 6.12) made, replayed: UDP from clients 203.0.113.1 and following
//! to four servers 192.168.0.10, .20, .30, .40 on port 80, added in this order. Digits are numbers of
//! servers, 0 a refusal.

use std::net::Ipv4Addr;

use pointsman_model::{
    Forwarding, Protocol, SchedFlags, Scheduler, ServerSpec, ServiceKey, ServiceSpec,
};

use crate::frame::Frame;
use crate::world::{Hooks, RS1, RS2, RS3, RS4, Stage, VIP, World, mac_of, server};

const SERVERS: [Ipv4Addr; 4] = [RS1, RS2, RS3, RS4];

/// Scheduler, fallback, port; weights when added and after an edit; choices for the source ports from
/// 30000 on.
type Hashed = (Scheduler, bool, bool, [u32; 4], [u32; 4], &'static str);

#[rustfmt::skip]
const HASHED: &[Hashed] = &[
    (Scheduler::Sh, false, false, [3, 2, 1, 4], [3, 2, 1, 4],
        "4121223434441412121242444444111113234344"),
    (Scheduler::Sh, false, true, [3, 2, 1, 4], [3, 2, 1, 4],
        "2441133444111144441222444412333111144441"),
    (Scheduler::Sh, false, false, [3, 2, 1, 4], [3, 0, 1, 4],
        "0441011144444034104114414403410411441440"),
    (Scheduler::Sh, false, false, [3, 0, 1, 4], [3, 0, 1, 4],
        "0441011144444034104114414403410411441440"),
    (Scheduler::Sh, true, false, [3, 2, 1, 4], [3, 2, 1, 0],
        "3222211133222111331221113311211223111312"),
    (Scheduler::Sh, true, true, [0, 0, 1, 0], [0, 0, 1, 0],
        "3333333333333333333333333333333333333333"),
    (Scheduler::Sh, true, false, [1, 1, 1, 1], [0, 0, 1, 0],
        "3333333333333333333333333333333333333333"),
    (Scheduler::Mh, false, false, [3, 2, 1, 4], [3, 2, 1, 4],
        "4431411431342212424444432121421214224424"),
    (Scheduler::Mh, false, true, [3, 2, 1, 4], [3, 2, 1, 4],
        "2134121214111424141414343142441444443142"),
    (Scheduler::Mh, false, false, [3, 2, 1, 4], [3, 0, 1, 4],
        "4431411431340010404444430101401014004404"),
    (Scheduler::Mh, false, false, [3, 0, 1, 4], [3, 0, 1, 4],
        "4431411431344311444444433141411414444434"),
    (Scheduler::Mh, true, false, [3, 2, 1, 4], [3, 2, 1, 0],
        "1131111131312212323232132121221212221321"),
    (Scheduler::Mh, true, true, [0, 0, 1, 0], [0, 0, 1, 0],
        "3333333333333333333333333333333333333333"),
    (Scheduler::Mh, true, false, [1, 1, 1, 1], [0, 0, 1, 0],
        "3333333333333333333333333333333333333333"),
];

/// Scheduler, weights, upper and lower thresholds, choices.
type Full = (Scheduler, [u32; 4], [(u32, u32); 4], &'static str);

#[rustfmt::skip]
const FULL: &[Full] = &[
    (Scheduler::Rr, [1, 1, 1, 1], [(0, 0), (2, 1), (0, 0), (1, 1)], "432132131313131313131313"),
    (Scheduler::Rr, [1, 1, 1, 1], [(2, 1), (2, 1), (2, 1), (2, 1)], "432143210000000000000000"),
    (Scheduler::Wrr, [1, 5, 2, 7], [(0, 0), (0, 0), (0, 0), (3, 1)], "432144222323212223232122"),
    (Scheduler::Wrr, [1, 5, 2, 7], [(0, 0), (2, 1), (0, 0), (3, 1)], "432144233133133133133133"),
    (Scheduler::Wrr, [1, 5, 2, 700], [(0, 0), (4, 2), (0, 0), (3, 1)], "432144222331331331331331"),
    (Scheduler::Wrr, [3, 3, 1, 1], [(2, 1), (0, 0), (1, 1), (0, 0)], "432121242224222422242224"),
    (Scheduler::Wrr, [4, 2, 2, 4], [(2, 1), (3, 1), (4, 1), (2, 1)], "432141323230000000000000"),
    (Scheduler::Lc, [1, 1, 1, 1], [(0, 0), (2, 1), (0, 0), (1, 1)], "432132131313131313131313"),
    (Scheduler::Wlc, [1, 5, 2, 7], [(0, 0), (2, 1), (0, 0), (3, 1)], "432142433133133133133133"),
];

fn servers(weights: [u32; 4], thresholds: [(u32, u32); 4]) -> Vec<ServerSpec> {
    let of = |((rip, weight), (upper_threshold, lower_threshold))| ServerSpec {
        upper_threshold,
        lower_threshold,
        ..server(rip, 80, Forwarding::Masquerade, weight)
    };
    SERVERS
        .into_iter()
        .zip(weights)
        .zip(thresholds)
        .map(of)
        .collect()
}

/// Asks from `count` clients, each with the next port from `first` on.
fn choices(s: &mut Stage<'_>, first: u16, count: usize) -> String {
    let ask = |i: u16| {
        let client = (Ipv4Addr::new(203, 0, 113, 1 + i as u8), first + i);
        let seen = s.client_sends(Frame::udp(client, (VIP, 53), b"?"));
        if seen.counted == ["no-destination"] {
            return '0';
        }
        let to = seen.sent().destination;
        let at = SERVERS.iter().position(|rip| mac_of(*rip) == to);
        char::from(b'1' + at.expect("sent to a server") as u8)
    };
    (0..count as u16).map(ask).collect()
}

fn service(s: &mut Stage<'_>, scheduler: Scheduler, servers: &[ServerSpec]) -> ServiceKey {
    s.service(Protocol::Udp, 53, scheduler, servers)
}

#[test]
fn hashes_fall_where_the_kernel_puts_them() {
    World::with(|world| {
        for &(scheduler, fallback, port, added, edited, expected) in HASHED {
            let row = format!("{scheduler} {fallback} {port} {added:?} {edited:?}");
            world.play(&row, Hooks::Agree, |s| {
                let key = service(s, scheduler, &servers(added, [(0, 0); 4]));
                let mut spec = ServiceSpec::new(key, scheduler);
                if fallback {
                    spec.sched_flags = spec.sched_flags | SchedFlags::FLAG_1;
                }
                if port {
                    spec.sched_flags = spec.sched_flags | SchedFlags::FLAG_2;
                }
                s.tables().edit_service(&spec).unwrap();
                for server in servers(edited, [(0, 0); 4]) {
                    s.tables().edit_server(&key, &server).unwrap();
                }
                assert_eq!(choices(s, 30000, expected.len()), expected, "{row}");
            });
        }
        world.play(
            "dh refuses what falls on a quiesced server",
            Hooks::Agree,
            |s| {
                let key = service(s, Scheduler::Dh, &servers([0, 0, 0, 1], [(0, 0); 4]));
                assert_eq!(choices(s, 30000, 3), "444");
                let quiesced = server(RS4, 80, Forwarding::Masquerade, 0);
                s.tables().edit_server(&key, &quiesced).unwrap();
                assert_eq!(choices(s, 31000, 3), "000");
            },
        );
    });
}

#[test]
fn full_servers_are_passed_over_as_in_the_kernel() {
    World::with(|world| {
        for &(scheduler, weights, thresholds, expected) in FULL {
            let row = format!("{scheduler} {weights:?} {thresholds:?}");
            world.play(&row, Hooks::Agree, |s| {
                service(s, scheduler, &servers(weights, thresholds));
                assert_eq!(choices(s, 32000, expected.len()), expected, "{row}");
            });
        }
        world.play("thresholds are edited", Hooks::Agree, |s| {
            let key = service(s, Scheduler::Rr, &servers([1; 4], [(0, 0); 4]));
            assert_eq!(choices(s, 33000, 8), "43214321");
            for (first, thresholds, expected) in [
                (33100, (2, 1), "3213"),
                (33200, (3, 1), "2132"),
                (33300, (3, 3), "14321"),
                (33400, (0, 0), "4321"),
            ] {
                let last = servers([1; 4], [thresholds; 4])[3];
                s.tables().edit_server(&key, &last).unwrap();
                assert_eq!(
                    choices(s, first, expected.len()),
                    expected,
                    "{thresholds:?}"
                );
            }
        });
    });
}
