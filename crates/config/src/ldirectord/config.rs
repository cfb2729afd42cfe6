//! What a file says, typed; inherited values are asked for by methods of [`Config`].

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use pointsman_model::check::{NegotiateMethod, NegotiateService};
use pointsman_model::{
    Forwarding, Persistence, Protocol, SchedFlags, Scheduler, ServerKey, ServiceKey, Weight,
};

/// A whole file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// What holds for all of it, and what virtual services inherit.
    pub globals: Globals,
    /// Virtual services in the order of the file; no two of one key.
    pub virtuals: Vec<Virtual>,
}

/// Directives outside the blocks. Times in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Globals {
    /// `checktimeout`.
    pub check_timeout: Option<u32>,
    /// `negotiatetimeout`.
    pub negotiate_timeout: Option<u32>,
    /// `checkinterval`: pause after a round of checks.
    pub check_interval: u32,
    /// `checkcount`: attempts of a ping.
    pub check_count: u32,
    /// `failurecount`: failures in a row until a server is down.
    pub failure_count: u32,
    /// `autoreload`.
    pub auto_reload: bool,
    /// `callback`, run as `CALLBACK FILE` when the file has changed.
    pub callback: Option<String>,
    /// `fallback`.
    pub fallback: Option<Fallback>,
    /// `fallback6`.
    pub fallback6: Option<Fallback>,
    /// `fallbackcommand`, as it stands: the shell takes quotes away.
    pub fallback_command: Option<String>,
    /// `logfile`.
    pub log: Log,
    /// Mails of virtual services that say nothing else.
    pub email: Email,
    /// `emailalertfrom`.
    pub email_from: Option<String>,
    /// `execute`: other files, each with a daemon of its own.
    pub execute: Vec<String>,
    /// `supervised`: in the foreground, without pid file.
    pub supervised: bool,
    /// `fork`: a process for each virtual service, in the original.
    pub fork: bool,
    /// `quiescent`: a failed server stays with weight 0. The original's manual says yes, its code no.
    pub quiescent: bool,
    /// `readdquiescent`.
    pub readd_quiescent: bool,
    /// `cleanstop`: services are removed at the end.
    pub clean_stop: bool,
    /// `maintenancedir`.
    pub maintenance_dir: Option<String>,
}

impl Default for Globals {
    fn default() -> Self {
        Self {
            check_timeout: None,
            negotiate_timeout: None,
            check_interval: 10,
            check_count: 1,
            failure_count: 1,
            auto_reload: false,
            callback: None,
            fallback: None,
            fallback6: None,
            fallback_command: None,
            log: Log::default(),
            email: Email::default(),
            email_from: None,
            execute: Vec::new(),
            supervised: false,
            fork: false,
            quiescent: false,
            readd_quiescent: false,
            clean_stop: true,
            maintenance_dir: None,
        }
    }
}

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Log {
    /// A file, opened anew for each line.
    File(String),
    /// A facility of syslog.
    Facility(String),
}

impl Default for Log {
    fn default() -> Self {
        Self::File("/var/log/ldirectord.log".into())
    }
}

/// Mails: what a virtual service does not say is the global value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Email {
    /// `emailalert`: recipients, as they stand.
    pub to: Option<String>,
    /// `emailalertfreq`, seconds; 0 for never again.
    pub repeat: Option<u32>,
    /// `emailalertstatus`.
    pub statuses: Option<Statuses>,
    /// `smtp`: the server; without one the local mail command.
    pub smtp: Option<String>,
}

/// A phase of the daemon's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DaemonStatus {
    /// From the start to the end of the first round of checks.
    Starting,
    /// Afterwards.
    Running,
    /// At the end.
    Stopping,
    /// While a new configuration is taken.
    Reloading,
}

impl DaemonStatus {
    /// Its name, in files and mails.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Reloading => "reloading",
        }
    }
}

/// A set of [`DaemonStatus`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statuses(u8);

