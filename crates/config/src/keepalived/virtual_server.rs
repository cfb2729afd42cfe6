//! `virtual_server`: its keywords, before defaults and the rules that span several of them.

use std::net::{IpAddr, Ipv4Addr};

use pointsman_model::{
    ClientAddress, Family, Forwarding, Protocol, SchedFlags, Scheduler, Script, VirtualName,
};

use super::checker::{LONGEST, PaceDraft, pace_keyword};
use super::keyword::{Args, Keyword, Reader};
use super::real_server::{self, RealDraft, forwarding, port_or_any};
use crate::diag::Place;

/// A virtual server as it stands in the file.
#[derive(Clone, Debug)]
pub struct VirtualDraft {
    /// Where it stands.
    pub at: Place,
    /// Its name; a port of 0 is not given.
    pub name: VirtualName,
    /// `protocol`.
    pub protocol: Option<Protocol>,
    /// `ip_family`.
    pub family: Option<Family>,
    /// `lb_algo`.
    pub scheduler: Option<Scheduler>,
    /// Flags of the scheduler.
    pub flags: SchedFlags,
    /// `ops`.
    pub one_packet: bool,
    /// `lb_kind`.
    pub forwarding: Option<Forwarding>,
    /// `local_address`.
    pub local_addresses: Vec<IpAddr>,
    /// `laddr_group_name`.
    pub local_group: Option<(String, Place)>,
    /// `toa`, `proxy_protocol`.
    pub client_address: ClientAddress,
    /// `persistence_timeout`.
    pub persistence: Option<u32>,
    /// `persistence_granularity` of IPv4.
    pub netmask: Option<Ipv4Addr>,
    /// `persistence_granularity` of IPv6.
    pub prefix_len: Option<u8>,
    /// `persistence_engine`.
    pub engine: Option<String>,
    /// `ha_suspend`.
    pub ha_suspend: bool,
    /// `virtualhost`.
    pub virtualhost: Option<String>,
    /// `alpha`.
    pub alpha: bool,
    /// `omega`.
    pub omega: bool,
    /// `quorum`.
    pub quorum: Option<(u32, Place)>,
    /// `hysteresis`.
    pub hysteresis: Option<(u32, Place)>,
    /// `quorum_up`.
    pub quorum_up: Option<Script>,
    /// `quorum_down`.
    pub quorum_down: Option<Script>,
    /// `weight`.
    pub weight: Option<u32>,
    /// `sorry_server`.
    pub sorry: Option<(IpAddr, Option<u16>, Place)>,
    /// `sorry_server_inhibit`.
    pub sorry_inhibit: bool,
    /// `sorry_server_lvs_method`.
    pub sorry_forwarding: Option<Forwarding>,
    /// Timing.
    pub pace: PaceDraft,
    /// `inhibit_on_failure`.
    pub inhibit: bool,
    /// `smtp_alert`.
    pub smtp_alert: Option<bool>,
    /// Real servers.
    pub servers: Vec<RealDraft>,
}

/// `virtual_server IP [PORT] | fwmark N | group NAME { … }`.
pub fn read(reader: &mut Reader<'_>, args: &mut Args<'_>) -> Option<VirtualDraft> {
    let at = args.at();
    let block = args.block();
    let name = name(reader, args)?;
    let mut server = VirtualDraft {
        at,
        name,
        protocol: None,
        family: None,
        scheduler: None,
        flags: SchedFlags::default(),
        one_packet: false,
        forwarding: None,
        local_addresses: Vec::new(),
        local_group: None,
        client_address: ClientAddress::Hidden,
        persistence: None,
        netmask: None,
        prefix_len: None,
        engine: None,
        ha_suspend: false,
        virtualhost: None,
        alpha: false,
        omega: false,
        quorum: None,
        hysteresis: None,
        quorum_up: None,
        quorum_down: None,
        weight: None,
        sorry: None,
        sorry_inhibit: false,
        sorry_forwarding: None,
        pace: PaceDraft::default(),
        inhibit: false,
        smtp_alert: None,
        servers: Vec::new(),
    };
    reader.block(&mut server, block, &[KEYWORDS], "virtual_server");
    Some(server)
}

fn name(reader: &mut Reader<'_>, args: &mut Args<'_>) -> Option<VirtualName> {
    let what = "an IP address, `fwmark` or `group`";
    let word = reader.need(args, what)?;
    match word.text.as_str() {
        "fwmark" => {
            let mark = reader.small(args, 1..=u32::MAX.into())?;
            Some(VirtualName::Mark(mark))
        }
        "group" => Some(VirtualName::Group(
            reader.text(args, "the name of a group")?,
        )),
        _ => {
            let port = args.take();
            let addr = reader.address_of(word)?;
            let port = match port {
                Some(word) => {
                    let port = reader.number_of(word, 0..=65535)?;
                    u16::try_from(port).ok()?
                }
                None => 0,
            };
            Some(VirtualName::Address { addr, port })
        }
    }
}

