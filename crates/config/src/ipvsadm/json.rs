//! Listings as JSON: the model's views, whole, whatever columns a listing would have.

use std::io::{self, Write};
use std::net::IpAddr;

use pointsman_model::{ConnectionView, ServerSpec, ServiceKey, ServiceSpec, ServiceView};
use serde::Serialize;

use super::sort;

/// Prints a value and ends the line.
pub(super) fn print(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

/// Services in the order of a listing, each with its servers in that order.
pub(super) fn services(services: &[ServiceView], sorted: bool) -> Vec<ServiceView> {
    let ordered = |service: &ServiceView| ServiceView {
        servers: sort::servers(&service.servers, sorted)
            .into_iter()
            .cloned()
            .collect(),
        ..service.clone()
    };
    sort::services(services, sorted)
        .into_iter()
        .map(ordered)
        .collect()
}

/// A service as rules state it.
#[derive(Serialize)]
pub(super) struct Rule<'a> {
    #[serde(flatten)]
    spec: &'a ServiceSpec,
    servers: Vec<&'a ServerSpec>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    local_addresses: &'a [IpAddr],
}

/// What rules say of services: no counts, no rates.
pub(super) fn rules(services: &[ServiceView]) -> Vec<Rule<'_>> {
    let mut rules = Vec::new();
    for service in sort::services(services, true) {
        let servers = sort::servers(&service.servers, true).into_iter();
        rules.push(Rule {
            spec: &service.spec,
            servers: servers.map(|server| &server.spec).collect(),
            local_addresses: &service.local_addresses,
        });
    }
    rules
}

/// A local address of a service and its connections.
#[derive(Serialize)]
pub(super) struct LocalAddress {
    service: ServiceKey,
    address: IpAddr,
    connections: usize,
}

/// Local addresses of services, in the order of a listing.
pub(super) fn local_addresses(
    services: &[ServiceView],
    connections: &[ConnectionView],
) -> Vec<LocalAddress> {
    let of = |service: &ServiceView, address: IpAddr| LocalAddress {
        service: service.spec.key,
        address,
        connections: connections
            .iter()
            .filter(|c| c.goes_by(&service.spec.key, address))
            .count(),
    };
    sort::services(services, true)
        .into_iter()
        .flat_map(|service| service.local_addresses.iter().map(|a| of(service, *a)))
        .collect()
}
