//! What network cards and other kernels leave to be finished, or have done already.

use aya::util::KernelVersion;
use pointsman_model::Protocol;
use pointsman_testkit::frames::checksum;

use crate::frame::{ACK, SYN};
use crate::fullnat::serve_as;
use crate::packet::Packet;
use crate::world::{CLIENT_MAC, Hooks, NET4, NET6, Side, World, mac_of};

/// Whether the kernel can be asked if it still has the right sum of all bytes.
fn keeps_sums() -> bool {
    KernelVersion::current().unwrap() >= KernelVersion::new(6, 17, 0)
}

/// A card that sums all bytes of a packet (`CHECKSUM_COMPLETE`) gets the sum of what the packet becomes.
#[test]
fn the_sum_of_all_bytes_follows_what_is_rewritten() {
    if !keeps_sums() {
        return;
    }
    World::with(|world| {
        for net in [NET4, NET6] {
            for (method, server) in [
                ("NAT", net.nat(0, 80)),
                ("NAT to another port", net.nat(0, 8080)),
                ("FULLNAT", net.fullnat(0, 8080)),
                ("direct routing", net.direct(0, 80)),
            ] {
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    let row = format!("{method}, {}, {protocol:?}", net.vip);
                    world.play(&row, Hooks::Agree, |s| {
                        serve_as(s, &net, protocol, &[server], 1);
                        let packet = |from, to, flags| match protocol {
                            Protocol::Udp => Packet::udp(from, to, b"seven b"),
                            _ => Packet::tcp(from, to, flags, b"seven b"),
                        };
                        let there = packet(net.client(1000), net.vip(80), SYN);
                        let sent = s.in_front(&there).sent_to(mac_of(net.rs[0]));
                        let next = packet(net.client(1000), net.vip(80), ACK);
                        s.keeps_sum(Side::Front, &next);
                        if protocol == Protocol::Udp {
                            let mut bare = next.clone();
                            bare.body[6..8].fill(0);
                            s.keeps_sum(Side::Front, &bare);
                        }
                        if net.vip.is_ipv6() {
                            s.keeps_sum(
                                Side::Front,
                                &next.clone().extension(60, &[1, 4, 0, 0, 0, 0]),
                            );
                        }
                        let answer = packet(net.vip(80), net.client(1000), ACK).ip();
                        let kind = if net.vip.is_ipv6() { (1, 4) } else { (3, 3) };
                        let error = Packet::error(net.unknown, net.vip, kind, 0, &answer);
                        s.in_front(&error).sent_to(mac_of(net.rs[0]));
                        s.keeps_sum(Side::Front, &error);
                        let (from, to) = sent.sockets();
                        if to.ip() == net.vip {
                            return;
                        }
                        let back = packet(to, from, SYN | ACK);
                        s.behind(&back).sent_to(CLIENT_MAC).check().unwrap();
                        s.keeps_sum(Side::Back, &back);
                    });
                }
            }
        }
    });
}

/// A whole checksum that is by chance what an unfinished one would be.
#[test]
fn a_whole_checksum_that_looks_unfinished_is_brought_up_to_date() {
    World::with(|world| {
        for net in [NET4, NET6] {
            for (method, server) in [("NAT", net.nat(0, 8080)), ("FULLNAT", net.fullnat(0, 8080))] {
                let row = format!("{method}, {}", net.vip);
                world.play(&row, Hooks::Agree, |s| {
                    serve_as(s, &net, Protocol::Tcp, &[server], 1);
                    let mut packet = Packet::tcp(net.client(1000), net.vip(80), SYN, &[0, 0]);
                    let unfinished = !checksum(&[&packet.pseudo_header()]);
                    let fits = (0..=u16::MAX).find(|payload| {
                        packet.body[20..].copy_from_slice(&payload.to_be_bytes());
                        packet.seal(16);
                        packet.body[16..18] == unfinished.to_be_bytes()
                    });
                    assert!(fits.is_some());
                    if keeps_sums() {
                        s.keeps_sum(Side::Front, &packet);
                    }
                    let sent = s.in_front(&packet).sent_to(mac_of(net.rs[0]));
                    sent.check().unwrap();
                });
            }
        }
    });
}
