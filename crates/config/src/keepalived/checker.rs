//! Checkers of real servers: what stands in `TCP_CHECK`, `HTTP_GET` and the others, before defaults.

use std::net::IpAddr;
use std::time::Duration;

use pointsman_model::Script;
use pointsman_model::check::{
    AgentCheck, Damping, DnsRecord, HttpProtocol, PassiveCheck, ReplyPattern, SmtpCheck,
};

use super::http::UrlDraft;
use super::keyword::{Args, Keyword, Reader};
use super::lex::Word;
use crate::diag::Place;

/// Timing that a checker has, or inherits from its real server or virtual server.
#[derive(Clone, Copy, Debug, Default)]
pub struct PaceDraft {
    /// `delay_loop`.
    pub delay_loop: Option<Duration>,
    /// `retry`.
    pub retry: Option<u32>,
    /// `delay_before_retry`.
    pub delay_before_retry: Option<Duration>,
    /// `warmup`.
    pub warmup: Option<Duration>,
    /// `connect_timeout`.
    pub connect_timeout: Option<Duration>,
}

impl PaceDraft {
    /// Its own values, and those of `outer` where it has none.
    pub fn or(self, outer: Self) -> Self {
        Self {
            delay_loop: self.delay_loop.or(outer.delay_loop),
            retry: self.retry.or(outer.retry),
            delay_before_retry: self.delay_before_retry.or(outer.delay_before_retry),
            warmup: self.warmup.or(outer.warmup),
            connect_timeout: self.connect_timeout.or(outer.connect_timeout),
        }
    }
}

/// Who is probed, and from where.
#[derive(Clone, Debug, Default)]
pub struct TargetDraft {
    /// `connect_ip`.
    pub addr: Option<IpAddr>,
    /// `connect_port`.
    pub port: Option<u16>,
    /// `bindto`.
    pub bind_addr: Option<IpAddr>,
    /// `bind_port`.
    pub bind_port: Option<u16>,
    /// `bind_if`.
    pub interface: Option<String>,
    /// `fwmark`.
    pub mark: u32,
    /// `true_path`.
    pub true_path: bool,
}

/// A checker as it stands in the file. Each kind uses its own fields.
#[derive(Clone, Debug)]
pub struct CheckDraft {
    /// Where it stands.
    pub at: Place,
    /// Which checker.
    pub kind: Kind,
    /// Timing.
    pub pace: PaceDraft,
    /// Target.
    pub target: TargetDraft,
    /// `alpha`.
    pub alpha: Option<bool>,
    /// `log_all_failures`.
    pub log_all_failures: Option<bool>,
    /// HTTP: urls.
    pub urls: Vec<UrlDraft>,
    /// HTTP: `virtualhost`.
    pub virtualhost: Option<String>,
    /// HTTP: `http_protocol`.
    pub http_protocol: HttpProtocol,
    /// HTTP: `fast_recovery`.
    pub fast_recovery: bool,
    /// TLS: `enable_sni`.
    pub enable_sni: bool,
    /// TLS: `sni_name`.
    pub sni_name: Option<String>,
    /// TLS: `tls_compliant` for all urls.
    pub tls_compliant: bool,
    /// TLS: `tls_verify`.
    pub tls_verify: bool,
    /// SMTP.
    pub smtp: SmtpCheck,
    /// SMTP: targets of `host` blocks, each a checker of its own.
    pub hosts: Vec<(TargetDraft, PaceDraft)>,
    /// DNS: `name`; BFD: `name`.
    pub name: Option<String>,
    /// DNS: `type`.
    pub record: DnsRecord,
    /// MISC: `misc_path` and `user`.
    pub script: Option<Script>,
    /// MISC: `misc_timeout`.
    pub misc_timeout: Option<Duration>,
    /// MISC: `misc_dynamic`; FILE: `dynamic`.
    pub dynamic: bool,
    /// UDP: `payload`.
    pub payload: Option<Vec<u8>>,
    /// UDP: `require_reply`.
    pub reply: Option<ReplyPattern>,
    /// UDP: `min_reply_length`.
    pub min_reply: Option<usize>,
    /// UDP: `max_reply_length`.
    pub max_reply: Option<usize>,
    /// FILE: `track_file`.
    pub track_file: Option<Word>,
    /// FILE: `weight`.
    pub weight: Option<(i32, bool)>,
    /// Agent.
    pub agent: AgentCheck,
    /// Passive.
    pub passive: PassiveCheck,
}

