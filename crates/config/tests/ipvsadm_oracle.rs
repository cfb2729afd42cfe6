//! `ipvsadm` says what the original said over the kernel.

mod support;

use pointsman_config::ipvsadm::parse;
use support::kernel::Kernel;
use support::transcript::{Step, steps};
use support::{RecordedNames, say};

const TRANSCRIPT: &str = include_str!("../../../tests/oracle/ipvsadm.transcript");
const LATER: &str = include_str!("../../../tests/oracle/ipvsadm-later.transcript");

#[test]
fn every_recorded_command_says_the_same() {
    let mut kernel = Kernel::default();
    let mut commands = 0;
    let mut differences = Vec::new();
    for step in steps(TRANSCRIPT) {
        match step {
            Step::Held { text, .. } => kernel.hold(&text),
            Step::Command {
                line,
                words,
                input,
                said,
            } => {
                kernel.nothing_held();
                commands += 1;
                let ours = say(&words, &input, &mut kernel, &RecordedNames);
                if ours != said {
                    differences.push(format!(
                        "line {line}: {words:?}\nrecorded {said:#?}\nours {ours:#?}\n"
                    ));
                }
            }
        }
    }
    assert!(commands > 700, "the transcript holds {commands} commands");
    assert!(
        differences.is_empty(),
        "{} of {commands} commands differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
}

#[test]
fn synchronisation_daemons_are_told_as_recorded() {
    let mut kernel = Kernel::default();
    let mut commands = 0;
    for step in steps(LATER) {
        let Step::Command {
            line,
            words,
            input,
            said,
        } = step
        else {
            continue;
        };
        if words.iter().any(|word| word.contains("daemon")) {
            commands += 1;
            let ours = say(&words, &input, &mut kernel, &RecordedNames);
            assert_eq!(ours, said, "line {line}: {words:?}");
        }
    }
    assert_eq!(commands, 11);
}

/// What the model cannot express yet is read in full all the same: every mistake is told with the
/// recorded words, and everything else understood.
#[test]
fn what_comes_later_is_read_already() {
    for step in steps(LATER) {
        let Step::Command {
            line, words, said, ..
        } = step
        else {
            continue;
        };
        match parse(&words[1..], &RecordedNames) {
            Ok(_) => assert_ne!(
                said.status, 2,
                "line {line}: {words:?} was refused: {said:?}"
            ),
            Err(mistake) => {
                let ours = (format!("{mistake}\n"), mistake.exit_code());
                assert_eq!(ours, (said.stderr, said.status), "line {line}: {words:?}");
            }
        }
    }
}
