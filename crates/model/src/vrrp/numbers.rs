use std::fmt;
use std::time::Duration;

use serde::Serialize;
use thiserror::Error;

/// A number that VRRP has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NumberError {
    /// Virtual router ids are 1 to 255.
    #[error("a virtual router id is 1 to 255")]
    Vrid,
    /// Priorities are 1 to 255; 0 on the wire is a resignation.
    #[error("a priority is 1 to 255")]
    Priority,
    /// Intervals of version 2 are whole seconds, 1 to 255.
    #[error("an advert interval of version 2 is 1 to 255 whole seconds")]
    IntervalV2,
    /// Intervals of version 3 are hundredths of a second, 0.01 to 40.95.
    #[error("an advert interval of version 3 is 0.01 to 40.95 seconds in steps of 0.01")]
    IntervalV3,
}

/// Virtual router id, 1 to 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Vrid(u8);

impl Vrid {
    /// Checks the range.
    ///
    /// # Errors
    /// [`NumberError::Vrid`] for 0.
    pub fn new(id: u8) -> Result<Self, NumberError> {
        if id == 0 {
            Err(NumberError::Vrid)
        } else {
            Ok(Self(id))
        }
    }

    /// The number.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Vrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Configured priority, 1 to 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Priority(u8);

impl Priority {
    /// The address owner's, which tracking never changes.
    pub const OWNER: Self = Self(255);
    /// What an instance has that names none.
    pub const DEFAULT: Self = Self(100);

    /// Checks the range.
    ///
    /// # Errors
    /// [`NumberError::Priority`] for 0, which resigns.
    pub fn new(priority: u8) -> Result<Self, NumberError> {
        if priority == 0 {
            Err(NumberError::Priority)
        } else {
            Ok(Self(priority))
        }
    }

    /// The number.
    pub fn get(self) -> u8 {
        self.0
    }

    /// Whether this is the address owner's.
    pub fn is_owner(self) -> bool {
        self == Self::OWNER
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum VrrpVersion {
    /// RFC 3768; over IPv6 as keepalived has it.
    V2,
    /// RFC 5798 and RFC 9568.
    V3,
}

impl VrrpVersion {
    /// 2 or 3.
    pub fn number(self) -> u8 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }
}

/// Time between two adverts, in hundredths of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct AdvertInterval(u16);

impl AdvertInterval {
    /// One second.
    pub const DEFAULT: Self = Self(100);

    /// Checks that `version` can say it. Callers that round tell their user so.
    ///
    /// # Errors
    /// [`NumberError::IntervalV2`] or [`NumberError::IntervalV3`].
    pub fn new(version: VrrpVersion, interval: Duration) -> Result<Self, NumberError> {
        let micros = interval.as_micros();
        let (unit, most, error) = match version {
            VrrpVersion::V2 => (1_000_000, 255, NumberError::IntervalV2),
            VrrpVersion::V3 => (10_000, 4095, NumberError::IntervalV3),
        };
        if !micros.is_multiple_of(unit) || !(1..=most).contains(&(micros / unit)) {
            return Err(error);
        }
        Ok(Self((micros / 10_000) as u16))
    }

    /// As a version 3 advert says it, 0 to 4095; `None` for 0.
    pub fn from_centiseconds(centiseconds: u16) -> Option<Self> {
        (1..=4095)
            .contains(&centiseconds)
            .then_some(Self(centiseconds))
    }

    /// As a version 2 advert says it; `None` for 0.
    pub fn from_seconds(seconds: u8) -> Option<Self> {
        (seconds != 0).then_some(Self(u16::from(seconds) * 100))
    }

    /// Hundredths of a second.
    pub fn centiseconds(self) -> u16 {
        self.0
    }

    /// As a duration.
    pub fn duration(self) -> Duration {
        Duration::from_millis(u64::from(self.0) * 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_what_the_version_can_say() {
        let ms = Duration::from_millis;
        for (version, interval, good) in [
            (VrrpVersion::V2, ms(1000), true),
            (VrrpVersion::V2, ms(255_000), true),
            (VrrpVersion::V2, ms(256_000), false),
            (VrrpVersion::V2, ms(400), false),
            (VrrpVersion::V2, ms(0), false),
            (VrrpVersion::V3, ms(10), true),
            (VrrpVersion::V3, ms(15), false),
            (VrrpVersion::V3, ms(40_950), true),
            (VrrpVersion::V3, ms(40_960), false),
            (VrrpVersion::V3, ms(0), false),
        ] {
            let made = AdvertInterval::new(version, interval);
            assert_eq!(made.is_ok(), good, "{version:?} {interval:?}");
            if let Ok(made) = made {
                assert_eq!(made.duration(), interval);
            }
        }
    }
}
