//! The real server's side of tunnelling: outer header off, inner packet on to the stack.
//!
//! Taken off are IPv4 and IPv6 headers around packets of either version, alone (RFC 2003, RFC 2473,
//! RFC 4213), with GUE or with GRE between them. What is not surely such a packet is left alone; what
//! is one and may not pass is dropped by name. A packet that came in fragments is left to the stack.

use crate::addr::{Be16, Be32};
use crate::host::Packet;
use crate::inner::{self, Version};
use crate::wire::checksum::{Diff, add, add_all, finish, fold, is_unfinished};
use crate::wire::{ethernet, gre, gue, ipv4, ipv6, tcp, udp};

/// Directors a real server can name.
pub const MAX_DIRECTORS: usize = 16;
/// UDP ports that GUE may come to.
pub const MAX_GUE_PORTS: usize = 8;
/// Counters of one CPU, by [`Outcome`].
pub const COUNTERS: u32 = 8;

/// Counters of one CPU, by [`Claim`].
pub const TOA_COUNTERS: u32 = 2;

/// What became of a connection that may name another client than its source.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// A director named the client.
    Taken = 0,
    /// Ignored: somebody who is no director did.
    Stranger = 1,
}

impl Claim {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Taken, Self::Stranger];

    /// Stable name for machines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Taken => "client-known",
            Self::Stranger => "client-named-by-stranger",
        }
    }
}

/// What a decapsulator has to know of its host.
pub trait RealServer {
    /// True for a UDP port that GUE comes to.
    fn is_gue_port(&self, port: Be16) -> bool;
    /// True for an address that may send tunnelled packets. IPv4 addresses as [`mapped`].
    fn is_director(&self, address: [u32; 4]) -> bool;
    /// True when the packet at `l3` is addressed to the host itself rather than to be forwarded.
    fn is_own<P: Packet>(&self, packet: &P, version: Version, l3: usize) -> bool;
}

/// A packet whose outer headers can be taken off.
pub trait Wrapped: Packet {
    /// As [`Packet::write`], and what a network card summed up over the packet changes along.
    fn amend(&mut self, at: usize, value: u16) -> Option<()>;

    /// Removes `len` bytes at `l3`: an outer header of version `outer`, and all there is before a
    /// packet of version `inner`, which the frame then has.
    fn strip(&mut self, l3: usize, len: usize, outer: Version, inner: Version) -> Option<()>;
}

/// An IPv4 address among IPv6 addresses (RFC 4291 §2.5.5.2).
#[inline(always)]
pub const fn mapped(address: Be32) -> [u32; 4] {
    [0, 0, 0xffff_u32.to_be(), address.raw()]
}

/// What became of a packet. The number is the index of its counter.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing: not for the decapsulator. Not counted.
    Untouched = 0,
    /// The inner packet goes on.
    Decapsulated = 1,
    /// Dropped: from an address that is no director's.
    Stranger = 2,
    /// Dropped: the tunnel's checksum is wrong.
    Checksum = 3,
    /// Dropped: congestion was met by a packet that cannot tell (RFC 6040 §4.2).
    Congestion = 4,
    /// Dropped: the kernel would not remove the header.
    Refused = 5,
}

impl Outcome {
    /// Those that are counted.
    pub const COUNTED: [Self; 5] = [
        Self::Decapsulated,
        Self::Stranger,
        Self::Checksum,
        Self::Congestion,
        Self::Refused,
    ];

    /// Stable name for machines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Untouched => "untouched",
            Self::Decapsulated => "decapsulated",
            Self::Stranger => "not-from-a-director",
            Self::Checksum => "tunnel-checksum",
            Self::Congestion => "tunnel-congestion",
            Self::Refused => "not-removable",
        }
    }
}

/// The outer headers of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outer {
    version: Version,
    /// Offset of what follows the outer IP header.
    payload: usize,
    /// Bytes from there on.
    len: u32,
    protocol: u8,
    /// Congestion was experienced.
    congested: bool,
}

