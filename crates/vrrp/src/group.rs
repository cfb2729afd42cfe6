//! All instances of a node, and what those of one sync group do together.
//!
//! A group becomes master when all of its members want to be; when one of them leaves MASTER, all
//! do; a fault of one is a fault of all.

use std::net::IpAddr;
use std::sync::Arc;

use pointsman_model::vrrp::{VrrpInstance, VrrpState};

use crate::Time;
use crate::fsm::{Consequence, Effect, Heard, Instance};

/// What happened to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A believed advert.
    Heard(Heard),
    /// What it tracks changed.
    Tracking(Tracking),
    /// Somebody else removed an address, route or rule of ours.
    Robbed,
    /// Adverts have this source from now on.
    Source(Option<IpAddr>),
}

/// What an instance's tracked objects amount to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tracking {
    /// It may not take part.
    pub fault: bool,
    /// Something it tracks has not been looked at yet.
    pub waiting: bool,
    /// Sum of weights.
    pub weight: i32,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// For an instance, by number.
    Instance(usize, Effect),
    /// A group, by number, went from one state to another.
    Group(usize, VrrpState, VrrpState),
}

/// All instances of a node.
#[derive(Debug, Default)]
pub struct Router {
    members: Vec<Member>,
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Member {
    instance: Instance,
    group: Option<usize>,
    tracking: Tracking,
    started: bool,
}

#[derive(Debug)]
struct Group {
    members: Vec<usize>,
    state: VrrpState,
}

impl Router {
    /// Adds an instance that waits for [`start`](Self::start); its number is the answer.
    pub fn add(&mut self, config: Arc<VrrpInstance>, source: Option<IpAddr>) -> usize {
        self.members.push(Member {
            instance: Instance::new(config, source),
            group: None,
            tracking: Tracking::default(),
            started: false,
        });
        self.members.len() - 1
    }

    /// Keeps an instance of an earlier router under another configuration: a master stays master.
    pub fn adopt(
        &mut self,
        mut instance: Instance,
        config: Arc<VrrpInstance>,
        now: Time,
    ) -> (usize, Vec<Action>) {
        let mut out = Vec::new();
        instance.reconfigure(config, now, &mut out);
        let number = self.members.len();
        let started = instance.state() != VrrpState::Init;
        self.members.push(Member {
            instance,
            group: None,
            tracking: Tracking::default(),
            started,
        });
        (number, wrap(number, out))
    }

    /// Makes a group of instances, by number; its number is the answer.
    pub fn group(&mut self, members: Vec<usize>) -> usize {
        for member in &members {
            self.members[*member].group = Some(self.groups.len());
        }
        let mut group = Group {
            members,
            state: VrrpState::Init,
        };
        group.state = state_of(&group, &self.members);
        self.groups.push(group);
        self.groups.len() - 1
    }

    /// Takes an instance out, for [`adopt`](Self::adopt).
    pub fn into_instances(self) -> Vec<Instance> {
        self.members
            .into_iter()
            .map(|member| member.instance)
            .collect()
    }

    /// An instance, by number.
    pub fn instance(&self, number: usize) -> &Instance {
        &self.members[number].instance
    }

    /// How many instances there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// State of a group, by number.
    pub fn group_state(&self, number: usize) -> VrrpState {
        self.groups[number].state
    }

    /// When [`tick`](Self::tick) wants to be called.
    pub fn deadline(&self) -> Option<Time> {
        self.members
            .iter()
            .filter_map(|member| member.instance.deadline())
            .min()
    }

    /// Starts an instance; nothing is sent or timed out before `not_before`. What it tracks was
    /// told by [`Input::Tracking`].
    pub fn start(&mut self, number: usize, not_before: Time, now: Time) -> Vec<Action> {
        let member = &mut self.members[number];
        member.instance.set_not_before(not_before);
        member.started = true;
        let mut actions = Vec::new();
        self.settle(number, now, &mut actions);
        self.update_groups(&mut actions);
        actions
    }

    /// Something happened to an instance.
    pub fn on(&mut self, number: usize, input: Input, now: Time) -> Vec<Action> {
        let mut actions = Vec::new();
        self.wake(number, now, &mut actions);
        let mut out = Vec::new();
        let instance = &mut self.members[number].instance;
        let consequence = match input {
            Input::Heard(heard) => instance.heard(heard, now, &mut out),
            Input::Robbed => instance.robbed(now, &mut out),
            Input::Source(source) => {
                instance.set_source(source);
                Consequence::Nothing
            }
            Input::Tracking(tracking) => {
                self.members[number].tracking = tracking;
                self.members[number]
                    .instance
                    .set_weight(tracking.weight, &mut out);
                actions.extend(wrap(number, std::mem::take(&mut out)));
                self.settle(number, now, &mut actions);
                Consequence::Nothing
            }
        };
        actions.extend(wrap(number, out));
        self.follow(number, consequence, now, &mut actions);
        self.update_groups(&mut actions);
        actions
    }

