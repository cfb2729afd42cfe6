//! IP tunnelling: the packet travels inside another one to the real server, which owns the VIP and
//! unpacks it.
//!
//! Both packets may be IPv4 or IPv6; between their headers lies nothing (IP in IP, RFC 2003, RFC 2473,
//! RFC 4213), GUE, or GRE. A packet in another of its own version and nothing else, the usual case, is
//! [`forward`] or [`forward_wide`], inlined into the way of established packets; all of the others are
//! [`seal`] and [`wrap`]. What they write is what the kernel's IPVS
//! writes, with three exceptions: the identification of an outer packet that may be fragmented is
//! another number; GUE's source port is another function of the flow; and a checksum that the card of
//! the sender was to fill in is never left to the real server (`--tun-remcsum` is `--tun-csum`).

use crate::addr::{Address, Be16};
use crate::atomic;
use crate::forward::{address_frame, decrement, decrement_ttl};
use crate::host::{Packet, Shell, Tables, put};
use crate::inner::{self, Version};
use crate::layout::{
    Egress, NextHop, SERVER_IPV6, ServerRecord, TUNNEL_GRE, TUNNEL_GUE, TUNNEL_IPIP,
};
use crate::mask::masked;
use crate::parse::Flow;
use crate::wire::checksum::{add, finish, finish_wide};
use crate::wire::{ethernet, gre, gue, ipv4, ipv6, tcp, udp};

/// Wraps an IPv4 packet in an IPv4 packet and nothing else; `addresses` are the outer source (low half)
/// and destination.
#[inline(always)]
pub fn forward<P: Packet>(packet: &mut P, flow: &Flow, addresses: u64) -> Option<()> {
    decrement_ttl(packet, flow)?;
    let header = plain_header(packet, flow, addresses)?;
    packet.push(flow.l3, ipv4::MIN_LEN, Version::V4, Shell::Ip)?;
    packet.write(flow.l3, header)
}

/// As [`forward`], of a frame that [`crate::parse::plain`] knew, with its link-layer addresses.
///
/// # Safety
/// `egress` is an entry.
#[inline(always)]
pub unsafe fn send<P: Packet>(
    packet: &mut P,
    flow: &Flow,
    addresses: u64,
    hop: NextHop,
    egress: *const Egress,
) -> Option<()> {
    const OUTER: usize = ethernet::LEN;
    const INNER: usize = OUTER + ipv4::MIN_LEN;
    let header = plain_header(packet, flow, addresses)?;
    packet.make_room(ipv4::MIN_LEN, Version::V4, Shell::Ip)?;
    let frame = packet
        .pointer::<[u8; INNER + ipv4::MIN_LEN]>(0)?
        .cast::<u8>();
    // SAFETY: pointer() checked the bounds; passed on to the caller.
    unsafe {
        address_frame(frame, hop, egress);
        put(frame.add(ethernet::TYPE).cast(), ethernet::IPV4);
        put(frame.add(OUTER).cast(), header);
        decrement(frame.add(INNER + ipv4::TTL));
    }
    Some(())
}

/// The outer header of an IPv4 packet whose time to live is still what it came with.
#[inline(always)]
fn plain_header<P: Packet>(packet: &P, flow: &Flow, addresses: u64) -> Option<[u32; 5]> {
    let inner = Inner {
        version: Version::V4,
        header_len: flow.l4 - flow.l3,
        len: flow.total_len.into(),
        tos: flow.tos,
        ttl: flow.ttl.wrapping_sub(1),
        df: flow.df,
    };
    let id = if flow.df {
        0
    } else {
        distinction(packet, flow.l3, flow.l4)?
    };
    Some(ipv4_header(
        &inner,
        id,
        ipv4::MIN_LEN as u32 + inner.len,
        ipv4::IPIP,
        [addresses as u32, (addresses >> 32) as u32],
    ))
}

/// Wraps an IPv6 packet, whose hop limit has been lowered already, in an IPv6 packet and nothing else, for the
/// server with an index.
#[inline(always)]
pub fn forward_wide<T: Tables, P: Packet>(
    tables: &T,
    packet: &mut P,
    flow: &Flow,
    server: u32,
) -> Option<()> {
    let server = tables.server(server)?;
    packet.push(flow.l3, ipv6::LEN, Version::V6, Shell::Ip)?;
    let header = packet.pointer::<[u64; 5]>(flow.l3)?;
    // SAFETY: pointer() checked the bounds; server records live as long as the maps.
    unsafe { write_wide(header.cast(), flow, server) };
    Some(())
}

