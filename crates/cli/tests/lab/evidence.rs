//! What clients' connections, BFD and probes along clients' own way tell of real servers.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pointsman_testkit::{
    Director, Hook, Method, Netns, PageServer, Plan, Server, Topology, http, wait_until,
};
use tempfile::TempDir;

use crate::common::{PORT, PROGRAM, Stage};

const PATIENCE: Duration = Duration::from_secs(60);
/// A dead listener is out within this, at 100 connections per second.
const WANTED: Duration = Duration::from_millis(300);
/// Others may use the machine: the best of so many deaths counts.
const DEATHS: usize = 6;

/// A network whose director follows a file.
struct Site {
    pages: Vec<Option<PageServer>>,
    net: Topology,
    _directory: TempDir,
}

impl Site {
    /// With this in each real server's block, and `more` beside the virtual server. `VIP`, `RIP1` and `RIP2` stand for
    /// the addresses.
    fn start(method: Method, hook: Hook, checks: &str, more: &str) -> Self {
        let net = Topology::build(&Plan::test(method, hook == Hook::Xdp)).unwrap();
        let pages = net.serve(PORT).unwrap().into_iter().map(Some).collect();
        let directory = TempDir::new().unwrap();
        let kind = match method {
            Method::Nat => "NAT",
            Method::DirectRouting => "DR",
            Method::Tunnel => "TUN",
        };
        let server = |n: usize| {
            let rip = net.servers[n - 1].addr;
            format!(
                "    real_server {rip} {PORT} {{\n        weight 1\n        {}\n    }}\n",
                checks.replace("PEER", &format!("rs{n}"))
            )
        };
        let text = format!(
            "{more}\nvirtual_server VIP {PORT} {{\n    delay_loop 0.3\n    warmup 0.1\n    retry 1\n    \
             delay_before_retry 0.2\n    connect_timeout 2\n    lb_algo rr\n    lb_kind {kind}\n    \
             protocol TCP\n{}{}}}\n",
            server(1),
            server(2)
        );
        let text = text
            .replace("VIP", &net.vip.to_string())
            .replace("RIP1", &net.servers[0].addr.to_string())
            .replace("RIP2", &net.servers[1].addr.to_string());
        let file = directory.path().join("keepalived.conf");
        fs::write(&file, text).unwrap();
        let file = file.display().to_string();
        let words = [
            "director",
            "start",
            "--hook",
            hook.word(),
            "--config",
            &file,
        ];
        Director::new(PROGRAM, &net.director).run(&words).unwrap();
        Self {
            pages,
            net,
            _directory: directory,
        }
    }

    fn director(&self) -> Director<'_> {
        Director::new(PROGRAM, &self.net.director)
    }

    /// Waits until the table holds these servers and no others.
    #[track_caller]
    fn comes_to(&self, servers: &[usize]) {
        let mut listing = String::new();
        let done = wait_until("the table", PATIENCE, || {
            listing = self.director().ipvsadm("-Ln").unwrap();
            let is_in =
                |n: usize| listing.contains(&format!("{}:{PORT} ", self.net.servers[n - 1].addr));
            let there: Vec<_> = [1, 2].into_iter().filter(|&n| is_in(n)).collect();
            (there == servers).then_some(())
        });
        assert!(done.is_ok(), "{servers:?} wanted:\n{listing}");
    }

    fn open(&mut self, n: usize) {
        let page = wait_until("the port to be free", PATIENCE, || {
            self.net.servers[n - 1].serve(PORT).ok()
        });
        self.pages[n - 1] = Some(page.unwrap());
    }
}

/// One request: when it began, and the page or nothing.
type Request = (Instant, Option<String>);

/// A request each ten milliseconds, whatever becomes of the others.
struct Clients {
    stop: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<Request>>>,
    thread: Option<JoinHandle<()>>,
}

