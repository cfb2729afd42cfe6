//! What needs a kernel: netlink, sysctls and directories, in namespaces of their own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use futures_util::StreamExt;
use netlink_packet_route::neighbour::NeighbourState;
use pointsman_api::Location;
use pointsman_model::Family;
use pointsman_testkit::{Names, Netns, wire};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::Error;
use crate::home::{self, Home};
use crate::netlink::{self, Event, Netlink};
use crate::next_hops::{Neighbour, NeighbourKey};
use crate::sysctl;

const DIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1));
const RIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2));
const BEHIND: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 2, 0, 2));
const DIP6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 1));
const RIP6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 2));
const BEHIND6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd02, 0, 0, 0, 0, 0, 0, 2));
/// The server's link-local address, a gateway.
const GATEWAY6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2));

/// A director's namespace and a real server's, joined by a cable.
fn network() -> (Netns, Netns) {
    let names = Names::transient();
    let director = Netns::new(&names, "director").unwrap();
    let server = Netns::new(&names, "server").unwrap();
    wire::cable((&director, "eth0"), (&server, "eth0")).unwrap();
    director
        .ip(&format!("addr add {DIP}/24 brd + dev eth0"))
        .unwrap();
    server.ip(&format!("addr add {RIP}/24 dev eth0")).unwrap();
    director
        .ip(&format!("route add {BEHIND}/32 via {RIP}"))
        .unwrap();
    director.ip("route add unreachable 10.3.0.0/16").unwrap();
    director.ip("route add blackhole 10.4.0.0/16").unwrap();
    for netns in [&director, &server] {
        netns.sysctl("net.ipv6.conf.all.disable_ipv6", "0").unwrap();
    }
    director
        .ip(&format!("addr add {DIP6}/64 dev eth0 nodad"))
        .unwrap();
    for addr in [RIP6, GATEWAY6] {
        let line = format!("addr add {addr}/64 dev eth0 nodad");
        server.ip(&line).unwrap();
    }
    let line = format!("-6 route add fd02::/64 via {GATEWAY6} dev eth0");
    director.ip(&line).unwrap();
    director.ip("-6 route add unreachable fd03::/64").unwrap();
    director.ip("-6 route add blackhole fd04::/64").unwrap();
    (director, server)
}

/// Runs `f` on a runtime whose threads are in `netns`.
fn inside<T: Send>(netns: &Netns, f: impl AsyncFnOnce() -> T + Send) -> T {
    netns.run(|| {
        let runtime: Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(f())
    })
}

async fn entry(netlink: &Netlink, addr: IpAddr) -> Option<(NeighbourKey, Neighbour)> {
    let all = netlink.neighbours().await.unwrap();
    all.into_iter().find(|(key, _)| key.addr == addr)
}

/// Waits for an event that `wanted` accepts.
async fn event<T>(
    events: &mut (impl futures_util::Stream<Item = Event> + Unpin),
    wanted: impl Fn(Event) -> Option<T>,
) -> T {
    let wait = async {
        loop {
            if let Some(found) = wanted(events.next().await.unwrap()) {
                return found;
            }
        }
    };
    timeout(Duration::from_secs(10), wait)
        .await
        .expect("the event within ten seconds")
}

