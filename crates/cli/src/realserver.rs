//! `pointsman realserver`: makes a host a fit real server, and an ordinary host again.
//!
//! Direct routing and tunnelling deliver packets whose destination is still the VIP, so the VIP
//! must be an address of every real server, yet nobody on the segment may learn that it is: only
//! the director answers ARP for it. `up` silences ARP first and then puts the VIP on `lo`; `down`
//! goes the other way and restores the sysctls as they were. What `up` changed is remembered in
//! `/run/pointsman/<netns cookie>/realserver.json`, written before anything is touched.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use pointsman_api::Location;
use pointsman_dataplane::Interface;
use pointsman_dataplane::realserver::{self, Accept, Decapsulator};
use serde::{Deserialize, Serialize};

/// The port registered for GUE.
const GUE_PORT: u16 = 6080;

/// What to do with this real server.
#[derive(Args, Debug)]
pub struct RealserverArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Accept packets for the VIP without claiming it on the network
    Up(UpArgs),
    /// Undo everything `up` did
    Down,
    /// Show what is set up; exit status 1 if nothing is, or not all of it
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Debug)]
struct UpArgs {
    /// Virtual address; may be repeated (`--vip A --vip B`)
    #[arg(long, required = true)]
    vip: Vec<IpAddr>,
    /// How the director forwards to this server
    #[arg(long, value_enum, default_value_t = Mode::Dr)]
    mode: Mode,
    /// Address tunnelled packets may come from; may be repeated [default: any]
    #[arg(long)]
    director: Vec<IpAddr>,
    /// UDP port that carries GUE; may be repeated [default: 6080]
    #[arg(long)]
    gue_port: Vec<u16>,
    /// Interface that packets from the director arrive on; may be repeated [default: every
    /// Ethernet interface]
    #[arg(long)]
    interface: Vec<String>,
}

/// How packets arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// Direct routing: as they left the client
    #[default]
    Dr,
    /// Tunnelling: inside another packet (IP in IP, GUE, GRE), to be decapsulated
    Tun,
}

/// What `up` did, so that `down` can undo it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    mode: Mode,
    interfaces: Vec<String>,
    vips: Vec<IpAddr>,
    /// Who may send tunnelled packets; anybody if empty.
    #[serde(default)]
    directors: Vec<IpAddr>,
    /// Where GUE comes to; [`GUE_PORT`] if empty.
    #[serde(default)]
    gue_ports: Vec<u16>,
    /// Those of `vips` that were not on `lo` before.
    added: Vec<IpAddr>,
    /// Sysctls as they were, by path below `/proc/sys`.
    previous: BTreeMap<String, String>,
}

