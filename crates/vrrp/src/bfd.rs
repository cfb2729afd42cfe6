//! Bidirectional Forwarding Detection (RFC 5880, asynchronous mode, without authentication): is the
//! way to a neighbour alive, within milliseconds.
//!
//! Pure: packets and time come in, packets and states come out. Sockets are around it.

use std::time::Duration;

use pointsman_model::vrrp::BfdInstance;

use crate::Time;

/// Length of a control packet without authentication.
pub const PACKET_BYTES: usize = 24;

mod field {
    use std::ops::Range;

    pub const VERSION_DIAGNOSTIC: usize = 0;
    pub const STATE_FLAGS: usize = 1;
    pub const MULTIPLIER: usize = 2;
    pub const LENGTH: usize = 3;
    pub const MINE: Range<usize> = 4..8;
    pub const YOURS: Range<usize> = 8..12;
    pub const MIN_TX: Range<usize> = 12..16;
    pub const MIN_RX: Range<usize> = 16..20;
}

const VERSION: u8 = 1;
const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const AUTHENTICATED: u8 = 0x04;
const MULTIPOINT: u8 = 0x01;

/// Diagnostics of RFC 5880 §4.1.
const TIME_EXPIRED: u8 = 1;
const NEIGHBOUR_SAYS_DOWN: u8 = 3;

/// State of a session, with the numbers of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Held down by its operator.
    AdminDown,
    /// Nothing is known of the neighbour.
    Down,
    /// The neighbour is heard.
    Init,
    /// Both hear each other.
    Up,
}

impl State {
    fn number(self) -> u8 {
        match self {
            Self::AdminDown => 0,
            Self::Down => 1,
            Self::Init => 2,
            Self::Up => 3,
        }
    }

    fn from_number(number: u8) -> Self {
        match number & 3 {
            0 => Self::AdminDown,
            1 => Self::Down,
            2 => Self::Init,
            _ => Self::Up,
        }
    }
}

/// A control packet that passed the checks that need no session (RFC 5880 §6.8.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    state: State,
    flags: u8,
    multiplier: u8,
    mine: u32,
    yours: u32,
    min_tx: Duration,
    min_rx: Duration,
}

impl Control {
    /// Reads a packet; `None` for one that must be discarded.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < PACKET_BYTES {
            return None;
        }
        let number = |range: std::ops::Range<usize>| {
            bytes[range]
                .iter()
                .fold(0u32, |value, byte| value << 8 | u32::from(*byte))
        };
        let micros = |range| Duration::from_micros(u64::from(number(range)));
        let flags = bytes[field::STATE_FLAGS] & 0x3f;
        let control = Self {
            state: State::from_number(bytes[field::STATE_FLAGS] >> 6),
            flags,
            multiplier: bytes[field::MULTIPLIER],
            mine: number(field::MINE),
            yours: number(field::YOURS),
            min_tx: micros(field::MIN_TX),
            min_rx: micros(field::MIN_RX),
        };
        let length = usize::from(bytes[field::LENGTH]);
        let valid = bytes[field::VERSION_DIAGNOSTIC] >> 5 == VERSION
            && (PACKET_BYTES..=bytes.len()).contains(&length)
            && control.multiplier != 0
            && control.mine != 0
            && flags & (AUTHENTICATED | MULTIPOINT) == 0;
        let alone = matches!(control.state, State::Down | State::AdminDown);
        (valid && (control.yours != 0 || alone)).then_some(control)
    }

    /// The receiver's discriminator; 0 when the sender does not know it yet.
    pub fn yours(&self) -> u32 {
        self.yours
    }
}

/// One session.
#[derive(Clone, Debug)]
pub struct Session {
    config: BfdInstance,
    local: u32,
    remote: u32,
    state: State,
    diagnostic: u8,
    /// A poll has begun and is not answered: the neighbour does not know our new interval yet.
    polling: bool,
    remote_min_rx: Duration,
    detection: Option<(Time, Duration)>,
    next_tx: Option<Time>,
    /// For the jitter of intervals.
    random: u32,
}

impl Session {
    /// A session that is down. `local` is its discriminator, not 0 and no other session's.
    pub fn new(config: BfdInstance, local: u32, now: Time) -> Self {
        Self {
            next_tx: (!config.passive).then_some(now),
            config,
            local,
            remote: 0,
            state: State::Down,
            diagnostic: 0,
            polling: false,
            remote_min_rx: Duration::from_micros(1),
            detection: None,
            random: local | 1,
        }
    }

    /// Its configuration.
    pub fn config(&self) -> &BfdInstance {
        &self.config
    }

    /// Its discriminator.
    pub fn local(&self) -> u32 {
        self.local
    }

    /// Whether both hear each other.
    pub fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// When [`tick`](Self::tick) wants to be called.
    pub fn deadline(&self) -> Option<Time> {
        let detection = self.detection.map(|(due, _)| due);
        [self.next_tx, detection].into_iter().flatten().min()
    }

    /// A packet of the neighbour; the answer is one to be sent at once.
    pub fn heard(&mut self, control: &Control, now: Time) -> Option<[u8; PACKET_BYTES]> {
        if control.yours != 0 && control.yours != self.local {
            return None;
        }
        self.remote = control.mine;
        self.remote_min_rx = control.min_rx;
        if control.flags & FINAL != 0 {
            self.polling = false;
        }
        let detection = self.config.min_rx.max(control.min_tx) * u32::from(control.multiplier);
        self.detection = Some((now + detection, detection));
        let next = match (self.state, control.state) {
            (State::AdminDown, _) => State::AdminDown,
            (State::Down, State::Down) => State::Init,
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => State::Up,
            (State::Init | State::Up, State::AdminDown) | (State::Up, State::Down) => {
                self.diagnostic = NEIGHBOUR_SAYS_DOWN;
                State::Down
            }
            (state, _) => state,
        };
        if next != self.state {
            self.enter(next, now);
        }
        if self.next_tx.is_none() {
            self.next_tx = Some(now);
        }
        (control.flags & POLL != 0).then(|| self.packet(FINAL))
    }

