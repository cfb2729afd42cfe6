//! One command line, from words to a [`Command`].
//!
//! The order in which mistakes are found is part of what users see: first option by option, in the
//! order typed; then the words of `--set` and left-over words; scheduler flags; what the command
//! takes; and at last what the values mean together.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::{NonZeroU16, NonZeroU32};

use pointsman_model::{
    ClientAddress, DaemonRole, Encapsulation, Family, Forwarding, Persistence, Protocol,
    SchedFlags, ServerKey, ServerSpec, ServiceKey, Timeouts, TunnelChecksum, Weight,
};

use super::address;
use super::check::{self, TunnelType};
use super::command::{Command, DaemonOptions, Format, Listing, MulticastGroup, ServiceRule, View};
use super::messages::UsageError;
use super::names::Names;
use super::options::{Given, Kind, Meaning, Verb, Words};

/// Longest timeout the tool lets pass: 31 days.
const TIMEOUT_MAX: i64 = 2_678_400;
/// Seconds of `-p` without a value.
const PERSISTENCE_DEFAULT: NonZeroU32 = NonZeroU32::new(360).expect("not zero");
/// Scheduler of `-A` without `-s`.
const SCHEDULER_DEFAULT: &str = "wlc";
/// Bytes of a scheduler's or persistence engine's name in the kernel's interface.
const NAME_BYTES: usize = 15;

/// Reads the words of a command line, the program's name left out. No word at all asks for the
/// list.
///
/// # Errors
/// [`UsageError`] for the first mistake, as the original finds it.
pub fn parse(words: &[String], names: &dyn Names) -> Result<Command, UsageError> {
    if words.is_empty() {
        return Ok(Command::List(
            Listing::Services {
                service: None,
                view: View::Plain,
                numeric: false,
                exact: false,
                sorted: true,
            },
            Format::Text,
        ));
    }
    let mut words = Words::new(words);
    let (verb, word) = match words.option() {
        Ok(Some(Given {
            meaning: Meaning::Verb(verb),
            value,
        })) => (verb, value),
        _ => return Err(UsageError::Try),
    };
    let mut typed = Typed::new(names);
    match verb {
        Verb::Help => return Ok(Command::Help),
        Verb::Version => return Ok(Command::Version),
        Verb::StartDaemon => {
            typed.role = Some(daemon_role(word).ok_or(UsageError::StartDaemon)?);
        }
        Verb::StopDaemon => {
            typed.role = Some(daemon_role(word).ok_or(UsageError::StopDaemon)?);
        }
        _ => {}
    }
    while let Some(given) = words.option()? {
        if let Meaning::Verb(_) = given.meaning {
            return Err(UsageError::SecondCommand(words.last()));
        }
        typed.take(given)?;
    }
    if verb == Verb::Set {
        typed.timeouts = set_values(&mut words)?;
    }
    if let Some(word) = words.positional() {
        return Err(UsageError::UnexpectedArgument(word.to_owned()));
    }
    typed.sched_flags = sched_flags(&typed.sched_words, &typed.scheduler)?;
    check::command(verb, &typed.given)?;
    typed.command(verb)
}

/// Everything typed so far, with the defaults of what was not.
struct Typed<'a> {
    names: &'a dyn Names,
    given: BTreeSet<Kind>,
    service: Option<ServiceKey>,
    scheduler: String,
    sched_words: String,
    sched_flags: SchedFlags,
    persistence: Option<Persistence>,
    netmask: Ipv4Addr,
    prefix_len: u8,
    engine: Option<String>,
    server: Option<(IpAddr, u16)>,
    local_address: Option<IpAddr>,
    method: Method,
    tunnel: TunnelType,
    tunnel_port: Option<NonZeroU16>,
    weight: Weight,
    upper_threshold: u32,
    lower_threshold: u32,
    timeouts: Timeouts,
    role: Option<DaemonRole>,
    daemon: DaemonOptions,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Gatewaying,
    Ipip,
    Masquerading,
    FullNat,
}

