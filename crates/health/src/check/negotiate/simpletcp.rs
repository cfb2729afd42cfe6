//! simpletcp: send some text, look for a line that matches.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use pointsman_model::check::Transport;

use super::pattern::Pattern;
use super::peer::Peer;
use super::{Answer, BODY, Failure};

/// Largest datagram.
const DATAGRAM: usize = 65_535;

/// Sends `request`, in which `\n` stands for a line feed, and nothing more, and wants a line that
/// matches. Without `receive` any line will do.
pub(super) async fn check(
    peer: &Peer<'_>,
    transport: Transport,
    request: &str,
    receive: Option<&Pattern>,
) -> Result<Answer, Failure> {
    let request = request.replace("\\n", "\n");
    match transport {
        Transport::Tcp => over_tcp(peer, &request, receive).await,
        Transport::Udp => over_udp(peer, &request, receive).await,
    }
}

async fn over_tcp(
    peer: &Peer<'_>,
    request: &str,
    receive: Option<&Pattern>,
) -> Result<Answer, Failure> {
    let mut stream = peer.connect().await?;
    stream.write_all(request.as_bytes()).await?;
    stream.shutdown().await?;
    let mut lines = BufReader::new(stream).take(BODY as u64);
    let mut said = Vec::new();
    loop {
        let begin = said.len();
        if lines.read_until(b'\n', &mut said).await? == 0 {
            return Err(match (said.len(), receive) {
                (BODY, _) => Failure::TooLong(BODY),
                (1.., Some(pattern)) => Failure::mismatch(pattern, said),
                _ => Failure::Closed("a line came"),
            });
        }
        if receive.is_none_or(|pattern| pattern.matches(&said[begin..])) {
            return Ok(Answer::success());
        }
    }
}

async fn over_udp(
    peer: &Peer<'_>,
    request: &str,
    receive: Option<&Pattern>,
) -> Result<Answer, Failure> {
    let socket = peer.datagrams().await?;
    let mut buffer = vec![0; DATAGRAM];
    let mut length = socket.ask(request.as_bytes(), &mut buffer).await?;
    // As long as nothing matches more may come; the deadline ends this.
    loop {
        let mut lines = buffer[..length].split_inclusive(|&byte| byte == b'\n');
        if lines.any(|line| receive.is_none_or(|pattern| pattern.matches(line))) {
            return Ok(Answer::success());
        }
        length = socket.more(&mut buffer).await?;
    }
}
