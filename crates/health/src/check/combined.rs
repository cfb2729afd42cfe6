//! ldirectord's `checktype=N`: a negotiate, then N connects, then a negotiate. Which one is due is the
//! schedule's business.

use std::time::Duration;

use pointsman_model::ProbeTarget;
use pointsman_model::check::{CombinedCheck, Transport};

use super::negotiate::Negotiator;
use super::{Part, Unusable, ping, tcp};
use crate::{Context, Outcome};

/// A combined check, ready to be asked.
#[derive(Debug)]
pub(super) struct Combined {
    negotiator: Negotiator,
    transport: Transport,
}

impl Combined {
    pub(super) fn new(check: &CombinedCheck) -> Result<Self, Unusable> {
        Ok(Self {
            negotiator: Negotiator::new(&check.negotiate)?,
            transport: check.negotiate.transport,
        })
    }

    pub(super) async fn probe(
        &self,
        part: Part,
        target: &ProbeTarget,
        limit: Duration,
        context: &Context,
    ) -> Outcome {
        match (part, self.transport) {
            (Part::Connect, Transport::Tcp) => tcp::probe(target, limit, context).await,
            // As ldirectord: a service of datagrams accepts no connection, so the host is pinged.
            (Part::Connect, Transport::Udp) => ping::probe(1, target, limit).await,
            (Part::Whole | Part::Url(_) | Part::Negotiate, _) => {
                self.negotiator.outcome(target, limit, context).await
            }
        }
    }
}
