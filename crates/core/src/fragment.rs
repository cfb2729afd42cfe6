//! Fragments: the first one of a packet has the ports, the others are known by its identification.
//!
//! One that comes before the first is held back ([`Held`]): user space keeps it, and puts it back on its
//! interface once the ports are known.

use crate::host::Tables;

/// What the fragments of one packet have in common: the key of the fragments map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentId {
    /// Source address, raw words.
    pub source: [u32; 4],
    /// Destination address, raw words.
    pub destination: [u32; 4],
    /// Identification, raw.
    pub id: u32,
    /// Protocol number.
    pub protocol: u32,
}

/// Packets whose ports are remembered at once; the oldest give way.
pub const FRAGMENTS: u32 = 16_384;
/// Seconds within which the fragments of a packet have to arrive (`net.ipv4.ipfrag_time`).
pub const LIFE_SECS: u32 = 30;

/// Bytes of the ring that held fragments go through to user space.
pub const RING: u32 = 256 * 1024;
/// Largest frame that can be held: larger ones, of jumbo links, are dropped.
pub const HELD_FRAME: usize = 2032;

/// A fragment on its way to user space.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Interface it came in by.
    pub ifindex: u32,
    /// Bytes of the frame.
    pub len: u32,
    /// VLAN tag that was beside the frame: identifier and priority in host order.
    pub tag: u32,
    /// EtherType of the tag in host order, 0 when there was none.
    pub tag_kind: u32,
    /// The frame.
    pub frame: [u8; HELD_FRAME],
}

const _: () = assert!(size_of::<Held>() == 2048);

/// What user space puts before a fragment that goes back: that it is one, and its interface.
pub const BACK_MAGIC: u32 = 0x4652_4147;
/// Bytes it puts there.
pub const BACK_LEN: usize = 8;

/// Whether the ports that [`Tables::fragment`] knows still count: they are in the low half, the jiffies
/// of their arrival in the high half.
#[inline(always)]
pub fn is_fresh(known: u64, now: u32, hz: u32) -> bool {
    now.wrapping_sub((known >> 32) as u32) < hz.wrapping_mul(LIFE_SECS)
}

/// Ports (raw, source in the low half) of the packet that a later fragment is of.
#[inline(always)]
pub fn ports<T: Tables>(tables: &T, id: &FragmentId) -> Option<u32> {
    let known = tables.fragment(id)?;
    // SAFETY: the runtime record lives as long as the maps.
    let hz = unsafe { crate::atomic::load(&raw const (*tables.runtime()?).hz) };
    is_fresh(known, tables.now(), hz).then_some(known as u32)
}

/// Remembers the ports of a packet whose first fragment is here.
#[inline(always)]
pub fn remember<T: Tables>(tables: &T, id: &FragmentId, ports: u32) {
    tables.set_fragment(id, u64::from(ports) | u64::from(tables.now()) << 32);
}
