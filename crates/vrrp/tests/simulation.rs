//! Thousands of seeded networks of two to five nodes: adverts are lost, delayed, doubled and
//! reordered, links are cut, nodes pause, crash and find their clocks ahead. Then the network heals.
//! From then on two nodes that run are both master for no longer than one interval, and in the end
//! there is exactly one master.
//!
//! `VRRP_SEED=N` runs one seed and prints what happened.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pointsman_model::Family;
use pointsman_model::vrrp::{
    AdvertInterval, Preemption, Priority, Vrid, VrrpInstance, VrrpState, VrrpVersion,
};
use pointsman_vrrp::Time;
use pointsman_vrrp::fsm::{Effect, Heard};
use pointsman_vrrp::group::{Action, Input, Router, Tracking};

const SEEDS: u64 = 10_000;
/// Length of the two parts of a run, and of the pause in the second one, in intervals.
const CHAOS: u32 = 15;
const HEALED: u32 = 30;
const LATE_PAUSE_AT: u32 = 6;
const LATE_PAUSE: u32 = 6;

#[test]
fn there_is_one_master_when_the_network_has_healed() {
    if let Ok(seed) = std::env::var("VRRP_SEED") {
        Network::new(seed.parse().unwrap(), true).run();
        return;
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for seed in (thread..SEEDS).step_by(threads as usize) {
                    Network::new(seed, false).run();
                }
            });
        }
    });
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

struct Node {
    router: Router,
    configs: Vec<Arc<VrrpInstance>>,
    address: IpAddr,
    /// How far its clock is ahead.
    ahead: Duration,
    paused_until: Option<Duration>,
    /// Adverts that arrived while it was paused.
    queue: Vec<(usize, Heard)>,
    holds: Vec<bool>,
    grouped: bool,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    arrival: Duration,
    number: u64,
    to: usize,
    instance: usize,
    source: IpAddr,
    priority: u8,
    interval: Duration,
}

struct Network {
    seed: u64,
    talks: bool,
    random: Random,
    now: Duration,
    interval: Duration,
    nodes: Vec<Node>,
    packets: BinaryHeap<Reverse<Packet>>,
    sent: u64,
    /// Nodes whose links are cut, in the first part.
    cut: Vec<bool>,
    loss: u64,
    doubling: u64,
    worst_delay: Duration,
    instances: usize,
    /// Since when an instance has had more than one running master.
    overlap: Vec<Option<Duration>>,
    /// Slept as a master while another took over: must not speak as a master now.
    mute: Vec<(usize, usize)>,
}

impl Network {
    fn new(seed: u64, talks: bool) -> Self {
        let mut random = Random(seed);
        let two = random.percent(40);
        let version = if two {
            VrrpVersion::V2
        } else {
            VrrpVersion::V3
        };
        let interval = match random.below(3) {
            _ if two => Duration::from_secs(1),
            0 => Duration::from_millis(10),
            1 => Duration::from_millis(30),
            _ => Duration::from_secs(1),
        };
        let instances = 1 + random.below(3) as usize;
        let grouped = instances > 1 && random.percent(60);
        let count = 2 + random.below(4) as usize;
        let mut owner_given = false;
        let mut nodes = Vec::new();
        for number in 0..count {
            let address = IpAddr::from([10, 0, 0, 1 + number as u8]);
            let priority = match random.below(8) {
                0 if !owner_given => {
                    owner_given = true;
                    255
                }
                1 => 100,
                _ => 1 + random.below(254) as u8,
            };
            let preemption = match random.below(4) {
                _ if priority == 255 => Preemption::AtOnce,
                0 => Preemption::Never,
                1 => Preemption::After(interval * (1 + random.below(3) as u32)),
                _ => Preemption::AtOnce,
            };
            let (silent, polite) = (random.percent(20), random.percent(20));
            let configs = (0..instances)
                .map(|instance| {
                    let vrid = Vrid::new(1 + instance as u8).unwrap();
                    let mut config = VrrpInstance::new("VI", "eth0", vrid, Family::V4);
                    config.version = version;
                    config.advert_interval = AdvertInterval::new(version, interval).unwrap();
                    config.priority = Priority::new(priority).unwrap();
                    config.starts_as_master = priority == 255;
                    config.preemption = preemption;
                    config.silent_to_lower = silent;
                    config.advert_before_yielding = polite;
                    Arc::new(config)
                })
                .collect();
            nodes.push(Node {
                router: Router::default(),
                configs,
                address,
                ahead: interval * random.below(1000) as u32,
                paused_until: None,
                queue: Vec::new(),
                holds: vec![false; instances],
                grouped,
            });
        }
        Self {
            seed,
            talks,
            now: Duration::ZERO,
            interval,
            cut: vec![false; count],
            nodes,
            packets: BinaryHeap::new(),
            sent: 0,
            loss: random.below(60),
            doubling: random.below(30),
            worst_delay: interval * (1 + random.below(20) as u32) / 10,
            instances,
            overlap: vec![None; instances],
            mute: Vec::new(),
            random,
        }
    }

