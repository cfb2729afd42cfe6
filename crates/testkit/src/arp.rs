//! Who answers for an address?

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::frames::{ARP, BROADCAST, Ethernet, Mac, View, arp_request};
use crate::{Capture, Captured, Error, Netns, send_frame};

/// How long a host on the segment may take to answer for its own address.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks for `target` from `sender` on `interface` and returns everyone who claims it.
///
/// The question is followed by one for each address in `present`, hosts that are known to answer.
/// Answers of one host stay in order, so once all of those are in, whoever wanted to answer for
/// `target` has done so, and nobody need wait for a time.
///
/// # Errors
/// When one of `present` does not answer.
pub fn who_has(
    netns: &Netns,
    interface: &str,
    sender: Ipv4Addr,
    target: Ipv4Addr,
    present: &[Ipv4Addr],
) -> Result<Vec<Mac>, Error> {
    let mac = netns.mac(interface)?;
    let capture = Capture::start(netns, interface)?;
    let ethernet = Ethernet {
        destination: BROADCAST,
        source: mac,
        vlan: None,
    };
    for &address in [target].iter().chain(present) {
        let frame = ethernet.frame(ARP, &arp_request((mac, sender), address));
        send_frame(netns, interface, &frame)?;
    }
    for &address in present {
        capture.wait_for(format!("ARP answer of {address}"), PATIENCE, |seen| {
            answer(seen, mac).is_some_and(|(owner, _)| owner == address)
        })?;
    }
    let mut owners = Vec::new();
    for (owner, mac) in capture.frames().iter().filter_map(|seen| answer(seen, mac)) {
        if owner == target && !owners.contains(&mac) {
            owners.push(mac);
        }
    }
    Ok(owners)
}

/// Sender of an ARP reply to `asker`.
fn answer(seen: &Captured, asker: Mac) -> Option<(Ipv4Addr, Mac)> {
    let view = View::of(&seen.frame)?;
    let arp = seen.frame.get(14..42)?;
    if view.ethertype != ARP || view.destination != asker || arp[6..8] != [0, 2] {
        return None;
    }
    let mac = arp[8..14].try_into().ok()?;
    Some((Ipv4Addr::from(<[u8; 4]>::try_from(&arp[14..18]).ok()?), mac))
}
