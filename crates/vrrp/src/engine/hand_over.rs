//! How a master that stops leaves its addresses to the next one without a gap.
//!
//! A backup that hears a resignation still waits for its skew, up to one advert interval, before it
//! takes over (RFC 9568 §6.4.2). A master that gave up its addresses at once would leave them to nobody
//! for so long: 0.6 s with the usual priority 100 and adverts every second. So it resigns, goes on
//! holding what it holds, and lets go when it hears the next master, or when nobody can come any more.

use std::collections::BTreeSet;
use std::time::Duration;

use pointsman_model::vrrp::VrrpState;

use super::{Engine, readable, until, wall};
use crate::Time;
use crate::fsm::skew;
use crate::socket::{self, LONGEST};

/// For the way of the adverts, beyond the longest skew.
const WAY: Duration = Duration::from_millis(100);
/// The next master sends its advert before it takes and announces the addresses.
const ANNOUNCEMENT: Duration = Duration::from_millis(20);
/// Nobody who stops a master waits longer, whatever its interval is.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

impl Engine {
    /// Masters resign and hold their addresses until they hear their successors. Adverts that come
    /// meanwhile are not for the state machine, which would answer a lower priority.
    pub(super) async fn hand_over(&mut self) {
        let mut waited_for: BTreeSet<usize> = (0..self.members.len())
            .filter(|&number| self.router.instance(number).state() == VrrpState::Master)
            .collect();
        let mut wait = Duration::ZERO;
        for &number in &waited_for {
            self.advert(number, 0);
            let config = &self.members[number].config;
            let longest = skew(config.version, config.advert_interval.duration(), 1);
            wait = wait.max(longest);
        }
        if waited_for.is_empty() {
            return;
        }
        let end = Time::now() + (wait + WAY).min(LONGEST_WAIT);
        let mut heard_one = false;
        while !waited_for.is_empty() && Time::now() < end {
            tokio::select! {
                () = readable(&self.sockets, &self.monitor_ready) => {}
                () = until(Some(end)) => {}
            }
            for number in self.successors() {
                heard_one |= waited_for.remove(&number);
            }
        }
        if heard_one {
            until(Some(Time::now() + ANNOUNCEMENT)).await;
        }
    }

    /// Members for which an advert of somebody who does not resign has come.
    fn successors(&mut self) -> Vec<usize> {
        let mut found = Vec::new();
        let mut buffer = [0; LONGEST];
        for number in 0..self.sockets.len() {
            let key = self.sockets[number].key;
            while let Some((len, beside)) = self.sockets[number].receive(&mut buffer) {
                let Ok(datagram) = socket::datagram(key.family, &buffer[..len], beside) else {
                    continue;
                };
                let Some(member) = self.member_of(key, &datagram) else {
                    continue;
                };
                let accepted = self.members[member].receiver.receive(&datagram, wall());
                if accepted.is_ok_and(|accepted| accepted.heard.priority > 0) {
                    found.push(member);
                }
            }
        }
        found
    }
}
