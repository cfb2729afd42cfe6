//! The persistence engine `sip`: a call's packets go to one real server, by their Call-ID (RFC 3261,
//! 20.8), as IPVS reads it.
//!
//! The header is looked for in the first 2,044 bytes of a datagram, which is more than a frame of 1,500
//! bytes holds. It stands at the beginning of a line, but not of the first; lines end with CR, LF or
//! both, and go on behind blanks. Its value is a word, or two with `@` between them, of at most 255 bytes,
//! and the line ends behind it. Where no word comes the search goes on; what is no end of the line ends
//! it, without a result.

use crate::atomic;
use crate::conn;
use crate::host::{Host, Packet, Tables};
use crate::layout::{ENGINE_SIP, SERVICE_PERSISTENT, Wanted};
use crate::mask::masked;
use crate::open;
use crate::proto;
use crate::text::{self, Text};

/// Pieces of a datagram that are looked at.
const PIECES: usize = 4;
/// Most bytes of a value.
const LONGEST: u32 = 255;

/// Whether a service wants the Call-ID of its packets read.
#[inline(always)]
pub(crate) fn is_engine<T: Tables>(tables: &T, service: u32) -> bool {
    // SAFETY: service records live as long as the maps.
    tables.service(service).is_some_and(|service| unsafe {
        (*service).engine == ENGINE_SIP && (*service).flags & SERVICE_PERSISTENT != 0
    })
}

/// Reads the Call-ID of the packet that is wanted, to be asked for by [`call_id`].
#[inline(always)]
pub(crate) fn read<H: Host, P: Packet>(host: &H, packet: &P, wanted: *mut Wanted) {
    let Some(text) = Text::of(host) else {
        return;
    };
    text.set_note::<STATE>(u32::from(IN_LINE));
    // SAFETY: the record is this CPU's.
    let flow = unsafe { open::wanted_flow(wanted) };
    if proto::base(flow.key.proto) != proto::UDP || flow.inner != 0 {
        return;
    }
    let end = flow.l3 + usize::from(flow.total_len);
    let mut at = flow.l3 + usize::from(flow.headers);
    for _ in 0..PIECES {
        let len = text::load(host, packet, at, end);
        if len == 0 || host.call_id_apart(len as u32) != 0 {
            return;
        }
        at += len;
    }
}

/// What stands for the Call-ID that was read: a keyed hash, or 0 if there was none.
///
/// # Safety
/// `wanted` is this CPU's record.
#[inline(always)]
pub(crate) unsafe fn call_id(wanted: *const Wanted) -> u64 {
    // SAFETY: passed on to the caller.
    unsafe {
        if atomic::load(&raw const (*wanted).notes[STATE]) == u32::from(FOUND) {
            atomic::load(&raw const (*wanted).call_hash) | 1
        } else {
            0
        }
    }
}

/// Keeps the Call-ID that was read beside the template in a claimed slot, for listings.
///
/// # Safety
/// `wanted` is this CPU's record.
#[inline(always)]
pub(crate) unsafe fn keep<T: Tables>(tables: &T, wanted: *mut Wanted, template: u32, tag: u64) {
    // SAFETY: passed on to the caller.
    unsafe {
        (*wanted).call_id.template_use = conn::Tag::use_count(tag);
        tables.set_call_id(template, &(*wanted).call_id);
    }
}

// Notes of the reader, see `text`.
const LEN: usize = 0;
const STATE: usize = 1;

