use std::net::SocketAddr;
use std::sync::Arc;

use pointsman_script::Policy;

use crate::BfdSessions;

/// What all checkers of an engine share.
#[derive(Clone, Default)]
pub struct Context {
    /// As whom scripts run, and which are refused.
    pub scripts: Policy,
    /// BFD sessions, which `BFD_CHECK` follows.
    pub bfd: BfdSessions,
    /// How probes find the true path; without it, checks that ask for it are refused.
    pub steering: Option<Arc<dyn Steering>>,
}

/// The true path of probes: who offers it sees to it that packets with a certain mark, sent from this
/// host to a VIP by a certain device, go to one certain real server by the service's own forwarding method, whatever its
/// weight, and whether or not the pool holds it.
pub trait Steering: Send + Sync {
    /// How a probe gets from `vip` to `real`, or `None` where there is no way at present: that says
    /// nothing of the server.
    fn way(&self, vip: SocketAddr, real: SocketAddr) -> Option<Way>;
}

/// What the socket of a probe needs for its true path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// `SO_MARK`.
    pub mark: u32,
    /// `SO_BINDTODEVICE`.
    pub device: Option<&'static str>,
}
