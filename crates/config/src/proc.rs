//! What the kernel's IPVS shows of itself in `/proc/net`, to the byte: for programs that read it
//! there.
//!
//! How it was checked: `tests/oracle/kernel.recorded` holds what the kernel showed, and the same as
//! the netlink family and `ipvsadm` told it.

use std::io::{self, Write};
use std::net::IpAddr;

use pointsman_model::{
    ConnectionView, Counters, Family, Forwarding, Protocol, Rates, ServiceKey, ServiceSpec,
    ServiceView,
};

/// Prints `/proc/net/ip_vs`, services in the order given: of a connection table with so many slots,
/// and in a kernel that counts `hz` ticks a second, since persistence is shown in ticks.
///
/// # Errors
/// Of the writer. So for every function here.
pub fn print_services(
    out: &mut dyn Write,
    services: &[ServiceView],
    connection_slots: u32,
    hz: u32,
) -> io::Result<()> {
    writeln!(
        out,
        "IP Virtual Server version 1.2.1 (size={connection_slots})"
    )?;
    writeln!(out, "Prot LocalAddress:Port Scheduler Flags")?;
    writeln!(
        out,
        "  -> RemoteAddress:Port Forward Weight ActiveConn InActConn"
    )?;
    for service in services {
        print_service(out, &service.spec, hz)?;
        for server in &service.servers {
            let key = server.spec.key;
            let forward = match server.spec.forwarding {
                Forwarding::Masquerade => "Masq",
                Forwarding::FullNat => "FullNat",
                Forwarding::Local => "Local",
                Forwarding::Tunnel(_) => "Tunnel",
                Forwarding::Route => "Route",
            };
            writeln!(
                out,
                "  -> {}:{:04X}      {forward:<7} {:<6} {:<10} {:<10}",
                bracketed(key.addr),
                key.port,
                server.spec.weight.get(),
                server.active,
                server.inactive,
            )?;
        }
    }
    Ok(())
}

fn print_service(out: &mut dyn Write, spec: &ServiceSpec, hz: u32) -> io::Result<()> {
    let scheduler = spec.scheduler.name();
    let one_packet = if spec.one_packet { "ops " } else { "" };
    match spec.key {
        ServiceKey::Address {
            protocol,
            addr,
            port,
        } => {
            let (protocol, addr) = (protocol.name(), bracketed(addr));
            write!(out, "{protocol}  {addr}:{port:04X} {scheduler} ")?;
            if spec.key.family() == Family::V4 {
                write!(out, "{one_packet} ")?;
            }
        }
        ServiceKey::Mark { mark, .. } => {
            write!(out, "FWM  {mark:08X} {scheduler} {one_packet}")?;
        }
    }
    if let Some(persistence) = spec.persistence {
        let ticks = u64::from(persistence.timeout_secs.get()) * u64::from(hz);
        // The kernel takes a prefix length for a mask in network order.
        let mask = match spec.key.family() {
            Family::V4 => spec.netmask.to_bits(),
            Family::V6 => u32::from(spec.prefix_len).swap_bytes(),
        };
        write!(out, "persistent {ticks} {mask:08X}")?;
    }
    writeln!(out)
}

/// Prints `/proc/net/ip_vs_conn`.
///
/// # Errors
/// Of the writer.
pub fn print_connections(out: &mut dyn Write, connections: &[ConnectionView]) -> io::Result<()> {
    const TITLE: &str = "State       Expires PEName PEData";
    print_connections_with(out, connections, TITLE, |out, connection| {
        write!(out, "{:>7}", connection.expires_secs)?;
        match &connection.engine {
            Some(engine) => write!(out, " {} {}", engine.name, engine.data),
            None => Ok(()),
        }
    })
}

