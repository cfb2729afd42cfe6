//! A director at scale: the program itself, in a network namespace of its own, asked as its users ask it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use pointsman_api::Client;
use pointsman_model::{Family, Forwarding, Protocol, ServerKey, ServerSpec, ServiceKey, Weight};
use pointsman_testkit::frames::{ACK, SYN};
use pointsman_testkit::{Director, Names, Netns, wait_until};
use serde_json::{Value, json};

use crate::packets::{PORT, Traffic, requests, server, vip};
use crate::rig::{self, Harness, Rig, SERVERS, Serving, Target, Way};

/// Virtual services.
const SERVICES: u16 = 10_000;
/// Real servers of each.
const EACH: u16 = 10;
/// Changes that are made.
const CHANGES: u32 = 1000;
/// From one change to the next, so that they meet whatever else the director does now and then.
const PACE: Duration = Duration::from_millis(7);
/// Connections of a director that is left alone.
const MANY: u32 = 1_000_000;
/// Connections of a director that has very many.
const MOST: u32 = 11_000_000;
/// `--connections` for them, by direct routing a slot each: a third is taken, so that few find both of their sets
/// full.
const SLOTS: &str = "33554432";
/// How long a director is left alone.
const IDLE: Duration = Duration::from_secs(10);
/// Packets that the kernel takes from an interface in one go.
const BATCH: u32 = 64;
/// Batches of a round.
const BATCHES: u32 = 10_000;
/// Rounds, each with and without a sweep.
const ROUNDS: u32 = 15;
/// What is told of many times: how many of a hundred were no longer.
const SHARES: [(&str, usize); 3] = [("p50", 50), ("p99", 99), ("longest", 100)];

/// What was measured at scale.
#[derive(Default)]
pub struct Scale {
    /// What, how much, and in which unit.
    pub rows: Vec<Value>,
}

impl Scale {
    fn note(&mut self, what: &str, value: f64, unit: &str) {
        eprintln!("{what:60} {value:12.3} {unit}");
        self.rows
            .push(json!({ "what": what, "value": value, "unit": unit }));
    }

    /// Many services: how soon they are there and listed, and one of them changed.
    pub fn services(&mut self) {
        let netns = namespace();
        let director = start(&netns, &[]);
        let (rules, begun) = (rules(), Instant::now());
        director.ipvsadm_reading("-R", &rules).expect("rules");
        self.note(
            "10,000 services of 10 servers restored",
            begun.elapsed().as_secs_f64(),
            "s",
        );
        let begun = Instant::now();
        let listing = director.ipvsadm("-L -n").expect("a listing");
        self.note(
            "10,000 services of 10 servers listed",
            begun.elapsed().as_secs_f64(),
            "s",
        );
        // Three lines of heading.
        let lines = 3 + usize::from(SERVICES) * (1 + usize::from(EACH));
        assert_eq!(listing.lines().count(), lines);
        let mut times = netns.run(|| changes(&netns));
        times.sort_by(f64::total_cmp);
        for (share, part) in SHARES {
            let what = format!("a change reaches packets, {share}");
            self.note(&what, of_hundred(&times, part), "ms");
        }
        director.stop().expect("a director that stops");
    }

    /// Many connections: what they cost a director that is left alone, how many there can be, and their memory.
    pub fn connections(&mut self) {
        let netns = namespace();
        let director = start(&netns, &["--connections", SLOTS]);
        let (vip, rip) = (vip(Family::V4, 1), server(Family::V4, 0));
        let rules = format!("-A -t {vip}:{PORT} -s rr\n-a -t {vip}:{PORT} -r {rip}:{PORT} -g\n");
        director.ipvsadm_reading("-R", &rules).expect("rules");
        let client = Client::of_netns(netns.name()).expect("a client");
        let pid = client.status().expect("a director that answers").pid;
        let mut opened = 0;
        let mut open = |to: u32| {
            netns.run(|| open(&netns, opened, to));
            opened = to;
            held(&client, to)
        };
        open(MANY);
        let before = busy(pid);
        thread::sleep(IDLE);
        let idle = (busy(pid) - before) / IDLE.as_secs_f64();
        let what = "a director of 1,000,000 connections, idle";
        self.note(what, idle * 100.0, "% of a core");
        self.note("connections held", open(MOST).into(), "connections");
        self.note(
            "all their director's tables",
            tables_mib(pid) / 1024.0,
            "GiB",
        );
        self.note("its memory besides", private_mib(pid), "MiB");
        director.stop().expect("a director that stops");
    }

