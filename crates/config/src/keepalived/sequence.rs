//! `~SEQ(…) text` and `~LST(…) text`: a line once for each number or set of values.

use super::lex::Text;

/// What a prefix says: which names get which values in each turn, and for which text.
#[derive(Debug)]
pub struct Loop {
    /// The names that are defined anew in each turn.
    pub names: Vec<String>,
    /// The turns.
    pub turns: Turns,
    /// The text that is read in each turn.
    pub text: Text,
}

/// The turns of a loop, lazily: a range may be long.
#[derive(Clone, Debug)]
pub enum Turns {
    /// `~SEQ`.
    Numbers {
        /// First value.
        next: i64,
        /// Difference of two values, not 0.
        step: i64,
        /// Not passed.
        last: i64,
        /// Printed in hexadecimal.
        hex: bool,
    },
    /// `~LST`: one value for each name.
    Values(std::vec::IntoIter<Vec<String>>),
}

impl Iterator for Turns {
    type Item = Vec<String>;

    fn next(&mut self) -> Option<Vec<String>> {
        match self {
            Self::Values(values) => values.next(),
            Self::Numbers {
                next,
                step,
                last,
                hex,
            } => {
                let now = *next;
                if (*step > 0 && now > *last) || (*step < 0 && now < *last) {
                    return None;
                }
                match now.checked_add(*step) {
                    Some(following) => *next = following,
                    // The last number there is: end after it.
                    None => (*last, *step) = (now.saturating_sub(step.signum()), step.signum()),
                }
                Some(vec![if *hex {
                    format!("{now:x}")
                } else {
                    now.to_string()
                }])
            }
        }
    }
}

/// Reads a line that begins with `~SEQ` or `~LST`. `arguments` puts definitions into the arguments
/// of `~SEQ`. An error says what is wrong.
pub fn read(line: &Text, arguments: impl FnOnce(Text) -> Text) -> Result<Loop, String> {
    if line.starts_with("~SEQ") {
        sequence(line, arguments)
    } else {
        list(line)
    }
}

fn sequence(line: &Text, arguments: impl FnOnce(Text) -> Text) -> Result<Loop, String> {
    let hex = line.at(4) == Some('x');
    let open = line.skip_blanks(4 + usize::from(hex));
    if line.at(open) != Some('(') {
        return Err("`(` expected behind ~SEQ".to_owned());
    }
    let close = line.find(open, |c| c == ')').ok_or("`)` is missing")?;
    let comma = line.find(open, |c| c == ',').filter(|&i| i < close);
    let comma = comma.ok_or("`~SEQ(NAME,[START,[STEP,]]END)` expected")?;
    let name = name(&line.slice(open + 1..comma))?;
    let numbers = arguments(line.slice(comma + 1..close)).plain();
    let numbers = numbers
        .split(',')
        .map(integer)
        .collect::<Result<Vec<i64>, _>>()?;
    let (start, step, end) = match numbers[..] {
        [end] => (
            if end < 0 { -1 } else { 1 },
            if end < 1 { -1 } else { 1 },
            end,
        ),
        [start, end] => (start, if start <= end { 1 } else { -1 }, end),
        [start, step, end] => (start, step, end),
        _ => return Err("at most start, step and end are expected".to_owned()),
    };
    if step == 0 || (start < end && step < 0) || (start > end && step > 0) {
        return Err(format!(
            "a step of {step} does not lead from {start} to {end}"
        ));
    }
    if hex && (start < 0 || end < 0) {
        return Err("~SEQx has no negative numbers".to_owned());
    }
    Ok(Loop {
        names: vec![name],
        turns: Turns::Numbers {
            next: start,
            step,
            last: end,
            hex,
        },
        text: line.from(line.skip_blanks(close + 1)),
    })
}

