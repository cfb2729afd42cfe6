//! `docs/drops.md` and the reasons the core knows are the same list.

use pointsman_core::drop::Drop;

const PAGE: &str = include_str!("../../../docs/drops.md");

#[test]
fn every_reason_to_drop_is_explained_in_the_docs() {
    let explained: Vec<&str> = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    let known: Vec<&str> = Drop::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(
        explained, known,
        "rows of docs/drops.md, in the order of the enum"
    );
}
