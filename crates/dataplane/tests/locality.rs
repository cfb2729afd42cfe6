//! lblc and lblcr, and upkeep of what they remember, without a kernel.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use pointsman_core::addr::{Address, Be32};
use pointsman_core::host::Tables as _;
use pointsman_core::layout::{LOCALITIES, SERVER_OVERLOADED};
use pointsman_core::locality::{MAX_ENTRIES, MOST_ENTRIES};
use pointsman_core::sched;
use pointsman_dataplane::Tables;
use pointsman_dataplane::tables::maps::Maps;
use pointsman_model::{
    Forwarding, Protocol, Scheduler, ServerKey, ServerSpec, ServiceKey, ServiceSpec, Weight,
};

const HZ: u32 = 250;

struct World {
    tables: Tables,
    clock: Arc<AtomicU32>,
    key: ServiceKey,
}

impl World {
    /// One service with servers 1 to 4, weights the same, added in this order.
    fn new(scheduler: Scheduler) -> Self {
        let clock = Arc::new(AtomicU32::new(u32::MAX - 1000 * HZ));
        let now = Arc::clone(&clock);
        let maps = Maps::in_memory(8, Box::new(move || now.load(Ordering::Relaxed)));
        let mut tables = Tables::new(maps);
        let key = ServiceKey::Address {
            protocol: Protocol::Udp,
            addr: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            port: 53,
        };
        tables
            .add_service(&ServiceSpec::new(key, scheduler))
            .unwrap();
        for n in 1..=4 {
            tables.add_server(&key, &server(n, n.into())).unwrap();
        }
        Self { tables, clock, key }
    }

    /// Opens a connection to an address that stays, inactive; the number of its server.
    fn ask(&self, destination: u32) -> u32 {
        let maps = self.tables.maps();
        let wanted = maps.wanted().unwrap();
        // SAFETY: the record is the only CPU's; server records live as long as the maps.
        unsafe { (*wanted).destination = Address::v4(Be32::new(destination)) };
        let server = maps.server(sched::schedule(maps, 0)).expect("a server");
        // SAFETY: as above.
        unsafe {
            (*server).inactive += 1;
            (*server).rip.as_v4().octets()[3].into()
        }
    }

    fn round(&self) -> Vec<u32> {
        (0..20).map(|n| self.ask(0xcb00_7100 + n)).collect()
    }

    fn set(&self, n: u8, change: impl Fn(&mut pointsman_core::layout::ServerRecord)) {
        let maps = self.tables.maps();
        let of = |index: &u32| maps.servers.read(*index).unwrap().rip.octets()[3] == n;
        let index = (0..8).find(of).expect("a server");
        // SAFETY: server records live as long as the maps.
        change(unsafe { &mut *maps.server(index).unwrap() });
    }

    fn entries(&self) -> u32 {
        let maps = self.tables.maps();
        let counted = maps.services.read(0).unwrap().cached;
        let held = (0..LOCALITIES).filter(|&i| maps.locality.read(i).unwrap().owner == 1);
        assert_eq!(held.count() as u32, counted);
        counted
    }

    /// Lets time pass, with a sweep each minute.
    fn pass(&mut self, minutes: u32) {
        for _ in 0..minutes {
            self.clock.fetch_add(60 * HZ, Ordering::Relaxed);
            self.tables.sweep();
        }
    }
}

fn server(n: u8, weight: u32) -> ServerSpec {
    ServerSpec {
        key: ServerKey {
            addr: IpAddr::V4(Ipv4Addr::new(10, 0, 0, n)),
            port: 53,
        },
        forwarding: Forwarding::Masquerade,
        weight: Weight::new(weight).unwrap(),
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

fn digits(text: &str) -> Vec<u32> {
    text.bytes().map(|digit| u32::from(digit - b'0')).collect()
}

/// Choices that the kernel made.
#[test]
fn an_address_stays_with_its_server_while_that_one_serves() {
    for scheduler in [Scheduler::Lblc, Scheduler::Lblcr] {
        let mut world = World::new(scheduler);
        let first = digits("43214342344321434234");
        assert_eq!(world.round(), first, "{scheduler}");
        assert_eq!(world.round(), first, "{scheduler}");
        world.tables.edit_server(&world.key, &server(1, 0)).unwrap();
        assert_eq!(world.round(), digits("43244342344323434234"), "{scheduler}");
        world
            .tables
            .delete_server(&world.key, &server(4, 4).key)
            .unwrap();
        assert_eq!(world.round(), digits("23233322332323332233"), "{scheduler}");
    }
}

#[test]
fn a_busy_server_gives_way_while_another_is_half_idle() {
    let world = World::new(Scheduler::Lblc);
    assert_eq!(world.ask(1), 4);
    world.set(4, |server| server.active = 5);
    assert_eq!(
        world.ask(1),
        3,
        "server 4 has more active connections than its weight"
    );
    for n in 1..=4 {
        world.set(n, |server| server.active = 100);
    }
    assert_eq!(world.ask(1), 3, "nobody is half idle");
}

#[test]
fn a_set_grows_while_it_is_busy_and_shrinks_when_it_did_not_change() {
    let mut world = World::new(Scheduler::Lblcr);
    assert_eq!(world.ask(1), 4);
    world.set(4, |server| server.active = 5);
    assert_eq!(world.ask(1), 3, "server 3 joins");
    world.set(4, |server| (server.active, server.inactive) = (0, 0));
    assert_eq!(world.ask(1), 4, "the less loaded of the two");
    world.set(4, |server| server.flags |= SERVER_OVERLOADED);
    assert_eq!(world.ask(1), 3, "the other one of the set");
    world.set(4, |server| server.flags &= !SERVER_OVERLOADED);
    let members = |world: &World| {
        let maps = world.tables.maps();
        let mut entries = (0..LOCALITIES).filter_map(|i| maps.locality.read(i));
        let entry = entries.find(|entry| entry.owner == 1).expect("an entry");
        entry.members.iter().filter(|member| **member != 0).count()
    };
    assert_eq!(members(&world), 2);
    world.set(3, |server| server.active = 9);
    for _ in 0..24 {
        world.pass(61);
        assert_eq!(world.ask(1), 4);
    }
    assert_eq!(
        members(&world),
        1,
        "unchanged for a day: the most loaded one left"
    );
}

#[test]
fn a_cache_that_grows_too_large_shrinks_and_unused_entries_expire() {
    let mut world = World::new(Scheduler::Lblc);
    world.tables.sweep();
    for destination in 0..30_000 {
        world.ask(destination);
    }
    let full = world.entries();
    assert!(
        (MOST_ENTRIES - 1000..=MOST_ENTRIES + 1).contains(&full),
        "{full} entries"
    );
    world.pass(1);
    assert_eq!(world.entries(), full, "used less than six minutes ago");
    world.pass(6);
    let shrunk = world.entries();
    assert!(
        shrunk <= MAX_ENTRIES && shrunk > MAX_ENTRIES / 2,
        "{shrunk} entries"
    );
    world.pass(30 * 40);
    assert!(world.entries() > MAX_ENTRIES / 2, "not unused for a day");
    world.pass(30 * 10);
    assert_eq!(world.entries(), 0);
    world.ask(1);
    assert_eq!(world.entries(), 1);
    let other = ServiceSpec::new(world.key, Scheduler::Wlc);
    world.tables.edit_service(&other).unwrap();
    assert_eq!(world.entries(), 0, "another scheduler begins with nothing");
}
