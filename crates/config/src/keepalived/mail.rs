//! Keywords of `global_defs` about identity, mail and notification.

use std::time::Duration;

use pointsman_model::{MailTls, Webhook};

use super::checker::LONGEST;
use super::global::{GlobalDraft, NO_SNMP, fifo, fifo_script};
use super::keyword::Keyword;

const NO_DBUS: &str = "there is no D-Bus service; the API is HTTP and JSON";

/// How mail is encrypted.
const SMTP_TLS: &[(&str, MailTls)] =
    &[("starttls", MailTls::Starttls), ("always", MailTls::Always)];

/// Identity, mail and notification.
pub const MAIL: &[Keyword<GlobalDraft>] = &[
    Keyword::sets("router_id", "STRING", |r, d, a| {
        d.globals.router_id = r.text(a, "a string")
    }),
    Keyword::sets("notification_email", "{ ADDRESS … }", |r, d, a| {
        for entry in a.block() {
            d.recipients
                .extend(entry.words.iter().map(|word| word.text.clone()));
        }
        if d.recipients.is_empty() {
            let at = a.at();
            r.warn(&at, "no recipients, so no mail");
        }
    }),
    Keyword::sets("notification_email_from", "ADDRESS", |r, d, a| {
        d.from = r.text(a, "an address")
    }),
    Keyword::sets("smtp_server", "HOST [PORT]", |r, d, a| {
        let host = r.text(a, "a host");
        let port = a.take().and_then(|word| r.port_of(word)).unwrap_or(25);
        d.server = host.map(|host| (host, port));
    }),
    Keyword::sets("smtp_tls", "starttls|always", |r, d, a| {
        d.tls = r.choice(a, SMTP_TLS).unwrap_or(d.tls);
    }),
    Keyword::sets("smtp_helo_name", "NAME", |r, d, a| {
        d.helo = r.text(a, "a name")
    }),
    Keyword::sets("smtp_connect_timeout", "SECS", |r, d, a| {
        let timeout = r
            .small(a, 0..=4294)
            .map(|n: u32| Duration::from_secs(n.max(1).into()));
        d.smtp_timeout = timeout.unwrap_or(d.smtp_timeout);
    }),
    Keyword::sets("smtp_alert", "[BOOL]", |r, d, a| {
        d.smtp_alert = r.flag(a).or(d.smtp_alert)
    }),
    Keyword::sets("smtp_alert_vrrp", "[BOOL]", |r, d, a| {
        d.smtp_alert_vrrp = r.flag(a).or(d.smtp_alert_vrrp);
    }),
    Keyword::sets("smtp_alert_checker", "[BOOL]", |r, d, a| {
        d.smtp_alert_checker = r.flag(a).or(d.smtp_alert_checker);
    }),
    Keyword::sets("no_email_faults", "", |_, d, _| {
        d.globals.no_email_faults = true
    }),
    Keyword::sets("no_checker_emails", "", |_, d, _| {
        d.globals.no_checker_emails = true
    }),
    Keyword::sets("checker_log_all_failures", "[BOOL]", |r, d, a| {
        d.log_all_failures = r.flag(a).unwrap_or(d.log_all_failures);
    }),
    Keyword::sets("notify_fifo", "PATH [USER [GROUP]]", |r, d, a| {
        fifo(r, &mut d.fifos[0], a)
    }),
    Keyword::sets("notify_fifo_script", "COMMAND", |r, d, a| {
        fifo_script(r, &mut d.fifos[0], a)
    }),
    Keyword::sets("vrrp_notify_fifo", "PATH [USER [GROUP]]", |r, d, a| {
        fifo(r, &mut d.fifos[1], a)
    }),
    Keyword::sets("vrrp_notify_fifo_script", "COMMAND", |r, d, a| {
        fifo_script(r, &mut d.fifos[1], a);
    }),
    Keyword::sets("lvs_notify_fifo", "PATH [USER [GROUP]]", |r, d, a| {
        fifo(r, &mut d.fifos[2], a)
    }),
    Keyword::sets("lvs_notify_fifo_script", "COMMAND", |r, d, a| {
        fifo_script(r, &mut d.fifos[2], a);
    }),
    Keyword::sets("fifo_write_vrrp_states_on_reload", "[BOOL]", |r, d, a| {
        d.globals.fifo_write_vrrp_states_on_reload = r.flag(a).unwrap_or(false);
    }),
    Keyword::sets("webhook", "URL [SECS]", |r, d, a| {
        let url = r.text(a, "a URL");
        let timeout = a.take().and_then(|word| r.timer_of(word, 0.001..=LONGEST));
        d.globals.webhooks.extend(url.map(|url| Webhook {
            url,
            timeout: timeout.unwrap_or(Duration::from_secs(5)),
        }));
    }),
    Keyword::nothing("snmp_socket", "ADDRESS", NO_SNMP),
    Keyword::nothing("enable_traps", "", NO_SNMP),
    Keyword::nothing("enable_snmp_vrrp", "", NO_SNMP),
    Keyword::nothing("enable_snmp_keepalived", "", NO_SNMP),
    Keyword::nothing("enable_snmp_checker", "", NO_SNMP),
    Keyword::nothing("enable_snmp_rfc", "", NO_SNMP),
    Keyword::nothing("enable_snmp_rfcv2", "", NO_SNMP),
    Keyword::nothing("enable_snmp_rfcv3", "", NO_SNMP),
    Keyword::nothing("snmp_vs_stats_update_interval", "SECS", NO_SNMP),
    Keyword::nothing("snmp_rs_stats_update_interval", "SECS", NO_SNMP),
    Keyword::nothing("enable_dbus", "", NO_DBUS),
    Keyword::nothing("dbus_service_name", "NAME", NO_DBUS),
    Keyword::nothing("dbus_no_interface_name", "NAME", NO_DBUS),
];
