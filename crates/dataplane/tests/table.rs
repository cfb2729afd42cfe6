//! The connection table under the core's whole pipeline in user space: from several threads at once,
//! and against a model.
//!
//! Each service has one server of its own, so what a packet has to become follows from the packet
//! alone: whoever gets another connection's slot shows it by what leaves.

#[allow(dead_code)]
#[path = "program/frame.rs"]
mod frame;
#[allow(dead_code)]
#[path = "program/packet.rs"]
mod packet;
#[allow(dead_code)]
#[path = "program/user.rs"]
mod user;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pointsman_core::proto::tcp::{self, Direction};
use pointsman_dataplane::Interface;
use pointsman_model::{
    Forwarding, Protocol, Scheduler, ServerKey, ServerSpec, ServiceKey, ServiceSpec, Weight,
};
use proptest::prelude::*;

use frame::{ACK, FIN, Frame, RST, SYN, recount};
use user::{Class, To, UserSpace};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const FRONT: u32 = 2;
const BACK: u32 = 3;
const FRONT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
const BACK_MAC: [u8; 6] = [2, 0, 0, 0, 2, 1];
const HZ: u32 = 250;

/// Services 0..3 are NAT, the others direct routing.
const SERVICES: u8 = 6;
const CLIENTS: u8 = 8;

/// One connection there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Flow {
    client: u8,
    port: u16,
    service: u8,
}

impl Flow {
    fn is_nat(self) -> bool {
        self.service < 3
    }
    fn client(self) -> (Ipv4Addr, u16) {
        (client(self.client), self.port)
    }
    fn virtual_addr(self) -> (Ipv4Addr, u16) {
        (VIP, 80 + u16::from(self.service))
    }
    fn server(self) -> (Ipv4Addr, u16) {
        let port = if self.is_nat() {
            8000 + u16::from(self.service)
        } else {
            self.virtual_addr().1
        };
        (rip(self.service), port)
    }
}

fn client(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, 2 + n)
}

fn rip(service: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 0, 10 + service)
}

fn mac(address: Ipv4Addr) -> [u8; 6] {
    let [.., net, _, host] = address.octets();
    [2, 0, 0, 9, net, host]
}

/// A director in user space with every service, and its clock.
fn director(sets: u32, start: u32) -> (UserSpace, Arc<AtomicU32>) {
    let clock = Arc::new(AtomicU32::new(start));
    let now = Arc::clone(&clock);
    let mut space = UserSpace::new(sets, move || now.load(Ordering::Relaxed));
    for (index, name, mac) in [(FRONT, "front", FRONT_MAC), (BACK, "back", BACK_MAC)] {
        space.tables.set_interface(&Interface {
            index,
            name: name.into(),
            mac,
            mtu: 1500,
            kind: None,
            vlan: None,
            loopback: false,
            ethernet: true,
        });
    }
    for n in 0..CLIENTS {
        let to = To::Neighbour(FRONT, mac(client(n)), 1500);
        space.routes.push((client(n).octets(), to));
    }
    for service in 0..SERVICES {
        let flow = Flow {
            client: 0,
            port: 0,
            service,
        };
        let key = ServiceKey::Address {
            protocol: Protocol::Tcp,
            addr: IpAddr::V4(VIP),
            port: flow.virtual_addr().1,
        };
        space
            .tables
            .add_service(&ServiceSpec::new(key, Scheduler::Rr))
            .unwrap();
        let (rip, port) = flow.server();
        let server = ServerSpec {
            key: ServerKey {
                addr: IpAddr::V4(rip),
                port,
            },
            forwarding: if flow.is_nat() {
                Forwarding::Masquerade
            } else {
                Forwarding::Route
            },
            weight: Weight::DEFAULT,
            upper_threshold: 0,
            lower_threshold: 0,
        };
        space.tables.add_server(&key, &server).unwrap();
        let to = To::Neighbour(BACK, mac(rip), 1500);
        space.routes.push((rip.octets(), to));
    }
    (space, clock)
}

/// Sends a request or a reply; true when it was forwarded. Whatever leaves must be exactly what this
/// connection's packet becomes.
#[track_caller]
fn send(space: &UserSpace, flow: Flow, reply: bool, flags: u8) -> bool {
    let (frame, ingress, expected) = if reply {
        let frame = Frame::tcp(flow.server(), flow.client(), flags);
        let expected = Frame::tcp(flow.virtual_addr(), flow.client(), flags);
        (
            frame.between(mac(flow.server().0), BACK_MAC),
            BACK,
            expected.between(FRONT_MAC, mac(flow.client().0)),
        )
    } else {
        let frame = Frame::tcp(flow.client(), flow.virtual_addr(), flags);
        let to = if flow.is_nat() {
            flow.server()
        } else {
            flow.virtual_addr()
        };
        let expected = Frame::tcp(flow.client(), to, flags);
        (
            frame.between(mac(flow.client().0), FRONT_MAC),
            FRONT,
            expected.between(BACK_MAC, mac(flow.server().0)),
        )
    };
    let bytes = frame.bytes();
    let (class, out) = space.run::<false>(&bytes, ingress);
    match class {
        Class::Sent => {
            recount(&out).unwrap();
            assert_eq!(out, expected.ttl(63).bytes(), "{flow:?} misdirected");
            true
        }
        Class::Pass => {
            assert_eq!(out, bytes, "{flow:?} changed");
            false
        }
        Class::Drop => false,
    }
}

