//! Lines: which belong to a block, and what the original sees of them.

/// A line of the file, without its line feed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    /// Counted from 1.
    pub number: usize,
    pub text: &'a str,
    /// Whether a line feed follows; the original quotes it with the line.
    pub ended: bool,
}

impl Line<'_> {
    /// Empty, or nothing but a comment.
    pub fn is_blank(&self) -> bool {
        let text = self.text.trim_start();
        text.is_empty() || text.starts_with('#')
    }

    /// The text as the original quotes it.
    pub fn quoted(&self) -> String {
        let end = if self.ended { "\n" } else { "" };
        format!("{}{end}", self.text)
    }
}

/// The lines of a file, with the one that ended a block coming again as a global one.
pub(super) struct Lines<'a> {
    rest: std::str::SplitInclusive<'a, char>,
    number: usize,
    again: Option<Line<'a>>,
}

impl<'a> Lines<'a> {
    pub fn new(text: &'a str) -> Self {
        Self {
            rest: text.split_inclusive('\n'),
            number: 0,
            again: None,
        }
    }

    /// The line read last; 0 before the first.
    pub fn number(&self) -> usize {
        self.number
    }

    /// The next line outside a block.
    pub fn global(&mut self) -> Option<Line<'a>> {
        self.again.take().or_else(|| self.advance())
    }

    /// The next directive of a block; `None` where the block ends.
    ///
    /// A comment goes to the end of the line, even inside quotes; a tab is four blanks; a line that
    /// is indented by less than that is not of the block.
    pub fn inside(&mut self) -> Option<(Line<'a>, String)> {
        loop {
            let line = self.advance()?;
            if line.text.trim_start().starts_with('#') {
                continue;
            }
            let code = line.text.split('#').next().unwrap_or_default();
            let code = code.replace('\t', "    ");
            let blanks = code.bytes().take_while(|byte| *byte == b' ').count();
            // Something must follow four blanks, were it only a fifth.
            if blanks < 4 || code.len() == 4 {
                self.again = Some(line);
                return None;
            }
            let directive = code[blanks.min(code.len() - 1)..].to_owned();
            return Some((line, directive));
        }
    }

    fn advance(&mut self) -> Option<Line<'a>> {
        let text = self.rest.next()?;
        self.number += 1;
        let stripped = text.strip_suffix('\n');
        Some(Line {
            number: self.number,
            text: stripped.unwrap_or(text),
            ended: stripped.is_some(),
        })
    }
}

/// `key = value`: the key's characters are lower-case letters and digits; blanks around the sign
/// may be missing.
pub(super) fn key_and_value(text: &str) -> Option<(&str, &str)> {
    let (key, value) = text.split_once('=')?;
    let key = key.trim_end_matches(is_blank);
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (!key.is_empty() && key.bytes().all(known)).then(|| (key, value.trim_start_matches(is_blank)))
}

/// What `\s` matches within a line.
pub(super) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\x0b' | '\x0c')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_ends_at_the_first_line_that_is_not_indented() {
        let text = "virtual = 1\n    real=a\n\t#c\n\tb = \"x # y\"\n   c\nd";
        let mut lines = Lines::new(text);
        assert_eq!(lines.global().unwrap().text, "virtual = 1");
        assert_eq!(lines.inside().unwrap().1, "real=a");
        assert_eq!(lines.inside().unwrap().1, "b = \"x ");
        assert!(lines.inside().is_none());
        assert_eq!(lines.global().unwrap().text, "   c");
        let last = lines.global().unwrap();
        assert_eq!((last.number, last.text, last.ended), (6, "d", false));
        assert!(lines.global().is_none());
    }

    #[test]
    fn blanks_only_are_a_directive_of_a_block_once_there_are_five() {
        for (text, inside) in [
            ("    \n", None),
            ("     \n", Some(" ")),
            ("\t\t\n", Some(" ")),
        ] {
            let mut lines = Lines::new(text);
            assert_eq!(
                lines.inside().map(|(_, d)| d).as_deref(),
                inside,
                "{text:?}"
            );
        }
    }

    #[test]
    fn keys_and_values() {
        for (text, expected) in [
            ("a=b", Some(("a", "b"))),
            ("a  =  b ", Some(("a", "b "))),
            ("fallback6=", Some(("fallback6", ""))),
            ("a b = c", None),
            ("= c", None),
            ("A = c", None),
            ("a", None),
        ] {
            assert_eq!(key_and_value(text), expected, "{text}");
        }
    }
}
