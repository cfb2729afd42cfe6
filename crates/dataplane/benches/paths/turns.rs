//! Rows that are measured by turns, a round of each and then the next of each: what slows the machine down for a
//! while does so to all that are compared.

use aya::programs::ProgramFd;
use pointsman_model::{Family, Forwarding, Protocol};
use pointsman_testkit::frames::{ACK, SYN};

use crate::packets::{Traffic, replies, requests};
use crate::rig::{self, Harness, Rig, Serving, TUNNEL, Target, WARM, Way};

/// More new flows than Katran remembers, whose LRU once full stays full.
const FILL: u32 = 12_000_000;

/// Who takes the packets.
pub enum Taker {
    /// Nobody: the floor.
    Nobody,
    /// The director, which serves this.
    Director(Serving),
    /// Katran.
    Katran,
}

/// What is measured of somebody who takes packets.
pub struct Path {
    /// Who.
    pub taker: Taker,
    /// What: new connections first.
    pub rows: Vec<Row>,
}

/// A figure to be had.
pub struct Row {
    /// The table it goes into.
    pub chart: &'static str,
    /// Its name there.
    pub name: String,
    /// What it is measured over.
    pub x: u32,
    what: What,
}

enum What {
    /// Connections, so many each time.
    New(u32),
    /// Packets of connections that are there.
    Established(Target, Traffic),
}

impl Row {
    /// New connections, so many each time.
    pub fn new(chart: &'static str, name: impl Into<String>, x: u32, opened: u32) -> Self {
        let (name, what) = (name.into(), What::New(opened));
        Self {
            chart,
            name,
            x,
            what,
        }
    }

    /// Packets of connections that are there.
    pub fn established(
        chart: &'static str,
        name: impl Into<String>,
        x: u32,
        target: Target,
        traffic: Traffic,
    ) -> Self {
        let (name, what) = (name.into(), What::Established(target, traffic));
        Self {
            chart,
            name,
            x,
            what,
        }
    }

    /// Samples in each turn: few connections are opened in a short time.
    fn samples(&self, rounds: u32) -> u32 {
        match self.what {
            What::New(opened) => (200_000 / opened / rounds).clamp(1, 3),
            What::Established(..) => 1,
        }
    }

    /// New flows that all turns take.
    fn flows(&self, rounds: u32) -> u32 {
        match self.what {
            What::New(opened) => rounds * self.samples(rounds) * (2 * opened + WARM),
            What::Established(..) => 0,
        }
    }
}

/// All that is measured of one forwarding method, family and protocol over so many flows, and of as many `new`
/// connections.
pub fn rows(name: &str, serving: &Serving, flows: u32, new: Option<u32>) -> Vec<Row> {
    const CHART: &str = "established";
    let mut rows = Vec::new();
    if let Some(new) = new {
        rows.push(Row::new("new", format!("{name}, new connection"), new, new));
    }
    let traffic = requests(flows, serving.family, serving.protocol, ACK);
    let plain = serving.family == Family::V4 && serving.protocol == Protocol::Tcp;
    let mut add = |what: &str, target, traffic| {
        let name = format!("{name}, {what}");
        rows.push(Row::established(CHART, name, flows, target, traffic));
    };
    add("established", Target::Xdp, traffic);
    if plain && matches!(serving.forwarding, Forwarding::Route | TUNNEL) {
        // Each packet asks for a connection, of a flow that has one.
        let traffic = requests(flows, serving.family, serving.protocol, SYN);
        add("SYN of a known flow", Target::Xdp, traffic);
    }
    if serving.forwarding == Forwarding::Masquerade && serving.protocol == Protocol::Tcp {
        add("replies", Target::Xdp, replies(flows, serving.family));
    }
    // A tunnel changes the packet's length, which the harness cannot undo at TC.
    if plain && serving.forwarding != TUNNEL {
        add("established, on TC", Target::Tc, traffic);
    }
    rows
}

/// Measures each row of each path: net times of every turn, in their order.
pub fn measure(rig: &mut Rig, katran: Option<&ProgramFd>, paths: &[Path]) -> Vec<Vec<f64>> {
    let rows = || paths.iter().flat_map(|path| &path.rows);
    let rounds = rig::rounds(rig.flows);
    let mut turns = Turns {
        old: Harness::new(),
        fresh: Harness::new(),
        // Every sample has new flows of its own: of those it met before a table has hints.
        flows: FILL + rows().map(|row| row.flows(rounds)).sum::<u32>(),
        katran: katran.map(|program| rig.way.through(program)),
        rounds,
    };
    turns.fill();
    let mut samples = vec![Vec::new(); rows().count()];
    for round in 0..rounds {
        turns.old.round = round;
        let mut samples = samples.iter_mut();
        for path in paths {
            turns.take(rig, path, &mut samples);
        }
    }
    samples
}

struct Turns {
    /// Sends packets of flows that are there.
    old: Harness,
    /// Sends those of new ones.
    fresh: Harness,
    /// How many of these there are in all.
    flows: u32,
    /// The way through Katran.
    katran: Option<Way>,
    rounds: u32,
}

impl Turns {
    /// Katran meets more flows than it remembers.
    fn fill(&mut self) {
        if let Some(way) = &self.katran {
            let traffic = requests(self.flows, Family::V4, Protocol::Tcp, SYN);
            self.fresh.run(way, Target::Xdp, false, &traffic, FILL);
        }
    }

    /// Measures each row of a path once.
    fn take<'a>(
        &mut self,
        rig: &mut Rig,
        path: &Path,
        into: &mut impl Iterator<Item = &'a mut Vec<f64>>,
    ) {
        let serving = match &path.taker {
            Taker::Director(serving) => *serving,
            Taker::Nobody | Taker::Katran => Serving::one(TUNNEL),
        };
        let (family, protocol) = (serving.family, serving.protocol);
        if let Taker::Director(serving) = &path.taker {
            rig.serve(serving);
        }
        let mut there = false;
        for row in &path.rows {
            let samples = into.next().expect("as many as rows");
            for _ in 0..row.samples(self.rounds) {
                match (&row.what, &path.taker, &self.katran) {
                    (What::New(_), Taker::Director(_), _) => rig.clear(),
                    (What::Established(..), Taker::Director(_), _) if !there => {
                        rig.establish(&mut self.old, &serving);
                    }
                    (What::Established(..), Taker::Katran, Some(way)) if !there => {
                        self.old.open(way, rig.flows, family, protocol);
                    }
                    _ => {}
                }
                let way = match (&path.taker, &self.katran) {
                    (Taker::Katran, Some(way)) => way,
                    _ => &rig.way,
                };
                samples.push(match &row.what {
                    What::New(opened) => {
                        let traffic = requests(self.flows, family, protocol, SYN);
                        self.fresh.sample_new(way, &traffic, *opened)
                    }
                    What::Established(target, traffic) => {
                        there = true;
                        self.old.sample(way, *target, traffic, rig.flows)
                    }
                });
            }
        }
    }
}
