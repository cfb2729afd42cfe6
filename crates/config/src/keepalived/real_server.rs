//! `real_server` and what it shares with `virtual_server`.

use std::num::NonZeroU16;

use pointsman_model::{Encapsulation, Forwarding, Script, TunnelChecksum};

use super::checker::{self, CheckDraft, Kind, LONGEST, PaceDraft, pace_keyword};
use super::keyword::{Args, Keyword, Reader};
use super::lex::Word;
use crate::diag::Place;

/// A real server as it stands in the file.
#[derive(Clone, Debug)]
pub struct RealDraft {
    /// Where it stands.
    pub at: Place,
    /// RIP.
    pub addr: std::net::IpAddr,
    /// Its port, if it names one.
    pub port: Option<u16>,
    /// Weight.
    pub weight: Option<u32>,
    /// Forwarding method.
    pub forwarding: Option<Forwarding>,
    /// Upper threshold.
    pub upper: u32,
    /// Lower threshold.
    pub lower: u32,
    /// `inhibit_on_failure`.
    pub inhibit: Option<bool>,
    /// `notify_up`.
    pub notify_up: Option<Script>,
    /// `notify_down`.
    pub notify_down: Option<Script>,
    /// `alpha`.
    pub alpha: Option<bool>,
    /// Timing.
    pub pace: PaceDraft,
    /// `smtp_alert`.
    pub smtp_alert: Option<bool>,
    /// `virtualhost`.
    pub virtualhost: Option<String>,
    /// Its checkers.
    pub checks: Vec<CheckDraft>,
}

/// `real_server IP [PORT] { … }`.
pub fn read(reader: &mut Reader<'_>, args: &mut Args<'_>) -> Option<RealDraft> {
    let at = args.at();
    let word = reader.need(args, "an IP address")?;
    let port = args.take();
    let block = args.block();
    let addr = reader.address_of(word)?;
    let mut real = RealDraft {
        at,
        addr,
        port: port_or_any(reader, port),
        weight: None,
        forwarding: None,
        upper: 0,
        lower: 0,
        inhibit: None,
        notify_up: None,
        notify_down: None,
        alpha: None,
        pace: PaceDraft::default(),
        smtp_alert: None,
        virtualhost: None,
        checks: Vec::new(),
    };
    reader.block(&mut real, block, &[KEYWORDS, CHECKERS], "real_server");
    Some(real)
}

/// A port behind an address; 0 and nothing both mean any.
pub fn port_or_any(reader: &mut Reader<'_>, word: Option<&Word>) -> Option<u16> {
    let port = reader.number_of(word?, 0..=65535)?;
    u16::try_from(port).ok().filter(|port| *port != 0)
}

/// `lvs_method`: `NAT | FULLNAT | FNAT | DR | TUN [type ipip|gre|gue port N] [nocsum|csum|remcsum]`.
pub fn forwarding(reader: &mut Reader<'_>, args: &mut Args<'_>) -> Option<Forwarding> {
    let known = [
        ("NAT", 0),
        ("FULLNAT", 3),
        ("FNAT", 3),
        ("DR", 1),
        ("TUN", 2),
    ];
    match reader.choice(args, &known)? {
        0 => return Some(Forwarding::Masquerade),
        1 => return Some(Forwarding::Route),
        3 => return Some(Forwarding::FullNat),
        _ => {}
    }
    let mut kind = "ipip";
    let mut port = None;
    let mut checksum = TunnelChecksum::None;
    while let Some(word) = args.take() {
        match word.text.as_str() {
            "type" => {
                let types = [("ipip", "ipip"), ("gue", "gue"), ("gre", "gre")];
                kind = reader.choice(args, &types).unwrap_or(kind);
            }
            "port" => port = reader.small(args, 1..=65535).and_then(NonZeroU16::new),
            "nocsum" => checksum = TunnelChecksum::None,
            "csum" => checksum = TunnelChecksum::Full,
            "remcsum" => checksum = TunnelChecksum::Remote,
            other => {
                reader.error(&word.at, format!("`{other}` is no option of TUN"));
                return None;
            }
        }
    }
    let at = args.at();
    match (kind, port) {
        ("gue", Some(port)) => Some(Forwarding::Tunnel(Encapsulation::Gue { port, checksum })),
        ("gue", None) => {
            reader.error(&at, "a gue tunnel needs `port N`");
            None
        }
        (_, Some(_)) => {
            reader.error(&at, "only a gue tunnel has a port");
            None
        }
        ("gre", None) if checksum == TunnelChecksum::Remote => {
            reader.error(&at, "a gre tunnel has no remcsum");
            None
        }
        ("gre", None) => Some(Forwarding::Tunnel(Encapsulation::Gre { checksum })),
        (_, None) => {
            if checksum != TunnelChecksum::None {
                reader.error(&at, "an ipip tunnel has no checksum");
            }
            Some(Forwarding::Tunnel(Encapsulation::Ipip))
        }
    }
}

