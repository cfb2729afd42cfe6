//! Taking and releasing a group: which resource is asked, started or stopped next. Pure: what was
//! asked for is done elsewhere, and its outcome comes back.
//!
//! As in heartbeat: from left to right, `status` first, `start` unless it runs already; if one
//! does not start, all are released and the peer gets a chance. From right to left, `stop`, tried
//! again each second, ten times.

use std::time::Duration;

/// Tries of a stop.
const STOPS: u32 = 10;
/// Between two of them.
const BETWEEN_STOPS: Duration = Duration::from_secs(1);
/// How long a node that could not start a group leaves it to the other.
const AFTER_FAILURE: Duration = Duration::from_secs(30);

/// What to do with a resource, by its place in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask whether it runs.
    Status(usize),
    /// Start it.
    Start(usize),
    /// Stop it.
    Stop(usize),
}

/// How an [`Action`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `status`: it runs; `start` and `stop`: done.
    Good,
    /// `status`: it does not run; `start` and `stop`: failed.
    Bad,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Do this and tell how it ended.
    Do(Action),
    /// Wait, then call [`Sequence::waited`].
    Wait(Duration),
    /// All are started.
    Taken,
    /// All are stopped, or were given up; the places of those that may still run.
    Released(Vec<usize>),
    /// A resource did not start; all are stopped again, and the group should be left alone for this
    /// long.
    Failed {
        /// The one that did not start.
        resource: usize,
        /// How long.
        pause: Duration,
        /// Those that may still run.
        stuck: Vec<usize>,
    },
}

/// Where a group is on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    len: usize,
    state: State,
    stuck: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Asking(usize),
    Starting(usize),
    Stopping {
        at: usize,
        tries: u32,
        failed: Option<usize>,
    },
    /// After ten failed stops: does it run?
    Doubting {
        at: usize,
        failed: Option<usize>,
    },
    Held,
}

impl Sequence {
    /// A group of so many resources, none of which is ours.
    pub fn new(len: usize) -> Self {
        Self {
            len,
            state: State::Idle,
            stuck: Vec::new(),
        }
    }

    /// Begins to take the group. In the middle of a release it goes on releasing; ask again after it.
    pub fn take(&mut self) -> Option<Step> {
        match self.state {
            State::Idle if self.len == 0 => {
                self.state = State::Held;
                Some(Step::Taken)
            }
            State::Idle => Some(self.ask(0)),
            State::Held => Some(Step::Taken),
            _ => None,
        }
    }

    /// Begins to release it, wherever it is. An action that is under way is finished first, by its
    /// outcome.
    pub fn release(&mut self) -> Option<Step> {
        match self.state {
            State::Idle => Some(Step::Released(Vec::new())),
            State::Held => Some(self.stop_from(self.len, None)),
            State::Asking(at) | State::Starting(at) => {
                // The one being started may be up already: it is stopped too.
                Some(self.stop_from(at + 1, None))
            }
            State::Stopping { .. } | State::Doubting { .. } => None,
        }
    }

    /// Stops all of a group of which something runs that was not started here.
    pub fn clear(&mut self) -> Option<Step> {
        match self.state {
            State::Idle => Some(self.stop_from(self.len, None)),
            _ => self.release(),
        }
    }

    /// The outcome of the action that was asked for last.
    pub fn done(&mut self, outcome: Outcome) -> Option<Step> {
        match (self.state.clone(), outcome) {
            (State::Asking(at), Outcome::Good) => Some(self.next(at)),
            (State::Asking(at), Outcome::Bad) => {
                self.state = State::Starting(at);
                Some(Step::Do(Action::Start(at)))
            }
            (State::Starting(at), Outcome::Good) => Some(self.next(at)),
            (State::Starting(at), Outcome::Bad) => Some(self.stop_from(self.len, Some(at))),
            (State::Stopping { at, failed, .. }, Outcome::Good) => Some(self.stop_from(at, failed)),
            (State::Stopping { at, tries, failed }, Outcome::Bad) if tries < STOPS => {
                self.state = State::Stopping {
                    at,
                    tries: tries + 1,
                    failed,
                };
                Some(Step::Wait(BETWEEN_STOPS))
            }
            (State::Stopping { at, failed, .. }, Outcome::Bad) => {
                self.state = State::Doubting { at, failed };
                Some(Step::Do(Action::Status(at)))
            }
            (State::Doubting { at, failed }, outcome) => {
                if outcome == Outcome::Good {
                    self.stuck.push(at);
                }
                Some(self.stop_from(at, failed))
            }
            (State::Idle | State::Held, _) => None,
        }
    }

    /// The pause is over.
    pub fn waited(&mut self) -> Option<Step> {
        match self.state {
            State::Stopping { at, .. } => Some(Step::Do(Action::Stop(at))),
            _ => None,
        }
    }

    /// Whether all of it is here.
    pub fn is_held(&self) -> bool {
        self.state == State::Held
    }

    fn ask(&mut self, at: usize) -> Step {
        self.state = State::Asking(at);
        Step::Do(Action::Status(at))
    }

    fn next(&mut self, at: usize) -> Step {
        if at + 1 < self.len {
            return self.ask(at + 1);
        }
        self.state = State::Held;
        Step::Taken
    }

    /// Stops those before `end`, the last first.
    fn stop_from(&mut self, end: usize, failed: Option<usize>) -> Step {
        let Some(at) = end.checked_sub(1) else {
            self.state = State::Idle;
            let stuck = std::mem::take(&mut self.stuck);
            return match failed {
                None => Step::Released(stuck),
                Some(resource) => Step::Failed {
                    resource,
                    pause: AFTER_FAILURE,
                    stuck,
                },
            };
        };
        self.state = State::Stopping {
            at,
            tries: 1,
            failed,
        };
        Step::Do(Action::Stop(at))
    }
}
