//! Native mark rules, in two halves of their table: packets read one while the other is written.

use std::time::{Duration, Instant};

use ipnet::IpNet;
use pointsman_core::addr::Address;
use pointsman_core::atomic;
use pointsman_core::layout::{self, MARK_PORT_RANGES, MAX_MARK_RULES, NO_INTERFACE, NO_PORTS};
use pointsman_core::proto;
use pointsman_model::{Error, Family, MarkRule, PortRange, Protocol};

use super::{Tables, address};
use crate::Interface;

/// No packet is under way for so long: then none reads the half that was left.
const REST: Duration = Duration::from_millis(1);

const _: () = assert!(MarkRule::MAX_PORT_RANGES == MARK_PORT_RANGES);

impl Tables {
    /// The rules, in the order in which they are tried.
    pub fn mark_rules(&self) -> Vec<MarkRule> {
        let (first, count) = self.present_marks();
        (first..first + count)
            .filter_map(|i| Some(rule_of(&self.maps.mark_rules.read(i)?)))
            .collect()
    }

    /// Replaces all rules: a packet meets the old ones or the new ones.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a rule that cannot be, [`Error::NoRoom`] for too many.
    pub fn set_mark_rules(&mut self, rules: &[MarkRule]) -> Result<(), Error> {
        rules.iter().try_for_each(MarkRule::validate)?;
        if rules.len() > MAX_MARK_RULES as usize {
            return Err(Error::NoRoom(format!(
                "{} mark rules; {MAX_MARK_RULES} at most",
                rules.len()
            )));
        }
        if let Some(since) = self.marks_changed {
            std::thread::sleep(REST.saturating_sub(since.elapsed()));
        }
        let first = match self.present_marks() {
            (0, _) => MAX_MARK_RULES,
            _ => 0,
        };
        for (i, rule) in (first..).zip(rules) {
            let record = self.record_of(rule);
            self.maps.mark_rules.write(i, record);
        }
        let present = first << 16 | rules.len() as u32;
        let at = self.maps.runtime.at(0).expect("one record");
        // SAFETY: the pointer is into the map. The exchange puts the rules before it.
        unsafe { atomic::swap32(&raw mut (*at).mark_rules, present) };
        self.marks_changed = Some(Instant::now());
        Ok(())
    }

    /// Inserts a rule so that it becomes number `at`, counted from 1; at the end without a number.
    ///
    /// # Errors
    /// As [`Tables::set_mark_rules`]; [`Error::Invalid`] for a number beyond the end.
    pub fn add_mark_rule(&mut self, at: Option<usize>, rule: &MarkRule) -> Result<(), Error> {
        let mut rules = self.mark_rules();
        let at = at.unwrap_or(rules.len() + 1);
        if !(1..=rules.len() + 1).contains(&at) {
            return Err(no_such_rule(at, rules.len()));
        }
        rules.insert(at - 1, rule.clone());
        self.set_mark_rules(&rules)
    }

    /// Removes rule number `at`, counted from 1.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is none.
    pub fn delete_mark_rule(&mut self, at: usize) -> Result<(), Error> {
        let mut rules = self.mark_rules();
        if !(1..=rules.len()).contains(&at) {
            return Err(no_such_rule(at, rules.len()));
        }
        rules.remove(at - 1);
        self.set_mark_rules(&rules)
    }

    /// Rules that name an interface follow it.
    pub(super) fn mark_interface(&mut self, interface: &Interface) {
        self.interfaces
            .retain(|name, index| *index != interface.index || *name == interface.name);
        self.interfaces
            .insert(interface.name.clone(), interface.index);
        self.lead_marks(interface.index, Some(&interface.name));
    }

    /// Rules that name an interface match nothing while it is gone.
    pub(super) fn unmark_interface(&mut self, index: u32) {
        self.interfaces.retain(|_, other| *other != index);
        self.lead_marks(index, None);
    }

