//! Telling a server who its client is: what a [`Plan`] does inside TCP. Numbers and options change, and TOA
//! or a header of the PROXY protocol is inserted.

use super::fullnat::{Plan, toa_len};
use crate::addr::Be16;
use crate::host::{Packet, Tables};
use crate::mask::masked;
use crate::open;
use crate::parse::Flow;
use crate::proto;
use crate::wire::checksum::Diff;
use crate::wire::tcp as tcp_wire;
use crate::wire::{ipv4, ipv6, toa};

/// TCP option kinds.
const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_MSS: u8 = 2;
const OPTION_SACK: u8 = 5;
/// Most options looked at.
const OPTIONS: u32 = 16;
/// Signature of the PROXY protocol, version 2, as words of memory.
const SIGNATURE: [u32; 3] = [
    u32::from_ne_bytes(*b"\r\n\r\n"),
    u32::from_ne_bytes(*b"\0\r\nQ"),
    u32::from_ne_bytes(*b"UIT\n"),
];

/// Where what is inserted goes.
#[inline(always)]
fn place(flow: &Flow, plan: Plan) -> usize {
    masked::<0x1ff>(if plan.has(Plan::PROXY) {
        flow.l3 + usize::from(flow.headers)
    } else {
        flow.l4 + tcp_wire::MIN_LEN
    })
}

/// Makes room for what a plan inserts into the wanted packet.
#[inline(always)]
pub fn make_room<T: Tables, P: Packet>(
    tables: &T,
    packet: &mut P,
    flow: &Flow,
    plan: Plan,
) -> Option<()> {
    let len = plan.inserted();
    if len == 0 {
        return Some(());
    }
    if plan.has(Plan::AHEAD) {
        send_ahead(tables, packet, flow)?;
    }
    // SAFETY: the record is this CPU's; nothing else is in its text meanwhile.
    unsafe {
        let scratch = (&raw mut (*tables.wanted()?).text).cast::<u8>();
        packet.insert(place(flow, plan), len as u32, scratch)
    }
}

/// Carries out what of a plan is inside TCP: numbers, options, what is inserted, for which there is room.
/// The packet's addresses and ports are still those it came with.
#[inline(always)]
pub fn edit<T: Tables, P: Packet>(tables: &T, packet: &mut P, plan: Plan) -> Option<()> {
    let wanted = tables.wanted()?;
    // SAFETY: the wanted record is this CPU's.
    let flow = unsafe { open::wanted_flow(wanted) };
    let l4 = masked::<0x1ff>(flow.l4);
    let mut pseudo = Diff::NONE;
    let mut inside = Diff::NONE;
    if plan.has(Plan::SEQUENCE) {
        let at = l4 + tcp_wire::SEQUENCE;
        inside = inside.and(add_to(packet, at, plan.shift())?);
    }
    if plan.has(Plan::ACKNOWLEDGEMENT) {
        let at = l4 + tcp_wire::ACKNOWLEDGEMENT;
        inside = inside.and(add_to(packet, at, plan.back().wrapping_neg())?);
    }
    let header = usize::from(flow.headers).checked_sub(flow.l4 - flow.l3)?;
    if header > tcp_wire::MIN_LEN && plan.has(Plan::ACKNOWLEDGEMENT | Plan::SEGMENT_SIZE) {
        inside = inside.and(options(packet, l4, header, plan)?);
    }
    let len = plan.inserted();
    if len != 0 {
        let at = place(&flow, plan);
        inside = inside.and(if plan.has(Plan::PROXY) {
            write_proxy(packet, at, &flow, plan)?
        } else {
            write_toa(packet, at, l4, &flow, plan)?
        });
        let total = flow.total_len.checked_add(len as u16)?;
        pseudo = resize(packet, &flow, total)?;
        // SAFETY: as above.
        unsafe {
            (*wanted).flow.total_len = total;
            if !plan.has(Plan::PROXY) {
                (*wanted).flow.headers = flow.headers + len as u16;
            }
        }
    }
    packet.update_checksum(l4 + tcp_wire::CHECKSUM, pseudo, inside, false)
}

