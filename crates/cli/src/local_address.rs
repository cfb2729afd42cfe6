//! `pointsman local-address`: what FULLNAT puts in the client's place.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use pointsman_api::Client;
use pointsman_model::{Family, Protocol, ServiceKey};

/// Arguments of `pointsman local-address`.
#[derive(Debug, clap::Args)]
pub struct LocalAddressArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Add a local address to a service.
    Add {
        /// The service: `tcp|udp|sctp ADDRESS:PORT` in one word with a slash, as `tcp/192.0.2.1:80`, or
        /// `mark/7`, `mark6/7`.
        service: Service,
        /// The address, of the family of the servers that are to see it.
        address: IpAddr,
    },
    /// Remove one: no new connections by it; what is established goes on.
    Del {
        /// The service, as for `add`.
        service: Service,
        /// The address.
        address: IpAddr,
    },
    /// Show local addresses and their connections.
    List {
        /// Only of this service.
        service: Option<Service>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// A service as it is typed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Service(ServiceKey);

impl std::str::FromStr for Service {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        const WANTED: &str =
            "a service is written tcp/ADDRESS:PORT, udp/…, sctp/…, mark/NUMBER or mark6/NUMBER";
        let (kind, rest) = text.split_once('/').context(WANTED)?;
        let protocol = match kind {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            "mark" | "mark6" => {
                return Ok(Self(ServiceKey::Mark {
                    mark: rest.parse().context(WANTED)?,
                    family: if kind == "mark" {
                        Family::V4
                    } else {
                        Family::V6
                    },
                }));
            }
            _ => bail!(WANTED),
        };
        let socket: SocketAddr = rest.parse().context(WANTED)?;
        Ok(Self(ServiceKey::Address {
            protocol,
            addr: socket.ip(),
            port: socket.port(),
        }))
    }
}

/// Runs `pointsman local-address …`.
pub fn run(args: &LocalAddressArgs) -> ExitCode {
    crate::report(attempt(&args.verb).map(|()| ExitCode::SUCCESS))
}

fn attempt(verb: &Verb) -> anyhow::Result<()> {
    let client = Client::here()?;
    match verb {
        Verb::Add { service, address } => {
            client.add_local_address(&service.0, *address)?;
            warn_if_foreign(*address);
        }
        Verb::Del { service, address } => client.delete_local_address(&service.0, *address)?,
        Verb::List { service, json } => {
            let services = match service {
                Some(Service(key)) => vec![client.service(key)?],
                None => client.services()?,
            };
            let connections = client.connections()?;
            let mut text = Vec::new();
            pointsman_config::ipvsadm::list_local_addresses(
                &mut text,
                &services,
                &connections,
                *json,
            )?;
            crate::say(&String::from_utf8_lossy(&text));
        }
    }
    Ok(())
}

/// Says so when the director does not have the address: replies to it would not come here.
fn warn_if_foreign(address: IpAddr) {
    if std::net::UdpSocket::bind((address, 0)).is_err() {
        eprintln!(
            "pointsman: warning: {address} is no address of this host; add it to the interface \
             towards the real servers (ip address add {address}/{} dev …), or replies do not come \
             back",
            if address.is_ipv4() { 32 } else { 128 }
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_written_in_one_word() {
        let key = |text: &str| text.parse::<Service>().map(|s| s.0.to_string());
        assert_eq!(key("tcp/192.0.2.1:80").unwrap(), "TCP 192.0.2.1:80");
        assert_eq!(key("udp/[2001:db8::1]:53").unwrap(), "UDP [2001:db8::1]:53");
        assert_eq!(key("mark6/7").unwrap(), "FWM 7 IPv6");
        for wrong in ["tcp", "tcp/192.0.2.1", "mark/x", "icmp/192.0.2.1:80", ""] {
            assert!(key(wrong).is_err(), "{wrong}");
        }
    }
}
