use std::time::SystemTime;

use pointsman_model::{Check, PoolServer, ServerSpec, Weight};

/// The largest weight a check can give, keepalived's.
const WEIGHT_MAX: i64 = 65535;

/// A real server of a pool and what its checks say.
#[derive(Clone, Debug)]
pub struct Server {
    /// As configured.
    pub config: PoolServer,
    /// Its checks, in configuration order.
    pub checks: Vec<CheckState>,
    /// Why an operator keeps it out.
    pub held: Option<String>,
    /// Whether it takes part. This follows the checks, but for the moment in which a change is
    /// under way.
    pub alive: bool,
    /// When that last changed.
    pub since: SystemTime,
}

/// A check of a server and what it said last.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckState {
    /// As configured.
    pub check: Check,
    /// Good.
    pub up: bool,
    /// Whether it ever gave a verdict.
    pub ran: bool,
    /// Why, in words; empty before the first verdict.
    pub reason: String,
    /// What it adds to the server's weight.
    pub weight: i64,
    /// When `up` last changed.
    pub since: SystemTime,
}

impl CheckState {
    pub(crate) fn new(check: &Check, up: bool, now: SystemTime) -> Self {
        Self {
            check: check.clone(),
            up,
            ran: false,
            reason: String::new(),
            weight: 0,
            since: now,
        }
    }
}

impl Server {
    /// A server that nobody has asked yet: alive, unless a check is to pass first.
    pub(crate) fn new(config: &PoolServer, now: SystemTime) -> Self {
        let checks: Vec<_> = config
            .checks
            .iter()
            .map(|check| {
                let wait = check.alpha || config.alpha;
                CheckState::new(check, !wait, now)
            })
            .collect();
        Self {
            alive: checks.iter().all(|check| check.up),
            config: config.clone(),
            checks,
            held: None,
            since: now,
        }
    }

    /// Whether everything says that it is fit.
    pub(crate) fn is_fit(&self) -> bool {
        self.held.is_none() && self.checks.iter().all(|check| check.up)
    }

    /// The configured weight and what checks add to it.
    pub fn weight(&self) -> Weight {
        let configured = i64::from(self.config.spec.weight.get());
        let dynamic: i64 = self.checks.iter().map(|check| check.weight).sum();
        if dynamic == 0 {
            return self.config.spec.weight;
        }
        let sum = configured.saturating_add(dynamic).clamp(0, WEIGHT_MAX);
        Weight::new(u32::try_from(sum).unwrap_or(0)).unwrap_or(Weight::QUIESCED)
    }

    /// How it stands in the table while it takes part.
    pub(crate) fn spec(&self) -> ServerSpec {
        ServerSpec {
            weight: self.weight(),
            ..self.config.spec
        }
    }

    /// How it stands there while it does not, but stays for its connections.
    pub(crate) fn quiesced(&self) -> ServerSpec {
        ServerSpec {
            weight: Weight::QUIESCED,
            ..self.config.spec
        }
    }
}
