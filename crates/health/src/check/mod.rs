//! The checkers, one a file, and the enum over them.

pub mod agent;
mod always;
mod bfd;
mod combined;
pub mod dns;
mod file;
pub mod http;
pub mod negotiate;
mod ping;
mod script;
mod smtp;
mod tcp;
pub mod tls;
mod udp;

use pointsman_model::{Check, CheckKind};

pub use self::bfd::BfdSessions;
use self::negotiate::Negotiator;
use crate::net::true_path;
use crate::{Context, Outcome};

/// A check, ready to be asked. What can be made once (requests, patterns, TLS settings) is made.
#[derive(Debug)]
pub struct Checker {
    check: Check,
    kind: Kind,
}

/// What of a check is asked in one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// One url of an HTTP check, by its place in the list.
    Url(usize),
    /// The thorough part of a combined check.
    Negotiate,
    /// A connection only.
    Connect,
}

/// Why a check cannot be carried out at all, whatever the server does: a file that is missing, a pattern
/// that does not compile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub String);

#[derive(Debug)]
enum Kind {
    Tcp,
    Http(http::Http),
    Smtp(smtp::Smtp),
    Dns(dns::Dns),
    Script(script::Script),
    Udp(udp::Udp),
    Ping(u32),
    File(file::File),
    Bfd(bfd::Bfd),
    Negotiate(Box<Negotiator>),
    Combined(Box<combined::Combined>),
    Always(bool),
    Agent(agent::Agent),
}

impl Checker {
    /// Makes a check ready.
    ///
    /// # Errors
    /// Why it cannot work.
    pub fn new(check: &Check, context: &Context) -> Result<Self, Unusable> {
        if check.target.through.is_some() && context.steering.is_none() {
            return Err(Unusable("this director has no true path for probes".into()));
        }
        let kind = match &check.kind {
            CheckKind::Tcp => Kind::Tcp,
            CheckKind::Http(http) => Kind::Http(http::Http::new(check, http)?),
            CheckKind::Smtp(check) => Kind::Smtp(smtp::Smtp::new(check)?),
            CheckKind::Dns(check) => Kind::Dns(dns::Dns::new(check)?),
            CheckKind::Script(check) => Kind::Script(script::Script::new(check, context)?),
            CheckKind::Udp(check) => Kind::Udp(udp::Udp::new(check)?),
            CheckKind::Ping(check) => Kind::Ping(check.count),
            CheckKind::File(check) => Kind::File(file::File::new(check)?),
            CheckKind::Bfd(name) => Kind::Bfd(bfd::Bfd::new(name, &context.bfd)),
            CheckKind::Negotiate(check) => Kind::Negotiate(Box::new(Negotiator::new(check)?)),
            CheckKind::Combined(check) => Kind::Combined(Box::new(combined::Combined::new(check)?)),
            CheckKind::Always(up) => Kind::Always(*up),
            CheckKind::Agent(check) => Kind::Agent(agent::Agent::new(check)),
            CheckKind::Passive(_) => return Err(Unusable("a passive check asks nobody".into())),
        };
        Ok(Self {
            check: check.clone(),
            kind,
        })
    }

    /// Waits until there is reason to ask before time: the file was written, the BFD session changed. Most
    /// checks wait for ever.
    pub async fn changed(&self) {
        match &self.kind {
            Kind::File(file) => file.changed().await,
            Kind::Bfd(bfd) => bfd.changed().await,
            Kind::Tcp
            | Kind::Http(_)
            | Kind::Smtp(_)
            | Kind::Dns(_)
            | Kind::Script(_)
            | Kind::Udp(_)
            | Kind::Ping(_)
            | Kind::Negotiate(_)
            | Kind::Combined(_)
            | Kind::Always(_)
            | Kind::Agent(_) => std::future::pending().await,
        }
    }

    /// Asks once. Each checker bounds its own time and memory.
    pub async fn probe(&self, part: Part, context: &Context) -> Outcome {
        let (target, limit) = (&self.check.target, self.check.pace.timeout);
        if let Err(blocked) = true_path(target, context) {
            return Outcome::nothing(blocked);
        }
        match &self.kind {
            Kind::Tcp => tcp::probe(target, limit, context).await,
            Kind::Http(http) => {
                let url = match part {
                    Part::Url(url) => url,
                    Part::Whole | Part::Negotiate | Part::Connect => 0,
                };
                http.probe(url, target, limit, context).await
            }
            Kind::Smtp(smtp) => smtp.probe(target, limit, context).await,
            Kind::Dns(dns) => dns.probe(target, limit, context).await,
            Kind::Script(script) => script.probe(limit).await,
            Kind::Udp(udp) => udp.probe(target, limit, context).await,
            Kind::Ping(count) => ping::probe(*count, target, limit).await,
            Kind::File(file) => file.probe(),
            Kind::Bfd(bfd) => bfd.probe().await,
            Kind::Negotiate(negotiator) => negotiator.outcome(target, limit, context).await,
            Kind::Combined(combined) => combined.probe(part, target, limit, context).await,
            Kind::Always(up) => always::probe(*up),
            Kind::Agent(agent) => agent.probe(target, limit, context).await,
        }
    }
}
