//! The two sysctls a director needs on `lo`, and how they were before.
//!
//! `/proc/sys/net` shows the network namespace of the thread that opens it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use crate::Error;
use crate::error::file;

/// Under `/proc/sys`.
const NEEDED: [(&str, &str); 2] = [
    // A look-up from lo is then an output look-up even while the host does not forward.
    ("net/ipv4/conf/lo/forwarding", "1"),
    // Replies to clients on the director come in over lo from an address that is not local.
    ("net/ipv4/conf/lo/accept_local", "1"),
];

/// Sets what is needed, after writing the old values to `saved`. Values saved by an earlier
/// director that was killed are the true old ones and are kept.
pub(crate) fn apply(saved: &Path) -> Result<(), Error> {
    if !saved.exists() {
        let mut old = BTreeMap::new();
        for (name, _) in NEEDED {
            old.insert(name, read(name).map_err(file("reading", path(name)))?);
        }
        let json = serde_json::to_vec(&old).expect("strings are JSON");
        fs::write(saved, json).map_err(file("writing", saved))?;
    }
    for (name, value) in NEEDED {
        if !read(name).is_ok_and(|present| present == value) {
            fs::write(path(name), value).map_err(file("writing", path(name)))?;
        }
    }
    Ok(())
}

/// Sets again what somebody changed (writing `ip_forward` changes every interface); names it.
pub(crate) fn enforce() -> Vec<&'static str> {
    NEEDED
        .into_iter()
        .filter(|(name, value)| read(name).is_ok_and(|present| present != *value))
        .filter(|(name, value)| fs::write(path(name), value).is_ok())
        .map(|(name, _)| name)
        .collect()
}

/// Puts the old values back and forgets them; the answer tells what did not work.
pub(crate) fn restore(saved: &Path) -> Vec<String> {
    let text = match fs::read(saved) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => return vec![file("reading", saved)(error).to_string()],
    };
    let old: BTreeMap<String, String> = match serde_json::from_slice(&text) {
        Ok(old) => old,
        Err(error) => return vec![format!("{} is damaged: {error}", saved.display())],
    };
    let problems: Vec<_> = NEEDED
        .into_iter()
        .filter_map(|(name, _)| Some((name, old.get(name)?)))
        .filter_map(|(name, value)| {
            fs::write(path(name), value)
                .err()
                .map(|error| (name, error))
        })
        .map(|(name, error)| file("restoring", path(name))(error).to_string())
        .collect();
    if problems.is_empty() {
        let _ = fs::remove_file(saved);
    }
    problems
}

fn read(name: &str) -> io::Result<String> {
    Ok(fs::read_to_string(path(name))?.trim().to_owned())
}

fn path(name: &str) -> std::path::PathBuf {
    Path::new("/proc/sys").join(name)
}
