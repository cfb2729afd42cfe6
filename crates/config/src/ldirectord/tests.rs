use std::net::IpAddr;

use pointsman_model::CheckKind;
use pointsman_model::check::{NegotiateService as Service, Transport};
use pointsman_model::{Family, Forwarding, Protocol, ServiceKey};

use super::*;

/// Knows a few names; says no to files under `/nowhere`.
struct Lan;

impl Surroundings for Lan {
    fn host_addr(&self, name: &str, family: Family) -> Option<IpAddr> {
        let addr = match (name, family) {
            ("www", Family::V4) => "10.0.0.7",
            ("sql01", Family::V4) => "10.0.0.11",
            ("sql03", Family::V4) => "10.0.0.13",
            ("www", Family::V6) => "2001:db8::7",
            _ => return None,
        };
        addr.parse().ok()
    }

    fn service_port(&self, name: &str, _protocol: Option<Protocol>) -> Option<u16> {
        (name == "http").then_some(80)
    }

    fn host_name(&self) -> String {
        "lb1".into()
    }

    fn is_directory(&self, path: &str) -> bool {
        !path.starts_with("/nowhere")
    }

    fn append(&self, path: &str) -> Result<(), String> {
        match path.starts_with("/nowhere") {
            true => Err("No such file or directory".into()),
            false => Ok(()),
        }
    }
}

fn good(text: &str) -> Config {
    let reading = read(text, &Lan);
    assert_eq!(reading.problems, [], "{text}");
    reading.config
}

/// The first problem, as it is printed.
fn complaint(text: &str) -> String {
    let reading = read(text, &Lan);
    let first = reading.problems.first().expect("a problem");
    first.original("f.cf", 1)
}

fn block(lines: &str) -> String {
    let lines: String = lines.lines().map(|l| format!("\t{l}\n")).collect();
    format!("virtual=10.0.0.1:80\n{lines}")
}

#[test]
fn an_empty_file_has_the_originals_defaults() {
    let config = good("# nothing\n\n  # indented\n");
    assert_eq!(config, Config::default());
    assert_eq!(config.globals.check_interval, 10);
    assert!(!config.globals.quiescent, "the code, not the manual");
}

#[test]
fn a_whole_service_is_read() {
    let config = good(
        "checktimeout=3\ncheckinterval=1 # often\nautoreload=yes\nfallback=127.0.0.1\n\
         virtual=www:http\n\
         \treal=10.0.0.2:80 gate\n\
         \t# a comment\n\
         \treal=10.0.0.3->10.0.0.5:8080 masq 5 \"/x\", \"ok\" l:10 u:20\n\
         \tservice=http\n\
         \trequest=\"index.html\" # a page\n\
         \tpersistent=600\n\
         \tvirtualhost=some.domain.com.au\n",
    );
    let service = &config.virtuals[0];
    assert_eq!(service.label(), "10.0.0.7:80");
    assert_eq!(service.id(), "tcp:10.0.0.7:80");
    assert_eq!(service.reals.len(), 4);
    assert_eq!(service.reals[0].forwarding, Forwarding::Route);
    let ranged = &service.reals[3];
    assert_eq!(ranged.key.addr.to_string(), "10.0.0.5");
    assert_eq!((ranged.weight.get(), ranged.key.port), (5, 8080));
    assert_eq!((ranged.lower_threshold, ranged.upper_threshold), (10, 20));
    assert_eq!(service.question(ranged), ("/x", "ok"));
    assert_eq!(service.question(&service.reals[0]), ("/index.html", ""));
    assert_eq!(config.check_timeout(service).as_secs(), 3);
    assert_eq!(config.negotiate_timeout(service).as_secs(), 3);
    let (fallback, forwarding) = config.fallback(service).unwrap();
    assert_eq!((fallback.port, forwarding), (80, Forwarding::Route));
    assert_eq!(
        service.check_id(&service.reals[0]),
        "negotiate:http:tcp:10.0.0.2:80:some.domain.com.au::1:gate:/index.html:"
    );
}

