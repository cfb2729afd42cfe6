//! TCP over IPv6 by every forwarding method: curl asks, names and 8 MiB come back.

use std::net::Ipv6Addr;

use pointsman_testkit::{Hook, Method, Netns, blob};

use crate::common::{PORT, Stage, client_bytes};
use crate::on_both_hooks;

on_both_hooks! {
    nat,
    direct_routing,
    tunnel,
}

/// On the client's segment, for NAT.
const OUTER: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x100);
/// On the director's segment behind the router.
const INNER: Ipv6Addr = Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 0x100);
const SIZE: u64 = 8 << 20;

fn ip(netns: &Netns, line: &str) {
    netns.ip(line).unwrap();
}

/// Has every host speak IPv6, whatever a namespace starts with on this machine.
pub fn enable(stage: &Stage) {
    for host in stage.net.hosts() {
        for scope in ["all", "default", "lo", "eth0"] {
            let key = format!("net.ipv6.conf.{scope}.disable_ipv6");
            host.sysctl(&key, "0").unwrap();
        }
    }
}

/// Requests in turn, a large one, and what the director says of them.
fn served(stage: &Stage, vip: Ipv6Addr, servers: [Ipv6Addr; 2]) {
    stage.ipvsadm(&format!("-A -t [{vip}]:{PORT} -s rr"));
    for server in servers {
        let flag = stage.flag;
        stage.ipvsadm(&format!("-a -t [{vip}]:{PORT} -r [{server}]:{PORT} {flag}"));
    }
    let curl = |path: &str| {
        let url = format!("http://[{vip}]:{PORT}/{path}");
        let arguments = ["-sS", "-g", "-6", "--max-time", "60", &url];
        client_bytes(stage, "curl", &arguments)
    };
    for n in 0..20 {
        let page = String::from_utf8(curl("")).unwrap();
        assert_eq!(page.trim_end(), stage.page(2 - n % 2), "request {n}");
    }
    let large = curl(&format!("blob/{SIZE}"));
    assert_eq!(large.len() as u64, SIZE);
    let mut sum = blob::Sum::default();
    sum.add(&large);
    assert_eq!(sum.finish(), blob::sum_of(SIZE));
    let connections = stage.ipvsadm("-Lnc");
    let held = connections.lines().filter(|line| line.starts_with("TCP"));
    assert_eq!(held.count(), 21, "{connections}");
}

fn nat(hook: Hook) {
    let stage = Stage::new(Method::Nat, hook);
    enable(&stage);
    let director = &stage.net.director;
    director
        .sysctl("net.ipv6.conf.all.forwarding", "1")
        .unwrap();
    ip(&stage.net.client, "address add fd00:1::2/64 dev eth0 nodad");
    ip(director, &format!("address add {OUTER}/64 dev eth0 nodad"));
    ip(director, "address add fd00:2::1/64 dev eth1 nodad");
    let servers = farm(&stage, "fd00:2::");
    served(&stage, OUTER, servers);
}

fn direct_routing(hook: Hook) {
    let stage = Stage::new(Method::DirectRouting, hook);
    behind_router(&stage);
    let servers = farm(&stage, "fd00:2::");
    for server in &stage.net.servers {
        stage.pointsman(&server.netns, &format!("realserver up --vip {INNER}"));
    }
    served(&stage, INNER, servers);
}

/// The tunnel Stage::new made is for the IPv4 address: it is made anew for both.
fn tunnel(hook: Hook) {
    let stage = Stage::new(Method::Tunnel, hook);
    behind_router(&stage);
    ip(
        stage.net.other("router"),
        "address add fd00:9::1/64 dev eth2 nodad",
    );
    let servers = farm(&stage, "fd00:9::");
    for server in &stage.net.servers {
        let vip = stage.net.vip;
        stage.pointsman(&server.netns, "realserver down");
        let up = format!("realserver up --mode tun --vip {vip} --vip {INNER}");
        stage.pointsman(&server.netns, &up);
    }
    served(&stage, INNER, servers);
}

/// Client, router and director; the director answers for the VIP.
fn behind_router(stage: &Stage) {
    enable(stage);
    let router = stage.net.other("router");
    router.sysctl("net.ipv6.conf.all.forwarding", "1").unwrap();
    ip(&stage.net.client, "address add fd00:1::2/64 dev eth0 nodad");
    ip(&stage.net.client, "-6 route add default via fd00:1::1");
    ip(router, "address add fd00:1::1/64 dev eth0 nodad");
    ip(router, "address add fd00:2::1/64 dev eth1 nodad");
    let director = &stage.net.director;
    ip(director, "address add fd00:2::c8/64 dev eth0 nodad");
    ip(director, &format!("address add {INNER}/128 dev eth0 nodad"));
    ip(director, "-6 route add default via fd00:2::1");
}

/// Addresses of the real servers, whose gateway is the first address of the network.
fn farm(stage: &Stage, network: &str) -> [Ipv6Addr; 2] {
    let servers = [1, 2].map(|n| format!("{network}1{n}"));
    for (server, addr) in stage.net.servers.iter().zip(&servers) {
        ip(
            &server.netns,
            &format!("address add {addr}/64 dev eth0 nodad"),
        );
        ip(
            &server.netns,
            &format!("-6 route add default via {network}1"),
        );
    }
    servers.map(|addr| addr.parse().unwrap())
}
