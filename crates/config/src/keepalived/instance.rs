//! From what stands in the file about virtual routers to the model: defaults, strict mode, and the
//! rules that span several keywords, in keepalived's order and with its corrections.

use std::net::IpAddr;
use std::time::Duration;

use pointsman_model::Family;
use pointsman_model::vrrp::{
    AdvertInterval, Authentication, Garp, HmacMode, HmacTrailer, Key, Peers, Preemption, Priority,
    SyncGroup, Unicast, VirtualAddress, VirtualInterface, VrrpInstance, VrrpVersion,
};

use super::global::GlobalDraft;
use super::keyword::Reader;
use super::sync_group::{self, GroupDraft};
use super::track::{self, Trackable};
use super::vrrp::InstanceDraft;
use crate::diag::Place;

/// Instances and groups that can be used.
pub fn resolve(
    reader: &mut Reader<'_>,
    instances: Vec<InstanceDraft>,
    groups: Vec<GroupDraft>,
    globals: &GlobalDraft,
    trackable: &Trackable,
) -> (Vec<VrrpInstance>, Vec<SyncGroup>) {
    let mut made: Vec<VrrpInstance> = Vec::new();
    let mut places = Vec::new();
    for draft in instances {
        if made.iter().any(|known| known.name == draft.name) {
            let message = format!(
                "there is a vrrp_instance `{}` already; this one is left out",
                draft.name
            );
            reader.error(&draft.at, message);
            continue;
        }
        let at = draft.at.clone();
        let resolver = Resolver {
            strict: draft.strict.unwrap_or(globals.defaults.strict),
            draft,
            globals,
            trackable,
        };
        if let Some(instance) = resolver.instance(reader) {
            duplicate_id(reader, &instance, &at, &made);
            made.push(instance);
            places.push(at);
        }
    }
    let groups = sync_group::resolve(reader, groups, globals, trackable, &mut made);
    (made, groups)
}

/// Two instances of one id on one interface hear each other.
fn duplicate_id(
    reader: &mut Reader<'_>,
    instance: &VrrpInstance,
    at: &Place,
    others: &[VrrpInstance],
) {
    let peers = |i: &VrrpInstance| match &i.peers {
        Peers::Multicast(group) => vec![*group],
        Peers::Unicast(unicast) => unicast.peers.iter().map(|p| p.address).collect(),
    };
    let mine = peers(instance);
    let same = |other: &&VrrpInstance| {
        other.vrid == instance.vrid
            && other.interface == instance.interface
            && other.family == instance.family
            && (peers(other).iter().any(|p| mine.contains(p)))
    };
    if let Some(other) = others.iter().find(same) {
        let message = format!(
            "({}) has the virtual_router_id {} on the same interface as ({})",
            instance.name, instance.vrid, other.name
        );
        let fatal = crate::diag::Severity::Fatal;
        reader.say(fatal, at.clone(), message, None);
    }
}

struct Resolver<'a> {
    draft: InstanceDraft,
    strict: bool,
    globals: &'a GlobalDraft,
    trackable: &'a Trackable,
}

