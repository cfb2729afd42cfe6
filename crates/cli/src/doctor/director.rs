//! What keeps a director from working.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use pointsman_api::{Client, Hook, InterfaceStatus, NextHopStatus, Status};
use pointsman_dataplane::Interface;
use pointsman_model::{
    ConnectionState, Encapsulation, Forwarding, ServerView, ServiceKey, ServiceView,
};

use super::segment::{self, Advert, Heard};
use super::{Finding, firewall, host};
use crate::realserver::network;

/// Requests that a server saw before its silence says something.
const ENOUGH: u64 = 3;
/// Seconds by which two clocks may differ before signed adverts are in danger.
const SKEW_SECS: i64 = 5;

/// All findings about the director that answers.
pub fn examine(client: &Client, status: &Status) -> Result<Vec<Finding>> {
    let services = client.services()?;
    let interfaces = network::interfaces()?;
    let mut findings = Vec::new();
    for service in &services {
        for server in &service.servers {
            let hop = status
                .next_hops
                .iter()
                .find(|hop| hop.server == server.spec.key.addr);
            findings.extend(of_server(service, server, hop, &interfaces));
        }
    }
    findings.extend(beside_servers(client, &services)?);
    findings.extend(forwarding_off(&services));
    findings.extend(rules_bypassed(&services));
    findings.extend(kernel_ipvs());
    for interface in &status.interfaces {
        let kind = interfaces
            .iter()
            .find(|i| i.index == interface.index)
            .and_then(|i| i.kind.as_deref());
        findings.extend(offloads(interface, kind));
    }
    findings.extend(on_segments(&services, status, &interfaces)?);
    Ok(findings)
}

/// A service as the options of ipvsadm name it.
fn option(key: &ServiceKey) -> String {
    match key {
        ServiceKey::Address {
            protocol,
            addr,
            port,
        } => {
            let letter = match protocol {
                pointsman_model::Protocol::Tcp => "-t",
                pointsman_model::Protocol::Udp => "-u",
                pointsman_model::Protocol::Sctp => "--sctp-service",
            };
            match addr {
                IpAddr::V4(v4) => format!("{letter} {v4}:{port}"),
                IpAddr::V6(v6) => format!("{letter} [{v6}]:{port}"),
            }
        }
        ServiceKey::Mark { mark, .. } => format!("-f {mark}"),
    }
}

fn of_server(
    service: &ServiceView,
    server: &ServerView,
    hop: Option<&NextHopStatus>,
    interfaces: &[Interface],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let spec = server.spec;
    let (rip, key) = (spec.key.addr, option(&service.spec.key));
    if let Some(problem) = hop.and_then(|hop| hop.problem.as_deref()) {
        findings.push(Finding::new(
            "server-unreachable",
            format!("no packet can reach the real server {rip}: {problem}"),
            [format!("ip route get {rip}"), format!("ping {rip}")],
        ));
    }
    match spec.forwarding {
        Forwarding::Route => {
            if let Some(gateway) = hop.and_then(|hop| hop.gateway) {
                findings.push(Finding::new(
                    "dr-other-segment",
                    format!(
                        "direct routing writes the server's link-layer address on the frame, but {rip} is behind \
                         the router {gateway}, which has no use for packets to the VIP"
                    ),
                    [
                        format!("ipvsadm -e {key} -r {rip} -i   (tunnelling; on the server: pointsman realserver up --mode tun)"),
                        "or put director and real server into one segment".to_owned(),
                    ],
                ));
            }
        }
        Forwarding::Tunnel(encapsulation) => {
            findings.extend(too_narrow(rip, encapsulation, hop, interfaces));
        }
        Forwarding::Masquerade => {
            if is_unanswered(server) {
                findings.push(Finding::new(
                    "nat-replies-bypass",
                    format!(
                        "{rip} was sent {} packets and none came back through the director: its way to clients is \
                         another one (their replies come from an address they never asked), or it does not answer",
                        server.counters.in_packets
                    ),
                    [
                        format!("on {rip}: pointsman realserver up --mode nat --gateway DIRECTOR"),
                        format!("on {rip}: ip route replace default via DIRECTOR"),
                    ],
                ));
            }
        }
        Forwarding::FullNat => {
            if is_unanswered(server) {
                findings.push(Finding::new(
                    "fullnat-replies-lost",
                    format!(
                        "{rip} was sent {} packets from the service's local addresses, and none came back: its way to \
                         them does not lead here, or it does not answer",
                        server.counters.in_packets
                    ),
                    [
                        format!("on {rip}: ip route get LOCAL-ADDRESS   (pointsman local-address list names them)"),
                        "a local address must be an address of the director: ip addr add LOCAL-ADDRESS dev DEV".to_owned(),
                    ],
                ));
            }
        }
        Forwarding::Local => {}
    }
    findings
}