impl<'a> Typed<'a> {
    fn new(names: &'a dyn Names) -> Self {
        Self {
            names,
            given: BTreeSet::new(),
            service: None,
            scheduler: SCHEDULER_DEFAULT.to_owned(),
            sched_words: String::new(),
            sched_flags: SchedFlags::default(),
            persistence: None,
            netmask: Ipv4Addr::BROADCAST,
            prefix_len: 128,
            engine: None,
            server: None,
            local_address: None,
            method: Method::Gatewaying,
            tunnel: TunnelType::default(),
            tunnel_port: None,
            weight: Weight::DEFAULT,
            upper_threshold: 0,
            lower_threshold: 0,
            timeouts: Timeouts {
                tcp: 0,
                tcp_fin: 0,
                udp: 0,
            },
            role: None,
            daemon: DaemonOptions::default(),
        }
    }

    fn take(&mut self, given: Given) -> Result<(), UsageError> {
        let value = given.value.as_deref();
        let text = value.unwrap_or_default();
        match given.meaning {
            Meaning::Verb(_) | Meaning::Sort => Ok(()),
            Meaning::TcpService => self.take_service(Protocol::Tcp, text),
            Meaning::UdpService => self.take_service(Protocol::Udp, text),
            Meaning::SctpService => self.take_service(Protocol::Sctp, text),
            Meaning::FwmarkService => self.take_mark(text),
            Meaning::Ipv6 => self.take_ipv6(),
            Meaning::Gatewaying => self.take_method(Method::Gatewaying),
            Meaning::Ipip => self.take_method(Method::Ipip),
            Meaning::Masquerading => self.take_method(Method::Masquerading),
            Meaning::FullNat => self.take_method(Method::FullNat),
            Meaning::Plain(kind) => {
                self.note(kind)?;
                self.take_plain(kind, value)
            }
        }
    }

    /// Each kind of option may be given once.
    fn note(&mut self, kind: Kind) -> Result<(), UsageError> {
        if self.given.insert(kind) {
            Ok(())
        } else {
            Err(UsageError::Repeated(kind.name()))
        }
    }

    fn take_service(&mut self, protocol: Protocol, text: &str) -> Result<(), UsageError> {
        self.note(Kind::ServiceAddress)?;
        let (addr, port) =
            address::endpoint(text, Some(protocol), self.names).ok_or(UsageError::VirtualServer)?;
        self.service = Some(ServiceKey::Address {
            protocol,
            addr,
            port: port.unwrap_or(0),
        });
        if addr.is_ipv6() {
            self.prefix_len = 128;
        }
        Ok(())
    }

    fn take_mark(&mut self, text: &str) -> Result<(), UsageError> {
        self.note(Kind::ServiceAddress)?;
        let mark = within(text, 1..=u32::MAX).ok_or_else(|| UsageError::Fwmark(text.into()))?;
        self.service = Some(ServiceKey::Mark {
            mark,
            family: Family::V4,
        });
        Ok(())
    }

    fn take_ipv6(&mut self) -> Result<(), UsageError> {
        match &mut self.service {
            Some(ServiceKey::Mark { family, .. }) => *family = Family::V6,
            _ => return Err(UsageError::Ipv6BeforeFwmark),
        }
        self.prefix_len = 128;
        Ok(())
    }

    fn take_method(&mut self, method: Method) -> Result<(), UsageError> {
        self.note(Kind::ForwardingMethod)?;
        self.method = method;
        Ok(())
    }

