//! Configuration files that lie in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};

use pointsman_config::keepalived::{Files, Kind, Loaded, Options, read_from};

/// Files by their absolute paths.
pub struct Memory {
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Memory {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let files = files
            .iter()
            .map(|(path, text)| (PathBuf::from(path), text.as_bytes().to_vec()));
        Self {
            files: files.collect(),
        }
    }

    pub fn read(&self, path: &str, options: &Options) -> Loaded {
        read_from(Path::new(path), options, self)
    }
}

/// Without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            _ => {}
        }
    }
    plain
}

impl Files for Memory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let found = self.files.get(&plain(path)).cloned();
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let directory = plain(directory);
        let below = self
            .files
            .keys()
            .filter_map(|path| path.strip_prefix(&directory).ok());
        let names: BTreeSet<String> = below
            .filter_map(|path| Some(path.iter().next()?.to_string_lossy().into_owned()))
            .collect();
        Ok(names.into_iter().collect())
    }

    fn kind(&self, path: &Path) -> io::Result<Kind> {
        let path = plain(path);
        if self.files.contains_key(&path) {
            Ok(Kind::File)
        } else if self.files.keys().any(|file| file.starts_with(&path)) {
            Ok(Kind::Directory)
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }
}
