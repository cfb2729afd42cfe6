//! SIP (RFC 3261): an OPTIONS request, answered with 200.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};

use pointsman_model::check::Transport;

use super::lines::{Lines, on_one_line};
use super::peer::Peer;
use super::{Answer, Failure, random};

/// Largest answer over UDP.
const DATAGRAM: usize = 65_535;

/// Wants `SIP/2.0 200 OK` for an OPTIONS to `sip:login`.
pub(super) async fn check(
    peer: &Peer<'_>,
    transport: Transport,
    login: &str,
) -> Result<Answer, Failure> {
    on_one_line([login], "login must fit on one line")?;
    match transport {
        Transport::Tcp => {
            let stream = peer.connect().await?;
            let request = options(login, "TCP", stream.local_addr()?);
            let mut lines = Lines::new(stream);
            lines.send(&request).await?;
            loop {
                let line = lines.line("an answer").await?;
                if let Some(answer) = judge(&line)? {
                    return Ok(answer);
                }
                skip_message(&mut lines).await?;
            }
        }
        Transport::Udp => {
            let socket = peer.datagrams().await?;
            let request = options(login, "UDP", socket.local_addr()?);
            let mut buffer = vec![0; DATAGRAM];
            let mut length = socket.ask(request.as_bytes(), &mut buffer).await?;
            loop {
                let first = buffer[..length].split(|&byte| byte == b'\n').next();
                let line = String::from_utf8_lossy(first.unwrap_or_default());
                if let Some(answer) = judge(line.trim_end_matches('\r'))? {
                    return Ok(answer);
                }
                length = socket.more(&mut buffer).await?;
            }
        }
    }
}

fn options(login: &str, transport: &str, from: SocketAddr) -> String {
    let [branch, tag, call] = [random::<8>(), random(), random()].map(u64::from_be_bytes);
    format!(
        "OPTIONS sip:{login} SIP/2.0\r\n\
         Via: SIP/2.0/{transport} {from};branch=z9hG4bK{branch:x}\r\n\
         Max-Forwards: 70\r\n\
         To: <sip:{login}>\r\n\
         From: <sip:{login}>;tag={tag:x}\r\n\
         Call-ID: {call:x}\r\n\
         CSeq: 1 OPTIONS\r\n\
         Contact: <sip:{login}>\r\n\
         Accept: application/sdp\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// `None` for a provisional answer: the final one is still to come.
fn judge(line: &str) -> Result<Option<Answer>, Failure> {
    match status(line) {
        Some(200) => Ok(Some(Answer::success())),
        Some(100..200) => Ok(None),
        Some(_) => Err(Failure::refused("OPTIONS", line)),
        None => Err(Failure::garbage("a SIP answer", line)),
    }
}

/// The status code of a status line (RFC 3261 §7.2).
pub fn status(line: &str) -> Option<u16> {
    let (code, _) = line.strip_prefix("SIP/2.0 ")?.split_once(' ')?;
    if code.len() != 3 {
        return None;
    }
    code.parse().ok().filter(|code| (100..700).contains(code))
}

/// Passes over the header fields of a provisional answer, which has no body.
async fn skip_message<S: AsyncRead + AsyncWrite + Unpin>(
    lines: &mut Lines<S>,
) -> Result<(), Failure> {
    while !lines.line("the end of the header").await?.is_empty() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines_are_read() {
        assert_eq!(status("SIP/2.0 200 OK"), Some(200));
        assert_eq!(status("SIP/2.0 486 Busy Here"), Some(486));
        for line in [
            "",
            "SIP/2.0 200",
            "SIP/2.0 2000 OK",
            "SIP/1.0 200 OK",
            "HTTP/1.1 200 OK",
            "SIP/2.0 -20 OK",
            "SIP/2.0 +20 OK",
            "OPTIONS sip:a SIP/2.0",
        ] {
            assert_eq!(status(line), None, "{line}");
        }
        assert!(judge("SIP/2.0 100 Trying").unwrap().is_none());
        assert!(judge("SIP/2.0 202 Accepted").is_err());
    }

    #[test]
    fn a_request_is_complete_and_never_the_same_twice() {
        let from = "10.0.0.1:5060".parse().unwrap();
        let text = options("ping@lb", "UDP", from);
        assert!(text.starts_with("OPTIONS sip:ping@lb SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:5060;"));
        assert!(text.ends_with("Content-Length: 0\r\n\r\n"));
        assert_ne!(text, options("ping@lb", "UDP", from));
    }
}
