//! Listings as JSON: the model's views, whole, whatever columns a listing would have.

use std::io::{self, Write};

use pointsman_model::{ServerSpec, ServiceSpec, ServiceView};
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
}

/// What rules say of services: no counts, no rates.
pub(super) fn rules(services: &[ServiceView]) -> Vec<Rule<'_>> {
    let mut rules = Vec::new();
    for service in sort::services(services, true) {
        let servers = sort::servers(&service.servers, true).into_iter();
        rules.push(Rule {
            spec: &service.spec,
            servers: servers.map(|server| &server.spec).collect(),
        });
    }
    rules
}
