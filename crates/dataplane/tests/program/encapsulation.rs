//! Tunnels of every kind, as they leave the director: compared with packets put together by hand.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU16;

use pointsman_core::addr::{Address, Be32};
use pointsman_core::atomic;
use pointsman_core::host::Host as _;
use pointsman_core::layout::SERVER_IPV6;
use pointsman_model::{
    Encapsulation, Forwarding, Protocol, Scheduler, ServerSpec, ServiceKey, TunnelChecksum,
};

use crate::frame::{Frame, SYN};
use crate::user::{Bytes, User};
use crate::world::{
    BACK_MAC, CLIENT, CLIENT_MAC, FRONT_MAC, Hooks, RS1, Side, Stage, TUNNEL_SOURCE, VIP, World,
    mac_of, server,
};
use crate::wrap::{Header, Shell, TCP, UDP, is_v4, transport, wrap};

const PORT: u16 = 6080;
const RIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x11);
const SOURCE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);

/// What an operator asks for, and what then lies between the headers. Nobody leaves the checksum of a
/// packet to the real server that has it already.
fn kinds() -> [(Encapsulation, Shell); 6] {
    let gue = |checksum| Encapsulation::Gue {
        port: NonZeroU16::new(PORT).unwrap(),
        checksum,
    };
    let gre = |checksum| Encapsulation::Gre { checksum };
    [
        (Encapsulation::Ipip, Shell::Ipip),
        (gue(TunnelChecksum::None), Shell::Gue),
        (gue(TunnelChecksum::Full), Shell::GueChecksum),
        (gue(TunnelChecksum::Remote), Shell::GueChecksum),
        (gre(TunnelChecksum::None), Shell::Gre),
        (gre(TunnelChecksum::Full), Shell::GreChecksum),
    ]
}

fn by(kind: Encapsulation) -> ServerSpec {
    server(RS1, 80, Forwarding::Tunnel(kind), 1)
}

fn services(s: &mut Stage<'_>, kind: Encapsulation) -> ServiceKey {
    s.service(Protocol::Udp, 80, Scheduler::Rr, &[by(kind)]);
    s.service(Protocol::Tcp, 80, Scheduler::Rr, &[by(kind)])
}

fn from_client(packet: &[u8]) -> Vec<u8> {
    [&FRONT_MAC[..], &CLIENT_MAC, &[8, 0], packet].concat()
}

/// Checks a tunnelled packet: `inner` as it has to be inside.
#[track_caller]
fn is_wrapped(packet: &[u8], inner: &[u8], shell: Shell, ends: (IpAddr, IpAddr), what: &str) {
    let (tos, ttl, df) = if is_v4(inner) {
        (inner[1], inner[8], inner[6] & 0x40 != 0)
    } else {
        (inner[0] << 4 | inner[1] >> 4, inner[7], false)
    };
    let be16 = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let mut outer = Header {
        tos: if tos & 3 == 3 { tos & !3 | 2 } else { tos },
        ttl,
        df,
        ..Header::new(ends.0, ends.1)
    };
    if is_v4(packet) && !df {
        outer.id = be16(4);
    }
    let mut ports = (0, PORT);
    if matches!(shell, Shell::Gue | Shell::GueChecksum) {
        ports.0 = be16(if is_v4(packet) { 20 } else { 40 });
        assert!(
            (32_768..60_999).contains(&ports.0),
            "{what}: port {}",
            ports.0
        );
    }
    let expected = wrap(inner, shell, &outer, ports);
    assert_eq!(packet, expected, "{what}\n{packet:x?}\n{expected:x?}");
}

/// A TCP segment or a datagram of a client, and the same with its time to live lowered.
fn client_packet(
    protocol: u8,
    port: u16,
    tos: u8,
    df: bool,
    payload: &[u8],
    zero_checksum: bool,
) -> (Vec<u8>, Vec<u8>) {
    let make = |ttl| {
        let header = Header {
            tos,
            ttl,
            df,
            id: 0x1234,
            ..Header::new(CLIENT.into(), VIP.into())
        };
        let mut packet = transport(&header, (port, 80), protocol, payload);
        if zero_checksum {
            packet[26..28].fill(0);
        }
        packet
    };
    (make(64), make(63))
}

