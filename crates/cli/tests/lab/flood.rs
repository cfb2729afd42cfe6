//! A flood of SYNs from ever new sources against a table it fills: connections that stand lose nothing, new
//! ones come through, and what is refused is counted.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pointsman_testkit::frames::{Ethernet, IPV4, Mac, SYN, tcp};
use pointsman_testkit::load::Load;
use pointsman_testkit::{Blast, Director, Hook, Method, Netns, Plan, Topology};
use serde_json::Value;

use crate::common::{PORT, PROGRAM, Stage};

/// SYNs, each from an address of its own.
const SYNS: u32 = 1_000_000;
/// SYNs that are sent at once.
const BATCH: u32 = 64;
const _: () = assert!(SYNS.is_multiple_of(BATCH));
/// Slots of the director's table: a fraction of that.
const SLOTS: &str = "65536";
/// Connections that stand before it begins.
const STANDING: usize = 100;
/// Port they stand on.
const ECHO: u16 = 7;
/// As fast as they come, but not faster than two processors carry beside everything else.
const PACE: u32 = 200_000;

// What makes room is the same at both hooks: each is flooded once.

#[test]
fn nat_on_tc() {
    holds(Method::Nat, Hook::Tc);
}

#[test]
fn direct_routing_on_native_xdp() {
    holds(Method::DirectRouting, Hook::Xdp);
}

fn holds(method: Method, hook: Hook) {
    let stage = stage(method, hook);
    stage.balance("rr");
    let service = stage.net.service(ECHO);
    let flag = stage.flag;
    stage.ipvsadm(&format!("-A -t {service} -s rr"));
    let mut echoes = Vec::new();
    for server in &stage.net.servers {
        echoes.push(echo(&server.netns, STANDING / stage.net.servers.len()));
        stage.ipvsadm(&format!("-a -t {service} -r {}:{ECHO} {flag}", server.addr));
    }
    // Also tells the client who its gateway is.
    stage.ask(2);
    let mut standing = Standing::open(&stage.net.client, service);
    standing.speak();

    // Nothing that TCP had to send again counts as answered.
    let load = Load::start_paced(
        &stage.net.client,
        stage.service(),
        4,
        Duration::from_millis(900),
        Duration::from_millis(5),
    );
    let flood = flood(&stage.net.client, stage.service());
    while !flood.is_finished() {
        standing.speak();
    }
    flood.join().unwrap();
    let seen = load.stop();
    standing.speak();
    drop(standing);
    for echo in echoes {
        echo.join().unwrap();
    }

    let (answered, failed) = (seen.answered(), seen.failures.len() as u64);
    let drops = stage.director().status().unwrap()["drops"].take();
    assert!(answered > 300, "{answered} answered; {drops}");
    assert!(
        failed * 100 <= answered,
        "{failed} failed, {answered} answered: {:?}; {drops}",
        seen.failures.first()
    );
    // Those of clients besides; by direct routing some stand when their port comes again.
    let (opened, refused) = (opened(&stage), refused(&drops));
    // Nothing of connections that stand: all that was dropped are SYNs.
    let all = drops.as_array().unwrap().len();
    assert!(all <= usize::from(refused > 0), "{drops}");
    assert!(
        opened + refused >= u64::from(SYNS),
        "{opened} opened, {refused} refused; {drops}"
    );
}

/// Everything, with a director whose table is small.
fn stage(method: Method, hook: Hook) -> Stage {
    let net = Topology::build(&Plan::test(method, hook == Hook::Xdp)).unwrap();
    // The servers' own TCP is not what is flooded.
    for server in &net.servers {
        let drop = "-t raw -A PREROUTING -s 10.0.0.0/8 -j DROP";
        let words: Vec<&str> = drop.split(' ').collect();
        server.netns.exec("iptables", &words).unwrap();
    }
    let start = ["director", "start", "--connections", SLOTS, "--hook"];
    let director = Director::new(PROGRAM, &net.director);
    director
        .run(&[&start[..], &[hook.word()]].concat())
        .unwrap();
    Stage {
        pages: net.serve(PORT).unwrap(),
        net,
        method,
        flag: if method == Method::Nat { "-m" } else { "-g" },
        local: None,
    }
}

/// Sends back what comes over so many connections, until all are closed.
fn echo(netns: &Netns, connections: usize) -> JoinHandle<()> {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, ECHO));
    let listener = netns.run(|| TcpListener::bind(any).unwrap());
    let speak = |mut stream: TcpStream| {
        let mut message = [0; 8];
        while stream.read_exact(&mut message).is_ok() {
            stream.write_all(&message).unwrap();
        }
    };
    thread::spawn(move || {
        let taken = listener.incoming().take(connections);
        let each: Vec<_> = taken
            .map(|stream| thread::spawn(move || speak(stream.unwrap())))
            .collect();
        each.into_iter().for_each(|one| one.join().unwrap());
    })
}

/// Connections that stand.
struct Standing {
    streams: Vec<TcpStream>,
    said: u64,
}

impl Standing {
    fn open(client: &Netns, service: SocketAddrV4) -> Self {
        let connect = |_| {
            let stream = TcpStream::connect(service).unwrap();
            let patience = Some(Duration::from_secs(5));
            stream.set_read_timeout(patience).unwrap();
            stream
        };
        let streams = client.run(|| (0..STANDING).map(connect).collect());
        Self { streams, said: 0 }
    }

    /// Says something on each, and has it back.
    #[track_caller]
    fn speak(&mut self) {
        for stream in &mut self.streams {
            self.said += 1;
            stream.write_all(&self.said.to_be_bytes()).unwrap();
        }
        let first = self.said - self.streams.len() as u64 + 1;
        for (said, stream) in (first..).zip(&mut self.streams) {
            let mut heard = [0; 8];
            stream.read_exact(&mut heard).unwrap();
            assert_eq!(u64::from_be_bytes(heard), said);
        }
    }
}

fn flood(client: &Netns, service: SocketAddrV4) -> JoinHandle<()> {
    let neighbours = client.ip("neigh show dev eth0").unwrap();
    let gateway = neighbours
        .split_whitespace()
        .skip_while(|word| *word != "lladdr");
    let gateway: Vec<u8> = gateway
        .skip(1)
        .flat_map(|mac| mac.split(':'))
        .take(6)
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    let ethernet = Ethernet {
        destination: Mac::try_from(gateway).unwrap(),
        source: client.mac("eth0").unwrap(),
        vlan: None,
    };
    let syn = move |n| {
        let source = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 1)) + n);
        let to = (*service.ip(), service.port());
        ethernet.frame(IPV4, &tcp((source, 1024), to, SYN, n))
    };
    let blast = Blast::open(client, "eth0").unwrap();
    let begin = Instant::now();
    thread::spawn(move || {
        for first in (0..SYNS).step_by(BATCH as usize) {
            let batch: Vec<_> = (first..first + BATCH).map(syn).collect();
            blast.send(&batch).unwrap();
            let due = begin + Duration::from_secs(1) * first / PACE;
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    })
}

/// Connections that the service opened.
fn opened(stage: &Stage) -> u64 {
    let service = stage.service().to_string();
    let listing = || stage.ipvsadm("-Ln --stats --exact");
    // At the next estimation.
    thread::sleep(Duration::from_millis(2500));
    Stage::column(&listing(), &service, 2)
}

/// SYNs that found no place.
fn refused(drops: &Value) -> u64 {
    let drops = drops.as_array().unwrap().iter();
    let full = drops.filter(|drop| drop["name"] == "table-full");
    full.map(|drop| drop["packets"].as_u64().unwrap()).sum()
}
