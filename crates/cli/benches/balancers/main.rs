//! Pointsman beside what else balances on Linux, in the same networks of namespaces, by turns: throughput, new
//! connections and their latency, small packets.
//!
//! `cargo xtask compare` runs it and puts the medians into `docs/benchmarks.md`; with `--kernel`, in a guest whose kernel has
//! IPVS. Words choose the measurements (`throughput`, `connections`, `packets`); `rounds=N`. Needs root.

mod balancer;
mod measure;

use std::collections::BTreeMap;

use pointsman_testkit::{Method, Plan, Topology};
use serde_json::json;

use balancer::{Balancer, Running};
use measure::{Measure, Servers};

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let rounds = words.iter().find_map(|word| word.strip_prefix("rounds="));
    let rounds: usize = rounds.map_or(3, |count| count.parse().expect("rounds=N"));
    let chosen = |measure: &&Measure| {
        let named = |word: &String| !word.contains('=');
        !words.iter().any(named) || words.iter().any(|word| word == measure.name())
    };
    let measures: Vec<&Measure> = Measure::ALL.iter().filter(chosen).collect();
    let mut figures: BTreeMap<(usize, usize, &str), Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        for (network, (_, whole)) in NETWORKS.iter().enumerate() {
            let net = Topology::build(&Plan::test(Method::Nat, *whole)).expect("a network");
            let _servers = Servers::start(&net);
            for (at, balancer) in Balancer::ALL.iter().enumerate() {
                if !balancer.is_there() || !balancer.is_for(*whole) {
                    continue;
                }
                let running = Running::start(*balancer, &net);
                for measure in &measures {
                    if !balancer.does(measure) {
                        continue;
                    }
                    for (unit, value) in measure.run(&net) {
                        eprintln!("{} / {balancer}: {value:.3} {unit}", NETWORKS[network].0);
                        figures.entry((network, at, unit)).or_default().push(value);
                    }
                }
                drop(running);
            }
        }
    }
    let rows: Vec<_> = figures
        .into_iter()
        .map(|((network, at, unit), mut values)| {
            values.sort_by(f64::total_cmp);
            json!({
                "network": NETWORKS[network].0,
                "balancer": Balancer::ALL[at].to_string(),
                "unit": unit,
                "value": values[values.len() / 2],
            })
        })
        .collect();
    println!("{}", json!(rows));
}

/// The networks, and whether frames are whole in them, as XDP needs.
const NETWORKS: [(&str, bool); 2] = [
    ("veth with its offloads", false),
    ("whole frames, as on the wire", true),
];
