use std::io::{self, Write};

use pointsman_model::{
    ClientAddress, Encapsulation, Family, Forwarding, Protocol, SchedFlags, ServerView, ServiceKey,
    ServiceSpec, ServiceView, TunnelChecksum,
};

use super::listing::{flag_words, mask};
use super::names::{Names, endpoint, host};
use super::sort;

/// Prints services and servers as rules that restore them, sorted as a listing, as `ipvsadm -S`
/// does.
///
/// Two things the original writes cannot be restored, by itself or by anyone, and are written
/// readably instead: marks from 2^31 up (it writes them negative) and flag-3 of `sh` and `mh` (it
/// writes no word).
///
/// # Errors
/// Of the writer.
pub fn print_rules(
    out: &mut dyn Write,
    names: &dyn Names,
    services: &[ServiceView],
) -> io::Result<()> {
    for service in sort::services(services, true) {
        let key = service_words(names, &service.spec.key);
        print_service(out, &key, &service.spec)?;
        for address in &service.local_addresses {
            let name = host(names, *address);
            writeln!(out, "-P {key} -z {name}")?;
        }
        for server in sort::servers(&service.servers, true) {
            print_server(out, names, &key, &service.spec.key, server)?;
        }
    }
    Ok(())
}

/// The words of one line of a rule file. There is no quoting; words that name the tool itself are
/// skipped.
pub fn split_line(line: &str) -> Vec<String> {
    line.split([' ', '\t', '\n'])
        .filter(|word| !word.is_empty() && *word != "ipvsadm")
        .map(str::to_owned)
        .collect()
}

fn service_words(names: &dyn Names, key: &ServiceKey) -> String {
    match *key {
        ServiceKey::Address {
            protocol,
            addr,
            port,
        } => {
            let option = match protocol {
                Protocol::Tcp => "-t",
                Protocol::Udp => "-u",
                Protocol::Sctp => "--sctp-service",
            };
            format!("{option} {}", endpoint(names, addr, port, Some(protocol)))
        }
        ServiceKey::Mark {
            mark,
            family: Family::V4,
        } => format!("-f {mark}"),
        ServiceKey::Mark {
            mark,
            family: Family::V6,
        } => format!("-f {mark} -6"),
    }
}

fn print_service(out: &mut dyn Write, key: &str, spec: &ServiceSpec) -> io::Result<()> {
    let scheduler = spec.scheduler.name();
    write!(out, "-A {key} -s {scheduler}")?;
    if let Some(persistence) = spec.persistence {
        write!(out, " -p {}", persistence.timeout_secs)?;
        if let Some(mask) = mask(spec) {
            write!(out, " -M {mask}")?;
        }
        if let Some(engine) = &spec.persistence_engine {
            write!(out, " --pe {engine}")?;
        }
    }
    if spec.one_packet {
        write!(out, " -o")?;
    }
    match spec.client_address {
        ClientAddress::Hidden => {}
        ClientAddress::Toa => write!(out, " --toa")?,
        ClientAddress::ProxyProtocol => write!(out, " --proxy-protocol")?,
    }
    if !spec.sched_flags.is_empty() {
        let mut words = flag_words(scheduler, spec.sched_flags);
        // What sh and mh have no word for is to come back too.
        if spec.sched_flags.contains(SchedFlags::FLAG_3) && !words.ends_with("flag-3") {
            words += if words.is_empty() {
                "flag-3"
            } else {
                ",flag-3"
            };
        }
        write!(out, " -b {words}")?;
    }
    writeln!(out)
}

fn print_server(
    out: &mut dyn Write,
    names: &dyn Names,
    key: &str,
    service: &ServiceKey,
    server: &ServerView,
) -> io::Result<()> {
    let spec = &server.spec;
    let protocol = match *service {
        ServiceKey::Address { protocol, .. } => Some(protocol),
        ServiceKey::Mark { .. } => None,
    };
    let name = endpoint(names, spec.key.addr, spec.key.port, protocol);
    let method = match spec.forwarding {
        Forwarding::Masquerade => "-m",
        Forwarding::FullNat => "--fullnat",
        Forwarding::Tunnel(_) => "-i",
        // A local server has no option of its own; the kernel's default leads there too.
        Forwarding::Route | Forwarding::Local => "-g",
    };
    write!(out, "-a {key} -r {name} {method} -w {}", spec.weight.get())?;
    if let Forwarding::Tunnel(encapsulation) = spec.forwarding {
        write!(out, " {}", tunnel_words(encapsulation))?;
    }
    writeln!(out)
}

fn tunnel_words(encapsulation: Encapsulation) -> String {
    let option = |checksum| match checksum {
        TunnelChecksum::None => "--tun-nocsum",
        TunnelChecksum::Full => "--tun-csum",
        TunnelChecksum::Remote => "--tun-remcsum",
    };
    match encapsulation {
        Encapsulation::Ipip => "--tun-type ipip".to_owned(),
        Encapsulation::Gue { port, checksum } => {
            format!("--tun-type gue --tun-port {port} {}", option(checksum))
        }
        Encapsulation::Gre { checksum } => format!("--tun-type gre {}", option(checksum)),
    }
}
