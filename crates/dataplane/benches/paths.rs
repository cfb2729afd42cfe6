//! Net nanoseconds per packet of each path through the XDP program, over many flows.
//!
//! `cargo bench -p pointsman-dataplane` prints the table; `cargo xtask bench` puts it into
//! `docs/benchmarks.md`. Needs root. Each figure is a median of rounds that are interleaved with
//! rounds of the harness ending in an empty program, whose time is taken off.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use aya::maps::{Array, Map, MapData, ProgramArray};
use aya::programs::{Program, ProgramFd, TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader, Pod};
use pointsman_dataplane::{DataPlane, HookChoice, Interface, Options};
use pointsman_model::{
    Encapsulation, Forwarding, Protocol, Scheduler, ServerKey, ServerSpec, ServiceKey, ServiceSpec,
    Weight,
};
use pointsman_testkit::{Names, Netns, frames};

#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);
static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/bench")));

const FLOWS: [u32; 4] = [1, 256, 65_536, 1_000_000];
/// Flows are visited in steps of a prime, so that neighbours in time are not neighbours in memory.
const STRIDE: u32 = 7919;
/// Flows that schedulers are measured with, and how many servers they choose from.
const SCHEDULED: u32 = 65_536;
const SERVERS: [u8; 2] = [1, 100];
const ROUNDS: usize = 5;
const RUNS: u32 = 1_000_000;
const RESTORED: usize = 64;

/// Offset of the low bytes of the source address.
const SOURCE_AT: u32 = 14 + 14;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const VIP: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 1);
const RIP: Ipv4Addr = server(0);

/// Real server `n`.
const fn server(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 0, 10 + n)
}

/// The same as `Plan` in `bpf/src/bin/bench.rs`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Plan {
    len: u32,
    flows: u32,
    stride: u32,
    address_at: u32,
    port_at: u32,
    _reserved: u32,
    packet: [u8; RESTORED],
}

// SAFETY: plain numbers without padding.
unsafe impl Pod for Plan {}

fn main() {
    let names = Names::transient();
    let netns = Netns::new(&names, "bench").expect("a network namespace (needs root)");
    netns.run(|| bench(&netns));
}

fn bench(netns: &Netns) {
    prepare(netns);
    println!("{}", machine());
    println!();
    println!(
        "| path | {} |",
        FLOWS.map(|f| format!("{f} flows")).join(" | ")
    );
    println!("|---|{}", "---:|".repeat(FLOWS.len()));
    let mut verified = String::new();
    let columns = FLOWS.map(|flows| {
        let mut bench = Bench::new(netns, flows);
        verified = bench.verified();
        bench.column()
    });
    for (at, (name, _)) in columns[0].iter().enumerate() {
        let figures: Vec<String> = columns
            .iter()
            .map(|column| {
                column[at]
                    .1
                    .map_or_else(|| "–".into(), |ns| format!("{ns:.0}"))
            })
            .collect();
        println!("| {name} | {} |", figures.join(" | "));
    }
    println!();
    schedulers(netns);
    println!();
    println!("verified instructions: {verified}");
}

/// New connections by direct routing, for each scheduler.
fn schedulers(netns: &Netns) {
    let header = SERVERS.map(|count| format!("{count} servers")).join(" | ");
    println!("| scheduler, {SCHEDULED} new connections | {header} |");
    println!("|---|{}", "---:|".repeat(SERVERS.len()));
    let mut bench = Bench::new(netns, SCHEDULED);
    for scheduler in Scheduler::ALL {
        if scheduler == Scheduler::None {
            continue;
        }
        let figures = SERVERS.map(|count| {
            bench.serve(Forwarding::Route, scheduler, count);
            let ns = bench.measure_new().expect("many flows");
            format!("{ns:.0}")
        });
        println!("| {} | {} |", scheduler.name(), figures.join(" | "));
    }
}

/// Two interfaces with neighbours on them.
fn prepare(netns: &Netns) {
    for command in [
        "link set lo up",
        "link add front address 02:00:00:00:00:01 type veth peer name client",
        "link add back address 02:00:00:00:00:01 type veth peer name servers",
        "addr add 10.1.0.1/16 dev front",
        "addr add 192.168.0.1/24 dev back",
        "link set front up",
        "link set client up",
        "link set back up",
        "link set servers up",
        "neigh add 10.1.0.2 lladdr 02:00:00:00:00:02 dev front nud permanent",
    ] {
        netns.ip(command).expect(command);
    }
    for n in 0..SERVERS[1] {
        let command = format!(
            "neigh add {} lladdr 02:00:00:00:01:{n:02x} dev back nud permanent",
            server(n)
        );
        netns.ip(&command).expect("a neighbour");
    }
    // Every client behind one router, as for most directors.
    netns
        .ip("route del 10.1.0.0/16 dev front")
        .expect("the connected route");
    netns
        .ip("route add 10.1.0.2 dev front")
        .expect("a host route");
    netns
        .ip("route add 10.0.0.0/8 via 10.1.0.2")
        .expect("a route");
    netns
        .sysctl("net.ipv4.conf.lo.forwarding", "1")
        .expect("a sysctl");
}

