//! From what stands in the file about virtual servers to the model: inheritance, defaults, and the
//! rules that span several keywords, with keepalived's corrections.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;

use pointsman_model::check::TlsOptions;
use pointsman_model::vrrp::{TrackFile, TrackWeight};
use pointsman_model::{
    Family, Forwarding, Persistence, PoolServer, Protocol, Scheduler, ServerKey, ServerSpec,
    ServiceKey, SorryServer, VirtualId, VirtualName, VirtualServer, Weight,
};

use super::check_resolve::CheckContext;
use super::group::{GroupDraft, LocalGroup, Member};
use super::keyword::Reader;
use super::real_server::RealDraft;
use super::virtual_server::{PERSISTENCE_DEFAULT, VirtualDraft};
use crate::diag::Place;

/// Most services that one virtual server may stand for.
const MOST_KEYS: usize = 100_000;

/// What virtual servers take from the rest of the file.
pub struct Surroundings<'a> {
    /// All groups.
    pub groups: &'a [GroupDraft],
    /// All groups of local addresses.
    pub local_groups: &'a [LocalGroup],
    /// All tracked files, with their weights.
    pub files: &'a [(TrackFile, TrackWeight)],
    /// Names of all BFD sessions.
    pub sessions: &'a [String],
    /// The `SSL` block.
    pub tls: &'a TlsOptions,
    /// `smtp_alert_checker`, else `smtp_alert`.
    pub smtp_alert: Option<bool>,
    /// `checker_log_all_failures`.
    pub log_all_failures: bool,
}

/// All virtual servers that can be used.
pub fn resolve(
    reader: &mut Reader<'_>,
    drafts: Vec<VirtualDraft>,
    around: &Surroundings<'_>,
) -> Vec<VirtualServer> {
    let mut seen = HashSet::new();
    let mut servers = Vec::new();
    for draft in drafts {
        let at = draft.at.clone();
        let Some(server) = virtual_server(reader, draft, around) else {
            continue;
        };
        if seen.insert(server.id.clone()) {
            servers.push(server);
        } else {
            reader.error(
                &at,
                format!("{} is there already; this one is left out", server.id),
            );
        }
    }
    servers
}

fn virtual_server(
    reader: &mut Reader<'_>,
    mut draft: VirtualDraft,
    around: &Surroundings<'_>,
) -> Option<VirtualServer> {
    let at = draft.at.clone();
    if draft.servers.is_empty() {
        reader.error(&at, "there is no real_server in it, and so it is left out");
        return None;
    }
    let members = members(reader, &draft, around)?;
    let family = family(reader, &draft, &members);
    let only_marks = members.iter().all(|m| matches!(m, Member::Mark(..)));
    let protocol = protocol(reader, &draft, only_marks);
    if draft.ha_suspend && matches!(draft.name, VirtualName::Mark(_)) {
        reader.error(&at, "a mark has no address that ha_suspend could go by");
        draft.ha_suspend = false;
    }
    if draft.one_packet && protocol.is_some_and(|p| p != Protocol::Udp) {
        reader.error(&at, "`ops` is for UDP only, and is left out");
        draft.one_packet = false;
    }
    let any_port = members
        .iter()
        .any(|m| matches!(m, Member::Addresses(_, _, 0)));
    if any_port && draft.persistence.is_none() {
        let message = "a service of every port must be persistent; its persistence is 360 seconds";
        reader.error(&at, message);
        draft.persistence = Some(PERSISTENCE_DEFAULT);
    }
    if draft.scheduler.is_none() {
        reader.error(&at, "there is no `lb_algo`; wlc is taken");
    }
    if draft.forwarding.is_none() && draft.servers.iter().any(|s| s.forwarding.is_none()) {
        reader.error(&at, "there is no `lb_kind`; NAT is taken");
    }
    let keys = keys(reader, &at, &members, protocol, family)?;
    let id = VirtualId {
        name: draft.name.clone(),
        protocol,
    };
    let mut server = VirtualServer::new(id, keys);
    server.scheduler = draft.scheduler.unwrap_or(Scheduler::Wlc);
    server.sched_flags = draft.flags;
    server.one_packet = draft.one_packet;
    server.persistence_engine = draft.engine.clone();
    server.persistence = draft
        .persistence
        .and_then(NonZeroU32::new)
        .map(|timeout_secs| Persistence { timeout_secs });
    server.netmask = draft.netmask.unwrap_or(Ipv4Addr::BROADCAST);
    server.prefix_len = draft.prefix_len.unwrap_or(128);
    if family == Family::V4 && draft.prefix_len.is_some_and(|len| len <= 32) {
        // keepalived reads a prefix length for IPv4 too where it can be one.
        let len = u32::from(draft.prefix_len.unwrap_or(32));
        server.netmask = Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - len).unwrap_or(0));
        server.prefix_len = 128;
    }
    server.quorum_up = draft.quorum_up.take();
    server.quorum_down = draft.quorum_down.take();
    server.alpha = draft.alpha;
    server.omega = draft.omega;
    server.ha_suspend = draft.ha_suspend;
    server.local_addresses = local_addresses(reader, &draft, around);
    server.client_address = draft.client_address;
    server.smtp_alert = draft.smtp_alert.or(around.smtp_alert).unwrap_or(false);
    server.servers = real_servers(reader, &draft, &server, family, around);
    if server.servers.is_empty() {
        reader.error(
            &at,
            "none of its real servers can be used, and so it is left out",
        );
        return None;
    }
    quorum(reader, &draft, &mut server);
    server.sorry_server = sorry_server(reader, &draft, &server, family);
    Some(server)
}

