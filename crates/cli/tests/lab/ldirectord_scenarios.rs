//! The scenarios of `tests/oracle/ldirectord`, played over Pointsman's ldirectord: after each event
//! the table is what it was under the original.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use pointsman_testkit::{Director, Hook, Names, Netns};

use crate::common::PROGRAM;

/// Scenarios that run at the same time: they mostly wait.
const AT_ONCE: usize = 8;

/// What came out otherwise, of one scenario.
fn play(here: &Path, name: &str) -> Result<(), String> {
    let names = Names::transient();
    let netns = Netns::new(&names, "ld").map_err(|error| error.to_string())?;
    netns
        .sysctl("net.ipv6.conf.lo.disable_ipv6", "0")
        .map_err(|error| error.to_string())?;
    let director = Director::start(PROGRAM, &netns, Hook::Tc).map_err(|error| error.to_string())?;
    let transcript = here.join("transcripts").join(format!("{name}.transcript"));
    let output = netns
        .command(here.join("play.sh"))
        .arg(here.join("scenarios").join(format!("{name}.scn")))
        .arg(&transcript)
        .env("LDIRECTORD", format!("{PROGRAM} ldirectord"))
        .env("IPVSADM", format!("{PROGRAM} ipvsadm"))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    director.stop().map_err(|error| error.to_string())?;
    let played = String::from_utf8_lossy(&output.stdout);
    let recorded = fs::read_to_string(&transcript).map_err(|error| error.to_string())?;
    let recorded: String = recorded
        .lines()
        .filter(|line| !line.starts_with("#!"))
        .map(|line| format!("{line}\n"))
        .collect();
    if played == recorded {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "{name}: recorded\n{recorded}\nplayed\n{played}\n{errors}"
    ))
}

#[test]
fn the_table_is_the_originals_after_each_event() {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/oracle/ldirectord");
    let mut names: Vec<String> = fs::read_dir(here.join("transcripts"))
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(".transcript").map(str::to_owned)
        })
        .collect();
    names.sort();
    assert!(names.len() >= 18, "{names:?}");
    let mut wrong = Vec::new();
    for some in names.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let playing: Vec<_> = some
                .iter()
                .map(|name| scope.spawn(|| play(&here, name)))
                .collect();
            wrong.extend(
                playing
                    .into_iter()
                    .filter_map(|done| done.join().unwrap().err()),
            );
        });
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
