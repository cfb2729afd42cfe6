//! `regex` of a url: a PCRE over the body's bytes.

use fancy_regex::{BytesMode, Regex, RegexBuilder};
use pointsman_model::check::{RegexCheck, RegexOption};

use crate::check::Unusable;

/// Steps back that a match may take; a pattern that needs more on a body does not match it.
const BACKTRACKS: usize = 100_000;

/// A compiled pattern with the places where it may match.
#[derive(Debug)]
pub(super) struct BodyPattern {
    text: String,
    regex: Regex,
    negate: bool,
    min_offset: usize,
    max_offset: Option<usize>,
}

impl BodyPattern {
    /// Compiles it. Options that only change how fast PCRE2 is have no effect here; those that change
    /// what matches are heeded or refused.
    pub(super) fn new(check: &RegexCheck) -> Result<Self, Unusable> {
        let mut pattern = match check.options.contains(&RegexOption::DollarEndonly) {
            true => check.pattern.clone(),
            false => before_last_newline(&check.pattern),
        };
        let mut builder = RegexBuilder::new("");
        builder.backtrack_limit(BACKTRACKS);
        let mut mode = BytesMode::Ascii;
        for option in &check.options {
            match option {
                RegexOption::Caseless => _ = builder.case_insensitive(true),
                RegexOption::Dotall => _ = builder.dot_matches_new_line(true),
                RegexOption::Multiline => _ = builder.multi_line(true),
                RegexOption::Extended => _ = builder.verbose_mode(true),
                RegexOption::Ungreedy => pattern.insert_str(0, "(?U)"),
                RegexOption::Utf | RegexOption::Ucp => mode = BytesMode::UnicodeBytes,
                // A match may go over the first line's end, but not begin there.
                RegexOption::Firstline => pattern = format!(r"\A(?-s:.)*?(?:{pattern})"),
                RegexOption::DollarEndonly
                | RegexOption::AutoCallout
                | RegexOption::Dupnames
                | RegexOption::NeverBackslashC
                | RegexOption::NeverUcp
                | RegexOption::NeverUtf
                | RegexOption::NoAutoCapture
                | RegexOption::NoAutoPossess
                | RegexOption::NoDotstarAnchor
                | RegexOption::NoStartOptimize
                | RegexOption::UseOffsetLimit => {}
                RegexOption::AllowEmptyClass
                | RegexOption::AltBsux
                | RegexOption::AltCircumflex
                | RegexOption::AltVerbnames
                | RegexOption::MatchUnsetBackref => {
                    let name = RegexOption::ALL
                        .iter()
                        .find_map(|(name, other)| (other == option).then_some(*name))
                        .unwrap_or_default();
                    return Err(Unusable(format!("regex_options {name} is not supported")));
                }
            }
        }
        let regex = builder
            .bytes_mode(mode)
            .unicode_mode(mode == BytesMode::UnicodeBytes)
            .pattern(pattern)
            .build()
            .map_err(|error| Unusable(format!("regex `{}`: {error}", check.pattern)))?;
        Ok(Self {
            text: check.pattern.clone(),
            regex,
            negate: check.negate,
            min_offset: check.min_offset,
            max_offset: check.max_offset,
        })
    }

    /// Whether the body passes, or why not.
    pub(super) fn judge(&self, body: &[u8]) -> Result<(), String> {
        let pattern = &self.text;
        let found = match self.min_offset <= body.len() {
            true => self
                .regex
                .find_from_pos(body, self.min_offset)
                .map_err(|error| format!("/{pattern}/ gave up on the body: {error}"))?,
            false => None,
        };
        let found =
            found.is_some_and(|found| self.max_offset.is_none_or(|max| found.start() <= max));
        match (found, self.negate) {
            (true, false) | (false, true) => Ok(()),
            (false, false) => Err(format!("the body does not match /{pattern}/")),
            (true, true) => Err(format!("the body matches /{pattern}/")),
        }
    }
}

