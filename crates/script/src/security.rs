//! Who else than root could change what root would run, as keepalived looks at it.

use std::fmt;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A part of a script's path that somebody else than root could change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insecure {
    /// The script.
    pub script: PathBuf,
    /// The part of its path.
    pub part: PathBuf,
    /// How it could be changed.
    pub how: Weakness,
}

/// How somebody else than root could change a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weakness {
    /// By being its owner, with this number.
    Owner(u32),
    /// Its group may write to it.
    Group,
    /// Everybody may write to it.
    Everybody,
    /// It cannot be looked at.
    Unknown,
}

impl fmt::Display for Insecure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let script = self.script.display();
        let part = self.part.display();
        match self.how {
            Weakness::Owner(uid) => write!(
                f,
                "{script} would run as root, but {part} belongs to uid {uid}: `chown root {part}`"
            ),
            Weakness::Group => write!(
                f,
                "{script} would run as root, but its group may write to {part}: `chmod g-w {part}`"
            ),
            Weakness::Everybody => write!(
                f,
                "{script} would run as root, but everybody may write to {part}: `chmod o-w {part}`"
            ),
            Weakness::Unknown => write!(
                f,
                "{script} would run as root, but {part} cannot be looked at"
            ),
        }
    }
}

/// The first part of a resolved path that is weak, from the root downwards. A directory that
/// others may write to is no weakness when it is sticky: they cannot replace what is root's.
pub(crate) fn weakness(script: &Path) -> Option<Insecure> {
    let mut parts: Vec<_> = script.ancestors().collect();
    parts.reverse();
    parts.into_iter().find_map(|part| {
        weakness_of(part).map(|how| Insecure {
            script: script.to_owned(),
            part: part.to_owned(),
            how,
        })
    })
}

fn weakness_of(part: &Path) -> Option<Weakness> {
    let Ok(metadata) = fs::symlink_metadata(part) else {
        return Some(Weakness::Unknown);
    };
    let mode = metadata.permissions().mode();
    let sticky = metadata.is_dir() && mode & 0o1000 != 0;
    if metadata.uid() != 0 {
        Some(Weakness::Owner(metadata.uid()))
    } else if mode & 0o002 != 0 && !sticky {
        Some(Weakness::Everybody)
    } else if mode & 0o020 != 0 && !sticky {
        Some(Weakness::Group)
    } else {
        None
    }
}
