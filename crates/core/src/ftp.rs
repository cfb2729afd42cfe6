//! FTP control connections by NAT: the data connections that their text agrees on are made before they
//! come, to the same real server (RFC 959, RFC 2428).
//!
//! | who says | what is made |
//! |---|---|
//! | server `227 … (h1,h2,h3,h4,p1,p2)` | client:any → VIP:port → RIP:port, and the address in the text becomes the VIP |
//! | server `229 … (\|\|\|port\|)` | client:any → VIP:port → RIP:port |
//! | client `PORT h1,h2,h3,h4,p1,p2`, `EPRT \|n\|address\|port\|` | client:port → VIP:port of the service − 1 → RIP:its port − 1, both ways |
//!
//! Client and server are always those of the control connection, whatever address the text names: nobody
//! opens a way for others. They are children of the control connection, which lives as long as they do.
//! The text keeps its length, and TCP its sequence numbers: only the numbers of a 227 count
//! (RFC 1123, 4.1.2.6), so the words before them make room.

use crate::addr::{Address, Be16};
use crate::atomic;
use crate::conn::{self, Found, Hash, KIND_WILDCARD, Key, NO_SLOT, Tag, Word};
use crate::connect;
use crate::director::{self, Mode, Verdict, call, refuse};
use crate::drop::Drop;
use crate::host::{Host, Packet, Tables};
use crate::open::{NO_SERVICE, UNPRIVILEGED};
use crate::parse::{Flow, Parsed};
use crate::proto::{self, tcp};
use crate::text::{self, Text};
use crate::track;
use crate::wire::checksum::Diff;
use crate::wire::tcp as tcp_wire;

/// What [`act`] returns for a text that was changed: the low half is the [`Diff`] of its checksum.
const CHANGED: u64 = 1 << 32;
/// What [`act`] returns, too, when it left in [`crate::layout::Wanted`] what data connection is to be made.
const WANTED: u64 = 2 << 32;

/// Whether the text of a packet of this connection is still to be read; once it was, its packet comes by
/// again.
#[inline(always)]
pub fn is_unread<T: Tables>(tables: &T, tag: u64) -> bool {
    let Some(wanted) = tables.wanted() else {
        return false;
    };
    // SAFETY: the record is this CPU's.
    unsafe {
        let read = atomic::load(&raw const (*wanted).read) == tag;
        atomic::store(&raw mut (*wanted).read, 0);
        !read
    }
}

/// The program for what FTP control connections say: reads the text, then the packet starts over.
#[inline(always)]
pub fn ingress<H: Host, P: Packet, M: Mode>(host: &H, packet: &mut P) -> Verdict {
    let (Some(runtime), Some(wanted)) = (host.runtime(), host.wanted()) else {
        return Verdict::Pass;
    };
    // SAFETY: the runtime record lives as long as the maps.
    let seed = unsafe { atomic::load(&raw const (*runtime).seed) };
    let Parsed::Flow(flow) = director::parsed::<P, M>(packet, seed) else {
        return Verdict::Pass;
    };
    let hash = flow.key.hash(seed);
    let Some(found) = conn::find(host, hash, &flow.key, host.now()) else {
        return Verdict::Call(M::ORIGIN);
    };
    // SAFETY: the record is this CPU's.
    unsafe {
        atomic::store(&raw mut (*wanted).read, found.tag);
        (*wanted).origin = M::ORIGIN;
    }
    match read(host, packet, &flow, &found) {
        Ok(true) => Verdict::Call(call::OPEN),
        Ok(false) => Verdict::Call(M::ORIGIN),
        Err(reason) => refuse(host, reason),
    }
}

/// Reads a packet's text, and changes it if need be. True if it makes a connection wanted.
#[inline(always)]
fn read<T: Tables, P: Packet>(
    tables: &T,
    packet: &mut P,
    flow: &Flow,
    found: &Found,
) -> Result<bool, Drop> {
    let at = flow.l3 + usize::from(flow.headers);
    let len = text::load(tables, packet, at, flow.l3 + usize::from(flow.total_len));
    if len == 0 {
        return Ok(false);
    }
    let done = tables.ftp_apart(found.index, found.tag, len as u32);
    if done & CHANGED != 0 {
        let diff = Diff::from_raw(done as u32);
        text::store(tables, packet, at, len)
            .and_then(|()| {
                packet.update_checksum(flow.l4 + tcp_wire::CHECKSUM, Diff::NONE, diff, false)
            })
            .ok_or(Drop::Headroom)?;
    }
    Ok(done & WANTED != 0)
}