/// A packet in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tunnelled {
    version: Version,
    /// Offset of the inner packet.
    at: usize,
    /// Bytes it may have at most.
    len: u32,
    /// Where its transport checksum starts and lies, counted from the inner packet, if it is unfinished
    /// (remote checksum offload).
    unfinished: Option<(Be16, Be16)>,
}

const CE: u8 = 3;

/// Decapsulates a packet, or says why not.
#[inline(always)]
pub fn decapsulate<R: RealServer, P: Wrapped>(host: &R, packet: &mut P) -> Outcome {
    match examine(host, packet) {
        Some(Ok((outer, tunnelled, completion))) => {
            if let Some((at, checksum)) = completion
                && packet.amend(at, checksum).is_none()
            {
                return Outcome::Refused;
            }
            let l3 = ethernet::LEN;
            match outer.congested.then(|| mark(packet, &tunnelled)) {
                Some(Some(false)) => return Outcome::Congestion,
                Some(None) => return Outcome::Refused,
                None | Some(Some(true)) => {}
            }
            let len = tunnelled.at - l3;
            match packet.strip(l3, len, outer.version, tunnelled.version) {
                Some(()) => Outcome::Decapsulated,
                None => Outcome::Refused,
            }
        }
        Some(Err(outcome)) => outcome,
        None => Outcome::Untouched,
    }
}

/// What is to be done: the layers, and the transport checksum to be filled in. `None`: leave it alone.
#[inline(always)]
#[allow(clippy::type_complexity)]
fn examine<R: RealServer, P: Wrapped>(
    host: &R,
    packet: &P,
) -> Option<Result<(Outer, Tunnelled, Option<(usize, u16)>), Outcome>> {
    let l3 = ethernet::LEN;
    let outer = outer(packet, l3)?;
    let tunnelled = match outer.protocol {
        ipv4::UDP => gue(host, packet, &outer)?,
        gre::PROTOCOL => gre(packet, &outer)?,
        protocol => Tunnelled {
            version: Version::of_protocol(protocol)?,
            at: outer.payload,
            len: outer.len,
            unfinished: None,
        },
    };
    if !is_plausible(packet, &tunnelled)? || !host.is_own(packet, outer.version, l3) {
        return None;
    }
    let source = match outer.version {
        Version::V4 => mapped(packet.read(l3 + ipv4::SOURCE)?),
        Version::V6 => packet.read(l3 + ipv6::SOURCE)?,
    };
    if !host.is_director(source) {
        return Some(Err(Outcome::Stranger));
    }
    // Segments that the kernel merged had right checksums; those it has not made yet will get them.
    let completion = if packet.is_aggregate() {
        None
    } else {
        match outer.protocol {
            ipv4::UDP => match udp_checksum(packet, &outer, &tunnelled, l3)? {
                Ok(completion) => completion,
                Err(outcome) => return Some(Err(outcome)),
            },
            gre::PROTOCOL if tunnelled.at - outer.payload == gre::LEN_CHECKSUM => {
                let header = packet.read::<[u32; 2]>(outer.payload)?;
                let sum = add_all(header);
                // Zero is what a sender's kernel leaves to a network card, see below.
                let finished = header[1] != 0;
                if finished && !is_right(add(sum, payload_sum(packet, &tunnelled)?)) {
                    return Some(Err(Outcome::Checksum));
                }
                None
            }
            _ => None,
        }
    };
    Some(Ok((outer, tunnelled, completion)))
}

