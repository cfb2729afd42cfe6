//! Addresses as operators write them and as tables hold them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pointsman_core::addr::{Address, Be32};

/// An address as tables hold it.
pub(crate) fn shared(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(a) => Address::v4(Be32::from_octets(a.octets())),
        IpAddr::V6(a) => Address::v6(a.octets()),
    }
}

/// An address of the tables, whose family lies elsewhere in its record.
pub(crate) fn ip(address: Address, ipv6: bool) -> IpAddr {
    if ipv6 {
        Ipv6Addr::from(address.octets()).into()
    } else {
        Ipv4Addr::from(address.as_v4().octets()).into()
    }
}
