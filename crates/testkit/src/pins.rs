//! Places in bpffs for what tests pin.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Error;
use crate::netns::{TRANSIENT, is_abandoned};

const BPFFS: &str = "/sys/fs/bpf";

/// A directory in bpffs, `pm-PID-N`; dropping it removes what is pinned there.
#[derive(Debug)]
pub struct Pins(PathBuf);

impl Pins {
    /// Makes an empty directory that no other process or test has. Those of processes that died without cleaning up
    /// are removed first: what is pinned keeps its memory.
    ///
    /// # Errors
    /// Without root, or where bpffs is not mounted.
    pub fn new() -> Result<Self, Error> {
        static STALE: Once = Once::new();
        static N: AtomicU32 = AtomicU32::new(0);
        STALE.call_once(|| {
            let _ = remove_stale();
        });
        let n = N.fetch_add(1, Ordering::Relaxed);
        let directory = PathBuf::from(format!("{BPFFS}/{TRANSIENT}{}-{n}", process::id()));
        fs::create_dir(&directory).map_err(Error::os(format!("making {}", directory.display())))?;
        Ok(Self(directory))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes the directories of processes that are gone.
fn remove_stale() -> io::Result<()> {
    for entry in fs::read_dir(BPFFS)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(is_abandoned) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_dead_processes_pinned_goes_and_what_others_pinned_stays() {
        let mut child = Command::new("true").spawn().unwrap();
        let dead = PathBuf::from(format!("{BPFFS}/{TRANSIENT}{}-0", child.id()));
        child.wait().unwrap();
        let pins = Pins::new().unwrap();
        fs::create_dir_all(dead.join("maps")).unwrap();
        remove_stale().unwrap();
        assert!(!dead.exists());
        assert!(pins.path().exists());
        let path = pins.path().to_owned();
        drop(pins);
        assert!(!path.exists());
    }
}
