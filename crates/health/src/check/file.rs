//! `FILE_CHECK`: a number in a file, read again whenever somebody writes it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use pointsman_model::check::FileCheck;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::OnceCell;

use super::Unusable;
use crate::{Outcome, Weigh};

/// Most of a file that is read: a number is at its beginning.
const READ_BYTES: u64 = 128;

/// A file, watched.
#[derive(Debug)]
pub(super) struct File {
    check: FileCheck,
    watch: OnceCell<AsyncFd<Watch>>,
    /// Made with the check, before the file is read first, so that no write is missed.
    inotify: std::sync::Mutex<Option<Watch>>,
}

#[derive(Debug)]
struct Watch(Inotify);

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl File {
    pub(super) fn new(check: &FileCheck) -> Result<Self, Unusable> {
        let name = &check.name;
        let unusable = |error: &dyn std::fmt::Display| {
            Unusable(format!(
                "track_file {name} ({}): {error}",
                check.path.display()
            ))
        };
        match fs::metadata(&check.path) {
            Ok(found) if !found.is_file() => return Err(unusable(&"not a regular file")),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unusable(&error)),
        }
        let watch = Watch::of(&check.path).map_err(|error| unusable(&error))?;
        Ok(Self {
            check: check.clone(),
            watch: OnceCell::new(),
            inotify: std::sync::Mutex::new(Some(watch)),
        })
    }

    /// Until something in the file's directory was written, moved or removed.
    pub(super) async fn changed(&self) {
        let made = self.watch.get_or_try_init(|| async {
            let watch = self.inotify.lock().ok().and_then(|mut watch| watch.take());
            let watch = watch.ok_or(io::ErrorKind::NotFound)?;
            // SAFETY: the watch owns its descriptor, and gives the same one as long as it lives.
            let watch = unsafe { AsyncFd::register_with_interest(watch, Interest::READABLE) };
            watch.map_err(io::Error::from)
        });
        let Ok(watch) = made.await else {
            return std::future::pending().await;
        };
        let name = self.check.path.file_name();
        loop {
            let events = watch
                .async_io(Interest::READABLE, |watch| Ok(watch.0.read_events()?))
                .await;
            match events {
                Ok(events) => {
                    // An overflow has no name: look, to be sure.
                    if events
                        .iter()
                        .any(|event| event.name.is_none() || event.name.as_deref() == name)
                    {
                        return;
                    }
                }
                Err(_) => return std::future::pending().await,
            }
        }
    }

    pub(super) fn probe(&self) -> Outcome {
        use std::io::Read;
        let mut text = Vec::new();
        let read = fs::File::open(&self.check.path)
            .and_then(|file| file.take(READ_BYTES).read_to_end(&mut text));
        if let Err(error) = read
            && error.kind() != io::ErrorKind::NotFound
        {
            return Outcome::nothing(format!("{}: {error}", self.check.path.display()));
        }
        judge(&self.check, number(&text))
    }
}

impl Watch {
    fn of(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let what = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE;
        inotify.add_watch(&directory, what)?;
        Ok(Self(inotify))
    }
}

/// What a number means.
fn judge(check: &FileCheck, number: i64) -> Outcome {
    let FileCheck { name, weight, .. } = check;
    if *weight == 0 {
        return match (number != 0) == check.reverse {
            true => Outcome::up(format!("{name} holds {number}")),
            false => Outcome::down(format!("{name} holds {number}")),
        };
    }
    let weight = if check.reverse {
        -i64::from(*weight)
    } else {
        i64::from(*weight)
    };
    let change = number.saturating_mul(weight);
    match change <= i64::from(i32::MIN) {
        true => Outcome::down(format!("{name} holds {number}: weight {change}")),
        false => Outcome::up(format!("{name} holds {number}: weight changed by {change}"))
            .weighing(Weigh::By(change.min(i64::from(i32::MAX)))),
    }
}

/// The number a text begins with, in C's notation; 0 without one. What is too large is as large as can be.
fn number(text: &[u8]) -> i64 {
    let text = text.trim_ascii_start();
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let (radix, digits) = match digits {
        [b'0', b'x' | b'X', rest @ ..] => (16, rest),
        [b'0', rest @ ..] => (8, rest),
        _ => (10, digits),
    };
    let size = digits
        .iter()
        .map_while(|byte| char::from(*byte).to_digit(radix))
        .fold(0_i64, |sum, digit| {
            sum.saturating_mul(i64::from(radix))
                .saturating_add(i64::from(digit))
        });
    if negative { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_the_notation_of_c() {
        for (text, wanted) in [
            ("", 0),
            ("x", 0),
            (" 42\n", 42),
            ("-7 and more", -7),
            ("0x1F", 31),
            ("010", 8),
            ("+3", 3),
            ("99999999999999999999", i64::MAX),
        ] {
            assert_eq!(number(text.as_bytes()), wanted, "{text}");
        }
    }

    #[test]
    fn a_number_is_weighed() {
        let check = |weight, reverse| FileCheck {
            name: "load".into(),
            path: "/x".into(),
            weight,
            reverse,
            dynamic: false,
        };
        for (weight, reverse, number, up, by) in [
            (0, false, 0, true, None),
            (0, false, 5, false, None),
            (0, true, 5, true, None),
            (2, false, 5, true, Some(10)),
            (2, true, 5, true, Some(-10)),
            (1, false, i64::from(i32::MIN), false, None),
            (1, false, i64::MIN, false, None),
            (-1, false, i64::MAX, false, None),
            (1, false, i64::MAX, true, Some(i64::from(i32::MAX))),
        ] {
            let outcome = judge(&check(weight, reverse), number);
            assert_eq!(
                (outcome.up, outcome.weight),
                (up, by.map(Weigh::By)),
                "{weight} {reverse} {number}"
            );
        }
    }
}