impl Clients {
    fn start(netns: &Netns, service: SocketAddrV4) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (ended, told) = (Arc::clone(&stop), Arc::clone(&requests));
        let thread = netns.spawn(move || {
            let began = Instant::now();
            for n in 1u32.. {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let told = Arc::clone(&told);
                std::thread::spawn(move || {
                    let at = Instant::now();
                    let reply = http::get_with(service, "/", Duration::from_secs(5));
                    let page = reply.ok().map(|reply| reply.body);
                    told.lock().unwrap().push((at, page));
                });
                let due = began + Duration::from_millis(10) * n;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        Self {
            stop,
            requests,
            thread: Some(thread),
        }
    }

    /// Forgets what was; what comes in this time.
    fn during(&self, time: Duration) -> Vec<Request> {
        self.requests.lock().unwrap().clear();
        std::thread::sleep(time);
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

const PASSIVE: &str = "PASSIVE_CHECK {\n            hold 2\n            max_hold 2\n        }";

fn clients_take_a_dead_listener_out(method: Method, hook: Hook) {
    let mut site = Site::start(method, hook, PASSIVE, "");
    site.comes_to(&[1, 2]);
    let clients = Clients::start(&site.net.client, site.net.service(PORT));

    // While all is well nobody goes: by turns, each gets half.
    let requests = clients.during(Duration::from_secs(5));
    let of = |n: usize| {
        let page = http::page(&site.net.servers[n - 1].name, site.net.servers[n - 1].addr);
        requests
            .iter()
            .filter(|(_, p)| p.as_ref() == Some(&page))
            .count()
    };
    let (one, two) = (of(1), of(2));
    assert_eq!(one + two, requests.len(), "all are answered");
    assert!(one > 100 && one.abs_diff(two) <= 10, "{one} and {two}");

    let mut outs = Vec::new();
    while outs.len() < DEATHS && outs.iter().all(|&out| out > WANTED) {
        let died = Instant::now();
        site.pages[1] = None;
        // Who comes back after two seconds would fail again.
        let requests = clients.during(Duration::from_millis(1500));
        let failed = requests.iter().filter(|(_, page)| page.is_none());
        let last = failed.map(|(at, _)| *at).max().expect("it was asked");
        outs.push(last.saturating_duration_since(died));
        site.open(2);
        site.comes_to(&[1, 2]);
        // Until those that came too early are through.
        clients.during(Duration::from_secs(3));
        site.comes_to(&[1, 2]);
    }
    println!("{method:?} on {hook:?}: the last client it failed came {outs:?} after its death");
    assert!(outs.iter().any(|&out| out <= WANTED), "{outs:?}");
    site.director().stop().unwrap();
}

fn refused_by_a_server_behind_nat(hook: Hook) {
    clients_take_a_dead_listener_out(Method::Nat, hook);
}

/// Its resets go straight to the client: the director sees that handshakes end nowhere.
fn silence_of_a_server_by_direct_routing(hook: Hook) {
    clients_take_a_dead_listener_out(Method::DirectRouting, hook);
}

/// The real keepalived's half of a BFD session on a real server.
struct Neighbour {
    child: Child,
    directory: TempDir,
}

impl Neighbour {
    fn start(host: &Netns, own: Ipv4Addr, director: Ipv4Addr) -> Self {
        let directory = TempDir::new().unwrap();
        let file = |name: &str| directory.path().join(name);
        let text = format!(
            "bfd_instance peer {{\n neighbor_ip {director}\n source_ip {own}\n min_rx 50\n min_tx 50\n \
             idle_tx 200\n multiplier 3\n}}\n"
        );
        fs::write(file("conf"), text).unwrap();
        let mut command = host.command("keepalived");
        command.args(["--dont-fork", "--log-console", "--use-file"]);
        command.arg(file("conf"));
        for daemon in ["--pid", "--bfd_pid", "--checkers_pid", "--vrrp_pid"] {
            command.arg(daemon).arg(file(&daemon[2..]));
        }
        let log = fs::File::create(file("log")).unwrap();
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Self { child, directory }
    }

    /// Ends as by a loss of power: the session is not taken down, it falls silent.
    fn die(mut self) {
        let pid = self.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let mut kill = Command::new("kill");
        kill.arg("-9");
        kill.args(children.unwrap_or_default().split_whitespace());
        // Who went by itself meanwhile cannot be killed any more.
        kill.arg(pid.to_string())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").arg(pid).status();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.path().join("log"));
            println!("{}", log.unwrap_or_default());
        }
    }
}

/// No VRRP beside it, and the servers have no other check.
#[test]
fn servers_go_and_come_with_their_bfd_sessions() {
    const DIRECTOR: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 100);
    let session = |n: usize| {
        format!(
            "bfd_instance rs{n} {{\n    neighbor_ip RIP{n}\n    source_ip {DIRECTOR}\n    min_rx 50\n    \
             min_tx 50\n    idle_tx 200\n    multiplier 3\n}}\n"
        )
    };
    let sessions = session(1) + &session(2);
    let check = "BFD_CHECK {\n            name PEER\n        }";
    let site = Site::start(Method::Nat, Hook::Tc, check, &sessions);
    // A session that never was says nothing of its server.
    site.comes_to(&[1, 2]);
    let neighbour = |n: usize| {
        let Server { netns, addr, .. } = &site.net.servers[n - 1];
        Neighbour::start(netns, *addr, DIRECTOR)
    };
    let is_up = |n: usize| {
        let output = site
            .director()
            .command()
            .args(["status", "--json"])
            .output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        text.contains(&format!("BFD session rs{n} is up"))
    };
    let until_up = |n: usize| {
        wait_until(format!("session {n}"), PATIENCE, || is_up(n).then_some(())).unwrap();
    };
    let (one, two) = (neighbour(1), neighbour(2));
    until_up(1);
    until_up(2);
    let died = Instant::now();
    one.die();
    site.comes_to(&[2]);
    println!(
        "out {:?} after its BFD neighbour fell silent",
        died.elapsed()
    );
    let again = neighbour(1);
    site.comes_to(&[1, 2]);
    until_up(1);
    // A clean end takes the session down by a word.
    drop(two);
    site.comes_to(&[1]);
    drop(again);
    site.director().stop().unwrap();
}

/// How long a server must stay as it is to be said to: ten rounds of checks.
const STAYS: Duration = Duration::from_secs(4);

fn vip_of_a_server(site: &Site, n: usize, word: &str) {
    let change = format!("addr {word} {}/32 dev lo", site.net.vip);
    site.net.servers[n - 1].netns.ip(&change).unwrap();
}

/// The server's port is open at its own address, but clients come for the VIP.
fn a_server_without_its_vip_is_found_out(hook: Hook) {
    let blind = Site::start(Method::DirectRouting, hook, "TCP_CHECK { }", "");
    blind.comes_to(&[1, 2]);
    vip_of_a_server(&blind, 2, "del");
    std::thread::sleep(STAYS);
    blind.comes_to(&[1, 2]);
    drop(blind);

    let check = "TCP_CHECK {\n            true_path\n            connect_timeout 0.5\n        }";
    let mut site = Site::start(Method::DirectRouting, hook, check, "");
    site.comes_to(&[1, 2]);
    vip_of_a_server(&site, 2, "del");
    site.comes_to(&[1]);
    // It is looked after while the service does not have it.
    vip_of_a_server(&site, 2, "add");
    site.comes_to(&[1, 2]);

    // Nor does it matter who has the VIP: the other director's pool is not to be empty when it takes over.
    let own = format!("addr del {}/32 dev lo", site.net.vip);
    site.net.director.ip(&own).unwrap();
    vip_of_a_server(&site, 1, "del");
    site.comes_to(&[2]);
    vip_of_a_server(&site, 1, "add");
    site.comes_to(&[1, 2]);
    site.pages[1] = None;
    site.comes_to(&[1]);
    site.director().stop().unwrap();
    assert_eq!(site.director().traces().unwrap(), [""; 0]);
}

/// What goes to the VIP with the mark of a server comes to that server and no other, by NAT and by a tunnel, and
/// clients' counts do not show it.
fn probes_come_to_their_own_server(hook: Hook) {
    let check = "HTTP_GET {\n            true_path\n            url {\n                path /\n                \
                 regex PEER\n            }\n        }";
    for method in [Method::Nat, Method::Tunnel] {
        let mut site = Site::start(method, hook, check, "");
        if method == Method::Tunnel {
            for server in &site.net.servers {
                let up = format!("realserver up --mode tun --mss 0 --vip {}", site.net.vip);
                let words: Vec<_> = up.split(' ').collect();
                Director::new(PROGRAM, &server.netns).run(&words).unwrap();
            }
        }
        site.comes_to(&[1, 2]);
        std::thread::sleep(STAYS);
        site.comes_to(&[1, 2]);
        let served = |n: usize| site.pages[n].as_ref().unwrap().served();
        assert!(served(0) > 5 && served(1) > 5, "they are asked");
        let listing = site.director().ipvsadm("-Ln --stats").unwrap();
        let counted = Stage::column(&listing, &site.net.service(PORT).to_string(), 2);
        assert_eq!(counted, 0, "{listing}");
        site.pages[0] = None;
        site.comes_to(&[2]);
        site.open(1);
        site.comes_to(&[1, 2]);
    }
}

crate::on_both_hooks!(
    a_server_without_its_vip_is_found_out,
    probes_come_to_their_own_server,
    refused_by_a_server_behind_nat,
    silence_of_a_server_by_direct_routing,
);