/// A whole outer header.
#[inline(always)]
fn outer<P: Packet>(packet: &P, l3: usize) -> Option<Outer> {
    let version = Version::of_ethertype(packet.read::<u16>(ethernet::TYPE)?)?;
    let (header_len, len, protocol, congested) = match version {
        Version::V4 => {
            let ip = packet.read::<ipv4::Header>(l3)?;
            let header_len = usize::from(ip.version_ihl & 0xf) * 4;
            let len = u32::from(ip.total_len.get()).wrapping_sub(header_len as u32);
            if ip.version_ihl >> 4 != 4
                || header_len < ipv4::MIN_LEN
                || ip.fragment.get() & ipv4::FRAGMENT != 0
            {
                return None;
            }
            (header_len, len, ip.protocol, ip.tos & CE == CE)
        }
        Version::V6 => {
            let [first, second] = packet.read::<[u32; 2]>(l3)?;
            let [version, low, ..] = first.to_ne_bytes();
            let [len_high, len_low, next_header, _] = second.to_ne_bytes();
            if version >> 4 != 6 {
                return None;
            }
            let len = u16::from_be_bytes([len_high, len_low]);
            let congested = low >> 4 & CE == CE;
            (ipv6::LEN, u32::from(len), next_header, congested)
        }
    };
    let payload = l3 + header_len;
    (len <= 0xffff && payload as u32 + len <= packet.len()).then_some(Outer {
        version,
        payload,
        len,
        protocol,
        congested,
    })
}

/// Behind a UDP header on a GUE port.
#[inline(always)]
fn gue<R: RealServer, P: Packet>(host: &R, packet: &P, outer: &Outer) -> Option<Tunnelled> {
    let [_, port, length, _] = packet.read::<[u16; 4]>(outer.payload)?;
    if !host.is_gue_port(Be16::from_raw(port)) || u32::from(u16::from_be(length)) != outer.len {
        return None;
    }
    let at = outer.payload + udp::LEN;
    let [first, protocol, high, low] = packet.read::<[u8; 4]>(at)?;
    let options = usize::from(first & gue::HLEN) * 4;
    if first & !gue::HLEN != 0 {
        return None;
    }
    let unfinished = match (u16::from_be_bytes([high, low]), options) {
        (0, 0) => None,
        (gue::PRIVATE, 4..) => match u32::from_be(packet.read(at + gue::LEN)?) {
            0 => None,
            gue::REMCSUM if options >= gue::LEN_REMCSUM - gue::LEN => {
                let [start, offset] = packet.read::<[u16; 2]>(at + gue::LEN_REMCSUM - 4)?;
                Some((Be16::from_raw(start), Be16::from_raw(offset)))
            }
            _ => return None,
        },
        _ => return None,
    };
    let header_len = udp::LEN + gue::LEN + options;
    Some(Tunnelled {
        version: Version::of_protocol(protocol)?,
        at: outer.payload + header_len,
        len: outer.len.checked_sub(header_len as u32)?,
        unfinished,
    })
}

/// Behind a GRE header with no more than a checksum.
#[inline(always)]
fn gre<P: Packet>(packet: &P, outer: &Outer) -> Option<Tunnelled> {
    let [flags, protocol] = packet.read::<[u16; 2]>(outer.payload)?;
    let header_len = match u16::from_be(flags) {
        0 => gre::LEN,
        gre::CHECKSUM => gre::LEN_CHECKSUM,
        _ => return None,
    };
    Some(Tunnelled {
        version: Version::of_ethertype(protocol)?,
        at: outer.payload + header_len,
        len: outer.len.checked_sub(header_len as u32)?,
        unfinished: None,
    })
}

/// True when the inner packet has a header, and no more bytes than there are.
#[inline(always)]
fn is_plausible<P: Packet>(packet: &P, tunnelled: &Tunnelled) -> Option<bool> {
    let (least, len) = match tunnelled.version {
        Version::V4 => {
            let ip = packet.read::<ipv4::Header>(tunnelled.at)?;
            let header_len = usize::from(ip.version_ihl & 0xf) * 4;
            if ip.version_ihl >> 4 != 4 || header_len < ipv4::MIN_LEN {
                return Some(false);
            }
            (header_len, u32::from(ip.total_len.get()))
        }
        Version::V6 => {
            let first = packet.read::<[u32; 2]>(tunnelled.at)?;
            if first[0].to_ne_bytes()[0] >> 4 != 6 {
                return Some(false);
            }
            let [high, low, ..] = first[1].to_ne_bytes();
            let len = u32::from(u16::from_be_bytes([high, low]));
            (ipv6::LEN, len + ipv6::LEN as u32)
        }
    };
    Some(len >= least as u32 && len <= tunnelled.len)
}

