//! Answers of the family, from bytes to the model.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::{NonZeroU16, NonZeroU32};

use pointsman_model::{
    Counters, Encapsulation, Error as Refusal, Family, Forwarding, Persistence, Protocol, Rates,
    SchedFlags, ServerKey, ServerSpec, ServerView, ServiceKey, ServiceSpec, ServiceView, Timeouts,
    TunnelChecksum, Weight,
};

use crate::Error;
use crate::attributes::Attributes;
use crate::family::{V4, V6, dest, service as svc, top};

/// `IP_VS_SVC_F_PERSISTENT`.
const PERSISTENT: u32 = 0x01;
/// `IP_VS_SVC_F_ONEPACKET`.
const ONE_PACKET: u32 = 0x04;

/// A service, without its servers.
pub(crate) fn service(message: &[u8]) -> Result<ServiceView, Error> {
    let message = Attributes::parse(message)?;
    let service = message.within(top::SERVICE, "service")?;
    let family = family(service.number(svc::AF, "address family")?)?;
    let key = match service.optional_number(svc::FWMARK, "firewall mark")? {
        None | Some(0) => {
            let number = service.number(svc::PROTOCOL, "protocol")?;
            let known = u8::try_from(number).ok().and_then(Protocol::from_number);
            let addr = address(family, service.first(svc::ADDR, "address")?);
            let port = service.port(svc::PORT, "port")?;
            ServiceKey::Address {
                protocol: known.ok_or_else(|| Error::Foreign {
                    object: format!("service {addr} port {port}"),
                    reason: Refusal::Invalid(format!("IP protocol {number}")),
                })?,
                addr,
                port,
            }
        }
        Some(mark) => ServiceKey::Mark {
            mark: u32::try_from(mark)
                .map_err(|_| Error::Unreadable(format!("firewall mark {mark}")))?,
            family,
        },
    };
    let foreign = |reason| Error::Foreign {
        object: key.to_string(),
        reason,
    };
    // A service without a scheduler has no name of one, or `none`.
    let scheduler = service.optional_text(svc::SCHED_NAME, "scheduler")?;
    let scheduler = scheduler
        .as_deref()
        .unwrap_or("none")
        .parse()
        .map_err(foreign)?;
    let mut spec = ServiceSpec::new(key, scheduler);
    let flags = u32::from_ne_bytes(service.first(svc::FLAGS, "flags")?);
    spec.sched_flags = SchedFlags::from_bits_truncate(flags);
    spec.one_packet = flags & ONE_PACKET != 0;
    if flags & PERSISTENT != 0 {
        let timeout_secs = service.fitting::<u32>(svc::TIMEOUT, "persistence timeout")?;
        let timeout_secs = NonZeroU32::new(timeout_secs)
            .ok_or_else(|| foreign(Refusal::Invalid("persistence timeout 0".into())))?;
        spec.persistence = Some(Persistence { timeout_secs });
    }
    let mask: [u8; 4] = service.first(svc::NETMASK, "netmask")?;
    match family {
        Family::V4 => spec.netmask = Ipv4Addr::from(mask),
        Family::V6 => {
            let len = u32::from_ne_bytes(mask);
            spec.prefix_len = u8::try_from(len)
                .map_err(|_| foreign(Refusal::Invalid(format!("IPv6 prefix length {len}"))))?;
        }
    }
    spec.persistence_engine = service
        .optional_text(svc::PE_NAME, "persistence engine")?
        .filter(|name| !name.is_empty());
    let (counters, rates) = statistics(&service, svc::STATS64, svc::STATS)?;
    Ok(ServiceView {
        spec,
        counters,
        rates,
        local_addresses: Vec::new(),
        servers: Vec::new(),
    })
}