#[test]
fn routes_say_next_hop_source_and_why_there_is_none() {
    let (director, _server) = network();
    inside(&director, async || {
        let netlink = Netlink::open().unwrap();
        let ways = [
            (
                RIP,
                DIP,
                BEHIND,
                RIP,
                ["203.0.113.1", "10.3.0.1", "10.4.0.1"],
            ),
            (
                RIP6,
                DIP6,
                BEHIND6,
                GATEWAY6,
                ["2001:db8::1", "fd03::1", "fd04::1"],
            ),
        ];
        for (rip, dip, behind, gateway, none) in ways {
            let none = none.map(|addr| addr.parse::<IpAddr>().unwrap());
            let mut asked = vec![rip, behind, dip];
            asked.extend(none);
            let answers = netlink.resolve(asked).await;
            let of = |server| &answers.iter().find(|(of, _)| *of == server).unwrap().1;
            let direct = of(rip).as_ref().unwrap();
            assert_eq!((direct.gateway, direct.source), (None, Some(dip)));
            let behind = of(behind).as_ref().unwrap();
            assert_eq!((behind.gateway, behind.source), (Some(gateway), Some(dip)));
            assert_eq!(behind.index, direct.index);
            assert!(of(dip).as_ref().unwrap().local);
            let reasons = none.map(|server| of(server).as_ref().unwrap_err().reason.as_str());
            assert_eq!(
                reasons,
                [
                    "no route leads to it",
                    "its route says unreachable",
                    "its route is a blackhole"
                ]
            );
        }
        let broadcasts = netlink.broadcasts().await.unwrap();
        assert!(broadcasts.contains(&Ipv4Addr::new(10, 1, 0, 255)));
    });
}

/// The neighbour on the way to `addr`, asked of the kernel.
async fn managed(netlink: &Netlink, addr: IpAddr) -> NeighbourKey {
    let answers = netlink.resolve(vec![addr]).await;
    let route = answers[0].1.as_ref().unwrap();
    let key = NeighbourKey {
        index: route.index,
        addr: route.gateway.unwrap_or(addr),
    };
    netlink.manage(key).await.unwrap();
    key
}

#[test]
fn a_managed_neighbour_is_resolved_kept_and_given_back() {
    let (director, _server) = network();
    inside(&director, async || {
        let netlink = Netlink::open().unwrap();
        let mut events = netlink::follow().unwrap();
        for server in [RIP, RIP6, BEHIND6] {
            let key = managed(&netlink, server).await;
            // No packet was sent to it, yet it is resolved.
            event(&mut events, |event| match event {
                Event::Neighbour(of, Some(neighbour)) if of == key => {
                    (neighbour.state == NeighbourState::Reachable).then_some(())
                }
                _ => None,
            })
            .await;
            let (_, neighbour) = entry(&netlink, key.addr).await.unwrap();
            assert!(neighbour.managed && neighbour.ours, "{neighbour:?}");
            // To ask twice changes nothing.
            netlink.manage(key).await.unwrap();
        }
        let line = format!("neigh replace {RIP6} lladdr 02:00:00:00:00:07 dev eth0 nud permanent");
        director.ip(&line).unwrap();
        assert_eq!(netlink.release_all().await, Vec::<String>::new());
        for addr in [RIP, GATEWAY6] {
            assert_eq!(entry(&netlink, addr).await, None);
        }
        let (_, taken) = entry(&netlink, RIP6).await.unwrap();
        assert_eq!(taken.state, NeighbourState::Permanent);
    });
}

#[test]
fn a_neighbour_nobody_answers_for_fails_and_static_ones_are_not_ours() {
    let (director, _server) = network();
    let ways: [(IpAddr, IpAddr); 2] = [
        ("10.1.0.7".parse().unwrap(), "10.1.0.9".parse().unwrap()),
        ("fd01::7".parse().unwrap(), "fd01::9".parse().unwrap()),
    ];
    for (fixed, _) in ways {
        director
            .ip(&format!(
                "neigh add {fixed} lladdr 02:00:00:00:00:07 dev eth0 nud permanent"
            ))
            .unwrap();
    }
    inside(&director, async || {
        let netlink = Netlink::open().unwrap();
        let mut events = netlink::follow().unwrap();
        for (fixed, nobody) in ways {
            let key = managed(&netlink, nobody).await;
            event(&mut events, |event| match event {
                Event::Neighbour(of, Some(neighbour)) if of == key => {
                    (neighbour.state == NeighbourState::Failed).then_some(())
                }
                _ => None,
            })
            .await;
            assert_eq!(netlink.release_all().await, Vec::<String>::new());
            let (_, fixed) = entry(&netlink, fixed).await.unwrap();
            assert_eq!(fixed.state, NeighbourState::Permanent);
            assert!(!fixed.ours && !fixed.managed);
        }
    });
}

