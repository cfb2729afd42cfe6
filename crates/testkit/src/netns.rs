//! Network namespaces that remove themselves.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Once};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{io, panic, process};

use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::sys::statfs::{FsType, statfs};
use nix::unistd::{Pid, geteuid};

use crate::{Error, wait_until};

/// Where `ip netns` keeps its names.
const DIRECTORY: &str = "/run/netns";
/// What dies with its process has a name of this and its pid: namespaces `pm-PID-N-LABEL`, pins `pm-PID-N`.
pub(crate) const TRANSIENT: &str = "pm-";
/// Namespaces left standing on purpose: `pointsman-LAB-LABEL`.
const KEPT: &str = "pointsman-";
/// `SO_NETNS_COOKIE` of `asm-generic/socket.h`, which `libc` lacks.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// How the namespaces of one network are called.
#[derive(Clone, Debug)]
pub struct Names {
    prefix: String,
}

impl Names {
    /// Names no other network has, in this process or another: `pm-PID-N-LABEL`.
    ///
    /// The pid is how a later process knows that nobody owns them any more.
    pub fn transient() -> Self {
        static NETWORKS: AtomicU32 = AtomicU32::new(0);
        static STALE: Once = Once::new();
        STALE.call_once(remove_stale);
        let n = NETWORKS.fetch_add(1, Ordering::Relaxed);
        Self {
            prefix: format!("{TRANSIENT}{}-{n}-", process::id()),
        }
    }

    /// Names for a network that may outlive its maker: `pointsman-LAB-LABEL`.
    pub fn kept(lab: &str) -> Self {
        Self {
            prefix: format!("{KEPT}{lab}-"),
        }
    }
}

/// A network namespace; dropping it ends what runs inside and removes it.
#[derive(Debug)]
pub struct Netns {
    name: String,
    label: String,
    file: Arc<File>,
    keep: bool,
}

impl Netns {
    /// Makes an empty namespace whose `lo` is up.
    ///
    /// # Errors
    /// Without root, or when the name is taken (only possible with [`Names::kept`]).
    pub fn new(names: &Names, label: &str) -> Result<Self, Error> {
        if !geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        let name = format!("{}{label}", names.prefix);
        if path_of(&name).exists() {
            return Err(Error::Exists { name });
        }
        add(&name)?;
        let netns = Self::adopt(&name, label)?;
        netns.ip("link set lo up")?;
        // No router solicitations, no duplicate address detection: captures stay readable.
        for scope in ["all", "default"] {
            netns.sysctl(&format!("net.ipv6.conf.{scope}.disable_ipv6"), "1")?;
        }
        Ok(netns)
    }

    /// Takes over a namespace that exists, to remove it when dropped.
    fn adopt(name: &str, label: &str) -> Result<Self, Error> {
        let path = path_of(name);
        let file = File::open(&path).map_err(Error::os(format!("opening {}", path.display())))?;
        Ok(Self {
            name: name.into(),
            label: label.into(),
            file: Arc::new(file),
            keep: false,
        })
    }