// Notes of the reader, see `text`.
/// Bytes of the text.
const LEN: usize = 0;
/// Where the arguments begin, 0 for none.
const ARGUMENTS: usize = 1;
/// Which of the two words it was.
const WHICH: usize = 2;
/// Place in the line; later the number before the present one, or the delimiter.
const COLUMN: usize = 3;
const PREVIOUS: usize = 3;
const DELIMITER: usize = 3;
/// The last four bytes; later the present number.
const WORD: usize = 4;
const VALUE: usize = 4;
/// Commas or delimiters so far.
const COUNT: usize = 5;
/// Where the first number begins, 0 before it.
const FIRST: usize = 6;
/// Where what was looked for ends, 0 unless it was found whole.
const END: usize = 7;

/// Furthest that arguments reach.
const ARGUMENTS_LEN: u32 = 128;
/// Present delimiter while the next byte says which it is.
const NEXT_IS_DELIMITER: u32 = 0x100;

/// Does what the text of `len` bytes in [`crate::layout::Wanted::text`] asks for, in a packet of the slot
/// that was found with `tag`: what is to be done then, `CHANGED` or `WANTED`.
#[inline(always)]
pub fn act<T: Tables>(tables: &T, index: u32, tag: u64, len: u32) -> u64 {
    let (Some(text), Some(own)) = (Text::of(tables), conn::slot(tables, index)) else {
        return 0;
    };
    // SAFETY: slots found by index lie in the table.
    let (word, partner) = unsafe {
        (
            Word(atomic::load(&raw const (*own.slot).word)),
            atomic::load(&raw const (*own.slot).partner),
        )
    };
    if own.tag != tag || word.state() != tcp::ESTABLISHED {
        return 0;
    }
    text.set_note::<LEN>(len);
    let reply = word.is_reply();
    if reply {
        find_line(text, *b"227 ", *b"229 ");
    } else {
        find_line(text, *b"PORT", *b"EPRT");
    }
    if text.note::<ARGUMENTS>() == 0 {
        return 0;
    }
    let extended = text.note::<WHICH>() != 0;
    let port = if extended {
        read_delimited(text, reply)
    } else {
        read_numbers(text)
    };
    // A way to a privileged port is none to data.
    if port == 0 || (reply && port < u32::from(UNPRIVILEGED)) {
        return 0;
    }
    let request = if reply { partner } else { index };
    let Some(request) = conn::slot(tables, request) else {
        return 0;
    };
    // SAFETY: as above.
    let wanted = if unsafe { expect(tables, &request, Be16::new(port as u16), reply) } {
        WANTED
    } else {
        0
    };
    if !reply || extended || word.proto() & proto::WIDE != 0 {
        return wanted;
    }
    // SAFETY: as above.
    let vip = unsafe { (atomic::load(&raw const (*request.slot).addresses) >> 32) as u32 };
    let before = text.sum();
    if !write_numbers(text, u32::from_be(vip), port) {
        return wanted;
    }
    wanted | CHANGED | u64::from(Diff::of32(before, text.sum()).raw())
}

/// Looks for a line that begins with one of two words; [`ARGUMENTS`] says where it goes on, [`WHICH`]
/// which it is.
#[inline(always)]
fn find_line(text: Text, first: [u8; 4], second: [u8; 4]) {
    let (first, second) = (u32::from_be_bytes(first), u32::from_be_bytes(second));
    text.set_note::<ARGUMENTS>(0);
    text.set_note::<COLUMN>(0);
    for i in 0..text::PIECE as u32 {
        if i >= text.note::<LEN>() {
            break;
        }
        let byte = text.byte(i);
        if byte == b'\n' {
            text.set_note::<COLUMN>(0);
            continue;
        }
        let word = text.note::<WORD>() << 8 | u32::from(byte.to_ascii_uppercase());
        let column = text.note::<COLUMN>() + 1;
        text.set_note::<WORD>(word);
        text.set_note::<COLUMN>(column);
        if column == 4 && (word == first || word == second) {
            text.set_note::<WHICH>(u32::from(word == second));
            text.set_note::<ARGUMENTS>(i + 1);
            break;
        }
    }
}

