use std::net::Ipv4Addr;

use super::*;

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));
const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const DIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));

fn key(addr: IpAddr) -> NeighbourKey {
    NeighbourKey { index: 3, addr }
}

fn way(gateway: Option<IpAddr>) -> Resolution {
    Ok(Route {
        index: 3,
        gateway,
        source: Some(DIP),
        local: false,
    })
}

fn entry(state: NeighbourState, mac: u8) -> Option<Neighbour> {
    Some(Neighbour {
        state,
        mac: vec![mac; 6],
        managed: true,
        ours: true,
    })
}

fn dead(server: IpAddr, dead: bool) -> Effect {
    Effect::Dead {
        server,
        dead,
        news: true,
    }
}

/// What an earlier director may have thought is put right.
fn alive_as_before(server: IpAddr) -> Effect {
    Effect::Dead {
        server,
        dead: false,
        news: false,
    }
}

/// One server on the wire, asked for and resolved.
fn one_server() -> NextHops {
    let mut hops = NextHops::default();
    assert_eq!(hops.add([SERVER]), [SERVER]);
    assert_eq!(
        hops.routed(SERVER, way(None)),
        [
            Effect::Source {
                server: SERVER,
                source: DIP
            },
            alive_as_before(SERVER)
        ]
    );
    assert_eq!(hops.reconcile(8), [Request::Manage(key(SERVER))]);
    assert_eq!(
        hops.neighbour(key(SERVER), entry(NeighbourState::Reachable, 1)),
        [Effect::Epoch]
    );
    hops
}

#[test]
fn a_known_server_is_not_looked_up_again() {
    let mut hops = one_server();
    assert!(hops.add([SERVER]).is_empty());
    assert!(hops.routed(SERVER, way(None)).is_empty());
    assert!(hops.reconcile(8).is_empty());
}

#[test]
fn only_a_new_mac_or_the_loss_of_it_moves_the_epoch() {
    use NeighbourState::{Delay, Failed, Probe, Reachable, Stale};
    let mut hops = one_server();
    for state in [Stale, Delay, Probe, Reachable] {
        assert!(
            hops.neighbour(key(SERVER), entry(state, 1)).is_empty(),
            "{state}"
        );
    }
    assert_eq!(
        hops.neighbour(key(SERVER), entry(Reachable, 2)),
        [Effect::Epoch]
    );
    assert_eq!(
        hops.neighbour(key(SERVER), entry(Failed, 2)),
        [Effect::Epoch, dead(SERVER, true)]
    );
}

#[test]
fn a_dead_server_stays_dead_until_it_answers() {
    let mut hops = one_server();
    hops.neighbour(key(SERVER), entry(NeighbourState::Failed, 1));
    for state in [
        NeighbourState::Incomplete,
        NeighbourState::Failed,
        NeighbourState::None,
    ] {
        assert!(
            hops.neighbour(key(SERVER), entry(state, 1)).is_empty(),
            "{state}"
        );
    }
    assert_eq!(
        hops.neighbour(key(SERVER), entry(NeighbourState::Reachable, 1)),
        [Effect::Epoch, dead(SERVER, false)]
    );
}

#[test]
fn a_failed_gateway_takes_all_servers_behind_it() {
    let mut hops = NextHops::default();
    hops.add([SERVER, OTHER]);
    hops.routed(SERVER, way(Some(GATEWAY)));
    hops.routed(OTHER, way(Some(GATEWAY)));
    assert_eq!(
        hops.neighbour(key(GATEWAY), entry(NeighbourState::Failed, 0)),
        [dead(SERVER, true), dead(OTHER, true)]
    );
}

#[test]
fn a_gateway_is_released_with_its_last_server() {
    let mut hops = NextHops::default();
    hops.add([SERVER, OTHER]);
    hops.routed(SERVER, way(Some(GATEWAY)));
    hops.routed(OTHER, way(Some(GATEWAY)));
    hops.neighbour(key(GATEWAY), entry(NeighbourState::Reachable, 1));
    hops.retain(&BTreeSet::from([OTHER]));
    assert!(hops.reconcile(8).is_empty());
    hops.retain(&BTreeSet::new());
    assert_eq!(hops.reconcile(8), [Request::Release(key(GATEWAY))]);
    hops.neighbour(key(GATEWAY), None);
    assert!(hops.reconcile(8).is_empty());
}

