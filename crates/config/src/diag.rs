//! What is to be said about a configuration file: where, how bad, what was expected.
//!
//! A reader of configuration collects [`Diagnostics`]; it never stops at the first problem. They
//! are kept with the text of the lines they speak of, so that they can be shown without the file.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Understood and accepted, but it changes nothing here; the message says why.
    NoEffect,
    /// Works, but probably not as its author thinks.
    Warning,
    /// Wrong; the entry is left out or a default stands in for it, and the rest is still usable.
    Error,
    /// Nothing of the configuration can be used.
    Fatal,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoEffect => "no effect",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Fatal => "fatal",
        })
    }
}

/// A line of a source file, shared by everything that stands on it.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceLine {
    /// Name of the file, as it was asked for.
    pub file: Arc<str>,
    /// Number of the line, from 1; 0 for the file as a whole.
    pub number: u32,
    /// Its text, without the line end.
    pub text: String,
}

/// A place in a source file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: Arc<SourceLine>,
    /// Column in characters, from 1; 0 for the line as a whole.
    pub column: u32,
    /// How many characters are meant; at least 1 where there is a column.
    pub width: u32,
}

impl Place {
    /// A file as a whole.
    pub fn file(name: &str) -> Self {
        Self {
            line: Arc::new(SourceLine {
                file: name.into(),
                number: 0,
                text: String::new(),
            }),
            column: 0,
            width: 0,
        }
    }

    /// A place on a line.
    pub fn new(line: &Arc<SourceLine>, column: u32, width: u32) -> Self {
        Self {
            line: Arc::clone(line),
            column,
            width,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line.file)?;
        if self.line.number > 0 {
            write!(f, ":{}", self.line.number)?;
            if self.column > 0 {
                write!(f, ":{}", self.column)?;
            }
        }
        Ok(())
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Plain<'a> {
            file: &'a str,
            line: u32,
            column: u32,
        }
        Plain {
            file: &self.line.file,
            line: self.line.number,
            column: self.column,
        }
        .serialize(serializer)
    }
}

/// One thing to be said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where.
    pub at: Place,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What could have stood there, or what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Diagnostic {
    /// Without a hint.
    pub fn new(severity: Severity, at: Place, message: impl Into<String>) -> Self {
        Self {
            severity,
            at,
            message: message.into(),
            hint: None,
        }
    }

    /// With a hint, if there is one.
    pub fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }
}

/// `file:line:column: severity: message`, the line with a mark under what is meant, the hint.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}: {}", self.at, self.severity, self.message)?;
        if self.at.column > 0 {
            let line = &self.at.line.text;
            let blank = line.chars().take_while(|c| c.is_whitespace()).count();
            let shown: String = line.trim().chars().map(visible).collect();
            writeln!(f, "    {shown}")?;
            let before = (self.at.column as usize - 1).saturating_sub(blank);
            let length = shown.chars().count();
            let width = (self.at.width.max(1) as usize).min(length.saturating_sub(before).max(1));
            writeln!(
                f,
                "    {}{}",
                " ".repeat(before.min(length)),
                "^".repeat(width)
            )?;
        }
        if let Some(hint) = &self.hint {
            writeln!(f, "    hint: {hint}")?;
        }
        Ok(())
    }
}

/// Control characters of a file do not reach a terminal.
fn visible(c: char) -> char {
    if c == '\t' {
        ' '
    } else if c.is_control() {
        char::REPLACEMENT_CHARACTER
    } else {
        c
    }
}

/// Most diagnostics that are kept of one configuration; what comes after is only counted.
const KEPT: usize = 1000;

/// Everything to be said about a configuration, in the order it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    #[serde(skip)]
    dropped: [usize; 4],
}