/// Goes on reading, in the text of `len` bytes that was loaded; other than 0 when there is no more to be
/// learned.
#[inline(always)]
pub fn scan<T: Tables>(tables: &T, len: u32) -> u32 {
    let (Some(text), Some(wanted), Some(runtime)) =
        (Text::of(tables), tables.wanted(), tables.runtime())
    else {
        return 1;
    };
    text.set_note::<LEN>(len);
    for i in 0..text::PIECE as u32 {
        if i >= text.note::<LEN>() {
            break;
        }
        let byte = text.byte(i);
        let before = text.note::<STATE>() as usize;
        let at = masked::<{ STEPS_LEN as u32 - 1 }>(before << 8 | usize::from(byte));
        let state = STEPS.get(at).copied().unwrap_or(FAILED);
        text.set_note::<STATE>(state.into());
        if state < VALUE {
            continue;
        }
        if state >= FOUND {
            break;
        }
        // SAFETY: the record is this CPU's, the runtime lives as long as the maps.
        unsafe {
            let (kept, hash) = (&raw mut (*wanted).call_id, &raw mut (*wanted).call_hash);
            let seed = &raw const (*runtime).seed;
            if state == VALUE {
                atomic::store(&raw mut (*kept).len, 0);
                atomic::store(hash, atomic::load(&raw const (*seed)[0]));
                continue;
            }
            let len = atomic::load(&raw const (*kept).len);
            if len >= LONGEST {
                text.set_note::<STATE>(FAILED.into());
                break;
            }
            let bytes = (&raw mut (*kept).bytes).cast::<u8>();
            atomic::store(bytes.add(masked::<0xff>(len as usize)), byte);
            atomic::store(&raw mut (*kept).len, len + 1);
            let mut mixed = atomic::load(hash) ^ u64::from(byte);
            mixed = mixed.wrapping_mul(atomic::load(&raw const (*seed)[1]) | 1);
            atomic::store(hash, mixed ^ mixed >> 32);
        }
    }
    u32::from(text.note::<STATE>() >= u32::from(FOUND))
}

// What was read last. From VALUE on, it is the header's value.
/// Something in a line.
const IN_LINE: u8 = 0;
/// CR.
const CR: u8 = 1;
/// The end of a line.
const NEW_LINE: u8 = 2;
/// So many bytes of the name: 3 is the first of them.
const NAME_FIRST: u8 = 3;
const NAME_LAST: u8 = 8;
/// The short name.
const SHORT: u8 = 9;
/// The name, before its colon.
const NAMED: u8 = 10;
/// CR, then the end of a line, before the colon.
const NAMED_CR: u8 = 11;
const NAMED_NEW_LINE: u8 = 12;
/// The same behind the colon.
const VALUE_CR: u8 = 13;
const VALUE_NEW_LINE: u8 = 14;
/// Colon, or a blank behind it.
const VALUE: u8 = 15;
/// A byte of the first word.
const WORD: u8 = 16;
/// `@`.
const AT: u8 = 17;
/// A byte of the second word.
const SECOND: u8 = 18;
/// The end of the line behind the value.
const FOUND: u8 = 19;
/// No value, and none to come.
const FAILED: u8 = 20;

const STEPS_LEN: usize = 32 * 256;

/// By what was read last and the next byte.
static STEPS: [u8; STEPS_LEN] = steps();

const fn steps() -> [u8; STEPS_LEN] {
    let mut steps = [FAILED; STEPS_LEN];
    let mut i = 0;
    while i < (FAILED as usize) << 8 {
        steps[i] = step((i >> 8) as u8, i as u8);
        i += 1;
    }
    steps
}

const fn step(state: u8, byte: u8) -> u8 {
    match state {
        IN_LINE => in_line(byte),
        CR if byte == b'\n' => NEW_LINE,
        CR | NEW_LINE => new_line(byte),
        NAME_FIRST..=NAME_LAST => {
            if byte.to_ascii_lowercase() != b"call-id"[(state - NAME_FIRST) as usize + 1] {
                in_line(byte)
            } else if state == NAME_LAST {
                NAMED
            } else {
                state + 1
            }
        }
        SHORT if byte.is_ascii_alphabetic() => IN_LINE,
        SHORT | NAMED => match byte {
            b' ' | b'\t' => NAMED,
            b':' => VALUE,
            b'\r' => NAMED_CR,
            b'\n' => NAMED_NEW_LINE,
            _ => IN_LINE,
        },
        NAMED_CR if byte == b'\n' => NAMED_NEW_LINE,
        NAMED_CR | NAMED_NEW_LINE => match byte {
            b' ' | b'\t' => NAMED,
            _ => new_line(byte),
        },
        VALUE => match byte {
            b' ' | b'\t' => VALUE,
            b'\r' => VALUE_CR,
            b'\n' => VALUE_NEW_LINE,
            _ if is_word(byte) => WORD,
            _ => IN_LINE,
        },
        VALUE_CR if byte == b'\n' => VALUE_NEW_LINE,
        VALUE_CR | VALUE_NEW_LINE => match byte {
            b' ' | b'\t' => VALUE,
            _ => new_line(byte),
        },
        WORD if byte == b'@' => AT,
        WORD | SECOND => match byte {
            b'\r' | b'\n' => FOUND,
            _ if is_word(byte) => state,
            _ => FAILED,
        },
        AT if is_word(byte) => SECOND,
        AT => in_line(byte),
        _ => state,
    }
}

