//! All scenarios, and what comes of playing them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pointsman_testkit::Hook;

use crate::player::Player;
use crate::scenario::{Item, Scenario};
use crate::stage::{Stage, World};

/// The first line of a recorded scenario begins so, and tells of what.
const PROVENANCE: &str = "#! ";

/// The scenarios of a repository.
pub struct Suite {
    scenarios: BTreeMap<String, Scenario>,
    /// Why a scenario need not come out alike yet.
    pending: BTreeMap<String, String>,
}

/// What came of one scenario over Pointsman.
pub struct Verdict {
    /// The scenario.
    pub name: String,
    /// Where.
    pub hook: Hook,
    /// Commands that were answered otherwise, as a text; or why it broke off.
    pub differences: Option<String>,
    /// Why it need not come out alike yet.
    pub pending: Option<String>,
    /// How long it took, with the director's start.
    pub took: Duration,
}

impl Verdict {
    /// Whether something is wrong.
    pub fn is_failure(&self) -> bool {
        self.differences.is_some() && self.pending.is_none()
    }

    /// In a word.
    pub fn word(&self) -> &'static str {
        match (&self.differences, &self.pending) {
            (None, None) => "alike",
            (None, Some(_)) => "alike, and listed as pending",
            (Some(_), None) => "DIFFERENT",
            (Some(_), Some(_)) => "pending",
        }
    }
}

impl Suite {
    /// Reads everything below `root`, the repository.
    ///
    /// # Errors
    /// When a file does not read, a difference has a topic that `docs/differences.md` lacks, or
    /// what is pending does not exist.
    pub fn load(root: &Path) -> Result<Self> {
        let read = |path: &Path| {
            fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
        };
        let topics = read(&root.join("docs/differences.md"))?;
        let mut scenarios = BTreeMap::new();
        for entry in fs::read_dir(directory(root))? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "scn") {
                continue;
            }
            let name = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let scenario = Scenario::parse(&read(&path)?).with_context(|| name.clone())?;
            for (topic, _) in scenario.steps().filter_map(|step| step.difference.as_ref()) {
                ensure!(
                    topics.contains(&format!("\n| {topic}")),
                    "{name}: docs/differences.md has no topic {topic:?}"
                );
            }
            scenarios.insert(name, scenario);
        }
        let mut pending = BTreeMap::new();
        for line in read(&root.join("tests/oracle/pending"))?.lines() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, reason) = line
                .split_once(' ')
                .with_context(|| format!("why is {line} pending?"))?;
            ensure!(
                scenarios.contains_key(name),
                "{name} is pending and does not exist"
            );
            pending.insert(name.into(), reason.trim().into());
        }
        Ok(Self { scenarios, pending })
    }

    /// The names of the chosen scenarios; all when none is chosen.
    ///
    /// # Errors
    /// When one does not exist.
    pub fn choose(&self, chosen: &[String]) -> Result<Vec<String>> {
        for name in chosen {
            ensure!(
                self.scenarios.contains_key(name),
                "there is no scenario {name}"
            );
        }
        let all = self.scenarios.keys().cloned();
        Ok(if chosen.is_empty() {
            all.collect()
        } else {
            chosen.to_vec()
        })
    }

    /// Plays a scenario over the kernel's IPVS and returns its file with the answers.
    ///
    /// # Errors
    /// When it cannot be played.
    pub fn record(&self, name: &str) -> Result<String> {
        let mut scenario = self.scenarios[name].clone();
        let mut player = Player::new(Stage::new(World::Kernel)?);
        if matches!(scenario.items.first(), Some(Item::Text(line)) if line.starts_with(PROVENANCE))
        {
            scenario.items.remove(0);
        }
        for item in &mut scenario.items {
            if let Item::Step(step) = item {
                step.answer = player.play(step)?;
            }
        }
        scenario.items.insert(0, Item::Text(provenance()?));
        Ok(scenario.print())
    }

    /// Plays scenarios over Pointsman on the hooks and compares; several at a time, for much of the
    /// time is spent waiting. `report` learns of each as it comes, the caller of all in order.
    pub fn compare_all(
        &self,
        names: &[String],
        program: &Path,
        hooks: &[Hook],
        report: impl Fn(&Verdict) + Sync,
    ) -> Vec<Verdict> {
        let runs: Vec<_> = names
            .iter()
            .flat_map(|name| hooks.iter().map(move |&hook| (name, hook)))
            .collect();
        let next = AtomicUsize::new(0);
        let verdicts = Mutex::new(Vec::new());
        let processors = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for _ in 0..processors * 2 {
                scope.spawn(|| {
                    while let Some(&(name, hook)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let verdict = self.compare(name, program, hook);
                        report(&verdict);
                        verdicts.lock().unwrap().push(verdict);
                    }
                });
            }
        });
        let mut verdicts = verdicts.into_inner().unwrap();
        verdicts.sort_by(|a, b| (&a.name, a.hook.word()).cmp(&(&b.name, b.hook.word())));
        verdicts
    }

    /// Plays a scenario over Pointsman and compares.
    fn compare(&self, name: &str, program: &Path, hook: Hook) -> Verdict {
        let start = Instant::now();
        let world = World::Pointsman {
            program: program.into(),
            hook,
        };
        let differences = match differences(&self.scenarios[name], world) {
            Ok(text) if text.is_empty() => None,
            Ok(text) => Some(text),
            Err(error) => Some(format!("broke off: {error:#}\n")),
        };
        Verdict {
            name: name.into(),
            hook,
            differences,
            pending: self.pending.get(name).cloned(),
            took: start.elapsed(),
        }
    }
}

