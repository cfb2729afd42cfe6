//! Connections: listed, swept, removed.

use std::net::SocketAddr;

use pointsman_core::addr::Be16;
use pointsman_core::conn::{
    FLAG_CHILD, FLAG_INACTIVE, FLAG_NO_OUTPUT, KIND_FTP, NO_PARTNER, Slot, Status, TAG_EMPTY, Tag,
    Word,
};
use pointsman_core::forward;
use pointsman_core::layout::{Control, WAYS, Wide};
use pointsman_core::proto::{ANY, SCTP, TCP, TEMPLATE, UDP, WIDE};

use super::*;

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
