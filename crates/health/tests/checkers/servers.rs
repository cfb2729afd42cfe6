//! Each checker against the real server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use pointsman_health::Weigh;
use pointsman_model::check::{
    CombinedCheck, DnsCheck, DnsRecord, FileCheck, HttpProtocol, NegotiateCheck, NegotiateService,
    PingCheck, RegexCheck, ScriptCheck, SmtpCheck, StatusRange, TlsOptions, UdpCheck,
};
use pointsman_model::{CheckKind, Script};

use crate::common::Lab;
use crate::{check, down, http, probe, up};

const NGINX: &str = "daemon off;
master_process off;
pid HOME/pid;
error_log stderr;
events {}
http {
  access_log HOME/access;
  client_body_temp_path HOME/t1; proxy_temp_path HOME/t2; fastcgi_temp_path HOME/t3;
  uwsgi_temp_path HOME/t4; scgi_temp_path HOME/t5;
  server {
    listen 80; listen 443 ssl; listen 444 ssl http2; listen 81 http2;
    server_name checked.example;
    ssl_certificate HOME/cert.pem; ssl_certificate_key HOME/key.pem;
    location = /page { return 200 'hello\n'; }
    location = /missing { return 404 'gone\n'; }
    location = /name { return 200 '$host $ssl_server_name\n'; }
    location = /mine { if ($ssl_client_verify != SUCCESS) { return 403; } return 200 'known\n'; }
  }
  server {
    listen 445 ssl; server_name mutual;
    ssl_certificate HOME/cert.pem; ssl_certificate_key HOME/key.pem;
    ssl_client_certificate HOME/cert.pem; ssl_verify_client on;
    location / { return 200 'known\n'; }
  }
}
";

fn nginx() -> Lab {
    let mut lab = Lab::new();
    lab.certificate();
    lab.file("nginx.conf", NGINX);
    lab.start("/usr/sbin/nginx", "-c HOME/nginx.conf -p HOME -e stderr");
    lab.listening(445);
    lab
}

fn body(pattern: &str) -> Option<RegexCheck> {
    Some(RegexCheck {
        pattern: pattern.into(),
        options: Vec::new(),
        negate: false,
        min_offset: 0,
        max_offset: None,
    })
}

#[test]
fn nginx_pages() {
    let mut lab = nginx();
    for protocol in [
        HttpProtocol::Http10,
        HttpProtocol::Http10Close,
        HttpProtocol::Http11,
    ] {
        for (port, tls) in [(80, None), (443, Some(TlsOptions::default()))] {
            let mut page = http("/page");
            (page.protocol, page.tls) = (protocol, tls);
            let get = |http: &pointsman_model::check::HttpCheck| {
                check(CheckKind::Http(http.clone()), port)
            };
            up(&lab.netns, &get(&page));
            page.urls[0].tls_compliant = true;
            page.urls[0].digest =
                Some(0xb194_6ac9_2492_d234_7c62_35b4_d261_1184_u128.to_be_bytes());
            up(&lab.netns, &get(&page));
            page.urls[0].digest = Some([1; 16]);
            down(
                &lab.netns,
                &get(&page),
                "digest b1946ac92492d2347c6235b4d2611184 instead",
            );
            page.urls[0].digest = None;
            page.urls[0].regex = body("^h.llo$");
            up(&lab.netns, &get(&page));
            page.urls[0].regex = body("bye");
            down(&lab.netns, &get(&page), "does not match /bye/");
            let mut missing = http("/missing");
            (missing.protocol, missing.tls) = (protocol, page.tls.clone());
            down(&lab.netns, &get(&missing), "status 404");
            missing.urls[0].status = vec![StatusRange {
                first: 404,
                last: 404,
            }];
            up(&lab.netns, &get(&missing));
        }
    }
    let log = fs::read_to_string(lab.home.join("access")).unwrap();
    assert!(
        log.contains("GET /page HTTP/1.0") && log.contains("\"KeepAliveClient\""),
        "{log}"
    );
    let page = check(CheckKind::Http(http("/page")), 80);
    lab.stop(80);
    down(&lab.netns, &page, "connection refused");
}

