//! Debian packages: installed on this machine, or unpacked into a directory of ours.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::sh;

/// Installs `packages`; as root only.
pub fn install(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    if sh::find("apt-get").is_none() {
        bail!("this machine lacks what these Debian packages hold, and has no apt-get: {names}");
    }
    if !sh::is_root() {
        bail!(
            "the Debian packages {names} are missing, and installing them needs root: \
             run `sudo apt-get install {names}`"
        );
    }
    println!("setup: installing the Debian packages {names}");
    let _quiet = NoServices::while_installing()?;
    let install = || {
        sh::read(
            sh::command("apt-get")
                .env("DEBIAN_FRONTEND", "noninteractive")
                .args(["install", "--yes", "--no-install-recommends"])
                .args(packages),
        )
    };
    if install().is_err() {
        // No list of packages, or one that names versions the archive no longer has.
        println!("setup: updating the list of Debian packages (apt-get update)");
        sh::read(sh::command("apt-get").arg("update"))?;
        install()?;
    }
    Ok(())
}

/// What a package asks before it starts its service (invoke-rc.d(8)).
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// While it lives, packages install without starting their services: tests start servers by
/// themselves, in namespaces of their own.
struct NoServices {
    /// The policy is ours, and not the administrator's.
    ours: bool,
}

impl NoServices {
    fn while_installing() -> Result<Self> {
        let ours = !Path::new(POLICY).exists();
        if ours {
            fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
            fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self { ours })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}

/// Where packages to unpack come from.
///
/// This machine's own sources come first. Where they have no such package (a newer Debian has other
/// kernels), a package list of our own, for Debian 12, is kept under the given directory.
pub struct Archive {
    options: Vec<String>,
}

impl Archive {
    /// The sources that this machine's administrator chose.
    pub fn of_this_machine() -> Self {
        Archive {
            options: Vec::new(),
        }
    }

    /// Debian 12, by lists kept in `directory`; this machine's apt is left as it is.
    pub fn debian12(directory: &Path) -> Result<Self> {
        let lists = directory.join("lists");
        let sources = directory.join("sources.list");
        fs::create_dir_all(lists.join("partial"))?;
        let signed = "[arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]";
        fs::write(
            &sources,
            format!(
                "deb {signed} http://deb.debian.org/debian bookworm main\n\
                 deb {signed} http://deb.debian.org/debian-security bookworm-security main\n"
            ),
        )?;
        let options = vec![
            format!("Dir::Etc::SourceList={}", sources.display()),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("Dir::State::Lists={}", lists.display()),
            format!(
                "Dir::Cache::PkgCache={}",
                directory.join("pkgcache.bin").display()
            ),
            format!(
                "Dir::Cache::SrcPkgCache={}",
                directory.join("srcpkgcache.bin").display()
            ),
        ];
        let archive = Archive { options };
        println!("setup: fetching the list of Debian 12's packages");
        sh::read(archive.apt("apt-get").arg("update"))?;
        Ok(archive)
    }

    /// The names of all packages that begin with `prefix`.
    pub fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = sh::read(self.apt("apt-cache").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Downloads `package` and unpacks it into `directory`, which must not exist yet.
    pub fn unpack(&self, package: &str, directory: &Path) -> Result<()> {
        // Finished under another name and moved last: what has the name is whole.
        let partial = directory.with_extension("partial");
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        fs::create_dir_all(&partial)?;
        println!(
            "setup: unpacking the Debian package {package} into {}",
            directory.display()
        );
        sh::read(
            self.apt("apt-get")
                .args(["download", package])
                .current_dir(&partial),
        )?;
        let file = only_entry(&partial)?;
        sh::read(sh::command("dpkg").arg("-x").arg(&file).arg(&partial))?;
        fs::remove_file(file)?;
        fs::rename(&partial, directory)?;
        Ok(())
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = sh::command(program);
        // Downloads run as whoever runs this: apt's own user may not enter our directories.
        for option in ["APT::Sandbox::User=root"]
            .into_iter()
            .chain(self.options.iter().map(|o| &**o))
        {
            command.args(["-o", option]);
        }
        command
    }
}

/// The one entry of `directory`.
pub fn only_entry(directory: &Path) -> Result<PathBuf> {
    let mut entries =
        fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    match (entries.next().transpose()?, entries.next()) {
        (Some(entry), None) => Ok(entry.path()),
        _ => bail!("{} should hold exactly one entry", directory.display()),
    }
}
