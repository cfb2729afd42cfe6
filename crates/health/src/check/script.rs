//! `MISC_CHECK`, ldirectord's `external` and `external-perl`: a command's exit status.

use std::time::Duration;

use pointsman_model::check::ScriptCheck;
use pointsman_script::{Ended, Program, Run};

use super::Unusable;
use crate::{Context, Outcome, Weigh};

/// A command, looked up.
#[derive(Debug)]
pub(super) struct Script {
    program: Program,
    dynamic: bool,
}

impl Script {
    pub(super) fn new(check: &ScriptCheck, context: &Context) -> Result<Self, Unusable> {
        let program = Program::prepare(&check.script, &context.scripts)
            .map_err(|unfit| Unusable(unfit.to_string()))?;
        Ok(Self {
            program,
            dynamic: check.dynamic,
        })
    }

    pub(super) async fn probe(&self, limit: Duration) -> Outcome {
        judge(&self.program.run(Some(limit)).await, self.dynamic)
    }
}

/// 0 is up; with `dynamic` 2 to 255 are up and say a weight.
fn judge(run: &Run, dynamic: bool) -> Outcome {
    match run.ended {
        Ended::Exited(0) => Outcome::up("exited with status 0"),
        Ended::Exited(status @ 2..) if dynamic => {
            let weight = u32::from(status) - 2;
            Outcome::up(format!("exited with status {status}: weight {weight}"))
                .weighing(Weigh::To(weight))
        }
        Ended::Exited(_) | Ended::Signalled(_) | Ended::TimedOut | Ended::NotStarted(_) => {
            Outcome::down(run)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(ended: Ended) -> Run {
        Run {
            ended,
            stderr: "no disk".into(),
            took: Duration::ZERO,
        }
    }

    #[test]
    fn the_exit_status_is_the_answer() {
        for (status, dynamic, up, weight) in [
            (0, false, true, None),
            (0, true, true, None),
            (1, false, false, None),
            (1, true, false, None),
            (2, false, false, None),
            (2, true, true, Some(0)),
            (255, true, true, Some(253)),
            (255, false, false, None),
        ] {
            let outcome = judge(&run(Ended::Exited(status)), dynamic);
            assert_eq!(
                (outcome.up, outcome.weight),
                (up, weight.map(Weigh::To)),
                "{status}"
            );
        }
    }

    #[test]
    fn what_did_not_end_by_itself_has_failed() {
        for ended in [
            Ended::Signalled(9),
            Ended::TimedOut,
            Ended::NotStarted("not found".into()),
        ] {
            let outcome = judge(&run(ended), true);
            assert!(
                !outcome.up && outcome.reason.contains("no disk"),
                "{outcome:?}"
            );
        }
    }
}