/// What servers by FULLNAT see as clients: its own, and those of its group.
fn local_addresses(
    reader: &mut Reader<'_>,
    draft: &VirtualDraft,
    around: &Surroundings<'_>,
) -> Vec<IpAddr> {
    let mut addresses = draft.local_addresses.clone();
    if let Some((name, at)) = &draft.local_group {
        match around.local_groups.iter().find(|g| g.name == *name) {
            Some(group) => addresses.extend(&group.addresses),
            None => reader.error(at, format!("there is no group of local addresses `{name}`")),
        }
    }
    let mut seen = HashSet::new();
    addresses.retain(|address| seen.insert(*address));
    addresses
}

/// Whether the virtual server's family may be another than the server's.
fn crosses_families(forwarding: Forwarding) -> bool {
    matches!(forwarding, Forwarding::Tunnel(_) | Forwarding::FullNat)
}

/// What the virtual server stands for; a single address or mark is a group of one.
fn members(
    reader: &mut Reader<'_>,
    draft: &VirtualDraft,
    around: &Surroundings<'_>,
) -> Option<Vec<Member>> {
    match &draft.name {
        VirtualName::Address { addr, port } => Some(vec![Member::Addresses(*addr, *addr, *port)]),
        VirtualName::Mark(mark) => Some(vec![Member::Mark(*mark, draft.family)]),
        VirtualName::Group(name) => {
            let group = around.groups.iter().find(|group| group.name == *name);
            let problem = match group {
                None => format!("there is no virtual_server_group `{name}`; this is left out"),
                Some(group) if group.members.is_empty() => {
                    format!("the virtual_server_group `{name}` is empty; this is left out")
                }
                Some(group) => return Some(group.members.clone()),
            };
            reader.error(&draft.at, problem);
            None
        }
    }
}