struct Bench {
    ebpf: Ebpf,
    plan: Array<MapData, Plan>,
    turn: Array<MapData, u64>,
    target: ProgramArray<MapData>,
    plane: Option<DataPlane>,
    pins: PathBuf,
    flows: u32,
    front: u32,
    back: u32,
}

impl Bench {
    fn new(netns: &Netns, flows: u32) -> Self {
        let pins = PathBuf::from(format!("/sys/fs/bpf/pm-bench-{}", std::process::id()));
        fs::create_dir(&pins).expect("a directory in bpffs");
        // Two slots a flow for NAT, and half of them free.
        let slots = (flows * 4).next_power_of_two().max(1 << 14);
        let mut plane = DataPlane::open(
            &pins,
            &Options {
                connection_slots: Some(slots),
            },
        )
        .expect("a kernel");
        for name in ["front", "back"] {
            let interface = Interface {
                index: netns.index(name).expect("an index"),
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
        }
        let mut ebpf = EbpfLoader::new().load(&OBJECT.0).expect("the bench object");
        for (_, program) in ebpf.programs_mut() {
            if let Program::Xdp(program) = program {
                program.load().expect("a program");
            }
        }
        let mut map = |name: &str| ebpf.take_map(name).unwrap_or_else(|| panic!("map {name}"));
        let (plan, turn, target): (Map, Map, Map) = (map("PLAN"), map("TURN"), map("TARGET"));
        Self {
            plan: plan.try_into().expect("an array"),
            turn: turn.try_into().expect("an array"),
            target: target.try_into().expect("a program array"),
            ebpf,
            plane: Some(plane),
            pins,
            flows,
            front: netns.index("front").expect("an index"),
            back: netns.index("back").expect("an index"),
        }
    }

    fn plane(&mut self) -> &mut DataPlane {
        self.plane.as_mut().expect("open until dropped")
    }

    /// One service; the weights of its servers go from 1 to 4, and are large enough for every flow where
    /// they say how many connections a server takes.
    fn serve(&mut self, forwarding: Forwarding, scheduler: Scheduler, servers: u8) {
        let unit = match scheduler {
            Scheduler::Ovf => self.flows,
            _ => 1,
        };
        let tables = self.plane().tables();
        tables.flush();
        tables.clear_connections();
        let key = ServiceKey::Address {
            protocol: Protocol::Tcp,
            addr: VIP.into(),
            port: 80,
        };
        tables
            .add_service(&ServiceSpec::new(key, scheduler))
            .expect("a service");
        for n in 0..servers {
            let spec = ServerSpec {
                key: ServerKey {
                    addr: server(n).into(),
                    port: 80,
                },
                forwarding,
                weight: Weight::new(unit * (1 + u32::from(n % 4))).expect("a weight"),
                upper_threshold: 0,
                lower_threshold: 0,
            };
            tables.add_server(&key, &spec).expect("a server");
            tables.set_tunnel_source(server(n).into(), Ipv4Addr::new(192, 168, 0, 1).into());
        }
        if forwarding == Forwarding::FullNat {
            // 60,000 flows each: enough for the largest table.
            for last in 1..=20 {
                let local = Ipv4Addr::new(192, 168, 1, last);
                tables
                    .add_local_address(&key, local.into())
                    .expect("a local address");
            }
        }
    }

    /// Every path, with its net nanoseconds.
    fn column(&mut self) -> Vec<(String, Option<f64>)> {
        let flows = self.flows;
        let mut rows = Vec::new();
        let floor = self.measure(self.floor(), &request(flows, 0x10));
        rows.push(("floor: swap addresses".to_owned(), Some(floor)));
        for (name, forwarding) in [
            ("DR", Forwarding::Route),
            ("TUN", Forwarding::Tunnel(Encapsulation::Ipip)),
            ("NAT", Forwarding::Masquerade),
            ("FULLNAT", Forwarding::FullNat),
        ] {
            self.serve(forwarding, Scheduler::Rr, 1);
            rows.push((format!("{name}, new connection (rr)"), self.measure_new()));
            self.establish();
            let ns = self.measure(self.director(), &request(flows, 0x10));
            rows.push((format!("{name}, established"), Some(ns)));
            if forwarding == Forwarding::Masquerade {
                let ns = self.measure(self.director(), &reply(flows));
                rows.push((format!("{name}, established, replies"), Some(ns)));
            }
        }
        rows
    }

    fn director(&self) -> ProgramFd {
        let plane = self.plane.as_ref().expect("open until dropped");
        plane.xdp_program().expect("the director's program")
    }

    fn program(&self, name: &str) -> &Xdp {
        match self.ebpf.program(name) {
            Some(Program::Xdp(program)) => program,
            _ => panic!("program {name}"),
        }
    }

    fn floor(&self) -> ProgramFd {
        self.program("floor")
            .fd()
            .expect("loaded")
            .try_clone()
            .expect("a descriptor")
    }

    fn empty(&self) -> ProgramFd {
        self.program("empty")
            .fd()
            .expect("loaded")
            .try_clone()
            .expect("a descriptor")
    }

    /// Runs a program `runs` times; mean nanoseconds of a run, harness included.
    fn run(&mut self, program: &ProgramFd, plan: &Plan, runs: u32) -> f64 {
        self.plan.set(0, plan, 0).expect("an entry");
        self.target.set(0, program, 0).expect("an entry");
        // struct xdp_md: data_end is the length, ingress_ifindex the fourth word.
        let mut context = [0u32; 6];
        context[1] = plan.len;
        context[3] = if plan.address_at == SOURCE_AT {
            self.front
        } else {
            self.back
        };
        let context: Vec<u8> = context.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let options = TestRunOptions {
            data_in: Some(&plan.packet),
            ctx_in: Some(&context),
            repeat: runs,
            ..TestRunOptions::default()
        };
        let result = self.program("harness").test_run(options).expect("a run");
        const XDP_TX: u32 = 3;
        const XDP_REDIRECT: u32 = 4;
        let sent = [XDP_TX, XDP_REDIRECT].contains(&result.return_value);
        assert!(
            sent,
            "the last packet was not sent, but met with {}",
            result.return_value
        );
        result.duration.as_nanos() as f64
    }

    fn rewind(&mut self) {
        self.turn.set(0, 0, 0).expect("an entry");
    }

    /// Median of net times.
    fn measure(&mut self, program: ProgramFd, plan: &Plan) -> f64 {
        let empty = self.empty();
        let mut net: Vec<f64> = (0..ROUNDS)
            .map(|_| self.run(&program, plan, RUNS) - self.run(&empty, plan, RUNS))
            .collect();
        net.sort_by(f64::total_cmp);
        net[ROUNDS / 2]
    }

    /// New connections into an empty table, each flow once. A single flow is too short to time.
    fn measure_new(&mut self) -> Option<f64> {
        let flows = self.flows;
        if flows == 1 {
            return None;
        }
        let (director, empty) = (self.director(), self.empty());
        let plan = request(flows, 0x02);
        let rounds = (200_000 / flows).max(3) as usize;
        let mut net: Vec<f64> = (0..rounds)
            .map(|_| {
                self.plane().tables().clear_connections();
                let base = self.run(&empty, &plan, flows);
                self.rewind();
                self.run(&director, &plan, flows) - base
            })
            .collect();
        net.sort_by(f64::total_cmp);
        Some(net[rounds / 2])
    }

    /// Brings every flow to ESTABLISHED.
    fn establish(&mut self) {
        let flows = self.flows;
        let director = self.director();
        self.plane().tables().clear_connections();
        for flags in [0x02, 0x10] {
            self.rewind();
            self.run(&director, &request(flows, flags), flows);
        }
        let live = self.plane().tables().sweep().live;
        assert!(
            live >= flows - flows / 100,
            "{live} of {flows} flows have a connection"
        );
    }

    fn verified(&self) -> String {
        let plane = self.plane.as_ref().expect("open until dropped");
        let counts = plane.verified_instructions();
        counts
            .iter()
            .map(|(n, c)| format!("{n} {c}"))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(plane) = self.plane.take() {
            let _ = plane.remove();
        }
        let _ = fs::remove_dir_all(&self.pins);
    }
}

/// Packets of clients, told apart by source.
fn request(flows: u32, flags: u8) -> Plan {
    plan(
        flows,
        frames::tcp((CLIENT, 1024), (VIP, 80), flags, 1),
        SOURCE_AT,
        14 + 20,
    )
}

/// Packets of the real server, told apart by destination.
fn reply(flows: u32) -> Plan {
    plan(
        flows,
        frames::tcp((RIP, 80), (CLIENT, 1024), 0x10, 1),
        14 + 18,
        14 + 22,
    )
}

fn plan(flows: u32, ip: Vec<u8>, address_at: u32, port_at: u32) -> Plan {
    let ethernet = frames::Ethernet {
        destination: [2, 0, 0, 0, 0, 1],
        source: [2, 0, 0, 0, 0, 2],
        vlan: None,
    };
    let mut packet = [0; RESTORED];
    let frame = ethernet.frame(frames::IPV4, &ip);
    packet[..frame.len()].copy_from_slice(&frame);
    Plan {
        len: RESTORED as u32,
        flows,
        stride: STRIDE,
        address_at,
        port_at,
        _reserved: 0,
        packet,
    }
}

fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|l| l.strip_prefix("model name\t: "))
        .unwrap_or("unknown CPU");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, Linux {}", kernel.trim())
}
