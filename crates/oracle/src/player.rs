//! Plays a scenario's commands on a stage.
//!
//! | command | what it does and prints |
//! |---|---|
//! | `ipvsadm ARGUMENTS` | runs it; standard output, `!` standard error, `=` exit status |
//! | `sysctl NAME[=VALUE]`, `sysctl -a` | of `net.ipv4.vs.` |
//! | `proc NAME` | the file of /proc/net |
//! | `mark N MATCH…` | an iptables rule that marks packets |
//! | `ip ARGUMENTS` | links, addresses and routes of the director |
//! | `tcp CLIENT VIP:PORT [WORDS]`, `udp`, `sctp` | whole conversations; the number of the real server of each, or why there is none |
//! | `ask` | each held connection sends a request; the servers that answer |
//! | `release [N]` | closes the first N, or all, held connections |
//! | `send PACKET` | one packet by hand ([`crate::crafted`]); what came out of the director, and to whom |
//! | `wait SECONDS` | |
//!
//! Words of a conversation: `xN` of them one after the other; `hold` leaves it established, `open`
//! sends only the first packet; `step K` goes on by K clients each
//! time; `target K` by K virtual addresses; `sport P` uses this client port (each time the same);
//! `size N` bytes in UDP's request; `shares` prints percentages, rounded to tens, instead of each.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::commands;
use crate::crafted;
use crate::names::Side;
use crate::scenario::Step;
use crate::stage::Stage;
use crate::traffic::{self, Conversation, End, Outcome, Protocol};

/// A stage with what a scenario has going on there.
pub struct Player<'a> {
    stage: &'a mut Stage,
    held: Vec<Conversation>,
    port: u16,
}

impl<'a> Player<'a> {
    /// Begins on a stage that is fresh, or as good as that.
    pub fn new(stage: &'a mut Stage) -> Self {
        Self {
            stage,
            held: Vec::new(),
            port: 1024,
        }
    }

    /// Plays one command and returns what is to be said of it.
    ///
    /// # Errors
    /// When the command is not understood or the stage broke down: nothing of IPVS's doing.
    pub fn play(&mut self, step: &Step) -> Result<Vec<String>> {
        let (verb, rest) = step.command.split_once(' ').unwrap_or((&step.command, ""));
        let answer = match verb {
            "ipvsadm" => {
                let answer = commands::ipvsadm(self.stage, rest, &step.input);
                // Whom the director asks for when it learns of a server is to be answered soon.
                self.stage.ends.exchange(Side::Client, &[])?;
                answer
            }
            "sysctl" => commands::sysctl(self.stage, rest),
            "proc" => commands::proc(self.stage, rest),
            "mark" => commands::mark(self.stage, rest),
            "ip" => commands::ip(self.stage, rest),
            "tcp" => self.converse(Protocol::Tcp, rest),
            "udp" => self.converse(Protocol::Udp, rest),
            "sctp" => self.converse(Protocol::Sctp, rest),
            "ask" => self.ask(),
            "release" => self.release(rest),
            "send" => self.send(rest),
            "wait" => self.wait(rest),
            _ => bail!("{verb} is no command of scenarios"),
        };
        answer.with_context(|| step.command.clone())
    }

    fn converse(&mut self, protocol: Protocol, text: &str) -> Result<Vec<String>> {
        let plan = Plan::parse(text)?;
        let mut words = Vec::new();
        for n in 0..plan.count {
            let (mut client, target) = plan.ends(n);
            if client.1 == 0 {
                self.port += 1;
                client.1 = self.port;
            }
            words.push(self.one(protocol, &plan, client, target)?);
        }
        if !plan.shares {
            return Ok(vec![words.join(" ")]);
        }
        let mut counts = BTreeMap::<String, usize>::new();
        for word in words {
            *counts.entry(word).or_default() += 1;
        }
        let percent = |count: usize| (count * 10 + plan.count / 2) / plan.count * 10;
        let share = |(word, count): (String, usize)| format!("{word}: {}%", percent(count));
        Ok(counts.into_iter().map(share).collect())
    }

    fn one(&mut self, protocol: Protocol, plan: &Plan, client: End, to: End) -> Result<String> {
        let ends = &mut self.stage.ends;
        let outcome = traffic::open(ends, protocol, client, to, plan.size)?;
        let Outcome::Served(conversation) = outcome else {
            return Ok(outcome.word());
        };
        let result = if plan.open {
            Ok(())
        } else {
            conversation.establish(ends)?
        };
        if let Err(word) = result {
            return Ok(word);
        }
        let server = conversation.server.to_string();
        if plan.hold || plan.open {
            self.held.push(conversation);
            return Ok(server);
        }
        // UDP has had its reply.
        if protocol != Protocol::Udp
            && let Err(word) = conversation.ask(ends)?
        {
            return Ok(word);
        }
        Ok(conversation.close(ends)?.err().unwrap_or(server))
    }