/// Keywords of the block.
pub const KEYWORDS: &[Keyword<VirtualDraft>] = &[
    Keyword::sets("real_server", "IP [PORT] { … }", |r, d, a| {
        d.servers.extend(real_server::read(r, a));
    }),
    pace_keyword!(delay_loop),
    Keyword::sets("lb_algo", SCHEDULERS, scheduler),
    Keyword::sets("lvs_sched", SCHEDULERS, scheduler),
    Keyword::nothing(
        "hashed",
        "",
        "the kernel's flag of that name does nothing either",
    ),
    Keyword::sets("ops", "", |_, d, _| d.one_packet = true),
    Keyword::sets("flag-1", "", |_, d, _| {
        d.flags = d.flags | SchedFlags::FLAG_1
    }),
    Keyword::sets("flag-2", "", |_, d, _| {
        d.flags = d.flags | SchedFlags::FLAG_2
    }),
    Keyword::sets("flag-3", "", |_, d, _| {
        d.flags = d.flags | SchedFlags::FLAG_3
    }),
    Keyword::sets("sh-port", "", |r, d, a| {
        flag(r, d, a, Scheduler::Sh, SchedFlags::FLAG_2)
    }),
    Keyword::sets("sh-fallback", "", |r, d, a| {
        flag(r, d, a, Scheduler::Sh, SchedFlags::FLAG_1)
    }),
    Keyword::sets("mh-port", "", |r, d, a| {
        flag(r, d, a, Scheduler::Mh, SchedFlags::FLAG_2)
    }),
    Keyword::sets("mh-fallback", "", |r, d, a| {
        flag(r, d, a, Scheduler::Mh, SchedFlags::FLAG_1)
    }),
    Keyword::sets("lb_kind", METHODS, |r, d, a| {
        d.forwarding = forwarding(r, a).or(d.forwarding)
    }),
    Keyword::sets("lvs_method", METHODS, |r, d, a| {
        d.forwarding = forwarding(r, a).or(d.forwarding)
    }),
    Keyword::sets("local_address", "IP …", |r, d, a| {
        d.local_addresses.extend(r.address(a));
        for word in a.rest() {
            d.local_addresses.extend(r.address_of(word));
        }
    }),
    Keyword::sets("laddr_group_name", "NAME", |r, d, a| {
        let at = a.at();
        d.local_group = r.text(a, "a name").map(|name| (name, at));
    }),
    Keyword::sets("toa", "", |_, d, _| d.client_address = ClientAddress::Toa),
    Keyword::sets("proxy_protocol", "[v2]", |r, d, a| {
        let at = a.at();
        if let Some(word) = a.take()
            && word.text != "v2"
        {
            return r.error(&at, format!("`{}`: only v2 is spoken", word.text));
        }
        d.client_address = ClientAddress::ProxyProtocol;
    }),
    Keyword::sets("persistence_engine", "NAME", |r, d, a| {
        d.engine = r.text(a, "a name")
    }),
    Keyword::sets("persistence_timeout", "[SECS]", |r, d, a| {
        d.persistence = match a.take() {
            None => Some(PERSISTENCE_DEFAULT),
            Some(word) => r.number_of(word, 1..=i32::MAX.into()).map(|n| n as u32),
        };
    }),
    Keyword::sets("persistence_granularity", "NETMASK|PREFIXLEN", |r, d, a| {
        granularity(r, d, a)
    }),
    Keyword::sets("protocol", "TCP|UDP|SCTP", |r, d, a| {
        if let Some(word) = r.need(a, "TCP, UDP or SCTP") {
            let known = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
            let found = known
                .into_iter()
                .find(|p| word.text.eq_ignore_ascii_case(p.name()));
            if found.is_none() {
                r.error(
                    &word.at,
                    format!("`{}` is no protocol; TCP, UDP or SCTP is", word.text),
                );
            }
            d.protocol = found.or(d.protocol);
        }
    }),
    Keyword::sets("ip_family", "inet|inet6", |r, d, a| {
        d.family = r.choice(a, FAMILIES).or(d.family);
    }),
    Keyword::sets("ha_suspend", "", |_, d, _| d.ha_suspend = true),
    Keyword::sets("virtualhost", "HOST", |r, d, a| {
        d.virtualhost = r.text(a, "a host")
    }),
    Keyword::sets("alpha", "", |_, d, _| d.alpha = true),
    Keyword::sets("omega", "", |_, d, _| d.omega = true),
    Keyword::sets("quorum", "N", |r, d, a| {
        let at = a.at();
        d.quorum = r.small(a, 1..=i32::MAX.into()).map(|n| (n, at));
    }),
    Keyword::sets("hysteresis", "N", |r, d, a| {
        let at = a.at();
        d.hysteresis = r.small(a, 0..=i32::MAX.into()).map(|n| (n, at));
    }),
    Keyword::sets("quorum_up", "COMMAND [USER [GROUP]]", |r, d, a| {
        let script = r.script(a);
        r.once(&mut d.quorum_up, script, a);
    }),
    Keyword::sets("quorum_down", "COMMAND [USER [GROUP]]", |r, d, a| {
        let script = r.script(a);
        r.once(&mut d.quorum_down, script, a);
    }),
    Keyword::sets("weight", "0-65535", |r, d, a| {
        d.weight = r.small(a, 0..=65535).or(d.weight)
    }),
    Keyword::sets("sorry_server", "IP [PORT]", sorry_server),
    Keyword::sets("sorry_server_inhibit", "", |_, d, _| d.sorry_inhibit = true),
    Keyword::sets("sorry_server_lvs_method", METHODS, |r, d, a| {
        d.sorry_forwarding = forwarding(r, a).or(d.sorry_forwarding);
    }),
    pace_keyword!(retry),
    pace_keyword!(delay_before_retry),
    pace_keyword!(warmup),
    pace_keyword!(connect_timeout),
    Keyword::sets("inhibit_on_failure", "[BOOL]", |r, d, a| {
        d.inhibit = r.flag(a).unwrap_or(d.inhibit);
    }),
    Keyword::sets("smtp_alert", "[BOOL]", |r, d, a| {
        d.smtp_alert = r.flag(a).or(d.smtp_alert)
    }),
    Keyword::nothing("snmp_name", "NAME", super::global::NO_SNMP),
];

