//! What keeps a real server from working.

use std::net::IpAddr;

use anyhow::Result;
use pointsman_api::Location;
use pointsman_dataplane::{quiet, realserver as decapsulator, toa};

use super::Finding;
use super::host::{self, Assigned};
use crate::realserver::arp::{self, Arp};
use crate::realserver::state::{Mode, State, pin_dir};
use crate::realserver::{connections, network};

/// All findings about a real server that should be set up so.
pub fn examine(here: &Location, state: &State, ports: &[u16]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let ethernet: Vec<_> = network::interfaces()?
        .into_iter()
        .filter(|interface| interface.ethernet)
        .filter(|interface| {
            state.interfaces.is_empty() || state.interfaces.contains(&interface.name)
        })
        .collect();
    let names: Vec<String> = ethernet
        .iter()
        .map(|interface| interface.name.clone())
        .collect();
    if state.mode.has_vips() {
        let addresses = host::addresses();
        for &vip in &state.vips {
            findings.extend(of_vip(vip, state.mode, &addresses, &names));
            findings.extend(of_servers(vip, ports)?);
        }
        let silent = state.vips.iter().all(IpAddr::is_ipv6) || is_silent(here, state, &names);
        let on_lo = |vip: &IpAddr| addresses.iter().any(|own| own.addr == *vip);
        if !silent && state.vips.iter().any(on_lo) {
            findings.push(not_silent(state, &names));
        }
    }
    match state.mode {
        Mode::Tun => findings.extend(of_tunnel(here, state, &ethernet)),
        Mode::Nat => findings.extend(of_gateway(state)?),
        Mode::Fullnat if !toa::is_attached(&pin_dir(here)) => findings.push(Finding::new(
            "client-address-unread",
            "nothing reads the client's address from what the director sends: servers see the director's",
            [up(state)],
        )),
        Mode::Dr | Mode::Fullnat => {}
    }
    Ok(findings)
}

/// The command that mends most of it.
fn up(state: &State) -> String {
    let mut line = format!("pointsman realserver up --mode {}", state.mode.word());
    for vip in state.vips.iter().filter(|_| state.mode.has_vips()) {
        line += &format!(" --vip {vip}");
    }
    for director in &state.directors {
        line += &format!(" --director {}", director.addr());
    }
    line
}

fn of_vip(vip: IpAddr, mode: Mode, addresses: &[Assigned], ethernet: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let own: Vec<&Assigned> = addresses.iter().filter(|own| own.addr == vip).collect();
    if own.is_empty() {
        findings.push(Finding::new(
            "vip-missing",
            format!("packets come with {vip} as destination, which is no address of this host: it drops them"),
            [format!("pointsman realserver up --mode {} --vip {vip}", mode.word())],
        ));
        return findings;
    }
    let whole = if vip.is_ipv4() { 32 } else { 128 };
    for own in own {
        let Assigned {
            interface, prefix, ..
        } = own;
        if ethernet.contains(interface) {
            findings.push(Finding::new(
                "vip-on-the-wire",
                format!(
                    "{vip} is an address of {interface}, which answers ARP for it whatever arp_ignore says; it \
                     belongs on lo"
                ),
                [
                    format!("ip addr del {vip}/{prefix} dev {interface}"),
                    format!("pointsman realserver up --mode {} --vip {vip}", mode.word()),
                ],
            ));
        } else if *prefix < whole {
            findings.push(Finding::new(
                "vip-prefix",
                format!(
                    "{vip}/{prefix} on {interface} makes every address of that network one of this host's own: \
                     packets to its neighbours never leave it"
                ),
                [format!(
                    "ip addr del {vip}/{prefix} dev {interface}; ip addr add {vip}/{whole} dev {interface}"
                )],
            ));
        }
    }
    findings
}

