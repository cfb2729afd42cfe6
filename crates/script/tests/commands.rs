//! Commands as they are really run; needs root, for the user they run as.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pointsman_model::{Script, ScriptUser};
use pointsman_script::{Ended, Policy, Program, Unfit};
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(30);

fn script(line: &str) -> Script {
    Script::new(["/bin/sh", "-c", line])
}

fn prepared(script: &Script) -> Program {
    Program::prepare(script, &Policy::default()).unwrap()
}

fn nobody() -> Option<ScriptUser> {
    Some(ScriptUser {
        user: "nobody".into(),
        group: None,
    })
}

/// A script file in a directory that root alone may write to.
fn file(text: &str, mode: u32) -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let path = directory.path().join("script");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    (directory, path)
}

fn is_alive(pid: &str) -> bool {
    let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !state.is_empty() && !state.contains(") Z ")
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn a_command_tells_its_status_and_its_last_words() {
    for (line, ended, shown) in [
        ("exit 0", Ended::Exited(0), "exited with status 0"),
        (
            "echo lost >&2; exit 7",
            Ended::Exited(7),
            "exited with status 7: lost",
        ),
        ("kill -9 $$", Ended::Signalled(9), "ended by signal 9"),
    ] {
        let run = prepared(&script(line)).run(Some(LONG)).await;
        assert_eq!(run.ended, ended, "{line}");
        assert_eq!(run.to_string(), shown);
    }
}

#[tokio::test]
async fn too_much_on_stderr_does_no_harm() {
    let line = "head -c 300000 /dev/zero | tr '\\0' x >&2; exit 3";
    let run = prepared(&script(line)).run(Some(LONG)).await;
    assert_eq!(run.ended, Ended::Exited(3));
    assert_eq!(run.stderr.len(), 1024);
}

#[tokio::test]
async fn a_command_out_of_time_goes_with_all_it_started() {
    let (directory, _) = file("", 0o644);
    let pids = directory.path().join("pids");
    // The first child would live on after a SIGTERM to its parent alone, the second after any.
    let line = format!(
        "sleep 1000 & echo $! >{0}; sh -c 'trap \"\" TERM; sleep 1000' & echo $! >>{0}; wait",
        pids.display()
    );
    let began = Instant::now();
    let run = prepared(&script(&line))
        .run(Some(Duration::from_millis(300)))
        .await;
    assert_eq!(run.ended, Ended::TimedOut);
    assert!(began.elapsed() < Duration::from_secs(20));
    for pid in fs::read_to_string(&pids).unwrap().lines() {
        wait_until("what it started is gone", || !is_alive(pid));
    }
}

#[tokio::test]
async fn a_command_that_ignores_sigterm_is_killed() {
    let began = Instant::now();
    let line = "trap '' TERM; while :; do sleep 1; done";
    let run = prepared(&script(line))
        .run(Some(Duration::from_millis(100)))
        .await;
    assert_eq!(run.ended, Ended::TimedOut);
    assert!(began.elapsed() >= Duration::from_secs(2));
}

#[tokio::test]
async fn a_command_that_nobody_waits_for_any_more_ends() {
    let (directory, _) = file("", 0o644);
    let pid = directory.path().join("pid");
    let line = format!("echo $$ >{}; exec sleep 1000", pid.display());
    let program = prepared(&script(&line));
    let run = tokio::spawn(async move { program.run(None).await });
    while fs::read_to_string(&pid).is_ok_and(|text| text.is_empty()) || !pid.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    run.abort();
    let _ = run.await;
    let pid = fs::read_to_string(&pid).unwrap();
    wait_until("it is gone", || !is_alive(&pid));
}

#[tokio::test]
async fn a_command_runs_as_its_user_with_a_clean_environment() {
    let (directory, _) = file("", 0o644);
    fs::set_permissions(directory.path(), Permissions::from_mode(0o1777)).unwrap();
    let out = directory.path().join("out");
    let line = format!(
        "{{ id -un; umask; env | grep -c -e ^LD_PRELOAD -e ^IFS; }} >{}",
        out.display()
    );
    let mut script = script(&line);
    script.user = nobody();
    let policy = Policy {
        umask: Some(0o077),
        ..Policy::default()
    };
    let program = Program::prepare(&script, &policy).unwrap();
    program.run(Some(LONG)).await;
    assert_eq!(fs::read_to_string(out).unwrap(), "nobody\n0077\n0\n");
}

#[tokio::test]
async fn arguments_stay_whole() {
    let (directory, path) = file("#!/bin/sh\nprintf '%s|' \"$@\" >\"$1\"\n", 0o755);
    let out = directory.path().join("out");
    let script = Script::new([path.to_str().unwrap(), out.to_str().unwrap(), "a b", ""]);
    let program = Program::prepare(&script, &Policy::default()).unwrap();
    let run = program.with_args(["$HOME", "c"]).run(Some(LONG)).await;
    assert!(run.succeeded(), "{run}");
    let expected = format!("{}|a b||$HOME|c|", out.display());
    assert_eq!(fs::read_to_string(&out).unwrap(), expected);
}

#[tokio::test]
async fn what_cannot_be_started_has_failed() {
    let (_directory, path) = file("#!/no/such/interpreter\n", 0o755);
    let program = prepared(&Script::new([path.to_str().unwrap()]));
    let run = program.run(Some(LONG)).await;
    assert!(matches!(run.ended, Ended::NotStarted(_)), "{run}");
    assert!(!run.succeeded());
}

#[tokio::test]
async fn a_file_without_an_interpreter_is_run_by_a_shell() {
    let (_directory, path) = file("exit 5\n", 0o755);
    let program = prepared(&Script::new([path.to_str().unwrap()]));
    assert!(program.warnings().iter().any(|w| w.contains("no #! line")));
    assert_eq!(program.run(Some(LONG)).await.ended, Ended::Exited(5));
}

#[tokio::test]
async fn an_input_redirection_goes_to_a_shell() {
    let (_directory, path) = file("", 0o644);
    for (target, ended) in [(path.to_str().unwrap(), 0), ("/no/such/file", 1)] {
        let program = prepared(&Script::new([format!("<{target}")]));
        assert_eq!(program.run(Some(LONG)).await.ended, Ended::Exited(ended));
    }
}

#[test]
fn what_is_unfit_says_why() {
    let (_directory, path) = file("#!/bin/sh\n", 0o644);
    let plain = path.to_str().unwrap().to_owned();
    let mut strange = script("true");
    strange.user = Some(ScriptUser {
        user: "no-such-user".into(),
        group: None,
    });
    for (script, text) in [
        (
            Script::new(["no-such-program"]),
            "no-such-program: not found".to_owned(),
        ),
        (Script::new(["/no/such"]), "/no/such: not found".to_owned()),
        (
            Script::new([&plain]),
            format!("{plain}: not executable by root"),
        ),
        (strange, "no such user `no-such-user`".to_owned()),
        (
            Script {
                argv: vec![],
                user: None,
            },
            "the command is empty".to_owned(),
        ),
    ] {
        let unfit = Program::prepare(&script, &Policy::default()).unwrap_err();
        assert_eq!(unfit.to_string(), text);
    }
}

#[test]
fn what_others_could_change_is_not_for_root() {
    let secure = Policy {
        security: true,
        user: Some(ScriptUser {
            user: "root".into(),
            group: None,
        }),
        ..Policy::default()
    };
    let (directory, path) = file("#!/bin/sh\n", 0o755);
    let script = Script::new([path.to_str().unwrap()]);
    assert_eq!(
        Program::prepare(&script, &secure).unwrap().warnings(),
        [""; 0]
    );

    let chmod = |path: &std::path::Path, mode| {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    };
    chmod(&path, 0o775);
    let unfit = Program::prepare(&script, &secure).unwrap_err();
    assert!(unfit.to_string().contains("its group may write"), "{unfit}");
    let tolerated = prepared(&script);
    assert!(tolerated.warnings()[0].contains("chmod g-w"));

    chmod(&path, 0o755);
    chmod(directory.path(), 0o777);
    let unfit = Program::prepare(&script, &secure).unwrap_err();
    let expected = format!("everybody may write to {}:", directory.path().display());
    assert!(unfit.to_string().contains(&expected), "{unfit}");
    // A sticky directory does not let others replace what is root's; nobody's own risk is theirs.
    chmod(directory.path(), 0o1777);
    assert!(Program::prepare(&script, &secure).is_ok());
    chmod(directory.path(), 0o777);
    let mut nobodys = script.clone();
    nobodys.user = nobody();
    assert!(Program::prepare(&nobodys, &secure).is_ok());

    let nameless = Policy {
        user: None,
        ..secure
    };
    assert_eq!(
        Program::prepare(&script, &nameless).unwrap_err(),
        Unfit::NoUser
    );
}
