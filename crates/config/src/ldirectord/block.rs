//! A `virtual` block.

use std::num::NonZeroU32;

use pointsman_model::check::{NegotiateMethod, NegotiateService as Service};
use pointsman_model::{Family, Persistence, Protocol, SchedFlags, Scheduler, ServiceKey};

use crate::ipvsadm::sched_flags;

use super::config::{CheckType, Config, Email, Virtual};
use super::global::{
    CHECKCOUNT_DEPRECATED, CONNECTTIMEOUT_GONE, recipients, repeat, smtp, statuses,
};
use super::lex::{Line, Lines, key_and_value};
use super::problem::Fault;
use super::real::with_slash;
use super::value::{
    digits, maybe_quoted, not_blank, number, positive, quoted, run, some_text, word, yes_or_no,
};
use super::virtual_line::{Header, Target};
use super::{Reader, fallback, service};

/// A block while it is read: what depends on the protocol waits for the end of it.
struct Draft<'a> {
    service: Virtual,
    family: Family,
    target: Target,
    protocol: Option<Protocol>,
    named_service: Option<Service>,
    fallback: Option<(Line<'a>, fallback::Unresolved)>,
    reals: Vec<(Line<'a>, String)>,
    sched_flags: Option<(Line<'a>, String)>,
}

impl Reader<'_> {
    /// Reads a block to its end and adds the service, if its header could be understood.
    pub(super) fn block<'a>(
        &mut self,
        line: Line<'a>,
        header: &Header<'_>,
        lines: &mut Lines<'a>,
        config: &mut Config,
    ) {
        let target = self.note(line, header.target());
        if let Some(Target::Mark(mark)) = target
            && header.is_address_taken_for_mark()
        {
            self.warn(
                line,
                format!("an address without a port is taken for the firewall mark {mark}"),
            );
        }
        // Read on after an error, so that the block's lines are not taken for global ones.
        let mut draft = Draft::new(
            line.number,
            header.family,
            target.clone().unwrap_or(Target::Mark(1)),
        );
        while let Some((line, directive)) = lines.inside() {
            let result = self.directive(line, &directive, &mut draft);
            self.note(line, result);
        }
        if target.is_none() {
            return;
        }
        let protocols: Vec<_> = draft.protocol.into_iter().collect();
        if let Some((line, unresolved)) = draft.fallback.take() {
            draft.service.fallback =
                self.resolve_fallback(line, &unresolved, draft.family, &protocols);
        }
        let key = self.key(&draft);
        let Some(key) = self.note(line, key) else {
            return;
        };
        draft.service.key = key;
        draft.service.service = match key {
            ServiceKey::Mark { .. } => draft.named_service.unwrap_or(Service::None),
            ServiceKey::Address { port, .. } => {
                draft.named_service.unwrap_or(service::of_port(port))
            }
        };
        if let Some((line, words)) = draft.sched_flags.take() {
            let scheduler = draft.service.scheduler.name();
            let flags = sched_flags(&words, scheduler).map_err(|_| {
                Fault::new(
                    format!("invalid sched-flags: {words} are not of {scheduler}"),
                    "sh-fallback, sh-port, mh-fallback, mh-port, flag-1, flag-2, flag-3",
                )
            });
            draft.service.sched_flags = self.note(line, flags).unwrap_or_default();
        }
        for (line, value) in std::mem::take(&mut draft.reals) {
            let reals = self.reals(line, &value, draft.family);
            draft.service.reals.extend(reals);
        }
        let mut service = draft.service;
        self.logins(&mut service);
        if config.virtuals.iter().any(|other| other.key == key) {
            let end = Line {
                number: lines.number(),
                ..line
            };
            let fault = Fault::new("duplicate virtual server", "each address and mark once");
            self.problems.push(fault.at(end));
            return;
        }
        config.virtuals.push(service);
    }

    fn key(&self, draft: &Draft<'_>) -> Result<ServiceKey, Fault> {
        match (&draft.target, draft.protocol) {
            (Target::Mark(mark), _) => Ok(ServiceKey::Mark {
                mark: *mark,
                family: draft.family,
            }),
            (Target::Address { host, port }, protocol) => {
                let protocol = protocol.unwrap_or(Protocol::Tcp);
                let addr = self.host(host, draft.family);
                let port = self.port(port, Some(protocol));
                let (Some(addr), Some(port)) = (addr, port) else {
                    return Err(Fault::new(
                        "invalid address for virtual service",
                        "an address and a port, or names that can be resolved",
                    ));
                };
                Ok(ServiceKey::Address {
                    protocol,
                    addr,
                    port,
                })
            }
        }
    }

    /// Who logs in where the file does not say it.
    fn logins(&self, service: &mut Virtual) {
        let us = || format!("ldirectord@{}", self.surroundings.host_name());
        match service.service {
            Service::Ftp => {
                if service.login.is_empty() {
                    service.login = "anonymous".into();
                }
                if service.password.is_empty() {
                    service.password = us();
                }
            }
            Service::Sip if service.login.is_empty() => service.login = us(),
            _ => {}
        }
    }

    fn directive<'a>(
        &mut self,
        line: Line<'a>,
        directive: &str,
        draft: &mut Draft<'a>,
    ) -> Result<(), Fault> {
        let unknown = |hint| {
            Fault::new(format!("Unknown command \"{}\"", line.quoted()), hint)
                .about(directive.trim())
        };
        let Some((key, value)) = key_and_value(directive) else {
            return Err(unknown("KEY = VALUE"));
        };
        let in_quotes = |complaint| match quoted(value) {
            Some(text) => some_text(text, complaint),
            None => Err(unknown("the value in double quotes")),
        };
        let service = &mut draft.service;
        match key {
            "real" | "real6" | "fallback" | "fallback6" => {
                let (key, six) = match key.strip_suffix('6') {
                    Some(key) => (key, true),
                    None => (key, false),
                };
                if six != (draft.family == Family::V6) {
                    let (this, other) = if six { ("6", "") } else { ("", "6") };
                    return Err(Fault::new(
                        format!(
                            "cannot specify \"{key}{this}\" here.  please use \"{key}{other}\" instead"
                        ),
                        "",
                    ));
                }
                match key {
                    "real" => draft.reals.push((line, value.to_owned())),
                    _ => draft.fallback = Some((line, fallback::parse(value)?)),
                }
            }
            "request" => {
                service.request = with_slash(&in_quotes("no request string specified")?);
            }
            "receive" => service.receive = in_quotes("invalid receive string")?,
            "checktype" => service.check_type = check_type(value)?,
            "checkcommand" => {
                service.check_command = some_text(maybe_quoted(value), "invalid check command")?;
            }
            "checktimeout" => {
                service.check_timeout = Some(positive(value, "invalid check timeout")?);
            }
            "connecttimeout" => return Err(Fault::new(CONNECTTIMEOUT_GONE, "negotiatetimeout")),
            "negotiatetimeout" => {
                service.negotiate_timeout = Some(positive(value, "invalid negotiate timeout")?);
            }
            "checkcount" => {
                service.check_count = Some(positive(value, "invalid check count")?);
                self.warn(line, CHECKCOUNT_DEPRECATED);
            }
            "failurecount" => {
                service.failure_count = Some(positive(value, "invalid failure count")?);
            }
            "checkinterval" => {
                service.check_interval = Some(positive(value, "invalid checkinterval")?);
            }
            "checkport" => service.check_port = Some(check_port(value)?),
            "login" => service.login = in_quotes("invalid login string")?,
            "passwd" => service.password = in_quotes("invalid password")?,
            "database" => service.database = in_quotes("invalid database")?,
            "secret" => service.secret = in_quotes("invalid secret")?,
            "load" => {
                let text = in_quotes("invalid string for load testing")?;
                let found = word(&text)
                    .ok_or_else(|| Fault::new("invalid string for load testing", "a word"))?;
                service.load = Some(found.to_owned());
            }
            "scheduler" => service.scheduler = scheduler(value)?,
            "persistent" => {
                let timeout = number(value, "invalid persistent timeout")?;
                let timeout_secs = NonZeroU32::new(timeout);
                service.persistence = timeout_secs.map(|timeout_secs| Persistence { timeout_secs });
            }
            "schedflags" => {
                let flags = not_blank(value)
                    .ok_or_else(|| Fault::new("invalid sched-flags", "flag names"))?;
                draft.sched_flags = Some((line, flags.to_owned()));
            }
            "netmask" => service.netmask = Some(netmask(value, draft.family)?),
            "protocol" => draft.protocol = protocol(value, &draft.target)?,
            "ops" => service.one_packet = yes_or_no(value, key)?,
            "service" => draft.named_service = Some(check_service(value)?),
            "httpmethod" => {
                let method = word(value).unwrap_or_default().to_ascii_uppercase();
                service.http_method = match method.as_str() {
                    "GET" => NegotiateMethod::Get,
                    "HEAD" => NegotiateMethod::Head,
                    _ => return Err(Fault::new("httpmethod must be GET or HEAD", "")),
                };
            }
            "virtualhost" => {
                let host = value.strip_prefix('"').unwrap_or(value);
                let host = host.split('"').next().unwrap_or_default();
                service.virtual_host = Some(host.to_owned());
            }
            "fallbackcommand" => {
                let command = some_text(maybe_quoted(value), "invalid fallback command")?;
                service.fallback_command = Some(command);
            }
            "quiescent" => service.quiescent = Some(yes_or_no(value, key)?),
            "cleanstop" => service.clean_stop = Some(yes_or_no(value, key)?),
            "emailalert" => service.email.to = Some(recipients(value)?),
            "emailalertfreq" => service.email.repeat = Some(repeat(value)?),
            "emailalertstatus" => service.email.statuses = Some(statuses(value)?),
            "smtp" => service.email.smtp = Some(smtp(value)?),
            "monitorfile" => {
                let path = maybe_quoted(value);
                self.surroundings.append(path).map_err(|error| {
                    Fault::new(
                        format!("unable to open monitorfile {path}: {error}"),
                        "a file that can be written",
                    )
                })?;
                service.monitor_file = Some(path.to_owned());
            }
            "servicename" => service.service_name = Some(value.to_owned()),
            "comment" => service.comment = Some(value.to_owned()),
            _ => return Err(unknown("a directive known inside a block")),
        }
        Ok(())
    }
}