#[test]
fn timeouts_stand_in_for_each_other() {
    for (global, own, check, negotiate) in [
        ("", "", 5, 30),
        ("checktimeout=2\n", "", 2, 2),
        ("negotiatetimeout=7\n", "", 7, 7),
        ("checktimeout=2\nnegotiatetimeout=7\n", "", 2, 7),
        ("checktimeout=2\n", "negotiatetimeout=9", 9, 9),
        ("negotiatetimeout=7\n", "checktimeout=4", 4, 4),
    ] {
        let config = good(&(global.to_owned() + &block(own)));
        let service = &config.virtuals[0];
        assert_eq!(
            config.check_timeout(service).as_secs(),
            check,
            "{global}{own}"
        );
        let found = config.negotiate_timeout(service).as_secs();
        assert_eq!(found, negotiate, "{global}{own}");
    }
}

/// ldirectord gives LDAP and RADIUS `checktimeout`, and asks names of a marked service by UDP.
#[test]
fn each_negotiate_check_has_its_limit_and_transport() {
    let globals = "checktimeout=2\nnegotiatetimeout=7\n";
    for (address, service, limit, transport) in [
        ("10.0.0.1:80", "http", 7, Transport::Tcp),
        ("10.0.0.1:389", "ldap", 2, Transport::Tcp),
        ("10.0.0.1:636", "ldaps", 2, Transport::Tcp),
        ("10.0.0.1:1812", "radius", 2, Transport::Tcp),
        ("10.0.0.1:53", "dns", 7, Transport::Udp),
        ("1", "dns", 7, Transport::Udp),
        ("1", "sip", 7, Transport::Tcp),
    ] {
        let lines = format!("\treal=10.0.0.2:99 gate\n\tservice={service}\n");
        let config = good(&format!("{globals}virtual={address}\n{lines}"));
        let virtual_service = &config.virtuals[0];
        let check = config.check(virtual_service, &virtual_service.reals[0]);
        let check = check.unwrap();
        let CheckKind::Negotiate(question) = &check.kind else {
            panic!("{check:?}");
        };
        let found = (check.pace.timeout.as_secs(), question.transport);
        assert_eq!(found, (limit, transport), "{address} {service}");
    }
}

#[test]
fn marks_have_no_protocol_and_no_service() {
    let config = good("virtual=1\n    real=10.0.0.2 gate\nvirtual6=1\n    real6=[fd00::2] gate\n");
    let [four, six] = &config.virtuals[..] else {
        panic!("{config:?}")
    };
    assert_eq!((four.id().as_str(), six.id().as_str()), ("fwm:1", "fwm6:1"));
    assert_eq!(four.service, Service::None);
    assert_eq!(four.checked_port(&four.reals[0]), None);
    assert!(matches!(
        six.key,
        ServiceKey::Mark {
            family: Family::V6,
            ..
        }
    ));
}

#[test]
fn a_port_of_dns_means_udp() {
    let config = good("virtual=10.0.0.1:53\n    real=10.0.0.2:53 masq\n");
    assert_eq!(config.virtuals[0].id(), "udp:10.0.0.1:53");
    assert_eq!(config.virtuals[0].service, Service::Dns);
}

#[test]
fn names_of_a_range_are_resolved() {
    let config = good(&block("real=sql01->sql03:3306 gate 10"));
    let addrs: Vec<_> = config.virtuals[0]
        .reals
        .iter()
        .map(|r| r.key.addr.to_string())
        .collect();
    assert_eq!(addrs, ["10.0.0.11", "10.0.0.12", "10.0.0.13"]);
}

#[test]
fn two_colons_before_a_port_are_mended_and_told() {
    let reading = read(&block("real=192.168.6.2::5060 gate"), &Lan);
    assert_eq!(reading.problems[0].severity, Severity::Warning);
    assert_eq!(reading.config.virtuals[0].reals[0].key.port, 5060);
}

