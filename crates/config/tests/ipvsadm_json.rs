//! `--json` prints what listings show, and stays out of everything else.

mod support;

use serde_json::{Value, json};
use support::kernel::Kernel;
use support::{RecordedNames, Said, say};

const RULES: &str = "\
-A -t 192.0.2.9:80 -s wrr
-a -t 192.0.2.9:80 -r 10.0.0.12:80 -m -w 3 -x 9 -y 4
-a -t 192.0.2.9:80 -r 10.0.0.11:8080 -m
-A -u 192.0.2.1:53 -s rr -o -p 90
--set 60 0 0
";

fn run(kernel: &mut Kernel, line: &str) -> Said {
    let words: Vec<_> = format!("ipvsadm {line}")
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    say(&words, RULES, kernel, &RecordedNames)
}

fn json(line: &str) -> Value {
    let mut kernel = Kernel::default();
    assert_eq!(run(&mut kernel, "-R"), Said::default());
    kernel.hold("conn TCP C6336402 A028 C0000209 0050 0A00000B 1F90 ESTABLISHED 896");
    let said = run(&mut kernel, line);
    assert_eq!((said.stderr.as_str(), said.status), ("", 0), "{line}");
    assert!(said.stdout.ends_with('\n'), "{line}");
    serde_json::from_str(&said.stdout).expect(line)
}

#[test]
fn every_view_of_services_has_all_there_is() {
    let listed = json("-L --json");
    for columns in [
        "--stats",
        "--rate --exact",
        "--thresholds -n",
        "--persistent-conn",
        "--tun-info",
    ] {
        assert_eq!(json(&format!("-L --json {columns}")), listed, "{columns}");
    }
    let ports = |value: &Value| -> Vec<Value> {
        let services = value.as_array().unwrap().iter();
        services
            .map(|s| s["key"]["address"]["port"].clone())
            .collect()
    };
    // By protocol; as they were added.
    assert_eq!(ports(&listed), [80, 53]);
    assert_eq!(ports(&json("-ln --nosort --json")), [80, 53]);
    let web = &listed[0];
    assert_eq!(web["scheduler"], "wrr");
    assert_eq!(web["counters"]["in_packets"], 0);
    let servers: Vec<_> = [0, 1].map(|at| &web["servers"][at]["key"]).into();
    assert_eq!(servers[0], &json!({"addr": "10.0.0.11", "port": 8080}));
    assert_eq!(web["servers"][1]["upper_threshold"], 9);
    assert_eq!(web["servers"][1]["active"], 0);
    assert_eq!(json("-L -u 192.0.2.1:53 --json"), json!([listed[1]]));
    assert_eq!(listed[1]["persistence"]["timeout_secs"], 90);
}

#[test]
fn the_other_listings_have_their_own() {
    assert_eq!(
        json("-L --timeout --json"),
        json!({"tcp": 60, "tcp_fin": 120, "udp": 300})
    );
    assert_eq!(json("-L --daemon --json"), json!([]));
    for line in ["-Lc --json", "-Lnc --persistent-conn --json"] {
        let connections = json(line);
        assert_eq!(connections[0]["client"], "198.51.100.2:41000");
        assert_eq!(connections[0]["state"], "ESTABLISHED");
        assert_eq!(connections[0]["expires_secs"], 896);
    }
    let saved = json("-S --json");
    assert_eq!(saved[0]["servers"][1]["weight"], 3);
    assert_eq!(saved[0]["servers"][1].get("active"), None);
    assert_eq!(saved[0].get("counters"), None);
}

#[test]
fn what_lists_nothing_does_not_take_it() {
    let mut kernel = Kernel::default();
    for (line, text, status) in [
        (
            "-C --json",
            "Illegal 'json' option with the 'flush' command",
            2,
        ),
        (
            "-Z --json",
            "Illegal 'json' option with the 'zero' command",
            2,
        ),
        ("-L --json --json", "multiple 'json' options specified", 2),
        ("-L --jso", "--jso: unknown option", 255),
        (
            "-L --json=1",
            "--json=1: option does not take an argument",
            255,
        ),
        (
            "-L --stats --timeout --json",
            "options conflicts in the list command",
            2,
        ),
        ("-L --json -t 192.0.2.1:80", "No such service", 1),
    ] {
        let said = run(&mut kernel, line);
        assert_eq!(
            (said.stderr, said.status),
            (format!("{text}\n"), status),
            "{line}"
        );
        assert_eq!(said.stdout, "");
    }
}
