use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use pointsman_core::addr::{Address, Be16};
use pointsman_core::conn::{
    FLAG_CHILD, FLAG_INACTIVE, FLAG_NO_OUTPUT, KIND_FTP, NO_PARTNER, Slot, Status, TAG_EMPTY, Tag,
    Word,
};
use pointsman_core::forward;
use pointsman_core::host::Tables as _;
use pointsman_core::layout::{
    Control, ID_IPV4, ID_IPV6, ID_MARK4, ID_MARK6, MAX_WIDE_LOCALS, WAYS, Wide,
};
use pointsman_core::proto::{ANY, SCTP, TCP, TEMPLATE, UDP, WIDE};
use pointsman_model::{
    Encapsulation, Error, Family, Forwarding, MarkRule, Persistence, Protocol, SchedFlags,
    Scheduler, ServerKey, ServerSpec, ServiceKey, ServiceSpec, Variable, Weight,
};

use super::*;

const HZ: u32 = 250;

fn tables() -> Tables {
    at(0).0
}

/// Tables of 64 sets, and their clock.
fn at(now: u32) -> (Tables, Arc<AtomicU32>) {
    let clock = Arc::new(AtomicU32::new(now));
    let read = Arc::clone(&clock);
    let maps = Maps::in_memory(64, Box::new(move || read.load(Ordering::Relaxed)));
    (Tables::new(maps), clock)
}

fn address_key(protocol: Protocol, addr: &str, port: u16) -> ServiceKey {
    ServiceKey::Address {
        protocol,
        addr: addr.parse().unwrap(),
        port,
    }
}

fn mark_key(mark: u32, family: Family) -> ServiceKey {
    ServiceKey::Mark { mark, family }
}

fn service(key: ServiceKey) -> ServiceSpec {
    ServiceSpec::new(key, Scheduler::Rr)
}

fn persistent(key: ServiceKey, secs: u32) -> ServiceSpec {
    ServiceSpec {
        persistence: Some(Persistence {
            timeout_secs: NonZeroU32::new(secs).unwrap(),
        }),
        ..service(key)
    }
}