/// Runs the subcommand in the calling thread's network namespace.
pub fn run(args: &RealserverArgs) -> ExitCode {
    let done = match &args.action {
        Action::Up(args) => up(args).map(|()| true),
        Action::Down => down().map(|()| true),
        Action::Status { json } => status(*json),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("pointsman realserver: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn up(args: &UpArgs) -> Result<()> {
    if args.mode == Mode::Dr && !(args.director.is_empty() && args.gue_port.is_empty()) {
        bail!("--director and --gue-port are about tunnelled packets: --mode tun");
    }
    let here = Location::here()?;
    let interfaces = chosen(&args.interface)?;
    let names = interfaces.iter().map(|interface| interface.name.clone());

    let mut state = load(&here)?.unwrap_or_default();
    state.mode = args.mode;
    names.for_each(|name| insert(&mut state.interfaces, name));
    for &director in &args.director {
        insert(&mut state.directors, director);
    }
    for &port in &args.gue_port {
        insert(&mut state.gue_ports, port);
    }
    check_room(&state)?;
    let on_lo = addresses_of_lo()?;
    for &vip in &args.vip {
        insert(&mut state.vips, vip);
        if !on_lo.contains(&vip) {
            insert(&mut state.added, vip);
        }
    }
    let wanted = wanted(args.mode, &state.interfaces);
    for (key, _) in &wanted {
        if !state.previous.contains_key(key) {
            state.previous.insert(key.clone(), read_sysctl(key)?);
        }
    }
    save(&here, &state)?;

    for (key, value) in &wanted {
        if let Some(value) = value.over(&read_sysctl(key)?) {
            write_sysctl(key, value)?;
        }
    }
    if args.mode == Mode::Tun {
        let pins = pin_dir(&here);
        fs::create_dir_all(&pins).with_context(|| pins.display().to_string())?;
        let mut decapsulator = Decapsulator::load(&pins, &accept(&state))?;
        // What was attached earlier gets today's directors and ports, too.
        for interface in self::interfaces()? {
            if state.interfaces.contains(&interface.name) {
                decapsulator
                    .attach(&interface)
                    .with_context(|| format!("decapsulating on {}", interface.name))?;
            }
        }
    }
    for vip in args.vip.iter().filter(|vip| !on_lo.contains(vip)) {
        add_to_lo(*vip)?;
    }
    Ok(())
}

fn check_room(state: &State) -> Result<()> {
    if state.directors.len() > realserver::MAX_DIRECTORS {
        let (most, now) = (realserver::MAX_DIRECTORS, state.directors.len());
        bail!("at most {most} directors, with those of earlier calls it would be {now}");
    }
    if state.gue_ports.len() > realserver::MAX_GUE_PORTS {
        let (most, now) = (realserver::MAX_GUE_PORTS, state.gue_ports.len());
        bail!("at most {most} GUE ports, with those of earlier calls it would be {now}");
    }
    Ok(())
}

fn accept(state: &State) -> Accept {
    let mut gue_ports = state.gue_ports.clone();
    if gue_ports.is_empty() {
        gue_ports.push(GUE_PORT);
    }
    let directors = state.directors.clone();
    Accept {
        directors,
        gue_ports,
    }
}

fn down() -> Result<()> {
    let here = Location::here()?;
    let Some(state) = load(&here)? else {
        bail!("nothing to undo: `pointsman realserver up` was not used in this network namespace");
    };
    let on_lo = addresses_of_lo()?;
    for vip in state.added.iter().filter(|vip| on_lo.contains(vip)) {
        ip(&["addr", "del", &host_prefix(*vip), "dev", "lo"])?;
    }
    let pins = pin_dir(&here);
    if pins.exists() {
        realserver::detach_all(&pins).context("removing the decapsulator")?;
        remove_empty(&pins);
    }
    for (key, value) in &state.previous {
        // An interface that is gone took its sysctls along.
        if sysctl_path(key).exists() {
            write_sysctl(key, value)?;
        }
    }
    fs::remove_file(state_file(&here)).context("removing the remembered state")?;
    remove_empty(&here.run_dir());
    remove_empty(&here.pin_dir());
    Ok(())
}

/// What a report says about one thing that should hold.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    ok: bool,
}

fn status(json: bool) -> Result<bool> {
    let here = Location::here()?;
    let state = load(&here)?;
    let findings = state
        .as_ref()
        .map(|state| findings(&here, state))
        .transpose()?;
    let findings = findings.unwrap_or_default();
    let fit = state.is_some() && findings.iter().all(|finding| finding.ok);
    let tunnels = state.as_ref().filter(|state| state.mode == Mode::Tun);
    // Missing where the decapsulator is missing, which the findings tell.
    let counts = tunnels.and_then(|_| realserver::counts(&pin_dir(&here)).ok());
    let counts = counts.unwrap_or_default();
    let accept = tunnels.map(|state| {
        let Accept {
            directors,
            gue_ports,
        } = accept(state);
        serde_json::json!({ "directors": directors, "gue-ports": gue_ports })
    });
    if json {
        let (mode, vips, interfaces) = match &state {
            Some(state) => (
                Some(state.mode),
                state.vips.as_slice(),
                state.interfaces.as_slice(),
            ),
            None => (None, &[][..], &[][..]),
        };
        let packets: BTreeMap<_, _> = counts
            .iter()
            .map(|count| (count.name, count.packets))
            .collect();
        let report = serde_json::json!({
            "up": state.is_some(), "fit": fit, "mode": mode, "vips": vips,
            "interfaces": interfaces, "accept": accept, "findings": findings, "packets": packets,
        });
        println!("{report:#}");
        return Ok(fit);
    }
    match &state {
        None => println!("not set up as a real server"),
        Some(state) => {
            println!(
                "real server, mode {}",
                if state.mode == Mode::Dr { "dr" } else { "tun" }
            );
            for finding in &findings {
                println!(
                    "  {}  {}",
                    if finding.ok { "ok     " } else { "MISSING" },
                    finding.what
                );
            }
            for count in counts.iter().filter(|count| count.packets != 0) {
                println!("  {:>7}  {}", count.packets, count.name);
            }
        }
    }
    Ok(fit)
}

fn findings(here: &Location, state: &State) -> Result<Vec<Finding>> {
    let on_lo = addresses_of_lo()?;
    let vip = |vip: &IpAddr| Finding {
        what: format!("{vip} on lo"),
        ok: on_lo.contains(vip),
    };
    let mut findings: Vec<Finding> = state.vips.iter().map(vip).collect();
    for (key, value) in wanted(state.mode, &state.interfaces) {
        let now = read_sysctl(&key).unwrap_or_default();
        findings.push(Finding {
            what: format!("{key} = {now}"),
            ok: value.over(&now).is_none(),
        });
    }
    if state.mode == Mode::Tun {
        let attached = realserver::attached(&pin_dir(here));
        for name in &state.interfaces {
            let what = format!("tunnelled packets decapsulated on {name}");
            findings.push(Finding {
                what,
                ok: attached.contains(name),
            });
        }
    }
    Ok(findings)
}

/// What a sysctl should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// Exactly this.
    Exactly(&'static str),
    /// Anything but strict (1); loose (2) otherwise.
    NotStrict,
}

impl Wanted {
    /// What to write over `now`; `None` when it is right.
    fn over(self, now: &str) -> Option<&'static str> {
        match self {
            Self::Exactly(value) => (now != value).then_some(value),
            Self::NotStrict => (now == "1").then_some("2"),
        }
    }
}

