//! Packets no stack would send, and fragments: the right verdict, and a counted reason.

use pointsman_model::{Protocol, Scheduler};

use crate::frame::{ACK, Frame, SYN, seal_ip};
use crate::world::{
    CLIENT, CLIENT_MAC, DIP, FRONT_MAC, Hooks, RS1, Seen, Side, Stage, VIP, World, client_tcp, nat,
};

/// Sends a frame with some bytes changed, the IP header checksum made right again.
fn send(s: &mut Stage<'_>, frame: Frame, change: impl FnOnce(&mut Vec<u8>)) -> Seen {
    let frame = frame.between(CLIENT_MAC, FRONT_MAC);
    let l3 = frame.l3();
    let mut bytes = frame.bytes();
    change(&mut bytes);
    if bytes.len() >= l3 + 20 {
        seal_ip(&mut bytes[l3..l3 + 20]);
    }
    s.send(Side::Front, &bytes)
}

/// An open connection from port 40000 and a service for UDP.
fn services(s: &mut Stage<'_>) {
    s.tcp_service(Scheduler::Rr, &[nat(RS1, 80)]);
    s.service(Protocol::Udp, 53, Scheduler::Rr, &[nat(RS1, 53)]);
    s.client_sends(client_tcp(40000, SYN)).sent();
}

/// A new TCP packet, an established one, and a UDP packet, all to the VIP.
fn to_vip() -> [Frame; 3] {
    [
        client_tcp(40001, SYN),
        client_tcp(40000, ACK),
        Frame::udp((CLIENT, 40002), (VIP, 53), b"twelve bytes"),
    ]
}

/// The same to an address that is no VIP.
fn to_others() -> [Frame; 3] {
    to_vip().map(|frame| Frame {
        destination: (DIP, frame.destination.1),
        ..frame
    })
}

#[test]
fn broken_ip_headers_are_dropped_whoever_they_are_for() {
    World::with(|world| {
        for (i, frame) in to_vip().into_iter().chain(to_others()).enumerate() {
            world.play(
                &format!("header lengths of packet {i}"),
                Hooks::Agree,
                |s| {
                    services(s);
                    for ihl in 0..5 {
                        let seen = send(s, frame.clone(), |b| b[14] = 0x40 | ihl);
                        seen.dropped("malformed-ip");
                    }
                    // Longer than the packet.
                    send(s, frame.clone(), |b| b[14] = 0x4f).dropped("malformed-ip");
                },
            );
            world.play(&format!("versions of packet {i}"), Hooks::Agree, |s| {
                services(s);
                for version in [0, 3, 5, 6, 15] {
                    let seen = send(s, frame.clone(), |b| b[14] = version << 4 | 5);
                    seen.dropped("malformed-ip");
                }
            });
            world.play(&format!("total lengths of packet {i}"), Hooks::Agree, |s| {
                services(s);
                let whole = frame.bytes().len() as u16 - 14;
                for total in [0, 1, 19, whole + 1, 1500, u16::MAX] {
                    let seen = send(s, frame.clone(), |b| {
                        b[16..18].copy_from_slice(&total.to_be_bytes());
                    });
                    seen.dropped("malformed-ip");
                }
            });
        }
    });
}

#[test]
fn frames_cut_at_every_length_get_no_wrong_verdict() {
    World::with(|world| {
        for (i, frame) in to_vip().into_iter().enumerate() {
            world.play(&format!("cut frames, packet {i}"), Hooks::Agree, |s| {
                services(s);
                let whole = frame.bytes().len();
                for len in 34..whole {
                    send(s, frame.clone(), |b| b.truncate(len)).dropped("malformed-ip");
                }
                send(s, frame.clone(), |_| ()).sent();
            });
            world.play(
                &format!("packets that say they are cut, packet {i}"),
                Hooks::Agree,
                |s| {
                    services(s);
                    let headers = if frame.protocol == crate::frame::TCP {
                        54
                    } else {
                        42
                    };
                    for len in 34..headers {
                        let seen = send(s, frame.clone(), |b| cut(b, len));
                        seen.dropped("malformed-transport");
                    }
                },
            );
        }
        world.play(
            "packets to others that say they are cut",
            Hooks::Agree,
            |s| {
                services(s);
                for frame in to_others() {
                    for len in 34..42 {
                        send(s, frame.clone(), |b| cut(b, len)).passes_untouched();
                    }
                }
            },
        );
        world.play("VLAN tags cut", Hooks::Agree, |s| {
            services(s);
            let frame = client_tcp(40001, SYN).tagged(0x88a8, 1).tagged(0x8100, 2);
            for len in 14..22 {
                send(s, frame.clone(), |b| b.truncate(len)).passes_untouched();
            }
            for len in 22..62 {
                send(s, frame.clone(), |b| b.truncate(len)).dropped("malformed-ip");
            }
        });
    });
}

/// Shortens a frame and says so in its IP header.
fn cut(frame: &mut Vec<u8>, len: usize) {
    frame.truncate(len);
    frame[16..18].copy_from_slice(&(len as u16 - 14).to_be_bytes());
}

#[test]
fn broken_transport_headers_to_a_vip_are_dropped() {
    World::with(|world| {
        world.play("TCP data offsets", Hooks::Agree, |s| {
            services(s);
            let [new, old, _] = to_vip();
            let [other, ..] = to_others();
            for words in [0, 1, 4, 6, 15] {
                for frame in [&new, &old] {
                    let seen = send(s, frame.clone(), |b| b[14 + 20 + 12] = words << 4);
                    seen.dropped("malformed-transport");
                }
                send(s, other.clone(), |b| b[14 + 20 + 12] = words << 4).passes_untouched();
            }
            assert_eq!(s.totals().conns, 1);
        });
        world.play("UDP lengths", Hooks::Agree, |s| {
            services(s);
            let [.., frame] = to_vip();
            let [.., other] = to_others();
            for len in [0u16, 7, 21, 1500, u16::MAX] {
                let change = |b: &mut Vec<u8>| b[38..40].copy_from_slice(&len.to_be_bytes());
                send(s, frame.clone(), change).dropped("malformed-transport");
                send(s, other.clone(), change).passes_untouched();
            }
        });
    });
}

#[test]
fn what_only_looks_like_a_fragment_of_a_service() {
    World::with(|world| {
        world.play("the reserved flag makes no fragment", Hooks::Agree, |s| {
            services(s);
            s.client_sends(client_tcp(40001, SYN).fragment(0x8000))
                .sent();
        });
        world.play(
            "fragments to a VIP whose last service went pass",
            Hooks::Agree,
            |s| {
                services(s);
                s.tables().flush();
                s.client_sends(client_tcp(40001, SYN).fragment(0x2000))
                    .passes_untouched();
            },
        );
    });
}