#[track_caller]
fn goes_through(s: &mut Stage<'_>, shell: Shell, ends: (IpAddr, IpAddr), port: u16) {
    let open = Frame::tcp((CLIENT, port), (VIP, 80), SYN);
    s.client_sends(open).sent();
    // Payloads that fill whole words and chunks and that do not; checksums that are there and that are not.
    for len in [0usize, 1, 31, 32, 33, 64, 1000, 1401] {
        let payload: Vec<u8> = (0..len).map(|i| (i * 31) as u8).collect();
        for (protocol, zero) in [(TCP, false), (UDP, false), (UDP, true)] {
            for (tos, df) in [(0, true), (0xbb, true), (0x2a, false)] {
                let what =
                    format!("{shell:?}, {protocol}, {len} bytes, TOS {tos:#x}, DF {df}, {zero}");
                let (sent, inner) = client_packet(protocol, port, tos, df, &payload, zero);
                let seen = s.send(Side::Front, &from_client(&sent));
                seen.sent();
                assert_eq!(
                    seen.packet[..12],
                    [mac_of(RS1), BACK_MAC].concat(),
                    "{what}"
                );
                let ethertype: [u8; 2] = if ends.0.is_ipv4() {
                    [8, 0]
                } else {
                    [0x86, 0xdd]
                };
                assert_eq!(seen.packet[12..14], ethertype, "{what}");
                is_wrapped(&seen.packet[14..], &inner, shell, ends, &what);
            }
        }
    }
}

#[test]
fn ipv4_in_ipv4_has_the_outer_headers_that_were_asked_for() {
    World::with(|world| {
        for (kind, shell) in kinds() {
            world.play(&format!("{kind:?}"), Hooks::Agree, |s| {
                services(s, kind);
                goes_through(s, shell, (TUNNEL_SOURCE.into(), RS1.into()), 40_000);
            });
        }
    });
}

/// Gives all servers (few, and all the same) an address of this version, their way being known already.
fn readdress(s: &mut Stage<'_>, v6: bool) {
    let maps = s.tables().maps();
    for index in 0..8 {
        let at = maps.servers.at(index).unwrap();
        // SAFETY: within the table; nothing else runs.
        unsafe {
            if (*at).in_use != 0 && v6 {
                (*at).rip = Address::v6(RIP6.octets());
                (*at).tunnel_source = Address::v6(SOURCE6.octets());
                atomic::store(&raw mut (*at).flags, (*at).flags | SERVER_IPV6);
            } else if (*at).in_use != 0 {
                (*at).rip = Address::v4(Be32::from_octets(RS1.octets()));
                (*at).tunnel_source = Address::v4(Be32::from_octets(TUNNEL_SOURCE.octets()));
                atomic::store(&raw mut (*at).flags, (*at).flags & !SERVER_IPV6);
            }
        }
    }
}

#[test]
fn ipv4_in_ipv6_has_the_outer_headers_that_were_asked_for() {
    World::alone(1024, |world| {
        for (kind, shell) in kinds() {
            world.play(&format!("{kind:?}"), Hooks::Agree, |s| {
                services(s, kind);
                readdress(s, false);
                // The way to each server is looked up once, while it still has an IPv4 address.
                s.syn(39_999);
                let (datagram, _) = client_packet(UDP, 39_999, 0, true, b"", false);
                s.send(Side::Front, &from_client(&datagram)).sent();
                readdress(s, true);
                goes_through(s, shell, (SOURCE6.into(), RIP6.into()), 40_000);
            });
        }
    });
}

/// Packets of one flow have one source port, flows have many; packets that may be fragmented are told
/// apart.
#[test]
fn gue_spreads_flows_over_ports() {
    World::with(|world| {
        world.play("GUE", Hooks::Agree, |s| {
            services(s, kinds()[1].0);
            let mut ports = BTreeSet::new();
            let mut told_apart = 0;
            for client_port in 40_000..40_040 {
                let mut ids = BTreeSet::new();
                let mut of_flow = BTreeSet::new();
                for n in 0..10u8 {
                    let (sent, _) = client_packet(UDP, client_port, 0, false, &[n; 9], false);
                    let packet = s.send(Side::Front, &from_client(&sent)).packet;
                    ids.insert([packet[18], packet[19]]);
                    of_flow.insert([packet[34], packet[35]]);
                }
                assert_eq!(of_flow.len(), 1);
                told_apart += ids.len();
                ports.extend(of_flow);
            }
            // By chance two of ten packets may have the same number, once in 1,500 times.
            assert!(told_apart >= 397, "{told_apart} of 400");
            assert!(ports.len() >= 38, "{} ports for 40 flows", ports.len());
        });
    });
}

