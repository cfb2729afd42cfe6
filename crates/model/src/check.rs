//! A health check as it was configured: what to ask, whom, how often, and what counts as an answer.
//!
//! Plain data. Configuration languages build it, `pointsman-health` carries it out. Two checks that are
//! equal are the same check: over a reload it keeps its state.

mod http;
mod negotiate;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Script;

pub use http::{HttpCheck, HttpProtocol, HttpUrl, RegexCheck, RegexOption, StatusRange};
pub use negotiate::{NegotiateCheck, NegotiateMethod, NegotiateService, Transport};
pub use tls::{Secret, TlsOptions};

/// One check of one real server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Check {
    /// What is asked and what a good answer is.
    pub kind: CheckKind,
    /// Whom, and from where. Kinds that send no packet (script, file, BFD, always) ignore it.
    pub target: ProbeTarget,
    /// When.
    pub pace: Pace,
    /// `alpha`: the server counts as down until the first success.
    pub alpha: bool,
    /// `log_all_failures`: every failed probe is reported, not only the one that takes the server out.
    pub log_all_failures: bool,
}

/// Whom to probe, and from where.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProbeTarget {
    /// RIP, or keepalived's `connect_ip`.
    pub addr: IpAddr,
    /// Port, host order; kinds without ports (ping) ignore it.
    pub port: u16,
    /// Source address (`bindto`).
    pub bind_addr: Option<IpAddr>,
    /// Source port (`bind_port`).
    pub bind_port: Option<u16>,
    /// Interface that packets must leave by (`bind_if`, `SO_BINDTODEVICE`).
    pub interface: Option<String>,
    /// Mark of the probe's packets (`fwmark`, `SO_MARK`); 0 is none.
    pub mark: u32,
    /// The true path: the probe goes to this VIP and port, and the data plane sends it to the real server
    /// `addr`:`port` by the service's own forwarding method, as a client's connection would go. Not
    /// of keepalived.
    pub through: Option<SocketAddr>,
}

impl ProbeTarget {
    /// A target reached by the kernel's own choice of source and route.
    pub fn new(addr: IpAddr, port: u16) -> Self {
        Self {
            addr,
            port,
            bind_addr: None,
            bind_port: None,
            interface: None,
            mark: 0,
            through: None,
        }
    }
}

/// When a check runs and how many failures count.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pace {
    /// Between two probes while the verdict is settled (`delay_loop`, ldirectord's `checkinterval`).
    pub interval: Duration,
    /// Longest wait for each step of the network (`connect_timeout`), or for the whole of a script
    /// (`misc_timeout`) or of one of ldirectord's checks (`checktimeout`, `negotiatetimeout`).
    pub timeout: Duration,
    /// Failures of an *up* server that are forgiven: `retry`, or ldirectord's `failurecount` - 1.
    pub retries: u32,
    /// Pause before each further attempt (`delay_before_retry`); without meaning for
    /// [`Counting::Rounds`].
    pub retry_delay: Duration,
    /// Upper bound of the random delay of the first probe (`warmup`).
    pub warmup: Duration,
    /// Whose rules say when the next probe is due.
    pub counting: Counting,
}

/// Whose rules say what a failure means and when the next probe is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Counting {
    /// keepalived's: an up server that fails is asked again after `retry_delay`, `retries` times. One
    /// that was never asked before is down at its first failure.
    #[default]
    Retries,
    /// ldirectord's: the next probe is due `interval` after the end of this one, whatever it gave;
    /// failures are counted over rounds, those of the first rounds too. No warm-up.
    Rounds,
}

/// What a check asks and what a good answer is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// A connection is accepted (`TCP_CHECK`, ldirectord's `connect`).
    Tcp,
    /// `HTTP_GET`, and `SSL_GET` with [`HttpCheck::tls`].
    Http(HttpCheck),
    /// `SMTP_CHECK`.
    Smtp(SmtpCheck),
    /// `DNS_CHECK`.
    Dns(DnsCheck),
    /// `MISC_CHECK`, ldirectord's `external` and `external-perl`.
    Script(ScriptCheck),
    /// `UDP_CHECK`.
    Udp(UdpCheck),
    /// ICMP echo (`PING_CHECK`, ldirectord's `ping`).
    Ping(PingCheck),
    /// `FILE_CHECK`.
    File(FileCheck),
    /// `BFD_CHECK`: the name of the session.
    Bfd(String),
    /// ldirectord's `negotiate`.
    Negotiate(NegotiateCheck),
    /// ldirectord's `checktype=N`.
    Combined(CombinedCheck),
    /// A verdict without a probe: ldirectord's `on`, or an operator's word.
    Always(bool),
    /// HAProxy's agent-check: a line of text that a program on the server gives.
    Agent(AgentCheck),
    /// No probe: what the server's own traffic tells.
    Passive(PassiveCheck),
}

