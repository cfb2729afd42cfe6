use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use crate::Family;

/// An address that comes and goes with the master, or a static one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VirtualAddress {
    /// Address and prefix; host bits are kept. With a peer the prefix is the peer's.
    pub address: IpNet,
    /// `dev`: where it lives; `None` for the instance's interface (or its virtual MAC's), for a
    /// static one the default interface.
    pub interface: Option<String>,
    /// `brd`; IPv4 only.
    pub broadcast: Option<Broadcast>,
    /// Number of the scope; `None` for global, or what IPv6 derives.
    pub scope: Option<u8>,
    /// Label, 15 bytes at most; IPv4 only.
    pub label: Option<String>,
    /// Address of the other end.
    pub peer: Option<IpAddr>,
    /// Flags of the address.
    pub flags: AddressFlags,
    /// `preferred_lft`; `None` for forever. The front end has applied IPv6's default: 0 for /128.
    pub preferred_lifetime: Option<Duration>,
    /// `no_track`: that somebody else deletes it is ignored.
    pub no_track: bool,
    /// `use_vmac`: on a virtual MAC of its own over `interface`.
    pub use_vmac: bool,
    /// `track_group` of a static address.
    pub track_group: Option<String>,
}

impl VirtualAddress {
    /// An address without options: as `10.0.0.1/24` on a line of its own says.
    pub fn new(address: IpNet) -> Self {
        let six = matches!(address, IpNet::V6(_));
        Self {
            address,
            interface: None,
            broadcast: None,
            scope: None,
            label: None,
            peer: None,
            flags: AddressFlags {
                nodad: six,
                ..AddressFlags::default()
            },
            preferred_lifetime: (six && address.prefix_len() == 128).then_some(Duration::ZERO),
            no_track: false,
            use_vmac: false,
            track_group: None,
        }
    }

    /// The address alone.
    pub fn ip(&self) -> IpAddr {
        self.address.addr()
    }

    /// Its family.
    pub fn family(&self) -> Family {
        self.ip().into()
    }
}

/// Broadcast address of a virtual address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Broadcast {
    /// `+`: all host bits set.
    Ones,
    /// `-`: all host bits clear.
    Zeros,
    /// This one.
    Address(Ipv4Addr),
}

/// Flags of a virtual address (`IFA_F_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AddressFlags {
    /// `home`: a mobile node's home address.
    pub home: bool,
    /// No duplicate address detection: set for IPv6 unless `-nodad` is given.
    pub nodad: bool,
    /// `mngtmpaddr`.
    pub mngtmpaddr: bool,
    /// `noprefixroute`.
    pub noprefixroute: bool,
    /// `autojoin`: join the multicast address.
    pub autojoin: bool,
}
