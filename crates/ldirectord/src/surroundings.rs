use std::fs::OpenOptions;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;

use pointsman_config::ldirectord::Surroundings;
use pointsman_model::{Family, Protocol};

/// This machine: its resolver, its `/etc/services`, its files.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Surroundings for System {
    fn host_addr(&self, name: &str, family: Family) -> Option<IpAddr> {
        let mut addrs = (name, 0).to_socket_addrs().ok()?;
        addrs.find_map(|addr| (Family::from(addr.ip()) == family).then_some(addr.ip()))
    }

    fn service_port(&self, name: &str, protocol: Option<Protocol>) -> Option<u16> {
        let text = std::fs::read("/etc/services").ok()?;
        let wanted = protocol.map(|protocol| protocol.name().to_ascii_lowercase());
        String::from_utf8_lossy(&text).lines().find_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let first = words.next()?;
            let (port, of) = words.next()?.split_once('/')?;
            let named = first == name || words.any(|alias| alias == name);
            let fits = wanted.as_deref().is_none_or(|wanted| wanted == of);
            (named && fits).then(|| port.parse().ok()).flatten()
        })
    }

    fn host_name(&self) -> String {
        host_name()
    }

    fn is_directory(&self, path: &str) -> bool {
        Path::new(path).is_dir()
    }

    fn append(&self, path: &str) -> Result<(), String> {
        let opened = OpenOptions::new().append(true).create(true).open(path);
        opened.map(drop).map_err(|error| strerror(&error))
    }
}

/// The system's words alone, as Perl shows them.
fn strerror(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}

/// As `uname -n` prints it, or what the environment says instead.
pub(crate) fn host_name() -> String {
    std::env::var("HOSTNAME").ok().unwrap_or_else(|| {
        let name = nix::unistd::gethostname().unwrap_or_default();
        name.to_string_lossy().into_owned()
    })
}
