//! HAProxy's agent-check: a program on the server says in a line of text how it feels.
//!
//! `up`, `down`, `stopped`, `fail` are its state; `maint`, `drain` and `ready` an operator's wish, which
//! holds until `ready`; `75%` is its share of the configured weight, smoothed here; `maxconn:N`
//! is read and left aside. An agent that does not answer says nothing of the server.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pointsman_model::ProbeTarget;
use pointsman_model::check::AgentCheck;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::damping::Damper;
use crate::net::{connect, describe, within};
use crate::{Context, Outcome, Weigh};

/// Longest line that is read.
const LINE_BYTES: usize = 1024;

/// An agent check, with what it was told so far.
#[derive(Debug)]
pub(super) struct Agent {
    send: Option<String>,
    told: Mutex<Told>,
}

#[derive(Debug)]
struct Told {
    up: bool,
    wish: Wish,
    damper: Damper,
    weighed: bool,
}

/// What an operator wants, by way of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Work.
    Ready,
    /// No new connections.
    Drain,
    /// Out of the pool.
    Maintenance,
}

/// What one line says; what it does not say is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The server works.
    pub up: Option<bool>,
    /// An operator's wish.
    pub wish: Option<Wish>,
    /// Share of the configured weight, percent.
    pub percent: Option<u32>,
    /// What stood behind a `#`, or the words after a state.
    pub why: String,
}

impl Agent {
    pub(super) fn new(check: &AgentCheck) -> Self {
        Self {
            send: check.send.clone(),
            told: Mutex::new(Told {
                up: true,
                wish: Wish::Ready,
                damper: Damper::new(check.damping),
                weighed: false,
            }),
        }
    }

    pub(super) async fn probe(
        &self,
        target: &ProbeTarget,
        limit: Duration,
        context: &Context,
    ) -> Outcome {
        let line = within(limit, self.ask(target, limit, context)).await;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match line.map(|line| parse(&line)) {
            Ok(Some(reading)) => told.hear(Instant::now(), reading),
            Ok(None) => told.silence(Instant::now(), "the agent's words are not understood"),
            Err(error) => told.silence(Instant::now(), &format!("agent: {}", describe(&error))),
        }
    }

    async fn ask(
        &self,
        target: &ProbeTarget,
        limit: Duration,
        context: &Context,
    ) -> std::io::Result<Vec<u8>> {
        let mut stream = connect(target, limit, context).await?;
        if let Some(send) = &self.send {
            stream.write_all(send.as_bytes()).await?;
        }
        let mut line = Vec::new();
        let mut buffer = [0; 256];
        while line.len() < LINE_BYTES && !line.contains(&b'\n') {
            match stream.read(&mut buffer).await? {
                0 => break,
                length => line.extend_from_slice(&buffer[..length]),
            }
        }
        Ok(line)
    }
}

impl Told {
    fn hear(&mut self, now: Instant, reading: Reading) -> Outcome {
        self.up = reading.up.unwrap_or(self.up);
        self.wish = reading.wish.unwrap_or(self.wish);
        if let Some(percent) = reading.percent {
            self.damper.read(now, percent);
            self.weighed = true;
        }
        let why = match reading.why.as_str() {
            "" => String::new(),
            why => format!(" ({why})"),
        };
        match (self.up, self.wish) {
            (false, _) => Outcome::down(format!("the agent says down{why}")),
            (true, Wish::Maintenance) => Outcome::down(format!("in maintenance{why}")),
            (true, Wish::Drain) => {
                Outcome::up(format!("draining{why}")).weighing(Weigh::Percent(0))
            }
            (true, Wish::Ready) if self.weighed => {
                let percent = self.damper.percent();
                Outcome::up(format!("weight {percent} %{why}")).weighing(Weigh::Percent(percent))
            }
            (true, Wish::Ready) => Outcome::up(format!("the agent says up{why}")),
        }
    }

    fn silence(&mut self, now: Instant, reason: &str) -> Outcome {
        let outcome = Outcome::nothing(reason);
        let percent = match self.wish {
            Wish::Drain => 0,
            Wish::Ready | Wish::Maintenance if self.weighed => self.damper.silence(now),
            Wish::Ready | Wish::Maintenance => return outcome,
        };
        outcome.weighing(Weigh::Percent(percent))
    }
}

