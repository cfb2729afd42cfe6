use pointsman_model::vrrp::VrrpGlobals;
use pointsman_model::{Fifo, FlushOnStop, Globals, MailTls, Site};

use super::{Writer, seconds, user, word};

pub fn write(out: &mut Writer, site: &Site) {
    out.block("global_defs", |out| {
        globals(out, &site.globals);
        vrrp(out, &site.vrrp.globals);
    });
}

/// What is as it would be without a word is left out: keepalived warns of an `eth0` that is not there, and takes
/// `nftables` for a wish to use that.
fn vrrp(out: &mut Writer, globals: &VrrpGlobals) {
    let default = VrrpGlobals::default();
    let names = [
        (
            "default_interface",
            &globals.default_interface,
            default.default_interface,
        ),
        ("vmac_prefix", &globals.vmac_prefix, default.vmac_prefix),
        (
            "vmac_addr_prefix",
            &globals.vmac_addr_prefix,
            default.vmac_addr_prefix,
        ),
        ("nftables", &globals.nftables_table, default.nftables_table),
    ];
    for (keyword, name, usual) in names {
        out.word(keyword, (*name != usual).then_some(name));
    }
    let priority = globals.nftables_priority;
    out.value(
        "nftables_priority",
        (priority != default.nftables_priority).then_some(priority),
    );
    out.flag("nftables_counters", globals.nftables_counters);
    out.flag("dynamic_interfaces", globals.dynamic_interfaces);
    out.time("vrrp_startup_delay", globals.startup_delay);
    out.time("vrrp_delay_after_boot", globals.delay_after_boot);
    out.time("vrrp_garp_interval", globals.garp_interval);
    out.time("vrrp_gna_interval", globals.gna_interval);
    out.boolean("log_unknown_vrids", globals.log_unknown_vrids);
}

fn globals(out: &mut Writer, globals: &Globals) {
    out.word("router_id", globals.router_id.as_deref());
    if let Some(mail) = &globals.mail {
        match &mail.server {
            Some(server) => {
                out.block("notification_email", |out| {
                    mail.to.iter().for_each(|to| out.line(word(to)));
                });
                out.word("notification_email_from", Some(&mail.from));
                out.line(format_args!("smtp_server {} {}", word(server), mail.port));
                match mail.tls {
                    MailTls::Off => {}
                    MailTls::Starttls => out.line("smtp_tls starttls"),
                    MailTls::Always => out.line("smtp_tls always"),
                }
                out.word("smtp_helo_name", mail.helo.as_deref());
                out.value("smtp_connect_timeout", Some(mail.timeout.as_secs()));
            }
            None => out.line("# mail left by the local mail command, which keepalived cannot do"),
        }
    }
    out.flag("no_email_faults", globals.no_email_faults);
    out.flag("no_checker_emails", globals.no_checker_emails);
    fifo(out, "notify_fifo", globals.notify_fifo.as_ref());
    fifo(out, "vrrp_notify_fifo", globals.vrrp_notify_fifo.as_ref());
    fifo(out, "lvs_notify_fifo", globals.lvs_notify_fifo.as_ref());
    out.boolean(
        "fifo_write_vrrp_states_on_reload",
        globals.fifo_write_vrrp_states_on_reload,
    );
    out.flag("rs_init_notifies", globals.rs_init_notifies);
    for webhook in &globals.webhooks {
        let timeout = seconds(webhook.timeout);
        out.line(format_args!("webhook {} {timeout}", word(&webhook.url)));
    }
    out.value("script_user", globals.script_user.as_ref().map(user));
    out.boolean("enable_script_security", globals.script_security);
    out.boolean("use_symlink_paths", globals.use_symlink_paths);
    out.value("umask", globals.umask.map(|mask| format!("0{mask:o}")));
    if let Some(bounded) = &globals.startup_script {
        out.script("startup_script", Some(&bounded.script));
        out.value("startup_script_timeout", Some(bounded.timeout.as_secs()));
    }
    if let Some(bounded) = &globals.shutdown_script {
        out.script("shutdown_script", Some(&bounded.script));
        out.value("shutdown_script_timeout", Some(bounded.timeout.as_secs()));
    }
    out.flag("lvs_flush", globals.lvs_flush);
    match globals.lvs_flush_on_stop {
        FlushOnStop::Off => {}
        FlushOnStop::Everything => out.line("lvs_flush_on_stop"),
        FlushOnStop::VirtualServers => out.line("lvs_flush_on_stop VS"),
    }
    let timeouts = [
        ("tcp", globals.lvs_timeouts.tcp),
        ("tcpfin", globals.lvs_timeouts.tcp_fin),
        ("udp", globals.lvs_timeouts.udp),
    ];
    let set: Vec<String> = timeouts
        .iter()
        .filter(|(_, n)| *n > 0)
        .map(|(name, n)| format!(" {name} {n}"))
        .collect();
    if !set.is_empty() {
        out.line(format_args!("lvs_timeouts{}", set.concat()));
    }
    if let Some(daemon) = &globals.lvs_sync_daemon {
        let spec = &daemon.spec;
        let mut line = format!("lvs_sync_daemon {}", word(&spec.interface));
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                line.push_str(&format!(" {name} {value}"));
            }
        };
        add("inst", daemon.instance.as_deref().map(word));
        add("id", Some(spec.syncid.to_string()));
        add("maxlen", spec.max_len_bytes.map(|n| n.to_string()));
        add("port", spec.port.map(|n| n.to_string()));
        add("ttl", spec.ttl.map(|n| n.to_string()));
        add("group", spec.group.map(|group| group.to_string()));
        out.line(line);
    }
}

fn fifo(out: &mut Writer, keyword: &str, fifo: Option<&Fifo>) {
    if let Some(fifo) = fifo {
        let owner = fifo.owner.as_ref().map(|owner| format!(" {}", user(owner)));
        out.line(format_args!(
            "{keyword} {}{}",
            word(&fifo.path),
            owner.unwrap_or_default()
        ));
        out.script(&format!("{keyword}_script"), fifo.script.as_ref());
    }
}
