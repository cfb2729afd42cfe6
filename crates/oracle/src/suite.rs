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
    /// What differed on a director that other scenarios had used before; then it was played once more,
    /// on a fresh one, and that counts.
    pub reused: Option<String>,
    /// How long it took, with the start of a director where there was one.
    pub took: Duration,
}

impl Verdict {
    /// Whether something is wrong.
    pub fn is_failure(&self) -> bool {
        self.differences.is_some() && self.pending.is_none()
    }

    /// That a used director made a difference, and which; somebody should look into it.
    pub fn reused_note(&self) -> Option<String> {
        let text = self.reused.as_ref()?;
        let (name, hook) = (&self.name, self.hook.word());
        Some(format!(
            "{name} on {hook} differed on a used director, and was played again on a fresh one:\n{text}"
        ))
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
        let mut stage = Stage::new(World::Kernel)?;
        let mut player = Player::new(&mut stage);
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
    /// time is spent waiting. The kernel verifies a director's programs for seconds, so each thread
    /// keeps its stage, and resets it between scenarios, until one comes out otherwise. `report` learns of each as it comes, the caller of all in order.
    pub fn compare_all(
        &self,
        names: &[String],
        program: &Path,
        hooks: &[Hook],
        report: impl Fn(&Verdict) + Sync,
    ) -> Vec<Verdict> {
        // Hook by hook, for stages are of one.
        let runs: Vec<_> = hooks
            .iter()
            .flat_map(|&hook| names.iter().map(move |name| (name, hook)))
            .collect();
        let next = AtomicUsize::new(0);
        let verdicts = Mutex::new(Vec::new());
        let processors = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for _ in 0..processors * 2 {
                scope.spawn(|| {
                    let mut kept = None;
                    while let Some(&(name, hook)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let verdict = self.compare(name, program, hook, &mut kept);
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

    /// Plays a scenario over Pointsman and compares: on the stage that was kept, if there is one, and
    /// if that makes a difference on a fresh one.
    fn compare(&self, name: &str, program: &Path, hook: Hook, kept: &mut Option<Stage>) -> Verdict {
        let start = Instant::now();
        let scenario = &self.scenarios[name];
        let pending = self.pending.get(name).cloned();
        let apart = needs_own_stage(scenario) || pending.is_some();
        let mut own = None;
        let kept = if apart { &mut own } else { kept };
        let world = World::Pointsman {
            program: program.into(),
            hook,
        };
        let (differences, reused) = match kept.take().filter(|stage| stage.is_on(hook)) {
            None => (on_fresh_stage(scenario, world, kept), None),
            Some(stage) => match on_used_stage(scenario, stage, kept) {
                None => (None, None),
                reused => (on_fresh_stage(scenario, world, kept), reused),
            },
        };
        Verdict {
            name: name.into(),
            hook,
            differences,
            reused,
            pending,
            took: start.elapsed(),
        }
    }
}

/// Starts a director, plays there and tells the differences; without any the stage is kept.
fn on_fresh_stage(scenario: &Scenario, world: World, kept: &mut Option<Stage>) -> Option<String> {
    let played = Stage::new(world).and_then(|mut stage| {
        let text = differences(scenario, &mut stage)?;
        *kept = Some(stage).filter(|_| text.is_empty());
        Ok(text)
    });
    as_text(played)
}

/// The same where others played before.
fn on_used_stage(
    scenario: &Scenario,
    mut stage: Stage,
    kept: &mut Option<Stage>,
) -> Option<String> {
    let reset = stage.reset().context("resetting the director");
    let played = reset.and_then(|()| differences(scenario, &mut stage));
    let text = as_text(played);
    *kept = Some(stage).filter(|_| text.is_none());
    text
}

/// Whether a scenario changes what [`Stage::reset`] does not put back: the director's links and
/// routes, or how many packets `drop_packet` has let pass.
fn needs_own_stage(scenario: &Scenario) -> bool {
    scenario.steps().any(|step| {
        ["ip ", "sysctl drop_packet="]
            .iter()
            .any(|command| step.command.starts_with(command))
    })
}

/// Why a scenario did not come out alike; `None` when it did.
fn as_text(differences: Result<String>) -> Option<String> {
    match differences {
        Ok(text) if text.is_empty() => None,
        Ok(text) => Some(text),
        Err(error) => Some(format!("broke off: {error:#}\n")),
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
fn differences(scenario: &Scenario, stage: &mut Stage) -> Result<String> {
    let mut player = Player::new(stage);
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
