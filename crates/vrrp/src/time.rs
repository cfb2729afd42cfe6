use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment of the host's boot clock, which never goes back and counts while the host sleeps.
///
/// The state machines read no clock: whoever calls them says what time it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(Duration);

impl Time {
    /// The moment `since_boot` after the clock's zero.
    pub fn from_boot(since_boot: Duration) -> Self {
        Self(since_boot)
    }

    /// What the clock says now (`CLOCK_BOOTTIME`).
    pub fn now() -> Self {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
            .expect("Linux has had this clock since 2.6.39");
        Self(now.into())
    }

    /// Time since the clock's zero.
    pub fn since_boot(self) -> Duration {
        self.0
    }

    /// Time from `earlier` to this; 0 if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, after: Duration) -> Self {
        Self(self.0.saturating_add(after))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    fn sub(self, before: Duration) -> Self {
        Self(self.0.saturating_sub(before))
    }
}
