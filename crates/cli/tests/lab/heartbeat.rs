//! Two nodes with one haresources: a group of an address, an ldirectord and two scripts moves between
//! them when one is killed, comes back, stops, stands by, or fails.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman_testkit::frames::{ARP, View};
use pointsman_testkit::{
    Capture, Captured, Director, Hook, Names, Netns, PageServer, http, wait_until,
};
use tempfile::TempDir;

use crate::common::{PORT, PROGRAM};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const RIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 60);
const DEADTIME: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);

/// What a script of the group logs: `NODE WORD ARGUMENT ADDRESSES`, the last being whether the
/// service address is here. It fails where a file says so.
const SCRIPT: &str = r#"#!/bin/sh
node=$(ip netns identify $$); node=${node##*-}
runs=DIR/$node.$1.runs
case $2 in
status) if [ -e $runs ]; then echo running; else echo stopped; fi ;;
start)
    [ -e DIR/$node.$1.fails ] && exit 1
    : > $runs
    echo "$node start $1 $(ip -o address show to 10.0.0.100 | wc -l)" >> DIR/log ;;
stop)
    [ -e $runs ] || exit 0
    rm $runs
    echo "$node stop $1 $(ip -o address show to 10.0.0.100 | wc -l)" >> DIR/log ;;
esac
"#;

/// Two nodes, a real server and a client on one segment.
struct Pair {
    _page: PageServer,
    nodes: [Netns; 2],
    client: Netns,
    _others: [Netns; 2],
    directory: TempDir,
}

impl Pair {
    /// Directors run on both nodes, heartbeat does not yet.
    fn new(auto_failback: &str) -> Self {
        let names = Names::transient();
        let lan = Netns::new(&names, "lan").unwrap();
        lan.ip("link add br0 type bridge").unwrap();
        lan.ip("link set br0 up").unwrap();
        let plug = |label: &str, addr: Ipv4Addr| {
            let host = Netns::new(&names, label).unwrap();
            let (name, here) = (host.name(), label);
            lan.ip(&format!(
                "link add {here} type veth peer name eth0 netns {name}"
            ))
            .unwrap();
            lan.ip(&format!("link set {here} master br0 up")).unwrap();
            host.ip(&format!("address add {addr}/24 dev eth0")).unwrap();
            host.ip("link set eth0 up").unwrap();
            host
        };
        let nodes = [
            plug("node1", Ipv4Addr::new(10, 0, 0, 1)),
            plug("node2", Ipv4Addr::new(10, 0, 0, 2)),
        ];
        let client = plug("client", CLIENT);
        let server = plug("rs", RIP);
        for scope in ["all", "eth0"] {
            server
                .sysctl(&format!("net.ipv4.conf.{scope}.arp_ignore"), "1")
                .unwrap();
            server
                .sysctl(&format!("net.ipv4.conf.{scope}.arp_announce"), "2")
                .unwrap();
        }
        server.ip(&format!("address add {VIP}/32 dev lo")).unwrap();
        let page = PageServer::start(&server, "rs", RIP, PORT).unwrap();
        let pair = Self {
            _page: page,
            nodes,
            client,
            _others: [lan, server],
            directory: TempDir::new().unwrap(),
        };
        for n in [1, 2] {
            Director::start(PROGRAM, pair.node(n), Hook::Tc).unwrap();
            pair.write_files(n, auto_failback);
        }
        pair
    }

    /// The files of a node: the same but for the file of ldirectord, whose daemons share `/run`.
    fn write_files(&self, n: usize, auto_failback: &str) {
        let home = self.directory.path().join(format!("node{n}"));
        let scripts = home.join("resource.d");
        fs::create_dir_all(&scripts).unwrap();
        // A name of its own: pid files are named for it.
        let services = home.join(format!("{}.cf", self.node(n).name()));
        let text = format!(
            "checkinterval = 1\nlogfile = \"{}\"\nvirtual = {VIP}:{PORT}\n\treal = {RIP}:{PORT} gate\n\tchecktype = connect\n\tscheduler = rr\n",
            home.join("ldirectord.log").display()
        );
        fs::write(&services, text).unwrap();
        let group = format!(
            "node1 IPaddr::{VIP}/24/eth0 ldirectord::{} note::one note::two\n",
            services.display()
        );
        fs::write(home.join("haresources"), group).unwrap();
        let ha_cf = format!(
            "keepalive 200ms\ndeadtime {}\ninitdead 4\nucast eth0 10.0.0.1\nucast eth0 10.0.0.2\n\
             auto_failback {auto_failback}\nnode node1\nnode node2\n",
            DEADTIME.as_secs()
        );
        fs::write(home.join("ha.cf"), ha_cf).unwrap();
        let keys = home.join("authkeys");
        fs::write(&keys, "auth 1\n1 sha1 some-long-secret\n").unwrap();
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).unwrap();
        let script = scripts.join("note");
        let directory = self.directory.path().display().to_string();
        fs::write(&script, SCRIPT.replace("DIR", &directory)).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn node(&self, n: usize) -> &Netns {
        &self.nodes[n - 1]
    }

