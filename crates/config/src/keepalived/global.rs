//! `global_defs`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::time::Duration;

use pointsman_model::vrrp::{VrrpGlobals, VrrpVersion};
use pointsman_model::{
    BoundedScript, DaemonRole, DaemonSpec, Fifo, FlushOnStop, Globals, Mail, MailTls, Script,
    SyncDaemon, Timeouts,
};

use super::checker::LONGEST;
use super::keyword::{Args, Keyword, Reader};
use super::mail::MAIL;
use super::process::PROCESSES;
use crate::diag::Place;

/// Why SNMP's keywords do nothing.
pub const NO_SNMP: &str = "there is no SNMP agent; metrics and status are served over HTTP";
const OWN_FIREWALL: &str = "VRRP's own firewall rules are made by nftables";
const NO_NFT_SERVICES: &str =
    "the data plane balances groups itself, without marks set by nftables";

/// `global_defs` as it stands in the file.
#[derive(Debug)]
pub struct GlobalDraft {
    /// What goes into the model as it is.
    pub globals: Globals,
    /// What goes into VRRP's part of it as it is.
    pub vrrp: VrrpGlobals,
    /// Defaults of instances.
    pub defaults: InstanceDefaults,
    /// `smtp_alert`.
    pub smtp_alert: Option<bool>,
    /// `smtp_alert_vrrp`.
    pub smtp_alert_vrrp: Option<bool>,
    /// `smtp_alert_checker`.
    pub smtp_alert_checker: Option<bool>,
    /// `checker_log_all_failures`.
    pub log_all_failures: bool,
    /// `lvs_sync_daemon` has an `id` of its own.
    pub sync_id: Option<u8>,
    /// `notification_email`.
    pub recipients: Vec<String>,
    /// `notification_email_from`.
    pub from: Option<String>,
    /// `smtp_server`: host and port.
    pub server: Option<(String, u16)>,
    /// `smtp_tls`.
    pub tls: MailTls,
    /// `smtp_helo_name`.
    pub helo: Option<String>,
    /// `smtp_connect_timeout`.
    pub smtp_timeout: Duration,
    /// `startup_script`.
    pub startup: Option<Script>,
    /// `startup_script_timeout`.
    pub startup_timeout: Duration,
    /// `shutdown_script`.
    pub shutdown: Option<Script>,
    /// `shutdown_script_timeout`.
    pub shutdown_timeout: Duration,
    /// FIFOs of everything, of VRRP, of services.
    pub fifos: [FifoDraft; 3],
}

/// Defaults that `vrrp_instance` takes from `global_defs`.
#[derive(Clone, Debug)]
pub struct InstanceDefaults {
    /// `vrrp_version`.
    pub version: VrrpVersion,
    /// `vrrp_mcast_group4`.
    pub group4: IpAddr,
    /// `vrrp_mcast_group6`.
    pub group6: IpAddr,
    /// `vrrp_garp_master_delay`.
    pub garp_delay: Option<Duration>,
    /// `vrrp_garp_master_repeat`.
    pub garp_repeat: Option<u32>,
    /// `vrrp_garp_master_refresh`.
    pub garp_refresh: Duration,
    /// `vrrp_garp_master_refresh_repeat`.
    pub garp_refresh_repeat: Option<u32>,
    /// `vrrp_garp_lower_prio_delay`.
    pub garp_lower_delay: Option<Duration>,
    /// `vrrp_garp_lower_prio_repeat`.
    pub garp_lower_repeat: Option<u32>,
    /// `vrrp_min_garp`.
    pub min_garp: bool,
    /// `vrrp_garp_extra_if`.
    pub garp_extra: (Duration, bool),
    /// `vrrp_down_timer_adverts`.
    pub down_timer_adverts: u8,
    /// `vrrp_lower_prio_no_advert`.
    pub lower_prio_no_advert: bool,
    /// `vrrp_higher_prio_send_advert`.
    pub higher_prio_send_advert: bool,
    /// `vrrp_strict`.
    pub strict: bool,
    /// `vrrp_skip_check_adv_addr`.
    pub skip_check_adv_addr: bool,
    /// `vrrp_check_unicast_src`.
    pub check_unicast_src: bool,
    /// `v3_checksum_as_v2`.
    pub checksum_as_v2: bool,
    /// `vrrp_owner_ignore_adverts`.
    pub owner_ignore_adverts: bool,
    /// `vrrp_notify_priority_changes`.
    pub notify_priority_changes: bool,
}

