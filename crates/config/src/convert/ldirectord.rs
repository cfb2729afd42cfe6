//! `ldirectord.cf`.

use std::time::Duration;

use pointsman_model::{
    CheckKind, Globals, Mail, MailTls, PoolServer, Script, ServerKey, ServiceKey, SorryServer,
    VirtualId, VirtualName, VirtualServer,
};

use super::Converted;
use super::checks::nearest;
use crate::ldirectord::{Config, Real, Virtual, server_label};

/// An `ldirectord.cf` as a site.
pub fn ldirectord(config: &Config) -> Converted {
    let mut converted = Converted::default();
    let globals = &config.globals;
    let mut lost = |what: &str| converted.remarks.push(what.to_owned());
    if globals.callback.is_some() {
        lost("callback: nothing is run when the file changes");
    }
    if globals.maintenance_dir.is_some() {
        lost("maintenancedir: no directory takes servers out; set their weight to 0 instead");
    }
    if globals.readd_quiescent {
        lost("readdquiescent: a failed server stays in the table (inhibit_on_failure)");
    }
    for file in &globals.execute {
        lost(&format!("execute={file}: convert that file too"));
    }
    if globals.auto_reload {
        lost("autoreload: a changed file is read when it is asked for (SIGHUP, reload)");
    }
    let mut mail = None;
    for service in &config.virtuals {
        let server = virtual_server(config, service, &mut converted.remarks, &mut mail);
        converted.site.virtual_servers.push(server);
    }
    converted.site.globals = Globals {
        mail,
        ..Globals::default()
    };
    converted
}

fn virtual_server(
    config: &Config,
    service: &Virtual,
    remarks: &mut Vec<String>,
    mail: &mut Option<Mail>,
) -> VirtualServer {
    let at = |text: String| format!("line {}: {text}", service.line);
    let spec = service.spec();
    let mut server = VirtualServer::new(id(service), vec![service.key]);
    server.scheduler = spec.scheduler;
    server.sched_flags = spec.sched_flags;
    server.persistence = spec.persistence;
    server.netmask = spec.netmask;
    server.prefix_len = spec.prefix_len;
    server.one_packet = spec.one_packet;
    // Nothing is in the table before it has answered.
    server.alpha = true;
    if let Some((key, forwarding)) = config.fallback(service) {
        server.sorry_server = Some(SorryServer {
            key,
            forwarding,
            inhibit: false,
        });
    }
    if let Some(command) = config.fallback_command(service) {
        let script = |word: &str| {
            let address = match service.key {
                ServiceKey::Address { .. } => service.label(),
                ServiceKey::Mark { .. } => ":0".into(),
            };
            let line = format!("{command} {word} {address} {}", service.protocol_word());
            Script::new(["/bin/sh".to_owned(), "-c".to_owned(), line])
        };
        server.quorum_up = Some(script("stop"));
        server.quorum_down = Some(script("start"));
    }
    let email = config.email(service);
    if let Some(to) = email.to.filter(|to| !to.is_empty()) {
        let wanted = Mail {
            server: email.smtp,
            port: 25,
            tls: MailTls::Off,
            helo: None,
            from: config
                .globals
                .email_from
                .clone()
                .unwrap_or_else(|| "root".into()),
            to: to.split(',').map(|to| to.trim().to_owned()).collect(),
            timeout: Duration::from_secs(30),
        };
        server.smtp_alert = true;
        let first = mail.get_or_insert_with(|| wanted.clone());
        if *first != wanted {
            remarks.push(at("mails go to the recipients of the first service".into()));
        }
        if email.repeat.unwrap_or(0) > 0 {
            remarks.push(at("emailalertfreq: mails are not repeated".into()));
        }
    }
    if service.monitor_file.is_some() {
        remarks.push(at("monitorfile: there is none".into()));
    }
    if !config.clean_stop(service) {
        remarks.push(at("cleanstop=no: a stop removes the service".into()));
    }
    for real in &service.reals {
        server
            .servers
            .push(real_server(config, service, real, remarks));
    }
    server
}

fn real_server(
    config: &Config,
    service: &Virtual,
    real: &Real,
    remarks: &mut Vec<String>,
) -> PoolServer {
    let mut spec = service.server(real);
    // As the file has it; who reads this applies the rule about ports again.
    spec.key = ServerKey {
        port: if real.key.port == 0 {
            spec.key.port
        } else {
            real.key.port
        },
        ..spec.key
    };
    let mut server = PoolServer::new(spec);
    server.inhibit_on_failure = config.quiescent(service);
    server.alpha = true;
    server.smtp_alert = config.email(service).to.is_some();
    match config.check(service, real) {
        None => remarks.push(format!(
            "line {}: checktype=off: {} is always up here",
            real.line,
            server_label(real.key)
        )),
        Some(check) => {
            let (check, remark) = nearest(check);
            if let Some(remark) = remark {
                remarks.push(format!("line {}: {remark}", real.line));
            }
            if check.kind != CheckKind::Always(true) {
                server.checks.push(check);
            }
        }
    }
    server
}

fn id(service: &Virtual) -> VirtualId {
    VirtualId {
        name: match service.key {
            ServiceKey::Address { addr, port, .. } => VirtualName::Address { addr, port },
            ServiceKey::Mark { mark, .. } => VirtualName::Mark(mark),
        },
        protocol: service.protocol(),
    }
}
