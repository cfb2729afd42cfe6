use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// How a virtual service chooses a real server for a new connection; the names are IPVS's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// Round robin: each eligible server in turn, newest first.
    Rr,
    /// Weighted round robin.
    Wrr,
    /// Least connection.
    Lc,
    /// Weighted least connection.
    Wlc,
    /// Locality-based least connection: one server for each destination address.
    Lblc,
    /// Locality-based least connection with replication: a set of servers for each.
    Lblcr,
    /// Destination hashing.
    Dh,
    /// Source hashing.
    Sh,
    /// Shortest expected delay.
    Sed,
    /// Never queue: an idle server, else shortest expected delay.
    Nq,
    /// Weighted failover: the heaviest server.
    Fo,
    /// Weighted overflow: the heaviest server that is not full.
    Ovf,
    /// Maglev hashing.
    Mh,
    /// The better of two servers drawn at random by weight.
    Twos,
    /// No scheduler bound: established connections continue, new ones find no destination.
    None,
}

impl Scheduler {
    /// Every scheduler, in the order the help text names them.
    pub const ALL: [Self; 15] = [
        Self::Rr,
        Self::Wrr,
        Self::Lc,
        Self::Wlc,
        Self::Lblc,
        Self::Lblcr,
        Self::Dh,
        Self::Sh,
        Self::Sed,
        Self::Nq,
        Self::Fo,
        Self::Ovf,
        Self::Mh,
        Self::Twos,
        Self::None,
    ];

    /// The name users type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
            Self::Lblc => "lblc",
            Self::Lblcr => "lblcr",
            Self::Dh => "dh",
            Self::Sh => "sh",
            Self::Sed => "sed",
            Self::Nq => "nq",
            Self::Fo => "fo",
            Self::Ovf => "ovf",
            Self::Mh => "mh",
            Self::Twos => "twos",
            Self::None => "none",
        }
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scheduler {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|s| s.name() == name)
            .ok_or_else(|| Error::SchedulerNotFound(name.to_owned()))
    }
}

/// The three scheduler flags of a service, as bits of its IPVS flag word
/// (`IP_VS_SVC_F_SCHED1` 0x08, `SCHED2` 0x10, `SCHED3` 0x20).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SchedFlags(u32);

impl SchedFlags {
    /// `flag-1`: sh-fallback, mh-fallback.
    pub const FLAG_1: Self = Self(0x08);
    /// `flag-2`: sh-port, mh-port.
    pub const FLAG_2: Self = Self(0x10);
    /// `flag-3`: no scheduler uses it.
    pub const FLAG_3: Self = Self(0x20);

    /// From an IPVS flag word; other bits are dropped.
    pub fn from_bits_truncate(bits: u32) -> Self {
        Self(bits & 0x38)
    }

    /// The bits as they stand in the IPVS flag word.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// True when every flag of `other` is set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// True when no flag is set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl std::ops::BitOr for SchedFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
