//! `vrrp_instance`: its keywords, before defaults and derived rules.

use std::net::IpAddr;
use std::time::Duration;

use pointsman_model::vrrp::{
    IpvlanMode, Priority, Route, Rule, UnicastPeer, VirtualAddress, VirtualInterface, Vrid,
    VrrpNotify, VrrpVersion,
};

use super::auth::{AUTHENTICATION, AuthDraft, HMAC, HmacDraft};
use super::global::{VERSIONS, garp_extra, repeat, whole_seconds};
use super::keyword::{Args, Keyword, Reader};
use super::lex::Word;
use super::track::{self, TrackingDraft, tracking_keywords};
use super::tree::Statement;
use super::{address, route, rule};
use crate::diag::Place;

/// A `vrrp_instance` as it stands in the file.
#[derive(Debug)]
pub struct InstanceDraft {
    /// Where it stands.
    pub at: Place,
    /// Its name.
    pub name: String,
    /// `state`: MASTER or not.
    pub master: Option<bool>,
    /// `interface`.
    pub interface: Option<Word>,
    /// `vrf`.
    pub vrf: Option<String>,
    /// `virtual_router_id`.
    pub vrid: Option<Vrid>,
    /// `priority`.
    pub priority: Option<Priority>,
    /// `advert_int`.
    pub advert_int: Option<(Duration, Place)>,
    /// `version`.
    pub version: Option<VrrpVersion>,
    /// `authentication`.
    pub auth: Option<AuthDraft>,
    /// `auth_hmac`.
    pub hmac: Option<HmacDraft>,
    /// `virtual_ipaddress`.
    pub addresses: Vec<(VirtualAddress, Place)>,
    /// `virtual_ipaddress_excluded`.
    pub excluded: Vec<(VirtualAddress, Place)>,
    /// `no_virtual_ipaddress`.
    pub no_addresses: bool,
    /// `virtual_routes`.
    pub routes: Vec<Route>,
    /// `virtual_rules`.
    pub rules: Vec<Rule>,
    /// `promote_secondaries`.
    pub promote_secondaries: bool,
    /// `mcast_src_ip` or `unicast_src_ip`.
    pub source: Option<(IpAddr, Place)>,
    /// `mcast_dst_ip`.
    pub group: Option<(IpAddr, Place)>,
    /// `track_src_ip`.
    pub track_source: bool,
    /// `unicast_peer`.
    pub peers: Vec<(UnicastPeer, Place)>,
    /// There is a keyword of unicast.
    pub unicast: bool,
    /// `unicast_fault_no_peer`.
    pub fault_without_peer: bool,
    /// `unicast_ttl`.
    pub ttl: Option<u8>,
    /// `check_unicast_src`.
    pub check_source: Option<bool>,
    /// A peer has `min_ttl` or `max_ttl`.
    pub peer_ttls: bool,
    /// `v3_checksum_as_v2`.
    pub checksum_as_v2: Option<bool>,
    /// `use_vmac` or `use_ipvlan`.
    pub virtual_interface: Option<VirtualInterface>,
    /// `use_vmac_addr`.
    pub vmac_for_addresses: bool,
    /// `vmac_xmit_base`.
    pub xmit_base: bool,
    /// `dont_track_primary`.
    pub ignores_interface: bool,
    /// Tracking lists.
    pub tracking: TrackingDraft,
    /// `nopreempt`.
    pub nopreempt: bool,
    /// `preempt_delay`.
    pub preempt_delay: Duration,
    /// `down_timer_adverts`.
    pub down_timer_adverts: Option<u8>,
    /// `timer_expired_backup`.
    pub timer_expired_backup: Option<Priority>,
    /// `garp_master_delay`.
    pub garp_delay: Option<Duration>,
    /// `garp_master_repeat`.
    pub garp_repeat: Option<u32>,
    /// `garp_master_refresh`.
    pub garp_refresh: Option<Duration>,
    /// `garp_master_refresh_repeat`.
    pub garp_refresh_repeat: Option<u32>,
    /// `garp_lower_prio_delay`.
    pub garp_lower_delay: Option<Duration>,
    /// `garp_lower_prio_repeat`.
    pub garp_lower_repeat: Option<u32>,
    /// `garp_extra_if`.
    pub garp_extra: Option<(Duration, bool)>,
    /// `lower_prio_no_advert`.
    pub lower_prio_no_advert: Option<bool>,
    /// `higher_prio_send_advert`.
    pub higher_prio_send_advert: Option<bool>,
    /// `owner_ignore_adverts`.
    pub owner_ignore_adverts: Option<bool>,
    /// `accept`.
    pub accept: Option<bool>,
    /// `skip_check_adv_addr`.
    pub skip_check_adv_addr: Option<bool>,
    /// `strict_mode`.
    pub strict: Option<bool>,
    /// Scripts.
    pub notify: VrrpNotify,
    /// `notify_priority_changes`.
    pub priority_changes: Option<bool>,
    /// `smtp_alert`.
    pub smtp_alert: Option<bool>,
    /// `kernel_rx_buf_size`.
    pub receive_buffer: Option<u32>,
    /// `lvs_sync_daemon_interface`.
    pub sync_interface: Option<Word>,
}