/// A FIFO with its program, as several keywords say it.
#[derive(Debug, Default)]
pub struct FifoDraft {
    fifo: Option<Fifo>,
    script: Option<Script>,
    at: Option<Place>,
}

impl Default for GlobalDraft {
    fn default() -> Self {
        Self {
            globals: Globals::default(),
            vrrp: VrrpGlobals::default(),
            defaults: InstanceDefaults {
                version: VrrpVersion::V2,
                group4: Ipv4Addr::new(224, 0, 0, 18).into(),
                group6: Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12).into(),
                garp_delay: None,
                garp_repeat: None,
                garp_refresh: Duration::ZERO,
                garp_refresh_repeat: None,
                garp_lower_delay: None,
                garp_lower_repeat: None,
                min_garp: false,
                garp_extra: (Duration::ZERO, false),
                down_timer_adverts: 3,
                lower_prio_no_advert: false,
                higher_prio_send_advert: true,
                strict: false,
                skip_check_adv_addr: false,
                check_unicast_src: false,
                checksum_as_v2: false,
                owner_ignore_adverts: false,
                notify_priority_changes: false,
            },
            smtp_alert: None,
            smtp_alert_vrrp: None,
            smtp_alert_checker: None,
            log_all_failures: false,
            sync_id: None,
            recipients: Vec::new(),
            from: None,
            server: None,
            tls: MailTls::Off,
            helo: None,
            smtp_timeout: Duration::from_secs(30),
            startup: None,
            startup_timeout: Duration::from_secs(10),
            shutdown: None,
            shutdown_timeout: Duration::from_secs(10),
            fifos: Default::default(),
        }
    }
}

/// Reads a `global_defs` block; there may be several.
pub fn read(reader: &mut Reader<'_>, draft: &mut GlobalDraft, args: &mut Args<'_>) {
    reader.block(
        draft,
        args.block(),
        &[MAIL, PROCESSES, VRRP, IPVS],
        "global_defs",
    );
}

impl GlobalDraft {
    /// Whether an instance or a group sends mail: as itself says, then `smtp_alert_vrrp`, then `smtp_alert`, then no.
    pub fn mails_of_vrrp(&self, own: Option<bool>) -> bool {
        own.or(self.smtp_alert_vrrp)
            .or(self.smtp_alert)
            .unwrap_or(false)
    }

    /// Puts together what several keywords say.
    pub fn finish(&mut self, reader: &mut Reader<'_>) {
        if let Some((server, port)) = self.server.take()
            && !self.recipients.is_empty()
        {
            self.globals.mail = Some(Mail {
                server: Some(server),
                port,
                tls: self.tls,
                helo: self.helo.take(),
                from: self
                    .from
                    .take()
                    .unwrap_or_else(|| format!("keepalived@{}", reader.options.host_name)),
                to: std::mem::take(&mut self.recipients),
                timeout: self.smtp_timeout,
            });
        }
        self.globals.startup_script = self.startup.take().map(|script| BoundedScript {
            script,
            timeout: self.startup_timeout,
        });
        self.globals.shutdown_script = self.shutdown.take().map(|script| BoundedScript {
            script,
            timeout: self.shutdown_timeout,
        });
        let mut paths = Vec::new();
        let [all, vrrp, lvs] = std::mem::take(&mut self.fifos).map(|draft| {
            let script = draft.script;
            match (draft.fifo, script) {
                (Some(fifo), _) if paths.contains(&fifo.path) => {
                    if let Some(at) = draft.at {
                        reader.error(&at, format!("the FIFO `{}` is in use already", fifo.path));
                    }
                    None
                }
                (Some(fifo), script) => {
                    paths.push(fifo.path.clone());
                    Some(Fifo { script, ..fifo })
                }
                (None, Some(_)) => {
                    if let Some(at) = draft.at {
                        reader.error(&at, "there is a script for a FIFO, but no FIFO");
                    }
                    None
                }
                (None, None) => None,
            }
        });
        (
            self.globals.notify_fifo,
            self.globals.vrrp_notify_fifo,
            self.globals.lvs_notify_fifo,
        ) = (all, vrrp, lvs);
    }
}

