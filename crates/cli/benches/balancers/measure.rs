//! What is measured, by programs that everybody knows: iperf3, wrk with nginx; small packets by a packet socket.

use std::fs;
use std::net::{SocketAddrV4, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use pointsman_testkit::frames::{self, Ethernet, IPV4};
use pointsman_testkit::{Blast, Netns, Topology, wait_until};
use serde_json::Value;
use tempfile::TempDir;

/// Port of the web servers.
pub const WEB: u16 = 80;
/// Port of iperf3, of one server: its connections belong together.
pub const BULK: u16 = 5201;
/// Port that small packets go to.
pub const PACKETS: u16 = 9;

const SECONDS: u64 = 4;
/// Flows of small packets.
const FLOWS: u16 = 256;

/// A measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// One TCP connection, as fast as it goes, and what the machine does for it.
    Throughput,
    /// New connections, one request each, fifty clients at once.
    Connections,
    /// UDP packets of 64 bytes that arrive.
    Packets,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Throughput, Self::Connections, Self::Packets];

    /// What chooses it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Connections => "connections",
            Self::Packets => "packets",
        }
    }

    /// Measures, while [`Servers`] run: units and values.
    pub fn run(self, net: &Topology) -> Vec<(&'static str, f64)> {
        match self {
            Self::Throughput => throughput(net),
            Self::Connections => connections(net),
            Self::Packets => packets(net),
        }
    }
}

/// Servers that run on every real server.
pub struct Servers {
    processes: Vec<Child>,
    _home: TempDir,
}

impl Servers {
    /// nginx and iperf3; small packets are thrown away.
    pub fn start(net: &Topology) -> Self {
        let home = TempDir::new().expect("a directory");
        let mut processes = Vec::new();
        for server in &net.servers {
            let (name, place) = (&server.name, home.path().display());
            let text = format!(
                "daemon off; master_process off; user root; pid {place}/{name}.pid; error_log stderr crit;
                 events {{ worker_connections 4096; }}
                 http {{ access_log off; server {{ listen {WEB} backlog=4096; return 200 \"{name}\\n\"; }} }}"
            );
            let file = home.path().join(name);
            fs::write(&file, text).expect("a file");
            let mut nginx = server.netns.command("/usr/sbin/nginx");
            nginx.args(["-e", "stderr", "-c"]).arg(&file);
            let mut iperf3 = server.netns.command("iperf3");
            iperf3.args(["-s", "-p", &BULK.to_string()]);
            for command in [&mut nginx, &mut iperf3] {
                let silent = command.stdout(Stdio::null()).stdin(Stdio::null());
                // iperf3 complains of our looking whether it is there.
                let silent = silent.stderr(Stdio::null());
                processes.push(silent.spawn().expect("a server"));
            }
            let drop = format!("-t raw -A PREROUTING -p udp --dport {PACKETS} -j DROP");
            let words: Vec<&str> = drop.split(' ').collect();
            server.netns.exec("iptables", &words).expect("iptables");
            for port in [WEB, BULK] {
                until_open(&server.netns, SocketAddrV4::new(server.addr, port));
            }
        }
        Self {
            processes,
            _home: home,
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Waits until somebody takes connections there.
pub fn until_open(from: &Netns, address: SocketAddrV4) {
    let connect = || TcpStream::connect_timeout(&address.into(), Duration::from_secs(1)).ok();
    let opened = wait_until(format!("{address}"), Duration::from_secs(60), || {
        from.run(connect)
    });
    opened.expect("a server that is up");
}

/// Seconds that all processors were busy so far.
fn busy() -> f64 {
    let stat = fs::read_to_string("/proc/stat").expect("/proc/stat");
    let line = stat.lines().next().unwrap_or_default();
    let ticks = line.split_whitespace().skip(1);
    let ticks: Vec<f64> = ticks.map(|ticks| ticks.parse().expect("ticks")).collect();
    // All but idle and iowait; guests are in user already. A tick is a hundredth of a second.
    let busy = ticks[..8].iter().sum::<f64>() - ticks[3] - ticks[4];
    busy / 100.0
}

fn throughput(net: &Topology) -> Vec<(&'static str, f64)> {
    let before = busy();
    let line = format!("-J -t {SECONDS} -p {BULK} -c {}", net.vip);
    let words: Vec<&str> = line.split(' ').collect();
    let report = net.client.exec("iperf3", &words).expect("iperf3");
    let spent = busy() - before;
    let report: Value = serde_json::from_str(&report).expect("iperf3's report");
    let received = &report["end"]["sum_received"];
    let number = |key: &str| received[key].as_f64().expect("a number");
    vec![
        ("Gbit/s", number("bits_per_second") / 1e9),
        ("CPU s/Gbit", spent / (number("bytes") * 8.0 / 1e9)),
    ]
}

fn connections(net: &Topology) -> Vec<(&'static str, f64)> {
    let line = format!("-t1 -c50 -d{SECONDS}s --latency http://{}/", net.vip);
    let words: Vec<&str> = line.split(' ').collect();
    // wrk wants the blank.
    let words = [&["-H", "Connection: close"], &words[..]].concat();
    let report = net.client.exec("wrk", &words).expect("wrk");
    let after = |label: &str| {
        let line = report
            .lines()
            .find_map(|line| line.trim().strip_prefix(label));
        let word = line.and_then(|line| line.split_whitespace().next());
        word.unwrap_or_else(|| panic!("{label} in {report}"))
            .to_owned()
    };
    let rate = after("Requests/sec:").parse().expect("a number");
    vec![
        ("connections/s", rate),
        ("p50 ms", milliseconds(&after("50%"))),
        ("p99 ms", milliseconds(&after("99%"))),
    ]
}

/// As wrk writes times.
fn milliseconds(text: &str) -> f64 {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[number.len()..] {
        "us" => 0.001,
        "ms" => 1.0,
        "s" => 1000.0,
        other => panic!("a time in {other}"),
    };
    number.parse::<f64>().expect("a number") * factor
}

fn packets(net: &Topology) -> Vec<(&'static str, f64)> {
    let arrived = || -> u64 {
        let count = |netns: &Netns| {
            let links = netns.ip("-s -json link show eth0").expect("ip");
            let links: Value = serde_json::from_str(&links).expect("json");
            links[0]["stats64"]["rx"]["packets"]
                .as_u64()
                .expect("a count")
        };
        net.servers.iter().map(|server| count(&server.netns)).sum()
    };
    let ethernet = Ethernet {
        destination: net.director.mac("eth0").expect("an address"),
        source: net.client.mac("eth0").expect("an address"),
        vlan: None,
    };
    let frame = |flow| {
        let (from, to) = ((net.client_addr, 1024 + flow), (net.vip, PACKETS));
        // With the frame's check sequence, 64 bytes.
        ethernet.frame(IPV4, &frames::udp(from, to, &[0; 18]))
    };
    let frames: Vec<Vec<u8>> = (0..FLOWS).map(frame).collect();
    let blast = Blast::open(&net.client, "eth0").expect("a socket");
    let send_for = |time| {
        let end = Instant::now() + time;
        while Instant::now() < end {
            blast.send(&frames).expect("frames");
        }
    };
    // Their connections first.
    send_for(Duration::from_millis(200));
    let before = arrived();
    send_for(Duration::from_secs(SECONDS));
    std::thread::sleep(Duration::from_millis(200));
    let arrived = arrived() - before;
    assert!(arrived > 0, "nothing arrived");
    vec![("Mpps", arrived as f64 / SECONDS as f64 / 1e6)]
}
