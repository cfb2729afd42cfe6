//! One instance: what it does on each event, and when it wants to be woken.
//!
//! ```text
//!            start                    fault
//!   INIT ──────────────► BACKUP ─────────────────► FAULT
//!                          │ ▲  ▲                     │
//!      master-down time    │ │  └── no fault left ────┤
//!      is over             ▼ │ higher priority, address lost, slept too long
//!                        MASTER ────── fault ─────────┘
//! ```
//!
//! Pure: time comes in, effects come out. What several instances do together is in
//! [`group`](crate::group).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pointsman_model::vrrp::{Preemption, VrrpInstance, VrrpState, VrrpVersion};

use crate::Time;
use crate::note::Note;

/// A believed advert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Who sent it.
    pub source: IpAddr,
    /// Its priority; 0 resigns.
    pub priority: u8,
    /// The sender's time between adverts.
    pub interval: Duration,
}

/// What is to be done for an instance, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send an advert of this priority; 0 resigns.
    Advert(u8),
    /// Add addresses, routes and rules.
    TakeAddresses,
    /// Remove them.
    DropAddresses,
    /// Announce each address this many times.
    Announce(u32),
    /// Announce addresses on other interfaces once.
    AnnounceElsewhere,
    /// Announce the source of our adverts, for the ARP caches of unicast peers.
    AnnounceSource,
    /// The state changed.
    Changed(VrrpState, VrrpState),
    /// A master heard an advert of lower priority.
    LowerHeard,
    /// The effective priority changed.
    PriorityChanged(u8),
    /// Something for the log.
    Log(Note),
}

