//! ldirectord's `negotiate` checks: speak the service's protocol and look at the answer.
//!
//! One file a protocol. Each follows ldirectord 4.12 in what it asks and in what makes a server
//! count as up (docs/negotiate-checks.md lists it), and reads no more than a bounded number of bytes.
//! [`Negotiator::probe`] puts one deadline around the whole. What parses bytes of its own is a pure
//! function, and the fuzz target `replies` feeds it.

pub mod ber;
mod dns;
mod failure;
pub mod ftp;
mod http;
pub mod imap;
pub mod ldap;
pub(super) mod lines;
mod mysql;
mod nntp;
mod pattern;
mod peer;
mod pgsql;
pub mod pop;
pub mod radius;
pub mod reply;
mod simpletcp;
pub mod sip;
mod smtp;

use std::time::Duration;

use pointsman_model::check::{NegotiateCheck, NegotiateService, ProbeTarget, Secret};
use tokio::time::timeout;

pub use failure::Failure;
use pattern::Pattern;
use peer::{Peer, Tls};

use super::Unusable;
use crate::{Context, Outcome};

/// Most bytes of a page, a file or a result that are looked at.
const BODY: usize = 1024 * 1024;

/// A negotiate check, ready to be made again and again.
#[derive(Clone, Debug)]
pub struct Negotiator {
    check: NegotiateCheck,
    /// `None`: anything will do.
    receive: Option<Pattern>,
}

/// What a server said that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// For people: HTTP's status, else `Success`.
    pub text: String,
}

impl Answer {
    fn success() -> Self {
        Self {
            text: "Success".to_owned(),
        }
    }
}

/// Who we say we are.
#[derive(Clone, Copy)]
struct Login<'a> {
    name: &'a str,
    password: &'a str,
}

impl Negotiator {
    /// Prepares `check`.
    ///
    /// # Errors
    /// When `receive` is not a regular expression.
    pub fn new(check: &NegotiateCheck) -> Result<Self, Unusable> {
        let receive = check.receive.as_deref().filter(|text| !text.is_empty());
        Ok(Self {
            receive: receive.map(Pattern::new).transpose()?,
            check: check.clone(),
        })
    }

    /// Makes the check once, as [`Negotiator::probe`] does, and says it as all checkers do.
    pub async fn outcome(
        &self,
        target: &ProbeTarget,
        limit: Duration,
        context: &Context,
    ) -> Outcome {
        match self.probe(target, limit, context).await {
            Ok(Answer { text }) => Outcome::up(text),
            Err(failure) => Outcome::down(failure),
        }
    }

    /// Makes the check once, in no more time than `limit`.
    ///
    /// # Errors
    /// When the server did not pass; the message holds neither login nor secrets.
    pub async fn probe(
        &self,
        target: &ProbeTarget,
        limit: Duration,
        context: &Context,
    ) -> Result<Answer, Failure> {
        let peer = Peer::new(target, context, limit);
        let verdict = match timeout(limit, self.ask(&peer)).await {
            Ok(verdict) => verdict,
            Err(_) => Err(Failure::Timeout(limit)),
        };
        let secrets = [&self.check.passwd, &self.check.secret];
        let secrets = secrets.into_iter().flatten().map(Secret::reveal);
        verdict.map_err(|failure| failure.without(secrets.chain(self.check.login.as_deref())))
    }

    async fn ask(&self, peer: &Peer<'_>) -> Result<Answer, Failure> {
        let Self { check, receive } = self;
        let receive = receive.as_ref();
        let request = check.request.as_deref().filter(|text| !text.is_empty());
        let text = request.unwrap_or_default();
        let password = check.passwd.as_ref().map_or("", Secret::reveal);
        let login = check.login.as_deref().filter(|name| !name.is_empty());
        let login = login.map(|name| Login { name, password });
        let database = check.database.as_deref().filter(|name| !name.is_empty());
        match check.service {
            NegotiateService::Http | NegotiateService::Https | NegotiateService::HttpProxy => {
                http::check(peer, check, receive).await
            }
            NegotiateService::Smtp | NegotiateService::Submission => smtp::check(peer).await,
            NegotiateService::Pop => pop::check(peer, Tls::No, login).await,
            NegotiateService::Pops => pop::check(peer, Tls::Yes, login).await,
            NegotiateService::Imap => imap::check(peer, Tls::No, login).await,
            NegotiateService::Imaps => imap::check(peer, Tls::Yes, login).await,
            NegotiateService::Ldap => ldap::check(peer, Tls::No, login, text, receive).await,
            NegotiateService::Ldaps => ldap::check(peer, Tls::Yes, login, text, receive).await,
            NegotiateService::Nntp => nntp::check(peer).await,
            NegotiateService::Dns => dns::check(peer, check.transport, text, receive).await,
            NegotiateService::Radius => {
                let secret = check.secret.as_ref().map_or("", Secret::reveal);
                let login = login.unwrap_or(Login { name: "", password });
                radius::check(peer, login, secret).await
            }
            NegotiateService::Mysql => {
                let (login, query) = sql(login, request)?;
                mysql::check(peer, login, database, query).await
            }
            NegotiateService::Pgsql => {
                let (login, query) = sql(login, request)?;
                pgsql::check(peer, login, database, query).await
            }
            NegotiateService::Oracle => Err(Failure::Unusable(
                "Oracle checks are not available, there is no free client library: \
                 use checktype=external",
            )),
            NegotiateService::Ftp => {
                let login = login.unwrap_or(Login {
                    name: "anonymous",
                    password: "ldirectord@",
                });
                ftp::check(peer, login, request, receive).await
            }
            NegotiateService::Sip => {
                let name = login.map_or("ldirectord@localhost", |login| login.name);
                sip::check(peer, check.transport, name).await
            }
            NegotiateService::Simpletcp => {
                simpletcp::check(peer, check.transport, text, receive).await
            }
            NegotiateService::None => Ok(Answer::success()),
        }
    }
}

/// Login and query, which a SQL check cannot do without.
fn sql<'a>(
    login: Option<Login<'a>>,
    request: Option<&'a str>,
) -> Result<(Login<'a>, &'a str), Failure> {
    login
        .zip(request)
        .ok_or(Failure::Unusable("a SQL check needs login and request"))
}

/// Bytes that nobody can guess.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("Linux has random bytes");
    bytes
}
