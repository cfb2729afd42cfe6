use std::collections::HashSet;

use pointsman_model::check::{CheckKind, HttpCheck, HttpUrl, RegexOption, TlsOptions, UdpCheck};
use pointsman_model::{
    Check, ClientAddress, Encapsulation, Family, Forwarding, PoolServer, SchedFlags, ServiceKey,
    TunnelChecksum, VirtualName, VirtualServer,
};

use super::super::checker::DNS_RECORDS;
use super::super::http::PROTOCOLS;
use super::{Writer, quoted, word};

pub fn write(out: &mut Writer, servers: &[VirtualServer]) {
    tls(out, servers);
    let mut groups = HashSet::new();
    for server in servers {
        if let VirtualName::Group(name) = &server.id.name
            && groups.insert(name)
        {
            group(out, name, &server.keys);
        }
    }
    for server in servers {
        virtual_server(out, server);
    }
}

/// One `SSL` block serves all checks.
fn tls(out: &mut Writer, servers: &[VirtualServer]) {
    let checks = servers
        .iter()
        .flat_map(|v| &v.servers)
        .flat_map(|s| &s.checks);
    let tls = checks.filter_map(|check| match &check.kind {
        CheckKind::Http(http) => http.tls.as_ref(),
        _ => None,
    });
    let has_files = |t: &&TlsOptions| t.ca.is_some() || t.certificate.is_some() || t.key.is_some();
    if let Some(tls) = tls.into_iter().find(has_files) {
        out.block("SSL", |out| {
            let file = |path: &Option<std::path::PathBuf>| {
                path.as_ref().map(|path| word(&path.to_string_lossy()))
            };
            out.value(
                "password",
                tls.key_password.as_ref().map(|p| word(p.reveal())),
            );
            out.value("ca", file(&tls.ca));
            out.value("certificate", file(&tls.certificate));
            out.value("key", file(&tls.key));
        });
    }
}

fn group(out: &mut Writer, name: &str, keys: &[ServiceKey]) {
    out.block(format_args!("virtual_server_group {}", word(name)), |out| {
        for key in keys {
            match key {
                ServiceKey::Address { addr, port, .. } => out.line(format_args!("{addr} {port}")),
                ServiceKey::Mark { mark, family } => {
                    out.line(format_args!("fwmark {mark} {}", inet(*family)));
                }
            }
        }
    });
}

fn inet(family: Family) -> &'static str {
    match family {
        Family::V4 => "inet",
        Family::V6 => "inet6",
    }
}

fn virtual_server(out: &mut Writer, server: &VirtualServer) {
    let name = match &server.id.name {
        VirtualName::Address { addr, port } => format!("{addr} {port}"),
        VirtualName::Mark(mark) => format!("fwmark {mark}"),
        VirtualName::Group(name) => format!("group {}", word(name)),
    };
    out.block(format_args!("virtual_server {name}"), |out| {
        out.value("protocol", server.id.protocol.map(|p| p.name()));
        if let (VirtualName::Mark(_), Some(key)) = (&server.id.name, server.keys.first()) {
            out.line(format_args!("ip_family {}", inet(key.family())));
        }
        out.value("lb_algo", Some(server.scheduler));
        out.flag("flag-1", server.sched_flags.contains(SchedFlags::FLAG_1));
        out.flag("flag-2", server.sched_flags.contains(SchedFlags::FLAG_2));
        out.flag("flag-3", server.sched_flags.contains(SchedFlags::FLAG_3));
        out.flag("ops", server.one_packet);
        out.value(
            "persistence_timeout",
            server.persistence.map(|p| p.timeout_secs),
        );
        if server.netmask != std::net::Ipv4Addr::BROADCAST {
            out.value("persistence_granularity", Some(server.netmask));
        }
        if server.prefix_len != 128 {
            out.value("persistence_granularity", Some(server.prefix_len));
        }
        for address in &server.local_addresses {
            out.value("local_address", Some(address));
        }
        match server.client_address {
            ClientAddress::Hidden => {}
            ClientAddress::Toa => out.flag("toa", true),
            ClientAddress::ProxyProtocol => out.line(format_args!("proxy_protocol v2")),
        }
        out.word("persistence_engine", server.persistence_engine.as_deref());
        out.value("quorum", Some(server.quorum));
        out.value("hysteresis", Some(server.hysteresis));
        out.script("quorum_up", server.quorum_up.as_ref());
        out.script("quorum_down", server.quorum_down.as_ref());
        out.flag("alpha", server.alpha);
        out.flag("omega", server.omega);
        out.flag("ha_suspend", server.ha_suspend);
        out.boolean("smtp_alert", server.smtp_alert);
        if let Some(sorry) = &server.sorry_server {
            out.line(format_args!("sorry_server {}", endpoint(&sorry.key)));
            out.value("sorry_server_lvs_method", Some(method(sorry.forwarding)));
            out.flag("sorry_server_inhibit", sorry.inhibit);
        }
        server
            .servers
            .iter()
            .for_each(|real| real_server(out, real));
    });
}

