//! The life of a director: start, refusals, interfaces that come and go, kill, adoption, stop.
//!
//! Needs root and `ip`; fails without. What happens to traffic meanwhile is `tests/lab`'s.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use pointsman_api::{Change, Client, Location, Status};
use pointsman_model::{
    Error as Refusal, Forwarding, Protocol, Scheduler, ServerKey, ServerSpec, ServiceKey,
    ServiceSpec, Weight,
};
use pointsman_testkit::{Director, Names, Netns, wait_until, wire};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");
const PATIENCE: Duration = Duration::from_secs(10);

/// A namespace for a director, cabled to a real server's: 10.1.0.1 and 10.1.0.2.
struct Scene {
    director: Netns,
    server: Netns,
}

impl Scene {
    fn new() -> Self {
        let names = Names::transient();
        let director = Netns::new(&names, "director").unwrap();
        let server = Netns::new(&names, "server").unwrap();
        wire::cable((&director, "eth0"), (&server, "eth0")).unwrap();
        director.ip("addr add 10.1.0.1/24 brd + dev eth0").unwrap();
        server.ip("addr add 10.1.0.2/24 dev eth0").unwrap();
        Self { director, server }
    }

    fn program(&self) -> Director<'_> {
        Director::new(PROGRAM, &self.director)
    }

    fn location(&self) -> Location {
        Location::of_netns(self.director.name()).unwrap()
    }

    fn client(&self) -> Client {
        Client::of_netns(self.director.name()).unwrap()
    }

    fn status(&self) -> Status {
        self.client().status().unwrap()
    }

    fn try_run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let Output {
            status,
            stdout,
            stderr,
        } = self.program().command().args(arguments).output().unwrap();
        let text = String::from_utf8([stdout, stderr].concat()).unwrap();
        (status.code(), text)
    }

    fn neighbours(&self) -> String {
        self.director.ip("-d neigh show dev eth0").unwrap()
    }

    fn sysctls(&self) -> [String; 2] {
        ["forwarding", "accept_local"].map(|name| {
            let key = format!("net.ipv4.conf.lo.{name}");
            self.director.read_sysctl(&key).unwrap()
        })
    }

    /// Interfaces on which the programs run.
    fn attached(&self) -> Vec<String> {
        let interfaces = self.status().interfaces.into_iter();
        interfaces
            .filter(|i| i.hook.is_some())
            .map(|i| i.name)
            .collect()
    }

    fn assert_clean(&self) {
        assert_eq!(self.program().traces().unwrap(), Vec::<String>::new());
        assert!(!self.location().run_dir().exists());
        assert!(!self.location().pin_dir().exists());
        assert_eq!(self.neighbours(), "");
    }
}

fn web() -> ServiceKey {
    ServiceKey::Address {
        protocol: Protocol::Tcp,
        addr: "192.0.2.1".parse().unwrap(),
        port: 80,
    }
}

