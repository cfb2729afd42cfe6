//! Packets that are rare: ICMP errors about connections, fragments, SCTP, AH and ESP, IPv6 extension
//! headers, and headers that cannot be. Most become a [`Flow`] and go the common way.

use crate::addr::{Address, Be16};
use crate::atomic;
use crate::conn::{self, KIND_METHOD, Key, Word};
use crate::director::{Mode, Verdict, balance, call, leave, refuse};
use crate::drop::Drop;
use crate::forward;
use crate::fragment::{self, FragmentId};
use crate::host::{Host, Packet, Tables, get};
use crate::layout::{HELD, ID_IPV4, ID_IPV6, ID_REAL4, ID_REAL6, ServiceId};
use crate::mask::masked;
use crate::open;
use crate::parse::{Flow, link, wide_addresses};
use crate::proto::{self, sctp as sctp_states};
use crate::wire::{ethernet, icmp6, ipv4, ipv6, sctp, tcp};

/// IPv4.
#[derive(Clone, Copy, Debug)]
pub struct RareNarrow;
impl Mode for RareNarrow {
    const WIDE: bool = false;
    const RARE: bool = true;
    const ORIGIN: u32 = call::RARE;
}

/// IPv6.
#[derive(Clone, Copy, Debug)]
pub struct RareWide;
impl Mode for RareWide {
    const WIDE: bool = true;
    const RARE: bool = true;
    const ORIGIN: u32 = call::RARE_WIDE;
}

/// What a rare packet turned out to be.
enum Seen {
    /// Of a connection, perhaps.
    Flow(Flow),
    /// Nothing for a balancer.
    Other,
    /// Broken in a way that no stack would accept.
    Broken(Drop),
    /// Without usable ports: dropped only if its destination is a VIP.
    Portless(Drop),
    /// A later fragment whose first one is not known (yet).
    Orphan,
}

/// Network layer of a packet: what both families have in common.
#[derive(Clone, Copy)]
struct Ip {
    l3: usize,
    /// Offset of what follows the IP header and its extensions.
    l4: usize,
    protocol: u8,
    total_len: u16,
    tos: u8,
    ttl: u8,
    df: bool,
    /// More fragments follow, or some came before.
    fragment: bool,
    /// Offset of a fragment in units of eight bytes.
    offset: u16,
    /// Identification of a fragment, raw.
    id: u32,
}

/// A packet that turned out to be a flow, which [`ingress`] left in [`crate::layout::Wanted`]. A program
/// of its own: what follows does not depend on how the flow was found.
#[inline(always)]
pub fn flow<H: Host, P: Packet, M: Mode>(host: &H, packet: &mut P) -> Verdict {
    let (Some(runtime), Some(wanted)) = (host.runtime(), host.wanted()) else {
        return Verdict::Pass;
    };
    // SAFETY: the runtime record lives as long as the maps, the wanted one is this CPU's.
    let (seed, flow) = unsafe {
        (
            atomic::load(&raw const (*runtime).seed),
            open::wanted_flow(wanted),
        )
    };
    // SAFETY: the wanted record is this CPU's.
    if unsafe { atomic::load(&raw const (*wanted).origin) } == call::OUT {
        return leave::<H, P, M>(host, packet, &flow, runtime, seed);
    }
    balance::<H, P, M>(host, packet, &flow, runtime, seed)
}

/// A packet that the program it met first found rare, on its way in or out.
#[inline(always)]
pub fn ingress<H: Host, P: Packet, M: Mode>(host: &H, packet: &mut P) -> Verdict {
    let (Some(runtime), Some(wanted)) = (host.runtime(), host.wanted()) else {
        return Verdict::Pass;
    };
    // SAFETY: the runtime record lives as long as the maps, the wanted one is this CPU's.
    let (seed, origin) = unsafe {
        (
            atomic::load(&raw const (*runtime).seed),
            atomic::load(&raw const (*wanted).origin),
        )
    };
    match look::<H, P, M>(host, packet, seed) {
        Seen::Flow(flow) => {
            let next = if M::WIDE {
                call::RARE_FLOW_WIDE
            } else {
                call::RARE_FLOW
            };
            open::want(host, &flow, 0, origin).map_or(Verdict::Pass, |_| Verdict::Call(next))
        }
        Seen::Other => Verdict::Pass,
        // What the director's own stack sends is as it should be.
        _ if origin == call::OUT => Verdict::Pass,
        Seen::Broken(reason) => refuse(host, reason),
        Seen::Portless(reason) if concerns::<H, P, M>(host, packet, false) => refuse(host, reason),
        Seen::Orphan
            if concerns::<H, P, M>(host, packet, false)
                || concerns::<H, P, M>(host, packet, true) =>
        {
            if H::HANDS_UP {
                return Verdict::HandUp;
            }
            if !packet.hold() {
                return refuse(host, Drop::Fragment);
            }
            host.count(HELD);
            Verdict::Held
        }
        Seen::Portless(_) | Seen::Orphan => Verdict::Pass,
    }
}

