//! Transcripts: what happens on the left, what comes of it below, in keepalived's order.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use pointsman_model::{
    Change, Check, CheckKind, Counting, Encapsulation, FlushOnStop, Forwarding, Pace, PoolServer,
    ProbeTarget, Protocol, Scheduler, Script, ServerKey, ServerSpec, ServiceKey, ServiceView, Site,
    SorryServer, VirtualId, VirtualName, VirtualServer, Weight,
};

use crate::{CheckRef, Effect, Event, Pools, Remembered, Verdict, repairs};

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn check(last: u8) -> Check {
    Check {
        kind: CheckKind::Tcp,
        target: ProbeTarget::new([10, 0, 0, last].into(), 80),
        pace: Pace {
            interval: Duration::from_secs(60),
            timeout: Duration::from_secs(5),
            retries: 1,
            retry_delay: Duration::from_secs(1),
            warmup: Duration::ZERO,
            counting: Counting::Retries,
        },
        alpha: false,
        log_all_failures: false,
    }
}

fn server(last: u8, weight: u32) -> PoolServer {
    let mut server = PoolServer::new(ServerSpec {
        key: server_key(last),
        forwarding: Forwarding::Masquerade,
        weight: Weight::new(weight).unwrap(),
        upper_threshold: 0,
        lower_threshold: 0,
    });
    server.checks.push(check(last));
    server
}

fn server_key(last: u8) -> ServerKey {
    ServerKey {
        addr: [10, 0, 0, last].into(),
        port: 80,
    }
}

fn service_key(last: u8) -> ServiceKey {
    ServiceKey::Address {
        protocol: Protocol::Tcp,
        addr: [192, 0, 2, last].into(),
        port: 80,
    }
}

fn id(last: u8) -> VirtualId {
    VirtualId {
        name: VirtualName::Address {
            addr: [192, 0, 2, last].into(),
            port: 80,
        },
        protocol: Some(Protocol::Tcp),
    }
}

fn sorry(inhibit: bool) -> Option<SorryServer> {
    Some(SorryServer {
        key: server_key(99),
        forwarding: Forwarding::Masquerade,
        inhibit,
    })
}

/// A virtual server with these real servers, by address and weight.
fn virtual_server(servers: &[(u8, u32)]) -> VirtualServer {
    let mut config = VirtualServer::new(id(1), vec![service_key(1)]);
    config.servers = servers.iter().map(|&(last, w)| server(last, w)).collect();
    config.quorum_up = Some(Script::new(["up"]));
    config.quorum_down = Some(Script::new(["down"]));
    config
}

fn site(config: VirtualServer) -> Site {
    Site {
        virtual_servers: vec![config],
        ..Site::default()
    }
}

/// Effects without log lines, a word or two each.
fn words(effects: &[Effect]) -> Vec<String> {
    effects.iter().filter_map(word).collect()
}

fn word(effect: &Effect) -> Option<String> {
    let last = |addr: std::net::IpAddr| addr.to_string().rsplit('.').next().unwrap().to_owned();
    let name = |service: &ServiceKey| match service {
        ServiceKey::Address { addr, .. } => last(*addr),
        ServiceKey::Mark { mark, .. } => format!("fwm{mark}"),
    };
    Some(match effect {
        Effect::Log(_) => return None,
        Effect::Change(change) => match change {
            Change::Flush => "-C".to_owned(),
            Change::AddService(spec) => format!("-A {}", name(&spec.key)),
            Change::EditService(spec) => format!("-E {}", name(&spec.key)),
            Change::DeleteService(key) => format!("-D {}", name(key)),
            Change::AddServer { server, .. } => {
                format!("-a {} w{}", last(server.key.addr), server.weight.get())
            }
            Change::EditServer { server, .. } => {
                format!("-e {} w{}", last(server.key.addr), server.weight.get())
            }
            Change::DeleteServer { server, .. } => format!("-d {}", last(server.addr)),
            other => panic!("{other:?}"),
        },
        Effect::Event(event) => match event {
            Event::Check(_) => return None,
            Event::Server(event) => {
                let state = if event.up { "UP" } else { "DOWN" };
                format!("RS {} {state}", last(event.server.addr))
            }
            Event::Quorum(event) => {
                let mut text = format!("VS {}", if event.up { "UP" } else { "DOWN" });
                if let Some(script) = &event.script {
                    write!(text, " ({script})").unwrap();
                }
                text
            }
        },
    })
}