/// `IP PORT`, without a port of 0.
fn endpoint(key: &pointsman_model::ServerKey) -> String {
    match key.port {
        0 => key.addr.to_string(),
        port => format!("{} {port}", key.addr),
    }
}

fn method(forwarding: Forwarding) -> String {
    let checksum = |checksum| match checksum {
        TunnelChecksum::None => "nocsum",
        TunnelChecksum::Full => "csum",
        TunnelChecksum::Remote => "remcsum",
    };
    match forwarding {
        Forwarding::Route => "DR".to_owned(),
        Forwarding::Tunnel(Encapsulation::Ipip) => "TUN".to_owned(),
        Forwarding::Tunnel(Encapsulation::Gue { port, checksum: c }) => {
            format!("TUN type gue port {port} {}", checksum(c))
        }
        Forwarding::Tunnel(Encapsulation::Gre { checksum: c }) => {
            format!("TUN type gre {}", checksum(c))
        }
        Forwarding::FullNat => "FULLNAT".to_owned(),
        // A server on the director itself is made local, whatever is configured.
        Forwarding::Masquerade | Forwarding::Local => "NAT".to_owned(),
    }
}

fn real_server(out: &mut Writer, real: &PoolServer) {
    let spec = &real.spec;
    out.block(format_args!("real_server {}", endpoint(&spec.key)), |out| {
        out.value("weight", Some(spec.weight.get()));
        out.value("lvs_method", Some(method(spec.forwarding)));
        out.value("uthreshold", Some(spec.upper_threshold));
        out.value("lthreshold", Some(spec.lower_threshold));
        out.boolean("inhibit_on_failure", real.inhibit_on_failure);
        out.boolean("alpha", real.alpha);
        out.script("notify_up", real.notify_up.as_ref());
        out.script("notify_down", real.notify_down.as_ref());
        out.boolean("smtp_alert", real.smtp_alert);
        for check in &real.checks {
            self::check(out, check, real);
        }
    });
}

fn check(out: &mut Writer, check: &Check, real: &PoolServer) {
    match &check.kind {
        CheckKind::Negotiate(_) | CheckKind::Combined(_) | CheckKind::Always(_) => {
            out.line(format_args!(
                "# the check {} has no words in this language",
                check.kind.name()
            ));
            return;
        }
        CheckKind::Bfd(name) => {
            out.block("BFD_CHECK", |out| {
                out.word("name", Some(name));
                out.boolean("alpha", check.alpha);
            });
            return;
        }
        CheckKind::Passive(passive) => {
            out.block("PASSIVE_CHECK", |out| {
                out.value("streak", Some(passive.streak));
                out.time("hold", passive.hold);
                out.time("max_hold", passive.max_hold);
            });
            return;
        }
        CheckKind::File(file) => {
            out.block("FILE_CHECK", |out| {
                out.word("track_file", Some(&file.name));
                let reverse = if file.reverse { " reverse" } else { "" };
                out.line(format_args!("weight {}{reverse}", file.weight));
                out.boolean("dynamic", file.dynamic);
            });
            return;
        }
        _ => {}
    }
    let name = match &check.kind {
        CheckKind::Agent(_) => "AGENT_CHECK",
        kind => kind.name(),
    };
    out.block(name, |out| {
        let is_script = matches!(check.kind, CheckKind::Script(_));
        if !is_script {
            target(out, check, real);
            out.time("connect_timeout", check.pace.timeout);
        }
        out.time("delay_loop", check.pace.interval);
        out.value("retry", Some(check.pace.retries));
        out.time("delay_before_retry", check.pace.retry_delay);
        out.time("warmup", check.pace.warmup);
        out.boolean("alpha", check.alpha);
        out.boolean("log_all_failures", check.log_all_failures);
        kind(out, check);
    });
}

