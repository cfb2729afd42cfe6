//! Rules and the running state as keepalived.conf: a director that follows it has the same services.

use std::fs;
use std::path::Path;
use std::time::Duration;

use pointsman_testkit::{Director, Hook, Names, Netns, wait_until};
use tempfile::TempDir;

use crate::common::PROGRAM;

const PATIENCE: Duration = Duration::from_secs(60);

/// One of everything that rules can say of services and servers.
const RULES: &str = "\
-A -t 192.0.2.1:80 -s wlc
-a -t 192.0.2.1:80 -r 10.0.0.2:8080 -m -w 5
-a -t 192.0.2.1:80 -r 10.0.0.3:80 -g -w 0
-A -t 192.0.2.1:443 -s sh -p 300 -M 255.255.255.0 -b sh-port
-a -t 192.0.2.1:443 -r 10.0.0.2:443 -i -w 1
-a -t 192.0.2.1:443 -r 10.0.0.3:443 -m -w 2 -x 100 -y 50
-A -u 192.0.2.1:53 -s rr -o
-a -u 192.0.2.1:53 -r 10.0.0.2:53 -g -w 1
-A --sctp-service 192.0.2.1:5060 -s lc
-a --sctp-service 192.0.2.1:5060 -r 10.0.0.2:5060 -m -w 1
-A -t 192.0.2.9:0 -s mh -p 60
-a -t 192.0.2.9:0 -r 10.0.0.2:0 -g -w 1
-A -f 7 -s nq
-a -f 7 -r 10.0.0.2:0 -g -w 3
-A -t [2001:db8::1]:80 -s wrr
-a -t [2001:db8::1]:80 -r [2001:db8::2]:80 -m -w 1
-A -f 8 -6 -s rr
-a -f 8 -6 -r [2001:db8::2]:0 -g -w 1
";

fn services(director: &Director<'_>) -> Vec<String> {
    let listing = director.ipvsadm("-Sn").unwrap();
    let mut lines: Vec<_> = listing.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Waits until a new director that follows `config` has `expected`.
#[track_caller]
fn follows(config: &Path, expected: &[String]) {
    let netns = Netns::new(&Names::transient(), "director").unwrap();
    let director = Director::new(PROGRAM, &netns);
    let file = config.display().to_string();
    director
        .run(&["director", "start", "--hook", "tc", "--config", &file])
        .unwrap();
    let mut last = Vec::new();
    let done = wait_until("the services", PATIENCE, || {
        last = services(&director);
        (last == expected).then_some(())
    });
    let text = fs::read_to_string(config).unwrap();
    assert!(
        done.is_ok(),
        "{}\ninstead of\n{}\nby\n{text}",
        last.join("\n"),
        expected.join("\n")
    );
}

#[test]
fn rules_and_the_running_state_come_back() {
    let directory = TempDir::new().unwrap();
    let netns = Netns::new(&Names::transient(), "director").unwrap();
    let director = Director::start(PROGRAM, &netns, Hook::Tc).unwrap();
    director.ipvsadm_reading("-R", RULES).unwrap();
    let expected = services(&director);
    assert_eq!(expected.len(), RULES.lines().count());

    let rules = directory.path().join("saved.rules");
    fs::write(&rules, RULES).unwrap();
    let from_rules = directory.path().join("from-rules.conf");
    let text = director
        .run(&["convert", &rules.display().to_string()])
        .unwrap();
    fs::write(&from_rules, text).unwrap();
    follows(&from_rules, &expected);

    let from_state = directory.path().join("from-state.conf");
    fs::write(&from_state, director.run(&["convert"]).unwrap()).unwrap();
    follows(&from_state, &expected);
}