/// As [`forward_wide`], of a frame that [`crate::parse::plain_wide`] knew and whose hop limit has not been lowered,
/// with its link-layer addresses.
///
/// # Safety
/// `egress` is an entry.
#[inline(always)]
pub unsafe fn send_wide<T: Tables, P: Packet>(
    tables: &T,
    packet: &mut P,
    flow: &Flow,
    server: u32,
    hop: NextHop,
    egress: *const Egress,
) -> Option<()> {
    const OUTER: usize = ethernet::LEN;
    const INNER: usize = OUTER + ipv6::LEN;
    let server = tables.server(server)?;
    packet.make_room(ipv6::LEN, Version::V6, Shell::Ip)?;
    let frame = packet.pointer::<[u8; INNER + ipv6::LEN]>(0)?.cast::<u8>();
    // SAFETY: pointer() checked the bounds; server records live as long as the maps; passed on to the caller.
    unsafe {
        address_frame(frame, hop, egress);
        put(frame.add(ethernet::TYPE).cast(), ethernet::IPV6);
        write_wide(frame.add(OUTER).cast(), flow, server);
        put(frame.add(INNER + ipv6::HOP_LIMIT), flow.ttl.wrapping_sub(1));
    }
    Some(())
}

/// Writes the outer header of an IPv6 packet in an IPv6 packet.
///
/// # Safety
/// There are 40 bytes at `header`, and `server` is a record in the table.
#[inline(always)]
unsafe fn write_wide(header: *mut u64, flow: &Flow, server: *const ServerRecord) {
    let tos = outer_tos(flow.tos);
    let [high, low] = flow.total_len.to_be_bytes();
    let hops = flow.ttl.wrapping_sub(1);
    let first = word([0x60 | tos >> 4, tos << 4, 0, 0]);
    let second = word([high, low, ipv6::IPV6, hops]);
    // SAFETY: passed on to the caller; both addresses lie at multiples of 8 bytes.
    unsafe {
        let source = (&raw const (*server).tunnel_source).cast::<u64>();
        let destination = (&raw const (*server).rip).cast::<u64>();
        put(header.cast::<u32>(), first);
        put(header.cast::<u32>().add(1), second);
        for i in 0..2 {
            put(header.add(1 + i), atomic::load(source.add(i)));
            put(header.add(3 + i), atomic::load(destination.add(i)));
        }
    }
}

/// True for a server whose IPv4 packets [`forward`] wraps; or, with `wide`, whose IPv6 packets
/// [`forward_wide`] does.
///
/// # Safety
/// `server` is a record in the table.
#[inline(always)]
pub unsafe fn is_plain(server: *const ServerRecord, wide: bool) -> bool {
    // SAFETY: passed on to the caller.
    unsafe {
        atomic::load(&raw const (*server).tunnel_type) == TUNNEL_IPIP
            && (atomic::load(&raw const (*server).flags) & SERVER_IPV6 != 0) == wide
    }
}

/// Bytes the outer headers take on the way to a server.
///
/// # Safety
/// `server` is a record in the table.
#[inline(always)]
pub unsafe fn overhead(server: *const ServerRecord) -> u16 {
    // SAFETY: passed on to the caller.
    let (outer, kind, checksum) = unsafe { encapsulation(server) };
    (outer.header_len() + shell_len(kind, checksum)) as u16
}

/// Version of the outer header, `TUNNEL_*`, and whether the shell has a checksum.
///
/// # Safety
/// `server` is a record in the table.
#[inline(always)]
unsafe fn encapsulation(server: *const ServerRecord) -> (Version, u8, bool) {
    // SAFETY: passed on to the caller.
    let (flags, kind, checksum) = unsafe {
        (
            atomic::load(&raw const (*server).flags),
            atomic::load(&raw const (*server).tunnel_type),
            atomic::load(&raw const (*server).tunnel_flags),
        )
    };
    let outer = if flags & SERVER_IPV6 != 0 {
        Version::V6
    } else {
        Version::V4
    };
    (outer, kind, checksum != 0)
}

#[inline(always)]
fn shell_len(kind: u8, checksum: bool) -> usize {
    match kind {
        TUNNEL_GUE => udp::LEN + gue::LEN,
        TUNNEL_GRE if checksum => gre::LEN_CHECKSUM,
        TUNNEL_GRE => gre::LEN,
        _ => 0,
    }
}

