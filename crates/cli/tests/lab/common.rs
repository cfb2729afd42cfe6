//! A stage with everything running, and the scenarios every forwarding method must master.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;
use std::time::Duration;

use pointsman_testkit::load::Load;
use pointsman_testkit::udp::EchoClient;
use pointsman_testkit::{
    Director, EchoServer, Hook, Method, Netns, PageServer, Plan, Server, Topology, blob, http,
    wait_until,
};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");
/// Port of virtual services.
pub const PORT: u16 = 80;
/// Port of the UDP echo.
pub const ECHO: u16 = 5000;

const MIB: u64 = 1 << 20;

/// A network whose servers serve and whose director runs, without any service.
pub struct Stage {
    /// Page servers of `net.servers`; before `net`, so that they end first.
    pub pages: Vec<PageServer>,
    /// The network.
    pub net: Topology,
    /// How packets reach the servers.
    pub method: Method,
    /// ipvsadm's options of the forwarding method.
    pub flag: &'static str,
    /// Local address of every service, for FULLNAT.
    pub local: Option<&'static str>,
}

impl Stage {
    /// Sets it up; the director's programs must run where `hook` says.
    pub fn new(method: Method, hook: Hook) -> Self {
        let net = Topology::build(&Plan::test(method, hook == Hook::Xdp)).unwrap();
        let pages = net.serve(PORT).unwrap();
        let flag = match method {
            Method::Nat => "-m",
            Method::DirectRouting => "-g",
            Method::Tunnel => "-i",
        };
        let stage = Self {
            pages,
            net,
            method,
            flag,
            local: None,
        };
        if method == Method::Tunnel {
            for server in &stage.net.servers {
                stage.pointsman(
                    &server.netns,
                    &format!("realserver up --mode tun --mss 0 --vip {}", stage.net.vip),
                );
            }
        }
        let director = Director::start(PROGRAM, &stage.net.director, hook).unwrap();
        let status = director.status().unwrap();
        let interfaces = status["interfaces"].as_array().unwrap();
        let eth0 = interfaces
            .iter()
            .find(|interface| interface["name"] == "eth0")
            .unwrap();
        assert_eq!(eth0["hook"], hook.in_status(), "{}", eth0["reason"]);
        stage
    }

    /// The director.
    pub fn director(&self) -> Director<'_> {
        Director::new(PROGRAM, &self.net.director)
    }

    /// Runs the program in a namespace.
    pub fn pointsman(&self, netns: &Netns, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        Director::new(PROGRAM, netns).run(&words).unwrap()
    }

    /// Runs `ipvsadm` on the director.
    #[track_caller]
    pub fn ipvsadm(&self, line: &str) -> String {
        self.director().ipvsadm(line).unwrap()
    }

    /// VIP and port of the TCP service.
    pub fn service(&self) -> SocketAddrV4 {
        self.net.service(PORT)
    }

    /// A TCP service with every real server, weight 1.
    #[track_caller]
    pub fn balance(&self, scheduler: &str) {
        let (service, flag) = (self.service(), self.flag);
        self.ipvsadm(&format!("-A -t {service} -s {scheduler}"));
        self.lend(&format!("-t {service}"));
        for server in &self.net.servers {
            self.ipvsadm(&format!("-a -t {service} -r {}:{PORT} {flag}", server.addr));
        }
    }

    /// Gives a service the local address, if there is one.
    #[track_caller]
    fn lend(&self, service: &str) {
        if let Some(local) = self.local {
            self.ipvsadm(&format!("-P {service} -z {local}"));
        }
    }

    /// The page of real server `n`, counted from 1.
    pub fn page(&self, n: usize) -> String {
        let Server { name, addr, .. } = &self.net.servers[n - 1];
        http::page(name, *addr)
    }

    /// What the client sees in `count` requests, one after the other.
    #[track_caller]
    pub fn ask(&self, count: usize) -> Vec<String> {
        let service = self.service();
        self.net.client.run(|| {
            let one = |n| match http::get(service, "/") {
                Ok(reply) => reply.body,
                Err(error) => panic!("request {} of {count}: {error}", n + 1),
            };
            (0..count).map(one).collect()
        })
    }

    /// The listing of totals, once the service shows so many connections: at the next estimation.
    #[track_caller]
    pub fn stats(&self, connections: u64) -> String {
        self.stats_of(self.service(), 2, connections)
    }

    /// The same for a number in a column of another service.
    #[track_caller]
    pub fn stats_of(&self, service: SocketAddrV4, index: usize, number: u64) -> String {
        let service = service.to_string();
        let listing = || self.ipvsadm("-Ln --stats");
        wait_until("totals", Duration::from_secs(5), || {
            let listing = listing();
            (Self::column(&listing, &service, index) == number).then_some(listing)
        })
        .unwrap_or_else(|error| panic!("{error}, {number} wanted:\n{}", listing()))
    }

    /// Number in column `index` of the line of `listing` whose second word is `name`.
    #[track_caller]
    pub fn column(listing: &str, name: &str, index: usize) -> u64 {
        let words = listing
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let line = words.into_iter().find(|words| words.get(1) == Some(&name));
        let word = line.and_then(|words| words.get(index).copied());
        word.and_then(|word| word.parse().ok())
            .unwrap_or_else(|| panic!("{name} in:\n{listing}"))
    }
}

