//! Services, servers and local addresses.

use pointsman_core::addr::{Address, Be16};
use pointsman_core::layout::{ID_IPV4, ID_IPV6, ID_MARK4, ID_MARK6, MAX_WIDE_LOCALS};

use super::*;

#[test]
fn services_and_servers_of_every_kind_are_read_back() {
    let mut tables = tables();
    for spec in every_kind() {
        tables.add_service(&spec).unwrap();
        assert_eq!(tables.add_service(&spec), Err(Error::ServiceExists));
        let (same, other) = match spec.key.family() {
            Family::V4 => ("10.0.0.1", "2001:db8:1::1"),
            Family::V6 => ("2001:db8:1::1", "10.0.0.1"),
        };
        let key = spec.key;
        let tunnel = Forwarding::Tunnel(Encapsulation::Ipip);
        tables
            .add_server(&key, &server(same, 0, Forwarding::Masquerade))
            .unwrap();
        tables
            .add_server(&key, &server(same, 8080, Forwarding::Route))
            .unwrap();
        tables.add_server(&key, &server(other, 0, tunnel)).unwrap();
        assert!(matches!(
            tables.add_server(&key, &server(other, 1, Forwarding::Route)),
            Err(Error::Invalid(_))
        ));
    }
    let before = tables.services();
    let specs: Vec<_> = before.iter().map(|view| view.spec.clone()).collect();
    assert_eq!(specs, every_kind());
    let mut tables = adopted(tables);
    assert_eq!(tables.services(), before);
    let mut addresses = tables.server_addresses();
    addresses.sort();
    let expected: [IpAddr; 2] = [
        "10.0.0.1".parse().unwrap(),
        "2001:db8:1::1".parse().unwrap(),
    ];
    assert_eq!(addresses, expected);

    let runtime = tables.maps.runtime.read(0).unwrap();
    assert_eq!(
        (
            runtime.mark_services,
            runtime.any_port_services,
            runtime.ftp_services
        ),
        (2, 2, 1)
    );
    for spec in every_kind() {
        tables.delete_service(&spec.key).unwrap();
    }
    let runtime = tables.maps.runtime.read(0).unwrap();
    assert_eq!(
        (
            runtime.mark_services,
            runtime.any_port_services,
            runtime.ftp_services
        ),
        (0, 0, 0)
    );
}

#[test]
fn what_packets_look_services_up_by() {
    let mut tables = tables();
    for spec in every_kind() {
        tables.add_service(&spec).unwrap();
    }
    let vip = |text: &str| address::shared(text.parse().unwrap());
    let id = |vip, vport, proto, kind| ServiceId {
        vip,
        vport: Be16::new(vport),
        proto,
        kind,
    };
    let record = |tables: &Tables, id: ServiceId| {
        let index = tables.maps.service_ids.get(&id)?;
        tables.maps.services.read(index)
    };
    for (id, persistent) in [
        (id(vip("192.0.2.1"), 80, 6, ID_IPV4), false),
        (id(vip("192.0.2.1"), 0, 6, ID_IPV4), true),
        (id(vip("192.0.2.2"), 3868, 132, ID_IPV4), false),
        (id(vip("2001:db8::1"), 443, 6, ID_IPV6), true),
        (id(Address([7, 0, 0, 0]), 0, 0, ID_MARK4), false),
        (id(Address([u32::MAX, 0, 0, 0]), 0, 0, ID_MARK6), true),
    ] {
        let found = record(&tables, id).expect("a service has this identity");
        assert_eq!(found.id, id);
        assert_eq!(found.flags & 1 != 0, persistent);
    }
    let tcp = record(&tables, id(vip("2001:db8::1"), 443, 6, ID_IPV6)).unwrap();
    let half: [u8; 16] = [[255; 8].as_slice(), &[0x80], &[0; 7]]
        .concat()
        .try_into()
        .unwrap();
    assert_eq!(tcp.netmask, Address::v6(half));
    let sip = record(&tables, id(vip("192.0.2.1"), 5060, 17, ID_IPV4)).unwrap();
    assert_eq!((sip.flags, sip.engine, sip.timeout_secs), (5, 1, 60));

    // "Some service uses this VIP" stays until the last of them goes, and marks have none.
    let any = id(vip("192.0.2.1"), 0, 0, ID_IPV4);
    let mut tables = adopted(tables);
    for spec in every_kind() {
        let there = tables.maps.service_ids.get(&any).is_some();
        let used = tables
            .by_key
            .keys()
            .any(|key| matches!(key, ServiceKey::Address { addr, .. } if addr.to_string() == "192.0.2.1"));
        assert_eq!(there, used);
        tables.delete_service(&spec.key).unwrap();
    }
    assert!(tables.maps.service_ids.get(&any).is_none());
}

#[test]
fn services_that_cannot_be_are_refused() {
    let mut tables = tables();
    let mark = service(mark_key(0, Family::V4));
    assert!(matches!(tables.add_service(&mark), Err(Error::Invalid(_))));
    let engine = ServiceSpec {
        persistence_engine: Some("rtsp".into()),
        ..service(mark_key(1, Family::V4))
    };
    assert_eq!(
        tables.add_service(&engine),
        Err(Error::SchedulerNotFound("rtsp".into()))
    );
    let prefix = ServiceSpec {
        prefix_len: 0,
        ..service(mark_key(1, Family::V6))
    };
    assert!(matches!(
        tables.add_service(&prefix),
        Err(Error::Invalid(_))
    ));
    assert!(tables.services().is_empty());
    assert_eq!(tables.maps.runtime.read(0).unwrap().mark_services, 0);
}