fn list(line: &Text) -> Result<Loop, String> {
    let open = line.skip_blanks(4);
    if line.at(open) != Some('(') {
        return Err("`(` expected behind ~LST".to_owned());
    }
    let (names, mut i) = group(line, line.skip_blanks(open + 1))?;
    let names = names
        .iter()
        .map(|n| name(&Text::of_line(n)))
        .collect::<Result<Vec<_>, _>>()?;
    let mut sets = Vec::new();
    loop {
        match line.at(i) {
            Some(',') => {
                let (mut values, next) = group(line, line.skip_blanks(i + 1))?;
                if values.len() > names.len() {
                    return Err(format!("{} values for {} names", values.len(), names.len()));
                }
                values.resize(names.len(), String::new());
                sets.push(values);
                i = next;
            }
            Some(')') if !sets.is_empty() => break,
            _ => {
                return Err("`~LST(NAME,VALUE,…)` or `~LST({NAME,…},{VALUE,…},…)` expected".into());
            }
        }
    }
    Ok(Loop {
        names,
        turns: Turns::Values(sets.into_iter()),
        text: line.from(line.skip_blanks(i + 1)),
    })
}

/// A value, or `{value,…}`; with the index of what follows, blanks passed.
fn group(line: &Text, start: usize) -> Result<(Vec<String>, usize), String> {
    let value = |from: usize| {
        let from = line.skip_blanks(from);
        let end = line.find(from, |c| matches!(c, ' ' | '\t' | ',' | '}' | ')'));
        let end = end.unwrap_or(line.len());
        (line.slice(from..end).plain(), line.skip_blanks(end))
    };
    if line.at(start) != Some('{') {
        let (text, next) = value(start);
        return Ok((vec![text], next));
    }
    let mut values = Vec::new();
    let mut i = start + 1;
    loop {
        let (text, next) = value(i);
        values.push(text);
        match line.at(next) {
            Some(',') => i = next + 1,
            Some('}') => return Ok((values, line.skip_blanks(next + 1))),
            _ => return Err("`}` is missing".to_owned()),
        }
    }
}

fn name(text: &Text) -> Result<String, String> {
    let name = text.trimmed().plain();
    let good = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if good {
        Ok(name)
    } else {
        Err(format!("`{name}` is no name for a variable"))
    }
}

/// As C reads it: `0x` and `0` prefixes.
pub fn integer(text: &str) -> Result<i64, String> {
    let text = text.trim();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.starts_with(['-', '+']) {
        return Err(format!("`{text}` is no number"));
    }
    i64::from_str_radix(digits, radix)
        .map(|value| sign * value)
        .map_err(|_| format!("`{text}` is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(line: &str) -> Result<Vec<String>, String> {
        let found = read(&Text::of_line(line), |t| t)?;
        Ok(found.turns.take(20).map(|v| v.join("/")).collect())
    }

    #[test]
    fn sequences_count_as_keepalived_counts() {
        for (line, expected) in [
            ("~SEQ(i,3) x", "1 2 3"),
            ("~SEQ( i , -3 ) x", "-1 -2 -3"),
            ("~SEQ(i,2,4) x", "2 3 4"),
            ("~SEQ(i,4,2) x", "4 3 2"),
            ("~SEQ(i,0x10,8,040) x", "16 24 32"),
            ("~SEQx(i,9,11) x", "9 a b"),
            (
                "~SEQ(i,9223372036854775806,9223372036854775807) x",
                "9223372036854775806 9223372036854775807",
            ),
            ("~LST(v,a, b ,c) x", "a b c"),
            ("~LST({a,b},{1,2},{3}, {5 , 6}) x", "1/2 3/ 5/6"),
        ] {
            assert_eq!(turns(line).unwrap().join(" "), expected, "{line}");
        }
        let found = read(&Text::of_line("~SEQ(i,2)  a $i"), |t| t).unwrap();
        assert_eq!(
            (found.names[0].as_str(), found.text.plain().as_str()),
            ("i", "a $i")
        );
    }

    #[test]
    fn wrong_loops_say_what_is_wrong() {
        for line in [
            "~SEQ",
            "~SEQ(i",
            "~SEQ(i)",
            "~SEQ(i,)",
            "~SEQ(1,2)",
            "~SEQ(i,1,0,2)",
            "~SEQ(i,1,-1,2)",
            "~SEQ(i,1,2,3,4)",
            "~SEQx(i,-2)",
            "~SEQ(i,99999999999999999999)",
            "~SEQ(i,--1)",
            "~LST",
            "~LST(",
            "~LST(a",
            "~LST(a)",
            "~LST({a,b},{1,2,3})",
            "~LST({a,{1})",
            "~LST(a,1",
            "~LST(,1)",
        ] {
            assert!(turns(line).is_err(), "{line}");
        }
    }
}
