//! Where programs are measured: a director's network without its hosts, and the harness that sends.

use std::io::Write;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use aya::maps::{Array, Map, MapData, MapInfo, ProgramArray};
use aya::programs::{
    Program, ProgramFd, ProgramInfo, TestRun as _, TestRunOptions, loaded_programs,
};
use aya::{Ebpf, EbpfLoader};
use pointsman_api::Location;
use pointsman_dataplane::test_run::Entry;
use pointsman_dataplane::{self as dataplane, DataPlane, HookChoice, Options};
use pointsman_model::{
    Encapsulation, Family, Forwarding, Protocol, Scheduler, ServerKey, ServerSpec, ServiceKey,
    ServiceSpec, Weight,
};
use pointsman_testkit::frames::{ACK, SYN};
use pointsman_testkit::{Netns, Pins};

use crate::packets::{PORT, Plan, Traffic, director, local, requests, server, vip};

#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);
static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/bench")));

/// Packets of a round.
const RUNS: u32 = 1_000_000;

/// Rounds of a measurement over so many flows, of which the median counts. Over a few it is luck whether the cache, or
/// the processor's guess where in it they are, holds them side by side with all else: that wants other flows each
/// time, and many times.
pub fn rounds(flows: u32) -> u32 {
    if flows < 4096 { 15 } else { 7 }
}

/// New connections that are opened before those that are timed, so that what is warm in a director at
/// work is warm here.
pub const WARM: u32 = 1024;
/// More connections than any row opens.
const ENOUGH: u32 = 1 << 22;
/// Real servers that have a neighbour entry.
pub const SERVERS: u16 = 1000;

/// Where packets come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// From clients.
    Front,
    /// From real servers.
    Back,
}

/// A program that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The director's at XDP.
    Xdp,
    /// The director's at TC.
    Tc,
    /// The least any balancer does.
    Floor,
}

/// What is served, and by whom.
#[derive(Clone, Copy, Debug)]
pub struct Serving {
    /// Family of VIP and servers.
    pub family: Family,
    /// Protocol of all services.
    pub protocol: Protocol,
    /// How servers are reached.
    pub forwarding: Forwarding,
    /// Who chooses them.
    pub scheduler: Scheduler,
    /// How many servers each service has.
    pub servers: u16,
    /// How many services there are; packets go to the first.
    pub services: u16,
}

impl Serving {
    /// One TCP service of IPv4 with one server, by rr.
    pub fn one(forwarding: Forwarding) -> Self {
        Self {
            family: Family::V4,
            protocol: Protocol::Tcp,
            forwarding,
            scheduler: Scheduler::Rr,
            servers: 1,
            services: 1,
        }
    }
}