/// `vrrp_instance NAME { … }`.
pub fn instance(reader: &mut Reader<'_>, args: &mut Args<'_>) -> Option<InstanceDraft> {
    let at = args.at();
    let block = args.block();
    let name = reader.text(args, "a name")?;
    let mut draft = InstanceDraft {
        at,
        name,
        master: None,
        interface: None,
        vrf: None,
        vrid: None,
        priority: None,
        advert_int: None,
        version: None,
        auth: None,
        hmac: None,
        addresses: Vec::new(),
        excluded: Vec::new(),
        no_addresses: false,
        routes: Vec::new(),
        rules: Vec::new(),
        promote_secondaries: false,
        source: None,
        group: None,
        track_source: false,
        peers: Vec::new(),
        unicast: false,
        fault_without_peer: false,
        ttl: None,
        check_source: None,
        peer_ttls: false,
        checksum_as_v2: None,
        virtual_interface: None,
        vmac_for_addresses: false,
        xmit_base: false,
        ignores_interface: false,
        tracking: TrackingDraft::default(),
        nopreempt: false,
        preempt_delay: Duration::ZERO,
        down_timer_adverts: None,
        timer_expired_backup: None,
        garp_delay: None,
        garp_repeat: None,
        garp_refresh: None,
        garp_refresh_repeat: None,
        garp_lower_delay: None,
        garp_lower_repeat: None,
        garp_extra: None,
        lower_prio_no_advert: None,
        higher_prio_send_advert: None,
        owner_ignore_adverts: None,
        accept: None,
        skip_check_adv_addr: None,
        strict: None,
        notify: VrrpNotify::default(),
        priority_changes: None,
        smtp_alert: None,
        receive_buffer: None,
        sync_interface: None,
    };
    reader.block(&mut draft, block, INSTANCE_TABLES, "vrrp_instance");
    Some(draft)
}

/// All keywords of `vrrp_instance`.
pub const INSTANCE_TABLES: &[&[Keyword<InstanceDraft>]] = &[
    INSTANCE,
    INSTANCE_LISTS,
    INSTANCE_NOTIFY,
    COMMON_NOTIFY,
    tracking_keywords!(InstanceDraft),
];

