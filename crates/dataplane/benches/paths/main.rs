//! Net nanoseconds per packet of each path through the director's programs, over many flows, services,
//! servers and processors.
//!
//! `cargo bench -p pointsman-dataplane` measures everything and prints JSON; words given after `--` choose
//! the rows (with a blank and their number) that contain one of them. `cargo xtask bench` puts all of it into
//! `docs/benchmarks.md`. Needs root. Each figure is a median of rounds, by turns with those of the rows beside it and
//! of the harness ending in an empty program, whose time is taken off. Where `POINTSMAN_KATRAN` names a pinned XDP
//! program, that is measured by turns, too.

mod packets;
mod rig;
mod scale;
mod turns;

use std::fs;
use std::sync::Barrier;

use aya::programs::{ProgramFd, ProgramInfo};
use pointsman_model::{Family, Forwarding, Protocol, Scheduler};
use pointsman_testkit::frames::ACK;
use pointsman_testkit::{Names, Netns};
use serde_json::{Value, json};

use packets::requests;
use rig::{Harness, Rig, SERVERS, Serving, TUNNEL, Target};
use scale::Scale;
use turns::{Path, Row, Taker};

/// Flows that are established, and how many are opened in such a table: few are opened in too short a time.
const FLOWS: [(u32, Option<u32>); 4] = [
    (1, None),
    (256, Some(4096)),
    (65_536, Some(65_536)),
    (1_000_000, Some(1_000_000)),
];
/// Flows of what is measured over something else.
const MANY: u32 = 65_536;

fn main() {
    let names = Names::transient();
    let netns = Netns::new(&names, "bench").expect("a network namespace (needs root)");
    let words = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'));
    let mut bench = Bench {
        netns: &netns,
        words: words.collect(),
        cpus: online(),
        rows: Vec::new(),
        verified: String::new(),
        scale: Scale::default(),
        katran: std::env::var_os("POINTSMAN_KATRAN").map(|pin| {
            let program = ProgramInfo::from_pin(pin).expect("a pinned program");
            program.fd().expect("its descriptor")
        }),
    };
    // On every processor.
    if bench.wants("services at scale", 0) {
        bench.scale.services();
    }
    if bench.wants("connections at scale", 0) {
        bench.scale.connections();
    }
    netns.run(|| bench.all());
    let (rows, verified, scale) = (bench.rows, bench.verified, bench.scale.rows);
    println!(
        "{}",
        json!({ "machine": machine(), "verified": verified, "rows": rows, "scale": scale })
    );
}

/// A rig that is loaded when the first row needs it.
struct Lazy<'a> {
    netns: &'a Netns,
    flows: u32,
    rig: Option<Rig>,
}

impl<'a> Lazy<'a> {
    fn new(netns: &'a Netns, flows: u32) -> Self {
        let rig = None;
        Self { netns, flows, rig }
    }

    fn get(&mut self) -> &mut Rig {
        self.rig
            .get_or_insert_with(|| Rig::new(self.netns, self.flows))
    }
}

struct Bench<'a> {
    netns: &'a Netns,
    words: Vec<String>,
    /// The processors this process may run on.
    cpus: Vec<usize>,
    rows: Vec<Value>,
    verified: String,
    scale: Scale,
    /// Katran's program, pinned and set up for the same VIP by whoever has it, to be measured by turns.
    katran: Option<ProgramFd>,
}

