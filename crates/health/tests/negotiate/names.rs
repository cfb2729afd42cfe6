//! dns against Knot, sip against sipp.

use pointsman_model::check::NegotiateCheck;
use pointsman_model::check::NegotiateService::{Dns, Sip};

use crate::common::{Lab, check, over_udp, with_login};
use crate::ldirectord::{agrees, verdicts};

/// A Knot with a zone and its reverse.
pub fn knot() -> Lab {
    let mut lab = Lab::new();
    let many: String = (1..=100).map(|n| format!("many A 10.1.0.{n}\n")).collect();
    lab.file(
        "zone",
        &format!(
            "$TTL 60
@ SOA ns hostmaster 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
www A 10.0.0.1
www A 10.0.0.2
alias CNAME www
six AAAA fd00::1
{many}"
        ),
    );
    lab.file(
        "reverse",
        "$TTL 60
@ SOA ns.example.org. hostmaster.example.org. 1 3600 600 86400 60
@ NS ns.example.org.
1 PTR www.example.org.
",
    );
    lab.file(
        "knot.conf",
        "server:\n  rundir: HOME\n  listen: 127.0.0.1@53\n  user: root:root
  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1
database:\n  storage: HOME/db
log:\n  - target: stderr\n    any: warning
template:\n  - id: default\n    storage: HOME\n    journal-content: none\n    zonefile-load: whole
zone:\n  - domain: example.org\n    file: zone
  - domain: 0.0.10.in-addr.arpa\n    file: reverse\n",
    );
    lab.start("/usr/sbin/knotd", "-c HOME/knot.conf");
    lab.listening(53);
    lab
}

#[test]
fn knot_knows_names_and_addresses() {
    let mut lab = knot();
    for question in [|check| check, over_udp] {
        let ask = |request, receive| question(check(Dns, request, receive));
        lab.up(&ask("www.example.org", r"^10\.0\.0\.2$"), 53);
        lab.up(&ask("alias.example.org", r"10\.0\.0\.1"), 53);
        lab.up(&ask("10.0.0.1", r"^www\.example\.org$"), 53);
        // More than one datagram holds.
        lab.up(&ask("many.example.org", r"10\.1\.0\.100"), 53);
        lab.down(&ask("www.example.org", r"10\.9"), 53, "does not match");
        lab.down(&ask("six.example.org", "."), 53, "no answer");
        lab.down(&ask("none.example.org", "."), 53, "no answer");
        lab.down(&ask("www.example.com", "."), 53, "no answer");
        lab.down(&ask("www.example.org", ""), 53, "receive is needed");
        let questions = [
            ("www.example.org", "10.0.0.2"),
            ("alias.example.org", "10.0.0.1"),
            ("10.0.0.1", "^www.example.org$"),
            ("many.example.org", "10.1.0.100"),
            ("www.example.org", "10.9"),
            ("six.example.org", "."),
            ("none.example.org", "."),
            ("www.example.org", ""),
        ];
        agrees(
            &lab,
            &questions.map(|(name, answer)| (ask(name, answer), 53)),
        );
    }
    let ask = check(Dns, "www.example.org", r"10\.0");
    lab.stop(53);
    lab.down(&ask, 53, "connection refused");
    lab.down(&over_udp(ask), 53, "connection refused");
}

/// Answers OPTIONS for `ping`, and nothing else.
const SCENARIO: &str = r#"<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="options">
  <recv request="OPTIONS" />
  <send><![CDATA[
    SIP/2.0 STATUS
    [last_Via:]
    [last_From:]
    [last_To:];tag=[call_number]
    [last_Call-ID:]
    [last_CSeq:]
    Content-Length: 0
  ]]></send>
</scenario>
"#;

#[test]
fn sipp_answers_options() {
    for (transport, status) in [
        ("u1", "200 OK"),
        ("t1", "200 OK"),
        ("u1", "486 Busy Here"),
        ("t1", "503 Service Unavailable"),
    ] {
        let mut lab = Lab::new();
        lab.file("options.xml", &SCENARIO.replace("STATUS", status));
        let arguments = "-sf HOME/options.xml -nostdin -i 127.0.0.1 -p 5060 -t ";
        lab.start("sipp", &format!("{arguments}{transport}"));
        let question = with_login(NegotiateCheck::new(Sip), "ping@127.0.0.1", "");
        let question = match transport {
            "u1" => {
                lab.bound(5060);
                over_udp(question)
            }
            _ => {
                lab.listening(5060);
                question
            }
        };
        match status {
            "200 OK" => lab.up(&question, 5060),
            _ => lab.down(
                &question,
                5060,
                &format!("OPTIONS was refused: \"SIP/2.0 {status}"),
            ),
        }
        let elsewhere = with_login(NegotiateCheck::new(Sip), "ping@127.0.0.1", "");
        let right = status == "200 OK";
        assert_eq!(
            verdicts(&lab, &[(question.clone(), 5060), (elsewhere, 5061)]),
            [right, false]
        );
        lab.stop(5060);
        lab.down(&question, 5060, "connection refused");
    }
}
