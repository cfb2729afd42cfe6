//! What a cluster of heartbeat is to VRRP: each group a virtual router, the preferred node with the
//! higher priority.

use std::time::Duration;

use pointsman_model::Family;
use pointsman_model::vrrp::{
    AdvertInterval, HmacKey, HmacMode, HmacTrailer, Key, Peers, Preemption, Priority, Unicast,
    UnicastPeer, Vrid, VrrpInstance, VrrpVersion,
};

use super::{AuthKeys, AutoFailback, Group, HaCf, HaResources, Medium};

/// Priority of a group's preferred node, and of the other.
const PREFERRED: u8 = 150;
const OTHER: u8 = 100;
/// Bytes of a key, at least and at most.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 32..=64;

/// Who this node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// `uname -n`.
    pub name: String,
    /// Its own addresses: `ucast` lines that name one of them are not for it.
    pub addrs: Vec<std::net::IpAddr>,
}

/// A group as a virtual router.
#[derive(Clone, Debug, PartialEq)]
pub struct VrrpPlan {
    /// The instance. It has no addresses: they are resources, taken and released in their order.
    pub instance: VrrpInstance,
    /// The group.
    pub group: Group,
    /// How long after the start it listens before it takes part: `initdead` without the `deadtime`
    /// that follows.
    pub startup_delay: Duration,
    /// What could not be said.
    pub remarks: Vec<String>,
}

/// The virtual router id of a group: the same on both nodes, since the key is.
pub fn virtual_router_id(key: &str) -> u8 {
    // FNV-1a, folded into 1..=255.
    let hash = key.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    (hash % 255) as u8 + 1
}

/// The groups as virtual routers of this node.
pub fn plan(ha_cf: &HaCf, resources: &HaResources, keys: &AuthKeys, node: &Node) -> Vec<VrrpPlan> {
    let mut taken = Vec::new();
    let mut plans = Vec::new();
    for group in &resources.groups {
        // Two keys with one hash: the later one takes the next free number, on both nodes alike.
        let mut vrid = virtual_router_id(group.key());
        while taken.contains(&vrid) && taken.len() < 255 {
            vrid = vrid % 255 + 1;
        }
        taken.push(vrid);
        let Ok(vrid) = Vrid::new(vrid) else { continue };
        plans.push(one(ha_cf, group, keys, node, vrid));
    }
    plans
}

fn one(ha_cf: &HaCf, group: &Group, keys: &AuthKeys, node: &Node, vrid: Vrid) -> VrrpPlan {
    let mut remarks = Vec::new();
    let (interface, peers) = medium(ha_cf, node, &mut remarks);
    let mut instance = VrrpInstance::new(&name(group), &interface, vrid, Family::V4);
    instance.version = VrrpVersion::V3;
    let preferred = group.node == node.name.to_ascii_lowercase();
    let priority = if preferred { PREFERRED } else { OTHER };
    instance.priority = Priority::new(priority).unwrap_or(Priority::DEFAULT);
    instance.peers = peers;
    instance.preemption = match ha_cf.auto_failback {
        AutoFailback::On | AutoFailback::Legacy => Preemption::AtOnce,
        AutoFailback::Off => Preemption::Never,
    };
    // Hundredths, and at most what a packet can say.
    let hundredths = (ha_cf.keepalive.as_millis() / 10).clamp(1, 4095) as u16;
    if let Some(interval) = AdvertInterval::from_centiseconds(hundredths) {
        instance.advert_interval = interval;
    }
    let interval = instance.advert_interval.duration().as_secs_f64();
    let adverts = (ha_cf.dead_time.as_secs_f64() / interval).round();
    instance.down_timer_adverts = adverts.clamp(1.0, 100.0) as u8;
    instance.hmac = keys.key().map(|key| HmacTrailer {
        keys: vec![HmacKey {
            id: 1,
            key: Key::new(stretched(key.as_bytes())),
        }],
        active_key: 1,
        monotonic: false,
        time_window: Duration::from_secs(60),
        mode: HmacMode::Enforce,
    });
    VrrpPlan {
        instance,
        group: group.clone(),
        startup_delay: ha_cf.init_dead.saturating_sub(ha_cf.dead_time),
        remarks,
    }
}

/// A name without what configuration languages treat specially.
fn name(group: &Group) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    group.key().chars().map(plain).collect()
}

/// Of several media the first that is not serial: adverts go one way.
fn medium(ha_cf: &HaCf, node: &Node, remarks: &mut Vec<String>) -> (String, Peers) {
    let mut ways = Vec::new();
    for medium in &ha_cf.media {
        match medium {
            Medium::Ucast { peer, .. } if node.addrs.contains(peer) => {}
            Medium::Serial { .. } => {}
            Medium::Ucast {
                interface, peer, ..
            } => ways.push((interface.clone(), unicast(*peer))),
            Medium::Bcast { interface, .. } | Medium::Mcast { interface, .. } => {
                ways.push((interface.clone(), Peers::everyone(Family::V4)));
            }
        }
    }
    if ways.len() > 1 {
        remarks.push(format!(
            "adverts go by {} only: the other media of ha.cf are not used",
            ways[0].0
        ));
    }
    let none = || ("lo".to_owned(), Peers::everyone(Family::V4));
    ways.into_iter().next().unwrap_or_else(none)
}

fn unicast(peer: std::net::IpAddr) -> Peers {
    Peers::Unicast(Unicast {
        peers: vec![UnicastPeer {
            address: peer,
            min_ttl: 0,
            max_ttl: 255,
        }],
        ttl: None,
        check_source: true,
    })
}

/// A key repeated until it is long enough: as strong as it was.
fn stretched(key: &[u8]) -> Vec<u8> {
    let least = *KEY_BYTES.start();
    let whole = key.iter().cycle().copied();
    let len = key.len().max(least).min(*KEY_BYTES.end());
    whole.take(len).collect()
}
