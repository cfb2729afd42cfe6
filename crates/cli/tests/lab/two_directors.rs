//! Two directors with local addresses of their own serve one VIP by the same servers at once.

use std::process::{Child, Stdio};
use std::time::Duration;

use pointsman_testkit::{
    Director, Hook, Method, Netns, Plan, Topology, pass_everything, wait_until,
    wire::complete_frames,
};

use crate::common::{PORT, PROGRAM};
use crate::on_both_hooks;
use crate::web::{NGINX, Web};

on_both_hooks! { the_same_servers_at_once }

/// What each client's address, director and local address are, and the way to the VIP.
const WAYS: [Way; 2] = [
    Way {
        client: "172.25.254.10",
        director: "172.25.254.101",
        local: "192.168.0.151",
    },
    Way {
        client: "172.25.254.11",
        director: "172.25.254.102",
        local: "192.168.0.152",
    },
];
/// Requests by each way.
const REQUESTS: usize = 20;
/// How long the last request may take to be written down.
const LIMIT: Duration = Duration::from_secs(5);
/// Bytes of a file.
const SIZE: usize = 16 << 20;

struct Way {
    client: &'static str,
    director: &'static str,
    local: &'static str,
}

fn ip(netns: &Netns, line: &str) {
    netns.ip(line).unwrap();
}

/// curl on the client, from one of its addresses.
fn curl(client: &Netns, way: &Way, arguments: &[&str]) -> Child {
    client
        .command("curl")
        .args([
            "-sS",
            "--fail",
            "--max-time",
            "120",
            "--interface",
            way.client,
        ])
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl")
}

/// What those that run at once print.
#[track_caller]
fn outputs(running: Vec<Child>) -> Vec<Vec<u8>> {
    let end = |child: Child| {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", output.status);
        output.stdout
    };
    running.into_iter().map(end).collect()
}

fn the_same_servers_at_once(hook: Hook) {
    let net = Topology::build_pair(&Plan::test(Method::Nat, hook == Hook::Xdp)).unwrap();
    let backup = net.backup.as_ref().unwrap();
    let directors = [&net.director, backup];
    if hook == Hook::Xdp {
        // What the network of one director has already.
        for (segment, port) in [("lan", "backup"), ("wan", "director"), ("wan", "backup")] {
            complete_frames(net.other(segment), port).unwrap();
            pass_everything(net.other(segment), port).unwrap();
        }
    }
    // Each of the client's addresses has a director of its own.
    let (client, vip) = (&net.client, net.vip);
    ip(
        client,
        &format!("address add {}/24 dev eth0", WAYS[1].client),
    );
    for (table, way) in (100..).zip(&WAYS) {
        ip(
            client,
            &format!("rule add from {} lookup {table}", way.client),
        );
        let route = format!("route add {vip}/32 via {} dev eth0", way.director);
        ip(client, &format!("{route} table {table}"));
    }
    let nginx: Vec<Web> = net
        .servers
        .iter()
        .map(|server| {
            ip(&server.netns, "route del default");
            let line = "realserver up --mode fullnat --director 192.168.0.144/28";
            let words: Vec<&str> = line.split(' ').collect();
            Director::new(PROGRAM, &server.netns).run(&words).unwrap();
            Web::nginx(&server.netns)
        })
        .collect();
    let service = format!("{vip}:{PORT}");
    let running = directors.map(|netns| Director::start(PROGRAM, netns, hook).unwrap());
    for ((director, netns), way) in running.iter().zip(directors).zip(&WAYS) {
        ip(netns, &format!("address add {}/32 dev eth1", way.local));
        let ipvsadm = |line: &str| director.ipvsadm(line).unwrap();
        ipvsadm(&format!("-A -t {service} -s rr --toa"));
        ipvsadm(&format!("-P -t {service} -z {}", way.local));
        for server in &net.servers {
            ipvsadm(&format!(
                "-a -t {service} -r {}:{NGINX} --fullnat",
                server.addr
            ));
        }
    }

    // The same port of both addresses at once, again and again.
    let url = format!("http://{service}/");
    for port in (0..REQUESTS).map(|n| (50_000 + n).to_string()) {
        let ask = |way| curl(client, way, &["--local-port", &port, &url]);
        let said = outputs(WAYS.iter().map(ask).collect());
        for (said, way) in said.iter().zip(&WAYS) {
            let expected = format!("{} {port}\n", way.client);
            assert_eq!(String::from_utf8_lossy(said), expected);
        }
    }
    for web in &nginx {
        // A server writes a request down after it has answered.
        let all = || Some(web.clients()).filter(|logged| logged.len() == REQUESTS);
        let logged = wait_until("as many requests as by each way", LIMIT, all).unwrap();
        for way in &WAYS {
            let times = logged.iter().filter(|one| *one == way.client).count();
            assert_eq!(times, REQUESTS / 2, "{logged:?}");
        }
    }
    for (director, way) in running.iter().zip(&WAYS) {
        let listed = director.ipvsadm("-G -n").unwrap();
        let line = listed.lines().find(|line| line.contains(way.local));
        let count = format!(" {REQUESTS}");
        assert!(line.is_some_and(|line| line.ends_with(&count)), "{listed}");
    }

    // Files by both at once.
    let content = vec![b'p'; SIZE];
    for web in &nginx {
        std::fs::write(web.file("files/big"), &content).unwrap();
    }
    let url = format!("{url}files/big");
    let files = outputs(WAYS.iter().map(|way| curl(client, way, &[&url])).collect());
    assert!(files.iter().all(|file| *file == content));
}
