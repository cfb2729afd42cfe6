//! What counters and rates show, and when, as the kernel's IPVS does.

use pointsman_core::layout::Stats;
use pointsman_dataplane::Tables;
use pointsman_dataplane::tables::maps::Maps;
use pointsman_model::{
    Counters, Forwarding, Protocol, Rates, Scheduler, ServerKey, ServerSpec, ServiceKey,
    ServiceSpec, Weight,
};

/// Tables with services on ports 1 and 2, of one server each.
struct Scene {
    tables: Tables,
}

impl Scene {
    fn new() -> Self {
        let tables = Tables::new(Maps::in_memory(4, Box::new(|| 0)));
        let mut scene = Self { tables };
        for port in [1, 2] {
            scene.add_service(port);
            scene.add_server(port, port as u8);
        }
        scene
    }

    fn add_service(&mut self, port: u16) {
        let spec = ServiceSpec::new(key(port), Scheduler::Rr);
        self.tables.add_service(&spec).unwrap();
    }

    fn add_server(&mut self, port: u16, last: u8) {
        let spec = ServerSpec {
            key: server(last),
            forwarding: Forwarding::Route,
            weight: Weight::DEFAULT,
            upper_threshold: 0,
            lower_threshold: 0,
        };
        self.tables.add_server(&key(port), &spec).unwrap();
    }

    /// The programs count: connections of one packet of 128 bytes each, for the server that was
    /// given this index.
    fn count(&self, index: u32, conns: u64) {
        let at: *mut Stats = self.tables.maps().stats.at(index).unwrap();
        // SAFETY: within the table, and nobody else is there.
        unsafe {
            (*at).conns += conns;
            (*at).in_packets += conns;
            (*at).in_bytes += 128 * conns;
        }
    }

    /// Connections that a service and its servers show, and the namespace.
    fn shown(&self, port: u16) -> (u64, Vec<u64>, u64) {
        let service = self.tables.service(&key(port)).unwrap();
        let servers = service.servers.iter().map(|s| s.counters.conns);
        let total = self.tables.totals().0;
        (service.counters.conns, servers.collect(), total.conns)
    }
}

fn key(port: u16) -> ServiceKey {
    ServiceKey::Address {
        protocol: Protocol::Udp,
        addr: [192, 0, 2, 2].into(),
        port,
    }
}

fn server(last: u8) -> ServerKey {
    ServerKey {
        addr: [10, 0, 0, last].into(),
        port: 53,
    }
}

/// 15 datagrams of 100 bytes, as the kernel showed them (`net.ipv4.vs` of 6.12): nothing before the
/// next estimation, then totals and rates together.
#[test]
fn a_burst_is_shown_by_the_next_estimation_and_decays() {
    let mut scene = Scene::new();
    scene.tables.estimate();
    scene.count(0, 15);
    assert_eq!(scene.shown(1), (0, vec![0], 0));
    for (rate, bytes) in [(2, 240), (1, 180), (1, 135), (1, 101), (1, 76), (0, 57)] {
        scene.tables.estimate();
        let counters = Counters {
            conns: 15,
            in_packets: 15,
            in_bytes: 1920,
            ..Counters::default()
        };
        let rates = Rates {
            cps: rate,
            in_pps: rate,
            in_bps: bytes,
            ..Rates::default()
        };
        let service = scene.tables.service(&key(1)).unwrap();
        assert_eq!((service.counters, service.rates), (counters, rates));
        let server = &service.servers[0];
        assert_eq!((server.counters, server.rates), (counters, rates));
        assert_eq!(scene.tables.totals(), (counters, rates));
    }
}

#[test]
fn zeroing_one_service_leaves_the_totals_of_all() {
    let mut scene = Scene::new();
    scene.count(0, 5);
    scene.count(1, 7);
    scene.tables.estimate();
    // Not shown yet when the service is zeroed, and so not lost.
    scene.count(0, 3);
    scene.tables.zero(Some(&key(1))).unwrap();
    assert_eq!(scene.shown(1), (0, vec![0], 12));
    assert_eq!(
        scene.tables.service(&key(1)).unwrap().rates,
        Rates::default()
    );
    scene.tables.estimate();
    assert_eq!(scene.shown(1), (3, vec![3], 15));
    assert_eq!(scene.shown(2), (7, vec![7], 15));
}

#[test]
fn zeroing_everything_spares_what_came_since_the_last_estimation() {
    let mut scene = Scene::new();
    scene.count(0, 5);
    scene.tables.estimate();
    scene.count(0, 3);
    scene.count(1, 2);
    scene.tables.zero(None).unwrap();
    assert_eq!(scene.shown(1), (0, vec![0], 0));
    assert_eq!(scene.tables.totals().1, Rates::default());
    scene.tables.estimate();
    assert_eq!(scene.shown(1), (3, vec![3], 5));
    assert_eq!(scene.shown(2), (2, vec![2], 5));
    // Nothing zeroes these.
    assert_eq!(scene.tables.per_cpu()[0].conns, 10);
}

#[test]
fn what_went_is_still_counted_above_it() {
    let mut scene = Scene::new();
    scene.add_server(1, 9);
    scene.count(0, 5);
    scene.count(2, 4);
    scene.tables.estimate();
    assert_eq!(scene.shown(1), (9, vec![4, 5], 9));
    scene.tables.delete_server(&key(1), &server(9)).unwrap();
    scene.tables.estimate();
    assert_eq!(scene.shown(1), (9, vec![5], 9));
    scene.tables.delete_service(&key(1)).unwrap();
    scene.tables.estimate();
    assert_eq!(scene.shown(2), (0, vec![0], 9));
    // Zeroing does not know the difference.
    scene.tables.zero(None).unwrap();
    scene.count(1, 1);
    scene.tables.estimate();
    assert_eq!(scene.shown(2), (1, vec![1], 1));
}

#[test]
fn a_server_that_returns_counts_on_but_not_in_another_service_of_the_name() {
    let mut scene = Scene::new();
    scene.count(0, 5);
    scene.tables.estimate();
    scene.tables.delete_server(&key(1), &server(1)).unwrap();
    scene.add_server(1, 1);
    assert_eq!(scene.shown(1), (5, vec![5], 5));
    scene.count(0, 2);
    scene.tables.estimate();
    assert_eq!(scene.shown(1), (7, vec![7], 7));

    scene.tables.delete_service(&key(1)).unwrap();
    scene.add_service(1);
    scene.add_server(1, 1);
    scene.tables.estimate();
    assert_eq!(scene.shown(1), (0, vec![0], 7));
    scene.count(0, 1);
    scene.tables.estimate();
    assert_eq!(scene.shown(1), (1, vec![1], 8));
}