    fn take_plain(&mut self, kind: Kind, value: Option<&str>) -> Result<(), UsageError> {
        let text = value.unwrap_or_default();
        match kind {
            Kind::Scheduler if text.is_empty() => {}
            Kind::Scheduler => self.scheduler = cut(text),
            Kind::SchedFlags => self.sched_words = text.to_owned(),
            Kind::Pe => self.engine = (!text.is_empty()).then(|| cut(text)),
            Kind::Persistent => {
                let timeout_secs = match value {
                    None => PERSISTENCE_DEFAULT,
                    Some(text) => within(text, 1..=TIMEOUT_MAX)
                        .and_then(NonZeroU32::new)
                        .ok_or_else(|| UsageError::Timeout(text.into()))?,
                };
                self.persistence = Some(Persistence { timeout_secs });
            }
            Kind::Netmask => self.take_netmask(text)?,
            Kind::RealServer => {
                let (addr, port) = address::endpoint(text, self.protocol(), self.names)
                    .ok_or(UsageError::RealServer)?;
                let port = port.unwrap_or_else(|| self.service.map_or(0, |s| s.port()));
                self.server = Some((addr, port));
            }
            Kind::LocalAddress => {
                let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
                let addr = match bare.unwrap_or(text).parse() {
                    Ok(addr) => addr,
                    Err(_) => self
                        .names
                        .host_addr(text)
                        .map(IpAddr::V4)
                        .ok_or(UsageError::LocalAddress)?,
                };
                self.local_address = Some(addr);
            }
            Kind::Weight => {
                self.weight = within(text, 0..=i32::MAX)
                    .and_then(Weight::new)
                    .ok_or(UsageError::Weight)?;
            }
            Kind::UThreshold => {
                self.upper_threshold = within(text, 0..=i32::MAX).ok_or(UsageError::UThreshold)?;
            }
            Kind::LThreshold => {
                self.lower_threshold = within(text, 0..=i32::MAX).ok_or(UsageError::LThreshold)?;
            }
            Kind::TunType => {
                self.tunnel = TunnelType::from_name(text).ok_or(UsageError::TunType)?;
            }
            Kind::TunPort => self.tunnel_port = Some(port(text).ok_or(UsageError::TunPort)?),
            Kind::Syncid => {
                let syncid = within(text, 0..=u8::MAX).ok_or(UsageError::Syncid)?;
                self.daemon.syncid = Some(syncid);
            }
            Kind::SyncMaxlen => {
                let len = within(text, 1..=65507_u16)
                    .and_then(NonZeroU16::new)
                    .ok_or(UsageError::SyncMaxlen)?;
                self.daemon.max_len_bytes = Some(len);
            }
            Kind::McastInterface => self.daemon.interface = Some(cut(text)),
            Kind::McastGroup => self.daemon.group = Some(multicast_group(text)?),
            Kind::McastPort => self.daemon.port = Some(port(text).ok_or(UsageError::McastPort)?),
            Kind::McastTtl => {
                let ttl = within(text, 1..=u8::MAX).ok_or(UsageError::McastTtl)?;
                self.daemon.ttl = Some(ttl);
            }
            Kind::Numeric
            | Kind::Connection
            | Kind::ServiceAddress
            | Kind::ForwardingMethod
            | Kind::Timeout
            | Kind::Daemon
            | Kind::Stats
            | Kind::Rate
            | Kind::Thresholds
            | Kind::PersistentConn
            | Kind::Nosort
            | Kind::Exact
            | Kind::Json
            | Kind::Toa
            | Kind::ProxyProtocol
            | Kind::Ops
            | Kind::TunInfo
            | Kind::TunNocsum
            | Kind::TunCsum
            | Kind::TunRemcsum => {}
        }
        Ok(())
    }

    /// The family known so far decides how a mask is read.
    fn take_netmask(&mut self, text: &str) -> Result<(), UsageError> {
        match self.service.map_or(Family::V4, |s| s.family()) {
            Family::V4 => self.netmask = address::inet_aton(text).ok_or(UsageError::Netmask)?,
            Family::V6 => {
                self.prefix_len = within(text, 1..=128).ok_or(UsageError::Ipv6Netmask)?;
            }
        }
        Ok(())
    }

    /// Whose port names `-r` may use: those of the service, if it came before; a firewall mark
    /// counts as TCP.
    fn protocol(&self) -> Option<Protocol> {
        self.service.map(|service| match service {
            ServiceKey::Address { protocol, .. } => protocol,
            ServiceKey::Mark { .. } => Protocol::Tcp,
        })
    }

    fn command(self, verb: Verb) -> Result<Command, UsageError> {
        // Where a service or a server is required, the check of options has seen it.
        let service = self.service;
        let required = || service.expect("the command's options were checked");
        Ok(match verb {
            Verb::AddService => Command::AddService(self.rule(required())?),
            Verb::EditService => Command::EditService(self.rule(required())?),
            Verb::DeleteService => Command::DeleteService(required()),
            Verb::Flush => Command::Flush,
            Verb::List => Command::List(self.listing()?, self.format()),
            Verb::Zero => Command::Zero(service),
            Verb::AddServer => Command::AddServer(required(), self.server(required())?),
            Verb::EditServer => Command::EditServer(required(), self.server(required())?),
            Verb::DeleteServer => Command::DeleteServer(required(), self.server_key()),
            Verb::AddLocalAddress => Command::AddLocalAddress(required(), self.local_address()),
            Verb::DeleteLocalAddress => {
                Command::DeleteLocalAddress(required(), self.local_address())
            }
            Verb::ListLocalAddresses => Command::List(
                Listing::LocalAddresses {
                    service,
                    numeric: self.has(Kind::Numeric),
                },
                self.format(),
            ),
            Verb::Set => Command::SetTimeouts(self.timeouts),
            Verb::StartDaemon => Command::StartDaemon(self.daemon_role(), self.daemon),
            Verb::StopDaemon => Command::StopDaemon(self.daemon_role(), self.daemon),
            Verb::Restore => Command::Restore,
            Verb::Save => Command::Save {
                numeric: self.has(Kind::Numeric),
                format: self.format(),
            },
            Verb::Help => Command::Help,
            Verb::Version => Command::Version,
        })
    }

