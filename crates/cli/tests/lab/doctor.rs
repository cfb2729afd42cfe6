//! `pointsman doctor` finds what was planted, and nothing in a set-up that works.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use pointsman_testkit::frames::{Ethernet, IPV4, ipv4};
use pointsman_testkit::{Hook, Method, Netns, send_frame};

use crate::common::{PORT, PROGRAM, Stage};
use crate::fullnat;

/// Names of what it finds in a host's namespace.
fn findings(host: &Netns, options: &str) -> Vec<String> {
    let done = Command::new(PROGRAM)
        .args(["--netns", host.name(), "doctor", "--json"])
        .args(options.split_whitespace())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout);
    let list: Vec<serde_json::Value> = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&done.stderr)));
    assert_eq!(done.status.code(), Some(i32::from(!list.is_empty())));
    for finding in &list {
        assert!(!finding["mend"].as_array().unwrap().is_empty(), "{finding}");
    }
    list.iter()
        .map(|finding| finding["name"].as_str().unwrap().to_owned())
        .collect()
}

/// A set-up that works and has served clients.
fn healthy(method: Method, hook: Hook) -> Stage {
    let stage = Stage::new(method, hook);
    stage.balance("rr");
    stage.ask(4);
    stage
}

/// Plants something at the director; the finding must be there after it, and was not before.
#[track_caller]
fn at_director(method: Method, plant: impl FnOnce(&Stage), name: &str) {
    let stage = healthy(method, Hook::Tc);
    plant(&stage);
    let found = findings(&stage.net.director, "");
    assert_eq!(found, [name]);
}

/// The same at the first real server, which `options` describe.
#[track_caller]
fn at_server(method: Method, options: &str, plant: impl FnOnce(&Stage, &Netns), name: &str) {
    let stage = Stage::new(method, Hook::Tc);
    let server = &stage.net.servers[0].netns;
    let options = options.replace("VIP", &stage.net.vip.to_string());
    assert_eq!(findings(server, &options), Vec::<String>::new(), "before");
    plant(&stage, server);
    assert_eq!(findings(server, &options), [name]);
}

#[test]
fn a_set_up_that_works_gives_no_finding() {
    for method in [Method::Nat, Method::DirectRouting, Method::Tunnel] {
        let stage = healthy(method, Hook::Tc);
        assert_eq!(
            findings(&stage.net.director, ""),
            Vec::<String>::new(),
            "{method:?}"
        );
    }
}

#[test]
fn vip_claimed_by_a_real_server() {
    at_director(
        Method::DirectRouting,
        |stage| {
            let server = &stage.net.servers[0].netns;
            for scope in ["all", "eth0"] {
                server
                    .sysctl(&format!("net.ipv4.conf.{scope}.arp_ignore"), "0")
                    .unwrap();
            }
        },
        "vip-claimed-by-another",
    );
}

#[test]
fn vip_claimed_by_a_stranger() {
    at_director(
        Method::DirectRouting,
        |stage| {
            drop(
                stage
                    .net
                    .other("router")
                    .ip(&format!("addr add {}/32 dev eth1", stage.net.vip))
                    .unwrap(),
            )
        },
        "vip-claimed-by-another",
    );
}

#[test]
fn server_that_listens_on_another_port() {
    let stage = Stage::new(Method::DirectRouting, Hook::Tc);
    let server = &stage.net.servers[0].netns;
    let options = |port| format!("--vip {} --mode dr --port {port}", stage.net.vip);
    assert_eq!(findings(server, &options(PORT)), Vec::<String>::new());
    assert_eq!(findings(server, &options(8080)), ["port-differs"]);
}

#[test]
fn server_of_direct_routing_in_another_segment() {
    at_director(
        Method::DirectRouting,
        |stage| {
            let service = stage.net.service(PORT);
            stage
                .net
                .other("router")
                .ip("addr add 10.77.0.1/24 dev eth0")
                .unwrap();
            stage
                .net
                .client
                .ip("addr add 10.77.0.2/24 dev eth0")
                .unwrap();
            stage.ipvsadm(&format!("-a -t {service} -r 10.77.0.2 -g -w 0"));
        },
        "dr-other-segment",
    );
}