#[test]
fn links_are_seen_as_they_come_change_and_go() {
    let (director, _server) = network();
    inside(&director, async || {
        let netlink = Netlink::open().unwrap();
        let links = netlink.links().await.unwrap();
        let eth0 = links
            .iter()
            .find(|link| link.interface.name == "eth0")
            .unwrap();
        assert_eq!(eth0.interface.kind.as_deref(), Some("veth"));
        assert!(eth0.interface.ethernet && eth0.up && eth0.interface.mac != [0; 6]);
        assert!(links.iter().any(|link| link.interface.loopback));

        let mut events = netlink::follow().unwrap();
        director.ip("link add br7 mtu 1400 type bridge").unwrap();
        let added = event(&mut events, |event| match event {
            Event::Link(link) if link.interface.name == "br7" => Some(link.interface),
            _ => None,
        })
        .await;
        assert_eq!(added.kind.as_deref(), Some("bridge"));
        assert_eq!((added.mtu, added.ethernet), (1400, true));
        director.ip("link del br7").unwrap();
        event(&mut events, |event| {
            (event == Event::LinkGone(added.index)).then_some(())
        })
        .await;
        director.ip("route add 10.9.0.0/16 dev eth0").unwrap();
        event(&mut events, |event| (event == Event::Route).then_some(())).await;
        director.ip("nexthop add id 9 dev eth0").unwrap();
        event(&mut events, |event| (event == Event::Route).then_some(())).await;
        director.ip("addr add 10.1.0.77/32 dev lo").unwrap();
        event(&mut events, |event| (event == Event::Address).then_some(())).await;
    });
}

/// Everything the director sets, in order of name.
fn sysctls(netns: &Netns) -> Vec<String> {
    netns.run(|| {
        [
            "ipv4/conf/lo/accept_local",
            "ipv4/conf/lo/forwarding",
            "ipv4/conf/lo/rp_filter",
            "ipv6/conf/lo/forwarding",
        ]
        .map(|name| {
            let path = format!("/proc/sys/net/{name}");
            std::fs::read_to_string(path).unwrap().trim().to_owned()
        })
        .to_vec()
    })
}

#[test]
fn sysctls_of_this_namespace_are_set_and_restored() {
    let (director, _server) = network();
    let set = |name: &str, value: &str| {
        director.run(|| std::fs::write(format!("/proc/sys/net/{name}"), value).unwrap());
    };
    for forwarding in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        set(forwarding, "0");
    }
    set("ipv4/conf/all/rp_filter", "0");
    set("ipv4/conf/lo/rp_filter", "0");
    let saved = std::env::temp_dir().join(format!("pointsman-sysctl-{}", std::process::id()));
    let _ = std::fs::remove_file(&saved);
    let before = sysctls(&director);
    assert_eq!(before, ["0", "0", "0", "0"]);
    director.run(|| sysctl::apply(&saved)).unwrap();
    assert_eq!(sysctls(&director), ["1", "1", "0", "1"]);
    // A second director after a killed one must not take our values for the old ones.
    director.run(|| sysctl::apply(&saved)).unwrap();
    for forwarding in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        set(forwarding, "1");
        set(forwarding, "0");
    }
    set("ipv4/conf/all/rp_filter", "1");
    assert_eq!(sysctls(&director), ["1", "0", "0", "0"]);
    assert_eq!(
        director.run(sysctl::enforce),
        [
            "net/ipv4/conf/lo/forwarding",
            "net/ipv6/conf/lo/forwarding",
            "net/ipv4/conf/lo/rp_filter"
        ]
    );
    assert_eq!(sysctls(&director), ["1", "1", "2", "1"]);
    assert_eq!(director.run(sysctl::enforce), Vec::<&str>::new());
    assert_eq!(
        director.run(|| sysctl::restore(&saved)),
        Vec::<String>::new()
    );
    assert_eq!(sysctls(&director), before);
    assert!(!saved.exists());
}

