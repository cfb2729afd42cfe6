use std::fs::File;
use std::io;
use std::mem::size_of;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// `SO_NETNS_COOKIE` (5.14 and newer).
const SO_NETNS_COOKIE: libc::c_int = 71;

/// Where the named network namespaces of iproute2 are.
const NETNS_DIR: &str = "/run/netns";

/// Why a network namespace could not be found or named.
#[derive(Debug, thiserror::Error)]
pub enum LocationError {
    /// `--netns` names nothing.
    #[error("network namespace {name}: {source}")]
    Namespace {
        /// As the user gave it.
        name: String,
        /// Cause.
        source: io::Error,
    },
    /// The kernel did not name the namespace.
    #[error("SO_NETNS_COOKIE (Linux 5.14 or newer) is not there: {0}")]
    Cookie(#[source] io::Error),
}

/// Where the director of one network namespace lives.
///
/// The kernel's cookie of the namespace names its directories: unique since boot, the same for
/// every process inside, and independent of how the namespace is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    cookie: u64,
}

impl Location {
    /// `/run/pointsman`.
    pub const RUN_ROOT: &str = "/run/pointsman";
    /// `/sys/fs/bpf/pointsman`.
    pub const PIN_ROOT: &str = "/sys/fs/bpf/pointsman";

    /// Of the calling thread's network namespace.
    ///
    /// # Errors
    /// [`LocationError::Cookie`] on a kernel without namespace cookies.
    pub fn here() -> Result<Self, LocationError> {
        let socket = UdpSocket::bind("0.0.0.0:0").map_err(LocationError::Cookie)?;
        let mut cookie = 0_u64;
        let mut len = size_of::<u64>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` = 8 bytes to `cookie`, which has 8.
        let rc = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_NETNS_COOKIE,
                (&raw mut cookie).cast(),
                &mut len,
            )
        };
        if rc == 0 {
            Ok(Self { cookie })
        } else {
            Err(LocationError::Cookie(io::Error::last_os_error()))
        }
    }

    /// Of another network namespace, by iproute2's name or by path; the caller stays where it is.
    ///
    /// # Errors
    /// [`LocationError::Namespace`] when there is no such namespace or entering is not allowed.
    pub fn of_netns(name: &str) -> Result<Self, LocationError> {
        let entered = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    Self::enter_netns(name)?;
                    Self::here()
                })
                .join()
        });
        entered.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Moves the calling thread into a network namespace, by iproute2's name or by path. Nothing
    /// else changes: `/sys`, with bpffs in it, stays the one of the caller.
    ///
    /// # Errors
    /// [`LocationError::Namespace`] when there is no such namespace or entering is not allowed.
    pub fn enter_netns(name: &str) -> Result<(), LocationError> {
        let refused = |source| LocationError::Namespace {
            name: name.to_owned(),
            source,
        };
        let file = File::open(netns_path(name)).map_err(refused)?;
        // SAFETY: plain call on an open descriptor; it changes only the calling thread.
        match unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } {
            0 => Ok(()),
            _ => Err(refused(io::Error::last_os_error())),
        }
    }

    /// By cookie.
    pub fn of_cookie(cookie: u64) -> Self {
        Self { cookie }
    }

    /// The namespace's cookie.
    pub fn cookie(&self) -> u64 {
        self.cookie
    }

    /// `/run/pointsman/<cookie>`, mode 0700, shared by the roles a namespace may have.
    pub fn run_dir(&self) -> PathBuf {
        Path::new(Self::RUN_ROOT).join(self.cookie.to_string())
    }

    /// `/sys/fs/bpf/pointsman/<cookie>`, shared by the roles a namespace may have.
    pub fn pin_dir(&self) -> PathBuf {
        Path::new(Self::PIN_ROOT).join(self.cookie.to_string())
    }

    /// Pins of the director, within [`Location::pin_dir`].
    pub fn director_pins(&self) -> PathBuf {
        self.pin_dir().join("director")
    }

    /// The API's socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir().join("api.sock")
    }

    /// Holds the director's process id and is locked while it lives.
    pub fn pid_file(&self) -> PathBuf {
        self.run_dir().join("director.pid")
    }

    /// Sysctls as they were before the director changed them.
    pub fn sysctl_file(&self) -> PathBuf {
        self.run_dir().join("sysctls.json")
    }

    /// Log of a director in the background.
    pub fn log_file(&self) -> PathBuf {
        self.run_dir().join("director.log")
    }
}

fn netns_path(name: &str) -> PathBuf {
    if name.contains('/') {
        PathBuf::from(name)
    } else {
        Path::new(NETNS_DIR).join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_slash_is_looked_for_where_iproute2_keeps_it() {
        assert_eq!(netns_path("blue"), Path::new("/run/netns/blue"));
        assert_eq!(
            netns_path("/proc/self/ns/net"),
            Path::new("/proc/self/ns/net")
        );
    }

    #[test]
    fn a_namespace_has_one_name_for_all_who_are_in_it() {
        assert_eq!(Location::here().unwrap(), Location::here().unwrap());
    }

    #[test]
    fn an_unknown_namespace_is_named_in_the_error() {
        let error = Location::of_netns("no-such-namespace").unwrap_err();
        assert!(error.to_string().contains("no-such-namespace"), "{error}");
    }
}
