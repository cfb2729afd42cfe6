//! IMAP (RFC 9051, RFC 3501): the greeting, and with a login LOGIN.

use super::lines::{Lines, on_one_line};
use super::peer::{Peer, Tls};
use super::{Answer, Failure, Login};

/// Names our command among what the server says by itself.
const TAG: &str = "p1";

/// Ldirectord without a login counts a server as up once it is connected; here it must greet.
pub(super) async fn check(
    peer: &Peer<'_>,
    tls: Tls,
    login: Option<Login<'_>>,
) -> Result<Answer, Failure> {
    let mut lines = Lines::new(peer.stream(tls).await?);
    let line = lines.line("the greeting").await?;
    let authenticated = match greeting(&line) {
        Some(Greeting::Ok) => false,
        Some(Greeting::Preauthenticated) => true,
        Some(Greeting::Bye) => return Err(Failure::refused("the greeting", line)),
        None => return Err(Failure::garbage("an IMAP server", line)),
    };
    if let Some(Login { name, password }) = login.filter(|_| !authenticated) {
        on_one_line([name, password], "login and passwd must fit on one line")?;
        let (name, password) = (quoted(name), quoted(password));
        lines
            .send(&format!("{TAG} LOGIN {name} {password}\r\n"))
            .await?;
        loop {
            let line = lines.line("login").await?;
            match tagged(TAG, &line) {
                Some(true) => break,
                Some(false) => return Err(Failure::refused("login", line)),
                None if line.starts_with("* BYE") => return Err(Failure::refused("login", line)),
                None if line.starts_with("* ") => {}
                None => return Err(Failure::garbage("an answer to LOGIN", line)),
            }
        }
    }
    lines.farewell("p2 LOGOUT\r\n").await;
    Ok(Answer::success())
}

/// The first line of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Greeting {
    /// A login may follow.
    Ok,
    /// We are known already.
    Preauthenticated,
    /// The server does not want us.
    Bye,
}

/// Reads the greeting; `None` when it is none.
pub fn greeting(line: &str) -> Option<Greeting> {
    let mut words = line.strip_prefix("* ")?.split(' ');
    let word = words.next()?;
    [
        ("OK", Greeting::Ok),
        ("PREAUTH", Greeting::Preauthenticated),
        ("BYE", Greeting::Bye),
    ]
    .into_iter()
    .find_map(|(name, greeting)| word.eq_ignore_ascii_case(name).then_some(greeting))
}

/// Whether the command `tag` was done (`OK`) or not (`NO`, `BAD`); `None` when `line` ends no
/// command of ours.
pub fn tagged(tag: &str, line: &str) -> Option<bool> {
    let rest = line.strip_prefix(tag)?.strip_prefix(' ')?;
    let word = rest.split(' ').next()?;
    if word.eq_ignore_ascii_case("OK") {
        return Some(true);
    }
    ["NO", "BAD"]
        .iter()
        .any(|no| word.eq_ignore_ascii_case(no))
        .then_some(false)
}

/// A quoted string of RFC 3501 §4.3.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_are_told_apart() {
        assert_eq!(
            greeting("* OK [CAPABILITY IMAP4rev1] ready"),
            Some(Greeting::Ok)
        );
        assert_eq!(greeting("* preauth hi"), Some(Greeting::Preauthenticated));
        assert_eq!(greeting("* BYE busy"), Some(Greeting::Bye));
        for line in ["", "*", "* ", "+OK POP3 here", "220 x", "* OKAY"] {
            assert_eq!(greeting(line), None, "{line}");
        }
    }

    #[test]
    fn only_our_tag_ends_our_command() {
        assert_eq!(tagged("p1", "p1 OK done"), Some(true));
        assert_eq!(tagged("p1", "p1 NO [AUTHENTICATIONFAILED]"), Some(false));
        assert_eq!(tagged("p1", "p1 BAD"), Some(false));
        for line in ["p12 OK", "* OK still here", "p1OK", "p1 ", "", "p1 OKDONE"] {
            assert_eq!(tagged("p1", line), None, "{line}");
        }
    }

    #[test]
    fn quotes_are_escaped() {
        assert_eq!(quoted(r#"a"b\c"#), r#""a\"b\\c""#);
    }
}
