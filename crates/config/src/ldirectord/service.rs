//! Names and ports of the protocols that a negotiate check speaks.

use pointsman_model::check::NegotiateService as Service;

/// Service, its name in the file, its port.
const SERVICES: [(Service, &str, Option<u16>); 21] = [
    (Service::Dns, "dns", Some(53)),
    (Service::Ftp, "ftp", Some(21)),
    (Service::Http, "http", Some(80)),
    (Service::Https, "https", Some(443)),
    (Service::HttpProxy, "http_proxy", Some(3128)),
    (Service::Imap, "imap", Some(143)),
    (Service::Imaps, "imaps", Some(993)),
    (Service::Ldap, "ldap", Some(389)),
    (Service::Ldaps, "ldaps", Some(636)),
    (Service::Nntp, "nntp", Some(119)),
    (Service::Mysql, "mysql", Some(3306)),
    (Service::None, "none", None),
    (Service::Oracle, "oracle", Some(1521)),
    (Service::Pop, "pop", Some(110)),
    (Service::Pops, "pops", Some(995)),
    (Service::Radius, "radius", Some(1812)),
    (Service::Pgsql, "pgsql", Some(5432)),
    (Service::Sip, "sip", Some(5060)),
    (Service::Smtp, "smtp", Some(25)),
    (Service::Submission, "submission", Some(587)),
    (Service::Simpletcp, "simpletcp", None),
];

/// The service of a name in the file.
pub(super) fn from_name(name: &str) -> Option<Service> {
    let row = SERVICES.iter().find(|(_, known, _)| *known == name)?;
    Some(row.0)
}

/// What a virtual service of this port is checked as when the file does not say it.
pub(super) fn of_port(port: u16) -> Service {
    let known = SERVICES.iter().find(|(_, _, own)| *own == Some(port));
    known.map_or(Service::None, |row| row.0)
}

/// The name in the file.
pub(super) fn name(service: Service) -> &'static str {
    row(service).map_or("none", |row| row.1)
}

/// The port that is checked when neither the real server nor `checkport` has one.
pub(super) fn port(service: Service) -> Option<u16> {
    row(service)?.2
}

fn row(service: Service) -> Option<&'static (Service, &'static str, Option<u16>)> {
    SERVICES.iter().find(|(known, _, _)| *known == service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ports_lead_back_to_the_service() {
        for (service, text, own) in SERVICES {
            assert_eq!((from_name(text), name(service)), (Some(service), text));
            if let Some(own) = own {
                assert_eq!((of_port(own), port(service)), (service, Some(own)));
            }
        }
        assert_eq!(of_port(81), Service::None);
    }
}