impl Statuses {
    /// Every phase.
    pub const ALL: Self = Self(0b1111);

    /// Adds a phase.
    pub fn add(&mut self, status: DaemonStatus) {
        self.0 |= 1 << status as u8;
    }

    /// Whether a phase is in it.
    pub fn has(self, status: DaemonStatus) -> bool {
        self.0 & (1 << status as u8) != 0
    }
}

/// The server that answers while no real one is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallback {
    /// Address.
    pub addr: IpAddr,
    /// Port for TCP, and of a virtual service's own fallback; `None` for the service's.
    pub tcp_port: Option<u16>,
    /// Port for UDP: a named port may differ.
    pub udp_port: Option<u16>,
    /// Forwarding method.
    pub forwarding: Forwarding,
}

/// `checktype`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckType {
    /// A conversation in the protocol of `service`.
    Negotiate,
    /// A TCP connection; a ping for UDP.
    Connect,
    /// ICMP echo.
    Ping,
    /// No check, and no change.
    Off,
    /// Always up.
    On,
    /// `checkcommand`.
    External,
    /// `checkcommand`, which is a Perl program.
    ExternalPerl,
    /// A negotiate check, then this many connects.
    Combined(u32),
}

/// A virtual service: a `virtual` block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Virtual {
    /// Line of `virtual =`, counted from 1.
    pub line: usize,
    /// What it is to IPVS.
    pub key: ServiceKey,
    /// Real servers, ranges spelled out, in the order of the file.
    pub reals: Vec<Real>,
    /// `checktype`.
    pub check_type: CheckType,
    /// `service`, else by the port.
    pub service: NegotiateService,
    /// `checkcommand`.
    pub check_command: String,
    /// `checkport`.
    pub check_port: Option<u16>,
    /// `checktimeout`.
    pub check_timeout: Option<u32>,
    /// `negotiatetimeout`.
    pub negotiate_timeout: Option<u32>,
    /// `checkinterval`; counts with `fork = yes` only.
    pub check_interval: Option<u32>,
    /// `checkcount`.
    pub check_count: Option<u32>,
    /// `failurecount`.
    pub failure_count: Option<u32>,
    /// `request`, beginning with `/`.
    pub request: String,
    /// `receive`: a regular expression; empty for anything.
    pub receive: String,
    /// `httpmethod`.
    pub http_method: NegotiateMethod,
    /// `virtualhost`.
    pub virtual_host: Option<String>,
    /// `login`.
    pub login: String,
    /// `passwd`.
    pub password: String,
    /// `database`.
    pub database: String,
    /// `secret`.
    pub secret: String,
    /// `load`; without effect, as in the original.
    pub load: Option<String>,
    /// `scheduler`.
    pub scheduler: Scheduler,
    /// `schedflags`.
    pub sched_flags: SchedFlags,
    /// `persistent`.
    pub persistence: Option<Persistence>,
    /// `netmask`, as it stands; counts with `persistent` only.
    pub netmask: Option<String>,
    /// `ops`; counts for UDP only.
    pub one_packet: bool,
    /// `fallback`, `fallback6`.
    pub fallback: Option<Fallback>,
    /// `fallbackcommand`.
    pub fallback_command: Option<String>,
    /// `quiescent`.
    pub quiescent: Option<bool>,
    /// `cleanstop`.
    pub clean_stop: Option<bool>,
    /// Mails.
    pub email: Email,
    /// `monitorfile`.
    pub monitor_file: Option<String>,
    /// `servicename`.
    pub service_name: Option<String>,
    /// `comment`.
    pub comment: Option<String>,
}

