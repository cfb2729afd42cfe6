use crate::{ServerKey, ServiceKey};

/// What became of clients' handshakes with one real server, as the data plane counts them. Numbers only
/// grow, and wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshakes {
    /// Begun: clients' first SYNs.
    pub begun: u32,
    /// Completed by the client's ACK.
    pub answered: u32,
    /// Ended by the server's RST, where the director sees it.
    pub refused: u32,
    /// Of `begun`, those after the last that was completed.
    pub begun_since: u32,
    /// Of `refused`, those after the last that was completed.
    pub refused_since: u32,
    /// How long the completed ones took, in ticks of the kernel, added up.
    pub waited: u32,
}

/// The handshakes of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerHandshakes {
    /// Its service.
    pub service: ServiceKey,
    /// Which one.
    pub server: ServerKey,
    /// Where they are counted: in another place, counts are others.
    pub place: u32,
    /// The counts.
    pub counts: Handshakes,
}