/// Keywords of the block, without the checkers.
pub const KEYWORDS: &[Keyword<RealDraft>] = &[
    Keyword::sets("weight", "0-65535", |r, d, a| {
        d.weight = r.small(a, 0..=65535).or(d.weight)
    }),
    Keyword::sets("lvs_method", "NAT|FULLNAT|FNAT|DR|TUN …", |r, d, a| {
        d.forwarding = forwarding(r, a).or(d.forwarding);
    }),
    Keyword::sets("uthreshold", "N", |r, d, a| {
        d.upper = r.small(a, 0..=i32::MAX.into()).unwrap_or(d.upper);
    }),
    Keyword::sets("lthreshold", "N", |r, d, a| {
        d.lower = r.small(a, 0..=i32::MAX.into()).unwrap_or(d.lower);
    }),
    Keyword::sets("inhibit_on_failure", "[BOOL]", |r, d, a| {
        d.inhibit = r.flag(a).or(d.inhibit)
    }),
    Keyword::sets("notify_up", "COMMAND [USER [GROUP]]", |r, d, a| {
        let script = r.script(a);
        r.once(&mut d.notify_up, script, a);
    }),
    Keyword::sets("notify_down", "COMMAND [USER [GROUP]]", |r, d, a| {
        let script = r.script(a);
        r.once(&mut d.notify_down, script, a);
    }),
    Keyword::sets("alpha", "[BOOL]", |r, d, a| d.alpha = r.flag(a).or(d.alpha)),
    pace_keyword!(delay_loop),
    pace_keyword!(retry),
    pace_keyword!(delay_before_retry),
    pace_keyword!(warmup),
    pace_keyword!(connect_timeout),
    Keyword::sets("smtp_alert", "[BOOL]", |r, d, a| {
        d.smtp_alert = r.flag(a).or(d.smtp_alert)
    }),
    Keyword::sets("virtualhost", "HOST", |r, d, a| {
        d.virtualhost = r.text(a, "a host")
    }),
    Keyword::nothing("snmp_name", "NAME", super::global::NO_SNMP),
];

/// Checkers, each a block.
pub const CHECKERS: &[Keyword<RealDraft>] = &[
    checker_keyword("TCP_CHECK", |r, d, a| {
        d.checks.push(checker::read(r, Kind::Tcp, a))
    }),
    checker_keyword("HTTP_GET", |r, d, a| {
        d.checks.push(checker::read(r, Kind::Http, a))
    }),
    checker_keyword("SSL_GET", |r, d, a| {
        d.checks.push(checker::read(r, Kind::Ssl, a))
    }),
    checker_keyword("SMTP_CHECK", |r, d, a| {
        d.checks.push(checker::read(r, Kind::Smtp, a))
    }),
    checker_keyword("DNS_CHECK", |r, d, a| {
        d.checks.push(checker::read(r, Kind::Dns, a))
    }),
    checker_keyword("MISC_CHECK", |r, d, a| {
        d.checks.push(checker::read(r, Kind::Misc, a))
    }),
    checker_keyword("UDP_CHECK", |r, d, a| {
        d.checks.push(checker::read(r, Kind::Udp, a))
    }),
    checker_keyword("PING_CHECK", |r, d, a| {
        d.checks.push(checker::read(r, Kind::Ping, a))
    }),
    checker_keyword("FILE_CHECK", |r, d, a| {
        d.checks.push(checker::read(r, Kind::File, a))
    }),
    checker_keyword("BFD_CHECK", |r, d, a| {
        d.checks.push(checker::read(r, Kind::Bfd, a))
    }),
    checker_keyword("PASSIVE_CHECK", |r, d, a| {
        d.checks.push(checker::read(r, Kind::Passive, a))
    }),
    checker_keyword("AGENT_CHECK", |r, d, a| {
        d.checks.push(checker::read(r, Kind::Agent, a))
    }),
];

type Set = fn(&mut Reader<'_>, &mut RealDraft, &mut Args<'_>);

const fn checker_keyword(name: &'static str, set: Set) -> Keyword<RealDraft> {
    Keyword::sets(name, "{ … }", set)
}
