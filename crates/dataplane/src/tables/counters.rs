//! Totals and rates: what the programs count, what was zeroed, what removed servers left.

use pointsman_core::layout::{DROP_SLOTS, MAX_SERVERS, MAX_SERVICES, Stats};
use pointsman_model::{Counters, Handshakes};

use super::maps::{Ledger, Maps};

/// Everything the programs ever counted for a server.
pub(crate) fn raw(maps: &Maps, server: u32) -> Counters {
    let mut sum = Counters::default();
    for cpu in 0..maps.cpus() {
        if let Some(stats) = maps.stats.read(cpu * MAX_SERVERS + server) {
            sum = sum.plus(of_stats(&stats));
        }
    }
    sum
}

/// What became of a server's handshakes. What came since the last completed one is summed over CPUs that
/// each know of their own only: at most too much, by what others completed meanwhile.
pub(crate) fn handshakes(maps: &Maps, server: u32) -> Handshakes {
    let mut sum = Handshakes::default();
    for cpu in 0..maps.cpus() {
        let Some(stats) = maps.stats.read(cpu * MAX_SERVERS + server) else {
            continue;
        };
        let of_cpu = stats.handshakes;
        for (total, part) in [
            (&mut sum.begun, of_cpu.begun),
            (&mut sum.answered, of_cpu.answered),
            (&mut sum.refused, of_cpu.refused),
            (
                &mut sum.begun_since,
                of_cpu.begun.wrapping_sub(of_cpu.begun_then),
            ),
            (
                &mut sum.refused_since,
                of_cpu.refused.wrapping_sub(of_cpu.refused_then),
            ),
            (&mut sum.waited, of_cpu.waited),
        ] {
            *total = total.wrapping_add(part);
        }
    }
    sum
}

/// Everything each CPU ever counted.
pub(crate) fn per_cpu(maps: &Maps) -> Vec<Counters> {
    let of_cpu = |cpu| {
        (0..MAX_SERVERS)
            .filter_map(|server| maps.stats.read(cpu * MAX_SERVERS + server))
            .fold(Counters::default(), |sum, stats| sum.plus(of_stats(&stats)))
    };
    (0..maps.cpus()).map(of_cpu).collect()
}

/// A server's totals since it was added or zeroed.
pub(crate) fn of_server(maps: &Maps, server: u32) -> Counters {
    raw(maps, server).since(zero(maps, server))
}

/// The zero point at a place of the ledger.
pub(crate) fn zero(maps: &Maps, at: u32) -> Counters {
    maps.ledger
        .read(at)
        .map(|l| of_array(l.zero))
        .unwrap_or_default()
}

/// Sets the zero point at a place of the ledger.
pub(crate) fn set_zero(maps: &Maps, at: u32, totals: Counters) {
    update(maps, at, |l| l.zero = to_array(totals));
}

/// The place of what no service counts any more, among services.
pub(crate) const NO_SERVICE: u32 = MAX_SERVICES;

/// What removed servers left to a service, or removed services to none.
pub(crate) fn folded(maps: &Maps, service: u32) -> Counters {
    maps.ledger
        .read(MAX_SERVERS + service)
        .map(|l| of_array(l.folded))
        .unwrap_or_default()
}

/// Sets what removed servers left to a service, or removed services to none.
pub(crate) fn set_folded(maps: &Maps, service: u32, totals: Counters) {
    update(maps, MAX_SERVERS + service, |l| l.folded = to_array(totals));
}

/// Packets counted at a place of the drop counters, over all CPUs.
pub(crate) fn drops(maps: &Maps, slot: u32) -> u64 {
    let cpus = maps.drops.len() / DROP_SLOTS;
    (0..cpus)
        .filter_map(|cpu| maps.drops.read(cpu * DROP_SLOTS + slot))
        .sum()
}

fn update(maps: &Maps, at: u32, change: impl FnOnce(&mut Ledger)) {
    if let Some(mut entry) = maps.ledger.read(at) {
        change(&mut entry);
        maps.ledger.write(at, entry);
    }
}

fn of_stats(stats: &Stats) -> Counters {
    Counters {
        conns: stats.conns,
        in_packets: stats.in_packets,
        out_packets: stats.out_packets,
        in_bytes: stats.in_bytes,
        out_bytes: stats.out_bytes,
    }
}

fn to_array(c: Counters) -> [u64; 5] {
    [
        c.conns,
        c.in_packets,
        c.out_packets,
        c.in_bytes,
        c.out_bytes,
    ]
}

fn of_array([conns, in_packets, out_packets, in_bytes, out_bytes]: [u64; 5]) -> Counters {
    Counters {
        conns,
        in_packets,
        out_packets,
        in_bytes,
        out_bytes,
    }
}
