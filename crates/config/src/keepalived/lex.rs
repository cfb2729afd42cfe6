//! Characters to words: comments, quotes, escapes.
//!
//! Every character knows the column of the line it came from, so that a word still has its place
//! after definitions were put in.

use std::ops::Range;
use std::sync::Arc;

use crate::diag::{Place, SourceLine};

/// Longest line in bytes, the line end included; as keepalived has it.
pub const LONGEST_LINE: usize = 1024;

/// Text of (a part of) a line; each character with its column in the source line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    chars: Vec<(char, u32)>,
}

impl Text {
    /// The text of a whole source line.
    pub fn of_line(line: &str) -> Self {
        Self {
            chars: line.chars().zip(1..).collect(),
        }
    }

    /// `text`, all of it standing for what is at `column`.
    pub fn at_column(text: &str, column: u32) -> Self {
        Self {
            chars: text.chars().map(|c| (c, column)).collect(),
        }
    }

    /// The same characters, all standing for what is at `column`.
    pub fn moved_to(&self, column: u32) -> Self {
        Self {
            chars: self.chars.iter().map(|&(c, _)| (c, column)).collect(),
        }
    }

    /// Number of characters.
    pub fn len(&self) -> usize {
        self.chars.len()
    }

    /// True without any character.
    pub fn is_empty(&self) -> bool {
        self.chars.is_empty()
    }

    /// The character at `index`.
    pub fn at(&self, index: usize) -> Option<char> {
        self.chars.get(index).map(|&(c, _)| c)
    }

    /// The column of the character at `index`; behind the end, that of the last one.
    pub fn column(&self, index: usize) -> u32 {
        let place = self.chars.get(index).or(self.chars.last());
        place.map_or(1, |&(_, column)| column)
    }

    /// The characters of `range`.
    pub fn slice(&self, range: Range<usize>) -> Self {
        Self {
            chars: self.chars.get(range).unwrap_or_default().to_vec(),
        }
    }

    /// The characters from `start` on.
    pub fn from(&self, start: usize) -> Self {
        self.slice(start.min(self.len())..self.len())
    }

    /// Puts `with` in the place of `range`.
    pub fn replace(&mut self, range: Range<usize>, with: &Self) {
        self.chars.splice(range, with.chars.iter().copied());
    }

    /// Adds the characters of `other` at the end.
    pub fn append(&mut self, other: &Self) {
        self.chars.extend_from_slice(&other.chars);
    }

    /// The first index at or after `start` whose character satisfies `wanted`.
    pub fn find(&self, start: usize, wanted: impl Fn(char) -> bool) -> Option<usize> {
        (start..self.len()).find(|&i| wanted(self.chars[i].0))
    }

    /// The index of the first character at or after `start` that is no blank.
    pub fn skip_blanks(&self, start: usize) -> usize {
        self.find(start, |c| !is_blank(c)).unwrap_or(self.len())
    }

    /// True when the text begins with `prefix`.
    pub fn starts_with(&self, prefix: &str) -> bool {
        prefix
            .chars()
            .enumerate()
            .all(|(i, c)| self.at(i) == Some(c))
    }

    /// Without blanks on both sides.
    pub fn trimmed(&self) -> Self {
        let start = self.skip_blanks(0);
        let end = (start..self.len())
            .rev()
            .find(|&i| !is_blank(self.chars[i].0));
        self.slice(start..end.map_or(start, |i| i + 1))
    }

    /// The plain characters.
    pub fn plain(&self) -> String {
        self.chars.iter().map(|&(c, _)| c).collect()
    }
}

/// What separates words: space, tab, form feed, vertical tab, line ends.
pub fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0b' | '\x0c' | '\r' | '\n')
}

/// A word and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Its characters, quotes removed.
    pub text: String,
    /// Its place.
    pub at: Place,
}

/// What is left of a line without its comment.
#[derive(Debug, PartialEq, Eq)]
pub struct Uncommented {
    /// Without comment and surrounding blanks; `\#` and `\!` are plain characters now.
    pub text: Text,
    /// The line ends in a single `\` (removed from `text`).
    pub continues: bool,
    /// Index of a quote that is not closed.
    pub open_quote: Option<usize>,
}

