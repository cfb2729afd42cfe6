use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::Protocol;

/// State of a connection, named as `ipvsadm -Lc` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ConnectionState {
    /// No packet decided yet.
    None,
    /// TCP.
    Established,
    /// TCP.
    SynSent,
    /// TCP.
    SynRecv,
    /// TCP.
    FinWait,
    /// TCP.
    TimeWait,
    /// TCP.
    Close,
    /// TCP.
    CloseWait,
    /// TCP.
    LastAck,
    /// TCP.
    Listen,
    /// TCP, only with secure_tcp.
    Synack,
    /// UDP's one state.
    Udp,
}

impl ConnectionState {
    /// The word of the listing.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::FinWait => "FIN_WAIT",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::Synack => "SYNACK",
            Self::Udp => "UDP",
        }
    }
}

/// One entry of the connection table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionView {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Client address and port.
    pub client: SocketAddr,
    /// VIP and virtual port.
    pub virtual_addr: SocketAddr,
    /// Real server address and port.
    pub destination: SocketAddr,
    /// State.
    pub state: ConnectionState,
    /// Whole seconds until it lapses if no packet comes.
    pub expires_secs: u32,
}
