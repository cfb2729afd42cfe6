//! NAT: both directions pass the director, addresses and ports are rewritten.

use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use pointsman_testkit::frames::{Ethernet, IPV4, SYN, View, tcp};
use pointsman_testkit::{Capture, Hook, Method, PageServer, http, send_frame, wait_until};

use crate::common::{self, PORT, Stage};
use crate::on_both_hooks;

on_both_hooks! {
    rr, transfers, udp, client_on_director, load,
    wrr_gives_shares_by_weight,
    wlc_balances_connections_that_are_open,
    ports_are_mapped,
    a_tagged_packet_keeps_its_tag,
    a_server_of_weight_zero_gets_nothing_new,
}

fn stage(hook: Hook) -> Stage {
    Stage::new(Method::Nat, hook)
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

/// Weights 3:1, in the kernel's own order: each walk through the list takes who has at least the
/// current weight, which falls from 3 to 1. A fresh service begins its first walk at 1, because
/// the first server alone made it 1.
fn wrr_gives_shares_by_weight(hook: Hook) {
    let stage = stage(hook);
    let service = stage.service();
    stage.ipvsadm(&format!("-A -t {service} -s wrr"));
    for (server, weight) in stage.net.servers.iter().zip([3, 1]) {
        stage.ipvsadm(&format!(
            "-a -t {service} -r {}:{PORT} -m -w {weight}",
            server.addr
        ));
    }
    let pages = stage.ask(500);
    let cycle = [2, 1, 1, 1];
    for (n, page) in pages.iter().enumerate() {
        assert_eq!(*page, stage.page(cycle[n % 4]), "request {n}");
    }
    assert_eq!(stage.pages[0].served(), 375);
    assert_eq!(stage.pages[1].served(), 125);
}

fn wlc_balances_connections_that_are_open(hook: Hook) {
    let stage = stage(hook);
    let service = stage.service();
    stage.ipvsadm(&format!("-A -t {service} -s wlc"));
    for (server, weight) in stage.net.servers.iter().zip([3, 1]) {
        stage.ipvsadm(&format!(
            "-a -t {service} -r {}:{PORT} -m -w {weight}",
            server.addr
        ));
    }
    let connect = |_| TcpStream::connect_timeout(&service.into(), Duration::from_secs(5)).unwrap();
    let held: Vec<TcpStream> = stage.net.client.run(|| (0..40).map(connect).collect());
    let active = |n: usize| {
        let name = format!("{}:{PORT}", stage.net.servers[n].addr);
        Stage::column(&stage.ipvsadm("-Ln"), &name, 4)
    };
    wait_until(
        "40 active connections, 30 and 10",
        Duration::from_secs(5),
        || ((active(0), active(1)) == (30, 10)).then_some(()),
    )
    .unwrap_or_else(|error| panic!("{error}\n{}", stage.ipvsadm("-Ln")));
    drop(held);
    wait_until("none active", Duration::from_secs(5), || {
        ((active(0), active(1)) == (0, 0)).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", stage.ipvsadm("-Lnc")));
    // Closed connections weigh as well, so a hundred more requests keep the proportion.
    stage.ask(100);
    let stats = stage.stats(140);
    let total =
        |n: usize| Stage::column(&stats, &format!("{}:{PORT}", stage.net.servers[n].addr), 2);
    assert_eq!(total(0) + total(1), 140);
    assert!(total(0).abs_diff(105) <= 2, "{stats}");
}

fn ports_are_mapped(hook: Hook) {
    let stage = stage(hook);
    let service = stage.service();
    let mapped = |n: usize| {
        let server = &stage.net.servers[n];
        PageServer::start(&server.netns, "mapped", server.addr, 8080 + n as u16).unwrap()
    };
    let servers = [mapped(0), mapped(1)];
    stage.ipvsadm(&format!("-A -t {service} -s rr"));
    for (n, server) in stage.net.servers.iter().enumerate() {
        stage.ipvsadm(&format!(
            "-a -t {service} -r {}:{} -m",
            server.addr,
            8080 + n
        ));
    }
    let pages = stage.ask(10);
    for page in &pages {
        assert!(page.starts_with("mapped - "), "{page}");
    }
    assert_eq!(servers.map(|server| server.served()), [5, 5]);
}

/// One-armed: the packet leaves through the interface it came in by, to a server there.
fn a_tagged_packet_keeps_its_tag(hook: Hook) {
    let stage = stage(hook);
    stage.balance("rr");
    let [rs1, rs2] = &stage.net.servers[..] else {
        panic!("two servers")
    };
    let capture = Capture::start(&rs2.netns, "eth0").unwrap();
    let source = (Ipv4Addr::new(192, 168, 0, 77), 40_000);
    let ethernet = Ethernet {
        destination: stage.net.director.mac("eth1").unwrap(),
        source: rs1.netns.mac("eth0").unwrap(),
        vlan: Some(42),
    };
    let packet = tcp(source, (stage.net.vip, PORT), SYN, 1);
    send_frame(&rs1.netns, "eth0", &ethernet.frame(IPV4, &packet)).unwrap();
    let seen = capture
        .wait_for("the tagged SYN at rs2", Duration::from_secs(3), |seen| {
            View::of(&seen.frame)
                .and_then(|view| view.ip)
                .is_some_and(|ip| ip.source == source.0 && ip.destination == rs2.addr)
        })
        .unwrap();
    let view = View::of(&seen.frame).unwrap();
    assert_eq!(view.vlan, Some(42));
    assert_eq!(view.destination, rs2.netns.mac("eth0").unwrap());
    assert!(view.ip.unwrap().checksum_ok);
}

fn a_server_of_weight_zero_gets_nothing_new(hook: Hook) {
    let stage = stage(hook);
    stage.balance("rr");
    let (service, quiesced) = (stage.service(), &stage.net.servers[1]);
    let line = format!("-e -t {service} -r {}:{PORT} -m -w 0", quiesced.addr);
    stage.ipvsadm(&line);
    assert!(stage.ask(50).iter().all(|page| *page == stage.page(1)));
    let error = stage.net.client.run(|| {
        stage.ipvsadm(&format!(
            "-d -t {service} -r {}:{PORT}",
            stage.net.servers[0].addr
        ));
        http::get_with(service, "/", Duration::from_millis(500))
    });
    assert!(error.is_err(), "nobody is left: {error:?}");
}