/// Takes off the comment. `#` and `!` begin one anywhere but within double quotes.
pub fn uncomment(line: &Text) -> Uncommented {
    let mut text = Text::default();
    let mut open_quote = None;
    let mut continues = false;
    let mut i = line.skip_blanks(0);
    while let Some(c) = line.at(i) {
        match c {
            '"' => {
                open_quote = match open_quote {
                    Some(_) => None,
                    None => Some(text.len()),
                };
            }
            '\\' => match line.at(i + 1) {
                Some('#' | '!') if open_quote.is_none() => i += 1,
                Some(_) => {
                    text.append(&line.slice(i..i + 1));
                    i += 1;
                }
                None => {
                    continues = true;
                    break;
                }
            },
            '#' | '!' if open_quote.is_none() => break,
            _ => {}
        }
        text.append(&line.slice(i..i + 1));
        i += 1;
    }
    Uncommented {
        text: text.trimmed(),
        continues,
        open_quote,
    }
}

/// Splits at blanks; a double-quoted run is a word of its own, without any escape in it.
pub fn words(text: &Text, line: &Arc<SourceLine>) -> Vec<Word> {
    let mut words = Vec::new();
    let mut i = text.skip_blanks(0);
    while let Some(c) = text.at(i) {
        let (start, end, next) = if c == '"' {
            let end = text.find(i + 1, |c| c == '"').unwrap_or(text.len());
            (i + 1, end, end + 1)
        } else {
            let end = text
                .find(i, |c| is_blank(c) || c == '"')
                .unwrap_or(text.len());
            (i, end, end)
        };
        words.push(Word {
            text: text.slice(start..end).plain(),
            at: place(text, i..next.min(text.len()), line),
        });
        i = text.skip_blanks(next);
    }
    words
}

/// Splits as keywords for scripts are split: both quotes, pieces that touch are one word,
/// backslash escapes. `Err` has the index of a quote that is not closed.
pub fn script_words(text: &Text, line: &Arc<SourceLine>) -> Result<Vec<Word>, usize> {
    let mut words = Vec::new();
    let mut i = text.skip_blanks(0);
    while i < text.len() {
        let start = i;
        let mut word = String::new();
        let mut quote: Option<(char, usize)> = None;
        while let Some(c) = text.at(i) {
            match quote {
                Some((q, _)) if c == q => quote = None,
                None if c == '"' || c == '\'' => quote = Some((c, i)),
                None if is_blank(c) => break,
                _ if c == '\\' && i + 1 < text.len() => {
                    let (meant, next) = escape(text, i + 1);
                    word.push(meant);
                    i = next;
                    continue;
                }
                _ => word.push(c),
            }
            i += 1;
        }
        if let Some((_, open)) = quote {
            return Err(open);
        }
        words.push(Word {
            text: word,
            at: place(text, start..i, line),
        });
        i = text.skip_blanks(i);
    }
    Ok(words)
}

/// The character that an escape means, and the index behind it; `i` is behind the backslash.
fn escape(text: &Text, i: usize) -> (char, usize) {
    let Some(c) = text.at(i) else {
        return ('\\', i);
    };
    let number = |start: usize, most: usize, radix: u32| {
        let digits = (start..start + most)
            .map_while(|k| text.at(k).and_then(|c| c.to_digit(radix)))
            .collect::<Vec<_>>();
        let value = digits.iter().fold(0, |value, digit| value * radix + digit);
        // A byte of keepalived's; more does not fit.
        (char::from((value & 0xff) as u8), start + digits.len())
    };
    match c {
        'a' => ('\x07', i + 1),
        'b' => ('\x08', i + 1),
        'E' => ('\x1b', i + 1),
        'f' => ('\x0c', i + 1),
        'n' => ('\n', i + 1),
        'r' => ('\r', i + 1),
        't' => ('\t', i + 1),
        'v' => ('\x0b', i + 1),
        '0'..='7' => number(i, 3, 8),
        'x' if text.at(i + 1).is_some_and(|c| c.is_ascii_hexdigit()) => number(i + 1, 2, 16),
        'c' => match text.at(i + 1) {
            Some(control) if control.is_ascii() => (char::from(control as u8 & 0x1f), i + 2),
            _ => ('c', i + 1),
        },
        other => (other, i + 1),
    }
}

