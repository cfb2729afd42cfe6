//! What the director tells of itself.

use std::net::IpAddr;

use pointsman_api::{DropCount, NextHopStatus, Status, TableStatus, Totals};

use super::{Director, TABLE_FULL, discovery, is_own};
use crate::next_hops::{Route, ServerState};

impl Director {
    /// Namespace totals.
    pub fn totals(&mut self) -> Totals {
        let tables = self.dataplane.tables();
        let (counters, rates) = tables.totals();
        Totals {
            counters,
            rates,
            per_cpu: tables.per_cpu(),
        }
    }

    /// Lost packets by reason.
    pub fn drops(&self, all: bool) -> Vec<DropCount> {
        let drops = self.dataplane.drops(all).into_iter();
        drops
            .map(|d| DropCount {
                name: d.name,
                meaning: d.meaning,
                packets: d.packets,
            })
            .collect()
    }

    /// State for `director status`.
    pub fn status(&mut self) -> Status {
        let warnings = self.warnings();
        let tables = self.dataplane.tables();
        let services = tables.services();
        let connection_slots = tables.connection_slots();
        let evictions = tables.evictions();
        let clients_untold = tables.clients_untold();
        let (fragments_held, errors_untold) = (tables.fragments_held(), tables.errors_untold());
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            netns_cookie: self.cookie,
            uptime_secs: self.started.elapsed().as_secs(),
            adopted: self.dataplane.adopted(),
            tables: TableStatus {
                services: count(services.len()),
                servers: count(services.iter().map(|service| service.servers.len()).sum()),
                connections: self.live,
                connection_slots,
                evictions,
                fragments_held,
                errors_untold,
                clients_untold,
            },
            interfaces: self.links.status(&self.dataplane.attachments()),
            next_hops: self
                .hops
                .servers()
                .map(|(rip, state)| self.next_hop(rip, state))
                .collect(),
            drops: self.drops(false),
            warnings,
        }
    }

    fn next_hop(&self, server: IpAddr, state: &ServerState) -> NextHopStatus {
        let neighbour = self.hops.neighbour_of(server).map(|n| n.state.to_string());
        let mut status = NextHopStatus {
            server,
            gateway: None,
            interface: None,
            source: None,
            neighbour,
            problem: None,
        };
        match &state.route {
            None => status.problem = Some("its route is being looked up".to_owned()),
            Some(Err(no_route)) => status.problem = Some(no_route.reason.clone()),
            Some(Ok(Route {
                index,
                gateway,
                source,
                ..
            })) => {
                status.gateway = *gateway;
                status.interface = self.links.name(*index).map(str::to_owned);
                status.source = *source;
                if state.dead == Some(true) {
                    let next_hop = gateway.unwrap_or(server);
                    let asked = discovery(next_hop);
                    status.problem = Some(format!("{next_hop} does not answer {asked}"));
                } else if self.table_full && self.hops.is_missing(server) {
                    status.problem = Some(TABLE_FULL.to_owned());
                }
            }
        }
        status
    }

    /// What keeps services from working, for the operator to see to.
    fn warnings(&mut self) -> Vec<String> {
        let mut warnings: Vec<_> = self.marks_problem.clone().into_iter().collect();
        for (family, on, sysctl) in crate::sysctl::forwarding() {
            if !on && self.marks().any(|(of, _)| of == family) {
                warnings.push(format!(
                    "{sysctl} is 0: netfilter's marks reach no firewall-mark service (marks of \
                     `pointsman mark` do)"
                ));
            }
        }
        let foreign = self.dataplane.tables().local_addresses();
        warnings.extend(foreign.filter(|(_, address)| !is_own(*address)).map(
            |(service, address)| {
                format!(
                    "{service}: the local address {address} is on no interface: replies by \
                         FULLNAT do not come back to it; add it where real servers can reach it"
                )
            },
        ));
        warnings
    }
}
