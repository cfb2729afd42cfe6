//! Failover of the whole: two directors that follow a keepalived.conf each, clients that ask all the
//! time, and a master that ends in several ways. What is measured is the longest time in which no
//! client got an answer; `--nocapture` prints it.

use std::fs;
use std::time::{Duration, Instant};

use pointsman_testkit::frames::Mac;
use pointsman_testkit::load::Load;
use pointsman_testkit::{
    Director, Method, Netns, PageServer, Plan, Topology, arp, http, wait_until,
};
use tempfile::TempDir;

use crate::common::{PORT, PROGRAM};

const PATIENCE: Duration = Duration::from_secs(60);
/// Beyond what VRRP's times say: others compile on this machine.
const SLACK: Duration = Duration::from_millis(500);
/// Priority of the director that is master first, and of its backup.
const PRIORITIES: [u8; 2] = [150, 100];
const SECOND: Duration = Duration::from_secs(1);
const THIRTY: Duration = Duration::from_millis(30);

/// How the master ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stop,
    Kill,
    PowerOff,
}

/// Who speaks VRRP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaker {
    /// Directors with virtual servers.
    Director,
    /// Directors without; the VIP is answered by the host that has it.
    DirectorAlone,
    /// The real keepalived, as that.
    Keepalived,
}

/// Two directors, one of which is master.
struct Pair {
    _pages: Vec<PageServer>,
    net: Topology,
    directory: TempDir,
    speaker: Speaker,
    interval: Duration,
}

impl Pair {
    fn start(method: Method, speaker: Speaker, interval: Duration) -> Self {
        let net = Topology::build_pair(&Plan::test(method, false)).unwrap();
        let mut pages = net.serve(PORT).unwrap();
        let mut pair = Self {
            _pages: Vec::new(),
            net,
            directory: TempDir::new().unwrap(),
            speaker,
            interval,
        };
        if speaker != Speaker::Director {
            pages = (0..2)
                .map(|n| PageServer::start(pair.host(n), "director", pair.net.vip, PORT).unwrap())
                .collect();
        }
        pair._pages = pages;
        for number in 0..2 {
            pair.run(number);
        }
        pair.is_held_by(&[0]);
        if speaker == Speaker::Director {
            for number in 0..2 {
                let servers = pair.net.servers.iter();
                let wanted: Vec<_> = servers.map(|s| format!("{}:{PORT}", s.addr)).collect();
                wait_until("the table", PATIENCE, || {
                    let table = pair.director(number).ipvsadm("-Ln").ok()?;
                    wanted.iter().all(|w| table.contains(w)).then_some(())
                })
                .unwrap();
            }
        }
        pair.answers();
        pair
    }

    fn host(&self, number: usize) -> &Netns {
        match number {
            0 => &self.net.director,
            _ => self.net.backup.as_ref().unwrap(),
        }
    }