#[inline(always)]
fn look<H: Host, P: Packet, M: Mode>(host: &H, packet: &P, seed: [u64; 2]) -> Seen {
    let Some((l3, ether_type)) = link(packet) else {
        return Seen::Other;
    };
    let ip = if M::WIDE {
        if ether_type != ethernet::IPV6.raw() {
            return Seen::Other;
        }
        ipv6_header(packet, l3)
    } else {
        if ether_type != ethernet::IPV4.raw() {
            return Seen::Other;
        }
        ipv4_header(packet, l3)
    };
    let Some(ip) = ip else {
        return Seen::Broken(Drop::MalformedIp);
    };
    let icmp = if M::WIDE { ipv6::ICMP } else { ipv4::ICMP };
    if ip.protocol == icmp {
        if ip.fragment {
            return Seen::Other;
        }
        return related::<H, P, M>(host, packet, &ip, seed);
    }
    let base = match ip.protocol {
        ipv4::TCP => proto::TCP,
        ipv4::UDP => proto::UDP,
        ipv4::SCTP => proto::SCTP,
        ipv4::AH | ipv4::ESP => proto::UDP,
        _ => return Seen::Other,
    };
    let later = ip.fragment && ip.offset != 0;
    let headless = ip.protocol == ipv4::AH || ip.protocol == ipv4::ESP;
    let known = ip
        .fragment
        .then(|| fragment_id(packet, &ip, M::WIDE))
        .flatten();
    let (ports, event, header) = if headless {
        // They follow the connection of their key exchange.
        let isakmp = Be16::new(500).raw();
        (u32::from(isakmp) | u32::from(isakmp) << 16, 0, 0)
    } else if later {
        let Some(ports) = known.and_then(|id| fragment::ports(host, &id)) else {
            return Seen::Orphan;
        };
        (ports, 0, 0)
    } else {
        match first_bytes(packet, &ip) {
            Some(found) => found,
            None => return Seen::Portless(Drop::MalformedTransport),
        }
    };
    if let Some(id) = known
        && !later
    {
        fragment::remember(host, &id, ports);
    }
    let Some(addresses) = addresses::<P, M>(packet, l3, seed) else {
        return Seen::Broken(Drop::MalformedIp);
    };
    Seen::Flow(Flow {
        key: Key {
            addresses,
            ports,
            proto: base | if M::WIDE { proto::WIDE } else { 0 },
        },
        l3: ip.l3,
        l4: ip.l4,
        inner: 0,
        total_len: ip.total_len,
        headers: (ip.l4 - ip.l3) as u16 + header,
        tos: ip.tos,
        ttl: ip.ttl,
        df: ip.df,
        event,
        whole: !later && !headless,
    })
}

#[inline(always)]
fn addresses<P: Packet, M: Mode>(packet: &P, l3: usize, seed: [u64; 2]) -> Option<u64> {
    if M::WIDE {
        wide_addresses(packet, l3, seed)
    } else {
        let source = packet.read::<u32>(l3 + ipv4::SOURCE)?;
        let destination = packet.read::<u32>(l3 + ipv4::DESTINATION)?;
        Some(u64::from(source) | u64::from(destination) << 32)
    }
}

#[inline(always)]
fn ipv4_header<P: Packet>(packet: &P, l3: usize) -> Option<Ip> {
    let ip = packet.read::<ipv4::Header>(l3)?;
    let header_len = usize::from(ip.version_ihl & 0xf) * 4;
    let total_len = ip.total_len.get();
    if ip.version_ihl >> 4 != 4
        || header_len < ipv4::MIN_LEN
        || usize::from(total_len) < header_len
        || l3 as u32 + u32::from(total_len) > packet.len()
    {
        return None;
    }
    let fragment = ip.fragment.get();
    Some(Ip {
        l3,
        l4: l3 + header_len,
        protocol: ip.protocol,
        total_len,
        tos: ip.tos,
        ttl: ip.ttl,
        df: fragment & ipv4::DF != 0,
        fragment: fragment & ipv4::FRAGMENT != 0,
        offset: fragment & ipv4::OFFSET,
        id: u32::from(ip.id.raw()),
    })
}

