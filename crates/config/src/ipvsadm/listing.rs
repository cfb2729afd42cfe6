use std::fmt;
use std::io::{self, Write};

use pointsman_model::{
    ClientAddress, ConnectionView, DaemonView, Encapsulation, Family, Forwarding, SchedFlags,
    ServerView, ServiceKey, ServiceSpec, ServiceView, Timeouts, TunnelChecksum,
};

use super::command::View;
use super::json;
use super::names::{Names, Numeric, endpoint, host};
use super::sort;

/// How to lay out a listing of services.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Which columns.
    pub view: View,
    /// Large numbers in full instead of with K, M, G, T.
    pub exact: bool,
    /// In the order of addresses; otherwise as given.
    pub sorted: bool,
    /// Slots of the connection table for the first line, which stands only over a full list.
    pub connection_slots: Option<u32>,
}

/// Prints services and their servers as `ipvsadm -L` does.
///
/// # Errors
/// Of the writer.
pub fn print_services(
    out: &mut dyn Write,
    names: &dyn Names,
    services: &[ServiceView],
    layout: Layout,
) -> io::Result<()> {
    if let Some(slots) = layout.connection_slots {
        writeln!(out, "IP Virtual Server version 1.2.1 (size={slots})")?;
    }
    print_titles(out, layout.view)?;
    for service in sort::services(services, layout.sorted) {
        print_service(out, names, service, layout)?;
        for server in sort::servers(&service.servers, layout.sorted) {
            print_server(out, names, &service.spec, server, layout)?;
        }
    }
    Ok(())
}

/// Prints the line of `ipvsadm -L --timeout`.
///
/// # Errors
/// Of the writer.
pub fn print_timeouts(out: &mut dyn Write, timeouts: Timeouts) -> io::Result<()> {
    let Timeouts { tcp, tcp_fin, udp } = timeouts;
    writeln!(out, "Timeout (tcp tcpfin udp): {tcp} {tcp_fin} {udp}")
}

/// Prints the lines of `ipvsadm -L --daemon`.
///
/// # Errors
/// Of the writer.
pub fn print_daemons(out: &mut dyn Write, daemons: &[DaemonView]) -> io::Result<()> {
    for daemon in daemons {
        let DaemonView {
            role,
            interface,
            syncid,
            max_len_bytes,
            group,
            port,
            ttl,
        } = daemon;
        writeln!(
            out,
            "{} sync daemon (mcast={interface}, syncid={syncid}, maxlen={max_len_bytes}, \
             group={group}, port={port}, ttl={ttl})",
            role.name()
        )?;
    }
    Ok(())
}

/// Prints the local addresses of services and the connections that go by each, as `ipvsadm -G` of DPVS
/// does; it adds conflicts of ports, which here are none.
///
/// # Errors
/// Of the writer.
pub fn print_local_addresses(
    out: &mut dyn Write,
    names: &dyn Names,
    services: &[ServiceView],
    connections: &[ConnectionView],
) -> io::Result<()> {
    writeln!(
        out,
        "{:<20} {:<8} {:<24} CONNS",
        "VIP:VPORT", "TOTAL", "SNAT_IP"
    )?;
    for service in sort::services(services, true) {
        let addresses = &service.local_addresses;
        if addresses.is_empty() {
            continue;
        }
        let name = service_name(names, &service.spec.key);
        writeln!(out, "{name:<20} {:<8}", addresses.len())?;
        for address in addresses {
            let by = |c: &&ConnectionView| c.goes_by(&service.spec.key, *address);
            let conns = connections.iter().filter(by).count();
            writeln!(out, "{:<29} {:<24} {conns}", "", host(names, *address))?;
        }
    }
    Ok(())
}

/// Local addresses as text with numbers, or as JSON.
///
/// # Errors
/// Of the writer.
pub fn list_local_addresses(
    out: &mut dyn Write,
    services: &[ServiceView],
    connections: &[ConnectionView],
    json: bool,
) -> io::Result<()> {
    if json {
        return json::print(out, &json::local_addresses(services, connections));
    }
    print_local_addresses(out, &Numeric, services, connections)
}

/// The words of a service's scheduler flags; `sh` and `mh` have their own for the first two and
/// none for the third.
pub(super) fn flag_words(scheduler: &str, flags: SchedFlags) -> String {
    let words = match scheduler {
        "sh" => ["sh-fallback", "sh-port", ""],
        "mh" => ["mh-fallback", "mh-port", ""],
        _ => ["flag-1", "flag-2", "flag-3"],
    };
    let flags = [SchedFlags::FLAG_1, SchedFlags::FLAG_2, SchedFlags::FLAG_3]
        .map(|flag| flags.contains(flag));
    let given = words
        .into_iter()
        .zip(flags)
        .filter(|(word, given)| *given && !word.is_empty());
    given.map(|(word, _)| word).collect::<Vec<_>>().join(",")
}

