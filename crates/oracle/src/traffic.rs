//! Conversations between clients and real servers, packet by packet.
//!
//! Both ends are played here, so that the same bytes flow on every machine: a connection is always
//! five packets from the client and three from the server.

use std::net::IpAddr;

use anyhow::Result;

use crate::ends::{Arrival, Ends};
use crate::names::{self, Side};
use crate::packet::{Body, Packet, chunk, flags};

/// Address and port.
pub type End = (IpAddr, u16);

/// TCP, UDP or SCTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Handshake, ten bytes each way, close by the client.
    Tcp,
    /// Ten bytes each way.
    Udp,
    /// Handshake of four, a chunk of data, shutdown by the client.
    Sctp,
}

/// A conversation under way.
#[derive(Clone, Debug)]
pub struct Conversation {
    protocol: Protocol,
    client: End,
    virtual_: End,
    /// The real server's number.
    pub server: u16,
    /// How the server sees itself: under its own address, or under the virtual one.
    local: End,
}

/// How an attempt went.
pub enum Outcome {
    /// A real server has it.
    Served(Conversation),
    /// In a word: `refused`, `reset`, `lost`.
    Failed(String),
}

impl Outcome {
    /// The server's number, or the word.
    pub fn word(&self) -> String {
        match self {
            Self::Served(conversation) => conversation.server.to_string(),
            Self::Failed(word) => word.clone(),
        }
    }
}

/// The first packet of a conversation, with `size` bytes if it is UDP's, and what the director made
/// of it.
pub fn open(
    ends: &mut Ends,
    protocol: Protocol,
    client: End,
    to: End,
    size: usize,
) -> Result<Outcome> {
    let first = match protocol {
        Protocol::Tcp => tcp(client, to, "S", 0),
        Protocol::Udp => udp(client, to, size),
        Protocol::Sctp => sctp(client, to, &["INIT"]),
    };
    let arrivals = ends.exchange(Side::Client, &[first.emit()])?;
    if let Some(arrival) = arrivals.iter().find(|arrival| arrival.side == Side::Server) {
        let packet = arrival.packet.innermost();
        let port = packet.ports().map_or(to.1, |(_, to)| to);
        return Ok(Outcome::Served(Conversation {
            protocol,
            client,
            virtual_: to,
            server: names::server_number(arrival.to),
            local: (packet.destination, port),
        }));
    }
    Ok(Outcome::Failed(refusal(&arrivals)))
}

/// What came back in a real server's place.
fn refusal(arrivals: &[Arrival]) -> String {
    for arrival in arrivals {
        match &arrival.packet.body {
            Body::Tcp {
                flags: Some(flags), ..
            } if flags & 4 != 0 => return "reset".into(),
            Body::Icmp {
                kind: 3, code: 3, ..
            }
            | Body::Icmp {
                kind: 1, code: 4, ..
            } => return "refused".into(),
            Body::Icmp { kind, code, .. } => return format!("icmp-{kind}/{code}"),
            _ => {}
        }
    }
    "lost".into()
}

impl Conversation {
    /// The server's part of the handshake and the client's answer; for UDP, the server's reply.
    /// Fails with a word.
    pub fn establish(&self, ends: &mut Ends) -> Result<Result<(), String>> {
        match self.protocol {
            Protocol::Tcp => self.talk(ends, &[(false, &["SA"]), (true, &["A"])]),
            Protocol::Udp => self.talk(ends, &[(false, &[])]),
            Protocol::Sctp => self.talk(
                ends,
                &[
                    (false, &["INIT-ACK"]),
                    (true, &["COOKIE-ECHO"]),
                    (false, &["COOKIE-ACK"]),
                ],
            ),
        }
    }

