//! A group's own thread: takes and releases, one action after the other.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use pointsman_config::heartbeat::{Action, Group, Sequence, Step};

use crate::daemon::Event;
use crate::files::Settings;
use crate::resource::act;

/// What is wanted of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Hold,
    Leave,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    Taken,
    Released,
    Failed(std::time::Duration),
}

/// The thread of a group. Dropping it lets it finish what it is at.
pub(crate) struct Worker {
    wants: Option<Sender<Want>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts it; reports come as events under `name`.
    pub fn start(settings: Settings, group: Group, name: String, events: Sender<Event>) -> Self {
        let (wants, orders) = channel();
        let thread = std::thread::spawn(move || {
            let work = Work {
                settings,
                sequence: Sequence::new(group.resources.len()),
                group,
                name,
                events,
            };
            work.run(&orders);
        });
        Self {
            wants: Some(wants),
            thread: Some(thread),
        }
    }

    pub fn want(&self, want: Want) {
        if let Some(wants) = &self.wants {
            let _ = wants.send(want);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.wants = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Work {
    settings: Settings,
    group: Group,
    name: String,
    sequence: Sequence,
    events: Sender<Event>,
}

impl Work {
    fn run(mut self, orders: &Receiver<Want>) {
        if self.look_around() {
            let step = self.sequence.clear();
            self.follow(step, Want::Leave, orders);
        }
        while let Ok(want) = orders.recv() {
            let step = self.begin(want);
            self.follow(step, want, orders);
        }
    }

    /// Until what is wanted, then or meanwhile, is so.
    fn follow(&mut self, mut step: Option<Step>, mut wanted: Want, orders: &Receiver<Want>) {
        loop {
            while let Some(now) = step {
                step = self.advance(now, orders, &mut wanted);
            }
            // Something else may have been asked for meanwhile.
            let settled = match wanted {
                Want::Hold => self.sequence.is_held(),
                Want::Leave => !self.sequence.is_held(),
            };
            if settled {
                break;
            }
            step = self.begin(wanted);
        }
    }

    /// At the start nothing of the group should run here, but what a killed heartbeat left does.
    fn look_around(&self) -> bool {
        let mut left = false;
        for (n, resource) in self.group.resources.iter().enumerate() {
            let runs = act(&self.settings, resource, Action::Status(n));
            if runs == pointsman_config::heartbeat::Outcome::Good {
                tracing::error!(
                    "{}: {} is active already; the group is released",
                    self.name,
                    resource.text
                );
                left = true;
            }
        }
        left
    }

    fn begin(&mut self, want: Want) -> Option<Step> {
        match want {
            Want::Hold => self.sequence.take(),
            Want::Leave => self.sequence.release(),
        }
    }

    fn advance(&mut self, step: Step, orders: &Receiver<Want>, wanted: &mut Want) -> Option<Step> {
        match step {
            Step::Do(action) => {
                let (Action::Status(n) | Action::Start(n) | Action::Stop(n)) = action;
                let resource = &self.group.resources[n];
                if !matches!(action, Action::Status(_)) {
                    let word = if matches!(action, Action::Start(_)) {
                        "start"
                    } else {
                        "stop"
                    };
                    tracing::info!("{}: {word} {}", self.name, resource.text);
                }
                let outcome = act(&self.settings, resource, action);
                let before = *wanted;
                while let Ok(newer) = orders.try_recv() {
                    *wanted = newer;
                }
                if before == Want::Hold && *wanted == Want::Leave {
                    return self.sequence.release();
                }
                self.sequence.done(outcome)
            }
            Step::Wait(pause) => {
                std::thread::sleep(pause);
                self.sequence.waited()
            }
            Step::Taken => {
                self.report(Report::Taken);
                None
            }
            Step::Released(stuck) => {
                self.tell_stuck(&stuck);
                self.report(Report::Released);
                None
            }
            Step::Failed {
                resource,
                pause,
                stuck,
            } => {
                let text = &self.group.resources[resource].text;
                tracing::error!("{}: {text} did not start; all is given back", self.name);
                self.tell_stuck(&stuck);
                *wanted = Want::Leave;
                self.report(Report::Failed(pause));
                None
            }
        }
    }

    /// heartbeat would reboot the node now.
    fn tell_stuck(&self, stuck: &[usize]) {
        for n in stuck {
            let text = &self.group.resources[*n].text;
            tracing::error!(
                "{}: {text} cannot be stopped and still runs here",
                self.name
            );
        }
    }

    fn report(&self, report: Report) {
        let _ = self.events.send(Event::Group(self.name.clone(), report));
    }
}
