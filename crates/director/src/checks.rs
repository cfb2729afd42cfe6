//! What must be there before anything is touched.

use std::fs;
use std::path::Path;

use crate::Error;

/// Only root may.
pub(crate) fn root() -> Result<(), Error> {
    if nix::unistd::geteuid().is_root() {
        Ok(())
    } else {
        Err(Error::NotRoot)
    }
}

/// The parts of the kernel without which nothing is worth trying. Whatever else a kernel may lack,
/// the data plane finds out by using it, and names it.
pub(crate) fn kernel() -> Result<(), Error> {
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !filesystems
        .lines()
        .any(|line| line.split_whitespace().last() == Some("bpf"))
    {
        return Err(Error::Kernel {
            what: "BPF (CONFIG_BPF_SYSCALL)",
            remedy: "use a kernel built with it, as those of all distributions are",
        });
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Err(Error::Kernel {
            what: "its type information (/sys/kernel/btf/vmlinux, CONFIG_DEBUG_INFO_BTF)",
            remedy: "use a kernel built with it, 6.1 or newer",
        });
    }
    Ok(())
}
