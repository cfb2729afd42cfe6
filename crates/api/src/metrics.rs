//! Everything that is counted, as Prometheus reads it.

use pointsman_model::vrrp::{VrrpInstanceView, VrrpState};
use pointsman_model::{Counters, ServiceView};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::{DropCount, LdirectordView, SiteView, Status, Totals, VirtualServerView};

type Labels = Vec<(&'static str, String)>;
type Counts = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge>;

/// What metrics are made of.
pub(crate) struct Sources {
    pub status: Status,
    pub totals: Totals,
    pub drops: Vec<DropCount>,
    pub services: Vec<ServiceView>,
    pub site: Option<SiteView>,
    pub ldirectords: Vec<LdirectordView>,
}

/// The text of a scrape.
pub(crate) fn text(sources: &Sources) -> String {
    let mut registry = Registry::with_prefix("pointsman");
    director(&mut registry, sources);
    services(&mut registry, &sources.services);
    let site = sources.site.iter().map(|site| &site.virtual_servers);
    let ldirectords = sources.ldirectords.iter().map(|told| &told.virtual_servers);
    pools(&mut registry, site.chain(ldirectords).flatten());
    told(&mut registry, &sources.ldirectords);
    if let Some(site) = &sources.site {
        checking(&mut registry, site);
        vrrp(&mut registry, site);
    }
    let mut text = String::new();
    if encode(&mut text, &registry).is_err() {
        // Writing to a String does not fail; half a page must not look like a whole one.
        text.clear();
    }
    text
}

/// A family that is filled and registered in one go.
struct Metrics<'a>(&'a mut Registry);

impl Metrics<'_> {
    fn counts(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Counts::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
        }
        self.0.register(name, help, family);
    }

    fn gauges(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Gauges::default();
        for (labels, value) in values {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            family.get_or_create(&labels).set(value);
        }
        self.0.register(name, help, family);
    }
}

fn director(registry: &mut Registry, sources: &Sources) {
    let mut metrics = Metrics(registry);
    let tables = &sources.status.tables;
    let plain = |value: u64| [(Labels::new(), value)];
    metrics.gauges(
        "uptime_seconds",
        "Since the director started",
        plain(sources.status.uptime_secs),
    );
    metrics.gauges(
        "connections",
        "Live connections at the last sweep",
        plain(tables.connections.into()),
    );
    metrics.gauges(
        "connection_slots",
        "Slots of the connection table",
        plain(tables.connection_slots.into()),
    );
    metrics.counts(
        "evictions",
        "Connections that gave their slot to a new one before they lapsed",
        plain(tables.evictions),
    );
    metrics.gauges(
        "warnings",
        "Warnings of the director that an operator should see to",
        plain(sources.status.warnings.len() as u64),
    );
    let drops = sources.drops.iter();
    metrics.counts(
        "dropped_packets",
        "Lost packets by reason",
        drops.map(|drop| (vec![("reason", drop.name.clone())], drop.packets)),
    );
    let directions = traffic(&sources.totals.counters, &Labels::new());
    metrics.counts("packets", "Packets balanced", directions.packets);
    metrics.counts("bytes", "Bytes balanced", directions.bytes);
    metrics.counts(
        "new_connections",
        "Connections balanced",
        plain(sources.totals.counters.conns),
    );
}

struct Traffic {
    packets: [(Labels, u64); 2],
    bytes: [(Labels, u64); 2],
}

fn traffic(counters: &Counters, labels: &Labels) -> Traffic {
    let with = |direction: &str| {
        let mut labels = labels.clone();
        labels.push(("direction", direction.to_owned()));
        labels
    };
    Traffic {
        packets: [
            (with("request"), counters.in_packets),
            (with("reply"), counters.out_packets),
        ],
        bytes: [
            (with("request"), counters.in_bytes),
            (with("reply"), counters.out_bytes),
        ],
    }
}