/// The place of `range` of a text. A word that came out of a definition has no width of its own.
pub fn place(text: &Text, range: Range<usize>, line: &Arc<SourceLine>) -> Place {
    let first = text.column(range.start);
    let last = text.column(range.end.saturating_sub(1).max(range.start));
    Place::new(line, first, last.saturating_sub(first) + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn source(text: &str) -> Arc<SourceLine> {
        Arc::new(SourceLine {
            file: "test".into(),
            number: 1,
            text: text.to_owned(),
        })
    }

    fn split(text: &str) -> Vec<String> {
        let found = words(&Text::of_line(text), &source(text));
        found.into_iter().map(|w| w.text).collect()
    }

    fn split_script(text: &str) -> Result<Vec<String>, usize> {
        let found = script_words(&Text::of_line(text), &source(text))?;
        Ok(found.into_iter().map(|w| w.text).collect())
    }

    #[test]
    fn comments_end_lines_but_not_within_double_quotes() {
        for (line, left) in [
            ("  state MASTER # c", "state MASTER"),
            ("! all of it", ""),
            ("a \"b # c\" d # e", "a \"b # c\" d"),
            ("a 'b # c'", "a 'b"),
            (r"a \# b \! c", "a # b ! c"),
            (r#"a "\#" b"#, r#"a "\#" b"#),
            ("", ""),
        ] {
            assert_eq!(uncomment(&Text::of_line(line)).text.plain(), left, "{line}");
        }
        assert!(uncomment(&Text::of_line(r"a \")).continues);
        assert!(!uncomment(&Text::of_line(r"a \\")).continues);
        assert_eq!(uncomment(&Text::of_line(" a \"b # c")).open_quote, Some(2));
    }

    #[test]
    fn a_quoted_run_is_a_word_of_its_own() {
        assert_eq!(split(r#"ab"c d"e"#), ["ab", "c d", "e"]);
        assert_eq!(split(r#"k "" x"#), ["k", "", "x"]);
        assert_eq!(split(r#"k "open end"#), ["k", "open end"]);
        assert_eq!(split(" \x0b\t"), [""; 0]);
    }

    #[test]
    fn script_words_join_what_touches_and_know_escapes() {
        let cases: [(&str, &[&str]); 6] = [
            (r#"a"b c"'d e'f g"#, &["ab cd ef", "g"]),
            (r"a\ b \x41\102\n", &["a b", "AB\n"]),
            (r#""say 'x y' z""#, &["say 'x y' z"]),
            (r"\cA \q", &["\x01", "q"]),
            (r"'\''", &["'"]),
            (r"end\", &[r"end\"]),
        ];
        for (line, expected) in cases {
            assert_eq!(split_script(line).unwrap(), expected, "{line}");
        }
        assert_eq!(split_script("a 'b"), Err(2));
    }

    proptest! {
        #[test]
        fn words_hold_no_blanks_unless_quoted_and_know_their_columns(line in "[ -~\t]{0,80}") {
            let text = uncomment(&Text::of_line(&line)).text;
            for word in words(&text, &source(&line)) {
                let start = word.at.column as usize - 1;
                let c = line.chars().nth(start).unwrap();
                if c == '"' {
                    prop_assert!(!word.text.contains('"'));
                } else {
                    prop_assert!(!word.text.is_empty() && !word.text.contains([' ', '\t']));
                    // Taken from there, but for the backslashes of `\#` and `\!`.
                    let bare = line[start..].replace("\\#", "#").replace("\\!", "!");
                    prop_assert!(bare.starts_with(&word.text) || line[start..].starts_with(&word.text) || word.text.contains(['#', '!']));
                }
            }
        }

        #[test]
        fn uncommenting_twice_is_uncommenting_once(line in "[a-z #!\"]{0,60}") {
            let once = uncomment(&Text::of_line(&line)).text;
            prop_assert_eq!(uncomment(&once).text, once);
        }

        #[test]
        fn any_line_can_be_split(line in "\\PC{0,120}") {
            let text = uncomment(&Text::of_line(&line)).text;
            let _ = words(&text, &source(&line));
            let _ = script_words(&text, &source(&line));
        }

        #[test]
        fn words_written_in_quotes_come_back(list in proptest::collection::vec("[a-z #!{}']{0,10}", 0..5)) {
            let line = list.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(split(&line), list);
        }
    }
}
