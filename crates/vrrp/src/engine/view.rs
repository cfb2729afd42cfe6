use pointsman_model::vrrp::{VrrpGroupView, VrrpInstanceView, VrrpState, VrrpTrackView, VrrpView};

use super::{Engine, Tracked};
use crate::address;
use crate::track::Condition;

impl Engine {
    /// How everything stands.
    pub(super) fn view(&self) -> VrrpView {
        VrrpView {
            instances: (0..self.members.len()).map(|n| self.instance(n)).collect(),
            groups: self
                .site
                .sync_groups
                .iter()
                .enumerate()
                .map(|(number, group)| VrrpGroupView {
                    name: group.name.clone(),
                    state: self.router.group_state(number),
                    members: group.members.clone(),
                })
                .collect(),
            tracked: self.tracked.view(),
        }
    }

    fn instance(&self, number: usize) -> VrrpInstanceView {
        let member = &self.members[number];
        let config = &member.config;
        let instance = self.router.instance(number);
        let default = &self.site.globals.default_interface;
        let addresses = member
            .addresses()
            .map(|address| {
                let home = member
                    .home(address, &self.links, default)
                    .and_then(|index| self.links.by_index(index))
                    .map_or("none", |link| &link.name);
                address::text(address, home)
            })
            .collect();
        VrrpInstanceView {
            name: config.name.clone(),
            interface: config.interface.clone(),
            vrid: config.vrid.get(),
            version: config.version.number(),
            state: instance.state(),
            since: member.since,
            base_priority: config.priority.get(),
            effective_priority: instance.priority(),
            master: instance.master(),
            source: instance.source(),
            advert_interval_ms: u64::from(config.advert_interval.centiseconds()) * 10,
            addresses,
            faults: match instance.state() {
                VrrpState::Fault if member.faults.is_empty() => {
                    vec!["another instance of its sync group".to_owned()]
                }
                _ => member.faults.clone(),
            },
            last_refusal: member
                .receiver
                .last_refusal
                .map(|(from, refusal)| (from, refusal.to_string())),
            counters: member.receiver.counters,
        }
    }
}

impl Tracked {
    fn view(&self) -> Vec<VrrpTrackView> {
        let entry = |name: &String, kind: &str, condition| VrrpTrackView {
            name: name.clone(),
            kind: kind.to_owned(),
            good: match condition {
                Condition::Unknown => None,
                Condition::Good(good) => Some(good),
                Condition::Number(number) => Some(number == 0),
            },
        };
        let scripts = self
            .scripts
            .iter()
            .map(|(name, (counter, _))| entry(name, "script", counter.condition()));
        let files = self
            .files
            .iter()
            .map(|(name, number)| entry(name, "file", Condition::Number(*number)));
        let processes = self
            .processes
            .iter()
            .map(|(name, counter)| entry(name, "process", counter.condition()));
        let bfd = self
            .bfd
            .iter()
            .map(|(name, up)| entry(name, "bfd", Condition::Good(*up)));
        scripts.chain(files).chain(processes).chain(bfd).collect()
    }
}