/// Chunk type of ABORT.
const ABORT: u8 = 6;
/// Most extension headers followed.
const EXTENSIONS: u32 = 6;
/// Furthest offset of a transport header.
const FURTHEST: usize = 0x1ff;

#[inline(always)]
fn ipv6_header<P: Packet>(packet: &P, l3: usize) -> Option<Ip> {
    let ip = packet.read::<ipv6::Header>(l3)?;
    let payload_len = ip.payload_len.get();
    if ip.version() != 6
        || l3 as u32 + ipv6::LEN as u32 + u32::from(payload_len) > packet.len()
        || payload_len > u16::MAX - ipv6::LEN as u16
    {
        return None;
    }
    let total_len = payload_len + ipv6::LEN as u16;
    let found = follow(packet, l3, &ip, total_len)?;
    (found.l4 <= l3 + usize::from(total_len)).then_some(found)
}

/// Follows the extension headers of the IPv6 header `ip`, which lies at `l3`.
#[inline(always)]
fn follow<P: Packet>(packet: &P, l3: usize, ip: &ipv6::Header, total_len: u16) -> Option<Ip> {
    let mut found = Ip {
        l3,
        l4: l3 + ipv6::LEN,
        protocol: ip.next_header,
        total_len,
        tos: ip.class(),
        ttl: ip.hop_limit,
        df: false,
        fragment: false,
        offset: 0,
        id: 0,
    };
    for _ in 0..EXTENSIONS {
        let fragment = found.protocol == ipv6::FRAGMENT;
        let options = matches!(
            found.protocol,
            ipv6::HOP_BY_HOP | ipv6::ROUTING | ipv6::DESTINATION_OPTIONS
        );
        if !fragment && !options {
            break;
        }
        let at = masked::<0x1ff>(found.l4);
        let [next, len] = packet.read::<[u8; 2]>(at)?;
        if fragment {
            let offset = packet.read::<Be16>(at + 2)?.get();
            found.fragment = offset & 0xfff9 != 0;
            found.offset = offset >> 3;
            found.id = packet.read::<u32>(at + 4)?;
        }
        found.protocol = next;
        found.l4 = at
            + if fragment {
                8
            } else {
                (usize::from(len) + 1) * 8
            };
        if found.l4 > FURTHEST {
            return None;
        }
        // What follows the header of a later fragment is no header.
        if found.offset != 0 {
            break;
        }
    }
    Some(found)
}

/// Ports, event and bytes of the transport header of a packet, whole or a first fragment.
#[inline(always)]
fn first_bytes<P: Packet>(packet: &P, ip: &Ip) -> Option<(u32, u8, u16)> {
    let l4 = masked::<0x1ff>(ip.l4);
    let ports = packet.read::<u32>(l4)?;
    let left = usize::from(ip.total_len).checked_sub(ip.l4 - ip.l3)?;
    match ip.protocol {
        ipv4::TCP => {
            let [offset, flags] = packet.read::<[u8; 2]>(l4 + tcp::OFFSET_FLAGS)?;
            let len = usize::from(offset >> 4) * 4;
            (len >= tcp::MIN_LEN && len <= left).then_some((ports, flags, len as u16))
        }
        ipv4::UDP => {
            let len = usize::from(packet.read::<Be16>(l4 + 4)?.get());
            (left >= 8 && len >= 8 && (ip.fragment || len <= left)).then_some((ports, 0, 8))
        }
        _ => {
            let len = sctp::LEN + sctp::CHUNK_LEN;
            let [chunk, _] = packet.read::<[u8; 2]>(l4 + sctp::CHUNK)?;
            let mut event = sctp_states::event(chunk);
            // An ABORT may be bundled behind these two.
            if chunk == 10 || chunk == 11 {
                let bytes = usize::from(packet.read::<Be16>(l4 + sctp::CHUNK + 2)?.get());
                let next = masked::<0x7ff>(l4 + sctp::CHUNK + ((bytes + 3) & !3));
                if packet.read::<u8>(next).unwrap_or(0) == ABORT {
                    event = sctp_states::EVENT_ABORT;
                }
            }
            (left >= len).then_some((ports, event, sctp::LEN as u16))
        }
    }
}