    fn ask(&mut self) -> Result<Vec<String>> {
        let ends = &mut self.stage.ends;
        let mut words = Vec::new();
        for conversation in &self.held {
            let answered = conversation.ask(ends)?;
            words.push(answered.map_or_else(|word| word, |()| conversation.server.to_string()));
        }
        Ok(vec![words.join(" ")])
    }

    fn release(&mut self, count: &str) -> Result<Vec<String>> {
        let count = match count {
            "" => self.held.len(),
            count => count.parse::<usize>()?.min(self.held.len()),
        };
        let mut failed = Vec::new();
        for conversation in self.held.drain(..count) {
            if let Err(word) = conversation.close(&mut self.stage.ends)? {
                failed.push(word);
            }
        }
        Ok(failed)
    }

    fn send(&mut self, text: &str) -> Result<Vec<String>> {
        let crafted = crafted::parse(text)?;
        let mut arrivals = self.stage.ends.exchange(crafted.side, &crafted.packets)?;
        if !text.split(' ').any(|word| word == "order") {
            return Ok(described(arrivals, true));
        }
        // A fragment that came too early leaves when user space puts it back, after the probe that says
        // all is there; and where one stands among its own is nothing anybody promises.
        for _ in 0..LATE {
            if arrivals.len() >= crafted.packets.len() {
                break;
            }
            arrivals.extend(self.stage.ends.idle(Duration::from_millis(100))?);
        }
        let mut lines = described(arrivals, true);
        lines.sort_by_cached_key(|line| fragment_offset(line));
        Ok(lines)
    }

    fn wait(&mut self, seconds: &str) -> Result<Vec<String>> {
        let arrivals = self
            .stage
            .ends
            .idle(Duration::from_secs_f64(seconds.parse()?))?;
        Ok(described(arrivals, false))
    }
}

/// Tenths of a second that fragments are waited for which were held.
const LATE: u32 = 20;

/// The offset of the fragment that a line describes; 0 of a whole packet.
fn fragment_offset(line: &str) -> u32 {
    let behind = line.split_once(" fragment ").map_or("", |(_, rest)| rest);
    let digits = behind.split(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Each arrival in a line, the servers' first: between the two cables there is no order.
fn described(mut arrivals: Vec<crate::ends::Arrival>, even_none: bool) -> Vec<String> {
    arrivals.sort_by_key(|arrival| arrival.side == Side::Client);
    let mut lines: Vec<_> = arrivals
        .iter()
        .map(crate::ends::Arrival::describe)
        .collect();
    if lines.is_empty() && even_none {
        lines.push("nothing".into());
    }
    lines
}

/// The words behind `tcp`, `udp` and `sctp`.
struct Plan {
    client: End,
    target: End,
    count: usize,
    step: u8,
    target_step: u8,
    size: usize,
    hold: bool,
    open: bool,
    shares: bool,
}

impl Plan {
    fn parse(text: &str) -> Result<Self> {
        let mut words = text.split_whitespace();
        let mut plan = Self {
            client: crafted::end(words.next().context("which client?")?)?,
            target: crafted::end(words.next().context("to where?")?)?,
            count: 1,
            step: 0,
            target_step: 0,
            size: 10,
            hold: false,
            open: false,
            shares: false,
        };
        crafted::same_family(plan.client, plan.target)?;
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} what?"));
            match word {
                "hold" => plan.hold = true,
                "open" => plan.open = true,
                "shares" => plan.shares = true,
                "step" => plan.step = value()?.parse()?,
                "target" => plan.target_step = value()?.parse()?,
                "sport" => plan.client.1 = value()?.parse()?,
                "size" => plan.size = value()?.parse()?,
                _ => {
                    let count = word.strip_prefix('x').and_then(|count| count.parse().ok());
                    plan.count = count.with_context(|| format!("{word} is not known here"))?;
                }
            }
        }
        Ok(plan)
    }

    /// Client and target of conversation `n`.
    fn ends(&self, n: usize) -> (End, End) {
        (
            (
                advanced(self.client.0, n * usize::from(self.step)),
                self.client.1,
            ),
            (
                advanced(self.target.0, n * usize::from(self.target_step)),
                self.target.1,
            ),
        )
    }
}

/// The address `by` further.
fn advanced(address: IpAddr, by: usize) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) + by as u32).into()),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) + by as u128).into()),
    }
}
