//! A director in user space meets frames of strangers.
//!
//! Input: frames, each behind a control byte (bit 0: by which interface, the rest: how many times
//! four seconds pass before) and a length of two bytes.

#![no_main]

#[allow(dead_code)]
#[path = "../../crates/dataplane/tests/program/frame.rs"]
mod frame;
#[allow(dead_code)]
#[path = "../../crates/dataplane/tests/program/user.rs"]
mod user;

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use libfuzzer_sys::fuzz_target;
use pointsman_dataplane::Interface;
use pointsman_model::{
    Encapsulation, Forwarding, Protocol, Scheduler, ServerKey, ServerSpec, ServiceKey, ServiceSpec,
    Weight,
};

use user::{Class, To, UserSpace};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const HZ: u32 = 250;
const INTERFACES: [(u32, [u8; 6]); 2] = [(2, [2, 0, 0, 0, 1, 1]), (3, [2, 0, 0, 0, 2, 1])];
const METHODS: [Forwarding; 3] = [
    Forwarding::Masquerade,
    Forwarding::Route,
    Forwarding::Tunnel(Encapsulation::Ipip),
];

thread_local! {
    static DIRECTOR: RefCell<(UserSpace, Arc<AtomicU32>)> = RefCell::new(director());
}

/// Services on ports 80, 81, 82 of TCP and UDP: by NAT, direct routing, tunnelling. 64 slots.
fn director() -> (UserSpace, Arc<AtomicU32>) {
    let clock = Arc::new(AtomicU32::new(0));
    let now = Arc::clone(&clock);
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
    space
        .routes
        .push((CLIENT.octets(), To::Neighbour(2, [2, 0, 0, 0, 0, 2], 1500)));
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for (port, forwarding) in (80..).zip(METHODS) {
            let key = ServiceKey::Address {
                protocol,
                addr: IpAddr::V4(VIP),
                port,
            };
            let spec = ServiceSpec::new(key, Scheduler::Wrr);
            space.tables.add_service(&spec).expect("a fresh director");
            for host in [10, 20] {
                let rip = Ipv4Addr::new(192, 168, 0, host);
                let server = ServerSpec {
                    key: ServerKey {
                        addr: IpAddr::V4(rip),
                        port,
                    },
                    forwarding,
                    weight: Weight::new(host.into()).expect("small"),
                    upper_threshold: 0,
                    lower_threshold: 0,
                };
                space
                    .tables
                    .add_server(&key, &server)
                    .expect("a fresh service");
                space
                    .tables
                    .set_tunnel_source(rip, Ipv4Addr::new(192, 168, 0, 1));
                space
                    .routes
                    .push((rip.octets(), To::Neighbour(3, [2, 0, 0, 0, 9, host], 1500)));
            }
        }
    }
    (space, clock)
}

fuzz_target!(|data: &[u8]| {
    DIRECTOR.with_borrow_mut(|(space, clock)| {
        let mut rest = data;
        while let [control, high, low, frames @ ..] = rest {
            let len = usize::from(u16::from_be_bytes([*high, *low])).min(frames.len());
            let (bytes, next) = frames.split_at(len);
            rest = next;
            clock.fetch_add(u32::from(control >> 1) * 4 * HZ, Ordering::Relaxed);
            let ingress = INTERFACES[usize::from(control & 1)].0;
            for (class, out) in [
                space.run::<true>(bytes, ingress),
                space.run::<false>(bytes, ingress),
            ] {
                if class == Class::Sent && frame::recount(bytes).is_ok() {
                    frame::recount(&out).expect("right checksums stay right");
                }
            }
        }
        clock.fetch_add(1000 * HZ, Ordering::Relaxed);
        space.tables.sweep_connections();
        for service in space.tables.services() {
            for server in service.servers {
                assert_eq!(
                    (server.active, server.inactive),
                    (0, 0),
                    "{:?}",
                    server.spec.key
                );
            }
        }
    });
});
