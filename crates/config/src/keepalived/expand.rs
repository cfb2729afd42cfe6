//! From files to plain lines: comments taken off, conditions decided, definitions put in, loops
//! unrolled, other files included. What comes out still knows its place.
//!
//! The order of steps for each line is keepalived's. Everything is bounded: a definition that
//! contains itself, files that include each other and loops of a thousand million turns end with an
//! error.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::define::{BuiltIn, Definitions, Random, Reference, Value, definition};
use super::include::{self, Checks, Files};
use super::lex::{LONGEST_LINE, Text, Word, is_blank, place, uncomment, words};
use super::{Options, sequence};
use crate::diag::{Diagnostic, Diagnostics, Place, Severity, SourceLine};

/// Most lines that a configuration may have when everything is expanded.
const MOST_LINES: usize = 200_000;
/// Most characters of them all.
const MOST_CHARS: usize = 16 << 20;
/// Most steps: lines read, turns of loops, definitions put in.
const MOST_STEPS: usize = 400_000;
/// Deepest nesting of loops and definitions of several lines, and of files.
const DEEPEST: usize = 32;
/// Most definitions put into one line.
const MOST_SUBSTITUTIONS: usize = 1000;

/// A line as it is to be understood.
#[derive(Clone, Debug)]
pub struct Line {
    /// The line of a file that it came from.
    pub source: Arc<SourceLine>,
    /// What it says.
    pub text: Text,
}

/// Reads `path`, which may be a pattern, and everything it includes.
pub fn expand(
    path: &Path,
    files: &dyn Files,
    options: &Options,
    diagnostics: &mut Diagnostics,
) -> Vec<Line> {
    let mut expander = Expander {
        files,
        options,
        diagnostics,
        definitions: Definitions::default(),
        random: Random(options.random_seed),
        collecting: None,
        checks: if options.all_include_checks {
            Checks::ALL
        } else {
            Checks::default()
        },
        open_files: Vec::new(),
        lines: Vec::new(),
        chars: 0,
        steps: 0,
        stopped: false,
    };
    expander.start(path);
    if expander.stopped {
        // Half a configuration would only give misleading messages.
        expander.lines.clear();
    }
    expander.lines
}

struct Expander<'a> {
    files: &'a dyn Files,
    options: &'a Options,
    diagnostics: &'a mut Diagnostics,
    definitions: Definitions,
    random: Random,
    /// A definition of several lines whose end has not come yet.
    collecting: Option<(String, Vec<Text>)>,
    checks: Checks,
    open_files: Vec<PathBuf>,
    lines: Vec<Line>,
    chars: usize,
    steps: usize,
    stopped: bool,
}

