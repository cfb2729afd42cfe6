//! `send`: one packet as the scenario writes it down.
//!
//! ```text
//! send c1:1000 > VIP:80 tcp S ttl 1
//! send c1:53 > VIP:53 udp len 3000 frag 1480 order 2,1,3
//! send rs1 > c1 icmp 3/3 about c1:1000 > rs1:80 udp len 10
//! send rs2 > D2 icmp 3/1 quote 80 about D2 > rs2 ip about c1:1000 > VIP:80 udp len 10
//! ```
//! Words: `tcp FLAGS`, `udp`, `sctp CHUNK,CHUNK`, `icmp TYPE/CODE`, `ip` (in IP), `proto N`; `len N`
//! bytes of data, `ttl N`, `tos N`, `df`, `nosum` (UDP); `mtu N` and `quote N` bytes (ICMP), then
//! `about` and the quoted or inner packet; `id N`, the identification; `frag N` bytes a fragment in
//! the `order` said; `from client` or `from server` for a source that is on neither cable.

use anyhow::{Context, Result, bail, ensure};

use crate::names::{self, Side};
use crate::packet::{Body, Packet, chunk, flags, fragments, identify};
use crate::traffic::End;

/// What to send, and where.
pub struct Crafted {
    /// The cable of the sender.
    pub side: Side,
    /// IP packets in order.
    pub packets: Vec<Vec<u8>>,
}

/// Reads the words behind `send`.
pub fn parse(text: &str) -> Result<Crafted> {
    let (own, about) = match text.split_once(" about ") {
        Some((own, about)) => (own, Some(about)),
        None => (text, None),
    };
    let mut words = own.split_whitespace();
    let mut next = |what: &str| words.next().with_context(|| format!("{what} is missing"));
    let source = end(next("the source")?)?;
    if next(">")? != ">" {
        bail!("SOURCE > DESTINATION");
    }
    let destination = end(next("the destination")?)?;
    same_family(source, destination)?;
    let ports = (source.1, destination.1);
    let body = match next("the protocol")? {
        "tcp" => Body::Tcp {
            ports,
            flags: Some(flags(next("flags")?).context("flags are letters of SAFRPUEC, or .")?),
            data: 0,
        },
        "udp" => Body::Udp {
            ports,
            data: 0,
            summed: true,
        },
        "sctp" => {
            let chunks = next("chunks")?.split(',').map(|name| {
                chunk(name).with_context(|| format!("{name} is no chunk that is known here"))
            });
            Body::Sctp {
                ports,
                chunks: chunks.collect::<Result<_>>()?,
            }
        }
        "icmp" => {
            let (kind, code) = next("type/code")?.split_once('/').context("type/code")?;
            Body::Icmp {
                kind: kind.parse()?,
                code: code.parse()?,
                rest: 0,
                about: None,
            }
        }
        "ip" => Body::Ip(quoted_packet(about.context("ip about what?")?)?.into()),
        "proto" => Body::Other {
            protocol: next("number")?.parse()?,
            data: 0,
        },
        other => bail!("{other} is no protocol that is known here"),
    };
    let mut packet = Packet::new(source.0, destination.0, body);
    let mut side = names::mac(source.0).map(|(side, _)| side);
    let (mut size, mut order, mut quote, mut identification) = (None, None, 28, 0x1234);
    if source.0.is_ipv6() {
        quote = 48;
    }
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} what?"));
        match word {
            "df" => packet.dont_fragment = true,
            "nosum" => match &mut packet.body {
                Body::Udp { summed, .. } => *summed = false,
                _ => bail!("nosum is UDP's"),
            },
            "ttl" => packet.ttl = value()?.parse()?,
            "tos" => packet.tos = value()?.parse()?,
            "len" => {
                let length = value()?.parse()?;
                match &mut packet.body {
                    Body::Tcp { data, .. } | Body::Udp { data, .. } | Body::Other { data, .. } => {
                        *data = length;
                    }
                    _ => bail!("len is TCP's, UDP's or another's"),
                }
            }
            "mtu" => match &mut packet.body {
                Body::Icmp { rest, .. } => *rest = value()?.parse()?,
                _ => bail!("mtu is ICMP's"),
            },
            "id" => identification = value()?.parse()?,
            "quote" => quote = value()?.parse()?,
            "frag" => size = Some(value()?.parse()?),
            "order" => {
                let numbers = value()?.split(',').map(str::parse::<usize>);
                order = Some(numbers.collect::<Result<Vec<_>, _>>()?);
            }
            "from" => {
                side = Some(match value()? {
                    "client" => Side::Client,
                    "server" => Side::Server,
                    other => bail!("from {other}?"),
                });
            }
            other => bail!("{other} is no word that is known here"),
        }
    }
    if let Some(quoted) = about {
        let quoted = quoted_packet(quoted)?;
        match &mut packet.body {
            Body::Icmp { about, .. } => *about = Some((quoted.into(), quote)),
            Body::Ip(_) => {}
            _ => bail!("only ICMP is about something"),
        }
    }
    let mut whole = packet.emit();
    identify(&mut whole, identification);
    let mut packets = match size {
        Some(size) => fragments(&whole, size, identification),
        None => vec![whole],
    };
    if let Some(order) = order {
        let pick = |n: &usize| packets.get(n - 1).cloned().context("no such fragment");
        packets = order.iter().map(pick).collect::<Result<_>>()?;
    }
    Ok(Crafted {
        side: side.context("where does it come from? say `from client` or `from server`")?,
        packets,
    })
}

/// The packet behind `about`: written like one that is sent, and read back from its bytes.
fn quoted_packet(text: &str) -> Result<Packet> {
    let (own, about) = match text.split_once(" about ") {
        Some((own, about)) => (own, format!(" about {about}")),
        None => (text, String::new()),
    };
    // Where it is sent from does not matter, but must be known.
    let crafted = parse(&format!("{own} from client{about}"))?;
    Packet::read(&crafted.packets[0]).context("the quoted packet")
}

/// No packet goes from IPv4 to IPv6.
pub fn same_family(from: End, to: End) -> Result<()> {
    ensure!(
        from.0.is_ipv4() == to.0.is_ipv4(),
        "{} and {} differ in family",
        from.0,
        to.0
    );
    Ok(())
}

/// `VIP:80`, or an address alone, whose port is 0.
pub fn end(text: &str) -> Result<End> {
    match text.rsplit_once(':') {
        Some((name, port)) => Ok((names::resolve(name)?, port.parse()?)),
        None => Ok((names::resolve(text)?, 0)),
    }
}
