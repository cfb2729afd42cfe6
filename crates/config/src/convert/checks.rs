//! ldirectord's checks in keepalived's words.

use std::time::Duration;

use pointsman_model::check::{
    HttpCheck, HttpProtocol, HttpUrl, NegotiateMethod, NegotiateService, RegexCheck, SmtpCheck,
    StatusRange, TlsOptions,
};
use pointsman_model::{Check, CheckKind, Counting};

/// The nearest check that keepalived has, and how it differs.
pub(super) fn nearest(check: Check) -> (Check, Option<String>) {
    let mut check = check;
    let mut remark = None;
    check.kind = match check.kind.clone() {
        CheckKind::Negotiate(negotiate) => {
            let plain = |remark: &mut Option<String>| {
                *remark = Some(format!(
                    "a {} check became a plain connection (TCP_CHECK)",
                    word(negotiate.service)
                ));
                CheckKind::Tcp
            };
            match negotiate.service {
                NegotiateService::Http | NegotiateService::Https => {
                    if negotiate.method == NegotiateMethod::Head {
                        remark = Some("httpmethod=HEAD became GET".into());
                    }
                    let path = negotiate.request.unwrap_or_default();
                    CheckKind::Http(HttpCheck {
                        urls: vec![HttpUrl {
                            path: format!("/{}", path.trim_start_matches('/')),
                            host: negotiate.virtualhost,
                            digest: None,
                            status: vec![StatusRange::SUCCESS],
                            regex: negotiate.receive.map(|pattern| RegexCheck {
                                pattern,
                                options: Vec::new(),
                                negate: false,
                                min_offset: 0,
                                max_offset: None,
                            }),
                            tls_compliant: false,
                        }],
                        protocol: HttpProtocol::Http11,
                        tls: (negotiate.service == NegotiateService::Https)
                            .then(TlsOptions::default),
                        fast_recovery: false,
                    })
                }
                NegotiateService::Smtp | NegotiateService::Submission => {
                    CheckKind::Smtp(SmtpCheck {
                        helo_name: "ldirectord".into(),
                    })
                }
                NegotiateService::None => CheckKind::Always(true),
                _ => plain(&mut remark),
            }
        }
        CheckKind::Combined(combined) => {
            let thorough = Check {
                kind: CheckKind::Negotiate(combined.negotiate),
                ..check.clone()
            };
            let (near, _) = nearest(thorough);
            remark = Some("checktype=N became a check that is thorough each time".into());
            near.kind
        }
        other => other,
    };
    // Failures that are forgiven are asked again at the pace of rounds.
    check.pace.counting = Counting::Retries;
    check.pace.retry_delay = if check.pace.retries > 0 {
        check.pace.interval
    } else {
        Duration::from_secs(1)
    };
    (check, remark)
}

fn word(service: NegotiateService) -> String {
    format!("{service:?}").to_ascii_lowercase()
}