#[test]
fn nginx_names_and_certificates() {
    let lab = nginx();
    let mut name = http("/name");
    name.urls[0].host = Some("virtual.example".into());
    name.urls[0].regex = body("^virtual.example $");
    name.tls = Some(TlsOptions::default());
    up(&lab.netns, &check(CheckKind::Http(name.clone()), 443));
    name.tls = Some(TlsOptions {
        sni: Some("checked.example".into()),
        ..TlsOptions::default()
    });
    name.urls[0].regex = body("checked.example$");
    up(&lab.netns, &check(CheckKind::Http(name.clone()), 443));

    let mut known = http("/");
    known.tls = Some(TlsOptions::default());
    down(
        &lab.netns,
        &check(CheckKind::Http(known.clone()), 445),
        "status 400",
    );
    known.tls = Some(TlsOptions {
        certificate: Some(lab.home.join("cert.pem")),
        key: Some(lab.home.join("key.pem")),
        ..TlsOptions::default()
    });
    up(&lab.netns, &check(CheckKind::Http(known), 445));

    // Verification, which keepalived has not: nobody's word for this certificate but its own.
    let mut verified = http("/page");
    verified.tls = Some(TlsOptions {
        sni: Some("checked.example".into()),
        verify: true,
        ..TlsOptions::default()
    });
    down(
        &lab.netns,
        &check(CheckKind::Http(verified), 443),
        "TLS: invalid peer certificate",
    );
    let mut plain = http("/page");
    plain.tls = Some(TlsOptions::default());
    down(&lab.netns, &check(CheckKind::Http(plain), 80), "TLS: ");
}

#[test]
fn nginx_over_http2() {
    let lab = nginx();
    let mut page = http("/page");
    page.protocol = HttpProtocol::Http2;
    page.urls[0].regex = body("^hello$");
    up(&lab.netns, &check(CheckKind::Http(page.clone()), 81));
    page.tls = Some(TlsOptions::default());
    up(&lab.netns, &check(CheckKind::Http(page.clone()), 444));
    page.urls[0].path = "/missing".into();
    down(
        &lab.netns,
        &check(CheckKind::Http(page.clone()), 444),
        "status 404",
    );
    page.tls = None;
    down(
        &lab.netns,
        &check(CheckKind::Http(page), 1),
        "connection refused",
    );
}

#[test]
fn exim_greets() {
    let mut lab = Lab::new();
    lab.file(
        "exim.conf",
        "primary_hostname = mx.checked.example
spool_directory = HOME/spool
log_file_path = HOME/%slog
pid_file_path = HOME/pid
exim_path = /usr/sbin/exim4
daemon_smtp_ports = 25
local_interfaces = 127.0.0.1
tls_advertise_hosts =
host_lookup =
acl_smtp_helo = check_helo
begin acl
check_helo:
  deny condition = ${if exists{HOME/closed}}
       message = not today
  accept
begin routers
begin transports
begin retry
",
    );
    let exim = nix::unistd::User::from_name("Debian-exim")
        .unwrap()
        .expect("exim is installed");
    lab.directory("spool", Some("Debian-exim"));
    std::os::unix::fs::chown(&lab.home, Some(exim.uid.as_raw()), None).unwrap();
    lab.start("/usr/sbin/exim4", "-C HOME/exim.conf -bdf -v");
    lab.listening(25);
    let smtp = check(
        CheckKind::Smtp(SmtpCheck {
            helo_name: "smtpchecker.keepalived.org".into(),
        }),
        25,
    );
    up(&lab.netns, &smtp);
    lab.file("closed", "");
    down(&lab.netns, &smtp, "HELO: 550 instead of 250");
    lab.stop(25);
    down(&lab.netns, &smtp, "connection refused");
}

#[test]
fn knot_answers() {
    let mut lab = Lab::new();
    lab.file(
        "zone",
        "$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n",
    );
    lab.file(
        "knot.conf",
        "server:\n  rundir: HOME\n  listen: 127.0.0.1@53\n  user: root:root
  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1
database:\n  storage: HOME/db
log:\n  - target: stderr\n    any: warning
template:\n  - id: default\n    storage: HOME\n    journal-content: none\n    zonefile-load: whole
zone:\n  - domain: example.org\n    file: zone\n",
    );
    lab.start("/usr/sbin/knotd", "-c HOME/knot.conf");
    lab.listening(53);
    let ask = |name: &str, record| {
        check(
            CheckKind::Dns(DnsCheck {
                name: name.into(),
                record,
            }),
            53,
        )
    };
    for record in [
        DnsRecord::Soa,
        DnsRecord::Ns,
        DnsRecord::Mx,
        DnsRecord::Aaaa,
    ] {
        // Answers are not looked at: none is as good.
        up(&lab.netns, &ask("example.org", record));
    }
    down(
        &lab.netns,
        &ask("none.example.org", DnsRecord::A),
        "Non-Existent Domain",
    );
    down(&lab.netns, &ask(".", DnsRecord::Soa), "Refused");
    lab.stop(53);
    down(
        &lab.netns,
        &ask("example.org", DnsRecord::Soa),
        "connection refused",
    );
}

