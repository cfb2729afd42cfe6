//! `receive`: a Perl regular expression over what the server said.

use std::borrow::Cow;
use std::fmt;

use fancy_regex::{Regex, RegexBuilder};

use crate::check::Unusable;

/// Steps back that a match may take; an expression that needs more on an answer does not match it.
const BACKTRACKS: usize = 100_000;

/// A compiled `receive`: unanchored, case-sensitive.
#[derive(Clone)]
pub struct Pattern {
    regex: Regex,
    text: String,
}

impl Pattern {
    /// Compiles `text`.
    ///
    /// # Errors
    /// When it is not a regular expression, or one with Perl code in it.
    pub fn new(text: &str) -> Result<Self, Unusable> {
        // `as_str` of the compiled one would show what became of it.
        let regex = RegexBuilder::new(&dollars(text))
            .backtrack_limit(BACKTRACKS)
            .build();
        let text = text.to_owned();
        regex
            .map(|regex| Self { regex, text })
            .map_err(|error| Unusable(format!("receive is not a regular expression: {error}")))
    }

    /// Whether some part of `answer` matches. Bytes that are not UTF-8 stand for a character each.
    pub fn matches(&self, answer: impl AsRef<[u8]>) -> bool {
        let text = String::from_utf8_lossy(answer.as_ref());
        self.regex.is_match(&*text).unwrap_or(false)
    }

    /// The expression as it was configured.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Makes each `$` what it is to Perl: the end, or before a line feed that is the last character.
fn dollars(text: &str) -> Cow<'_, str> {
    // Whoever asks for lines (`(?m)`) gets the ends of lines, which are the same in both.
    if !text.contains('$') || text.contains("(?m") {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 8);
    let mut in_class = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                out.push(c);
                out.extend(chars.next());
                continue;
            }
            // `[:digit:]`, whose bracket does not end the class around it.
            '[' if in_class && chars.peek() == Some(&':') => {
                out.push(c);
                for c in chars.by_ref() {
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
                continue;
            }
            '[' if !in_class => {
                in_class = true;
                out.push(c);
                // A bracket that comes first stands for itself.
                for first in ['^', ']'] {
                    out.extend(chars.next_if_eq(&first));
                }
                continue;
            }
            ']' => in_class = false,
            '$' if !in_class => {
                out.push_str(r"(?=\n?\z)");
                continue;
            }
            _ => {}
        }
        out.push(c);
    }
    out.into()
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
            ("^ok$", "ok\n", true),
            ("^ok$", "ok\n\n", false),
            ("^ok$", "ok\nmore", false),
            ("(?m)^ok$", "ok\nmore", true),
            ("ok[$]", "ok$", true),
            ("^[[:digit:]$]+$", "1$2\n", true),
            ("^[]$]+$", "]$", true),
            ("^[^]$]+$", "a$", false),
            (r"ok\$", "ok$", true),
            ("(ok|ko)$", "ko\n", true),
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
