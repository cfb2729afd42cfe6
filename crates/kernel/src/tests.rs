//! Over what a real kernel answered, and over anything else.

use pointsman_config::ipvsadm::{Layout, Numeric, View, print_rules, print_services};
use pointsman_config::proc;
use pointsman_model::{Counters, Protocol, Rates, Scheduler, ServiceKey, ServiceView, Timeouts};
use proptest::prelude::*;

use crate::socket::Answers;
use crate::{Error, Snapshot, parse};

const RECORD: &str = include_str!("../../../tests/oracle/kernel.recorded");

/// Datagrams of the recorded answers of one kind, an item for each request.
fn recorded(kind: &'static str) -> impl Iterator<Item = Vec<Vec<u8>>> {
    let lines = RECORD.lines().filter_map(|line| line.strip_prefix("@ "));
    let of_kind = lines.filter_map(move |line| line.strip_prefix(kind));
    of_kind.map(|line| line.split_whitespace().map(bytes).collect())
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|d| u8::from_str_radix(str::from_utf8(d).unwrap(), 16).unwrap())
        .collect()
}

/// What the answers to a request hold; they were recorded under sequence number 1.
fn answers(datagrams: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Error> {
    let mut answers = Answers::new(1);
    for datagram in datagrams {
        answers.take(datagram)?;
    }
    Ok(answers.attributes)
}

fn only(mut requests: impl Iterator<Item = Vec<Vec<u8>>>) -> Vec<Vec<u8>> {
    answers(&requests.next().unwrap()).unwrap()
}

/// Every service whose scheduler the model has.
fn snapshot() -> Snapshot {
    let mut services = Vec::new();
    for (answer, servers) in only(recorded("services")).iter().zip(recorded("servers")) {
        let mut service = match parse::service(answer) {
            Ok(service) => service,
            Err(Error::Foreign {
                reason: pointsman_model::Error::SchedulerNotFound(_),
                ..
            }) => continue,
            Err(error) => panic!("{error}"),
        };
        for answer in answers(&servers).unwrap() {
            let server = parse::server(&service.spec.key, &answer).unwrap();
            service.servers.push(server);
        }
        services.push(service);
    }
    let timeouts = parse::timeouts(&only(recorded("timeouts"))[0]).unwrap();
    Snapshot { services, timeouts }
}

/// What a recorded command said.
fn said(command: &str) -> Vec<&'static str> {
    let from = RECORD
        .lines()
        .skip_while(|line| *line != format!("$ {command}"));
    from.skip(1)
        .map_while(|line| line.strip_prefix("> "))
        .collect()
}

/// A listing in the order of the answers, without services whose scheduler the model lacks.
fn listing(command: &str) -> String {
    let answers = only(recorded("services"));
    let known: Vec<_> = answers.iter().map(|a| parse::service(a).is_ok()).collect();
    let mut known = known.into_iter();
    let mut wanted = true;
    let lines = said(command);
    let (titles, rows) = lines.split_at(3);
    let mut text = titles.to_vec();
    for row in rows {
        if !row.starts_with("  ->") {
            wanted = known.next().unwrap();
        }
        if wanted {
            text.push(row);
        }
    }
    text.join("\n") + "\n"
}

#[test]
fn the_recorded_rules_come_out() {
    let mut wanted = String::new();
    let mut wants = false;
    for rule in said("ipvsadm -Sn") {
        if rule.starts_with("-A") {
            let name = rule.split(' ').skip_while(|word| *word != "-s").nth(1);
            wants = name.unwrap().parse::<Scheduler>().is_ok();
        }
        if wants {
            wanted += &format!("{rule}\n");
        }
    }
    assert!(wanted.lines().count() > 20);
    let mut rules = Vec::new();
    print_rules(&mut rules, &Numeric, &snapshot().services).unwrap();
    assert_eq!(String::from_utf8(rules).unwrap(), wanted);
}

