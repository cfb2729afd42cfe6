//! Unmodified web servers behind FULLNAT tell who their client is, and files go both ways whole: by TOA,
//! by PROXY protocol, in both families and between them.

use std::fs;
use std::time::Duration;

use pointsman_testkit::{Hook, Netns, blob, wait_until};
use tempfile::TempDir;

use crate::common::{PORT, Stage, client};
use crate::fullnat;
use crate::ipv6;
use crate::on_both_hooks;
use crate::web::{APACHE, HAPROXY, NGINX, NGINX_PROXY, Web};

on_both_hooks! {
    toa,
    toa_of_ipv6,
    proxy_protocol,
    proxy_protocol_of_ipv6,
    ipv6_clients_of_ipv4_servers,
    ipv4_clients_of_ipv6_servers,
}

/// Bytes of a file.
const SIZE: usize = 64 << 20;
/// Bytes that come in the client's first flight, more than one segment.
const FLIGHT: usize = 12_000;

/// Addresses of one family: the service, the local address, the real servers.
pub struct Net {
    pub vip: String,
    pub local: String,
    pub servers: [String; 2],
}

/// The lab of FULLNAT, with IPv6 beside IPv4.
pub fn stage(hook: Hook) -> (Stage, [Net; 2]) {
    let stage = fullnat::stage(hook);
    ipv6::enable(&stage);
    let director = &stage.net.director;
    director
        .sysctl("net.ipv6.conf.all.forwarding", "1")
        .unwrap();
    let add = |netns: &Netns, addr: &str, interface: &str| {
        netns
            .ip(&format!("address add {addr} dev {interface} nodad"))
            .unwrap();
    };
    add(&stage.net.client, "fd00:1::2/64", "eth0");
    add(director, "fd00:1::100/64", "eth0");
    add(director, "fd00:2::1/64", "eth1");
    add(director, "fd00:2::150/128", "eth1");
    for (server, n) in stage.net.servers.iter().zip(["11", "12"]) {
        add(&server.netns, &format!("fd00:2::{n}/64"), "eth0");
    }
    let servers = [0, 1].map(|n| stage.net.servers[n].addr.to_string());
    let narrow = Net {
        vip: stage.net.vip.to_string(),
        local: fullnat::LOCAL.into(),
        servers,
    };
    let wide = Net {
        vip: "[fd00:1::100]".into(),
        local: "fd00:2::150".into(),
        servers: ["[fd00:2::11]".into(), "[fd00:2::12]".into()],
    };
    (stage, [narrow, wide])
}

/// What curl says on the client.
#[track_caller]
fn curl(stage: &Stage, arguments: &[&str]) -> String {
    let always = ["-sS", "-g", "--fail", "--max-time", "120"];
    client(stage, "curl", &[&always, arguments].concat())
}

/// How real servers are told who the client is, and who hears it.
struct Telling<'a> {
    /// Where clients come, and the servers.
    nets: [&'a Net; 2],
    /// Option of the service.
    option: &'a str,
    /// The servers' port.
    port: u16,
    /// Whether pages name the client; logs always do.
    says: bool,
}

/// A service of its own at port `vport`; its address.
fn serve(stage: &Stage, telling: &Telling<'_>, vport: u16) -> String {
    let [front, back] = telling.nets;
    let service = format!("{}:{vport}", front.vip);
    stage.ipvsadm(&format!("-A -t {service} -s rr {}", telling.option));
    stage.ipvsadm(&format!("-P -t {service} -z {}", back.local));
    for server in &back.servers {
        let port = telling.port;
        stage.ipvsadm(&format!("-a -t {service} -r {server}:{port} --fullnat"));
    }
    assert!(stage.ipvsadm("-S -n").contains(telling.option));
    service
}

fn on_servers(stage: &Stage, start: fn(&Netns) -> Web) -> Vec<Web> {
    let servers = &stage.net.servers;
    servers.iter().map(|server| start(&server.netns)).collect()
}

/// Connections of two requests each, and such with many bytes at once to begin with; every one is told of.
fn names_its_client(stage: &Stage, telling: &Telling<'_>, service: &str, servers: &[Web]) {
    let url = format!("http://{service}/index.html");
    let flight = TempDir::new().unwrap();
    let flight = flight.path().join("flight");
    fs::write(&flight, vec![b'x'; FLIGHT]).unwrap();
    let body = format!("@{}", flight.display());
    let local = ["-w", "%{local_ip} %{local_port}\n"];
    let mut client = String::new();
    for n in 0..20 {
        let said = if n < 10 {
            curl(stage, &[&local[..], &[&url, &url]].concat())
        } else {
            let post = ["-H", "Expect:", "--data-binary", &body];
            let two = [&post[..], &[&url, &url]].concat();
            curl(stage, &[&local[..], &two].concat())
        };
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 4, "{said}");
        if telling.says {
            // A server that answers before it has all bytes may have the connection closed.
            let reused = n >= 10 || lines[1] == lines[3];
            let true_names = lines[0] == lines[1] && lines[2] == lines[3];
            assert!(reused && true_names, "{n}: {said}");
        }
        client = lines[1].split_once(' ').unwrap().0.to_owned();
    }
    // Some servers log after they answered.
    let all = || {
        let logged: Vec<Vec<String>> = servers.iter().map(Web::clients).collect();
        Some(logged).filter(|logged| logged.iter().flatten().count() >= 40)
    };
    let logged = wait_until("logs", Duration::from_secs(10), all).unwrap();
    let others = logged.iter().flatten().filter(|one| **one != client);
    assert_eq!(
        others.collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "beside {client}"
    );
    assert_eq!(logged.iter().flatten().count(), 40);
    // Unequal by requests when a connection was closed between two.
    assert!(logged.iter().all(|one| one.len() >= 10), "{logged:?}");
}