/// A real server: a line `real`, or one address of its range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Real {
    /// Its line, counted from 1.
    pub line: usize,
    /// Address and port; port 0 where the line has none.
    pub key: ServerKey,
    /// Forwarding method.
    pub forwarding: Forwarding,
    /// Weight while it is up.
    pub weight: Weight,
    /// Its own request and receive, instead of the virtual service's.
    pub question: Option<(String, String)>,
    /// `l:`, as `ipvsadm -y`.
    pub lower_threshold: u32,
    /// `u:`, as `ipvsadm -x`.
    pub upper_threshold: u32,
}

impl Virtual {
    /// TCP or UDP; `None` for a firewall mark.
    pub fn protocol(&self) -> Option<Protocol> {
        match self.key {
            ServiceKey::Address { protocol, .. } => Some(protocol),
            ServiceKey::Mark { .. } => None,
        }
    }
}

impl Config {
    /// How long a connect, ping or external check may take: of four values and a default the first
    /// that is set.
    pub fn check_timeout(&self, service: &Virtual) -> Duration {
        seconds(
            service
                .check_timeout
                .or(service.negotiate_timeout)
                .or(self.globals.check_timeout)
                .or(self.globals.negotiate_timeout)
                .unwrap_or(5),
        )
    }

    /// How long a negotiate check may take: the same four in another order.
    pub fn negotiate_timeout(&self, service: &Virtual) -> Duration {
        seconds(
            service
                .negotiate_timeout
                .or(service.check_timeout)
                .or(self.globals.negotiate_timeout)
                .or(self.globals.check_timeout)
                .unwrap_or(30),
        )
    }

    /// The pause between checks.
    pub fn check_interval(&self, service: &Virtual) -> Duration {
        let own = service.check_interval.filter(|_| self.globals.fork);
        seconds(own.unwrap_or(self.globals.check_interval))
    }

    /// Attempts of a ping.
    pub fn check_count(&self, service: &Virtual) -> u32 {
        service.check_count.unwrap_or(self.globals.check_count)
    }

    /// Failures in a row until a server is down.
    pub fn failure_count(&self, service: &Virtual) -> u32 {
        service.failure_count.unwrap_or(self.globals.failure_count)
    }

    /// Whether a failed server stays with weight 0.
    pub fn quiescent(&self, service: &Virtual) -> bool {
        service.quiescent.unwrap_or(self.globals.quiescent)
    }

    /// Whether a stop removes the service.
    pub fn clean_stop(&self, service: &Virtual) -> bool {
        service.clean_stop.unwrap_or(self.globals.clean_stop)
    }

    /// The command that is told when the last server goes and when the first comes.
    pub fn fallback_command<'a>(&'a self, service: &'a Virtual) -> Option<&'a str> {
        let own = service.fallback_command.as_deref();
        own.or(self.globals.fallback_command.as_deref())
    }

    /// The server that answers while no real one is up: its own, else the global one of its family.
    ///
    /// For a firewall mark the original has no address for a global one; here it has.
    pub fn fallback(&self, service: &Virtual) -> Option<(ServerKey, Forwarding)> {
        let global = if service.key.family() == pointsman_model::Family::V4 {
            self.globals.fallback
        } else {
            self.globals.fallback6
        };
        let fallback = service.fallback.or(global)?;
        let port = match service.protocol() {
            Some(Protocol::Udp) => fallback.udp_port,
            _ => fallback.tcp_port,
        };
        let key = ServerKey {
            addr: fallback.addr,
            port: port.unwrap_or(service.key.port()),
        };
        Some((key, fallback.forwarding))
    }

    /// How its mails go; every value is there.
    pub fn email(&self, service: &Virtual) -> Email {
        let (own, global) = (&service.email, &self.globals.email);
        Email {
            to: own.to.clone().or_else(|| global.to.clone()),
            repeat: own.repeat.or(global.repeat).or(Some(0)),
            statuses: own.statuses.or(global.statuses).or(Some(Statuses::ALL)),
            smtp: own.smtp.clone().or_else(|| global.smtp.clone()),
        }
    }
}

fn seconds(number: u32) -> Duration {
    Duration::from_secs(number.into())
}