/// Adds to a number in wire order.
#[inline(always)]
fn add_to<P: Packet>(packet: &mut P, at: usize, by: u32) -> Option<Diff> {
    let old = packet.read::<u32>(at)?;
    let new = u32::from_be(old).wrapping_add(by).to_be();
    packet.write(at, new)?;
    Some(Diff::of32(old, new))
}

/// The IP header says how long the packet is; so does the pseudo header. Both are to say `total`.
#[inline(always)]
fn resize<P: Packet>(packet: &mut P, flow: &Flow, total: u16) -> Option<Diff> {
    let by = total.wrapping_sub(flow.total_len);
    let wide = flow.key.proto & proto::WIDE != 0;
    let at = flow.l3 + if wide { ipv6::PAYLOAD_LEN } else { 2 };
    let old = packet.read::<u16>(at)?;
    let new = u16::from_be(old).wrapping_add(by).to_be();
    packet.write(at, new)?;
    if !wide {
        let checksum = packet.read::<u16>(flow.l3 + ipv4::CHECKSUM)?;
        let changed = Diff::of16(old, new).apply(checksum);
        packet.write(flow.l3 + ipv4::CHECKSUM, changed)?;
    }
    // By as much as the IP length, whatever the transport's own was.
    let payload = flow.total_len.checked_sub((flow.l4 - flow.l3) as u16)?;
    Some(Diff::of16(
        payload.to_be(),
        payload.wrapping_add(by).to_be(),
    ))
}

/// Sends the whole aggregate round once more, and makes its first segment of this packet.
#[inline(always)]
fn send_ahead<T: Tables, P: Packet>(tables: &T, packet: &mut P, flow: &Flow) -> Option<()> {
    let first = packet.largest_datagram(flow.total_len, flow.headers);
    packet.split_off(flow.l3 as u32 + u32::from(first))?;
    let l4 = masked::<0x1ff>(flow.l4);
    // What ends a stream is behind the last segment.
    let [offset, flags] = packet.read::<[u8; 2]>(l4 + tcp_wire::OFFSET_FLAGS)?;
    let fewer = [offset, flags & !(tcp_wire::FIN | tcp_wire::PSH)];
    packet.write(l4 + tcp_wire::OFFSET_FLAGS, fewer)?;
    let inside = Diff::of16(
        u16::from_ne_bytes([offset, flags]),
        u16::from_ne_bytes(fewer),
    );
    let pseudo = resize(packet, flow, first)?;
    // SAFETY: the wanted record is this CPU's.
    unsafe { (*tables.wanted()?).flow.total_len = first };
    packet.update_checksum(l4 + tcp_wire::CHECKSUM, pseudo, inside, false)
}

/// Goes through the options of a TCP header: a segment size is lowered, acknowledged ranges are shifted
/// back. What that changes, summed over all of them, since an option may begin anywhere.
#[inline(always)]
fn options<P: Packet>(packet: &mut P, l4: usize, header: usize, plan: Plan) -> Option<Diff> {
    let before = sum_options(packet, l4, header)?;
    let mut at = tcp_wire::MIN_LEN as u32;
    for _ in 0..OPTIONS {
        at = packet.option_apart(l4 as u32 | (header as u32) << 16, at, plan.0);
        if at == NO_OPTION {
            break;
        }
    }
    let after = sum_options(packet, l4, header)?;
    Some(before.reversed().and(after))
}

/// What [`option`] returns when there is none more.
pub const NO_OPTION: u32 = 0;

/// Does to the option at `at` of a TCP header what a plan says; offset of the next one. The header lies at
/// the offset in the low half of `header`, and has as many bytes as the high half says.
#[inline(always)]
pub fn option<P: Packet>(packet: &mut P, header: u32, at: u32, plan: u64) -> u32 {
    edit_option(packet, header, at, Plan(plan)).unwrap_or(NO_OPTION)
}