/// Plain keywords of `vrrp_instance`.
pub const INSTANCE: &[Keyword<InstanceDraft>] = &[
    Keyword::sets("state", "MASTER|BACKUP", |r, d, a| {
        let at = a.at();
        let Some(word) = r.need(a, "MASTER or BACKUP") else {
            return;
        };
        let master = match word.text.as_str() {
            "MASTER" => true,
            "BACKUP" => false,
            other => {
                r.error(
                    &word.at,
                    format!("`{other}` is neither MASTER nor BACKUP; BACKUP is taken"),
                );
                false
            }
        };
        if d.master == Some(true) && !master {
            return r.error(&at, "`state MASTER` is there already, and stays");
        }
        d.master = Some(master);
    }),
    Keyword::sets("interface", "IF", |r, d, a| {
        d.interface = r.need(a, "an interface").cloned();
        if let Some(word) = &d.interface {
            r.check_interface(word);
        }
    }),
    Keyword::sets("vrf", "IF", |r, d, a| d.vrf = r.text(a, "an interface")),
    Keyword::sets("virtual_router_id", "1-255", |r, d, a| {
        d.vrid = r
            .small(a, 1..=255)
            .and_then(|n: u8| Vrid::new(n).ok())
            .or(d.vrid);
    }),
    Keyword::sets("priority", "1-255", |r, d, a| {
        let at = a.at();
        let priority = r.small(a, 1..=255).and_then(|n: u8| Priority::new(n).ok());
        if priority.is_none() {
            r.error(&at, "a priority is 1 to 255; the default is taken");
        }
        d.priority = priority.or(d.priority);
    }),
    Keyword::sets("advert_int", "SECS", |r, d, a| {
        let at = a.at();
        let interval = r.timer(a, 0.01..=255.0);
        d.advert_int = interval.map(|interval| (interval, at));
    }),
    Keyword::sets("version", "2|3", |r, d, a| {
        d.version = r.choice(a, VERSIONS).or(d.version)
    }),
    Keyword::nothing("native_ipv6", "", "the family is that of the addresses"),
    Keyword::sets("authentication", "{ … }", |r, d, a| {
        let mut auth = AuthDraft::default();
        r.block(&mut auth, a.block(), &[AUTHENTICATION], "authentication");
        d.auth = Some(auth);
    }),
    Keyword::sets("auth_hmac", "{ … }", |r, d, a| {
        let mut hmac = HmacDraft::default();
        r.block(&mut hmac, a.block(), &[HMAC], "auth_hmac");
        d.hmac = Some(hmac);
    }),
    Keyword::sets("no_virtual_ipaddress", "", |_, d, _| d.no_addresses = true),
    Keyword::sets("promote_secondaries", "", |_, d, _| {
        d.promote_secondaries = true
    }),
    Keyword::sets("mcast_src_ip", "IP", |r, d, a| {
        let at = a.at();
        d.source = r.address(a).map(|ip| (ip, at));
    }),
    Keyword::sets("unicast_src_ip", "IP", |r, d, a| {
        let at = a.at();
        d.unicast = true;
        d.source = r.address(a).map(|ip| (ip, at));
    }),
    Keyword::sets("mcast_dst_ip", "IP", |r, d, a| {
        let at = a.at();
        d.group = r
            .address(a)
            .filter(|ip| ip.is_multicast())
            .map(|ip| (ip, at.clone()));
        if d.group.is_none() {
            r.error(&at, "a multicast address is expected");
        }
    }),
    Keyword::sets("track_src_ip", "", |_, d, _| d.track_source = true),
    Keyword::sets("unicast_fault_no_peer", "", |_, d, _| {
        d.fault_without_peer = true
    }),
    Keyword::sets("unicast_ttl", "0-255", |r, d, a| {
        d.ttl = r.small(a, 0..=255)
    }),
    Keyword::sets("check_unicast_src", "[BOOL]", |r, d, a| {
        d.check_source = r.flag(a).or(d.check_source);
    }),
    Keyword::nothing(
        "old_unicast_checksum",
        "[never]",
        "no release of keepalived since 2017 needs it",
    ),
    Keyword::sets("v3_checksum_as_v2", "[BOOL]", |r, d, a| {
        d.checksum_as_v2 = r.flag(a).or(d.checksum_as_v2);
    }),
    Keyword::sets(
        "use_vmac",
        "[[name] IF] [MAC] [netlink_notify_msg] [group G]",
        use_vmac,
    ),
    Keyword::sets("use_vmac_addr", "", |_, d, _| d.vmac_for_addresses = true),
    Keyword::sets("vmac_xmit_base", "", |_, d, _| d.xmit_base = true),
    Keyword::sets(
        "use_ipvlan",
        "[[name] IF] [IP] [bridge|private|vepa] [group G]",
        use_ipvlan,
    ),
    Keyword::sets("dont_track_primary", "[BOOL]", |r, d, a| {
        d.ignores_interface = r.flag(a).unwrap_or(d.ignores_interface);
    }),
    Keyword::sets("preempt", "", |_, d, _| d.nopreempt = false),
    Keyword::sets("nopreempt", "", |_, d, _| d.nopreempt = true),
    Keyword::sets("preempt_delay", "0-1000", |r, d, a| {
        d.preempt_delay = r.timer(a, 0.0..=1000.0).unwrap_or(d.preempt_delay);
    }),
    Keyword::sets("down_timer_adverts", "1-100", |r, d, a| {
        d.down_timer_adverts = r.small(a, 1..=100).or(d.down_timer_adverts);
    }),
    Keyword::sets("timer_expired_backup", "[PRIORITY]", expired_backup),
    Keyword::sets("thread_timer_expired", "[PRIORITY]", expired_backup),
    Keyword::sets("garp_master_delay", "SECS", |r, d, a| {
        d.garp_delay = whole_seconds(r, a)
    }),
    Keyword::sets("garp_master_repeat", "N", |r, d, a| {
        d.garp_repeat = repeat(r, a)
    }),
    Keyword::sets("garp_master_refresh", "SECS", |r, d, a| {
        d.garp_refresh = whole_seconds(r, a)
    }),
    Keyword::sets("garp_master_refresh_repeat", "N", |r, d, a| {
        d.garp_refresh_repeat = repeat(r, a);
    }),
    Keyword::sets("garp_lower_prio_delay", "SECS", |r, d, a| {
        d.garp_lower_delay = whole_seconds(r, a);
    }),
    Keyword::sets("garp_lower_prio_repeat", "N", |r, d, a| {
        d.garp_lower_repeat = r.small(a, 0..=i32::MAX.into());
    }),
    Keyword::sets("garp_extra_if", "[all] SECS", |r, d, a| {
        d.garp_extra = garp_extra(r, a)
    }),
    Keyword::sets("vmac_garp_intvl", "[all] SECS", |r, d, a| {
        d.garp_extra = garp_extra(r, a)
    }),
    Keyword::sets("lower_prio_no_advert", "[BOOL]", |r, d, a| {
        d.lower_prio_no_advert = r.flag(a).or(d.lower_prio_no_advert);
    }),
    Keyword::sets("higher_prio_send_advert", "[BOOL]", |r, d, a| {
        d.higher_prio_send_advert = r.flag(a).or(d.higher_prio_send_advert);
    }),
    Keyword::sets("owner_ignore_adverts", "[BOOL]", |r, d, a| {
        d.owner_ignore_adverts = r.flag(a).or(d.owner_ignore_adverts);
    }),
    Keyword::sets("accept", "", |_, d, _| d.accept = Some(true)),
    Keyword::sets("no_accept", "", |_, d, _| d.accept = Some(false)),
    Keyword::sets("skip_check_adv_addr", "[BOOL]", |r, d, a| {
        d.skip_check_adv_addr = r.flag(a).or(d.skip_check_adv_addr);
    }),
    Keyword::sets("strict_mode", "[BOOL]", |r, d, a| {
        d.strict = r.flag(a).or(d.strict)
    }),
    Keyword::nothing("debug", "0-4", "the level of the log holds for everything"),
    Keyword::sets("kernel_rx_buf_size", "BYTES", |r, d, a| {
        d.receive_buffer = r.small(a, 0..=i32::MAX.into());
    }),
    Keyword::nothing(
        "linkbeat_use_polling",
        "",
        "the kernel tells of every change of a link at once",
    ),
    Keyword::sets("lvs_sync_daemon_interface", "IF", |r, d, a| {
        let at = a.at();
        r.warn(
            &at,
            "`lvs_sync_daemon` in global_defs is the new form of this",
        );
        d.sync_interface = r.need(a, "an interface").cloned();
    }),
];

