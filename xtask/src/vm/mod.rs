//! Throw-away virtual machines that boot one of Debian's kernels over this machine's own files.
//!
//! The guest sees this machine's root file system read-only (9p) with a tmpfs laid over it: every
//! program, library and build result is there under its usual path, may be changed, and is as before
//! once the guest is gone. Everything is emulated unless KVM is asked for, so this works inside
//! virtual machines and containers; expect ten seconds to boot and a processor some twenty times
//! slower. No network device, no disk, no standard input.

pub mod command;
mod initrd;
mod kernel;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::setup::{self, Purpose};
use crate::sh;
pub use kernel::Kernel;

/// How to run a command in a guest.
pub struct Options {
    /// Number of processors.
    pub cpus: u32,
    /// Memory in MiB, including what the guest writes to its files.
    pub memory_mib: u32,
    /// How long the guest may live, boot included.
    pub timeout: Duration,
    /// Who executes the guest's instructions.
    pub accelerator: Accelerator,
    /// Pass the command's output on while it runs.
    pub stream: bool,
    /// Environment variables of the command.
    pub env: Vec<(String, String)>,
    /// A directory of this machine that the guest may write to; it sees it as `/out`.
    pub out: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            cpus: 2,
            memory_mib: 4096,
            timeout: Duration::from_secs(300),
            accelerator: Accelerator::Tcg,
            stream: false,
            env: Vec::new(),
            out: None,
        }
    }
}

/// Who executes the guest's instructions.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Accelerator {
    /// Qemu emulates them: slow, works everywhere.
    Tcg,
    /// This machine's processor, through /dev/kvm.
    Kvm,
}

/// What a command did in a guest.
#[derive(Debug)]
pub struct Output {
    /// Its exit status, as a shell sees it.
    pub status: i32,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
}

/// Boots `kernel`, runs `command` in it as root in the repository's root, and ends the guest.
///
/// A command that fails is an `Output` with its status; an error means that it could not be run to
/// its end. Installs qemu and fetches the kernel when they are missing.
pub fn run(kernel: Kernel, command: &[String], options: &Options) -> Result<Output> {
    setup::ensure(Purpose::Kernels)?;
    let image = kernel.image()?;
    let work = Work::new(kernel)?;
    let initrd = work.0.join("initrd");
    initrd::write(&image, options.out.is_some(), &initrd)?;
    fs::write(work.exchange().join("command"), script(command, options))?;

    let mut qemu = sh::command("setpriv");
    // Ends with us, however we end.
    qemu.args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
        .args([
            "-machine",
            "q35",
            "-nodefaults",
            "-no-reboot",
            "-display",
            "none",
        ])
        .args([
            "-smp",
            &options.cpus.to_string(),
            "-m",
            &options.memory_mib.to_string(),
        ])
        .args(match options.accelerator {
            // Without five-level page tables: walking them costs an emulated processor dearly.
            Accelerator::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max,la57=off"],
            Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
        })
        .arg("-kernel")
        .arg(&image.vmlinuz)
        .arg("-initrd")
        .arg(&initrd)
        // A panic ends the guest at once; nothing in it is worth protecting from its own processor.
        .args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"])
        .arg("-serial")
        .arg(format!("file:{}", qemu_path(&work.console())));
    share(
        &mut qemu,
        "host",
        Path::new("/"),
        ",readonly=on,multidevs=remap",
    );
    share(&mut qemu, "exchange", &work.exchange(), "");
    if let Some(out) = &options.out {
        share(&mut qemu, "out", &out.canonicalize()?, "");
    }
    qemu.stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(work.qemu_stderr())?);
    let guest = qemu.spawn().context("cannot run qemu")?;
    wait(guest, &work, options)
}

