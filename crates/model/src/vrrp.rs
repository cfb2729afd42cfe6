//! VRRP as a site wants it: instances, sync groups, what they track, static addresses and routes.
//!
//! Plain data in which every default is resolved: a front end has read the whole configuration,
//! applied `vrrp_strict` and the derived rules, and reported what it changed; whoever runs an
//! instance looks nowhere else. Fields are named for what they do; the doc line quotes keepalived's
//! keyword where it differs. Values are serialised for status views only, and secrets never are.

mod address;
mod bfd;
mod instance;
mod key;
mod numbers;
mod route;
mod rule;
mod track;
mod view;

use std::time::Duration;

use serde::Serialize;

pub use address::{AddressFlags, Broadcast, VirtualAddress};
pub use bfd::BfdInstance;
pub use instance::{
    Authentication, Garp, HmacKey, HmacMode, HmacTrailer, IpvlanMode, Peers, Preemption, Unicast,
    UnicastPeer, VirtualInterface, VrrpInstance, VrrpNotify,
};
pub use key::Key;
pub use numbers::{AdvertInterval, NumberError, Priority, Vrid, VrrpVersion};
pub use route::{
    Encap, Metric, MetricKind, NextHop, Route, RouteInsert, RouteKind, RoutePreference,
};
pub use rule::{Rule, RuleAction};
pub use track::{
    FileInit, ParameterMatch, TrackFile, TrackProcess, TrackScript, TrackWeight, Tracked, Tracking,
};

pub use view::{
    VrrpCounters, VrrpEvent, VrrpGroupView, VrrpInstanceView, VrrpState, VrrpSubject,
    VrrpTrackView, VrrpView, VrrpWord,
};

/// Everything a VRRP engine runs in one network namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct VrrpSite {
    /// What holds for all instances.
    pub globals: VrrpGlobals,
    /// Virtual routers, names unique.
    pub instances: Vec<VrrpInstance>,
    /// Groups of instances that change state together.
    pub sync_groups: Vec<SyncGroup>,
    /// `vrrp_script`.
    pub scripts: Vec<TrackScript>,
    /// `track_file`.
    pub track_files: Vec<TrackFile>,
    /// `vrrp_track_process`.
    pub track_processes: Vec<TrackProcess>,
    /// `bfd_instance`.
    pub bfd_instances: Vec<BfdInstance>,
    /// `static_ipaddress`: there from start to stop, never moved.
    pub static_addresses: Vec<VirtualAddress>,
    /// `static_routes`.
    pub static_routes: Vec<Route>,
    /// `static_rules`.
    pub static_rules: Vec<Rule>,
    /// `track_group`: which instances react when a static entry of the group is taken away.
    pub track_groups: Vec<TrackGroup>,
    /// `garp_group`: pacing shared between interfaces.
    pub garp_groups: Vec<GarpGroup>,
    /// `interface_up_down_delays`.
    pub link_delays: Vec<LinkDelay>,
}

/// What holds for all instances of a site.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VrrpGlobals {
    /// `default_interface`: of static and virtual addresses that name none.
    pub default_interface: String,
    /// `dynamic_interfaces`: interfaces may be absent at start and appear later.
    pub dynamic_interfaces: bool,
    /// `vrrp_startup_delay`: no instance sends or times out before that, counted from start.
    pub startup_delay: Duration,
    /// `vrrp_delay_after_boot`: the same, counted from boot; the later one holds.
    pub delay_after_boot: Duration,
    /// `vrrp_garp_interval`: least time between two gratuitous ARPs of one interface; 0 for none.
    pub garp_interval: Duration,
    /// `vrrp_gna_interval`: the same of neighbour advertisements.
    pub gna_interval: Duration,
    /// Log adverts of virtual routers that nobody here configured.
    pub log_unknown_vrids: bool,
    /// `vmac_prefix`: names of macvlans begin with it.
    pub vmac_prefix: String,
    /// `vmac_addr_prefix`: names of macvlans of single addresses (`use_vmac_addr`).
    pub vmac_addr_prefix: String,
    /// `nftables`: name of the table that holds the rules of `no_accept` and of virtual MACs.
    pub nftables_table: String,
    /// `nftables_priority` of its chains.
    pub nftables_priority: i32,
    /// `nftables_counters`: its rules count packets.
    pub nftables_counters: bool,
}

impl Default for VrrpGlobals {
    fn default() -> Self {
        Self {
            default_interface: "eth0".into(),
            dynamic_interfaces: false,
            startup_delay: Duration::ZERO,
            delay_after_boot: Duration::ZERO,
            garp_interval: Duration::ZERO,
            gna_interval: Duration::ZERO,
            log_unknown_vrids: false,
            vmac_prefix: "vrrp".into(),
            vmac_addr_prefix: "vrrp".into(),
            nftables_table: "keepalived".into(),
            nftables_priority: -1,
            nftables_counters: false,
        }
    }
}

/// `vrrp_sync_group`: instances that change state together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SyncGroup {
    /// Its name.
    pub name: String,
    /// Names of its instances, in configuration order; each belongs to one group at most.
    pub members: Vec<String>,
    /// What every member tracks besides its own.
    pub tracking: Tracking,
    /// `sync_group_tracking_weight`: weights of members' own tracking count.
    pub member_weights: bool,
    /// Whom to tell.
    pub notify: VrrpNotify,
}

/// `track_group`: instances that react when a static entry of the group is taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrackGroup {
    /// Its name, which static entries refer to.
    pub name: String,
    /// Names of instances.
    pub instances: Vec<String>,
}

/// `garp_group`: gratuitous announcements of these interfaces share one pace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GarpGroup {
    /// Least time between two gratuitous ARPs; `None` for the global one.
    pub garp_interval: Option<Duration>,
    /// Least time between two neighbour advertisements; `None` for the global one.
    pub gna_interval: Option<Duration>,
    /// The interfaces.
    pub interfaces: Vec<String>,
}

/// How long an interface must be down, or up again, before that counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LinkDelay {
    /// The interface.
    pub interface: String,
    /// Down for this long before it counts as down.
    pub down: Duration,
    /// Up for this long before it counts as up.
    pub up: Duration,
}