/// Lists of `vrrp_instance`.
pub const INSTANCE_LISTS: &[Keyword<InstanceDraft>] = &[
    Keyword::sets("virtual_ipaddress", "{ IP[/N] … }", |r, d, a| {
        let found = addresses(r, a.block());
        d.addresses.extend(found);
    }),
    Keyword::sets("virtual_ipaddress_excluded", "{ IP[/N] … }", |r, d, a| {
        let found = addresses(r, a.block());
        d.excluded.extend(found);
    }),
    Keyword::sets("virtual_routes", "{ ROUTE … }", |r, d, a| {
        d.routes
            .extend(a.block().iter().filter_map(|entry| route::read(r, entry)));
    }),
    Keyword::sets("virtual_rules", "{ RULE … }", |r, d, a| {
        let mut preferences = std::mem::take(&mut r.preferences);
        let rules = a
            .block()
            .iter()
            .filter_map(|entry| rule::read(r, entry, &mut preferences));
        d.rules.extend(rules);
        r.preferences = preferences;
    }),
    Keyword::sets(
        "unicast_peer",
        "{ IP [min_ttl N] [max_ttl N] … }",
        |r, d, a| {
            d.unicast = true;
            for entry in a.block() {
                peer(r, d, entry);
            }
        },
    ),
];

