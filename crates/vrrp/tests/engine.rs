//! One engine in a namespace of its own: what it puts there, how it changes it on a reload, and that
//! it leaves nothing behind. Needs root.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use pointsman_model::vrrp::{
    AdvertInterval, BfdInstance, Metric, MetricKind, NextHop, Priority, Route, Rule, RuleAction,
    SyncGroup, TrackFile, TrackScript, TrackWeight, Tracked, Tracking, VirtualAddress, Vrid,
    VrrpEvent, VrrpInstance, VrrpNotify, VrrpSite, VrrpState, VrrpSubject, VrrpVersion, VrrpView,
    VrrpWord,
};
use pointsman_model::{Family, Script, ScriptUser};
use pointsman_script::Policy;
use pointsman_testkit::{Names, Netns};
use pointsman_vrrp::{Error, Vrrp};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(20);

fn host() -> Netns {
    let host = Netns::new(&Names::transient(), "vrrp").unwrap();
    host.ip("link add eth0 type veth peer name eth1").unwrap();
    host.ip("addr add 10.66.0.1/24 dev eth0").unwrap();
    host.ip("link set eth0 up").unwrap();
    host.ip("link set eth1 up").unwrap();
    host
}

fn instance(name: &str, vrid: u8, address: &str) -> VrrpInstance {
    let mut config = VrrpInstance::new(name, "eth0", Vrid::new(vrid).unwrap(), Family::V4);
    config.version = VrrpVersion::V3;
    config.advert_interval =
        AdvertInterval::new(VrrpVersion::V3, Duration::from_millis(50)).unwrap();
    config.addresses = vec![VirtualAddress::new(address.parse().unwrap())];
    config
}

/// Runs an engine inside `host` and what is to be done with it.
fn with<F>(
    host: &Netns,
    site: VrrpSite,
    test: impl FnOnce(Vrrp, UnboundedReceiver<VrrpEvent>) -> F + Send,
) where
    F: Future<Output = ()>,
{
    host.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (events, told) = unbounded_channel();
            let vrrp = Vrrp::start(site, Policy::default(), events).unwrap();
            test(vrrp, told).await;
        });
    });
}

