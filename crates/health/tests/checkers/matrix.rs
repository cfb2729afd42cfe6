//! Every checker against every way to misbehave: a table of who is up.

use std::time::{Duration, Instant};

use pointsman_model::CheckKind;
use pointsman_model::check::{
    AgentCheck, CombinedCheck, Damping, DnsCheck, DnsRecord, HttpProtocol, NegotiateCheck,
    NegotiateService, ReplyPattern, SmtpCheck, TlsOptions, UdpCheck,
};
use pointsman_testkit::{Behaviour, MisbehavingServer};

use crate::common::Lab;
use crate::{check, http, probe};

/// `connect_timeout` of these checks.
const STEP: Duration = Duration::from_millis(300);
/// Longest that a probe may take: the steps of the longest one, and a busy machine.
const LONGEST: Duration = Duration::from_secs(20);

const HTTP_OK: &[u8] = b"HTTP/1.0 200 OK\r\n\r\nok";
const HTTP_BAD: &[u8] = b"HTTP/1.0 503 Busy\r\n\r\nno";
/// An endless head, and an endless body.
const HEAD: &[u8] = b"HTTP/1.0 200 OK\r\nX: ";

struct Row {
    name: &'static str,
    kind: CheckKind,
    healthy: Behaviour,
    wrong: Behaviour,
    /// Of refused, silent, slow, half-closed, reset, garbage, endless: `+` up, `-` down, `?` nothing said.
    others: &'static str,
}

fn answers(greets: bool, with: &'static [&'static [u8]]) -> Behaviour {
    Behaviour::Answers { greets, with }
}

fn rows() -> Vec<Row> {
    let get = |protocol, tls: Option<TlsOptions>| {
        let mut get = http("/");
        (get.protocol, get.tls) = (protocol, tls);
        CheckKind::Http(get)
    };
    let udp = |reply| {
        CheckKind::Udp(UdpCheck {
            payload: Some(b"ping".into()),
            reply,
        })
    };
    let pong = ReplyPattern {
        bytes: b"pong".to_vec(),
        mask: vec![0xff; 4],
        min_len: 4,
        max_len: 255,
    };
    let silent = Behaviour::Silent;
    vec![
        // A connection is all that it wants.
        Row {
            name: "TCP_CHECK",
            kind: CheckKind::Tcp,
            healthy: silent,
            wrong: Behaviour::Refused,
            others: "-++++++",
        },
        Row {
            name: "HTTP_GET",
            kind: get(HttpProtocol::Http10, None),
            healthy: answers(false, &[HTTP_OK]),
            wrong: answers(false, &[HTTP_BAD]),
            others: "-------",
        },
        Row {
            name: "HTTP_GET 2",
            kind: get(HttpProtocol::Http2, None),
            healthy: silent,
            wrong: answers(false, &[HTTP_OK]),
            others: "-------",
        },
        Row {
            name: "SSL_GET",
            kind: get(HttpProtocol::Http10, Some(TlsOptions::default())),
            healthy: silent,
            wrong: answers(false, &[HTTP_OK]),
            others: "-------",
        },
        Row {
            name: "SMTP_CHECK",
            kind: CheckKind::Smtp(SmtpCheck {
                helo_name: "x".into(),
            }),
            healthy: answers(
                true,
                &[
                    b"220-hello\r\n220 there\r\n",
                    b"250 hello\r\n",
                    b"221 bye\r\n",
                ],
            ),
            wrong: answers(true, &[b"220 hello\r\n", b"550 no\r\n"]),
            others: "-------",
        },
        Row {
            name: "DNS_CHECK",
            kind: CheckKind::Dns(DnsCheck {
                name: ".".into(),
                record: DnsRecord::Soa,
            }),
            // What echoes no id answers nobody.
            healthy: silent,
            wrong: answers(false, &[b"\0\0\x80"]),
            others: "-------",
        },
        Row {
            name: "UDP_CHECK",
            kind: udp(None),
            healthy: silent,
            wrong: Behaviour::Refused,
            others: "-++++++",
        },
        Row {
            name: "UDP_CHECK with reply",
            kind: udp(Some(pong)),
            healthy: answers(false, &[b"pong"]),
            wrong: answers(false, &[b"pang"]),
            others: "-------",
        },
        Row {
            name: "agent",
            kind: CheckKind::Agent(AgentCheck {
                send: None,
                damping: Damping::default(),
            }),
            healthy: answers(true, &[b"up 80%\n"]),
            wrong: answers(true, &[b"down # no disk\n"]),
            // One that is out of its mind says nothing of the server.
            others: "???????",
        },
        Row {
            name: "combined",
            kind: CheckKind::Combined(CombinedCheck {
                negotiate: NegotiateCheck::new(NegotiateService::Http),
                connects: 1,
            }),
            healthy: answers(false, &[HTTP_OK]),
            wrong: answers(false, &[HTTP_BAD]),
            others: "-------",
        },
    ]
}

fn column(name: &str) -> [Behaviour; 7] {
    [
        Behaviour::Refused,
        Behaviour::Silent,
        Behaviour::Slow,
        Behaviour::HalfClosed,
        Behaviour::Reset,
        Behaviour::Garbage,
        Behaviour::Endless(if name.starts_with("HTTP") {
            HEAD
        } else {
            b"220-x\r\n"
        }),
    ]
}

#[test]
fn every_checker_meets_every_misbehaviour() {
    let lab = Lab::new();
    let mut port = 1000;
    let mut wrong = Vec::new();
    for row in rows() {
        let mut judge = |behaviour: Behaviour, expected: char| {
            port += 1;
            let _server = MisbehavingServer::start(&lab.netns, port, behaviour).unwrap();
            let mut check = check(row.kind.clone(), port);
            check.pace.timeout = STEP;
            if let Behaviour::Answers { .. } = behaviour {
                check.pace.timeout = Duration::from_secs(20);
            }
            let began = Instant::now();
            let outcome = probe(&lab.netns, &check);
            let got = match (outcome.counts, outcome.up) {
                (false, _) => '?',
                (true, true) => '+',
                (true, false) => '-',
            };
            if got != expected || (began.elapsed() > LONGEST && check.pace.timeout == STEP) {
                wrong.push(format!(
                    "{} {behaviour:?}: {got} instead of {expected} after {:?}: {}",
                    row.name,
                    began.elapsed(),
                    outcome.reason
                ));
            }
        };
        // These have no scripted healthy server; theirs are nginx and knot.
        if !matches!(row.name, "SSL_GET" | "DNS_CHECK" | "HTTP_GET 2") {
            judge(row.healthy, '+');
        }
        judge(row.wrong, '-');
        for (behaviour, expected) in column(row.name).into_iter().zip(row.others.chars()) {
            judge(behaviour, expected);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
