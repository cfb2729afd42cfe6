use std::time::Duration;

use pointsman_model::vrrp::TrackScript;
use pointsman_script::Program;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{Seen, Teller, Watcher};

/// Runs a script again and again, from start to start of its interval; a run that is due while the
/// last one goes on is left out.
pub(crate) fn watch_script(script: &TrackScript, program: Program, teller: Teller) -> Watcher {
    let name = script.name.clone();
    let timeout = script.timeout;
    let pace = script.interval.max(Duration::from_millis(1));
    Watcher::spawn(async move {
        let mut due = interval_at(Instant::now(), pace);
        due.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            due.tick().await;
            let run = program.run(Some(timeout)).await;
            let seen = Seen::Script {
                name: name.clone(),
                success: run.succeeded(),
                said: run.to_string(),
            };
            if teller.send(seen).is_err() {
                return;
            }
        }
    })
}
