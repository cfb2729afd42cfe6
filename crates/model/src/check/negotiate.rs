use std::fmt;

use serde::{Deserialize, Serialize};

use super::Secret;

/// ldirectord's `negotiate`: speak the service's protocol and look at the answer.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NegotiateCheck {
    /// Which protocol (`service`).
    pub service: NegotiateService,
    /// `request`, as configured and without the leading `/` that ldirectord adds: a path, a query, a file, a
    /// name, a base object.
    pub request: Option<String>,
    /// `receive`: a regular expression that must match the answer.
    pub receive: Option<String>,
    /// `login`.
    pub login: Option<String>,
    /// `passwd`.
    pub passwd: Option<Secret>,
    /// `database`.
    pub database: Option<String>,
    /// `secret` of RADIUS.
    pub secret: Option<Secret>,
    /// `httpmethod`.
    pub method: NegotiateMethod,
    /// `virtualhost`.
    pub virtualhost: Option<String>,
    /// Transport of the virtual service; decides for DNS, SIP and simpletcp.
    pub transport: Transport,
}

impl NegotiateCheck {
    /// A check of `service` with everything else left out.
    pub fn new(service: NegotiateService) -> Self {
        Self {
            service,
            request: None,
            receive: None,
            login: None,
            passwd: None,
            database: None,
            secret: None,
            method: NegotiateMethod::default(),
            virtualhost: None,
            transport: Transport::default(),
        }
    }
}

/// Like the secrets, the login is not for logs: stars stand for it.
impl fmt::Debug for NegotiateCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NegotiateCheck")
            .field("service", &self.service)
            .field("request", &self.request)
            .field("receive", &self.receive)
            .field("login", &self.login.as_ref().map(|_| "***"))
            .field("passwd", &self.passwd)
            .field("database", &self.database)
            .field("secret", &self.secret)
            .field("method", &self.method)
            .field("virtualhost", &self.virtualhost)
            .field("transport", &self.transport)
            .finish()
    }
}

/// The protocols of ldirectord's `service`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is ldirectord's word for the protocol")]
pub enum NegotiateService {
    Http,
    Https,
    HttpProxy,
    Smtp,
    Submission,
    Pop,
    Pops,
    Imap,
    Imaps,
    Ldap,
    Ldaps,
    Nntp,
    Dns,
    Radius,
    Mysql,
    Pgsql,
    Oracle,
    Ftp,
    Sip,
    Simpletcp,
    None,
}

/// `httpmethod`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "HTTP's own words")]
pub enum NegotiateMethod {
    #[default]
    Get,
    Head,
}

/// What carries the check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Transport {
    #[default]
    Tcp,
    Udp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_logs_in_with_what_is_not_printed() {
        let check = NegotiateCheck {
            login: Some("alice".into()),
            passwd: Some(Secret::new("sesame")),
            secret: Some(Secret::new("tongue")),
            ..NegotiateCheck::new(NegotiateService::Radius)
        };
        let text = format!("{check:?}");
        for hidden in ["alice", "sesame", "tongue"] {
            assert!(!text.contains(hidden), "{text}");
        }
    }
}
