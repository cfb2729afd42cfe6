//! `realserver up` and `down`.

use std::fs;
use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use pointsman_api::Location;
use pointsman_dataplane::quiet::{self, Quiet};
use pointsman_dataplane::realserver::{self, Accept, Decapsulator};
use pointsman_dataplane::{Interface, toa};

use super::Wish;
use super::arp::{self, Arp};
use super::network::{self, chosen, interfaces};
use super::state::{Mode, State, pin_dir};
use super::sysctl::{self, wanted};

/// The port registered for GUE.
const GUE_PORT: u16 = 6080;

/// Sets the server up, or adds to what an earlier call set up.
pub fn up(wish: &Wish) -> Result<()> {
    refuse_nonsense(wish)?;
    let here = Location::here()?;
    let chosen = chosen(&wish.interface)?;
    let on_lo = network::addresses_of("lo")?;

    let before = State::load(&here)?;
    let mut state = before.clone().unwrap_or_default();
    if before.is_some_and(|before| (before.mode, before.arp) != (wish.mode, wish.arp)) {
        bail!(
            "this is a real server of mode {} already, ARP by {}; `pointsman realserver down` first",
            state.mode.word(),
            state.arp.word()
        );
    }
    remember(&mut state, wish, &chosen, &on_lo)?;
    state.save(&here)?;

    silence(&here, &state, &on_lo)?;
    for vip in wish.vip.iter().filter(|vip| !on_lo.contains(vip)) {
        network::add_to_lo(*vip)?;
    }
    match state.mode {
        Mode::Fullnat => {
            make(&here)?;
            toa::ClientReader::load(&pin_dir(&here), here.cookie(), &state.directors)?.attach()?;
        }
        Mode::Nat => lead_back(&state)?,
        Mode::Dr | Mode::Tun => {}
    }
    Ok(())
}

fn refuse_nonsense(wish: &Wish) -> Result<()> {
    let mode = wish.mode;
    let only = |given: bool, option: &str, modes: &[Mode]| {
        if given && !modes.contains(&mode) {
            let modes: Vec<_> = modes.iter().map(|mode| mode.word()).collect();
            bail!("{option} is for --mode {}", modes.join(" and "));
        }
        Ok(())
    };
    only(!wish.vip.is_empty(), "--vip", &[Mode::Dr, Mode::Tun])?;
    only(wish.arp != Arp::Sysctl, "--arp", &[Mode::Dr, Mode::Tun])?;
    only(
        !wish.director.is_empty(),
        "--director",
        &[Mode::Tun, Mode::Fullnat, Mode::Nat],
    )?;
    only(!wish.gue_port.is_empty(), "--gue-port", &[Mode::Tun])?;
    only(wish.mss.is_some(), "--mss", &[Mode::Tun])?;
    only(wish.gateway.is_some(), "--gateway", &[Mode::Nat])?;
    if mode.has_vips() && wish.vip.is_empty() {
        bail!("--mode {} needs the VIP: --vip ADDRESS", mode.word());
    }
    let hosts = wish
        .director
        .iter()
        .all(|net| net.prefix_len() == net.max_prefix_len());
    if mode != Mode::Fullnat && !hosts {
        bail!("--director names addresses; networks of them are for --mode fullnat");
    }
    if mode == Mode::Nat && wish.gateway.is_none() && wish.director.is_empty() {
        bail!(
            "replies must go back through the director: --gateway ADDRESS makes it the default \
             route, --director ADDRESS only checks that it is"
        );
    }
    Ok(())
}

/// What will be so, and what was so before.
fn remember(state: &mut State, wish: &Wish, chosen: &[Interface], on_lo: &[IpAddr]) -> Result<()> {
    state.mode = wish.mode;
    state.arp = wish.arp;
    for interface in chosen {
        insert(&mut state.interfaces, interface.name.clone());
    }
    for &director in &wish.director {
        insert(&mut state.directors, director);
    }
    for &port in &wish.gue_port {
        insert(&mut state.gue_ports, port);
    }
    check_room(state)?;
    for &vip in &wish.vip {
        insert(&mut state.vips, vip);
        if !on_lo.contains(&vip) {
            insert(&mut state.added, vip);
        }
    }
    if state.mode == Mode::Tun {
        state.mss = match wish.mss {
            Some(0) => None,
            Some(asked) => Some([asked, asked]),
            None => Some(fitting(state, chosen)),
        };
    }
    if let Some(gateway) = wish.gateway
        && state.gateway != Some(gateway)
    {
        if state.gateway.is_none() {
            state.previous_routes = network::default_routes(gateway.is_ipv6())?;
        }
        state.gateway = Some(gateway);
        state.directors = vec![IpNet::from(gateway)];
    }
    for (key, _) in &wanted(state.mode, state.arp, &state.interfaces) {
        if !state.previous.contains_key(key) {
            state.previous.insert(key.clone(), sysctl::read(key)?);
        }
    }
    Ok(())
}

/// Largest segments that fit through the tunnel, over IPv4 and IPv6: what is left of the smallest
/// interface's MTU after outer and inner headers. Eight bytes are for GUE, or GRE with checksum.
fn fitting(state: &State, chosen: &[Interface]) -> [u16; 2] {
    let mtu = chosen.iter().map(|interface| interface.mtu).min();
    let mtu = mtu.unwrap_or(1500).clamp(1280, 65_535);
    let wide = state.directors.iter().any(|net| net.addr().is_ipv6());
    let outer = if wide { 40 } else { 20 } + 8;
    [20, 40].map(|inner| (mtu - outer - inner - 20) as u16)
}

