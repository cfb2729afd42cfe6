//! Tunnelling: requests travel in IPIP to another network.

use std::net::Ipv4Addr;
use std::time::Duration;

use pointsman_testkit::frames::{Ethernet, IPV4, Ip, SYN, View, tcp};
use pointsman_testkit::{Capture, Captured, Hook, Method, send_frame};

use crate::common::{self, PORT, Stage};
use crate::on_both_hooks;

on_both_hooks! {
    rr, transfers, udp, client_on_director, load,
    gue_and_gre,
    only_the_named_director_is_believed,
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

/// Full segments and datagrams of all sizes through every other tunnel, unwrapped by real servers that
/// take them from the director alone.
fn gue_and_gre(hook: Hook) {
    let mut stage = stage(hook);
    for server in &stage.net.servers {
        let vip = stage.net.vip;
        let accept = format!("--director {DIP} --gue-port 6080 --gue-port 5555");
        stage.pointsman(
            &server.netns,
            &format!("realserver up --mode tun --vip {vip} {accept}"),
        );
    }
    for flag in [
        "-i --tun-type gue --tun-port 6080",
        "-i --tun-type gue --tun-port 5555 --tun-csum",
        "-i --tun-type gue --tun-port 6080 --tun-remcsum",
        "-i --tun-type gre",
        "-i --tun-type gre --tun-csum",
    ] {
        println!("{flag}");
        stage.flag = flag;
        common::big_transfers_arrive_whole(&stage);
        common::datagrams_are_echoed(&stage);
        stage.ipvsadm("-C");
    }
    for server in &stage.net.servers {
        let status = stage.pointsman(&server.netns, "realserver status --json");
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        for (what, count) in status["packets"].as_object().unwrap() {
            let expected = what == "decapsulated";
            assert_eq!(count.as_u64().unwrap() > 0, expected, "{what}: {count}");
        }
    }
}

/// A real server that is told another director's address takes nothing from this one.
fn only_the_named_director_is_believed(hook: Hook) {
    let stage = stage(hook);
    stage.balance("rr");
    let server = &stage.net.servers[0];
    let up = format!("realserver up --mode tun --vip {}", stage.net.vip);
    stage.pointsman(&server.netns, &format!("{up} --director 192.0.2.99"));
    let capture = Capture::start(stage.net.other("farm"), "router").unwrap();
    let service = stage.service();
    stage.net.client.run(|| {
        for _ in 0..2 {
            let address = std::net::SocketAddr::V4(service);
            let _ = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300));
        }
    });
    let from_vip = |seen: &Captured| {
        let ip = View::of(&seen.frame).and_then(|view| view.ip);
        ip.is_some_and(|ip| ip.source == stage.net.vip)
    };
    // The other server still answers.
    capture
        .wait_for("a reply", Duration::from_secs(3), from_vip)
        .unwrap();
    let status = stage.pointsman(&server.netns, "realserver status");
    assert!(status.contains("not-from-a-director"), "{status}");
    stage.pointsman(&server.netns, &format!("{up} --director {DIP}"));
    stage.ask(4);
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