fn target(out: &mut Writer, check: &Check, real: &PoolServer) {
    let target = &check.target;
    if target.addr != real.spec.key.addr {
        out.value("connect_ip", Some(target.addr));
    }
    if target.port != real.spec.key.port && target.port != 0 {
        out.value("connect_port", Some(target.port));
    }
    out.value("bindto", target.bind_addr);
    out.value("bind_port", target.bind_port);
    out.word("bind_if", target.interface.as_deref());
    if target.mark != 0 {
        out.value("fwmark", Some(target.mark));
    }
    out.flag("true_path", target.through.is_some());
}

fn kind(out: &mut Writer, check: &Check) {
    match &check.kind {
        CheckKind::Http(http) => self::http(out, http),
        CheckKind::Smtp(smtp) => out.word("helo_name", Some(&smtp.helo_name)),
        CheckKind::Dns(dns) => {
            out.word("name", Some(&dns.name));
            let record = DNS_RECORDS.iter().find(|(_, record)| *record == dns.record);
            out.value("type", record.map(|(name, _)| *name));
        }
        CheckKind::Script(script) => {
            out.script("misc_path", Some(&script.script));
            out.time("misc_timeout", check.pace.timeout);
            out.boolean("misc_dynamic", script.dynamic);
        }
        CheckKind::Udp(udp) => self::udp(out, udp),
        CheckKind::Agent(agent) => {
            out.word("agent_send", agent.send.as_deref());
            out.value("agent_step", Some(agent.damping.step));
            out.value("agent_deadband", Some(agent.damping.deadband));
            out.time("agent_stale", agent.damping.stale);
        }
        _ => {}
    }
}

fn udp(out: &mut Writer, udp: &UdpCheck) {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    out.value("payload", udp.payload.as_deref().map(hex));
    if let Some(reply) = &udp.reply {
        let pattern: String = reply
            .bytes
            .iter()
            .zip(&reply.mask)
            .flat_map(|(byte, mask)| {
                let nibble = |shift: u8| match mask >> shift & 0xf {
                    0 => 'x',
                    _ => char::from_digit(u32::from(byte >> shift & 0xf), 16).unwrap_or('x'),
                };
                [nibble(4), nibble(0)]
            })
            .collect();
        out.line(format!("require_reply {pattern}").trim_end());
        out.value("min_reply_length", Some(reply.min_len));
        out.value("max_reply_length", Some(reply.max_len));
    }
}

fn http(out: &mut Writer, http: &HttpCheck) {
    let protocol = PROTOCOLS
        .iter()
        .find(|(_, protocol)| *protocol == http.protocol);
    out.value("http_protocol", protocol.map(|(name, _)| *name));
    out.boolean("fast_recovery", http.fast_recovery);
    if let Some(tls) = &http.tls {
        out.word("sni_name", tls.sni.as_deref());
        out.boolean("tls_verify", tls.verify);
    }
    http.urls.iter().for_each(|url| self::url(out, url));
}

fn url(out: &mut Writer, url: &HttpUrl) {
    out.block("url", |out| {
        out.word("path", Some(&url.path));
        out.word("virtualhost", url.host.as_deref());
        let hex = |digest: [u8; 16]| digest.map(|b| format!("{b:02x}")).concat();
        out.value("digest", url.digest.map(hex));
        let status: Vec<String> = url
            .status
            .iter()
            .map(|s| format!("{}-{}", s.first, s.last))
            .collect();
        out.value("status_code", Some(status.join(" ")));
        if let Some(regex) = &url.regex {
            out.value("regex", Some(quoted(&regex.pattern)));
            out.flag("regex_no_match", regex.negate);
            let named = |option: &RegexOption| {
                RegexOption::ALL
                    .iter()
                    .find(|(_, known)| known == option)
                    .map(|(name, _)| *name)
            };
            let options: Vec<&str> = regex.options.iter().filter_map(named).collect();
            out.value(
                "regex_options",
                (!options.is_empty()).then(|| options.join(" ")),
            );
            out.value("regex_min_offset", Some(regex.min_offset));
            out.value("regex_max_offset", regex.max_offset);
        }
        out.boolean("tls_compliant", url.tls_compliant);
    });
}