#[inline(always)]
fn fragment_id<P: Packet>(packet: &P, ip: &Ip, wide: bool) -> Option<FragmentId> {
    let mut id = FragmentId {
        source: [0; 4],
        destination: [0; 4],
        id: ip.id,
        protocol: u32::from(ip.protocol),
    };
    if wide {
        for i in 0..4 {
            id.source[i] = packet.read::<u32>(ip.l3 + ipv6::SOURCE + 4 * i)?;
            id.destination[i] = packet.read::<u32>(ip.l3 + ipv6::DESTINATION + 4 * i)?;
        }
    } else {
        id.source[0] = packet.read::<u32>(ip.l3 + ipv4::SOURCE)?;
        id.destination[0] = packet.read::<u32>(ip.l3 + ipv4::DESTINATION)?;
    }
    Some(id)
}

/// An ICMP message: an error about a packet of a connection is of that connection, seen from the
/// other side.
#[inline(always)]
fn related<H: Host, P: Packet, M: Mode>(host: &H, packet: &P, ip: &Ip, seed: [u64; 2]) -> Seen {
    const UNREACHABLE: u8 = 3;
    const SOURCE_QUENCH: u8 = 4;
    const TIME_EXCEEDED: u8 = 11;
    let at = masked::<0x1ff>(ip.l4);
    let Some(kind) = packet.read::<u8>(at) else {
        return Seen::Portless(Drop::MalformedTransport);
    };
    let error = if M::WIDE {
        kind < icmp6::INFORMATIONAL
    } else {
        matches!(kind, UNREACHABLE | SOURCE_QUENCH | TIME_EXCEEDED)
    };
    if !error {
        return Seen::Other;
    }
    let inner = at + icmp6::LEN;
    match embedded::<P, M>(packet, inner, seed) {
        Some((key, l4)) => Seen::Flow(Flow {
            key,
            l3: ip.l3,
            l4,
            inner,
            total_len: ip.total_len,
            headers: (ip.l4 - ip.l3) as u16,
            tos: ip.tos,
            ttl: ip.ttl,
            df: ip.df,
            event: 0,
            whole: false,
        }),
        None => {
            if !M::WIDE && kind == UNREACHABLE {
                learn_mtu(host, packet, at, seed);
            }
            Seen::Other
        }
    }
}

/// Least MTU that is believed of a way (`net.ipv4.route.min_pmtu`).
const MIN_PMTU: u16 = 552;

/// "Fragmentation needed" about a tunnel of ours, IPv4 in IPv4: the connection whose packet was in it
/// takes less from now on, and the director tells its client, who asked for packets not to be fragmented,
/// when the next one is too long.
#[inline(always)]
fn learn_mtu<T: Tables, P: Packet>(
    tables: &T,
    packet: &P,
    at: usize,
    seed: [u64; 2],
) -> Option<()> {
    const FRAGMENTATION_NEEDED: u8 = 4;
    let inner = masked::<0x1ff>(at + icmp6::LEN);
    let outer = packet.read::<ipv4::Header>(inner)?;
    let ours = masked::<0x1ff>(inner + ipv4::MIN_LEN);
    let request = packet.read::<ipv4::Header>(ours)?;
    let l4 = masked::<0x1ff>(ours + usize::from(request.version_ihl & 0xf) * 4);
    let base = match request.protocol {
        ipv4::TCP => proto::TCP,
        ipv4::UDP => proto::UDP,
        ipv4::SCTP => proto::SCTP,
        _ => return None,
    };
    if packet.read::<u8>(at + 1)? != FRAGMENTATION_NEEDED
        || outer.version_ihl != 0x45
        || outer.protocol != ipv4::IPIP
        || request.version_ihl >> 4 != 4
        || request.fragment.get() & ipv4::OFFSET != 0
    {
        return None;
    }
    let key = Key {
        addresses: request.addresses(),
        ports: packet.read::<u32>(l4)?,
        proto: base,
    };
    let told = packet.read::<Be16>(at + 6)?.get();
    let mtu = if told < MIN_PMTU { MIN_PMTU } else { told } - ipv4::MIN_LEN as u16;
    let found = conn::find(tables, key.hash(seed), &key, tables.now())?;
    // SAFETY: found slots lie in the table. A slot that passes to another connection meanwhile gets its
    // own MTU with its own way.
    unsafe {
        let tunnelled = Word(atomic::load(&raw const (*found.slot).word)).kind() & KIND_METHOD
            == u32::from(forward::TUNNEL);
        let addresses = atomic::load(&raw const (*found.slot).new_addresses);
        if tunnelled
            && addresses == outer.addresses()
            && atomic::load(&raw const (*found.slot).mtu) > mtu
            && atomic::load(&raw const (*found.slot).tag) == found.tag
        {
            atomic::store(&raw mut (*found.slot).mtu, mtu);
        }
    }
    Some(())
}

