//! What happened to pools, in the words of those who are told.

use pointsman_model::{Site, VirtualId};
use pointsman_notify::{Notice, Topic, keepalived};
use pointsman_pool::{CheckEvent, Event, Pools, QuorumEvent, QuorumWhy, ServerEvent, ServerWhy};
use serde_json::json;

/// The notice of an event.
pub(super) fn of(event: &Event, pools: &Pools, site: &Site, router: &str) -> Notice {
    match event {
        Event::Check(event) => check(event, pools, site, router),
        Event::Server(event) => server(event, router),
        Event::Quorum(event) => quorum(event, router),
    }
}

fn check(event: &CheckEvent, pools: &Pools, site: &Site, router: &str) -> Notice {
    let config = pools.iter().find(|pool| pool.config().id == event.id);
    let servers = config.map_or(&[][..], |pool| pool.servers());
    let server = servers
        .iter()
        .find(|server| server.config.spec.key == event.server);
    let kind = server.and_then(|server| server.checks.get(event.check));
    let kind = kind.map_or("check", |state| state.check.kind.name());
    let wanted = event.mail && (event.decided || !site.globals.no_checker_emails);
    let text = keepalived::check_text(kind, event.up, &event.reason);
    let server = server_label(&event.id, event.server);
    let label = event.id.to_string();
    Notice {
        topic: Topic::Lvs,
        letter: wanted
            .then(|| keepalived::real_letter(router, &server, &label, event.server_up, &text)),
        event: Some(json!({
            "event": "check",
            "router": router,
            "virtual_server": label,
            "real_server": server,
            "check": kind,
            "up": event.up,
            "real_server_up": event.server_up,
            "reason": event.reason,
        })),
        ..Notice::default()
    }
}

fn server(event: &ServerEvent, router: &str) -> Notice {
    let server = server_label(&event.id, event.server);
    let label = event.id.to_string();
    let text = match event.why {
        ServerWhy::Stop => "Shutting down",
        ServerWhy::Removed | ServerWhy::Start | ServerWhy::Checks => "Removing",
    };
    Notice {
        topic: Topic::Lvs,
        scripts: event.script.iter().cloned().collect(),
        line: Some(keepalived::real_line(&server, &label, event.up)),
        letter: event
            .mail
            .then(|| keepalived::real_letter(router, &server, &label, event.up, text)),
        event: Some(json!({
            "event": "real_server",
            "router": router,
            "virtual_server": label,
            "real_server": server,
            "up": event.up,
            "why": match event.why {
                ServerWhy::Start => "start",
                ServerWhy::Checks => "checks",
                ServerWhy::Removed => "removed",
                ServerWhy::Stop => "stop",
            },
        })),
    }
}

fn quorum(event: &QuorumEvent, router: &str) -> Notice {
    let label = event.id.to_string();
    let sum = format!(
        "{}+{}={} <= {}",
        event.quorum, event.hysteresis, event.threshold, event.live
    );
    let text = match (event.why, event.up) {
        (QuorumWhy::Stop, _) => "Shutting down".to_owned(),
        (QuorumWhy::Start, true) => format!("Starting with quorum up {sum}"),
        (QuorumWhy::Start, false) => format!("Starting with quorum down {sum}"),
        (QuorumWhy::Weight, true) => format!("Gained quorum {sum}"),
        (QuorumWhy::Weight, false) => format!("Lost quorum {sum}"),
    };
    Notice {
        topic: Topic::Lvs,
        scripts: event.script.iter().cloned().collect(),
        line: Some(keepalived::virtual_line(&label, event.up)),
        letter: event
            .mail
            .then(|| keepalived::virtual_letter(router, &label, event.up, &text)),
        event: Some(json!({
            "event": "virtual_server",
            "router": router,
            "virtual_server": label,
            "up": event.up,
            "quorum": event.quorum,
            "hysteresis": event.hysteresis,
            "live_weight": event.live,
        })),
    }
}

pub(super) fn server_label(id: &VirtualId, server: pointsman_model::ServerKey) -> String {
    format!(
        "[{}]:{}:{}",
        server.addr,
        pointsman_model::protocol_word(id.protocol),
        server.port
    )
}
