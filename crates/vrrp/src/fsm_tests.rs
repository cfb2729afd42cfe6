//! One instance through its states, with times.

use std::net::Ipv4Addr;

use pointsman_model::Family;
use pointsman_model::vrrp::{AdvertInterval, Priority, Vrid};

use super::*;
use crate::group::{Action, Input, Router, Tracking};

const OURS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));
const LOWER_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 4));
const HIGHER_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 6));

fn config(priority: u8) -> VrrpInstance {
    let mut config = VrrpInstance::new("VI", "eth0", Vrid::new(1).unwrap(), Family::V4);
    config.priority = Priority::new(priority).unwrap();
    config
}

fn at(ms: u64) -> Time {
    Time::from_boot(Duration::from_millis(ms))
}

struct Script(Router);

impl Script {
    fn of(configs: impl IntoIterator<Item = VrrpInstance>) -> Self {
        let mut router = Router::default();
        for config in configs {
            router.add(Arc::new(config), Some(OURS));
        }
        Self(router)
    }

    fn started(config: VrrpInstance) -> Self {
        let mut script = Self::of([config]);
        script.0.start(0, at(0), at(0));
        script
    }

    /// A master since the moment that is the answer.
    fn master(config: VrrpInstance) -> (Self, u64) {
        let mut script = Self::started(config);
        let due = script.due();
        script.0.tick(at(due));
        script.is(VrrpState::Master);
        (script, due)
    }

    /// Milliseconds of the next deadline, rounded up.
    fn due(&self) -> u64 {
        let micros = self.0.deadline().unwrap().since_boot().as_micros() as u64;
        micros.div_ceil(1000)
    }

    #[track_caller]
    fn hears(&mut self, ms: u64, priority: u8, source: IpAddr) -> Vec<Effect> {
        let heard = Heard {
            source,
            priority,
            interval: Duration::from_secs(1),
        };
        effects(self.0.on(0, Input::Heard(heard), at(ms)))
    }

    fn tick(&mut self, ms: u64) -> Vec<Effect> {
        effects(self.0.tick(at(ms)))
    }

    #[track_caller]
    fn is(&self, state: VrrpState) {
        assert_eq!(self.0.instance(0).state(), state);
    }
}

/// What is done, logs apart.
fn effects(actions: Vec<Action>) -> Vec<Effect> {
    actions
        .into_iter()
        .filter_map(|action| match action {
            Action::Instance(_, Effect::Log(_)) | Action::Group(..) => None,
            Action::Instance(_, effect) => Some(effect),
        })
        .collect()
}

#[test]
fn a_backup_takes_over_after_the_master_down_time() {
    for (priority, due) in [(50, 3805), (100, 3610), (150, 3415), (254, 3008)] {
        let mut script = Script::started(config(priority));
        assert_eq!(script.due(), due);
        assert_eq!(script.tick(due - 1), []);
        assert_eq!(
            script.tick(due),
            [
                Effect::Advert(priority),
                Effect::TakeAddresses,
                Effect::Announce(5),
                Effect::Changed(VrrpState::Backup, VrrpState::Master),
            ]
        );
        assert_eq!(script.tick(due + 1000), [Effect::Advert(priority)]);
    }
}

#[test]
fn an_owner_is_master_at_once_and_one_told_to_be_backup_waits() {
    let mut owner = config(255);
    owner.starts_as_master = true;
    let script = Script::started(owner);
    assert_eq!(script.due(), 0);
    let script = Script::started(config(255));
    assert_eq!(script.due(), 3004);
}

#[test]
fn a_resignation_is_followed_by_the_skew_only() {
    let mut script = Script::started(config(100));
    script.hears(1000, 150, HIGHER_ADDRESS);
    assert_eq!(script.due(), 4610);
    script.hears(2000, 0, HIGHER_ADDRESS);
    assert_eq!(script.due(), 2610);
    script.tick(2610);
    script.is(VrrpState::Master);
}

#[test]
fn lower_priorities_are_discarded_unless_preemption_is_off_or_delayed() {
    let mut script = Script::started(config(100));
    script.hears(1000, 50, HIGHER_ADDRESS);
    assert_eq!(script.due(), 3610);

    let mut never = config(100);
    never.preemption = Preemption::Never;
    let mut script = Script::started(never);
    script.hears(1000, 50, HIGHER_ADDRESS);
    assert_eq!(script.due(), 4610);

    let mut delayed = config(100);
    delayed.preemption = Preemption::After(Duration::from_secs(5));
    let mut script = Script::started(delayed);
    for ms in (0..=8000).step_by(1000) {
        script.hears(ms + 100, 50, HIGHER_ADDRESS);
    }
    // Borne with until 5.1 s: the last that counted was at 4.1 s.
    assert_eq!(script.due(), 7710);
}