/// Scripts and mails; the same words in instances and groups.
macro_rules! notify_keywords {
    ($type:ty) => {
        &[
            Keyword::<$type>::sets("notify_master", "COMMAND [USER [GROUP]]", |r, d, a| {
                let script = r.script(a);
                r.once(&mut d.notify.master, script, a);
            }),
            Keyword::<$type>::sets("notify_backup", "COMMAND [USER [GROUP]]", |r, d, a| {
                let script = r.script(a);
                r.once(&mut d.notify.backup, script, a);
            }),
            Keyword::<$type>::sets("notify_fault", "COMMAND [USER [GROUP]]", |r, d, a| {
                let script = r.script(a);
                r.once(&mut d.notify.fault, script, a);
            }),
            Keyword::<$type>::sets("notify_stop", "COMMAND [USER [GROUP]]", |r, d, a| {
                let script = r.script(a);
                r.once(&mut d.notify.stop, script, a);
            }),
            Keyword::<$type>::sets("notify", "COMMAND [USER [GROUP]]", |r, d, a| {
                let script = r.script(a);
                r.once(&mut d.notify.any, script, a);
            }),
            Keyword::<$type>::sets("notify_priority_changes", "BOOL", |r, d, a| {
                d.priority_changes = r.flag(a).or(d.priority_changes);
            }),
            Keyword::<$type>::sets("smtp_alert", "[BOOL]", |r, d, a| {
                d.smtp_alert = r.flag(a).or(d.smtp_alert);
            }),
        ]
    };
}

pub(super) use notify_keywords;

const COMMON_NOTIFY: &[Keyword<InstanceDraft>] = notify_keywords!(InstanceDraft);

/// Notification of instances.
pub const INSTANCE_NOTIFY: &[Keyword<InstanceDraft>] = &[
    Keyword::sets("notify_deleted", "[COMMAND [USER [GROUP]]]", |r, d, a| {
        d.notify.says_deleted = true;
        if a.peek().is_some() {
            let script = r.script(a);
            r.once(&mut d.notify.deleted, script, a);
        }
    }),
    Keyword::sets(
        "notify_master_rx_lower_pri",
        "COMMAND [USER [GROUP]]",
        |r, d, a| {
            let script = r.script(a);
            r.once(&mut d.notify.master_rx_lower_priority, script, a);
        },
    ),
];

/// The entries of a list of addresses.
pub fn addresses(reader: &mut Reader<'_>, block: &[Statement]) -> Vec<(VirtualAddress, Place)> {
    let read = |entry: &Statement| Some((address::read(reader, entry)?, entry.at()));
    block.iter().filter_map(read).collect()
}

