//! Which options a command, and a kind of tunnel, takes.

use std::collections::BTreeSet;

use super::messages::UsageError;
use super::options::{Kind, Verb};

/// What a table says of one option.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    Illegal,
    Optional,
    Required,
    /// One of a group that excludes its other members.
    Exclusive,
}

/// Checks the options given with a command.
pub(super) fn command(verb: Verb, given: &BTreeSet<Kind>) -> Result<(), UsageError> {
    let command = verb.name();
    let mut chosen: Option<Kind> = None;
    for kind in Kind::ALL {
        let option = kind.name();
        match (command_rule(verb, kind), given.contains(&kind)) {
            (Rule::Illegal, true) => return Err(UsageError::Illegal { option, command }),
            (Rule::Required, false) => return Err(UsageError::Missing { option, command }),
            (Rule::Exclusive, true) => {
                if let Some(earlier) = chosen {
                    let earlier = earlier.name();
                    return Err(UsageError::Conflict {
                        later: option,
                        earlier,
                        command,
                    });
                }
                chosen = Some(kind);
            }
            _ => {}
        }
    }
    Ok(())
}

fn command_rule(verb: Verb, kind: Kind) -> Rule {
    use Kind as K;
    match (verb, kind) {
        (Verb::AddService | Verb::EditService, K::ServiceAddress) => Rule::Required,
        (
            Verb::AddService | Verb::EditService,
            K::Scheduler | K::Persistent | K::Netmask | K::Ops | K::Pe | K::SchedFlags,
        ) => Rule::Optional,
        (Verb::AddService | Verb::EditService, K::Toa | K::ProxyProtocol) => Rule::Exclusive,
        (Verb::AddLocalAddress | Verb::DeleteLocalAddress, K::ServiceAddress | K::LocalAddress) => {
            Rule::Required
        }
        (Verb::ListLocalAddresses, K::ServiceAddress | K::Numeric | K::Json) => Rule::Optional,
        (Verb::DeleteService, K::ServiceAddress) => Rule::Required,
        (Verb::Save, K::Numeric | K::Json) => Rule::Optional,
        (Verb::Zero, K::ServiceAddress) => Rule::Optional,
        (Verb::List, K::Connection | K::ServiceAddress | K::Timeout | K::Daemon) => Rule::Exclusive,
        (
            Verb::List,
            K::Numeric
            | K::Stats
            | K::Rate
            | K::Thresholds
            | K::PersistentConn
            | K::Nosort
            | K::Syncid
            | K::Exact
            | K::Json
            | K::TunInfo,
        ) => Rule::Optional,
        (
            Verb::AddServer | Verb::EditServer | Verb::DeleteServer,
            K::ServiceAddress | K::RealServer,
        ) => Rule::Required,
        (
            Verb::AddServer | Verb::EditServer,
            K::ForwardingMethod
            | K::Weight
            | K::UThreshold
            | K::LThreshold
            | K::TunType
            | K::TunPort
            | K::TunNocsum
            | K::TunCsum
            | K::TunRemcsum,
        ) => Rule::Optional,
        (
            Verb::StartDaemon,
            K::Syncid
            | K::McastInterface
            | K::McastGroup
            | K::McastPort
            | K::McastTtl
            | K::SyncMaxlen,
        ) => Rule::Optional,
        (Verb::StopDaemon, K::Syncid) => Rule::Optional,
        _ => Rule::Illegal,
    }
}

/// Kinds of tunnels, as `--tun-type` names them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TunnelType {
    #[default]
    Ipip,
    Gue,
    Gre,
}

impl TunnelType {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::Ipip, Self::Gue, Self::Gre]
            .into_iter()
            .find(|t| t.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ipip => "ipip",
            Self::Gue => "gue",
            Self::Gre => "gre",
        }
    }

    fn rule(self, kind: Kind) -> Rule {
        match (self, kind) {
            (Self::Gue, Kind::TunPort) => Rule::Required,
            (Self::Gue, Kind::TunNocsum | Kind::TunCsum | Kind::TunRemcsum)
            | (Self::Gre, Kind::TunNocsum | Kind::TunCsum) => Rule::Exclusive,
            _ => Rule::Illegal,
        }
    }
}

/// Checks the options given with a tunnel of some type.
pub(super) fn tunnel(tunnel: TunnelType, given: &BTreeSet<Kind>) -> Result<(), UsageError> {
    let mut chosen: Option<Kind> = None;
    for kind in [
        Kind::TunPort,
        Kind::TunNocsum,
        Kind::TunCsum,
        Kind::TunRemcsum,
    ] {
        let (option, name) = (kind.name(), tunnel.name());
        match (tunnel.rule(kind), given.contains(&kind)) {
            (Rule::Illegal, true) => {
                return Err(UsageError::TunnelIllegal {
                    option,
                    tunnel: name,
                });
            }
            (Rule::Required, false) => {
                return Err(UsageError::TunnelMissing {
                    option,
                    tunnel: name,
                });
            }
            (Rule::Exclusive, true) => {
                if let Some(earlier) = chosen {
                    return Err(UsageError::TunnelConflict {
                        later: option,
                        earlier: earlier.name(),
                        tunnel: name,
                    });
                }
                chosen = Some(kind);
            }
            _ => {}
        }
    }
    Ok(())
}
