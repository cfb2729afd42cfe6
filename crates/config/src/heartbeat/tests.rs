use super::*;
use crate::heartbeat::haresources::Kind;

fn texts(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn groups_are_read_from_left_to_right() {
    let (file, problems) = haresources::read(
        "# comment\n\
         Node1 192.168.7.100/24/eth0 ldirectord httpd # the shop\n\
         node2 IPaddr2::10.0.0.9/16/eth1:1/10.0.255.255 \\\n\
         \tFilesystem::/dev/sda1::/data1::ext2 \\\n\
         \tIPv6addr::2001:db8::9/64/eth1 ldirectord::www.cf\n",
    );
    assert_eq!(texts(&problems), [""; 0]);
    let [one, two] = &file.groups[..] else {
        panic!("{file:?}")
    };
    assert_eq!(
        (one.node.as_str(), one.key()),
        ("node1", "192.168.7.100/24/eth0")
    );
    let scripts: Vec<_> = one.resources.iter().map(|r| r.script.as_str()).collect();
    assert_eq!(scripts, ["IPaddr", "ldirectord", "httpd"]);
    assert_eq!(
        one.resources[1].kind,
        Kind::Ldirectord("ldirectord.cf".into())
    );
    let address = one.addresses().next().unwrap();
    assert_eq!(address.prefix_len, Some(24));
    assert_eq!(address.interface.as_deref(), Some("eth0"));
    assert_eq!(two.resources.len(), 4);
    let addresses: Vec<_> = two.addresses().collect();
    assert_eq!(addresses[0].label.as_deref(), Some("eth1:1"));
    assert_eq!(addresses[0].broadcast, Some([10, 0, 255, 255].into()));
    assert_eq!(addresses[1].addr.to_string(), "2001:db8::9");
    assert_eq!(two.resources[1].args, ["/dev/sda1", "/data1", "ext2"]);
}

#[test]
fn what_is_wrong_with_haresources_is_told_with_its_place() {
    let (file, problems) = haresources::read(
        "node1\nnode1 10.0.0.1/40 httpd\nnode1 a/b\nnode1 1.2.3.4 x\nnode2 1.2.3.4 y\nnode1 IPaddr\n",
    );
    assert_eq!(
        texts(&problems),
        [
            "1:1: node1: expected resources after the node's name",
            "2:7: 40: expected a prefix length from 1 to 32, or a netmask",
            "3:7: a/b: expected an address or the name of a script",
            "5:7: 1.2.3.4: already the first resource of line 4, by which a group is known",
            "6:7: IPaddr: expected ::ADDRESS[/PREFIX[/INTERFACE][/BROADCAST]]",
        ]
    );
    assert_eq!(file.groups.len(), 2);
}

const HA_CF: &str = "logfacility local0\nkeepalive 500ms\ndeadtime 5\nwarntime 2\ninitdead 20\n\
    udpport 695\nucast eth0 192.168.7.1\nucast eth0 192.168.7.2\nauto_failback off\n\
    node alpha\nnode beta\nping 192.168.7.254\nrespawn hacluster /usr/lib/heartbeat/ipfail\n\
    apiauth ipfail gid=haclient uid=hacluster\n";

#[test]
fn ha_cf_is_read() {
    let (file, problems) = ha_cf::read(HA_CF);
    assert_eq!(texts(&problems), [""; 0]);
    assert_eq!(file.nodes, ["alpha", "beta"]);
    assert_eq!(file.keepalive.as_millis(), 500);
    assert_eq!(file.auto_failback, AutoFailback::Off);
    assert!(matches!(file.media[1], Medium::Ucast { port: 695, .. }));
    assert_eq!(file.ignored, ["apiauth"]);
}

#[test]
fn what_is_wrong_with_ha_cf_is_told_with_its_place() {
    let (_, problems) = ha_cf::read(
        "keepalife 2\nkeepalive two\ndeadtime 30x\nbcast\nmcast eth0 10.0.0.1 694 1 0\n\
         auto_failback perhaps\nnode a\ncrm respawn\n",
    );
    assert_eq!(
        texts(&problems),
        [
            "1:1: keepalife: unknown directive; is keepalive meant?",
            "2:11: two: expected seconds, or a number with us, ms, s, m or h",
            "3:10: 30x: expected seconds, or a number with us, ms, s, m or h",
            "4:1: bcast: expected interfaces",
            "5:12: 10.0.0.1: expected a multicast address",
            "6:15: perhaps: expected on or off (true, yes, y, 1; false, no, n, 0)",
            "8:5: a cluster resource manager is asked for: haresources does not count then; expected off",
            "8:1: expected a line bcast, mcast or ucast",
            "8:1: 1 nodes: expected two, each named by a line `node`",
        ]
    );
}

#[test]
fn authkeys_are_read_and_not_shown() {
    let (file, problems) = authkeys::read("# keys\nauth 2\n1 crc\n2 sha1 HI!#x\n");
    assert_eq!(texts(&problems), [""; 0]);
    assert_eq!(file.key(), Some("HI!#x"));
    assert!(!format!("{file:?} {:?}", file.methods).contains("HI"));
    for (text, expected) in [
        ("1 crc\n", "1:1: expected a line `auth NUMBER`"),
        (
            "auth 3\n1 crc\n",
            "1:6: auth 3: expected a line `3 sha1 KEY` for it",
        ),
        ("auth 1\n1 sha1\n", "2:3: sha1: expected a key"),
        (
            "auth 1\n1 rot13 x\n",
            "2:3: rot13: expected crc, sha1 or md5",
        ),
    ] {
        assert_eq!(texts(&authkeys::read(text).1)[0], expected);
    }
}

#[test]
fn groups_become_virtual_routers() {
    let (ha_cf, _) = ha_cf::read(HA_CF);
    let (resources, _) =
        haresources::read("alpha 192.168.7.100/24/eth0 httpd\nbeta 192.168.7.101\n");
    let (keys, _) = authkeys::read("auth 1\n1 sha1 HI!\n");
    let alpha = Node {
        name: "Alpha".into(),
        addrs: vec!["192.168.7.1".parse().unwrap()],
    };
    let plans = plan(&ha_cf, &resources, &keys, &alpha);
    let [one, two] = &plans[..] else {
        panic!("{plans:?}")
    };
    assert_eq!(
        (one.instance.priority.get(), two.instance.priority.get()),
        (150, 100)
    );
    assert_eq!(
        one.instance.vrid.get(),
        virtual_router_id("192.168.7.100/24/eth0")
    );
    assert_eq!(one.instance.advert_interval.centiseconds(), 50);
    assert_eq!(one.instance.down_timer_adverts, 10);
    let pointsman_model::vrrp::Peers::Unicast(unicast) = &one.instance.peers else {
        panic!("{:?}", one.instance.peers)
    };
    assert_eq!(
        unicast.peers[0].address.to_string(),
        "192.168.7.2",
        "not itself"
    );
    let hmac = one.instance.hmac.as_ref().unwrap();
    assert_eq!(
        hmac.keys[0].key.reveal(),
        b"HI!HI!HI!HI!HI!HI!HI!HI!HI!HI!HI"
    );
    assert_eq!(
        one.instance.preemption,
        pointsman_model::vrrp::Preemption::Never
    );
    assert_eq!(one.startup_delay.as_secs(), 15);
}

/// A group of so many resources; `failing` are actions that fail. What was done, in order.
fn play(
    len: usize,
    running: &[usize],
    failing: &[Action],
    release_after: Option<usize>,
) -> Vec<String> {
    let mut sequence = Sequence::new(len);
    let mut done = Vec::new();
    let mut step = sequence.take();
    while let Some(now) = step {
        step = match now {
            Step::Do(action) => {
                done.push(format!("{action:?}"));
                if release_after == Some(done.len()) {
                    sequence.release()
                } else {
                    let good = match action {
                        Action::Status(n) => running.contains(&n),
                        other => !failing.contains(&other),
                    };
                    sequence.done(if good { Outcome::Good } else { Outcome::Bad })
                }
            }
            Step::Wait(_) => sequence.waited(),
            other => {
                done.push(format!("{other:?}"));
                None
            }
        };
    }
    done
}

#[test]
fn a_group_is_taken_from_left_to_right() {
    assert_eq!(
        play(2, &[], &[], None),
        ["Status(0)", "Start(0)", "Status(1)", "Start(1)", "Taken"]
    );
    assert_eq!(
        play(2, &[0], &[], None),
        ["Status(0)", "Status(1)", "Start(1)", "Taken"],
        "what runs is not started"
    );
}

#[test]
fn a_start_that_fails_gives_the_whole_group_back() {
    let done = play(3, &[], &[Action::Start(1)], None);
    assert_eq!(
        done[..4],
        ["Status(0)", "Start(0)", "Status(1)", "Start(1)"]
    );
    assert_eq!(done[4..7], ["Stop(2)", "Stop(1)", "Stop(0)"]);
    assert!(
        done[7].starts_with("Failed { resource: 1, pause: 30s"),
        "{done:?}"
    );
}

#[test]
fn a_release_in_the_middle_stops_what_was_begun() {
    let done = play(3, &[], &[], Some(4));
    assert_eq!(done[4..], ["Stop(1)", "Stop(0)", "Released([])"]);
}

#[test]
fn a_stop_is_tried_ten_times_and_then_doubted() {
    for (running, stuck) in [(&[][..], "[]"), (&[0], "[0]")] {
        let mut sequence = Sequence::new(1);
        sequence.take();
        sequence.done(Outcome::Good);
        let mut step = sequence.release();
        let mut stops = 0;
        while let Some(Step::Do(Action::Stop(0))) = step {
            stops += 1;
            step = sequence.done(Outcome::Bad);
            if step == Some(Step::Wait(std::time::Duration::from_secs(1))) {
                step = sequence.waited();
            }
        }
        assert_eq!((stops, step), (10, Some(Step::Do(Action::Status(0)))));
        let runs = if running.contains(&0) {
            Outcome::Good
        } else {
            Outcome::Bad
        };
        let end = sequence.done(runs);
        assert_eq!(format!("{end:?}"), format!("Some(Released({stuck}))"));
    }
}

mod anything {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_read_without_panic(text in "([a-z0-9/:. \\\\#\n\t]|node |bcast |auth |IPaddr::|\\PC){0,60}") {
            haresources::read(&text);
            ha_cf::read(&text);
            authkeys::read(&text);
        }
    }
}