/// Sent enough to answer, and nothing came back.
fn is_unanswered(server: &ServerView) -> bool {
    let counted = server.counters;
    counted.conns > 0 && counted.in_packets >= ENOUGH && counted.out_packets == 0
}

/// A way that takes less than the one requests come by, outer headers included.
fn too_narrow(
    rip: IpAddr,
    encapsulation: Encapsulation,
    hop: Option<&NextHopStatus>,
    interfaces: &[Interface],
) -> Option<Finding> {
    let name = hop?.interface.as_deref()?;
    let out = interfaces.iter().find(|interface| interface.name == name)?;
    let widest = interfaces
        .iter()
        .filter(|interface| interface.ethernet)
        .map(|interface| interface.mtu)
        .max()?;
    let outer = if rip.is_ipv4() { 20 } else { 40 }
        + match encapsulation {
            Encapsulation::Ipip => 0,
            Encapsulation::Gue { .. } => 8,
            Encapsulation::Gre { .. } => 4,
        };
    // That full packets do not fit into a tunnel of their own size is how it is; clients are told.
    (out.mtu < widest || out.mtu < 1280 + outer).then(|| {
        Finding::new(
            "tunnel-too-narrow",
            format!(
                "the tunnel to {rip} leaves by {name}, whose MTU of {} is less than the {widest} that requests may \
                 have: {} bytes are left in it, and whatever is longer is refused",
                out.mtu,
                out.mtu.saturating_sub(outer)
            ),
            [format!("ip link set {name} mtu {}", widest + outer), "(the switch must carry it)".to_owned()],
        )
    })
}

/// NAT clients in the servers' own network: replies go straight to them.
fn beside_servers(client: &Client, services: &[ServiceView]) -> Result<Vec<Finding>> {
    let by_nat = |rip: IpAddr| {
        let mut servers = services.iter().flat_map(|service| &service.servers);
        servers.any(|server| {
            server.spec.key.addr == rip && matches!(server.spec.forwarding, Forwarding::Masquerade)
        })
    };
    let networks: Vec<(String, ipnet::IpNet)> = host::addresses()
        .into_iter()
        .filter(|own| own.interface != "lo")
        .filter_map(|own| {
            Some((
                own.interface,
                ipnet::IpNet::new(own.addr, own.prefix).ok()?.trunc(),
            ))
        })
        .collect();
    let network_of = |addr: IpAddr| networks.iter().find(|(_, network)| network.contains(&addr));
    let mut found = BTreeMap::new();
    for connection in client.connections()? {
        let waits = matches!(
            connection.state,
            ConnectionState::SynRecv | ConnectionState::SynSent
        );
        let (from, rip) = (connection.client.ip(), connection.destination.ip());
        if waits
            && by_nat(rip)
            && let Some((_, network)) = network_of(from)
            && network.contains(&rip)
        {
            found.entry(rip).or_insert((from, *network));
        }
    }
    Ok(found
        .into_iter()
        .map(|(rip, (from, network))| {
            Finding::new(
                "nat-client-beside-servers",
                format!(
                    "the client {from} and the real server {rip} are both in {network}: the server answers it \
                     directly, not through the director, and the client knows no such connection"
                ),
                [
                    format!("on {rip}: ip route add {from} via DIRECTOR, and net.ipv4.conf.all.send_redirects=0 here"),
                    "or use direct routing, or FULLNAT".to_owned(),
                ],
            )
        })
        .collect())
}