fn family(reader: &mut Reader<'_>, draft: &VirtualDraft, members: &[Member]) -> Family {
    let of_address = members.iter().find_map(|member| match member {
        Member::Addresses(first, ..) => Some(Family::from(*first)),
        Member::Mark(_, family) => *family,
    });
    if let (Some(said), Some(is)) = (draft.family, of_address)
        && said != is
    {
        reader.error(
            &draft.at,
            "`ip_family` is not the family of its addresses, and is left out",
        );
    }
    let of_any = |s: &&RealDraft| {
        s.forwarding
            .or(draft.forwarding)
            .is_some_and(crosses_families)
    };
    of_address
        .or(draft.family)
        .or_else(|| {
            draft
                .servers
                .iter()
                .find(|s| !of_any(s))
                .map(|s| s.addr.into())
        })
        .unwrap_or(Family::V4)
}

fn protocol(reader: &mut Reader<'_>, draft: &VirtualDraft, only_marks: bool) -> Option<Protocol> {
    match (draft.protocol, only_marks) {
        (Some(_), true) if matches!(draft.name, VirtualName::Mark(_)) => {
            reader.warn(&draft.at, "a mark has no protocol; `protocol` is left out");
            None
        }
        (_, true) => None,
        (Some(protocol), false) => Some(protocol),
        (None, false) => {
            reader.error(
                &draft.at,
                "there is no `protocol`; UDP is taken, as keepalived does",
            );
            Some(Protocol::Udp)
        }
    }
}

fn keys(
    reader: &mut Reader<'_>,
    at: &Place,
    members: &[Member],
    protocol: Option<Protocol>,
    family: Family,
) -> Option<Vec<ServiceKey>> {
    let mut keys = Vec::new();
    let mut seen = HashSet::new();
    for member in members {
        let mut add = |key| {
            if seen.insert(key) {
                keys.push(key);
            }
        };
        match *member {
            Member::Mark(mark, of) => add(ServiceKey::Mark {
                mark,
                family: of.unwrap_or(family),
            }),
            Member::Addresses(_, _, port) => {
                for addr in member.addresses() {
                    add(ServiceKey::Address {
                        protocol: protocol.unwrap_or(Protocol::Udp),
                        addr,
                        port,
                    });
                }
            }
        }
        if keys.len() > MOST_KEYS {
            reader.error(at, format!("it stands for more than {MOST_KEYS} services"));
            return None;
        }
    }
    Some(keys)
}

/// The port of the service, where there is one.
fn service_port(server: &VirtualServer) -> Option<u16> {
    match server.id.name {
        VirtualName::Address { port, .. } => Some(port),
        _ => None,
    }
}

fn real_servers(
    reader: &mut Reader<'_>,
    draft: &VirtualDraft,
    server: &VirtualServer,
    family: Family,
    around: &Surroundings<'_>,
) -> Vec<PoolServer> {
    let mut seen = HashSet::new();
    let mut servers = Vec::new();
    for real in &draft.servers {
        let forwarding = real
            .forwarding
            .or(draft.forwarding)
            .unwrap_or(Forwarding::Masquerade);
        if Family::from(real.addr) != family && !crosses_families(forwarding) {
            let message =
                "it is of another family than the virtual server, which only TUN and FULLNAT allow";
            reader.error(&real.at, format!("{message}; it is left out"));
            continue;
        }
        let key = ServerKey {
            addr: real.addr,
            port: real_port(reader, real.port, forwarding, server, &real.at),
        };
        if !seen.insert(key) {
            reader.error(
                &real.at,
                format!(
                    "{} is there already; this one is left out",
                    server.server_label(key)
                ),
            );
            continue;
        }
        if real.lower > real.upper && real.upper > 0 {
            reader.warn(&real.at, "lthreshold is larger than uthreshold");
        }
        let weight = real.weight.or(draft.weight).unwrap_or(1);
        let mut pool_server = PoolServer::new(ServerSpec {
            key,
            forwarding,
            weight: Weight::new(weight).unwrap_or(Weight::DEFAULT),
            upper_threshold: real.upper,
            lower_threshold: real.lower,
        });
        pool_server.inhibit_on_failure = real.inhibit.unwrap_or(draft.inhibit);
        pool_server.alpha = real.alpha.unwrap_or(draft.alpha);
        pool_server.notify_up = real.notify_up.clone();
        pool_server.notify_down = real.notify_down.clone();
        pool_server.smtp_alert = real.smtp_alert.or(around.smtp_alert).unwrap_or(true);
        let context = CheckContext {
            draft,
            real,
            key,
            vip: vip(server),
            alpha: pool_server.alpha,
            around,
        };
        for check in &real.checks {
            context.checks(reader, check, &mut pool_server.checks);
        }
        servers.push(pool_server);
    }
    servers
}