/// Defaults of VRRP.
pub const VRRP: &[Keyword<GlobalDraft>] = &[
    Keyword::sets("vrrp_version", "2|3", |r, d, a| {
        d.defaults.version = r.choice(a, VERSIONS).unwrap_or(d.defaults.version);
    }),
    Keyword::sets("vrrp_mcast_group4", "IP", |r, d, a| {
        d.defaults.group4 = multicast(r, a, true).unwrap_or(d.defaults.group4);
    }),
    Keyword::sets("vrrp_mcast_group6", "IP", |r, d, a| {
        d.defaults.group6 = multicast(r, a, false).unwrap_or(d.defaults.group6);
    }),
    Keyword::sets("vrrp_garp_master_delay", "SECS", |r, d, a| {
        d.defaults.garp_delay = whole_seconds(r, a).or(d.defaults.garp_delay);
    }),
    Keyword::sets("vrrp_garp_master_repeat", "N", |r, d, a| {
        d.defaults.garp_repeat = repeat(r, a).or(d.defaults.garp_repeat);
    }),
    Keyword::sets("vrrp_garp_master_refresh", "SECS", |r, d, a| {
        d.defaults.garp_refresh = whole_seconds(r, a).unwrap_or(d.defaults.garp_refresh);
    }),
    Keyword::sets("vrrp_garp_master_refresh_repeat", "N", |r, d, a| {
        d.defaults.garp_refresh_repeat = repeat(r, a).or(d.defaults.garp_refresh_repeat);
    }),
    Keyword::sets("vrrp_garp_lower_prio_delay", "SECS", |r, d, a| {
        d.defaults.garp_lower_delay = whole_seconds(r, a).or(d.defaults.garp_lower_delay);
    }),
    Keyword::sets("vrrp_garp_lower_prio_repeat", "N", |r, d, a| {
        let repeat = r.small(a, 0..=i32::MAX.into());
        d.defaults.garp_lower_repeat = repeat.or(d.defaults.garp_lower_repeat);
    }),
    Keyword::sets("vrrp_garp_interval", "SECS", |r, d, a| {
        d.vrrp.garp_interval = r.timer(a, 0.0..=LONGEST).unwrap_or(d.vrrp.garp_interval);
    }),
    Keyword::sets("vrrp_gna_interval", "SECS", |r, d, a| {
        d.vrrp.gna_interval = r.timer(a, 0.0..=LONGEST).unwrap_or(d.vrrp.gna_interval);
    }),
    Keyword::sets("vrrp_min_garp", "[BOOL]", |r, d, a| {
        d.defaults.min_garp = r.flag(a).unwrap_or(d.defaults.min_garp);
    }),
    Keyword::sets("vrrp_garp_extra_if", "[all] SECS", |r, d, a| {
        d.defaults.garp_extra = garp_extra(r, a).unwrap_or(d.defaults.garp_extra);
    }),
    Keyword::sets("vrrp_vmac_garp_intvl", "[all] SECS", |r, d, a| {
        d.defaults.garp_extra = garp_extra(r, a).unwrap_or(d.defaults.garp_extra);
    }),
    Keyword::sets("vrrp_down_timer_adverts", "1-100", |r, d, a| {
        let adverts = r.small(a, 1..=100);
        d.defaults.down_timer_adverts = adverts.unwrap_or(d.defaults.down_timer_adverts);
    }),
    Keyword::sets("vrrp_lower_prio_no_advert", "[BOOL]", |r, d, a| {
        d.defaults.lower_prio_no_advert = r.flag(a).unwrap_or(d.defaults.lower_prio_no_advert);
    }),
    Keyword::sets("vrrp_higher_prio_send_advert", "[BOOL]", |r, d, a| {
        let flag = r.flag(a);
        d.defaults.higher_prio_send_advert = flag.unwrap_or(d.defaults.higher_prio_send_advert);
    }),
    Keyword::sets("vrrp_strict", "[BOOL]", |r, d, a| {
        d.defaults.strict = r.flag(a).unwrap_or(d.defaults.strict);
    }),
    Keyword::sets("vrrp_skip_check_adv_addr", "[BOOL]", |r, d, a| {
        d.defaults.skip_check_adv_addr = r.flag(a).unwrap_or(d.defaults.skip_check_adv_addr);
    }),
    Keyword::sets("vrrp_check_unicast_src", "[BOOL]", |r, d, a| {
        d.defaults.check_unicast_src = r.flag(a).unwrap_or(d.defaults.check_unicast_src);
    }),
    Keyword::sets("v3_checksum_as_v2", "[BOOL]", |r, d, a| {
        d.defaults.checksum_as_v2 = r.flag(a).unwrap_or(d.defaults.checksum_as_v2);
    }),
    Keyword::sets("vrrp_owner_ignore_adverts", "[BOOL]", |r, d, a| {
        d.defaults.owner_ignore_adverts = r.flag(a).unwrap_or(d.defaults.owner_ignore_adverts);
    }),
    Keyword::sets("vrrp_startup_delay", "SECS", |r, d, a| {
        d.vrrp.startup_delay = r.timer(a, 0.0..=LONGEST).unwrap_or(d.vrrp.startup_delay);
    }),
    Keyword::sets("vrrp_delay_after_boot", "SECS", |r, d, a| {
        d.vrrp.delay_after_boot = r.timer(a, 0.0..=LONGEST).unwrap_or(d.vrrp.delay_after_boot);
    }),
    Keyword::sets("log_unknown_vrids", "[BOOL]", |r, d, a| {
        d.vrrp.log_unknown_vrids = r.flag(a).unwrap_or(d.vrrp.log_unknown_vrids);
    }),
    Keyword::sets("default_interface", "IF", |r, d, a| {
        if let Some(word) = r.need(a, "an interface") {
            r.check_interface(word);
            d.vrrp.default_interface = word.text.clone();
        }
    }),
    Keyword::sets("dynamic_interfaces", "[allow_if_changes]", |_, d, a| {
        a.take_word("allow_if_changes");
        d.vrrp.dynamic_interfaces = true;
    }),
    Keyword::sets("vrrp_notify_priority_changes", "BOOL", |r, d, a| {
        let flag = r.flag(a);
        d.defaults.notify_priority_changes = flag.unwrap_or(d.defaults.notify_priority_changes);
    }),
    Keyword::nothing(
        "vrrp_rx_bufs_policy",
        "MTU|ADVERT|N",
        "receive buffers are as large as the kernel makes them, or `kernel_rx_buf_size`",
    ),
    Keyword::nothing(
        "vrrp_rx_bufs_multiplier",
        "N",
        "receive buffers are as large as the kernel makes them, or `kernel_rx_buf_size`",
    ),
    Keyword::sets("vmac_prefix", "STRING", |r, d, a| {
        d.vrrp.vmac_prefix = r.text(a, "a prefix").unwrap_or_default();
    }),
    Keyword::sets("vmac_addr_prefix", "STRING", |r, d, a| {
        d.vrrp.vmac_addr_prefix = r.text(a, "a prefix").unwrap_or_default();
    }),
    Keyword::nothing(
        "disable_local_igmp",
        "",
        "hosts are told of multicast groups by the interface below, never by a virtual MAC",
    ),
    Keyword::sets("nftables", "[TABLE]", |_, d, a| {
        if let Some(word) = a.take() {
            d.vrrp.nftables_table = word.text.clone();
        }
    }),
    Keyword::sets("nftables_priority", "N", |r, d, a| {
        let priority = r.small(a, i32::MIN.into()..=i32::MAX.into());
        d.vrrp.nftables_priority = priority.unwrap_or(d.vrrp.nftables_priority);
    }),
    Keyword::nothing(
        "nftables_ifindex",
        "",
        "rules name interfaces, which survive their deletion",
    ),
    Keyword::sets("nftables_counters", "", |_, d, _| {
        d.vrrp.nftables_counters = true
    }),
    Keyword::nothing("vrrp_iptables", "[IN [OUT]]", OWN_FIREWALL),
    Keyword::nothing("vrrp_ipsets", "[NAME …]", OWN_FIREWALL),
];

