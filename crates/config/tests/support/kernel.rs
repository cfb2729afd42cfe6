//! A model of the kernel's lists: what it refuses and in which order it keeps things, without
//! packets.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use pointsman_config::ipvsadm::{Director, DirectorError};
use pointsman_model::{
    Change, ConnectionState, ConnectionView, Counters, DaemonRole, DaemonView, EngineData, Error,
    Protocol, Rates, ServerSpec, ServerView, ServiceKey, ServiceSpec, ServiceView, Timeouts,
    validate,
};

/// Lists of services, servers and connections.
#[derive(Default)]
pub struct Kernel {
    pub services: Vec<ServiceView>,
    pub connections: Vec<ConnectionView>,
    pub timeouts: Timeouts,
    pub daemons: BTreeMap<DaemonRole, DaemonView>,
    /// Calls of [`Director::apply`].
    pub batches: usize,
    /// True while the last thing learned was a connection.
    learning: bool,
    /// The service that the last line of numbers was about.
    numbers_of: usize,
}

impl Director for Kernel {
    fn apply(&mut self, changes: &[Change]) -> Result<Vec<Result<(), Error>>, DirectorError> {
        self.batches += 1;
        Ok(changes.iter().map(|change| self.change(change)).collect())
    }

    fn services(&mut self) -> Result<Vec<ServiceView>, DirectorError> {
        Ok(self.services.clone())
    }

    fn service(&mut self, key: &ServiceKey) -> Result<ServiceView, DirectorError> {
        Ok(self.find(key)?.clone())
    }

    fn connections(&mut self) -> Result<Vec<ConnectionView>, DirectorError> {
        Ok(self.connections.clone())
    }

    fn connection_slots(&mut self) -> Result<u32, DirectorError> {
        Ok(4096)
    }

    fn timeouts(&mut self) -> Result<Timeouts, DirectorError> {
        Ok(self.timeouts)
    }

    fn daemons(&mut self) -> Result<Vec<DaemonView>, DirectorError> {
        Ok(self.daemons.values().cloned().collect())
    }
}

impl Kernel {
    /// Takes over a line `@` of a transcript: a row of `/proc/net/ip_vs_conn`, or numbers of a
    /// listing.
    pub fn hold(&mut self, text: &str) {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let learning = std::mem::replace(&mut self.learning, fields[0] == "conn");
        match fields[0] {
            "conn" => {
                if !learning {
                    self.connections.clear();
                }
                self.connections.push(proc_connection(&fields[1..]));
            }
            "numbers" => self.hold_numbers(&fields[1..]),
            other => panic!("the kernel cannot hold {other}"),
        }
    }

    pub fn nothing_held(&mut self) {
        self.learning = false;
    }

    fn hold_numbers(&mut self, fields: &[&str]) {
        let (view, name) = (fields[0], fields[2]);
        let n: Vec<u64> = fields[3..].iter().filter_map(|f| f.parse().ok()).collect();
        let totals = || Counters {
            conns: n[0],
            in_packets: n[1],
            out_packets: n[2],
            in_bytes: n[3],
            out_bytes: n[4],
        };
        let rates = || Rates {
            cps: n[0],
            in_pps: n[1],
            out_pps: n[2],
            in_bps: n[3],
            out_bps: n[4],
        };
        if fields[1] != "->" {
            let title = format!("{} {name}", fields[1]);
            let at = self
                .services
                .iter()
                .position(|s| s.spec.key.to_string() == title);
            self.numbers_of = at.expect("numbers of a known service");
            let service = &mut self.services[self.numbers_of];
            match view {
                "--stats" => service.counters = totals(),
                "--rate" => service.rates = rates(),
                _ => {}
            }
            return;
        }
        let key: SocketAddr = name.parse().expect("an address and a port");
        let servers = &mut self.services[self.numbers_of].servers;
        let server = servers
            .iter_mut()
            .find(|s| (s.spec.key.addr, s.spec.key.port) == (key.ip(), key.port()))
            .expect("numbers of a known server");
        match view {
            "--stats" => server.counters = totals(),
            "--rate" => server.rates = rates(),
            _ => {
                [server.persistent, server.active, server.inactive] =
                    [n[1], n[2], n[3]].map(|n| n as u32)
            }
        }
    }

    fn find(&self, key: &ServiceKey) -> Result<&ServiceView, Error> {
        self.services
            .iter()
            .find(|s| s.spec.key == *key)
            .ok_or(Error::NoSuchService)
    }

    fn find_mut(&mut self, key: &ServiceKey) -> Result<&mut ServiceView, Error> {
        self.services
            .iter_mut()
            .find(|s| s.spec.key == *key)
            .ok_or(Error::NoSuchService)
    }