#[test]
fn a_router_that_advertised_itself_stays_the_way_out() {
    let (director, server) = network();
    let write = |name: &str, value: &str| {
        director.run(|| std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}"), value).unwrap());
    };
    write("all/forwarding", "0");
    write("eth0/accept_ra", "1");
    let default = || director.ip("-6 route show default").unwrap();
    let index = server.index("eth0").unwrap();
    let advertise = || {
        server.run(|| router_advertisement(index));
        pointsman_testkit::wait_until("a default route", Duration::from_secs(5), || {
            default().contains("proto ra").then_some(())
        })
        .unwrap();
    };
    // What would happen.
    advertise();
    write("lo/forwarding", "1");
    assert_eq!(default(), "");
    write("lo/forwarding", "0");

    advertise();
    let saved = std::env::temp_dir().join(format!("pointsman-sysctl-ra-{}", std::process::id()));
    let _ = std::fs::remove_file(&saved);
    director.run(|| sysctl::apply(&saved)).unwrap();
    assert!(default().contains("proto ra"), "{}", default());
    let accepts =
        director.run(|| std::fs::read_to_string("/proc/sys/net/ipv6/conf/eth0/accept_ra").unwrap());
    assert_eq!(accepts.trim(), "1");
    assert_eq!(
        director.run(|| sysctl::restore(&saved)),
        Vec::<String>::new()
    );
    assert!(default().contains("proto ra"), "{}", default());
}

/// Sends a router advertisement (RFC 4861, 4.2) with a life of 1800 seconds out of an interface.
fn router_advertisement(index: u32) {
    use std::net::SocketAddrV6;
    use std::os::fd::{AsRawFd, FromRawFd};
    // SAFETY: a new socket of this function's own.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6);
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        std::net::UdpSocket::from_raw_fd(fd)
    };
    for (option, value) in [
        (libc::IPV6_MULTICAST_HOPS, 255),
        (libc::IPV6_MULTICAST_IF, index as libc::c_int),
    ] {
        // SAFETY: the option is an int and the descriptor is open.
        let done = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_IPV6,
                option,
                (&raw const value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }
    let message = [
        134,
        0,
        0,
        0,
        64,
        0,
        1800u16.to_be_bytes()[0],
        1800u16.to_be_bytes()[1],
    ];
    let message = [&message[..], &[0; 8]].concat();
    let all = SocketAddrV6::new("ff02::1".parse().unwrap(), 0, 0, index);
    socket.send_to(&message, all).unwrap();
}

/// What the routing rules are, by family.
fn rules(netns: &Netns) -> [String; 2] {
    ["-4", "-6"].map(|family| netns.ip(&format!("{family} rule")).unwrap())
}

