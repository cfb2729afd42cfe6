use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;

use pointsman_model::{
    ClientAddress, DaemonRole, DaemonSpec, Error, Persistence, SchedFlags, ServerKey, ServerSpec,
    ServiceKey, ServiceSpec, Timeouts,
};

/// One `ipvsadm` command line, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `-A`.
    AddService(ServiceRule),
    /// `-E`: a full replacement.
    EditService(ServiceRule),
    /// `-D`.
    DeleteService(ServiceKey),
    /// `-C`.
    Flush,
    /// `-R`: rules come on standard input.
    Restore,
    /// `-S`.
    Save {
        /// `-n`: addresses and ports as numbers.
        numeric: bool,
        /// With or without `--json`.
        format: Format,
    },
    /// `-a`.
    AddServer(ServiceKey, ServerSpec),
    /// `-e`: a full replacement.
    EditServer(ServiceKey, ServerSpec),
    /// `-d`.
    DeleteServer(ServiceKey, ServerKey),
    /// `-P`.
    AddLocalAddress(ServiceKey, IpAddr),
    /// `-Q`.
    DeleteLocalAddress(ServiceKey, IpAddr),
    /// `-L`, `-l`.
    List(Listing, Format),
    /// `-Z`: one service with its servers, or everything.
    Zero(Option<ServiceKey>),
    /// `--set`; 0 keeps the present value.
    SetTimeouts(Timeouts),
    /// `--start-daemon`.
    StartDaemon(DaemonRole, DaemonOptions),
    /// `--stop-daemon`.
    StopDaemon(DaemonRole, DaemonOptions),
    /// `-h`.
    Help,
    /// `-v`.
    Version,
}

/// A virtual service as it was typed: as [`ServiceSpec`], but the scheduler is a word, since only
/// the director decides whether it knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRule {
    /// Identity.
    pub key: ServiceKey,
    /// `-s`, cut at 15 bytes as in the kernel's interface.
    pub scheduler: String,
    /// `-b`.
    pub sched_flags: SchedFlags,
    /// `-p`.
    pub persistence: Option<Persistence>,
    /// `-M` of an IPv4 service.
    pub netmask: Ipv4Addr,
    /// `-M` of an IPv6 service.
    pub prefix_len: u8,
    /// `-o`.
    pub one_packet: bool,
    /// `--pe`, cut at 15 bytes.
    pub persistence_engine: Option<String>,
    /// `--toa`, `--proxy-protocol`.
    pub client_address: ClientAddress,
}

impl ServiceRule {
    /// The same in the model's words.
    ///
    /// # Errors
    /// [`Error::SchedulerNotFound`] when there is no such scheduler.
    pub fn spec(&self) -> Result<ServiceSpec, Error> {
        Ok(ServiceSpec {
            key: self.key,
            scheduler: self.scheduler.parse()?,
            sched_flags: self.sched_flags,
            persistence: self.persistence,
            netmask: self.netmask,
            prefix_len: self.prefix_len,
            one_packet: self.one_packet,
            persistence_engine: self.persistence_engine.clone(),
            client_address: self.client_address,
        })
    }
}

/// How a listing is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// As the original does.
    #[default]
    Text,
    /// `--json`, which the original does not have: the values of [`pointsman_model`], whole.
    Json,
}

/// What `-L` is to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listing {
    /// `-c`: the connection table.
    Connections {
        /// `-n`.
        numeric: bool,
        /// `--persistent-conn`: with the columns of persistence engines.
        engines: bool,
    },
    /// `--timeout`.
    Timeouts,
    /// `--daemon`.
    Daemons,
    /// `-G`: local addresses of services, and their connections.
    LocalAddresses {
        /// Only of this one.
        service: Option<ServiceKey>,
        /// `-n`.
        numeric: bool,
    },
    /// Services and their servers.
    Services {
        /// Only this one.
        service: Option<ServiceKey>,
        /// Which columns.
        view: View,
        /// `-n`.
        numeric: bool,
        /// `--exact`: large numbers in full.
        exact: bool,
        /// False with `--nosort`: the director's own order.
        sorted: bool,
    },
}

/// Columns of a listing of services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// Method, weight and connections.
    #[default]
    Plain,
    /// `--stats`.
    Stats,
    /// `--rate`.
    Rate,
    /// `--thresholds`.
    Thresholds,
    /// `--persistent-conn`.
    Persistent,
    /// `--tun-info`.
    Tunnels,
}

/// Options of a synchronisation daemon; `None` where nothing was typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DaemonOptions {
    /// `--syncid`.
    pub syncid: Option<u8>,
    /// `--sync-maxlen`, bytes of a message.
    pub max_len_bytes: Option<NonZeroU16>,
    /// `--mcast-interface`.
    pub interface: Option<String>,
    /// `--mcast-group`.
    pub group: Option<MulticastGroup>,
    /// `--mcast-port`.
    pub port: Option<NonZeroU16>,
    /// `--mcast-ttl`.
    pub ttl: Option<u8>,
}

impl DaemonOptions {
    /// The same in the model's words.
    pub fn spec(&self, role: DaemonRole) -> DaemonSpec {
        DaemonSpec {
            role,
            interface: self.interface.clone().unwrap_or_else(|| "eth0".to_owned()),
            syncid: self.syncid.unwrap_or(0),
            max_len_bytes: self.max_len_bytes,
            group: self.group.map(MulticastGroup::addr),
            port: self.port,
            ttl: self.ttl,
        }
    }
}

/// A multicast address of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MulticastGroup(IpAddr);

impl MulticastGroup {
    /// The group, or `None` when the address is not multicast.
    pub fn new(addr: IpAddr) -> Option<Self> {
        addr.is_multicast().then_some(Self(addr))
    }

    /// The address.
    pub fn addr(self) -> IpAddr {
        self.0
    }
}