/// Sysctls of a fit real server, by path below `/proc/sys`.
///
/// `arp_ignore` 1: answer only for addresses of the interface the question came in on, so not for
/// those of `lo`. `arp_announce` 2: never name the VIP as sender when asking. The kernel takes the
/// greater of `all` and the interface's own value for both, and for `rp_filter`. Strict `rp_filter`
/// drops decapsulated packets of clients whose way back is another interface.
fn wanted(mode: Mode, interfaces: &[String]) -> Vec<(String, Wanted)> {
    let mut wanted = Vec::new();
    for scope in ["all"]
        .into_iter()
        .chain(interfaces.iter().map(String::as_str))
    {
        let key = |name: &str| format!("net/ipv4/conf/{scope}/{name}");
        wanted.push((key("arp_ignore"), Wanted::Exactly("1")));
        wanted.push((key("arp_announce"), Wanted::Exactly("2")));
        if mode == Mode::Tun {
            wanted.push((key("rp_filter"), Wanted::NotStrict));
        }
    }
    wanted
}

/// The interfaces named, or every Ethernet interface.
fn chosen(names: &[String]) -> Result<Vec<Interface>> {
    let all = interfaces()?;
    if names.is_empty() {
        let ethernet: Vec<_> = all
            .into_iter()
            .filter(|interface| interface.ethernet)
            .collect();
        if ethernet.is_empty() {
            bail!("no Ethernet interface here; name one with --interface");
        }
        return Ok(ethernet);
    }
    let find = |name: &String| {
        all.iter()
            .find(|interface| interface.name == *name)
            .cloned()
            .with_context(|| {
                let known: Vec<_> = all
                    .iter()
                    .map(|interface| interface.name.as_str())
                    .collect();
                format!("no interface {name} here; there are {}", known.join(", "))
            })
    };
    names.iter().map(find).collect()
}

