//! Where files are: the configuration, the pid file; and whether the configuration has changed.

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where configurations are looked for first.
const HOMES: [&str; 2] = ["/etc/ha.d", "/etc/ha.d/conf"];

/// A configuration's file and the name of the daemon that follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The file.
    pub file: PathBuf,
    /// Base name of what was asked for; `ldirectord` where nothing was.
    pub name: String,
}

impl Instance {
    /// Looks for a configuration: in heartbeat's directories, then as a path. `None` where it is in
    /// none of them.
    pub fn find(asked: Option<&str>) -> Option<Self> {
        let path = asked.unwrap_or("ldirectord.cf");
        let name = match asked {
            Some(path) => path.rsplit('/').next().unwrap_or(path),
            None => "ldirectord",
        };
        let places = HOMES
            .iter()
            .map(|home| PathBuf::from(format!("{home}/{path}")))
            .chain([PathBuf::from(path)]);
        let file = places.into_iter().find(|place| place.is_file())?;
        Some(Self {
            file,
            name: name.to_owned(),
        })
    }

    /// Its pid file.
    pub fn pid_file(&self) -> PathBuf {
        PathBuf::from(format!("/var/run/ldirectord.{}.pid", self.name))
    }

    /// What the pid file says.
    pub fn recorded(&self) -> Recorded {
        let Ok(text) = fs::read_to_string(self.pid_file()) else {
            return Recorded::Nothing;
        };
        let Some(pid) = text
            .lines()
            .next()
            .and_then(|line| line.parse::<u32>().ok())
        else {
            return Recorded::Stale;
        };
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&words).contains("ldirectord") {
            Recorded::Running(pid)
        } else {
            Recorded::Stale
        }
    }
}

/// What a pid file tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// There is none.
    Nothing,
    /// It names a process that is no ldirectord, or none.
    Stale,
    /// It names a running one.
    Running(u32),
}

/// Tells whether a file has changed: first by its time, then by what is in it.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    time: Option<SystemTime>,
    digest: Option<u64>,
}

impl Watch {
    /// True where the content differs from the last look. The first look is never a change; after an
    /// error the last look counts.
    pub fn changed(&mut self, file: &Path) -> io::Result<bool> {
        let time = fs::metadata(file)?.modified().ok();
        if time.is_some() && time == self.time {
            return Ok(false);
        }
        let mut hasher = DefaultHasher::new();
        hasher.write(&fs::read(file)?);
        let digest = hasher.finish();
        self.time = time;
        let before = self.digest.replace(digest);
        Ok(before.is_some_and(|before| before != digest))
    }
}

/// Whether the maintenance directory has a file for a server: by address, by name, by the name's
/// first label, each with and without the port.
pub(crate) fn in_maintenance(dir: &str, server: pointsman_model::ServerKey) -> bool {
    let addr = match server.addr {
        std::net::IpAddr::V4(v4) => v4.to_string(),
        std::net::IpAddr::V6(v6) => format!("[{v6}]"),
    };
    let there = |name: &str| {
        let exists = |name: String| Path::new(dir).join(name).exists();
        exists(format!("{name}:{}", server.port)) || exists(name.to_owned())
    };
    // An empty directory, the usual case, needs no name server.
    if fs::read_dir(dir).is_ok_and(|mut files| files.next().is_none()) {
        return false;
    }
    if there(&addr) {
        return true;
    }
    let Ok(name) = dns_lookup::lookup_addr(&server.addr) else {
        return false;
    };
    if name.parse::<std::net::IpAddr>().is_ok() {
        return false;
    }
    let short = name.split('.').next().unwrap_or_default();
    there(&name) || (!short.is_empty() && there(short))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_only_looks_newer_has_not_changed() {
        let file = std::env::temp_dir().join(format!("pm-watch-{}", std::process::id()));
        let at = |seconds| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let write = |text: &str, seconds| {
            fs::write(&file, text).unwrap();
            let opened = fs::File::options().write(true).open(&file).unwrap();
            opened.set_modified(at(seconds)).unwrap();
        };
        let mut watch = Watch::default();
        write("a", 1);
        assert!(!watch.changed(&file).unwrap(), "the first look");
        assert!(!watch.changed(&file).unwrap());
        write("a", 2);
        assert!(!watch.changed(&file).unwrap(), "touched");
        write("b", 3);
        assert!(watch.changed(&file).unwrap());
        assert!(!watch.changed(&file).unwrap());
        fs::remove_file(&file).unwrap();
        assert!(watch.changed(&file).is_err());
    }
}