    /// The name for `ip -n NAME` and `--netns NAME`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its part in the network: `client`, `director`, `rs1`.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Leaves it standing when dropped.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Calls `f` on a thread inside; a panic of `f` goes on in the caller.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter();
                f()
            });
            inside
                .join()
                .unwrap_or_else(|payload| panic::resume_unwind(payload))
        })
    }

    /// Starts a thread inside.
    pub fn spawn<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let file = Arc::clone(&self.file);
        thread::spawn(move || {
            setns(file.as_fd(), CloneFlags::CLONE_NEWNET).expect("entering a namespace as root");
            f()
        })
    }

    fn enter(&self) {
        setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET).expect("entering a namespace as root");
    }

    /// A command that will run inside, with the machine's own mounts.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let file = Arc::clone(&self.file);
        // SAFETY: setns is async-signal-safe, and the closure allocates nothing.
        unsafe {
            command.pre_exec(move || {
                // SAFETY: the descriptor lives as long as the closure.
                match libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            });
        }
        command
    }

    /// Runs a program inside, to its end, and returns what it printed.
    ///
    /// # Errors
    /// When it cannot start or does not end with 0.
    pub fn exec(&self, program: &str, arguments: &[&str]) -> Result<String, Error> {
        checked(self.command(program).args(arguments))
    }

    /// Runs `ip` on it with blank-separated arguments and returns what it printed.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn ip(&self, arguments: &str) -> Result<String, Error> {
        let mut command = Command::new("ip");
        command
            .args(["-n", &self.name])
            .args(arguments.split_whitespace());
        checked(&mut command)
    }

    /// Writes a sysctl of the namespace (`net.ipv4.ip_forward`).
    ///
    /// # Errors
    /// When the kernel has no such key or refuses the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<(), Error> {
        let path = sysctl_path(key);
        self.run(|| fs::write(&path, value))
            .map_err(Error::os(format!("{key} = {value}")))
    }

    /// Reads a sysctl of the namespace.
    ///
    /// # Errors
    /// When the kernel has no such key.
    pub fn read_sysctl(&self, key: &str) -> Result<String, Error> {
        let path = sysctl_path(key);
        let text = self
            .run(|| fs::read_to_string(&path))
            .map_err(Error::os(key))?;
        Ok(text.trim().into())
    }

    /// The kernel's number for it, never used twice while the machine is up.
    pub fn cookie(&self) -> u64 {
        self.run(cookie)
    }

    /// Hardware address of one of its interfaces.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn mac(&self, interface: &str) -> Result<[u8; 6], Error> {
        let links = self.links()?;
        let link = links.iter().find(|link| link["ifname"] == interface);
        link.and_then(|link| parse_mac(link["address"].as_str()?))
            .ok_or_else(|| Error::Os {
                doing: format!("hardware address of {interface} in {}", self.name),
                source: io::ErrorKind::NotFound.into(),
            })
    }

    /// Index of one of its interfaces.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn index(&self, interface: &str) -> Result<u32, Error> {
        let name = std::ffi::CString::new(interface).expect("interface names hold no NUL");
        // SAFETY: a NUL-terminated string that outlives the call.
        self.run(|| match unsafe { libc::if_nametoindex(name.as_ptr()) } {
            0 => Err(io::Error::last_os_error()),
            index => Ok(index),
        })
        .map_err(Error::os(format!("index of {interface} in {}", self.name)))
    }

    /// Its interfaces as `ip -json link` tells them.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn links(&self) -> Result<Vec<serde_json::Value>, Error> {
        let text = self.ip("-json -details link show")?;
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// Processes whose main thread is inside.
    pub fn pids(&self) -> Vec<u32> {
        let Ok(inside) = self.file.metadata() else {
            return Vec::new();
        };
        let inode_of = |pid: u32| {
            fs::metadata(format!("/proc/{pid}/ns/net"))
                .map(|m| m.ino())
                .ok()
        };
        // Never list the caller's own namespace: whoever reads this list may kill.
        if inode_of(process::id()) == Some(inside.ino()) {
            return Vec::new();
        }
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|&pid| inode_of(pid) == Some(inside.ino()))
            .collect()
    }

    fn end_processes(&self) {
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            let pids = self.pids();
            if pids.is_empty() {
                return;
            }
            for pid in pids {
                let _ = kill(Pid::from_raw(pid as i32), signal);
            }
            let gone = || self.pids().is_empty().then_some(());
            if wait_until("processes to end", Duration::from_secs(3), gone).is_ok() {
                return;
            }
        }
    }

    fn remove(&self) {
        self.end_processes();
        let cookie = self.cookie();
        for place in run_directories(cookie) {
            let _ = fs::remove_dir_all(place);
        }
        let path = path_of(&self.name);
        let _ = umount2(&path, MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&path);
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if !self.keep {
            self.remove();
        }
    }
}

/// Where a director or real server in the namespace `cookie` keeps what outlives it.
pub(crate) fn run_directories(cookie: u64) -> Vec<PathBuf> {
    ["/run/pointsman", "/sys/fs/bpf/pointsman"]
        .iter()
        .map(|place| Path::new(place).join(cookie.to_string()))
        .collect()
}

/// Removes the namespaces of processes that are gone, and what runs in them.
pub fn remove_stale() {
    for name in names_with(TRANSIENT) {
        if !is_abandoned(&name) {
            continue;
        }
        if is_namespace(&path_of(&name)) {
            drop(Netns::adopt(&name, "stale"));
        } else {
            // Its mount went with whoever had made it.
            let _ = fs::remove_file(path_of(&name));
        }
    }
}

/// Whether a file stands for a namespace, and is not merely named like one.
fn is_namespace(path: &Path) -> bool {
    const NSFS: FsType = FsType(0x6e73_6673);
    statfs(path).is_ok_and(|about| about.filesystem_type() == NSFS)
}