/// The table of services.
pub const IPVS: &[Keyword<GlobalDraft>] = &[
    Keyword::sets(
        "lvs_sync_daemon",
        "IF [[inst] VI] [id N] [maxlen N] [port N] [ttl N] [group IP]",
        sync_daemon,
    ),
    Keyword::sets("lvs_timeouts", "[tcp N] [tcpfin N] [udp N]", timeouts),
    Keyword::sets("lvs_flush", "", |_, d, _| d.globals.lvs_flush = true),
    Keyword::sets("lvs_flush_on_stop", "[VS]", |_, d, a| {
        d.globals.lvs_flush_on_stop = flush_on_stop(a);
    }),
    Keyword::sets("lvs_flush_onstop", "[VS]", |_, d, a| {
        d.globals.lvs_flush_on_stop = flush_on_stop(a);
    }),
    Keyword::nothing("nftables_ipvs", "[TABLE]", NO_NFT_SERVICES),
    Keyword::nothing("nftables_ipvs_priority", "N", NO_NFT_SERVICES),
    Keyword::nothing("nftables_ipvs_start_fwmark", "N", NO_NFT_SERVICES),
    Keyword::sets("rs_init_notifies", "", |_, d, _| {
        d.globals.rs_init_notifies = true
    }),
];

/// The versions of VRRP.
pub const VERSIONS: &[(&str, VrrpVersion)] = &[("2", VrrpVersion::V2), ("3", VrrpVersion::V3)];

