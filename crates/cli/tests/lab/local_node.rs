//! Local node: one of the real servers is the director itself.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use pointsman_testkit::load::Load;
use pointsman_testkit::udp::EchoClient;
use pointsman_testkit::{EchoServer, Hook, Method, PageServer, blob, http};

use crate::common::{ECHO, PORT, Stage};
use crate::on_both_hooks;

on_both_hooks! {
    the_director_serves_its_share,
    a_local_port_is_mapped,
    transfers,
    udp,
    client_on_director,
    load,
}

/// The director's address on the servers' network.
const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 100);
const MIB: u64 = 1 << 20;

struct Node {
    local: PageServer,
    stage: Stage,
}

/// rs1 by NAT, then the director itself on `port`; so the director is the newest.
fn node(hook: Hook, flag: &str, port: u16) -> Node {
    let stage = Stage::new(Method::Nat, hook);
    let local = PageServer::start(&stage.net.director, "director", LOCAL, port).unwrap();
    let service = stage.service();
    stage.ipvsadm(&format!("-A -t {service} -s rr"));
    stage.ipvsadm(&format!(
        "-a -t {service} -r {}:{PORT} -m",
        stage.net.servers[0].addr
    ));
    stage.ipvsadm(&format!("-a -t {service} -r {LOCAL}:{port} {flag}"));
    Node { local, stage }
}

fn spread(node: &Node) {
    let pages = node.stage.ask(500);
    let own = http::page("director", LOCAL);
    for (n, page) in pages.iter().enumerate() {
        let expected = if n % 2 == 0 {
            own.clone()
        } else {
            node.stage.page(1)
        };
        assert_eq!(*page, expected, "request {n}");
    }
    assert_eq!(
        (node.local.served(), node.stage.pages[0].served()),
        (250, 250)
    );
}

fn the_director_serves_its_share(hook: Hook) {
    spread(&node(hook, "-g", PORT));
}

fn a_local_port_is_mapped(hook: Hook) {
    spread(&node(hook, "-m", 8080));
}

fn transfers(hook: Hook) {
    for (flag, port) in [("-g", PORT), ("-m", 8080)] {
        let node = node(hook, flag, port);
        let service = node.stage.service();
        // Only the local server is left.
        let remote = node.stage.net.servers[0].addr;
        node.stage
            .ipvsadm(&format!("-d -t {service} -r {remote}:{PORT}"));
        let expected = (64 * MIB, blob::sum_of(64 * MIB));
        let client = &node.stage.net.client;
        assert_eq!(
            client.run(|| http::download(service, 64 * MIB)).unwrap(),
            expected,
            "{flag}"
        );
        assert_eq!(
            client.run(|| http::upload(service, 64 * MIB)).unwrap(),
            expected,
            "{flag}"
        );
    }
}

fn udp(hook: Hook) {
    let stage = Stage::new(Method::Nat, hook);
    let (vip, service) = (stage.net.vip, stage.net.service(ECHO));
    // -g leaves the VIP in the packet: the local server listens there.
    let echo = EchoServer::start(&stage.net.director, "director", LOCAL, vip, ECHO).unwrap();
    stage.ipvsadm(&format!("-A -u {service} -s rr"));
    stage.ipvsadm(&format!("-a -u {service} -r {LOCAL}:{ECHO} -g"));
    stage.net.client.run(|| {
        for _ in 0..10 {
            let socket = EchoClient::connect(service).unwrap();
            for n in 0..100 {
                let text = format!("datagram {n}");
                assert_eq!(
                    socket.ask(&text).unwrap(),
                    (http::page("director", LOCAL), text)
                );
            }
        }
    });
    assert_eq!(echo.served(), 1000);
    let stats = stage.stats_of(service, 3, 1000);
    assert_eq!(Stage::column(&stats, &service.to_string(), 2), 10);
}

fn client_on_director(hook: Hook) {
    let node = node(hook, "-g", PORT);
    let service: SocketAddrV4 = node.stage.service();
    let own = http::page("director", LOCAL);
    node.stage.net.director.run(|| {
        for n in 0..20 {
            let page = http::get(service, "/").unwrap().body;
            let expected = if n % 2 == 0 {
                own.clone()
            } else {
                node.stage.page(1)
            };
            assert_eq!(page, expected, "request {n}");
        }
    });
}

fn load(hook: Hook) {
    let node = node(hook, "-g", PORT);
    let stage = &node.stage;
    let load = Load::start(
        &stage.net.client,
        stage.service(),
        8,
        Duration::from_millis(900),
    );
    load.wait_for(4000, Duration::from_secs(60)).unwrap();
    let outcome = load.stop();
    assert_eq!(outcome.failures, Vec::<String>::new());
    assert_eq!(outcome.pages.len(), 2, "{:?}", outcome.pages);
}
