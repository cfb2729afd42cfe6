//! Against the real keepalived, in both roles, on a bridge between two namespaces: who holds the
//! address when, how long a change takes, and whether tshark finds fault with any packet.
//!
//! Needs root, and Debian's `keepalived`, `tshark` and `nftables` (`cargo xtask setup`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pointsman_testkit::{Names, Netns, wait_until};

/// Longest wait for a change; everybody compiles on this machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// How early and how late a change may be.
const EARLY: Duration = Duration::from_millis(20);
const LATE: Duration = Duration::from_millis(700);

/// Two hosts on a bridge, `10.66.0.1` and `10.66.0.2`, `fd00::1` and `fd00::2`.
struct Lan {
    bridge: Netns,
    hosts: [Netns; 2],
    directory: PathBuf,
}

impl Lan {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let names = Names::transient();
        let bridge = Netns::new(&names, "lan").unwrap();
        bridge
            .ip("link add br0 type bridge mcast_snooping 0")
            .unwrap();
        bridge.ip("link set br0 up").unwrap();
        let hosts = ["a", "b"].map(|label| Netns::new(&names, label).unwrap());
        for (number, host) in (1..).zip(&hosts) {
            for scope in ["all", "default"] {
                host.sysctl(&format!("net.ipv6.conf.{scope}.disable_ipv6"), "0")
                    .unwrap();
                host.sysctl(&format!("net.ipv6.conf.{scope}.accept_dad"), "0")
                    .unwrap();
            }
            let peer = format!("port{number}");
            host.ip(&format!(
                "link add eth0 type veth peer name {peer} netns {}",
                bridge.name()
            ))
            .unwrap();
            bridge
                .ip(&format!("link set dev {peer} master br0 up"))
                .unwrap();
            host.ip(&format!("addr add 10.66.0.{number}/24 dev eth0"))
                .unwrap();
            host.ip(&format!("addr add fd00::{number}/64 dev eth0 nodad"))
                .unwrap();
            host.ip("link set eth0 up").unwrap();
        }
        let directory = std::env::temp_dir().join(format!(
            "pointsman-vrrp-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        ));
        fs::create_dir_all(&directory).unwrap();
        Self {
            bridge,
            hosts,
            directory,
        }
    }

    fn holds(&self, host: usize, address: &str) -> bool {
        let listed = self.hosts[host].ip("-o addr show").unwrap();
        listed.contains(&format!(" {address}/"))
    }

    #[track_caller]
    fn until_held(&self, host: usize, address: &str) {
        wait_until(format!("{address} on host {host}"), PATIENCE, || {
            self.holds(host, address).then_some(())
        })
        .unwrap();
    }

    #[track_caller]
    fn until_given_up(&self, host: usize, address: &str) {
        wait_until(format!("{address} gone from host {host}"), PATIENCE, || {
            (!self.holds(host, address)).then_some(())
        })
        .unwrap();
    }

    fn node(&self, host: usize, words: &str) -> Process {
        let node = std::env::current_exe()
            .unwrap()
            .parent()
            .and_then(Path::parent)
            .unwrap()
            .join("examples/node");
        let log = fs::File::create(self.directory.join("node.log")).unwrap();
        let child = self.hosts[host]
            .command(node)
            .args(words.split_whitespace())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Process(child)
    }

    fn keepalived(&self, host: usize, configuration: &str) -> Process {
        // Files of its own: one that was killed leaves its pid, perhaps as a zombie.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let file = |name: &str| self.directory.join(format!("{name}.{number}"));
        fs::write(file("conf"), configuration).unwrap();
        let log = fs::File::create(file("log")).unwrap();
        let child = self.hosts[host]
            .command("keepalived")
            .args(["--dont-fork", "--log-console", "--log-detail", "--vrrp"])
            .arg("--use-file")
            .arg(file("conf"))
            .arg("--pid")
            .arg(file("pid"))
            .arg("--vrrp_pid")
            .arg(file("vrrp-pid"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Process(child)
    }

    /// Kills whatever runs on a host, children first: a keepalived whose parent dies stops cleanly.
    fn crash(&self, host: usize) {
        let mut pids = self.hosts[host].pids();
        pids.sort_unstable_by(|a, b| b.cmp(a));
        let status = Command::new("kill")
            .arg("-9")
            .args(pids.iter().map(u32::to_string))
            .status()
            .unwrap();
        assert!(status.success());
    }

    fn capture(&self) -> Capture {
        let file = self.directory.join("capture.pcapng");
        let child = self
            .bridge
            .command("tshark")
            .args(["-q", "-n", "-i", "port2", "-w"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let capture = Capture {
            process: Process(child),
            file,
        };
        wait_until("the capture", PATIENCE, || {
            capture
                .file
                .metadata()
                .is_ok_and(|m| m.len() > 0)
                .then_some(())
        })
        .unwrap();
        capture
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// A process that ends with its test.
struct Process(Child);

impl Process {
    /// SIGTERM, and waits.
    fn stop(mut self) {
        self.signal("-TERM");
        self.0.wait().unwrap();
    }

    fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An advert as tshark reads it.
#[derive(Debug, Clone, PartialEq)]
struct Advert {
    at: f64,
    source: String,
    priority: u8,
}

struct Capture {
    process: Process,
    file: PathBuf,
}

impl Capture {
    /// Ends the capture, has tshark look for faults, and reads the adverts.
    fn adverts(self) -> Vec<Advert> {
        // What was sent last is on its way through the capture's buffer.
        std::thread::sleep(Duration::from_millis(500));
        self.process.signal("-INT");
        let mut process = self.process;
        process.0.wait().unwrap();
        let read = |filter: &str, fields: &[&str]| {
            let mut tshark = Command::new("tshark");
            tshark
                .args(["-n", "-r"])
                .arg(&self.file)
                .args(["-Y", filter]);
            if !fields.is_empty() {
                tshark.args(["-T", "fields", "-E", "occurrence=f"]);
                for field in fields {
                    tshark.args(["-e", field]);
                }
            }
            let output = tshark.output().unwrap();
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            String::from_utf8(output.stdout).unwrap()
        };
        let faults = read(
            "_ws.malformed || _ws.expert.severity == \"Error\" || vrrp.checksum.status == 0 \
             || icmpv6.checksum.status == 0",
            &[],
        );
        assert_eq!(faults, "", "tshark finds fault");
        let good = "vrrp && vrrp.checksum.status == 1 && !icmp && !icmpv6";
        let lines = read(
            good,
            &["frame.time_epoch", "ip.src", "ipv6.src", "vrrp.prio"],
        );
        let all = read("vrrp && !icmp && !icmpv6", &["frame.number"]);
        assert_eq!(
            lines.lines().count(),
            all.lines().count(),
            "checksums are all good"
        );
        let adverts: Vec<Advert> = lines
            .lines()
            .map(|line| {
                let fields: Vec<&str> = line.split('\t').collect();
                Advert {
                    at: fields[0].parse().unwrap(),
                    source: format!("{}{}", fields[1], fields[2]),
                    priority: fields[3].parse().unwrap(),
                }
            })
            .collect();
        assert!(!adverts.is_empty());
        adverts
    }
}

/// How two nodes are configured alike, apart from their priority.
#[derive(Clone, Copy)]
struct Variant {
    /// Of keepalived, `SELF` and `PEER` being 1 or 2.
    keepalived: &'static str,
    /// Of ours.
    words: &'static str,
    address: &'static str,
    version: u8,
    interval: Duration,
}

const SECOND: Duration = Duration::from_secs(1);
const FIFTH: Duration = Duration::from_millis(200);

const V2: Variant = Variant {
    keepalived: "advert_int 1\n virtual_ipaddress {\n 10.66.0.100/24\n }",
    words: "10.66.0.100/24",
    address: "10.66.0.100",
    version: 2,
    interval: SECOND,
};

const PASS: Variant = Variant {
    keepalived: "advert_int 1\n authentication {\n auth_type PASS\n auth_pass secret12\n }\n \
                 virtual_ipaddress {\n 10.66.0.100/24\n }",
    words: "10.66.0.100/24 pass=secret12",
    ..V2
};

const AH: Variant = Variant {
    keepalived: "advert_int 1\n authentication {\n auth_type AH\n auth_pass secret12\n }\n \
                 virtual_ipaddress {\n 10.66.0.100/24\n }",
    words: "10.66.0.100/24 ah=secret12",
    ..V2
};

const UNICAST_AH: Variant = Variant {
    keepalived: "advert_int 1\n authentication {\n auth_type AH\n auth_pass secret12\n }\n \
                 unicast_src_ip 10.66.0.SELF\n unicast_peer {\n 10.66.0.PEER\n }\n \
                 virtual_ipaddress {\n 10.66.0.100/24\n }",
    words: "10.66.0.100/24 ah=secret12 source=10.66.0.SELF peer=10.66.0.PEER",
    ..V2
};

const V3: Variant = Variant {
    keepalived: "version 3\n advert_int 0.2\n virtual_ipaddress {\n 10.66.0.100/24\n }",
    words: "10.66.0.100/24 version=3 interval-ms=200",
    address: "10.66.0.100",
    version: 3,
    interval: FIFTH,
};

const V3_UNICAST: Variant = Variant {
    keepalived: "version 3\n advert_int 0.2\n unicast_src_ip 10.66.0.SELF\n \
                 unicast_peer {\n 10.66.0.PEER\n }\n virtual_ipaddress {\n 10.66.0.100/24\n }",
    words: "10.66.0.100/24 version=3 interval-ms=200 source=10.66.0.SELF peer=10.66.0.PEER",
    ..V3
};

const V6: Variant = Variant {
    keepalived: "advert_int 0.2\n virtual_ipaddress {\n fe80::100/128\n }",
    words: "fe80::100/128 version=3 interval-ms=200",
    address: "fe80::100",
    version: 3,
    interval: FIFTH,
};

const V6_UNICAST: Variant = Variant {
    keepalived: "advert_int 0.2\n unicast_src_ip fd00::SELF\n unicast_peer {\n fd00::PEER\n }\n \
                 virtual_ipaddress {\n fd00::100/64\n }",
    words: "fd00::100/64 version=3 interval-ms=200 source=fd00::SELF peer=fd00::PEER",
    address: "fd00::100",
    version: 3,
    interval: FIFTH,
};

/// Which of the two is Pointsman.
#[derive(Clone, Copy, PartialEq)]
enum Ours {
    High,
    Low,
}

const LOW: usize = 0;
const HIGH: usize = 1;

impl Variant {
    fn start(&self, lan: &Lan, host: usize, ours: Ours, priority: u8) -> Process {
        let mine = (host + 1).to_string();
        let other = (2 - host).to_string();
        let place = |text: &str| text.replace("SELF", &mine).replace("PEER", &other);
        if (host == HIGH) == (ours == Ours::High) {
            lan.node(
                host,
                &format!("eth0 51 {} priority={priority}", place(self.words)),
            )
        } else {
            lan.keepalived(
                host,
                &format!(
                    "vrrp_instance VI_1 {{\n interface eth0\n virtual_router_id 51\n \
                     priority {priority}\n {}\n}}\n",
                    place(self.keepalived)
                ),
            )
        }
    }

    fn skew(&self, priority: u8) -> Duration {
        let unit = if self.version == 2 {
            SECOND
        } else {
            self.interval
        };
        unit * (256 - u32::from(priority)) / 256
    }

    /// The low one starts, the high one preempts it, crashes, comes back and stops.
    fn rivalry(&self, ours: Ours) {
        let lan = Lan::new();
        let capture = lan.capture();
        let low = self.start(&lan, LOW, ours, 100);
        lan.until_held(LOW, self.address);
        let high = self.start(&lan, HIGH, ours, 150);
        lan.until_held(HIGH, self.address);
        lan.until_given_up(LOW, self.address);
        lan.crash(HIGH);
        drop(high);
        lan.until_held(LOW, self.address);
        let high = self.start(&lan, HIGH, ours, 150);
        lan.until_given_up(LOW, self.address);
        lan.until_held(HIGH, self.address);
        // A few adverts of the settled state.
        std::thread::sleep(self.interval * 2);
        high.stop();
        lan.until_held(LOW, self.address);
        assert!(
            !lan.holds(HIGH, self.address),
            "a clean stop takes the address along"
        );
        low.stop();
        assert!(!lan.holds(LOW, self.address));
        let adverts = capture.adverts();
        self.judge(&adverts);
    }

    fn judge(&self, adverts: &[Advert]) {
        let low_source = &adverts[0].source;
        // Runs of one source. What LOW still says when HIGH has just begun crossed HIGH's first advert, and
        // is left out.
        let mut runs: Vec<(&str, Vec<&Advert>)> = Vec::new();
        for advert in adverts {
            match runs.last_mut() {
                Some((source, run)) if *source == advert.source => run.push(advert),
                Some((source, run))
                    if source != low_source
                        && advert.priority != 0
                        && advert.at - run[0].at < 0.1 => {}
                _ => runs.push((&advert.source, vec![advert])),
            }
        }
        let sources: Vec<&str> = runs.iter().map(|(source, _)| *source).collect();
        let high_source = sources[1];
        assert_eq!(
            sources,
            [
                low_source.as_str(),
                high_source,
                low_source,
                high_source,
                low_source
            ],
            "{adverts:#?}"
        );
        let between = |from: usize| {
            let last = runs[from].1.last().unwrap().at;
            Duration::from_secs_f64(runs[from + 1].1[0].at - last)
        };
        let after_crash = self.interval * 3 + self.skew(100);
        within("after the crash", between(1), after_crash);
        assert_eq!(
            runs[3].1.last().unwrap().priority,
            0,
            "a clean stop resigns"
        );
        within("after the resignation", between(3), self.skew(100));
        assert_eq!(runs[4].1.last().unwrap().priority, 0);
        for (source, run) in &runs {
            for pair in run.windows(2) {
                let gap = Duration::from_secs_f64(pair[1].at - pair[0].at);
                assert!(
                    gap < self.interval + LATE,
                    "{source}: {gap:?} between adverts"
                );
            }
        }
    }
}

#[track_caller]
fn within(what: &str, measured: Duration, expected: Duration) {
    println!("{what}: {measured:?}, in theory {expected:?}");
    assert!(
        measured + EARLY >= expected && measured <= expected + LATE,
        "{what}: {measured:?} instead of {expected:?}"
    );
}

/// Both roles at once.
fn rivalries(variant: Variant) {
    std::thread::scope(|scope| {
        for ours in [Ours::High, Ours::Low] {
            scope.spawn(move || variant.rivalry(ours));
        }
    });
}

#[test]
fn version_2() {
    rivalries(V2);
}

#[test]
fn version_2_with_a_password() {
    rivalries(PASS);
}

#[test]
fn version_2_with_authentication_headers() {
    rivalries(AH);
}

#[test]
fn version_2_unicast_with_authentication_headers() {
    rivalries(UNICAST_AH);
}

#[test]
fn version_3() {
    rivalries(V3);
}

#[test]
fn version_3_unicast() {
    rivalries(V3_UNICAST);
}

#[test]
fn version_3_over_ipv6() {
    rivalries(V6);
}

#[test]
fn version_3_over_ipv6_unicast() {
    rivalries(V6_UNICAST);
}

#[test]
fn equal_priorities_stay_with_the_first() {
    for ours in [Ours::High, Ours::Low] {
        let lan = Lan::new();
        let _first = V3.start(&lan, LOW, ours, 100);
        lan.until_held(LOW, V3.address);
        let _second = V3.start(&lan, HIGH, ours, 100);
        let watched = Instant::now();
        while watched.elapsed() < FIFTH * 10 {
            assert!(lan.holds(LOW, V3.address) && !lan.holds(HIGH, V3.address));
        }
    }
}

#[test]
fn of_two_masters_of_one_priority_the_higher_address_stays() {
    for ours in [Ours::High, Ours::Low] {
        let lan = Lan::new();
        lan.bridge.ip("link set dev port2 nomaster").unwrap();
        let _low = V3.start(&lan, LOW, ours, 100);
        let _high = V3.start(&lan, HIGH, ours, 100);
        lan.until_held(LOW, V3.address);
        lan.until_held(HIGH, V3.address);
        lan.bridge.ip("link set dev port2 master br0").unwrap();
        lan.until_given_up(LOW, V3.address);
        assert!(lan.holds(HIGH, V3.address));
    }
}

#[test]
fn a_master_that_was_stopped_yields_without_a_word() {
    let lan = Lan::new();
    let low = V3.start(&lan, LOW, Ours::High, 100);
    lan.until_held(LOW, V3.address);
    low.stop();
    // Ours alone, nobody preempts it back: it must give up by itself.
    let high = lan.node(
        HIGH,
        "eth0 51 10.66.0.100/24 version=3 interval-ms=200 priority=100 nopreempt",
    );
    lan.until_held(HIGH, V3.address);
    let _low = V3.start(&lan, LOW, Ours::High, 90);
    high.signal("-STOP");
    lan.until_held(LOW, V3.address);
    let capture = lan.capture();
    high.signal("-CONT");
    lan.until_given_up(HIGH, V3.address);
    std::thread::sleep(FIFTH * 10);
    assert!(lan.holds(LOW, V3.address) && !lan.holds(HIGH, V3.address));
    let adverts = capture.adverts();
    assert!(
        adverts.iter().all(|advert| advert.source == "10.66.0.1"),
        "{adverts:#?}"
    );
}

#[test]
fn a_deleted_address_moves_the_mastership() {
    let lan = Lan::new();
    let _low = V3.start(&lan, LOW, Ours::High, 100);
    let _high = V3.start(&lan, HIGH, Ours::High, 150);
    lan.until_held(HIGH, V3.address);
    lan.until_given_up(LOW, V3.address);
    let capture = lan.capture();
    lan.hosts[HIGH]
        .ip("addr del 10.66.0.100/24 dev eth0")
        .unwrap();
    lan.until_held(LOW, V3.address);
    lan.until_held(HIGH, V3.address);
    let adverts = capture.adverts();
    assert!(adverts.iter().any(|advert| advert.priority == 0));
}

#[test]
fn a_virtual_mac_carries_adverts_and_address() {
    let lan = Lan::new();
    let capture = lan.capture();
    let high = lan.node(
        HIGH,
        "eth0 51 10.66.0.100/24 version=3 interval-ms=200 priority=150 vmac no-accept",
    );
    let low = lan.keepalived(
        LOW,
        "vrrp_instance VI_1 {\n interface eth0\n virtual_router_id 51\n priority 100\n version 3\n \
         advert_int 0.2\n use_vmac\n virtual_ipaddress {\n 10.66.0.100/24\n }\n}\n",
    );
    lan.until_held(HIGH, V3.address);
    let links = lan.hosts[HIGH].ip("-o -d link show vrrp.51").unwrap();
    assert!(
        links.contains("00:00:5e:00:01:33") && links.contains("mode private"),
        "{links}"
    );
    let placed = lan.hosts[HIGH].ip("-o addr show dev vrrp.51").unwrap();
    assert!(placed.contains("10.66.0.100/24"), "{placed}");
    // no_accept: the address answers ARP and nothing else.
    let ping = |host: usize| {
        lan.hosts[host]
            .command("ping")
            .args(["-c", "1", "-W", "1", "10.66.0.100"])
            .output()
            .unwrap()
            .status
            .success()
    };
    assert!(!ping(LOW));
    high.stop();
    lan.until_held(LOW, V3.address);
    let left = lan.hosts[HIGH].ip("-o link show").unwrap();
    assert!(!left.contains("vrrp.51"), "{left}");
    assert!(ping(HIGH), "the other one, which accepts, is there");
    low.stop();
    let adverts = capture.adverts();
    assert!(adverts.iter().any(|advert| advert.source == "10.66.0.2"));
}

#[test]
fn adverts_every_ten_milliseconds_hold() {
    let lan = Lan::new();
    let low = lan.node(
        LOW,
        "eth0 51 10.66.0.100/24 version=3 interval-ms=10 priority=100",
    );
    lan.until_held(LOW, V3.address);
    let capture = lan.capture();
    std::thread::sleep(SECOND * 2);
    low.stop();
    let mut gaps: Vec<f64> = capture
        .adverts()
        .windows(2)
        .map(|pair| pair[1].at - pair[0].at)
        .collect();
    gaps.sort_by(f64::total_cmp);
    let (median, worst) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
    println!(
        "{} adverts, median gap {median:.4} s, worst {worst:.4} s",
        gaps.len() + 1
    );
    assert!((0.009..0.012).contains(&median));
}