/// What a tunnel adds is off what a client may send.
#[test]
fn the_client_is_told_what_fits_into_each_tunnel() {
    World::with(|world| {
        for ((kind, shell), overhead) in kinds().into_iter().zip([20, 32, 32, 32, 24, 28]) {
            world.play(&format!("{kind:?}"), Hooks::Agree, |s| {
                services(s, kind);
                let limit = 1500 - overhead;
                s.syn(40_000);
                let (fits, inner) =
                    client_packet(TCP, 40_000, 0, true, &vec![1; limit - 40], false);
                let seen = s.send(Side::Front, &from_client(&fits));
                seen.sent();
                assert_eq!(seen.packet.len(), 1514);
                let ends = (TUNNEL_SOURCE.into(), RS1.into());
                is_wrapped(&seen.packet[14..], &inner, shell, ends, "largest");
                let (large, _) = client_packet(TCP, 40_000, 0, true, &vec![1; limit - 39], false);
                let seen = s.send(Side::Front, &from_client(&large));
                seen.answered(3, 4, limit as u16, "too-big");
            });
        }
    });
}

/// Established connections follow when the operator changes the tunnel.
#[test]
fn an_edited_tunnel_holds_for_connections_that_are_there() {
    World::with(|world| {
        world.play("from each kind to the next", Hooks::Agree, |s| {
            let service = services(s, kinds()[0].0);
            s.syn(40_000);
            let ends: (IpAddr, IpAddr) = (TUNNEL_SOURCE.into(), RS1.into());
            for (kind, shell) in kinds().into_iter().chain([kinds()[0]]) {
                s.tables().edit_server(&service, &by(kind)).unwrap();
                let (sent, inner) = client_packet(TCP, 40_000, 0, true, b"more", false);
                let seen = s.send(Side::Front, &from_client(&sent));
                seen.sent();
                is_wrapped(
                    &seen.packet[14..],
                    &inner,
                    shell,
                    ends,
                    &format!("{kind:?}"),
                );
            }
        });
    });
}

/// Tags in the frame stay before the outer header: XDP and TC on the way back out of the interface.
#[test]
fn tags_stay_where_they_are() {
    World::with(|world| {
        for (kind, shell) in kinds() {
            world.play(
                &format!("{kind:?}"),
                Hooks::Differ("TC cannot make room behind a tag that lies in the frame"),
                |s| {
                    services(s, kind);
                    s.syn(40_000);
                    let (sent, inner) = client_packet(TCP, 40_000, 0, true, b"tagged", false);
                    let tag = [&FRONT_MAC[..], &CLIENT_MAC, &[0x81, 0, 0, 7, 8, 0], &sent].concat();
                    let seen = s.send(Side::Front, &tag);
                    if s.hook == crate::world::Hook::Tc {
                        return;
                    }
                    seen.sent();
                    // `back` wants no tag, so it was taken off again after the wrapping.
                    let ends = (TUNNEL_SOURCE.into(), RS1.into());
                    is_wrapped(&seen.packet[14..], &inner, shell, ends, "tagged");
                },
            );
        }
    });
}

/// Any packet in any packet, in user space, where there need be no connection.
#[test]
fn every_version_in_every_version() {
    World::alone(1024, |world| {
        world.play("wrapped at once", Hooks::Agree, |s| {
            for (kind, shell) in kinds() {
                s.reset();
                services(s, kind);
                if s.is_real() {
                    return;
                }
                for v6 in [false, true] {
                    readdress(s, v6);
                    let ends: (IpAddr, IpAddr) = if v6 {
                        (SOURCE6.into(), RIP6.into())
                    } else {
                        (TUNNEL_SOURCE.into(), RS1.into())
                    };
                    let clients: [(IpAddr, IpAddr); 2] = [
                        (CLIENT.into(), VIP.into()),
                        (Ipv6Addr::LOCALHOST.into(), RIP6.into()),
                    ];
                    for (client, vip) in clients {
                        for protocol in [TCP, UDP] {
                            for tos in [0, 0xbb] {
                                let header = Header::new(client, vip).tos(tos);
                                let inner = transport(&header, (1, 2), protocol, b"odd");
                                let packet = wrapped_by_user_space(s, &inner);
                                let what = format!("{kind:?} {ends:?} {client}");
                                is_wrapped(&packet[14..], &inner, shell, ends, &what);
                                let ethertype: [u8; 2] = if v6 { [0x86, 0xdd] } else { [8, 0] };
                                assert_eq!(packet[12..14], ethertype);
                            }
                        }
                    }
                }
            }
        });
    });
}

fn wrapped_by_user_space(s: &mut Stage<'_>, inner: &[u8]) -> Vec<u8> {
    let ethertype: [u8; 2] = if is_v4(inner) { [8, 0] } else { [0x86, 0xdd] };
    let mut bytes = Bytes {
        frame: [&FRONT_MAC[..], &CLIENT_MAC, &ethertype, inner].concat(),
        refuses_tags: false,
    };
    let server = s.first_server();
    let user = User::<true>::new(s.user(), 0, [0; 6]);
    user.wrap_apart(&mut bytes, 14, server).unwrap();
    bytes.frame
}
