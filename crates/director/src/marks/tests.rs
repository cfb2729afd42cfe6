use super::*;

const FAMILY: Family = Family::V4;

/// The rules of a kernel that nobody touched.
fn fresh() -> Vec<RuleMessage> {
    let mut main = rule(FAMILY, 32_766, RuleAction::ToTable, RouteProtocol::Kernel);
    main.header.table = 254;
    vec![local(FAMILY, 0, RouteProtocol::Kernel), main]
}

/// Does to `rules` what a kernel would.
fn carry_out(rules: &mut Vec<RuleMessage>, steps: Vec<Step>) {
    for step in steps {
        match step {
            Step::Add(rule) => {
                let behind = |other: &RuleMessage| priority(other) > priority(&rule);
                let at = rules.iter().position(behind).unwrap_or(rules.len());
                rules.insert(at, rule);
            }
            Step::Delete(rule) => {
                let at = rules.iter().position(|other| *other == rule);
                rules.remove(at.expect("what is deleted is there"));
            }
        }
        let local = |rule: &RuleMessage| is_local(rule, 0) || is_local(rule, 1);
        assert!(rules.iter().any(local), "local addresses have no rule");
    }
}

fn settle(rules: &mut Vec<RuleMessage>, marks: &[u32]) {
    let marks = marks.iter().copied().collect();
    let steps = plan(FAMILY, rules, &marks);
    carry_out(rules, steps);
    assert_eq!(plan(FAMILY, rules, &marks), [], "a second time");
}

fn complete(marks: &[u32]) -> Vec<RuleMessage> {
    let mut rules = vec![skip(FAMILY)];
    rules.extend(marks.iter().map(|&mark| by_mark(FAMILY, mark)));
    rules.extend([nop(FAMILY), local(FAMILY, 1, OURS), fresh()[1].clone()]);
    rules
}

#[test]
fn the_first_mark_brings_the_rules_and_the_last_takes_them_away() {
    let mut rules = fresh();
    settle(&mut rules, &[]);
    assert_eq!(rules, fresh());
    settle(&mut rules, &[7]);
    assert_eq!(rules, complete(&[7]));
    settle(&mut rules, &[7, 9]);
    assert_eq!(rules, complete(&[7, 9]));
    settle(&mut rules, &[9]);
    assert_eq!(rules, complete(&[9]));
    settle(&mut rules, &[]);
    assert_eq!(rules, fresh());
}

#[test]
fn whatever_somebody_removes_is_repaired_in_its_place() {
    for gone in 0..5 {
        let mut rules = complete(&[7, 9]);
        if is_local(&rules.remove(gone), 1) {
            // As a kernel would be left by who restores the default.
            rules.insert(0, local(FAMILY, 0, RouteProtocol::Kernel));
        }
        settle(&mut rules, &[7, 9]);
        let first = rules.iter().position(|rule| *rule == skip(FAMILY));
        let marks = rules.iter().position(|rule| mark(rule).is_some());
        assert!(first < marks, "{gone}: {rules:?}");
        assert_eq!(rules.len(), complete(&[7, 9]).len(), "{gone}");
        settle(&mut rules, &[]);
        assert_eq!(rules, fresh());
    }
}

#[test]
fn what_a_killed_director_began_is_finished_or_undone() {
    let marks = BTreeSet::from([7, 9]);
    let steps = plan(FAMILY, &fresh(), &marks);
    for done in 0..=steps.len() {
        let mut begun = fresh();
        carry_out(&mut begun, steps[..done].to_vec());
        let mut undone = begun.clone();
        settle(&mut undone, &[]);
        assert_eq!(undone, fresh(), "after {done} steps");
        settle(&mut begun, &[7, 9]);
        assert_eq!(begun.len(), complete(&[7, 9]).len(), "after {done} steps");
    }
}

#[test]
fn a_local_rule_that_others_moved_stays_where_it_is() {
    let mut rules = fresh();
    rules[0] = local(FAMILY, 100, RouteProtocol::Boot);
    let before = rules.clone();
    let steps = plan(FAMILY, &rules, &BTreeSet::from([7]));
    let touched = |step: &Step| match step {
        Step::Add(rule) | Step::Delete(rule) => rule.header.table == LOCAL,
    };
    assert!(!steps.iter().any(touched), "{steps:?}");
    rules.splice(0..0, [skip(FAMILY), by_mark(FAMILY, 7), nop(FAMILY)]);
    assert_eq!(plan(FAMILY, &rules, &BTreeSet::from([7])), []);
    let steps = plan(FAMILY, &rules, &BTreeSet::new());
    assert_eq!(steps.len(), 3);
    assert!(!steps.iter().any(touched), "{steps:?}");
    assert_eq!(before.len(), 2);
}
