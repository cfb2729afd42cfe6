//! Fragments: the first one of a packet has the ports, the others are known by its identification.

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
const LIFE_SECS: u32 = 30;

/// Ports (raw, source in the low half) of the packet that a later fragment is of.
#[inline(always)]
pub fn ports<T: Tables>(tables: &T, id: &FragmentId) -> Option<u32> {
    let known = tables.fragment(id)?;
    let age = tables.now().wrapping_sub((known >> 32) as u32);
    // SAFETY: the runtime record lives as long as the maps.
    let hz = unsafe { crate::atomic::load(&raw const (*tables.runtime()?).hz) };
    (age < hz.wrapping_mul(LIFE_SECS)).then_some(known as u32)
}

/// Remembers the ports of a packet whose first fragment is here.
#[inline(always)]
pub fn remember<T: Tables>(tables: &T, id: &FragmentId, ports: u32) {
    tables.set_fragment(id, u64::from(ports) | u64::from(tables.now()) << 32);
}