/// Waits for the guest's end, passing its output on where that is wanted.
fn wait(mut guest: Child, work: &Work, options: &Options) -> Result<Output> {
    let exchange = work.exchange();
    let mut stdout = Tail::new(exchange.join("stdout"));
    let mut stderr = Tail::new(exchange.join("stderr"));
    let deadline = Instant::now() + options.timeout;
    loop {
        let ended = guest.try_wait()?;
        // After asking: what was written before the end is then read below.
        stdout.read(options.stream.then_some(&mut io::stdout()))?;
        stderr.read(options.stream.then_some(&mut io::stderr()))?;
        if ended.is_some() {
            break;
        }
        if Instant::now() > deadline {
            guest.kill()?;
            guest.wait()?;
            let seconds = options.timeout.as_secs();
            bail!(
                "the guest did not finish within {seconds} s; {}",
                work.last_words()
            );
        }
        sleep(Duration::from_millis(50));
    }
    let status = fs::read_to_string(exchange.join("status")).unwrap_or_default();
    let status = status.trim().parse();
    let status = status.with_context(|| format!("the guest died; {}", work.last_words()))?;
    Ok(Output {
        status,
        stdout: stdout.text(),
        stderr: stderr.text(),
    })
}

/// Lets the guest mount `directory` by the name `tag`.
fn share(qemu: &mut std::process::Command, tag: &str, directory: &Path, how: &str) {
    let path = qemu_path(directory);
    qemu.arg("-fsdev")
        .arg(format!(
            "local,id={tag},path={path},security_model=none{how}"
        ))
        .arg("-device")
        .arg(format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"));
}

/// `path` inside one of qemu's comma-separated options.
fn qemu_path(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// The shell script that runs `command` in the guest.
fn script(command: &[String], options: &Options) -> String {
    let mut script = format!("cd {}\n", quoted(&sh::root().display().to_string()));
    for (name, value) in &options.env {
        script += &format!("export {name}={}\n", quoted(value));
    }
    let words: Vec<_> = command.iter().map(|word| quoted(word)).collect();
    script + &words.join(" ") + "\n"
}

/// `word` as a shell reads it back unchanged.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A file that grows while it is read.
struct Tail {
    path: PathBuf,
    file: Option<File>,
    seen: Vec<u8>,
}

impl Tail {
    fn new(path: PathBuf) -> Self {
        Tail {
            path,
            file: None,
            seen: Vec::new(),
        }
    }

    /// Reads what is new, and writes it to `copy` as well.
    fn read(&mut self, copy: Option<&mut impl Write>) -> io::Result<()> {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let old = self.seen.len();
        file.read_to_end(&mut self.seen)?;
        if let Some(copy) = copy
            && self.seen.len() > old
        {
            copy.write_all(&self.seen[old..])?;
            copy.flush()?;
        }
        Ok(())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }
}

/// The files of one running guest; removed when it has ended.
struct Work(PathBuf);

impl Work {
    fn new(kernel: Kernel) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let directory = kernel::directory().join("guests");
        fs::create_dir_all(&directory)?;
        for entry in fs::read_dir(&directory)? {
            // Left by one of us that was killed.
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.split('-').next().unwrap_or_default();
            if !Path::new("/proc").join(owner).exists() {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let work = Work(directory.join(format!("{}-{kernel}-{count}", std::process::id())));
        fs::create_dir_all(work.exchange())?;
        Ok(work)
    }

    /// What host and guest both write to.
    fn exchange(&self) -> PathBuf {
        self.0.join("exchange")
    }

    fn console(&self) -> PathBuf {
        self.0.join("console")
    }

    fn qemu_stderr(&self) -> PathBuf {
        self.0.join("qemu")
    }

    /// What the guest's kernel and qemu said at last, for a message.
    fn last_words(&self) -> String {
        let read = |path| fs::read(path).map(|b| String::from_utf8_lossy(&b).trim().to_owned());
        let console = read(self.console()).unwrap_or_default();
        let lines: Vec<_> = console.lines().collect();
        let last = lines[lines.len().saturating_sub(40)..].join("\n");
        let qemu = read(self.qemu_stderr()).unwrap_or_default();
        format!("its console ends:\n{last}\nqemu said: {qemu}")
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // Left-overs in the build directory harm nothing.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_reaches_the_guest_word_by_word() {
        let command = ["echo", "it's", "$HOME; a  b"].map(str::to_owned);
        let options = Options {
            env: vec![("A".into(), "b c".into())],
            ..Options::default()
        };
        let script = script(&command, &options);
        assert!(
            script.ends_with("export A='b c'\n'echo' 'it'\\''s' '$HOME; a  b'\n"),
            "{script}"
        );
    }
}
