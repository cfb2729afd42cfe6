//! NNTP (RFC 3977): the greeting begins with a 2.

use tokio::io::AsyncReadExt;

use super::peer::Peer;
use super::{Answer, Failure};

/// Most bytes of the greeting that are looked at, as many as ldirectord reads.
const GREETING: usize = 64;

pub(super) async fn check(peer: &Peer<'_>) -> Result<Answer, Failure> {
    let mut stream = peer.connect().await?;
    let mut greeting = [0; GREETING];
    let length = stream.read(&mut greeting).await?;
    match &greeting[..length] {
        [] => Err(Failure::Closed("the greeting")),
        [b'2', ..] => Ok(Answer::success()),
        said if said[0].is_ascii_digit() => Err(Failure::refused("the greeting", said)),
        got => Err(Failure::garbage("an NNTP server", got)),
    }
}
