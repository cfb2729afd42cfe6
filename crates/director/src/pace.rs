//! Work on a large table that is done in parts, with rests between them, so that others need not wait for it
//! and a processor is hardly noticed to be at it.

use std::time::{Duration, Instant};

/// No rest is longer: a part may have taken long because the processor was somebody else's.
const LONGEST_REST: Duration = Duration::from_millis(20);

/// When the next part of some work is due.
#[derive(Debug)]
pub(crate) struct Pace {
    /// A round begins so long after the one before, unless that took longer.
    step: Duration,
    /// So many times as long as a part took it rests.
    rest: u32,
    /// When the round under way began.
    begun: Instant,
    /// When it goes on.
    at: Instant,
}

impl Pace {
    /// The first round begins at once.
    pub fn new(step: Duration, rest: u32) -> Self {
        let now = Instant::now();
        Self {
            step,
            rest,
            begun: now,
            at: now,
        }
    }

    /// When the next part is due.
    pub fn at(&self) -> Instant {
        self.at
    }

    /// A part was done between these times, the last of the round if it is `over`.
    pub fn done(&mut self, from: Instant, to: Instant, over: bool) {
        self.at = to + ((to - from) * self.rest).min(LONGEST_REST);
        if over {
            self.at = self.at.max(self.begun + self.step);
            self.begun = self.at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_rest_and_rounds_keep_their_step() {
        let ms = Duration::from_millis;
        let mut pace = Pace::new(ms(1000), 40);
        let begun = pace.at();
        let mut done = |from: u64, took: Duration, over| {
            pace.done(begun + ms(from), begun + ms(from) + took, over);
            pace.at() - begun
        };
        assert_eq!(
            done(0, Duration::from_micros(100), false),
            Duration::from_micros(4100)
        );
        assert_eq!(
            done(5, ms(3), false),
            ms(28),
            "no longer than the longest rest"
        );
        assert_eq!(done(30, ms(0), true), ms(1000));
        // One that took longer than its step is followed by the next at once.
        assert_eq!(done(2500, ms(0), true), ms(2500));
        assert_eq!(done(2500, ms(0), true), ms(3500));
    }
}