/// What an event means to the instance's group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Consequence {
    Nothing,
    /// Its master-down time is over: it becomes master if its group allows.
    WantsMaster,
    /// It left MASTER for BACKUP.
    LeftMaster,
    /// It announced its addresses because of an advert of lower priority.
    HeardLower,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Init,
    Backup(Backup),
    Master(Master),
    Fault,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Backup {
    /// When the master counts as down.
    master_down: Time,
    /// The master's time between adverts.
    interval: Duration,
    master: Option<(IpAddr, u8)>,
    /// From when on a master of lower priority is no longer borne with (`preempt_delay`).
    preempt_from: Option<Time>,
    /// The time was over once, but the group was not ready.
    wants_master: bool,
    /// It was said that adverts of lower priority are discarded.
    discarding_said: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Master {
    next_advert: Time,
    /// When the last advert was sent.
    sent: Time,
    burst: Option<(Time, u32)>,
    refresh: Option<Time>,
    elsewhere: Option<Time>,
    /// Another address owner of a lower address: from when on we yield to it.
    rival_owner: Option<(IpAddr, Time)>,
}

/// One instance.
#[derive(Clone, Debug)]
pub struct Instance {
    config: Arc<VrrpInstance>,
    /// Source of our adverts; decides between equal priorities.
    source: Option<IpAddr>,
    /// Sum of the weights of what is tracked.
    weight: i32,
    /// Nothing is sent, heard or timed out before.
    not_before: Time,
    state: State,
    since: Time,
}

impl Instance {
    /// An instance that has not started.
    pub fn new(config: Arc<VrrpInstance>, source: Option<IpAddr>) -> Self {
        Self {
            config,
            source,
            weight: 0,
            not_before: Time::default(),
            state: State::Init,
            since: Time::default(),
        }
    }

    /// Its state.
    pub fn state(&self) -> VrrpState {
        match self.state {
            State::Init => VrrpState::Init,
            State::Backup(_) => VrrpState::Backup,
            State::Master(_) => VrrpState::Master,
            State::Fault => VrrpState::Fault,
        }
    }

    /// Since when it is in this state.
    pub fn since(&self) -> Time {
        self.since
    }

    /// Its configuration.
    pub fn config(&self) -> &Arc<VrrpInstance> {
        &self.config
    }

    /// Source of its adverts.
    pub fn source(&self) -> Option<IpAddr> {
        self.source
    }

    /// The master it listens to: address and priority.
    pub fn master(&self) -> Option<(IpAddr, u8)> {
        match &self.state {
            State::Backup(backup) => backup.master,
            _ => None,
        }
    }

    /// Configured priority with the weights of what is tracked, 1 to 254; an owner's is 255.
    pub fn priority(&self) -> u8 {
        let base = self.config.priority;
        if base.is_owner() {
            return base.get();
        }
        (i32::from(base.get()) + self.weight).clamp(1, 254) as u8
    }

    /// When it wants to be called again.
    pub fn deadline(&self) -> Option<Time> {
        match &self.state {
            State::Init | State::Fault => None,
            State::Backup(backup) => Some(backup.master_down),
            State::Master(master) => [
                Some(master.next_advert),
                master.burst.map(|(at, _)| at),
                master.refresh,
                master.elsewhere,
            ]
            .into_iter()
            .flatten()
            .min(),
        }
    }

    /// Whether its time was over once and only the group held it back.
    pub(crate) fn wants_master(&self) -> bool {
        matches!(&self.state, State::Backup(backup) if backup.wants_master)
    }

    pub(crate) fn set_not_before(&mut self, time: Time) {
        self.not_before = time;
    }

    /// INIT → BACKUP, for the first time.
    pub(crate) fn start(&mut self, now: Time, grouped: bool, out: &mut Vec<Effect>) {
        let begin = now.max(self.not_before);
        out.push(Effect::DropAddresses);
        if self.config.priority.is_owner() && self.config.starts_as_master {
            // An owner needs nobody's silence. It is not announced as a backup first.
            let wait = if grouped {
                self.config.advert_interval.duration() + self.skew(self.own_interval())
            } else {
                Duration::ZERO
            };
            self.enter_backup(now, begin + wait);
        } else {
            let master_down = begin + self.master_down_time(self.own_interval());
            out.push(Effect::Log(Note::EnteringBackup { first: true }));
            out.push(Effect::Changed(self.state(), VrrpState::Backup));
            self.enter_backup(now, master_down);
        }
    }

    /// FAULT → BACKUP: no fault is left.
    pub(crate) fn recover(&mut self, now: Time, out: &mut Vec<Effect>) {
        let interval = self.own_interval();
        let wait = if self.config.priority.is_owner() && self.config.starts_as_master {
            interval + self.skew(interval)
        } else {
            self.master_down_time(interval)
        };
        out.push(Effect::AnnounceSource);
        out.push(Effect::Log(Note::EnteringBackup { first: false }));
        out.push(Effect::Changed(self.state(), VrrpState::Backup));
        self.enter_backup(now, now.max(self.not_before) + wait);
    }

    /// → FAULT. `dragged`: because of another instance of the group.
    pub(crate) fn fail(&mut self, now: Time, dragged: bool, out: &mut Vec<Effect>) {
        let before = self.state();
        if before == VrrpState::Fault {
            return;
        }
        if before == VrrpState::Master {
            let times = if dragged { 1 } else { 2 };
            out.extend(std::iter::repeat_n(Effect::Advert(0), times));
        }
        out.push(Effect::DropAddresses);
        out.push(Effect::Log(Note::EnteringFault));
        out.push(Effect::Changed(before, VrrpState::Fault));
        self.state = State::Fault;
        self.since = now;
    }

    /// MASTER → BACKUP because of the group, without a resignation.
    pub(crate) fn follow_to_backup(&mut self, now: Time, out: &mut Vec<Effect>) {
        if let State::Master(_) = self.state {
            let wait = self.master_down_time(self.own_interval());
            self.leave_master(now, now + wait, None, out);
        }
    }

    /// An address, route or rule of ours was removed by somebody else.
    pub(crate) fn robbed(&mut self, now: Time, out: &mut Vec<Effect>) -> Consequence {
        if let State::Master(_) = self.state {
            out.push(Effect::Advert(0));
            let wait = self.master_down_time(self.own_interval());
            self.leave_master(now, now + wait, None, out);
            return Consequence::LeftMaster;
        }
        Consequence::Nothing
    }

    /// The end: a master resigns. The state is INIT afterwards.
    pub(crate) fn stop(&mut self, now: Time, out: &mut Vec<Effect>) {
        if let State::Master(_) = self.state {
            out.push(Effect::Advert(0));
            out.push(Effect::DropAddresses);
        }
        self.state = State::Init;
        self.since = now;
    }

    /// BACKUP → MASTER: advert first, then addresses, then their announcement.
    pub(crate) fn become_master(&mut self, now: Time, out: &mut Vec<Effect>) {
        let State::Backup(_) = self.state else {
            return;
        };
        let garp = self.config.garp;
        out.push(Effect::Advert(self.priority()));
        out.push(Effect::Log(Note::EnteringMaster));
        out.push(Effect::TakeAddresses);
        out.push(Effect::Announce(garp.repeat));
        out.push(Effect::Changed(VrrpState::Backup, VrrpState::Master));
        self.state = State::Master(Master {
            next_advert: now + self.own_interval(),
            sent: now,
            burst: (!garp.delay.is_zero()).then_some((now + garp.delay, garp.repeat)),
            refresh: (!garp.refresh.is_zero()).then_some(now + garp.delay + garp.refresh),
            elsewhere: (!garp.extra_interval.is_zero()).then_some(now + garp.extra_interval),
            rival_owner: None,
        });
        self.since = now;
    }

    /// Announces addresses again, now and after a while: another master was about.
    pub(crate) fn announce_again(&mut self, now: Time, out: &mut Vec<Effect>) {
        let garp = self.config.garp;
        if let State::Master(master) = &mut self.state
            && garp.lower_repeat > 0
        {
            out.push(Effect::Announce(garp.lower_repeat));
            if !garp.lower_delay.is_zero() {
                master.burst = Some((now + garp.lower_delay, garp.lower_repeat));
            }
        }
    }

    /// Another configuration of the same virtual router: a master stays master.
    pub(crate) fn reconfigure(
        &mut self,
        config: Arc<VrrpInstance>,
        now: Time,
        out: &mut Vec<Effect>,
    ) {
        self.config = config;
        let interval = self.own_interval();
        let wait = self.master_down_time(interval);
        let priority = self.priority();
        match &mut self.state {
            State::Master(master) => {
                out.push(Effect::Advert(priority));
                master.sent = now;
                master.next_advert = now + interval;
            }
            State::Backup(backup) => {
                backup.master_down = now + wait;
                backup.interval = interval;
                backup.preempt_from = None;
            }
            State::Init | State::Fault => {}
        }
    }

    /// Sets the source of adverts.
    pub(crate) fn set_source(&mut self, source: Option<IpAddr>) {
        self.source = source;
    }

    /// Sets the sum of weights. A backup's timer moves with its skew.
    pub(crate) fn set_weight(&mut self, weight: i32, out: &mut Vec<Effect>) {
        let before = self.priority();
        let interval = match &self.state {
            State::Backup(backup) => backup.interval,
            _ => self.own_interval(),
        };
        let old = self.skew(interval);
        self.weight = weight;
        let new = self.skew(interval);
        if before == self.priority() {
            return;
        }
        if let State::Backup(backup) = &mut self.state {
            backup.master_down = backup.master_down + new - old;
        }
        out.push(Effect::Log(Note::Priority(before, self.priority())));
        out.push(Effect::PriorityChanged(self.priority()));
    }

    /// A master that did not run for as long as another takes to take over: it may not be the
    /// only one any more, and must not speak as if it were.
    pub(crate) fn overslept(&mut self, now: Time, out: &mut Vec<Effect>) -> Consequence {
        let State::Master(master) = &self.state else {
            return Consequence::Nothing;
        };
        let silent = now.since(master.sent);
        let interval = self.own_interval();
        let rival = self.config.timer_expired_backup.map_or(254, |p| p.get());
        let takeover = interval * u32::from(self.config.down_timer_adverts)
            + skew(self.config.version, interval, rival);
        if silent < takeover {
            return Consequence::Nothing;
        }
        out.push(Effect::Log(Note::Overslept(silent)));
        // Whoever took over speaks within one interval. If nobody does, we are back soon.
        let wait = interval + self.skew(interval);
        self.leave_master(now, now + wait, None, out);
        Consequence::LeftMaster
    }

    /// A believed advert.
    pub(crate) fn heard(&mut self, heard: Heard, now: Time, out: &mut Vec<Effect>) -> Consequence {
        if now < self.not_before {
            return Consequence::Nothing;
        }
        match self.state {
            State::Init | State::Fault => Consequence::Nothing,
            State::Backup(_) => {
                self.heard_in_backup(heard, now, out);
                Consequence::Nothing
            }
            State::Master(_) => self.heard_in_master(heard, now, out),
        }
    }

    fn heard_in_backup(&mut self, heard: Heard, now: Time, out: &mut Vec<Effect>) {
        let ours = self.priority();
        let preemption = self.config.preemption;
        let learned = self.learned(&heard);
        let wait = self.master_down_time(learned);
        let State::Backup(backup) = &mut self.state else {
            return;
        };
        if heard.priority == 0 {
            let interval = backup.interval;
            out.push(Effect::Log(Note::Resigned(heard.source)));
            let skew = self.skew(interval);
            if let State::Backup(backup) = &mut self.state {
                backup.master_down = now + skew;
            }
            return;
        }
        let bears_lower = match preemption {
            Preemption::Never => true,
            Preemption::AtOnce => false,
            Preemption::After(delay) => {
                if heard.priority >= ours {
                    backup.preempt_from = None;
                    true
                } else {
                    now < *backup.preempt_from.get_or_insert(now + delay)
                }
            }
        };
        if heard.priority >= ours || bears_lower {
            backup.master_down = now + wait;
            backup.interval = learned;
            backup.master = Some((heard.source, heard.priority));
            backup.wants_master = false;
        } else if !backup.discarding_said {
            backup.discarding_said = true;
            out.push(Effect::Log(Note::Discarding {
                priority: heard.priority,
                from: heard.source,
            }));
        }
    }

    fn heard_in_master(&mut self, heard: Heard, now: Time, out: &mut Vec<Effect>) -> Consequence {
        let ours = self.priority();
        if heard.priority == 0 {
            self.advert(now, out);
            return Consequence::Nothing;
        }
        if heard.priority == ours && Some(heard.source) == self.source {
            out.push(Effect::Log(Note::OwnAddress(heard.source)));
            return Consequence::Nothing;
        }
        let higher = heard.priority > ours
            || heard.priority == ours && self.source.is_none_or(|source| heard.source > source);
        if higher || self.yields_to_rival(&heard, now) {
            if self.config.advert_before_yielding {
                out.push(Effect::Advert(ours));
            }
            out.push(Effect::Log(Note::Higher {
                from: heard.source,
                priority: heard.priority,
                ours,
            }));
            let learned = self.learned(&heard);
            let wait = self.master_down_time(learned);
            self.leave_master(now, now + wait, Some((heard, learned)), out);
            return Consequence::LeftMaster;
        }
        out.push(Effect::Log(Note::Lower {
            from: heard.source,
            priority: heard.priority,
            ours,
        }));
        if !self.config.silent_to_lower {
            self.advert(now, out);
        }
        self.announce_again(now, out);
        out.push(Effect::LowerHeard);
        Consequence::HeardLower
    }

    /// Two address owners, which is a mistake of configuration: the one of the higher address
    /// stays, unless the other does not yield after two adverts and a pause.
    fn yields_to_rival(&mut self, heard: &Heard, now: Time) -> bool {
        let own = self.own_interval();
        let State::Master(master) = &mut self.state else {
            return false;
        };
        if heard.priority != 255 {
            return false;
        }
        let patience = own * 2 + own.max(heard.interval) * 6 / 5;
        match master.rival_owner {
            Some((rival, until)) if rival == heard.source => now >= until,
            _ => {
                master.rival_owner = Some((heard.source, now + patience));
                false
            }
        }
    }

    /// The deadline has come.
    pub(crate) fn tick(&mut self, now: Time, out: &mut Vec<Effect>) -> Consequence {
        let own = self.own_interval();
        let garp = self.config.garp;
        let late_skew = match &self.state {
            State::Backup(backup) => backup.interval + self.skew(backup.interval),
            _ => Duration::ZERO,
        };
        let hold = match &self.state {
            State::Backup(backup) => self.master_down_time(backup.interval),
            _ => Duration::ZERO,
        };
        match &mut self.state {
            State::Init | State::Fault => Consequence::Nothing,
            State::Backup(backup) => {
                if now < backup.master_down {
                    return Consequence::Nothing;
                }
                if now.since(backup.master_down) > backup.interval {
                    // We slept, and may not have heard the master. It speaks within an interval.
                    out.push(Effect::Log(Note::TimerLate(now.since(backup.master_down))));
                    backup.master_down = now + late_skew;
                    return Consequence::Nothing;
                }
                out.push(Effect::Log(Note::Timeout));
                backup.wants_master = true;
                // Until the group is ready; one that becomes master forgets this.
                backup.master_down = now + hold;
                Consequence::WantsMaster
            }
            State::Master(master) => {
                if let Some((at, repeat)) = master.burst
                    && at <= now
                {
                    master.burst = None;
                    out.push(Effect::Announce(repeat));
                }
                if let Some(at) = master.refresh
                    && at <= now
                {
                    master.refresh = Some(now + garp.refresh);
                    out.push(Effect::Announce(garp.refresh_repeat));
                }
                if let Some(at) = master.elsewhere
                    && at <= now
                {
                    master.elsewhere = Some(now + garp.extra_interval);
                    out.push(Effect::AnnounceElsewhere);
                }
                if master.next_advert <= now {
                    // By the plan, not by when we woke: lateness must not add up.
                    let next = master.next_advert + own;
                    self.advert(now, out);
                    if let State::Master(master) = &mut self.state
                        && next > now
                    {
                        master.next_advert = next;
                    }
                }
                Consequence::Nothing
            }
        }
    }

    fn advert(&mut self, now: Time, out: &mut Vec<Effect>) {
        out.push(Effect::Advert(self.priority()));
        let next = now + self.own_interval();
        if let State::Master(master) = &mut self.state {
            master.sent = now;
            master.next_advert = next;
        }
    }

    fn leave_master(
        &mut self,
        now: Time,
        master_down: Time,
        heard: Option<(Heard, Duration)>,
        out: &mut Vec<Effect>,
    ) {
        out.push(Effect::DropAddresses);
        out.push(Effect::Log(Note::EnteringBackup { first: false }));
        out.push(Effect::Changed(VrrpState::Master, VrrpState::Backup));
        self.enter_backup(now, master_down);
        if let (State::Backup(backup), Some((heard, learned))) = (&mut self.state, heard) {
            backup.master = Some((heard.source, heard.priority));
            backup.interval = learned;
        }
    }

    fn enter_backup(&mut self, now: Time, master_down: Time) {
        self.state = State::Backup(Backup {
            master_down,
            interval: self.own_interval(),
            master: None,
            preempt_from: None,
            wants_master: false,
            discarding_said: false,
        });
        self.since = now;
    }

    fn own_interval(&self) -> Duration {
        self.config.advert_interval.duration()
    }

    /// The master's interval as version 3 learns it.
    fn learned(&self, heard: &Heard) -> Duration {
        match self.config.version {
            VrrpVersion::V2 => self.own_interval(),
            VrrpVersion::V3 => heard.interval,
        }
    }

    fn master_down_time(&self, interval: Duration) -> Duration {
        interval * u32::from(self.config.down_timer_adverts) + self.skew(interval)
    }

    fn skew(&self, interval: Duration) -> Duration {
        skew(self.config.version, interval, self.priority())
    }
}

/// How much longer than others one of this priority waits (RFC 3768 §6.1, RFC 9568 §6.1).
pub fn skew(version: VrrpVersion, interval: Duration, priority: u8) -> Duration {
    let unit = match version {
        VrrpVersion::V2 => Duration::from_secs(1),
        VrrpVersion::V3 => interval,
    };
    unit * (256 - u32::from(priority)) / 256
}

#[cfg(test)]
#[path = "fsm_tests.rs"]
mod tests;
