use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{Protocol, ServiceKey};

/// State of a connection, named as `ipvsadm -Lc` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ConnectionState {
    /// No packet decided yet; a persistence template that nothing confirmed.
    None,
    /// A persistence template whose client was heard of in both directions.
    Assured,
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
    /// SCTP: first INIT.
    Init1,
    /// SCTP: INIT again.
    Init,
    /// SCTP: INIT-ACK by the server.
    #[serde(rename = "C-SENT")]
    CookieSent,
    /// SCTP: COOKIE-ECHO by the client.
    #[serde(rename = "C-REPLIED")]
    CookieReplied,
    /// SCTP: INIT by the server.
    #[serde(rename = "C-WAIT")]
    CookieWait,
    /// SCTP: INIT-ACK by the client.
    Cookie,
    /// SCTP: COOKIE-ECHO by the server.
    #[serde(rename = "C-ECHOED")]
    CookieEchoed,
    /// SCTP.
    #[serde(rename = "S-SENT")]
    ShutdownSent,
    /// SCTP.
    #[serde(rename = "S-RECEIVED")]
    ShutdownReceived,
    /// SCTP.
    #[serde(rename = "S-ACK-SENT")]
    ShutdownAckSent,
    /// SCTP: ABORT in answer to the first INIT.
    Rejected,
    /// SCTP.
    Closed,
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
            Self::Assured => "ASSURED",
            Self::Init1 => "INIT1",
            Self::Init => "INIT",
            Self::CookieSent => "C-SENT",
            Self::CookieReplied => "C-REPLIED",
            Self::CookieWait => "C-WAIT",
            Self::Cookie => "COOKIE",
            Self::CookieEchoed => "C-ECHOED",
            Self::ShutdownSent => "S-SENT",
            Self::ShutdownReceived => "S-RECEIVED",
            Self::ShutdownAckSent => "S-ACK-SENT",
            Self::Rejected => "REJECTED",
            Self::Closed => "CLOSED",
        }
    }
}

/// One entry of the connection table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionView {
    /// Transport protocol; `None` for templates of firewall marks, which hold for every protocol.
    pub protocol: Option<Protocol>,
    /// A persistence template: it says where new connections of a client go.
    #[serde(default)]
    pub template: bool,
    /// Client address and port; of a template, the client's network and 0.
    pub client: SocketAddr,
    /// VIP and virtual port. A template of a firewall mark has the mark in place of the address, as
    /// `0.0.0.7:0`.
    pub virtual_addr: SocketAddr,
    /// Real server address and port.
    pub destination: SocketAddr,
    /// By FULLNAT: address and port of the director that the server sees as the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<SocketAddr>,
    /// State.
    pub state: ConnectionState,
    /// Whole seconds until it lapses if no packet comes.
    pub expires_secs: u32,
    /// What a persistence engine made of the packet that a template came from.
    #[serde(default)]
    pub engine: Option<EngineData>,
    /// Learned from another director, not from packets.
    #[serde(default)]
    pub synced: bool,
}

impl ConnectionView {
    /// Whether it is by FULLNAT, of a service, and by a local address. A service of a firewall mark has
    /// every connection by its addresses.
    pub fn goes_by(&self, service: &ServiceKey, address: IpAddr) -> bool {
        let of = match *service {
            ServiceKey::Address {
                protocol,
                addr,
                port,
            } => {
                self.protocol == Some(protocol)
                    && self.virtual_addr.ip() == addr
                    && (port == 0 || self.virtual_addr.port() == port)
            }
            ServiceKey::Mark { .. } => true,
        };
        of && self.local.is_some_and(|local| local.ip() == address)
    }
}

/// The persistence engine of a template, and what it found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineData {
    /// Its name: `sip`.
    pub name: String,
    /// What identifies the client in its place: of `sip`, the Call-ID, at most 255 characters.
    pub data: String,
}