    fn format(&self) -> Format {
        if self.has(Kind::Json) {
            Format::Json
        } else {
            Format::Text
        }
    }

    fn has(&self, kind: Kind) -> bool {
        self.given.contains(&kind)
    }

    fn daemon_role(&self) -> DaemonRole {
        self.role
            .expect("the word after a daemon command was read first")
    }

    fn rule(self, key: ServiceKey) -> Result<ServiceRule, UsageError> {
        let one_packet = self.has(Kind::Ops);
        let client_address = match (self.has(Kind::Toa), self.has(Kind::ProxyProtocol)) {
            (true, _) => ClientAddress::Toa,
            (_, true) => ClientAddress::ProxyProtocol,
            _ => ClientAddress::Hidden,
        };
        if let ServiceKey::Address { protocol, port, .. } = key {
            if port == 0 && self.persistence.is_none() {
                return Err(UsageError::ZeroPort);
            }
            if one_packet && protocol != Protocol::Udp {
                return Err(UsageError::OnePacket);
            }
        }
        Ok(ServiceRule {
            key,
            scheduler: self.scheduler,
            sched_flags: self.sched_flags,
            persistence: self.persistence,
            netmask: self.netmask,
            prefix_len: self.prefix_len,
            one_packet,
            client_address,
            persistence_engine: self.engine,
        })
    }

    fn local_address(&self) -> IpAddr {
        self.local_address
            .expect("the command's options were checked")
    }

    fn server_key(&self) -> ServerKey {
        let (addr, port) = self.server.expect("the command's options were checked");
        ServerKey { addr, port }
    }

    fn server(&self, service: ServiceKey) -> Result<ServerSpec, UsageError> {
        let mut key = self.server_key();
        let either = matches!(self.method, Method::Ipip | Method::FullNat);
        if !either && Family::from(key.addr) != service.family() {
            return Err(UsageError::ForeignFamily);
        }
        let forwarding = match self.method {
            Method::Ipip => Forwarding::Tunnel(self.encapsulation()?),
            _ if Kind::ALL
                .into_iter()
                .any(|k| k >= Kind::TunType && self.has(k)) =>
            {
                return Err(UsageError::TunnelWithoutIpip);
            }
            Method::Gatewaying => Forwarding::Route,
            Method::Masquerading => Forwarding::Masquerade,
            Method::FullNat => Forwarding::FullNat,
        };
        // Only NAT can change the port.
        if let (ServiceKey::Address { port, .. }, false) = (
            service,
            matches!(self.method, Method::Masquerading | Method::FullNat),
        ) {
            key.port = port;
        }
        Ok(ServerSpec {
            key,
            forwarding,
            weight: self.weight,
            upper_threshold: self.upper_threshold,
            lower_threshold: self.lower_threshold,
        })
    }

    fn encapsulation(&self) -> Result<Encapsulation, UsageError> {
        check::tunnel(self.tunnel, &self.given)?;
        let checksum = if self.has(Kind::TunRemcsum) {
            TunnelChecksum::Remote
        } else if self.has(Kind::TunCsum) {
            TunnelChecksum::Full
        } else {
            TunnelChecksum::None
        };
        Ok(match (self.tunnel, self.tunnel_port) {
            (TunnelType::Gue, Some(port)) => Encapsulation::Gue { port, checksum },
            (TunnelType::Gue, None) => unreachable!("the tunnel's options were checked"),
            (TunnelType::Gre, _) => Encapsulation::Gre { checksum },
            (TunnelType::Ipip, _) => Encapsulation::Ipip,
        })
    }