/// Interfaces of this namespace, from `ip -json`.
fn interfaces() -> Result<Vec<Interface>> {
    let links = ip_json(&["-details", "link", "show"])?;
    Ok(links.iter().filter_map(interface).collect())
}

fn interface(link: &serde_json::Value) -> Option<Interface> {
    let number = |value: &serde_json::Value| u32::try_from(value.as_u64()?).ok();
    let mut mac = [0; 6];
    let text = link["address"].as_str().unwrap_or_default();
    for (byte, part) in mac.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(part, 16).unwrap_or(0);
    }
    let kind = link["linkinfo"]["info_kind"].as_str().map(str::to_owned);
    let vlan_id =
        number(&link["linkinfo"]["info_data"]["id"]).filter(|_| kind.as_deref() == Some("vlan"));
    Some(Interface {
        index: number(&link["ifindex"])?,
        name: link["ifname"].as_str()?.to_owned(),
        mac,
        mtu: number(&link["mtu"])?,
        vlan: number(&link["link_index"]).zip(vlan_id.map(|id| id as u16)),
        kind,
        loopback: link["link_type"] == "loopback",
        ethernet: link["link_type"] == "ether",
    })
}

fn addresses_of_lo() -> Result<Vec<IpAddr>> {
    let links = ip_json(&["addr", "show", "dev", "lo"])?;
    let addresses = links
        .iter()
        .filter_map(|link| link["addr_info"].as_array())
        .flatten();
    Ok(addresses
        .filter_map(|address| address["local"].as_str()?.parse().ok())
        .collect())
}

/// Never chosen as the source of this host's own connections: scope host, for IPv6 deprecated. Nobody is
/// asked whether the address is taken; everybody has it. (To questions for an IPv6 address only the
/// interface that has it answers, so those need no sysctl.)
fn add_to_lo(vip: IpAddr) -> Result<()> {
    let prefix = host_prefix(vip);
    let mut words = vec!["addr", "add", &prefix, "dev", "lo"];
    words.extend(if vip.is_ipv4() {
        ["scope", "host"].as_slice()
    } else {
        &["nodad", "preferred_lft", "0"]
    });
    ip(&words).map(drop)
}

fn host_prefix(addr: IpAddr) -> String {
    format!("{addr}/{}", if addr.is_ipv4() { 32 } else { 128 })
}