    fn director(&self, number: usize) -> Director<'_> {
        Director::new(PROGRAM, self.host(number))
    }

    fn run(&self, number: usize) {
        let file = self.directory.path().join(format!("{number}.conf"));
        fs::write(&file, self.configuration(number)).unwrap();
        let file = file.display().to_string();
        if self.speaker != Speaker::Keepalived {
            let words = ["director", "start", "--hook", "tc", "--config", &file];
            self.director(number).run(&words).unwrap();
            return;
        }
        let pid = |kind| format!("{}/{number}.{kind}", self.directory.path().display());
        let mut command = self.host(number).command("keepalived");
        command.args(["--vrrp", "--use-file", &file]);
        command.args(["--pid", &pid("pid"), "--vrrp_pid", &pid("vrrp")]);
        assert!(command.status().unwrap().success());
    }

    fn configuration(&self, number: usize) -> String {
        let priority = PRIORITIES[number];
        let interval = self.interval.as_secs_f64();
        let instance = |name: &str, interface: &str, id: u8, vip: &str| {
            format!(
                "vrrp_instance {name} {{
    state BACKUP
    interface {interface}
    virtual_router_id {id}
    priority {priority}
    advert_int {interval}
    virtual_ipaddress {{
        {vip}/24
    }}
}}
"
            )
        };
        let vip = self.net.vip.to_string();
        let mut text = "global_defs {\n    vrrp_version 3\n    script_user root\n}\n".to_owned();
        text += &instance("OUTSIDE", "eth0", 51, &vip);
        if self.net.method == Method::Nat {
            text += &instance("INSIDE", "eth1", 52, "192.168.0.100");
            text +=
                "vrrp_sync_group BOTH {\n    group {\n        OUTSIDE\n        INSIDE\n    }\n}\n";
        }
        if self.speaker == Speaker::Director {
            let kind = if self.net.method == Method::Nat {
                "NAT"
            } else {
                "DR"
            };
            text += &format!(
                "virtual_server {vip} {PORT} {{\n    delay_loop 1\n    lb_algo rr\n    lb_kind {kind}\n    \
                 protocol TCP\n"
            );
            for server in &self.net.servers {
                text += &format!(
                    "    real_server {} {PORT} {{\n        weight 1\n        TCP_CHECK {{\n            \
                     connect_timeout 5\n        }}\n    }}\n",
                    server.addr
                );
            }
            text += "}\n";
        }
        text
    }

    /// The VIPs.
    fn addresses(&self) -> Vec<String> {
        let mut addresses = vec![self.net.vip.to_string()];
        if self.net.method == Method::Nat {
            addresses.push("192.168.0.100".into());
        }
        addresses
    }

    /// Waits until all VIPs are on these hosts and on no other.
    #[track_caller]
    fn is_held_by(&self, holders: &[usize]) {
        let mut last = Vec::new();
        let done = wait_until("the holders", PATIENCE, || {
            last = (0..2)
                .map(|number| {
                    let listed = self.host(number).ip("-o -4 addr show").unwrap();
                    let addresses = self.addresses();
                    let held = addresses
                        .iter()
                        .filter(|a| listed.contains(&format!(" {a}/")));
                    (held.count(), addresses.len())
                })
                .collect();
            let as_wanted = last.iter().enumerate().all(|(number, &(held, all))| {
                held == if holders.contains(&number) { all } else { 0 }
            });
            as_wanted.then_some(())
        });
        assert!(done.is_ok(), "held {last:?}, not by {holders:?}");
    }

    #[track_caller]
    fn answers(&self) {
        let vip = self.net.service(PORT);
        let client = &self.net.client;
        wait_until("an answer", PATIENCE, || {
            client
                .run(|| http::get_with(vip, "/", Duration::from_secs(1)))
                .ok()
        })
        .unwrap();
    }

    /// Who asks for the VIP, and where.
    fn asker(&self) -> (&Netns, &'static str) {
        match self.net.method {
            Method::Nat => (&self.net.client, "eth0"),
            _ => (self.net.other("router"), "eth1"),
        }
    }

    /// Waits until packets for the VIP go to this host.
    #[track_caller]
    fn is_reached_at(&self, number: usize) {
        let mac = hex(self.host(number).mac("eth0").unwrap());
        let (asker, interface) = self.asker();
        let show = format!("neigh show {} dev {interface}", self.net.vip);
        let mut last = String::new();
        let done = wait_until("the neighbour", PATIENCE, || {
            last = asker.ip(&show).unwrap();
            last.contains(&mac).then_some(())
        });
        assert!(done.is_ok(), "{last}, not {mac}");
    }

    fn segments(&self) -> impl Iterator<Item = &Netns> {
        let others = self.net.others.iter();
        others.filter(|other| ["lan", "wan"].contains(&other.label()))
    }

    fn end(&self, how: End) {
        match (how, self.speaker) {
            (End::PowerOff, _) => {
                for segment in self.segments() {
                    segment.ip("link set director down").unwrap();
                }
            }
            (End::Stop, Speaker::Keepalived) => {
                let file = self.directory.path().join("0.pid");
                let pid = fs::read_to_string(file).unwrap();
                let mut kill = std::process::Command::new("kill");
                assert!(kill.arg(pid.trim()).status().unwrap().success());
            }
            (End::Stop, _) => self.director(0).stop().unwrap(),
            (End::Kill, Speaker::Keepalived) => {
                unreachable!("it leaves its address, and the host goes on answering")
            }
            (End::Kill, _) => self.director(0).kill().unwrap(),
        }
    }

    /// How long no client got an answer when the master ended so.
    fn silence(&self, how: End) -> Duration {
        let rest = Duration::from_millis(5);
        // A lost SYN must not be waited for a second: another connection tries.
        let patience = Duration::from_millis(100);
        let vip = self.net.service(PORT);
        let load = Load::start_paced(&self.net.client, vip, 8, patience, rest);
        load.wait_for(200, PATIENCE).unwrap();
        load.forget_silence();
        let began = Instant::now();
        self.end(how);
        self.is_reached_at(1);
        let moved = began.elapsed();
        load.wait_for(200, PATIENCE).unwrap();
        let outcome = load.stop();
        eprintln!(
            "{:?}, {:?}, adverts every {:?}, {how:?}: {:?} of silence, moved after {:?}, {} answered, {} not",
            self.net.method,
            self.speaker,
            self.interval,
            outcome.silence,
            moved,
            outcome.answered(),
            outcome.failures.len(),
        );
        outcome.silence
    }

    /// When a backup takes over from a master that fell silent (RFC 9568 §6.1).
    fn master_down(&self) -> Duration {
        let skew = self.interval * (256 - u32::from(PRIORITIES[1])) / 256;
        self.interval * 3 + skew
    }
}