impl Diagnostics {
    /// Adds one; the same one is not said twice.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if self.list.len() >= KEPT {
            self.dropped[diagnostic.severity as usize] += 1;
        } else if self.list.last() != Some(&diagnostic) {
            self.list.push(diagnostic);
        }
    }

    /// True when more would only be counted.
    pub fn is_full(&self) -> bool {
        self.list.len() >= KEPT
    }

    /// Those that were kept, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// How many of a severity there are, those not kept included.
    pub fn count(&self, severity: Severity) -> usize {
        let kept = self.list.iter().filter(|d| d.severity == severity).count();
        kept + self.dropped[severity as usize]
    }

    /// The worst severity, if anything was said.
    pub fn worst(&self) -> Option<Severity> {
        [
            Severity::Fatal,
            Severity::Error,
            Severity::Warning,
            Severity::NoEffect,
        ]
        .into_iter()
        .find(|&severity| self.count(severity) > 0)
    }

    /// By file and line, as an editor would walk through them; equal places keep their order.
    pub fn sort(&mut self) {
        let mut files: Vec<Arc<str>> = Vec::new();
        for diagnostic in &self.list {
            if !files.contains(&diagnostic.at.line.file) {
                files.push(Arc::clone(&diagnostic.at.line.file));
            }
        }
        self.list.sort_by_key(|d| {
            let file = files.iter().position(|f| *f == d.at.line.file);
            (file, d.at.line.number, d.at.column)
        });
    }

    /// Everything at or above a severity, as text for people, with a last line that counts.
    pub fn render(&self, least: Severity) -> String {
        let mut text = String::new();
        for diagnostic in self.list.iter().filter(|d| d.severity >= least) {
            let _ = write!(text, "{diagnostic}");
        }
        let dropped: usize = self.dropped.iter().sum();
        if dropped > 0 {
            let _ = writeln!(text, "… and {dropped} more");
        }
        text
    }
}

/// The word of `known` that `word` was probably meant to be.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).clamp(1, 4);
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|&(distance, _)| distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many characters must be inserted, removed, replaced or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (fold(a), fold(b));
    if a.len().abs_diff(b.len()) > 4 {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut cost = (above[j - 1] + same).min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                cost = cost.min(before[j - 2] + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

/// Case, and `-` for `_`, are the commonest slips and cost nothing.
fn fold(word: &str) -> Vec<char> {
    word.chars()
        .take(64)
        .map(|c| {
            if c == '-' {
                '_'
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Arc<SourceLine> {
        Arc::new(SourceLine {
            file: "k.conf".into(),
            number: 7,
            text: text.to_owned(),
        })
    }

    #[test]
    fn a_diagnostic_shows_the_line_and_marks_what_is_meant() {
        let at = Place::new(&line("\t  prioritty 100"), 4, 9);
        let said = Diagnostic::new(Severity::Error, at, "unknown keyword `prioritty`")
            .hint("did you mean `priority`?".to_owned());
        assert_eq!(
            said.to_string(),
            "k.conf:7:4: error: unknown keyword `prioritty`\n    prioritty 100\n    ^^^^^^^^^\n    \
             hint: did you mean `priority`?\n"
        );
    }

    #[test]
    fn a_mark_never_leaves_its_line() {
        let at = Place::new(&line("ab"), 900, 900);
        let said = Diagnostic::new(Severity::Warning, at, "x").to_string();
        assert_eq!(said, "k.conf:7:900: warning: x\n    ab\n      ^\n");
    }

    #[test]
    fn the_nearest_word_is_near() {
        let known = ["priority", "preempt", "state", "interface"];
        for (word, expected) in [
            ("prioritty", Some("priority")),
            ("pirority", Some("priority")),
            ("State", Some("state")),
            ("interfaec", Some("interface")),
            ("weight", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }

    #[test]
    fn too_many_diagnostics_are_counted_but_not_kept() {
        let mut all = Diagnostics::default();
        for column in 1..=2000 {
            all.push(Diagnostic::new(
                Severity::Error,
                Place::new(&line("x"), column, 1),
                "x",
            ));
        }
        assert_eq!(
            (all.iter().count(), all.count(Severity::Error)),
            (KEPT, 2000)
        );
        assert_eq!(all.worst(), Some(Severity::Error));
    }
}
