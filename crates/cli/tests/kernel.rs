//! Beside the kernel's own IPVS, filled by the original `ipvsadm`.
//!
//! Run by `cargo xtask kernels`, in a guest: the kernel of this machine may have no IPVS, and its
//! module is not ours to load.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::Once;

use pointsman_model::Scheduler;
use pointsman_testkit::sctp::{self, SctpEcho};
use pointsman_testkit::{Director, Hook, Method, Names, Netns, Plan, Topology};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");
const IPVSADM: &str = "/usr/sbin/ipvsadm";

/// Services and servers of every kind, in the schedulers that were always there.
const ALL_KINDS: &str = "
-A -t 192.0.2.1:80 -s wrr -p 300 -M 255.255.255.0
-a -t 192.0.2.1:80 -r 10.0.0.11:80 -m -w 3 -x 100 -y 80
-a -t 192.0.2.1:80 -r 10.0.0.12:8080 -m -w 0
-A -t 192.0.2.1:0 -s wlc -p
-A -t 192.0.2.2:443 -s wlc
-a -t 192.0.2.2:443 -r 10.0.0.11 -g -w 2147483647
-A -u 192.0.2.1:5060 -s rr -p 360 --pe sip -o
-a -u 192.0.2.1:5060 -r 10.0.0.11:5060 -g
-A -u 192.0.2.2:53 -s rr -o
-a -u 192.0.2.2:53 -r 10.0.0.13:53 -m
-A -t 192.0.2.9:99 -s none
-A --sctp-service 192.0.2.1:3868 -s wrr
-a --sctp-service 192.0.2.1:3868 -r 10.0.0.77 -i --tun-type gue --tun-port 6080 --tun-remcsum
-a --sctp-service 192.0.2.1:3868 -r 10.0.0.78 -i --tun-type gue --tun-port 6081 --tun-nocsum -w 4
-a --sctp-service 192.0.2.1:3868 -r 10.0.0.79 -i --tun-type gue --tun-port 6082 --tun-csum
-a --sctp-service 192.0.2.1:3868 -r 127.0.0.1 -m
-A -t [2001:db8::1]:443 -s rr -b flag-1,flag-2
-a -t [2001:db8::1]:443 -r 10.0.0.13 -i -w 2
-a -t [2001:db8::1]:443 -r [2001:db8:1::11]:443 -i -w 2
-A -u [2001:db8::1]:53 -s wlc -p 100 -M 64
-a -u [2001:db8::1]:53 -r [2001:db8:1::11]:5353 -m -w 9
-A -f 7 -s rr -b flag-3 -p 100
-a -f 7 -r 10.0.0.14 -g
-a -f 7 -r 10.0.0.15 -i --tun-type gre --tun-csum
-a -f 7 -r 10.0.0.16 -i --tun-type gre --tun-nocsum -w 70000
-A -f 7 -6 -s wlc
-a -f 7 -6 -r [2001:db8:1::99]:0 -g
-A -f 9 -s rr -o -p 50 -M 255.255.0.0
-A -f 2147483647 -s rr -o
--set 901 121 302
";

/// What a director takes as it is.
const PLAIN: &str = "
-A -t 192.0.2.1:80 -s wrr
-a -t 192.0.2.1:80 -r 10.0.0.11:80 -m -w 3
-a -t 192.0.2.1:80 -r 10.0.0.12:8080 -m -w 0
-a -t 192.0.2.1:80 -r 10.0.0.10:80 -m -w 7
-A -t 192.0.2.2:443 -s wlc
-a -t 192.0.2.2:443 -r 10.0.0.11 -g -w 70000
-A -u 192.0.2.1:53 -s rr
-a -u 192.0.2.1:53 -r 10.0.0.12 -i
--set 902 122 303
";

/// A namespace with a director, or a kernel's IPVS, or both.
struct Scene {
    netns: Netns,
}

impl Scene {
    fn new() -> Self {
        let netns = Netns::new(&Names::transient(), "director").unwrap();
        // Servers and services shall have a way, so that the kernel takes them.
        netns.sysctl("net.ipv6.conf.lo.disable_ipv6", "0").unwrap();
        netns.ip("addr add 10.0.0.1/24 dev lo").unwrap();
        netns
            .ip("-6 addr add 2001:db8:1::1/64 dev lo nodad")
            .unwrap();
        Self { netns }
    }