async fn state(vrrp: &Vrrp, number: usize, wanted: VrrpState) -> VrrpView {
    let look = async {
        loop {
            let view = vrrp.view().await.unwrap();
            if view.instances[number].state == wanted {
                return view;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    match timeout(PATIENCE, look).await {
        Ok(view) => view,
        Err(_) => panic!(
            "instance {number} is not {wanted:?}: {:#?}",
            vrrp.view().await
        ),
    }
}

#[test]
fn a_master_has_addresses_routes_and_rules_and_leaves_none() {
    let host = host();
    let mut config = instance("VI", 51, "10.66.0.100/24");
    config.addresses[0].label = Some("eth0:vip".into());
    config.excluded = vec![VirtualAddress::new("10.77.0.1/32".parse().unwrap())];
    let mut route = Route::new("10.88.0.0/16".parse().unwrap());
    route.next_hops = vec![NextHop {
        via: Some("10.66.0.9".parse().unwrap()),
        interface: Some("eth0".into()),
        ..NextHop::default()
    }];
    route.source = Some("10.66.0.100".parse().unwrap());
    route.metrics = vec![Metric {
        kind: MetricKind::Mtu,
        value: 1400,
        locked: true,
    }];
    config.routes = vec![route];
    let mut rule = Rule::new(Family::V4, RuleAction::Table(100));
    rule.from = Some("10.88.0.0/16".parse().unwrap());
    rule.preference = Some(1234);
    config.rules = vec![rule];
    let mut fixed = VirtualAddress::new("10.99.0.1/32".parse().unwrap());
    fixed.interface = Some("eth0".into());
    let site = VrrpSite {
        instances: vec![config],
        static_addresses: vec![fixed],
        ..VrrpSite::default()
    };
    let ip = |arguments: &str| host.ip(arguments).unwrap();
    with(&host, site, async |vrrp, mut told| {
        let view = state(&vrrp, 0, VrrpState::Master).await;
        assert_eq!(view.instances[0].source, Some(IpAddr::from([10, 66, 0, 1])));
        let addresses = ip("-o addr show dev eth0");
        for address in ["10.66.0.100/24", "eth0:vip", "10.77.0.1/32", "10.99.0.1/32"] {
            assert!(addresses.contains(address), "{addresses}");
        }
        let routes = ip("route show 10.88.0.0/16");
        for word in [
            "via 10.66.0.9",
            "src 10.66.0.100",
            "mtu lock 1400",
            "proto keepalived",
        ] {
            assert!(routes.contains(word), "{routes}");
        }
        assert!(ip("rule show").contains("1234:\tfrom 10.88.0.0/16 lookup 100"));
        let words: Vec<VrrpWord> = std::iter::from_fn(|| told.try_recv().ok())
            .map(|event| event.word)
            .collect();
        assert_eq!(words, [VrrpWord::Backup, VrrpWord::Master]);

        // Somebody removes a route: the mastership is given up and comes back.
        ip("route del 10.88.0.0/16");
        let event = timeout(PATIENCE, told.recv()).await.unwrap().unwrap();
        assert_eq!(
            (event.from, event.to),
            (VrrpState::Master, VrrpState::Backup)
        );
        state(&vrrp, 0, VrrpState::Master).await;
        assert!(ip("route show 10.88.0.0/16").contains("via 10.66.0.9"));

        // A static address comes back by itself.
        ip("addr del 10.99.0.1/32 dev eth0");
        let back = async {
            while !ip("-o addr show dev eth0").contains("10.99.0.1/32") {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, back).await.unwrap();
        vrrp.stop().await;
        let last = std::iter::from_fn(|| told.try_recv().ok()).last().unwrap();
        assert_eq!(last.word, VrrpWord::Stop);
    });
    let addresses = ip("-o -4 addr show dev eth0");
    assert_eq!(addresses.lines().count(), 1, "{addresses}");
    assert_eq!(ip("route show 10.88.0.0/16"), "");
    assert!(!ip("rule show").contains("1234"));
}

#[test]
fn a_reload_changes_what_differs_and_a_master_stays_master() {
    let host = host();
    let ip = |arguments: &str| host.ip(arguments).unwrap();
    let old = VrrpSite {
        instances: vec![
            instance("A", 1, "10.66.0.101/24"),
            instance("B", 2, "10.66.0.102/24"),
        ],
        ..VrrpSite::default()
    };
    with(&host, old.clone(), async |vrrp, mut told| {
        state(&vrrp, 0, VrrpState::Master).await;
        state(&vrrp, 1, VrrpState::Master).await;
        while told.try_recv().is_ok() {}

        // The name does not matter; B goes, C comes.
        let mut renamed = instance("A2", 1, "10.66.0.101/24");
        renamed
            .addresses
            .push(VirtualAddress::new("10.66.0.111/24".parse().unwrap()));
        renamed.priority = Priority::new(120).unwrap();
        let new = VrrpSite {
            instances: vec![renamed, instance("C", 3, "10.66.0.103/24")],
            ..VrrpSite::default()
        };
        vrrp.reload(new, Policy::default()).await.unwrap();
        let view = vrrp.view().await.unwrap();
        assert_eq!(view.instances[0].state, VrrpState::Master);
        assert_eq!(view.instances[0].effective_priority, 120);
        let addresses = ip("-o addr show dev eth0");
        assert!(addresses.contains("10.66.0.101/24") && addresses.contains("10.66.0.111/24"));
        assert!(!addresses.contains("10.66.0.102"));
        state(&vrrp, 1, VrrpState::Master).await;
        let words: Vec<_> = std::iter::from_fn(|| told.try_recv().ok())
            .map(|event| (event.subject, event.word))
            .collect();
        let subject = |name: &str| VrrpSubject::Instance(name.into());
        assert_eq!(
            words,
            [
                (subject("B"), VrrpWord::Fault),
                (subject("C"), VrrpWord::Backup),
                (subject("C"), VrrpWord::Master)
            ]
        );

        // What cannot run changes nothing.
        let mut twice = old.clone();
        twice.instances.push(instance("D", 1, "10.66.0.104/24"));
        assert!(matches!(
            vrrp.reload(twice, Policy::default()).await,
            Err(Error::Duplicate { .. })
        ));
        let mut absent = old.clone();
        absent.instances[0].interface = Some("eth9".into());
        assert!(matches!(
            vrrp.reload(absent, Policy::default()).await,
            Err(Error::NoSuchInterface { .. })
        ));
        assert_eq!(vrrp.view().await.unwrap().instances[0].name, "A2");
        assert_eq!(
            vrrp.view().await.unwrap().instances[0].state,
            VrrpState::Master
        );
        vrrp.stop().await;
    });
    assert_eq!(ip("-o -4 addr show dev eth0").lines().count(), 1);
}

#[test]
fn other_rules_for_scripts_hold_from_the_reload_on() {
    let host = host();
    let seen = tempfile::tempdir().unwrap();
    std::fs::set_permissions(&seen, std::fs::Permissions::from_mode(0o777)).unwrap();
    // One file for each user it ran as.
    let touch = format!("touch {}/$(id -u)", seen.path().display());
    let mut a = instance("A", 1, "10.66.0.101/24");
    a.tracking.scripts = vec![Tracked {
        name: "who".into(),
        weight: TrackWeight::default(),
    }];
    let site = VrrpSite {
        instances: vec![a],
        scripts: vec![TrackScript {
            name: "who".into(),
            script: Script::new(["/bin/sh", "-c", &touch]),
            interval: Duration::from_millis(50),
            timeout: Duration::from_secs(5),
            rise: NonZeroU32::MIN,
            fall: NonZeroU32::MIN,
            starts_failed: false,
        }],
        ..VrrpSite::default()
    };
    with(&host, site.clone(), async |vrrp, _told| {
        let ran_as = async |uid: &str| {
            let ran = async {
                while !seen.path().join(uid).exists() {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(PATIENCE, ran).await.unwrap();
        };
        ran_as("0").await;
        state(&vrrp, 0, VrrpState::Master).await;
        let nobody = Policy {
            user: Some(ScriptUser {
                user: "nobody".into(),
                group: None,
            }),
            ..Policy::default()
        };
        vrrp.reload(site, nobody).await.unwrap();
        assert_eq!(
            vrrp.view().await.unwrap().instances[0].state,
            VrrpState::Master
        );
        ran_as("65534").await;
        vrrp.stop().await;
    });
}

#[test]
fn scripts_files_and_links_decide_for_the_whole_group() {
    let host = host();
    let directory = std::env::temp_dir().join(format!("pointsman-track-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (flag, number) = (directory.join("flag"), directory.join("number"));
    std::fs::write(&flag, "").unwrap();
    let second = Duration::from_secs(1);
    let mut a = instance("A", 1, "10.66.0.101/24");
    a.tracking.scripts = vec![Tracked {
        name: "flag".into(),
        weight: TrackWeight::default(),
    }];
    let mut b = instance("B", 2, "10.66.0.102/24");
    b.tracking.interfaces = vec![Tracked {
        name: "eth1".into(),
        weight: TrackWeight::default(),
    }];
    let site = VrrpSite {
        instances: vec![a, b],
        sync_groups: vec![SyncGroup {
            name: "G".into(),
            members: vec!["A".into(), "B".into()],
            tracking: Tracking {
                files: vec![Tracked {
                    name: "number".into(),
                    weight: TrackWeight {
                        points: 2,
                        reverse: false,
                    },
                }],
                ..Tracking::default()
            },
            member_weights: false,
            notify: VrrpNotify::default(),
        }],
        scripts: vec![TrackScript {
            name: "flag".into(),
            script: Script::new(["/usr/bin/test", "-e", flag.to_str().unwrap()]),
            interval: second / 20,
            timeout: second * 5,
            rise: NonZeroU32::MIN,
            fall: NonZeroU32::new(2).unwrap(),
            starts_failed: false,
        }],
        track_files: vec![TrackFile {
            name: "number".into(),
            path: number.clone(),
            init: None,
        }],
        ..VrrpSite::default()
    };
    with(&host, site, async |vrrp, _told| {
        for number in 0..2 {
            state(&vrrp, number, VrrpState::Master).await;
        }
        assert_eq!(
            vrrp.view().await.unwrap().groups[0].state,
            VrrpState::Master
        );

        std::fs::write(&number, "-20").unwrap();
        let lower = async {
            while vrrp.view().await.unwrap().instances[1].effective_priority != 60 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, lower).await.unwrap();

        std::fs::remove_file(&flag).unwrap();
        let view = state(&vrrp, 1, VrrpState::Fault).await;
        assert_eq!(view.instances[0].faults, ["tracked script flag"]);
        assert_eq!(view.groups[0].state, VrrpState::Fault);
        std::fs::write(&flag, "").unwrap();
        state(&vrrp, 0, VrrpState::Master).await;
        state(&vrrp, 1, VrrpState::Master).await;

        host.ip("link set eth1 down").unwrap();
        state(&vrrp, 0, VrrpState::Fault).await;
        host.ip("link set eth1 up").unwrap();
        state(&vrrp, 0, VrrpState::Master).await;

        // An interface that goes and comes back by its name.
        host.ip("link del eth0").unwrap();
        state(&vrrp, 0, VrrpState::Fault).await;
        host.ip("link add eth0 type veth peer name eth1").unwrap();
        host.ip("addr add 10.66.0.1/24 dev eth0").unwrap();
        host.ip("link set eth0 up").unwrap();
        host.ip("link set eth1 up").unwrap();
        state(&vrrp, 0, VrrpState::Master).await;
        state(&vrrp, 1, VrrpState::Master).await;
        vrrp.stop().await;
    });
    assert_eq!(
        host.ip("-o -4 addr show dev eth0").unwrap().lines().count(),
        1
    );
    std::fs::remove_dir_all(&directory).unwrap();
}

/// Two engines on a link, each with a session to the other.
#[test]
fn a_bfd_session_notices_a_dead_neighbour() {
    let names = Names::transient();
    let hosts = ["left", "right"].map(|label| Netns::new(&names, label).unwrap());
    hosts[0]
        .ip(&format!(
            "link add eth0 type veth peer name eth0 netns {}",
            hosts[1].name()
        ))
        .unwrap();
    for (number, host) in (1..).zip(&hosts) {
        host.ip(&format!("addr add 10.66.0.{number}/24 dev eth0"))
            .unwrap();
        host.ip("link set eth0 up").unwrap();
    }
    let site = |own: u8, other: u8| {
        let ms = Duration::from_millis;
        let mut config = instance("VI", own, &format!("10.66.0.10{own}/24"));
        config.tracking.bfd = vec![Tracked {
            name: "peer".into(),
            weight: TrackWeight::default(),
        }];
        VrrpSite {
            instances: vec![config],
            bfd_instances: vec![BfdInstance {
                name: "peer".into(),
                neighbour: IpAddr::from([10, 66, 0, other]),
                source: Some(IpAddr::from([10, 66, 0, own])),
                min_rx: ms(50),
                min_tx: ms(50),
                idle_tx: ms(1000),
                multiplier: 5,
                passive: own == 2,
                ttl: 255,
                max_hops: 0,
                multihop: false,
                for_vrrp: true,
                for_checkers: true,
            }],
            ..VrrpSite::default()
        }
    };
    with(&hosts[0], site(1, 2), async |left, _told| {
        state(&left, 0, VrrpState::Fault).await;
        let right = hosts[1].run(|| {
            let (events, _) = unbounded_channel();
            Vrrp::start(site(2, 1), Policy::default(), events).unwrap()
        });
        state(&left, 0, VrrpState::Master).await;
        right.stop().await;
        let view = state(&left, 0, VrrpState::Fault).await;
        assert_eq!(view.instances[0].faults, ["tracked BFD session peer"]);
        left.stop().await;
    });
}
