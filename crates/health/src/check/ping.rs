//! `PING_CHECK`, ldirectord's `ping`: ICMP echo.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pointsman_model::ProbeTarget;
use rand::RngExt;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use crate::Outcome;
use crate::net::{describe, prepare};

/// Bytes that an echo carries, so that an answer to somebody else's is not taken for ours.
const TOKEN_BYTES: usize = 16;
/// Header of an ICMP echo, RFC 792 and RFC 4443 §4.1.
const HEADER_BYTES: usize = 8;

pub(super) async fn probe(count: u32, target: &ProbeTarget, limit: Duration) -> Outcome {
    if target.through.is_some() {
        return Outcome::down("ping has no true path: services balance no ICMP echo");
    }
    let mut last = None;
    for _ in 0..count.max(1) {
        match echo(target, limit).await {
            Ok(()) => return Outcome::up("echo answered"),
            Err(error) => last = Some(error),
        }
    }
    Outcome::down(last.map_or_else(|| "no echo".into(), |error| describe(&error)))
}

/// One request and its answer.
async fn echo(target: &ProbeTarget, limit: Duration) -> io::Result<()> {
    let deadline = Instant::now() + limit;
    let (socket, raw) = open(target)?;
    let token: [u8; TOKEN_BYTES] = rand::rng().random();
    let request = request(target.addr, token);
    let late = |_| {
        io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {limit:?}"),
        )
    };
    let asked = async {
        socket.send(&request).await?;
        let mut answer = [0; 512];
        loop {
            let length = socket.recv(&mut answer).await?;
            if is_answer(&answer[..length], target.addr.is_ipv4(), raw, token) {
                return Ok(());
            }
        }
    };
    timeout_at(deadline, asked).await.map_err(late)?
}

/// An echo socket of the kernel's where this group may have one (`net.ipv4.ping_group_range`), else a raw
/// one, which hears only that server as it is connected to it.
fn open(target: &ProbeTarget) -> io::Result<(UdpSocket, bool)> {
    let address = SocketAddr::new(target.addr, 0);
    let domain = Domain::for_address(address);
    let protocol = match target.addr {
        IpAddr::V4(_) => Protocol::ICMPV4,
        IpAddr::V6(_) => Protocol::ICMPV6,
    };
    let (socket, raw) = match Socket::new(domain, Type::DGRAM, Some(protocol)) {
        Ok(socket) => (socket, false),
        Err(_) => (Socket::new(domain, Type::RAW, Some(protocol))?, true),
    };
    socket.set_nonblocking(true)?;
    let source = ProbeTarget {
        bind_port: None,
        ..target.clone()
    };
    prepare(
        (&socket).into(),
        &source,
        target.mark,
        target.interface.as_deref(),
    )?;
    socket.connect(&address.into())?;
    // To the runtime it is a socket of datagrams like any other.
    Ok((UdpSocket::from_std(socket.into())?, raw))
}

fn request(addr: IpAddr, token: [u8; TOKEN_BYTES]) -> Vec<u8> {
    let kind = if addr.is_ipv4() { 8 } else { 128 };
    let mut packet = vec![kind, 0, 0, 0, token[0], token[1], 0, 1];
    packet.extend(token);
    // The kernel does it for ICMPv6, and for IPv4 unless the socket is raw.
    let sum = checksum(&packet);
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// RFC 1071.
fn checksum(packet: &[u8]) -> u16 {
    let sum: u32 = packet
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

/// Whether a packet is the answer to the echo with `token`. A raw IPv4 socket gives the IP header too.
fn is_answer(packet: &[u8], v4: bool, raw: bool, token: [u8; TOKEN_BYTES]) -> bool {
    let header = match (v4 && raw, packet.first()) {
        (true, Some(first)) => usize::from(first & 0x0f) * 4,
        _ => 0,
    };
    let kind = if v4 { 0 } else { 129 };
    packet
        .get(header..)
        .is_some_and(|icmp| icmp.first() == Some(&kind) && icmp.get(HEADER_BYTES..) == Some(&token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_with_our_token_counts() {
        let token = [7; TOKEN_BYTES];
        let mut answer = request([10, 0, 0, 1].into(), token);
        assert_eq!(checksum(&answer), 0, "the checksum holds");
        assert!(
            !is_answer(&answer, true, false, token),
            "the request itself, on lo"
        );
        answer[0] = 0;
        assert!(is_answer(&answer, true, false, token));
        assert!(!is_answer(&answer, true, false, [8; TOKEN_BYTES]));
        let mut raw = vec![0x46; 24];
        raw.extend(&answer);
        assert!(is_answer(&raw, true, true, token));
        for length in 0..raw.len() {
            assert!(!is_answer(&raw[..length], true, true, token), "{length}");
        }
    }
}
