use std::fmt::Display;

use serde::{Deserialize, Serialize};

/// What one probe gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The server is fit.
    pub up: bool,
    /// It says something of the server; otherwise the verdict stays as it is, whatever `up` holds.
    pub counts: bool,
    /// What was seen, in words for an operator and without secrets: `connection refused`, `status 503`.
    pub reason: String,
    /// What the probe says of the server's weight.
    pub weight: Option<Weigh>,
}

impl Outcome {
    /// A good answer.
    pub fn up(reason: impl Display) -> Self {
        Self {
            up: true,
            counts: true,
            reason: reason.to_string(),
            weight: None,
        }
    }

    /// A bad answer or none.
    pub fn down(reason: impl Display) -> Self {
        Self {
            up: false,
            counts: true,
            reason: reason.to_string(),
            weight: None,
        }
    }

    /// Nothing was learnt of the server.
    pub fn nothing(reason: impl Display) -> Self {
        Self {
            counts: false,
            ..Self::down(reason)
        }
    }

    /// The same, with a word on the server's weight.
    #[must_use]
    pub fn weighing(mut self, weight: Weigh) -> Self {
        self.weight = Some(weight);
        self
    }
}

/// What a check says of a server's weight. Several checks of a server add up, each as its distance
/// from the configured weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weigh {
    /// Let it be this (`misc_dynamic`: exit status - 2).
    To(u32),
    /// Let it differ from the configured one by this (`FILE_CHECK`).
    By(i64),
    /// Let it be this share of the configured one, in percent (agent).
    Percent(u32),
}

impl Weigh {
    /// How much is to be added to a configured weight.
    pub fn difference(self, configured: u32) -> i64 {
        let configured = i64::from(configured);
        match self {
            Self::To(weight) => i64::from(weight) - configured,
            Self::By(difference) => difference,
            // Rounded up, as HAProxy does: a server that works gets work.
            Self::Percent(percent) => {
                (configured * i64::from(percent) + 99).div_euclid(100) - configured
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_told_apart_by_their_distance_from_the_configured_one() {
        for (weigh, configured, difference) in [
            (Weigh::To(253), 3, 250),
            (Weigh::To(0), 3, -3),
            (Weigh::By(-5), 3, -5),
            (Weigh::Percent(50), 100, -50),
            (Weigh::Percent(1), 10, -9),
            (Weigh::Percent(0), 10, -10),
            (Weigh::Percent(200), 10, 10),
        ] {
            assert_eq!(weigh.difference(configured), difference, "{weigh:?}");
        }
    }
}