    fn change(&mut self, change: &Change) -> Result<(), Error> {
        match change {
            Change::AddService(spec) => {
                if self.find(&spec.key).is_ok() {
                    return Err(Error::ServiceExists);
                }
                check_service(spec)?;
                self.services.push(ServiceView {
                    spec: spec.clone(),
                    counters: Counters::default(),
                    rates: Rates::default(),
                    local_addresses: Vec::new(),
                    servers: Vec::new(),
                });
            }
            Change::EditService(spec) => {
                let service = self.find_mut(&spec.key)?;
                check_service(spec)?;
                service.spec = spec.clone();
            }
            Change::DeleteService(key) => {
                self.find(key)?;
                self.services.retain(|s| s.spec.key != *key);
            }
            Change::Flush => self.services.clear(),
            Change::AddServer { service, server } => {
                let service = self.find_mut(service)?;
                if service.servers.iter().any(|s| s.spec.key == server.key) {
                    return Err(Error::DestinationExists);
                }
                validate::server(&service.spec, server)?;
                service.servers.insert(0, fresh(*server));
            }
            Change::EditServer { service, server } => {
                let service = self.find_mut(service)?;
                if server.lower_threshold > server.upper_threshold {
                    return Err(Error::OutOfRange("lower threshold".into()));
                }
                let found = service
                    .servers
                    .iter_mut()
                    .find(|s| s.spec.key == server.key);
                found.ok_or(Error::NoSuchDestination)?.spec = *server;
            }
            Change::DeleteServer { service, server } => {
                let servers = &mut self.find_mut(service)?.servers;
                let at = servers.iter().position(|s| s.spec.key == *server);
                servers.remove(at.ok_or(Error::NoSuchDestination)?);
            }
            Change::SetTimeouts(change) => self.timeouts = self.timeouts.with(*change),
            Change::Zero { service: Some(key) } => zero(self.find_mut(key)?),
            Change::StartDaemon(spec) => {
                if self.daemons.contains_key(&spec.role) {
                    return Err(Error::DaemonExists);
                }
                if spec.interface != "lo" {
                    return Err(Error::NoSuchInterface(spec.interface.clone()));
                }
                self.daemons.insert(spec.role, spec.over(65536));
            }
            Change::StopDaemon(role) => {
                let stopped = self.daemons.remove(role);
                stopped.ok_or(Error::NoSuchDaemon)?;
            }
            Change::Zero { service: None } => self.services.iter_mut().for_each(zero),
            Change::AddLocalAddress { service, address } => {
                let addresses = &mut self.find_mut(service)?.local_addresses;
                validate::local_address(addresses, *address)?;
                addresses.push(*address);
            }
            Change::DeleteLocalAddress { service, address } => {
                let addresses = &mut self.find_mut(service)?.local_addresses;
                let at = addresses.iter().position(|a| a == address);
                addresses.remove(at.ok_or(Error::NoSuchAddress)?);
            }
            Change::AddMarkRule { .. }
            | Change::DeleteMarkRule { .. }
            | Change::SetMarkRules(_)
            | Change::SetVariable { .. } => unreachable!("ipvsadm asks for none of these"),
        }
        Ok(())
    }
}

fn check_service(spec: &ServiceSpec) -> Result<(), Error> {
    match spec.persistence_engine.as_deref() {
        None | Some("sip") => validate::service(spec),
        Some(engine) => Err(Error::SchedulerNotFound(engine.to_owned())),
    }
}

fn fresh(spec: ServerSpec) -> ServerView {
    ServerView {
        spec,
        active: 0,
        inactive: 0,
        persistent: 0,
        counters: Counters::default(),
        rates: Rates::default(),
    }
}

fn zero(service: &mut ServiceView) {
    service.counters = Counters::default();
    service.rates = Rates::default();
    for server in &mut service.servers {
        server.counters = Counters::default();
        server.rates = Rates::default();
    }
}

/// `TCP C6336402 A028 C0000201 0050 0A00000B 0050 ESTABLISHED 896`, perhaps with the name of a
/// persistence engine and what it found.
pub fn proc_connection(fields: &[&str]) -> ConnectionView {
    let hex = |text| u32::from_str_radix(text, 16).expect("a hexadecimal number");
    let endpoint = |at: usize| {
        let addr = if fields[at].contains(':') {
            fields[at].parse().expect("an IPv6 address")
        } else {
            IpAddr::V4(Ipv4Addr::from_bits(hex(fields[at])))
        };
        SocketAddr::new(addr, hex(fields[at + 1]) as u16)
    };
    let protocol = match fields[0] {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        "IP" => None,
        other => panic!("no connections of {other} are recorded"),
    };
    let client = endpoint(1);
    ConnectionView {
        protocol,
        template: client.port() == 0,
        client,
        virtual_addr: endpoint(3),
        destination: endpoint(5),
        local: None,
        state: match fields[7] {
            "ESTABLISHED" => ConnectionState::Established,
            "UDP" => ConnectionState::Udp,
            "NONE" => ConnectionState::None,
            "ASSURED" => ConnectionState::Assured,
            "INIT" => ConnectionState::Init,
            other => panic!("no connections in state {other} are recorded"),
        },
        expires_secs: fields[8].parse().expect("seconds"),
        engine: fields.get(9).map(|name| EngineData {
            name: (*name).to_owned(),
            data: fields[10].to_owned(),
        }),
        synced: false,
    }
}