fn check_room(state: &State) -> Result<()> {
    let most = [
        (
            state.directors.len(),
            realserver::MAX_DIRECTORS,
            "directors",
        ),
        (
            state.gue_ports.len(),
            realserver::MAX_GUE_PORTS,
            "GUE ports",
        ),
        (state.vips.len(), quiet::MAX_VIPS as usize, "VIPs"),
    ];
    for (now, most, what) in most {
        if now > most {
            bail!("at most {most} {what}, with those of earlier calls it would be {now}");
        }
    }
    Ok(())
}

/// Silences ARP, before there is anything to be silent about, and attaches what packets meet.
fn silence(here: &Location, state: &State, on_lo: &[IpAddr]) -> Result<()> {
    let early: Vec<_> = state
        .vips
        .iter()
        .filter(|vip| vip.is_ipv4() && on_lo.contains(vip))
        .collect();
    let mut changed = false;
    for (key, value) in wanted(state.mode, state.arp, &state.interfaces) {
        if let Some(value) = value.over(&sysctl::read(&key)?) {
            sysctl::write(&key, value)?;
            changed |= key.contains("arp_");
        }
    }
    if changed {
        for vip in early {
            eprintln!(
                "note: {vip} was on lo before ARP was silent. Neighbours that asked meanwhile may send its \
                 packets here until the director announces it or their entry lapses"
            );
        }
    }
    if state.arp == Arp::Nft {
        arp::set_rules(&state.vips, &state.interfaces)?;
    }
    let attached: Vec<Interface> = interfaces()?
        .into_iter()
        .filter(|interface| state.interfaces.contains(&interface.name))
        .collect();
    if state.arp == Arp::Ebpf || state.mss.is_some() {
        make(here)?;
        let mut quiet = Quiet::load(&pin_dir(here), &state.vips)?;
        for interface in &attached {
            let wish = quiet::Wish {
                silent: state.arp == Arp::Ebpf,
                own: network::own_address(&interface.name, &state.vips)?,
                mss_v4: state.mss.map(|[v4, _]| v4),
                mss_v6: state.mss.map(|[_, v6]| v6),
            };
            quiet.attach(interface, &wish)?;
        }
    }
    if state.mode == Mode::Tun {
        make(here)?;
        let mut decapsulator = Decapsulator::load(&pin_dir(here), &accept(state))?;
        // What was attached earlier gets today's directors and ports, too.
        for interface in &attached {
            decapsulator
                .attach(interface)
                .with_context(|| format!("decapsulating on {}", interface.name))?;
        }
    }
    Ok(())
}

fn make(here: &Location) -> Result<()> {
    let pins = pin_dir(here);
    fs::create_dir_all(&pins).with_context(|| pins.display().to_string())
}

/// What the decapsulator takes.
pub fn accept(state: &State) -> Accept {
    let mut gue_ports = state.gue_ports.clone();
    if gue_ports.is_empty() {
        gue_ports.push(GUE_PORT);
    }
    Accept {
        directors: state.directors.iter().map(IpNet::addr).collect(),
        gue_ports,
    }
}

/// Makes the director the way to everywhere, so that replies go back through it.
fn lead_back(state: &State) -> Result<()> {
    let Some(gateway) = state.gateway else {
        return Ok(());
    };
    let v6 = gateway.is_ipv6();
    let wanted = format!("default via {gateway}");
    for route in network::default_routes(v6)? {
        network::route("del", v6, &route)?;
    }
    if let Err(error) = network::route("add", v6, &wanted) {
        // Without any way out the server would be worse off than before.
        put_routes_back(state, v6);
        return Err(error);
    }
    Ok(())
}

fn put_routes_back(state: &State, v6: bool) {
    for route in &state.previous_routes {
        if let Err(error) = network::route("add", v6, route) {
            eprintln!("note: the route `{route}` could not be put back: {error:#}");
        }
    }
}

/// Undoes it.
pub fn down() -> Result<()> {
    let here = Location::here()?;
    let Some(state) = State::load(&here)? else {
        bail!("nothing to undo: `pointsman realserver up` was not used in this network namespace");
    };
    let on_lo = network::addresses_of("lo")?;
    for vip in state.added.iter().filter(|vip| on_lo.contains(vip)) {
        network::remove_from_lo(*vip)?;
    }
    if let Some(gateway) = state.gateway {
        let v6 = gateway.is_ipv6();
        if network::gateways(v6)?.contains(&gateway) {
            network::route("del", v6, &format!("default via {gateway}"))?;
            put_routes_back(&state, v6);
        }
    }
    let pins = pin_dir(&here);
    if pins.exists() {
        realserver::detach_all(&pins).context("removing the decapsulator")?;
        quiet::detach_all(&pins).context("removing the programs that keep VIPs quiet")?;
        toa::detach(&pins).context("removing the reader of client addresses")?;
    }
    if state.arp == Arp::Nft {
        arp::remove_rules()?;
    }
    for (key, value) in &state.previous {
        // An interface that is gone took its sysctls along.
        if sysctl::path(key).exists() {
            sysctl::write(key, value)?;
        }
    }
    State::forget(&here)
}

fn insert<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}
