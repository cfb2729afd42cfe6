//! Which interfaces carry the programs, and why the others do not. Pure.

use std::collections::BTreeMap;

use pointsman_api::{Hook, InterfaceStatus};
use pointsman_dataplane::Attachment;

use crate::netlink::Link;

/// What became of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The data plane says where.
    Attached,
    /// Not wanted there, or refused.
    Left(String),
}

/// The interfaces of the namespace.
#[derive(Debug, Default)]
pub(crate) struct Links {
    links: BTreeMap<u32, (Link, Outcome)>,
}

/// What a link event means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkChange {
    /// Nothing that matters: counters, or our own programs coming and going.
    None,
    /// Only its state: up or down.
    State,
    /// It is new, or its name, address, size or kind changed.
    Interface,
}

impl Links {
    /// What `link` says that was not known.
    pub fn compare(&self, link: &Link) -> LinkChange {
        match self.links.get(&link.interface.index) {
            Some((known, _)) if known == link => LinkChange::None,
            Some((known, _)) if known.interface == link.interface => LinkChange::State,
            _ => LinkChange::Interface,
        }
    }

    /// Takes note of a link; a known one keeps its outcome unless told another.
    pub fn insert(&mut self, link: Link, outcome: Outcome) {
        self.links.insert(link.interface.index, (link, outcome));
    }

    /// Takes note of a link's state.
    pub fn set_state(&mut self, link: Link) {
        if let Some((known, _)) = self.links.get_mut(&link.interface.index) {
            *known = link;
        }
    }

    /// True when the interface was known.
    pub fn remove(&mut self, index: u32) -> bool {
        self.links.remove(&index).is_some()
    }

    /// True when the programs are on it.
    pub fn is_attached(&self, index: u32) -> bool {
        matches!(self.links.get(&index), Some((_, Outcome::Attached)))
    }

    /// Indices of all interfaces.
    pub fn indices(&self) -> Vec<u32> {
        self.links.keys().copied().collect()
    }

    /// The name of an interface.
    pub fn name(&self, index: u32) -> Option<&str> {
        Some(&self.links.get(&index)?.0.interface.name)
    }

    /// The rows of a status.
    pub fn status(&self, attachments: &[Attachment]) -> Vec<InterfaceStatus> {
        self.links
            .iter()
            .map(|(&index, (link, outcome))| {
                let attachment = attachments.iter().find(|at| at.index == index);
                let (hook, reason) = match (attachment, outcome) {
                    (Some(at), _) => (Some(hook(at.hook)), at.reason.clone()),
                    (None, Outcome::Left(reason)) => (None, reason.clone()),
                    (None, Outcome::Attached) => (None, "the program is gone".to_owned()),
                };
                InterfaceStatus {
                    index,
                    name: link.interface.name.clone(),
                    hook,
                    reason,
                }
            })
            .collect()
    }
}

/// Whether the programs belong on `link`; `Err` says why not. `chosen` are the operator's names,
/// none for all.
pub(crate) fn wanted(link: &Link, chosen: &[String]) -> Result<(), String> {
    let interface = &link.interface;
    if interface.loopback {
        Ok(())
    } else if !chosen.is_empty() {
        if chosen.contains(&interface.name) {
            Ok(())
        } else {
            Err("not among the interfaces chosen by --interface".to_owned())
        }
    } else if interface.ethernet {
        Ok(())
    } else {
        Err("not an Ethernet device; --interface takes it anyway".to_owned())
    }
}

fn hook(hook: pointsman_dataplane::Hook) -> Hook {
    match hook {
        pointsman_dataplane::Hook::XdpNative => Hook::XdpNative,
        pointsman_dataplane::Hook::XdpGeneric => Hook::XdpGeneric,
        pointsman_dataplane::Hook::Tcx => Hook::Tcx,
        pointsman_dataplane::Hook::Clsact => Hook::Clsact,
    }
}

#[cfg(test)]
mod tests {
    use pointsman_dataplane::Interface;

    use super::*;

    fn link(name: &str, ethernet: bool) -> Link {
        let interface = Interface {
            index: 2,
            name: name.into(),
            mac: [0; 6],
            mtu: 1500,
            kind: None,
            vlan: None,
            loopback: name == "lo",
            ethernet,
        };
        Link {
            interface,
            up: true,
        }
    }

    #[test]
    fn every_ethernet_device_is_wanted_unless_some_are_chosen() {
        let chosen = ["eth1".to_owned()];
        for (name, ethernet, by_default, when_eth1) in [
            ("lo", false, true, true),
            ("eth0", true, true, false),
            ("eth1", true, true, true),
            ("tun0", false, false, false),
        ] {
            assert_eq!(
                wanted(&link(name, ethernet), &[]).is_ok(),
                by_default,
                "{name}"
            );
            assert_eq!(
                wanted(&link(name, ethernet), &chosen).is_ok(),
                when_eth1,
                "{name}"
            );
        }
    }

    #[test]
    fn an_event_that_says_nothing_new_is_no_change() {
        let mut links = Links::default();
        let eth0 = link("eth0", true);
        assert_eq!(links.compare(&eth0), LinkChange::Interface);
        links.insert(eth0.clone(), Outcome::Attached);
        assert_eq!(links.compare(&eth0), LinkChange::None);
        assert_eq!(
            links.compare(&Link { up: false, ..eth0 }),
            LinkChange::State
        );
        assert_eq!(links.compare(&link("eth9", true)), LinkChange::Interface);
    }
}