    #[track_caller]
    fn heartbeat(&self, n: usize, words: &str) -> String {
        let home = self.directory.path().join(format!("node{n}"));
        let home = home.display().to_string();
        let node = format!("node{n}");
        let mut line = vec!["heartbeat"];
        line.extend(words.split_whitespace());
        line.extend(["--dir", &home, "--node", &node]);
        Director::new(PROGRAM, self.node(n)).run(&line).unwrap()
    }

    fn start_both() -> Self {
        Self::start_with("on")
    }

    fn start_with(auto_failback: &str) -> Self {
        let pair = Self::new(auto_failback);
        pair.heartbeat(1, "start");
        pair.comes_to(1);
        pair.heartbeat(2, "start");
        pair
    }

    fn has_vip(&self, n: usize) -> bool {
        let shown = self.node(n).ip("-o address show dev eth0").unwrap();
        shown.contains(&format!("{VIP}/24"))
    }

    /// The status of a heartbeat, empty when it does not run.
    fn status(&self, n: usize) -> String {
        let mut command = Director::new(PROGRAM, self.node(n)).command();
        let output = command.args(["heartbeat", "status"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until the whole group is on a node, and nothing of it on the other.
    #[track_caller]
    fn comes_to(&self, n: usize) {
        let other = 3 - n;
        let done = wait_until(format!("the group on node{n}"), PATIENCE, || {
            let here = self.status(n).contains(": held") && self.has_vip(n);
            (here && !self.has_vip(other)).then_some(())
        });
        if let Err(error) = done {
            panic!("{error}\n{}", self.report());
        }
        wait_until("the service to answer", PATIENCE, || {
            self.client.run(ask).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", self.report()));
    }

    fn report(&self) -> String {
        let mut text = self.log().join("\n");
        for n in [1, 2] {
            text += &format!("\nnode{n}: {}", self.status(n));
            text += &self.node(n).ip("-br address").unwrap();
            text += &Director::new(PROGRAM, self.node(n))
                .ipvsadm("-Ln")
                .unwrap_or_default();
            let run_dir = pointsman_run_dir(self.node(n));
            text += &fs::read_to_string(run_dir.join("heartbeat.log")).unwrap_or_default();
        }
        text
    }

    /// Takes what the scripts logged since.
    fn log(&self) -> Vec<String> {
        let file = self.directory.path().join("log");
        let text = fs::read_to_string(&file).unwrap_or_default();
        let _ = fs::remove_file(file);
        text.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn logged(&self, expected: &[&str]) {
        let mut seen = Vec::new();
        let done = wait_until("the scripts", PATIENCE, || {
            seen.extend(self.log());
            (seen.len() >= expected.len()).then_some(())
        });
        assert!(
            done.is_ok() && seen == expected,
            "{seen:?} instead of {expected:?}\n{}",
            self.report()
        );
    }

    /// Kills heartbeat and cuts the node off; what was there stays.
    fn kill(&self, n: usize) {
        let runs = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains("heartbeat run")
        };
        let pids: Vec<u32> = self.node(n).pids().into_iter().filter(runs).collect();
        let [pid] = pids[..] else { panic!("{pids:?}") };
        kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
        self.node(n).ip("link set eth0 down").unwrap();
    }

    /// Brings a killed node back.
    fn revive(&self, n: usize) {
        self.node(n).ip("link set eth0 up").unwrap();
        self.heartbeat(n, "start");
    }

    fn fails(&self, n: usize, argument: &str, fails: bool) {
        let file = self
            .directory
            .path()
            .join(format!("node{n}.{argument}.fails"));
        if fails {
            fs::write(file, "").unwrap();
        } else {
            fs::remove_file(file).unwrap();
        }
    }

    fn services(&self, n: usize) -> String {
        Director::new(PROGRAM, self.node(n)).ipvsadm("-Sn").unwrap()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // The daemons of ldirectord leave their pid files to nobody.
        for n in [1, 2] {
            let mut command = Director::new(PROGRAM, self.node(n)).command();
            let _ = command.args(["heartbeat", "stop"]).output();
        }
    }
}

fn pointsman_run_dir(netns: &Netns) -> std::path::PathBuf {
    let cookie = netns.cookie();
    std::path::Path::new("/run/pointsman").join(cookie.to_string())
}

fn ask() -> bool {
    let service = SocketAddrV4::new(VIP, PORT);
    http::get_with(service, "/", Duration::from_millis(300))
        .is_ok_and(|reply| reply.body == http::page("rs", RIP))
}

/// A gratuitous ARP for the service address, and from where.
fn announcement(seen: &Captured) -> Option<[u8; 6]> {
    let view = View::of(&seen.frame)?;
    let arp = seen.frame.get(14..42)?;
    let vip = VIP.octets();
    (view.ethertype == ARP && arp[14..18] == vip && arp[24..28] == vip)
        .then(|| arp[8..14].try_into().ok())?
}

/// A client that asks all the time and keeps the longest time without an answer.
struct Asking {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Duration>>,
}

impl Asking {
    fn start(client: &Netns) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = client.spawn(move || {
            let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
            while !seen.load(Ordering::Relaxed) {
                if ask() {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            longest
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    fn longest_gap(mut self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

#[test]
fn a_dead_node_is_taken_over_and_its_group_comes_back() {
    let pair = Pair::start_both();
    // From left to right: the address is there when the scripts are called.
    pair.logged(&["node1 start one 1", "node1 start two 1"]);
    assert!(pair.services(1).contains("10.0.0.50:80"));
    assert_eq!(pair.services(2), "");

    let capture = Capture::start(&pair.client, "eth0").unwrap();
    let asking = Asking::start(&pair.client);
    let killed = Instant::now();
    pair.kill(1);
    let mac = pair.node(2).mac("eth0").unwrap();
    let theirs = |seen: &Captured| announcement(seen) == Some(mac);
    capture
        .wait_for("the announcement", PATIENCE, theirs)
        .unwrap();
    let after = killed.elapsed();
    println!("taken over {after:?} after the kill; deadtime {DEADTIME:?}");
    // Not before; the skew of a priority of 100 is 156/256 of an interval of 200 ms.
    assert!(after > DEADTIME - Duration::from_millis(250), "{after:?}");
    pair.logged(&["node2 start one 1", "node2 start two 1"]);
    wait_until("five announcements", PATIENCE, || {
        (capture.count(theirs) >= 5).then_some(())
    })
    .unwrap();
    wait_until("an answer", PATIENCE, || pair.client.run(ask).then_some(())).unwrap();
    println!("longest time without an answer: {:?}", asking.longest_gap());

    // It comes back: what it left is cleared away first, then it takes the group.
    pair.revive(1);
    pair.logged(&[
        "node1 stop two 1",
        "node1 stop one 1",
        "node2 stop two 1",
        "node2 stop one 1",
        "node1 start one 1",
        "node1 start two 1",
    ]);
    pair.comes_to(1);
    assert_eq!(pair.services(2), "");

    // A clean end is from right to left, and the other has the group at once.
    let asking = Asking::start(&pair.client);
    let stopped = Instant::now();
    pair.heartbeat(1, "stop");
    assert!(!pair.has_vip(1));
    pair.comes_to(2);
    println!(
        "clean stop: on the other node after {:?}",
        stopped.elapsed()
    );
    println!("longest time without an answer: {:?}", asking.longest_gap());
    pair.logged(&[
        "node1 stop two 1",
        "node1 stop one 1",
        "node2 start one 1",
        "node2 start two 1",
    ]);
    assert_eq!(pair.services(1), "");
    assert_eq!(pair.status(1), "heartbeat is stopped\n");
}

#[test]
fn without_auto_failback_the_group_stays() {
    let pair = Pair::start_with("off");
    pair.kill(1);
    wait_until("node2 to have it", PATIENCE, || {
        pair.has_vip(2).then_some(())
    })
    .unwrap();
    pair.revive(1);
    // What the killed heartbeat left is gone, the group is not taken back.
    pair.comes_to(2);
    wait_until("node1 to take part", PATIENCE, || {
        pair.status(1).contains("(BACKUP").then_some(())
    })
    .unwrap();
    std::thread::sleep(DEADTIME * 2);
    pair.comes_to(2);
    assert!(pair.status(1).contains(": not held (BACKUP"));
}

#[test]
fn operators_move_a_group() {
    let pair = Pair::start_both();
    pair.log();
    pair.heartbeat(1, "standby");
    pair.comes_to(2);
    pair.logged(&[
        "node1 stop two 1",
        "node1 stop one 1",
        "node2 start one 1",
        "node2 start two 1",
    ]);
    // It holds although node1 is preferred.
    std::thread::sleep(DEADTIME * 2);
    pair.comes_to(2);
    // Both in turn, each more often than once.
    for n in [1, 2, 2, 1, 2] {
        pair.heartbeat(n, "takeover");
        pair.comes_to(n);
        std::thread::sleep(DEADTIME + Duration::from_secs(1));
        pair.comes_to(n);
    }
    // Node 2 has a foreign group, no local one.
    pair.heartbeat(2, "standby local");
    pair.comes_to(2);
    pair.heartbeat(2, "standby foreign");
    pair.comes_to(1);
}

#[test]
fn a_resource_that_does_not_start_leaves_the_group_to_the_other() {
    let pair = Pair::new("on");
    pair.fails(1, "two", true);
    pair.heartbeat(1, "start");
    // From right to left, again.
    pair.logged(&["node1 start one 1", "node1 stop one 1"]);
    pair.heartbeat(2, "start");
    pair.comes_to(2);
    pair.logged(&["node2 start one 1", "node2 start two 1"]);
    // Mended: it is taken when an operator says so.
    pair.fails(1, "two", false);
    pair.heartbeat(1, "takeover");
    pair.comes_to(1);
    // The other may have it again.
    pair.heartbeat(1, "stop");
    pair.comes_to(2);
}
