//! The real ldirectord's verdict on the same servers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use pointsman_model::check::{NegotiateCheck, NegotiateMethod, NegotiateService, Transport};
use pointsman_testkit::wait_until;

use crate::common::Lab;

/// How long ldirectord may take for a round: one check after the other.
const ROUND: Duration = Duration::from_secs(60);

/// Both say the same of every check, each with its port; and they do not all say the same.
#[track_caller]
pub fn agrees(lab: &Lab, checks: &[(NegotiateCheck, u16)]) {
    let ours: Vec<bool> = checks
        .iter()
        .map(|(check, port)| lab.probe(check, *port).is_ok())
        .collect();
    let theirs = verdicts(lab, checks);
    for ((check, port), (ours, theirs)) in checks.iter().zip(ours.iter().zip(&theirs)) {
        assert_eq!(ours, theirs, "ours and ldirectord's: port {port} {check:?}");
    }
    assert!(
        theirs.contains(&true) && theirs.contains(&false),
        "{theirs:?}"
    );
}

/// What the first round of ldirectord says, which it writes into each service's monitorfile.
pub fn verdicts(lab: &Lab, checks: &[(NegotiateCheck, u16)]) -> Vec<bool> {
    // While debugging, ldirectord prefers the ipvsadm where it stands.
    let ipvsadm = lab.file("ldirectord/ipvsadm", "#!/bin/sh\nexit 0\n");
    fs::set_permissions(&ipvsadm, fs::Permissions::from_mode(0o755)).unwrap();
    let services = checks.iter().enumerate().map(|(n, (check, port))| {
        let file = lab.home.join(format!("ldirectord/monitor-{n}"));
        let _ = fs::remove_file(&file);
        service(n, check, *port)
    });
    let global = "checktimeout = 10\nnegotiatetimeout = 10\ncheckinterval = 60\n";
    let text = format!("{global}{}", services.collect::<String>());
    let config = lab.file("ldirectord/lab.cf", &text);
    let mut ldirectord = lab
        .netns
        .command("ldirectord")
        .arg("-d")
        .args([config.as_os_str(), "start".as_ref()])
        // Debian 12's libraries verify certificates, though ldirectord asks them not to.
        .env("SSL_CERT_FILE", lab.home.join("cert.pem"))
        .current_dir(lab.home.join("ldirectord"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(lab.home.join("ldirectord/log")).unwrap())
        .spawn()
        .expect("ldirectord (Debian package of this name)");
    let verdict = |n: usize| {
        let file = lab.home.join(format!("ldirectord/monitor-{n}"));
        let text = fs::read_to_string(file).ok()?;
        let line = text.lines().next()?;
        Some(line.contains(" [up] "))
    };
    let all = wait_until("ldirectord's verdicts", ROUND, || {
        (0..checks.len())
            .map(verdict)
            .collect::<Option<Vec<bool>>>()
    });
    let _ = ldirectord.kill();
    let _ = ldirectord.wait();
    all.unwrap_or_else(|error| {
        let log = fs::read_to_string(lab.home.join("ldirectord/log")).unwrap_or_default();
        panic!("{error}\n{}", &log[log.len().saturating_sub(3000)..])
    })
}

/// A virtual service of its own for each check.
fn service(n: usize, check: &NegotiateCheck, port: u16) -> String {
    let mut text = format!("virtual = 192.0.2.1:{}\n", 1000 + n);
    let mut line = |words: &str| text.push_str(&format!("    {words}\n"));
    // A weight of its own: else ldirectord takes checks that differ by their login only for one.
    line(&format!("real = 127.0.0.1:{port} masq {}", n + 1));
    line(&format!("service = {}", word(check.service)));
    line("scheduler = rr");
    line("checktype = negotiate");
    line(match check.transport {
        Transport::Tcp => "protocol = tcp",
        Transport::Udp => "protocol = udp",
    });
    if check.method == NegotiateMethod::Head {
        line("httpmethod = HEAD");
    }
    let secret = |secret: &Option<pointsman_model::check::Secret>| {
        secret.as_ref().map(|secret| secret.reveal().to_owned())
    };
    for (key, value) in [
        ("request", check.request.clone()),
        ("receive", check.receive.clone()),
        ("login", check.login.clone()),
        ("passwd", secret(&check.passwd)),
        ("secret", secret(&check.secret)),
        ("virtualhost", check.virtualhost.clone()),
    ] {
        // To leave one out and to leave it empty is the same, but ldirectord reads no empty ones.
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            line(&format!("{key} = \"{value}\""));
        }
    }
    line(&format!("monitorfile = HOME/ldirectord/monitor-{n}"));
    text
}

/// ldirectord's word for a service.
fn word(service: NegotiateService) -> String {
    format!("{service:?}")
        .replace("HttpProxy", "http_proxy")
        .to_lowercase()
}