fn print_titles(out: &mut dyn Write, view: View) -> io::Result<()> {
    const NAMES: &str = "Prot LocalAddress:Port";
    match view {
        View::Plain | View::Tunnels => writeln!(out, "{NAMES} Scheduler Flags")?,
        View::Stats => writeln!(
            out,
            "{NAMES:<33} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"
        )?,
        View::Rate => writeln!(
            out,
            "{NAMES:<33} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"
        )?,
        View::Thresholds => writeln!(
            out,
            "{NAMES:<33} {:<10} {:<10} {:<10} {:<10}",
            "Uthreshold", "Lthreshold", "ActiveConn", "InActConn"
        )?,
        View::Persistent => writeln!(
            out,
            "{NAMES:<33} {:<9} {:<11} {:<10} {:<10}",
            "Weight", "PersistConn", "ActiveConn", "InActConn"
        )?,
    }
    const SERVER: &str = "  -> RemoteAddress:Port";
    match view {
        View::Plain => writeln!(out, "{SERVER:<33} Forward Weight ActiveConn InActConn"),
        View::Tunnels => {
            writeln!(
                out,
                "{SERVER:<33} Forward TunnelInfo    Weight ActiveConn InActConn"
            )
        }
        View::Stats | View::Rate | View::Thresholds | View::Persistent => writeln!(out, "{SERVER}"),
    }
}

fn print_service(
    out: &mut dyn Write,
    names: &dyn Names,
    service: &ServiceView,
    layout: Layout,
) -> io::Result<()> {
    let name = service_name(names, &service.spec.key);
    let number = |value| Number {
        value,
        exact: layout.exact,
    };
    match layout.view {
        View::Plain | View::Tunnels | View::Thresholds | View::Persistent => {
            write!(out, "{name} ")?;
            print_settings(out, &service.spec)
        }
        View::Stats => {
            let c = &service.counters;
            write!(out, "{name:<33}")?;
            for value in [
                c.conns,
                c.in_packets,
                c.out_packets,
                c.in_bytes,
                c.out_bytes,
            ] {
                write!(out, "{}", number(value))?;
            }
            writeln!(out)
        }
        View::Rate => {
            let r = &service.rates;
            write!(out, "{name:<33}")?;
            for value in [r.cps, r.in_pps, r.out_pps, r.in_bps, r.out_bps] {
                write!(out, "{}", number(value))?;
            }
            writeln!(out)
        }
    }
}

/// The scheduler and what else a service has.
fn print_settings(out: &mut dyn Write, spec: &ServiceSpec) -> io::Result<()> {
    let scheduler = spec.scheduler.name();
    write!(out, "{scheduler}")?;
    if !spec.sched_flags.is_empty() {
        write!(out, " ({})", flag_words(scheduler, spec.sched_flags))?;
    }
    if let Some(persistence) = spec.persistence {
        write!(out, " persistent {}", persistence.timeout_secs)?;
        if let Some(mask) = mask(spec) {
            write!(out, " mask {mask}")?;
        }
        if let Some(engine) = &spec.persistence_engine {
            write!(out, " pe {engine}")?;
        }
    }
    if spec.one_packet {
        write!(out, " ops")?;
    }
    match spec.client_address {
        ClientAddress::Hidden => {}
        ClientAddress::Toa => write!(out, " toa")?,
        ClientAddress::ProxyProtocol => write!(out, " proxy-protocol")?,
    }
    writeln!(out)
}

/// The mask of a persistent service, unless it is a single host's.
pub(super) fn mask(spec: &ServiceSpec) -> Option<String> {
    match spec.key.family() {
        Family::V4 => (!spec.netmask.is_broadcast()).then(|| spec.netmask.to_string()),
        Family::V6 => (spec.prefix_len != 128).then(|| spec.prefix_len.to_string()),
    }
}

fn print_server(
    out: &mut dyn Write,
    names: &dyn Names,
    service: &ServiceSpec,
    server: &ServerView,
    layout: Layout,
) -> io::Result<()> {
    let spec = &server.spec;
    let protocol = match service.key {
        ServiceKey::Address { protocol, .. } => Some(protocol),
        ServiceKey::Mark { .. } => None,
    };
    let mut name = endpoint(names, spec.key.addr, spec.key.port, protocol);
    if spec.key.addr.is_ipv4() {
        truncate(&mut name, 28);
    }
    write!(out, "  -> {name:<28}")?;
    let (active, inactive) = (server.active, server.inactive);
    let (forward, weight) = (forwarding_name(spec.forwarding), spec.weight.get());
    let number = |value| Number {
        value,
        exact: layout.exact,
    };
    // Counts of the rate view are never shortened on a server's line.
    let plain = |value| Number { value, exact: true };
    match layout.view {
        View::Plain => writeln!(out, " {forward:<7} {weight:<6} {active:<10} {inactive:<10}"),
        View::Tunnels => {
            let tunnel = tunnel_info(spec.forwarding);
            writeln!(
                out,
                " {forward:<7} {tunnel:<13} {weight:<6} {active:<10} {inactive:<10}"
            )
        }
        View::Thresholds => {
            let (upper, lower) = (spec.upper_threshold, spec.lower_threshold);
            writeln!(out, " {upper:<10} {lower:<10} {active:<10} {inactive:<10}")
        }
        View::Persistent => {
            let templates = server.persistent;
            writeln!(
                out,
                " {weight:<9} {templates:<11} {active:<10} {inactive:<10}"
            )
        }
        View::Stats => {
            let c = &server.counters;
            for value in [
                c.conns,
                c.in_packets,
                c.out_packets,
                c.in_bytes,
                c.out_bytes,
            ] {
                write!(out, "{}", number(value))?;
            }
            writeln!(out)
        }
        View::Rate => {
            let r = &server.rates;
            for value in [r.cps, r.in_pps, r.out_pps] {
                write!(out, "{}", plain(value))?;
            }
            writeln!(out, "{}{}", number(r.in_bps), number(r.out_bps))
        }
    }
}

