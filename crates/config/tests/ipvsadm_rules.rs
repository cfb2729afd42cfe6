//! Rules survive being printed and read, and thousands of them travel together.

mod support;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::{NonZeroU16, NonZeroU32};

use pointsman_config::ipvsadm::{Numeric, print_rules};
use pointsman_model::{
    Counters, Encapsulation, Family, Forwarding, Persistence, Protocol, Rates, SchedFlags,
    Scheduler, ServerKey, ServerSpec, ServerView, ServiceKey, ServiceSpec, ServiceView,
    TunnelChecksum, Weight,
};
use proptest::collection::vec;
use proptest::prelude::*;
use support::kernel::Kernel;
use support::say;

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn rules(services: &[ServiceView]) -> String {
    let mut out = Vec::new();
    print_rules(&mut out, &Numeric, services).expect("memory can be written");
    String::from_utf8(out).expect("rules are text")
}

fn v4() -> impl Strategy<Value = Ipv4Addr> {
    // Unicast, and few enough to meet.
    (1..=223_u8, any::<[u8; 3]>()).prop_map(|(a, [b, c, d])| Ipv4Addr::new(a, b, c, d))
}

fn v6() -> impl Strategy<Value = Ipv6Addr> {
    any::<u64>().prop_map(|low| Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(low)))
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![
        Just(Protocol::Tcp),
        Just(Protocol::Udp),
        Just(Protocol::Sctp)
    ]
}

fn key() -> impl Strategy<Value = ServiceKey> {
    let addr = prop_oneof![v4().prop_map(IpAddr::V4), v6().prop_map(IpAddr::V6)];
    prop_oneof![
        4 => (protocol(), addr, any::<u16>())
            .prop_map(|(protocol, addr, port)| ServiceKey::Address { protocol, addr, port }),
        1 => (1..=u32::MAX, any::<bool>()).prop_map(|(mark, six)| ServiceKey::Mark {
            mark,
            family: if six { Family::V6 } else { Family::V4 },
        }),
    ]
}

prop_compose! {
    fn service()(
        key in key(),
        scheduler in prop::sample::select(Scheduler::ALL.to_vec()),
        flags in 0..8_u32,
        timeout in prop::option::of(1..=2_678_400_u32),
        netmask in any::<u32>(),
        prefix_len in 1..=128_u8,
        ops in any::<bool>(),
        sip in any::<bool>(),
    ) -> ServiceSpec {
        let mut spec = ServiceSpec::new(key, scheduler);
        spec.sched_flags = SchedFlags::from_bits_truncate(flags << 3);
        // Without a port a service must be persistent.
        let zero_port = matches!(key, ServiceKey::Address { port: 0, .. });
        spec.persistence = timeout
            .or(zero_port.then_some(360))
            .and_then(NonZeroU32::new)
            .map(|timeout_secs| Persistence { timeout_secs });
        if spec.persistence.is_some() {
            // Nothing else is saved of a service that is not persistent.
            match key.family() {
                Family::V4 => spec.netmask = Ipv4Addr::from_bits(netmask),
                Family::V6 => spec.prefix_len = prefix_len,
            }
            spec.persistence_engine = sip.then(|| "sip".to_owned());
        }
        let may_ops = match key {
            ServiceKey::Address { protocol, .. } => protocol == Protocol::Udp,
            ServiceKey::Mark { .. } => true,
        };
        spec.one_packet = ops && may_ops;
        spec
    }
}

fn forwarding() -> impl Strategy<Value = Forwarding> {
    let checksum = prop_oneof![Just(TunnelChecksum::None), Just(TunnelChecksum::Full)];
    let any_checksum = prop_oneof![checksum.clone(), Just(TunnelChecksum::Remote)];
    let port = (1..=u16::MAX).prop_filter_map("not zero", NonZeroU16::new);
    prop_oneof![
        Just(Forwarding::Masquerade),
        Just(Forwarding::Route),
        Just(Forwarding::Tunnel(Encapsulation::Ipip)),
        (port, any_checksum)
            .prop_map(|(port, checksum)| Forwarding::Tunnel(Encapsulation::Gue { port, checksum })),
        checksum.prop_map(|checksum| Forwarding::Tunnel(Encapsulation::Gre { checksum })),
    ]
}

prop_compose! {
    fn server(service: ServiceKey)(
        four in v4(),
        six in v6(),
        foreign in any::<bool>(),
        port in any::<u16>(),
        forwarding in forwarding(),
        weight in 0..=i32::MAX as u32,
    ) -> ServerView {
        // Only tunnels cross families, and only NAT changes the port.
        let foreign = foreign && matches!(forwarding, Forwarding::Tunnel(_));
        let addr: IpAddr = match (service.family(), foreign) {
            (Family::V4, false) | (Family::V6, true) => four.into(),
            (Family::V6, false) | (Family::V4, true) => six.into(),
        };
        let port = match (service, forwarding) {
            (ServiceKey::Mark { .. }, _) | (_, Forwarding::Masquerade) => port,
            (ServiceKey::Address { port, .. }, _) => port,
        };
        ServerView {
            spec: ServerSpec {
                key: ServerKey { addr, port },
                forwarding,
                weight: Weight::new(weight).expect("within bounds"),
                upper_threshold: 0,
                lower_threshold: 0,
            },
            active: 0,
            inactive: 0,
            persistent: 0,
            counters: Counters::default(),
            rates: Rates::default(),
        }
    }
}

prop_compose! {
    fn view()(spec in service())(
        servers in vec(server(spec.key), 0..5),
        spec in Just(spec),
    ) -> ServiceView {
        // One server a key.
        let servers: BTreeMap<_, _> =
            servers.into_iter().map(|s| ((s.spec.key.addr, s.spec.key.port), s)).collect();
        ServiceView {
            spec,
            counters: Counters::default(),
            rates: Rates::default(),
            local_addresses: Vec::new(),
            servers: servers.into_values().collect(),
        }
    }
}

