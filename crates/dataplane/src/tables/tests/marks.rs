//! Rules that give marks.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;

use pointsman_core::addr::Be16;
use pointsman_core::host::Tables as _;
use pointsman_core::proto::{SCTP, TCP, UDP, WIDE};
use pointsman_model::MarkRule;

use super::*;

fn rule(text: &str) -> MarkRule {
    text.parse().unwrap()
}

fn interface(index: u32, name: &str) -> Interface {
    Interface {
        index,
        name: name.into(),
        mac: [2, 0, 0, 0, 0, 1],
        mtu: 1500,
        kind: None,
        vlan: None,
        loopback: false,
        ethernet: true,
    }
}

/// The mark that the core finds for a packet of a class between two ends, in by an interface.
fn mark(tables: &Tables, class: u8, from: &str, to: &str, ingress: u32) -> u32 {
    let [from, to]: [SocketAddr; 2] = [from, to].map(|end| end.parse().unwrap());
    let at = tables.maps.wanted().unwrap();
    // SAFETY: the record is this thread's.
    unsafe {
        (*at).source = address::shared(from.ip());
        (*at).destination = address::shared(to.ip());
        (*at).flow.key.proto = class;
        let [sport, dport] = [from, to].map(|end| u32::from(Be16::new(end.port()).raw()));
        (*at).flow.key.ports = sport | dport << 16;
        (*at).ingress = ingress;
    }
    pointsman_core::mark::mark_of(&tables.maps)
}

#[test]
fn the_first_rule_that_matches_gives_its_mark() {
    let mut tables = tables();
    tables.set_interface(&interface(2, "eth0"));
    let rules = [
        "from 198.51.100.7 mark 0",
        "to 192.0.2.0/24 protocol tcp port 80,443,8000-8100 mark 1",
        "to 192.0.2.0/24 from 198.51.100.0/25 protocol udp mark 2",
        "to 192.0.2.9/32 in eth0 mark 3",
        "to 2001:db8::/33 protocol sctp mark 4",
        "family ipv6 port 65535 mark 5",
        "protocol udp port 0-1,5060 mark 6",
        "to 0.0.0.0/0 port 9 mark 4294967295",
    ];
    tables.set_mark_rules(&rules.map(rule)).unwrap();
    for (class, from, to, ingress, expected) in [
        (TCP, "198.51.100.1:5", "192.0.2.1:80", 2, 1),
        (TCP, "198.51.100.7:5", "192.0.2.1:80", 2, 0),
        (TCP, "198.51.100.1:5", "192.0.2.255:443", 2, 1),
        (TCP, "198.51.100.1:5", "192.0.2.1:7999", 2, 0),
        (TCP, "198.51.100.1:5", "192.0.2.1:8000", 2, 1),
        (TCP, "198.51.100.1:5", "192.0.2.1:8100", 2, 1),
        (TCP, "198.51.100.1:5", "192.0.2.1:8101", 2, 0),
        (TCP, "198.51.100.1:80", "192.0.3.1:80", 2, 0),
        (UDP, "198.51.100.127:5", "192.0.2.1:80", 2, 2),
        (UDP, "198.51.100.128:5", "192.0.2.1:80", 2, 0),
        (SCTP, "198.51.100.1:5", "192.0.2.9:1", 2, 3),
        (SCTP, "198.51.100.1:5", "192.0.2.9:1", 3, 0),
        (SCTP | WIDE, "[::1]:5", "[2001:db8::1]:1", 2, 4),
        (SCTP | WIDE, "[::1]:5", "[2001:db8:8000::1]:1", 2, 0),
        (TCP | WIDE, "[::1]:5", "[::]:65535", 2, 5),
        (TCP, "198.51.100.1:5", "192.0.2.1:65535", 2, 0),
        (UDP | WIDE, "[::1]:5", "[::]:0", 2, 6),
        (UDP | WIDE, "[::1]:5", "[::]:2", 2, 0),
        (UDP, "203.0.113.1:5", "203.0.113.2:5060", 2, 6),
        (TCP, "203.0.113.1:5", "203.0.113.2:9", 2, u32::MAX),
        (TCP | WIDE, "[::1]:5", "[::]:9", 2, 0),
    ] {
        let found = mark(&tables, class, from, to, ingress);
        assert_eq!(found, expected, "{class} {from} {to} {ingress}");
    }
}