    fn program(&self) -> Director<'_> {
        Director::new(PROGRAM, &self.netns)
    }

    fn pointsman(&self, arguments: &[&str]) -> String {
        text(self.program().command().args(arguments))
    }

    /// Fills the kernel's IPVS.
    fn fill(&self, rules: &str) {
        import_without_ipvs();
        let mut child = self
            .netns
            .command(IPVSADM)
            .arg("-R")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(rules.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(said(&output), "");
    }

    fn proc(&self, name: &str) -> String {
        text(self.netns.command("cat").arg(format!("/proc/net/{name}")))
    }

    fn ipvsadm(&self, argument: &str) -> String {
        text(self.netns.command(IPVSADM).arg(argument))
    }
}

fn text(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

fn lines(text: &str) -> BTreeSet<&str> {
    text.lines().collect()
}

/// Asks for what is to be taken over.
const IMPORT: [&str; 3] = ["import", "--from-kernel", "--dry-run"];

/// What import says before the kernel has IPVS: asked once, before any test has modules loaded.
fn import_without_ipvs() {
    static ASKED: Once = Once::new();
    ASKED.call_once(|| {
        let scene = Scene::new();
        // To ask for the family has the kernel load its module, if it can.
        const LOADER: &str = "/proc/sys/kernel/modprobe";
        let loader = std::fs::read(LOADER).unwrap();
        std::fs::write(LOADER, "/bin/false").unwrap();
        let output = scene.program().command().args(IMPORT).output();
        std::fs::write(LOADER, loader).unwrap();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = said(&output);
        assert!(said.contains("this kernel has no IPVS"), "{said}");
        assert_eq!(scene.pointsman(&IMPORT), "");
    });
}

#[test]
#[ignore = "needs a kernel with IPVS: cargo xtask kernels"]
fn the_kernels_rules_are_read_and_taken_over() {
    let scene = Scene::new();
    import_without_ipvs();

    // Not every kernel has all: twos came with 6.2.
    let is_there = |module: &String| {
        let mut modprobe = Command::new("modprobe");
        modprobe.args(["-n", "-q", module]);
        modprobe.status().unwrap().success()
    };
    let schedulers = Scheduler::ALL.map(Scheduler::name).into_iter();
    let schedulers: Vec<_> = schedulers
        .filter(|name| *name == "none" || is_there(&format!("ip_vs_{name}")))
        .collect();
    assert!(schedulers.len() >= 14, "{schedulers:?}");
    let modules = schedulers.iter().filter(|name| **name != "none");
    let modules = modules.map(|name| format!("ip_vs_{name}"));
    text(
        Command::new("modprobe")
            .args(["-a", "ip_vs_pe_sip"])
            .args(modules),
    );

    scene.fill(ALL_KINDS);
    for (port, name) in (1000..).zip(schedulers) {
        scene.fill(&format!(
            "-A -t 192.0.2.3:{port} -s {name} -b flag-1,flag-2\n"
        ));
    }
    let saved = scene.ipvsadm("-Sn");
    assert!(saved.lines().count() > 30, "{saved}");
    assert_eq!(lines(&scene.pointsman(&IMPORT)), lines(&saved));
    let json = scene.pointsman(&["import", "--from-kernel", "--dry-run", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["timeouts"]["tcp_fin"], 121);
    let services = json["services"].as_array().unwrap();
    let servers = services
        .iter()
        .flat_map(|s| s["servers"].as_array().unwrap());
    let thresholds: Vec<_> = servers
        .map(|s| (s["upper_threshold"].as_u64(), s["lower_threshold"].as_u64()))
        .filter(|t| *t != (Some(0), Some(0)))
        .collect();
    assert_eq!(thresholds, [(Some(100), Some(80))]);

    let plain = Scene::new();
    plain.fill(PLAIN);
    for _ in 0..2 {
        let told = plain.pointsman(&IMPORT[..2]);
        assert!(told.contains("services 3, real servers 5"), "{told}");
        assert_eq!(plain.pointsman(&["ipvsadm", "-Sn"]), plain.ipvsadm("-Sn"));
        let timeouts = plain.pointsman(&["ipvsadm", "-L", "--timeout"]);
        assert_eq!(timeouts, "Timeout (tcp tcpfin udp): 902 122 303\n");
        // Schedulers walk both lists in the same order.
        let unsorted = ["ipvsadm", "-Ln", "--nosort", "-t", "192.0.2.1:80"];
        let kernels = text(plain.netns.command(IPVSADM).args(&unsorted[1..]));
        assert_eq!(plain.pointsman(&unsorted), kernels);
    }
    // No packet has come yet.
    for name in [
        "ip_vs_conn",
        "ip_vs_conn_sync",
        "ip_vs_stats",
        "ip_vs_stats_percpu",
    ] {
        assert_eq!(plain.pointsman(&["proc", name]), plain.proc(name), "{name}");
    }
    let (ours, kernels) = (plain.pointsman(&["proc", "ip_vs"]), plain.proc("ip_vs"));
    // The first line tells the size of the connection table; the order is a hash table's there.
    let rows =
        |text: &str| -> BTreeSet<String> { text.lines().skip(1).map(str::to_owned).collect() };
    assert_eq!(rows(&ours), rows(&kernels));
    plain.pointsman(&["director", "stop"]);
}

/// What `pointsman doctor` finds in the director's namespace: names, and what they say.
fn findings(scene: &Scene) -> Vec<(String, String)> {
    let output = scene
        .program()
        .command()
        .args(["doctor", "--json"])
        .output()
        .unwrap();
    let found: Vec<serde_json::Value> =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(&output)));
    let string = |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap().to_owned();
    found
        .iter()
        .map(|finding| (string(finding, "name"), string(finding, "what")))
        .collect()
}