const SCHEDULERS: &str = "rr|wrr|lc|wlc|lblc|lblcr|dh|sh|mh|fo|ovf|sed|nq|twos";
const METHODS: &str = "NAT|FULLNAT|FNAT|DR|TUN [type ipip|gre|gue port N] [nocsum|csum|remcsum]";
/// What `persistence_timeout` without a number means, in seconds.
pub const PERSISTENCE_DEFAULT: u32 = 360;

/// The families by keepalived's words.
pub const FAMILIES: &[(&str, Family)] = &[("inet", Family::V4), ("inet6", Family::V6)];

fn scheduler(reader: &mut Reader<'_>, server: &mut VirtualDraft, args: &mut Args<'_>) {
    let known: Vec<(&str, Scheduler)> = Scheduler::ALL
        .into_iter()
        .filter(|s| *s != Scheduler::None)
        .map(|s| (s.name(), s))
        .collect();
    server.scheduler = reader.choice(args, &known).or(server.scheduler);
}

fn flag(
    reader: &mut Reader<'_>,
    server: &mut VirtualDraft,
    args: &Args<'_>,
    scheduler: Scheduler,
    flag: SchedFlags,
) {
    if server.scheduler == Some(scheduler) {
        server.flags = server.flags | flag;
    } else {
        let message = format!(
            "`{}` only holds for the scheduler {scheduler}",
            args.keyword()
        );
        reader.error(&args.at(), format!("{message}, which must stand before it"));
    }
}

fn granularity(reader: &mut Reader<'_>, server: &mut VirtualDraft, args: &mut Args<'_>) {
    let Some(word) = reader.need(args, "a netmask or a prefix length") else {
        return;
    };
    if word.text.contains('.') {
        let mask: Option<Ipv4Addr> = word.text.parse().ok();
        match mask.filter(|m| m.to_bits().leading_ones() + m.to_bits().trailing_zeros() == 32) {
            Some(mask) if mask != Ipv4Addr::UNSPECIFIED => server.netmask = Some(mask),
            _ => reader.error(&word.at, format!("`{}` is no netmask", word.text)),
        }
    } else if let Some(length) = reader.number_of(word, 1..=128) {
        server.prefix_len = Some(length as u8);
    }
}

fn sorry_server(reader: &mut Reader<'_>, server: &mut VirtualDraft, args: &mut Args<'_>) {
    let at = args.at();
    let Some(addr) = reader.address(args) else {
        args.rest();
        return;
    };
    let port = port_or_any(reader, args.take());
    if server.sorry.is_some() {
        reader.error(
            &at,
            "there is a sorry_server already; this one takes its place",
        );
    }
    server.sorry = Some((addr, port, at));
}
