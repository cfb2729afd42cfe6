//! Weights that follow a noisy reading without swinging. Pure: time comes in.

use std::time::Instant;

use pointsman_model::check::Damping;

/// A smoothed share of the configured weight, in percent.
#[derive(Clone, Debug)]
pub struct Damper {
    rules: Damping,
    exact: f64,
    shown: u32,
    read: Option<Instant>,
}

impl Damper {
    /// Begins at the configured weight.
    pub fn new(rules: Damping) -> Self {
        Self {
            rules,
            exact: 100.0,
            shown: 100,
            read: None,
        }
    }

    /// The share to be set.
    pub fn percent(&self) -> u32 {
        self.shown
    }

    /// A reading. The first one is taken as it is; 0 and the way back from 0 are not smoothed, since
    /// they mean "no more" and "again".
    pub fn read(&mut self, now: Instant, percent: u32) -> u32 {
        let wanted = f64::from(percent);
        let first = self.read.replace(now).is_none();
        let step = f64::from(self.rules.step.clamp(1, 100)) / 100.0;
        self.exact = match first || percent == 0 || self.shown == 0 {
            true => wanted,
            false => self.exact + (wanted - self.exact) * step,
        };
        self.show(percent)
    }

    /// No reading came. After a while the configured weight holds again.
    pub fn silence(&mut self, now: Instant) -> u32 {
        if self
            .read
            .is_some_and(|at| now.duration_since(at) >= self.rules.stale)
        {
            *self = Self::new(self.rules);
        }
        self.shown
    }

    fn show(&mut self, wanted: u32) -> u32 {
        // A share that is not 0 is at least 1: only the word of the agent drains a server.
        let rounded = (self.exact.round() as u32).max(u32::from(wanted != 0));
        if rounded.abs_diff(self.shown) > u32::from(self.rules.deadband) || wanted == 0 {
            self.shown = rounded;
        }
        self.shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn damper() -> (Damper, Instant) {
        (Damper::new(Damping::default()), Instant::now())
    }

    #[test]
    fn it_goes_half_the_way_at_each_reading_and_arrives() {
        let (mut damper, now) = damper();
        assert_eq!(damper.read(now, 100), 100);
        let shown: Vec<_> = (0..8).map(|_| damper.read(now, 20)).collect();
        assert_eq!(shown[..4], [60, 40, 30, 25]);
        assert!(shown[7].abs_diff(20) <= 2, "{shown:?}");
    }

    #[test]
    fn noise_within_the_deadband_changes_nothing() {
        let (mut damper, now) = damper();
        damper.read(now, 80);
        for reading in [81, 79, 82, 78, 80, 81].repeat(10) {
            assert_eq!(damper.read(now, reading), 80);
        }
    }

    #[test]
    fn an_oscillating_reading_swings_less_than_itself() {
        let (mut damper, now) = damper();
        damper.read(now, 60);
        let shown: Vec<_> = [40, 80]
            .repeat(50)
            .into_iter()
            .map(|to| damper.read(now, to))
            .collect();
        let (low, high) = (shown[50..].iter().min(), shown[50..].iter().max());
        assert!(high.unwrap() - low.unwrap() <= 20, "{shown:?}");
    }

    #[test]
    fn zero_drains_at_once_and_is_left_at_once() {
        let (mut damper, now) = damper();
        damper.read(now, 90);
        assert_eq!(damper.read(now, 0), 0);
        assert_eq!(damper.read(now, 70), 70);
        for _ in 0..50 {
            assert_ne!(damper.read(now, 1), 0, "a small share is not none");
        }
    }

    #[test]
    fn an_agent_that_is_lost_leaves_the_configured_weight() {
        let (mut damper, now) = damper();
        damper.read(now, 30);
        assert_eq!(damper.silence(now + Duration::from_secs(9)), 30);
        assert_eq!(damper.silence(now + Duration::from_secs(10)), 100);
        assert_eq!(damper.read(now + Duration::from_secs(11), 40), 40);
    }
}
