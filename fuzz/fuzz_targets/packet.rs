//! A director in user space meets frames of strangers, of either family and every protocol it balances.
//!
//! Input: frames, each behind a control byte (bit 0: by which interface, bit 1: out of the director's
//! own stack, the rest: how many times eight seconds pass before) and a length of two bytes.

#![no_main]

#[allow(dead_code)]
#[path = "../../crates/dataplane/tests/program/frame.rs"]
mod frame;
#[allow(dead_code)]
#[path = "../../crates/dataplane/tests/program/packet.rs"]
mod packet;
#[allow(dead_code)]
#[path = "../../crates/dataplane/tests/program/user.rs"]
mod user;

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use libfuzzer_sys::fuzz_target;
use pointsman_dataplane::Interface;
use pointsman_model::{
    Encapsulation, Family, Forwarding, MarkRule, Persistence, Protocol, Scheduler, ServerKey,
    ServerSpec, ServiceKey, ServiceSpec, Variable, Weight,
};

use user::{Class, To, UserSpace};

const HZ: u32 = 250;
const INTERFACES: [(u32, [u8; 6]); 2] = [(2, [2, 0, 0, 0, 1, 1]), (3, [2, 0, 0, 0, 2, 1])];
const METHODS: [Forwarding; 3] = [
    Forwarding::Masquerade,
    Forwarding::Route,
    Forwarding::Tunnel(Encapsulation::Ipip),
];
/// The mark of what is for ports from 8000 to 8009.
const MARK: u32 = 7;

thread_local! {
    static DIRECTOR: RefCell<(UserSpace, Arc<AtomicU32>)> = RefCell::new(director());
}

fn vip(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 0, 0, 100).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 100).into(),
    }
}

fn rip(family: Family, host: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(192, 168, 0, host).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, host.into()).into(),
    }
}

/// Two interfaces, a client and two servers of each family.
fn network(clock: &Arc<AtomicU32>) -> UserSpace {
    let now = Arc::clone(clock);
    let mut space = UserSpace::new(8, move || now.load(Ordering::Relaxed));
    for (index, mac) in INTERFACES {
        space.tables.set_interface(&Interface {
            index,
            name: format!("if{index}"),
            mac,
            mtu: 1500,
            kind: None,
            vlan: None,
            loopback: false,
            ethernet: true,
        });
    }
    let client = To::Neighbour(2, [2, 0, 0, 0, 0, 2], 1500);
    space.routes.push(([10, 0, 0, 2], client));
    space
        .wide_routes
        .push((Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2).octets(), client));
    for host in [10, 20] {
        let to = To::Neighbour(3, [2, 0, 0, 0, 9, host], 1500);
        for family in [Family::V4, Family::V6] {
            match rip(family, host) {
                IpAddr::V4(rip) => space.routes.push((rip.octets(), to)),
                IpAddr::V6(rip) => space.wide_routes.push((rip.octets(), to)),
            }
        }
    }
    // A server that is the director itself.
    space.routes.push(([192, 168, 0, 1], To::Local));
    space
}

/// For every protocol and family, services on the ports 80 to 82 by NAT, direct routing and tunnelling;
/// on 83 persistent, on 84 of one packet, on 85 without a server, on 86 with one on the director; on 500
/// for AH and ESP; and one of a mark. 64 slots.
fn director() -> (UserSpace, Arc<AtomicU32>) {
    let clock = Arc::new(AtomicU32::new(0));
    let mut space = network(&clock);
    for family in [Family::V4, Family::V6] {
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            let spec = |port| {
                let key = ServiceKey::Address {
                    protocol,
                    addr: vip(family),
                    port,
                };
                ServiceSpec::new(key, Scheduler::Wrr)
            };
            for (port, forwarding) in (80..).zip(METHODS) {
                serve(&mut space, &spec(port), &[10, 20], forwarding);
            }
            let persistent = ServiceSpec {
                persistence: Some(Persistence {
                    timeout_secs: NonZeroU32::MIN.saturating_add(99),
                }),
                ..spec(83)
            };
            serve(&mut space, &persistent, &[10, 20], Forwarding::Masquerade);
            let one_packet = ServiceSpec {
                one_packet: true,
                ..spec(84)
            };
            serve(&mut space, &one_packet, &[10, 20], Forwarding::Masquerade);
            serve(&mut space, &spec(85), &[], Forwarding::Masquerade);
            serve(&mut space, &spec(86), &[1], Forwarding::Masquerade);
            serve(&mut space, &spec(500), &[10], Forwarding::Masquerade);
        }
        let mark = ServiceSpec::new(ServiceKey::Mark { mark: MARK, family }, Scheduler::Rr);
        serve(&mut space, &mark, &[10, 20], Forwarding::Masquerade);
    }
    let rule: MarkRule = "port 8000-8009 mark 7".parse().expect("a rule");
    space.tables.set_mark_rules(&[rule]).expect("room");
    space
        .tables
        .set_variable(Variable::ScheduleIcmp, "1")
        .expect("a variable");
    (space, clock)
}

fn serve(space: &mut UserSpace, spec: &ServiceSpec, hosts: &[u8], forwarding: Forwarding) {
    space.tables.add_service(spec).expect("a fresh director");
    let family = spec.key.family();
    for &host in hosts {
        let server = ServerSpec {
            key: ServerKey {
                addr: rip(family, host),
                port: spec.key.port(),
            },
            forwarding,
            weight: Weight::new(host.into()).expect("small"),
            upper_threshold: 0,
            lower_threshold: 0,
        };
        let tables = &mut space.tables;
        tables
            .add_server(&spec.key, &server)
            .expect("a fresh service");
        tables.set_tunnel_source(server.key.addr, rip(family, 1));
    }
}

fuzz_target!(|data: &[u8]| {
    DIRECTOR.with_borrow_mut(|(space, clock)| {
        let mut rest = data;
        while let [control, high, low, frames @ ..] = rest {
            let len = usize::from(u16::from_be_bytes([*high, *low])).min(frames.len());
            let (bytes, next) = frames.split_at(len);
            rest = next;
            clock.fetch_add(u32::from(control >> 2) * 8 * HZ, Ordering::Relaxed);
            let ingress = INTERFACES[usize::from(control & 1)].0;
            let ran = if control & 2 != 0 {
                vec![space.run_egress(bytes)]
            } else {
                vec![
                    space.run::<true>(bytes, ingress),
                    space.run::<false>(bytes, ingress),
                ]
            };
            for (class, out) in ran {
                if class == Class::Sent && frame::recount(bytes).is_ok() {
                    frame::recount(&out).expect("right checksums stay right");
                }
            }
        }
        // Parents go on for a minute at a time while they have children.
        for _ in 0..3 {
            clock.fetch_add(1000 * HZ, Ordering::Relaxed);
            space.tables.sweep_connections();
        }
        for service in space.tables.services() {
            for server in service.servers {
                assert_eq!(
                    (server.active, server.inactive, server.persistent),
                    (0, 0, 0),
                    "{:?}",
                    server.spec.key
                );
            }
        }
    });
});
