//! What tracked objects do to an instance: scripts that rise and fall, numbers in files, counts of
//! processes, interfaces, BFD sessions.

use std::time::Duration;

use pointsman_model::vrrp::{TrackProcess, TrackScript, TrackWeight};

use crate::Time;
use crate::group::Tracking;

/// State of a tracked object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Not looked at yet.
    Unknown,
    /// Well or failed.
    Good(bool),
    /// The number of a tracked file.
    Number(i64),
}

/// Adds what an object of this condition does to an instance that tracks it with this weight.
/// `weighted` is false where weights do not count: owners, and members of groups that do not allow
/// them.
pub fn influence(weight: TrackWeight, condition: Condition, weighted: bool, sum: &mut Tracking) {
    let points = i32::from(weight.points);
    let signed = if weight.reverse { -points } else { points };
    match condition {
        Condition::Unknown => sum.waiting |= points == 0,
        Condition::Good(good) if points == 0 => sum.fault |= good == weight.reverse,
        Condition::Good(good) => {
            if weighted && good == (points > 0) {
                sum.weight += signed;
            }
        }
        Condition::Number(number) if points == 0 => {
            sum.fault |= (number != 0) != weight.reverse;
        }
        Condition::Number(number) => {
            let effect = number.saturating_mul(i64::from(signed));
            if effect <= -254 {
                sum.fault = true;
            } else if weighted {
                sum.weight += effect.clamp(-253, 253) as i32;
            }
        }
    }
}

/// Counts results of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RiseFall {
    rise: u32,
    fall: u32,
    count: u32,
    condition: Condition,
}

impl RiseFall {
    /// No result yet: the first one decides alone.
    pub fn new(script: &TrackScript) -> Self {
        Self {
            rise: script.rise.get(),
            fall: script.fall.get(),
            count: script.rise.get() - 1,
            condition: Condition::Unknown,
        }
    }

    /// The same verdict under other thresholds, as a reload has it.
    pub fn retuned(self, script: &TrackScript) -> Self {
        let mut new = Self::new(script);
        new.condition = self.condition;
        new.count = match self.condition {
            Condition::Good(true) => new.rise + new.fall - 1,
            Condition::Good(false) => 0,
            _ => new.count,
        };
        new
    }

    /// Its condition.
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// A run succeeded or failed; the answer is whether the condition changed.
    pub fn result(&mut self, success: bool) -> bool {
        let before = self.condition;
        let top = self.rise + self.fall - 1;
        match before {
            Condition::Good(now_good) => {
                if success {
                    if self.count < self.rise - 1 {
                        self.count += 1;
                    } else {
                        self.count = top;
                        self.condition = Condition::Good(true);
                    }
                } else if self.count > self.rise {
                    self.count -= 1;
                } else if now_good {
                    self.count = 0;
                    self.condition = Condition::Good(false);
                } else {
                    self.count = 0;
                }
            }
            Condition::Unknown | Condition::Number(_) => {
                self.count = if success { top } else { 0 };
                self.condition = Condition::Good(success);
            }
        }
        self.condition != before
    }
}

/// Judges counts of processes, with delays before a change counts.
#[derive(Clone, Copy, Debug)]
pub struct ProcessCount {
    quorum: u32,
    most: u32,
    fork_delay: Duration,
    terminate_delay: Duration,
    condition: Condition,
    pending: Option<(bool, Time)>,
}

impl ProcessCount {
    /// Nothing counted yet: the first count decides at once.
    pub fn new(process: &TrackProcess) -> Self {
        Self {
            quorum: process.quorum,
            most: process.quorum_max.unwrap_or(u32::MAX),
            fork_delay: process.fork_delay,
            terminate_delay: process.terminate_delay,
            condition: Condition::Unknown,
            pending: None,
        }
    }