/// Where the scenarios of a repository lie.
pub fn directory(root: &Path) -> PathBuf {
    root.join("tests/oracle/scenarios")
}

fn provenance() -> Result<String> {
    let read = |program: &str, argument: &str| -> Result<String> {
        let output = Command::new(program).arg(argument).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().into())
    };
    let version = read("ipvsadm", "-v")?;
    let version = version.split(" (").next().unwrap_or_default();
    Ok(format!(
        "{PROVENANCE}Linux {}, {version}",
        read("uname", "-r")?
    ))
}

/// Commands whose answers differ from what is expected, each with both answers.
fn differences(scenario: &Scenario, world: World) -> Result<String> {
    let mut player = Player::new(Stage::new(world)?);
    let mut text = String::new();
    for step in scenario.steps() {
        let answer = player.play(step)?;
        let expected = match &step.difference {
            Some((_, expected)) => expected,
            None => &step.answer,
        };
        let trimmed = |lines: &[String]| -> Vec<String> {
            lines
                .iter()
                .map(|line| line.trim_end().to_owned())
                .collect()
        };
        let (answer, expected) = (trimmed(&answer), trimmed(expected));
        if answer != expected {
            writeln!(text, "  {}", step.command)?;
            for line in lines_apart(&expected, &answer) {
                writeln!(text, "    {line}")?;
            }
        }
    }
    Ok(text)
}

/// Both texts as one: ` ` before what they share, `-` what only the first has, `+` the second.
fn lines_apart(a: &[String], b: &[String]) -> Vec<String> {
    let same = |pair: &(&String, &String)| pair.0 == pair.1;
    let before = a.iter().zip(b).take_while(same).count();
    let (a, b, head) = (&a[before..], &b[before..], &a[..before]);
    let after = a.iter().rev().zip(b.iter().rev()).take_while(same).count();
    let tail = &a[a.len() - after..];
    let mark = |sign: char, lines: &[String]| -> Vec<String> {
        lines.iter().map(|line| format!("{sign} {line}")).collect()
    };
    [
        mark(' ', head),
        mark('-', &a[..a.len() - after]),
        mark('+', &b[..b.len() - after]),
        mark(' ', tail),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_stands_between_what_does_not() {
        let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            lines_apart(&lines("a b c d"), &lines("a x d")),
            ["  a", "- b", "- c", "+ x", "  d"]
        );
        assert_eq!(lines_apart(&lines("a"), &lines("a a")), ["  a", "+ a"]);
    }
}
