//! What balances, set up for the same services.

use std::fmt;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use pointsman_testkit::{Director, Hook, Method, Topology};
use tempfile::TempDir;

use crate::Network;
use crate::measure::{BULK, Measure, PACKETS, WEB};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");
/// The original, which speaks to the kernel.
const IPVSADM: &str = "/usr/sbin/ipvsadm";
/// Places in our table of connections: two of each million that a flood opens by NAT, and as many again.
const SLOTS: &str = "4194304";
/// Chains of IPVS's, as a power of two: one for each of that million.
const CHAINS: &str = "conn_tab_bits=20";

/// A balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balancer {
    /// Ours.
    Pointsman(Hook),
    /// The kernel's IPVS.
    Ipvs,
    /// Destination NAT by nftables, numgen over a map.
    Nftables,
    /// HAProxy in TCP mode.
    HaProxy,
}

impl fmt::Display for Balancer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pointsman(Hook::Xdp) => "Pointsman, XDP",
            Self::Pointsman(Hook::Tc) => "Pointsman, TC",
            Self::Ipvs => "IPVS",
            Self::Nftables => "nftables",
            Self::HaProxy => "HAProxy",
        })
    }
}

/// Services: protocol, port, and how many of the servers.
const SERVICES: [(char, u16, usize); 4] = [
    ('t', WEB, 2),
    ('t', BULK, 1),
    ('u', PACKETS, 2),
    ('t', PACKETS, 2),
];

impl Balancer {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Pointsman(Hook::Xdp),
        Self::Pointsman(Hook::Tc),
        Self::Ipvs,
        Self::Nftables,
        Self::HaProxy,
    ];

    /// Whether this machine has it.
    pub fn is_there(self) -> bool {
        let load = |module: &[&str]| {
            let loaded = Command::new("modprobe").arg("-q").args(module).status();
            loaded.is_ok_and(|status| status.success())
        };
        let ipvs = || load(&["ip_vs", CHAINS]) && load(&["ip_vs_rr"]);
        self != Self::Ipvs || Path::new(IPVSADM).exists() && ipvs()
    }

    /// Whether it does what is measured, in such a network.
    pub fn does(self, measure: Measure, network: &Network) -> bool {
        if measure.is_flood() && !network.whole {
            return false;
        }
        match self {
            Self::Pointsman(Hook::Xdp) => network.whole,
            Self::Pointsman(Hook::Tc) | Self::Ipvs => true,
            // The machine bounds how many connections it tracks.
            Self::Nftables => network.method == Method::Nat && measure != Measure::Connections,
            Self::HaProxy => network.method == Method::Nat && !measure.is_flood(),
        }
    }
}

/// A balancer that runs in a network's director.
pub struct Running<'a> {
    balancer: Balancer,
    net: &'a Topology,
    process: Option<(Child, TempDir)>,
}

impl<'a> Running<'a> {
    /// Sets it up.
    pub fn start(balancer: Balancer, net: &'a Topology) -> Self {
        let mut running = Self {
            balancer,
            net,
            process: None,
        };
        match balancer {
            Balancer::Pointsman(hook) => {
                let director = Director::new(PROGRAM, &net.director);
                let start = ["director", "start", "--connections", SLOTS, "--hook"];
                let start = [&start[..], &[hook.word()]].concat();
                director.run(&start).expect("a director");
                for line in running.rules() {
                    director.ipvsadm(&line).expect("a rule");
                }
            }
            Balancer::Ipvs => {
                for line in running.rules() {
                    running.checked(IPVSADM, &line);
                }
            }
            Balancer::Nftables => running.nftables(),
            Balancer::HaProxy => running.haproxy(),
        }
        running
    }

    /// Real servers of a service.
    fn addrs(&self, count: usize) -> impl Iterator<Item = Ipv4Addr> {
        self.net.servers[..count].iter().map(|server| server.addr)
    }

    /// ipvsadm's lines.
    fn rules(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let method = match self.net.method {
            Method::Nat => "-m",
            Method::DirectRouting => "-g",
            Method::Tunnel => "-i",
        };
        for (letter, port, count) in SERVICES {
            let service = format!("-{letter} {}:{port}", self.net.vip);
            lines.push(format!("-A {service} -s rr"));
            let server = |rip| format!("-a {service} -r {rip}:{port} {method}");
            lines.extend(self.addrs(count).map(server));
        }
        lines
    }

    fn nftables(&self) {
        let mut text = "table ip balancer {\n chain prerouting {\n  type nat hook prerouting priority dstnat;\n"
            .to_owned();
        for (letter, port, count) in SERVICES {
            let protocol = if letter == 't' { "tcp" } else { "udp" };
            let servers = self.addrs(count).enumerate();
            let servers: Vec<_> = servers.map(|(n, rip)| format!("{n} : {rip}")).collect();
            text += &format!(
                "  ip daddr {} {protocol} dport {port} dnat to numgen inc mod {count} map {{ {} }}\n",
                self.net.vip,
                servers.join(", ")
            );
        }
        text += " }\n}\n";
        let mut nft = self.net.director.command("nft");
        let mut nft = nft
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("nft");
        let mut input = nft.stdin.take().expect("a pipe");
        input.write_all(text.as_bytes()).expect("nft reads");
        drop(input);
        assert!(nft.wait().expect("nft").success(), "{text}");
    }

    fn haproxy(&mut self) {
        let mut text = "global\n maxconn 4000\ndefaults\n mode tcp\n timeout connect 5s\n \
                        timeout client 60s\n timeout server 60s\n"
            .to_owned();
        for (letter, port, count) in SERVICES {
            if letter != 't' {
                continue;
            }
            text += &format!(
                "listen at{port}\n bind {}:{port}\n balance roundrobin\n",
                self.net.vip
            );
            for (n, rip) in self.addrs(count).enumerate() {
                text += &format!(" server rs{n} {rip}:{port}\n");
            }
        }
        let home = TempDir::new().expect("a directory");
        let file = home.path().join("configuration");
        std::fs::write(&file, text).expect("a file");
        let mut haproxy = self.net.director.command("/usr/sbin/haproxy");
        haproxy.args(["-q", "-db", "-f"]).arg(&file);
        let process = haproxy.spawn();
        self.process = Some((process.expect("HAProxy"), home));
        crate::measure::until_open(&self.net.client, self.net.service(WEB));
    }

    fn checked(&self, program: &str, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        self.net.director.exec(program, &words).expect("a rule");
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        match self.balancer {
            Balancer::Pointsman(_) => {
                let director = Director::new(PROGRAM, &self.net.director);
                director.stop().expect("a director that stops");
            }
            Balancer::Ipvs => self.checked(IPVSADM, "-C"),
            Balancer::Nftables => self.checked("nft", "delete table ip balancer"),
            Balancer::HaProxy => {}
        }
        if let Some((mut process, _home)) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
