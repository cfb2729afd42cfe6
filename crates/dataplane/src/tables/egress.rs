//! The egress table: interfaces packets may leave by.

use pointsman_core::layout::{EGRESS_LOCAL, Egress, MAX_EGRESS};

use super::maps::Maps;
use crate::Interface;

/// Puts an interface in, or brings its entry up to date; true when something changed.
pub(crate) fn set(maps: &mut Maps, interface: &Interface) -> bool {
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
    let (xdp_ifindex, vlan) = match interface.vlan {
        Some((parent, id)) => (parent, id),
        None if xdp_can_send_to(interface) => (interface.index, 0),
        None => (0, 0),
    };
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

/// Whether XDP can send frames out of a device (`ndo_xdp_xmit`): hardware and veth can, most other
/// software devices cannot; TC does it for them.
fn xdp_can_send_to(interface: &Interface) -> bool {
    interface.ethernet && matches!(interface.kind.as_deref(), None | Some("veth"))
}