#[test]
fn a_master_yields_to_what_is_higher_only() {
    for (priority, source, yields) in [
        (99, HIGHER_ADDRESS, false),
        (100, LOWER_ADDRESS, false),
        (100, HIGHER_ADDRESS, true),
        (101, LOWER_ADDRESS, true),
    ] {
        let (mut script, since) = Script::master(config(100));
        let effects = script.hears(since + 100, priority, source);
        if yields {
            assert_eq!(
                effects,
                [
                    // So that the other one knows that it was not alone.
                    Effect::Advert(100),
                    Effect::DropAddresses,
                    Effect::Changed(VrrpState::Master, VrrpState::Backup)
                ]
            );
        } else {
            assert_eq!(
                effects,
                [Effect::Advert(100), Effect::Announce(5), Effect::LowerHeard]
            );
        }
    }
}

#[test]
fn a_master_may_yield_without_a_word() {
    let mut silent = config(100);
    silent.advert_before_yielding = false;
    let (mut script, since) = Script::master(silent);
    let effects = script.hears(since + 100, 101, LOWER_ADDRESS);
    assert_eq!(effects[0], Effect::DropAddresses);
}

#[test]
fn the_second_burst_comes_after_its_delay() {
    let (mut script, since) = Script::master(config(100));
    let mut bursts = Vec::new();
    for ms in since..since + 12_000 {
        if script.tick(ms).contains(&Effect::Announce(5)) {
            bursts.push(ms - since);
        }
    }
    assert_eq!(bursts, [5000]);
}

#[test]
fn a_master_that_slept_too_long_speaks_no_more() {
    let (mut script, since) = Script::master(config(100));
    let stepped_down = [
        Effect::DropAddresses,
        Effect::Changed(VrrpState::Master, VrrpState::Backup),
    ];
    assert_eq!(script.tick(since + 3100), stepped_down);
    script.is(VrrpState::Backup);
    // It listens for an interval and its skew, then is back.
    assert_eq!(script.due(), since + 3100 + 1610);

    let (mut script, since) = Script::master(config(100));
    assert_eq!(script.tick(since + 2900), [Effect::Advert(100)]);
}

#[test]
fn a_backup_that_slept_listens_first() {
    let mut script = Script::started(config(100));
    assert_eq!(script.tick(10_000), []);
    script.is(VrrpState::Backup);
    assert_eq!(script.due(), 11_610);
    script.hears(10_500, 150, HIGHER_ADDRESS);
    assert_eq!(script.due(), 14_110);
}

#[test]
fn a_fault_resigns_twice_and_recovery_waits() {
    let (mut script, since) = Script::master(config(100));
    let fault = |fault| {
        Input::Tracking(Tracking {
            fault,
            ..Tracking::default()
        })
    };
    assert_eq!(
        effects(script.0.on(0, fault(true), at(since + 10))),
        [
            Effect::Advert(0),
            Effect::Advert(0),
            Effect::DropAddresses,
            Effect::Changed(VrrpState::Master, VrrpState::Fault)
        ]
    );
    assert_eq!(script.hears(since + 20, 50, HIGHER_ADDRESS), []);
    assert_eq!(script.0.deadline(), None);
    script.0.on(0, fault(false), at(10_000));
    assert_eq!(script.due(), 13_610);
}

#[test]
fn a_lost_address_resigns() {
    let (mut script, since) = Script::master(config(100));
    assert_eq!(
        effects(script.0.on(0, Input::Robbed, at(since + 10))),
        [
            Effect::Advert(0),
            Effect::DropAddresses,
            Effect::Changed(VrrpState::Master, VrrpState::Backup)
        ]
    );
}

