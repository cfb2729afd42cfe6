//! keepalived's words for FIFOs, mails and script arguments.

use crate::Letter;

/// `UP` or `DOWN`.
pub fn state(up: bool) -> &'static str {
    if up { "UP" } else { "DOWN" }
}

/// Line of a FIFO about a virtual server: `VS [192.0.2.1]:tcp:80 UP`.
pub fn virtual_line(label: &str, up: bool) -> String {
    format!("VS {label} {}", state(up))
}

/// Line of a FIFO about a real server: `RS [10.0.0.1]:tcp:80 [192.0.2.1]:tcp:80 DOWN`.
pub fn real_line(server: &str, label: &str, up: bool) -> String {
    format!("RS {server} {label} {}", state(up))
}

/// Line of a FIFO about an instance (`INSTANCE`) or group (`GROUP`): `INSTANCE "VI_1" MASTER 100`.
pub fn vrrp_line(kind: &str, name: &str, state: &str, priority: u8) -> String {
    format!("{kind} \"{name}\" {state} {priority}")
}

/// Mail about a real server; `text` goes between the arrows.
pub fn real_letter(router: &str, server: &str, label: &str, up: bool, text: &str) -> Letter {
    Letter::new(
        format!(
            "[{router}] Realserver {server} of virtual server {label} - {}",
            state(up)
        ),
        format!("=> {text} <="),
    )
}

/// Mail about a virtual server.
pub fn virtual_letter(router: &str, label: &str, up: bool, text: &str) -> Letter {
    Letter::new(
        format!("[{router}] Virtualserver {label} - {}", state(up)),
        format!("=> {text} <="),
    )
}

/// Mail about a VRRP instance (`Instance`) or group (`Group`): `doing` is `Entering MASTER state`,
/// `Stopping`, `Deleted`.
pub fn vrrp_letter(router: &str, kind: &str, name: &str, doing: &str, text: &str) -> Letter {
    Letter::new(
        format!("[{router}] VRRP {kind} {name} - {doing}"),
        format!("=> {text} <="),
    )
}

/// What a mail says about a check of this kind ([`CheckKind::name`](pointsman_model::CheckKind::name)).
pub fn check_text(kind: &str, up: bool, reason: &str) -> String {
    let word = if up { "succeed" } else { "failed" };
    match kind {
        "TCP_CHECK" => format!("TCP CHECK {word} on service"),
        "HTTP_GET" | "SSL_GET" if up => "CHECK succeed on service".to_owned(),
        "HTTP_GET" | "SSL_GET" => "CHECK failed on service : HTTP/SSL request failed".to_owned(),
        "SMTP_CHECK" if up => "CHECK succeed on service".to_owned(),
        "SMTP_CHECK" => format!("CHECK failed on service : {reason}"),
        "DNS_CHECK" if up => "DNS_CHECK: succeed on service".to_owned(),
        "DNS_CHECK" => "DNS_CHECK: failed on service".to_owned(),
        "MISC_CHECK" if up => "MISC CHECK succeeded on service".to_owned(),
        "MISC_CHECK" if reason.starts_with("timed out") => {
            "MISC CHECK timed out on service".to_owned()
        }
        "MISC_CHECK" => "MISC CHECK failed on service".to_owned(),
        "UDP_CHECK" => format!("UDP CHECK {word} on service"),
        "PING_CHECK" => format!("ICMP CHECK {word} on service"),
        kind => format!("{kind} {word} on service: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_subjects_are_keepalived_s() {
        let (server, label) = ("[1.2.3.4]:tcp:80", "[192.168.201.15]:tcp:80");
        assert_eq!(virtual_line(label, true), "VS [192.168.201.15]:tcp:80 UP");
        assert_eq!(
            real_line(server, label, false),
            "RS [1.2.3.4]:tcp:80 [192.168.201.15]:tcp:80 DOWN"
        );
        assert_eq!(
            vrrp_line("INSTANCE", "VI_1", "MASTER", 100),
            "INSTANCE \"VI_1\" MASTER 100"
        );
        let letter = real_letter(
            "lb",
            server,
            label,
            false,
            &check_text("TCP_CHECK", false, ""),
        );
        assert_eq!(
            letter.subject,
            "[lb] Realserver [1.2.3.4]:tcp:80 of virtual server [192.168.201.15]:tcp:80 - DOWN"
        );
        assert_eq!(letter.body, "=> TCP CHECK failed on service <=");
    }
}