/// Seconds without a fraction.
pub fn whole_seconds(reader: &mut Reader<'_>, args: &mut Args<'_>) -> Option<Duration> {
    Some(Duration::from_secs(
        reader.small(args, 0..=i32::MAX.into())?,
    ))
}

/// How often something is repeated; 0 counts as 1.
pub fn repeat(reader: &mut Reader<'_>, args: &mut Args<'_>) -> Option<u32> {
    Some(reader.small::<u32>(args, 0..=i32::MAX.into())?.max(1))
}

/// `[all] SECS`.
pub fn garp_extra(reader: &mut Reader<'_>, args: &mut Args<'_>) -> Option<(Duration, bool)> {
    let all = args.take_word("all");
    let secs = reader.small(args, 0..=86400)?;
    Some((Duration::from_secs(secs), all))
}

/// A multicast address of a family; of link-local scope for IPv6.
pub fn multicast(reader: &mut Reader<'_>, args: &mut Args<'_>, four: bool) -> Option<IpAddr> {
    let word = reader.need(args, "a multicast address")?;
    let address = reader.address_of(word)?;
    let good = match address {
        IpAddr::V4(address) => four && address.is_multicast(),
        IpAddr::V6(address) => !four && address.segments()[0] & 0xff0f == 0xff02,
    };
    if !good {
        let kind = if four {
            "IPv4 multicast"
        } else {
            "link-local IPv6 multicast"
        };
        reader.error(&word.at, format!("`{address}` is no {kind} address"));
    }
    good.then_some(address)
}

/// A path, and whose FIFO it is.
pub fn fifo(reader: &mut Reader<'_>, draft: &mut FifoDraft, args: &mut Args<'_>) {
    draft.at = Some(args.at());
    let path = reader.text(args, "a path");
    let owner = if args.peek().is_some() {
        reader.user(args)
    } else {
        None
    };
    let fifo = path.map(|path| Fifo {
        path,
        owner,
        script: None,
    });
    reader.once(&mut draft.fifo, fifo, args);
}