fn services(registry: &mut Registry, services: &[ServiceView]) {
    let mut metrics = Metrics(registry);
    let mut packets = Vec::new();
    let mut bytes = Vec::new();
    let mut connections = Vec::new();
    let mut server_connections = Vec::new();
    let mut active = Vec::new();
    let mut inactive = Vec::new();
    let mut weights = Vec::new();
    for service in services {
        let labels = vec![("service", service.spec.key.to_string())];
        let traffic = traffic(&service.counters, &labels);
        packets.extend(traffic.packets);
        bytes.extend(traffic.bytes);
        connections.push((labels.clone(), service.counters.conns));
        for server in &service.servers {
            let mut labels = labels.clone();
            labels.push(("server", server_name(server.spec.key)));
            server_connections.push((labels.clone(), server.counters.conns));
            active.push((labels.clone(), server.active.into()));
            inactive.push((labels.clone(), server.inactive.into()));
            weights.push((labels, server.spec.weight.get().into()));
        }
    }
    metrics.counts("service_packets", "Packets of a service", packets);
    metrics.counts("service_bytes", "Bytes of a service", bytes);
    metrics.counts(
        "service_new_connections",
        "Connections of a service",
        connections,
    );
    metrics.counts(
        "server_new_connections",
        "Connections that a real server got",
        server_connections,
    );
    metrics.gauges(
        "server_active_connections",
        "Connections of a real server in an active state",
        active,
    );
    metrics.gauges(
        "server_inactive_connections",
        "Other connections of a real server",
        inactive,
    );
    metrics.gauges(
        "server_weight",
        "Weight of a real server in the table",
        weights,
    );
}

fn pools<'a>(registry: &mut Registry, pools: impl Iterator<Item = &'a VirtualServerView>) {
    let mut up = Vec::new();
    let mut live = Vec::new();
    let mut sorry = Vec::new();
    let mut server_up = Vec::new();
    let mut server_since = Vec::new();
    let mut check_up = Vec::new();
    let mut probes = Vec::new();
    let mut failures = Vec::new();
    for pool in pools {
        let labels = vec![("virtual_server", pool.name.clone())];
        up.push((labels.clone(), pool.up.into()));
        live.push((labels.clone(), pool.live_weight));
        sorry.push((labels.clone(), pool.sorry_in_use.into()));
        for server in &pool.real_servers {
            let mut labels = labels.clone();
            labels.push(("server", server_name(server.server)));
            server_up.push((labels.clone(), server.up.into()));
            server_since.push((labels.clone(), server.since));
            for (number, check) in server.checks.iter().enumerate() {
                let mut labels = labels.clone();
                labels.push(("check", check.kind.clone()));
                labels.push(("number", number.to_string()));
                check_up.push((labels.clone(), check.up.into()));
                probes.push((labels.clone(), check.probes));
                failures.push((labels, check.failures));
            }
        }
    }
    let mut metrics = Metrics(registry);
    metrics.gauges(
        "virtual_server_up",
        "Whether a virtual server has its quorum",
        up,
    );
    metrics.gauges(
        "virtual_server_live_weight",
        "Weight of live real servers",
        live,
    );
    metrics.gauges(
        "sorry_server_in_use",
        "Whether the sorry server stands in for the pool",
        sorry,
    );
    metrics.gauges(
        "real_server_up",
        "Whether its checks let a real server take part",
        server_up,
    );
    metrics.gauges(
        "real_server_since_seconds",
        "When that last changed, in Unix seconds",
        server_since,
    );
    metrics.gauges("check_up", "What a check says", check_up);
    metrics.counts("check_probes", "Probes of a check", probes);
    metrics.counts("check_failures", "Probes of a check that failed", failures);
}

/// When each ldirectord told its part of the above.
fn told(registry: &mut Registry, ldirectords: &[LdirectordView]) {
    let told = ldirectords.iter().map(|told| {
        let labels = vec![("file", told.file.clone())];
        (labels, told.told_at)
    });
    Metrics(registry).gauges(
        "ldirectord_told_seconds",
        "When an ldirectord last told of its servers, in Unix seconds",
        told,
    );
}

