use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    DaemonRole, DaemonSpec, MarkRule, ServerKey, ServerSpec, ServiceKey, ServiceSpec, Timeouts,
    Variable,
};

/// One change to what the director does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// `ipvsadm -A`.
    AddService(ServiceSpec),
    /// `ipvsadm -E`: a full replacement, what is omitted returns to its default.
    EditService(ServiceSpec),
    /// `ipvsadm -D`.
    DeleteService(ServiceKey),
    /// `ipvsadm -C`.
    Flush,
    /// `ipvsadm -a`.
    AddServer {
        /// The service it joins.
        service: ServiceKey,
        /// The server.
        server: ServerSpec,
    },
    /// `ipvsadm -e`: a full replacement.
    EditServer {
        /// The service it belongs to.
        service: ServiceKey,
        /// The server.
        server: ServerSpec,
    },
    /// `ipvsadm -d`.
    DeleteServer {
        /// The service it belongs to.
        service: ServiceKey,
        /// The server.
        server: ServerKey,
    },
    /// `ipvsadm -P`: the service's servers by FULLNAT may see clients as this address of the director.
    AddLocalAddress {
        /// The service.
        service: ServiceKey,
        /// LIP, of the family of the servers that are to see it.
        address: IpAddr,
    },
    /// `ipvsadm -Q`: no new connections by this address; what is established goes on.
    DeleteLocalAddress {
        /// The service.
        service: ServiceKey,
        /// LIP.
        address: IpAddr,
    },
    /// `ipvsadm --set`: 0 keeps the present value.
    SetTimeouts(Timeouts),
    /// `ipvsadm -Z`: one service with its servers, or everything.
    Zero {
        /// `None` for everything.
        service: Option<ServiceKey>,
    },
    /// Insert a mark rule as number `at`, counted from 1, or at the end.
    AddMarkRule {
        /// Its number, once it is there.
        #[serde(default)]
        at: Option<usize>,
        /// The rule.
        rule: MarkRule,
    },
    /// Remove a mark rule.
    DeleteMarkRule {
        /// Its number, counted from 1.
        at: usize,
    },
    /// Replace all mark rules at once.
    SetMarkRules(Vec<MarkRule>),
    /// `sysctl net.ipv4.vs.…=…`.
    SetVariable {
        /// Which.
        name: Variable,
        /// Its value, as text.
        value: String,
    },
    /// `ipvsadm --start-daemon`.
    StartDaemon(DaemonSpec),
    /// `ipvsadm --stop-daemon`.
    StopDaemon(DaemonRole),
}

impl Change {
    /// The service, and the server in it, that a change is about; `None` for what is about all.
    pub fn object(&self) -> Option<(ServiceKey, Option<ServerKey>)> {
        match self {
            Self::AddService(spec) | Self::EditService(spec) => Some((spec.key, None)),
            Self::DeleteService(key) => Some((*key, None)),
            Self::AddServer { service, server } | Self::EditServer { service, server } => {
                Some((*service, Some(server.key)))
            }
            Self::DeleteServer { service, server } => Some((*service, Some(*server))),
            Self::AddLocalAddress { service, .. } | Self::DeleteLocalAddress { service, .. } => {
                Some((*service, None))
            }
            Self::Zero { service } => service.map(|key| (key, None)),
            Self::Flush
            | Self::SetTimeouts(_)
            | Self::AddMarkRule { .. }
            | Self::DeleteMarkRule { .. }
            | Self::SetMarkRules(_)
            | Self::SetVariable { .. }
            | Self::StartDaemon(_)
            | Self::StopDaemon(_) => None,
        }
    }
}
