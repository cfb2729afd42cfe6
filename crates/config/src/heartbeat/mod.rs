//! The files of heartbeat 3.0 without a cluster resource manager ("version 1"): `haresources`,
//! `ha.cf` and `authkeys`.
//!
//! Each is read whole, with every problem it has; nothing is resolved or looked up here. What they
//! mean to VRRP is in `mapping`.

pub mod authkeys;
pub mod ha_cf;
pub mod haresources;
mod mapping;
mod sequence;

pub use authkeys::{AuthKeys, Method};
pub use ha_cf::{AutoFailback, HaCf, Medium};
pub use haresources::{Address, Group, HaResources, Resource};
pub use mapping::{Node, VrrpPlan, plan, virtual_router_id};
pub use sequence::{Action, Outcome, Sequence, Step};

use std::fmt;

use crate::ldirectord::Severity;

/// What is wrong with one of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether the file is refused.
    pub severity: Severity,
    /// Line, counted from 1.
    pub line: usize,
    /// Column in bytes, counted from 1.
    pub column: usize,
    /// What is wrong, and what was expected.
    pub text: String,
}

impl Problem {
    fn error(word: &Word<'_>, text: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            line: word.line,
            column: word.column,
            text: text.into(),
        }
    }

    fn warning(word: &Word<'_>, text: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(word, text)
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.text)
    }
}

/// A word and where it stands.
#[derive(Clone, Copy, Debug)]
struct Word<'a> {
    text: &'a str,
    line: usize,
    column: usize,
}

/// The words of a line, up to a comment.
fn words(line: &str, number: usize) -> Vec<Word<'_>> {
    let code = line.split('#').next().unwrap_or_default();
    let mut words = Vec::new();
    let mut at = 0;
    for part in code.split_inclusive(char::is_whitespace) {
        let text = part.trim_end();
        if !text.is_empty() {
            words.push(Word {
                text,
                line: number,
                column: at + 1,
            });
        }
        at += part.len();
    }
    words
}

#[cfg(test)]
mod tests;
