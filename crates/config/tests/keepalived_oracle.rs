//! What the real keepalived complains of, `pointsman check` complains of; what it accepts is accepted.
//!
//! `tests/oracle/keepalived.sh` recorded what keepalived 2.2.7 said of each case.

mod support;

use pointsman_config::diag::Severity;
use pointsman_config::keepalived::Options;
use support::memory::Memory;

const CASES: &str = include_str!("../../../tests/oracle/keepalived.cases");
const TRANSCRIPT: &str = include_str!("../../../tests/oracle/keepalived.transcript");

/// keepalived 2.2.7 says nothing of these.
const STRICTER: &[(&str, &str)] = &[
    ("unknown group", "it silently makes no service at all"),
    ("weight out of range", "2.4 has the bound of 65535"),
    ("strict with unicast", "2.4 refuses the instance"),
];

#[test]
fn it_complains_of_what_keepalived_complains_of() {
    let options = Options {
        config_id: "red".into(),
        interfaces: Some(["lo", "eth0", "eth1"].map(str::to_owned).to_vec()),
        ..Options::default()
    };
    let mut compared = 0;
    let mut differences = Vec::new();
    for (name, text) in sections(CASES) {
        let recorded = sections(TRANSCRIPT).find(|(known, _)| *known == name);
        let (_, said) = recorded.unwrap_or_else(|| panic!("`{name}` is not recorded"));
        let complains = !said.starts_with("status 0\n");
        let loaded = Memory::new(&[("/k.conf", text)]).read("/k.conf", &options);
        let ours = loaded.diagnostics.worst() >= Some(Severity::Warning);
        let stricter = STRICTER.iter().any(|(known, _)| *known == name);
        compared += 1;
        if ours != (complains || stricter) {
            let rendered = loaded.diagnostics.render(Severity::NoEffect);
            differences.push(format!("{name}: keepalived: {said}ours: {rendered}"));
        }
    }
    assert!(compared >= 50, "{compared} cases");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// `=== NAME`, and the lines up to the next one.
fn sections(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split("=== ")
        .skip(1)
        .filter_map(|section| section.split_once('\n'))
}