fn server(last: u8) -> ServerSpec {
    ServerSpec {
        key: ServerKey {
            addr: [10, 1, 0, last].into(),
            port: 80,
        },
        forwarding: Forwarding::Route,
        weight: Weight::DEFAULT,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

#[test]
fn a_director_starts_once_and_stops_without_a_trace() {
    let scene = Scene::new();
    let before = scene.sysctls();
    let (code, text) = scene.try_run(&["director", "status"]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("no director runs"), "{text}");

    let (code, text) = scene.try_run(&["director", "start"]);
    assert_eq!(code, Some(0), "{text}");
    let status = scene.status();
    assert!(text.contains(&format!("pid {}", status.pid)), "{text}");
    assert!(!status.adopted);
    assert_eq!(scene.attached(), ["lo", "eth0"]);
    assert_eq!(scene.sysctls(), ["1", "1"]);

    for verb in ["start", "run"] {
        let (code, text) = scene.try_run(&["director", verb]);
        assert_eq!(code, Some(1), "{text}");
        assert!(
            text.contains(&format!("another director (pid {})", status.pid)),
            "{text}"
        );
    }
    let (code, text) = scene.try_run(&["director", "status"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("eth0"), "{text}");

    let (code, text) = scene.try_run(&["director", "stop"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(scene.sysctls(), before);
    scene.assert_clean();
    let (code, text) = scene.try_run(&["director", "stop"]);
    assert_eq!(
        (code, text.contains("nothing to stop")),
        (Some(0), true),
        "{text}"
    );
}

#[test]
fn an_interface_that_does_not_exist_is_refused_by_name() {
    let scene = Scene::new();
    for verb in ["start", "run"] {
        let (code, text) = scene.try_run(&["director", verb, "--interface", "nope"]);
        assert_eq!(code, Some(1), "{text}");
        assert!(
            text.contains("no interface nope") && text.contains("lo, eth0"),
            "{text}"
        );
        scene.assert_clean();
    }
}

#[test]
fn interfaces_are_taken_as_they_come_and_let_go_as_they_vanish() {
    let scene = Scene::new();
    scene
        .program()
        .run(&["director", "start", "--hook", "tc"])
        .unwrap();
    scene
        .director
        .ip("link add eth7 type veth peer name peer7")
        .unwrap();
    let seven = |present: bool| {
        wait_until("the interface to be noticed", PATIENCE, || {
            (scene.attached().contains(&"eth7".to_owned()) == present).then_some(())
        })
    };
    seven(true).unwrap();
    scene.director.ip("link del eth7").unwrap();
    seven(false).unwrap();
    scene.program().stop().unwrap();
    scene.assert_clean();
}

#[test]
fn only_chosen_interfaces_are_served_also_by_the_next_director() {
    let scene = Scene::new();
    scene
        .director
        .ip("link add eth7 type veth peer name peer7")
        .unwrap();
    let start = ["director", "start", "--hook", "tc"];
    scene.program().run(&start).unwrap();
    assert_eq!(scene.attached(), ["lo", "eth0", "peer7", "eth7"]);
    scene.program().kill().unwrap();
    scene
        .program()
        .run(&[&start[..], &["--interface", "eth7"]].concat())
        .unwrap();
    assert_eq!(scene.attached(), ["lo", "eth7"]);
    let status = scene.status();
    let eth0 = status.interfaces.iter().find(|i| i.name == "eth0").unwrap();
    assert!(eth0.reason.contains("--interface"), "{}", eth0.reason);
    scene.program().stop().unwrap();
    scene.assert_clean();
}

#[test]
fn next_hops_are_resolved_without_traffic_and_given_back() {
    let scene = Scene::new();
    scene.program().run(&["director", "start"]).unwrap();
    let client = scene.client();
    client
        .add_service(&ServiceSpec::new(web(), Scheduler::Rr))
        .unwrap();
    let broadcast = client.add_server(&web(), &server(255)).unwrap_err();
    assert!(
        matches!(
            broadcast,
            pointsman_api::Error::Refused(Refusal::Invalid(_))
        ),
        "{broadcast}"
    );
    client.add_server(&web(), &server(2)).unwrap();
    client.add_server(&web(), &server(9)).unwrap();
    let problems = wait_until("one server to be found dead", PATIENCE, || {
        let hops = scene.status().next_hops;
        let troubled: Vec<_> = hops
            .into_iter()
            .filter(|hop| hop.problem.is_some())
            .collect();
        (!troubled.is_empty()).then_some(troubled)
    })
    .unwrap();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].server, server(9).key.addr);
    assert_eq!(
        problems[0].problem.as_deref(),
        Some("10.1.0.9 does not answer ARP")
    );
    let mac = scene
        .server
        .mac("eth0")
        .unwrap()
        .map(|byte| format!("{byte:02x}"))
        .join(":");
    let neighbours = scene.neighbours();
    assert!(
        neighbours.contains(&format!("10.1.0.2 lladdr {mac} managed REACHABLE")),
        "{neighbours}"
    );

    // It comes to life: nobody sends to it, yet it is noticed.
    scene.server.ip("addr add 10.1.0.9/24 dev eth0").unwrap();
    wait_until(
        "the server to be found alive",
        Duration::from_secs(30),
        || {
            scene
                .status()
                .next_hops
                .iter()
                .all(|hop| hop.problem.is_none())
                .then_some(())
        },
    )
    .unwrap();
    client.delete_server(&web(), &server(9).key).unwrap();
    wait_until("the neighbour to be given back", PATIENCE, || {
        (!scene.neighbours().contains("10.1.0.9")).then_some(())
    })
    .unwrap();
    // Somebody flushes the table: it is asked for again.
    scene.director.ip("neigh flush all").unwrap();
    wait_until("the neighbour to be back", PATIENCE, || {
        scene
            .neighbours()
            .contains("managed REACHABLE")
            .then_some(())
    })
    .unwrap();
    scene.program().stop().unwrap();
    scene.assert_clean();
}

#[test]
fn a_killed_directors_tables_are_adopted_and_its_stop_is_made_good() {
    let scene = Scene::new();
    let before = scene.sysctls();
    scene.program().run(&["director", "start"]).unwrap();
    let mut changes = vec![Change::AddService(ServiceSpec::new(web(), Scheduler::Wrr))];
    changes.extend((2..6).map(|n| Change::AddServer {
        service: web(),
        server: server(n),
    }));
    let results = scene.client().batch(&changes).unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let services = scene.client().services().unwrap();
    let attached = scene.attached();

    scene.program().kill().unwrap();
    let (code, text) = scene.try_run(&["director", "status"]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("still forwarding"), "{text}");
    assert!(
        scene.neighbours().contains("managed"),
        "{}",
        scene.neighbours()
    );
    scene.program().run(&["director", "start"]).unwrap();
    assert!(scene.status().adopted);
    assert_eq!(scene.attached(), attached);
    let specs = |services: &[pointsman_model::ServiceView]| -> Vec<_> {
        services
            .iter()
            .map(|s| (s.spec.clone(), s.servers.len()))
            .collect()
    };
    assert_eq!(specs(&scene.client().services().unwrap()), specs(&services));

    scene
        .program()
        .run(&["director", "stop", "--keep-forwarding"])
        .unwrap();
    assert_eq!(scene.sysctls(), ["1", "1"]);
    assert!(scene.location().director_pins().exists());
    scene.program().run(&["director", "start"]).unwrap();
    assert!(scene.status().adopted);
    scene.program().kill().unwrap();
    let (code, text) = scene.try_run(&["director", "stop"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("an earlier one left"), "{text}");
    assert_eq!(scene.sysctls(), before);
    scene.assert_clean();
}

#[test]
fn a_signal_to_end_is_a_clean_stop() {
    let scene = Scene::new();
    for signal in ["TERM", "INT"] {
        scene.program().run(&["director", "start"]).unwrap();
        let pid = scene.program().pid().unwrap().to_string();
        let sent = scene
            .director
            .command("kill")
            .args(["-s", signal, &pid])
            .status()
            .unwrap();
        assert!(sent.success());
        wait_until("the director to end", PATIENCE, || {
            (!Path::new("/proc").join(&pid).exists() || scene.program().pid().is_err())
                .then_some(())
        })
        .unwrap();
        scene.assert_clean();
    }
}

#[test]
fn a_restore_makes_all_of_a_file_or_nothing() {
    let scene = Scene::new();
    let file = std::env::temp_dir().join(format!("pointsman-restore-{}", std::process::id()));
    let restore = |rules: &str| {
        std::fs::write(&file, rules).unwrap();
        scene.try_run(&["restore", &file.display().to_string()])
    };
    let saved = || scene.try_run(&["ipvsadm-save", "-n"]).1;
    let first = "-A -t 192.0.2.1:80 -s rr\n\
                 -a -t 192.0.2.1:80 -r 10.1.0.2:80 -g -w 1\n\
                 -a -t 192.0.2.1:80 -r 10.1.0.3:80 -g -w 1\n";
    assert_eq!(restore(first), (Some(0), String::new()));
    assert_eq!(saved(), first);

    let mut too_many = "-A -t 192.0.2.9:1 -s rr\n".to_owned();
    for n in 0..=1024 {
        too_many += &format!("-a -t 192.0.2.9:1 -r 10.2.{}.{} -g\n", n / 250, n % 250 + 1);
    }
    for (rules, why) in [
        (
            "-A -t 192.0.2.9:1\n-A -t 192.0.2.9\n",
            "line 2: Zero port specified",
        ),
        (
            "-A -t 192.0.2.9:1\n\n-D -t 192.0.2.9:2\n",
            "line 3: No such service",
        ),
        // The host alone knows this one.
        (
            "-A -t 192.0.2.9:1\n-a -t 192.0.2.9:1 -r 10.1.0.255\n",
            "line 2: Invalid operation",
        ),
        // The tables alone know this one, when other changes are made already.
        (&too_many, "line 1026: Memory allocation problem"),
    ] {
        let (code, text) = restore(rules);
        assert_eq!(code, Some(1), "{text}");
        assert!(
            text.contains(why) && text.contains("nothing was changed"),
            "{text}"
        );
        assert_eq!(saved(), first);
    }

    // Servers that stay keep what they have; their order is the file's.
    let second = "-A -t 192.0.2.1:80 -s rr\n\
                  -a -t 192.0.2.1:80 -r 10.1.0.3:80 -g -w 2\n\
                  -a -t 192.0.2.1:80 -r 10.1.0.2:80 -g -w 1\n";
    assert_eq!(restore(second), (Some(0), String::new()));
    let order: Vec<_> = scene.client().services().unwrap()[0]
        .servers
        .iter()
        .map(|s| (s.spec.key.addr.to_string(), s.spec.weight.get()))
        .collect();
    assert_eq!(
        order,
        [("10.1.0.2".to_owned(), 1), ("10.1.0.3".to_owned(), 2)]
    );
    std::fs::remove_file(&file).unwrap();
    scene.try_run(&["director", "stop"]);
}