struct Stage {
    pools: Pools,
    last: Vec<Effect>,
}

impl Stage {
    fn start(config: VirtualServer) -> Self {
        Self::of(&site(config))
    }

    fn of(site: &Site) -> Self {
        let (pools, last) = Pools::start(site, None, NOW);
        Self { pools, last }
    }

    fn says(&mut self, expected: &[&str]) {
        assert_eq!(words(&std::mem::take(&mut self.last)), expected);
    }

    fn weigh(&mut self, last: u8, up: bool, weight: i64) {
        let check = CheckRef {
            id: id(1),
            server: server_key(last),
            check: 0,
        };
        let verdict = Verdict {
            up,
            reason: "asked".into(),
            weight,
        };
        self.last = self.pools.verdict(&check, verdict, NOW);
    }

    fn down(&mut self, last: u8) {
        self.weigh(last, false, 0);
    }

    fn up(&mut self, last: u8) {
        self.weigh(last, true, 0);
    }

    fn reload(&mut self, config: VirtualServer) {
        self.last = self.pools.reload(&site(config), NOW);
    }

    /// `last:weight` of each server of the first service.
    fn table(&self) -> Vec<String> {
        let wanted = self.pools.wanted();
        let servers = wanted.first().map_or(&[][..], |(_, servers)| servers);
        servers
            .iter()
            .map(|s| {
                let addr = s.key.addr.to_string();
                format!("{}:{}", addr.rsplit('.').next().unwrap(), s.weight.get())
            })
            .collect()
    }
}

#[test]
fn servers_are_in_before_any_check() {
    let mut stage = Stage::start(virtual_server(&[(1, 3), (2, 1)]));
    stage.says(&["-A 1", "-a 1 w3", "-a 2 w1", "VS UP (up)"]);
    stage.up(1);
    stage.says(&[]);
}

#[test]
fn a_server_goes_and_comes_back() {
    let mut stage = Stage::start(virtual_server(&[(1, 3), (2, 1)]));
    stage.down(1);
    stage.says(&["-d 1", "RS 1 DOWN"]);
    stage.down(1);
    stage.says(&[]);
    stage.up(1);
    stage.says(&["-a 1 w3", "RS 1 UP"]);
    assert_eq!(stage.table(), ["2:1", "1:3"]);
}

#[test]
fn the_sorry_server_stands_in_for_the_last() {
    let mut config = virtual_server(&[(1, 3), (2, 1)]);
    config.sorry_server = sorry(false);
    let mut stage = Stage::start(config);
    stage.says(&["-A 1", "-a 1 w3", "-a 2 w1", "VS UP (up)"]);
    stage.down(1);
    stage.says(&["-d 1", "RS 1 DOWN"]);
    stage.down(2);
    stage.says(&["-d 2", "RS 2 DOWN", "-a 99 w1", "VS DOWN (down)"]);
    // It goes before servers come back.
    stage.up(2);
    stage.says(&["RS 2 UP", "-d 99", "-a 2 w1", "VS UP (up)"]);
}

#[test]
fn inhibited_servers_stay_with_weight_0() {
    let mut config = virtual_server(&[(1, 3), (2, 1)]);
    config.sorry_server = sorry(true);
    for server in &mut config.servers {
        server.inhibit_on_failure = true;
    }
    let mut stage = Stage::start(config);
    stage.says(&["-A 1", "-a 1 w3", "-a 2 w1", "VS UP (up)", "-a 99 w0"]);
    stage.down(1);
    stage.says(&["-e 1 w0", "RS 1 DOWN"]);
    stage.down(2);
    stage.says(&["-e 2 w0", "RS 2 DOWN", "-e 99 w1", "VS DOWN (down)"]);
    stage.up(1);
    stage.says(&["RS 1 UP", "-e 99 w0", "-e 1 w3", "VS UP (up)"]);
    assert_eq!(stage.table(), ["1:3", "2:0", "99:0"]);
}

