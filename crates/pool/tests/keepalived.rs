//! The same configuration and the same answers of checks give the same `ipvsadm -Ln` after each
//! event as the real keepalived gave on the kernel's IPVS (`tests/oracle/keepalived`).

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use pointsman_config::ipvsadm::{Layout, Numeric, View, print_services};
use pointsman_config::keepalived;
use pointsman_model::{CheckKind, ServerView, ServiceView, Site};
use pointsman_pool::{CheckRef, Pools, Verdict};

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

/// What differs, and why it stays so.
const DIFFERENT: &[(&str, &str)] = &[];

/// A scenario: configurations, and what happens.
struct Scenario {
    configs: Vec<String>,
    events: Vec<String>,
}

impl Scenario {
    fn parse(text: &str) -> Self {
        let mut configs: Vec<String> = Vec::new();
        let mut events = Vec::new();
        let mut in_events = false;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            match line {
                "== config" => configs.push(String::new()),
                "== events" => in_events = true,
                line if in_events => events.push(line.to_owned()),
                line => {
                    let config = configs.last_mut().expect("a part begins with its title");
                    config.push_str(line);
                    config.push('\n');
                }
            }
        }
        Self { configs, events }
    }

    fn site(&self, number: usize) -> Site {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &self.configs[number]).unwrap();
        keepalived::read(file.path(), &keepalived::Options::default()).site
    }
}

struct Stage {
    pools: Pools,
    /// Exit statuses of check scripts, by their number.
    statuses: BTreeMap<u32, u32>,
}

impl Stage {
    /// Every check runs once.
    fn ask(&mut self) {
        let mut answers = Vec::new();
        for pool in self.pools.iter() {
            for server in pool.servers() {
                for (check, state) in server.checks.iter().enumerate() {
                    let CheckKind::Script(script) = &state.check.kind else {
                        panic!("scenarios check by scripts");
                    };
                    let number = script.script.argv.last().unwrap().parse().unwrap();
                    let status = self.statuses.get(&number).copied().unwrap_or(0);
                    let weight = i64::from(server.config.spec.weight.get());
                    let (up, weight) = match status {
                        0 => (true, 0),
                        1 => (false, 0),
                        n if script.dynamic => (true, i64::from(n) - 2 - weight),
                        _ => (false, 0),
                    };
                    let check = CheckRef {
                        id: pool.config().id.clone(),
                        server: server.config.spec.key,
                        check,
                    };
                    let reason = format!("exit status {status}");
                    answers.push((check, Verdict { up, reason, weight }));
                }
            }
        }
        for (check, verdict) in answers {
            self.pools.verdict(&check, verdict, NOW);
        }
    }

    fn listing(&self) -> String {
        let services: Vec<_> = self
            .pools
            .wanted()
            .into_iter()
            .map(|(spec, servers)| ServiceView {
                spec,
                counters: Default::default(),
                rates: Default::default(),
                local_addresses: Vec::new(),
                servers: servers
                    .into_iter()
                    .map(|spec| ServerView {
                        spec,
                        active: 0,
                        inactive: 0,
                        persistent: 0,
                        counters: Default::default(),
                        rates: Default::default(),
                    })
                    .collect(),
            })
            .collect();
        let layout = Layout {
            view: View::Plain,
            exact: false,
            sorted: true,
            connection_slots: Some(4096),
        };
        let mut out = Vec::new();
        print_services(&mut out, &Numeric, &services, layout).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.lines()
            .skip(3)
            .map(|line| format!("{line}\n"))
            .collect()
    }

    fn play(scenario: &Scenario) -> String {
        let mut stage = Self {
            pools: Pools::default(),
            statuses: BTreeMap::new(),
        };
        let mut said = String::new();
        for event in &scenario.events {
            said.push_str(&format!("> {event}\n"));
            let words: Vec<_> = event.split(' ').collect();
            let number = |at: usize| words[at].parse::<u32>().unwrap();
            match words[0] {
                "initially" => {
                    stage.statuses.insert(number(1), number(2));
                    continue;
                }
                "start" => stage.pools = Pools::start(&scenario.site(0), None, NOW).0,
                "down" => drop(stage.statuses.insert(number(1), 1)),
                "up" => drop(stage.statuses.insert(number(1), 0)),
                "exit" => drop(stage.statuses.insert(number(1), number(2))),
                "reload" => {
                    let site = scenario.site(number(1) as usize - 1);
                    stage.pools.reload(&site, NOW);
                }
                "stop" => drop(stage.pools.stop()),
                other => panic!("{other}"),
            }
            stage.ask();
            said.push_str(&stage.listing());
        }
        said
    }
}

#[test]
fn every_event_gives_the_table_that_keepalived_gives() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/oracle/keepalived");
    let mut played = 0;
    let mut wrong = Vec::new();
    let mut files: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "scenario"))
        .collect();
    files.sort();
    for file in files {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let scenario = Scenario::parse(&fs::read_to_string(&file).unwrap());
        let recorded = fs::read_to_string(file.with_extension("transcript"))
            .unwrap_or_else(|error| panic!("{name} is not recorded: {error}"));
        let recorded: String = recorded
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| format!("{line}\n"))
            .collect();
        let ours = Stage::play(&scenario);
        played += 1;
        let known = DIFFERENT.iter().find(|(known, _)| *known == name);
        match (ours == recorded, known) {
            (true, None) | (false, Some(_)) => {}
            (true, Some(_)) => wrong.push(format!("{name} is alike now: take it off the list")),
            (false, None) => wrong.push(format!(
                "--- {name}: keepalived\n{recorded}--- {name}: Pointsman\n{ours}"
            )),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(played >= 33, "{played} scenarios");
}
