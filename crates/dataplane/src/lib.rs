//! Loads, pins and attaches the eBPF programs and keeps their tables.
//!
//! SKELETON of the interface; the bodies come next.

use std::net::Ipv4Addr;
use std::path::Path;

use pointsman_model::{
    ConnectionView, Counters, Error as ModelError, Rates, ServerKey, ServerSpec, ServiceKey,
    ServiceSpec, ServiceView, Timeouts,
};
use serde::{Deserialize, Serialize};

/// What could not be done with the kernel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel lacks something.
    #[error("this kernel lacks {what} (needs {since} or newer)")]
    Unsupported {
        /// What.
        what: String,
        /// Since which kernel.
        since: String,
    },
    /// Pins of another layout version.
    #[error("pinned maps in {dir} have layout {found}, this program needs {wanted}")]
    Layout {
        /// Pin directory.
        dir: String,
        /// Found.
        found: u32,
        /// Wanted.
        wanted: u32,
    },
    /// The interface vanished or cannot carry the program.
    #[error("interface {name}: {reason}")]
    Interface {
        /// Name.
        name: String,
        /// Why.
        reason: String,
    },
    /// Anything else, with what was being done.
    #[error("{doing}: {source}")]
    Os {
        /// What was being done.
        doing: String,
        /// Cause.
        source: std::io::Error,
    },
}

/// Sizes fixed when the maps are made.
#[derive(Clone, Debug)]
pub struct Options {
    /// Slots of the connection table; rounded up to a power of two. `None`: from memory.
    pub connection_slots: Option<u32>,
}

/// Where the operator wants the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HookChoice {
    /// XDP where it is native and right, TC elsewhere.
    Auto,
    /// XDP, native if the driver can, generic otherwise.
    Xdp,
    /// TC (tcx or clsact).
    Tc,
}

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// XDP in the driver, TC behind it for what XDP hands up.
    XdpNative,
    /// XDP on the generic path.
    XdpGeneric,
    /// tcx (6.6+).
    Tcx,
    /// clsact filter (before 6.6).
    Clsact,
}

/// An interface as netlink reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Hardware address; zero for devices without.
    pub mac: [u8; 6],
    /// MTU.
    pub mtu: u32,
    /// `IFLA_INFO_KIND` ("veth", "vlan", "bridge", ...), `None` for hardware.
    pub kind: Option<String>,
    /// Parent index and VLAN id of a VLAN device.
    pub vlan: Option<(u32, u16)>,
    /// True for `lo`.
    pub loopback: bool,
    /// True for Ethernet (ARPHRD_ETHER).
    pub ethernet: bool,
}

/// Where the programs run on one interface, and why there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// Hook.
    pub hook: Hook,
    /// Why this one, as a sentence.
    pub reason: String,
}

/// One reason of dropped packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropCount {
    /// Stable name (`no-destination`).
    pub name: String,
    /// What it means.
    pub meaning: String,
    /// Packets.
    pub packets: u64,
}

/// The kernel side of a director in the calling thread's network namespace.
pub struct DataPlane {
    tables: Tables,
}

impl DataPlane {
    /// Loads the programs, or adopts what is pinned in `pin_dir` (programs are replaced, maps kept).
    pub fn open(_pin_dir: &Path, _options: &Options) -> Result<Self, Error> {
        unimplemented!()
    }
    /// True when pinned maps were adopted.
    pub fn adopted(&self) -> bool {
        unimplemented!()
    }
    /// Attaches to (or replaces the programs on) an interface. Idempotent.
    pub fn attach(&mut self, _interface: &Interface, _choice: HookChoice) -> Result<Attachment, Error> {
        unimplemented!()
    }
    /// Forgets an interface that is gone, or detaches from one that stays.
    pub fn detach(&mut self, _index: u32) {
        unimplemented!()
    }
    /// What is attached where.
    pub fn attachments(&self) -> Vec<Attachment> {
        unimplemented!()
    }
    /// Tables: the IPVS operations.
    pub fn tables(&mut self) -> &mut Tables {
        &mut self.tables
    }
    /// Packets dropped, by reason; only reasons that occurred when `all` is false.
    pub fn drops(&self, _all: bool) -> Vec<DropCount> {
        unimplemented!()
    }
    /// Detaches everything and removes every pin.
    pub fn remove(self) -> Result<(), Error> {
        unimplemented!()
    }
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Live connections.
    pub live: u32,
    /// Lapsed connections removed.
    pub lapsed: u32,
}