    /// Does whatever is due.
    pub fn tick(&mut self, now: Time) -> Vec<Action> {
        let mut actions = Vec::new();
        for number in 0..self.members.len() {
            self.wake(number, now, &mut actions);
            let instance = &mut self.members[number].instance;
            if instance.deadline().is_some_and(|deadline| deadline <= now) {
                let mut out = Vec::new();
                let consequence = instance.tick(now, &mut out);
                actions.extend(wrap(number, out));
                self.follow(number, consequence, now, &mut actions);
            }
        }
        self.update_groups(&mut actions);
        actions
    }

    /// An instance ends: a master resigns.
    pub fn stop(&mut self, number: usize, now: Time) -> Vec<Action> {
        let mut out = Vec::new();
        let member = &mut self.members[number];
        member.instance.stop(now, &mut out);
        member.started = false;
        wrap(number, out)
    }

    /// A master that slept too long goes to BACKUP before it does anything else.
    fn wake(&mut self, number: usize, now: Time, actions: &mut Vec<Action>) {
        let mut out = Vec::new();
        let consequence = self.members[number].instance.overslept(now, &mut out);
        actions.extend(wrap(number, out));
        self.follow(number, consequence, now, actions);
    }

    fn follow(
        &mut self,
        number: usize,
        consequence: Consequence,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        let mut out = Vec::new();
        match consequence {
            Consequence::Nothing => {}
            Consequence::WantsMaster => {
                let together = self.together(number);
                let ready = together.iter().all(|other| {
                    let instance = &self.members[*other].instance;
                    instance.wants_master() || instance.state() == VrrpState::Master
                });
                if ready {
                    for other in together {
                        self.members[other].instance.become_master(now, &mut out);
                        actions.extend(wrap(other, std::mem::take(&mut out)));
                    }
                }
            }
            Consequence::LeftMaster => {
                for other in self.others(number) {
                    self.members[other].instance.follow_to_backup(now, &mut out);
                    actions.extend(wrap(other, std::mem::take(&mut out)));
                }
            }
            Consequence::HeardLower => {
                for other in self.others(number) {
                    self.members[other].instance.announce_again(now, &mut out);
                    actions.extend(wrap(other, std::mem::take(&mut out)));
                }
            }
        }
    }

    /// Brings an instance and its group into FAULT or out of INIT and FAULT, as their tracking says.
    fn settle(&mut self, number: usize, now: Time, actions: &mut Vec<Action>) {
        let together = self.together(number);
        let fault = together
            .iter()
            .any(|other| self.members[*other].tracking.fault);
        let grouped = self.members[number].group.is_some();
        for other in together {
            let mut out = Vec::new();
            let member = &mut self.members[other];
            if !member.started {
                continue;
            }
            let own = member.tracking.fault;
            match member.instance.state() {
                _ if fault => member.instance.fail(now, !own, &mut out),
                VrrpState::Init if !member.tracking.waiting => {
                    member.instance.start(now, grouped, &mut out);
                }
                VrrpState::Fault => member.instance.recover(now, &mut out),
                VrrpState::Init | VrrpState::Backup | VrrpState::Master => {}
            }
            actions.extend(wrap(other, out));
        }
    }

    fn update_groups(&mut self, actions: &mut Vec<Action>) {
        for (number, group) in self.groups.iter_mut().enumerate() {
            let state = state_of(group, &self.members);
            if state != group.state && state != VrrpState::Init {
                actions.push(Action::Group(number, group.state, state));
                group.state = state;
            }
        }
    }

    /// The instances of its group, itself among them.
    fn together(&self, number: usize) -> Vec<usize> {
        match self.members[number].group {
            Some(group) => self.groups[group].members.clone(),
            None => vec![number],
        }
    }

    fn others(&self, number: usize) -> impl Iterator<Item = usize> + use<> {
        self.together(number)
            .into_iter()
            .filter(move |other| *other != number)
    }
}

fn state_of(group: &Group, members: &[Member]) -> VrrpState {
    let states = || {
        group
            .members
            .iter()
            .map(|member| members[*member].instance.state())
    };
    if states().any(|state| state == VrrpState::Fault) {
        VrrpState::Fault
    } else if states().any(|state| state == VrrpState::Init) {
        VrrpState::Init
    } else if states().all(|state| state == VrrpState::Master) {
        VrrpState::Master
    } else {
        VrrpState::Backup
    }
}

fn wrap(number: usize, effects: Vec<Effect>) -> Vec<Action> {
    effects
        .into_iter()
        .map(|effect| Action::Instance(number, effect))
        .collect()
}
