//! Pointsman beside what else balances on Linux, in the same networks of namespaces, by turns: throughput, new
//! connections and their latency, small packets.
//!
//! `cargo xtask compare` runs it and puts the medians into `docs/benchmarks.md`; with `--kernel`, in a guest whose kernel has
//! IPVS. Words choose the measurements (`throughput`, `requests`, `packets`, `connections`); `rounds=N`. Needs root.

mod balancer;
mod flood;
mod measure;

use std::collections::BTreeMap;

use pointsman_testkit::{Method, Plan, Topology};
use serde_json::json;

use balancer::{Balancer, Running};
use measure::{Measure, Servers};

/// A network, and whether its frames are whole, as XDP needs.
pub struct Network {
    name: &'static str,
    method: Method,
    whole: bool,
}

const NETWORKS: [Network; 3] = [
    Network {
        name: "NAT, veth with its offloads",
        method: Method::Nat,
        whole: false,
    },
    Network {
        name: "NAT, whole frames, as on the wire",
        method: Method::Nat,
        whole: true,
    },
    Network {
        name: "DR, whole frames, as on the wire",
        method: Method::DirectRouting,
        whole: true,
    },
];

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let rounds = words.iter().find_map(|word| word.strip_prefix("rounds="));
    let rounds: usize = rounds.map_or(3, |count| count.parse().expect("rounds=N"));
    let chosen = |measure: &Measure| {
        let named = |word: &String| !word.contains('=');
        !words.iter().any(named) || words.iter().any(|word| word == measure.name())
    };
    let mut figures: BTreeMap<(usize, usize, &str), Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        for (at, network) in NETWORKS.iter().enumerate() {
            for (of, &balancer) in Balancer::ALL.iter().enumerate() {
                let measures = Measure::ALL.into_iter().filter(chosen);
                let measures = measures.filter(|&measure| balancer.does(measure, network));
                for (unit, value) in run(balancer, network, &measures.collect::<Vec<_>>()) {
                    eprintln!("{} / {balancer}: {value:.3} {unit}", network.name);
                    figures.entry((at, of, unit)).or_default().push(value);
                }
            }
        }
    }
    let rows: Vec<_> = figures
        .into_iter()
        .map(|((network, at, unit), mut values)| {
            values.sort_by(f64::total_cmp);
            json!({
                "network": NETWORKS[network].name,
                "balancer": Balancer::ALL[at].to_string(),
                "unit": unit,
                "value": values[values.len() / 2],
            })
        })
        .collect();
    println!("{}", json!(rows));
}

/// Measures in a network that nobody else has used: what a balancer knows of connections would outlive it.
fn run(balancer: Balancer, network: &Network, measures: &[Measure]) -> Vec<(&'static str, f64)> {
    if measures.is_empty() || !balancer.is_there() {
        return Vec::new();
    }
    let plan = Plan::test(network.method, network.whole);
    let net = Topology::build(&plan).expect("a network");
    let _servers = Servers::start(&net, measures);
    let _running = Running::start(balancer, &net);
    let run = |measure: &Measure| measure.run(&net);
    measures.iter().flat_map(run).collect()
}
