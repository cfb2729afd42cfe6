//! SMTP (RFC 5321) and submission (RFC 6409): banner, EHLO or else HELO, QUIT.

use super::lines::Lines;
use super::peer::Peer;
use super::reply::{command, positive, reply};
use super::{Answer, Failure};

pub(super) async fn check(peer: &Peer<'_>) -> Result<Answer, Failure> {
    let stream = peer.connect().await?;
    // An address always has a name that servers accept (RFC 5321 §4.1.3); ours may have none in DNS.
    let name = match stream.local_addr()?.ip() {
        std::net::IpAddr::V4(addr) => format!("[{addr}]"),
        std::net::IpAddr::V6(addr) => format!("[IPv6:{addr}]"),
    };
    let mut lines = Lines::new(stream);
    positive(reply(&mut lines, "the banner").await?, "the banner")?;
    lines.send(&format!("EHLO {name}\r\n")).await?;
    if !reply(&mut lines, "EHLO").await?.is_positive() {
        command(&mut lines, &format!("HELO {name}\r\n"), "HELO").await?;
    }
    lines.farewell("QUIT\r\n").await;
    Ok(Answer::success())
}