/// What of the outer headers takes a look at more than the inner one's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Identification of an outer IPv4 header, in wire order.
    id: u16,
    /// Source port of GUE.
    port: Be16,
    /// The shell's checksum, raw.
    checksum: u16,
}

impl Seal {
    /// As one word, below [`Seal::NONE`].
    #[inline(always)]
    pub fn to_word(self) -> u64 {
        u64::from(self.id) | u64::from(self.port.raw()) << 16 | u64::from(self.checksum) << 32
    }

    /// From [`Seal::to_word`].
    #[inline(always)]
    pub fn from_word(word: u64) -> Self {
        Self {
            id: word as u16,
            port: Be16::from_raw((word >> 16) as u16),
            checksum: (word >> 32) as u16,
        }
    }

    /// No seal.
    pub const NONE: u64 = u64::MAX;
}

/// True for a server to which tunnels have a checksum, for which [`seal`] needs [`payload`].
#[inline(always)]
pub fn is_summed<T: Tables>(tables: &T, server: u32) -> bool {
    // SAFETY: server records live as long as the maps.
    tables
        .server(server)
        .is_some_and(|server| unsafe { encapsulation(server) }.2)
}

/// What the packet at `l3` sums to; each of its segments (but the last) if it is an aggregate.
#[inline(always)]
pub fn payload<P: Packet>(packet: &P, l3: usize) -> Option<u32> {
    let inner = look(packet, l3)?;
    let segment = segment_len(packet, &inner, l3 + inner.header_len)?;
    inner::sum(packet, inner.version, l3, inner.len, segment)
}

/// Looks at the packet at `l3`, which sums to `sum` and which [`wrap`] shall wrap for the server with an
/// index.
#[inline(always)]
pub fn seal<T: Tables, P: Packet>(
    tables: &T,
    packet: &P,
    l3: usize,
    server: u32,
    sum: u32,
) -> Option<Seal> {
    let server = tables.server(server)?;
    // SAFETY: server records live as long as the maps.
    let (outer, kind, checksum) = unsafe { encapsulation(server) };
    let inner = look(packet, l3)?;
    let l4 = l3 + inner.header_len;
    let mut seal = Seal {
        id: 0,
        port: Be16::new(0),
        checksum: 0,
    };
    if outer == Version::V4 && !inner.df {
        seal.id = distinction(packet, l3, l4).unwrap_or(0);
    }
    if kind == TUNNEL_GUE {
        seal.port = source_port(flow_hash(packet, inner.version, l3, l4)?);
    }
    if checksum && kind == TUNNEL_GRE {
        seal.checksum = finish(add(gre_word(true, inner.version), sum));
    }
    // An aggregate has as many UDP checksums as it will be segments; no one field can hold them. (GRE's
    // differs in the last one only.)
    if checksum && kind == TUNNEL_GUE && !packet.is_aggregate() {
        let length = u32::from((((udp::LEN + gue::LEN) as u32 + inner.len) as u16).to_be());
        let sum = add(sum, add(length, length));
        let sum = add(sum, u32::from(u16::from(ipv4::UDP).to_be()));
        let sum = add(sum, word([0, inner.version.protocol(), 0, 0]));
        // SAFETY: as above. The other words of an IPv4 address are zero.
        let sum = unsafe {
            let port = atomic::load(&raw const (*server).tunnel_port);
            let sum = add(sum, add(seal.port.raw().into(), port.raw().into()));
            let sum = add(sum, sum_of(&raw const (*server).tunnel_source));
            add(sum, sum_of(&raw const (*server).rip))
        };
        seal.checksum = match finish(sum) {
            0 => 0xffff,
            sum => sum,
        };
    }
    Some(seal)
}

/// # Safety
/// `address` lies in a record in the table.
#[inline(always)]
unsafe fn sum_of(address: *const Address) -> u32 {
    let mut sum = 0;
    for i in 0..4 {
        // SAFETY: an address has four words; the rest is passed on to the caller.
        sum = add(sum, unsafe { atomic::load(address.cast::<u32>().add(i)) });
    }
    sum
}