fn ip(words: &[&str]) -> Result<Vec<u8>> {
    let line = format!("ip {}", words.join(" "));
    let output = Command::new("ip")
        .args(words)
        .output()
        .with_context(|| line.clone())?;
    if !output.status.success() {
        bail!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

fn ip_json(words: &[&str]) -> Result<Vec<serde_json::Value>> {
    let words: Vec<&str> = ["-json"].iter().chain(words).copied().collect();
    serde_json::from_slice(&ip(&words)?)
        .with_context(|| format!("output of ip {}", words.join(" ")))
}

fn sysctl_path(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key)
}

fn read_sysctl(key: &str) -> Result<String> {
    let text = fs::read_to_string(sysctl_path(key)).with_context(|| format!("sysctl {key}"))?;
    Ok(text.trim().to_owned())
}

fn write_sysctl(key: &str, value: &str) -> Result<()> {
    fs::write(sysctl_path(key), value).with_context(|| format!("sysctl {key} = {value}"))
}

fn state_file(here: &Location) -> PathBuf {
    here.run_dir().join("realserver.json")
}

fn pin_dir(here: &Location) -> PathBuf {
    here.pin_dir().join("realserver")
}

fn load(here: &Location) -> Result<Option<State>> {
    let path = state_file(here);
    match fs::read(&path) {
        Ok(text) => Ok(Some(
            serde_json::from_slice(&text).with_context(|| path.display().to_string())?,
        )),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

fn save(here: &Location, state: &State) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let directory = here.run_dir();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .with_context(|| directory.display().to_string())?;
    let path = state_file(here);
    let fresh = path.with_extension("json.new");
    fs::write(&fresh, serde_json::to_vec_pretty(state)?)
        .and_then(|()| fs::rename(&fresh, &path))
        .with_context(|| path.display().to_string())
}

/// The directories are shared with a director of the same namespace.
fn remove_empty(directory: &Path) {
    let _ = fs::remove_dir(directory);
}

fn insert<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

#[cfg(test)]
mod tests {
    use pointsman_testkit::{Names, Netns, wire};

    use super::*;

    const VIP: &str = "192.0.2.100";

    fn server() -> (Netns, Netns) {
        let names = Names::transient();
        let (server, peer) = (
            Netns::new(&names, "server").unwrap(),
            Netns::new(&names, "peer").unwrap(),
        );
        wire::cable((&server, "eth0"), (&peer, "eth0")).unwrap();
        (server, peer)
    }

    fn arguments(vips: &[&str]) -> UpArgs {
        let vip = vips.iter().map(|vip| vip.parse().unwrap()).collect();
        UpArgs {
            vip,
            mode: Mode::Dr,
            interface: Vec::new(),
            director: Vec::new(),
            gue_port: Vec::new(),
        }
    }

    #[test]
    fn down_restores_what_up_found() {
        let (server, _peer) = server();
        server.sysctl("net.ipv4.conf.eth0.arp_ignore", "2").unwrap();
        server
            .sysctl("net.ipv4.conf.all.arp_announce", "1")
            .unwrap();
        server.run(|| {
            up(&arguments(&[VIP])).unwrap();
            // A second VIP later must not take today's values for the original ones.
            up(&arguments(&["192.0.2.101"])).unwrap();
            assert_eq!(read_sysctl("net/ipv4/conf/eth0/arp_ignore").unwrap(), "1");
            assert_eq!(read_sysctl("net/ipv4/conf/all/arp_announce").unwrap(), "2");
            assert!(addresses_of_lo().unwrap().contains(&VIP.parse().unwrap()));
            assert!(status(true).unwrap());
            down().unwrap();
            assert_eq!(read_sysctl("net/ipv4/conf/eth0/arp_ignore").unwrap(), "2");
            assert_eq!(read_sysctl("net/ipv4/conf/all/arp_announce").unwrap(), "1");
            assert_eq!(
                addresses_of_lo().unwrap(),
                ["127.0.0.1".parse::<IpAddr>().unwrap()]
            );
            assert!(!Location::here().unwrap().run_dir().exists());
            assert!(!status(true).unwrap());
            assert!(down().is_err());
        });
    }

    #[test]
    fn a_vip_that_was_there_before_stays() {
        let (server, _peer) = server();
        server.ip(&format!("addr add {VIP}/32 dev lo")).unwrap();
        server.run(|| {
            up(&arguments(&[VIP])).unwrap();
            down().unwrap();
            assert!(addresses_of_lo().unwrap().contains(&VIP.parse().unwrap()));
        });
    }

    #[test]
    fn status_names_what_somebody_else_undid() {
        let (server, _peer) = server();
        server.run(|| up(&arguments(&[VIP])).unwrap());
        server
            .sysctl("net.ipv4.conf.eth0.arp_announce", "0")
            .unwrap();
        server.run(|| assert!(!status(false).unwrap()));
    }

    #[test]
    fn an_unknown_interface_is_refused_before_anything_changes() {
        let (server, _peer) = server();
        let args = UpArgs {
            interface: vec!["eth7".into()],
            ..arguments(&[VIP])
        };
        server.run(|| {
            let error = up(&args).unwrap_err().to_string();
            assert!(error.contains("eth7") && error.contains("eth0"), "{error}");
            assert_eq!(addresses_of_lo().unwrap().len(), 1);
        });
    }

    #[test]
    fn strict_reverse_path_filtering_becomes_loose_and_nothing_else_changes() {
        let cases = [("0", None), ("1", Some("2")), ("2", None)];
        for (now, expected) in cases {
            assert_eq!(Wanted::NotStrict.over(now), expected, "from {now}");
        }
    }
}
