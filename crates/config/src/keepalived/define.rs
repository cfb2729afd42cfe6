//! Definitions: `$NAME=VALUE`, what is built in, and putting values in the place of names.

use std::collections::HashMap;

use super::lex::{Text, is_blank};

/// The value of a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// One line, perhaps empty.
    Line(Text),
    /// Several; the first takes the place of the name, the others follow as lines of their own.
    Lines(Vec<Text>),
    /// Made when it is used.
    BuiltIn(BuiltIn),
}

/// What is built in beside plain values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuiltIn {
    /// `_RANDOM [MIN [MAX]]`.
    Random,
    /// `_ENV NAME`.
    Environment,
    /// `_HASH` and `_BANG`: put in last, when it can begin no comment any more.
    Character(char),
}

/// All definitions at some point of the reading.
#[derive(Debug, Default)]
pub struct Definitions {
    values: HashMap<String, Value>,
}

/// A line that may be a definition.
#[derive(Debug, PartialEq, Eq)]
pub struct Definition {
    /// Name.
    pub name: String,
    /// What stands behind `=`.
    pub value: Text,
}

/// A use of a definition in a line.
#[derive(Debug, PartialEq, Eq)]
pub struct Reference {
    /// Index of its `$`.
    pub start: usize,
    /// Index behind it.
    pub end: usize,
    /// Name.
    pub name: String,
    /// Parameters, of what is built in.
    pub parameters: Vec<String>,
}

impl Definitions {
    /// Sets a value, which holds for later uses.
    pub fn set(&mut self, name: &str, value: Value) {
        self.values.insert(name.to_owned(), value);
    }

    /// The value of a name.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// The first use, at or after `from`, of something defined.
    pub fn next_reference(&self, line: &Text, from: usize) -> Option<Reference> {
        let mut from = from;
        loop {
            let start = line.find(from, |c| c == '$')?;
            if let Some(reference) = reference_at(line, start)
                && self.applies(&reference, line)
            {
                return Some(reference);
            }
            from = start + 1;
        }
    }

    fn applies(&self, reference: &Reference, line: &Text) -> bool {
        match self.values.get(&reference.name) {
            // Lines can only follow where nothing else does.
            Some(Value::Lines(_)) => reference.end == line.len() && reference.parameters.is_empty(),
            Some(Value::Line(_)) => reference.parameters.is_empty(),
            Some(Value::BuiltIn(BuiltIn::Random)) => {
                reference.parameters.len() <= 2
                    && reference
                        .parameters
                        .iter()
                        .all(|p| p.bytes().all(|b| b.is_ascii_digit()))
            }
            Some(Value::BuiltIn(BuiltIn::Environment)) => reference.parameters.len() == 1,
            Some(Value::BuiltIn(BuiltIn::Character(_))) | None => false,
        }
    }

    /// Puts in the characters that would have begun a comment.
    pub fn put_characters(&self, line: &mut Text) {
        let mut from = 0;
        while let Some(start) = line.find(from, |c| c == '$') {
            from = start + 1;
            if let Some(reference) = reference_at(line, start)
                && let Some(&Value::BuiltIn(BuiltIn::Character(c))) =
                    self.values.get(&reference.name)
            {
                let character = Text::at_column(c.encode_utf8(&mut [0; 4]), line.column(start));
                line.replace(start..reference.end, &character);
            }
        }
    }
}

/// `$NAME=VALUE` at the start of a line; `None` if the line is something else.
pub fn definition(line: &Text) -> Option<Definition> {
    if line.at(0) != Some('$') {
        return None;
    }
    let end = name_end(line, 1)?;
    // Blanks before `=` are an oversight that keepalived forgives.
    let equals = line.skip_blanks(end);
    (line.at(equals) == Some('=')).then(|| Definition {
        name: line.slice(1..end).plain(),
        value: line.from(line.skip_blanks(equals + 1)),
    })
}

