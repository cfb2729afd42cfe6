//! The kernel's own IPVS, read over its generic netlink family `IPVS`: for those who move from it.
//!
//! Nothing is ever written there. What is read becomes values of [`pointsman_model`]; what these
//! cannot say is an error, so that nobody moves half of it. Answers are read as bytes of a
//! stranger: whatever they are, they give values or an error.

mod attributes;
mod family;
mod parse;
mod socket;
#[cfg(test)]
mod tests;

use std::io;

use pointsman_model::{Error as Refusal, ServiceView, Timeouts};
use serde::Serialize;

/// Everything the kernel's IPVS holds in one network namespace, but for connections.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    /// In the kernel's order, which is that of a hash table; servers newest first.
    pub services: Vec<ServiceView>,
    /// Protocol timeouts.
    pub timeouts: Timeouts,
}

/// Why the kernel's IPVS could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none: it is not built in, and its module is not loaded.
    #[error(
        "this kernel has no IPVS: its netlink family is not there (is the module ip_vs loaded?)"
    )]
    NoFamily,
    /// `EPERM`.
    #[error("not allowed to ask the kernel's IPVS (only root may)")]
    Denied,
    /// The kernel refused, or the socket did.
    #[error("the kernel's IPVS could not be asked: {0}")]
    Io(#[source] io::Error),
    /// An answer is not what the family promises.
    #[error("an answer of the kernel's IPVS cannot be read: {0}")]
    Unreadable(String),
    /// The kernel has something that the model has no word for.
    #[error("{object}: {reason}")]
    Foreign {
        /// The service or server, as `ipvsadm` shows it.
        object: String,
        /// What it is.
        reason: Refusal,
    },
}

/// Reads what the kernel's IPVS holds in the network namespace of the calling thread.
///
/// # Errors
/// [`Error::NoFamily`] when the kernel has no IPVS; any other as it says.
pub fn read() -> Result<Snapshot, Error> {
    let mut socket = socket::Socket::open()?;
    let mut services = Vec::new();
    for answer in socket.dump(family::GET_SERVICE, Vec::new())? {
        let mut service = parse::service(&answer)?;
        let which = family::identify(&service.spec.key);
        for answer in socket.dump(family::GET_DEST, which)? {
            service
                .servers
                .push(parse::server(&service.spec.key, &answer)?);
        }
        services.push(service);
    }
    let timeouts = parse::timeouts(&socket.ask(family::GET_CONFIG)?)?;
    Ok(Snapshot { services, timeouts })
}