/// Two interfaces with neighbours on them.
pub fn prepare(netns: &Netns) {
    let ip = |command: &str| {
        netns.ip(command).expect(command);
    };
    // Namespaces of tests begin without IPv6.
    for interface in ["default", "all", "lo"] {
        let disabled = format!("net.ipv6.conf.{interface}.disable_ipv6");
        netns.sysctl(&disabled, "0").expect("a sysctl");
    }
    for command in [
        "link set lo up",
        "link add front address 02:00:00:00:00:01 type veth peer name client",
        "link add back address 02:00:00:00:00:01 type veth peer name servers",
        "addr add 10.1.0.1/16 dev front",
        "addr add 192.168.0.1/16 dev back",
        "-6 addr add fd00:3::1/64 dev back nodad",
        "link set front up",
        "link set client up",
        "link set back up",
        "link set servers up",
        "neigh add 10.1.0.2 lladdr 02:00:00:00:00:02 dev front nud permanent",
        "neigh add fe80::2 lladdr 02:00:00:00:00:02 dev front nud permanent",
        // Every client behind one router, as for most directors.
        "route del 10.1.0.0/16 dev front",
        "route add 10.1.0.2 dev front",
        "route add 10.0.0.0/8 via 10.1.0.2",
        "-6 route add fd00:1::/32 via fe80::2 dev front",
    ] {
        ip(command);
    }
    let neighbour = |n: u16, family: Family| {
        let (addr, [high, low]) = (server(family, n), n.to_be_bytes());
        let mac = format!("02:00:00:00:{:02x}:{low:02x}", high + 1);
        format!("neigh add {addr} lladdr {mac} dev back nud permanent")
    };
    let mut batch = netns
        .command("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("ip");
    let mut lines = batch.stdin.take().expect("a pipe");
    for n in 0..SERVERS {
        for family in [Family::V4, Family::V6] {
            writeln!(lines, "{}", neighbour(n, family)).expect("a line");
        }
    }
    drop(lines);
    assert!(batch.wait().expect("ip").success(), "neighbours");
    for family in ["ipv4", "ipv6"] {
        let forwarding = format!("net.{family}.conf.lo.forwarding");
        netns.sysctl(&forwarding, "1").expect("a sysctl");
    }
}

/// What packets meet, and where they come in.
pub struct Way {
    interfaces: [u32; 2],
    xdp: ProgramFd,
    tc: ProgramFd,
}

impl Way {
    /// Through the programs of a director that runs in a namespace.
    pub fn of_director(netns: &Netns) -> Self {
        let location = Location::of_netns(netns.name()).expect("a namespace");
        let pin = location.director_pins().join("RUNTIME");
        let runtime = MapInfo::from_pin(pin).expect("a director's map");
        let uses = |program: &ProgramInfo| {
            let maps = program.map_ids().expect("what a program uses");
            maps.is_some_and(|maps| maps.contains(&runtime.id()))
        };
        let programs: Vec<_> = loaded_programs().flatten().filter(uses).collect();
        let program = |name: &str| {
            let named = |program: &&ProgramInfo| program.name_as_str() == Some(name);
            let program = programs.iter().find(named).expect(name);
            program.fd().expect(name)
        };
        Self {
            interfaces: ["front", "back"].map(|name| netns.index(name).expect("an index")),
            xdp: program("director_xdp"),
            tc: program("director_tc"),
        }
    }
}

impl Way {
    /// Through another XDP program, in by the same interfaces.
    pub fn through(&self, program: &ProgramFd) -> Self {
        let clone = |program: &ProgramFd| program.try_clone().expect("a descriptor");
        Self {
            interfaces: self.interfaces,
            xdp: clone(program),
            tc: clone(&self.tc),
        }
    }
}

/// A director's programs and tables.
pub struct Rig {
    plane: Option<DataPlane>,
    _pins: Pins,
    /// The way through its programs.
    pub way: Way,
    /// How many flows it has room for.
    pub flows: u32,
}

impl Rig {
    /// With a table for so many flows.
    pub fn new(netns: &Netns, flows: u32) -> Self {
        let pins = Pins::new().expect("a directory in bpffs");
        // Two slots a flow for NAT, and half of them free.
        let slots = (flows * 4).next_power_of_two().max(1 << 14);
        let options = Options {
            connection_slots: Some(slots),
        };
        let mut plane = DataPlane::open(pins.path(), &options).expect("a kernel");
        let interfaces = ["front", "back"].map(|name| {
            let index = netns.index(name).expect("an index");
            let interface = dataplane::Interface {
                index,
                name: name.into(),
                mac: netns.mac(name).expect("an address"),
                mtu: 1500,
                kind: Some("veth".into()),
                vlan: None,
                loopback: false,
                ethernet: true,
            };
            plane.tables().set_interface(&interface);
            // Registers the queues that packets will seem to come from.
            plane
                .attach(&interface, HookChoice::Xdp)
                .expect("native XDP");
            index
        });
        let program = |entry| plane.program(entry).expect("a program");
        let (xdp, tc) = (program(Entry::Xdp), program(Entry::TcIngress));
        let way = Way {
            interfaces,
            xdp,
            tc,
        };
        Self {
            plane: Some(plane),
            _pins: pins,
            way,
            flows,
        }
    }

    fn plane(&mut self) -> &mut DataPlane {
        self.plane.as_mut().expect("open until dropped")
    }

    /// Serves this and nothing else. The weights of its servers go from 1 to 4, and are large enough for
    /// every flow where they say how many connections a server takes.
    pub fn serve(&mut self, serving: &Serving) {
        let unit = match serving.scheduler {
            Scheduler::Ovf => ENOUGH,
            _ => 1,
        };
        let family = serving.family;
        let tables = self.plane().tables();
        tables.flush();
        tables.clear_connections();
        for service in 1..=serving.services {
            let key = ServiceKey::Address {
                protocol: serving.protocol,
                addr: vip(family, service),
                port: PORT,
            };
            tables
                .add_service(&ServiceSpec::new(key, serving.scheduler))
                .expect("a service");
            for n in 0..serving.servers {
                let addr = server(family, n);
                let spec = ServerSpec {
                    key: ServerKey { addr, port: PORT },
                    forwarding: serving.forwarding,
                    weight: Weight::new(unit * (1 + u32::from(n % 4))).expect("a weight"),
                    upper_threshold: 0,
                    lower_threshold: 0,
                };
                tables.add_server(&key, &spec).expect("a server");
                if matches!(serving.forwarding, Forwarding::Tunnel(_)) {
                    tables.set_tunnel_source(addr, director(family));
                }
            }
            if serving.forwarding == Forwarding::FullNat {
                // 60,000 flows each: enough for the largest table.
                for n in 1..=20 {
                    let local = local(family, n);
                    tables
                        .add_local_address(&key, local)
                        .expect("a local address");
                }
            }
        }
    }

    /// Forgets all connections.
    pub fn clear(&mut self) {
        self.plane().tables().clear_connections();
    }

    /// Brings every flow to ESTABLISHED.
    pub fn establish(&mut self, harness: &mut Harness, serving: &Serving) {
        self.clear();
        harness.open(&self.way, self.flows, serving.family, serving.protocol);
        let (flows, live) = (self.flows, self.plane().tables().sweep().live);
        assert!(
            live >= flows - flows / 100,
            "{live} of {flows} flows have a connection"
        );
    }

    /// Does something while another thread, on a processor of its own, sweeps the connections without pause.
    pub fn swept<T>(&mut self, cpu: usize, f: impl FnOnce(&Way) -> T) -> T {
        let plane = self.plane.as_mut().expect("open until dropped");
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                crate::pin(cpu);
                while !done.load(Ordering::Relaxed) {
                    plane.tables().sweep_connections();
                }
            });
            // Also when it panics: the thread is waited for.
            let _end = End(&done);
            f(&self.way)
        })
    }

    /// Verified instructions of every program.
    pub fn verified(&self) -> String {
        let plane = self.plane.as_ref().expect("open until dropped");
        let counts = plane.verified_instructions();
        counts
            .iter()
            .map(|(n, c)| format!("{n} {c}"))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(plane) = self.plane.take() {
            let _ = plane.remove();
        }
    }
}