fn service_name(names: &dyn Names, key: &ServiceKey) -> String {
    match *key {
        ServiceKey::Address {
            protocol,
            addr,
            port,
        } => {
            let endpoint = endpoint(names, addr, port, Some(protocol));
            let mut name = format!("{:<4} {endpoint}", protocol.name());
            if addr.is_ipv4() {
                truncate(&mut name, 33);
            }
            name
        }
        // Marks are shown signed.
        ServiceKey::Mark {
            mark,
            family: Family::V4,
        } => format!("FWM  {}", mark as i32),
        ServiceKey::Mark {
            mark,
            family: Family::V6,
        } => format!("FWM  {} IPv6", mark as i32),
    }
}

fn truncate(text: &mut String, len: usize) {
    text.truncate(text.floor_char_boundary(len));
}

fn forwarding_name(forwarding: Forwarding) -> &'static str {
    match forwarding {
        Forwarding::Masquerade => "Masq",
        Forwarding::FullNat => "FullNat",
        Forwarding::Local => "Local",
        Forwarding::Tunnel(_) => "Tunnel",
        Forwarding::Route => "Route",
    }
}

fn tunnel_info(forwarding: Forwarding) -> String {
    let flag = |checksum| match checksum {
        TunnelChecksum::None => "-c",
        TunnelChecksum::Full => "+c",
        TunnelChecksum::Remote => "r+c",
    };
    match forwarding {
        Forwarding::Tunnel(Encapsulation::Ipip) => "ipip".to_owned(),
        Forwarding::Tunnel(Encapsulation::Gue { port, checksum }) => {
            format!("gue:{port}:{}", flag(checksum))
        }
        Forwarding::Tunnel(Encapsulation::Gre { checksum }) => format!("gre:{}", flag(checksum)),
        Forwarding::Masquerade | Forwarding::Route | Forwarding::Local | Forwarding::FullNat => {
            "n/a".to_owned()
        }
    }
}

/// A number in a column of nine.
struct Number {
    value: u64,
    exact: bool,
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const K: u64 = 1_000;
        const M: u64 = 1_000_000;
        const G: u64 = 1_000_000_000;
        const T: u64 = 1_000_000_000_000;
        let v = self.value;
        match v {
            _ if self.exact => write!(f, " {v:>8}"),
            0..100_000_000 => write!(f, " {v:>8}"),
            100_000_000..1_000_000_000 => write!(f, "{:>8}K", v / K),
            1_000_000_000..100_000_000_000 => write!(f, "{:>8}M", v / M),
            100_000_000_000..100_000_000_000_000 => write!(f, "{:>8}G", v / G),
            100_000_000_000_000.. => write!(f, "{:>8}T", v / T),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_shortened_unless_exact() {
        for (value, short, exact) in [
            (0, "        0", "        0"),
            (99_999_999, " 99999999", " 99999999"),
            (100_000_000, "  100000K", " 100000000"),
            (999_999_999, "  999999K", " 999999999"),
            (1_000_000_000, "    1000M", " 1000000000"),
            (99_999_999_999, "   99999M", " 99999999999"),
            (100_000_000_000, "     100G", " 100000000000"),
            (99_999_999_999_999, "   99999G", " 99999999999999"),
            (100_000_000_000_000, "     100T", " 100000000000000"),
            (u64::MAX, "18446744T", " 18446744073709551615"),
        ] {
            assert_eq!(
                Number {
                    value,
                    exact: false
                }
                .to_string(),
                short
            );
            assert_eq!(Number { value, exact: true }.to_string(), exact);
        }
    }

    #[test]
    fn schedulers_name_their_own_flags() {
        let all = SchedFlags::FLAG_1 | SchedFlags::FLAG_2 | SchedFlags::FLAG_3;
        for (scheduler, flags, words) in [
            ("rr", SchedFlags::FLAG_1, "flag-1"),
            ("rr", all, "flag-1,flag-2,flag-3"),
            ("sh", all, "sh-fallback,sh-port"),
            ("mh", SchedFlags::FLAG_2, "mh-port"),
            ("mh", SchedFlags::FLAG_3, ""),
        ] {
            assert_eq!(flag_words(scheduler, flags), words);
        }
    }
}