/// Which checker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `TCP_CHECK`
    Tcp,
    /// `HTTP_GET`
    Http,
    /// `SSL_GET`
    Ssl,
    /// `SMTP_CHECK`
    Smtp,
    /// `DNS_CHECK`
    Dns,
    /// `MISC_CHECK`
    Misc,
    /// `UDP_CHECK`
    Udp,
    /// `PING_CHECK`
    Ping,
    /// `FILE_CHECK`
    File,
    /// `BFD_CHECK`
    Bfd,
    /// `AGENT_CHECK`
    Agent,
    /// `PASSIVE_CHECK`
    Passive,
}

impl Kind {
    /// Its keyword.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP_CHECK",
            Self::Http => "HTTP_GET",
            Self::Ssl => "SSL_GET",
            Self::Smtp => "SMTP_CHECK",
            Self::Dns => "DNS_CHECK",
            Self::Misc => "MISC_CHECK",
            Self::Udp => "UDP_CHECK",
            Self::Ping => "PING_CHECK",
            Self::File => "FILE_CHECK",
            Self::Bfd => "BFD_CHECK",
            Self::Agent => "AGENT_CHECK",
            Self::Passive => "PASSIVE_CHECK",
        }
    }

    /// The keywords of its block.
    pub fn keywords(self) -> &'static [&'static [Keyword<CheckDraft>]] {
        match self {
            Self::Tcp => &[PACE, TARGET],
            Self::Http => &[PACE, TARGET, super::http::CHECKER],
            Self::Ssl => &[PACE, TARGET, super::http::CHECKER, super::http::TLS],
            Self::Smtp => &[PACE, TARGET, SMTP],
            Self::Dns => &[PACE, TARGET, DNS],
            Self::Misc => &[PACE, MISC],
            Self::Udp => &[PACE, TARGET, UDP],
            Self::Ping => &[PACE, TARGET],
            Self::File => &[FILE],
            Self::Bfd => &[BFD],
            Self::Agent => &[PACE, TARGET, AGENT],
            Self::Passive => &[PASSIVE],
        }
    }
}

/// Reads the block of a checker.
pub fn read(reader: &mut Reader<'_>, kind: Kind, args: &mut Args<'_>) -> CheckDraft {
    let mut check = CheckDraft::new(kind, args.at());
    reader.block(&mut check, args.block(), kind.keywords(), kind.name());
    check
}

impl CheckDraft {
    fn new(kind: Kind, at: Place) -> Self {
        Self {
            at,
            kind,
            pace: PaceDraft::default(),
            target: TargetDraft::default(),
            alpha: None,
            log_all_failures: None,
            urls: Vec::new(),
            virtualhost: None,
            http_protocol: HttpProtocol::default(),
            fast_recovery: false,
            enable_sni: false,
            sni_name: None,
            tls_compliant: false,
            tls_verify: false,
            smtp: SmtpCheck {
                helo_name: "smtpchecker.keepalived.org".to_owned(),
            },
            hosts: Vec::new(),
            name: None,
            record: DnsRecord::Soa,
            script: None,
            misc_timeout: None,
            dynamic: false,
            payload: None,
            reply: None,
            min_reply: None,
            max_reply: None,
            track_file: None,
            weight: None,
            agent: AgentCheck {
                send: None,
                damping: Damping::default(),
            },
            passive: PassiveCheck::default(),
        }
    }
}

/// Longest time a checker may be told to wait: keepalived's timers end at 2^32 microseconds.
pub const LONGEST: f64 = 4294.967295;

/// What sets timing, wherever it may stand.
macro_rules! pace_keyword {
    (delay_loop) => {
        Keyword::sets("delay_loop", "SECS", |r, d, a| {
            d.pace.delay_loop = r.timer(a, 0.000001..=LONGEST).or(d.pace.delay_loop);
        })
    };
    (retry) => {
        Keyword::sets("retry", "N", |r, d, a| {
            d.pace.retry = r.small(a, 0..=u32::MAX.into()).or(d.pace.retry);
        })
    };
    (delay_before_retry) => {
        Keyword::sets("delay_before_retry", "SECS", |r, d, a| {
            let delay = r.timer(a, 0.0..=LONGEST);
            d.pace.delay_before_retry = delay.or(d.pace.delay_before_retry);
        })
    };
    (warmup) => {
        Keyword::sets("warmup", "SECS", |r, d, a| {
            d.pace.warmup = r.timer(a, 0.0..=LONGEST).or(d.pace.warmup);
        })
    };
    (connect_timeout) => {
        Keyword::sets("connect_timeout", "SECS", |r, d, a| {
            let timeout = r.timer(a, 0.000001..=LONGEST);
            d.pace.connect_timeout = timeout.or(d.pace.connect_timeout);
        })
    };
}
pub(super) use pace_keyword;

