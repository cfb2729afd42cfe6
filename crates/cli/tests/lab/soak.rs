//! A director whose servers flap without end: it misses nothing and keeps nothing.
//!
//! Half a minute among the other tests; `cargo xtask soak` makes it an hour.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use pointsman_testkit::{
    Behaviour, Director, Method, MisbehavingServer, Plan, Topology, http, wait_until,
};
use tempfile::TempDir;

use crate::common::PROGRAM;

/// How long servers flap, in seconds.
const SECONDS: &str = "POINTSMAN_SOAK_SECONDS";
/// Port of metrics, in the director's namespace.
const METRICS: u16 = 9911;
/// Servers of each kind.
const SERVERS: u16 = 10;
/// Between two probes of a check.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a probe may take.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The longest from one probe's end to the next one's, and as much again for a busy machine and for us, who look once
/// a second.
const LONGEST_GAP: Duration = INTERVAL.saturating_add(TIMEOUT).saturating_mul(2);
/// A server stays as it is for so long at least, which is enough for its check to see it on a busy machine.
const HOLD: Duration = Duration::from_secs(6);
const PATIENCE: Duration = Duration::from_secs(60);

const HTTP_FINE: Behaviour = Behaviour::Answers {
    greets: false,
    with: &[b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nok\n"],
};
const HTTP_BROKEN: Behaviour = Behaviour::Answers {
    greets: false,
    with: &[b"HTTP/1.0 500 Broken\r\nContent-Length: 0\r\n\r\n"],
};
const SMTP_FINE: Behaviour = Behaviour::Answers {
    greets: true,
    with: &[b"220 mail\r\n", b"250 mail\r\n", b"221 bye\r\n"],
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Http,
    Smtp,
    Script,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Tcp, Self::Http, Self::Smtp, Self::Script];

    fn checker(self) -> &'static str {
        match self {
            Self::Tcp => "TCP_CHECK",
            Self::Http => "HTTP_GET",
            Self::Smtp => "SMTP_CHECK",
            Self::Script => "MISC_CHECK",
        }
    }

    fn fine(self) -> Behaviour {
        match self {
            Self::Tcp | Self::Script => Behaviour::Silent,
            Self::Http => HTTP_FINE,
            Self::Smtp => SMTP_FINE,
        }
    }

    /// Ways to be broken that a probe sees at its first timeout at the latest. (One that goes on saying something is heard
    /// for ten of them, as long as this test lets a server be.)
    fn faults(self) -> &'static [Behaviour] {
        use Behaviour::{Garbage, HalfClosed, Refused, Reset, Silent};
        match self {
            Self::Tcp | Self::Script => &[Refused],
            Self::Http => &[HTTP_BROKEN, Refused, Silent, Reset, Garbage, HalfClosed],
            Self::Smtp => &[Refused, Silent, Reset, Garbage, HalfClosed],
        }
    }
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// A real server that is fine and broken in turn.
struct Flapper {
    kind: Kind,
    port: u16,
    serving: Option<MisbehavingServer>,
    broken: bool,
    next: Instant,
    /// Times it broke in this round.
    faults: usize,
    /// What was told of it before this round: down, up.
    told_before: (usize, usize),
}

impl Flapper {
    /// Turns round, and stays so for a while.
    fn flip(&mut self, site: &Site, dice: &mut Dice) {
        self.broken = !self.broken;
        self.faults += usize::from(self.broken);
        self.next = Instant::now() + HOLD + Duration::from_millis(dice.below(8000));
        let faults = self.kind.faults();
        let behaviour = match self.broken {
            true => faults[dice.below(faults.len() as u64) as usize],
            false => self.kind.fine(),
        };
        if self.kind == Kind::Script {
            // A script that hangs has a child that hangs too.
            let state = ["exit 0", "exit 1", "sleep 1000 & wait", "exec sleep 1000"];
            let broken = 1 + dice.below(3) as usize;
            site.write_state(self.port, state[if self.broken { broken } else { 0 }]);
            return;
        }
        self.serving = None;
        let host = &site.net.servers[0].netns;
        let serving = wait_until("the port to be free", PATIENCE, || {
            MisbehavingServer::start(host, self.port, behaviour).ok()
        });
        self.serving = Some(serving.unwrap());
    }
}

