//! `realserver status`: is what should hold still so?

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;
use pointsman_api::Location;
use pointsman_dataplane::realserver::{self, Accept, Count};
use pointsman_dataplane::{quiet, toa};
use serde::Serialize;

use super::arp::{self, Arp};
use super::connections;
use super::network;
use super::state::{Mode, State, drain_mark, pin_dir};
use super::sysctl::{self, wanted};
use super::up::accept;

/// What a report says about one thing that should hold.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    ok: bool,
}

/// Prints what is set up; whether all of it is.
pub fn show(json: bool) -> Result<bool> {
    let here = Location::here()?;
    let state = State::load(&here)?;
    let findings = state
        .as_ref()
        .map(|state| findings(&here, state))
        .transpose()?
        .unwrap_or_default();
    let fit = state.is_some() && findings.iter().all(|finding| finding.ok);
    let counts = state
        .as_ref()
        .map_or_else(Vec::new, |state| counts(&here, state));
    let draining = drain_mark(&here).exists();
    if json {
        print_json(state.as_ref(), fit, &findings, &counts, draining);
        return Ok(fit);
    }
    let Some(state) = &state else {
        println!("not set up as a real server");
        return Ok(false);
    };
    println!("real server, mode {}", state.mode.word());
    for finding in &findings {
        let mark = if finding.ok { "ok     " } else { "MISSING" };
        println!("  {mark}  {}", finding.what);
    }
    if draining {
        let left = connections::count(&state.vips, &[])?;
        println!("  draining: {left} connections left (`pointsman realserver ready` ends it)");
    }
    for count in counts.iter().filter(|count| count.packets != 0) {
        println!("  {:>7}  {}", count.packets, count.name);
    }
    Ok(fit)
}

/// What is missing of a server that was set up; `None` also where nothing was.
pub fn missing(here: &Location) -> Option<String> {
    let state = match State::load(here) {
        Ok(state) => state?,
        Err(error) => return Some(format!("{error:#}")),
    };
    match findings(here, &state) {
        Ok(findings) => findings
            .into_iter()
            .find(|finding| !finding.ok)
            .map(|finding| finding.what),
        Err(error) => Some(format!("{error:#}")),
    }
}

fn print_json(
    state: Option<&State>,
    fit: bool,
    findings: &[Finding],
    counts: &[Count],
    draining: bool,
) {
    let accept = state.filter(|state| state.mode == Mode::Tun).map(|state| {
        let Accept {
            directors,
            gue_ports,
        } = accept(state);
        serde_json::json!({ "directors": directors, "gue-ports": gue_ports })
    });
    let packets: BTreeMap<_, _> = counts
        .iter()
        .map(|count| (count.name, count.packets))
        .collect();
    let none: (&[IpAddr], &[String]) = (&[], &[]);
    let (vips, interfaces) = state.map_or(none, |state| (&state.vips[..], &state.interfaces[..]));
    let report = serde_json::json!({
        "up": state.is_some(), "fit": fit, "mode": state.map(|state| state.mode), "vips": vips,
        "interfaces": interfaces, "accept": accept, "findings": findings, "packets": packets,
        "draining": draining,
    });
    println!("{report:#}");
}

/// What the programs counted. Nothing where they are missing, which the findings tell.
fn counts(here: &Location, state: &State) -> Vec<Count> {
    let counts = match state.mode {
        Mode::Tun => realserver::counts(&pin_dir(here)),
        Mode::Fullnat => toa::counts(&pin_dir(here)),
        Mode::Dr | Mode::Nat => return Vec::new(),
    };
    counts.unwrap_or_default()
}

fn findings(here: &Location, state: &State) -> Result<Vec<Finding>> {
    let on_lo = network::addresses_of("lo")?;
    let finding = |what: String, ok: bool| Finding { what, ok };
    let mut findings: Vec<Finding> = Vec::new();
    for vip in &state.vips {
        findings.push(finding(format!("{vip} on lo"), on_lo.contains(vip)));
    }
    for (key, value) in wanted(state.mode, state.arp, &state.interfaces) {
        let now = sysctl::read(&key).unwrap_or_default();
        findings.push(finding(
            format!("{key} = {now}"),
            value.over(&now).is_none(),
        ));
    }
    let pins = pin_dir(here);
    let mut everywhere = |what: &str, attached: Vec<String>| {
        for name in &state.interfaces {
            findings.push(finding(
                format!("{what} on {name}"),
                attached.contains(name),
            ));
        }
    };
    if state.arp == Arp::Ebpf {
        everywhere("VIPs kept out of ARP", quiet::attached(&pins));
    }
    if let Some([v4, v6]) = state.mss {
        let what = format!("clients asked for segments of {v4} bytes (IPv6: {v6})");
        everywhere(&what, quiet::attached(&pins));
    }
    if state.mode == Mode::Tun {
        everywhere(
            "tunnelled packets decapsulated",
            realserver::attached(&pins),
        );
    }
    if state.arp == Arp::Nft {
        findings.push(finding(
            "nftables keeps VIPs out of ARP".to_owned(),
            arp::has_rules(),
        ));
    }
    match state.mode {
        Mode::Fullnat => findings.push(finding(
            "servers see the client's address".to_owned(),
            toa::is_attached(&pins),
        )),
        Mode::Nat => {
            for director in state.directors.iter().map(ipnet::IpNet::addr) {
                let gateways = network::gateways(director.is_ipv6())?;
                findings.push(finding(
                    format!("replies go back through {director}"),
                    gateways == [director],
                ));
            }
        }
        Mode::Dr | Mode::Tun => {}
    }
    Ok(findings)
}
