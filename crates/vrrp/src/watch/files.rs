use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use pointsman_model::vrrp::TrackFile;

use super::{Seen, Teller, Watcher};
use crate::socket::waitable;

/// What of a file is read for its number.
const READ_BYTES: u64 = 128;

/// Watches files for their numbers. Each is told at the start, then when it changes.
pub(crate) fn watch_files(files: &[TrackFile], teller: Teller) -> io::Result<Watcher> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    for file in files {
        prepare(file);
        let directory = match file.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // The directory, since the file may be made, moved and removed.
        let wanted = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE;
        if let Err(error) = inotify.add_watch(directory, wanted) {
            tracing::warn!("cannot watch {}: {error}", directory.display());
        }
    }
    let files = files.to_vec();
    let ready = waitable(inotify.as_fd().try_clone_to_owned()?)?;
    Ok(Watcher::spawn(async move {
        let mut told = BTreeMap::new();
        loop {
            for file in &files {
                let number = read(&file.path);
                if told.insert(file.name.clone(), number) != Some(number) {
                    let name = file.name.clone();
                    if teller.send(Seen::File { name, number }).is_err() {
                        return;
                    }
                }
            }
            let Ok(mut guard) = ready.readable().await else {
                return;
            };
            guard.clear_ready();
            // What happened does not matter: every file is read again.
            while inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
        }
    }))
}

/// `init_file`.
fn prepare(file: &TrackFile) {
    let Some(init) = file.init else { return };
    let opened = OpenOptions::new()
        .write(true)
        .create(init.overwrite)
        .create_new(!init.overwrite)
        .truncate(init.overwrite)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&file.path);
    let written = match opened {
        Ok(mut opened) => writeln!(opened, "{}", init.value),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = written {
        tracing::warn!("cannot write {}: {error}", file.path.display());
    }
}

/// The first number of a file; 0 for one that is missing, empty or no regular file.
fn read(path: &Path) -> i64 {
    if !fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
        return 0;
    }
    let mut text = String::new();
    let read = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .and_then(|file| file.take(READ_BYTES).read_to_string(&mut text));
    read.map_or(0, |_| number(&text))
}

/// A number in C's notation at the beginning of a text; 0 for none, the nearest one for one too
/// large.
fn number(text: &str) -> i64 {
    let text = text.trim_start();
    let (negative, text) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, text) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hexadecimal) => (16, hexadecimal),
        None if text.starts_with('0') => (8, text),
        None => (10, text),
    };
    let value = text
        .chars()
        .map_while(|digit| digit.to_digit(radix))
        .fold(0i64, |value, digit| {
            value
                .saturating_mul(i64::from(radix))
                .saturating_add(i64::from(digit))
        });
    if negative { -value } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_c_does() {
        for (text, value) in [
            ("", 0),
            ("5\n", 5),
            ("  -12 rest", -12),
            ("0x1f", 31),
            ("010", 8),
            ("+7", 7),
            ("x", 0),
            ("99999999999999999999", i64::MAX),
        ] {
            assert_eq!(number(text), value, "{text:?}");
        }
    }
}
