//! The sysctls a director needs on `lo`, and how they were before.
//!
//! `/proc/sys/net` shows the network namespace of the thread that opens it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pointsman_model::Family;

use crate::Error;
use crate::error::file;

/// A look-up from `lo` is then an output look-up even while the host does not forward.
const FORWARDING: &str = "net/ipv4/conf/lo/forwarding";
/// The same for IPv6. Its name is absent where IPv6 is.
const FORWARDING6: &str = "net/ipv6/conf/lo/forwarding";
/// Replies to clients on the director come in over `lo` from the VIP, which may be a local address.
const ACCEPT_LOCAL: &str = "net/ipv4/conf/lo/accept_local";
/// They, and packets that go back to the stack after a firewall mark was looked at, come in over `lo`
/// from addresses to which `lo` is not the way: a strict reverse path filter would drop them.
const REVERSE_PATH: &str = "net/ipv4/conf/lo/rp_filter";
/// The filter in force is the stricter of this one and the interface's own; loose (2) counts as more.
const REVERSE_PATH_ALL: &str = "net/ipv4/conf/all/rp_filter";

/// Whatever a director may change.
const NAMES: [&str; 4] = [FORWARDING, FORWARDING6, ACCEPT_LOCAL, REVERSE_PATH];

/// What must be otherwise than it is, under `/proc/sys`.
fn wanting() -> Vec<(&'static str, &'static str)> {
    let is = |name: &str, value: &str| read(name).is_ok_and(|present| present == value);
    let mut changes: Vec<_> = [FORWARDING, FORWARDING6, ACCEPT_LOCAL]
        .into_iter()
        .filter(|name| path(name).exists() && !is(name, "1"))
        .map(|name| (name, "1"))
        .collect();
    let strict = is(REVERSE_PATH, "1") || is(REVERSE_PATH, "0") && is(REVERSE_PATH_ALL, "1");
    if strict {
        changes.push((REVERSE_PATH, "2"));
    }
    changes
}

/// Sets what is needed, after writing the old values to `saved`. Values saved by an earlier
/// director that was killed are the true old ones and are kept.
pub(crate) fn apply(saved: &Path) -> Result<(), Error> {
    if !saved.exists() {
        let mut old = BTreeMap::new();
        for name in NAMES.into_iter().filter(|name| path(name).exists()) {
            old.insert(name, read(name).map_err(file("reading", path(name)))?);
        }
        let json = serde_json::to_vec(&old).expect("strings are JSON");
        fs::write(saved, json).map_err(file("writing", saved))?;
    }
    for (name, value) in wanting() {
        write(name, value).map_err(file("writing", path(name)))?;
    }
    Ok(())
}

/// Sets again what somebody changed (writing `ip_forward` changes every interface); names it.
pub(crate) fn enforce() -> Vec<&'static str> {
    wanting()
        .into_iter()
        .filter(|(name, value)| write(name, value).is_ok())
        .map(|(name, _)| name)
        .collect()
}

/// Whether the host forwards packets of each family, and which sysctl says so.
pub(crate) fn forwarding() -> [(Family, bool, &'static str); 2] {
    [
        (Family::V4, "net.ipv4.ip_forward"),
        (Family::V6, "net.ipv6.conf.all.forwarding"),
    ]
    .map(|(family, name)| {
        let off = read(&name.replace('.', "/")).is_ok_and(|value| value == "0");
        (family, !off, name)
    })
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
    let problems: Vec<_> = NAMES
        .into_iter()
        .filter_map(|name| Some((name, old.get(name)?)))
        .filter(|(name, value)| !read(name).is_ok_and(|present| present == **value))
        .filter_map(|(name, value)| write(name, value).err().map(|error| (name, error)))
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

/// Writes a sysctl.
///
/// When any interface is told to forward IPv6, the kernel drops the default routes that routers have
/// advertised, on every interface that takes advertisements only while it does not forward
/// (`accept_ra` 1), as if it meant all of them. Those interfaces are asked to take them in any case (2)
/// for as long as that write takes.
fn write(name: &str, value: &str) -> io::Result<()> {
    let spared = if name == FORWARDING6 && value == "1" {
        advertised()
    } else {
        Vec::new()
    };
    let spared: Vec<_> = spared
        .into_iter()
        .filter(|path| fs::write(path, "2").is_ok())
        .collect();
    let written = fs::write(path(name), value);
    for path in spared {
        if let Err(error) = fs::write(&path, "1") {
            tracing::warn!(%error, "{} stays 2", path.display());
        }
    }
    written
}

/// The `accept_ra` of interfaces where it is 1.
fn advertised() -> Vec<PathBuf> {
    let interfaces = fs::read_dir(path("net/ipv6/conf")).into_iter().flatten();
    interfaces
        .flatten()
        .filter(|interface| interface.file_name() != "all" && interface.file_name() != "default")
        .map(|interface| interface.path().join("accept_ra"))
        .filter(|path| fs::read_to_string(path).is_ok_and(|value| value.trim() == "1"))
        .collect()
}

fn path(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name)
}