/// The key, reversed, of the packet an error quotes, and where its ports lie.
#[inline(always)]
fn embedded<P: Packet, M: Mode>(packet: &P, inner: usize, seed: [u64; 2]) -> Option<(Key, usize)> {
    let (protocol, l4) = if M::WIDE {
        let ip = packet.read::<ipv6::Header>(inner)?;
        let ip = follow(packet, inner, &ip, 0)?;
        if ip.offset != 0 {
            return None;
        }
        (ip.protocol, masked::<0x1ff>(ip.l4))
    } else {
        let ip = packet.read::<ipv4::Header>(inner)?;
        if ip.version_ihl >> 4 != 4
            || ip.version_ihl & 0xf < 5
            || ip.fragment.get() & ipv4::OFFSET != 0
        {
            return None;
        }
        (ip.protocol, inner + usize::from(ip.version_ihl & 0xf) * 4)
    };
    let base = match protocol {
        ipv4::TCP => proto::TCP,
        ipv4::UDP => proto::UDP,
        ipv4::SCTP => proto::SCTP,
        _ => return None,
    };
    let addresses = if M::WIDE {
        Key::fold(
            [
                packet.read::<u64>(inner + ipv6::DESTINATION)?,
                packet.read::<u64>(inner + ipv6::DESTINATION + 8)?,
                packet.read::<u64>(inner + ipv6::SOURCE)?,
                packet.read::<u64>(inner + ipv6::SOURCE + 8)?,
            ],
            seed,
        )
    } else {
        let source = packet.read::<u32>(inner + ipv4::SOURCE)?;
        let destination = packet.read::<u32>(inner + ipv4::DESTINATION)?;
        u64::from(destination) | u64::from(source) << 32
    };
    let ports = packet.read::<u32>(l4)?.rotate_left(16);
    let key = Key {
        addresses,
        ports,
        proto: base | if M::WIDE { proto::WIDE } else { 0 },
    };
    Some((key, l4))
}

/// Whether some service uses the packet's destination, or some real server has its source (`reply`).
#[inline(always)]
fn concerns<H: Host, P: Packet, M: Mode>(host: &H, packet: &P, reply: bool) -> bool {
    let (Some(wanted), Some((l3, _))) = (host.wanted(), link(packet)) else {
        return false;
    };
    // SAFETY: the record is this CPU's, pointer() checks the bounds.
    unsafe {
        let to = &raw mut (*wanted).destination.0;
        if M::WIDE {
            let at = if reply {
                ipv6::SOURCE
            } else {
                ipv6::DESTINATION
            };
            let Some(from) = packet.pointer::<Address>(l3 + at) else {
                return false;
            };
            for i in 0..4 {
                atomic::store(&raw mut (*to)[i], get(from.cast::<u32>().add(i)));
            }
        } else {
            let at = if reply {
                ipv4::SOURCE
            } else {
                ipv4::DESTINATION
            };
            let Some(address) = packet.read::<u32>(l3 + at) else {
                return false;
            };
            atomic::store(&raw mut (*to)[0], address);
            for i in 1..4 {
                atomic::store(&raw mut (*to)[i], 0);
            }
        }
    }
    host.known_apart(match (reply, M::WIDE) {
        (false, false) => ID_IPV4,
        (false, true) => ID_IPV6,
        (true, false) => ID_REAL4,
        (true, true) => ID_REAL6,
    })
}

/// Whether the wanted destination is known as an address of a kind (`ID_*`).
#[inline(always)]
pub fn is_known<T: Tables>(tables: &T, kind: u8) -> bool {
    let Some(wanted) = tables.wanted() else {
        return false;
    };
    let id = ServiceId {
        // SAFETY: the record is this CPU's.
        vip: unsafe { (*wanted).destination },
        vport: Be16::new(0),
        proto: 0,
        kind,
    };
    tables.service_index(&id).is_some()
}

/// What a frame is a fragment of; `None` when it is none.
pub fn fragment_of<P: Packet>(packet: &P) -> Option<FragmentId> {
    let (l3, ether_type) = link(packet)?;
    let wide = ether_type == ethernet::IPV6.raw();
    let ip = if wide {
        ipv6_header(packet, l3)
    } else {
        ipv4_header(packet, l3)
    }?;
    if ip.fragment {
        fragment_id(packet, &ip, wide)
    } else {
        None
    }
}
