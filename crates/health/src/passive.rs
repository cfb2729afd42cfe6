//! What clients' connections tell of a server. Pure: time comes in.
//!
//! A server is dead when a run of connections failed, one after the other, without one between them that
//! was answered. Loss cannot do that (at 1 % loss ten in a row are 1 in 10^20), and at 100 connections per
//! second ten take 100 ms. While a server is out no clients tell of it, so it comes back after a while;
//! its other checks, which go on, must agree.

use std::time::{Duration, Instant};

use pointsman_model::check::PassiveCheck;

/// A fall this soon after a return makes the next absence longer.
const SOON: Duration = Duration::from_secs(300);

/// What happened to some connections of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// The SYN was answered by RST.
    Refused,
    /// Nothing came of the SYN, while other servers of the service answered theirs.
    Unanswered,
    /// The handshake was completed.
    Answered,
}

/// The passive check of one server.
#[derive(Clone, Debug)]
pub struct Passive {
    rules: PassiveCheck,
    streak: u32,
    refused: u32,
    hold: Duration,
    out_until: Option<Instant>,
    returned: Option<Instant>,
}

impl Passive {
    /// Nothing is known; the server is up.
    pub fn new(rules: PassiveCheck) -> Self {
        Self {
            rules,
            streak: 0,
            refused: 0,
            hold: rules.hold,
            out_until: None,
            returned: None,
        }
    }

    /// The server was out before, nobody knows since when.
    pub fn stays_out(&mut self, now: Instant) {
        self.out_until = Some(now + self.hold);
    }

    /// When the server comes back, while it is out.
    pub fn due(&self) -> Option<Instant> {
        self.out_until
    }

    /// Takes evidence; gives the reason if this takes the server out.
    pub fn evidence(&mut self, now: Instant, evidence: Evidence, count: u32) -> Option<String> {
        if self.out_until.is_some() || count == 0 {
            return None;
        }
        match evidence {
            Evidence::Answered => {
                (self.streak, self.refused) = (0, 0);
                return None;
            }
            Evidence::Refused => self.refused = self.refused.saturating_add(count),
            Evidence::Unanswered => {}
        }
        self.streak = self.streak.saturating_add(count);
        if self.streak < self.rules.streak {
            return None;
        }
        let soon = self
            .returned
            .is_some_and(|at| now.duration_since(at) < SOON);
        self.hold = match soon {
            true => (self.hold * 2).min(self.rules.max_hold),
            false => self.rules.hold,
        };
        self.out_until = Some(now + self.hold);
        let (streak, refused) = (self.streak, self.refused);
        (self.streak, self.refused) = (0, 0);
        Some(format!(
            "{streak} connections of clients in a row failed ({refused} refused, {} without answer)",
            streak - refused
        ))
    }

    /// The time of [`Self::due`] has come: the server gets another chance.
    pub fn come_back(&mut self, now: Instant) {
        self.out_until = None;
        self.returned = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_dead_listener_is_out_within_300_ms_at_100_connections_per_second() {
        let start = Instant::now();
        for feed_period in [1, 20, 50, 100] {
            let mut passive = Passive::new(PassiveCheck::default());
            let mut read_until = 0;
            let out = (1..=10)
                .map(|read| read * feed_period)
                .find(|&now| {
                    // One connection each 10 ms, refused at once.
                    let count = now / 10 - read_until / 10;
                    read_until = now;
                    let now = start + MS * now;
                    passive.evidence(now, Evidence::Refused, count).is_some()
                })
                .or_else(|| {
                    (11..=300).map(|read| read * feed_period).find(|&now| {
                        let count = now / 10 - read_until / 10;
                        read_until = now;
                        passive
                            .evidence(start + MS * now, Evidence::Refused, count)
                            .is_some()
                    })
                })
                .expect("it is taken out");
            assert!(out <= 200, "{out} ms with a reading each {feed_period} ms");
        }
    }

    #[test]
    fn one_answer_between_is_a_sign_of_life() {
        let now = Instant::now();
        let mut passive = Passive::new(PassiveCheck::default());
        for _ in 0..1000 {
            assert_eq!(passive.evidence(now, Evidence::Unanswered, 9), None);
            assert_eq!(passive.evidence(now, Evidence::Answered, 1), None);
        }
    }

    #[test]
    fn ten_minutes_of_loss_take_nobody_out() {
        // A small generator of its own, so that the run is the same each time.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut passive = Passive::new(PassiveCheck::default());
        let start = Instant::now();
        for connection in 0..60_000_u32 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let kind = match state % 100 {
                0 => Evidence::Unanswered,
                _ => Evidence::Answered,
            };
            let now = start + MS * (connection * 10);
            assert_eq!(passive.evidence(now, kind, 1), None);
        }
    }

    #[test]
    fn who_falls_again_soon_stays_out_longer() {
        let mut passive = Passive::new(PassiveCheck::default());
        let mut now = Instant::now();
        let mut holds = Vec::new();
        for _ in 0..6 {
            assert!(passive.evidence(now, Evidence::Refused, 10).is_some());
            let due = passive.due().expect("it is out");
            holds.push((due - now).as_secs());
            assert_eq!(
                passive.evidence(now, Evidence::Refused, 10),
                None,
                "out already"
            );
            now = due;
            passive.come_back(now);
        }
        assert_eq!(holds, [10, 20, 40, 80, 120, 120]);
        now += SOON;
        passive.evidence(now, Evidence::Unanswered, 10);
        assert_eq!(passive.due(), Some(now + Duration::from_secs(10)));
    }
}