/// The port in the table: what the server says, or the service's where packets keep theirs.
fn real_port(
    reader: &mut Reader<'_>,
    own: Option<u16>,
    forwarding: Forwarding,
    server: &VirtualServer,
    at: &Place,
) -> u16 {
    let service = service_port(server);
    match (own, service) {
        (None, service) => service.unwrap_or(0),
        (Some(own), Some(service)) if own != service && !changes_ports(forwarding) => {
            let message = format!("only NAT can change the port; {own} becomes {service}");
            reader.warn(at, message);
            service
        }
        (Some(own), None)
            if !changes_ports(forwarding) && matches!(server.id.name, VirtualName::Mark(_)) =>
        {
            let message = format!("only NAT can change the port, and so {own} is left out");
            reader.warn(at, message);
            0
        }
        (Some(own), _) => own,
    }
}

/// Whether packets to the server get its port.
fn changes_ports(forwarding: Forwarding) -> bool {
    matches!(forwarding, Forwarding::Masquerade | Forwarding::FullNat)
}

/// A VIP and port that a probe by the true path can go to.
fn vip(server: &VirtualServer) -> Option<SocketAddr> {
    server.keys.iter().find_map(|key| match *key {
        ServiceKey::Address { addr, port, .. } => Some(SocketAddr::new(addr, port)),
        ServiceKey::Mark { .. } => None,
    })
}

fn quorum(reader: &mut Reader<'_>, draft: &VirtualDraft, server: &mut VirtualServer) {
    let total: u64 = server
        .servers
        .iter()
        .map(|s| u64::from(s.spec.weight.get()))
        .sum();
    let total = u32::try_from(total).unwrap_or(u32::MAX);
    if let Some((quorum, at)) = &draft.quorum {
        server.quorum = *quorum;
        if *quorum > total.max(1) {
            let message =
                format!("the weights of all servers only make {total}; the quorum is that");
            reader.warn(at, message);
            server.quorum = total.max(1);
        }
    }
    if let Some((hysteresis, at)) = &draft.hysteresis {
        server.hysteresis = *hysteresis;
        if *hysteresis >= server.quorum {
            let less = server.quorum - 1;
            reader.error(
                at,
                format!("hysteresis must be less than the quorum; it is {less}"),
            );
            server.hysteresis = less;
        }
    }
}

fn sorry_server(
    reader: &mut Reader<'_>,
    draft: &VirtualDraft,
    server: &VirtualServer,
    family: Family,
) -> Option<SorryServer> {
    let (addr, port, at) = draft.sorry.clone()?;
    let forwarding = draft
        .sorry_forwarding
        .or(draft.forwarding)
        .unwrap_or(Forwarding::Masquerade);
    if Family::from(addr) != family && !crosses_families(forwarding) {
        reader.error(
            &at,
            "the sorry server is of another family, which only TUN and FULLNAT allow",
        );
        return None;
    }
    let key = ServerKey {
        addr,
        port: real_port(reader, port, forwarding, server, &at),
    };
    let mut inhibit = draft.sorry_inhibit;
    if let Some(same) = server.servers.iter().find(|s| s.spec.key == key)
        && same.inhibit_on_failure != inhibit
    {
        reader.warn(
            &at,
            "the sorry server is a real server too, and is inhibited as that is",
        );
        inhibit = same.inhibit_on_failure;
    }
    Some(SorryServer {
        key,
        forwarding,
        inhibit,
    })
}