#[test]
fn the_recorded_listings_come_out() {
    let services = snapshot().services;
    for (options, view) in [
        ("", View::Plain),
        (" --persistent-conn", View::Persistent),
        (" --stats", View::Stats),
        (" --rate", View::Rate),
    ] {
        let layout = Layout {
            view,
            exact: false,
            sorted: false,
            connection_slots: Some(4096),
        };
        let mut out = Vec::new();
        print_services(&mut out, &Numeric, &services, layout).unwrap();
        let wanted = listing(&format!("ipvsadm -Ln --nosort{options}"));
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }
    let mut out = Vec::new();
    proc::print_services(&mut out, &services, 4096, 250).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        listing("cat /proc/net/ip_vs")
    );
}

/// What rules do not tell.
#[test]
fn thresholds_counters_and_timeouts_are_read() {
    let snapshot = snapshot();
    let timeouts = Timeouts {
        tcp: 901,
        tcp_fin: 121,
        udp: 302,
    };
    assert_eq!(snapshot.timeouts, timeouts);
    let find = |protocol, vip: [u8; 4], port| -> &ServiceView {
        let key = ServiceKey::Address {
            protocol,
            addr: vip.into(),
            port,
        };
        let mut services = snapshot.services.iter();
        services.find(|s| s.spec.key == key).unwrap()
    };
    let web = find(Protocol::Tcp, [192, 0, 2, 1], 80);
    let thresholds: Vec<_> = web
        .servers
        .iter()
        .map(|s| (s.spec.upper_threshold, s.spec.lower_threshold))
        .collect();
    assert_eq!(thresholds, [(0, 0), (100, 80)], "newest first");
    // 15 datagrams of 100 bytes, one connection each, two seconds before.
    let dns = find(Protocol::Udp, [192, 0, 2, 2], 53);
    let counters = Counters {
        conns: 15,
        in_packets: 15,
        in_bytes: 1920,
        ..Counters::default()
    };
    assert_eq!(
        (dns.counters, dns.servers[0].counters),
        (counters, counters)
    );
    let rates = Rates {
        cps: 2,
        in_pps: 2,
        in_bps: 240,
        ..Rates::default()
    };
    assert_eq!((dns.rates, dns.servers[0].rates), (rates, rates));
}

/// Reads a datagram as everything it could be.
fn read(datagram: &[u8]) {
    let key = ServiceKey::Mark {
        mark: 1,
        family: pointsman_model::Family::V4,
    };
    let mut answers = Answers::new(1);
    let _ = answers.take(datagram);
    for answer in answers
        .attributes
        .iter()
        .map(Vec::as_slice)
        .chain([datagram])
    {
        let _ = parse::service(answer);
        let _ = parse::server(&key, answer);
        let _ = parse::timeouts(answer);
    }
}

proptest! {
    #[test]
    fn any_bytes_give_values_or_an_error(datagram in prop::collection::vec(any::<u8>(), 0..200)) {
        read(&datagram);
    }

    #[test]
    fn so_do_answers_with_a_few_bytes_changed(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let all: Vec<_> = ["services", "servers", "timeouts"]
            .into_iter()
            .flat_map(|kind| recorded(kind).flatten())
            .collect();
        let mut datagram = which.get(&all).clone();
        for (at, byte) in changes {
            *at.get_mut(&mut datagram) = byte;
        }
        read(&datagram);
        read(&datagram[..cut.index(datagram.len())]);
    }
}

#[test]
fn a_refusal_is_told_as_what_it_is() {
    // An error message of 36 bytes: a header with sequence number 1, the error, the request's header.
    let mut message = vec![36, 0, 0, 0];
    message.resize(36, 0);
    message[4..12].copy_from_slice(&[2, 0, 0, 0, 1, 0, 0, 0]);
    message[16..20].copy_from_slice(&(-1_i32).to_ne_bytes());
    assert!(matches!(Answers::new(1).take(&message), Err(Error::Denied)));
    message[16..20].copy_from_slice(&(-2_i32).to_ne_bytes());
    assert!(matches!(Answers::new(1).take(&message), Err(Error::Io(_))));
    message[16..20].copy_from_slice(&0_i32.to_ne_bytes());
    let mut answers = Answers::new(1);
    answers.take(&message).unwrap();
    assert!(answers.complete);
}
