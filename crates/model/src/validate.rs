//! Rules the kernel's IPVS enforces on services and servers, whoever asks.

use std::net::IpAddr;

use crate::{Error, Family, Forwarding, MAX_LOCAL_ADDRESSES, ServerSpec, ServiceKey, ServiceSpec};

/// The persistence engine there is (`--pe`).
pub const SIP: &str = "sip";

/// Checks a service by itself.
///
/// # Errors
/// [`Error::Invalid`] for an IPv6 prefix outside 1..=128 or for mark 0,
/// [`Error::SchedulerNotFound`] for an unknown persistence engine.
pub fn service(spec: &ServiceSpec) -> Result<(), Error> {
    if let ServiceKey::Mark { mark: 0, .. } = spec.key {
        return Err(Error::Invalid("firewall mark 0".into()));
    }
    if let Some(engine) = &spec.persistence_engine
        && engine != SIP
    {
        return Err(Error::SchedulerNotFound(engine.clone()));
    }
    if spec.key.family() == Family::V6 && !(1..=128).contains(&spec.prefix_len) {
        return Err(Error::Invalid(format!(
            "IPv6 prefix length {}",
            spec.prefix_len
        )));
    }
    Ok(())
}

/// Checks a real server against the service it is to join.
///
/// Whether the address is a broadcast address of a local subnet depends on routing and is checked
/// by the director.
///
/// # Errors
/// [`Error::OutOfRange`] when the lower threshold exceeds the upper, [`Error::Invalid`] for an
/// address no packet can be sent to, or a foreign family without a tunnel.
pub fn server(service: &ServiceSpec, spec: &ServerSpec) -> Result<(), Error> {
    if spec.lower_threshold > spec.upper_threshold {
        return Err(Error::OutOfRange("lower threshold above the upper".into()));
    }
    if spec.upper_threshold > i32::MAX as u32 {
        return Err(Error::Invalid("upper threshold above 2147483647".into()));
    }
    unicast(spec.key.addr)?;
    let foreign = Family::from(spec.key.addr) != service.key.family();
    if foreign && !matches!(spec.forwarding, Forwarding::Tunnel(_) | Forwarding::FullNat) {
        return Err(Error::Invalid(
            "another address family needs a tunnel or FULLNAT".into(),
        ));
    }
    Ok(())
}

/// Checks a local address against those the service has.
///
/// # Errors
/// [`Error::AddressExists`]; [`Error::Invalid`] for an address no packet can come from;
/// [`Error::NoRoom`] above [`MAX_LOCAL_ADDRESSES`].
pub fn local_address(present: &[IpAddr], address: IpAddr) -> Result<(), Error> {
    unicast(address)?;
    if present.contains(&address) {
        return Err(Error::AddressExists);
    }
    if present.len() >= MAX_LOCAL_ADDRESSES {
        return Err(Error::NoRoom(format!(
            "a service has at most {MAX_LOCAL_ADDRESSES} local addresses"
        )));
    }
    Ok(())
}

fn unicast(address: IpAddr) -> Result<(), Error> {
    let unicast = match address {
        IpAddr::V4(a) => !a.is_multicast() && !a.is_broadcast() && !a.is_unspecified(),
        IpAddr::V6(a) => !a.is_multicast() && !a.is_unspecified() && !a.is_unicast_link_local(),
    };
    if unicast {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "{address} is not a unicast address"
    )))
}
