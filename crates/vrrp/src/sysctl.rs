//! Variables of the kernel that are set while they are needed, and put back.

use std::fs;
use std::path::PathBuf;

/// What variables were before; put back, latest first, when this is dropped or told to.
#[derive(Debug, Default)]
pub(crate) struct Saved(Vec<(PathBuf, String)>);

impl Saved {
    /// Sets `net.FAMILY.conf.INTERFACE.NAME`; one that does not exist is passed over.
    pub fn set(&mut self, family: &str, interface: &str, name: &str, value: &str) {
        let path: PathBuf = ["/proc/sys/net", family, "conf", interface, name]
            .iter()
            .collect();
        let Ok(before) = fs::read_to_string(&path) else {
            return;
        };
        if before.trim() == value {
            return;
        }
        match fs::write(&path, value) {
            Ok(()) => self.0.push((path, before)),
            Err(error) => tracing::warn!("cannot set {}: {error}", path.display()),
        }
    }

    /// Leaves everything as it is: the interface will go, and its variables with it.
    pub fn forget(mut self) {
        self.0.clear();
    }

    /// Puts everything back.
    pub fn restore(&mut self) {
        for (path, before) in self.0.drain(..).rev() {
            // The interface may be gone.
            let _ = fs::write(path, before.trim());
        }
    }
}

impl Drop for Saved {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Reads `net.FAMILY.conf.INTERFACE.NAME`.
pub(crate) fn read(family: &str, interface: &str, name: &str) -> Option<String> {
    let path: PathBuf = ["/proc/sys/net", family, "conf", interface, name]
        .iter()
        .collect();
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}