    /// Tells rules that name `name` that it has this index, and others that had it that they have none.
    fn lead_marks(&self, index: u32, name: Option<&str>) {
        let name = name.map(interface_bytes);
        let (first, count) = self.present_marks();
        for i in first..first + count {
            let Some(at) = self.maps.mark_rules.at(i) else {
                return;
            };
            // SAFETY: the pointer is into the map; packets read one word.
            unsafe {
                let ifindex = &raw mut (*at).ifindex;
                let named = (&raw const (*at).interface).read_volatile();
                let counts = (&raw const (*at).ifindex_mask).read_volatile() != 0;
                if counts && Some(named) == name {
                    ifindex.write_volatile(index);
                } else if counts && ifindex.read_volatile() == index {
                    ifindex.write_volatile(NO_INTERFACE);
                }
            }
        }
    }

    /// Index of the first rule packets read, and how many there are.
    fn present_marks(&self) -> (u32, u32) {
        let present = self.maps.runtime.read(0).map_or(0, |r| r.mark_rules);
        (present >> 16, present & 0xffff)
    }

    fn record_of(&self, rule: &MarkRule) -> layout::MarkRule {
        let mut record = layout::MarkRule::ANY;
        record.mark = rule.mark;
        let sides = [
            (
                rule.to,
                &mut record.destination,
                &mut record.destination_mask,
            ),
            (rule.from, &mut record.source, &mut record.source_mask),
        ];
        for (net, network, mask) in sides {
            if let Some(net) = net {
                *network = address::shared(net.network());
                *mask = address::shared(net.netmask());
            }
        }
        let networks = [rule.to, rule.from].into_iter().flatten();
        let families = networks.map(|net| Family::from(net.addr()));
        if let Some(family) = rule.family.into_iter().chain(families).next() {
            record.class_mask |= proto::WIDE;
            if family == Family::V6 {
                record.class |= proto::WIDE;
            }
        }
        if let Some(protocol) = rule.protocol {
            record.class_mask |= proto::BASE;
            record.class |= protocol.number() & proto::BASE;
        }
        if !rule.ports.is_empty() {
            record.ports = [NO_PORTS; MARK_PORT_RANGES];
            for (word, range) in record.ports.iter_mut().zip(&rule.ports) {
                *word = u32::from(range.first) | u32::from(range.last) << 16;
            }
        }
        if let Some(name) = &rule.interface {
            record.interface = interface_bytes(name);
            record.ifindex = self.interfaces.get(name).copied().unwrap_or(NO_INTERFACE);
            record.ifindex_mask = u32::MAX;
        }
        record
    }
}

fn no_such_rule(at: usize, count: usize) -> Error {
    Error::Invalid(format!("rule number {at}; there are {count}"))
}

fn interface_bytes(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (byte, c) in bytes.iter_mut().zip(name.bytes()) {
        *byte = c;
    }
    bytes
}

/// Reads back what [`Tables::record_of`] made. A family that addresses say is not said twice.
fn rule_of(record: &layout::MarkRule) -> MarkRule {
    let ipv6 = record.class & proto::WIDE != 0;
    let net = |network: Address, mask: Address| {
        let len = mask.0.iter().map(|word| word.count_ones()).sum::<u32>() as u8;
        let net = IpNet::new(address::ip(network, ipv6), len).ok()?;
        (len != 0).then_some(net)
    };
    let from = net(record.source, record.source_mask);
    let to = net(record.destination, record.destination_mask);
    let one_family = record.class_mask & proto::WIDE != 0;
    let protocol = match record.class & proto::BASE {
        proto::TCP => Some(Protocol::Tcp),
        proto::UDP => Some(Protocol::Udp),
        proto::SCTP => Some(Protocol::Sctp),
        _ => None,
    };
    let restricted = record.ports != layout::MarkRule::ANY.ports;
    let ports = record
        .ports
        .iter()
        .filter(|&&word| restricted && word != NO_PORTS);
    let name: Vec<u8> = record
        .interface
        .into_iter()
        .take_while(|&b| b != 0)
        .collect();
    MarkRule {
        family: (one_family && from.is_none() && to.is_none()).then_some(if ipv6 {
            Family::V6
        } else {
            Family::V4
        }),
        from,
        to,
        protocol,
        ports: ports
            .map(|&word| PortRange {
                first: word as u16,
                last: (word >> 16) as u16,
            })
            .collect(),
        interface: (record.ifindex_mask != 0).then(|| String::from_utf8_lossy(&name).into_owned()),
        mark: record.mark,
    }
}
