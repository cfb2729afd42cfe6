//! What a run of answers means: up or down, and whether to ask again soon.

use pointsman_model::Counting;

/// The standing of one check, and what led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    counting: Counting,
    retries: u32,
    up: bool,
    asked: bool,
    failures: u32,
}

/// What one answer changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// The new standing, if it is a new one.
    pub change: Option<bool>,
    /// A failure that is forgiven for now: which one in a row, of how many that take the server out.
    pub forgiven: Option<(u32, u32)>,
    /// It was the first answer ever.
    pub first: bool,
}

impl Verdict {
    /// The standing before anything was asked: up, or with `alpha` down. `retries` failures in a row are
    /// forgiven.
    pub fn new(counting: Counting, retries: u32, alpha: bool) -> Self {
        Self {
            counting,
            retries,
            up: !alpha,
            asked: false,
            failures: 0,
        }
    }

    /// Whether the server counts as up.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Failures in a row while up, forgiven so far.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The same standing under other numbers: what a changed configuration leaves of it.
    pub fn inherit(&mut self, old: &Self) {
        self.up = old.up;
        self.asked = old.asked;
    }

    /// A good answer, to all that is asked.
    pub fn good(&mut self) -> Judged {
        let judged = Judged {
            change: (!self.up).then_some(true),
            forgiven: None,
            first: !self.asked,
        };
        (self.up, self.asked, self.failures) = (true, true, 0);
        judged
    }

    /// A good answer to one question of several: failures are forgotten, the standing stays.
    pub fn good_so_far(&mut self) -> Judged {
        let first = !self.asked;
        (self.asked, self.failures) = (true, 0);
        Judged {
            first,
            ..Judged::default()
        }
    }

    /// A bad answer or none.
    pub fn bad(&mut self) -> Judged {
        let first = !self.asked;
        self.asked = true;
        if !self.up {
            return Judged {
                first,
                ..Judged::default()
            };
        }
        self.failures += 1;
        let forgiven = match self.counting {
            // One that never answered gets no second chance: nothing says that it ever worked.
            Counting::Retries => !first && self.failures <= self.retries,
            Counting::Rounds => self.failures <= self.retries,
        };
        if forgiven {
            return Judged {
                change: None,
                forgiven: Some((self.failures, self.retries + 1)),
                first,
            };
        }
        (self.up, self.failures) = (false, 0);
        Judged {
            change: Some(false),
            forgiven: None,
            first,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays answers (`+` good, `-` bad) and writes down what each did: `U`, `D`, `r` forgiven, `.` nothing.
    fn play(counting: Counting, retries: u32, alpha: bool, answers: &str) -> String {
        let mut verdict = Verdict::new(counting, retries, alpha);
        answers
            .chars()
            .map(|answer| {
                let judged = match answer {
                    '+' => verdict.good(),
                    _ => verdict.bad(),
                };
                match judged {
                    Judged {
                        change: Some(true), ..
                    } => 'U',
                    Judged {
                        change: Some(false),
                        ..
                    } => 'D',
                    Judged {
                        forgiven: Some(_), ..
                    } => 'r',
                    _ => '.',
                }
            })
            .collect()
    }

    #[test]
    fn keepalived_forgives_only_who_was_up_before() {
        use Counting::Retries;
        for (retries, alpha, answers, wanted) in [
            (1, false, "-", "D"),
            (1, false, "+--", ".rD"),
            (3, false, "+---+----", ".rrr.rrrD"),
            (0, false, "+-+-", ".DUD"),
            (1, false, "-+-+--", "DUr.rD"),
            (1, true, "--+--", "..UrD"),
            (1, true, "+", "U"),
            (1, false, "+-+-+-+", ".r.r.r."),
        ] {
            assert_eq!(play(Retries, retries, alpha, answers), wanted, "{answers}");
        }
    }

    #[test]
    fn ldirectord_counts_over_rounds_from_the_first() {
        use Counting::Rounds;
        for (failurecount, answers, wanted) in [
            (1, "-+-", "DUD"),
            (3, "---", "rrD"),
            (3, "--+---+", "rr.rrDU"),
        ] {
            assert_eq!(
                play(Rounds, failurecount - 1, false, answers),
                wanted,
                "{answers}"
            );
        }
    }

    #[test]
    fn the_count_of_failures_is_told() {
        let mut verdict = Verdict::new(Counting::Retries, 2, false);
        assert!(verdict.good().first);
        assert_eq!(verdict.bad().forgiven, Some((1, 3)));
        assert_eq!(verdict.bad().forgiven, Some((2, 3)));
        assert_eq!(verdict.bad().change, Some(false));
    }

    #[test]
    fn a_changed_check_keeps_the_standing() {
        let mut old = Verdict::new(Counting::Retries, 0, false);
        old.bad();
        let mut new = Verdict::new(Counting::Retries, 5, false);
        new.inherit(&old);
        assert!(!new.is_up());
        assert_eq!(new.good().change, Some(true));
    }
}
