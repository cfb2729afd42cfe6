//! Everybody who can be told, for real: exim, readers of FIFOs, an HTTP server, scripts. Needs root.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use pointsman_model::{Fifo, Globals, Mail, MailTls, Script, ScriptUser, Webhook};
use pointsman_notify::{Letter, Lost, Notice, Notifier, Topic, keepalived};
use pointsman_testkit::{Names, Netns, wait_until};
use serde_json::json;
use support::{PATIENCE, exim, run};
use tempfile::TempDir;

/// Whatever comes is taken.
const PLAIN: &str = "daemon_smtp_ports = 25
tls_advertise_hosts =
acl_smtp_rcpt = accept
acl_smtp_data = accept
begin acl
";

#[test]
fn exim_takes_the_mail() {
    let netns = Netns::new(&Names::transient(), "mail").unwrap();
    let directory = TempDir::new().unwrap();
    let _exim = exim(&netns, directory.path(), PLAIN);
    let globals = Globals {
        mail: Some(Mail {
            server: Some("127.0.0.1".into()),
            port: 25,
            tls: MailTls::Off,
            helo: Some("lb.example.org".into()),
            from: "Balancer <lb@example.org>".into(),
            to: vec!["one@example.org".into(), "Two <two@example.org>".into()],
            timeout: Duration::from_secs(30),
        }),
        ..Globals::default()
    };
    run(&netns, async || {
        let mut notifier = Notifier::new(&globals);
        let mut letter = keepalived::real_letter(
            "lb",
            "[10.0.0.3]:tcp:80",
            "[192.0.2.1]:tcp:80",
            false,
            &keepalived::check_text("TCP_CHECK", false, ""),
        );
        // A line of one dot would end the mail.
        letter.body.push_str("\n.\nlast");
        notifier.tell(Notice {
            letter: Some(letter),
            ..Notice::default()
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        notifier.end().await;
    });
    let path = directory.path().join("box");
    let mut text = String::new();
    let got = wait_until("both mails", PATIENCE, || {
        text = fs::read_to_string(&path).unwrap_or_default();
        (text.matches("last").count() >= 1).then_some(())
    });
    let log = fs::read_to_string(directory.path().join("mainlog")).unwrap_or_default();
    assert!(got.is_ok(), "{text}\n{log}");
    for line in [
        "From: Balancer <lb@example.org>",
        "Subject: [lb] Realserver [10.0.0.3]:tcp:80 of virtual server [192.0.2.1]:tcp:80 - DOWN",
        "X-Mailer: Pointsman",
        "=> TCP CHECK failed on service <=",
        "last",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert!(log.contains("<= lb@example.org H="), "{log}");
    assert!(
        log.contains("one@example.org") && log.contains("two@example.org"),
        "{log}"
    );
}

#[test]
fn fifos_get_what_is_theirs() {
    let netns = Netns::new(&Names::transient(), "fifo").unwrap();
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let fifo = |name: &str, script: Option<Script>| Fifo {
        path: path(name),
        owner: None,
        script,
    };
    // Its program copies what it reads; the path is its last argument.
    let copy = format!("exec cat \"$0\" >{}", path("copy"));
    let globals = Globals {
        notify_fifo: Some(fifo("all", None)),
        lvs_notify_fifo: Some(fifo("lvs", Some(Script::new(["/bin/sh", "-c", &copy])))),
        script_user: Some(ScriptUser {
            user: "root".into(),
            group: None,
        }),
        ..Globals::default()
    };
    run(&netns, async || {
        let mut notifier = Notifier::new(&globals);
        let reader = fs::File::open(path("all")).unwrap();
        let line = |topic, text: &str| Notice {
            topic,
            line: Some(text.into()),
            ..Notice::default()
        };
        let server = keepalived::real_line("[1.2.3.4]:tcp:80", "[5.6.7.8]:tcp:80", true);
        notifier.tell(line(Topic::Lvs, &server));
        notifier.tell(line(Topic::Vrrp, "INSTANCE \"VI_1\" MASTER 100"));
        let mut lines = BufReader::new(reader).lines();
        assert_eq!(lines.next().unwrap().unwrap(), server);
        assert_eq!(
            lines.next().unwrap().unwrap(),
            "INSTANCE \"VI_1\" MASTER 100"
        );
        let copied = || fs::read_to_string(path("copy")).unwrap_or_default();
        let deadline = Instant::now() + PATIENCE;
        while copied() != format!("{server}\n") {
            assert!(Instant::now() < deadline, "{}", copied());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Nobody reads: lines are lost, nobody waits.
        let began = Instant::now();
        for _ in 0..20_000 {
            notifier.tell(line(Topic::Vrrp, "INSTANCE \"VI_1\" BACKUP 100"));
        }
        assert!(began.elapsed() < PATIENCE);
        assert!(notifier.lost().lines > 0);
        notifier.end().await;
    });
    assert!(!Path::new(&path("all")).exists());
}

#[test]
fn a_webhook_gets_each_event_as_json() {
    let netns = Netns::new(&Names::transient(), "hook").unwrap();
    let listener = netns.run(|| TcpListener::bind("127.0.0.1:8000")).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut buffer = [0; 1024];
        while !request.ends_with(b"}") {
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&request));
            request.extend_from_slice(&buffer[..read]);
        }
        stream
            .write_all(b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n")
            .unwrap();
        String::from_utf8(request).unwrap()
    });
    let globals = Globals {
        webhooks: vec![Webhook {
            url: "http://127.0.0.1:8000/a/b?c=d".into(),
            timeout: Duration::from_secs(30),
        }],
        ..Globals::default()
    };
    run(&netns, async || {
        let mut notifier = Notifier::new(&globals);
        notifier.tell(Notice {
            event: Some(json!({"event": "real_server", "up": false})),
            ..Notice::default()
        });
        notifier.end().await;
    });
    let request = server.join().unwrap();
    assert!(
        request.starts_with("POST /a/b?c=d HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains("content-type: application/json"),
        "{request}"
    );
    assert!(
        request.ends_with("\r\n\r\n{\"event\":\"real_server\",\"up\":false}"),
        "{request}"
    );
}

#[test]
fn a_flood_is_bounded_and_counted() {
    let netns = Netns::new(&Names::transient(), "flood").unwrap();
    // Nobody listens there.
    let mail = Mail {
        server: Some("127.0.0.1".into()),
        port: 25,
        tls: MailTls::Off,
        helo: None,
        from: "lb@example.org".into(),
        to: vec!["one@example.org".into()],
        timeout: Duration::from_secs(1),
    };
    let globals = Globals {
        mail: Some(mail),
        script_user: Some(ScriptUser {
            user: "root".into(),
            group: None,
        }),
        ..Globals::default()
    };
    let lost = run(&netns, async || {
        let mut notifier = Notifier::new(&globals);
        for _ in 0..1000 {
            notifier.tell(Notice {
                letter: Some(Letter::new("subject", "body")),
                ..Notice::default()
            });
        }
        for _ in 0..200 {
            notifier.tell(Notice {
                scripts: vec![Script::new(["/bin/sleep", "1000"])],
                ..Notice::default()
            });
        }
        notifier.lost()
    });
    let expected = Lost {
        scripts: 200 - 128,
        letters: 1000 - 256,
        ..Lost::default()
    };
    assert_eq!(lost, expected);
}