fn server(addr: &str, port: u16, forwarding: Forwarding) -> ServerSpec {
    ServerSpec {
        key: ServerKey {
            addr: addr.parse().unwrap(),
            port,
        },
        forwarding,
        weight: Weight::DEFAULT,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

/// A service of each kind, with what its record keeps.
fn every_kind() -> Vec<ServiceSpec> {
    let v4 = |port| address_key(Protocol::Tcp, "192.0.2.1", port);
    vec![
        service(v4(80)),
        ServiceSpec {
            netmask: "255.255.255.0".parse().unwrap(),
            sched_flags: SchedFlags::FLAG_1 | SchedFlags::FLAG_3,
            ..persistent(v4(0), 300)
        },
        ServiceSpec {
            netmask: "255.0.0.0".parse().unwrap(),
            ..service(v4(21))
        },
        ServiceSpec {
            one_packet: true,
            persistence_engine: Some("sip".into()),
            ..persistent(address_key(Protocol::Udp, "192.0.2.1", 5060), 60)
        },
        service(address_key(Protocol::Sctp, "192.0.2.2", 3868)),
        ServiceSpec {
            prefix_len: 65,
            ..persistent(address_key(Protocol::Tcp, "2001:db8::1", 443), 2_678_400)
        },
        service(address_key(Protocol::Udp, "::", 0)),
        service(mark_key(7, Family::V4)),
        ServiceSpec {
            prefix_len: 1,
            ..persistent(mark_key(u32::MAX, Family::V6), 1)
        },
    ]
}

fn adopted(tables: Tables) -> Tables {
    Tables::new(tables.maps)
}

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

/// Puts the request slot of a connection into the table.
struct Conn {
    index: u32,
    slot: Slot,
    wide: Wide,
    control: Control,
}

impl Conn {
    /// Of class `proto`, in `state`, to a server, with `secs` to live from jiffy 0 on.
    fn new(index: u32, class: u8, state: u8, server: u32, secs: u32) -> Self {
        // SAFETY: all bits zero is a valid slot.
        let mut slot: Slot = unsafe { std::mem::zeroed() };
        slot.tag = Tag::ready(Tag::claimed(TAG_EMPTY), index + 1);
        slot.word = Word::new(
            class,
            FLAG_INACTIVE | FLAG_NO_OUTPUT,
            state,
            forward::DIRECT.into(),
        )
        .0;
        slot.server = server;
        slot.partner = NO_PARTNER;
        slot.expires = secs * HZ;
        Self {
            index,
            slot,
            wide: Wide::default(),
            control: Control::default(),
        }
    }

    fn between(mut self, source: &str, destination: &str) -> Self {
        let (source, destination): (SocketAddr, SocketAddr) =
            (source.parse().unwrap(), destination.parse().unwrap());
        let ports = [source, destination].map(|a| u32::from(Be16::new(a.port()).raw()));
        self.slot.ports = ports[0] | ports[1] << 16;
        self.wide.source = address::shared(source.ip());
        self.wide.destination = address::shared(destination.ip());
        if source.is_ipv4() {
            self.slot.addresses =
                u64::from(self.wide.source.0[0]) | u64::from(self.wide.destination.0[0]) << 32;
            if !Word(self.slot.word).is_template() {
                self.wide = Wide::default();
            }
        }
        self
    }

    fn child_of(mut self, parent: &Self) -> Self {
        self.control.parent = parent.index;
        self.control.parent_use = Tag::use_count(parent.slot.tag);
        let word = Word(self.slot.word);
        self.slot.word = word.with(word.flags() | FLAG_CHILD, word.state()).0;
        self
    }

    fn with_children(mut self, children: u32, timeout_secs: u32) -> Self {
        self.control.children = children;
        self.control.timeout = timeout_secs * HZ;
        self
    }

    fn put(&self, tables: &Tables) {
        let maps = &tables.maps;
        let set = maps.connections.at(self.index / WAYS).unwrap();
        // SAFETY: the way is one of eight.
        unsafe {
            let slots = set.cast::<Slot>();
            slots.add((self.index % WAYS) as usize).write(self.slot);
        }
        maps.wide.write(self.index, self.wide);
        maps.controls.write(self.index, self.control);
    }

    fn is_there(&self, tables: &Tables) -> bool {
        Tag::status(self.read(tables).tag) == Status::Ready
    }

    fn read(&self, tables: &Tables) -> Slot {
        let set = tables.maps.connections.read(self.index / WAYS).unwrap();
        set[(self.index % WAYS) as usize]
    }
}

/// The rows of `ipvsadm -Lnc`, but for the time.
fn rows(tables: &Tables) -> Vec<String> {
    let connections = tables.connections();
    let row = |c: &pointsman_model::ConnectionView| {
        format!(
            "{} {} {} {} {}",
            c.protocol.map_or("IP", Protocol::name),
            c.state.name(),
            c.client,
            c.virtual_addr,
            c.destination
        )
    };
    connections.iter().map(row).collect()
}

#[test]
fn connections_of_both_families_and_templates_are_listed() {
    let mut tables = tables();
    let four = address_key(Protocol::Tcp, "192.0.2.1", 80);
    let six = address_key(Protocol::Tcp, "2001:db8::1", 443);
    for key in [four, six] {
        tables.add_service(&service(key)).unwrap();
    }
    let masq = Forwarding::Masquerade;
    tables
        .add_server(&four, &server("10.0.0.11", 8080, masq))
        .unwrap();
    tables
        .add_server(&six, &server("2001:db8:1::11", 0, masq))
        .unwrap();
    let tunnel = Forwarding::Tunnel(Encapsulation::Ipip);
    tables
        .add_server(&six, &server("10.0.0.12", 443, tunnel))
        .unwrap();

    let mut nat =
        Conn::new(0, TCP | WIDE, 1, 1, 900).between("[2001:db8:9::2]:55352", "[2001:db8::1]:443");
    nat.slot.word = Word::new(TCP | WIDE, 0, 1, forward::NAT.into()).0;
    nat.slot.new_ports = nat.slot.ports;
    nat.wide.new_destination = address::shared("2001:db8:1::11".parse().unwrap());
    nat.put(&tables);
    Conn::new(1, TCP | WIDE, 3, 2, 60)
        .between("[2001:db8:9::2]:1", "[2001:db8::1]:443")
        .put(&tables);
    for state in 0..14u8 {
        Conn::new(8 + u32::from(state), SCTP, state, 0, 61)
            .between("198.51.100.2:5", "192.0.2.1:3868")
            .put(&tables);
    }
    let templates = [
        (TCP, 1, "198.51.100.0:0", "192.0.2.1:80", 8080),
        (UDP, 0, "198.51.100.2:0", "192.0.2.1:0", 0),
        (TCP, 1, "198.51.100.2:0", "192.0.2.1:65535", 65535),
        (ANY, 0, "198.51.100.2:0", "0.0.0.85:0", 0),
        (ANY | WIDE, 1, "[2001:db8:9::]:0", "[0:55::]:0", 0),
    ];
    for (i, (class, state, client, vip, port)) in templates.into_iter().enumerate() {
        let server = u32::from(class & WIDE != 0);
        let mut template = Conn::new(32 + i as u32, class | TEMPLATE, state, server, 360);
        template.slot.new_ports = u32::from(Be16::new(port).raw()) << 16;
        let mut template = template.between(client, vip);
        // As where a Call-ID is mixed into the key.
        template.slot.addresses ^= 0x1234_5678_9abc_def0;
        template.put(&tables);
    }

    let names = [
        "NONE",
        "INIT1",
        "INIT",
        "C-SENT",
        "C-REPLIED",
        "C-WAIT",
        "COOKIE",
        "C-ECHOED",
        "ESTABLISHED",
        "S-SENT",
        "S-RECEIVED",
        "S-ACK-SENT",
        "REJECTED",
        "CLOSED",
    ];
    let mut expected = vec![
        "TCP ESTABLISHED [2001:db8:9::2]:55352 [2001:db8::1]:443 [2001:db8:1::11]:443".to_owned(),
        "TCP SYN_RECV [2001:db8:9::2]:1 [2001:db8::1]:443 10.0.0.12:443".to_owned(),
    ];
    expected.extend(
        names.map(|name| format!("SCTP {name} 198.51.100.2:5 192.0.2.1:3868 10.0.0.11:8080")),
    );
    expected.extend(
        [
            "TCP ASSURED 198.51.100.0:0 192.0.2.1:80 10.0.0.11:8080",
            "UDP NONE 198.51.100.2:0 192.0.2.1:0 10.0.0.11:0",
            "TCP ASSURED 198.51.100.2:0 192.0.2.1:65535 10.0.0.11:65535",
            "IP NONE 198.51.100.2:0 0.0.0.85:0 10.0.0.11:0",
            "IP ASSURED [2001:db8:9::]:0 [0:55::]:0 [2001:db8:1::11]:0",
        ]
        .map(str::to_owned),
    );
    assert_eq!(rows(&tables), expected);
    assert_eq!(
        tables.connections().iter().filter(|c| c.template).count(),
        5
    );
}

#[test]
fn a_parent_goes_on_by_a_minute_while_it_has_children() {
    let (tables, clock) = at(0);
    let parent = Conn::new(0, TCP | TEMPLATE, 1, 0, 10).with_children(1, 10);
    let mut control = Conn::new(1, TCP, 1, 0, 10).with_children(1, 0);
    control.slot.word |= KIND_FTP << 24;
    let childless = Conn::new(2, TCP | TEMPLATE, 1, 0, 10);
    let child = Conn::new(8, TCP, 1, 0, 100).child_of(&parent);
    for conn in [&parent, &control, &childless, &child] {
        conn.put(&tables);
    }
    clock.store(10 * HZ, Ordering::Relaxed);
    assert_eq!(tables.sweep_connections().live, 4);
    assert_eq!(parent.read(&tables).expires, 10 * HZ);
    clock.store(11 * HZ, Ordering::Relaxed);
    let done = tables.sweep_connections();
    assert_eq!((done.live, done.lapsed), (3, 1));
    assert!(!childless.is_there(&tables));
    assert_eq!(parent.read(&tables).expires, 71 * HZ);
    assert_eq!(control.read(&tables).expires, 71 * HZ);
    assert_eq!(tables.maps.controls.read(0).unwrap().timeout, 60 * HZ);
    // Once the child is gone, what is left of the minute remains.
    clock.store(101 * HZ, Ordering::Relaxed);
    tables.sweep_connections();
    assert!(!child.is_there(&tables));
    assert_eq!(parent.read(&tables).expires, 161 * HZ);
    clock.store(162 * HZ, Ordering::Relaxed);
    tables.sweep_connections();
    assert!(!parent.is_there(&tables));
    assert!(control.is_there(&tables));
}

#[test]
fn a_sweep_in_parts_sees_every_set_once() {
    let (mut tables, clock) = at(0);
    for (set, secs) in [(0, 5), (24, 100), (25, 5), (63, 100)] {
        Conn::new(set * WAYS, TCP, 1, 0, secs).put(&tables);
    }
    for (now, live, lapsed) in [(0, 4, 0), (6, 2, 2), (7, 2, 0)] {
        clock.store(now * HZ, Ordering::Relaxed);
        assert_eq!(tables.sweep_part(25), None);
        assert_eq!(tables.sweep_part(25), None);
        assert_eq!(tables.sweep_part(25), Some(Sweep { live, lapsed }));
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
    let id = services::sender_id(&shared.key, &keys[0]);
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
fn connections_of_a_removed_server_go_where_that_is_asked_for() {
    let (mut tables, _) = at(0);
    let key = address_key(Protocol::Tcp, "192.0.2.1", 80);
    tables.add_service(&service(key)).unwrap();
    let [gone, stays] = ["10.0.0.1", "10.0.0.2"].map(|rip| server(rip, 80, Forwarding::Route));
    tables.add_server(&key, &gone).unwrap();
    tables.add_server(&key, &stays).unwrap();
    for (set, wanted) in [("0", true), ("1", false)] {
        let of_gone = Conn::new(0, TCP, 1, 0, 900);
        let template = Conn::new(1, TCP | TEMPLATE, 1, 0, 900);
        let of_other = Conn::new(2, TCP, 1, 1, 900);
        for conn in [&of_gone, &template, &of_other] {
            conn.put(&tables);
        }
        tables
            .set_variable(Variable::ExpireNodestConn, set)
            .unwrap();
        tables.delete_server(&key, &gone.key).unwrap();
        tables.sweep();
        assert_eq!(of_gone.is_there(&tables), wanted);
        assert_eq!(template.is_there(&tables), wanted);
        assert!(of_other.is_there(&tables));
        tables.add_server(&key, &gone).unwrap();
    }
}

#[test]
fn drop_entry_takes_what_an_attack_leaves_a_thirty_second_at_a_time() {
    let (mut tables, clock) = at(0);
    let ops = address_key(Protocol::Udp, "192.0.2.1", 53);
    let mut spec = persistent(ops, 300);
    spec.one_packet = true;
    tables.add_service(&spec).unwrap();
    tables
        .add_server(&ops, &server("10.0.0.1", 53, Forwarding::Route))
        .unwrap();
    let plain = address_key(Protocol::Tcp, "192.0.2.1", 80);
    tables.add_service(&service(plain)).unwrap();
    tables
        .add_server(&plain, &server("10.0.0.1", 80, Forwarding::Route))
        .unwrap();
    // (class, state, server, seconds left at the beginning, whether it may go)
    let kinds = [
        (TCP, 3, 1, 900, true),
        (TCP, 10, 1, 900, true),
        (TCP, 1, 1, 900, false),
        (SCTP, 1, 1, 900, true),
        (SCTP, 8, 1, 900, false),
        (UDP, 0, 1, 300, false),
        (TCP | TEMPLATE, 1, 1, 900, false),
        (TCP | TEMPLATE, 0, 1, 900, true),
    ];
    let conns: Vec<Conn> = (0..64 * WAYS)
        .map(|i| {
            let (class, state, server, secs, _) = kinds[(i % WAYS) as usize];
            Conn::new(i, class, state, server, secs)
        })
        .collect();
    conns.iter().for_each(|conn| conn.put(&tables));
    let there = |tables: &Tables| conns.iter().filter(|c| c.is_there(tables)).count();
    tables.sweep();
    assert_eq!(there(&tables), conns.len(), "off");
    tables.set_variable(Variable::DropEntry, "3").unwrap();
    tables.sweep();
    let after = conns.len() - there(&tables);
    assert!(
        (4..=8).contains(&after),
        "two sets of four at most: {after}"
    );
    for _ in 0..2000 {
        tables.sweep();
    }
    for (i, conn) in conns.iter().enumerate() {
        let may_go = kinds[i % WAYS as usize].4;
        assert_eq!(conn.is_there(&tables), !may_go, "{i}");
    }
    // UDP goes once it was idle for a minute.
    clock.store(61 * HZ, Ordering::Relaxed);
    for _ in 0..2000 {
        tables.sweep();
    }
    let left = |class| {
        let of_class = |c: &&Conn| Word(c.slot.word).proto() == class;
        let conns = conns.iter().filter(of_class);
        conns.filter(|c| c.is_there(&tables)).count()
    };
    assert_eq!((left(UDP), left(TCP), left(SCTP)), (0, 64, 64));
}

#[test]
fn removal_by_force_takes_a_parent_without_children_along_unless_it_is_assured() {
    for (state, children, gone) in [(0, 1, true), (1, 1, false), (0, 5, false)] {
        let (mut tables, _) = at(0);
        let parent = Conn::new(0, TCP | TEMPLATE, state, 0, 360).with_children(children, 360);
        let child = Conn::new(8, TCP, 3, 0, 60).child_of(&parent);
        parent.put(&tables);
        child.put(&tables);
        tables.set_variable(Variable::DropEntry, "3").unwrap();
        while child.is_there(&tables) {
            tables.sweep();
        }
        assert_eq!(!parent.is_there(&tables), gone, "{state} {children}");
    }
}

#[test]
fn a_parent_left_without_children_goes_with_its_server() {
    let (mut tables, _) = at(0);
    let key = address_key(Protocol::Tcp, "192.0.2.1", 80);
    tables.add_service(&service(key)).unwrap();
    let spec = server("10.0.0.1", 80, Forwarding::Route);
    tables.add_server(&key, &spec).unwrap();
    let parent = Conn::new(0, TCP | TEMPLATE, 1, 0, 360).with_children(2, 360);
    let children = [8, 16].map(|at| Conn::new(at, TCP, 1, 0, 900).child_of(&parent));
    parent.put(&tables);
    children.iter().for_each(|child| child.put(&tables));
    tables
        .set_variable(Variable::ExpireNodestConn, "1")
        .unwrap();
    tables.delete_server(&key, &spec.key).unwrap();
    tables.sweep();
    assert!(!parent.is_there(&tables) && children.iter().all(|child| !child.is_there(&tables)));
}

#[test]
fn automatic_modes_follow_memory() {
    let mut tables = tables();
    let modes = [
        Variable::DropEntry,
        Variable::DropPacket,
        Variable::SecureTcp,
    ];
    tables.set_variable(Variable::Amemthresh, "1000").unwrap();
    tables.set_variable(Variable::AmDroprate, "7").unwrap();
    // (mode set, pages there, mode then, drop rate, secure_tcp)
    for (mode, pages, then, rate, secure) in [
        ("0", 0, "0", 0, 0),
        ("1", 1000, "1", 0, 0),
        ("1", 999, "2", 1000, 1),
        ("1", 500, "2", 2, 1),
        ("2", 0, "2", 1, 1),
        ("2", 1000, "1", 0, 0),
        ("3", 5000, "3", 7, 1),
    ] {
        for variable in modes {
            tables.set_variable(variable, mode).unwrap();
        }
        tables.defend(pages);
        let mut after = adopted(tables);
        for variable in modes {
            assert_eq!(
                after.variable(variable).as_deref(),
                Some(then),
                "{mode} {pages}"
            );
        }
        let runtime = after.maps.runtime.read(0).unwrap();
        assert_eq!(
            (runtime.settings.drop_rate, runtime.secure_tcp),
            (rate, secure)
        );
        after.defend(pages);
        tables = after;
    }
    // A threshold below zero is none.
    tables.set_variable(Variable::Amemthresh, "-5").unwrap();
    tables.set_variable(Variable::DropPacket, "2").unwrap();
    tables.defend(0);
    assert_eq!(tables.variable(Variable::DropPacket).as_deref(), Some("1"));
}

#[test]
fn variables_keep_what_was_set() {
    let mut tables = tables();
    for (variable, value, shown) in [
        (Variable::ConnReuseMode, "-1", Some("-1")),
        (Variable::SloppyTcp, "7", Some("7")),
        (Variable::LblcExpiration, "3600", Some("3600")),
        (Variable::LblcrExpiration, "8589934", Some("8589934")),
        (Variable::Amemthresh, "0x10", Some("16")),
        (Variable::SyncPorts, "1", None),
    ] {
        let set = tables.set_variable(variable, value);
        assert_eq!(set.is_ok(), shown.is_some(), "{variable}");
        tables = adopted(tables);
        assert_eq!(tables.variable(variable).as_deref(), shown);
    }
    let settings = tables.maps.runtime.read(0).unwrap().settings;
    assert_eq!(settings.lblc_expiration, 3600 * HZ);
    for (variable, value) in [
        (Variable::DropEntry, "4"),
        (Variable::SloppyTcp, "on"),
        (Variable::LblcExpiration, "8589935"),
    ] {
        let before = tables.variable(variable);
        assert!(matches!(
            tables.set_variable(variable, value),
            Err(Error::Invalid(_))
        ));
        assert_eq!(tables.variable(variable), before);
    }
}

#[test]
fn estimation_can_be_stopped_and_goes_on_without_a_leap() {
    let mut tables = tables();
    let key = mark_key(1, Family::V4);
    tables.add_service(&service(key)).unwrap();
    tables
        .add_server(&key, &server("10.0.0.1", 0, Forwarding::Route))
        .unwrap();
    let count = |tables: &Tables, conns| {
        let at = tables.maps.stats.at(0).unwrap();
        // SAFETY: the pointer is into the map.
        unsafe { (*at).conns += conns };
    };
    tables.set_variable(Variable::RunEstimation, "0").unwrap();
    count(&tables, 1000);
    tables.estimate();
    assert_eq!(tables.totals().1.cps, 0);
    tables.set_variable(Variable::RunEstimation, "1").unwrap();
    tables.estimate();
    assert_eq!(tables.totals().1.cps, 0);
    count(&tables, 80);
    tables.estimate();
    let view = &tables.services()[0];
    assert_eq!(
        (
            tables.totals().1.cps,
            view.rates.cps,
            view.servers[0].rates.cps
        ),
        (10, 10, 10)
    );
}

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
