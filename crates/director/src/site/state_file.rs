//! The state of all pools on disk, for the director that comes after one that was killed.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use pointsman_api::Location;
use pointsman_pool::Remembered;

pub(super) struct StateFile {
    path: PathBuf,
}

impl StateFile {
    pub fn new(location: &Location) -> Self {
        Self {
            path: super::state_path(location),
        }
    }

    /// What an earlier director left, if it can be read.
    pub fn load(&self) -> Option<Remembered> {
        let bytes = fs::read(&self.path).ok()?;
        serde_json::from_slice(&bytes)
            .inspect_err(|error| {
                tracing::warn!("{}: not taken over: {error}", self.path.display());
            })
            .ok()
    }

    /// Replaces the file as a whole.
    pub fn save(&self, state: &Remembered) {
        let write = || {
            let next = self.path.with_extension("json.new");
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&next)?;
            file.write_all(&serde_json::to_vec(state)?)?;
            fs::rename(&next, &self.path)
        };
        if let Err(error) = write() {
            tracing::warn!("{}: {error}", self.path.display());
        }
    }

    /// There is nothing to take over.
    pub fn remove(&self) {
        let _ = fs::remove_file(&self.path);
    }
}
