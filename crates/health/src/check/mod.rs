//! The checkers, one a file, and the enum over them.

mod always;
pub mod negotiate;
mod tcp;
pub mod tls;

use pointsman_model::{Check, CheckKind};

use self::negotiate::Negotiator;
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
    Negotiate(Box<Negotiator>),
    Always(bool),
}

impl Checker {
    /// Makes a check ready.
    ///
    /// # Errors
    /// Why it cannot work.
    pub fn new(check: &Check, _context: &Context) -> Result<Self, Unusable> {
        let kind = match &check.kind {
            CheckKind::Tcp => Kind::Tcp,
            CheckKind::Negotiate(check) => Kind::Negotiate(Box::new(Negotiator::new(check)?)),
            CheckKind::Always(up) => Kind::Always(*up),
            other => return Err(Unusable(format!("{} is not there yet", other.name()))),
        };
        Ok(Self {
            check: check.clone(),
            kind,
        })
    }

    /// Waits until there is reason to ask before time: the file was written, the BFD session changed. Most
    /// checks wait for ever.
    pub async fn changed(&self) {
        std::future::pending().await
    }

    /// Asks once. Each checker bounds its own time and memory.
    pub async fn probe(&self, _part: Part, context: &Context) -> Outcome {
        let (target, pace) = (&self.check.target, &self.check.pace);
        match &self.kind {
            Kind::Tcp => tcp::probe(target, pace.timeout, context).await,
            Kind::Negotiate(negotiator) => negotiator.outcome(target, pace.timeout, context).await,
            Kind::Always(up) => always::probe(*up),
        }
    }
}