/// What the director holds.
#[derive(Debug, Clone, Copy)]
struct Holding {
    resident_kib: u64,
    descriptors: usize,
    threads: usize,
}

/// Probes of each check, and when they were first seen to be so many.
#[derive(Default)]
struct Watch {
    checks: BTreeMap<String, (u64, Instant)>,
    probes: u64,
    longest: Duration,
    stood_still: usize,
    /// Times that the director gave no metrics within five seconds.
    unanswered: u64,
}

impl Watch {
    fn look(&mut self, metrics: &str) {
        let now = Instant::now();
        for (check, probes) in series(metrics, "pointsman_check_probes_total") {
            let (seen, since) = self.checks.entry(check.to_owned()).or_insert((probes, now));
            if probes != *seen {
                self.probes += probes.saturating_sub(*seen);
                (*seen, *since) = (probes, now);
            }
            // For so long at least; between two looks that see different counts it is not known.
            let still = now.duration_since(*since);
            self.stood_still += usize::from(still > LONGEST_GAP);
            self.longest = self.longest.max(still);
        }
    }
}

struct Site {
    net: Topology,
    directory: TempDir,
}

impl Site {
    fn start() -> Self {
        let site = Self {
            net: Topology::build(&Plan::test(Method::Nat, false)).unwrap(),
            directory: TempDir::new().unwrap(),
        };
        let place = site.directory.path().display();
        site.write_script(
            "check",
            &format!("#!/bin/sh\nread -r what <{place}/$1\neval \"$what\"\n"),
        );
        site.write_script(
            "notify",
            &format!("#!/bin/sh\necho \"$1 $2\" >>{place}/told\n"),
        );
        site.write_config(&[], false);
        let (file, metrics) = (site.path("conf"), format!("127.0.0.1:{METRICS}"));
        let file = file.display().to_string();
        let words = ["director", "start", "--hook", "tc", "--config", &file];
        let words = [&words[..], &["--metrics", &metrics]].concat();
        site.director().run(&words).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write_script(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Whole or not at all: a check script may be reading.
    fn write_state(&self, port: u16, state: &str) {
        let new = self.path("new-state");
        fs::write(&new, format!("{state}\n")).unwrap();
        fs::rename(new, self.path(&port.to_string())).unwrap();
    }

    /// Virtual servers of these kinds, and perhaps one more, of a server that is never there.
    fn write_config(&self, kinds: &[Kind], one_more: bool) {
        let (vip, rip) = (self.net.vip, self.net.servers[0].addr);
        let place = self.directory.path().display();
        let mut text = "global_defs {\n    script_user root\n}\n".to_owned();
        let mut service = |number: u16, servers: &str| {
            text.push_str(&format!(
                "virtual_server {vip} {number} {{
    delay_loop {}
    warmup 1
    retry 1
    delay_before_retry 0.3
    connect_timeout {}
    lb_algo wlc
    lb_kind NAT
    protocol TCP
{servers}}}
",
                INTERVAL.as_secs(),
                TIMEOUT.as_secs()
            ));
        };
        for (number, &kind) in (80..).zip(kinds) {
            let mut servers = String::new();
            for port in ports(kind) {
                let checker = kind.checker();
                let inside = match kind {
                    Kind::Tcp | Kind::Smtp => String::new(),
                    Kind::Http => "url {\n path /\n status_code 200\n }\n".into(),
                    Kind::Script => {
                        let seconds = TIMEOUT.as_secs();
                        format!("misc_path \"{place}/check {port}\"\n misc_timeout {seconds}\n")
                    }
                };
                servers.push_str(&format!(
                    "real_server {rip} {port} {{
    notify_up \"{place}/notify up {port}\"
    notify_down \"{place}/notify down {port}\"
    {checker} {{
        {inside}
    }}
}}
"
                ));
            }
            service(number, &servers);
        }
        if one_more {
            service(
                99,
                &format!("real_server {rip} 9 {{\n TCP_CHECK {{\n }}\n}}\n"),
            );
        }
        fs::write(self.path("conf"), text).unwrap();
    }

    fn reload(&self, kinds: &[Kind], one_more: bool) {
        self.write_config(kinds, one_more);
        self.director().run(&["reload"]).unwrap();
    }

    fn director(&self) -> Director<'_> {
        Director::new(PROGRAM, &self.net.director)
    }

    fn scrape(&self) -> Option<String> {
        let target = SocketAddrV4::new(Ipv4Addr::LOCALHOST, METRICS);
        let scraped = self.net.director.run(|| http::get(target, "/metrics"));
        Some(scraped.ok()?.body)
    }

    fn metrics(&self) -> String {
        wait_until("metrics", PATIENCE, || self.scrape()).unwrap()
    }

    /// What a server's notify scripts said of it in this round: times down, times up.
    fn told_now(&self, flapper: &Flapper) -> (usize, usize) {
        let (down, up) = self.told(flapper.port);
        let before = flapper.told_before;
        (down - before.0, up - before.1)
    }

    /// What they ever said.
    fn told(&self, port: u16) -> (usize, usize) {
        let told = fs::read_to_string(self.path("told")).unwrap_or_default();
        let count = |word| {
            let line = format!("{word} {port}");
            told.lines().filter(|told| *told == line).count()
        };
        (count("down"), count("up"))
    }

    fn holding(&self, pid: u32) -> Holding {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.unwrap().split_whitespace().next().unwrap();
            number.parse::<u64>().unwrap()
        };
        Holding {
            resident_kib: field("VmRSS:"),
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
            threads: field("Threads:") as usize,
        }
    }

    /// With nothing left to check, the director is the only process; then what it holds.
    fn alone(&self, pid: u32) -> Holding {
        self.reload(&[], false);
        let mut last = Vec::new();
        let alone = wait_until("the director to be alone", PATIENCE, || {
            last = self.net.director.pids();
            last.extend(children(pid));
            last.retain(|&other| other != pid);
            last.is_empty().then_some(())
        });
        assert!(alone.is_ok(), "left behind: {last:?}");
        // Threads that wait for work to block on go after ten seconds.
        std::thread::sleep(Duration::from_secs(11));
        self.holding(pid)
    }

    /// Every server is made well, and the director has noticed everything that ever happened.
    fn calm(&self, flappers: &mut [Flapper], dice: &mut Dice) {
        for flapper in flappers.iter_mut().filter(|flapper| flapper.broken) {
            // Not before it was seen.
            let seen = wait_until("a fault to be seen", PATIENCE, || {
                (self.told_now(flapper).0 >= flapper.faults).then_some(())
            });
            assert!(seen.is_ok(), "{} is broken unnoticed", flapper.port);
            flapper.flip(self, dice);
        }
        let mut told = Vec::new();
        let noticed = wait_until("every server up", PATIENCE, || {
            told = flappers
                .iter()
                .map(|flapper| (flapper.port, flapper.faults, self.told_now(flapper)))
                .filter(|&(_, faults, told)| told != (faults, faults))
                .collect();
            let metrics = self.metrics();
            let mut up = series(&metrics, "pointsman_real_server_up");
            (told.is_empty() && up.all(|(_, up)| up == 1)).then_some(())
        });
        assert!(
            noticed.is_ok(),
            "port, times broken, (told down, up): {told:?}"
        );
    }
}