/// Active and inactive connections of each server; below zero if it comes to that.
fn counts(space: &UserSpace) -> Vec<(i32, i32)> {
    let servers = &space.tables.maps().servers;
    let records = (0..).map_while(|i| servers.read(i).filter(|s| s.in_use != 0));
    records
        .map(|s| (s.active as i32, s.inactive as i32))
        .collect()
}

/// Lets threads share a director: all they touch is made for it.
struct Shared(UserSpace);

// SAFETY: packets and the sweep reach the tables through atomics alone, as the programs do on
// several CPUs; the indices beside them do not change while threads run.
unsafe impl Sync for Shared {}

/// A small generator of numbers, one for each thread.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Hammers a table of `sets` sets from four threads while time passes, next hops go stale, and the
/// sweep runs; then everything lapses, and nobody may be counted any more.
fn hammer(sets: u32, ports: u16, seed: u64) {
    let (space, clock) = director(sets, u32::MAX - 40 * HZ);
    let shared = Shared(space);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (shared, clock, over) = (&shared, &clock, &over);
        for thread in 0..4u64 {
            scope.spawn(move || {
                let shared: &Shared = shared;
                let mut numbers = Numbers(seed ^ (thread + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                while !over.load(Ordering::Relaxed) {
                    let flow = Flow {
                        client: numbers.below(CLIENTS.into()) as u8,
                        port: 1000 + numbers.below(ports.into()) as u16,
                        service: numbers.below(SERVICES.into()) as u8,
                    };
                    // A short life: each step may be the last, and others may live it too.
                    for (reply, flags) in [
                        (false, SYN),
                        (true, SYN | ACK),
                        (false, ACK),
                        (true, ACK),
                        (true, FIN | ACK),
                        (false, FIN | ACK),
                        (false, RST),
                    ] {
                        if numbers.below(8) == 0 {
                            continue;
                        }
                        if !reply || flow.is_nat() {
                            send(&shared.0, flow, reply, flags);
                        }
                    }
                }
            });
        }
        scope.spawn(move || {
            let shared: &Shared = shared;
            let mut numbers = Numbers(seed);
            let runtime = shared.0.tables.maps().runtime.at(0).unwrap();
            while !over.load(Ordering::Relaxed) {
                clock.fetch_add(numbers.below(20) as u32 * HZ, Ordering::Relaxed);
                // SAFETY: the record lives as long as the tables; nobody else advances the epoch.
                unsafe {
                    let epoch = &raw mut (*runtime).epoch;
                    epoch.write_volatile(epoch.read_volatile().wrapping_add(0x9e37_79b1).max(1));
                }
                shared.0.tables.sweep_connections();
                thread::sleep(Duration::from_micros(numbers.below(300)));
            }
        });
        thread::sleep(Duration::from_millis(1500));
        over.store(true, Ordering::Relaxed);
    });
    clock.fetch_add(1000 * HZ, Ordering::Relaxed);
    shared.0.tables.sweep_connections();
    let left = shared.0.tables.sweep_connections();
    assert_eq!((left.live, left.lapsed), (0, 0), "everything was swept");
    assert_eq!(
        counts(&shared.0),
        vec![(0, 0); SERVICES.into()],
        "nobody is counted"
    );
}

#[test]
fn threads_never_misdirect_and_counts_return_to_zero_in_a_crowded_table() {
    hammer(2, 16, 1);
}

#[test]
fn threads_never_misdirect_and_counts_return_to_zero_on_few_shared_flows() {
    hammer(16, 1, 2);
}

#[test]
fn threads_never_misdirect_and_counts_return_to_zero_in_a_roomy_table() {
    hammer(64, 8, 3);
}

#[test]
fn a_flow_that_two_processors_open_at_once_becomes_one_connection() {
    const ROUNDS: u16 = 4000;
    let (space, _clock) = director(4096, 0);
    let shared = Shared(space);
    let rounds = [AtomicU32::new(0), AtomicU32::new(0)];
    thread::scope(|scope| {
        for thread in 0..2 {
            let (shared, rounds) = (&shared, &rounds);
            scope.spawn(move || {
                let shared: &Shared = shared;
                for round in 0..ROUNDS {
                    rounds[thread].store(u32::from(round) + 1, Ordering::SeqCst);
                    while rounds[1 - thread].load(Ordering::SeqCst) <= u32::from(round) {
                        std::hint::spin_loop();
                    }
                    let flow = Flow {
                        client: 0,
                        port: 1000 + round,
                        service: (round % u16::from(SERVICES)) as u8,
                    };
                    send(&shared.0, flow, false, SYN);
                    // Whoever was second goes on with what the first one made.
                    assert!(send(&shared.0, flow, false, SYN), "{flow:?} is there");
                }
            });
        }
    });
    let total: i32 = counts(&shared.0).iter().map(|(a, i)| a + i).sum();
    assert_eq!(total, i32::from(ROUNDS), "connections");
}

