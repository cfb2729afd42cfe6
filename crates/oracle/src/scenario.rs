//! The files: commands, and below each what the kernel answered.
//!
//! ```text
//! # a comment
//! ipvsadm -R                    a command, at the start of a line
//! < -A -t VIP:80 -s rr          a line of its standard input
//!   the kernel's answer         two blanks before each line
//! ~ topic                       Pointsman answers otherwise: a topic of docs/differences.md
//! ~ | its answer                and what it answers; no such line: nothing
//! ```

use anyhow::{Context, Result, bail, ensure};

/// A scenario file.
#[derive(Clone, Debug, Default)]
pub struct Scenario {
    /// Lines in order.
    pub items: Vec<Item>,
}

/// A part of a file.
#[derive(Clone, Debug)]
pub enum Item {
    /// A comment or an empty line.
    Text(String),
    /// A command with its answers.
    Step(Step),
}

/// A command with its answers.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// The command.
    pub command: String,
    /// Its standard input.
    pub input: Vec<String>,
    /// What the kernel answered.
    pub answer: Vec<String>,
    /// Why Pointsman answers otherwise, and how.
    pub difference: Option<(String, Vec<String>)>,
}

impl Scenario {
    /// Reads a file.
    ///
    /// # Errors
    /// With the line that stands where it has no meaning.
    pub fn parse(text: &str) -> Result<Self> {
        let mut items: Vec<Item> = Vec::new();
        for (n, line) in text.lines().enumerate() {
            let step = match items.last_mut() {
                Some(Item::Step(step)) => Some(step),
                _ => None,
            };
            let placed = match line.chars().next() {
                None | Some('#') => {
                    items.push(Item::Text(line.into()));
                    Ok(())
                }
                Some(' ') => step
                    .context("an answer without a command")
                    .and_then(|step| {
                        ensure!(step.difference.is_none(), "the kernel's answer comes first");
                        step.answer.push(line.get(2..).unwrap_or_default().into());
                        Ok(())
                    }),
                Some('<') => step.context("input without a command").map(|step| {
                    let line = &line[1..];
                    step.input
                        .push(line.strip_prefix(' ').unwrap_or(line).into());
                }),
                Some('~') => step
                    .context("a difference without a command")
                    .and_then(|step| difference(step, line[1..].trim_start())),
                Some(_) => {
                    items.push(Item::Step(Step {
                        command: line.into(),
                        ..Step::default()
                    }));
                    Ok(())
                }
            };
            placed.with_context(|| format!("line {}: {line}", n + 1))?;
        }
        Ok(Self { items })
    }

    /// Its commands.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.items.iter().filter_map(|item| match item {
            Item::Step(step) => Some(step),
            Item::Text(_) => None,
        })
    }

    /// The file again.
    pub fn print(&self) -> String {
        let mut text = String::new();
        let mut line = |prefix: &str, rest: &str| {
            text += format!("{prefix}{rest}").trim_end();
            text.push('\n');
        };
        for item in &self.items {
            match item {
                Item::Text(comment) => line("", comment),
                Item::Step(step) => {
                    line("", &step.command);
                    step.input.iter().for_each(|input| line("< ", input));
                    step.answer.iter().for_each(|answer| line("  ", answer));
                    if let Some((topic, answer)) = &step.difference {
                        line("~ ", topic);
                        answer.iter().for_each(|answer| line("~ | ", answer));
                    }
                }
            }
        }
        text
    }
}

fn difference(step: &mut Step, rest: &str) -> Result<()> {
    match (&mut step.difference, rest.strip_prefix('|')) {
        (None, None) => step.difference = Some((rest.into(), Vec::new())),
        (Some((_, answer)), Some(line)) => {
            answer.push(line.strip_prefix(' ').unwrap_or(line).into());
        }
        (None, Some(_)) => bail!("a difference begins with its topic"),
        (Some(_), None) => bail!("a second topic"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_prints_as_it_was_read() {
        let text =
            "# one\n\nipvsadm -R\n< -A -t VIP:80\n  ! no\n  = 1\n~ topic\n~ | yes\ntcp c1 VIP:80\n";
        assert_eq!(Scenario::parse(text).unwrap().print(), text);
    }

    #[test]
    fn lines_without_a_command_are_refused() {
        for text in [
            "  answer",
            "< input",
            "~ topic",
            "a\n~ | early",
            "a\n~ x\n  late",
        ] {
            assert!(Scenario::parse(text).is_err(), "{text:?}");
        }
    }
}