/// Makes `$` match before a newline that ends the body, too, as in PCRE and unlike in Rust's engines.
fn before_last_newline(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let (mut in_class, mut quoted) = (false, false);
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => {
                out.push(c);
                if let Some(next) = rest.next() {
                    quoted = next == 'Q' || (quoted && next != 'E');
                    out.push(next);
                }
            }
            _ if quoted => out.push(c),
            '[' if !in_class => {
                in_class = true;
                out.push(c);
                // A bracket that comes first in a class is one of its characters.
                out.extend(rest.next_if_eq(&'^'));
                out.extend(rest.next_if_eq(&']'));
            }
            ']' => {
                in_class = false;
                out.push(c);
            }
            '$' if !in_class => out.push_str(r"(?:$|(?=\n\z))"),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str) -> RegexCheck {
        RegexCheck {
            pattern: pattern.into(),
            options: Vec::new(),
            negate: false,
            min_offset: 0,
            max_offset: None,
        }
    }

    fn matches(check: &RegexCheck, body: &[u8]) -> bool {
        BodyPattern::new(check).unwrap().judge(body).is_ok()
    }

    #[test]
    fn patterns_of_pcre_match_bytes() {
        for (pattern, body, wanted) in [
            ("ok", &b"it is ok"[..], true),
            ("^ok$", b"ok", true),
            ("^ok$", b"ok\n", true),
            ("^ok$", b"ok\n\n", false),
            (r"^(ok|ko)$", b"ko\n", true),
            (r"^1\$", b"1$", true),
            ("^[$]x[^]$]", b"$xy", true),
            ("(?m)^ok$", b"a\nok\nb", true),
            ("a.c", b"a\xffc", true),
            ("a.c", b"a\nc", false),
            (r"\w", b"\xe9", false),
            (r"(\w)\1", b"abccd", true),
            ("(?<!not )up", b"not up", false),
            ("(?i)UP", b"up", true),
            (r"\x00\xff", b"a\x00\xff", true),
        ] {
            assert_eq!(matches(&check(pattern), body), wanted, "{pattern}");
        }
    }

    #[test]
    fn options_change_what_matches() {
        for (option, pattern, body) in [
            (RegexOption::Caseless, "OK", "ok"),
            (RegexOption::Dotall, "a.b", "a\nb"),
            (RegexOption::Multiline, "^b$", "a\nb\nc"),
            (RegexOption::Extended, "a b", "ab"),
            (RegexOption::Utf, "^.$", "é"),
        ] {
            let mut check = check(pattern);
            assert!(!matches(&check, body.as_bytes()), "{option:?}");
            check.options.push(option);
            assert!(matches(&check, body.as_bytes()), "{option:?}");
        }
        let mut first = check("b");
        first.options.push(RegexOption::Firstline);
        assert!(matches(&first, b"ab\n") && !matches(&first, b"a\nb"));
        let mut end = check("ok$");
        assert!(matches(&end, b"ok\n"));
        end.options.push(RegexOption::DollarEndonly);
        assert!(matches(&end, b"ok") && !matches(&end, b"ok\n"));
        let mut odd = check("a");
        odd.options.push(RegexOption::AltBsux);
        assert!(BodyPattern::new(&odd).unwrap_err().0.contains("alt_bsux"));
    }

    #[test]
    fn offsets_bound_where_a_match_begins() {
        for (min, max, wanted) in [
            (0, None, true),
            (3, None, true),
            (4, None, false),
            (0, Some(3), true),
            (0, Some(2), false),
            (100, None, false),
        ] {
            let mut check = check("ok");
            (check.min_offset, check.max_offset) = (min, max);
            assert_eq!(matches(&check, b"is ok"), wanted, "{min} {max:?}");
        }
    }

    #[test]
    fn no_match_may_be_what_is_wanted() {
        let mut check = check("error");
        check.negate = true;
        assert!(matches(&check, b"fine") && !matches(&check, b"an error"));
    }

    #[test]
    fn a_pattern_that_explodes_gives_up() {
        let pattern = BodyPattern::new(&check(r"(?=(a+)+b)\1x")).unwrap();
        let began = std::time::Instant::now();
        assert!(pattern.judge(&[b'a'; 200]).is_err());
        assert!(began.elapsed().as_secs() < 5);
    }
}
