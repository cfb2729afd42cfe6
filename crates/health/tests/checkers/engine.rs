//! The engine with real time and real servers.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use pointsman_health::{Change, Context, Engine, Event, Evidence};
use pointsman_model::check::{FileCheck, PassiveCheck, ScriptCheck};
use pointsman_model::{Check, CheckKind, Counting, Script};
use pointsman_script::Policy;
use pointsman_testkit::wait_until;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::check;
use crate::common::Lab;

const PATIENCE: Duration = Duration::from_secs(60);

type Events = UnboundedReceiver<Event<&'static str>>;

fn start(lab: &Lab) -> (Engine<&'static str>, Events) {
    lab.netns.run(|| Engine::start(Context::default()).unwrap())
}

#[track_caller]
fn next(events: &mut Events) -> Event<&'static str> {
    wait_until("an event", PATIENCE, || events.try_recv().ok()).unwrap()
}

/// At ldirectord's pace, which begins at once.
fn tcp(port: u16) -> Check {
    let mut tcp = check(CheckKind::Tcp, port);
    tcp.pace.counting = Counting::Rounds;
    tcp.pace.interval = Duration::from_millis(50);
    tcp
}

fn listen(lab: &Lab, port: u16) -> TcpListener {
    lab.netns
        .run(|| TcpListener::bind(("127.0.0.1", port)).unwrap())
}

#[test]
fn changes_come_out_and_equal_checks_go_on() {
    let lab = Lab::new();
    let (engine, mut events) = start(&lab);
    assert!(engine.set([("a", tcp(80))]).is_empty());
    let event = next(&mut events);
    assert_eq!((event.id, event.change), ("a", Change::Down));
    assert_eq!(event.reason, "connection refused");
    let listener = listen(&lab, 80);
    assert_eq!(next(&mut events).change, Change::Up);

    // The same again, and a new one beside: the first does not begin anew.
    let probes = |id| engine.status(&id).unwrap().probes;
    let before = probes("a");
    assert!(engine.set([("a", tcp(80)), ("b", tcp(80))]).is_empty());
    assert!(probes("a") >= before);
    let event = next(&mut events);
    assert_eq!((event.id, event.change), ("b", Change::Confirmed));

    // Configured otherwise: it begins anew and keeps its standing.
    drop(listener);
    let mut down = [next(&mut events).id, next(&mut events).id];
    down.sort_unstable();
    assert_eq!(down, ["a", "b"]);
    let mut slower = tcp(80);
    slower.pace.interval = Duration::from_secs(3600);
    engine.set([("a", slower)]);
    let status = engine.status(&"a").unwrap();
    assert!(!status.up, "{status:?}");
    assert!(engine.status(&"b").is_none());
}

#[test]
fn a_script_begins_anew_under_other_rules() {
    let lab = Lab::new();
    let (engine, mut events) = start(&lab);
    let mut script = check(
        CheckKind::Script(ScriptCheck {
            script: Script::new(["/bin/sh", "-c", "test $(umask) = 0027"]),
            dynamic: false,
        }),
        0,
    );
    script.pace.counting = Counting::Rounds;
    assert!(engine.set([("s", script.clone())]).is_empty());
    assert_eq!(next(&mut events).change, Change::Down);
    engine.set_scripts(Policy {
        umask: Some(0o027),
        ..Policy::default()
    });
    assert!(engine.set([("s", script)]).is_empty());
    assert_eq!(next(&mut events).change, Change::Up);
}

#[test]
fn a_suspended_check_asks_nobody() {
    let lab = Lab::new();
    let _listener = listen(&lab, 80);
    let (engine, mut events) = start(&lab);
    engine.set([("a", tcp(80))]);
    assert_eq!(next(&mut events).change, Change::Confirmed);
    engine.suspend([&"a"]);
    let status = || engine.status(&"a").unwrap();
    wait_until("it to be suspended", PATIENCE, || {
        status().suspended.then_some(())
    })
    .unwrap();
    let probes = status().probes;
    // Six intervals, in which it would have asked.
    std::thread::sleep(Duration::from_millis(300));
    assert!(status().probes <= probes + 1, "one may have been under way");
    assert!(status().up);
    engine.resume([&"a"]);
    wait_until("it to go on", PATIENCE, || {
        (status().probes > probes + 2).then_some(())
    })
    .unwrap();
}

#[test]
fn a_written_file_is_seen_at_once() {
    let lab = Lab::new();
    let path = lab.file("load", "0");
    let (engine, mut events) = start(&lab);
    let file = CheckKind::File(FileCheck {
        name: "load".into(),
        path: path.clone(),
        weight: 0,
        reverse: false,
        dynamic: false,
    });
    engine.set([("f", check(file, 0))]);
    assert_eq!(next(&mut events).change, Change::Confirmed);
    for (text, change) in [("1", Change::Down), ("0", Change::Up), ("7", Change::Down)] {
        std::fs::write(&path, text).unwrap();
        assert_eq!(next(&mut events).change, change, "{text}");
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(next(&mut events).change, Change::Up);
}

#[test]
fn bfd_sessions_are_followed() {
    let lab = Lab::new();
    let context = Context::default();
    let bfd = context.bfd.clone();
    let (engine, mut events) = lab.netns.run(|| Engine::start(context).unwrap());
    engine.set([("s", check(CheckKind::Bfd("session".into()), 0))]);
    bfd.set("session", true);
    assert_eq!(next(&mut events).change, Change::Confirmed);
    bfd.set("session", false);
    assert_eq!(next(&mut events).change, Change::Down);
    bfd.set("other", false);
    bfd.set("session", true);
    assert_eq!(next(&mut events).change, Change::Up);
}

#[test]
fn what_cannot_be_checked_is_given_back() {
    let lab = Lab::new();
    let (engine, _events) = start(&lab);
    let mut through = tcp(80);
    through.target.through = Some("192.0.2.1:80".parse().unwrap());
    let problems = engine.set([("a", through)]);
    assert_eq!(problems.len(), 1);
    let status = engine.status(&"a").unwrap();
    assert!(
        status.up && status.reason.contains("no true path"),
        "{status:?}"
    );
}

#[test]
fn clients_take_a_dead_listener_out_before_its_turn() {
    let lab = Lab::new();
    let (engine, mut events) = start(&lab);
    let listener = listen(&lab, 80);
    let mut active = tcp(80);
    active.pace.interval = Duration::from_secs(3600);
    let passive = check(CheckKind::Passive(PassiveCheck::default()), 0);
    engine.set([("active", active), ("passive", passive)]);
    // The spread of the first probe may be long; there is reason to look now.
    engine.hurry(&"active");
    assert_eq!(next(&mut events).change, Change::Confirmed);
    drop(listener);
    let dead = Instant::now();
    // As the data plane would count it at 100 connections a second.
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(50));
        for id in ["passive", "active"] {
            engine.evidence(&id, Evidence::Refused, 5);
        }
    }
    let mut out = [next(&mut events), next(&mut events)];
    out.sort_by_key(|event| event.id);
    let [active, passive] = out;
    assert_eq!((active.id, active.change), ("active", Change::Down));
    assert_eq!((passive.id, passive.change), ("passive", Change::Down));
    // 300 ms on a machine that has time; here only that it did not wait for its turn.
    assert!(passive.at.duration_since(dead) < Duration::from_secs(5));
    println!(
        "out after {:?} by clients, {:?} by the check they hurried",
        passive.at.duration_since(dead),
        active.at.duration_since(dead)
    );
}