/// Who takes connections to the VIP? Neither direct routing nor a tunnel changes the port.
fn of_servers(vip: IpAddr, ports: &[u16]) -> Result<Option<Finding>> {
    let served = connections::served_ports(vip)?;
    if served.is_empty() {
        return Ok(Some(Finding::new(
            "nobody-listens",
            format!(
                "no server of this host listens on {vip} (or on every address): TCP connections to it are refused"
            ),
            [format!(
                "have the server listen on {vip}, not on this host's own address alone"
            )],
        )));
    }
    let missing: Vec<_> = ports.iter().filter(|port| !served.contains(port)).collect();
    let list = |ports: &mut dyn Iterator<Item = String>| ports.collect::<Vec<_>>().join(", ");
    Ok((!missing.is_empty()).then(|| {
        Finding::new(
            "port-differs",
            format!(
                "clients ask {vip} for port {}, and packets arrive here for that port, for only NAT and FULLNAT change \
                 it; servers listen on {}",
                list(&mut missing.iter().map(ToString::to_string)),
                list(&mut served.iter().map(ToString::to_string)),
            ),
            ["have the server listen on the port of the virtual service", "or forward by NAT: ipvsadm -a … -m"],
        )
    }))
}

/// True when ARP says nothing about VIPs, by whatever means.
fn is_silent(here: &Location, state: &State, ethernet: &[String]) -> bool {
    let by_sysctl = ethernet.iter().all(|name| {
        host::greater("arp_ignore", name) >= 1 && host::greater("arp_announce", name) == 2
    });
    let programs = quiet::attached(&pin_dir(here));
    by_sysctl
        || arp::has_rules()
        || state.arp == Arp::Ebpf && ethernet.iter().all(|name| programs.contains(name))
}

fn not_silent(state: &State, ethernet: &[String]) -> Finding {
    let vips: Vec<_> = state
        .vips
        .iter()
        .filter(|vip| vip.is_ipv4())
        .map(IpAddr::to_string)
        .collect();
    Finding::new(
        "arp-not-silent",
        format!(
            "this host answers ARP for {} on {}, or names it as its own when it asks: neighbours may send it what is \
             for the director. The VIP was there before ARP was silent, or somebody undid it",
            vips.join(", "),
            ethernet.join(", ")
        ),
        [
            up(state),
            "on neighbours that learned it: ip neigh flush to VIP   (or wait until the entry lapses)".to_owned(),
        ],
    )
}

fn of_tunnel(
    here: &Location,
    state: &State,
    ethernet: &[pointsman_dataplane::Interface],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let attached = decapsulator::attached(&pin_dir(here));
    // The kernel's own tunnel devices do as well.
    let of_kernel = ["ipip", "sit", "ip6tnl", "gre"].iter().any(|kind| {
        let links = host::output("ip", &["-o", "link", "show", "up", "type", kind]);
        links.is_some_and(|links| !links.trim().is_empty())
    });
    for interface in ethernet {
        let name = &interface.name;
        if !attached.contains(name) && !of_kernel {
            findings.push(Finding::new(
                "not-decapsulated",
                format!("nothing takes the outer headers off packets that come in by {name}"),
                [up(state)],
            ));
        }
        if host::greater("rp_filter", name) == 1 {
            findings.push(Finding::new(
                "rp-filter-strict",
                format!(
                    "rp_filter is strict on {name}: packets out of the tunnel whose client would be answered by \
                     another interface are dropped without a word"
                ),
                [format!("sysctl -w net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.{name}.rp_filter=2")],
            ));
        }
        let outer = if state.directors.iter().any(|net| net.addr().is_ipv6()) {
            40
        } else {
            20
        };
        if let Some([v4, _]) = state.mss
            && u32::from(v4) + 40 + outer > interface.mtu
        {
            findings.push(Finding::new(
                "tunnel-too-narrow",
                format!(
                    "clients are asked for segments of {v4} bytes, but with the outer headers {} is too small for \
                     them: its MTU is {}",
                    name, interface.mtu
                ),
                ["pointsman realserver down".to_owned(), up(state)],
            ));
        }
    }
    findings
}

fn of_gateway(state: &State) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for director in state.directors.iter().map(ipnet::IpNet::addr) {
        let gateways = network::gateways(director.is_ipv6())?;
        if gateways != [director] {
            let via: Vec<_> = gateways.iter().map(IpAddr::to_string).collect();
            let via = if via.is_empty() {
                "nowhere".to_owned()
            } else {
                format!("via {}", via.join(" and "))
            };
            findings.push(Finding::new(
                "nat-gateway",
                format!(
                    "replies go {via}, not through the director {director}: clients get them from an address they \
                     never asked"
                ),
                [format!("pointsman realserver up --mode nat --gateway {director}")],
            ));
        }
    }
    Ok(findings)
}