const PACE: &[Keyword<CheckDraft>] = &[
    pace_keyword!(delay_loop),
    pace_keyword!(retry),
    pace_keyword!(delay_before_retry),
    pace_keyword!(warmup),
    Keyword::sets("alpha", "[BOOL]", |r, d, a| d.alpha = r.flag(a).or(d.alpha)),
    Keyword::sets("log_all_failures", "[BOOL]", |r, d, a| {
        d.log_all_failures = r.flag(a).or(d.log_all_failures);
    }),
];

/// What names the target, in a checker and in the `host` of an `SMTP_CHECK`.
macro_rules! target_keywords {
    () => {
        &[
            pace_keyword!(connect_timeout),
            Keyword::sets("connect_ip", "IP", |r, d, a| d.target.addr = r.address(a)),
            Keyword::sets("connect_port", "PORT", |r, d, a| {
                d.target.port = r.small(a, 1..=65535)
            }),
            Keyword::sets("bindto", "IP", |r, d, a| d.target.bind_addr = r.address(a)),
            Keyword::sets("bind_port", "PORT", |r, d, a| {
                d.target.bind_port = r.small(a, 1..=65535)
            }),
            Keyword::sets("bind_if", "IF", |r, d, a| {
                if let Some(word) = r.need(a, "an interface") {
                    r.check_interface(word);
                    d.target.interface = Some(word.text.clone());
                }
            }),
            Keyword::sets("fwmark", "N", |r, d, a| {
                d.target.mark = r.small(a, 0..=u32::MAX.into()).unwrap_or(d.target.mark);
            }),
            Keyword::sets("true_path", "[BOOL]", |r, d, a| {
                d.target.true_path = r.flag(a).unwrap_or(d.target.true_path);
            }),
        ]
    };
}

const TARGET: &[Keyword<CheckDraft>] = target_keywords!();

/// A `host` block of an `SMTP_CHECK`.
#[derive(Default)]
pub struct HostDraft {
    target: TargetDraft,
    pace: PaceDraft,
}

/// Its keywords.
pub const HOST: &[Keyword<HostDraft>] = target_keywords!();

const SMTP: &[Keyword<CheckDraft>] = &[
    Keyword::sets("helo_name", "NAME", |r, d, a| {
        d.smtp.helo_name = r.text(a, "a name").unwrap_or_default();
    }),
    Keyword::sets("host", "{ … }", |r, d, a| {
        let mut host = HostDraft::default();
        r.block(&mut host, a.block(), &[HOST], "host");
        d.hosts.push((host.target, host.pace));
    }),
];

const DNS: &[Keyword<CheckDraft>] = &[
    Keyword::sets("name", "NAME", |r, d, a| {
        d.name = r.text(a, "a domain name")
    }),
    Keyword::sets("type", "A|NS|CNAME|SOA|MX|TXT|AAAA", |r, d, a| {
        d.record = r.choice(a, DNS_RECORDS).unwrap_or(d.record);
    }),
];

/// The types a `DNS_CHECK` can ask for.
pub const DNS_RECORDS: &[(&str, DnsRecord)] = &[
    ("A", DnsRecord::A),
    ("NS", DnsRecord::Ns),
    ("CNAME", DnsRecord::Cname),
    ("SOA", DnsRecord::Soa),
    ("MX", DnsRecord::Mx),
    ("TXT", DnsRecord::Txt),
    ("AAAA", DnsRecord::Aaaa),
];

const MISC: &[Keyword<CheckDraft>] = &[
    Keyword::sets("misc_path", "COMMAND", |r, d, a| {
        let user = d.script.take().and_then(|s| s.user);
        d.script = r.script(a).map(|script| Script {
            user: script.user.or(user),
            ..script
        });
    }),
    Keyword::sets("misc_timeout", "SECS", |r, d, a| {
        d.misc_timeout = r.timer(a, 0.000001..=LONGEST);
    }),
    Keyword::sets("misc_dynamic", "[BOOL]", |r, d, a| {
        d.dynamic = r.flag(a).unwrap_or(d.dynamic);
    }),
    Keyword::sets("user", "USER [GROUP]", |r, d, a| {
        // Before the command it is kept in a command without words.
        let user = r.user(a);
        d.script.get_or_insert_with(|| Script::new([""; 0])).user = user;
    }),
];

const UDP: &[Keyword<CheckDraft>] = &[
    Keyword::sets("payload", "HEX", |r, d, a| {
        let at = a.at();
        d.payload = hex(a.rest(), false).map(|(bytes, _)| bytes);
        if d.payload.is_none() {
            r.error(&at, "`payload` expects hexadecimal digits");
        }
    }),
    Keyword::sets("require_reply", "[HEX]", |r, d, a| {
        let at = a.at();
        let pattern = hex(a.rest(), true);
        if pattern.is_none() {
            r.error(
                &at,
                "`require_reply` expects hexadecimal digits, or `x` for any",
            );
        }
        let (bytes, mask) = pattern.unwrap_or_default();
        d.reply = Some(ReplyPattern {
            bytes,
            mask,
            min_len: 0,
            max_len: 255,
        });
    }),
    Keyword::sets("min_reply_length", "N", |r, d, a| {
        d.min_reply = r.small(a, 0..=65535);
    }),
    Keyword::sets("max_reply_length", "N", |r, d, a| {
        d.max_reply = r.small(a, 0..=65535);
    }),
];