/// As the kernel would list them, in one order.
fn canonical(services: &[ServiceView]) -> BTreeMap<String, (String, Vec<String>)> {
    let one = |service: &ServiceView| {
        let mut servers: Vec<_> = service.servers.iter().map(|s| format!("{s:?}")).collect();
        servers.sort();
        (
            service.spec.key.to_string(),
            (format!("{:?}", service.spec), servers),
        )
    };
    services.iter().map(one).collect()
}

proptest! {
    #[test]
    fn restoring_printed_rules_gives_the_same_services(services in vec(view(), 0..6)) {
        let services: Vec<_> = services
            .into_iter()
            .map(|s| (s.spec.key.to_string(), s))
            .collect::<BTreeMap<_, _>>()
            .into_values()
            .collect();
        let printed = rules(&services);
        let mut kernel = Kernel::default();
        let said = say(&words("ipvsadm -R"), &printed, &mut kernel, &Numeric);
        prop_assert_eq!((said.stderr.as_str(), said.status), ("", 0), "{}", printed);
        prop_assert_eq!(canonical(&kernel.services), canonical(&services));
        // Orders can form rings, so texts are compared line by line.
        let mut first: Vec<_> = printed.lines().map(str::to_owned).collect();
        let again = rules(&kernel.services);
        let mut second: Vec<_> = again.lines().map(str::to_owned).collect();
        first.sort();
        second.sort();
        prop_assert_eq!(first, second);
    }

    #[test]
    fn no_words_make_it_panic(typed in vec("[-=a-zA-Z0-9:.,\\[\\] é]{0,12}|-[AEDClLZaedRShvtufspMborgimwxyXcn6]|--[a-z-]{2,15}", 0..6)) {
        let mut line = words("ipvsadm");
        line.extend(typed);
        say(&line, "-A -t 192.0.2.1:80\n", &mut Kernel::default(), &Numeric);
    }

    #[test]
    fn no_rules_make_it_panic(rules in "(-[AEDCLZaedtufsprgimwn6] ?|[0-9:.\\[\\]]{1,10} ?|\n| |é){0,40}") {
        say(&words("ipvsadm -R"), &rules, &mut Kernel::default(), &Numeric);
    }
}

#[test]
fn a_thousand_services_travel_in_few_calls() {
    let mut text = String::new();
    for n in 0..1000_u32 {
        let vip = Ipv4Addr::from_bits(0xc612_0000 + n);
        text += &format!("-A -t {vip}:80 -s rr\n");
        for server in 1..=4 {
            text += &format!("-a -t {vip}:80 -r 10.0.{}.{server}:80 -m -w 1\n", n / 250);
        }
    }
    let mut kernel = Kernel::default();
    let said = say(&words("ipvsadm-restore"), &text, &mut kernel, &Numeric);
    assert_eq!((said.stderr.as_str(), said.status), ("", 0));
    assert_eq!(kernel.services.len(), 1000);
    assert_eq!(
        kernel.batches, 2,
        "one call to clear, one with all the rules"
    );
    assert_eq!(rules(&kernel.services), text);
}

#[test]
fn messages_of_a_batch_keep_the_order_of_lines() {
    let text = "\
-D -t 192.0.2.1:80
-a -t 192.0.2.1:80 -r 10.0.0.1
-A -t 192.0.2.1:80 -s nosuch
-A -t 192.0.2.1:80 -s rr
-A -t 192.0.2.1:80 -s nosuch
-E -t 192.0.2.2:80 -s nosuch
-a -t 192.0.2.1:80 -r 10.0.0.1
-a -t 192.0.2.1:80 -r 10.0.0.1
-A -t 192.0.2.3:80 -w 1
-C
";
    let mut kernel = Kernel::default();
    let said = say(&words("ipvsadm -R"), text, &mut kernel, &Numeric);
    assert_eq!(
        said.stderr,
        "\
No such service
Service not defined
Scheduler or persistence engine not found
Service already exists
No such service
Destination already exists
Illegal 'weight' option with the 'add-service' command
"
    );
    assert_eq!(said.status, 2);
    assert_eq!(
        kernel.services.len(),
        1,
        "nothing after the mistake was done"
    );
}

#[test]
fn the_help_keeps_usage_and_columns() {
    let said = say(&words("ipvsadm -h"), "", &mut Kernel::default(), &Numeric);
    assert_eq!((said.stderr.as_str(), said.status), ("", 0));
    let lines: Vec<_> = said.stdout.lines().collect();
    assert_eq!(
        lines[0],
        "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)"
    );
    assert_eq!(lines[1], "Usage:");
    assert!(
        lines[2..15]
            .iter()
            .all(|line| line.starts_with("  ipvsadm -"))
    );
    let after = |title: &str| lines.iter().position(|l| *l == title).expect("a title") + 1;
    for (title, count, column) in [
        ("Commands:", 16, 31),
        ("virtual-service:", 4, 39),
        ("Daemon Options:", 6, 39),
    ] {
        for line in &lines[after(title)..after(title) + count] {
            let text = line.as_bytes();
            // The remark under the title of commands is prose.
            if text.starts_with(b"  ") {
                assert_eq!(
                    (text[column - 2], text[column - 1] == b' '),
                    (b' ', false),
                    "{line}"
                );
            }
        }
    }
}

#[test]
fn wrappers_refuse_what_they_do_not_know() {
    let said = say(
        &words("ipvsadm-save -x"),
        "",
        &mut Kernel::default(),
        &Numeric,
    );
    assert_eq!((said.stdout.as_str(), said.status), ("", 1));
}