#[test]
fn a_server_removed_and_added_at_once_is_told_of_anew() {
    let mut hops = NextHops::default();
    assert_eq!(hops.add([SERVER]), [SERVER]);
    let first = hops.routed(SERVER, way(Some(GATEWAY)));
    assert!(hops.add([SERVER]).is_empty());
    hops.forget(SERVER);
    assert_eq!(hops.add([SERVER]), [SERVER]);
    assert_eq!(hops.routed(SERVER, way(Some(GATEWAY))), first);
}

#[test]
fn a_rerouted_server_changes_its_neighbour_and_is_judged_by_the_new_one() {
    let mut hops = one_server();
    hops.neighbour(key(SERVER), entry(NeighbourState::Failed, 1));
    assert_eq!(
        hops.routed(SERVER, way(Some(GATEWAY))),
        [
            Effect::Source {
                server: SERVER,
                source: DIP
            },
            dead(SERVER, false)
        ]
    );
    assert_eq!(
        hops.reconcile(8),
        [Request::Release(key(SERVER)), Request::Manage(key(GATEWAY))]
    );
}

#[test]
fn static_entries_and_local_servers_are_left_alone() {
    let mut hops = NextHops::default();
    hops.add([SERVER, OTHER]);
    let permanent = Neighbour {
        state: NeighbourState::Permanent,
        mac: vec![1; 6],
        managed: false,
        ours: false,
    };
    hops.neighbour(key(SERVER), Some(permanent));
    hops.routed(SERVER, way(None));
    let local = Route {
        index: 1,
        gateway: None,
        source: Some(OTHER),
        local: true,
    };
    hops.routed(OTHER, Ok(local));
    assert!(hops.reconcile(8).is_empty());
    hops.retain(&BTreeSet::new());
    assert!(hops.reconcile(8).is_empty());
}

#[test]
fn what_others_removed_is_asked_for_again_and_an_earlier_directors_is_released() {
    let mut hops = one_server();
    hops.neighbour(key(SERVER), None);
    hops.neighbour(key(GATEWAY), entry(NeighbourState::Stale, 7));
    assert_eq!(
        hops.reconcile(8),
        [Request::Release(key(GATEWAY)), Request::Manage(key(SERVER))]
    );
    assert!(hops.is_missing(SERVER));
}

#[test]
fn in_a_full_table_every_server_gets_its_turn() {
    let mut hops = NextHops::default();
    let servers: Vec<IpAddr> = (1..=5).map(|n| Ipv4Addr::new(10, 0, 1, n).into()).collect();
    for server in hops.add(servers.clone()) {
        hops.routed(server, way(None));
    }
    let mut asked = Vec::new();
    for _ in 0..5 {
        asked.extend(hops.reconcile(2));
    }
    let manage = |server: &IpAddr| Request::Manage(key(*server));
    let twice: Vec<_> = servers.iter().chain(&servers).map(manage).collect();
    assert_eq!(asked, twice);
}

#[test]
fn after_lost_events_only_differences_count() {
    let mut hops = one_server();
    let same = vec![(key(SERVER), entry(NeighbourState::Stale, 1).unwrap())];
    assert!(hops.replace_neighbours(same).is_empty());
    assert_eq!(hops.replace_neighbours(Vec::new()), [Effect::Epoch]);
}

#[test]
fn one_link_local_gateway_is_two_neighbours_on_two_interfaces() {
    let gateway: IpAddr = "fe80::1".parse().unwrap();
    let server: IpAddr = "2001:db8:1::2".parse().unwrap();
    let other: IpAddr = "2001:db8:2::2".parse().unwrap();
    let by = |index| {
        Ok(Route {
            index,
            gateway: Some(gateway),
            source: None,
            local: false,
        })
    };
    let at = |index| NeighbourKey {
        index,
        addr: gateway,
    };
    let mut hops = NextHops::default();
    hops.add([server, other]);
    hops.routed(server, by(3));
    hops.routed(other, by(4));
    assert_eq!(
        hops.reconcile(8),
        [Request::Manage(at(3)), Request::Manage(at(4))]
    );
    hops.neighbour(at(4), entry(NeighbourState::Reachable, 2));
    assert_eq!(
        hops.neighbour(at(3), entry(NeighbourState::Failed, 0)),
        [dead(server, true)]
    );
}
