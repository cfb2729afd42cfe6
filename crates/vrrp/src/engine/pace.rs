//! Announcements that may not follow each other too closely (`garp_interval`, `gna_interval`).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use pointsman_model::Family;
use pointsman_model::vrrp::{GarpGroup, VrrpGlobals};

use crate::Time;
use crate::announce::Announcer;

/// Frames that wait, for each pace.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    queues: BTreeMap<(Pace, Family), Queue>,
}

/// Those of one pace: an interface, or a `garp_group` by its number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pace {
    Interface(u32),
    Group(usize),
}

#[derive(Debug, Default)]
struct Queue {
    next: Time,
    waiting: VecDeque<Waiting>,
    interval: Duration,
}

#[derive(Debug)]
struct Waiting {
    member: usize,
    interface: u32,
    frame: Vec<u8>,
}

impl Pacer {
    /// The pace of an interface for announcements of a family.
    pub fn pace(
        globals: &VrrpGlobals,
        groups: &[GarpGroup],
        name: &str,
        index: u32,
        family: Family,
    ) -> (Pace, Duration) {
        let group = groups
            .iter()
            .position(|group| group.interfaces.iter().any(|interface| interface == name));
        let global = match family {
            Family::V4 => globals.garp_interval,
            Family::V6 => globals.gna_interval,
        };
        match group {
            Some(number) => {
                let own = match family {
                    Family::V4 => groups[number].garp_interval,
                    Family::V6 => groups[number].gna_interval,
                };
                (Pace::Group(number), own.unwrap_or(global))
            }
            None => (Pace::Interface(index), global),
        }
    }

    /// Queues a frame of a member.
    pub fn queue(
        &mut self,
        (pace, interval): (Pace, Duration),
        family: Family,
        member: usize,
        interface: u32,
        frame: Vec<u8>,
    ) {
        let queue = self.queues.entry((pace, family)).or_default();
        queue.interval = interval;
        queue.waiting.push_back(Waiting {
            member,
            interface,
            frame,
        });
    }

    /// Forgets what waits for a member that is master no more.
    pub fn forget(&mut self, member: usize) {
        for queue in self.queues.values_mut() {
            queue.waiting.retain(|waiting| waiting.member != member);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.queues.clear();
    }

    /// When the next frame may leave.
    pub fn deadline(&self) -> Option<Time> {
        self.queues
            .values()
            .filter(|queue| !queue.waiting.is_empty())
            .map(|queue| queue.next)
            .min()
    }

    /// Sends what may leave.
    pub fn send_due(&mut self, announcer: &Announcer, now: Time) {
        for queue in self.queues.values_mut() {
            while queue.next <= now {
                let Some(waiting) = queue.waiting.pop_front() else {
                    break;
                };
                if let Err(error) = announcer.send(waiting.interface, &waiting.frame) {
                    tracing::debug!("cannot announce: {error}");
                }
                queue.next = now + queue.interval;
            }
        }
    }
}