#[test]
fn alpha_servers_wait_for_their_first_good_check() {
    let mut config = virtual_server(&[(1, 5), (2, 1)]);
    config.sorry_server = sorry(false);
    for server in &mut config.servers {
        server.alpha = true;
    }
    let mut stage = Stage::start(config.clone());
    stage.says(&["-A 1", "-a 99 w1", "VS DOWN (down)"]);
    // Nobody has said so before.
    stage.down(1);
    stage.says(&["RS 1 DOWN"]);
    stage.down(1);
    stage.says(&[]);
    stage.up(1);
    stage.says(&["RS 1 UP", "-d 99", "-a 1 w5", "VS UP (up)"]);
    stage.up(2);
    stage.says(&["-a 2 w1", "RS 2 UP"]);

    for server in &mut config.servers {
        server.inhibit_on_failure = true;
    }
    let mut stage = Stage::start(config.clone());
    stage.says(&["-A 1", "-a 1 w0", "-a 2 w0", "-a 99 w1", "VS DOWN (down)"]);
    stage.up(1);
    stage.says(&["RS 1 UP", "-d 99", "-e 1 w5", "VS UP (up)"]);

    // Without a sorry server nobody is told before something is up.
    config.sorry_server = None;
    let mut stage = Stage::start(config);
    stage.says(&["-A 1", "-a 1 w0", "-a 2 w0"]);
}

/// Quorum 3 and hysteresis 1 over five servers: up at 4, down below 2.
#[test]
fn the_quorum_has_its_hysteresis() {
    let mut config = virtual_server(&[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]);
    config.quorum = 3;
    config.hysteresis = 1;
    config.sorry_server = sorry(false);
    let mut stage = Stage::start(config);
    for last in 1..=3 {
        stage.down(last);
        assert!(words(&stage.last).iter().all(|w| !w.starts_with("VS")));
    }
    stage.down(4);
    // The survivor goes before the sorry server comes.
    stage.says(&["-d 4", "RS 4 DOWN", "-d 5", "-a 99 w1", "VS DOWN (down)"]);
    stage.up(1);
    stage.says(&["RS 1 UP"]);
    stage.up(2);
    stage.says(&["RS 2 UP"]);
    assert_eq!(stage.table(), ["99:1"]);
    stage.up(3);
    stage.says(&[
        "RS 3 UP",
        "-d 99",
        "-a 1 w1",
        "-a 2 w1",
        "-a 3 w1",
        "-a 5 w1",
        "VS UP (up)",
    ]);
}

#[test]
fn all_checks_of_a_server_must_pass() {
    let mut config = virtual_server(&[(1, 1)]);
    let mut second = check(1);
    second.target.port = 81;
    config.servers[0].checks.push(second);
    let mut stage = Stage::start(config);
    let mut verdict = |at, up| {
        let check = CheckRef {
            id: id(1),
            server: server_key(1),
            check: at,
        };
        let verdict = Verdict {
            up,
            reason: String::new(),
            weight: 0,
        };
        words(&stage.pools.verdict(&check, verdict, NOW))
    };
    assert_eq!(verdict(0, false), ["-d 1", "RS 1 DOWN", "VS DOWN (down)"]);
    assert_eq!(verdict(1, false), [""; 0]);
    assert_eq!(verdict(0, true), [""; 0]);
    assert_eq!(verdict(1, true), ["-a 1 w1", "RS 1 UP", "VS UP (up)"]);
}

#[test]
fn weights_follow_the_checks() {
    let mut config = virtual_server(&[(1, 10), (2, 1)]);
    config.quorum = 5;
    config.sorry_server = sorry(false);
    let mut stage = Stage::start(config);
    stage.weigh(1, true, -4);
    stage.says(&["-e 1 w6"]);
    assert!(stage.last.is_empty());
    stage.weigh(1, true, -8);
    stage.says(&["-e 1 w2", "-d 1", "-d 2", "-a 99 w1", "VS DOWN (down)"]);
    // No change of a table that the server is not in.
    stage.weigh(1, true, -7);
    stage.says(&[]);
    stage.weigh(1, true, 100_000);
    stage.says(&["-d 99", "-a 1 w65535", "-a 2 w1", "VS UP (up)"]);
    stage.weigh(1, true, -50);
    stage.says(&["-e 1 w0", "-d 1", "-d 2", "-a 99 w1", "VS DOWN (down)"]);
}