/// The port in six numbers with commas between them, the first of which is the first number there is; 0
/// if they are not there.
#[inline(always)]
fn read_numbers(text: Text) -> u32 {
    text.set_note::<VALUE>(0);
    text.set_note::<COUNT>(0);
    text.set_note::<FIRST>(0);
    text.set_note::<END>(0);
    for k in 0..ARGUMENTS_LEN {
        let i = text.note::<ARGUMENTS>() + k;
        if i >= text.note::<LEN>() {
            break;
        }
        let byte = text.byte(i);
        let digit = u32::from(byte.wrapping_sub(b'0'));
        if digit < 10 {
            if text.note::<FIRST>() == 0 {
                text.set_note::<FIRST>(i);
            }
            let value = text.note::<VALUE>() * 10 + digit;
            text.set_note::<VALUE>(value);
            if value > 255 {
                break;
            }
        } else if text.note::<FIRST>() == 0 {
            if byte == b'\n' {
                break;
            }
        } else if byte == b',' {
            text.set_note::<PREVIOUS>(text.note::<VALUE>());
            text.set_note::<VALUE>(0);
            text.set_note::<COUNT>(text.note::<COUNT>() + 1);
        } else {
            text.set_note::<END>(i);
            break;
        }
    }
    if text.note::<END>() == 0 || text.note::<COUNT>() != 5 {
        return 0;
    }
    text.note::<PREVIOUS>() << 8 | text.note::<VALUE>()
}

/// The port between the third and the fourth delimiter, the first of which follows a parenthesis or, in a
/// command, blanks; 0 if it is not there.
#[inline(always)]
fn read_delimited(text: Text, in_parentheses: bool) -> u32 {
    text.set_note::<DELIMITER>(0);
    text.set_note::<VALUE>(0);
    text.set_note::<COUNT>(1);
    text.set_note::<END>(0);
    for k in 0..ARGUMENTS_LEN {
        let i = text.note::<ARGUMENTS>() + k;
        if i >= text.note::<LEN>() {
            break;
        }
        let byte = u32::from(text.byte(i));
        if byte == u32::from(b'\n') {
            break;
        }
        let delimiter = text.note::<DELIMITER>();
        if delimiter == 0 {
            if !in_parentheses {
                if byte != u32::from(b' ') {
                    text.set_note::<DELIMITER>(byte);
                }
            } else if byte == u32::from(b'(') {
                text.set_note::<DELIMITER>(NEXT_IS_DELIMITER);
            }
        } else if delimiter == NEXT_IS_DELIMITER {
            text.set_note::<DELIMITER>(byte);
        } else if byte == delimiter {
            let count = text.note::<COUNT>() + 1;
            text.set_note::<COUNT>(count);
            if count == 4 {
                text.set_note::<END>(i);
                break;
            }
        } else if text.note::<COUNT>() == 3 {
            let digit = byte.wrapping_sub(u32::from(b'0'));
            if digit > 9 {
                break;
            }
            let value = text.note::<VALUE>() * 10 + digit;
            if value > 0xffff {
                break;
            }
            text.set_note::<VALUE>(value);
        }
    }
    if text.note::<END>() == 0 {
        return 0;
    }
    text.note::<VALUE>()
}

/// What stands before the numbers.
const PASSIVE: [u8; 22] = *b"Entering Passive Mode ";
/// How much of it, when there is no room for all.
const SHORT: u32 = 13;

/// Writes six numbers so that they end where those end that [`read_numbers`] read, and words before them;
/// false when there is no room.
#[inline(always)]
fn write_numbers(text: Text, address: u32, port: u32) -> bool {
    let (first, start) = (text.note::<FIRST>(), text.note::<ARGUMENTS>());
    // What opens the parenthesis, if there is one.
    let opening = text.byte(first.wrapping_sub(1));
    let high = u64::from(address) << 16 | u64::from(port);
    let mut len = 5;
    for i in 0..6 {
        len += digits((high >> (8 * i)) as u32 & 0xff);
    }
    let end = text.note::<END>();
    if start + len > end {
        return false;
    }
    let room = end - start - len;
    text.set_note::<COUNT>(room);
    // From the last digit of the last number on.
    text.set_note::<FIRST>(end);
    for i in 0..6 {
        let number = (high >> (8 * i)) as u32 & 0xff;
        let mut at = text.note::<FIRST>();
        if i != 0 {
            at -= 1;
            text.set_byte(at, b',');
        }
        text.set_byte(at.wrapping_sub(1), b'0' + (number % 10) as u8);
        if number >= 10 {
            text.set_byte(at.wrapping_sub(2), b'0' + (number / 10 % 10) as u8);
        }
        if number >= 100 {
            text.set_byte(at.wrapping_sub(3), b'0' + (number / 100) as u8);
        }
        text.set_note::<FIRST>(at.wrapping_sub(digits(number)));
    }
    for k in 0..ARGUMENTS_LEN {
        let room = text.note::<COUNT>();
        if k >= room {
            break;
        }
        let words = if room > PASSIVE.len() as u32 {
            PASSIVE.len() as u32
        } else if room > SHORT {
            SHORT
        } else {
            0
        };
        let byte = if k == 0 {
            opening
        } else if k <= words {
            let from_the_end = PASSIVE.len().wrapping_sub(k as usize);
            PASSIVE.get(from_the_end).copied().unwrap_or(b' ')
        } else {
            b' '
        };
        text.set_byte(text.note::<FIRST>().wrapping_sub(k + 1), byte);
    }
    true
}

