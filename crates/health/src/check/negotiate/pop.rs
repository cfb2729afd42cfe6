//! POP3 (RFC 1939): the greeting, and with a login USER and PASS.

use tokio::io::{AsyncRead, AsyncWrite};

use super::lines::{Lines, on_one_line};
use super::peer::{Peer, Tls};
use super::{Answer, Failure, Login};

/// Ldirectord without a login counts a server as up whether or not it answers; here it must greet.
pub(super) async fn check(
    peer: &Peer<'_>,
    tls: Tls,
    login: Option<Login<'_>>,
) -> Result<Answer, Failure> {
    let mut lines = Lines::new(peer.stream(tls).await?);
    wait(&mut lines, "the greeting").await?;
    if let Some(Login { name, password }) = login {
        on_one_line([name, password], "login and passwd must fit on one line")?;
        lines.send(&format!("USER {name}\r\n")).await?;
        wait(&mut lines, "login").await?;
        lines.send(&format!("PASS {password}\r\n")).await?;
        wait(&mut lines, "login").await?;
    }
    lines.farewell("QUIT\r\n").await;
    Ok(Answer::success())
}

/// Reads a status and wants it to be good.
async fn wait<S: AsyncRead + AsyncWrite + Unpin>(
    lines: &mut Lines<S>,
    awaited: &'static str,
) -> Result<(), Failure> {
    let line = lines.line(awaited).await?;
    match status(&line) {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::refused(awaited, line)),
        None => Err(Failure::garbage("a POP3 server", line)),
    }
}

/// `+OK` or `-ERR`.
pub fn status(line: &str) -> Option<bool> {
    let word = line.split(' ').next()?;
    match word {
        "+OK" => Some(true),
        "-ERR" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_is_the_status() {
        assert_eq!(status("+OK ready <1@x>"), Some(true));
        assert_eq!(status("+OK"), Some(true));
        assert_eq!(status("-ERR [AUTH] no"), Some(false));
        for line in ["", "+OKAY", "* OK", "220 ready", "+ok"] {
            assert_eq!(status(line), None, "{line}");
        }
    }
}