/// What the tunnel's payload sums to.
#[inline(always)]
fn payload_sum<P: Packet>(packet: &P, tunnelled: &Tunnelled) -> Option<u32> {
    inner::sum(
        packet,
        tunnelled.version,
        tunnelled.at,
        tunnelled.len,
        tunnelled.len,
    )
}

/// Zero, in one of its two forms.
#[inline(always)]
fn is_right(sum: u32) -> bool {
    finish(sum) == 0
}

/// Verifies the outer UDP checksum, if there is one, and finds the inner transport checksum that remote
/// checksum offload left to us: where it lies and what it is.
#[inline(always)]
fn udp_checksum<P: Packet>(
    packet: &P,
    outer: &Outer,
    tunnelled: &Tunnelled,
    l3: usize,
) -> Option<Result<Option<(usize, u16)>, Outcome>> {
    let [_, _, length, checksum] = packet.read::<[u16; 4]>(outer.payload)?;
    let mut pseudo = add(u32::from(length), u32::from(u16::from(ipv4::UDP).to_be()));
    pseudo = add(
        pseudo,
        match outer.version {
            Version::V4 => add_all(packet.read::<[u32; 2]>(l3 + ipv4::SOURCE)?),
            Version::V6 => add_all(packet.read::<[u32; 8]>(l3 + ipv6::SOURCE)?),
        },
    );
    // A checksum that the sender's kernel left to a network card, on a way that has none, is the sum of
    // the pseudo header so far.
    let finished = checksum != 0 && !is_unfinished(checksum, pseudo);
    // Everything before the inner packet.
    let mut head = add(pseudo, add_all(packet.read::<[u32; 3]>(outer.payload)?));
    let options = tunnelled.at - outer.payload - udp::LEN - gue::LEN;
    if options != 0 {
        head = add(head, packet.sum(tunnelled.at - options, options as u32)?);
    }
    let Some((start, offset)) = tunnelled.unfinished else {
        let right = !finished || is_right(add(head, payload_sum(packet, tunnelled)?));
        return Some(if right {
            Ok(None)
        } else {
            Err(Outcome::Checksum)
        });
    };
    let start = usize::from(start.get());
    let field = usize::from(offset.get());
    let header_len = match tunnelled.version {
        Version::V4 => usize::from(packet.read::<u8>(tunnelled.at)? & 0xf) * 4,
        Version::V6 => ipv6::LEN,
    };
    let is_udp = field == start + udp::CHECKSUM;
    if start != header_len || !(is_udp || field == start + tcp::CHECKSUM) {
        return Some(Err(Outcome::Checksum));
    }
    // The whole sums to zero, so what comes before the transport header tells what it sums to, and
    // nobody has to walk over the payload. Without an outer checksum somebody has to.
    let sum = if finished {
        add(head, packet.sum(tunnelled.at, start as u32)?)
    } else {
        let len = tunnelled.len.checked_sub(start as u32)?;
        !packet.sum(tunnelled.at + start, len)?
    };
    let checksum = match fold(sum) {
        0 if is_udp => 0xffff,
        checksum => checksum,
    };
    Some(Ok(Some((tunnelled.at + field, checksum))))
}

/// Tells the inner packet that congestion was met on the way; false if it does not understand.
#[inline(always)]
fn mark<P: Wrapped>(packet: &mut P, tunnelled: &Tunnelled) -> Option<bool> {
    let at = tunnelled.at;
    let old = packet.read::<u16>(at)?;
    let [first, second] = old.to_ne_bytes();
    let (ecn, marked) = match tunnelled.version {
        Version::V4 => (second & CE, [first, second | CE]),
        Version::V6 => (second >> 4 & CE, [first, second | CE << 4]),
    };
    if ecn == 0 {
        return Some(false);
    }
    let new = u16::from_ne_bytes(marked);
    packet.amend(at, new)?;
    if tunnelled.version == Version::V4 {
        let checksum = packet.read::<u16>(at + ipv4::CHECKSUM)?;
        let checksum = Diff::of16(old, new).apply(checksum);
        packet.amend(at + ipv4::CHECKSUM, checksum)?;
    }
    Some(true)
}