    fn run(mut self) {
        for node in 0..self.nodes.len() {
            self.boot(node);
        }
        let healed_at = self.interval * CHAOS;
        let mut next_trouble = self.interval;
        while self.step(healed_at.min(next_trouble)) {
            if self.now >= healed_at {
                break;
            }
            self.trouble();
            next_trouble += self.interval / 2 + self.interval * self.random.below(20) as u32 / 10;
        }
        // Healed: what is still on its way arrives within the old delay.
        self.say("healed");
        self.cut.fill(false);
        (self.loss, self.doubling) = (0, 0);
        let old_packets = self.now + self.worst_delay;
        for node in 0..self.nodes.len() {
            if self.nodes[node].paused_until.take().is_some() {
                self.wake(node);
            }
        }
        while self.step(old_packets) {}
        self.worst_delay = self.interval / 20;
        self.overlap = vec![None; self.instances];
        self.watch();
        let begin = self.now;
        let late_pause = begin + self.interval * LATE_PAUSE_AT;
        while self.step(late_pause) {}
        let masters: Vec<usize> = (0..self.nodes.len())
            .filter(|node| self.nodes[*node].router.instance(0).state() == VrrpState::Master)
            .collect();
        if let Some(node) = masters.first() {
            self.say("the master pauses");
            self.nodes[*node].paused_until = Some(self.now + self.interval * LATE_PAUSE);
        }
        let settled = begin + self.interval * (HEALED - 3);
        while self.step(settled) {}
        let end = begin + self.interval * HEALED;
        while self.step(end) {
            self.exactly_one();
        }
        self.exactly_one();
    }

    /// Goes on to the next event or to `until`, whichever is first; false when that is reached.
    fn step(&mut self, until: Duration) -> bool {
        if self.now >= until {
            return false;
        }
        let arrival = self.packets.peek().map(|Reverse(packet)| packet.arrival);
        let wake = self
            .nodes
            .iter()
            .filter_map(|node| match node.paused_until {
                Some(until) => Some(until),
                None => node
                    .router
                    .deadline()
                    .map(|deadline| deadline.since_boot().saturating_sub(node.ahead)),
            })
            .min();
        let next = [arrival, wake].into_iter().flatten().min();
        let Some(next) = next.filter(|next| *next < until) else {
            self.now = until;
            self.watch();
            return false;
        };
        self.now = self.now.max(next);
        while self
            .packets
            .peek()
            .is_some_and(|Reverse(packet)| packet.arrival <= self.now)
        {
            let Reverse(packet) = self.packets.pop().expect("peeked");
            let heard = Heard {
                source: packet.source,
                priority: packet.priority,
                interval: packet.interval,
            };
            if self.cut[packet.to] {
                continue;
            }
            if self.nodes[packet.to].paused_until.is_some() {
                // A socket's buffer is finite too.
                let queue = &mut self.nodes[packet.to].queue;
                if queue.len() < 50 {
                    queue.push((packet.instance, heard));
                }
                continue;
            }
            self.deliver(packet.to, packet.instance, heard);
        }
        for node in 0..self.nodes.len() {
            match self.nodes[node].paused_until {
                Some(until) if until <= self.now => {
                    self.nodes[node].paused_until = None;
                    self.wake(node);
                }
                Some(_) => {}
                None => self.tick(node),
            }
        }
        self.watch();
        true
    }

    fn local(&self, node: usize) -> Time {
        Time::from_boot(self.now + self.nodes[node].ahead)
    }

    fn boot(&mut self, node: usize) {
        let at = self.local(node);
        let this = &mut self.nodes[node];
        this.router = Router::default();
        this.holds.fill(false);
        this.queue.clear();
        for config in &this.configs {
            this.router.add(Arc::clone(config), Some(this.address));
        }
        if this.grouped {
            this.router.group((0..this.configs.len()).collect());
        }
        for instance in 0..self.instances {
            let actions = self.nodes[node].router.start(instance, at, at);
            self.act(node, actions);
        }
    }

    /// After a pause: what is queued first, then what is due, as the engine does it.
    fn wake(&mut self, node: usize) {
        self.say("wakes");
        self.mute = (0..self.instances)
            .filter(|instance| {
                let state = self.nodes[node].router.instance(*instance).state();
                self.healed() && state == VrrpState::Master && self.masters(*instance) > 1
            })
            .map(|instance| (node, instance))
            .collect();
        for (instance, heard) in std::mem::take(&mut self.nodes[node].queue) {
            self.deliver(node, instance, heard);
        }
        self.tick(node);
        self.mute.clear();
    }

