//! Why a server did not pass, in words that an operator can act on.

use std::io;
use std::time::Duration;

use super::pattern::Pattern;
use crate::net::describe;

/// Longest part of an answer that a message quotes, in characters.
const QUOTED: usize = 120;

/// Why a real server did not pass a negotiate check.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection: refused, unreachable, no such address.
    #[error("{}", describe(.0))]
    Connect(io::Error),
    /// The connection broke: reset, TLS refused.
    #[error("{}", describe(.0))]
    Io(#[from] io::Error),
    /// The whole check took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The server hung up early.
    #[error("the server closed the connection before {0}")]
    Closed(&'static str),
    /// The server spoke its protocol and said no.
    #[error("{doing} was refused: {said}")]
    Refused {
        /// What was asked for.
        doing: &'static str,
        /// The server's words, quoted.
        said: String,
    },
    /// What came is not of the protocol.
    #[error("this is not {expected}: {got}")]
    Garbage {
        /// What should have come.
        expected: &'static str,
        /// What came, quoted.
        got: String,
    },
    /// The answer is well-formed and not the wanted one (`receive`).
    #[error("the answer does not match /{pattern}/: {got}")]
    Mismatch {
        /// `receive`.
        pattern: String,
        /// What came, quoted.
        got: String,
    },
    /// More than a check is willing to read.
    #[error("more than {0} bytes came before the answer was complete")]
    TooLong(usize),
    /// The check cannot be carried out as it is configured.
    #[error("{0}")]
    Unusable(&'static str),
}

impl Failure {
    /// The server spoke and said no.
    pub(super) fn refused(doing: &'static str, said: impl AsRef<[u8]>) -> Self {
        Self::Refused {
            doing,
            said: quote(said),
        }
    }

    /// The server said something else than its protocol allows.
    pub(super) fn garbage(expected: &'static str, got: impl AsRef<[u8]>) -> Self {
        Self::Garbage {
            expected,
            got: quote(got),
        }
    }

    /// The answer is not the wanted one.
    pub(super) fn mismatch(pattern: &Pattern, got: impl AsRef<[u8]>) -> Self {
        Self::Mismatch {
            pattern: pattern.as_str().to_owned(),
            got: quote(got),
        }
    }

    /// Puts stars where the server's words repeat one of `secrets`: some servers echo the command
    /// that they refuse.
    pub(super) fn without<'a>(mut self, secrets: impl Iterator<Item = &'a str>) -> Self {
        let text = match &mut self {
            Self::Refused { said, .. } => said,
            Self::Garbage { got, .. } | Self::Mismatch { got, .. } => got,
            Self::Connect(_)
            | Self::Io(_)
            | Self::Timeout(_)
            | Self::Closed(_)
            | Self::TooLong(_)
            | Self::Unusable(_) => return self,
        };
        for secret in secrets.filter(|secret| !secret.is_empty()) {
            *text = text.replace(&escape(secret), "***");
        }
        self
    }
}

/// The beginning of an answer, fit for one line of a log.
fn quote(said: impl AsRef<[u8]>) -> String {
    let text = String::from_utf8_lossy(said.as_ref());
    let text = text.trim_end();
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("\"{}…\"", escape(&text[..end])),
        None => format!("\"{}\"", escape(text)),
    }
}

fn escape(text: &str) -> String {
    text.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_quoted_on_one_line_and_not_whole() {
        let failure = Failure::refused("login", format!("no\r\n\u{1b}[31m{}", "x".repeat(10_000)));
        let text = failure.to_string();
        assert!(
            text.starts_with(r#"login was refused: "no\r\n\u{1b}[31m"#),
            "{text}"
        );
        assert!(text.len() < 300 && !text.contains('\n'), "{text}");
    }

    #[test]
    fn an_echoed_password_becomes_stars() {
        let failure = Failure::refused("login", "500 unknown command PASS hun\"ter2");
        let text = failure.without(["hun\"ter2", ""].into_iter()).to_string();
        assert!(!text.contains("ter2") && text.contains("***"), "{text}");
    }
}
