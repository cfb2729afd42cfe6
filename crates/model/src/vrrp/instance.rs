use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::Serialize;

use super::{
    AdvertInterval, Key, Priority, Route, Rule, Tracking, VirtualAddress, Vrid, VrrpVersion,
};
use crate::{Family, Script};

/// `vrrp_instance`: this node's part in one virtual router.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VrrpInstance {
    /// Its name.
    pub name: String,
    /// Interface that adverts go by and addresses live on; `None` for unicast with a source
    /// address.
    pub interface: Option<String>,
    /// `vrf`: where unicast adverts go when there is no interface.
    pub vrf: Option<String>,
    /// Virtual router id.
    pub vrid: Vrid,
    /// Family of adverts and of advertised addresses.
    pub family: Family,
    /// Version of the protocol.
    pub version: VrrpVersion,
    /// `state MASTER`. Only with the owner's priority does it skip the wait.
    pub starts_as_master: bool,
    /// Configured priority.
    pub priority: Priority,
    /// Time between adverts.
    pub advert_interval: AdvertInterval,
    /// `authentication`: of version 2 over IPv4.
    pub authentication: Authentication,
    /// `auth_hmac`.
    pub hmac: Option<HmacTrailer>,
    /// `virtual_ipaddress`: advertised, in this order; all of `family`.
    pub addresses: Vec<VirtualAddress>,
    /// `virtual_ipaddress_excluded`: not advertised, of any family.
    pub excluded: Vec<VirtualAddress>,
    /// `virtual_routes`.
    pub routes: Vec<Route>,
    /// `virtual_rules`.
    pub rules: Vec<Rule>,
    /// `promote_secondaries`: sets that variable of the interface; restored at stop.
    pub promote_secondaries: bool,
    /// `mcast_src_ip` or `unicast_src_ip`; `None` for the interface's own.
    pub source: Option<IpAddr>,
    /// `track_src_ip`: a fault while `source` is not an address of this host.
    pub track_source: bool,
    /// Whom adverts go to.
    pub peers: Peers,
    /// `v3_checksum_as_v2`: IPv4 checksums of version 3 without pseudo-header, those received are
    /// not enforced.
    pub checksum_as_v2: bool,
    /// `use_vmac` or `use_ipvlan`.
    pub virtual_interface: Option<VirtualInterface>,
    /// `use_vmac_addr`: addresses on other interfaces get virtual MACs there.
    pub vmac_for_addresses: bool,
    /// `dont_track_primary`: the state of `interface` does not matter.
    pub ignores_interface: bool,
    /// What it tracks.
    pub tracking: Tracking,
    /// Whether and when a better node takes over from a worse one.
    pub preemption: Preemption,
    /// `down_timer_adverts`: after how many adverts that did not come the master counts as down.
    pub down_timer_adverts: u8,
    /// `timer_expired_backup`: a master with `nopreempt` that was not scheduled for as long as
    /// another takes to take over goes to BACKUP; the value is that other's priority.
    pub timer_expired_backup: Option<Priority>,
    /// Gratuitous ARP and neighbour advertisements.
    pub garp: Garp,
    /// `lower_prio_no_advert`: does not answer adverts of lower priority.
    pub silent_to_lower: bool,
    /// `higher_prio_send_advert`: one advert more before it yields.
    pub advert_before_yielding: bool,
    /// `owner_ignore_adverts`: an owner does not look at others' adverts.
    pub owner_ignores_adverts: bool,
    /// `accept`: packets to the addresses are taken; else the firewall drops them unless this node
    /// is the owner.
    pub accept: bool,
    /// `skip_check_adv_addr`: the address list of a known master is not compared again.
    pub skips_address_check: bool,
    /// Whom to tell.
    pub notify: VrrpNotify,
    /// `kernel_rx_buf_size` in bytes.
    pub receive_buffer_bytes: Option<u32>,
}

impl VrrpInstance {
    /// An instance with every option at its default.
    pub fn new(name: &str, interface: &str, vrid: Vrid, family: Family) -> Self {
        let version = match family {
            Family::V4 => VrrpVersion::V2,
            Family::V6 => VrrpVersion::V3,
        };
        Self {
            name: name.into(),
            interface: Some(interface.into()),
            vrf: None,
            vrid,
            family,
            version,
            starts_as_master: false,
            priority: Priority::DEFAULT,
            advert_interval: AdvertInterval::DEFAULT,
            authentication: Authentication::None,
            hmac: None,
            addresses: Vec::new(),
            excluded: Vec::new(),
            routes: Vec::new(),
            rules: Vec::new(),
            promote_secondaries: false,
            source: None,
            track_source: false,
            peers: Peers::everyone(family),
            checksum_as_v2: false,
            virtual_interface: None,
            vmac_for_addresses: false,
            ignores_interface: false,
            tracking: Tracking::default(),
            preemption: Preemption::AtOnce,
            down_timer_adverts: 3,
            timer_expired_backup: None,
            garp: Garp::default(),
            silent_to_lower: false,
            advert_before_yielding: true,
            owner_ignores_adverts: false,
            accept: true,
            skips_address_check: false,
            notify: VrrpNotify::default(),
            receive_buffer_bytes: None,
        }
    }
}

/// How adverts of version 2 are authenticated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Authentication {
    /// Not at all.
    None,
    /// `PASS`: eight bytes in clear; the front end has cut the password to them.
    Pass(Key),
    /// `AH`: HMAC-MD5 in an authentication header; the same eight bytes are the key.
    Ah(Key),
}