#[test]
fn a_stop_takes_everything_away() {
    let mut config = virtual_server(&[(1, 3), (2, 1)]);
    config.sorry_server = sorry(true);
    let stop = |config: &VirtualServer, flush| {
        let mut site = site(config.clone());
        site.globals.lvs_flush_on_stop = flush;
        let mut stage = Stage::of(&site);
        stage.down(2);
        words(&stage.pools.stop())
    };
    assert_eq!(stop(&config, FlushOnStop::Off), ["-d 99", "-d 1", "-D 1"]);
    assert_eq!(stop(&config, FlushOnStop::VirtualServers), ["-D 1"]);
    assert_eq!(stop(&config, FlushOnStop::Everything), ["-C"]);
    config.omega = true;
    assert_eq!(
        stop(&config, FlushOnStop::Off),
        ["-d 99", "-d 1", "RS 1 DOWN", "VS DOWN (down)", "-D 1"]
    );
}

#[test]
fn a_reload_touches_only_what_changed() {
    let config = virtual_server(&[(1, 3), (2, 1), (3, 1)]);
    let mut stage = Stage::start(config.clone());
    stage.down(2);
    stage.reload(config.clone());
    stage.says(&[]);

    let mut new = virtual_server(&[(1, 5), (2, 1), (4, 1)]);
    new.scheduler = Scheduler::Wrr;
    stage.reload(new.clone());
    stage.says(&["-E 1", "-d 3", "RS 3 DOWN", "-e 1 w5", "-a 4 w1"]);
    // The dead server stays dead.
    assert_eq!(stage.table(), ["1:5", "4:1"]);

    new.servers[0].spec.forwarding = Forwarding::Tunnel(Encapsulation::Ipip);
    stage.reload(new.clone());
    stage.says(&["-e 1 w5"]);

    // A changed check starts well, and with it the server.
    new.servers[1].checks[0].target.port = 8080;
    stage.reload(new.clone());
    stage.says(&["-a 2 w1", "RS 2 UP"]);

    new.id = id(7);
    new.keys = vec![service_key(7)];
    stage.reload(new);
    stage.says(&[
        "-d 1",
        "RS 1 DOWN",
        "-d 2",
        "RS 2 DOWN",
        "-d 4",
        "RS 4 DOWN",
        "VS DOWN (down)",
        "-D 1",
        "-A 7",
        "-a 1 w5",
        "-a 2 w1",
        "-a 4 w1",
        "VS UP (up)",
    ]);
}

#[test]
fn a_reload_keeps_the_sorry_server_in_use_and_changes_it() {
    let mut config = virtual_server(&[(1, 1)]);
    config.sorry_server = sorry(false);
    let mut stage = Stage::start(config.clone());
    stage.down(1);
    stage.reload(config.clone());
    stage.says(&[]);
    // Also when its checks are others now.
    config.servers[0].checks[0].target.port = 8080;
    stage.reload(config.clone());
    stage.says(&[]);
    assert_eq!(stage.table(), ["99:1"]);

    config.sorry_server.as_mut().unwrap().key = server_key(98);
    stage.reload(config.clone());
    stage.says(&["-d 99", "-a 98 w1"]);

    // A new server is enough to do without.
    config.servers.push(server(2, 1));
    stage.reload(config);
    stage.says(&["-d 98", "-a 2 w1", "VS UP (up)"]);
}

#[test]
fn a_group_is_one_pool_on_many_addresses() {
    let mut config = virtual_server(&[(1, 1)]);
    config.servers[0].spec.key.port = 0;
    config.keys = vec![service_key(1), service_key(2)];
    let mut stage = Stage::start(config.clone());
    stage.says(&["-A 1", "-A 2", "-a 1 w1", "-a 1 w1", "VS UP (up)"]);
    for (_, servers) in stage.pools.wanted() {
        assert_eq!(servers[0].key, server_key(1));
    }
    config.keys = vec![service_key(2), service_key(3)];
    stage.reload(config);
    stage.says(&["-D 1", "-A 3", "-a 1 w1"]);
}

#[test]
fn a_killed_director_is_taken_over_in_silence() {
    let mut config = virtual_server(&[(1, 1), (2, 1)]);
    config.sorry_server = sorry(false);
    let resume = |stage: &Stage, config: &VirtualServer| {
        let json = stage.pools.remember();
        let (pools, last) = Pools::start(&site(config.clone()), Some(&json), NOW);
        Stage { pools, last }
    };
    let mut stage = Stage::start(config.clone());
    stage.down(1);
    let mut next = resume(&stage, &config);
    next.says(&["-A 1", "-a 2 w1"]);
    next.down(2);
    let mut next = resume(&next, &config);
    next.says(&["-A 1", "-a 99 w1"]);
    next.up(1);
    next.says(&["RS 1 UP", "-d 99", "-a 1 w1", "VS UP (up)"]);
    assert_ne!(next.pools.remember(), Remembered::default());
}

