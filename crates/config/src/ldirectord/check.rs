//! What a real server is asked, as a check of the model.

use std::net::IpAddr;
use std::time::Duration;

use pointsman_model::check::{
    CombinedCheck, NegotiateCheck, NegotiateService, PingCheck, ScriptCheck, Secret, Transport,
};
use pointsman_model::{
    Check, CheckKind, Counting, Pace, ProbeTarget, Protocol, Script, ServiceKey,
};

use super::config::{CheckType, Config, Real, Virtual};

impl Config {
    /// The check of a real server; none for `off`, which never changes anything.
    ///
    /// Where neither the real server nor the service has a port, it is asked at port 0, which
    /// nothing answers: the original does the same.
    pub fn check(&self, service: &Virtual, real: &Real) -> Option<Check> {
        let (kind, timeout) = self.kind(service, real)?;
        Some(Check {
            kind,
            target: ProbeTarget::new(real.key.addr, service.checked_port(real).unwrap_or(0)),
            pace: Pace {
                interval: self.check_interval(service),
                timeout,
                retries: self.failure_count(service).saturating_sub(1),
                retry_delay: Duration::ZERO,
                warmup: Duration::ZERO,
                counting: Counting::Rounds,
            },
            alpha: true,
            log_all_failures: false,
        })
    }

    fn kind(&self, service: &Virtual, real: &Real) -> Option<(CheckKind, Duration)> {
        let check = self.check_timeout(service);
        // The original limits these by the other timeout.
        let negotiate = match service.service {
            NegotiateService::Ldap | NegotiateService::Ldaps | NegotiateService::Radius => check,
            _ => self.negotiate_timeout(service),
        };
        Some(match service.check_type {
            CheckType::Off => return None,
            CheckType::On => (CheckKind::Always(true), check),
            CheckType::Connect if service.protocol() == Some(Protocol::Udp) => {
                (self.ping(service), check)
            }
            CheckType::Connect => (CheckKind::Tcp, check),
            CheckType::Ping => (self.ping(service), check),
            CheckType::External => (external(service, real, &[]), check),
            CheckType::ExternalPerl => (external(service, real, &["perl"]), check),
            CheckType::Negotiate => (CheckKind::Negotiate(question(service, real)), negotiate),
            CheckType::Combined(connects) => {
                let negotiate_check = question(service, real);
                let combined = CombinedCheck {
                    negotiate: negotiate_check,
                    connects,
                };
                (CheckKind::Combined(combined), negotiate)
            }
        })
    }

    fn ping(&self, service: &Virtual) -> CheckKind {
        let count = self.check_count(service);
        CheckKind::Ping(PingCheck { count })
    }
}

fn question(service: &Virtual, real: &Real) -> NegotiateCheck {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let (request, receive) = service.question(real);
    NegotiateCheck {
        request: some(request.strip_prefix('/').unwrap_or(request)),
        receive: some(receive),
        login: some(&service.login),
        passwd: some(&service.password).map(Secret::new),
        database: some(&service.database),
        secret: some(&service.secret).map(Secret::new),
        method: service.http_method,
        virtualhost: service.virtual_host.clone(),
        transport: match service.protocol() {
            Some(Protocol::Udp) => Transport::Udp,
            // A mark says nothing, and names are asked for by UDP unless TCP is said.
            None if service.service == NegotiateService::Dns => Transport::Udp,
            _ => Transport::Tcp,
        },
        ..NegotiateCheck::new(service.service)
    }
}

/// The command with VIP (or mark), virtual port, RIP and real port after it; IPv6 in brackets.
///
/// As in the original no shell is asked, and the whole value is the program: it has no arguments of
/// its own.
fn external(service: &Virtual, real: &Real, before: &[&str]) -> CheckKind {
    let bracketed = |addr| match addr {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    };
    let vip = match service.key {
        ServiceKey::Address { addr, .. } => bracketed(addr),
        ServiceKey::Mark { mark, .. } => mark.to_string(),
    };
    let program = before
        .iter()
        .copied()
        .chain([service.check_command.as_str()]);
    let script = Script::new(program).with_args([
        vip,
        service.key.port().to_string(),
        bracketed(real.key.addr),
        real.key.port.to_string(),
    ]);
    CheckKind::Script(ScriptCheck {
        script,
        dynamic: false,
    })
}
