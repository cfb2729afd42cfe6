//! Pointsman against the kernel's IPVS: every scenario of `tests/oracle` on both hooks. What the
//! kernel does was recorded by `cargo xtask oracle --record`; see `docs/development.md`.
//!
//! Needs root, `ip`, `ethtool`, `iptables`; fails without.

use std::io::Write;
use std::path::Path;

use pointsman_oracle::Suite;
use pointsman_testkit::Hook;

#[test]
fn every_scenario_comes_out_as_over_the_kernel() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let suite = Suite::load(&root).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_pointsman"));
    let all = suite.choose(&[]).unwrap();
    let verdicts = suite.compare_all(&all, program, &[Hook::Xdp, Hook::Tc], |_| {});
    let (mut failed, mut again) = (0, 0);
    for verdict in &verdicts {
        let (name, on, word) = (&verdict.name, verdict.hook.word(), verdict.word());
        if let Some(note) = verdict.reused_note() {
            again += 1;
            say(&note);
        }
        if let Some(reason) = &verdict.pending {
            say(&format!("{word}: {name} on {on}: {reason}"));
        } else if let Some(differences) = &verdict.differences {
            failed += 1;
            println!("{name} on {on}:\n{differences}");
        }
    }
    say(&format!(
        "{} played, {again} of them again on a fresh director",
        verdicts.len()
    ));
    assert_eq!(
        failed, 0,
        "scenarios came out otherwise than over the kernel"
    );
}

/// Past the test runner, which would show it only after a failure.
fn say(text: &str) {
    let line = format!("oracle: {text}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}
