//! Tunnelling: requests travel in IPIP to another network.

use std::net::Ipv4Addr;
use std::time::Duration;

use pointsman_testkit::frames::{Ethernet, IPV4, Ip, SYN, View, tcp};
use pointsman_testkit::{Capture, Captured, Hook, Method, send_frame};

use crate::common::{self, PORT, Stage};
use crate::on_both_hooks;

on_both_hooks! {
    rr, transfers, udp, client_on_director, load,
    the_outer_header_is_from_the_director_to_the_server,
    a_tagged_packet_keeps_its_tag,
}

fn stage(hook: Hook) -> Stage {
    Stage::new(Method::Tunnel, hook)
}

fn rr(hook: Hook) {
    common::rr_spreads_exactly(&stage(hook));
}

/// The upload's full segments do not fit into the tunnel: the client must be told.
fn transfers(hook: Hook) {
    common::big_transfers_arrive_whole(&stage(hook));
}

fn udp(hook: Hook) {
    common::datagrams_are_echoed(&stage(hook));
}

fn client_on_director(hook: Hook) {
    common::a_client_on_the_director_is_served(&stage(hook));
}

fn load(hook: Hook) {
    common::parallel_load_has_no_errors(&stage(hook));
}

const DIP: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 200);

/// Outer and inner header of an IPIP packet.
fn layers(seen: &Captured) -> Option<(View, Ip, Ip)> {
    let view = View::of(&seen.frame)?;
    let outer = view.ip.filter(|ip| ip.protocol == 4)?;
    let start = if view.vlan.is_some() { 18 } else { 14 };
    Some((view, outer, Ip::of(seen.frame.get(start + 20..)?)?))
}

fn the_outer_header_is_from_the_director_to_the_server(hook: Hook) {
    let stage = stage(hook);
    stage.balance("rr");
    let capture = Capture::start(stage.net.other("farm"), "router").unwrap();
    stage.ask(1);
    let tunnelled = |seen: &Captured| layers(seen).is_some();
    let seen = capture
        .wait_for("IPIP", Duration::from_secs(3), tunnelled)
        .unwrap();
    let (_, outer, inner) = layers(&seen).unwrap();
    assert_eq!(
        (outer.source, outer.destination),
        (DIP, stage.net.servers[1].addr)
    );
    assert_eq!(
        (inner.source, inner.destination),
        (stage.net.client_addr, stage.net.vip)
    );
    assert!(outer.checksum_ok && inner.checksum_ok);
}

/// The next hop is the router on the segment the packet came from, so the tag stays.
fn a_tagged_packet_keeps_its_tag(hook: Hook) {
    let stage = stage(hook);
    stage.balance("rr");
    let router = stage.net.other("router");
    let capture = Capture::start(router, "eth1").unwrap();
    let ethernet = Ethernet {
        destination: stage.net.director.mac("eth0").unwrap(),
        source: router.mac("eth1").unwrap(),
        vlan: Some(42),
    };
    let packet = tcp(
        (Ipv4Addr::new(198, 51, 100, 7), 40_000),
        (stage.net.vip, PORT),
        SYN,
        1,
    );
    send_frame(router, "eth1", &ethernet.frame(IPV4, &packet)).unwrap();
    let tunnelled = |seen: &Captured| layers(seen).is_some();
    let seen = capture
        .wait_for("IPIP", Duration::from_secs(3), tunnelled)
        .unwrap();
    let (view, outer, _) = layers(&seen).unwrap();
    assert_eq!(view.vlan, Some(42));
    assert_eq!(
        (outer.source, outer.destination),
        (DIP, stage.net.servers[1].addr)
    );
}