/// Standard output of a client's command, which must succeed, as text.
#[track_caller]
pub fn client(stage: &Stage, program: &str, arguments: &[&str]) -> String {
    String::from_utf8_lossy(&client_bytes(stage, program, arguments)).into_owned()
}

/// Standard output of a client's command, which must succeed.
#[track_caller]
pub fn client_bytes(stage: &Stage, program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = stage
        .net
        .client
        .command(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {} {}\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        stage.ipvsadm("-Lnc"),
        stage.pointsman(&stage.net.director, "director status"),
    );
    output.stdout
}

/// Waits until somebody in a namespace has a UDP port. Not by binding it: that could be in the other's way.
pub fn until_bound(netns: &Netns, port: u16) {
    let local = format!(":{port:04X} ");
    wait_until("a bound UDP port", Duration::from_secs(20), || {
        let sockets = netns.run(|| fs::read_to_string("/proc/thread-self/net/udp").unwrap());
        sockets.contains(&local).then_some(())
    })
    .unwrap();
}

/// 500 requests go to the servers in turn, the newest first; server and director count the same.
pub fn rr_spreads_exactly(stage: &Stage) {
    stage.balance("rr");
    let pages = stage.ask(500);
    for (n, page) in pages.iter().enumerate() {
        assert_eq!(
            *page,
            stage.page(if n % 2 == 0 { 2 } else { 1 }),
            "request {n}"
        );
    }
    for server in &stage.pages {
        assert_eq!(server.served(), 250);
    }
    let stats = stage.stats(500);
    for server in &stage.net.servers {
        assert_eq!(
            Stage::column(&stats, &format!("{}:{PORT}", server.addr), 2),
            250
        );
    }
    let entries = stage.ipvsadm("-Lnc");
    assert_eq!(
        entries
            .lines()
            .filter(|line| line.starts_with("TCP"))
            .count(),
        500
    );
}

/// 64 MiB down and up again arrive whole.
pub fn big_transfers_arrive_whole(stage: &Stage) {
    stage.balance("rr");
    let service = stage.service();
    let expected = (64 * MIB, blob::sum_of(64 * MIB));
    let down = stage
        .net
        .client
        .run(|| http::download(service, 64 * MIB))
        .unwrap();
    assert_eq!(down, expected, "download");
    let up = stage
        .net
        .client
        .run(|| http::upload(service, 64 * MIB))
        .unwrap();
    assert_eq!(up, expected, "upload");
}