#[test]
fn rules_are_read_back_and_changed_one_by_one() {
    let mut tables = tables();
    let texts = [
        "from 198.51.100.0/24 to 192.0.2.0/24 protocol tcp port 80,443,8000-8100 in eth0 mark 7",
        "to 2001:db8::/32 protocol sctp mark 1",
        "family ipv6 mark 0",
        "port 0-65535,1,2,3,4,5,6,7 mark 4294967295",
    ];
    for text in texts {
        tables.add_mark_rule(None, &rule(text)).unwrap();
    }
    let mut tables = adopted(tables);
    assert_eq!(tables.mark_rules(), texts.map(rule));
    tables.add_mark_rule(Some(2), &rule("mark 9")).unwrap();
    tables.delete_mark_rule(5).unwrap();
    tables.delete_mark_rule(1).unwrap();
    let rest = [rule("mark 9"), rule(texts[1]), rule(texts[2])];
    assert_eq!(tables.mark_rules(), rest);
    for at in [0, 5] {
        assert!(matches!(
            tables.add_mark_rule(Some(at), &rule("mark 9")),
            Err(Error::Invalid(_))
        ));
    }
    for at in [0, 4] {
        assert!(matches!(
            tables.delete_mark_rule(at),
            Err(Error::Invalid(_))
        ));
    }
    let full: Vec<_> = (0..256)
        .map(|i| rule(&format!("port {i} mark {i}")))
        .collect();
    tables.set_mark_rules(&full).unwrap();
    assert!(matches!(
        tables.add_mark_rule(None, &rule("mark 1")),
        Err(Error::NoRoom(_))
    ));
    assert_eq!(tables.mark_rules(), full);
    assert_eq!(mark(&tables, TCP, "192.0.2.1:1", "192.0.2.2:255", 0), 255);
    assert_eq!(mark(&tables, TCP, "192.0.2.1:1", "192.0.2.2:256", 0), 0);
    tables.set_mark_rules(&[]).unwrap();
    assert_eq!(tables.mark_rules(), []);
    assert_eq!(mark(&tables, TCP, "192.0.2.1:1", "192.0.2.2:255", 0), 0);
}

#[test]
fn a_rule_follows_the_interface_it_names() {
    let mut tables = tables();
    let found = |tables: &Tables, ingress| mark(tables, TCP, "192.0.2.1:1", "192.0.2.2:2", ingress);
    tables.add_mark_rule(None, &rule("in eth0 mark 1")).unwrap();
    tables.add_mark_rule(None, &rule("in eth1 mark 2")).unwrap();
    assert_eq!((found(&tables, 0), found(&tables, 2)), (0, 0));
    tables.set_interface(&interface(2, "eth0"));
    tables.set_interface(&interface(3, "eth1"));
    assert_eq!((found(&tables, 2), found(&tables, 3)), (1, 2));
    // A restart changes nothing before interfaces are told of again.
    let mut tables = adopted(tables);
    assert_eq!((found(&tables, 2), found(&tables, 3)), (1, 2));
    tables.set_interface(&interface(2, "eth0"));
    tables.set_interface(&interface(3, "lan"));
    assert_eq!((found(&tables, 2), found(&tables, 3)), (1, 0));
    tables.remove_interface(2);
    assert_eq!(found(&tables, 2), 0);
    tables.set_interface(&interface(7, "eth0"));
    assert_eq!((found(&tables, 2), found(&tables, 7)), (0, 1));
    tables
        .add_mark_rule(Some(1), &rule("in lan mark 3"))
        .unwrap();
    assert_eq!((found(&tables, 3), found(&tables, 7)), (3, 1));
}

/// Packets that run while rules change meet the old or the new ones.
#[test]
fn changes_are_whole_for_packets() {
    let mut tables = tables();
    let of = |mark: u32| {
        let mut rules = vec![rule("port 1 mark 0"); 200];
        rules.push(rule(&format!("mark {mark}")));
        rules
    };
    tables.set_mark_rules(&of(1)).unwrap();
    let over = AtomicBool::new(false);
    let seen = AtomicU32::new(0);
    struct Shared(*const Maps);
    // SAFETY: rules are read by the core, as packets do while user space writes.
    unsafe impl Sync for Shared {}
    let maps = Shared(&raw const tables.maps);
    std::thread::scope(|scope| {
        let (maps, over, seen) = (&maps, &over, &seen);
        scope.spawn(move || {
            // SAFETY: the maps outlive the thread.
            let maps = unsafe { &*maps.0 };
            while !over.load(Ordering::Relaxed) {
                let mark = pointsman_core::mark::mark_of(maps);
                assert!((1..=100).contains(&mark), "{mark}");
                seen.fetch_add(1, Ordering::Relaxed);
            }
        });
        while seen.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        for mark in 2..=100 {
            tables.set_mark_rules(&of(mark)).unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
}
