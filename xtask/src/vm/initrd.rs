//! The guest's first file system: busybox, the modules that reach the real one, two scripts.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::kernel::Image;
use crate::sh;

/// Modules without which the guest does not reach its root file system.
const MODULES: [&str; 4] = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];

/// Mounts the root file system and moves into it.
const INIT: &str = include_str!("init.sh");

/// Runs the command there.
const GUEST: &str = include_str!("guest.sh");

/// Writes the initial file system for `image` into `file`; `out` is whether the host shares `/out`.
pub fn write(image: &Image, out: bool, file: &Path) -> Result<()> {
    let mut archive = Cpio(Vec::new());
    for directory in ["bin", "dev", "lib", "mnt", "modules", "proc", "sys"] {
        archive.entry(directory, Cpio::DIRECTORY, &[])?;
    }
    archive.entry("init", Cpio::EXECUTABLE, INIT.as_bytes())?;
    archive.entry("guest", Cpio::EXECUTABLE, GUEST.as_bytes())?;
    let busybox = fs::read(&image.busybox)
        .with_context(|| format!("cannot read {}", image.busybox.display()))?;
    archive.entry("bin/busybox", Cpio::EXECUTABLE, &busybox)?;
    // In the order of their names, which is the order in which `init` loads them.
    for (number, path) in load_order(image)?.iter().enumerate() {
        let module = read_module(&image.modules.join(path))?;
        archive.entry(&format!("modules/{number:03}.ko"), Cpio::FILE, &module)?;
    }
    let answer = |yes| if yes { "yes" } else { "no" };
    let settings = [
        format!(
            "modules={}",
            super::quoted(&image.modules.display().to_string())
        ),
        format!("out={}", answer(out)),
        // A tmpfs on the guest's /tmp would hide a repository that lies there.
        format!("tmpfs_on_tmp={}", answer(!sh::root().starts_with("/tmp"))),
        String::new(),
    ]
    .join("\n");
    archive.entry("settings", Cpio::FILE, settings.as_bytes())?;
    archive.end()?;
    fs::write(file, archive.0)?;
    Ok(())
}

/// The files of `MODULES` and of all they need, each after what it needs itself.
fn load_order(image: &Image) -> Result<Vec<String>> {
    let index = fs::read_to_string(image.modules.join("modules.dep"))?;
    let builtin = fs::read_to_string(image.modules.join("modules.builtin"))?;
    let files: HashMap<&str, &str> = index
        .lines()
        .filter_map(|line| Some((name(line.split_once(':')?.0)?, line)))
        .collect();
    let mut order = Vec::new();
    for module in MODULES {
        let Some(line) = files.get(module) else {
            if builtin.lines().any(|file| name(file) == Some(module)) {
                continue;
            }
            bail!("{} has no module {module}", image.modules.display());
        };
        let (file, needs) = line
            .split_once(':')
            .expect("lines without a colon are not kept");
        // The index lists a module's needs such that the last has none itself.
        for file in needs.split_whitespace().rev().chain([file]) {
            if !order.iter().any(|known| known == file) {
                order.push(file.to_owned());
            }
        }
    }
    Ok(order)
}

/// A module's name, from the path of its file.
fn name(path: &str) -> Option<&str> {
    path.rsplit('/').next()?.split('.').next()
}

/// A module as the kernel loads it: Debian compresses those of its newer kernels.
fn read_module(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    }
    let output = sh::command("xz")
        .arg("-dc")
        .arg(path)
        .output()
        .context("cannot run xz")?;
    if !output.status.success() {
        bail!("cannot decompress {}", path.display());
    }
    Ok(output.stdout)
}

/// An archive in the "newc" format of cpio, the one that Linux unpacks at boot.
///
/// Each entry is a header of thirteen 8-digit hexadecimal numbers, its name with a final NUL, and
/// its content, name and content each padded to 4 bytes
/// (Linux Documentation/driver-api/early-userspace/buffer-format.rst).
struct Cpio(Vec<u8>);

impl Cpio {
    const DIRECTORY: u32 = 0o040_755;
    const EXECUTABLE: u32 = 0o100_755;
    const FILE: u32 = 0o100_644;

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        let inode = u32::try_from(self.0.len())?;
        let links = 1;
        let (uid, gid, mtime, device, check) = (0, 0, 0, 0, 0);
        let size = u32::try_from(content.len())?;
        let name_size = u32::try_from(name.len() + 1)?;
        let numbers = [
            inode, mode, uid, gid, links, mtime, size, device, device, device, device, name_size,
            check,
        ];
        self.0.write_all(b"070701")?;
        for number in numbers {
            write!(self.0, "{number:08x}")?;
        }
        self.0.write_all(name.as_bytes())?;
        self.0.push(0);
        self.pad();
        self.0.write_all(content)?;
        self.pad();
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        self.entry("TRAILER!!!", 0, &[])
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_what_cpio_writes() {
        let mut archive = Cpio(Vec::new());
        archive.entry("a", Cpio::FILE, b"hello").unwrap();
        let header = "070701\
            00000000000081a40000000000000000000000010000000000000005\
            000000000000000000000000000000000000000200000000";
        assert_eq!(archive.0, [header.as_bytes(), b"a\0hello\0\0\0"].concat());
    }

    #[test]
    fn a_module_is_named_by_its_file() {
        assert_eq!(
            name("kernel/net/9p/9pnet_virtio.ko.xz"),
            Some("9pnet_virtio")
        );
        assert_eq!(name("kernel/fs/overlayfs/overlay.ko"), Some("overlay"));
    }
}
