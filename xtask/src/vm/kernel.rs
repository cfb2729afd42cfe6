//! Debian's kernels: which there are, and where they come from.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::deb::{self, Archive};
use crate::sh;

/// A kernel that guests boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kernel {
    /// Debian 12's own, the oldest that Pointsman supports: no tcx yet.
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13's own, as Debian 12 offers it: with tcx.
    #[value(name = "6.12")]
    V6_12,
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kernel::V6_1 => "6.1",
            Kernel::V6_12 => "6.12",
        })
    }
}

/// An unpacked kernel.
pub struct Image {
    /// What qemu boots.
    pub vmlinuz: PathBuf,
    /// The directory with its modules and their indexes, `lib/modules/VERSION`.
    pub modules: PathBuf,
    /// A static busybox, for the time before the root file system is there.
    pub busybox: PathBuf,
}

/// Where kernels are unpacked and guests have their files.
pub fn directory() -> PathBuf {
    sh::root().join("target/kernels")
}

impl Kernel {
    /// All of them, oldest first.
    pub const ALL: [Kernel; 2] = [Kernel::V6_1, Kernel::V6_12];

    /// What stands before and after the update number in the name of its package.
    fn package_name(self) -> (&'static str, &'static str) {
        match self {
            Kernel::V6_1 => ("linux-image-6.1.0-", "-amd64"),
            Kernel::V6_12 => ("linux-image-6.12.", "+deb12-amd64"),
        }
    }

    /// The unpacked kernel, fetched when it is not there yet.
    ///
    /// The newest update at that time; remove `target/kernels` to get a newer one.
    pub fn image(self) -> Result<Image> {
        let directory = directory();
        fs::create_dir_all(&directory)?;
        let busybox = directory.join("busybox");
        if !busybox.exists() {
            let here = Archive::of_this_machine();
            here.unpack("busybox-static", &busybox).or_else(|_| {
                Archive::debian12(&directory.join("apt"))?.unpack("busybox-static", &busybox)
            })?;
        }
        let kernel = directory.join(self.to_string());
        if !kernel.exists() {
            self.fetch(&directory, &kernel)
                .with_context(|| format!("cannot fetch Debian's kernel {self}"))?;
        }
        let modules = deb::only_entry(&kernel.join("lib/modules"))?;
        let version = modules
            .file_name()
            .expect("an entry has a name")
            .to_string_lossy();
        let vmlinuz = kernel.join(format!("boot/vmlinuz-{version}"));
        if !modules.join("modules.dep").exists() {
            sh::read(
                sh::command(find_depmod()?)
                    .arg("-b")
                    .arg(&kernel)
                    .arg(&*version),
            )?;
        }
        Ok(Image {
            vmlinuz,
            modules,
            busybox: busybox.join("bin/busybox"),
        })
    }

    fn fetch(self, directory: &Path, kernel: &Path) -> Result<()> {
        let here = Archive::of_this_machine();
        if let Some(package) = self.newest(&here)?
            && here.unpack(&package, kernel).is_ok()
        {
            return Ok(());
        }
        // This machine's list of packages is of another Debian, or older than the archive.
        let archive = Archive::debian12(&directory.join("apt"))?;
        let package = self
            .newest(&archive)?
            .context("Debian 12 has no such package")?;
        archive.unpack(&package, kernel)
    }

    /// The package with the highest update number.
    fn newest(self, archive: &Archive) -> Result<Option<String>> {
        let (prefix, suffix) = self.package_name();
        let update = |name: &str| -> Option<u32> {
            name.strip_prefix(prefix)?
                .strip_suffix(suffix)?
                .parse()
                .ok()
        };
        let names = archive.names(prefix)?;
        Ok(names
            .into_iter()
            .filter(|n| update(n).is_some())
            .max_by_key(|n| update(n)))
    }
}

fn find_depmod() -> Result<PathBuf> {
    sh::find("depmod").context("depmod is missing: install the Debian package kmod")
}
