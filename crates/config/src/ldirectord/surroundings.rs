use std::net::IpAddr;

use pointsman_model::{Family, Protocol};

/// What the reader must ask the machine: names, and whether files are there.
pub trait Surroundings {
    /// The first address of a host name, of this family.
    fn host_addr(&self, name: &str, family: Family) -> Option<IpAddr>;
    /// The port of a service name; of any protocol where none is given.
    fn service_port(&self, name: &str, protocol: Option<Protocol>) -> Option<u16>;
    /// The name of this host, as `uname -n` prints it.
    fn host_name(&self) -> String;
    /// Whether a directory of this name exists.
    fn is_directory(&self, path: &str) -> bool;
    /// Opens a file for appending and closes it again.
    ///
    /// # Errors
    /// With the system's words, when it cannot be opened.
    fn append(&self, path: &str) -> Result<(), String>;
}

/// Numbers only, and every file is where it should be: for checking a file on another machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numeric;

impl Surroundings for Numeric {
    fn host_addr(&self, _name: &str, _family: Family) -> Option<IpAddr> {
        None
    }

    fn service_port(&self, _name: &str, _protocol: Option<Protocol>) -> Option<u16> {
        None
    }

    fn host_name(&self) -> String {
        "localhost".into()
    }

    fn is_directory(&self, _path: &str) -> bool {
        true
    }

    fn append(&self, _path: &str) -> Result<(), String> {
        Ok(())
    }
}
