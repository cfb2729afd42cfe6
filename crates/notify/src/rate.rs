use std::time::{Duration, Instant};

/// So many at once, and then one each so often.
#[derive(Debug)]
pub(crate) struct Rate {
    burst: u32,
    period: Duration,
    /// When all of the burst will be there again.
    full_at: Instant,
}

impl Rate {
    pub fn new(burst: u32, period: Duration, now: Instant) -> Self {
        Self {
            burst,
            period,
            full_at: now,
        }
    }

    /// Takes one and says how long to wait for it.
    pub fn take(&mut self, now: Instant) -> Duration {
        let from = self.full_at.max(now);
        self.full_at = from + self.period;
        self.full_at
            .saturating_duration_since(now)
            .saturating_sub(self.period * self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_then_the_pace_holds() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut rate = Rate::new(3, second, start);
        let waits: Vec<_> = (0..5).map(|_| rate.take(start).as_secs()).collect();
        assert_eq!(waits, [0, 0, 0, 1, 2]);
        // Long after, all of the burst is there again.
        let later = start + 60 * second;
        let waits: Vec<_> = (0..4).map(|_| rate.take(later).as_secs()).collect();
        assert_eq!(waits, [0, 0, 0, 1]);
    }
}