const FILE: &[Keyword<CheckDraft>] = &[
    Keyword::sets("track_file", "NAME", |r, d, a| {
        d.track_file = r.need(a, "the name of a track_file").cloned();
    }),
    Keyword::sets("weight", "N [reverse|noreverse]", |r, d, a| {
        let weight = r.small(a, i32::MIN.into()..=i32::MAX.into());
        let reverse = a.take_word("reverse");
        a.take_word("noreverse");
        d.weight = weight.map(|w| (w, reverse));
    }),
    Keyword::sets("dynamic", "[BOOL]", |r, d, a| {
        d.dynamic = r.flag(a).unwrap_or(d.dynamic)
    }),
];

const BFD: &[Keyword<CheckDraft>] = &[
    Keyword::sets("name", "BFD_INSTANCE", |r, d, a| {
        d.name = r.text(a, "the name of a bfd_instance")
    }),
    Keyword::sets("alpha", "[BOOL]", |r, d, a| d.alpha = r.flag(a).or(d.alpha)),
];

const AGENT: &[Keyword<CheckDraft>] = &[
    Keyword::sets("agent_send", "TEXT", |r, d, a| {
        d.agent.send = r.text(a, "a text")
    }),
    Keyword::sets("agent_step", "PERCENT", |r, d, a| {
        let step = r.small(a, 1..=100);
        d.agent.damping.step = step.unwrap_or(d.agent.damping.step);
    }),
    Keyword::sets("agent_deadband", "PERCENT", |r, d, a| {
        let deadband = r.small(a, 0..=100);
        d.agent.damping.deadband = deadband.unwrap_or(d.agent.damping.deadband);
    }),
    Keyword::sets("agent_stale", "SECS", |r, d, a| {
        let stale = r.timer(a, 0.0..=LONGEST);
        d.agent.damping.stale = stale.unwrap_or(d.agent.damping.stale);
    }),
];

const PASSIVE: &[Keyword<CheckDraft>] = &[
    Keyword::sets("streak", "N", |r, d, a| {
        let streak = r.small(a, 1..=u32::MAX.into());
        d.passive.streak = streak.unwrap_or(d.passive.streak);
    }),
    Keyword::sets("hold", "SECS", |r, d, a| {
        let hold = r.timer(a, 0.000001..=LONGEST);
        d.passive.hold = hold.unwrap_or(d.passive.hold);
    }),
    Keyword::sets("max_hold", "SECS", |r, d, a| {
        let hold = r.timer(a, 0.000001..=LONGEST);
        d.passive.max_hold = hold.unwrap_or(d.passive.max_hold);
    }),
];

/// Groups of hexadecimal digits; one of odd length has a 0 before it. With `wild`, `x` stands for any
/// digit. Gives bytes and the bits of them that count.
fn hex(groups: &[Word], wild: bool) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut mask = Vec::new();
    for group in groups.iter().flat_map(|word| word.text.split_whitespace()) {
        let nibbles = group.chars().map(|c| match c {
            'x' | 'X' if wild => Some((0, 0)),
            _ => Some((c.to_digit(16)? as u8, 0xf)),
        });
        let mut nibbles = nibbles.collect::<Option<Vec<_>>>()?;
        if nibbles.len() % 2 == 1 {
            nibbles.insert(0, (0, 0xf));
        }
        for pair in nibbles.chunks_exact(2) {
            bytes.push(pair[0].0 << 4 | pair[1].0);
            mask.push(pair[0].1 << 4 | pair[1].1);
        }
    }
    (wild || !bytes.is_empty()).then_some((bytes, mask))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_groups_are_padded_one_by_one() {
        let words = |text: &str| {
            let place = Place::file("t");
            text.split(' ')
                .map(|w| Word {
                    text: w.to_owned(),
                    at: place.clone(),
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(
            hex(&words("Ab12f 3"), false).unwrap().0,
            [0x0a, 0xb1, 0x2f, 0x03]
        );
        assert_eq!(
            hex(&words("1x xx"), true).unwrap(),
            (vec![0x10, 0x00], vec![0xf0, 0x00])
        );
        assert_eq!(hex(&words("1x"), false), None);
        assert_eq!(hex(&words("é"), true), None);
    }
}