/// Says that something is over when it goes.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The programs that send packets to the one that is measured.
pub struct Harness {
    ebpf: Ebpf,
    plan: Array<MapData, Plan>,
    turn: Array<MapData, u64>,
    targets: [ProgramArray<MapData>; 2],
    /// Whose packets it sends: [`Traffic::of_round`].
    pub round: u32,
}

impl Harness {
    /// Loads them.
    pub fn new() -> Self {
        let mut ebpf = EbpfLoader::new().load(&OBJECT.0).expect("the bench object");
        for (name, program) in ebpf.programs_mut() {
            match program {
                Program::Xdp(program) => program.load().expect(name),
                Program::SchedClassifier(program) => program.load().expect(name),
                _ => unreachable!("{name}"),
            }
        }
        let mut map = |name: &str| ebpf.take_map(name).unwrap_or_else(|| panic!("map {name}"));
        let (plan, turn): (Map, Map) = (map("PLAN"), map("TURN"));
        let targets =
            ["TARGET_XDP", "TARGET_TC"].map(|name| map(name).try_into().expect("a program array"));
        Self {
            plan: plan.try_into().expect("an array"),
            turn: turn.try_into().expect("an array"),
            targets,
            round: 0,
            ebpf,
        }
    }

    /// Goes on with the flow of this turn.
    pub fn begin(&mut self, turn: u32) {
        self.turn.set(0, u64::from(turn), 0).expect("an entry");
    }

    /// Sends `runs` packets to a program, or to one at the same hook that does nothing; mean nanoseconds
    /// of each, harness included.
    pub fn run(
        &mut self,
        way: &Way,
        target: Target,
        idle: bool,
        traffic: &Traffic,
        runs: u32,
    ) -> f64 {
        self.aim(way, target, idle, traffic);
        self.fire(way, target, traffic, runs, None)
    }

