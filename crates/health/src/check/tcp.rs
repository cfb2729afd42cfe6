//! `TCP_CHECK`: the connection is accepted, and closed the normal way.

use std::time::Duration;

use pointsman_model::ProbeTarget;

use crate::net::{connect, describe};
use crate::{Context, Outcome};

pub(super) async fn probe(target: &ProbeTarget, limit: Duration, context: &Context) -> Outcome {
    match connect(target, limit, context).await {
        Ok(_) => Outcome::up("connection accepted"),
        Err(error) => Outcome::down(describe(&error)),
    }
}