/// Samples of a metric: labels and value.
fn series<'a>(metrics: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
    metrics.lines().filter_map(move |line| {
        let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
        Some((labels, value.parse().ok()?))
    })
}

fn ports(kind: Kind) -> impl Iterator<Item = u16> {
    let first = 2000 + 100 * kind as u16;
    first..first + SERVERS
}

/// Children of a process, those that ended unreaped too.
fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| {
            text.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Processor time of a process, without its children's.
fn processor_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat
        .rsplit(") ")
        .next()
        .unwrap()
        .split(' ')
        .skip(11)
        .take(2);
    let ticks: u64 = fields.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10 * ticks)
}

/// Servers flap for so long; what was seen of the checks.
fn flap(
    site: &Site,
    flappers: &mut [Flapper],
    dice: &mut Dice,
    pid: u32,
    length: Duration,
) -> Watch {
    for flapper in flappers.iter_mut() {
        flapper.faults = 0;
        // A server that leaves the configuration is told to be down.
        flapper.told_before = site.told(flapper.port);
    }
    site.reload(&Kind::ALL, false);
    let begun = Instant::now();
    let (mut watch, mut one_more, mut seconds) = (Watch::default(), false, 0);
    while begun.elapsed() < length {
        for flapper in flappers.iter_mut() {
            if flapper.next <= Instant::now() {
                flapper.flip(site, dice);
            }
        }
        if begun.elapsed().as_secs() > seconds {
            seconds = begun.elapsed().as_secs();
            match site.scrape() {
                Some(metrics) => watch.look(&metrics),
                None => watch.unanswered += 1,
            }
            if seconds % 20 == 10 {
                one_more = !one_more;
                site.reload(&Kind::ALL, one_more);
            }
            if seconds % 60 == 0 {
                let faults: usize = flappers.iter().map(|flapper| flapper.faults).sum();
                let (probes, holding) = (watch.probes, site.holding(pid));
                println!(
                    "{seconds:5} s: {faults} faults, {probes} probes, {holding:?}, {} children",
                    children(pid).len()
                );
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    site.reload(&Kind::ALL, false);
    site.calm(flappers, dice);
    watch
}

#[test]
fn servers_that_flap_for_long_are_seen_each_time_and_cost_nothing() {
    let length = std::env::var(SECONDS).map_or(30, |seconds| seconds.parse().unwrap());
    let length = Duration::from_secs(length);
    let site = Site::start();
    let pid = site.director().pid().unwrap();
    let mut dice = Dice(0x5eed);
    let mut flappers: Vec<_> = Kind::ALL
        .into_iter()
        .flat_map(|kind| ports(kind).map(move |port| (kind, port)))
        .map(|(kind, port)| Flapper {
            kind,
            port,
            serving: None,
            // The first flip makes it well.
            broken: true,
            next: Instant::now(),
            faults: 0,
            told_before: (0, 0),
        })
        .collect();
    for flapper in &mut flappers {
        flapper.flip(&site, &mut dice);
    }

    let warm_up = (length / 10).clamp(Duration::from_secs(10), Duration::from_secs(120));
    flap(&site, &mut flappers, &mut dice, pid, warm_up);
    let before = site.alone(pid);
    let late = |metrics: &str| -> u64 {
        let mut late = series(metrics, "pointsman_late_probes_total");
        late.next().unwrap().1
    };
    let (late_before, time) = (late(&site.metrics()), processor_time(pid));
    let watch = flap(&site, &mut flappers, &mut dice, pid, length);
    let metrics = site.metrics();
    let late = late(&metrics) - late_before;
    let time = processor_time(pid) - time;
    let after = site.alone(pid);
    println!(
        "{length:?}: {} faults, each seen; {} probes, {late} of them late by more than 5 %, longest gap {:?}, \
         {} gaps above {LONGEST_GAP:?}, {} scrapes unanswered; {:.3} of a core\n{before:?}\n{after:?}",
        flappers.iter().map(|flapper| flapper.faults).sum::<usize>(),
        watch.probes,
        watch.longest,
        watch.stood_still,
        watch.unanswered,
        time.as_secs_f64() / length.as_secs_f64(),
    );

    assert_eq!(site.director().pid().unwrap(), pid, "it ended meanwhile");
    assert_eq!(watch.checks.len(), flappers.len() + 1);
    assert_eq!(watch.stood_still, 0, "longest gap {:?}", watch.longest);
    assert!(
        watch.unanswered <= length.as_secs() / 20,
        "{} scrapes",
        watch.unanswered
    );
    for name in [
        "pointsman_lost_notifications_total",
        "pointsman_checker_restarts_total",
    ] {
        assert!(
            series(&metrics, name).all(|(_, lost)| lost == 0),
            "{metrics}"
        );
    }
    assert!(
        after.descriptors <= before.descriptors,
        "{before:?} {after:?}"
    );
    assert!(after.threads <= before.threads, "{before:?} {after:?}");
    let allowed = before.resident_kib + before.resident_kib / 10 + 1024;
    assert!(after.resident_kib <= allowed, "{before:?} {after:?}");
    let stopped = Command::new(PROGRAM)
        .args(["--netns", site.net.director.name(), "director", "stop"])
        .status();
    assert!(stopped.unwrap().success());
    assert_eq!(site.director().traces().unwrap(), [""; 0]);
}