fn hex(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn survives(method: Method, interval: Duration) {
    for how in [End::Stop, End::Kill, End::PowerOff] {
        let pair = Pair::start(method, Speaker::Director, interval);
        let silence = pair.silence(how);
        let allowed = match how {
            // With adverts every second the skew alone would be 609 ms.
            End::Stop => SLACK,
            // What a killed director leaves behind goes on forwarding.
            End::Kill => SLACK,
            End::PowerOff => pair.master_down() + SLACK,
        };
        assert!(silence <= allowed, "{how:?}: {silence:?}, not {allowed:?}");
    }
}

#[test]
fn direct_routing_survives_with_adverts_every_second() {
    survives(Method::DirectRouting, SECOND);
}

#[test]
fn direct_routing_survives_with_adverts_every_thirty_milliseconds() {
    survives(Method::DirectRouting, THIRTY);
}

#[test]
fn nat_survives_with_adverts_every_second() {
    survives(Method::Nat, SECOND);
}

#[test]
fn nat_survives_with_adverts_every_thirty_milliseconds() {
    survives(Method::Nat, THIRTY);
}

/// The kernel of a killed director has the VIP still and answers ARP for it, until the director runs
/// again, which removes it before it listens for others.
#[test]
fn a_killed_director_that_runs_again_leaves_one_owner() {
    let pair = Pair::start(Method::DirectRouting, Speaker::Director, SECOND);
    let present = ["192.168.0.200", "192.168.0.201"].map(|host| host.parse().unwrap());
    let (asker, interface) = pair.asker();
    let owners = || {
        let own = "192.168.0.1".parse().unwrap();
        let found = arp::who_has(asker, interface, own, pair.net.vip, &present);
        found.unwrap().len()
    };
    assert_eq!(owners(), 1);
    pair.end(End::Kill);
    pair.is_held_by(&[0, 1]);
    pair.is_reached_at(1);
    assert_eq!(owners(), 2);
    pair.answers();
    pair.run(0);
    pair.is_held_by(&[0]);
    pair.is_reached_at(0);
    assert_eq!(owners(), 1);
    pair.answers();
}

fn heals(method: Method) {
    let pair = Pair::start(method, Speaker::Director, SECOND);
    let cut = |word: &str| {
        for segment in pair.segments() {
            // Such ports reach every other, but not each other.
            for port in ["director", "backup"] {
                let line = format!("link set {port} type bridge_slave isolated {word}");
                segment.ip(&line).unwrap();
            }
        }
    };
    cut("on");
    pair.is_held_by(&[0, 1]);
    // Both announced it, this one last.
    pair.is_reached_at(1);
    cut("off");
    pair.is_held_by(&[0]);
    // The survivor announces it again.
    pair.is_reached_at(0);
    pair.answers();
}

#[test]
fn a_split_brain_of_direct_routing_heals() {
    heals(Method::DirectRouting);
}

#[test]
fn a_split_brain_of_nat_heals() {
    heals(Method::Nat);
}

/// VRRP alone, on one topology: a page server on the host that has the VIP answers.
#[test]
fn beside_the_real_keepalived() {
    for interval in [SECOND, THIRTY] {
        for how in [End::Stop, End::PowerOff] {
            let [ours, theirs] = [Speaker::DirectorAlone, Speaker::Keepalived]
                .map(|speaker| Pair::start(Method::DirectRouting, speaker, interval).silence(how));
            let allowed = theirs + SLACK;
            assert!(ours <= allowed, "{how:?}: {ours:?}, keepalived {theirs:?}");
            if how == End::Stop && interval == SECOND {
                assert!(ours < theirs, "{ours:?}, keepalived {theirs:?}");
            }
        }
    }
}