fn forwarding_off(services: &[ServiceView]) -> Option<Finding> {
    let nat = |service: &&ServiceView| {
        let mut servers = service.servers.iter();
        matches!(service.spec.key, ServiceKey::Mark { .. })
            || servers.any(|server| matches!(server.spec.forwarding, Forwarding::Masquerade))
    };
    let service = services.iter().find(nat)?;
    (host::value("net/ipv4/ip_forward") == 0).then(|| {
        Finding::new(
            "ip-forward-off",
            format!(
                "this host does not forward. Packets of {} are balanced all the same, but whatever else its servers \
                 send through their gateway is lost, and so are packets that netfilter marks",
                service.spec.key
            ),
            ["sysctl -w net.ipv4.ip_forward=1"],
        )
    })
}

fn rules_bypassed(services: &[ServiceView]) -> Option<Finding> {
    let keys: Vec<_> = services.iter().map(|service| service.spec.key).collect();
    let rules = firewall::bypassed(&keys);
    let first = rules.first()?;
    let more = match rules.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    Some(Finding::new(
        "input-rules-bypassed",
        format!(
            "balanced packets do not pass the INPUT chain, so this rule keeps nobody out: `{first}`{more}"
        ),
        [
            "put such rules on the real servers, or before the director",
            "or, on the director, into nftables' netdev table at ingress (TC hook only)",
        ],
    ))
}

fn kernel_ipvs() -> Option<Finding> {
    let services = host::kernel_ipvs()?;
    let has = match services {
        0 => "has no services, but its hooks see packets".to_owned(),
        1 => "has a service".to_owned(),
        n => format!("has {n} services"),
    };
    Some(Finding::new(
        "kernel-ipvs-loaded",
        format!(
            "the kernel's own IPVS is loaded, too, and {has}: what Pointsman does not take, it does"
        ),
        [
            "pointsman import --from-kernel   (takes its services over)",
            "modprobe -r ip_vs   (after the original `ipvsadm -C`)",
        ],
    ))
}

/// Offloads that a virtual link carries to native XDP. Devices that join segments in hardware (LRO, rx-gro-hw)
/// are no finding: their drivers leave that off under XDP, or refuse it, which the director's status tells.
fn offloads(interface: &InterfaceStatus, kind: Option<&str>) -> Option<Finding> {
    if interface.hook != Some(Hook::XdpNative) || kind != Some("veth") {
        return None;
    }
    let name = &interface.name;
    Some(Finding::new(
        "offload-breaks-xdp",
        format!(
            "native XDP on {name}: over veth, hosts send unfinished checksums, which XDP passes on as they are, \
             and frames it sends arrive only where the far end has an XDP program or GRO"
        ),
        [
            "pointsman director start --hook auto   (takes TC here)".to_owned(),
            "or at every far end: ethtool -K DEV tx off gro on".to_owned(),
        ],
    ))
}

/// What the segments of this host say: other owners of VIPs, other virtual routers.
fn on_segments(
    services: &[ServiceView],
    status: &Status,
    interfaces: &[Interface],
) -> Result<Vec<Finding>> {
    let mut vips: Vec<IpAddr> = Vec::new();
    for service in services {
        if let ServiceKey::Address { addr, .. } = service.spec.key
            && !vips.contains(&addr)
        {
            vips.push(addr);
        }
    }
    let ethernet = interfaces.iter().filter(|interface| {
        interface.ethernet
            && status
                .interfaces
                .iter()
                .any(|i| i.index == interface.index && i.hook.is_some())
    });
    let own: Vec<[u8; 6]> = interfaces.iter().map(|interface| interface.mac).collect();
    // All at once: listening takes time.
    let heard: Vec<(&Interface, Heard)> = std::thread::scope(|scope| {
        let listen = |interface: &'_ Interface| -> Result<Heard> {
            let address: Option<Ipv4Addr> = network::own_address(&interface.name, &vips)?;
            Ok(segment::listen(interface, address, &vips)?)
        };
        let threads: Vec<_> = ethernet
            .map(|interface| (interface, scope.spawn(move || listen(interface))))
            .collect();
        threads
            .into_iter()
            .map(|(interface, thread)| Ok((interface, thread.join().expect("it does not panic")?)))
            .collect::<Result<_>>()
    })?;
    let mut findings = Vec::new();
    for (interface, heard) in &heard {
        for (vip, mac) in heard.claims.iter().filter(|(_, mac)| !own.contains(mac)) {
            findings.push(claimed(interface, *vip, *mac));
        }
        findings.extend(routers(
            &interface.name,
            &heard.adverts.iter().collect::<Vec<_>>(),
        ));
    }
    Ok(findings)
}

