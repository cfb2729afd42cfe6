use pointsman_model::Error;
use thiserror::Error as ThisError;

use super::command::Command;

/// What is wrong with a command line by itself. Displayed, it is the original's message; some end
/// with an empty line.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[allow(missing_docs)]
pub enum UsageError {
    #[error("Try `ipvsadm -h' or 'ipvsadm --help' for more information.")]
    Try,
    #[error("{0}: unknown option")]
    UnknownOption(String),
    #[error("{0}: missing argument")]
    MissingArgument(String),
    #[error("{0}: option does not take an argument")]
    UnwantedArgument(String),
    #[error("invalid option `{0}'")]
    SecondCommand(String),
    #[error("unexpected argument {0}")]
    UnexpectedArgument(String),
    #[error("multiple '{0}' options specified")]
    Repeated(&'static str),
    #[error("Illegal '{option}' option with the '{command}' command")]
    Illegal {
        option: &'static str,
        command: &'static str,
    },
    #[error("You need to supply the '{option}' option for the '{command}' command")]
    Missing {
        option: &'static str,
        command: &'static str,
    },
    #[error(
        "The option '{later}' conflicts with the '{earlier}' option in the '{command}' command"
    )]
    Conflict {
        later: &'static str,
        earlier: &'static str,
        command: &'static str,
    },
    #[error("options conflicts in the list command")]
    ListConflict,
    #[error("Tunnel options conflict with forward method")]
    TunnelWithoutIpip,
    #[error("Illegal '{option}' option with the '{tunnel}' tunnel type")]
    TunnelIllegal {
        option: &'static str,
        tunnel: &'static str,
    },
    #[error("You need to supply the '{option}' option for the '{tunnel}' tunnel type")]
    TunnelMissing {
        option: &'static str,
        tunnel: &'static str,
    },
    #[error(
        "The option '{later}' conflicts with the '{earlier}' option in the '{tunnel}' tunnel type"
    )]
    TunnelConflict {
        later: &'static str,
        earlier: &'static str,
        tunnel: &'static str,
    },
    #[error("illegal virtual server address[:port] specified")]
    VirtualServer,
    #[error("illegal real server address[:port] specified")]
    RealServer,
    #[error("illegal local address specified")]
    LocalAddress,
    #[error("invalid fwmark value `{0}' specified")]
    Fwmark(String),
    #[error("-6 used before -f\n")]
    Ipv6BeforeFwmark,
    #[error("invalid timeout value `{0}' specified")]
    Timeout(String),
    #[error("--set option requires 3 timeout values")]
    ThreeTimeouts,
    #[error("illegal virtual server persistent mask specified")]
    Netmask,
    #[error("illegal ipv6 netmask specified")]
    Ipv6Netmask,
    #[error("illegal weight specified")]
    Weight,
    #[error("illegal u_threshold specified")]
    UThreshold,
    #[error("illegal l_threshold specified")]
    LThreshold,
    #[error("illegal tunnel type specified")]
    TunType,
    #[error("illegal tunnel port specified")]
    TunPort,
    #[error("illegal syncid specified")]
    Syncid,
    #[error("illegal sync-maxlen specified")]
    SyncMaxlen,
    #[error("illegal mcast-port specified")]
    McastPort,
    #[error("illegal mcast-ttl specified")]
    McastTtl,
    #[error("invalid {family} mcast-group `{word}'")]
    McastGroup { family: &'static str, word: String },
    #[error("illegal start-daemon parameter specified")]
    StartDaemon,
    #[error("illegal start_daemon specified")]
    StopDaemon,
    #[error("Zero port specified for non-persistent service")]
    ZeroPort,
    #[error("One-Packet Scheduling is only for UDP virtual services")]
    OnePacket,
    #[error("Different address family is allowed only for tunneling servers")]
    ForeignFamily,
    #[error("invalid scheduler flag `{0}'")]
    SchedFlag(String),
    #[error("incompatible scheduler flag `{0}'")]
    ForeignSchedFlag(String),
}

impl UsageError {
    /// What `ipvsadm` exits with: 255 when the option parser gave up, 2 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Try
            | Self::UnknownOption(_)
            | Self::MissingArgument(_)
            | Self::UnwantedArgument(_) => 255,
            _ => 2,
        }
    }
}

/// How `ipvsadm` words a refusal, which depends on the command: the kernel only gives a number.
///
/// What the kernel could not have said (a full table, something not built yet) says itself.
pub fn refusal(command: &Command, error: &Error) -> String {
    let about_servers = matches!(
        command,
        Command::AddServer(..) | Command::EditServer(..) | Command::DeleteServer(..)
    );
    match error {
        Error::ServiceExists => "Service already exists".to_owned(),
        Error::NoSuchService if about_servers => "Service not defined".to_owned(),
        Error::NoSuchService => "No such service".to_owned(),
        Error::SchedulerNotFound(_) => "Scheduler or persistence engine not found".to_owned(),
        Error::DestinationExists => "Destination already exists".to_owned(),
        Error::NoSuchDestination => "No such destination".to_owned(),
        Error::AddressExists => "Local address already exists".to_owned(),
        Error::NoSuchAddress => "No such local address".to_owned(),
        Error::DaemonExists => "Daemon has already run".to_owned(),
        Error::NoSuchDaemon => "No daemon is running".to_owned(),
        Error::NoSuchInterface(_) => "No such device".to_owned(),
        // The blanks are the original's.
        Error::Invalid(_) => {
            "Invalid operation.  Possibly wrong module version, address not unicast, ...".to_owned()
        }
        Error::OutOfRange(_) => "Numerical result out of range".to_owned(),
        Error::NoRoom(what) => format!("Memory allocation problem: {what}"),
        Error::FamilyNotSupported(_) => {
            "Operation not supported with specified address family".to_owned()
        }
        Error::NotSupported(_) => error.to_string(),
    }
}