impl Draft<'_> {
    fn new(line: usize, family: Family, target: Target) -> Self {
        let key = ServiceKey::Mark { mark: 1, family };
        Self {
            service: Virtual {
                line,
                key,
                reals: Vec::new(),
                check_type: CheckType::Negotiate,
                service: Service::None,
                check_command: "/bin/true".into(),
                check_port: None,
                check_timeout: None,
                negotiate_timeout: None,
                check_interval: None,
                check_count: None,
                failure_count: None,
                request: "/".into(),
                receive: String::new(),
                http_method: NegotiateMethod::Get,
                virtual_host: None,
                login: String::new(),
                password: String::new(),
                database: String::new(),
                secret: String::new(),
                load: None,
                scheduler: Scheduler::Wrr,
                sched_flags: SchedFlags::default(),
                persistence: None,
                netmask: None,
                one_packet: false,
                fallback: None,
                fallback_command: None,
                quiescent: None,
                clean_stop: None,
                email: Email::default(),
                monitor_file: None,
                service_name: None,
                comment: None,
            },
            family,
            protocol: target.protocol(),
            target,
            named_service: None,
            fallback: None,
            reals: Vec::new(),
            sched_flags: None,
        }
    }
}

/// Digits anywhere make it a combined check; else the value begins with a word.
fn check_type(value: &str) -> Result<CheckType, Fault> {
    const COMPLAINT: &str = "checktype must be \"connect\", \"negotiate\", \"on\", \"off\", \
        \"ping\", \"external\", \"external-perl\" or a positive number";
    if digits(value).is_some() {
        return Ok(CheckType::Combined(number(value, COMPLAINT)?));
    }
    let name = run(value, |c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    match name.unwrap_or_default() {
        "negotiate" => Ok(CheckType::Negotiate),
        "connect" => Ok(CheckType::Connect),
        "ping" => Ok(CheckType::Ping),
        "off" => Ok(CheckType::Off),
        "on" => Ok(CheckType::On),
        "external" => Ok(CheckType::External),
        "external-perl" => Ok(CheckType::ExternalPerl),
        _ => Err(Fault::new(COMPLAINT, "")),
    }
}

fn check_port(value: &str) -> Result<u16, Fault> {
    let digits = digits(value).ok_or_else(|| Fault::new("invalid port", "a number"))?;
    let port = digits.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| Fault::new("checkport must be in range 1..65536", "").about(digits))
}

