mod connections;
mod marks;
mod services;
mod settings;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use pointsman_model::{
    Encapsulation, Error, Family, Forwarding, Persistence, Protocol, SchedFlags, Scheduler,
    ServerKey, ServerSpec, ServiceKey, ServiceSpec, Variable, Weight,
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