    /// What packets notice of a sweep.
    pub fn sweep(&mut self, netns: &Netns, sweeper: usize) {
        let mut rig = Rig::new(netns, MANY);
        let serving = Serving::one(Forwarding::Route);
        rig.serve(&serving);
        let mut harness = Harness::new();
        rig.establish(&mut harness, &serving);
        let traffic = requests(MANY, Family::V4, Protocol::Tcp, ACK);
        let mut batches = |way: &Way| harness.batches(way, &traffic, BATCHES, BATCH);
        let told = |mut times: Vec<f64>| {
            times.sort_by(f64::total_cmp);
            SHARES.map(|(_, part)| of_hundred(&times, part) * f64::from(BATCH) / 1000.0)
        };
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let alone = told(batches(&rig.way));
            rounds.push((alone, told(rig.swept(sweeper, &mut batches))));
        }
        for (i, (share, part)) in SHARES.into_iter().enumerate() {
            let alone: Vec<_> = rounds.iter().map(|(alone, _)| alone[i]).collect();
            let swept: Vec<_> = rounds.iter().map(|(_, swept)| swept[i]).collect();
            let (time, ratio) = if part == 100 {
                let longest = |times: &[f64]| times.iter().copied().fold(0.0, f64::max);
                (longest(&swept), longest(&swept) / longest(&alone))
            } else {
                // Of one round each: what troubles the machine in another is neither's.
                let ratios = swept.iter().zip(&alone).map(|(swept, alone)| swept / alone);
                (rig::median(swept.clone()), rig::median(ratios.collect()))
            };
            let what = format!("64 packets while 1,000,000 connections are swept, {share}");
            self.note(&what, time, "µs");
            self.note(&format!("{what}, to without"), ratio, "×");
        }
    }
}

fn namespace() -> Netns {
    let netns = Netns::new(&Names::transient(), "scale").expect("a network namespace");
    rig::prepare(&netns);
    netns
}

/// The program that was built beside this bench.
fn start<'a>(netns: &'a Netns, options: &[&str]) -> Director<'a> {
    let bench = std::env::current_exe().expect("a path");
    let program = bench.parent().and_then(|deps| deps.parent());
    let program: PathBuf = program.expect("target/release").join("pointsman");
    assert!(
        program.exists(),
        "{} is missing: cargo build --release",
        program.display()
    );
    let director = Director::new(program, netns);
    let start = ["director", "start", "--hook", "xdp"];
    let interfaces = ["--interface", "front", "--interface", "back"];
    let words = [&start[..], &interfaces, options].concat();
    director.run(&words).expect("a director");
    director
}

/// A rules file. Of the first service, by fo, one server takes everything while its weight is two.
fn rules() -> String {
    let mut text = String::new();
    for service in 1..=SERVICES {
        let (vip, scheduler) = (
            vip(Family::V4, service),
            if service == 1 { "fo" } else { "rr" },
        );
        let _ = writeln!(text, "-A -t {vip}:{PORT} -s {scheduler}");
        for n in 0..EACH {
            let rip = of_service(service, n);
            let weight = 1 + u8::from(service == 1 && n == 0);
            let _ = writeln!(text, "-a -t {vip}:{PORT} -r {rip}:{PORT} -m -w {weight}");
        }
    }
    text
}

/// Server `n` of a service: they share a thousand machines.
fn of_service(service: u16, n: u16) -> std::net::IpAddr {
    let number = (u32::from(service) * u32::from(EACH) + u32::from(n)) % u32::from(SERVERS);
    server(Family::V4, number as u16)
}

