//! The directories of a director: made, locked, cleared.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::mount::MsFlags;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use pointsman_api::Location;

use crate::Error;
use crate::error::file;

/// Where bpffs is expected.
const BPFFS: &str = "/sys/fs/bpf";
/// Between two tries to lock.
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// How long a killed process may take to go.
const DEATH: Duration = Duration::from_secs(3);

/// The lock that makes a director the only one of its network namespace. Held as long as the value
/// lives, or the process: a killed director holds nothing.
#[derive(Debug)]
pub(crate) struct Home {
    location: Location,
    _lock: File,
}

impl Home {
    /// Makes the run directory of `location` and takes its lock.
    ///
    /// # Errors
    /// [`Error::AnotherDirector`] when it is taken.
    pub fn take(location: Location) -> Result<Self, Error> {
        private_dir(Path::new(Location::RUN_ROOT))?;
        private_dir(&location.run_dir())?;
        let path = location.pid_file();
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let mut lock = match opened {
            Ok(lock) => lock,
            // A director that ended took the directory along.
            Err(error) if error.kind() == ErrorKind::NotFound => return Self::take(location),
            Err(error) => return Err(file("opening", &path)(error)),
        };
        lock_patiently(&mut lock, &location)?;
        // A director that ended may have removed the file between our open and our lock; then we
        // hold what nobody sees.
        let held = lock.metadata().map_err(file("reading", &path))?;
        if !fs::metadata(&path).is_ok_and(|seen| seen.ino() == held.ino()) {
            drop(lock);
            return Self::take(location);
        }
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(file("writing", &path))?;
        Ok(Self {
            location,
            _lock: lock,
        })
    }

    /// Where everything is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Ends the director's tenancy but leaves what its kernel side needs to be taken over: no
    /// socket, no process id; saved sysctls and log stay.
    pub fn leave(self) {
        let _ = fs::remove_file(self.location.socket());
        let _ = fs::remove_file(self.location.pid_file());
        remove_empty_run_dirs(&self.location);
    }

    /// Removes all the director ever put under `/run`. What other roles keep there stays, and the
    /// directories go with the last of them. The process id goes last: who waits for the
    /// director's end waits for that.
    pub fn clear(self) {
        let location = &self.location;
        let files = [
            location.socket(),
            location.log_file(),
            location.sysctl_file(),
            crate::site::state_path(location),
            location.pid_file(),
        ];
        for file in files {
            let _ = fs::remove_file(file);
        }
        remove_empty_run_dirs(location);
    }
}

/// Makes the pin directory, mounting bpffs first where nobody has.
pub(crate) fn make_pin_dir(location: &Location) -> Result<(), Error> {
    mount_bpffs()?;
    private_dir(Path::new(Location::PIN_ROOT))?;
    private_dir(&location.director_pins())
}

/// Removes the directories under `/run` as far as nothing is in them.
pub(crate) fn remove_empty_run_dirs(location: &Location) {
    let _ = fs::remove_dir(location.run_dir());
    let _ = fs::remove_dir(Location::RUN_ROOT);
}

/// True when no map is pinned: there is nothing to adopt.
pub(crate) fn is_pin_dir_empty(location: &Location) -> bool {
    fs::read_dir(location.director_pins()).is_ok_and(|mut pins| pins.next().is_none())
}

/// True when programs are attached by pinned links.
pub(crate) fn has_pinned_links(location: &Location) -> bool {
    let pins = fs::read_dir(location.director_pins());
    let mut names = pins
        .into_iter()
        .flatten()
        .flatten()
        .map(|pin| pin.file_name());
    names.any(|name| name.as_encoded_bytes().starts_with(b"link-"))
}

/// Removes the directories of pins as far as nothing is in them.
fn remove_empty_pin_dirs(location: &Location) {
    let _ = fs::remove_dir(location.director_pins());
    let _ = fs::remove_dir(location.pin_dir());
    let _ = fs::remove_dir(Location::PIN_ROOT);
}

/// Removes the director's pins; the directories above go with the last role that used them.
///
/// # Errors
/// [`Error::File`] when a pin stays.
pub(crate) fn clear_pins(location: &Location) -> Result<(), Error> {
    clear_dir(&location.director_pins())?;
    remove_empty_pin_dirs(location);
    Ok(())
}

/// Process id of the director that holds the lock of `location`; `None` when none does, 0 when it
/// has not said yet.
pub(crate) fn running(location: &Location) -> Option<u32> {
    let mut lock = File::open(location.pid_file()).ok()?;
    match lock.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(read_pid(&mut lock)),
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}

/// Removes a directory with its content; one that is not there is fine.
pub(crate) fn clear_dir(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(file("removing", path)(error)),
        _ => Ok(()),
    }
}

fn lock_patiently(lock: &mut File, location: &Location) -> Result<(), Error> {
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(source)) => {
                return Err(file("locking", location.pid_file())(source));
            }
            // Who asks whether a director runs holds the lock for an instant.
            Err(TryLockError::WouldBlock) => match occupant(location) {
                Some(pid) => return Err(Error::AnotherDirector { pid }),
                None => std::thread::sleep(LOCK_PAUSE),
            },
        }
    }
}

/// Like [`running`], but waits for a director that is just dying: a killed process holds its lock
/// until its last thread is gone.
pub(crate) fn occupant(location: &Location) -> Option<u32> {
    let deadline = Instant::now() + DEATH;
    loop {
        let pid = running(location)?;
        if is_alive(pid) || Instant::now() > deadline {
            return Some(pid);
        }
        std::thread::sleep(LOCK_PAUSE);
    }
}

/// False for a process that is gone, or only waits for its parent to notice.
pub(crate) fn is_alive(pid: u32) -> bool {
    // The name in parentheses may hold anything; the state follows the last one.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    pid != 0 && !stat.is_empty() && !matches!(state, Some('Z' | 'X'))
}

fn read_pid(lock: &mut File) -> u32 {
    let mut text = String::new();
    let _ = lock.rewind();
    let _ = lock.read_to_string(&mut text);
    text.trim().parse().unwrap_or(0)
}

fn private_dir(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(file("making", path))
}

fn mount_bpffs() -> Result<(), Error> {
    let path = Path::new(BPFFS);
    if statfs(path).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC) {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    nix::mount::mount(Some("bpf"), path, Some("bpf"), flags, Some("mode=0700"))
        .map_err(|errno| file("mounting bpffs at", path)(errno.into()))
}
