//! A model as a keepalived.conf that reads as the same model. Every value is written out, so that
//! it means the same to whoever reads it, whatever their defaults.

mod globals;
mod pool;
mod route;
mod vrrp;

use std::fmt::{Display, Write as _};
use std::time::Duration;

use pointsman_model::{Script, ScriptUser, Site};

/// Writes a whole configuration. What keepalived's language has no words for (ldirectord's own
/// checks and rules) is named in comments.
pub fn write(site: &Site) -> String {
    let mut out = Writer::default();
    globals::write(&mut out, site);
    vrrp::write(&mut out, &site.vrrp);
    pool::write(&mut out, &site.virtual_servers);
    out.text
}

/// Lines, indented by their depth.
#[derive(Default)]
struct Writer {
    text: String,
    depth: usize,
}

impl Writer {
    fn line(&mut self, text: impl Display) {
        for _ in 0..self.depth {
            self.text.push_str("    ");
        }
        let _ = writeln!(self.text, "{text}");
    }

    /// `head {`, what `body` writes, `}`.
    fn block(&mut self, head: impl Display, body: impl FnOnce(&mut Self)) {
        self.line(format_args!("{head} {{"));
        self.depth += 1;
        body(self);
        self.depth -= 1;
        self.line("}");
        if self.depth == 0 {
            self.text.push('\n');
        }
    }

    /// The keyword alone, if `on`.
    fn flag(&mut self, keyword: &str, on: bool) {
        if on {
            self.line(keyword);
        }
    }

    /// The keyword with `on` or `off`.
    fn boolean(&mut self, keyword: &str, on: bool) {
        self.line(format_args!("{keyword} {}", if on { "on" } else { "off" }));
    }

    /// The keyword and a value, if there is one.
    fn value(&mut self, keyword: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.line(format_args!("{keyword} {value}"));
        }
    }

    fn word(&mut self, keyword: &str, value: Option<&str>) {
        self.value(keyword, value.map(word));
    }

    fn time(&mut self, keyword: &str, value: Duration) {
        self.line(format_args!("{keyword} {}", seconds(value)));
    }

    fn script(&mut self, keyword: &str, script: Option<&Script>) {
        if let Some(script) = script {
            let user = script.user.as_ref().map(|u| format!(" {}", user(u)));
            let command = quoted(&command(&script.argv));
            self.line(format_args!(
                "{keyword} {command}{}",
                user.unwrap_or_default()
            ));
        }
    }
}

/// A word, in double quotes where it would not be one otherwise.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./:+,=%*?[]()<>^&|;'`".contains(c);
    let keyword_like = text.starts_with(['@', '~', '$']);
    if !text.is_empty() && text.chars().all(plain) && !keyword_like {
        text.to_owned()
    } else {
        // There is no escape for a double quote in such a word.
        format!("\"{}\"", text.replace(['"', '\n', '\r', '\0'], ""))
    }
}

/// `USER [GROUP]`.
fn user(user: &ScriptUser) -> String {
    match &user.group {
        Some(group) => format!("{} {}", word(&user.user), word(group)),
        None => word(&user.user),
    }
}

/// Program and arguments, as they stand within quotes.
fn command(argv: &[String]) -> String {
    let words: Vec<String> = argv
        .iter()
        .map(|word| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:+,=%@<>&|".contains(c);
            if !word.is_empty() && word.chars().all(plain) {
                word.clone()
            } else {
                format!("'{}'", word.replace('\\', "\\\\").replace('\'', "\\'"))
            }
        })
        .collect();
    words.join(" ")
}

/// In double quotes with escapes, as keywords of scripts read it. Quotes and `$` are octal: braces
/// and definitions are looked for before escapes are.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\042"),
            '$' => quoted.push_str("\\044"),
            c if c.is_ascii_control() => {
                let _ = write!(quoted, "\\{:03o}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Decimal seconds.
fn seconds(time: Duration) -> String {
    let text = format!("{}.{:06}", time.as_secs(), time.subsec_micros());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
