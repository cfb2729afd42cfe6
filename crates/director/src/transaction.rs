//! Many changes as one.

use pointsman_api::RefusedChange;
use pointsman_model::{Change, Rules};

use crate::state::Director;

impl Director {
    /// Makes changes in order, all or none. They are rehearsed first, so that only what the tables
    /// themselves refuse has to be taken back; and only what differs in the end is done at all.
    pub async fn transact(&mut self, changes: Vec<Change>) -> Result<(), RefusedChange> {
        let before = self.rules();
        let mut target = before.clone();
        for (at, change) in changes.iter().enumerate() {
            self.check(change)
                .and_then(|()| target.apply(change))
                .map_err(|error| RefusedChange { change: at, error })?;
        }
        let steps = before.changes_to(&target);
        let results = self.apply(steps.clone()).await;
        for (step, result) in steps.iter().zip(results) {
            let Err(error) = result else { continue };
            let undo = self.rules().changes_to(&before);
            for failed in self.apply(undo).await.into_iter().filter_map(Result::err) {
                tracing::error!(error = %failed, "a change that was refused in part stays");
            }
            // Whatever was asked last about the same thing asked for this step.
            let asked = changes.iter().rposition(|c| c.object() == step.object());
            return Err(RefusedChange {
                change: asked.unwrap_or(0),
                error,
            });
        }
        Ok(())
    }

    fn rules(&mut self) -> Rules {
        let tables = self.tables();
        Rules::of(&tables.services(), tables.timeouts())
    }
}