    /// Mean nanoseconds of a packet at TC in each of many batches, harness included.
    pub fn batches(&mut self, way: &Way, traffic: &Traffic, count: u32, size: u32) -> Vec<f64> {
        self.aim(way, Target::Tc, false, traffic);
        let batch = |_| self.fire(way, Target::Tc, traffic, size, None);
        (0..count).map(batch).collect()
    }

    /// Chooses what [`Harness::fire`] sends, and to which program.
    pub fn aim(&mut self, way: &Way, target: Target, idle: bool, traffic: &Traffic) {
        let plan = traffic.of_round(self.round).plan;
        self.plan.set(0, plan, 0).expect("an entry");
        let tc = target == Target::Tc;
        let own = |name| match self.ebpf.program(name).expect(name) {
            Program::Xdp(program) => program.fd().expect("loaded"),
            Program::SchedClassifier(program) => program.fd().expect("loaded"),
            _ => unreachable!("no others"),
        };
        let program = match target {
            Target::Tc if idle => own("empty_tc"),
            _ if idle => own("empty"),
            Target::Floor => own("floor"),
            Target::Xdp => &way.xdp,
            Target::Tc => &way.tc,
        };
        let targets = &mut self.targets[usize::from(tc)];
        targets.set(0, program, 0).expect("an entry");
    }

    /// Sends packets as they were chosen, the last of which is put into `out`; mean nanoseconds of each.
    pub fn fire(
        &mut self,
        way: &Way,
        target: Target,
        traffic: &Traffic,
        runs: u32,
        out: Option<&mut [u8]>,
    ) -> f64 {
        let tc = target == Target::Tc;
        let ingress = way.interfaces[traffic.interface as usize];
        let mut context = vec![0u32; if tc { 48 } else { 6 }];
        if tc {
            // struct __sk_buff: ingress_ifindex and ifindex.
            (context[9], context[10]) = (ingress, ingress);
        } else {
            // struct xdp_md: data_end is the length, ingress_ifindex the fourth word.
            (context[1], context[3]) = (traffic.plan.len, ingress);
        }
        let context: Vec<u8> = context.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let options = TestRunOptions {
            data_in: Some(&traffic.plan.packet),
            data_out: out,
            ctx_in: Some(&context),
            repeat: runs,
            ..TestRunOptions::default()
        };
        let result = match self.ebpf.program(if tc { "harness_tc" } else { "harness" }) {
            Some(Program::Xdp(program)) => program.test_run(options),
            Some(Program::SchedClassifier(program)) => program.test_run(options),
            _ => unreachable!("it has both"),
        };
        let result = result.expect("a run");
        // XDP_TX, XDP_REDIRECT and TC_ACT_REDIRECT.
        let sent = if tc { [7, 7] } else { [3, 4] };
        assert!(
            sent.contains(&result.return_value),
            "the last packet was not sent, but met with {}",
            result.return_value
        );
        result.duration.as_nanos() as f64
    }

    /// Opens so many connections.
    pub fn open(&mut self, way: &Way, flows: u32, family: Family, protocol: Protocol) {
        for flags in [SYN, ACK] {
            self.begin(0);
            let traffic = requests(flows, family, protocol, flags).in_order();
            self.run(way, Target::Xdp, false, &traffic, flows);
        }
    }

    /// Net time of a packet, once every flow had one: the first may change its connection's state or life.
    pub fn sample(&mut self, way: &Way, target: Target, traffic: &Traffic, flows: u32) -> f64 {
        self.run(way, target, false, traffic, flows);
        let mut run = |idle| self.run(way, target, idle, traffic, RUNS);
        run(false) - run(true)
    }

    /// Net time of a new connection, each of a flow of its own, after [`WARM`] others.
    pub fn sample_new(&mut self, way: &Way, traffic: &Traffic, opened: u32) -> f64 {
        let mut run = |idle, runs| self.run(way, Target::Xdp, idle, traffic, runs);
        let base = run(true, opened);
        run(false, WARM);
        run(false, opened) - base
    }

    /// Median of times at XDP over so many flows, harness included.
    pub fn gross(&mut self, way: &Way, traffic: &Traffic, flows: u32) -> f64 {
        let run = |_| self.run(way, Target::Xdp, false, traffic, RUNS);
        median((0..rounds(flows)).map(run).collect())
    }
}

/// The middle one.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// IPIP, as users of tunnels mostly have it.
pub const TUNNEL: Forwarding = Forwarding::Tunnel(Encapsulation::Ipip);