const fn in_line(byte: u8) -> u8 {
    match byte {
        b'\r' => CR,
        b'\n' => NEW_LINE,
        _ => IN_LINE,
    }
}

const fn new_line(byte: u8) -> u8 {
    match byte {
        b'c' | b'C' => NAME_FIRST,
        b'i' | b'I' => SHORT,
        _ => in_line(byte),
    }
}

/// RFC 3261, 25.1: `word`; the comma is IPVS's.
const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'"'
                | b'%'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b'-'
                | b'.'
                | b'/'
                | b':'
                | b'<'
                | b'>'
                | b'?'
                | b'['
                | b'\\'
                | b']'
                | b'_'
                | b'`'
                | b'{'
                | b'}'
                | b'~'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value that a datagram has, by the table alone.
    fn value(text: &str) -> Option<String> {
        let (mut state, mut value) = (IN_LINE, String::new());
        for byte in text.bytes() {
            state = STEPS[usize::from(state) << 8 | usize::from(byte)];
            match state {
                VALUE => value.clear(),
                WORD..=SECOND => value.push(byte.into()),
                _ => {}
            }
        }
        (state == FOUND).then_some(value)
    }

    #[test]
    fn a_call_id_is_found_however_it_is_written() {
        for text in [
            "INVITE sip:a SIP/2.0\r\nVia: x\r\nCall-ID: a84b4c@pc33.example\r\nMax: 70\r\n\r\n",
            "INVITE\rcAlL-iD\t :\t a84b4c@pc33.example\r",
            "INVITE\ni:a84b4c@pc33.example\n",
            "INVITE\r\nI : a84b4c@pc33.example\r\n",
            "INVITE\r\nCall-ID:\r\n a84b4c@pc33.example\r\n",
            "INVITE\r\nCall-ID\r\n : a84b4c@pc33.example\r\n",
            "INVITE\r\nCall-ID: @x\r\nCall-ID: y@\r\ni: a84b4c@pc33.example\r\n",
            "INVITE\r\nInfo: z\r\nCall-IDs: z\r\nCal\r\ni: a84b4c@pc33.example\r\n",
            "\r\n\r\nCall-ID: a84b4c@pc33.example\r\n",
        ] {
            assert_eq!(
                value(text).as_deref(),
                Some("a84b4c@pc33.example"),
                "{text:?}"
            );
        }
        let all = "A1!\"%'()*+,-./:<>?[\\]_`{}~";
        assert_eq!(value(&format!("\ni:{all}\n")).as_deref(), Some(all));
    }

    #[test]
    fn what_is_no_call_id_is_none() {
        for text in [
            "",
            "Call-ID: first@line\r\n",
            "INVITE\r\n Call-ID: continuation\r\n",
            "INVITE\r\nCall-ID: cut@short",
            "INVITE\r\nCall-ID: two words\r\n",
            "INVITE\r\nCall-ID: a@b@c\r\n",
            "INVITE\r\nCall-ID: a;b\r\ni: c\r\n",
            "INVITE\r\nCall-ID\r\n",
            "INVITE\r\nCall-ID:\r\n\r\n",
            "INVITE\r\nix: c\r\n",
        ] {
            assert_eq!(value(text), None, "{text:?}");
        }
    }
}
