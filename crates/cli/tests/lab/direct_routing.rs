//! Direct routing: one-armed, requests only.

use std::net::Ipv4Addr;
use std::time::Duration;

use pointsman_testkit::frames::{Ethernet, IPV4, SYN, View, tcp};
use pointsman_testkit::{Capture, Captured, Hook, Method, send_frame};

use crate::common::{self, PORT, Stage};
use crate::on_both_hooks;

on_both_hooks! {
    rr, transfers, udp, client_on_director, load,
    replies_bypass_the_director,
    a_tagged_packet_keeps_its_tag,
}

fn stage(hook: Hook) -> Stage {
    Stage::new(Method::DirectRouting, hook)
}

fn rr(hook: Hook) {
    common::rr_spreads_exactly(&stage(hook));
}

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

fn replies_bypass_the_director(hook: Hook) {
    let stage = stage(hook);
    stage.balance("rr");
    let lan = stage.net.other("lan");
    let at_director = Capture::start(lan, "director").unwrap();
    let at_router = Capture::start(lan, "router").unwrap();
    stage.ask(10);
    let (vip, client) = (stage.net.vip, stage.net.client_addr);
    let from_to = |seen: &Captured, source: Ipv4Addr, destination: Ipv4Addr| {
        let ip = View::of(&seen.frame).and_then(|view| view.ip);
        ip.is_some_and(|ip| ip.source == source && ip.destination == destination)
    };
    let reply = |seen: &Captured| from_to(seen, vip, client);
    at_router
        .wait_for("a reply", Duration::from_secs(3), reply)
        .unwrap();
    assert_eq!(at_director.count(reply), 0);
    assert!(at_director.count(|seen| from_to(seen, client, vip)) >= 20);
}

fn a_tagged_packet_keeps_its_tag(hook: Hook) {
    let stage = stage(hook);
    stage.balance("rr");
    let newest = &stage.net.servers[1];
    let router = stage.net.other("router");
    let capture = Capture::start(&newest.netns, "eth0").unwrap();
    let ethernet = Ethernet {
        destination: stage.net.director.mac("eth0").unwrap(),
        source: router.mac("eth1").unwrap(),
        vlan: Some(42),
    };
    let source = (Ipv4Addr::new(198, 51, 100, 7), 40_000);
    let packet = tcp(source, (stage.net.vip, PORT), SYN, 1);
    send_frame(router, "eth1", &ethernet.frame(IPV4, &packet)).unwrap();
    let from_source = |seen: &Captured| {
        let ip = View::of(&seen.frame).and_then(|view| view.ip);
        ip.is_some_and(|ip| ip.source == source.0)
    };
    let seen = capture
        .wait_for("the tagged SYN", Duration::from_secs(3), from_source)
        .unwrap();
    let view = View::of(&seen.frame).unwrap();
    assert_eq!(view.vlan, Some(42));
    assert_eq!(view.destination, newest.netns.mac("eth0").unwrap());
    assert_eq!(view.ip.unwrap().destination, stage.net.vip);
}