/// What is done to the table, and to its model.
#[derive(Clone, Debug)]
enum Step {
    Packet { flow: Flow, reply: bool, flags: u8 },
    Pass { jiffies: u32 },
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    let flow = (0..3u8, 1000..1003u16, 0..SERVICES).prop_map(|(client, port, service)| Flow {
        client,
        port,
        service,
    });
    let flags = prop::sample::select(vec![SYN, SYN | ACK, ACK, FIN | ACK, RST, RST | ACK, 0]);
    let seconds = prop::sample::select(vec![1u32, 9, 11, 59, 61, 119, 121, 600, 899, 901]);
    prop_oneof![
        12 => (flow, any::<bool>(), flags)
            .prop_map(|(flow, reply, flags)| Step::Packet { flow, reply, flags }),
        3 => seconds.prop_map(|secs| Step::Pass { jiffies: secs * HZ }),
        1 => Just(Step::Sweep),
    ]
}

/// A connection as the model knows it.
#[derive(Clone, Copy, Debug)]
struct Life {
    state: u8,
    /// Jiffies since the timer was started; it is not restarted when it would move less than 64.
    age: u32,
}

impl Life {
    fn new(state: u8) -> Self {
        Self { state, age: 0 }
    }

    /// `None` when it may be either.
    fn lives(self) -> Option<bool> {
        const NEAR: u32 = 64;
        let timeout = tcp::DEFAULT_SECS[usize::from(self.state)] * HZ;
        if self.age + NEAR < timeout {
            Some(true)
        } else if self.age > timeout + NEAR {
            Some(false)
        } else {
            None
        }
    }
}

/// Forgets connections that lapsed; near the end of their time the table decides.
fn forget(model: &mut HashMap<Flow, Life>, space: &UserSpace) {
    model.retain(|flow, life| {
        life.lives().unwrap_or_else(|| {
            let listed = space.tables.connections();
            let (client, port) = flow.client();
            let client = (IpAddr::V4(client), port).into();
            let (vip, vport) = flow.virtual_addr();
            let virtual_addr = (IpAddr::V4(vip), vport).into();
            listed
                .iter()
                .any(|c| c.client == client && c.virtual_addr == virtual_addr)
        })
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_table_does_what_a_map_with_timers_would(
        steps in prop::collection::vec(step(), 1..200),
        start in prop_oneof![Just(0u32), Just(u32::MAX - 100 * HZ), Just(i32::MAX as u32)],
    ) {
        let (space, clock) = director(256, start);
        let mut model: HashMap<Flow, Life> = HashMap::new();
        for step in steps {
            forget(&mut model, &space);
            match step {
                Step::Pass { jiffies } => {
                    clock.fetch_add(jiffies, Ordering::Relaxed);
                    model.values_mut().for_each(|life| life.age += jiffies);
                }
                Step::Packet { flow, reply, flags } => {
                    let reply = reply && flow.is_nat();
                    let direction = match (reply, flow.is_nat()) {
                        (true, _) => Direction::Reply,
                        (false, true) => Direction::Request,
                        (false, false) => Direction::RequestOnly,
                    };
                    let opens = !reply && flags & (SYN | RST) == SYN;
                    let over = |life: &Life| matches!(life.state, tcp::TIME_WAIT | tcp::CLOSE);
                    let before = model.get(&flow).filter(|life| !(opens && over(life)));
                    let state = before.map_or(tcp::NONE, |life| life.state);
                    let forwarded = before.is_some() || opens;
                    if forwarded {
                        // A refused connection's first packet is tracked twice: when it is made, and
                        // when it passes.
                        let mut next = tcp::next(direction, flags, state, false);
                        if before.is_none() {
                            next = tcp::next(direction, flags, next, false);
                        }
                        model.insert(flow, Life::new(next));
                    }
                    prop_assert_eq!(send(&space, flow, reply, flags), forwarded);
                }
                Step::Sweep => {
                    let swept = space.tables.sweep_connections();
                    prop_assert_eq!(swept.live as usize, model.len());
                    let active = model.values().filter(|life| tcp::is_active(life.state)).count();
                    let counts = counts(&space);
                    let sum = counts.iter().fold((0, 0), |s, c| (s.0 + c.0, s.1 + c.1));
                    prop_assert_eq!(sum, (active as i32, (model.len() - active) as i32));
                }
            }
        }
        prop_assert_eq!(space.tables.evictions(), 0);
        let begin = Instant::now();
        clock.fetch_add(1000 * HZ, Ordering::Relaxed);
        prop_assert_eq!(space.tables.connections().len(), 0);
        space.tables.sweep_connections();
        prop_assert_eq!(counts(&space), vec![(0, 0); SERVICES.into()]);
        prop_assert!(begin.elapsed() < Duration::from_secs(60));
    }
}
