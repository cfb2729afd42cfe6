use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a change or a question was refused. Each variant is one errno of the kernel's IPVS, so that
/// `ipvsadm` can print the text its users know (`ipvsadm` words the message by operation).
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "error", content = "detail")]
pub enum Error {
    /// `EEXIST` on a service.
    #[error("service already exists")]
    ServiceExists,
    /// `ESRCH`: the service itself is the object of the command.
    #[error("no such service")]
    NoSuchService,
    /// `ENOENT` on a service: the scheduler or persistence engine is unknown.
    #[error("scheduler or persistence engine not found: {0}")]
    SchedulerNotFound(String),
    /// `EEXIST` on a real server.
    #[error("destination already exists")]
    DestinationExists,
    /// `ENOENT` on a real server.
    #[error("no such destination")]
    NoSuchDestination,
    /// The service has this local address already.
    #[error("local address already exists")]
    AddressExists,
    /// The service does not have this local address.
    #[error("no such local address")]
    NoSuchAddress,
    /// `EEXIST` on a synchronisation daemon.
    #[error("the daemon runs already")]
    DaemonExists,
    /// `ESRCH` on a synchronisation daemon.
    #[error("no such daemon runs")]
    NoSuchDaemon,
    /// `ENODEV`: there is no such interface.
    #[error("no such interface: {0}")]
    NoSuchInterface(String),
    /// `EINVAL`, with what was wrong.
    #[error("invalid: {0}")]
    Invalid(String),
    /// `ERANGE`, with what was out of range.
    #[error("out of range: {0}")]
    OutOfRange(String),
    /// `ENOMEM`: a table of the data plane is full; the text names it and the option that sizes it.
    #[error("no room: {0}")]
    NoRoom(String),
    /// `EAFNOSUPPORT`: the address family cannot be served.
    #[error("address family not supported: {0}")]
    FamilyNotSupported(String),
    /// Understood, but this version of Pointsman does not do it yet; the text names what.
    #[error("not supported yet: {0}")]
    NotSupported(String),
}