    /// A request and its reply, ten bytes each.
    pub fn ask(&self, ends: &mut Ends) -> Result<Result<(), String>> {
        match self.protocol {
            Protocol::Tcp => self.talk(ends, &[(true, &["PA", "10"]), (false, &["PA", "10"])]),
            Protocol::Udp => self.talk(ends, &[(true, &[]), (false, &[])]),
            Protocol::Sctp => self.talk(ends, &[(true, &["DATA"]), (false, &["SACK"])]),
        }
    }

    /// The client closes, the server closes.
    pub fn close(&self, ends: &mut Ends) -> Result<Result<(), String>> {
        match self.protocol {
            Protocol::Tcp => self.talk(ends, &[(true, &["FA"]), (false, &["FA"]), (true, &["A"])]),
            Protocol::Udp => Ok(Ok(())),
            Protocol::Sctp => self.talk(
                ends,
                &[
                    (true, &["SHUTDOWN"]),
                    (false, &["SHUTDOWN-ACK"]),
                    (true, &["SHUTDOWN-COMPLETE"]),
                ],
            ),
        }
    }

    /// Packets in turn, `true` from the client; each must come through.
    fn talk(&self, ends: &mut Ends, packets: &[(bool, &[&str])]) -> Result<Result<(), String>> {
        for &(from_client, words) in packets {
            let passed = if from_client {
                self.request(ends, words)?
            } else {
                self.reply(ends, words)?
            };
            if let Err(word) = passed {
                return Ok(Err(format!("{}:{word}", self.server)));
            }
        }
        Ok(Ok(()))
    }

    fn packet(&self, from: End, to: End, words: &[&str]) -> Packet {
        match self.protocol {
            Protocol::Tcp => {
                let data = words.get(1).and_then(|n| n.parse().ok()).unwrap_or(0);
                tcp(from, to, words[0], data)
            }
            Protocol::Udp => udp(from, to, 10),
            Protocol::Sctp => sctp(from, to, words),
        }
    }

    fn request(&self, ends: &mut Ends, words: &[&str]) -> Result<Result<(), String>> {
        let packet = self.packet(self.client, self.virtual_, words);
        let arrivals = ends.exchange(Side::Client, &[packet.emit()])?;
        let at_server = |arrival: &&Arrival| {
            arrival.side == Side::Server && names::server_number(arrival.to) == self.server
        };
        Ok(match arrivals.iter().find(at_server) {
            Some(_) => Ok(()),
            None => Err(refusal(&arrivals)),
        })
    }

    /// Through the director where the server's own address is known to the client by none other.
    fn reply(&self, ends: &mut Ends, words: &[&str]) -> Result<Result<(), String>> {
        if self.local.0 == self.virtual_.0 {
            return Ok(Ok(()));
        }
        let packet = self.packet(self.local, self.client, words);
        let arrivals = ends.exchange(Side::Server, &[packet.emit()])?;
        let Some(arrival) = arrivals.iter().find(|arrival| arrival.side == Side::Client) else {
            return Ok(Err("reply-lost".into()));
        };
        let source = (
            arrival.packet.source,
            arrival.packet.ports().map_or(0, |(from, _)| from),
        );
        Ok(if source == self.virtual_ {
            Ok(())
        } else {
            Err("reply-untranslated".into())
        })
    }
}

fn tcp(from: End, to: End, letters: &str, data: usize) -> Packet {
    let body = Body::Tcp {
        ports: (from.1, to.1),
        flags: flags(letters),
        data,
    };
    Packet::new(from.0, to.0, body)
}

fn udp(from: End, to: End, data: usize) -> Packet {
    let body = Body::Udp {
        ports: (from.1, to.1),
        data,
        summed: true,
    };
    Packet::new(from.0, to.0, body)
}

fn sctp(from: End, to: End, chunks: &[&str]) -> Packet {
    let body = Body::Sctp {
        ports: (from.1, to.1),
        chunks: chunks.iter().filter_map(|name| chunk(name)).collect(),
    };
    Packet::new(from.0, to.0, body)
}