#[test]
fn server_that_no_packet_reaches() {
    at_director(
        Method::Nat,
        |stage| {
            let service = stage.net.service(PORT);
            stage.ipvsadm(&format!("-a -t {service} -r 192.168.0.77:80 -m -w 0"));
            let dead = || {
                let text = findings(&stage.net.director, "");
                text.contains(&"server-unreachable".to_owned())
                    .then_some(())
            };
            pointsman_testkit::wait_until(
                "the neighbour is given up",
                Duration::from_secs(60),
                dead,
            )
            .unwrap();
        },
        "server-unreachable",
    );
}

#[test]
fn replies_of_nat_that_go_another_way() {
    at_director(
        Method::Nat,
        |stage| {
            // To the other server, which forwards nothing.
            stage.net.servers[0]
                .netns
                .ip("route replace default via 192.168.0.20")
                .unwrap();
            let (service, second) = (stage.net.service(PORT), stage.net.servers[1].addr);
            stage.ipvsadm("-C");
            stage.balance("rr");
            stage.ipvsadm(&format!("-d -t {service} -r {second}:{PORT}"));
            // It asks again after a second, and after two more.
            let vip = stage.net.vip;
            stage.net.client.run(move || {
                let to = std::net::SocketAddr::from((vip, PORT));
                let _ = std::net::TcpStream::connect_timeout(&to, Duration::from_secs(4));
            });
            stage.stats(1);
        },
        "nat-replies-bypass",
    );
}

#[test]
fn replies_of_fullnat_that_find_no_way() {
    let stage = fullnat::stage(Hook::Tc);
    stage.balance("rr");
    stage.ask(4);
    assert_eq!(findings(&stage.net.director, ""), Vec::<String>::new());
    stage.ipvsadm("-C");
    for server in &stage.net.servers {
        server
            .netns
            .ip(&format!("route add blackhole {}/32", fullnat::LOCAL))
            .unwrap();
    }
    stage.balance("rr");
    let (service, second) = (stage.net.service(PORT), stage.net.servers[1].addr);
    stage.ipvsadm(&format!("-d -t {service} -r {second}:{PORT}"));
    let vip = stage.net.vip;
    stage.net.client.run(move || {
        let to = std::net::SocketAddr::from((vip, PORT));
        let _ = std::net::TcpStream::connect_timeout(&to, Duration::from_secs(4));
    });
    stage.stats(1);
    assert_eq!(findings(&stage.net.director, ""), ["fullnat-replies-lost"]);
}

#[test]
fn client_of_nat_beside_its_servers() {
    at_director(
        Method::Nat,
        |stage| {
            stage.ipvsadm("-C");
            stage.balance("rr");
            let (service, second) = (stage.net.service(PORT), &stage.net.servers[1]);
            stage.ipvsadm(&format!("-d -t {service} -r {}:{PORT}", second.addr));
            let vip = stage.net.vip;
            second.netns.run(move || {
                let to = std::net::SocketAddr::from((vip, PORT));
                let _ = std::net::TcpStream::connect_timeout(&to, Duration::from_millis(500));
            });
        },
        "nat-client-beside-servers",
    );
}

#[test]
fn forwarding_switched_off() {
    at_director(
        Method::Nat,
        |stage| {
            stage
                .net
                .director
                .sysctl("net.ipv4.ip_forward", "0")
                .unwrap()
        },
        "ip-forward-off",
    );
}

#[test]
fn tunnel_through_a_narrow_interface() {
    at_director(
        Method::Tunnel,
        |stage| {
            let director = &stage.net.director;
            director
                .ip("link add spare type veth peer name spare2")
                .unwrap();
            director.ip("link set spare up").unwrap();
            director.ip("link set spare2 up").unwrap();
            director.ip("link set eth0 mtu 1400").unwrap();
            let (service, second) = (stage.net.service(PORT), stage.net.servers[1].addr);
            stage.ipvsadm(&format!("-d -t {service} -r {second}:{PORT}"));
        },
        "tunnel-too-narrow",
    );
}