/// A real server of a service.
pub(crate) fn server(service: &ServiceKey, message: &[u8]) -> Result<ServerView, Error> {
    let message = Attributes::parse(message)?;
    let server = message.within(top::DEST, "real server")?;
    // Kernels that know no mixed families do not say.
    let family = match server.optional_number(dest::ADDR_FAMILY, "address family")? {
        Some(number) => family(number)?,
        None => service.family(),
    };
    let key = ServerKey {
        addr: address(family, server.first(dest::ADDR, "address")?),
        port: server.port(dest::PORT, "port")?,
    };
    let foreign = |reason| Error::Foreign {
        object: format!("{service}, real server {} port {}", key.addr, key.port),
        reason,
    };
    let forwarding = match server.number(dest::FWD_METHOD, "forwarding method")? {
        0 => Forwarding::Masquerade,
        1 => Forwarding::Local,
        2 => Forwarding::Tunnel(encapsulation(&server)?.map_err(foreign)?),
        3 => Forwarding::Route,
        other => {
            return Err(foreign(Refusal::Invalid(format!(
                "forwarding method {other}"
            ))));
        }
    };
    let weight = server.fitting(dest::WEIGHT, "weight")?;
    let too_heavy = || foreign(Refusal::OutOfRange(format!("weight {weight}")));
    let count = |kind, what| {
        let count = server.optional_number(kind, what)?.unwrap_or(0);
        u32::try_from(count).map_err(|_| Error::Unreadable(format!("{what} {count}")))
    };
    let (counters, rates) = statistics(&server, dest::STATS64, dest::STATS)?;
    Ok(ServerView {
        spec: ServerSpec {
            key,
            forwarding,
            weight: Weight::new(weight).ok_or_else(too_heavy)?,
            upper_threshold: server.fitting(dest::U_THRESH, "upper threshold")?,
            lower_threshold: server.fitting(dest::L_THRESH, "lower threshold")?,
        },
        active: count(dest::ACTIVE_CONNS, "active connections")?,
        inactive: count(dest::INACT_CONNS, "inactive connections")?,
        persistent: count(dest::PERSIST_CONNS, "templates")?,
        counters,
        rates,
    })
}

/// The timeouts.
pub(crate) fn timeouts(message: &[u8]) -> Result<Timeouts, Error> {
    let message = Attributes::parse(message)?;
    Ok(Timeouts {
        tcp: message.fitting(top::TIMEOUT_TCP, "TCP timeout")?,
        tcp_fin: message.fitting(top::TIMEOUT_TCP_FIN, "FIN timeout")?,
        udp: message.fitting(top::TIMEOUT_UDP, "UDP timeout")?,
    })
}

fn family(number: u64) -> Result<Family, Error> {
    match u16::try_from(number) {
        Ok(V4) => Ok(Family::V4),
        Ok(V6) => Ok(Family::V6),
        _ => Err(Error::Unreadable(format!("address family {number}"))),
    }
}

fn address(family: Family, bytes: [u8; 16]) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into(),
        Family::V6 => Ipv6Addr::from(bytes).into(),
    }
}

/// What a tunnel puts around packets; kernels without a choice (before 5.3) do not say, and mean
/// IPIP.
fn encapsulation(server: &Attributes<'_>) -> Result<Result<Encapsulation, Refusal>, Error> {
    let kind = server.optional_number(dest::TUN_TYPE, "tunnel type")?;
    let checksum = match server.optional_number(dest::TUN_FLAGS, "tunnel flags")? {
        None | Some(0) => TunnelChecksum::None,
        Some(1) => TunnelChecksum::Full,
        Some(2) => TunnelChecksum::Remote,
        Some(other) => return Ok(Err(Refusal::Invalid(format!("tunnel flags {other}")))),
    };
    Ok(match kind {
        None | Some(0) => Ok(Encapsulation::Ipip),
        Some(1) => match NonZeroU16::new(server.port(dest::TUN_PORT, "tunnel port")?) {
            Some(port) => Ok(Encapsulation::Gue { port, checksum }),
            None => Err(Refusal::Invalid("tunnel port 0".into())),
        },
        Some(2) => Ok(Encapsulation::Gre { checksum }),
        Some(other) => Err(Refusal::Invalid(format!("tunnel type {other}"))),
    })
}

/// Counters and rates, of 64 bits where the kernel has them (4.1 and newer).
fn statistics(of: &Attributes<'_>, wide: u16, narrow: u16) -> Result<(Counters, Rates), Error> {
    let stats = match of.nested(wide)? {
        Some(stats) => Some(stats),
        None => of.nested(narrow)?,
    };
    let Some(stats) = stats else {
        return Ok(Default::default());
    };
    let number = |kind| stats.number(kind, "statistics");
    Ok((
        Counters {
            conns: number(1)?,
            in_packets: number(2)?,
            out_packets: number(3)?,
            in_bytes: number(4)?,
            out_bytes: number(5)?,
        },
        Rates {
            cps: number(6)?,
            in_pps: number(7)?,
            out_pps: number(8)?,
            in_bps: number(9)?,
            out_bps: number(10)?,
        },
    ))
}