/// A file goes up to each server, and comes down again.
fn carries_files(stage: &Stage, service: &str, servers: &[Web]) {
    let local = TempDir::new().unwrap();
    let [up, down] = ["up", "down"].map(|name| local.path().join(name));
    let mut content = vec![0; SIZE];
    blob::fill(0, &mut content);
    fs::write(&up, &content).unwrap();
    let [up, down] = [&up, &down].map(|path| path.to_str().unwrap());
    let url = format!("http://{service}/files/one");
    for _ in servers {
        curl(stage, &["-T", up, &url]);
    }
    for server in servers {
        let kept = fs::read(server.file("files/one")).unwrap();
        assert!(kept == content, "what came up");
    }
    for _ in servers {
        curl(stage, &["-o", down, &url]);
        assert!(fs::read(down).unwrap() == content, "what came down");
    }
}

/// Real servers read the option, and believe the director alone.
fn read_toa(stage: &Stage, local: &str) {
    for server in &stage.net.servers {
        let up = format!("realserver up --mode fullnat --director {local}");
        stage.pointsman(&server.netns, &up);
    }
}

fn by_toa(hook: Hook, family: usize) {
    let (stage, nets) = stage(hook);
    let net = &nets[family];
    read_toa(&stage, &net.local);
    let telling = |port, says| Telling {
        nets: [net, net],
        option: "--toa",
        port,
        says,
    };
    let nginx = on_servers(&stage, Web::nginx);
    let one = telling(NGINX, true);
    let service = serve(&stage, &one, PORT);
    names_its_client(&stage, &one, &service, &nginx);
    carries_files(&stage, &service, &nginx);
    let apache = on_servers(&stage, Web::apache);
    let other = telling(APACHE, false);
    let service = serve(&stage, &other, PORT + 1);
    names_its_client(&stage, &other, &service, &apache);
}

fn toa(hook: Hook) {
    by_toa(hook, 0);
}

fn toa_of_ipv6(hook: Hook) {
    by_toa(hook, 1);
}

fn by_proxy_protocol(hook: Hook, family: usize) {
    let (stage, nets) = stage(hook);
    let net = &nets[family];
    let telling = |port| Telling {
        nets: [net, net],
        option: "--proxy-protocol",
        port,
        says: true,
    };
    let nginx = on_servers(&stage, Web::nginx);
    let service = serve(&stage, &telling(NGINX_PROXY), PORT);
    names_its_client(&stage, &telling(NGINX_PROXY), &service, &nginx);
    carries_files(&stage, &service, &nginx);
    let haproxy = on_servers(&stage, Web::haproxy);
    let service = serve(&stage, &telling(HAPROXY), PORT + 1);
    names_its_client(&stage, &telling(HAPROXY), &service, &haproxy);
}

fn proxy_protocol(hook: Hook) {
    by_proxy_protocol(hook, 0);
}

fn proxy_protocol_of_ipv6(hook: Hook) {
    by_proxy_protocol(hook, 1);
}

/// Clients of one family, servers of the other: as they are, and told of the client in either way.
fn between_families(hook: Hook, from: usize) {
    let (stage, nets) = stage(hook);
    let (front, back) = (&nets[from], &nets[1 - from]);
    read_toa(&stage, &back.local);
    let telling = |option, port, says| Telling {
        nets: [front, back],
        option,
        port,
        says,
    };
    let nginx = on_servers(&stage, Web::nginx);
    let proxy = telling("--proxy-protocol", NGINX_PROXY, true);
    let service = serve(&stage, &proxy, PORT);
    names_its_client(&stage, &proxy, &service, &nginx);
    carries_files(&stage, &service, &nginx);

    let hidden = serve(&stage, &telling("", NGINX, false), PORT + 1);
    let seen = curl(&stage, &[&format!("http://{hidden}/")]);
    assert!(seen.starts_with(&format!("{} ", back.local)), "{seen}");
    carries_files(&stage, &hidden, &nginx);

    // IPv4 sockets cannot show an IPv6 client; Apache's are of both.
    let apache = on_servers(&stage, Web::apache);
    let option = telling("--toa", APACHE, false);
    let service = serve(&stage, &option, PORT + 2);
    names_its_client(&stage, &option, &service, &apache);
}

fn ipv6_clients_of_ipv4_servers(hook: Hook) {
    between_families(hook, 1);
}

fn ipv4_clients_of_ipv6_servers(hook: Hook) {
    between_families(hook, 0);
}
