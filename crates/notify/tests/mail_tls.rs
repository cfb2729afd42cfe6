//! Mail by TLS, to a real exim; nothing leaves where that cannot be had. Needs root.

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use pointsman_model::{Globals, Mail, MailTls};
use pointsman_notify::{Letter, Notice, Notifier};
use pointsman_testkit::{Names, Netns, wait_until};
use support::{PATIENCE, exim, run};
use tempfile::TempDir;

/// Only what comes encrypted is taken: after STARTTLS at port 25, from the first byte at 465.
const TLS: &str = "daemon_smtp_ports = 25 : 465
tls_on_connect_ports = 465
tls_advertise_hosts = *
tls_certificate = HOME/cert
tls_privatekey = HOME/key
acl_smtp_rcpt = encrypted
acl_smtp_data = accept
begin acl
encrypted:
  require encrypted = *
  accept
";

/// Of 127.0.0.1, signed by itself.
const CERTIFICATE: &str = "[req]
distinguished_name = name
x509_extensions = more
prompt = no
[name]
CN = mx.example.org
[more]
subjectAltName = IP:127.0.0.1
basicConstraints = CA:FALSE
";

fn make_certificate(netns: &Netns, home: &Path) {
    fs::write(home.join("request"), CERTIFICATE).unwrap();
    let mut openssl = netns.command("openssl");
    openssl.args([
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
    ]);
    for (option, file) in [("-config", "request"), ("-keyout", "key"), ("-out", "cert")] {
        openssl.arg(option).arg(home.join(file));
    }
    assert!(openssl.output().unwrap().status.success());
}

fn send(netns: &Netns, tls: MailTls, port: u16, server: &str, subject: &str) {
    let globals = Globals {
        mail: Some(Mail {
            server: Some(server.into()),
            port,
            tls,
            helo: None,
            from: "lb@example.org".into(),
            to: vec!["one@example.org".into()],
            timeout: Duration::from_secs(30),
        }),
        ..Globals::default()
    };
    run(netns, async || {
        let mut notifier = Notifier::new(&globals);
        notifier.tell(Notice {
            letter: Some(Letter::new(subject, "text")),
            ..Notice::default()
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        notifier.end().await;
    });
}

#[test]
fn mail_goes_by_tls_or_not_at_all() {
    let netns = Netns::new(&Names::transient(), "mailtls").unwrap();
    let directory = TempDir::new().unwrap();
    let home = directory.path();
    make_certificate(&netns, home);
    // SAFETY: this is the only test of its program, and nothing else of it runs yet.
    unsafe { std::env::set_var("SSL_CERT_FILE", home.join("cert")) };
    let _exim = exim(&netns, home, TLS);
    let log = || fs::read_to_string(home.join("mainlog")).unwrap_or_default();
    let arrived = || fs::read_to_string(home.join("box")).unwrap_or_default();

    // Not encrypted, or the certificate is of another name: not taken, or not sent.
    send(&netns, MailTls::Off, 25, "127.0.0.1", "in clear text");
    send(&netns, MailTls::Starttls, 25, "localhost", "to another");
    send(&netns, MailTls::Always, 465, "localhost", "to another");
    let refused = wait_until("exim to refuse", PATIENCE, || {
        log().contains("rejected RCPT").then_some(())
    });
    assert!(refused.is_ok(), "{}", log());

    send(
        &netns,
        MailTls::Starttls,
        25,
        "127.0.0.1",
        "from STARTTLS on",
    );
    send(
        &netns,
        MailTls::Always,
        465,
        "127.0.0.1",
        "from the first byte",
    );
    let both = wait_until("both mails", PATIENCE, || {
        let text = arrived();
        let is_there = |subject: &str| text.contains(&format!("Subject: {subject}\n"));
        (is_there("from STARTTLS on") && is_there("from the first byte")).then_some(())
    });
    let (text, log) = (arrived(), log());
    assert!(both.is_ok(), "{text}\n{log}");
    assert_eq!(text.matches("Subject: ").count(), 2, "{text}\n{log}");
    assert_eq!(log.matches(" X=TLS").count(), 2, "{log}");
}
