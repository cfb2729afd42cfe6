//! What outlives a director, and what does not.

use std::time::Duration;

use pointsman_testkit::load::Load;
use pointsman_testkit::{Director, Hook, Method, wait_until};

use crate::common::{PORT, PROGRAM, Stage};
use crate::on_both_hooks;

on_both_hooks! {
    nat_survives_kill_9,
    direct_routing_survives_kill_9,
    tunnel_survives_kill_9,
    stop_leaves_nothing_behind,
    stop_can_leave_forwarding_in_place,
}

/// A SYN that is lost comes again after 1 s: less than that shows every loss.
const PATIENCE: Duration = Duration::from_millis(900);
const MINUTE: Duration = Duration::from_secs(60);

fn nat_survives_kill_9(hook: Hook) {
    survives_kill_9(Method::Nat, hook);
}

fn direct_routing_survives_kill_9(hook: Hook) {
    survives_kill_9(Method::DirectRouting, hook);
}

fn tunnel_survives_kill_9(hook: Hook) {
    survives_kill_9(Method::Tunnel, hook);
}

/// New connections too: every request of the load is one.
fn survives_kill_9(method: Method, hook: Hook) {
    let stage = Stage::new(method, hook);
    stage.balance("rr");
    let service = stage.service().to_string();
    let director = stage.director();
    let connections = || Stage::column(&stage.ipvsadm("-Ln --stats --exact"), &service, 2);

    let (client, rest) = (&stage.net.client, Duration::from_millis(2));
    let load = Load::start_paced(client, stage.service(), 4, PATIENCE, rest);
    load.wait_for(300, MINUTE).unwrap();
    let rules = stage.ipvsadm("-Sn");
    for _ in 0..2 {
        let before = connections();
        director.kill().unwrap();
        load.wait_for(500, MINUTE).unwrap();
        Director::start(PROGRAM, &stage.net.director, hook).unwrap();
        let status = director.status().unwrap();
        assert_eq!(status["adopted"], true, "{status:#}");
        assert_eq!(stage.ipvsadm("-Sn"), rules);
        let after = connections();
        // Not exact: a port used again while its connection still closes makes no new one.
        assert!(
            after >= before + 450,
            "{before} connections before, {after} after"
        );
        load.wait_for(300, MINUTE).unwrap();
    }
    let outcome = load.stop();
    assert_eq!(outcome.failures, Vec::<String>::new());
    assert_eq!(outcome.pages.len(), 2, "{:?}", outcome.pages);
    let (connections, answered) = (connections(), outcome.answered());
    // Where replies bypass the director, thousands of connections stay in FIN_WAIT for minutes
    // and client ports come round again: those requests make no new connection.
    let least = if method == Method::Nat {
        answered - answered / 20
    } else {
        answered / 4
    };
    assert!(
        (least..=answered).contains(&connections),
        "{connections} connections, {answered} answers"
    );
}

fn stop_leaves_nothing_behind(hook: Hook) {
    let stage = Stage::new(Method::Nat, hook);
    stage.balance("rr");
    stage.ask(4);
    let director = stage.director();
    assert!(
        !director.traces().unwrap().is_empty(),
        "a running director leaves traces"
    );
    director.stop().unwrap();
    assert!(director.pid().is_err(), "the process is gone");
    // The far ends keep their own XDP programs; these are of the director's interfaces.
    assert_eq!(director.traces().unwrap(), Vec::<String>::new());
    // And so also when it had been killed before.
    Director::start(PROGRAM, &stage.net.director, hook).unwrap();
    stage.balance("rr");
    director.kill().unwrap();
    director.stop().unwrap();
    assert_eq!(director.traces().unwrap(), Vec::<String>::new());
}

/// The rules that bring marked packets back are in the kernel's keeping, like the programs.
#[test]
fn routing_rules_of_marks_are_repaired_by_the_next_director_and_go_at_its_stop() {
    let stage = Stage::new(Method::Nat, Hook::Tc);
    let director = stage.director();
    let netns = &stage.net.director;
    let rules = || netns.ip("rule").unwrap();
    let before = rules();
    stage.ipvsadm("-A -f 1 -s rr");
    stage.ipvsadm("-A -f 2 -s rr");
    let with_marks = rules();
    for mark in ["fwmark 0x1 ", "fwmark 0x2 "] {
        assert!(with_marks.contains(mark), "{with_marks}");
    }
    director.kill().unwrap();
    assert_eq!(rules(), with_marks);
    netns.ip("rule del fwmark 1").unwrap();
    Director::start(PROGRAM, netns, Hook::Tc).unwrap();
    assert!(rules().contains("fwmark 0x1 "), "{}", rules());
    stage.ipvsadm("-D -f 2");
    assert!(!rules().contains("fwmark 0x2 "), "{}", rules());

    // While a director runs, within a second or so.
    netns.ip("rule del fwmark 1").unwrap();
    wait_until("the rule to be back", Duration::from_secs(10), || {
        rules().contains("fwmark 0x1 ").then_some(())
    })
    .unwrap();
    director.kill().unwrap();
    director.stop().unwrap();
    assert_eq!(rules(), before);
    assert_eq!(director.traces().unwrap(), Vec::<String>::new());
}

fn stop_can_leave_forwarding_in_place(hook: Hook) {
    let stage = Stage::new(Method::Nat, hook);
    stage.balance("rr");
    stage.ask(2);
    let director = stage.director();
    director
        .run(&["director", "stop", "--keep-forwarding"])
        .unwrap();
    assert!(director.pid().is_err(), "the process is gone");
    let pages = stage.ask(10);
    assert_eq!(
        pages.iter().filter(|page| **page == stage.page(1)).count(),
        5
    );
    // ipvsadm starts a director where none runs, and that one finds everything.
    let listing = stage.ipvsadm("-Ln");
    for server in &stage.net.servers {
        assert!(
            listing.contains(&format!("{}:{PORT}", server.addr)),
            "{listing}"
        );
    }
}
