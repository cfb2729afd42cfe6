//! What is measured: by programs that everybody knows, iperf3 and wrk with nginx, and by a flood of small packets.

use std::fs;
use std::net::{SocketAddrV4, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use pointsman_testkit::{Netns, Topology, wait_until};
use serde_json::Value;
use tempfile::TempDir;

use crate::flood;

/// Port of the web servers.
pub const WEB: u16 = 80;
/// Port of iperf3, of one server: its connections belong together.
pub const BULK: u16 = 5201;
/// Port that small packets go to.
pub const PACKETS: u16 = 9;

/// How long each is measured.
pub const SECONDS: u64 = 4;

/// A measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// One TCP connection, as fast as it goes, and what the machine does for it.
    Throughput,
    /// HTTP requests, each in a new connection, fifty clients at once.
    Requests,
    /// Packets of 64 bytes of connections that stand.
    Packets,
    /// First packets of connections.
    Connections,
}

impl Measure {
    /// All of them. The floods last, after which nothing else is as it was.
    pub const ALL: [Self; 4] = [
        Self::Throughput,
        Self::Requests,
        Self::Packets,
        Self::Connections,
    ];

    /// What chooses it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Requests => "requests",
            Self::Packets => "packets",
            Self::Connections => "connections",
        }
    }

    /// Whether it is a flood, of frames that are whole, which nobody answers.
    pub fn is_flood(self) -> bool {
        matches!(self, Self::Packets | Self::Connections)
    }

    /// Measures, while [`Servers`] run: units and values.
    pub fn run(self, net: &Topology) -> Vec<(&'static str, f64)> {
        match self {
            Self::Throughput => throughput(net),
            Self::Requests => requests(net),
            Self::Packets => flood::packets(net),
            Self::Connections => flood::connections(net),
        }
    }
}

/// Servers that run on every real server.
pub struct Servers {
    processes: Vec<Child>,
    _home: TempDir,
}

impl Servers {
    /// nginx and iperf3, where they are needed; the packets of floods are thrown away.
    pub fn start(net: &Topology, measures: &[Measure]) -> Self {
        let home = TempDir::new().expect("a directory");
        let mut processes = Vec::new();
        for server in &net.servers {
            for protocol in ["udp", "tcp"] {
                let drop = format!("-t raw -A PREROUTING -p {protocol} --dport {PACKETS} -j DROP");
                let words: Vec<&str> = drop.split(' ').collect();
                server.netns.exec("iptables", &words).expect("iptables");
            }
            if measures.iter().all(|measure| measure.is_flood()) {
                continue;
            }
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
        ("iperf3 Gbit/s", number("bits_per_second") / 1e9),
        ("iperf3 CPU s/Gbit", spent / (number("bytes") * 8.0 / 1e9)),
    ]
}

fn requests(net: &Topology) -> Vec<(&'static str, f64)> {
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
        ("wrk connections/s", rate),
        ("wrk p50 ms", milliseconds(&after("50%"))),
        ("wrk p99 ms", milliseconds(&after("99%"))),
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