#[test]
fn the_host_answers_echoes() {
    let lab = Lab::new();
    let ping = CheckKind::Ping(PingCheck { count: 1 });
    up(&lab.netns, &check(ping.clone(), 0));
    lab.netns
        .sysctl("net.ipv6.conf.lo.disable_ipv6", "0")
        .unwrap();
    let mut six = check(ping.clone(), 0);
    six.target.addr = std::net::Ipv6Addr::LOCALHOST.into();
    up(&lab.netns, &six);
    // Where the kernel's own echo sockets are allowed, these are used.
    lab.netns
        .sysctl("net.ipv4.ping_group_range", "0 0")
        .unwrap();
    up(&lab.netns, &check(ping.clone(), 0));
    up(&lab.netns, &six);
    lab.netns
        .sysctl("net.ipv4.icmp_echo_ignore_all", "1")
        .unwrap();
    let mut deaf = check(ping, 0);
    deaf.pace.timeout = Duration::from_millis(200);
    down(&lab.netns, &deaf, "no answer within");
    deaf.target.addr = [192, 0, 2, 1].into();
    down(&lab.netns, &deaf, "unreachable");
}

#[test]
fn the_kernel_speaks_for_closed_udp_ports() {
    let lab = Lab::new();
    let udp = |reply| {
        let mut udp = check(
            CheckKind::Udp(UdpCheck {
                payload: None,
                reply,
            }),
            9,
        );
        udp.pace.timeout = Duration::from_millis(300);
        udp
    };
    down(&lab.netns, &udp(None), "connection refused");
    let _taken = lab
        .netns
        .run(|| std::net::UdpSocket::bind("127.0.0.1:9").unwrap());
    up(&lab.netns, &udp(None));
}

#[test]
fn scripts_answer_by_their_status() {
    let lab = Lab::new();
    let script = |text: &str, dynamic| {
        let path = lab.file("check", &format!("#!/bin/sh\n{text}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let mut script = check(
            CheckKind::Script(ScriptCheck {
                script: Script::new([path.to_str().unwrap(), "10.0.0.1", "80"]),
                dynamic,
            }),
            0,
        );
        script.pace.timeout = Duration::from_millis(500);
        script
    };
    up(&lab.netns, &script("test $1:$2 = 10.0.0.1:80", false));
    down(
        &lab.netns,
        &script("echo no disk >&2; exit 1", true),
        "status 1: no disk",
    );
    let weighed = up(&lab.netns, &script("exit 52", true));
    assert_eq!(weighed.weight, Some(Weigh::To(50)));
    down(&lab.netns, &script("exit 52", false), "status 52");
    down(&lab.netns, &script("kill -9 $$", false), "signal 9");
    down(&lab.netns, &script("exec sleep 60", false), "timed out");
}

#[test]
fn a_file_holds_a_weight() {
    let lab = Lab::new();
    let path = lab.file("load", "-3\n");
    let file = check(
        CheckKind::File(FileCheck {
            name: "load".into(),
            path: path.clone(),
            weight: 2,
            reverse: false,
            dynamic: true,
        }),
        0,
    );
    assert_eq!(up(&lab.netns, &file).weight, Some(Weigh::By(-6)));
    fs::write(&path, "-2147483648").unwrap();
    down(&lab.netns, &file, "weight -4294967296");
    fs::remove_file(&path).unwrap();
    assert_eq!(up(&lab.netns, &file).weight, Some(Weigh::By(0)));
}

#[test]
fn combined_checks_negotiate() {
    let lab = nginx();
    let mut negotiate = NegotiateCheck::new(NegotiateService::Http);
    negotiate.request = Some("page".into());
    negotiate.receive = Some("hello".into());
    let combined = |negotiate| {
        check(
            CheckKind::Combined(CombinedCheck {
                negotiate,
                connects: 2,
            }),
            80,
        )
    };
    up(&lab.netns, &combined(negotiate.clone()));
    negotiate.receive = Some("bye".into());
    down(&lab.netns, &combined(negotiate), "does not match");
}

#[test]
fn probes_leave_by_the_source_they_are_given() {
    let lab = Lab::new();
    let listener = lab
        .netns
        .run(|| std::net::TcpListener::bind("127.0.0.1:80").unwrap());
    let mut tcp = check(CheckKind::Tcp, 80);
    tcp.target.bind_addr = Some([127, 0, 0, 9].into());
    tcp.target.bind_port = Some(4000);
    tcp.target.interface = Some("lo".into());
    tcp.target.mark = 7;
    for _ in 0..2 {
        // Twice: the first connection is in TIME_WAIT then.
        up(&lab.netns, &tcp);
        let (_, from) = listener.accept().unwrap();
        assert_eq!(from.to_string(), "127.0.0.9:4000");
    }
    tcp.target.interface = Some("none0".into());
    assert!(!probe(&lab.netns, &tcp).up);
}