impl Resolver<'_> {
    fn instance(mut self, reader: &mut Reader<'_>) -> Option<VrrpInstance> {
        let defaults = &self.globals.defaults;
        let name = self.draft.name.clone();
        let Some(vrid) = self.draft.vrid else {
            self.error(
                reader,
                "the virtual_router_id must be set; this instance is left out",
            );
            return None;
        };
        let first = self
            .draft
            .addresses
            .first()
            .map(|(address, _)| address.family());
        let family = first.unwrap_or_else(|| self.family_of_source());
        let interface = self.draft.interface.take().map(|word| word.text);
        let mut instance = VrrpInstance::new(&name, "", vrid, family);
        instance.interface = interface;
        instance.version = self.version(reader, family);
        self.priority_and_state(reader, &mut instance);
        instance.authentication = self.authentication(reader, &instance);
        instance.hmac = self.hmac(reader);
        instance.peers = self.peers(reader, family)?;
        self.source(reader, &mut instance)?;
        self.addresses(reader, &mut instance)?;
        instance.advert_interval = self.advert_interval(reader, instance.version);
        instance.preemption = self.preemption(reader, &instance);
        instance.tracking = self.tracking(reader, &instance);
        instance.garp = self.garp();
        self.strict_values(reader, &mut instance);
        instance.virtual_interface = self.virtual_interface(reader, &instance);
        let draft = self.draft;
        instance.vrf = draft.vrf;
        instance.routes = draft.routes;
        instance.rules = draft.rules;
        instance.promote_secondaries = draft.promote_secondaries;
        instance.checksum_as_v2 = draft.checksum_as_v2.unwrap_or(defaults.checksum_as_v2);
        instance.vmac_for_addresses = draft.vmac_for_addresses;
        instance.ignores_interface = draft.ignores_interface;
        instance.timer_expired_backup = draft.timer_expired_backup;
        instance.skips_address_check = draft
            .skip_check_adv_addr
            .unwrap_or(defaults.skip_check_adv_addr);
        instance.receive_buffer_bytes = draft.receive_buffer;
        instance.notify = draft.notify;
        // A group that it belongs to may still say otherwise.
        instance.notify.priority_changes = draft
            .priority_changes
            .unwrap_or(defaults.notify_priority_changes);
        instance.notify.mail = self.globals.mails_of_vrrp(draft.smtp_alert);
        Some(instance)
    }

    fn error(&self, reader: &mut Reader<'_>, message: &str) {
        reader.error(&self.draft.at, format!("({}) {message}", self.draft.name));
    }

    fn family_of_source(&self) -> Family {
        match &self.draft.source {
            Some((source, _)) => Family::from(*source),
            None => Family::V4,
        }
    }

    fn version(&self, reader: &mut Reader<'_>, family: Family) -> VrrpVersion {
        match (self.draft.version, family) {
            (Some(VrrpVersion::V2), Family::V6) if self.strict => {
                self.error(reader, "IPv6 has version 3 in strict mode, which is taken");
                VrrpVersion::V3
            }
            (Some(version), _) => version,
            (None, Family::V6) => VrrpVersion::V3,
            (None, Family::V4) => self.globals.defaults.version,
        }
    }

    fn priority_and_state(&mut self, reader: &mut Reader<'_>, instance: &mut VrrpInstance) {
        let draft = &self.draft;
        let (priority, master) = match (draft.priority, draft.master) {
            (None, Some(true)) => (Priority::OWNER, true),
            (None, _) => (Priority::DEFAULT, false),
            (Some(priority), None) => (priority, priority.is_owner()),
            (Some(priority), Some(master)) => (priority, master),
        };
        let mut master = master;
        if self.strict && master != priority.is_owner() {
            self.error(
                reader,
                "in strict mode state MASTER and priority 255 go together",
            );
            master = priority.is_owner();
        }
        if draft.auth.as_ref().is_some_and(|auth| auth.ah) && master && !priority.is_owner() {
            self.error(
                reader,
                "with AH and a priority below 255 the initial state is BACKUP",
            );
            master = false;
        }
        instance.priority = priority;
        instance.starts_as_master = master;
    }

    fn authentication(&self, reader: &mut Reader<'_>, instance: &VrrpInstance) -> Authentication {
        let Some(auth) = &self.draft.auth else {
            return Authentication::None;
        };
        let why = if self.strict {
            "in strict mode"
        } else if instance.version == VrrpVersion::V3 {
            "in version 3"
        } else if instance.family == Family::V6 {
            "over IPv6"
        } else if self.draft.hmac.is_some() {
            "beside auth_hmac"
        } else {
            match &auth.pass {
                None => "without a password",
                Some(word) => {
                    let mut bytes = word.text.clone().into_bytes();
                    if bytes.len() > 8 {
                        reader.error(&word.at, "auth_pass is cut to 8 characters");
                        bytes.truncate(8);
                    }
                    bytes.resize(8, 0);
                    let key = Key::new(bytes);
                    return if auth.ah {
                        Authentication::Ah(key)
                    } else {
                        Authentication::Pass(key)
                    };
                }
            }
        };
        self.error(
            reader,
            &format!("there is no authentication {why}, and it is left out"),
        );
        Authentication::None
    }

    fn hmac(&self, reader: &mut Reader<'_>) -> Option<HmacTrailer> {
        let draft = self.draft.hmac.as_ref()?;
        let Some(first) = draft.keys.first() else {
            self.error(reader, "auth_hmac has no key, and is left out");
            return None;
        };
        let mut active_key = draft.active.unwrap_or(first.id);
        if !draft.keys.iter().any(|key| key.id == active_key) {
            self.error(
                reader,
                "the active_key of auth_hmac is none of its keys; the first is taken",
            );
            active_key = first.id;
        }
        let mut mode = draft.mode.unwrap_or(HmacMode::Enforce);
        if self.strict && mode != HmacMode::Enforce {
            self.error(reader, "in strict mode auth_hmac is enforced");
            mode = HmacMode::Enforce;
        }
        let interval = match &self.draft.advert_int {
            Some((interval, _)) => *interval,
            None => AdvertInterval::DEFAULT.duration(),
        };
        Some(HmacTrailer {
            keys: draft.keys.clone(),
            active_key,
            monotonic: draft.monotonic,
            time_window: draft
                .window
                .unwrap_or((interval * 3).max(Duration::from_secs(5))),
            mode,
        })
    }

    fn peers(&mut self, reader: &mut Reader<'_>, family: Family) -> Option<Peers> {
        let defaults = &self.globals.defaults;
        let mut peers = Vec::new();
        for (peer, at) in std::mem::take(&mut self.draft.peers) {
            if Family::from(peer.address) == family {
                peers.push(peer);
            } else {
                let message = format!(
                    "({}) the peer {} is of the other family",
                    self.draft.name, peer.address
                );
                reader.error(&at, message);
            }
        }
        let unicast = Unicast {
            peers,
            ttl: self.draft.ttl,
            check_source: self.draft.peer_ttls
                || self
                    .draft
                    .check_source
                    .unwrap_or(defaults.check_unicast_src),
        };
        if !unicast.peers.is_empty() || (self.draft.unicast && self.draft.fault_without_peer) {
            if self.strict {
                self.error(
                    reader,
                    "there is no unicast in strict mode; this instance is left out",
                );
                return None;
            }
            return Some(Peers::Unicast(unicast));
        }
        if self.draft.unicast {
            self.error(
                reader,
                "unicast without peers becomes multicast, which will not stay so",
            );
        }
        let group = match &self.draft.group {
            Some((group, at)) if Family::from(*group) != family => {
                let message = format!("({}) mcast_dst_ip is of the other family", self.draft.name);
                reader.error(at, message);
                None
            }
            Some((group, _)) => Some(*group),
            None => None,
        };
        Some(Peers::Multicast(group.unwrap_or(match family {
            Family::V4 => defaults.group4,
            Family::V6 => defaults.group6,
        })))
    }

    fn source(&self, reader: &mut Reader<'_>, instance: &mut VrrpInstance) -> Option<()> {
        if let Some((source, at)) = &self.draft.source {
            if Family::from(*source) == instance.family {
                instance.source = Some(*source);
            } else {
                let message = format!(
                    "({}) the source address is of the other family",
                    instance.name
                );
                reader.error(at, message);
            }
        }
        let unicast = matches!(instance.peers, Peers::Unicast(_));
        if instance.interface.is_none() && !(unicast && instance.source.is_some()) {
            self.error(
                reader,
                "there is no interface, nor unicast with unicast_src_ip; this instance is left out",
            );
            return None;
        }
        if instance.interface.is_none()
            && matches!(instance.source, Some(IpAddr::V6(source)) if source.is_unicast_link_local())
        {
            self.error(
                reader,
                "a link-local source needs an interface; this instance is left out",
            );
            return None;
        }
        instance.track_source = self.draft.track_source;
        if instance.track_source && instance.source.is_none() {
            self.error(reader, "track_src_ip without a source address is left out");
            instance.track_source = false;
        }
        Some(())
    }

    fn addresses(&mut self, reader: &mut Reader<'_>, instance: &mut VrrpInstance) -> Option<()> {
        /// Most addresses of an IPv4 advert: the field has a byte.
        const MOST_4: usize = 255;
        /// Most of an IPv6 advert that fits into 1500 bytes.
        const MOST_6: usize = (1500 - 40 - 8) / 16;
        let mut seen: Vec<(IpAddr, Option<String>)> = Vec::new();
        let key = |a: &VirtualAddress| (a.ip(), a.interface.clone());
        for (address, at) in std::mem::take(&mut self.draft.addresses) {
            if address.family() != instance.family {
                let message = format!(
                    "({}) {} is of another family than the first, and is left out",
                    instance.name,
                    address.ip()
                );
                reader.error(&at, message);
            } else if seen.iter().any(|(ip, _)| *ip == address.ip()) {
                let message = format!("({}) {} is there already", instance.name, address.ip());
                reader.error(&at, message);
            } else {
                seen.push(key(&address));
                instance.addresses.push(address);
            }
        }
        let mut excluded = Vec::new();
        for (address, at) in std::mem::take(&mut self.draft.excluded) {
            if seen.contains(&key(&address)) {
                let message = format!("({}) {} is there already", instance.name, address.ip());
                reader.error(&at, message);
            } else {
                seen.push(key(&address));
                excluded.push(address);
            }
        }
        let most = match instance.family {
            Family::V4 => MOST_4,
            Family::V6 => MOST_6,
        };
        if instance.addresses.len() > most {
            self.error(
                reader,
                &format!("an advert has room for {most} addresses; the others are not advertised"),
            );
            instance.excluded = instance.addresses.split_off(most);
        }
        instance.excluded.append(&mut excluded);
        if let Some(IpAddr::V6(first)) = instance.addresses.first().map(VirtualAddress::ip)
            && !first.is_unicast_link_local()
        {
            let message = "the first IPv6 address should be link-local (RFC 9568 §1.2)";
            if self.strict {
                self.error(reader, message);
            } else {
                let at = self.draft.at.clone();
                reader.warn(&at, format!("({}) {message}", self.draft.name));
            }
        }
        if instance.addresses.is_empty() && !self.draft.no_addresses {
            if instance.version == VrrpVersion::V3 || self.strict {
                self.error(
                    reader,
                    "version 3 and strict mode need an address; this instance is left out",
                );
                return None;
            }
            self.error(
                reader,
                "there is no address in it; at least one is sensible",
            );
        }
        Some(())
    }

    fn advert_interval(&self, reader: &mut Reader<'_>, version: VrrpVersion) -> AdvertInterval {
        let Some((interval, at)) = &self.draft.advert_int else {
            return AdvertInterval::DEFAULT;
        };
        if let Ok(interval) = AdvertInterval::new(version, *interval) {
            return interval;
        }
        let centis = (interval.as_micros() as u64 + 5_000) / 10_000;
        let made = match version {
            VrrpVersion::V2 => {
                let seconds = ((centis + 50) / 100).clamp(1, 255);
                AdvertInterval::from_seconds(seconds as u8)
            }
            VrrpVersion::V3 => AdvertInterval::from_centiseconds(centis.clamp(1, 4095) as u16),
        };
        let made = made.unwrap_or(AdvertInterval::DEFAULT);
        let message = format!(
            "({}) version {} cannot say this interval; {} s is taken",
            self.draft.name,
            version.number(),
            made.duration().as_secs_f64()
        );
        reader.error(at, message);
        made
    }

    fn preemption(&self, reader: &mut Reader<'_>, instance: &VrrpInstance) -> Preemption {
        let mut nopreempt = self.draft.nopreempt;
        let mut delay = self.draft.preempt_delay;
        if nopreempt && (instance.priority.is_owner() || instance.starts_as_master) {
            self.error(
                reader,
                "nopreempt means nothing with priority 255 or state MASTER, and is left out",
            );
            nopreempt = false;
        }
        if !delay.is_zero() && (instance.starts_as_master || self.strict || nopreempt) {
            self.error(reader, "preempt_delay means nothing with state MASTER, nopreempt or strict mode, and is left out");
            delay = Duration::ZERO;
        }
        match (nopreempt, delay) {
            (true, _) => Preemption::Never,
            (false, Duration::ZERO) => Preemption::AtOnce,
            (false, delay) => Preemption::After(delay),
        }
    }

    fn tracking(
        &mut self,
        reader: &mut Reader<'_>,
        instance: &VrrpInstance,
    ) -> pointsman_model::vrrp::Tracking {
        if let Some(own) = &instance.interface {
            let mut own_entries = Vec::new();
            self.draft.tracking.interfaces.retain(|entry| {
                let is_own = entry.name.text == *own && entry.weight.is_none();
                if is_own {
                    own_entries.push(entry.name.at.clone());
                }
                !is_own
            });
            for at in own_entries {
                let message = format!("({}) its own interface is tracked anyway", instance.name);
                reader.error(&at, message);
            }
        }
        let tracking = track::resolve(reader, &self.draft.tracking, self.trackable, &instance.name);
        let weighted = tracking
            .interfaces
            .iter()
            .chain(&tracking.scripts)
            .chain(&tracking.files)
            .chain(&tracking.processes)
            .chain(&tracking.bfd)
            .any(|tracked| tracked.weight.points != 0);
        if weighted && instance.priority.is_owner() {
            self.error(
                reader,
                "weights of what it tracks mean nothing with priority 255",
            );
        }
        tracking
    }

    fn garp(&self) -> Garp {
        let (draft, defaults) = (&self.draft, &self.globals.defaults);
        let min = defaults.min_garp;
        let delay = draft.garp_delay.or(defaults.garp_delay);
        let delay = delay.unwrap_or(Duration::from_secs(if min { 0 } else { 5 }));
        let repeat = draft
            .garp_repeat
            .or(defaults.garp_repeat)
            .unwrap_or(if min { 1 } else { 5 });
        let (extra_interval, extra_all) = draft.garp_extra.unwrap_or(defaults.garp_extra);
        Garp {
            delay,
            repeat,
            refresh: draft.garp_refresh.unwrap_or(defaults.garp_refresh),
            refresh_repeat: draft
                .garp_refresh_repeat
                .or(defaults.garp_refresh_repeat)
                .unwrap_or(1),
            lower_delay: draft
                .garp_lower_delay
                .or(defaults.garp_lower_delay)
                .unwrap_or(delay),
            lower_repeat: draft
                .garp_lower_repeat
                .or(defaults.garp_lower_repeat)
                .unwrap_or(repeat),
            extra_interval,
            extra_all,
        }
    }

    /// What strict mode forbids, and what it does not.
    fn strict_values(&self, reader: &mut Reader<'_>, instance: &mut VrrpInstance) {
        let (draft, defaults) = (&self.draft, &self.globals.defaults);
        let owner = instance.priority.is_owner();
        instance.accept = draft.accept.unwrap_or(true);
        instance.silent_to_lower = draft
            .lower_prio_no_advert
            .unwrap_or(defaults.lower_prio_no_advert);
        instance.advert_before_yielding = draft
            .higher_prio_send_advert
            .unwrap_or(defaults.higher_prio_send_advert);
        instance.owner_ignores_adverts = draft
            .owner_ignore_adverts
            .unwrap_or(defaults.owner_ignore_adverts);
        instance.down_timer_adverts = draft
            .down_timer_adverts
            .unwrap_or(defaults.down_timer_adverts);
        if !self.strict {
            return;
        }
        if draft.accept.is_none() && !owner {
            instance.accept = false;
        }
        if draft.accept == Some(true) && !owner && instance.version == VrrpVersion::V2 {
            self.error(
                reader,
                "version 2 has no accept mode, which strict mode goes by",
            );
            instance.accept = false;
        }
        if draft.garp_lower_repeat.is_some_and(|n| n > 0)
            || draft.garp_lower_delay.is_some_and(|d| !d.is_zero())
        {
            self.error(
                reader,
                "garp_lower_prio_repeat and garp_lower_prio_delay are 0 in strict mode",
            );
        }
        (instance.garp.lower_repeat, instance.garp.lower_delay) = (0, Duration::ZERO);
        if draft.lower_prio_no_advert == Some(false) {
            self.error(reader, "lower_prio_no_advert is on in strict mode");
        }
        instance.silent_to_lower = true;
        if draft.higher_prio_send_advert == Some(true) {
            self.error(reader, "higher_prio_send_advert is off in strict mode");
        }
        instance.advert_before_yielding = false;
        if instance.down_timer_adverts != 3 {
            self.error(reader, "down_timer_adverts is 3 in strict mode");
            instance.down_timer_adverts = 3;
        }
        instance.owner_ignores_adverts |= owner;
    }

    fn virtual_interface(
        &mut self,
        reader: &mut Reader<'_>,
        instance: &VrrpInstance,
    ) -> Option<VirtualInterface> {
        let xmit_base = self.draft.xmit_base;
        match self.draft.virtual_interface.take() {
            Some(VirtualInterface::Vmac {
                name,
                mut mac,
                group,
                ..
            }) => {
                let mut adverts_on_base = xmit_base;
                let unicast = matches!(instance.peers, Peers::Unicast(_));
                if self.strict && xmit_base {
                    self.error(reader, "there is no vmac_xmit_base in strict mode");
                    adverts_on_base = false;
                }
                if self.strict && mac.take().is_some() {
                    self.error(
                        reader,
                        "the address of a VMAC is the virtual router's in strict mode",
                    );
                }
                if unicast && !xmit_base {
                    self.error(
                        reader,
                        "unicast goes by the interface below the VMAC; vmac_xmit_base is set",
                    );
                    adverts_on_base = true;
                }
                Some(VirtualInterface::Vmac {
                    name,
                    mac,
                    adverts_on_base,
                    group,
                })
            }
            other => {
                if xmit_base && !self.draft.vmac_for_addresses {
                    self.error(reader, "vmac_xmit_base without use_vmac is left out");
                }
                if let Some(VirtualInterface::Ipvlan { address: None, .. }) = &other
                    && instance.family == Family::V4
                {
                    self.error(
                        reader,
                        "use_ipvlan needs an address with IPv4, and is left out",
                    );
                    return None;
                }
                other
            }
        }
    }
}