/// The tables shared with the programs, and IPVS's operations on them.
pub struct Tables {}

#[allow(missing_docs)]
impl Tables {
    pub fn add_service(&mut self, _spec: &ServiceSpec) -> Result<(), ModelError> {
        unimplemented!()
    }
    /// A full replacement: what is omitted returns to its default.
    pub fn edit_service(&mut self, _spec: &ServiceSpec) -> Result<(), ModelError> {
        unimplemented!()
    }
    pub fn delete_service(&mut self, _key: &ServiceKey) -> Result<(), ModelError> {
        unimplemented!()
    }
    /// Removes every service; connections stay, as in IPVS.
    pub fn flush(&mut self) {
        unimplemented!()
    }
    pub fn add_server(&mut self, _key: &ServiceKey, _spec: &ServerSpec) -> Result<(), ModelError> {
        unimplemented!()
    }
    pub fn edit_server(&mut self, _key: &ServiceKey, _spec: &ServerSpec) -> Result<(), ModelError> {
        unimplemented!()
    }
    pub fn delete_server(&mut self, _key: &ServiceKey, _server: &ServerKey) -> Result<(), ModelError> {
        unimplemented!()
    }
    /// Every service, in order of creation; servers newest first.
    pub fn services(&self) -> Vec<ServiceView> {
        unimplemented!()
    }
    pub fn service(&self, _key: &ServiceKey) -> Option<ServiceView> {
        unimplemented!()
    }
    /// Namespace totals.
    pub fn totals(&self) -> (Counters, Rates) {
        unimplemented!()
    }
    pub fn connections(&self) -> Vec<ConnectionView> {
        unimplemented!()
    }
    /// Slots of the connection table.
    pub fn connection_slots(&self) -> u32 {
        unimplemented!()
    }
    pub fn timeouts(&self) -> Timeouts {
        unimplemented!()
    }
    pub fn set_timeouts(&mut self, _change: Timeouts) {
        unimplemented!()
    }
    /// Zeroes one service and its servers, or everything.
    pub fn zero(&mut self, _key: Option<&ServiceKey>) -> Result<(), ModelError> {
        unimplemented!()
    }
    /// Steps every rate estimator; call it every two seconds.
    pub fn estimate(&mut self) {
        unimplemented!()
    }
    /// Removes lapsed connections and settles the counts of their servers; call it every second.
    pub fn sweep(&mut self) -> Sweep {
        unimplemented!()
    }
    /// An interface appeared or changed (egress table).
    pub fn set_interface(&mut self, _interface: &Interface) {
        unimplemented!()
    }
    /// An interface is gone.
    pub fn remove_interface(&mut self, _index: u32) {
        unimplemented!()
    }
    /// A route, neighbour, address or link changed: cached next hops are looked up again.
    pub fn advance_epoch(&mut self) {
        unimplemented!()
    }
    /// Addresses of all real servers, without repetition: their next hops are to be kept resolved.
    pub fn server_addresses(&self) -> Vec<Ipv4Addr> {
        unimplemented!()
    }
    /// Source address of tunnels towards `server`: what the route there prefers.
    pub fn set_tunnel_source(&mut self, _server: Ipv4Addr, _source: Ipv4Addr) {
        unimplemented!()
    }
    /// The neighbour towards `server` does not answer (or answers again); packets to it are a
    /// named drop while it does not.
    pub fn set_neighbour_dead(&mut self, _server: Ipv4Addr, _dead: bool) {
        unimplemented!()
    }
}

/// The real server's side.
pub mod realserver {
    use super::{Error, Interface, Path};

    /// Attaches the decapsulator (IPIP) to an interface of this namespace and pins it.
    pub fn attach(_pin_dir: &Path, _interface: &Interface) -> Result<(), Error> {
        unimplemented!()
    }
    /// Names of interfaces it is pinned for.
    pub fn attached(_pin_dir: &Path) -> Vec<String> {
        unimplemented!()
    }
    /// Removes it everywhere.
    pub fn detach_all(_pin_dir: &Path) -> Result<(), Error> {
        unimplemented!()
    }
}