    fn deliver(&mut self, node: usize, instance: usize, heard: Heard) {
        let at = self.local(node);
        let actions = self.nodes[node]
            .router
            .on(instance, Input::Heard(heard), at);
        self.act(node, actions);
    }

    fn tick(&mut self, node: usize) {
        let at = self.local(node);
        if self.nodes[node]
            .router
            .deadline()
            .is_some_and(|due| due <= at)
        {
            let actions = self.nodes[node].router.tick(at);
            self.act(node, actions);
        }
    }

    fn act(&mut self, node: usize, actions: Vec<Action>) {
        for action in actions {
            if self.talks {
                println!("{:?} node {node}: {action:?}", self.now);
            }
            let Action::Instance(instance, effect) = action else {
                continue;
            };
            match effect {
                Effect::Advert(priority) => self.send(node, instance, priority),
                Effect::TakeAddresses => {
                    assert!(!self.nodes[node].holds[instance], "seed {}", self.seed);
                    self.nodes[node].holds[instance] = true;
                }
                Effect::DropAddresses => self.nodes[node].holds[instance] = false,
                _ => {}
            }
        }
        for instance in 0..self.instances {
            let this = &self.nodes[node];
            assert_eq!(
                this.holds[instance],
                this.router.instance(instance).state() == VrrpState::Master,
                "seed {}: addresses are the master's",
                self.seed
            );
        }
    }

    fn send(&mut self, node: usize, instance: usize, priority: u8) {
        assert!(
            priority == 0 || !self.mute.contains(&(node, instance)),
            "seed {}: a master that slept too long spoke",
            self.seed
        );
        if self.cut[node] {
            return;
        }
        for to in 0..self.nodes.len() {
            if to == node {
                continue;
            }
            let copies = 1 + u64::from(self.random.percent(self.doubling));
            for _ in 0..copies {
                if self.random.percent(self.loss) {
                    continue;
                }
                self.sent += 1;
                let delay = self.worst_delay * self.random.below(1000) as u32 / 1000;
                self.packets.push(Reverse(Packet {
                    arrival: self.now + delay,
                    number: self.sent,
                    to,
                    instance,
                    source: self.nodes[node].address,
                    priority,
                    interval: self.interval,
                }));
            }
        }
    }

    fn trouble(&mut self) {
        let node = self.random.below(self.nodes.len() as u64) as usize;
        let some = self.interval * (1 + self.random.below(80) as u32) / 10;
        match self.random.below(8) {
            0 | 1 => self.nodes[node].paused_until = Some(self.now + some),
            2 => self.nodes[node].ahead += some,
            3 => {
                self.nodes[node].paused_until = None;
                self.boot(node);
            }
            4 | 5 => self.cut[node] = !self.cut[node],
            6 if self.nodes[node].paused_until.is_none() => {
                // A tracked script fails or recovers, by weight or as a fault.
                let at = self.local(node);
                let tracking = Tracking {
                    fault: self.random.percent(30),
                    waiting: false,
                    weight: -(self.random.below(60) as i32),
                };
                for tracking in [tracking, Tracking::default()] {
                    let actions = self.nodes[node].router.on(0, Input::Tracking(tracking), at);
                    self.act(node, actions);
                }
            }
            _ => {
                // Somebody deletes an address.
                if self.nodes[node].paused_until.is_none() {
                    let at = self.local(node);
                    let actions = self.nodes[node].router.on(0, Input::Robbed, at);
                    self.act(node, actions);
                }
            }
        }
    }

    /// Two running masters must not last.
    fn watch(&mut self) {
        let bound = self.interval + self.worst_delay * 2;
        for instance in 0..self.instances {
            if self.masters(instance) < 2 {
                self.overlap[instance] = None;
                continue;
            }
            let since = *self.overlap[instance].get_or_insert(self.now);
            assert!(
                !self.healed() || self.now - since <= bound,
                "seed {}: two masters from {since:?} to {:?}, interval {:?}",
                self.seed,
                self.now,
                self.interval
            );
        }
    }

    fn healed(&self) -> bool {
        self.loss == 0 && self.worst_delay == self.interval / 20
    }

    fn exactly_one(&self) {
        for instance in 0..self.instances {
            assert_eq!(
                self.masters(instance),
                1,
                "seed {}: masters of instance {instance} at {:?}",
                self.seed,
                self.now
            );
        }
    }

    fn masters(&self, instance: usize) -> usize {
        self.nodes
            .iter()
            .filter(|node| node.paused_until.is_none())
            .filter(|node| node.router.instance(instance).state() == VrrpState::Master)
            .count()
    }

    fn say(&self, what: &str) {
        if self.talks {
            println!("{:?} {what}", self.now);
        }
    }
}