/// Milliseconds of each change of a server's weight, from asking for it by the API until a packet that was
/// sent through the director's programs has met the new one.
fn changes(netns: &Netns) -> Vec<f64> {
    let client = Client::of_netns(netns.name()).expect("a client");
    let way = Way::of_director(netns);
    let service = ServiceKey::Address {
        protocol: Protocol::Tcp,
        addr: vip(Family::V4, 1),
        port: PORT,
    };
    let changed = of_service(1, 0);
    // Every packet opens a connection.
    let traffic = requests(60_000, Family::V4, Protocol::Tcp, SYN);
    let mut harness = Harness::new();
    // At XDP each call of the kernel's test waits for a grace period of RCU, which is milliseconds.
    harness.aim(&way, Target::Tc, false, &traffic);
    let change = |n: u32| {
        thread::sleep(PACE);
        let serves = n % 2 == 1;
        let spec = ServerSpec {
            key: ServerKey {
                addr: changed,
                port: PORT,
            },
            forwarding: Forwarding::Masquerade,
            weight: Weight::new(if serves { 2 } else { 0 }).expect("a weight"),
            upper_threshold: 0,
            lower_threshold: 0,
        };
        let begun = Instant::now();
        client.edit_server(&service, &spec).expect("a change");
        let chosen = destination(&mut harness, &way, &traffic);
        let time = begun.elapsed();
        assert_eq!(chosen == changed, serves, "change {n}: {chosen} was chosen");
        time.as_secs_f64() * 1000.0
    };
    (0..CHANGES).map(change).collect()
}

/// Where the next packet went.
fn destination(harness: &mut Harness, way: &Way, traffic: &Traffic) -> std::net::IpAddr {
    let mut frame = [0; 256];
    harness.fire(way, Target::Tc, traffic, 1, Some(&mut frame));
    // Of the IPv4 header behind that of Ethernet.
    let address: [u8; 4] = frame[30..34].try_into().expect("four bytes");
    address.into()
}

/// Brings further flows to ESTABLISHED, in portions: half-open connections do not wait for long.
fn open(netns: &Netns, from: u32, to: u32) {
    let way = Way::of_director(netns);
    let mut harness = Harness::new();
    for turn in (from..to).step_by(MANY as usize) {
        for flags in [SYN, ACK] {
            harness.begin(turn);
            let traffic = requests(MOST, Family::V4, Protocol::Tcp, flags);
            harness.run(&way, Target::Xdp, false, &traffic, MANY);
        }
    }
}

/// Connections that the director counts, once it counts all but a few of so many, or after a while.
fn held(client: &Client, wanted: u32) -> u32 {
    let count = || {
        let status = client.status().expect("a director that answers");
        status.tables.connections
    };
    let all = || Some(count()).filter(|count| *count >= wanted - wanted / 1000);
    wait_until("a sweep", Duration::from_secs(60), all).unwrap_or_else(|_| count())
}

/// Seconds of processor time that a process has used.
fn busy(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    // Behind its name, which may hold anything: utime and stime, in hundredths of a second.
    let (_, rest) = stat.rsplit_once(") ").expect("a name");
    let fields: Vec<_> = rest.split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("ticks");
    (ticks(11) + ticks(12)) / 100.0
}

/// MiB of all maps that a process has open.
fn tables_mib(pid: u32) -> f64 {
    let mut maps = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("a process") {
        let text = fs::read_to_string(entry.expect("a descriptor").path()).unwrap_or_default();
        let number = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        };
        if let (Some(id), Some(bytes)) = (number("map_id:"), number("memlock:")) {
            maps.insert(id as u64, bytes);
        }
    }
    maps.values().sum::<f64>() / f64::from(1 << 20)
}

/// MiB of memory that a process shares with nobody, neither file nor map.
fn private_mib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let anonymous = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = anonymous.and_then(|rest| rest.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse::<f64>().ok())
        .expect("RssAnon")
        / 1024.0
}

/// The value that so many of a hundred do not exceed.
fn of_hundred(sorted: &[f64], part: usize) -> f64 {
    sorted[(sorted.len() * part).div_ceil(100) - 1]
}