/// Wraps the packet at `l3`, whose time to live (hop limit) has been lowered already, for the server with
/// an index.
#[inline(always)]
pub fn wrap<T: Tables, P: Packet>(
    tables: &T,
    packet: &mut P,
    l3: usize,
    server: u32,
    seal: Seal,
) -> Option<()> {
    let server = tables.server(server)?;
    // SAFETY: server records live as long as the maps.
    let (outer, kind, checksum) = unsafe { encapsulation(server) };
    let shell_len = shell_len(kind, checksum);
    let shell = match kind {
        TUNNEL_GUE => Shell::Udp,
        TUNNEL_GRE => Shell::Gre,
        _ => Shell::Ip,
    };
    let before = outer.header_len() + shell_len;
    packet.push(l3, before, outer, shell)?;
    // Read again rather than kept: there is little room to keep things in.
    let inner = look(packet, masked::<127>(l3 + before))?;
    let len = shell_len as u32 + inner.len;
    // The EtherType is what precedes the network header, tags or not.
    packet.write(masked::<31>(l3 - 2), outer.ethertype())?;
    let protocol = match kind {
        TUNNEL_GUE => ipv4::UDP,
        TUNNEL_GRE => gre::PROTOCOL,
        _ => inner.version.protocol(),
    };
    // SAFETY: as above.
    let (source, destination) = unsafe {
        (
            (&raw const (*server).tunnel_source).cast::<u32>(),
            (&raw const (*server).rip).cast::<u32>(),
        )
    };
    match outer {
        Version::V4 => {
            let total_len = ipv4::MIN_LEN as u32 + len;
            // SAFETY: as above.
            let addresses = unsafe { [atomic::load(source), atomic::load(destination)] };
            let header = ipv4_header(&inner, seal.id, total_len, protocol, addresses);
            packet.write(l3, header)?;
        }
        Version::V6 => {
            let tos = outer_tos(inner.tos);
            let [high, low] = (len as u16).to_be_bytes();
            packet.write(l3, word([0x60 | tos >> 4, tos << 4, 0, 0]))?;
            packet.write(
                l3 + ipv6::PAYLOAD_LEN,
                word([high, low, protocol, inner.ttl]),
            )?;
            // SAFETY: as above.
            unsafe {
                packet.write(l3 + ipv6::SOURCE, source.cast::<[u32; 4]>().read_volatile())?;
                let destination = destination.cast::<[u32; 4]>().read_volatile();
                packet.write(l3 + ipv6::DESTINATION, destination)?;
            }
        }
    }
    let at = l3 + outer.header_len();
    match kind {
        TUNNEL_GUE => {
            // SAFETY: as above.
            let port = unsafe { atomic::load(&raw const (*server).tunnel_port) };
            packet.write(
                at,
                [
                    seal.port.raw(),
                    port.raw(),
                    (len as u16).to_be(),
                    seal.checksum,
                ],
            )?;
            packet.write(at + udp::LEN, word([0, inner.version.protocol(), 0, 0]))
        }
        TUNNEL_GRE => {
            packet.write(at, gre_word(checksum, inner.version))?;
            if checksum {
                packet.write(at + gre::LEN, u32::from(seal.checksum))?;
            }
            Some(())
        }
        _ => Some(()),
    }
}

/// Flags and protocol of a GRE header.
#[inline(always)]
fn gre_word(checksum: bool, inner: Version) -> u32 {
    let flags = if checksum { gre::CHECKSUM } else { 0 };
    u32::from(flags.to_be()) | u32::from(inner.ethertype()) << 16
}

/// What the outer header repeats of the inner one.
#[derive(Clone, Copy)]
struct Inner {
    version: Version,
    header_len: usize,
    len: u32,
    tos: u8,
    ttl: u8,
    df: bool,
}

/// The packet to be wrapped.
#[inline(always)]
fn look<P: Packet>(packet: &P, l3: usize) -> Option<Inner> {
    let [version, second, third, fourth] = packet.read::<u32>(l3)?.to_ne_bytes();
    if version >> 4 == 6 {
        let [high, low, _, hop_limit] = packet.read::<u32>(l3 + ipv6::PAYLOAD_LEN)?.to_ne_bytes();
        Some(Inner {
            version: Version::V6,
            header_len: ipv6::LEN,
            len: u32::from(u16::from_be_bytes([high, low])) + ipv6::LEN as u32,
            tos: version << 4 | second >> 4,
            ttl: hop_limit,
            df: false,
        })
    } else {
        let [_, _, flags, _] = packet.read::<u32>(l3 + 4)?.to_ne_bytes();
        Some(Inner {
            version: Version::V4,
            header_len: usize::from(version & 0xf) * 4,
            len: u16::from_be_bytes([third, fourth]).into(),
            tos: second,
            ttl: packet.read(l3 + ipv4::TTL)?,
            df: flags & DF_BYTE != 0,
        })
    }
}