impl CheckKind {
    /// The checker's name in messages and in status, keepalived's where it has one.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Tcp => "TCP_CHECK",
            Self::Http(http) if http.tls.is_some() => "SSL_GET",
            Self::Http(_) => "HTTP_GET",
            Self::Smtp(_) => "SMTP_CHECK",
            Self::Dns(_) => "DNS_CHECK",
            Self::Script(_) => "MISC_CHECK",
            Self::Udp(_) => "UDP_CHECK",
            Self::Ping(_) => "PING_CHECK",
            Self::File(_) => "FILE_CHECK",
            Self::Bfd(_) => "BFD_CHECK",
            Self::Negotiate(_) => "negotiate",
            Self::Combined(_) => "combined",
            Self::Always(_) => "always",
            Self::Agent(_) => "agent",
            Self::Passive(_) => "passive",
        }
    }
}

/// An SMTP dialogue: greeting 220, `HELO` 250, `QUIT`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SmtpCheck {
    /// What we call ourselves; keepalived says `smtpchecker.keepalived.org`.
    pub helo_name: String,
}

/// A DNS question; any answer with RCODE 0 is good.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DnsCheck {
    /// Name asked for; keepalived's default is the root, `.`.
    pub name: String,
    /// Type asked for; keepalived's default is SOA.
    pub record: DnsRecord,
}

/// Types that `DNS_CHECK` can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names are those of RFC 1035 and RFC 3596")]
pub enum DnsRecord {
    A,
    Ns,
    Cname,
    Soa,
    Mx,
    Txt,
    Aaaa,
}

/// A command whose exit status is the answer: 0 is up; with `dynamic` 2 to 255 are up with a weight.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ScriptCheck {
    /// Command and whose rights it has.
    pub script: Script,
    /// `misc_dynamic`: exit status n of 2..=255 means up with weight n - 2.
    pub dynamic: bool,
}

/// A datagram, and perhaps an answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UdpCheck {
    /// What is sent; `None` sends some random bytes, as keepalived does.
    pub payload: Option<Vec<u8>>,
    /// `None`: silence is good, only an ICMP error is bad. `Some`: an answer must come and agree.
    pub reply: Option<ReplyPattern>,
}

/// Bytes that an answer must begin with, as far as both reach.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReplyPattern {
    /// Wanted bytes.
    pub bytes: Vec<u8>,
    /// Bits of `bytes` that count; as long as `bytes`. keepalived's `x` is a nibble of zeros.
    pub mask: Vec<u8>,
    /// `min_reply_length`, bytes.
    pub min_len: usize,
    /// `max_reply_length`, bytes; keepalived's default is 255.
    pub max_len: usize,
}

/// ICMP echo.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PingCheck {
    /// Requests sent before the probe has failed, each waited for [`Pace::timeout`]: 1 for keepalived,
    /// ldirectord's `checkcount`.
    pub count: u32,
}

/// A number in a file, which an administrator or a program of theirs writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileCheck {
    /// Name of the `track_file`, for messages.
    pub name: String,
    /// The file.
    pub path: std::path::PathBuf,
    /// Multiplies the number; 0: any number but 0 is down.
    pub weight: i32,
    /// The number's sign is turned; with weight 0, the number 0 is down.
    pub reverse: bool,
    /// `dynamic`, kept as configured: the product is added to the server's weight with it or without.
    pub dynamic: bool,
}

/// A negotiate check now and then, and connects between.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CombinedCheck {
    /// The thorough check.
    pub negotiate: NegotiateCheck,
    /// How many connects follow one successful `negotiate`.
    pub connects: u32,
}

/// HAProxy's agent-check: connect, perhaps send a line, read a line of words such as
/// `up 75%`, `drain`, `maxconn:30`, `down # reason`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AgentCheck {
    /// Sent after connecting (`agent-send`).
    pub send: Option<String>,
    /// How the weights it gives are smoothed.
    pub damping: Damping,
}

/// How far a weight follows what the agent says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Damping {
    /// Share of the distance to the new value that one reading moves, in percent, 1..=100; 100 follows
    /// at once.
    pub step: u8,
    /// Changes below this many percent of the configured weight are not made; this keeps
    /// the table still under noise.
    pub deadband: u8,
    /// Without a reading for this long, the weight goes back to the configured one.
    pub stale: Duration,
}

impl Default for Damping {
    fn default() -> Self {
        Self {
            step: 50,
            deadband: 2,
            stale: Duration::from_secs(10),
        }
    }
}

/// When clients' own connections say that a server is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PassiveCheck {
    /// Connections that must fail one after the other, none between them answered.
    pub streak: u32,
    /// How long the server then stays out at first. Each time it falls again soon after its return, twice
    /// as long.
    pub hold: Duration,
    /// Longest of these.
    pub max_hold: Duration,
}

impl Default for PassiveCheck {
    fn default() -> Self {
        Self {
            streak: 10,
            hold: Duration::from_secs(10),
            max_hold: Duration::from_secs(120),
        }
    }
}
