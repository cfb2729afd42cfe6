//! What a lesson prints: prose with colours for people, or one JSON document.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

/// Columns of the prose.
const WIDTH: usize = 88;

/// Collects the steps and prints them as they happen.
#[derive(Debug)]
pub struct Report {
    record: Record,
    json: bool,
    paint: Paint,
}

#[derive(Debug, Serialize)]
struct Record {
    lab: String,
    title: String,
    ok: bool,
    steps: Vec<Step>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Default, Serialize)]
struct Step {
    title: String,
    text: Vec<String>,
    commands: Vec<Command>,
    checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct Command {
    host: String,
    command: String,
    output: String,
}

#[derive(Debug, Serialize)]
struct Check {
    what: String,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    got: Option<String>,
}

impl Report {
    /// Begins with the title.
    pub fn new(lab: &str, title: &str, json: bool) -> Self {
        let colours = !json
            && io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let record = Record {
            lab: lab.into(),
            title: title.into(),
            ok: true,
            steps: Vec::new(),
            error: None,
        };
        let report = Self {
            record,
            json,
            paint: Paint { colours },
        };
        let title = report
            .paint
            .title(&format!("{title} (pointsman lab {lab})"));
        report.print(&format!("{title}\n"));
        report
    }

    /// Begins a step.
    pub fn step(&mut self, title: &str) {
        let number = self.record.steps.len() + 1;
        self.record.steps.push(Step {
            title: title.into(),
            ..Step::default()
        });
        self.print(&format!(
            "\n{}\n",
            self.paint.title(&format!("{number}. {title}"))
        ));
    }

    /// A paragraph.
    pub fn say(&mut self, text: &str) {
        let text = join(text);
        self.print(&wrapped(&text, "   "));
        self.current().text.push(text);
    }

    /// A drawing, printed as it is.
    pub fn draw(&mut self, drawing: &str) {
        self.print(&indented(drawing.trim_matches('\n'), "     "));
        self.current().text.push(drawing.into());
    }

    /// A command and what it printed.
    pub fn command(&mut self, host: &str, command: &str, output: &str) {
        let prompt = self.paint.prompt(&format!("{host}#"));
        let line = format!("   {prompt} {}\n", self.paint.bold(command));
        self.print(&(line + &indented(output.trim_end(), "     ")));
        self.current().commands.push(Command {
            host: host.into(),
            command: command.into(),
            output: output.into(),
        });
    }

    /// A claim, and whether it held.
    pub fn check(&mut self, what: &str, ok: bool, got: Option<String>) {
        let mark = if ok {
            self.paint.good("✔")
        } else {
            self.paint.bad("✘")
        };
        self.print(&format!("   {mark} {what}\n"));
        if let (false, Some(got)) = (ok, &got) {
            self.print(&indented(&format!("got: {got}"), "       "));
        }
        self.record.ok &= ok;
        self.current().checks.push(Check {
            what: what.into(),
            ok,
            got,
        });
    }

    /// The lesson ended early.
    pub fn error(&mut self, error: &str) {
        self.record.ok = false;
        self.record.error = Some(error.into());
        if self.json {
            return;
        }
        let _ = io::stdout().flush();
        eprintln!("{}", self.paint.bad(&format!("\n   {error}")));
    }

    /// Prints the end; true when every claim held.
    pub fn finish(&self) -> bool {
        let checks = self.record.steps.iter().flat_map(|step| &step.checks);
        let (held, all) = checks.fold((0, 0), |(held, all), check| {
            (held + usize::from(check.ok), all + 1)
        });
        if self.json {
            let text = serde_json::to_string_pretty(&self.record).expect("strings and flags");
            let _ = writeln!(io::stdout(), "{text}");
        } else {
            let words = format!("{held} of {all} expectations held.");
            let words = if self.record.ok {
                self.paint.good(&words)
            } else {
                self.paint.bad(&words)
            };
            self.print(&format!("\n{words}\n"));
        }
        self.record.ok
    }

    fn current(&mut self) -> &mut Step {
        if self.record.steps.is_empty() {
            self.record.steps.push(Step::default());
        }
        self.record.steps.last_mut().expect("not empty")
    }

    /// A reader that went away (`| head`) does not end the lesson before its cleaning up.
    fn print(&self, text: &str) {
        if !self.json {
            let _ = io::stdout().write_all(text.as_bytes());
            let _ = io::stdout().flush();
        }
    }
}

/// ANSI colours, or none.
#[derive(Clone, Copy, Debug)]
struct Paint {
    colours: bool,
}

impl Paint {
    fn title(self, text: &str) -> String {
        self.paint("1;36", text)
    }
    fn prompt(self, text: &str) -> String {
        self.paint("33", text)
    }
    fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }
    fn good(self, text: &str) -> String {
        self.paint("32", text)
    }
    fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }
    fn paint(self, code: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.into()
        }
    }
}

/// One blank between words, whatever the source's lines are.
fn join(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn wrapped(text: &str, margin: &str) -> String {
    let mut lines = String::new();
    let mut line = String::from(margin);
    for word in text.split(' ') {
        let fits = line.chars().count() + 1 + word.chars().count() <= WIDTH;
        if line.len() > margin.len() && !fits {
            lines += &line;
            lines.push('\n');
            line = String::from(margin);
        }
        if line.len() > margin.len() {
            line.push(' ');
        }
        line += word;
    }
    lines + &line + "\n"
}

fn indented(text: &str, margin: &str) -> String {
    text.lines()
        .map(|line| format!("{margin}{line}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_wrapped_within_its_width_and_loses_no_word() {
        let text = "word ".repeat(100);
        let text = join(&text);
        let lines = wrapped(&text, "   ");
        assert!(
            lines
                .lines()
                .all(|line| line.len() <= WIDTH && line.starts_with("   w"))
        );
        assert_eq!(join(&lines), text);
    }

    #[test]
    fn without_colours_nothing_is_escaped() {
        assert_eq!(Paint { colours: false }.good("fine"), "fine");
        assert_eq!(Paint { colours: true }.good("fine"), "\x1b[32mfine\x1b[0m");
    }

    #[test]
    fn one_claim_that_failed_makes_the_report_fail() {
        let mut report = Report::new("nat", "title", true);
        report.step("one");
        report.check("this", true, None);
        assert!(report.finish());
        report.check("that", false, Some("something else".into()));
        assert!(!report.finish());
    }
}