/// The original leaves the name to ipvsadm, which then fails while it runs.
fn scheduler(value: &str) -> Result<Scheduler, Fault> {
    let name = run(value, |c| c.is_ascii_lowercase()).ok_or_else(|| {
        Fault::new(
            "invalid scheduler, should be only lowercase letters (a-z)",
            "",
        )
    })?;
    name.parse().map_err(|_| {
        Fault::new(
            format!("invalid scheduler: {name} is not known"),
            "rr, wrr, lc, wlc, lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh or twos",
        )
        .about(name)
    })
}

/// Kept as text: it counts only with `persistent`, and then it has the form checked here.
fn netmask(value: &str, family: Family) -> Result<String, Fault> {
    match family {
        Family::V6 => {
            let number = (digits(value) == Some(value)).then(|| value.parse().ok());
            match number.flatten() {
                Some(1..=128_u32) => Ok(value.to_owned()),
                _ => Err(Fault::new(
                    "invalid netmask: a prefix length between 1 and 128 is required",
                    "",
                )),
            }
        }
        Family::V4 => match value.parse::<std::net::Ipv4Addr>() {
            Ok(_) => Ok(value.to_owned()),
            Err(_) => Err(Fault::new(
                "invalid netmask: dotted quad notation is required",
                "",
            )),
        },
    }
}

fn protocol(value: &str, target: &Target) -> Result<Option<Protocol>, Fault> {
    let word = word(value).ok_or_else(|| Fault::new("invalid protocol", "tcp, udp or fwm"))?;
    match (target, word) {
        (Target::Mark(_), "fwm") => Ok(None),
        (Target::Mark(_), _) => Err(Fault::new(
            "protocol must be fwm if the virtual service is a fwmark (a number)",
            "",
        )),
        (Target::Address { .. }, "tcp") => Ok(Some(Protocol::Tcp)),
        (Target::Address { .. }, "udp") => Ok(Some(Protocol::Udp)),
        (Target::Address { .. }, _) => Err(Fault::new(
            "protocol must be tcp or udp if the virtual service is an address and port",
            "",
        )),
    }
}

fn check_service(value: &str) -> Result<Service, Fault> {
    word(value).and_then(service::from_name).ok_or_else(|| {
        Fault::new(
            "service must be dns, ftp, http, https, http_proxy, imap, imaps, ldap, ldaps, mysql, \
             nntp, none, oracle, pop, pops, radius, pgsql, simpletcp, sip, smtp or submission",
            "",
        )
    })
}
