//! SCTP: states both ways, CRC32c through NAT, what opens an association.

use pointsman_model::ConnectionState::{
    self, Closed, Cookie, CookieEchoed, CookieReplied, CookieSent, CookieWait, Established, Init,
    Init1, Rejected, ShutdownAckSent, ShutdownReceived, ShutdownSent,
};
use pointsman_model::{Protocol, Variable};

use crate::packet::Packet;
use crate::world::{CLIENT_MAC, Hooks, NET4, NET6, Net, Side, Stage, World, mac_of, service};

const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const ERROR: u8 = 9;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

fn request(net: &Net, chunks: &[u8]) -> Packet {
    Packet::sctp(net.client(40000), net.vip(3868), chunks, b"")
}

fn reply(net: &Net, chunks: &[u8]) -> Packet {
    Packet::sctp(net.rs(0, 3869), net.client(40000), chunks, b"")
}

fn nat_service(s: &mut Stage<'_>, net: &Net) {
    s.serve(&service(Protocol::Sctp, net.vip(3868)), &[net.nat(0, 3869)]);
}

/// Side a packet comes from, its chunks, the state after it.
type Step = (Side, &'static [u8], ConnectionState);

const WALKS: &[(&str, &[Step])] = &[
    (
        "opened and closed by the client",
        &[
            (Side::Front, &[INIT], Init1),
            (Side::Front, &[INIT], Init),
            (Side::Back, &[INIT_ACK], CookieSent),
            (Side::Front, &[COOKIE_ECHO, DATA], CookieReplied),
            (Side::Back, &[COOKIE_ACK], Established),
            (Side::Front, &[DATA], Established),
            (Side::Back, &[SACK], Established),
            (Side::Front, &[HEARTBEAT], Established),
            (Side::Front, &[SHUTDOWN], ShutdownReceived),
            (Side::Back, &[SHUTDOWN_ACK], ShutdownAckSent),
            (Side::Front, &[SHUTDOWN_COMPLETE], Closed),
            (Side::Front, &[DATA], Closed),
        ],
    ),
    (
        "closed by the server",
        &[
            (Side::Front, &[INIT], Init1),
            (Side::Back, &[INIT_ACK], CookieSent),
            (Side::Front, &[COOKIE_ECHO], CookieReplied),
            (Side::Back, &[COOKIE_ACK], Established),
            (Side::Back, &[SHUTDOWN], ShutdownSent),
            (Side::Front, &[SHUTDOWN_ACK], Closed),
        ],
    ),
    (
        "refused by the server",
        &[
            (Side::Front, &[INIT], Init1),
            (Side::Back, &[ABORT], Rejected),
        ],
    ),
    (
        "aborted by the client",
        &[
            (Side::Front, &[INIT], Init1),
            (Side::Back, &[INIT_ACK], CookieSent),
            (Side::Front, &[COOKIE_ECHO], CookieReplied),
            (Side::Back, &[COOKIE_ACK], Established),
            (Side::Front, &[ABORT], Closed),
        ],
    ),
    (
        "an abort bundled behind a cookie",
        &[
            (Side::Front, &[INIT], Init1),
            (Side::Back, &[INIT_ACK], CookieSent),
            (Side::Front, &[COOKIE_ECHO, ABORT], Closed),
        ],
    ),
    (
        "an abort bundled behind anything else is not looked for",
        &[
            (Side::Front, &[INIT], Init1),
            (Side::Back, &[INIT_ACK], CookieSent),
            (Side::Front, &[DATA, ABORT], CookieSent),
        ],
    ),
    (
        "both begin",
        &[
            (Side::Front, &[INIT], Init1),
            (Side::Back, &[INIT], CookieWait),
            (Side::Front, &[INIT_ACK], Cookie),
            (Side::Back, &[COOKIE_ECHO], CookieEchoed),
            (Side::Front, &[COOKIE_ACK], Established),
        ],
    ),
    (
        "an error while it is set up",
        &[
            (Side::Front, &[INIT], Init1),
            (Side::Back, &[ERROR], Closed),
            (Side::Front, &[INIT], Init1),
        ],
    ),
];

const ONE_WAY: &[Step] = &[
    (Side::Front, &[INIT], Init1),
    (Side::Front, &[COOKIE_ECHO], Established),
    (Side::Front, &[SACK], Established),
    (Side::Front, &[SHUTDOWN_ACK], Closed),
];

#[test]
fn states_and_counts_are_those_of_ipvs() {
    World::with(|world| {
        for net in [NET4, NET6] {
            for (name, steps) in WALKS {
                world.play(&format!("{name}, {}", net.vip), Hooks::Agree, |s| {
                    nat_service(s, &net);
                    walk(s, &net, steps);
                });
            }
            world.play(&format!("replies unseen, {}", net.vip), Hooks::Agree, |s| {
                s.serve(
                    &service(Protocol::Sctp, net.vip(3868)),
                    &[net.direct(0, 3868)],
                );
                walk(s, &net, ONE_WAY);
            });
        }
    });
}

fn walk(s: &mut Stage<'_>, net: &Net, steps: &[Step]) {
    for (i, &(side, chunks, state)) in steps.iter().enumerate() {
        match side {
            Side::Front => s.in_front(&request(net, chunks)).sent_to(mac_of(net.rs[0])),
            _ => s.behind(&reply(net, chunks)).sent_to(CLIENT_MAC),
        };
        assert_eq!(s.states(), [state], "after step {i}");
        let counts = if state == Established { (1, 0) } else { (0, 1) };
        assert_eq!(s.counts(), counts, "active and inactive after step {i}");
    }
}

#[test]
fn the_checksum_follows_the_port() {
    World::with(|world| {
        for net in [NET4, NET6] {
            world.play(&format!("CRC32c, {}", net.vip), Hooks::Agree, |s| {
                nat_service(s, &net);
                s.in_front(&request(&net, &[INIT])).sent();
                for len in [0, 1, 2, 3, 100, 777, 1400] {
                    let payload: Vec<u8> = (0..len).map(|i| (i * 7 + 3) as u8).collect();
                    let asked = Packet::sctp(net.client(40000), net.vip(3868), &[DATA], &payload);
                    let sent = s.in_front(&asked).sent_to(mac_of(net.rs[0]));
                    assert_eq!(sent.sockets(), (net.client(40000), net.rs(0, 3869)));
                    assert_eq!(sent.body[12..], asked.body[12..]);
                    sent.check().unwrap();
                    let answer =
                        Packet::sctp(net.rs(0, 3869), net.client(40000), &[DATA], &payload);
                    let sent = s.behind(&answer).sent_to(CLIENT_MAC);
                    assert_eq!(sent.sockets(), (net.vip(3868), net.client(40000)));
                    sent.check().unwrap();
                }
            });
            world.play(&format!("the same port, {}", net.vip), Hooks::Agree, |s| {
                s.serve(&service(Protocol::Sctp, net.vip(3868)), &[net.nat(0, 3868)]);
                let asked = request(&net, &[INIT]);
                let sent = s.in_front(&asked).sent_to(mac_of(net.rs[0]));
                assert_eq!(sent.body, asked.body);
            });
        }
    });
}

#[test]
fn what_opens_an_association() {
    World::with(|world| {
        for net in [NET4, NET6] {
            world.play(&format!("openers, {}", net.vip), Hooks::Agree, |s| {
                nat_service(s, &net);
                for chunk in [DATA, INIT_ACK, SACK, ABORT, COOKIE_ECHO, SHUTDOWN] {
                    s.in_front(&request(&net, &[chunk])).passes_untouched();
                }
                s.in_front(&request(&net, &[INIT])).sent();
            });
            world.play(&format!("sloppy_sctp, {}", net.vip), Hooks::Agree, |s| {
                nat_service(s, &net);
                s.set(Variable::SloppySctp, "1");
                s.in_front(&request(&net, &[ABORT])).passes_untouched();
                s.in_front(&request(&net, &[DATA])).sent();
                assert_eq!(s.states(), [Established]);
            });
            world.play(
                &format!("ports used again, {}", net.vip),
                Hooks::Agree,
                |s| {
                    let spec = service(Protocol::Sctp, net.vip(3868));
                    s.serve(&spec, &[net.nat(0, 3869), net.nat(1, 3869)]);
                    s.in_front(&request(&net, &[INIT]))
                        .sent_to(mac_of(net.rs[1]));
                    s.in_front(&request(&net, &[INIT]))
                        .sent_to(mac_of(net.rs[1]));
                    s.in_front(&request(&net, &[ABORT]))
                        .sent_to(mac_of(net.rs[1]));
                    assert_eq!(s.states(), [Closed]);
                    s.in_front(&request(&net, &[INIT]))
                        .sent_to(mac_of(net.rs[0]));
                },
            );
            world.play(&format!("too short, {}", net.vip), Hooks::Agree, |s| {
                nat_service(s, &net);
                for len in [0, 3, 4, 11, 15] {
                    let mut short = request(&net, &[INIT]);
                    short.body.truncate(len);
                    s.in_front(&short).dropped("malformed-transport");
                }
            });
        }
    });
}
