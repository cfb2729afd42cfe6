//! Sysctls of a fit real server.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::arp::Arp;
use super::state::Mode;

/// What a sysctl should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Exactly this.
    Exactly(&'static str),
    /// Anything but strict (1); loose (2) otherwise.
    NotStrict,
}

impl Wanted {
    /// What to write over `now`; `None` when it is right.
    pub fn over(self, now: &str) -> Option<&'static str> {
        match self {
            Self::Exactly(value) => (now != value).then_some(value),
            Self::NotStrict => (now == "1").then_some("2"),
        }
    }
}

/// Sysctls by path below `/proc/sys`.
///
/// `arp_ignore` 1: answer only for addresses of the interface the question came in on, so not for
/// those of `lo`. `arp_announce` 2: never name the VIP as sender when asking. The kernel takes the
/// greater of `all` and the interface's own value for both, and for `rp_filter`. Strict `rp_filter`
/// drops decapsulated packets of clients whose way back is another interface.
pub fn wanted(mode: Mode, arp: Arp, interfaces: &[String]) -> Vec<(String, Wanted)> {
    let mut wanted = Vec::new();
    for scope in ["all"]
        .into_iter()
        .chain(interfaces.iter().map(String::as_str))
    {
        let key = |name: &str| format!("net/ipv4/conf/{scope}/{name}");
        if mode.has_vips() && arp == Arp::Sysctl {
            wanted.push((key("arp_ignore"), Wanted::Exactly("1")));
            wanted.push((key("arp_announce"), Wanted::Exactly("2")));
        }
        if mode == Mode::Tun {
            wanted.push((key("rp_filter"), Wanted::NotStrict));
        }
    }
    wanted
}

/// Where it is.
pub fn path(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key)
}

/// Its value.
pub fn read(key: &str) -> Result<String> {
    let text = fs::read_to_string(path(key)).with_context(|| format!("sysctl {key}"))?;
    Ok(text.trim().to_owned())
}

/// Sets it.
pub fn write(key: &str, value: &str) -> Result<()> {
    fs::write(path(key), value).with_context(|| format!("sysctl {key} = {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_reverse_path_filtering_becomes_loose_and_nothing_else_changes() {
        let cases = [("0", None), ("1", Some("2")), ("2", None)];
        for (now, expected) in cases {
            assert_eq!(Wanted::NotStrict.over(now), expected, "from {now}");
        }
    }
}