#[test]
fn marked_packets_are_routed_out_of_lo_until_nobody_wants_them() {
    const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
    let (director, _server) = network();
    for (family, vip) in [("-4", "10.1.0.100/32"), ("-6", "fd01::100/128")] {
        let line = format!("{family} addr add {vip} dev lo");
        director.ip(&line).unwrap();
    }
    director.sysctl("net.ipv4.ip_forward", "1").unwrap();
    director
        .sysctl("net.ipv6.conf.all.forwarding", "1")
        .unwrap();
    // By which device a client's packet is routed: a local VIP's and another one's.
    let way = |mark: &str| {
        [
            "10.1.0.100 from 10.1.0.2",
            "10.9.9.9 from 10.1.0.2",
            "fd01::100 from fd01::2",
            "fd09::9 from fd01::2",
        ]
        .map(|packet| {
            let line = format!("route get {packet} iif eth0 {mark}");
            director.ip(&line).unwrap_or_default()
        })
    };
    let table = "table 1347251563";
    let caught = |mark: &str| way(mark).map(|way| way.contains(table) && way.contains("dev lo"));
    let before = rules(&director);
    let set = |marks: &[u32]| {
        inside(&director, async || {
            let netlink = Netlink::open().unwrap();
            let marks = marks.iter().copied().collect();
            for family in FAMILIES {
                // To ask twice changes nothing.
                for _ in 0..2 {
                    netlink.set_marks(family, &marks).await.unwrap();
                }
            }
        });
    };
    assert_eq!(caught("mark 666"), [false; 4]);
    set(&[666, 0x8000_0001]);
    for mark in ["mark 666", "mark 0x80000001"] {
        assert_eq!(
            caught(mark),
            [true; 4],
            "{:?} {:?}",
            way(mark),
            rules(&director)
        );
    }
    assert_eq!(caught("mark 667"), [false; 4]);
    assert_eq!(caught(""), [false; 4]);
    assert!(way("")[0].starts_with("local"));
    // The director's own packets, also those that a socket marks, go where they went.
    let own = director.ip("route get 10.1.0.100 mark 666").unwrap();
    assert!(own.starts_with("local"), "{own}");

    // Somebody clears up, the way ip does it, and lo goes down and up.
    director.ip("-4 rule del pref 0 iif lo").unwrap();
    director.ip("-6 rule del fwmark 666").unwrap();
    director.ip("link set lo down").unwrap();
    director.ip("link set lo up").unwrap();
    set(&[666]);
    assert_eq!(
        caught("mark 666")[1..3],
        [true; 2],
        "{:?}",
        rules(&director)
    );
    assert_eq!(caught("mark 0x80000001"), [false; 4]);
    set(&[]);
    assert_eq!(caught("mark 666"), [false; 4]);
    assert_eq!(rules(&director), before);
    assert_eq!(director.ip("nexthop").unwrap(), "");
    for family in ["-4", "-6"] {
        let left = director.ip(&format!("{family} route show {table}"));
        assert_eq!(left.unwrap_or_default(), "");
    }
}

#[test]
fn a_second_director_is_told_who_the_first_is() {
    let (netns, _server) = network();
    let location = Location::of_netns(netns.name()).unwrap();
    let home = Home::take(location.clone()).unwrap();
    assert_eq!(home::running(&location), Some(std::process::id()));
    match Home::take(location.clone()) {
        Err(Error::AnotherDirector { pid }) => assert_eq!(pid, std::process::id()),
        other => panic!("{other:?}"),
    }
    home.clear();
    assert!(!location.run_dir().exists());
    assert_eq!(home::running(&location), None);
}

#[test]
fn who_leaves_keeps_what_must_be_restored_one_day() {
    let (netns, _server) = network();
    let location = Location::of_netns(netns.name()).unwrap();
    let home = Home::take(location.clone()).unwrap();
    std::fs::write(location.sysctl_file(), "{}").unwrap();
    home.leave();
    assert!(location.sysctl_file().exists());
    assert_eq!(home::running(&location), None);
    Home::take(location.clone()).unwrap().clear();
    assert!(!location.run_dir().exists());
}

#[test]
fn what_a_dead_namespace_left_is_removed_and_a_living_ones_is_not() {
    let (director, server) = network();
    let living = Location::of_netns(director.name()).unwrap();
    let dead = Location::of_netns(server.name()).unwrap();
    for location in [&living, &dead] {
        std::fs::create_dir_all(location.run_dir()).unwrap();
        std::fs::write(location.log_file(), "").unwrap();
    }
    drop(server);
    crate::gc::collect(&Location::here().unwrap());
    let (kept, collected) = (living.run_dir().exists(), !dead.run_dir().exists());
    let _ = std::fs::remove_dir_all(living.run_dir());
    let _ = std::fs::remove_dir_all(dead.run_dir());
    let _ = std::fs::remove_dir(Location::RUN_ROOT);
    assert!(kept && collected, "kept {kept}, collected {collected}");
}