/// Prints `/proc/net/ip_vs_conn_sync`: the same with where a connection was learned.
///
/// # Errors
/// Of the writer.
pub fn print_connections_sync(
    out: &mut dyn Write,
    connections: &[ConnectionView],
) -> io::Result<()> {
    const TITLE: &str = "State       Origin Expires";
    print_connections_with(out, connections, TITLE, |out, connection| {
        let origin = if connection.synced { "SYNC" } else { "LOCAL" };
        write!(out, "{origin:<6} {:>7}", connection.expires_secs)
    })
}

fn print_connections_with(
    out: &mut dyn Write,
    connections: &[ConnectionView],
    title: &str,
    end: impl Fn(&mut dyn Write, &ConnectionView) -> io::Result<()>,
) -> io::Result<()> {
    writeln!(out, "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt {title}")?;
    for connection in connections {
        let protocol = connection.protocol.map_or("IP", Protocol::name);
        write!(out, "{protocol:<3}")?;
        for socket in [
            connection.client,
            connection.virtual_addr,
            connection.destination,
        ] {
            write!(out, " {} {:04X}", plain(socket.ip()), socket.port())?;
        }
        write!(out, " {:<11} ", connection.state.name())?;
        end(out, connection)?;
        writeln!(out)?;
    }
    Ok(())
}

/// Prints `/proc/net/ip_vs_stats`.
///
/// # Errors
/// Of the writer.
pub fn print_stats(out: &mut dyn Write, totals: Counters, rates: Rates) -> io::Result<()> {
    writeln!(
        out,
        "   Total Incoming Outgoing         Incoming         Outgoing"
    )?;
    writeln!(
        out,
        "   Conns  Packets  Packets            Bytes            Bytes"
    )?;
    writeln!(out, "{}\n", row(of_counters(totals)))?;
    writeln!(
        out,
        " Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s"
    )?;
    writeln!(out, "{}", row(of_rates(rates)))
}

/// Prints `/proc/net/ip_vs_stats_percpu`: what each CPU ever counted, which nothing zeroes, and below
/// it the totals of [`print_stats`].
///
/// # Errors
/// Of the writer.
pub fn print_stats_percpu(
    out: &mut dyn Write,
    cpus: &[Counters],
    totals: Counters,
    rates: Rates,
) -> io::Result<()> {
    writeln!(
        out,
        "       Total Incoming Outgoing         Incoming         Outgoing"
    )?;
    writeln!(
        out,
        "CPU    Conns  Packets  Packets            Bytes            Bytes"
    )?;
    for (cpu, counters) in cpus.iter().enumerate() {
        writeln!(out, "{cpu:3X} {}", row(of_counters(*counters)))?;
    }
    writeln!(out, "  ~ {}\n", row(of_counters(totals)))?;
    writeln!(
        out,
        "     Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s"
    )?;
    writeln!(out, "    {}", row(of_rates(rates)))
}

fn of_counters(c: Counters) -> [u64; 5] {
    [
        c.conns,
        c.in_packets,
        c.out_packets,
        c.in_bytes,
        c.out_bytes,
    ]
}

fn of_rates(r: Rates) -> [u64; 5] {
    [r.cps, r.in_pps, r.out_pps, r.in_bps, r.out_bps]
}

fn row([conns, in_packets, out_packets, in_bytes, out_bytes]: [u64; 5]) -> String {
    format!("{conns:8X} {in_packets:8X} {out_packets:8X} {in_bytes:16X} {out_bytes:16X}")
}

fn bracketed(addr: IpAddr) -> String {
    match addr {
        IpAddr::V4(_) => plain(addr),
        IpAddr::V6(_) => format!("[{}]", plain(addr)),
    }
}

/// IPv4 as one number; IPv6 in full, nothing left out.
fn plain(addr: IpAddr) -> String {
    match addr {
        IpAddr::V4(v4) => format!("{:08X}", v4.to_bits()),
        IpAddr::V6(v6) => v6.segments().map(|group| format!("{group:04x}")).join(":"),
    }
}