/// Whether a name is one of a process that is gone: [`TRANSIENT`], its pid, and more after a dash.
pub(crate) fn is_abandoned(name: &str) -> bool {
    let owner = name
        .strip_prefix(TRANSIENT)
        .and_then(|rest| rest.split('-').next()?.parse().ok());
    owner.is_some_and(|pid| !is_alive(pid))
}

/// A zombie, which some containers never reap, is not alive.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
}

/// The namespaces of the network that `Names::kept(lab)` named, to be dropped or looked at.
pub fn kept(lab: &str) -> Vec<Netns> {
    let prefix = Names::kept(lab).prefix;
    let adopt = |name: &String| Netns::adopt(name, &name[prefix.len()..]).ok();
    names_with(&prefix).iter().filter_map(adopt).collect()
}

fn names_with(prefix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(DIRECTORY) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort();
    names
}

fn path_of(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

fn sysctl_path(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key.replace('.', "/"))
}

/// `ip netns add`; the first ones on a machine race for making the directory a shared mount.
fn add(name: &str) -> Result<(), Error> {
    let mut tries = 0;
    loop {
        match checked(Command::new("ip").args(["netns", "add", name])) {
            Ok(_) => return Ok(()),
            Err(error) if tries == 5 => return Err(error),
            Err(_) => {
                tries += 1;
                let _ = fs::remove_file(path_of(name));
                thread::sleep(Duration::from_millis(10 * tries));
            }
        }
    }
}

/// `SO_NETNS_COOKIE` of the calling thread's namespace.
fn cookie() -> u64 {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a UDP socket");
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `cookie`.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    assert_eq!(status, 0, "SO_NETNS_COOKIE: {}", io::Error::last_os_error());
    cookie
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    Some(mac)
}

/// Runs a command and returns its standard output.
///
/// # Errors
/// When it cannot start or does not end with 0.
pub(crate) fn checked(command: &mut Command) -> Result<String, Error> {
    let line = command_line(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(Error::os(line.clone()))?;
    let Output {
        status,
        stdout,
        stderr,
    } = output;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    Err(Error::Command {
        command: line,
        status: status.to_string(),
        stderr: String::from_utf8_lossy(&stderr).trim().into(),
    })
}

fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_namespace_is_gone_with_what_ran_in_it() {
        let netns = Netns::new(&Names::transient(), "alone").unwrap();
        let name = netns.name().to_owned();
        let mut child = netns.command("sleep").arg("1000").spawn().unwrap();
        assert_eq!(netns.pids(), [child.id()]);
        drop(netns);
        assert!(!path_of(&name).exists());
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn a_namespace_of_a_panicking_test_is_gone() {
        let name = thread::spawn(|| {
            let netns = Netns::new(&Names::transient(), "panic").unwrap();
            panic::panic_any(netns.name().to_owned());
        })
        .join()
        .unwrap_err();
        assert!(!path_of(name.downcast_ref::<String>().unwrap()).exists());
    }

    #[test]
    fn a_namespace_of_a_dead_process_is_stale() {
        let mut owner = Command::new("sleep").arg("1000").spawn().unwrap();
        let names = Names {
            prefix: format!("{TRANSIENT}{}-0-", owner.id()),
        };
        let mut netns = Netns::new(&names, "orphan").unwrap();
        netns.keep();
        let path = path_of(netns.name());
        drop(netns);
        let unmounted = path_of(&format!("{}unmounted", names.prefix));
        fs::write(&unmounted, "").unwrap();
        remove_stale();
        assert!(path.exists() && unmounted.exists(), "their owner lives");
        owner.kill().unwrap();
        owner.wait().unwrap();
        remove_stale();
        assert!(!path.exists() && !unmounted.exists());
    }

    #[test]
    fn a_thread_inside_sees_the_namespace_and_the_caller_does_not() {
        let names = Names::transient();
        let (one, two) = (
            Netns::new(&names, "a").unwrap(),
            Netns::new(&names, "b").unwrap(),
        );
        one.sysctl("net.ipv4.ip_forward", "1").unwrap();
        two.sysctl("net.ipv4.ip_forward", "0").unwrap();
        assert_eq!(one.read_sysctl("net.ipv4.ip_forward").unwrap(), "1");
        assert_ne!(one.cookie(), two.cookie());
        assert_ne!(one.cookie(), cookie());
        assert_eq!(one.links().unwrap().len(), 1);
    }
}