    fn listing(&self) -> Result<Listing, UsageError> {
        let numeric = self.has(Kind::Numeric);
        let columns = [Kind::Stats, Kind::Rate, Kind::Thresholds]
            .iter()
            .any(|&k| self.has(k));
        let engines = self.has(Kind::PersistentConn);
        let (timeouts, daemons) = (self.has(Kind::Timeout), self.has(Kind::Daemon));
        let connections = self.has(Kind::Connection);
        if (columns && (connections || timeouts || daemons)) || (engines && (timeouts || daemons)) {
            return Err(UsageError::ListConflict);
        }
        if connections {
            return Ok(Listing::Connections { numeric, engines });
        }
        if timeouts {
            return Ok(Listing::Timeouts);
        }
        if daemons {
            return Ok(Listing::Daemons);
        }
        let view = [
            (Kind::Stats, View::Stats),
            (Kind::Rate, View::Rate),
            (Kind::Thresholds, View::Thresholds),
            (Kind::PersistentConn, View::Persistent),
            (Kind::TunInfo, View::Tunnels),
        ]
        .into_iter()
        .find(|&(kind, _)| self.has(kind))
        .map_or(View::Plain, |(_, view)| view);
        Ok(Listing::Services {
            service: self.service,
            view,
            numeric,
            exact: self.has(Kind::Exact),
            sorted: !self.has(Kind::Nosort),
        })
    }
}

/// A decimal number within the bounds, in the type that the bounds fit.
fn within<B, T>(text: &str, bounds: std::ops::RangeInclusive<B>) -> Option<T>
where
    B: Copy + Into<i64>,
    T: TryFrom<i64>,
{
    let number = address::number(text, (*bounds.start()).into(), (*bounds.end()).into())?;
    T::try_from(number).ok()
}

fn port(text: &str) -> Option<NonZeroU16> {
    within(text, 1..=u16::MAX).and_then(NonZeroU16::new)
}

fn cut(name: &str) -> String {
    name[..name.floor_char_boundary(NAME_BYTES)].to_owned()
}

fn daemon_role(word: Option<String>) -> Option<DaemonRole> {
    match word.as_deref() {
        Some("master") => Some(DaemonRole::Master),
        Some("backup") => Some(DaemonRole::Backup),
        _ => None,
    }
}

fn multicast_group(text: &str) -> Result<MulticastGroup, UsageError> {
    let (family, addr) = if text.contains(':') {
        ("IPv6", text.parse::<Ipv6Addr>().map(IpAddr::V6))
    } else {
        ("IPv4", text.parse::<Ipv4Addr>().map(IpAddr::V4))
    };
    addr.ok()
        .and_then(MulticastGroup::new)
        .ok_or_else(|| UsageError::McastGroup {
            family,
            word: text.to_owned(),
        })
}

fn set_values(words: &mut Words<'_>) -> Result<Timeouts, UsageError> {
    let mut next = || words.positional().ok_or(UsageError::ThreeTimeouts);
    let typed = [next()?, next()?, next()?];
    let mut values = [0_u32; 3];
    for (value, text) in values.iter_mut().zip(typed) {
        *value = within(text, 0..=TIMEOUT_MAX).ok_or_else(|| UsageError::Timeout(text.into()))?;
    }
    let [tcp, tcp_fin, udp] = values;
    Ok(Timeouts { tcp, tcp_fin, udp })
}

/// Flags by name, separated by commas; some names are of one scheduler only.
pub(crate) fn sched_flags(words: &str, scheduler: &str) -> Result<SchedFlags, UsageError> {
    let mut flags = SchedFlags::default();
    for word in words.split(',').filter(|word| !word.is_empty()) {
        let (of, flag) = match word {
            "flag-1" => (None, SchedFlags::FLAG_1),
            "flag-2" => (None, SchedFlags::FLAG_2),
            "flag-3" => (None, SchedFlags::FLAG_3),
            "sh-fallback" => (Some("sh"), SchedFlags::FLAG_1),
            "sh-port" => (Some("sh"), SchedFlags::FLAG_2),
            "mh-fallback" => (Some("mh"), SchedFlags::FLAG_1),
            "mh-port" => (Some("mh"), SchedFlags::FLAG_2),
            _ => return Err(UsageError::SchedFlag(word.to_owned())),
        };
        if of.is_some_and(|of| of != scheduler) {
            return Err(UsageError::ForeignSchedFlag(word.to_owned()));
        }
        flags = flags | flag;
    }
    Ok(flags)
}
