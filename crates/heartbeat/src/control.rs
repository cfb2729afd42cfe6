//! What other processes ask of the daemon: a line over a socket of this network namespace.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use crate::daemon::Event;

/// A daemon that does not answer for so long hangs: a release may take its time.
const PATIENCE: Duration = Duration::from_secs(300);
/// Bytes of a request.
const LONGEST: u64 = 256;

/// Where it listens.
pub(crate) fn socket() -> Result<PathBuf, String> {
    let location = pointsman_api::Location::here().map_err(|error| error.to_string())?;
    Ok(location.run_dir().join("heartbeat.sock"))
}

/// Asks the daemon of this network namespace. `None` where none runs.
///
/// # Errors
/// Where it does not answer.
pub fn ask(request: &str) -> Result<Option<String>, String> {
    let path = socket()?;
    let Ok(mut stream) = UnixStream::connect(&path) else {
        return Ok(None);
    };
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    writeln!(stream, "{request}").map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed)?;
    Ok(Some(answer))
}

/// Listens until the process ends; requests become events.
pub(crate) fn listen(events: Sender<Event>) -> Result<(), String> {
    let path = socket()?;
    if let Some(dir) = path.parent() {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| format!("{}: {error}", dir.display()))?;
    }
    if UnixStream::connect(&path).is_ok() {
        return Err("another heartbeat runs in this network namespace".into());
    }
    let _ = std::fs::remove_file(&path);
    let listener =
        UnixListener::bind(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let events = events.clone();
            std::thread::spawn(move || answer(stream, &events));
        }
    });
    Ok(())
}

fn answer(mut stream: UnixStream, events: &Sender<Event>) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut line = String::new();
    let Ok(copy) = stream.try_clone() else { return };
    if BufReader::new(copy.take(LONGEST))
        .read_line(&mut line)
        .is_err()
    {
        return;
    }
    let (reply, answer) = channel();
    if events
        .send(Event::Asked(line.trim().to_owned(), reply))
        .is_ok()
        && let Ok(text) = answer.recv()
    {
        let _ = stream.write_all(text.as_bytes());
    }
}