#[test]
fn weights_move_the_timer_of_a_backup_and_the_priority_of_a_master() {
    let weight = |weight| {
        Input::Tracking(Tracking {
            weight,
            ..Tracking::default()
        })
    };
    let mut script = Script::started(config(100));
    script.0.on(0, weight(-50), at(1000));
    assert_eq!(script.due(), 3805);
    script.0.on(0, weight(-500), at(1000));
    assert_eq!(script.0.instance(0).priority(), 1);
    script.0.on(0, weight(500), at(1000));
    assert_eq!(script.0.instance(0).priority(), 254);

    let (mut script, since) = Script::master(config(100));
    script.0.on(0, weight(-50), at(since + 10));
    assert_eq!(script.tick(since + 1000), [Effect::Advert(50)]);
}

#[test]
fn what_waits_for_its_first_script_stays_in_init() {
    let mut script = Script::of([config(100)]);
    let waiting = |waiting| {
        Input::Tracking(Tracking {
            waiting,
            ..Tracking::default()
        })
    };
    script.0.on(0, waiting(true), at(0));
    script.0.start(0, at(0), at(0));
    script.is(VrrpState::Init);
    script.0.on(0, waiting(false), at(500));
    script.is(VrrpState::Backup);
    assert_eq!(script.due(), 4110);
}

#[test]
fn nothing_happens_during_the_startup_delay() {
    let mut script = Script::of([config(100)]);
    script.0.start(0, at(10_000), at(0));
    assert_eq!(script.due(), 13_610);
    script.hears(9_999, 200, HIGHER_ADDRESS);
    assert_eq!(script.due(), 13_610);
    script.hears(10_100, 200, HIGHER_ADDRESS);
    assert_eq!(script.due(), 13_710);
}

#[test]
fn two_owners_end_as_one() {
    let mut owner = config(255);
    owner.starts_as_master = true;
    let (mut script, since) = Script::master(owner);
    assert_eq!(since, 0);
    for ms in [500, 1500, 2500] {
        script.tick(ms / 1000 * 1000);
        script.hears(ms, 255, LOWER_ADDRESS);
        script.is(VrrpState::Master);
    }
    script.tick(3000);
    script.hears(3800, 255, LOWER_ADDRESS);
    script.is(VrrpState::Backup);
}

#[test]
fn version_3_goes_by_the_masters_interval() {
    let mut three = config(100);
    three.version = VrrpVersion::V3;
    three.advert_interval =
        AdvertInterval::new(VrrpVersion::V3, Duration::from_millis(100)).unwrap();
    let mut script = Script::started(three);
    assert_eq!(script.due(), 361);
    script.hears(100, 150, HIGHER_ADDRESS);
    assert_eq!(script.due(), 3710);
}

#[test]
fn a_group_moves_together() {
    let mut slow = config(100);
    slow.priority = Priority::new(50).unwrap();
    let mut script = Script::of([config(100), slow]);
    script.0.group(vec![0, 1]);
    for number in 0..2 {
        script.0.start(number, at(0), at(0));
    }
    script.tick(3610);
    script.is(VrrpState::Backup);
    let taken = script.0.tick(at(3805));
    assert_eq!(script.0.instance(0).state(), VrrpState::Master);
    assert_eq!(script.0.instance(1).state(), VrrpState::Master);
    assert_eq!(
        taken.last(),
        Some(&Action::Group(0, VrrpState::Backup, VrrpState::Master))
    );
    // One yields, both go; no resignation.
    let heard = Heard {
        source: LOWER_ADDRESS,
        priority: 200,
        interval: Duration::from_secs(1),
    };
    let left = effects(script.0.on(0, Input::Heard(heard), at(4000)));
    assert!(!left.contains(&Effect::Advert(0)));
    assert_eq!(script.0.instance(1).state(), VrrpState::Backup);
    // A fault of one is a fault of both.
    let fault = Input::Tracking(Tracking {
        fault: true,
        ..Tracking::default()
    });
    script.0.on(1, fault, at(4100));
    script.is(VrrpState::Fault);
    assert_eq!(script.0.group_state(0), VrrpState::Fault);
    script
        .0
        .on(1, Input::Tracking(Tracking::default()), at(4200));
    script.is(VrrpState::Backup);
}

#[test]
fn a_reload_keeps_a_master() {
    let (script, since) = Script::master(config(100));
    let instance = script.0.into_instances().remove(0);
    let mut router = Router::default();
    let (number, actions) = router.adopt(instance, Arc::new(config(120)), at(since + 300));
    assert_eq!(effects(actions), [Effect::Advert(120)]);
    assert_eq!(router.instance(number).state(), VrrpState::Master);
}