fn checking(registry: &mut Registry, site: &SiteView) {
    let mut metrics = Metrics(registry);
    let plain = |value: u64| [(Labels::new(), value)];
    metrics.counts(
        "late_probes",
        "Probes begun later than due by more than 5 % of their interval",
        plain(site.probes.late),
    );
    metrics.counts(
        "checker_restarts",
        "Checkers made anew after they hung or panicked",
        plain(site.probes.restarts),
    );
    metrics.counts(
        "repairs",
        "Changes of the table by others that were undone",
        plain(site.repairs),
    );
    let lost = &site.lost;
    metrics.counts(
        "lost_notifications",
        "Notifications that did not fit",
        [
            ("script", lost.scripts),
            ("fifo", lost.lines),
            ("mail", lost.letters),
            ("webhook", lost.events),
        ]
        .map(|(kind, count)| (vec![("kind", kind.to_owned())], count)),
    );
    metrics.gauges(
        "reload_refused",
        "Whether the last reload was refused",
        plain(site.refused.is_some().into()),
    );
}

fn vrrp(registry: &mut Registry, site: &SiteView) {
    let mut metrics = Metrics(registry);
    let instances = &site.vrrp.instances;
    let each = |value: fn(&VrrpInstanceView) -> u64| {
        let values = instances.iter().map(move |instance| {
            let name = instance.name.clone();
            (vec![("instance", name)], value(instance))
        });
        values.collect::<Vec<_>>()
    };
    let states = instances.iter().flat_map(|instance| {
        let all = [
            VrrpState::Init,
            VrrpState::Backup,
            VrrpState::Master,
            VrrpState::Fault,
        ];
        all.map(|state| {
            let name = instance.name.clone();
            let labels = vec![("instance", name), ("state", state.name().to_owned())];
            (labels, u64::from(instance.state == state))
        })
    });
    metrics.gauges(
        "vrrp_state",
        "State of a VRRP instance: 1 for the one it is in",
        states.collect::<Vec<_>>(),
    );
    metrics.gauges(
        "vrrp_priority",
        "Effective priority",
        each(|instance| instance.effective_priority.into()),
    );
    metrics.counts(
        "vrrp_adverts_received",
        "Adverts that passed the checks",
        each(|instance| instance.counters.advert_rcvd),
    );
    metrics.counts(
        "vrrp_adverts_sent",
        "Adverts sent",
        each(|instance| instance.counters.advert_sent),
    );
    metrics.counts(
        "vrrp_became_master",
        "Times an instance became master",
        each(|instance| instance.counters.become_master),
    );
    let refused = instances.iter().flat_map(|instance| {
        let c = &instance.counters;
        [
            ("length", c.packet_len_err),
            ("interval", c.advert_interval_err),
            ("ttl", c.ip_ttl_err),
            ("type", c.invalid_type_rcvd),
            ("addresses", c.addr_list_err),
            (
                "authentication",
                c.invalid_authtype + c.authtype_mismatch + c.auth_failure,
            ),
            ("checksum", c.checksum_err),
            ("version", c.version_err),
            ("peer", c.peer_err),
            (
                "trailer",
                c.auth_ext_missing
                    + c.auth_ext_malformed
                    + c.auth_ext_unknown_key
                    + c.auth_ext_invalid_hmac
                    + c.auth_ext_stale
                    + c.auth_ext_replay,
            ),
        ]
        .map(|(reason, count)| {
            let name = instance.name.clone();
            let labels = vec![("instance", name), ("reason", reason.to_owned())];
            (labels, count)
        })
    });
    metrics.counts(
        "vrrp_adverts_refused",
        "Adverts that did not pass the checks, by reason",
        refused.collect::<Vec<_>>(),
    );
}

fn server_name(server: pointsman_model::ServerKey) -> String {
    std::net::SocketAddr::new(server.addr, server.port).to_string()
}
