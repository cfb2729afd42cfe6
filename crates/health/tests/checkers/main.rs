//! keepalived's checkers against the servers they are for, and against servers that misbehave; and
//! the engine with real time.
//!
//! Needs root, and the Debian packages that `cargo xtask setup test` installs.

#[path = "../negotiate/common.rs"]
#[expect(dead_code, reason = "half of it is for negotiate checks")]
mod common;
mod engine;
mod load;
mod matrix;
mod servers;
#[path = "../../examples/load/stage.rs"]
#[expect(dead_code, reason = "some of it is for the example to print")]
mod stage;

use std::time::Duration;

use pointsman_health::{Checker, Context, Outcome, Part};
use pointsman_model::check::{HttpCheck, HttpProtocol, HttpUrl, StatusRange};
use pointsman_model::{Check, CheckKind, Counting, Pace, ProbeTarget};
use pointsman_testkit::Netns;

/// A check of a port of this host.
pub fn check(kind: CheckKind, port: u16) -> Check {
    Check {
        kind,
        target: ProbeTarget::new(common::LOCALHOST.into(), port),
        pace: Pace {
            interval: Duration::from_millis(500),
            timeout: Duration::from_secs(20),
            retries: 0,
            retry_delay: Duration::from_millis(100),
            warmup: Duration::ZERO,
            counting: Counting::Retries,
        },
        alpha: false,
        log_all_failures: false,
    }
}

/// `GET path`, wanting 2xx.
pub fn http(path: &str) -> HttpCheck {
    HttpCheck {
        urls: vec![HttpUrl {
            path: path.into(),
            host: None,
            digest: None,
            status: vec![StatusRange::SUCCESS],
            regex: None,
            tls_compliant: false,
        }],
        protocol: HttpProtocol::Http10,
        tls: None,
        fast_recovery: false,
    }
}

/// Asks once from inside `netns`.
pub fn probe(netns: &Netns, check: &Check) -> Outcome {
    netns.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let context = Context::default();
            let checker = Checker::new(check, &context).unwrap();
            checker.probe(Part::Whole, &context).await
        })
    })
}

/// It is up.
#[track_caller]
pub fn up(netns: &Netns, check: &Check) -> Outcome {
    let outcome = probe(netns, check);
    assert!(
        outcome.up && outcome.counts,
        "{:?}: {outcome:?}",
        check.kind
    );
    outcome
}

/// It is down, for a reason with `words` in it.
#[track_caller]
pub fn down(netns: &Netns, check: &Check, words: &str) {
    let outcome = probe(netns, check);
    assert!(
        !outcome.up && outcome.counts,
        "{:?}: {outcome:?}",
        check.kind
    );
    assert!(
        outcome.reason.contains(words),
        "{:?}: `{}`, not `{words}`",
        check.kind,
        outcome.reason
    );
}