    /// Does what is due: perhaps a packet is to be sent.
    pub fn tick(&mut self, now: Time) -> Option<[u8; PACKET_BYTES]> {
        if let Some((due, _)) = self.detection
            && due <= now
        {
            self.detection = None;
            self.remote = 0;
            if matches!(self.state, State::Init | State::Up) {
                self.diagnostic = TIME_EXPIRED;
                self.enter(State::Down, now);
            }
        }
        if self.next_tx.is_none_or(|due| due > now) {
            return None;
        }
        let interval = self.interval();
        self.next_tx = Some(now + interval);
        // A neighbour that wants none gets none (RFC 5880 §6.8.7).
        if self.remote_min_rx.is_zero() {
            return None;
        }
        let poll = if self.polling { POLL } else { 0 };
        Some(self.packet(poll))
    }

    fn enter(&mut self, state: State, now: Time) {
        self.state = state;
        if state == State::Up {
            self.diagnostic = 0;
        }
        // Intervals differ between up and not up, which the neighbour is told by a poll.
        self.polling = state == State::Up;
        self.next_tx = Some(now);
    }

    /// Until the next packet: 75 to 100 % of what was agreed on, 75 to 90 % if one lost packet
    /// counts (RFC 5880 §6.8.7).
    fn interval(&mut self) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        let span = if self.config.multiplier == 1 { 16 } else { 26 };
        let percent = 75 + self.random % span;
        self.desired().max(self.remote_min_rx) * percent / 100
    }

    fn desired(&self) -> Duration {
        if self.is_up() {
            self.config.min_tx
        } else {
            self.config.idle_tx.max(Duration::from_secs(1))
        }
    }

    fn packet(&self, flags: u8) -> [u8; PACKET_BYTES] {
        let micros = |interval: Duration| u32::try_from(interval.as_micros()).unwrap_or(u32::MAX);
        let mut bytes = [0; PACKET_BYTES];
        bytes[field::VERSION_DIAGNOSTIC] = VERSION << 5 | self.diagnostic;
        bytes[field::STATE_FLAGS] = self.state.number() << 6 | flags;
        bytes[field::MULTIPLIER] = self.config.multiplier.max(1);
        bytes[field::LENGTH] = PACKET_BYTES as u8;
        bytes[field::MINE].copy_from_slice(&self.local.to_be_bytes());
        bytes[field::YOURS].copy_from_slice(&self.remote.to_be_bytes());
        bytes[field::MIN_TX].copy_from_slice(&micros(self.desired()).to_be_bytes());
        bytes[field::MIN_RX].copy_from_slice(&micros(self.config.min_rx).to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_boot(Duration::from_millis(ms))
    }

    fn session(local: u32, passive: bool) -> Session {
        let ms = Duration::from_millis;
        let config = BfdInstance {
            name: "n".into(),
            neighbour: "10.0.0.2".parse().unwrap(),
            source: None,
            min_rx: ms(10),
            min_tx: ms(20),
            idle_tx: ms(1000),
            multiplier: 5,
            passive,
            ttl: 255,
            max_hops: 0,
            multihop: false,
            for_vrrp: true,
            for_checkers: true,
        };
        Session::new(config, local, at(0))
    }

    /// Lets two sessions talk, without loss from `deaf` on if that is given.
    fn talk(a: &mut Session, b: &mut Session, from: u64, until: u64, a_hears: bool) {
        for ms in from..until {
            let now = at(ms);
            let mut to_b: Vec<_> = a.tick(now).into_iter().collect();
            let mut to_a: Vec<_> = b.tick(now).into_iter().collect();
            while !to_a.is_empty() || !to_b.is_empty() {
                let (now_b, now_a) = (std::mem::take(&mut to_b), std::mem::take(&mut to_a));
                to_a.extend(
                    now_b
                        .iter()
                        .filter_map(|p| b.heard(&Control::parse(p)?, now)),
                );
                if a_hears {
                    to_b.extend(
                        now_a
                            .iter()
                            .filter_map(|p| a.heard(&Control::parse(p)?, now)),
                    );
                }
            }
        }
    }

    #[test]
    fn two_come_up_and_notice_silence_within_the_detection_time() {
        for passive in [false, true] {
            let (mut a, mut b) = (session(1, false), session(2, passive));
            talk(&mut a, &mut b, 0, 3000, true);
            assert!(a.is_up() && b.is_up());
            assert!(!a.polling && !b.polling, "polls are answered");
            // A hears nothing more: five times 20 ms, then it says so, and B goes down too.
            talk(&mut a, &mut b, 3000, 3080, false);
            assert!(a.is_up());
            talk(&mut a, &mut b, 3080, 3150, false);
            assert!(!a.is_up() && !b.is_up());
            talk(&mut a, &mut b, 3150, 6500, true);
            assert!(a.is_up() && b.is_up());
        }
    }

    #[test]
    fn two_passive_ones_never_speak() {
        let (mut a, mut b) = (session(1, true), session(2, true));
        talk(&mut a, &mut b, 0, 5000, true);
        assert!(a.deadline().is_none() && !a.is_up());
    }

    proptest! {
        #[test]
        fn no_packet_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40), ms in 0u64..5000) {
            let mut session = session(7, false);
            if let Some(control) = Control::parse(&bytes) {
                session.heard(&control, at(ms));
                let _ = session.tick(at(ms * 2));
            }
        }
    }
}
