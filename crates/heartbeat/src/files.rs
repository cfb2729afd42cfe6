use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use pointsman_config::heartbeat::{
    AuthKeys, HaCf, HaResources, Node, Problem, authkeys, ha_cf, haresources,
};
use pointsman_config::ldirectord::Severity;

/// Where everything is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory of the three files, usually `/etc/ha.d`.
    pub dir: PathBuf,
    /// Who this node is, where that is not what `uname -n` says.
    pub node: Option<String>,
    /// The program that runs `ldirectord::FILE`, with its first arguments.
    pub ldirectord: Vec<String>,
}

/// The three files.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub ha_cf: HaCf,
    pub resources: HaResources,
    pub keys: AuthKeys,
    pub node: Node,
}

/// Every problem of the three files, one a line, with file, line and column; and whether one of them
/// is an error.
///
/// # Errors
/// A file that cannot be read.
pub fn problems(settings: &Settings) -> Result<(Vec<String>, bool), String> {
    load(settings).map(|(_, lines, bad)| (lines, bad))
}

pub(crate) fn load(settings: &Settings) -> Result<(Files, Vec<String>, bool), String> {
    let mut lines = Vec::new();
    let mut bad = false;
    let mut note = |name: &str, problems: Vec<Problem>| {
        let path = settings.dir.join(name);
        for problem in problems {
            let word = match problem.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            bad |= problem.severity == Severity::Error;
            lines.push(format!("{}:{problem} ({word})", path.display()));
        }
    };
    let (ha_cf, found) = ha_cf::read(&text(settings, "ha.cf")?);
    note("ha.cf", found);
    let (resources, found) = haresources::read(&text(settings, "haresources")?);
    note("haresources", found);
    let (keys, found) = authkeys::read(&text(settings, "authkeys")?);
    note("authkeys", found);
    let path = settings.dir.join("authkeys");
    let mode = fs::metadata(&path).map_or(0, |found| found.permissions().mode());
    if mode & 0o077 != 0 {
        bad = true;
        lines.push(format!("{}: must be of mode 600 (error)", path.display()));
    }
    let name = settings.node.clone().unwrap_or_else(|| {
        let name = nix::unistd::gethostname().unwrap_or_default();
        name.to_string_lossy().into_owned()
    });
    if !ha_cf.nodes.contains(&name.to_ascii_lowercase()) {
        bad = true;
        let ha_cf = settings.dir.join("ha.cf");
        lines.push(format!(
            "{}: this node, {name}, is not named by it (error)",
            ha_cf.display()
        ));
    }
    for group in &resources.groups {
        if !ha_cf.nodes.contains(&group.node) {
            bad = true;
            let path = settings.dir.join("haresources");
            lines.push(format!(
                "{}:{}: {} is no node of ha.cf (error)",
                path.display(),
                group.line,
                group.node
            ));
        }
    }
    let node = Node {
        name,
        addrs: own_addresses(),
    };
    let files = Files {
        ha_cf,
        resources,
        keys,
        node,
    };
    Ok((files, lines, bad))
}

fn text(settings: &Settings, name: &str) -> Result<String, String> {
    let path = settings.dir.join(name);
    match fs::read(&path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn own_addresses() -> Vec<IpAddr> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    all.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    })
    .collect()
}