    /// Its condition.
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// So many run now; the answer is whether the condition changed.
    pub fn counted(&mut self, count: u32, now: Time) -> bool {
        let good = (self.quorum..=self.most).contains(&count);
        if self.condition == Condition::Good(good) {
            self.pending = None;
            return false;
        }
        let delay = if good {
            self.fork_delay
        } else {
            self.terminate_delay
        };
        let due = match self.pending {
            Some((pending, due)) if pending == good => due,
            _ => now + delay,
        };
        if self.condition == Condition::Unknown || due <= now {
            self.condition = Condition::Good(good);
            self.pending = None;
            return true;
        }
        self.pending = Some((good, due));
        false
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use pointsman_model::Script;

    use super::*;

    fn sum(points: i16, reverse: bool, condition: Condition) -> Tracking {
        let mut sum = Tracking::default();
        influence(TrackWeight { points, reverse }, condition, true, &mut sum);
        sum
    }

    #[test]
    fn weights_work_as_the_table_says() {
        for (points, reverse, good, weight, fault) in [
            (5, false, true, 5, false),
            (5, false, false, 0, false),
            (-5, false, true, 0, false),
            (-5, false, false, -5, false),
            (5, true, true, -5, false),
            (5, true, false, 0, false),
            (-5, true, true, 0, false),
            (-5, true, false, 5, false),
            (0, false, true, 0, false),
            (0, false, false, 0, true),
            (0, true, true, 0, true),
            (0, true, false, 0, false),
        ] {
            let sum = sum(points, reverse, Condition::Good(good));
            assert_eq!(
                (sum.weight, sum.fault),
                (weight, fault),
                "{points} {reverse} {good}"
            );
        }
    }

    #[test]
    fn numbers_of_files_are_multiplied_and_bounded() {
        for (number, points, weight, fault) in [
            (3, 10, 30, false),
            (-3, 10, -30, false),
            (1000, 1, 253, false),
            (-254, 1, 0, true),
            (i64::MIN, 254, 0, true),
            (i64::MAX, 254, 253, false),
            (1, 0, 0, true),
            (0, 0, 0, false),
        ] {
            let sum = sum(points, false, Condition::Number(number));
            assert_eq!(
                (sum.weight, sum.fault),
                (weight, fault),
                "{number} {points}"
            );
        }
    }

    fn script(rise: u32, fall: u32) -> RiseFall {
        RiseFall::new(&TrackScript {
            name: "s".into(),
            script: Script::new(["/bin/true"]),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            rise: NonZeroU32::new(rise).unwrap(),
            fall: NonZeroU32::new(fall).unwrap(),
            starts_failed: false,
        })
    }

    #[test]
    fn scripts_rise_and_fall() {
        let mut counter = script(3, 2);
        assert!(counter.result(false), "the first result decides alone");
        assert_eq!(counter.condition(), Condition::Good(false));
        assert!(!counter.result(true));
        assert!(!counter.result(true));
        assert!(counter.result(true), "three successes make it well");
        assert!(!counter.result(false));
        assert!(counter.result(false), "two failures make it fail");
        assert!(!counter.result(true));
        assert!(!counter.result(false), "one failure starts the count again");
        assert!(!counter.result(true));
        assert!(!counter.result(true));
        assert!(counter.result(true));
    }

    #[test]
    fn processes_count_after_their_delay() {
        let mut count = ProcessCount::new(&TrackProcess {
            name: "p".into(),
            program: "p".into(),
            parameters: Vec::new(),
            parameter_match: None,
            full_command: false,
            quorum: 1,
            quorum_max: Some(2),
            fork_delay: Duration::ZERO,
            terminate_delay: Duration::from_secs(3),
        });
        let at = |s| Time::from_boot(Duration::from_secs(s));
        assert!(count.counted(1, at(0)));
        assert!(!count.counted(0, at(1)));
        assert!(!count.counted(0, at(3)));
        assert!(!count.counted(1, at(3)));
        assert!(!count.counted(0, at(5)));
        assert!(count.counted(3, at(8)), "too many are as bad as too few");
        assert_eq!(count.condition(), Condition::Good(false));
        assert!(count.counted(2, at(9)));
    }
}
