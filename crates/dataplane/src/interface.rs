use serde::{Deserialize, Serialize};

/// Where the operator wants the programs.
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

/// Where the programs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// XDP in the driver, TC behind it for what XDP hands up.
    XdpNative,
    /// XDP on the generic path, TC behind it.
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
