use std::net::IpAddr;

use pointsman_model::{Counters, Error, Rates};
use serde::{Deserialize, Serialize};

/// Totals of the whole namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Totals since the director first started or was zeroed.
    pub counters: Counters,
    /// Smoothed rates.
    pub rates: Rates,
    /// What each CPU ever counted; never zeroed.
    #[serde(default)]
    pub per_cpu: Vec<Counters>,
}

/// What is fixed as long as the kernel side is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Slots of the connection table (the `size=` of a listing's first line).
    pub connection_slots: u32,
    /// Ticks of the kernel in a second, in which `/proc/net/ip_vs` shows persistence.
    pub hz: u32,
}

/// Why a transaction was not made: its first change that was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("change {change}: {error}")]
pub struct RefusedChange {
    /// Its place in the list, from 0.
    pub change: usize,
    /// Why.
    #[serde(flatten)]
    #[source]
    pub error: Error,
}

/// Packets dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropCount {
    /// Stable name (`no-destination`).
    pub name: String,
    /// What it means, as a sentence.
    pub meaning: String,
    /// Packets.
    pub packets: u64,
}

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// XDP in the driver.
    XdpNative,
    /// XDP on the kernel's generic path.
    XdpGeneric,
    /// tcx (6.6 and newer).
    Tcx,
    /// A clsact filter (before 6.6).
    Clsact,
}

impl Hook {
    /// The word of tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::XdpNative => "xdp-native",
            Self::XdpGeneric => "xdp-generic",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// One interface of the namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Interface index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Where the program runs; `None` when it does not run on this interface.
    pub hook: Option<Hook>,
    /// Why there, or why not, as a sentence.
    pub reason: String,
}

/// Sizes of the tables and what they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableStatus {
    /// Virtual services.
    pub services: u32,
    /// Real servers over all services.
    pub servers: u32,
    /// Live connections at the last sweep.
    pub connections: u32,
    /// Slots of the connection table; a connection takes one per direction that the director sees.
    pub connection_slots: u32,
    /// Connections that gave their slot to a new one before they lapsed, because both sets they
    /// could lie in were full.
    #[serde(default)]
    pub evictions: u64,
    /// Fragments that came before the first one of their packet and were kept back until it came.
    #[serde(default)]
    pub fragments_held: u64,
    /// ICMP errors not sent because of many others before.
    #[serde(default)]
    pub errors_untold: u64,
    /// Packets by FULLNAT that should have told their client's address (`--toa`) and had no room for it.
    #[serde(default)]
    pub clients_untold: u64,
}

/// How packets reach a real server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextHopStatus {
    /// RIP.
    pub server: IpAddr,
    /// Router on the way; `None` when the server is on a connected network.
    pub gateway: Option<IpAddr>,
    /// Interface towards it.
    pub interface: Option<String>,
    /// Source address the route prefers.
    pub source: Option<IpAddr>,
    /// State of the neighbour entry, in `ip neigh`'s words.
    pub neighbour: Option<String>,
    /// What keeps packets from it, as a sentence; `None` when all is well.
    pub problem: Option<String>,
}

/// What `director status` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the running director.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Cookie of its network namespace.
    pub netns_cookie: u64,
    /// Seconds since it started.
    pub uptime_secs: u64,
    /// True when it took over tables that an earlier director left in the kernel.
    pub adopted: bool,
    /// Tables.
    pub tables: TableStatus,
    /// Interfaces, by index.
    pub interfaces: Vec<InterfaceStatus>,
    /// Next hops of real servers, by address.
    pub next_hops: Vec<NextHopStatus>,
    /// Reasons of lost packets that occurred.
    pub drops: Vec<DropCount>,
    /// What keeps services from working and is the operator's to change, one sentence each.
    pub warnings: Vec<String>,
}

/// How a stop went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopReport {
    /// True when programs, links and maps stay and keep forwarding.
    pub kept_forwarding: bool,
    /// What could not be put back, one sentence each.
    pub problems: Vec<String>,
}
