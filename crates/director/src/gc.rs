//! Remains of directors whose network namespace is gone.
//!
//! A killed director's programs forward on purpose as long as its namespace lives, so a directory
//! is removed only when its lock is free and no process, mount or descriptor on this machine holds
//! a namespace of that cookie. Whatever cannot be looked at counts as alive.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use pointsman_api::Location;

use crate::home;

/// Removes what directors of dead namespaces left; `here` is not looked at.
pub(crate) fn collect(here: &Location) {
    let candidates: Vec<_> = cookies(Path::new(Location::RUN_ROOT))
        .map(Location::of_cookie)
        .filter(|location| location != here && home::running(location).is_none())
        .collect();
    if candidates.is_empty() {
        return;
    }
    let alive = match living_cookies() {
        Ok(alive) => alive,
        Err(error) => {
            tracing::debug!(%error, "namespaces cannot be listed; old directories stay");
            return;
        }
    };
    for location in candidates
        .iter()
        .filter(|location| !alive.contains(&location.cookie()))
    {
        tracing::info!(
            cookie = location.cookie(),
            "removing what a director left in a network namespace that is gone"
        );
        // Pins first: without the run directory nobody would look for them again.
        let cleared = home::clear_dir(&location.pin_dir())
            .and_then(|()| home::clear_dir(&location.run_dir()));
        if let Err(error) = cleared {
            tracing::warn!(%error, "an old directory stays");
        }
    }
}

fn cookies(root: &Path) -> impl Iterator<Item = u64> {
    fs::read_dir(root)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Cookies of all network namespaces that something on this machine holds.
fn living_cookies() -> io::Result<HashSet<u64>> {
    let handles = namespace_handles()?;
    // Entering changes the thread for good, hence one of its own.
    let examined = std::thread::scope(|scope| {
        scope
            .spawn(move || handles.iter().map(|path| cookie_of(path)).collect())
            .join()
    });
    let cookies: io::Result<Vec<Option<u64>>> =
        examined.map_err(|_| io::Error::other("the thread that looked at namespaces panicked"))?;
    Ok(cookies?.into_iter().flatten().collect())
}

/// `None` when the handle went meanwhile, and with it its holder.
fn cookie_of(handle: &Path) -> io::Result<Option<u64>> {
    let text = handle.to_string_lossy();
    match Location::enter_netns(&text) {
        Ok(()) => Location::here()
            .map(|here| Some(here.cookie()))
            .map_err(io::Error::other),
        Err(_) if !handle.exists() => Ok(None),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// One path per namespace that leads into it.
fn namespace_handles() -> io::Result<Vec<PathBuf>> {
    let mut seen = HashSet::new();
    let mut handles = Vec::new();
    let mut add = |path: PathBuf| {
        if let Ok(meta) = fs::metadata(&path)
            && seen.insert((meta.dev(), meta.ino()))
        {
            handles.push(path);
        }
    };
    for line in fs::read_to_string("/proc/self/mountinfo")?.lines() {
        // Fields: id, parent, device, root, mount point, …, "-", type, …
        let fields: Vec<_> = line.split(' ').collect();
        if let [_, _, _, root, point, ..] = fields[..]
            && root.starts_with("net:[")
        {
            add(point.into());
        }
    }
    for process in fs::read_dir("/proc")? {
        let process = process?.path();
        let is_process = process
            .file_name()
            .and_then(OsStr::to_str)
            .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        if !is_process {
            continue;
        }
        // Processes may end at any moment: what cannot be listed then holds nothing.
        for thread in fs::read_dir(process.join("task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            add(thread.path().join("ns/net"));
        }
        for fd in fs::read_dir(process.join("fd"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let target = fs::read_link(fd.path()).unwrap_or_default();
            if target.as_os_str().as_encoded_bytes().starts_with(b"net:[") {
                add(fd.path());
            }
        }
    }
    Ok(handles)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_namespace_is_among_the_living() {
        let alive = living_cookies().unwrap();
        assert!(alive.contains(&Location::here().unwrap().cookie()));
    }
}