/// Reads an agent's line; `None` if it holds no word that is known.
pub fn parse(line: &[u8]) -> Option<Reading> {
    let line = String::from_utf8_lossy(line.get(..LINE_BYTES).unwrap_or(line));
    let line = line.lines().next()?;
    let (words, comment) = line.split_once('#').unwrap_or((line, ""));
    let mut reading = Reading::default();
    let mut known = false;
    let mut rest = words;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if rest.is_empty() {
            break;
        }
        let end = rest
            .find(|c: char| c.is_whitespace() || c == ',')
            .unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        match word.to_ascii_lowercase().as_str() {
            "up" => reading.up = Some(true),
            "ready" => reading.wish = Some(Wish::Ready),
            "drain" => reading.wish = Some(Wish::Drain),
            "maint" => reading.wish = Some(Wish::Maintenance),
            "down" | "stopped" | "fail" | "failed" => reading.up = Some(false),
            other => match other.strip_suffix('%').map(str::parse::<u32>) {
                // HAProxy goes up to 256 times the weight; so do we.
                Some(Ok(percent)) => reading.percent = Some(percent.min(25_600)),
                _ if other.starts_with("maxconn:") => {}
                _ => {
                    rest = after;
                    continue;
                }
            },
        }
        known = true;
        rest = after;
    }
    reading.why = comment
        .trim()
        .chars()
        .filter(|c| !c.is_control())
        .take(120)
        .collect();
    known.then_some(reading)
}

#[cfg(test)]
mod tests {
    use pointsman_model::check::Damping;

    use super::*;

    fn told() -> Told {
        Told {
            up: true,
            wish: Wish::Ready,
            damper: Damper::new(Damping::default()),
            weighed: false,
        }
    }

    fn hear(told: &mut Told, now: Instant, line: &str) -> (bool, Option<u32>) {
        let outcome = told.hear(now, parse(line.as_bytes()).expect("a line of an agent"));
        let percent = outcome.weight.map(|weight| match weight {
            Weigh::Percent(percent) => percent,
            other => panic!("{other:?}"),
        });
        (outcome.up, percent)
    }

    #[test]
    fn words_of_haproxy_are_known() {
        let reading = |up, wish, percent, why: &str| {
            Some(Reading {
                up,
                wish,
                percent,
                why: why.into(),
            })
        };
        for (line, wanted) in [
            ("up\n", reading(Some(true), None, None, "")),
            ("75%\r\n", reading(None, None, Some(75), "")),
            (
                "ready,up,100% # fine\n",
                reading(Some(true), Some(Wish::Ready), Some(100), "fine"),
            ),
            (
                "DOWN # disk full",
                reading(Some(false), None, None, "disk full"),
            ),
            (
                "drain maxconn:30",
                reading(None, Some(Wish::Drain), None, ""),
            ),
            ("stopped\nup", reading(Some(false), None, None, "")),
            ("", None),
            ("\n", None),
            ("hello world", None),
            ("%", None),
            ("99999999999999%", None),
        ] {
            assert_eq!(parse(line.as_bytes()), wanted, "{line:?}");
        }
    }

    #[test]
    fn a_wish_holds_until_ready() {
        let (mut told, now) = (told(), Instant::now());
        assert_eq!(hear(&mut told, now, "up 80%"), (true, Some(80)));
        assert_eq!(hear(&mut told, now, "drain"), (true, Some(0)));
        assert_eq!(hear(&mut told, now, "80%"), (true, Some(0)));
        assert_eq!(hear(&mut told, now, "ready"), (true, Some(80)));
        assert_eq!(hear(&mut told, now, "maint"), (false, None));
        assert_eq!(hear(&mut told, now, "up"), (false, None));
        assert_eq!(hear(&mut told, now, "ready"), (true, Some(80)));
        assert_eq!(hear(&mut told, now, "fail"), (false, None));
        assert_eq!(hear(&mut told, now, "up"), (true, Some(80)));
    }

    #[test]
    fn a_silent_agent_says_nothing_of_the_server() {
        let (mut told, now) = (told(), Instant::now());
        assert_eq!(told.silence(now, "x").weight, None);
        hear(&mut told, now, "40%");
        let silent = told.silence(now + Duration::from_secs(1), "x");
        assert!(!silent.counts);
        assert_eq!(silent.weight, Some(Weigh::Percent(40)));
        let long = told.silence(now + Duration::from_secs(60), "x");
        assert_eq!(long.weight, Some(Weigh::Percent(100)));
    }

    proptest::proptest! {
        #[test]
        fn any_line_gives_a_bounded_reading(
            line in proptest::collection::vec(proptest::num::u8::ANY, 0..2000),
            words in "(up|down|[0-9]{0,12}%|drain|#|,| |\n){0,20}",
        ) {
            for line in [&line[..], words.as_bytes()] {
                if let Some(reading) = parse(line) {
                    proptest::prop_assert!(reading.percent.is_none_or(|percent| percent <= 25_600));
                    proptest::prop_assert!(!reading.why.contains(char::is_control));
                    proptest::prop_assert!(reading.why.chars().count() <= 120);
                }
            }
        }
    }
}