#[test]
fn iptables_rules_that_packets_do_not_meet() {
    at_director(
        Method::Nat,
        |stage| {
            let mut command = stage.net.director.command("iptables");
            command.args("-A INPUT -p tcp --dport 80 -s 203.0.113.0/24 -j DROP".split(' '));
            assert!(command.status().unwrap().success());
        },
        "input-rules-bypassed",
    );
}

#[test]
fn nftables_policy_that_packets_do_not_meet() {
    at_director(
        Method::Nat,
        |stage| {
            let mut command = stage.net.director.command("nft");
            command.arg("table inet fw { chain in { type filter hook input priority 0; policy drop; tcp dport 22 accept; icmpv6 type nd-neighbor-solicit accept; }; }");
            assert!(command.status().unwrap().success());
        },
        "input-rules-bypassed",
    );
}

#[test]
fn native_xdp_over_veth() {
    let stage = healthy(Method::Nat, Hook::Xdp);
    let found = findings(&stage.net.director, "");
    assert_eq!(found, ["offload-breaks-xdp", "offload-breaks-xdp"]);
}

/// A version 2 advert of 192.168.0.200, from another address each time, with `trailer` behind it.
fn advertise(from: &Netns, source: Ipv4Addr, vip: Ipv4Addr, trailer: &[u8]) {
    let mut message = vec![0x21, 51, 100, 1, 0, 1, 0, 0];
    message.extend(vip.octets());
    message.extend([0; 8]);
    let sum = pointsman_testkit::frames::checksum(&[&message]);
    message[6..8].copy_from_slice(&sum.to_be_bytes());
    message.extend(trailer);
    let frame = Ethernet {
        destination: [0x01, 0, 0x5e, 0, 0, 0x12],
        source: from.mac("eth0").unwrap(),
        vlan: None,
    }
    .frame(
        IPV4,
        &ipv4(source, Ipv4Addr::new(224, 0, 0, 18), 112, &message),
    );
    send_frame(from, "eth0", &frame).unwrap();
}

/// Sends adverts twice a second while the doctor listens.
#[track_caller]
fn among_adverts(adverts: &[([u8; 4], [u8; 4], &[u8])], name: &str) {
    let stage = healthy(Method::DirectRouting, Hook::Tc);
    let sender = &stage.net.servers[1].netns;
    let found = std::thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            let half = Duration::from_millis(500);
            while stopped.recv_timeout(half) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                for (source, vip, trailer) in adverts {
                    advertise(sender, (*source).into(), (*vip).into(), trailer);
                }
            }
        });
        let found = findings(&stage.net.director, "");
        drop(stop);
        found
    });
    assert_eq!(found, [name]);
}

#[test]
fn one_virtual_router_of_two_clusters() {
    let (ours, theirs) = ([192, 168, 0, 100], [192, 168, 0, 190]);
    among_adverts(
        &[
            ([192, 168, 0, 7], ours, &[]),
            ([192, 168, 0, 8], theirs, &[]),
        ],
        "vrrp-router-id-twice",
    );
}

#[test]
fn one_virtual_router_with_two_masters() {
    let vip = [192, 168, 0, 100];
    among_adverts(
        &[([192, 168, 0, 7], vip, &[]), ([192, 168, 0, 8], vip, &[])],
        "vrrp-router-id-twice",
    );
}

#[test]
fn a_clock_that_is_an_hour_behind() {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let mut trailer = [0; 28];
    trailer[..2].copy_from_slice(&[1, 1]);
    trailer[4..8].copy_from_slice(&(now.as_secs() as u32 - 3600).to_be_bytes());
    among_adverts(
        &[([192, 168, 0, 7], [192, 168, 0, 100], &trailer)],
        "clock-skew",
    );
}

#[test]
fn server_without_the_vip() {
    at_server(
        Method::DirectRouting,
        "--vip VIP --mode dr",
        |stage, server| {
            drop(
                server
                    .ip(&format!("addr del {}/32 dev lo", stage.net.vip))
                    .unwrap(),
            )
        },
        "vip-missing",
    );
}

