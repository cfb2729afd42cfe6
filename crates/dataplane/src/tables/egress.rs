//! The egress table: interfaces packets may leave by.

use pointsman_core::layout::{EGRESS_LOCAL, Egress, MAX_EGRESS};

use super::maps::Maps;
use crate::Interface;

/// Puts an interface in, or brings its entry up to date; true when something changed. `xdp` says
/// whether XDP may send out of it (of its parent, for a VLAN device).
pub(crate) fn set(maps: &mut Maps, interface: &Interface, xdp: bool) -> bool {
    let Some(at) = maps
        .egress_ids
        .get(&interface.index)
        .or_else(|| free(maps, interface.index))
    else {
        tracing::warn!(interface = interface.name, "no room in the egress table");
        return false;
    };
    let mac = interface.mac;
    let word = |i: usize| u16::from_ne_bytes([mac[i], mac[i + 1]]);
    let (sends, vlan) = interface.vlan.unwrap_or((interface.index, 0));
    let xdp_ifindex = if xdp { sends } else { 0 };
    let old = maps.egress.read(at).unwrap_or_default();
    let mut new = Egress::default();
    new.ifindex = interface.index;
    new.xdp_ifindex = xdp_ifindex;
    new.mac = [word(0), word(2), word(4)];
    new.vlan = vlan;
    new.mtu = interface.mtu;
    let same = (old.ifindex, old.xdp_ifindex, old.mac, old.vlan, old.mtu)
        == (new.ifindex, new.xdp_ifindex, new.mac, new.vlan, new.mtu);
    if same {
        return false;
    }
    maps.egress.write(at, new);
    if let Err(reason) = maps.egress_ids.insert(interface.index, at) {
        tracing::warn!(
            interface = interface.name,
            reason,
            "interface cannot be used for egress"
        );
    }
    true
}

/// Takes an interface out; true when it was there.
pub(crate) fn remove(maps: &mut Maps, index: u32) -> bool {
    let Some(at) = maps.egress_ids.get(&index) else {
        return false;
    };
    maps.egress_ids.remove(&index);
    maps.egress.write(at, Egress::default());
    true
}

/// The interface's own number where that is free, otherwise any.
fn free(maps: &Maps, index: u32) -> Option<u32> {
    let is_free = |at: &u32| {
        *at != 0
            && *at < MAX_EGRESS
            && *at != u32::from(EGRESS_LOCAL)
            && maps.egress.read(*at).is_some_and(|e| e.ifindex == 0)
    };
    Some(index)
        .filter(is_free)
        .or_else(|| (1..MAX_EGRESS).find(is_free))
}

/// Says whether XDP may send out of an interface, through `sends` (itself, or a VLAN's parent).
pub(crate) fn set_xdp(maps: &Maps, index: u32, sends: u32, xdp: bool) {
    if let Some(at) = maps.egress_ids.get(&index)
        && let Some(entry) = maps.egress.at(at)
    {
        // SAFETY: at() checked the bounds.
        unsafe { (&raw mut (*entry).xdp_ifindex).write_volatile(if xdp { sends } else { 0 }) };
    }
}