#[test]
fn an_edit_replaces_flags_timeout_netmask_and_engine() {
    let mut tables = tables();
    let sip = every_kind().swap_remove(3);
    tables.add_service(&sip).unwrap();
    tables.edit_service(&service(sip.key)).unwrap();
    let tables = adopted(tables);
    assert_eq!(tables.services()[0].spec, service(sip.key));
}

#[test]
fn what_is_known_of_a_way_is_told_by_either_family() {
    let mut tables = tables();
    let key = mark_key(1, Family::V6);
    tables.add_service(&service(key)).unwrap();
    let rip: IpAddr = "2001:db8:1::1".parse().unwrap();
    let source: IpAddr = "2001:db8:1::99".parse().unwrap();
    let spec = server("2001:db8:1::1", 0, Forwarding::Tunnel(Encapsulation::Ipip));
    tables.add_server(&key, &spec).unwrap();
    tables.set_tunnel_source(rip, source);
    tables.set_no_route(rip, true);
    assert!(tables.has_server_at(rip));
    // A second one at the same address knows at once.
    let again = server("2001:db8:1::1", 1, Forwarding::Tunnel(Encapsulation::Ipip));
    tables.add_server(&key, &again).unwrap();
    for index in 0..2 {
        let record = tables.maps.servers.read(index).unwrap();
        assert_eq!(record.tunnel_source, address::shared(source));
        assert_ne!(record.flags & pointsman_core::layout::SERVER_NO_ROUTE, 0);
    }
}

#[test]
fn of_services_with_a_server_in_common_the_best_one_gets_its_packets() {
    let mut tables = tables();
    let shared = server("10.0.0.1", 5060, Forwarding::Masquerade);
    let keys: Vec<_> = (1..6)
        .map(|n| address_key(Protocol::Udp, &format!("192.0.2.{n}"), 5060))
        .collect();
    let sip = ServiceSpec {
        one_packet: true,
        persistence_engine: Some("sip".into()),
        ..persistent(keys[3], 60)
    };
    for key in &keys {
        tables.add_service(&service(*key)).unwrap();
        tables.add_server(key, &shared).unwrap();
    }
    let id = crate::tables::services::sender_id(&shared.key, &keys[0]);
    let found = |tables: &Tables| {
        let server = tables.maps.service_ids.get(&id)?;
        Some(tables.servers[&server].service)
    };
    // The oldest, but one with an engine first.
    assert_eq!(found(&tables), Some(keys[0]));
    tables.edit_service(&sip).unwrap();
    assert_eq!(found(&tables), Some(keys[3]));
    tables.edit_service(&service(keys[3])).unwrap();
    assert_eq!(found(&tables), Some(keys[0]));
    tables.delete_service(&keys[1]).unwrap();
    assert_eq!(found(&tables), Some(keys[0]));
    tables.delete_server(&keys[0], &shared.key).unwrap();
    assert_eq!(found(&tables), Some(keys[2]));
    // By another method its packets go past the director.
    let direct = server("10.0.0.1", 5060, Forwarding::Route);
    tables.edit_server(&keys[2], &direct).unwrap();
    assert_eq!(found(&tables), Some(keys[3]));
    tables.edit_server(&keys[2], &shared).unwrap();
    assert_eq!(found(&tables), Some(keys[2]));
    for key in [keys[4], keys[2], keys[3]] {
        assert!(found(&tables).is_some());
        tables.delete_service(&key).unwrap();
    }
    assert_eq!(found(&tables), None);
}

#[test]
fn local_addresses_keep_their_places() {
    let mut tables = tables();
    let addresses = ["10.0.0.1", "2001:db8::1", "2001:db8::2", "10.0.0.2"];
    let addresses = addresses.map(|text| text.parse::<IpAddr>().unwrap());
    let [_, first, second, _] = addresses;
    let keys = ["192.0.2.1", "2001:db8::80"].map(|vip| address_key(Protocol::Tcp, vip, 80));
    for key in keys {
        tables.add_service(&service(key)).unwrap();
        for address in addresses {
            tables.add_local_address(&key, address).unwrap();
        }
    }
    let place = |tables: &Tables, at| address::ip(tables.maps.wide_locals.read(at).unwrap(), true);
    let of = |tables: &Tables, wanted| {
        let all = tables.local_addresses();
        let own = all.filter(|(key, _)| **key == wanted);
        own.map(|(_, address)| address).collect::<Vec<_>>()
    };
    tables.delete_local_address(&keys[0], first).unwrap();
    tables.delete_local_address(&keys[1], first).unwrap();
    let mut tables = adopted(tables);
    let [v4, _, _, other_v4] = addresses;
    assert_eq!(of(&tables, keys[0]), [v4, other_v4, second]);
    let third = "2001:db8::3".parse().unwrap();
    for address in [third, first] {
        tables.add_local_address(&keys[0], address).unwrap();
    }
    assert_eq!(
        [0, 1, 2].map(|at| place(&tables, at)),
        [first, second, third]
    );
    assert_eq!(
        of(&tables, keys[0]),
        [v4, other_v4, second, third, first],
        "as they were added, but for what a restart sorts"
    );
    for at in 3..MAX_WIDE_LOCALS {
        tables.maps.wide_locals.write(at, Address([at, 0, 0, 1]));
    }
    let mut tables = adopted(tables);
    let new = "2001:db8::4".parse().unwrap();
    for _ in 0..2 {
        let refused = tables.add_local_address(&keys[0], new);
        assert!(matches!(refused, Err(Error::NoRoom(_))), "{refused:?}");
    }
    assert_eq!(of(&tables, keys[0]), [v4, other_v4, second, third, first]);
    tables.add_local_address(&keys[1], first).unwrap();
}
