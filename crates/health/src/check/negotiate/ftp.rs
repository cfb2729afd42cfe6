//! FTP (RFC 959, RFC 2428): log in, go to `/`, fetch a file in passive mode.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::lines::{Lines, on_one_line};
use super::pattern::Pattern;
use super::peer::Peer;
use super::reply::{command, positive, reply};
use super::{Answer, BODY, Failure, Login};

/// Ldirectord looks at what it fetched and at nothing else, so that with an empty `receive` a server
/// is always up. Here the login must succeed, and so must the transfer if a file is named.
pub(super) async fn check(
    peer: &Peer<'_>,
    login: Login<'_>,
    request: Option<&str>,
    receive: Option<&Pattern>,
) -> Result<Answer, Failure> {
    let Login { name, password } = login;
    let file = format!("/{}", request.unwrap_or_default());
    on_one_line(
        [name, password, &file],
        "login, passwd and request must fit on one line",
    )?;
    let mut lines = Lines::new(peer.connect().await?);
    positive(reply(&mut lines, "the greeting").await?, "the greeting")?;
    log_in(&mut lines, name, password).await?;
    if request.is_some() || receive.is_some() {
        command(&mut lines, "CWD /\r\n", "CWD /").await?;
        command(&mut lines, "TYPE I\r\n", "TYPE I").await?;
        let content = fetch(&mut lines, peer, &file).await?;
        if let Some(pattern) = receive.filter(|pattern| !pattern.matches(&content)) {
            return Err(Failure::mismatch(pattern, content));
        }
    }
    lines.farewell("QUIT\r\n").await;
    Ok(Answer::success())
}

async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(
    lines: &mut Lines<S>,
    name: &str,
    password: &str,
) -> Result<(), Failure> {
    lines.send(&format!("USER {name}\r\n")).await?;
    let mut answer = reply(lines, "login").await?;
    if answer.is_intermediate() {
        lines.send(&format!("PASS {password}\r\n")).await?;
        answer = reply(lines, "login").await?;
    }
    positive(answer, "login").map(|_| ())
}

/// The file, or as much of it as is looked at.
async fn fetch<S: AsyncRead + AsyncWrite + Unpin>(
    lines: &mut Lines<S>,
    peer: &Peer<'_>,
    file: &str,
) -> Result<Vec<u8>, Failure> {
    const TRANSFER: &str = "the transfer";
    let (question, port): (_, fn(&str) -> Option<u16>) = match peer.addr() {
        SocketAddr::V4(_) => ("PASV\r\n", passive_port),
        SocketAddr::V6(_) => ("EPSV\r\n", extended_passive_port),
    };
    let answer = command(lines, question, "passive mode").await?;
    let port =
        port(&answer.text).ok_or_else(|| Failure::garbage("a passive port", answer.line()))?;
    // The port at the server's own address, whatever address it gave: it may not know the one that
    // we reach it by, and must not send us to others.
    let data = peer.connect_to((peer.addr().ip(), port).into()).await?;
    lines.send(&format!("RETR {file}\r\n")).await?;
    // 125 or 150 come before the data, 226 after it (RFC 959 §5.4).
    let begun = reply(lines, TRANSFER).await?;
    if begun.code / 100 != 1 && !begun.is_positive() {
        return Err(Failure::refused(TRANSFER, begun.line()));
    }
    let mut content = Vec::new();
    let length = data.take(BODY as u64).read_to_end(&mut content).await?;
    if !begun.is_positive() && length < BODY {
        positive(reply(lines, TRANSFER).await?, TRANSFER)?;
    }
    Ok(content)
}

/// The port of `Entering Passive Mode (h1,h2,h3,h4,p1,p2)`, with or without parentheses.
pub fn passive_port(text: &str) -> Option<u16> {
    let begin = text.find(|c: char| c.is_ascii_digit())?;
    let mut numbers = text[begin..].split(',').map(|number| {
        let end = number
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(number.len());
        number[..end].parse::<u8>().ok()
    });
    for _ in 0..4 {
        numbers.next()??;
    }
    Some(u16::from_be_bytes([numbers.next()??, numbers.next()??]))
}

/// The port of `Entering Extended Passive Mode (|||port|)`.
pub fn extended_passive_port(text: &str) -> Option<u16> {
    let mut inside = text.split_once('(')?.1.chars();
    let separator = inside.next()?;
    let mut parts = inside.as_str().split(separator);
    let port = parts.nth(2)?.parse().ok()?;
    parts.next().map(|_| port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passive_ports_are_read_in_all_spellings() {
        for (text, port) in [
            (
                "Entering Passive Mode (10,0,0,1,200,10).",
                Some(200 * 256 + 10),
            ),
            ("Passive 10,0,0,1,0,21", Some(21)),
            ("=10,0,0,1,1,1", Some(257)),
            ("(10,0,0,1,256,1)", None),
            ("(10,0,0,1,1)", None),
            ("(10,0,0,1,1,)", None),
            ("no digits", None),
        ] {
            assert_eq!(passive_port(text), port, "{text}");
        }
        for (text, port) in [
            ("Entering Extended Passive Mode (|||6446|)", Some(6446)),
            ("(!!!21!)", Some(21)),
            ("(|||70000|)", None),
            ("(|||1", None),
            ("(", None),
            ("()", None),
        ] {
            assert_eq!(extended_passive_port(text), port, "{text}");
        }
    }
}