#[inline(always)]
fn edit_option<P: Packet>(packet: &mut P, header: u32, at: u32, plan: Plan) -> Option<u32> {
    let l4 = masked::<0x1ff>(header as usize);
    let end = masked::<0x3f>((header >> 16) as usize);
    let here = masked::<0x3f>(at as usize);
    if here + 2 > end {
        return None;
    }
    let [kind, len] = packet.read::<[u8; 2]>(l4 + here)?;
    if kind == OPTION_NOP {
        return Some(here as u32 + 1);
    }
    let next = here + usize::from(len);
    if kind == OPTION_END || len < 2 || next > end {
        return None;
    }
    if kind == OPTION_MSS && len == 4 && plan.has(Plan::SEGMENT_SIZE) {
        let room = if plan.has(Plan::PROXY) {
            plan.shift()
        } else {
            toa_len(plan.has(Plan::CLIENT_IPV6))
        };
        let size = packet.read::<Be16>(l4 + here + 2)?.get();
        packet.write(l4 + here + 2, Be16::new(size.saturating_sub(room as u16)))?;
    }
    if kind == OPTION_SACK && plan.has(Plan::ACKNOWLEDGEMENT) {
        for edge in 0..8usize {
            if 6 + 4 * edge > usize::from(len) {
                break;
            }
            let edge = l4 + here + 2 + 4 * edge;
            add_to(packet, edge, plan.shift().wrapping_neg())?;
        }
    }
    Some(next as u32)
}

/// The sum of the words of the options.
#[inline(always)]
fn sum_options<P: Packet>(packet: &P, l4: usize, header: usize) -> Option<Diff> {
    let mut sum = Diff::NONE;
    for word in 5..15usize {
        if word * 4 < header {
            sum = sum.and(Diff::added(packet.read::<u32>(l4 + word * 4)?));
        }
    }
    Some(sum)
}

/// Writes TOA at `at`, and that the header is longer.
#[inline(always)]
fn write_toa<P: Packet>(
    packet: &mut P,
    at: usize,
    l4: usize,
    flow: &Flow,
    plan: Plan,
) -> Option<Diff> {
    let wide = plan.has(Plan::CLIENT_IPV6);
    let len = toa_len(wide);
    let [first, second] = (flow.key.ports as u16).to_ne_bytes();
    let head = u32::from_ne_bytes([toa::KIND, len as u8, first, second]);
    let mut diff = Diff::added(head);
    packet.write(at, head)?;
    for i in 0..4usize {
        if i == 0 || wide {
            let source = if wide { ipv6::SOURCE } else { ipv4::SOURCE };
            let word = packet.read::<u32>(flow.l3 + source + 4 * i)?;
            packet.write(at + 4 + 4 * i, word)?;
            diff = diff.and(Diff::added(word));
        }
    }
    let [offset, flags] = packet.read::<[u8; 2]>(l4 + tcp_wire::OFFSET_FLAGS)?;
    let longer = [offset.wrapping_add((len as u8 / 4) << 4), flags];
    packet.write(l4 + tcp_wire::OFFSET_FLAGS, longer)?;
    Some(diff.and(Diff::of16(
        u16::from_ne_bytes([offset, flags]),
        u16::from_ne_bytes(longer),
    )))
}

/// Writes a header of the PROXY protocol at `at` (version 2: signature, version and command, family and
/// transport, length, addresses, ports).
#[inline(always)]
fn write_proxy<P: Packet>(packet: &mut P, at: usize, flow: &Flow, plan: Plan) -> Option<Diff> {
    let wide = plan.has(Plan::CLIENT_IPV6);
    let mut diff = Diff::NONE;
    for (i, word) in SIGNATURE.into_iter().enumerate() {
        packet.write(at + 4 * i, word)?;
        diff = diff.and(Diff::added(word));
    }
    let (family, len) = if wide { (0x21, 36) } else { (0x11, 12) };
    let head = u32::from_ne_bytes([0x21, family, 0, len]);
    packet.write(at + 12, head)?;
    diff = diff.and(Diff::added(head));
    let source = flow.l3 + if wide { ipv6::SOURCE } else { ipv4::SOURCE };
    for i in 0..8usize {
        if i < 2 || wide {
            let word = packet.read::<u32>(source + 4 * i)?;
            packet.write(at + 16 + 4 * i, word)?;
            diff = diff.and(Diff::added(word));
        }
    }
    let ports = if wide { 48 } else { 24 };
    packet.write(at + ports, flow.key.ports)?;
    Some(diff.and(Diff::added(flow.key.ports)))
}