/// `auth_hmac`: a signed trailer behind each advert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HmacTrailer {
    /// Keys by number; never empty.
    pub keys: Vec<HmacKey>,
    /// Number of the key that signs.
    pub active_key: u8,
    /// `anti_replay monotonic`: sequence numbers do not follow the clock and are not held against
    /// it.
    pub monotonic: bool,
    /// `time_window`: how far another's clock may be off.
    pub time_window: Duration,
    /// What happens to adverts without a trailer.
    pub mode: HmacMode,
}

/// A key of [`HmacTrailer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HmacKey {
    /// Its number.
    pub id: u8,
    /// 32 to 64 bytes.
    pub key: Key,
}

/// What happens to adverts without a trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum HmacMode {
    /// Signs, and refuses them.
    Enforce,
    /// Signs, and takes them.
    Permissive,
    /// Does not sign, and takes them.
    ReceiveOnly,
}

/// Whom adverts go to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Peers {
    /// Everyone in this group.
    Multicast(IpAddr),
    /// These hosts.
    Unicast(Unicast),
}

impl Peers {
    /// The group that RFC 9568 §5.1 names.
    pub fn everyone(family: Family) -> Self {
        Self::Multicast(match family {
            Family::V4 => Ipv4Addr::new(224, 0, 0, 18).into(),
            Family::V6 => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12).into(),
        })
    }
}

/// Adverts to single hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unicast {
    /// The hosts; none (`unicast_fault_no_peer`) is a fault.
    pub peers: Vec<UnicastPeer>,
    /// `unicast_ttl`; `None` for 255 with IPv4 and the kernel's choice with IPv6.
    pub ttl: Option<u8>,
    /// `check_unicast_src`: adverts of others are not taken.
    pub check_source: bool,
}

/// One host of [`Unicast`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnicastPeer {
    /// Its address.
    pub address: IpAddr,
    /// `min_ttl` of its adverts.
    pub min_ttl: u8,
    /// `max_ttl` of its adverts.
    pub max_ttl: u8,
}

/// `use_vmac` or `use_ipvlan`: an interface of the instance's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum VirtualInterface {
    /// A macvlan in private mode.
    Vmac {
        /// Its name; `None` for prefix and virtual router id.
        name: Option<String>,
        /// Its address; `None` for the virtual router's (RFC 9568 §7.3).
        mac: Option<[u8; 6]>,
        /// `vmac_xmit_base`: adverts go by the interface below.
        adverts_on_base: bool,
        /// `group`: number of the interface group.
        group: Option<u32>,
    },
    /// An ipvlan in L2 mode.
    Ipvlan {
        /// Its name.
        name: Option<String>,
        /// Its own address; IPv4 needs one.
        address: Option<IpAddr>,
        /// How it talks to its siblings.
        mode: IpvlanMode,
        /// `group`: number of the interface group.
        group: Option<u32>,
    },
}

/// How an ipvlan talks to its siblings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[expect(missing_docs, reason = "the kernel's own names")]
pub enum IpvlanMode {
    #[default]
    Bridge,
    Private,
    Vepa,
}

/// Whether and when a node of higher priority takes over from one of lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Preemption {
    /// As soon as the master-down time is over.
    AtOnce,
    /// `preempt_delay`: it bears with the other for this long first.
    After(Duration),
    /// `nopreempt`.
    Never,
}

/// When and how often gratuitous ARP and neighbour advertisements are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Garp {
    /// `garp_master_delay`: the second burst after becoming master; 0 for none.
    pub delay: Duration,
    /// `garp_master_repeat`: packets for each address in a burst, at least 1.
    pub repeat: u32,
    /// `garp_master_refresh`; 0 for never.
    pub refresh: Duration,
    /// `garp_master_refresh_repeat`, at least 1.
    pub refresh_repeat: u32,
    /// `garp_lower_prio_delay`: the second burst after an advert of lower priority.
    pub lower_delay: Duration,
    /// `garp_lower_prio_repeat`; 0 for none.
    pub lower_repeat: u32,
    /// `garp_extra_if`: how often on interfaces other than the instance's; 0 for never.
    pub extra_interval: Duration,
    /// `garp_extra_if all`: of all addresses there, not only of those on virtual MACs.
    pub extra_all: bool,
}

impl Default for Garp {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(5),
            repeat: 5,
            refresh: Duration::ZERO,
            refresh_repeat: 1,
            lower_delay: Duration::from_secs(5),
            lower_repeat: 5,
            extra_interval: Duration::ZERO,
            extra_all: false,
        }
    }
}

/// Whom an instance or a sync group tells of its changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VrrpNotify {
    /// `notify_master`.
    pub master: Option<Script>,
    /// `notify_backup`.
    pub backup: Option<Script>,
    /// `notify_fault`.
    pub fault: Option<Script>,
    /// `notify_stop`.
    pub stop: Option<Script>,
    /// `notify_deleted`: its command.
    pub deleted: Option<Script>,
    /// Whether that keyword is there: a reload that removes the instance then says DELETED, not
    /// FAULT.
    pub says_deleted: bool,
    /// `notify_master_rx_lower_pri`.
    pub master_rx_lower_priority: Option<Script>,
    /// `notify`: runs at each change, with kind, name, state and priority appended.
    pub any: Option<Script>,
    /// `notify_priority_changes`: the FIFO is told.
    pub priority_changes: bool,
    /// `smtp_alert`, resolved: mail is sent.
    pub mail: bool,
}