#[test]
fn a_held_server_is_out_whatever_its_checks_say() {
    let mut stage = Stage::start(virtual_server(&[(1, 1), (2, 1)]));
    let hold = |stage: &mut Stage, why: Option<&str>| {
        let why = why.map(str::to_owned);
        let effects = stage.pools.hold(&id(1), server_key(1), why, NOW);
        words(&effects)
    };
    assert_eq!(hold(&mut stage, Some("maintenance")), ["-d 1", "RS 1 DOWN"]);
    stage.up(1);
    stage.says(&[]);
    assert_eq!(hold(&mut stage, None), ["-a 1 w1", "RS 1 UP"]);
}

#[test]
fn services_get_their_local_addresses() {
    let mut config = virtual_server(&[(1, 1)]);
    let [one, two] = [[10, 1, 0, 1].into(), [10, 1, 0, 2].into()];
    config.local_addresses = vec![one];
    let service = service_key(1);
    let stage = Stage::start(config.clone());
    let add = Change::AddLocalAddress {
        service,
        address: one,
    };
    assert_eq!(
        stage.pools.local_address_repairs(&[]),
        std::slice::from_ref(&add)
    );
    let table = [ServiceView {
        spec: config.service(service),
        local_addresses: vec![two],
        counters: Default::default(),
        rates: Default::default(),
        servers: Vec::new(),
    }];
    let delete = Change::DeleteLocalAddress {
        service,
        address: two,
    };
    assert_eq!(stage.pools.local_address_repairs(&table), [add, delete]);
}

#[test]
fn a_table_that_somebody_emptied_is_repaired() {
    let stage = Stage::start(virtual_server(&[(1, 3), (2, 1)]));
    let repairs = repairs(&stage.pools.wanted(), &[]);
    let repairs: Vec<_> = repairs.into_iter().map(Effect::Change).collect();
    assert_eq!(words(&repairs), ["-A 1", "-a 1 w3", "-a 2 w1"]);
}

mod property {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the checks say, the changes lead to what is wanted, and what is wanted is
        /// the pool or the sorry server.
        #[test]
        fn changes_lead_to_what_is_wanted(
            inhibit: bool, sorry_inhibit: bool, alpha: bool, quorum in 1u32..6, hysteresis in 0u32..3,
            verdicts in proptest::collection::vec((1u8..5, any::<bool>(), -3i64..3), 0..40),
        ) {
            let mut config = virtual_server(&[(1, 1), (2, 2), (3, 3), (4, 0)]);
            config.quorum = quorum;
            config.hysteresis = hysteresis.min(quorum - 1);
            config.sorry_server = sorry(sorry_inhibit);
            for server in &mut config.servers {
                server.inhibit_on_failure = inhibit;
                server.alpha = alpha;
            }
            let mut rules = pointsman_model::Rules::default();
            let mut stage = Stage::start(config);
            let mut take = |stage: &mut Stage| {
                for effect in stage.last.drain(..) {
                    if let Effect::Change(change) = effect {
                        rules.apply(&change).unwrap();
                    }
                }
                let mut wanted = pointsman_model::Rules::default();
                for (service, servers) in stage.pools.wanted() {
                    wanted.apply(&Change::AddService(service.clone())).unwrap();
                    for server in servers {
                        let service = service.key;
                        wanted.apply(&Change::AddServer { service, server }).unwrap();
                    }
                }
                assert_eq!(rules.changes_to(&wanted), []);
            };
            take(&mut stage);
            for (last, up, weight) in verdicts {
                stage.weigh(last, up, weight);
                take(&mut stage);
                let pool = stage.pools.iter().next().unwrap();
                let works = |last| pool.placed_weight(server_key(last)).is_some_and(|w| w.get() > 0);
                prop_assert_eq!(works(99), pool.is_sorry());
                if pool.is_sorry() {
                    prop_assert!((1..5).all(|last| !works(last)));
                } else {
                    for server in pool.servers() {
                        let key = server.config.spec.key;
                        let placed = pool.placed_weight(key).filter(|w| w.get() > 0);
                        let wanted = server.alive.then(|| server.weight()).filter(|w| w.get() > 0);
                        prop_assert_eq!(placed, wanted);
                    }
                }
            }
        }
    }
}