#[test]
fn problems_read_as_the_original_has_them() {
    let at = |n: usize, text: &str| format!("Error [1] reading file f.cf at line {n}: {text}");
    for (text, expected) in [
        ("foo=bar\n".to_owned(), at(1, "Unknown command foo=bar\n ")),
        ("foo=bar".to_owned(), at(1, "Unknown command foo=bar ")),
        (block("foo=bar"), at(2, "Unknown command \"\tfoo=bar\n\"")),
        (
            block("\n    real=10.0.0.1 gate"),
            at(3, "Unknown command \t    real=10.0.0.1 gate\n "),
        ),
        (
            "virtual=1\n\n    real=10.0.0.1 gate\n".to_owned(),
            at(3, "Unknown command     real=10.0.0.1 gate\n "),
        ),
        (
            "autoreload = yes \n".to_owned(),
            at(1, "autoreload must be 'yes' or 'no'"),
        ),
        (
            block("real=10.0.0.2:80 nat"),
            at(2, "forward method must be gate, masq or ipip"),
        ),
        (
            block("real=10.0.0.2:80 gate x"),
            at(2, "Invalid real server line, around \" x\""),
        ),
        (
            block("real=10.0.0.2:80"),
            at(2, "invalid address for real server (wrong format)"),
        ),
        (
            block("real=nobody:80 gate"),
            at(
                2,
                "invalid address (nobody) for real server (could not resolve host)",
            ),
        ),
        (
            block("real6=[fd00::1]:80 gate"),
            at(
                2,
                "cannot specify \"real6\" here.  please use \"real\" instead",
            ),
        ),
        (
            block("netmask=24"),
            at(2, "invalid netmask: dotted quad notation is required"),
        ),
        (
            block("") + "virtual=10.0.0.1:80\n",
            at(2, "duplicate virtual server"),
        ),
        (
            block("monitorfile=/nowhere/f"),
            at(
                2,
                "unable to open monitorfile /nowhere/f: No such file or directory",
            ),
        ),
    ] {
        assert_eq!(complaint(&text), expected, "{text}");
    }
    assert_eq!(
        complaint("maintenancedir=/nowhere\n"),
        "Warning [1] reading file f.cf at line 1: maintenance directory does not exist"
    );
}

#[test]
fn problems_have_a_column_and_say_what_would_be_right() {
    let text = block("real=10.0.0.2:80 nat\nreal=10.0.0.2:80 gate 1 u:5 u:3");
    let problems: Vec<_> = read(&text, &Lan)
        .problems
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        problems,
        [
            "2:19: forward method must be gate, masq or ipip",
            "3:30: Invalid real server line, around \" u:3\"; expected METHOD [WEIGHT] \
             [\"REQUEST\", \"RECEIVE\"] [l:N] [u:N]",
        ]
    );
}

#[test]
fn all_problems_of_a_file_are_found() {
    let text = "a=b\nvirtual=x\n    real=10.0.0.1 gate\n    scheduler=9\nquiescent=maybe\n";
    let lines: Vec<_> = read(text, &Lan).problems.iter().map(|p| p.line).collect();
    assert_eq!(lines, [Some(1), Some(2), Some(4), Some(5)]);
}

#[test]
fn long_ranges_are_refused() {
    assert!(complaint(&block("real=10.0.0.0->10.255.255.255 gate")).contains("16777216 addresses"));
}

mod anything {
    use proptest::prelude::*;

    use super::*;

    /// Words that a file is made of, so that random lines get far.
    fn piece() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("virtual=".to_owned()),
            Just("virtual6 = [::1]:80".to_owned()),
            Just("\n".to_owned()),
            Just("\n\t".to_owned()),
            Just("real=".to_owned()),
            Just("10.0.0.1".to_owned()),
            Just("->".to_owned()),
            Just(":80 gate 1 ".to_owned()),
            Just("\"a\", \"b\"".to_owned()),
            Just(" l:1".to_owned()),
            Just("fallback=".to_owned()),
            Just("checktype=".to_owned()),
            Just("emailalertstatus=none,all".to_owned()),
            "[ -~\t\n]{0,8}",
            "\\PC{0,4}",
        ]
    }

    proptest! {
        #[test]
        fn is_read_without_panic(pieces in proptest::collection::vec(piece(), 0..40)) {
            let text = pieces.concat();
            let reading = read(&text, &Lan);
            for problem in &reading.problems {
                let line = problem.line.unwrap_or(1);
                prop_assert!(line <= text.split('\n').count());
                problem.original("f", 1);
            }
        }
    }
}
