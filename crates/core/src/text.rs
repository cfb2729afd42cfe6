//! Payload that is text, as the FTP and SIP readers see it: a piece at a time, in [`Wanted::text`].
//!
//! Whatever a reader remembers between two bytes lies in [`Wanted::notes`] and not in local variables.
//! The verifier follows variables through a loop and would look at each byte once for every history it
//! can have had; of memory it assumes nothing, so that a loop costs what its body does.

use crate::addr::Address;
use crate::atomic;
use crate::host::{Packet, Tables};
use crate::layout::{TEXT, Wanted};
use crate::mask::{masked, positive};

/// Most bytes of a piece: one less than there is room for, so that lengths are what a mask leaves.
pub const PIECE: usize = TEXT - 1;

/// Copies a piece of the packet's payload, from `at` to before `end`, into [`Wanted::text`]; how many
/// bytes, 0 when there are none.
#[inline(always)]
pub(crate) fn load<T: Tables, P: Packet>(tables: &T, packet: &P, at: usize, end: usize) -> usize {
    let Some(wanted) = tables.wanted() else {
        return 0;
    };
    let left = end.saturating_sub(at);
    let len = masked::<0x1ff>(if left > PIECE { PIECE } else { left });
    if len == 0 {
        return 0;
    }
    let len = positive::<0x1ff>(len);
    // SAFETY: the record is this CPU's, the text has room for a piece.
    let done = unsafe { packet.load(at, (&raw mut (*wanted).text).cast(), len) };
    if done { len } else { 0 }
}

/// Copies the text that was loaded back to where it came from.
#[inline(always)]
pub(crate) fn store<T: Tables, P: Packet>(
    tables: &T,
    packet: &mut P,
    at: usize,
    len: usize,
) -> Option<()> {
    let wanted = tables.wanted()?;
    let len = masked::<0x1ff>(len);
    if len == 0 {
        return None;
    }
    let len = positive::<0x1ff>(len);
    // SAFETY: as in load().
    let done = unsafe { packet.store(at, (&raw const (*wanted).text).cast(), len) };
    done.then_some(())
}

/// This CPU's record, as a reader of text uses it.
#[derive(Clone, Copy)]
pub(crate) struct Text(*mut Wanted);

impl Text {
    /// The text that was loaded last. `None` without a record.
    #[inline(always)]
    pub(crate) fn of<T: Tables>(tables: &T) -> Option<Self> {
        tables.wanted().map(Self)
    }

    /// A byte; beyond the text, one of it.
    #[inline(always)]
    pub(crate) fn byte(self, at: u32) -> u8 {
        // SAFETY: masked to the text; the record is this CPU's.
        unsafe {
            let text = (&raw const (*self.0).text).cast::<u8>();
            atomic::load(text.add(masked::<0x1ff>(at as usize)))
        }
    }

    /// Changes a byte.
    #[inline(always)]
    pub(crate) fn set_byte(self, at: u32, value: u8) {
        // SAFETY: as above.
        unsafe {
            let text = (&raw mut (*self.0).text).cast::<u8>();
            atomic::store(text.add(masked::<0x1ff>(at as usize)), value);
        }
    }

    /// What the reader noted.
    #[inline(always)]
    pub(crate) fn note<const N: usize>(self) -> u32 {
        // SAFETY: N is checked when the program is built; the record is this CPU's.
        unsafe { atomic::load(&raw const (*self.0).notes[N]) }
    }

    /// Notes something.
    #[inline(always)]
    pub(crate) fn set_note<const N: usize>(self, value: u32) {
        // SAFETY: as above.
        unsafe { atomic::store(&raw mut (*self.0).notes[N], value) }
    }

    /// Sum of the whole text, in the manner of RFC 1071.
    #[inline(always)]
    pub(crate) fn sum(self) -> u32 {
        let mut sum = 0u64;
        for i in 0..TEXT / 4 {
            // SAFETY: within the text, which is aligned to words; the record is this CPU's.
            let word = unsafe { atomic::load((&raw const (*self.0).text).cast::<u32>().add(i)) };
            sum = sum.wrapping_add(u64::from(word));
        }
        let sum = (sum >> 32) + (sum & 0xffff_ffff);
        ((sum >> 32) + sum) as u32
    }
}

const _: () = {
    assert!(TEXT == 0x200);
    assert!(core::mem::offset_of!(Wanted, text) % 8 == 0);
    assert!(align_of::<Address>() == 4);
};
