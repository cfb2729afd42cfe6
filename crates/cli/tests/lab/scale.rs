//! Many services.

use std::fmt::Write;
use std::time::{Duration, Instant};

use pointsman_testkit::{Hook, Method};

use crate::common::{PORT, Stage};

/// As `ipvsadm-save -n` writes it.
fn rules(services: u32, servers: u32) -> String {
    let mut rules = String::new();
    for service in 0..services {
        let vip = format!(
            "10.{}.{}.{}:{PORT}",
            100 + service / 62_500,
            service / 250,
            1 + service % 250
        );
        writeln!(rules, "-A -t {vip} -s rr").unwrap();
        for server in 0..servers {
            let rip = format!(
                "192.168.{}.{}",
                1 + service / 50,
                1 + server + servers * (service % 50)
            );
            writeln!(rules, "-a -t {vip} -r {rip}:{PORT} -m -w {}", 1 + server).unwrap();
        }
    }
    rules
}

#[test]
fn a_thousand_services_restore_and_list() {
    let stage = Stage::new(Method::Nat, Hook::Tc);
    let rules = rules(1000, 4);
    let start = Instant::now();
    stage.director().ipvsadm_reading("-R", &rules).unwrap();
    let restored = start.elapsed();

    let start = Instant::now();
    let listing = stage.ipvsadm("-Ln");
    let listed = start.elapsed();
    println!("1,000 services of 4 servers: restored in {restored:?}, listed in {listed:?}");
    assert_eq!(
        listing
            .lines()
            .filter(|line| line.starts_with("TCP"))
            .count(),
        1000
    );
    assert_eq!(
        listing
            .lines()
            .filter(|line| line.starts_with("  -> 192"))
            .count(),
        4000
    );

    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&stage.ipvsadm("-Sn")), sorted(&rules));

    // The last one made works as if it were alone.
    stage.balance("rr");
    assert_eq!(stage.ask(2), [stage.page(2), stage.page(1)]);

    // Wide bounds: the machine may be busy. The figures are printed above.
    assert!(restored < Duration::from_secs(20), "{restored:?}");
    assert!(listed < Duration::from_secs(2), "{listed:?}");
    stage.ipvsadm("-C");
    assert!(!stage.ipvsadm("-Ln").contains("TCP"));
}
