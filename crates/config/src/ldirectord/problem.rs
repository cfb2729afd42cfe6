use std::fmt;

use super::lex::Line;

/// Whether a file with such a problem is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// Said, and no more.
    Warning,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How wrong.
    pub severity: Severity,
    /// The line, counted from 1; `None` where it is about no single line.
    pub line: Option<usize>,
    /// The column where the value begins, in bytes, counted from 1.
    pub column: usize,
    /// The original's words, where it has any.
    pub text: String,
    /// What would be right; empty where the text says it already.
    pub expected: &'static str,
}

impl Problem {
    pub(super) fn warning(line: Option<usize>, text: String) -> Self {
        Self {
            severity: Severity::Warning,
            line,
            column: 1,
            text,
            expected: "",
        }
    }

    /// The line that the original writes: `Error [PID] reading file FILE at line N: TEXT`.
    pub fn original(&self, file: &str, pid: u32) -> String {
        let kind = match self.severity {
            Severity::Error => "Error",
            Severity::Warning => "Warning",
        };
        let place = match self.line {
            Some(line) => format!(" reading file {file} at line {line}"),
            None => String::new(),
        };
        let text = self.text.strip_suffix('\n').unwrap_or(&self.text);
        format!("{kind} [{pid}]{place}: {text}")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "{line}:{}: ", self.column)?;
        }
        f.write_str(self.text.trim_end())?;
        if !self.expected.is_empty() {
            write!(f, "; expected {}", self.expected)?;
        }
        Ok(())
    }
}

/// An error before its place is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    text: String,
    expected: &'static str,
    /// What of the line it is about, to find the column.
    about: Option<String>,
}

impl Fault {
    pub fn new(text: impl Into<String>, expected: &'static str) -> Self {
        Self {
            text: text.into(),
            expected,
            about: None,
        }
    }

    /// Points to a part of the line.
    pub fn about(mut self, part: &str) -> Self {
        self.about = Some(part.to_owned());
        self
    }

    pub fn at(self, line: Line<'_>) -> Problem {
        let value = || line.text.find('=').map(|at| at + 1);
        let blanks = |at: usize| {
            let rest = line.text.get(at..).unwrap_or_default();
            at + (rest.len() - rest.trim_start().len())
        };
        let start = match self.about.filter(|part| !part.is_empty()) {
            Some(part) => line.text.find(&part).unwrap_or(0),
            None => value().map_or(0, blanks),
        };
        Problem {
            severity: Severity::Error,
            line: Some(line.number),
            column: start + 1,
            text: self.text,
            expected: self.expected,
        }
    }
}