/// 1,000 datagrams of ten clients come back, all of a client's from one server.
pub fn datagrams_are_echoed(stage: &Stage) {
    let service = stage.net.service(ECHO);
    stage.ipvsadm(&format!("-A -u {service} -s rr"));
    stage.lend(&format!("-u {service}"));
    let mut echoes = Vec::new();
    for server in &stage.net.servers {
        let listen = if stage.method == Method::Nat {
            server.addr
        } else {
            stage.net.vip
        };
        let echo = EchoServer::start(&server.netns, &server.name, server.addr, listen, ECHO);
        echoes.push(echo.unwrap());
        stage.ipvsadm(&format!(
            "-a -u {service} -r {}:{ECHO} {}",
            server.addr, stage.flag
        ));
    }
    let mut clients_of = BTreeMap::<String, u32>::new();
    stage.net.client.run(|| {
        for client in 0..10 {
            let socket = EchoClient::connect(service).unwrap();
            let mut names = Vec::new();
            for n in 0..100 {
                let text = format!("{client}.{n} {}", "x".repeat(n * 14));
                let (name, echo) = socket.ask(&text).unwrap();
                assert_eq!(echo, text);
                names.push(name);
            }
            names.dedup();
            assert_eq!(names.len(), 1, "client {client} was sent around: {names:?}");
            *clients_of.entry(names.remove(0)).or_default() += 1;
        }
    });
    assert_eq!(clients_of.into_values().collect::<Vec<_>>(), [5, 5]);
    for echo in &echoes {
        assert_eq!(echo.served(), 500);
    }
}

/// A client on the director itself reaches the VIP, from whatever address the kernel chooses (on
/// `lo` that is the VIP itself) and from the director's own.
pub fn a_client_on_the_director_is_served(stage: &Stage) {
    stage.balance("rr");
    let service = stage.service();
    let own = if stage.method == Method::Nat {
        Ipv4Addr::new(192, 168, 0, 100)
    } else {
        Ipv4Addr::new(192, 168, 0, 200)
    };
    let get = |n: usize| {
        if n < 20 {
            http::get(service, "/")
        } else {
            http::get_from(own, service, "/")
        }
    };
    stage.net.director.run(|| {
        for n in 0..40 {
            let page = get(n)
                .unwrap_or_else(|error| panic!("request {n}: {error}"))
                .body;
            assert_eq!(
                page,
                stage.page(if n % 2 == 0 { 2 } else { 1 }),
                "request {n}"
            );
        }
        // More than a segment, both ways, through whatever offloads lo has.
        let expected = (4 * MIB, blob::sum_of(4 * MIB));
        assert_eq!(http::download(service, 4 * MIB).unwrap(), expected);
        assert_eq!(http::upload(service, 4 * MIB).unwrap(), expected);
    });
}

/// Eight clients at once, 4,000 requests, and wrk where it is installed: no error.
pub fn parallel_load_has_no_errors(stage: &Stage) {
    stage.balance("rr");
    let load = Load::start(
        &stage.net.client,
        stage.service(),
        8,
        Duration::from_millis(900),
    );
    load.wait_for(4000, Duration::from_secs(60)).unwrap();
    let outcome = load.stop();
    assert_eq!(outcome.failures, Vec::<String>::new());
    let shares: Vec<u64> = outcome.pages.values().copied().collect();
    assert_eq!(shares.len(), 2, "{:?}", outcome.pages);
    // Not exact: a port used again while its connection still closes keeps its server.
    let fair = shares[0].abs_diff(shares[1]) <= outcome.answered() / 20;
    assert!(fair, "rr under load: {:?}", outcome.pages);
    wrk(stage);
}

fn wrk(stage: &Stage) {
    if Command::new("wrk").arg("--version").output().is_err() {
        println!("wrk is not installed");
        return;
    }
    let url = format!("http://{}/", stage.service());
    let mut wrk = stage.net.client.command("wrk");
    let output = wrk.args(["-t2", "-c16", "-d2s", &url]).output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    println!("{report}");
    assert!(output.status.success(), "{report}");
    assert!(!report.contains("Socket errors"), "{report}");
    assert!(!report.contains("Non-2xx"), "{report}");
}