impl Expander<'_> {
    fn start(&mut self, path: &Path) {
        let instance = Text::of_line(&self.options.config_id);
        for (name, value) in [
            ("_INSTANCE", Value::Line(instance)),
            ("_HASH", Value::BuiltIn(BuiltIn::Character('#'))),
            ("_BANG", Value::BuiltIn(BuiltIn::Character('!'))),
            ("_RANDOM", Value::BuiltIn(BuiltIn::Random)),
            ("_ENV", Value::BuiltIn(BuiltIn::Environment)),
        ] {
            self.definitions.set(name, value);
        }
        let name = path.to_string_lossy();
        let whole = Place::file(&name);
        let checks = Checks {
            readable: true,
            ..self.checks
        };
        match include::expand(&name, Path::new(""), checks, self.files) {
            Err(problem) => self.fatal(whole, format!("cannot read it: {problem}"), None),
            Ok(found) if found.files.is_empty() => {
                let why = match found.skipped.first() {
                    Some((_, why)) => format!("{why}, and so it is not read"),
                    None => "there is no such file".to_owned(),
                };
                self.fatal(whole, why, None);
            }
            Ok(found) => {
                for file in found.files {
                    self.file(&file, &whole, true);
                }
            }
        }
    }

    fn file(&mut self, path: &Path, asked_by: &Place, must: bool) {
        if self.stopped {
            return;
        }
        let name: Arc<str> = path.to_string_lossy().into();
        if self.open_files.len() >= DEEPEST || self.open_files.iter().any(|f| f == path) {
            let message = format!("`{name}` would be included without end");
            return self.fatal(asked_by.clone(), message, None);
        }
        let bytes = match self.files.read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let severity = if must {
                    Severity::Fatal
                } else {
                    Severity::Error
                };
                let message = format!("cannot read `{name}`: {error}");
                self.stopped |= must;
                return self.say(severity, asked_by.clone(), message, None);
            }
        };
        self.open_files.push(path.to_owned());
        self.set_directory();
        let checks = self.checks;
        // One allocation serves all lines; most of a file is plain.
        let mut rest = &bytes[..];
        let mut number = 0;
        while !rest.is_empty() && !self.stopped {
            let end = rest
                .iter()
                .position(|&b| b == b'\n')
                .map_or(rest.len(), |i| i + 1);
            let (line, following) = rest.split_at(end);
            rest = following;
            number += 1;
            self.physical(line, &name, number);
        }
        self.end_definition();
        self.checks = checks;
        self.open_files.pop();
        self.set_directory();
    }

    /// `_PWD` is the directory of the file being read.
    fn set_directory(&mut self) {
        let directory = self.directory();
        let directory = std::path::absolute(&directory).unwrap_or(directory);
        let value = Text::of_line(&directory.to_string_lossy());
        self.definitions.set("_PWD", Value::Line(value));
    }

    fn directory(&self) -> PathBuf {
        match self.open_files.last().and_then(|file| file.parent()) {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        }
    }

    fn physical(&mut self, bytes: &[u8], file: &Arc<str>, number: u32) {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_end_matches(['\n', '\r']);
        let source = Arc::new(SourceLine {
            file: Arc::clone(file),
            number,
            text: text.chars().take(LONGEST_LINE).collect(),
        });
        let whole = Place::new(&source, 1, 1);
        if bytes.len() >= LONGEST_LINE {
            let message = format!(
                "the line is longer than {} bytes, and left out",
                LONGEST_LINE - 1
            );
            return self.say(Severity::Error, whole, message, None);
        }
        if bytes.contains(&0) {
            let message = "the line holds a NUL byte, and is left out";
            return self.say(Severity::Error, whole, message.to_owned(), None);
        }
        if text.is_empty() {
            // A definition of several lines ends here at the latest.
            return self.end_definition();
        }
        let mut left = uncomment(&Text::of_line(text));
        self.check_quote(&left.text, left.open_quote, &source);
        if left.continues {
            left.text
                .append(&Text::at_column("\\", text.chars().count() as u32));
        }
        if !left.text.is_empty() {
            self.logical(left.text, &source, 0);
        }
    }

    /// A line without its comment: of a file, a loop, or a definition of several lines.
    fn logical(&mut self, text: Text, source: &Arc<SourceLine>, depth: usize) {
        if !self.step(&text, source) {
            return;
        }
        if self.collecting.is_some() {
            return self.collect(&text);
        }
        if depth > DEEPEST {
            let message = "loops and definitions are nested too deeply".to_owned();
            return self.fatal(place(&text, 0..1, source), message, None);
        }
        let mut following = Vec::new();
        self.first_line(text, &mut following, source, depth);
        for line in following {
            if self.stopped {
                return;
            }
            self.logical(line, source, depth + 1);
        }
    }

    /// A line up to the end of its own text; other lines of a definition in it come after it.
    fn first_line(
        &mut self,
        mut text: Text,
        following: &mut Vec<Text>,
        source: &Arc<SourceLine>,
        depth: usize,
    ) {
        let mut budget = MOST_SUBSTITUTIONS;
        loop {
            while text.at(0) == Some('@') {
                if !self.condition(&mut text) {
                    return;
                }
            }
            if let Some(found) = definition(&text) {
                return self.define(found.name, found.value);
            }
            if text.starts_with("~SEQ") || text.starts_with("~LST") {
                return self.repeat(&text, source, depth);
            }
            match self.substitute(&mut text, following, &mut budget, source) {
                Substituted::Nothing => break,
                Substituted::Something => {
                    let left = uncomment(&text);
                    self.check_quote(&left.text, left.open_quote, source);
                    text = left.text;
                }
                Substituted::TooMuch => return,
            }
        }
        self.statement_or_include(text, source);
    }

    /// `@word rest`, `@^word rest`: strips the condition, or says that the line does not hold.
    fn condition(&self, text: &mut Text) -> bool {
        let unless = text.at(1) == Some('^');
        let start = if unless { 2 } else { 1 };
        let Some(end) = text.find(start, |c| c == ' ' || c == '\t') else {
            return false;
        };
        let holds = text.slice(start..end).plain() == self.options.config_id;
        *text = text.from(text.skip_blanks(end));
        holds != unless
    }

    fn define(&mut self, name: String, value: Text) {
        match last_is_backslash(&value) {
            None => self.definitions.set(&name, Value::Line(value)),
            Some(value) => {
                let first = (!value.is_empty()).then_some(value);
                self.collecting = Some((name, first.into_iter().collect()));
            }
        }
    }

    fn collect(&mut self, text: &Text) {
        let Some((_, lines)) = &mut self.collecting else {
            return;
        };
        match last_is_backslash(text) {
            Some(line) if line.is_empty() => {}
            Some(line) => lines.push(line),
            None => {
                lines.push(text.clone());
                self.end_definition();
            }
        }
    }

    fn end_definition(&mut self) {
        if let Some((name, lines)) = self.collecting.take() {
            let value = if lines.is_empty() {
                Value::Line(Text::default())
            } else {
                Value::Lines(lines)
            };
            self.definitions.set(&name, value);
        }
    }

    fn repeat(&mut self, text: &Text, source: &Arc<SourceLine>, depth: usize) {
        // Arguments are looked at before the loop; definitions in them hold as they are now.
        let argument = |mut argument: Text| {
            let mut budget = MOST_SUBSTITUTIONS;
            let mut none = Vec::new();
            while let Substituted::Something =
                self.substitute(&mut argument, &mut none, &mut budget, source)
            {}
            argument
        };
        let found = match sequence::read(text, argument) {
            Ok(found) => found,
            Err(problem) => {
                let word = text.slice(0..4).plain();
                let at = place(text, 0..text.len(), source);
                let message = format!("invalid {word}, and the line is left out: {problem}");
                return self.say(Severity::Error, at, message, None);
            }
        };
        if found.text.is_empty() {
            return;
        }
        for values in found.turns {
            for (name, value) in found.names.iter().zip(values) {
                self.definitions
                    .set(name, Value::Line(Text::of_line(&value)));
            }
            self.logical(found.text.clone(), source, depth + 1);
            if self.stopped {
                return;
            }
        }
    }

    /// Puts values in the place of names, from left to right, in what was put in too.
    fn substitute(
        &mut self,
        text: &mut Text,
        following: &mut Vec<Text>,
        budget: &mut usize,
        source: &Arc<SourceLine>,
    ) -> Substituted {
        let mut from = 0;
        let mut done = Substituted::Nothing;
        while let Some(reference) = self.definitions.next_reference(text, from) {
            let column = text.column(reference.start);
            self.steps += 1;
            *budget = budget.saturating_sub(1);
            let value = match self.value(&reference, column) {
                Some(Value::Lines(lines)) => {
                    let mut lines = lines.iter().map(|line| line.moved_to(column));
                    let first = lines.next().unwrap_or_default();
                    // A definition within a definition: its lines come first.
                    let mut all: Vec<Text> = lines.collect();
                    all.append(following);
                    *following = all;
                    first
                }
                Some(Value::Line(line)) => line.moved_to(column),
                Some(Value::BuiltIn(_)) | None => Text::default(),
            };
            let length = text.len() - (reference.end - reference.start) + value.len();
            if *budget == 0 || length >= LONGEST_LINE || following.len() > MOST_SUBSTITUTIONS {
                let at = place(text, reference.start..reference.end, source);
                let message = format!(
                    "with the value of `{}` the line grows too long, and is left out",
                    reference.name
                );
                let hint = "does the definition contain itself?".to_owned();
                self.say(Severity::Error, at, message, Some(hint));
                return Substituted::TooMuch;
            }
            let is_loop = value.at(value.skip_blanks(0)) == Some('~');
            text.replace(reference.start..reference.end, &value);
            from = reference.start;
            done = Substituted::Something;
            if is_loop {
                // The names behind it are the loop's to define.
                break;
            }
        }
        done
    }

    fn value(&mut self, reference: &Reference, column: u32) -> Option<Value> {
        match self.definitions.value(&reference.name)? {
            Value::BuiltIn(BuiltIn::Random) => {
                let bound = |i: usize, default| match reference.parameters.get(i) {
                    Some(text) => text.parse().unwrap_or(u64::MAX),
                    None => default,
                };
                let number = self.random.between(bound(0, 0), bound(1, 32767));
                Some(Value::Line(Text::at_column(&number.to_string(), column)))
            }
            Value::BuiltIn(BuiltIn::Environment) => {
                let name = reference.parameters.first()?;
                let value = self
                    .options
                    .environment
                    .get(name)
                    .map_or("", String::as_str);
                Some(Value::Line(Text::at_column(value, column)))
            }
            value => Some(value.clone()),
        }
    }

    fn statement_or_include(&mut self, text: Text, source: &Arc<SourceLine>) {
        let mut text = text.trimmed();
        self.definitions.put_characters(&mut text);
        if text.is_empty() {
            return;
        }
        let end = text.find(0, is_blank).unwrap_or(text.len());
        if let Some(checks) = Checks::of_keyword(&text.slice(0..end).plain(), self.checks) {
            return self.include(&text, end, checks, source);
        }
        self.include_check(&text, source);
        self.chars += text.len();
        self.lines.push(Line {
            source: Arc::clone(source),
            text,
        });
    }

    fn include(&mut self, text: &Text, end: usize, checks: Checks, source: &Arc<SourceLine>) {
        let rest = words(&text.from(end), source);
        let keyword = place(text, 0..end, source);
        let [Word { text: pattern, at }] = &rest[..] else {
            let message = "one file name or pattern is expected".to_owned();
            return self.say(Severity::Error, keyword, message, None);
        };
        let found = match include::expand(pattern, &self.directory(), checks, self.files) {
            Ok(found) => found,
            Err(problem) => {
                let message = format!("cannot include `{pattern}`: {problem}");
                return self.say(Severity::Error, at.clone(), message, None);
            }
        };
        for missing in &found.missing {
            let message = format!("no file matches `{missing}`");
            if found.forbidden {
                let hint = "`include` does without, unless include_check says otherwise".to_owned();
                self.fatal(at.clone(), message, Some(hint));
            } else {
                self.say(Severity::Warning, at.clone(), message, None);
            }
        }
        for (path, why) in &found.skipped {
            let message = format!("`{}` is not included: {why}", path.display());
            self.say(Severity::Warning, at.clone(), message, None);
        }
        for file in &found.files {
            self.file(file, at, checks.readable);
        }
    }

    /// Includes further down go by it, so it is looked at here already.
    fn include_check(&mut self, text: &Text, source: &Arc<SourceLine>) {
        let found = words(text, source);
        let found: Vec<&str> = found.iter().map(|w| w.text.as_str()).collect();
        let Some(start) = found.iter().position(|w| *w == "include_check") else {
            return;
        };
        let end = found[start..]
            .iter()
            .position(|w| *w == "}")
            .map_or(found.len(), |i| start + i);
        // A wrong word is reported by whoever reads global_defs.
        if let Ok(checks) = self.checks.changed_by(&found[start + 1..end])
            && start <= 2
        {
            self.checks = checks;
        }
    }

    fn check_quote(&mut self, text: &Text, quote: Option<usize>, source: &Arc<SourceLine>) {
        if let Some(index) = quote {
            let at = place(text, index..index + 1, source);
            let hint =
                "a closing `\"` is missing; the rest of the line counts as quoted".to_owned();
            self.say(
                Severity::Error,
                at,
                "unterminated quote".to_owned(),
                Some(hint),
            );
        }
    }

    /// Counts a step; false when there were too many.
    fn step(&mut self, text: &Text, source: &Arc<SourceLine>) -> bool {
        self.steps += 1;
        let too_many =
            self.steps > MOST_STEPS || self.lines.len() > MOST_LINES || self.chars > MOST_CHARS;
        if too_many && !self.stopped {
            let message = "the configuration grows beyond all bounds here".to_owned();
            self.fatal(place(text, 0..1, source), message, None);
        }
        !self.stopped
    }

    fn fatal(&mut self, at: Place, message: String, hint: Option<String>) {
        self.stopped = true;
        self.say(Severity::Fatal, at, message, hint);
    }

    fn say(&mut self, severity: Severity, at: Place, message: String, hint: Option<String>) {
        self.diagnostics
            .push(Diagnostic::new(severity, at, message).hint(hint));
    }
}

enum Substituted {
    Nothing,
    Something,
    /// The line grew too long; it was reported.
    TooMuch,
}

/// Without the `\` at its end, if it has one, and without the blanks before it.
fn last_is_backslash(text: &Text) -> Option<Text> {
    let last = text.len().checked_sub(1)?;
    let single = text.at(last) == Some('\\');
    single.then(|| text.slice(0..last).trimmed())
}