/// `${NAME}`, `${NAME parameter…}`, or `$NAME` before a blank, `,`, `)` or the end.
fn reference_at(line: &Text, start: usize) -> Option<Reference> {
    let braces = line.at(start + 1) == Some('{');
    let name_start = start + 1 + usize::from(braces);
    let end = name_end(line, name_start)?;
    let name = line.slice(name_start..end).plain();
    if !braces {
        let ends = line
            .at(end)
            .is_none_or(|c| matches!(c, ' ' | '\t' | ',' | ')'));
        return ends.then_some(Reference {
            start,
            end,
            name,
            parameters: Vec::new(),
        });
    }
    let close = line.find(end, |c| !(is_blank(c) || is_name(c)))?;
    // `${NAME }` is no reference.
    let last = line.at(close - 1)?;
    if line.at(close) != Some('}') || is_blank(last) {
        return None;
    }
    let parameters = line.slice(end..close).plain();
    Some(Reference {
        start,
        end: close + 1,
        name,
        parameters: parameters.split_whitespace().map(str::to_owned).collect(),
    })
}

fn name_end(line: &Text, start: usize) -> Option<usize> {
    let first = line.at(start)?;
    (first.is_ascii_alphabetic() || first == '_')
        .then(|| line.find(start, |c| !is_name(c)).unwrap_or(line.len()))
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Numbers for `_RANDOM`: the same for the same seed (SplitMix64).
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// A number from `low` to `high`, both included; `low` if they are reversed.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        match high.checked_sub(low).and_then(|span| span.checked_add(1)) {
            Some(values) => low + z % values,
            None => low,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(line: &str) -> Option<(usize, usize)> {
        let mut known = Definitions::default();
        known.set("A", Value::Line(Text::of_line("x")));
        known.set("M", Value::Lines(vec![Text::of_line("x")]));
        known.set("_RANDOM", Value::BuiltIn(BuiltIn::Random));
        let found = known.next_reference(&Text::of_line(line), 0)?;
        Some((found.start, found.end))
    }

    #[test]
    fn references_are_what_keepalived_takes_for_one() {
        for (line, expected) in [
            ("$A", Some((0, 2))),
            ("x $A y", Some((2, 4))),
            ("$A,$A)", Some((0, 2))),
            ("$A.b", None),
            ("${A}.b", Some((0, 4))),
            ("$$A", Some((1, 3))),
            ("$B ${A}", Some((3, 7))),
            ("${A 1}", None),
            ("${_RANDOM 1 9}", Some((0, 14))),
            ("${_RANDOM 1 9 }", None),
            ("${_RANDOM a}", None),
            ("$M", Some((0, 2))),
            ("$M x", None),
            ("a ${M}", Some((2, 6))),
            ("$", None),
            ("${", None),
            ("${A", None),
        ] {
            assert_eq!(find(line), expected, "{line}");
        }
    }

    #[test]
    fn definitions_begin_a_line() {
        for (line, expected) in [
            ("$A=1", Some(("A", "1"))),
            ("$A_b2=  1 2", Some(("A_b2", "1 2"))),
            ("$A=", Some(("A", ""))),
            ("$1=2", None),
            ("$A", None),
            ("A=1", None),
        ] {
            let found = definition(&Text::of_line(line));
            let found = found.map(|d| (d.name, d.value.plain()));
            assert_eq!(
                found,
                expected.map(|(n, v)| (n.to_owned(), v.to_owned())),
                "{line}"
            );
        }
    }

    #[test]
    fn random_numbers_stay_within_their_bounds() {
        let mut random = Random(7);
        let mut seen = [false; 3];
        for _ in 0..100 {
            seen[random.between(4, 6) as usize - 4] = true;
        }
        assert_eq!(seen, [true; 3]);
        assert_eq!(random.between(9, 3), 9);
        random.between(0, u64::MAX);
    }
}
