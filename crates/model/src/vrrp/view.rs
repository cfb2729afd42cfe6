use std::net::IpAddr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// State of an instance or a sync group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum VrrpState {
    /// Not decided yet.
    #[default]
    Init,
    /// Listens to the master.
    Backup,
    /// Holds the addresses.
    Master,
    /// Cannot take part.
    Fault,
}

impl VrrpState {
    /// The word of notify scripts, FIFOs and listings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Init => "INIT",
            Self::Backup => "BACKUP",
            Self::Master => "MASTER",
            Self::Fault => "FAULT",
        }
    }

    /// The number of keepalived's JSON.
    pub fn number(self) -> u8 {
        match self {
            Self::Init => 0,
            Self::Backup => 1,
            Self::Master => 2,
            Self::Fault => 3,
        }
    }
}

/// Who an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind", content = "name")]
pub enum VrrpSubject {
    /// An instance, by name.
    Instance(String),
    /// A sync group, by name.
    Group(String),
}

/// What scripts, FIFOs and mail are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum VrrpWord {
    /// Became master.
    Master,
    /// Became backup, also for the first time after start.
    Backup,
    /// A fault came.
    Fault,
    /// The engine stops.
    Stop,
    /// A reload removed the instance.
    Deleted,
    /// A master heard an advert of lower priority.
    MasterRxLowerPri,
    /// The effective priority of a master changed.
    MasterPriority,
    /// The effective priority of a backup changed.
    BackupPriority,
}

impl VrrpWord {
    /// The word as scripts and FIFOs get it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Master => "MASTER",
            Self::Backup => "BACKUP",
            Self::Fault => "FAULT",
            Self::Stop => "STOP",
            Self::Deleted => "DELETED",
            Self::MasterRxLowerPri => "MASTER_RX_LOWER_PRI",
            Self::MasterPriority => "MASTER_PRIORITY",
            Self::BackupPriority => "BACKUP_PRIORITY",
        }
    }
}

/// Something that somebody may want to be told.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VrrpEvent {
    /// Who.
    pub subject: VrrpSubject,
    /// The state before.
    pub from: VrrpState,
    /// The state now.
    pub to: VrrpState,
    /// What happened.
    pub word: VrrpWord,
    /// Effective priority; 0 for groups.
    pub priority: u8,
}

/// What an instance counted (keepalived's statistics).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VrrpCounters {
    /// Adverts that passed the checks.
    pub advert_rcvd: u64,
    /// Adverts sent.
    pub advert_sent: u64,
    /// Times it became master.
    pub become_master: u64,
    /// Times it ceased to be.
    pub release_master: u64,
    /// Adverts of a wrong length.
    pub packet_len_err: u64,
    /// Adverts of version 2 with another interval.
    pub advert_interval_err: u64,
    /// Adverts with a TTL other than 255.
    pub ip_ttl_err: u64,
    /// Messages of a type other than advertisement.
    pub invalid_type_rcvd: u64,
    /// Adverts with another list of addresses, or by the wrong way (multicast or unicast).
    pub addr_list_err: u64,
    /// Adverts with an authentication type that does not exist.
    pub invalid_authtype: u64,
    /// Adverts with another authentication type.
    pub authtype_mismatch: u64,
    /// Adverts with a wrong password, digest or sequence number.
    pub auth_failure: u64,
    /// Adverts with a wrong checksum.
    pub checksum_err: u64,
    /// Adverts of another version.
    pub version_err: u64,
    /// Unicast adverts of hosts that are no peers, or with a TTL outside the peer's bounds.
    pub peer_err: u64,
    /// Adverts without the trailer of `auth_hmac`.
    pub auth_ext_missing: u64,
    /// Trailers of an unknown form.
    pub auth_ext_malformed: u64,
    /// Trailers of an unknown key.
    pub auth_ext_unknown_key: u64,
    /// Trailers with a wrong digest.
    pub auth_ext_invalid_hmac: u64,
    /// Trailers with a time too far from ours.
    pub auth_ext_stale: u64,
    /// Trailers that came before.
    pub auth_ext_replay: u64,
    /// Resignations received.
    pub pri_zero_rcvd: u64,
    /// Resignations sent.
    pub pri_zero_sent: u64,
}

/// An instance as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VrrpInstanceView {
    /// Its name.
    pub name: String,
    /// Its interface, if it has one.
    pub interface: Option<String>,
    /// Virtual router id.
    pub vrid: u8,
    /// 2 or 3.
    pub version: u8,
    /// State.
    pub state: VrrpState,
    /// Since when.
    pub since: SystemTime,
    /// Configured priority.
    pub base_priority: u8,
    /// With what is tracked.
    pub effective_priority: u8,
    /// The master as last heard, address and priority; `None` when it is us or nobody.
    pub master: Option<(IpAddr, u8)>,
    /// Source of our adverts.
    pub source: Option<IpAddr>,
    /// Time between adverts in milliseconds.
    pub advert_interval_ms: u64,
    /// Advertised addresses.
    pub addresses: Vec<String>,
    /// Why it is in FAULT, in words; empty otherwise.
    pub faults: Vec<String>,
    /// The last advert that was refused: from whom and why.
    pub last_refusal: Option<(IpAddr, String)>,
    /// What it counted.
    pub counters: VrrpCounters,
}

/// A sync group as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VrrpGroupView {
    /// Its name.
    pub name: String,
    /// State.
    pub state: VrrpState,
    /// Its instances.
    pub members: Vec<String>,
}

/// A tracked script, file, process or BFD session as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VrrpTrackView {
    /// Its name.
    pub name: String,
    /// `script`, `file`, `process` or `bfd`.
    pub kind: String,
    /// Whether it is well; `None` before its first result.
    pub good: Option<bool>,
}

/// An engine as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VrrpView {
    /// Instances in configuration order.
    pub instances: Vec<VrrpInstanceView>,
    /// Sync groups.
    pub groups: Vec<VrrpGroupView>,
    /// What is tracked, interfaces apart.
    pub tracked: Vec<VrrpTrackView>,
}
