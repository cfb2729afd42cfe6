//! `ldirectord.cf`: the language of ldirectord 4.12, read as it reads it.
//!
//! The original is a chain of Perl patterns, and files in the field live by them: values are found by
//! searching (`checkinterval = 5 # x` is five), yes and no must stand alone, an empty line ends a
//! block. [`read`] keeps to that, with the original's words for what it refuses, and adds what was
//! expected and where. Unlike the original it goes on after an error, so that all of a file's
//! problems are seen at once; the first error is the one that the original stops at.
//!
//! Names are resolved, and files looked for, through [`Surroundings`].

mod block;
mod check;
mod config;
mod fallback;
mod global;
mod identity;
mod ipvs;
mod lex;
mod problem;
mod real;
mod service;
mod surroundings;
mod value;
mod virtual_line;

pub use config::{
    CheckType, Config, DaemonStatus, Email, Fallback, Globals, Log, Real, Statuses, Virtual,
};
pub use identity::server_label;
pub use problem::{Problem, Severity};
pub use surroundings::{Numeric, Surroundings};

use lex::{Line, Lines};

/// A file as it was read.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// What it says, as far as it could be understood.
    pub config: Config,
    /// Errors and warnings, in the order in which the original comes by them.
    pub problems: Vec<Problem>,
}

impl Reading {
    /// The configuration, if nothing is wrong with it.
    ///
    /// # Errors
    /// With the first error: the one at which the original stops.
    pub fn config(self) -> Result<Config, Problem> {
        let error = |problem: &Problem| problem.severity == Severity::Error;
        match self.problems.into_iter().find(error) {
            Some(problem) => Err(problem),
            None => Ok(self.config),
        }
    }
}

/// Reads the text of an `ldirectord.cf`.
pub fn read(text: &str, surroundings: &dyn Surroundings) -> Reading {
    let mut lines = Lines::new(text);
    let mut reading = Reading::default();
    let mut here = Reader {
        surroundings,
        problems: Vec::new(),
    };
    while let Some(line) = lines.global() {
        match virtual_line::header(line.text) {
            Some(header) => here.block(line, &header, &mut lines, &mut reading.config),
            None if line.is_blank() => {}
            None => here.global(line, &mut reading.config.globals),
        }
    }
    if !reading.config.globals.fork {
        for service in &reading.config.virtuals {
            if service.check_interval.is_some() {
                here.problems.push(Problem::warning(
                    None,
                    format!(
                        "checkinterval in virtual service {} ignored when fork=no",
                        service.id()
                    ),
                ));
            }
        }
    }
    reading.problems = here.problems;
    reading
}

/// What every part of the reader needs.
struct Reader<'a> {
    surroundings: &'a dyn Surroundings,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    /// Notes what went wrong, if it did; the value otherwise.
    fn note<T>(&mut self, line: Line<'_>, result: Result<T, problem::Fault>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(fault) => {
                self.problems.push(fault.at(line));
                None
            }
        }
    }

    fn warn(&mut self, line: Line<'_>, text: impl Into<String>) {
        self.problems
            .push(Problem::warning(Some(line.number), text.into()));
    }
}

#[cfg(test)]
mod tests;