impl Bench<'_> {
    fn all(&mut self) {
        rig::prepare(self.netns);
        // The last has least to do besides.
        pin(*self.cpus.last().expect("a processor"));
        for (flows, new) in FLOWS {
            self.over_flows(flows, new);
        }
        if self.wants("sweep at scale", 0) {
            self.scale.sweep(self.netns, self.cpus[0]);
        }
        let mut rig = Lazy::new(self.netns, MANY);
        self.schedulers(&mut rig);
        self.over_servers(&mut rig);
        self.over_services(&mut rig);
        self.over_cores(&mut rig);
        self.verified = rig.get().verified();
    }

    fn wants(&self, row: &str, x: u32) -> bool {
        let row = format!("{row} {x}");
        self.words.is_empty() || self.words.iter().any(|word| row.contains(word))
    }

    /// Notes the times of a row: each with those of the same number of all rows that went by the same turns.
    fn note(&mut self, turns: usize, chart: &str, row: &str, x: u32, times: Vec<f64>) {
        self.rows
            .push(json!({ "chart": chart, "row": row, "x": x, "turns": turns, "times": times }));
        let ns = rig::median(times);
        eprintln!("{chart:11} {x:>9}  {row:34} {ns:8.1} ns");
    }

    /// Measures the rows of these paths that are wanted, by turns.
    fn by_turns(&mut self, rig: &mut Lazy<'_>, mut paths: Vec<Path>) {
        for path in &mut paths {
            path.rows.retain(|row| self.wants(&row.name, row.x));
        }
        paths.retain(|path| !path.rows.is_empty());
        if paths.is_empty() {
            return;
        }
        let times = turns::measure(rig.get(), self.katran.as_ref(), &paths);
        let turns = self.rows.len();
        let rows = paths.into_iter().flat_map(|path| path.rows);
        for (row, times) in rows.zip(times) {
            self.note(turns, row.chart, &row.name, row.x, times);
        }
    }

    /// Every path, with so many flows, and so many that are opened.
    fn over_flows(&mut self, flows: u32, new: Option<u32>) {
        let traffic = requests(flows, Family::V4, Protocol::Tcp, ACK);
        let floor = Row::established(
            "established",
            "floor: swap addresses",
            flows,
            Target::Floor,
            traffic,
        );
        let mut paths = vec![Path {
            taker: Taker::Nobody,
            rows: vec![floor],
        }];
        if self.katran.is_some() {
            paths.push(Path {
                taker: Taker::Katran,
                rows: turns::rows("Katran", &Serving::one(TUNNEL), flows, new),
            });
        }
        for (name, forwarding) in [
            ("DR", Forwarding::Route),
            ("TUN", TUNNEL),
            ("NAT", Forwarding::Masquerade),
            ("FULLNAT", Forwarding::FullNat),
        ] {
            let (family, protocol) = (Family::V6, Protocol::Udp);
            let four = Serving::one(forwarding);
            for (kind, serving, new) in [
                ("", four, new),
                (" IPv6", Serving { family, ..four }, new),
                (" UDP", Serving { protocol, ..four }, None),
            ] {
                paths.push(Path {
                    taker: Taker::Director(serving),
                    rows: turns::rows(&format!("{name}{kind}"), &serving, flows, new),
                });
            }
        }
        self.by_turns(&mut Lazy::new(self.netns, flows), paths);
    }

    /// New connections by direct routing, for each scheduler.
    fn schedulers(&mut self, rig: &mut Lazy<'_>) {
        let mut paths = Vec::new();
        for scheduler in Scheduler::ALL {
            if scheduler == Scheduler::None {
                continue;
            }
            for servers in [1, 100] {
                let row = format!("new connection by {}", scheduler.name());
                let serving = Serving {
                    scheduler,
                    servers,
                    ..Serving::one(Forwarding::Route)
                };
                paths.push(Path {
                    taker: Taker::Director(serving),
                    rows: vec![Row::new("schedulers", row, servers.into(), MANY)],
                });
            }
        }
        self.by_turns(rig, paths);
    }

    fn over_servers(&mut self, rig: &mut Lazy<'_>) {
        let served = [2, 10, 100, SERVERS].map(|servers| {
            let one = Serving::one(Forwarding::Route);
            (servers, Serving { servers, ..one })
        });
        self.over(rig, "servers", &served);
    }

    fn over_services(&mut self, rig: &mut Lazy<'_>) {
        let served = [1, 100, 10_000].map(|services| {
            let one = Serving::one(Forwarding::Route);
            (services, Serving { services, ..one })
        });
        self.over(rig, "services", &served);
    }

    /// New and established connections of what is served, with its number.
    fn over(&mut self, rig: &mut Lazy<'_>, chart: &'static str, served: &[(u16, Serving)]) {
        let traffic = requests(MANY, Family::V4, Protocol::Tcp, ACK);
        let paths = served.iter().map(|&(x, serving)| {
            let [new, old] =
                ["new connection", "established"].map(|what| format!("DR, {what}, over {chart}"));
            let rows = vec![
                Row::new(chart, new, x.into(), MANY),
                Row::established(chart, old, x.into(), Target::Xdp, traffic),
            ];
            let taker = Taker::Director(serving);
            Path { taker, rows }
        });
        self.by_turns(rig, paths.collect());
    }

    /// Established connections on one processor, and on every one at once: nanoseconds for each packet of
    /// all together, with those of the harness, whose own time is not the same when others run.
    fn over_cores(&mut self, rig: &mut Lazy<'_>) {
        let row = "DR, established, over cores";
        if !self.wants(row, 0) {
            return;
        }
        let serving = Serving::one(Forwarding::Route);
        rig.get().serve(&serving);
        rig.get().establish(&mut Harness::new(), &serving);
        let cpus = &self.cpus.clone();
        for count in 1..=cpus.len() {
            let barrier = Barrier::new(count);
            let way = &rig.get().way;
            let each: Vec<f64> = std::thread::scope(|scope| {
                let on = |cpu: usize| {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        pin(cpu);
                        let mut harness = Harness::new();
                        barrier.wait();
                        let traffic = requests(MANY, Family::V4, Protocol::Tcp, ACK);
                        harness.gross(way, &traffic, MANY)
                    })
                };
                let running: Vec<_> = cpus[..count].iter().map(|cpu| on(*cpu)).collect();
                running
                    .into_iter()
                    .map(|one| one.join().expect("measured"))
                    .collect()
            });
            let together = 1.0 / each.iter().map(|ns| 1.0 / ns).sum::<f64>();
            self.note(self.rows.len(), "cores", row, count as u32, vec![together]);
        }
    }
}

/// The processors this process may run on.
fn online() -> Vec<usize> {
    // SAFETY: the set is written by the kernel, and read within its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let code = libc::sched_getaffinity(0, size_of_val(&set), &mut set);
        assert_eq!(code, 0, "the processors this process may run on");
        (0..libc::CPU_SETSIZE as usize)
            .filter(|cpu| libc::CPU_ISSET(*cpu, &set))
            .collect()
    }
}

/// Keeps the calling thread on a processor.
fn pin(cpu: usize) {
    // SAFETY: the set is the thread's own, the number below its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        assert_eq!(
            libc::sched_setaffinity(0, size_of_val(&set), &set),
            0,
            "pinned"
        );
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