#[test]
#[ignore = "needs a kernel with IPVS: cargo xtask kernels"]
fn the_doctor_finds_the_kernels_ipvs() {
    let scene = Scene::new();
    scene.fill(PLAIN);
    scene.pointsman(&["director", "start", "--hook", "tc"]);
    let found = findings(&scene);
    let finding = found.iter().find(|(name, _)| name == "kernel-ipvs-loaded");
    let (_, what) = finding.unwrap_or_else(|| panic!("not in {found:?}"));
    assert!(what.contains("has 3 services"), "{what}");
    scene.pointsman(&["director", "stop"]);
}

/// The kernel's own SCTP at both ends: checksums of whole packets and whole associations.
#[test]
#[ignore = "needs a kernel with SCTP: cargo xtask kernels"]
fn associations_are_balanced() {
    const DIAMETER: u16 = 3868;
    import_without_ipvs();
    text(Command::new("modprobe").arg("sctp"));
    for hook in [Hook::Tc, Hook::Xdp] {
        let net = Topology::build(&Plan::test(Method::Nat, hook == Hook::Xdp)).unwrap();
        let director = Director::start(PROGRAM, &net.director, hook).unwrap();
        let echo = |server: &pointsman_testkit::Server| {
            SctpEcho::start(&server.netns, &server.name, server.addr, DIAMETER).unwrap()
        };
        let _echoes: Vec<_> = net.servers.iter().map(echo).collect();
        let service = net.service(DIAMETER);
        let ipvsadm = |line: &str| director.ipvsadm(line).unwrap();
        ipvsadm(&format!("-A --sctp-service {service} -s rr"));
        for server in &net.servers {
            let line = format!(
                "-a --sctp-service {service} -r {}:{DIAMETER} -m",
                server.addr
            );
            ipvsadm(&line);
        }
        for n in 0..20 {
            let message = format!("{n} {}", "x".repeat(n * 60));
            let answer = net.client.run(|| sctp::ask(service, &message));
            let answer = answer.unwrap_or_else(|e| panic!("{n}: {e}\n{}", ipvsadm("-Lnc")));
            assert_eq!(answer, format!("rs{} {message}", 2 - n % 2));
        }
        let listing = ipvsadm("-Lnc");
        let associations = listing.lines().filter(|line| line.starts_with("SCTP"));
        assert_eq!(associations.count(), 20, "{listing}");
    }
}