/// The program that reads it.
pub fn fifo_script(reader: &mut Reader<'_>, draft: &mut FifoDraft, args: &mut Args<'_>) {
    draft.at.get_or_insert_with(|| args.at());
    let script = reader.script(args);
    reader.once(&mut draft.script, script, args);
}

fn flush_on_stop(args: &mut Args<'_>) -> FlushOnStop {
    if args.take_word("VS") {
        FlushOnStop::VirtualServers
    } else {
        FlushOnStop::Everything
    }
}

fn timeouts(reader: &mut Reader<'_>, draft: &mut GlobalDraft, args: &mut Args<'_>) {
    /// IPVS takes 31 days at most.
    const LONGEST: i64 = 31 * 86400;
    let at = args.at();
    let mut set = Timeouts {
        tcp: 0,
        tcp_fin: 0,
        udp: 0,
    };
    let mut any = false;
    while let Some(word) = args.take() {
        let field = match word.text.as_str() {
            "tcp" => &mut set.tcp,
            "tcpfin" => &mut set.tcp_fin,
            "udp" => &mut set.udp,
            other => {
                reader.error(
                    &word.at,
                    format!("`{other}` is none of tcp, tcpfin and udp"),
                );
                continue;
            }
        };
        if let Some(value) = reader.small(args, 1..=LONGEST) {
            *field = value;
            any = true;
        }
    }
    if any {
        draft.globals.lvs_timeouts = set;
    } else {
        reader.error(&at, "there is no timeout behind it");
    }
}

fn sync_daemon(reader: &mut Reader<'_>, draft: &mut GlobalDraft, args: &mut Args<'_>) {
    let at = args.at();
    let Some(interface) = reader.need(args, "an interface") else {
        return;
    };
    if draft.globals.lvs_sync_daemon.is_some() {
        reader.error(
            &at,
            "there is an lvs_sync_daemon already; this one is left out",
        );
        args.rest();
        return;
    }
    reader.check_interface(interface);
    let mut spec = DaemonSpec {
        role: DaemonRole::Master,
        interface: interface.text.clone(),
        syncid: 0,
        max_len_bytes: None,
        group: None,
        port: None,
        ttl: None,
    };
    const OPTIONS: [&str; 6] = ["inst", "id", "maxlen", "port", "ttl", "group"];
    let mut instance = None;
    if let Some(word) = args.peek()
        && !OPTIONS.contains(&word.text.as_str())
    {
        args.take();
        instance = Some(word.text.clone());
        if let Some(word) = args.peek()
            && !OPTIONS.contains(&word.text.as_str())
        {
            reader.warn(&word.at, "a number alone is the old form of `id N`");
            draft.sync_id = reader.small(args, 0..=255);
        }
    }
    while let Some(word) = args.take() {
        match word.text.as_str() {
            "inst" => instance = reader.text(args, "a vrrp_instance"),
            "id" => draft.sync_id = reader.small(args, 0..=255),
            "maxlen" => {
                spec.max_len_bytes = reader.small(args, 1..=65507).and_then(NonZeroU16::new)
            }
            "port" => spec.port = reader.small(args, 1..=65535).and_then(NonZeroU16::new),
            "ttl" => spec.ttl = reader.small(args, 1..=255),
            "group" => {
                let group = reader.address(args);
                spec.group = group.filter(IpAddr::is_multicast);
                if let (Some(group), None) = (group, spec.group) {
                    reader.error(&word.at, format!("`{group}` is no multicast address"));
                }
            }
            other => reader.error(
                &word.at,
                format!("`{other}` is no option of lvs_sync_daemon"),
            ),
        }
    }
    spec.syncid = draft.sync_id.unwrap_or(0);
    draft.globals.lvs_sync_daemon = Some(SyncDaemon { spec, instance });
}