#[test]
fn server_with_the_vip_on_the_wire() {
    at_server(
        Method::DirectRouting,
        "--vip VIP --mode dr",
        |stage, server| {
            drop(
                server
                    .ip(&format!("addr add {}/32 dev eth0", stage.net.vip))
                    .unwrap(),
            )
        },
        "vip-on-the-wire",
    );
}

#[test]
fn server_with_a_whole_network_on_lo() {
    at_server(
        Method::DirectRouting,
        "--vip VIP --mode dr",
        |stage, server| {
            server
                .ip(&format!("addr del {}/32 dev lo", stage.net.vip))
                .unwrap();
            server
                .ip(&format!("addr add {}/24 dev lo", stage.net.vip))
                .unwrap();
        },
        "vip-prefix",
    );
}

#[test]
fn server_whose_arp_was_not_silent_in_time() {
    at_server(
        Method::DirectRouting,
        "--vip VIP --mode dr",
        |_, server| {
            for scope in ["all", "eth0"] {
                server
                    .sysctl(&format!("net.ipv4.conf.{scope}.arp_announce"), "0")
                    .unwrap();
            }
        },
        "arp-not-silent",
    );
}

#[test]
fn server_on_which_nobody_listens() {
    let mut stage = Stage::new(Method::DirectRouting, Hook::Tc);
    stage.pages.clear();
    let options = format!("--vip {} --mode dr", stage.net.vip);
    let gone = || {
        let found = findings(&stage.net.servers[0].netns, &options);
        (found == ["nobody-listens"]).then_some(())
    };
    pointsman_testkit::wait_until("the page server is gone", Duration::from_secs(20), gone)
        .unwrap();
}

#[test]
fn server_with_a_strict_filter_behind_its_tunnel() {
    at_server(
        Method::Tunnel,
        "",
        |_, server| server.sysctl("net.ipv4.conf.eth0.rp_filter", "1").unwrap(),
        "rp-filter-strict",
    );
}

#[test]
fn server_that_does_not_decapsulate() {
    let stage = Stage::new(Method::Tunnel, Hook::Tc);
    let server = &stage.net.servers[0].netns;
    server.ip("link add eth1 type veth peer name eth2").unwrap();
    stage.pointsman(
        server,
        &format!("realserver up --mode tun --mss 0 --vip {}", stage.net.vip),
    );
    assert_eq!(findings(server, ""), Vec::<String>::new());
    let pins = format!(
        "/sys/fs/bpf/pointsman/{}/realserver/decapsulate-eth1",
        server.cookie()
    );
    std::fs::remove_file(pins).unwrap();
    assert_eq!(findings(server, ""), ["not-decapsulated"]);
}

#[test]
fn server_whose_tunnel_became_narrow() {
    at_server(
        Method::Tunnel,
        "",
        |stage, server| {
            stage.pointsman(server, "realserver down");
            stage.pointsman(
                server,
                &format!("realserver up --mode tun --vip {}", stage.net.vip),
            );
            server.ip("link set eth0 mtu 1400").unwrap();
        },
        "tunnel-too-narrow",
    );
}

#[test]
fn server_of_nat_with_another_gateway() {
    at_server(
        Method::Nat,
        "--vip VIP --mode nat --director 192.168.0.100",
        |_, server| drop(server.ip("route replace default via 192.168.0.20").unwrap()),
        "nat-gateway",
    );
}

#[test]
fn server_of_fullnat_that_does_not_read_clients() {
    let stage = Stage::new(Method::Nat, Hook::Tc);
    let server = &stage.net.servers[0].netns;
    stage.pointsman(
        server,
        "realserver up --mode fullnat --director 192.168.0.0/24",
    );
    assert_eq!(findings(server, ""), Vec::<String>::new());
    let pins = format!(
        "/sys/fs/bpf/pointsman/{}/realserver/toa-remember",
        server.cookie()
    );
    std::fs::remove_file(pins).unwrap();
    assert_eq!(findings(server, ""), ["client-address-unread"]);
    stage.pointsman(server, "realserver down");
}
