//! One resource: does it run, start it, stop it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pointsman_config::heartbeat::haresources::Kind;
use pointsman_config::heartbeat::{Action, Outcome, Resource};

use crate::address;
use crate::files::Settings;

/// How long ldirectord may take to end.
const LDIRECTORD_END: Duration = Duration::from_secs(20);

/// Carries an action out and waits for it.
pub(crate) fn act(settings: &Settings, resource: &Resource, action: Action) -> Outcome {
    let done = match &resource.kind {
        Kind::Address(address) => match action {
            Action::Status(_) => return good(address::is_here(address)),
            Action::Start(_) => address::add(address),
            Action::Stop(_) => address::remove(address),
        },
        Kind::Ldirectord(file) => match action {
            Action::Status(_) => return good(ldirectord(settings, file, "status").is_ok()),
            Action::Start(_) => ldirectord(settings, file, "start"),
            Action::Stop(_) => end_ldirectord(settings, file),
        },
        Kind::Script => match script(settings, resource, action) {
            Ok(outcome) => return outcome,
            Err(error) => Err(error),
        },
    };
    match done {
        Ok(()) => Outcome::Good,
        Err(error) => {
            tracing::error!("{}: {action:?}: {error}", resource.text);
            Outcome::Bad
        }
    }
}

fn good(yes: bool) -> Outcome {
    if yes { Outcome::Good } else { Outcome::Bad }
}

fn ldirectord(settings: &Settings, file: &str, word: &str) -> Result<(), String> {
    let Some((program, args)) = settings.ldirectord.split_first() else {
        return Err("no ldirectord".into());
    };
    let status = Command::new(program)
        .args(args)
        .args([file, word])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|error| error.to_string())?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("ldirectord {file} {word}: {status}"))
    }
}

/// Its `stop` does not wait; what stands left of it here shall.
fn end_ldirectord(settings: &Settings, file: &str) -> Result<(), String> {
    ldirectord(settings, file, "stop")?;
    let deadline = Instant::now() + LDIRECTORD_END;
    while ldirectord(settings, file, "status").is_ok() {
        if Instant::now() > deadline {
            return Err("still runs".into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// What a resource's name stands for.
enum Found {
    Script(PathBuf),
    Unit,
}

fn find(settings: &Settings, name: &str) -> Option<Found> {
    let places = [
        settings.dir.join("resource.d"),
        PathBuf::from("/etc/init.d"),
    ];
    let script = places
        .iter()
        .map(|dir| dir.join(name))
        .find(|path| is_executable(path));
    if let Some(script) = script {
        return Some(Found::Script(script));
    }
    let known = run(Command::new("systemctl").args(["cat", name])).ok()?;
    known.0.then_some(Found::Unit)
}

fn script(settings: &Settings, resource: &Resource, action: Action) -> Result<Outcome, String> {
    let word = match action {
        Action::Status(_) => "status",
        Action::Start(_) => "start",
        Action::Stop(_) => "stop",
    };
    let found = find(settings, &resource.script).ok_or_else(|| {
        format!(
            "{} is neither in {}/resource.d nor in /etc/init.d, and no systemd unit",
            resource.script,
            settings.dir.display()
        )
    })?;
    match found {
        Found::Script(path) => {
            let (succeeded, text) = run(Command::new(path).args(&resource.args).arg(word))?;
            Ok(match action {
                Action::Status(_) => good(says_running(&text)),
                _ => good(succeeded),
            })
        }
        Found::Unit => {
            let word = if word == "status" { "is-active" } else { word };
            let (succeeded, _) = run(Command::new("systemctl").args([word, &resource.script]))?;
            Ok(good(succeeded))
        }
    }
}

/// As heartbeat reads a status: the word, not the exit code.
fn says_running(text: &str) -> bool {
    (text.contains("running") || text.contains("OK")) && !text.contains("not running")
}

fn run(command: &mut Command) -> Result<(bool, String), String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((output.status.success(), text))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_as_heartbeat_reads_it() {
        for (text, running) in [
            ("apache is running", true),
            ("OK", true),
            ("apache is not running", false),
            ("stopped", false),
        ] {
            assert_eq!(says_running(text), running, "{text}");
        }
    }
}
