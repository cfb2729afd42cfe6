use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, User, chown, mkfifo};
use pointsman_model::{Fifo as Config, ScriptUser};
use pointsman_script::{Policy, Program, Started};

/// An open FIFO, and the program that reads it.
#[derive(Debug)]
pub(crate) struct Fifo {
    config: Config,
    file: File,
    /// It was made here, so it goes with us.
    made: Option<PathBuf>,
    /// Ended by SIGTERM when this goes.
    _reader: Option<Started>,
    /// A line was lost; said once until one fits again.
    full: bool,
}

impl Fifo {
    /// Opens it, makes it where it is missing, and starts its program.
    ///
    /// # Errors
    /// When the path is something else, or somebody else's.
    pub fn open(config: &Config, policy: &Policy) -> io::Result<Self> {
        let path = PathBuf::from(&config.path);
        let made = match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                mkfifo(&path, Mode::from_bits_truncate(0o644))?;
                if let Some((uid, gid)) = config.owner.as_ref().and_then(owner) {
                    chown(&path, Some(uid), Some(gid))?;
                }
                Some(path.clone())
            }
            Err(error) => return Err(error),
            Ok(there) if !there.file_type().is_fifo() => {
                return Err(io::Error::other("is there, but not a FIFO"));
            }
            Ok(there) => {
                let allowed = [
                    Some(Uid::effective()),
                    config.owner.as_ref().and_then(owner).map(|o| o.0),
                ];
                if !allowed.contains(&Some(Uid::from_raw(there.uid()))) {
                    return Err(io::Error::other("belongs to somebody else"));
                }
                None
            }
        };
        // Open for reading too: a FIFO without a reader could not be opened.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
            .open(&path)?;
        let mut reader = None;
        if let Some(script) = &config.script {
            match Program::prepare(script, policy) {
                Ok(program) => match program.with_args([&config.path]).start() {
                    Ok(started) => reader = Some(started),
                    Err(error) => tracing::warn!("fifo script {program}: {error}"),
                },
                Err(error) => tracing::warn!("fifo script {script}: {error}"),
            }
        }
        Ok(Self {
            config: config.clone(),
            file,
            made,
            _reader: reader,
            full: false,
        })
    }

    /// The path it was configured with.
    pub fn path(&self) -> &str {
        &self.config.path
    }

    /// Writes a line, if it fits; true when it did.
    pub fn write(&mut self, line: &str) -> bool {
        // One write of up to 4096 bytes is whole or not at all.
        let fits = self.file.write_all(format!("{line}\n").as_bytes()).is_ok();
        if !fits && !self.full {
            tracing::warn!("{}: nobody reads it; lines are lost", self.config.path);
        }
        self.full = !fits;
        fits
    }
}

impl Drop for Fifo {
    fn drop(&mut self) {
        if let Some(path) = &self.made {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn owner(user: &ScriptUser) -> Option<(Uid, Gid)> {
    let found = User::from_name(&user.user).ok().flatten()?;
    let group = user
        .group
        .as_ref()
        .and_then(|name| nix::unistd::Group::from_name(name).ok().flatten());
    Some((found.uid, group.map_or(found.gid, |group| group.gid)))
}
