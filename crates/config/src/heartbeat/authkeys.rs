//! `authkeys`: `auth N`, then `N METHOD KEY` for each N.

use std::fmt;

use super::{Problem, Word};

/// The whole file. Keys do not show in its debug text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AuthKeys {
    /// The method by which messages are signed.
    pub auth: Option<u8>,
    /// All methods, in the order of the file.
    pub methods: Vec<(u8, Method)>,
}

/// How messages are signed.
#[derive(Clone, PartialEq, Eq)]
pub enum Method {
    /// Not at all: a checksum.
    Crc,
    /// HMAC-SHA1 with a key.
    Sha1(String),
    /// HMAC-MD5 with a key.
    Md5(String),
}

impl fmt::Debug for AuthKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "AuthKeys {{ auth: {:?}, {} methods }}",
            self.auth,
            self.methods.len()
        )
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Crc => "Crc",
            Self::Sha1(_) => "Sha1(…)",
            Self::Md5(_) => "Md5(…)",
        })
    }
}

impl AuthKeys {
    /// The method that signs.
    pub fn signing(&self) -> Option<&Method> {
        let auth = self.auth?;
        let of_it = |(number, _): &&(u8, Method)| *number == auth;
        self.methods.iter().find(of_it).map(|(_, method)| method)
    }

    /// The key that signs; a checksum has none.
    pub fn key(&self) -> Option<&str> {
        match self.signing()? {
            Method::Crc => None,
            Method::Sha1(key) | Method::Md5(key) => Some(key),
        }
    }
}

/// Reads a file.
pub fn read(text: &str) -> (AuthKeys, Vec<Problem>) {
    let mut file = AuthKeys::default();
    let mut problems = Vec::new();
    let mut auth: Option<Word<'_>> = None;
    for (n, line) in text.lines().enumerate() {
        // A key may have a `#` in it: only whole lines are comments.
        if line.trim_start().starts_with('#') {
            continue;
        }
        let words = words_with_hashes(line, n + 1);
        let result = match &words[..] {
            [] => Ok(()),
            [first, number] if first.text == "auth" => number_of(number).map(|value| {
                file.auth = Some(value);
                auth = Some(*number);
            }),
            [first, ..] if first.text == "auth" => Err(Problem::error(
                first,
                "auth: expected the number of a method",
            )),
            [number, method @ ..] => number_of(number)
                .and_then(|value| read_method(number, method).map(|m| (value, m)))
                .and_then(|(value, method)| {
                    if file.methods.iter().any(|(known, _)| *known == value) {
                        return Err(Problem::error(
                            number,
                            format!("method {value}: already given"),
                        ));
                    }
                    file.methods.push((value, method));
                    Ok(())
                }),
        };
        problems.extend(result.err());
    }
    let end = Word {
        text: "",
        line: text.lines().count().max(1),
        column: 1,
    };
    match auth {
        None => problems.push(Problem::error(&end, "expected a line `auth NUMBER`")),
        Some(word) if file.signing().is_none() => {
            let text = format!("auth {}: expected a line `{0} sha1 KEY` for it", word.text);
            problems.push(Problem::error(&word, text));
        }
        Some(word) if file.signing() == Some(&Method::Crc) => {
            problems.push(Problem::warning(
                &word,
                "crc signs nothing: anybody in the network can take part",
            ));
        }
        Some(_) => {}
    }
    (file, problems)
}

fn words_with_hashes(line: &str, number: usize) -> Vec<Word<'_>> {
    let mut found = Vec::new();
    for text in line.split_whitespace() {
        let column = text.as_ptr() as usize - line.as_ptr() as usize + 1;
        found.push(Word {
            text,
            line: number,
            column,
        });
    }
    found
}

fn number_of(word: &Word<'_>) -> Result<u8, Problem> {
    let number = word.text.parse().ok().filter(|n| (1..=15).contains(n));
    number.ok_or_else(|| {
        Problem::error(
            word,
            format!("{}: expected a number from 1 to 15", word.text),
        )
    })
}

fn read_method(number: &Word<'_>, words: &[Word<'_>]) -> Result<Method, Problem> {
    let Some((name, key)) = words.split_first() else {
        return Err(Problem::error(number, "expected crc, sha1 or md5"));
    };
    match (name.text, key) {
        ("crc", []) => Ok(Method::Crc),
        ("crc", [extra, ..]) => Err(Problem::error(extra, "crc takes no key")),
        ("sha1", [key]) => Ok(Method::Sha1(key.text.to_owned())),
        ("md5", [key]) => Ok(Method::Md5(key.text.to_owned())),
        ("sha1" | "md5", []) => Err(Problem::error(
            name,
            format!("{}: expected a key", name.text),
        )),
        ("sha1" | "md5", [_, extra, ..]) => {
            Err(Problem::error(extra, "expected nothing after the key"))
        }
        _ => Err(Problem::error(
            name,
            format!("{}: expected crc, sha1 or md5", name.text),
        )),
    }
}
