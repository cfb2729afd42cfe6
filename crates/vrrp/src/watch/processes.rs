use std::fs;
use std::time::Duration;

use pointsman_model::vrrp::{ParameterMatch, TrackProcess};
use tokio::time::{MissedTickBehavior, interval};

use super::{Seen, Teller, Watcher};

/// How often processes are counted.
const PACE: Duration = Duration::from_millis(500);
/// What the kernel keeps of a program's name.
const COMM_BYTES: usize = 15;

/// Counts processes twice a second.
pub(crate) fn watch_processes(wanted: &[TrackProcess], teller: Teller) -> Watcher {
    let wanted = wanted.to_vec();
    Watcher::spawn(async move {
        let mut due = interval(PACE);
        due.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            due.tick().await;
            let asked = wanted.clone();
            // On another thread: a host may have a hundred thousand processes.
            let Ok(counts) = tokio::task::spawn_blocking(move || count(&asked)).await else {
                return;
            };
            for (process, count) in wanted.iter().zip(counts) {
                let name = process.name.clone();
                if teller.send(Seen::Processes { name, count }).is_err() {
                    return;
                }
            }
        }
    })
}

fn count(wanted: &[TrackProcess]) -> Vec<u32> {
    let mut counts = vec![0; wanted.len()];
    let lines = wanted.iter().any(by_line);
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let is_process = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        if !is_process {
            continue;
        }
        let Ok(comm) = fs::read(entry.path().join("comm")) else {
            continue;
        };
        let line = if lines {
            fs::read(entry.path().join("cmdline")).unwrap_or_default()
        } else {
            Vec::new()
        };
        let words: Vec<&[u8]> = line
            .split(|byte| *byte == 0)
            .filter(|word| !word.is_empty())
            .collect();
        for (process, count) in wanted.iter().zip(&mut counts) {
            *count += u32::from(matches(process, comm.trim_ascii_end(), &words));
        }
    }
    counts
}

/// Whether the command line is looked at, and not only the kernel's name of the program.
fn by_line(process: &TrackProcess) -> bool {
    process.full_command || process.parameter_match.is_some() || !process.parameters.is_empty()
}

fn matches(process: &TrackProcess, comm: &[u8], words: &[&[u8]]) -> bool {
    let program = process.program.as_bytes();
    if !by_line(process) {
        return comm == &program[..program.len().min(COMM_BYTES)];
    }
    let Some((first, rest)) = words.split_first() else {
        return false;
    };
    if *first != program {
        return false;
    }
    let parameters: Vec<&[u8]> = process.parameters.iter().map(|p| p.as_bytes()).collect();
    match process.parameter_match.unwrap_or(ParameterMatch::Exact) {
        ParameterMatch::Exact => rest == parameters,
        ParameterMatch::Initial => rest.starts_with(&parameters),
        ParameterMatch::Partial => match parameters.split_last() {
            None => true,
            Some((last, before)) => {
                rest.starts_with(before)
                    && rest
                        .get(before.len())
                        .is_some_and(|word| word.starts_with(last))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(parameters: &[&str], parameter_match: Option<ParameterMatch>) -> TrackProcess {
        TrackProcess {
            name: "p".into(),
            program: "/usr/sbin/program".into(),
            parameters: parameters.iter().map(|p| (*p).into()).collect(),
            parameter_match,
            full_command: true,
            quorum: 1,
            quorum_max: None,
            fork_delay: Duration::ZERO,
            terminate_delay: Duration::ZERO,
        }
    }

    #[test]
    fn parameters_match_wholly_initially_or_partly() {
        let words: [&[u8]; 3] = [b"/usr/sbin/program", b"-f", b"file.conf"];
        for (parameters, kind, expected) in [
            (&["-f", "file.conf"][..], None, true),
            (&["-f"], None, false),
            (&["-f"], Some(ParameterMatch::Initial), true),
            (&["-f", "file"], Some(ParameterMatch::Initial), false),
            (&["-f", "file"], Some(ParameterMatch::Partial), true),
            (&["-g"], Some(ParameterMatch::Partial), false),
        ] {
            let process = process(parameters, kind);
            assert_eq!(
                matches(&process, b"program", &words),
                expected,
                "{parameters:?} {kind:?}"
            );
        }
    }

    #[test]
    fn names_are_compared_as_the_kernel_cuts_them() {
        let mut process = process(&[], None);
        process.full_command = false;
        process.program = "a-very-long-program".into();
        assert!(matches(&process, b"a-very-long-pro", &[]));
        assert!(!matches(&process, b"a-very-long", &[]));
    }

    #[test]
    fn this_process_is_counted() {
        let mut us = process(&[], None);
        us.full_command = false;
        us.program = String::from_utf8(fs::read("/proc/self/comm").unwrap())
            .unwrap()
            .trim_end()
            .into();
        assert!(count(&[us])[0] >= 1);
    }
}