/// Decimal digits of a number below 256.
#[inline(always)]
fn digits(number: u32) -> u32 {
    1 + u32::from(number >= 10) + u32::from(number >= 100)
}

/// Leaves in [`crate::layout::Wanted`] the data connection of a control connection: from any port of the
/// client to the server's `port` (`passive`), or from the server to the client's `port`. False if there
/// is one.
///
/// # Safety
/// `request` lies in the table.
#[inline(always)]
unsafe fn expect<T: Tables>(tables: &T, request: &Found, port: Be16, passive: bool) -> bool {
    let (Some(wanted), Some(runtime)) = (tables.wanted(), tables.runtime()) else {
        return false;
    };
    let now = tables.now();
    // SAFETY: the record is this CPU's, the runtime lives as long as the maps; slots as above.
    unsafe {
        let slot = request.slot;
        let word = Word(atomic::load(&raw const (*slot).word));
        let server = atomic::load(&raw const (*slot).server);
        let addresses = atomic::load(&raw const (*slot).addresses);
        let one_less = |ports: u32| {
            let port = Be16::from_raw((ports >> 16) as u16).get();
            u32::from(Be16::new(port.wrapping_sub(1)).raw())
        };
        let (ports, rport) = if passive {
            (u32::from(port.raw()) << 16, u32::from(port.raw()))
        } else {
            let vport = one_less(atomic::load(&raw const (*slot).ports));
            let rport = one_less(atomic::load(&raw const (*slot).new_ports));
            (u32::from(port.raw()) | vport << 16, rport)
        };
        let key = Key {
            addresses,
            ports,
            proto: word.proto(),
        };
        let hash = key.hash(atomic::load(&raw const (*runtime).seed));
        if gives_way(tables, hash, &key, server, now) {
            return false;
        }
        (*wanted).flow.key.addresses = key.addresses;
        (*wanted).flow.key.ports = key.ports;
        (*wanted).flow.key.proto = key.proto;
        (*wanted).flow.event = 0;
        (*wanted).flow.inner = 0;
        (*wanted).hash = hash.0;
        (*wanted).service = NO_SERVICE;
        (*wanted).parent = request.index;
        (*wanted).parent_use = Tag::use_count(request.tag);
        (*wanted).rport = rport;
        (*wanted).kind = if passive { KIND_WILDCARD } else { 0 };
        (*wanted).state = u32::from(tcp::LISTEN);
        let (source, destination) = (&raw mut (*wanted).source, &raw mut (*wanted).destination);
        if word.proto() & proto::WIDE == 0 {
            connect::copy(source, &Address([addresses as u32, 0, 0, 0]));
            connect::copy(destination, &Address([(addresses >> 32) as u32, 0, 0, 0]));
        } else if let Some(wide) = tables.wide(request.index) {
            connect::copy(source, &raw const (*wide).source);
            connect::copy(destination, &raw const (*wide).destination);
        }
        (*wanted).server = server;
        true
    }
}

/// Removes what has the key of a data connection, unless it is the one to be made: said again, or in use
/// already. True if it is.
///
/// # Safety
/// The runtime lives.
#[inline(always)]
unsafe fn gives_way<T: Tables>(tables: &T, hash: Hash, key: &Key, server: u32, now: u32) -> bool {
    let old = conn::lookup(tables, hash, key, now, conn::NO_SLOT);
    if old == NO_SLOT {
        return false;
    }
    let (Some(old), Some(runtime)) = (conn::slot(tables, old), tables.runtime()) else {
        return false;
    };
    // SAFETY: slots found by index lie in the table.
    unsafe {
        let state = Word(atomic::load(&raw const (*old.slot).word)).state();
        if atomic::load(&raw const (*old.slot).server) == server {
            if state == tcp::LISTEN {
                let life = track::timeout(runtime, proto::TCP, tcp::LISTEN);
                atomic::store(&raw mut (*old.slot).expires, now.wrapping_add(life));
                return true;
            }
            if state == tcp::ESTABLISHED {
                return true;
            }
        }
        tables.kill_apart(old.index, old.tag);
        false
    }
}
