//! What needs a kernel: netlink, sysctls and directories, in namespaces of their own.

use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::StreamExt;
use netlink_packet_route::neighbour::NeighbourState;
use pointsman_api::Location;
use pointsman_testkit::{Names, Netns, wire};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::Error;
use crate::home::{self, Home};
use crate::netlink::{self, Event, Netlink};
use crate::next_hops::{Neighbour, NeighbourKey};
use crate::sysctl;

const DIP: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const RIP: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const BEHIND: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 2);

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

async fn entry(netlink: &Netlink, addr: Ipv4Addr) -> Option<(NeighbourKey, Neighbour)> {
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
        let nowhere: Ipv4Addr = "203.0.113.1".parse().unwrap();
        let unreachable: Ipv4Addr = "10.3.0.1".parse().unwrap();
        let blackhole: Ipv4Addr = "10.4.0.1".parse().unwrap();
        let answers = netlink
            .resolve(vec![RIP, BEHIND, DIP, nowhere, unreachable, blackhole])
            .await;
        let of = |server| &answers.iter().find(|(of, _)| *of == server).unwrap().1;
        let direct = of(RIP).as_ref().unwrap();
        assert_eq!((direct.gateway, direct.source), (None, Some(DIP)));
        let behind = of(BEHIND).as_ref().unwrap();
        assert_eq!(
            (behind.gateway, behind.source),
            (Some(RIP.into()), Some(DIP))
        );
        assert_eq!(behind.index, direct.index);
        assert!(of(DIP).as_ref().unwrap().local);
        let reason = |server| of(server).as_ref().unwrap_err().reason.as_str();
        assert_eq!(reason(nowhere), "no route leads to it");
        assert_eq!(reason(unreachable), "its route says unreachable");
        assert_eq!(reason(blackhole), "its route is a blackhole");

        let broadcasts = netlink.broadcasts().await.unwrap();
        assert!(broadcasts.contains(&Ipv4Addr::new(10, 1, 0, 255)));
    });
}

#[test]
fn a_managed_neighbour_is_resolved_kept_and_given_back() {
    let (director, _server) = network();
    inside(&director, async || {
        let netlink = Netlink::open().unwrap();
        let mut events = netlink::follow().unwrap();
        let index = netlink.resolve(vec![RIP]).await[0]
            .1
            .as_ref()
            .unwrap()
            .index;
        let key = NeighbourKey {
            index,
            addr: RIP.into(),
        };
        netlink.manage(key).await.unwrap();
        // No packet was sent to it, yet it is resolved.
        event(&mut events, |event| match event {
            Event::Neighbour(of, Some(neighbour)) if of == key => {
                (neighbour.state == NeighbourState::Reachable).then_some(())
            }
            _ => None,
        })
        .await;
        let (_, neighbour) = entry(&netlink, RIP).await.unwrap();
        assert!(neighbour.managed && neighbour.ours, "{neighbour:?}");
        // To ask twice changes nothing.
        netlink.manage(key).await.unwrap();
        assert_eq!(netlink.release_all().await, Vec::<String>::new());
        assert_eq!(entry(&netlink, RIP).await, None);
    });
}

#[test]
fn a_neighbour_nobody_answers_for_fails_and_static_ones_are_not_ours() {
    let (director, _server) = network();
    director
        .ip("neigh add 10.1.0.7 lladdr 02:00:00:00:00:07 dev eth0 nud permanent")
        .unwrap();
    inside(&director, async || {
        let netlink = Netlink::open().unwrap();
        let mut events = netlink::follow().unwrap();
        let nobody = Ipv4Addr::new(10, 1, 0, 9);
        let index = netlink.resolve(vec![nobody]).await[0]
            .1
            .as_ref()
            .unwrap()
            .index;
        let key = NeighbourKey {
            index,
            addr: nobody.into(),
        };
        netlink.manage(key).await.unwrap();
        event(&mut events, |event| match event {
            Event::Neighbour(of, Some(neighbour)) if of == key => {
                (neighbour.state == NeighbourState::Failed).then_some(())
            }
            _ => None,
        })
        .await;
        assert_eq!(netlink.release_all().await, Vec::<String>::new());
        let (_, fixed) = entry(&netlink, Ipv4Addr::new(10, 1, 0, 7)).await.unwrap();
        assert_eq!(fixed.state, NeighbourState::Permanent);
        assert!(!fixed.ours && !fixed.managed);
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
        director.ip("addr add 10.1.0.77/32 dev lo").unwrap();
        event(&mut events, |event| (event == Event::Address).then_some(())).await;
    });
}

#[test]
fn sysctls_of_this_namespace_are_set_and_restored() {
    let (director, _server) = network();
    let read = |name: &str| {
        director.run(|| {
            let path = format!("/proc/sys/net/ipv4/conf/lo/{name}");
            std::fs::read_to_string(path).unwrap().trim().to_owned()
        })
    };
    let saved = std::env::temp_dir().join(format!("pointsman-sysctl-{}", std::process::id()));
    let _ = std::fs::remove_file(&saved);
    let before = (read("forwarding"), read("accept_local"));
    director.run(|| sysctl::apply(&saved)).unwrap();
    assert_eq!(
        (read("forwarding"), read("accept_local")),
        ("1".into(), "1".into())
    );
    // A second director after a killed one must not take our values for the old ones.
    director.run(|| sysctl::apply(&saved)).unwrap();
    director.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
    director.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap());
    assert_eq!(read("forwarding"), "0");
    assert_eq!(
        director.run(sysctl::enforce),
        ["net/ipv4/conf/lo/forwarding"]
    );
    assert_eq!(read("forwarding"), "1");
    assert_eq!(
        director.run(|| sysctl::restore(&saved)),
        Vec::<String>::new()
    );
    assert_eq!((read("forwarding"), read("accept_local")), before);
    assert!(!saved.exists());
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