fn claimed(interface: &Interface, vip: IpAddr, mac: [u8; 6]) -> Finding {
    let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
    let who = host::neighbour_of(&mac).map_or(String::new(), |ip| format!(" ({ip})"));
    Finding::new(
        "vip-claimed-by-another",
        format!(
            "{mac}{who} on {} answers for {vip}, too: neighbours that believe it send their packets past the director",
            interface.name
        ),
        [
            format!("on a real server: pointsman realserver up --vip {vip}   (silences ARP)"),
            "on any other host: remove the address".to_owned(),
        ],
    )
}

fn routers(interface: &str, adverts: &[&Advert]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut by_vrid: BTreeMap<(u8, bool), Vec<&Advert>> = BTreeMap::new();
    for advert in adverts {
        let family = advert.source.is_ipv4();
        let heard = by_vrid.entry((advert.vrid, family)).or_default();
        if heard.iter().any(|other| other.source == advert.source) {
            continue;
        }
        heard.push(advert);
        if let Some(ahead) = advert.ahead_secs.filter(|ahead| ahead.abs() > SKEW_SECS) {
            findings.push(Finding::new(
                "clock-skew",
                format!(
                    "the clock of {} is {} seconds {} this host's: signed adverts are refused as stale or replayed",
                    advert.source,
                    ahead.abs(),
                    if ahead > 0 { "ahead of" } else { "behind" }
                ),
                ["timedatectl set-ntp true   (on both)"],
            ));
        }
    }
    for ((vrid, _), heard) in by_vrid {
        if let [first, second, ..] = heard[..] {
            let same = first.vips == second.vips;
            let what = if same {
                "both believe they are master: they do not hear each other, or do not believe each other"
            } else {
                "they are two clusters with one number, and each obeys the other's adverts"
            };
            findings.push(Finding::new(
                "vrrp-router-id-twice",
                format!(
                    "virtual router {vrid} on {interface} is advertised by {} and by {}: {what}",
                    first.source, second.source
                ),
                [if same {
                    "compare authentication, version and advert_int of both; see that protocol 112 is not filtered"
                } else {
                    "give one of them another virtual_router_id"
                }],
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advert(vrid: u8, source: &str, vip: &str, ahead_secs: Option<i64>) -> Advert {
        Advert {
            vrid,
            source: source.parse().unwrap(),
            vips: vec![vip.parse().unwrap()],
            ahead_secs,
        }
    }

    #[test]
    fn one_master_of_each_virtual_router_is_as_it_should_be() {
        let heard = [
            advert(51, "10.0.0.1", "10.0.0.100", None),
            advert(52, "10.0.0.2", "10.0.0.101", Some(1)),
            advert(51, "fe80::2", "fe80::100", None),
        ];
        assert_eq!(routers("eth0", &heard.iter().collect::<Vec<_>>()), []);
    }

    #[test]
    fn two_masters_and_two_clusters_are_told_apart() {
        let names = |heard: &[Advert]| {
            let findings = routers("eth0", &heard.iter().collect::<Vec<_>>());
            findings
                .into_iter()
                .map(|finding| (finding.name, finding.mend[0].clone()))
                .collect::<Vec<_>>()
        };
        let split = names(&[
            advert(51, "10.0.0.1", "10.0.0.100", None),
            advert(51, "10.0.0.2", "10.0.0.100", None),
        ]);
        assert!(
            split[0].0 == "vrrp-router-id-twice" && split[0].1.contains("advert_int"),
            "{split:?}"
        );
        let clusters = names(&[
            advert(51, "10.0.0.1", "10.0.0.100", None),
            advert(51, "10.0.0.2", "10.0.0.200", None),
        ]);
        assert!(clusters[0].1.contains("virtual_router_id"), "{clusters:?}");
        let skewed = names(&[advert(51, "10.0.0.1", "10.0.0.100", Some(-3600))]);
        assert_eq!(skewed[0].0, "clock-skew");
    }
}
