//! From what stands in the file about a checker to the model: inherited timing, targets, defaults.

use std::net::SocketAddr;
use std::time::Duration;

use pointsman_model::check::{
    CheckKind, DnsCheck, FileCheck, HttpCheck, HttpUrl, PingCheck, ScriptCheck, StatusRange,
    TlsOptions, UdpCheck,
};
use pointsman_model::{Check, Counting, Pace, ProbeTarget, ServerKey};

use super::checker::{CheckDraft, Kind, PaceDraft, TargetDraft};
use super::keyword::Reader;
use super::pool::Surroundings;
use super::real_server::RealDraft;
use super::virtual_server::VirtualDraft;

/// Where a checker stands, and what it inherits.
pub struct CheckContext<'a> {
    /// The virtual server.
    pub draft: &'a VirtualDraft,
    /// The real server.
    pub real: &'a RealDraft,
    /// Where the real server stands in the table.
    pub key: ServerKey,
    /// Where a probe by the true path goes.
    pub vip: Option<SocketAddr>,
    /// The real server's `alpha`.
    pub alpha: bool,
    /// The rest of the file.
    pub around: &'a Surroundings<'a>,
}

impl CheckContext<'_> {
    /// The checks that a checker stands for: one, but for each `host` of an `SMTP_CHECK` another.
    pub fn checks(&self, reader: &mut Reader<'_>, draft: &CheckDraft, checks: &mut Vec<Check>) {
        let Some(kind) = self.kind(reader, draft) else {
            return;
        };
        let mut add = |target: &TargetDraft, pace: PaceDraft, port: u16| {
            let check = Check {
                kind: kind.clone(),
                target: self.target(reader, draft, target, port),
                pace: self.pace(draft, pace),
                // Clients can only tell of a server that is in.
                alpha: draft.kind != Kind::Passive && draft.alpha.unwrap_or(self.alpha),
                log_all_failures: !matches!(draft.kind, Kind::File | Kind::Bfd | Kind::Passive)
                    && draft
                        .log_all_failures
                        .unwrap_or(self.around.log_all_failures),
            };
            checks.push(check);
        };
        if draft.hosts.is_empty() {
            add(&draft.target, draft.pace, self.key.port);
        }
        for (target, pace) in &draft.hosts {
            add(target, pace.or(draft.pace), 25);
        }
    }

    fn target(
        &self,
        reader: &mut Reader<'_>,
        at: &CheckDraft,
        draft: &TargetDraft,
        port: u16,
    ) -> ProbeTarget {
        let is_own = draft.addr.is_none_or(|addr| addr == self.key.addr)
            && draft.port.unwrap_or(port) == self.key.port;
        let why_not = match self.vip {
            _ if !draft.true_path => None,
            _ if at.kind == Kind::Ping => Some("services balance no ICMP echo"),
            _ if !is_own => Some("it leads to the real server's own address and port only"),
            Some(vip) if vip.port() != 0 => None,
            _ => Some("the virtual server has no address and port"),
        };
        if let Some(why) = why_not {
            reader.warn(&at.at, format!("`true_path` is left out: {why}"));
        }
        let through = self.vip.filter(|_| draft.true_path && why_not.is_none());
        ProbeTarget {
            addr: draft.addr.unwrap_or(self.key.addr),
            port: draft.port.unwrap_or(port),
            bind_addr: draft.bind_addr,
            bind_port: draft.bind_port,
            interface: draft.interface.clone(),
            mark: draft.mark,
            through,
        }
    }

    fn pace(&self, draft: &CheckDraft, pace: PaceDraft) -> Pace {
        let pace = match draft.kind {
            // Events, not probes.
            Kind::File | Kind::Bfd | Kind::Passive => PaceDraft::default(),
            _ => pace.or(self.real.pace).or(self.draft.pace),
        };
        let interval = pace.delay_loop.unwrap_or(Duration::from_secs(60));
        let (retries, retry_delay) = match draft.kind {
            Kind::Http | Kind::Ssl => (1, Duration::from_secs(3)),
            Kind::Dns => (3, interval),
            Kind::Misc | Kind::Passive => (0, Duration::from_secs(1)),
            _ => (1, Duration::from_secs(1)),
        };
        let timeout = pace.connect_timeout.unwrap_or(Duration::from_secs(5));
        Pace {
            interval,
            timeout: match draft.kind {
                Kind::Misc => draft.misc_timeout.unwrap_or(interval),
                _ => timeout,
            },
            retries: pace.retry.unwrap_or(retries),
            retry_delay: pace.delay_before_retry.unwrap_or(retry_delay),
            warmup: pace.warmup.unwrap_or(interval),
            counting: Counting::Retries,
        }
    }

    fn kind(&self, reader: &mut Reader<'_>, draft: &CheckDraft) -> Option<CheckKind> {
        let left_out = |reader: &mut Reader<'_>, why: &str| {
            reader.error(
                &draft.at,
                format!("{why}; this {} is left out", draft.kind.name()),
            );
            None
        };
        Some(match draft.kind {
            Kind::Tcp => CheckKind::Tcp,
            Kind::Ping => CheckKind::Ping(PingCheck { count: 1 }),
            Kind::Smtp => CheckKind::Smtp(draft.smtp.clone()),
            Kind::Agent => CheckKind::Agent(draft.agent.clone()),
            Kind::Passive => CheckKind::Passive(draft.passive),
            Kind::Dns => CheckKind::Dns(DnsCheck {
                name: draft.name.clone().unwrap_or_else(|| ".".to_owned()),
                record: draft.record,
            }),
            Kind::Udp => CheckKind::Udp(self.udp(reader, draft)),
            Kind::Http | Kind::Ssl => match self.http(reader, draft) {
                Some(http) => CheckKind::Http(http),
                None => return left_out(reader, "it has no url with a path"),
            },
            Kind::Misc => match draft.script.as_ref().filter(|s| !s.argv.is_empty()) {
                Some(script) => CheckKind::Script(ScriptCheck {
                    script: script.clone(),
                    dynamic: draft.dynamic,
                }),
                None => return left_out(reader, "it has no misc_path"),
            },
            Kind::File => {
                let name = draft.track_file.as_ref();
                let found = name.and_then(|name| {
                    self.around
                        .files
                        .iter()
                        .find(|(file, _)| file.name == name.text)
                });
                let Some((file, weight)) = found else {
                    return left_out(reader, "it names no track_file that is defined before");
                };
                let own = draft.weight;
                let default = (i32::from(weight.points), weight.reverse);
                let (weight, reverse) = own.unwrap_or(default);
                CheckKind::File(FileCheck {
                    name: file.name.clone(),
                    path: file.path.clone(),
                    weight,
                    reverse,
                    dynamic: draft.dynamic,
                })
            }
            Kind::Bfd => match &draft.name {
                Some(name) if self.around.sessions.contains(name) => CheckKind::Bfd(name.clone()),
                _ => return left_out(reader, "it names no bfd_instance that is defined before"),
            },
        })
    }

    fn udp(&self, reader: &mut Reader<'_>, draft: &CheckDraft) -> UdpCheck {
        let mut reply = draft.reply.clone();
        match &mut reply {
            Some(reply) => {
                reply.min_len = draft.min_reply.unwrap_or(reply.min_len);
                reply.max_len = draft.max_reply.unwrap_or(reply.max_len);
                if reply.min_len > reply.max_len {
                    reader.error(
                        &draft.at,
                        "min_reply_length is larger than max_reply_length",
                    );
                    reply.min_len = reply.max_len;
                }
            }
            None if draft.min_reply.is_some() || draft.max_reply.is_some() => {
                reader.warn(
                    &draft.at,
                    "lengths of a reply mean nothing without require_reply",
                );
            }
            None => {}
        }
        UdpCheck {
            payload: draft.payload.clone(),
            reply,
        }
    }

    fn http(&self, reader: &mut Reader<'_>, draft: &CheckDraft) -> Option<HttpCheck> {
        let outer = draft
            .virtualhost
            .as_ref()
            .or(self.real.virtualhost.as_ref())
            .or(self.draft.virtualhost.as_ref());
        let mut urls = Vec::new();
        for url in &draft.urls {
            let Some(path) = url.path.clone() else {
                reader.error(&url.at, "a url needs a `path`; this one is left out");
                continue;
            };
            if url.regex.is_none() && (url.negate || !url.options.is_empty()) {
                reader.error(&url.at, "there are options of a regex, but no `regex`");
            }
            urls.push(HttpUrl {
                path,
                host: url.virtualhost.as_ref().or(outer).cloned(),
                digest: url.digest,
                status: if url.status.is_empty() {
                    vec![StatusRange::SUCCESS]
                } else {
                    url.status.clone()
                },
                regex: url.regex(),
                tls_compliant: url.tls_compliant || draft.tls_compliant,
            });
        }
        let first = urls.first()?;
        let tls = (draft.kind == Kind::Ssl).then(|| TlsOptions {
            sni: match &draft.sni_name {
                Some(name) => Some(name.clone()),
                None if draft.enable_sni => first.host.clone(),
                None => None,
            },
            verify: draft.tls_verify,
            ..self.around.tls.clone()
        });
        Some(HttpCheck {
            urls,
            protocol: draft.http_protocol,
            tls,
            fast_recovery: draft.fast_recovery,
        })
    }
}
