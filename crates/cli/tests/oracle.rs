//! Pointsman against the kernel's IPVS: every scenario of `tests/oracle` on both hooks. What the
//! kernel does was recorded by `cargo xtask oracle --record`; see `docs/development.md`.
//!
//! Needs root, `ip`, `ethtool`, `iptables`; fails without.

use std::io::Write;
use std::path::Path;

use pointsman_oracle::Suite;
use pointsman_testkit::Hook;

fn every_scenario_comes_out_as_over_the_kernel(hook: Hook) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let suite = Suite::load(&root).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_pointsman"));
    let mut failed = 0;
    for name in suite.choose(&[]).unwrap() {
        let verdict = suite.compare(&name, program, hook);
        if verdict.is_failure() {
            failed += 1;
            println!("{name}:\n{}", verdict.differences.unwrap_or_default());
        } else if let Some(reason) = &verdict.pending {
            // Past the test runner, which would show it only after a failure.
            let on = hook.word();
            let word = verdict.word();
            writeln!(
                std::io::stderr(),
                "oracle: {word}: {name} on {on}: {reason}"
            )
            .unwrap();
        }
    }
    assert_eq!(
        failed, 0,
        "scenarios came out otherwise than over the kernel"
    );
}

#[test]
fn every_scenario_comes_out_as_over_the_kernel_on_tc() {
    every_scenario_comes_out_as_over_the_kernel(Hook::Tc);
}

#[test]
fn every_scenario_comes_out_as_over_the_kernel_on_native_xdp() {
    every_scenario_comes_out_as_over_the_kernel(Hook::Xdp);
}
