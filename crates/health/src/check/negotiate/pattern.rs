//! `receive`: a Perl regular expression over what the server said.

use std::fmt;

use fancy_regex::{Regex, RegexBuilder};

use crate::check::Unusable;

/// Steps back that a match may take; an expression that needs more on an answer does not match it.
const BACKTRACKS: usize = 100_000;

/// A compiled `receive`: unanchored, case-sensitive.
#[derive(Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles `text`.
    ///
    /// # Errors
    /// When it is not a regular expression, or one with Perl code in it.
    pub fn new(text: &str) -> Result<Self, Unusable> {
        RegexBuilder::new(text)
            .backtrack_limit(BACKTRACKS)
            .build()
            .map(Self)
            .map_err(|error| Unusable(format!("receive is not a regular expression: {error}")))
    }

    /// Whether some part of `answer` matches. Bytes that are not UTF-8 stand for a character each.
    pub fn matches(&self, answer: impl AsRef<[u8]>) -> bool {
        let text = String::from_utf8_lossy(answer.as_ref());
        self.0.is_match(&*text).unwrap_or(false)
    }

    /// The expression as it was configured.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_of_perl_match_as_in_perl() {
        for (pattern, answer, matches) in [
            ("ok", "it is ok", true),
            ("OK", "it is ok", false),
            ("(?i)OK", "it is ok", true),
            ("^ok$", "ok", true),
            (r"(?<!not )ok", "not ok", false),
            (r"(\w+) \1", "the the", true),
            (r"\d+\.\d+", "version 1.2", true),
            ("", "anything", true),
            ("^(a+)+$", &("a".repeat(40) + "b"), false),
        ] {
            let found = Pattern::new(pattern).unwrap().matches(answer);
            assert_eq!(found, matches, "/{pattern}/ on {answer}");
        }
        assert!(Pattern::new("(").is_err());
    }
}