fn peer(reader: &mut Reader<'_>, draft: &mut InstanceDraft, entry: &Statement) {
    let mut words = Args::of_entry(entry);
    let Some(first) = words.take() else {
        return;
    };
    let Some(address) = reader.address_of(first) else {
        return;
    };
    let mut peer = UnicastPeer {
        address,
        min_ttl: 0,
        max_ttl: 255,
    };
    while let Some(word) = words.take() {
        let bound = match word.text.as_str() {
            "min_ttl" => &mut peer.min_ttl,
            "max_ttl" => &mut peer.max_ttl,
            other => {
                reader.error(
                    &word.at,
                    format!("`{other}` is neither min_ttl nor max_ttl"),
                );
                continue;
            }
        };
        if let Some(value) = reader.byte(&mut words, word) {
            *bound = value;
            draft.peer_ttls = true;
        }
    }
    if peer.min_ttl > peer.max_ttl {
        reader.error(
            &first.at,
            "min_ttl is larger than max_ttl; both are left out",
        );
        (peer.min_ttl, peer.max_ttl) = (0, 255);
    }
    if draft
        .peers
        .iter()
        .any(|(known, _)| known.address == address)
    {
        return reader.error(&first.at, format!("{address} is a peer already"));
    }
    draft.peers.push((peer, first.at.clone()));
}

fn expired_backup(reader: &mut Reader<'_>, draft: &mut InstanceDraft, args: &mut Args<'_>) {
    let priority = match args.take() {
        Some(word) => reader.number_of(word, 1..=254),
        None => Some(254),
    };
    draft.timer_expired_backup = priority.and_then(|p| Priority::new(p as u8).ok());
}

fn use_vmac(reader: &mut Reader<'_>, draft: &mut InstanceDraft, args: &mut Args<'_>) {
    let (mut name, mut mac, mut group) = (None, None, None);
    while let Some(word) = args.take() {
        match word.text.as_str() {
            "name" => name = reader.text(args, "an interface name"),
            "group" => group = interface_group(reader, args),
            "netlink_notify_msg" => {}
            text if text.contains(':') => mac = mac_address(reader, word, draft.vrid),
            text => name = Some(text.to_owned()),
        }
    }
    if let Some(name) = name.take_if(|name| name.len() > 15) {
        reader.error(
            &args.at(),
            format!("`{name}` is too long for the name of an interface"),
        );
    }
    draft.virtual_interface = Some(VirtualInterface::Vmac {
        name,
        mac,
        adverts_on_base: false,
        group,
    });
}

fn interface_group(reader: &mut Reader<'_>, args: &mut Args<'_>) -> Option<u32> {
    let word = reader.need(args, "an interface group")?;
    reader.routing_number(word, super::names::Numbers::Groups)
}

/// Six octets, or five with the virtual router id behind them.
fn mac_address(reader: &mut Reader<'_>, word: &Word, vrid: Option<Vrid>) -> Option<[u8; 6]> {
    let octets: Option<Vec<u8>> = word
        .text
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16).ok())
        .collect();
    let mut octets = octets.unwrap_or_default();
    if let (5, Some(vrid)) = (octets.len(), vrid) {
        octets.push(vrid.get());
    }
    let mac = <[u8; 6]>::try_from(octets)
        .ok()
        .filter(|mac| mac[0] & 1 == 0);
    if mac.is_none() {
        reader.error(
            &word.at,
            format!("`{}` is no link-layer address", word.text),
        );
    }
    mac
}

fn use_ipvlan(reader: &mut Reader<'_>, draft: &mut InstanceDraft, args: &mut Args<'_>) {
    let (mut name, mut address, mut group) = (None, None, None);
    let mut mode = IpvlanMode::default();
    while let Some(word) = args.take() {
        match word.text.as_str() {
            "name" => name = reader.text(args, "an interface name"),
            "group" => group = interface_group(reader, args),
            "bridge" => mode = IpvlanMode::Bridge,
            "private" => mode = IpvlanMode::Private,
            "vepa" => mode = IpvlanMode::Vepa,
            text => match text.split('/').next().unwrap_or_default().parse::<IpAddr>() {
                Ok(ip) => address = Some(ip),
                Err(_) => name = Some(text.to_owned()),
            },
        }
    }
    draft.virtual_interface = Some(VirtualInterface::Ipvlan {
        name,
        address,
        mode,
        group,
    });
}