/// Don't fragment, in the first byte of flags and fragment offset.
const DF_BYTE: u8 = (ipv4::DF >> 8) as u8;

/// An identification for the outer header of a packet that may be fragmented: fragments of different
/// packets between director and real server must not be taken for those of one. Mixed from what tells
/// one packet of a client from the next, so that no counter has to be shared.
#[inline(always)]
fn distinction<P: Packet>(packet: &P, l3: usize, l4: usize) -> Option<u16> {
    let [id, _] = packet.read::<[u16; 2]>(l3 + 4)?;
    let client = packet.read::<u32>(l3 + ipv4::SOURCE)?;
    let [ports, varying] = packet.read::<[u32; 2]>(l4)?;
    Some(spread(client ^ ports ^ varying.rotate_left(7)) as u16 ^ id)
}

/// A number that is the same for all packets of a flow.
#[inline(always)]
fn flow_hash<P: Packet>(packet: &P, inner: Version, l3: usize, l4: usize) -> Option<u32> {
    let addresses = match inner {
        Version::V4 => {
            let [source, destination] = packet.read::<[u32; 2]>(l3 + ipv4::SOURCE)?;
            source.rotate_left(13) ^ destination
        }
        Version::V6 => {
            let words = packet.read::<[u32; 8]>(l3 + ipv6::SOURCE)?;
            words
                .into_iter()
                .fold(0u32, |hash, word| hash.rotate_left(13) ^ word)
        }
    };
    let ports = packet.read::<u32>(l4).unwrap_or(0);
    Some(spread(addresses.rotate_left(7) ^ ports))
}

/// Makes each bit of the answer depend on each of the question (the finaliser of MurmurHash3).
#[inline(always)]
fn spread(value: u32) -> u32 {
    let mut hash = value;
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

/// Source ports of GUE: Linux's default of `net.ipv4.ip_local_port_range`.
const SOURCE_PORTS: core::ops::Range<u16> = 32_768..60_999;

/// A source port, as `udp_flow_src_port` of Linux takes one from its range.
#[inline(always)]
fn source_port(hash: u32) -> Be16 {
    let range = SOURCE_PORTS.end - SOURCE_PORTS.start;
    let offset = (u64::from(hash) * u64::from(range)) >> 32;
    Be16::new(SOURCE_PORTS.start + offset as u16)
}

/// Length of the packets that an aggregate will be on the wire, but for the last one; of any other
/// packet its own.
#[inline(always)]
fn segment_len<P: Packet>(packet: &P, inner: &Inner, l4: usize) -> Option<u32> {
    if !packet.is_aggregate() {
        return Some(inner.len);
    }
    let [offset, _] = packet.read::<[u8; 2]>(l4 + tcp::OFFSET_FLAGS)?;
    let headers = inner.header_len + usize::from(offset >> 4) * 4;
    let largest = packet.largest_datagram(inner.len as u16, headers as u16);
    Some(inner.len.min(largest.into()))
}

/// TOS of the inner packet with CE turned into ECT(0), as of RFC 3168 §9.1.1.
#[inline(always)]
fn outer_tos(tos: u8) -> u8 {
    const CE: u8 = 3;
    const ECT_0: u8 = 2;
    if tos & CE == CE {
        tos & !CE | ECT_0
    } else {
        tos
    }
}

/// The outer header: TOS, DF and time to live are those of the inner packet; the identification is zero
/// with DF.
#[inline(always)]
fn ipv4_header(
    inner: &Inner,
    id: u16,
    total_len: u32,
    protocol: u8,
    addresses: [u32; 2],
) -> [u32; 5] {
    let [high, low] = (total_len as u16).to_be_bytes();
    let [id_first, id_second] = id.to_ne_bytes();
    let df = if inner.df { DF_BYTE } else { 0 };
    let mut words = [
        word([0x45, outer_tos(inner.tos), high, low]),
        word([id_first, id_second, df, 0]),
        word([inner.ttl, protocol, 0, 0]),
        addresses[0],
        addresses[1],
    ];
    let sum = words.into_iter().map(u64::from).sum();
    words[2] |= u32::from(finish_wide(sum)) << 16;
    words
}

#[inline(always)]
fn word(bytes: [u8; 4]) -> u32 {
    u32::from_ne_bytes(bytes)
}
