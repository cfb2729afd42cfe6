//! Services and servers as one segment of a URL path.

use std::net::IpAddr;

use pointsman_model::{Error, Family, Protocol, ServerKey, ServiceKey};

/// `tcp,192.0.2.1,80` or `mark,3,v4`.
pub(crate) fn service(key: &ServiceKey) -> String {
    match *key {
        ServiceKey::Address {
            protocol,
            addr,
            port,
        } => {
            format!("{},{addr},{port}", protocol.name().to_ascii_lowercase())
        }
        ServiceKey::Mark {
            mark,
            family: Family::V4,
        } => format!("mark,{mark},v4"),
        ServiceKey::Mark {
            mark,
            family: Family::V6,
        } => format!("mark,{mark},v6"),
    }
}

/// `192.0.2.1,80`.
pub(crate) fn server(key: &ServerKey) -> String {
    format!("{},{}", key.addr, key.port)
}

/// Reads what [`service`] wrote.
pub(crate) fn parse_service(text: &str) -> Result<ServiceKey, Error> {
    let key = || {
        let mut parts = text.split(',');
        let (kind, second, third) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let protocol = match kind {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            "mark" => {
                let family = match third {
                    "v4" => Family::V4,
                    "v6" => Family::V6,
                    _ => return None,
                };
                return Some(ServiceKey::Mark {
                    mark: second.parse().ok()?,
                    family,
                });
            }
            _ => return None,
        };
        let addr = second.parse::<IpAddr>().ok()?;
        Some(ServiceKey::Address {
            protocol,
            addr,
            port: third.parse().ok()?,
        })
    };
    key().ok_or_else(|| {
        Error::Invalid(format!(
            "service {text:?}; expected tcp,ADDRESS,PORT or mark,MARK,v4"
        ))
    })
}

/// Reads what [`server`] wrote.
pub(crate) fn parse_server(text: &str) -> Result<ServerKey, Error> {
    text.split_once(',')
        .and_then(|(addr, port)| Some((addr.parse().ok()?, port.parse().ok()?)))
        .map(|(addr, port)| ServerKey { addr, port })
        .ok_or_else(|| Error::Invalid(format!("server {text:?}; expected ADDRESS,PORT")))
}

/// Reads an address.
pub(crate) fn parse_address(text: &str) -> Result<IpAddr, Error> {
    text.parse()
        .map_err(|_| Error::Invalid(format!("{text:?}; expected an address")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_the_way_through_a_path() {
        for text in [
            "tcp,192.0.2.1,80",
            "udp,2001:db8::1,0",
            "sctp,::1,65535",
            "mark,7,v4",
            "mark,1,v6",
        ] {
            assert_eq!(service(&parse_service(text).unwrap()), text);
        }
        for text in ["10.0.0.2,8080", "fe80::1,0"] {
            assert_eq!(server(&parse_server(text).unwrap()), text);
        }
    }

    #[test]
    fn anything_else_is_refused_with_what_was_expected() {
        for text in [
            "",
            "tcp",
            "tcp,1.2.3.4",
            "tcp,1.2.3.4,80,1",
            "tcp,1.2.3,80",
            "mark,3",
            "x,1,2",
        ] {
            assert!(
                matches!(parse_service(text), Err(Error::Invalid(_))),
                "{text}"
            );
        }
        assert!(parse_server("1.2.3.4:80").is_err());
        assert!(parse_server("1.2.3.4,65536").is_err());
    }
}
