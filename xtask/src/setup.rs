//! Installs what building, testing and booting kernels need and this machine lacks.
//!
//! Looks first and acts only where something is missing, so that every other command can call it.
//! Whatever it does, it says in one line. bpf-linker goes into `target/tools`, nothing of ours
//! leaves the repository; Debian packages are installed by name and only as root.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::cargo::cargo_outside_workspace;
use crate::{deb, sh};

/// The version of bpf-linker that links the eBPF crate.
const BPF_LINKER: &str = "0.10.3";

/// Install what is missing on this machine.
#[derive(clap::Args)]
pub struct Args {
    /// For which job; every one includes `build`, those behind `demo` include it too.
    #[arg(value_enum, default_value = "test")]
    purpose: Purpose,
}

/// What the machine shall be able to do.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Purpose {
    /// Build the workspace and the eBPF crate.
    Build,
    /// Run the labs.
    Demo,
    /// Run every check and test.
    Test,
    /// Boot other kernels in virtual machines.
    Kernels,
    /// Run other balancers beside Pointsman.
    Compare,
    /// Record what the kernel's IPVS does, there.
    Record,
}

/// A program that a job calls, and the Debian package that brings it.
type Program = (&'static str, &'static str);

const LAB: &[Program] = &[
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("ethtool", "ethtool"),
    ("curl", "curl"),
    ("sysctl", "procps"),
];

const TEST: &[Program] = &[
    ("wrk", "wrk"),
    ("iptables", "iptables"),
    ("vsftpd", "vsftpd"),
    ("lftp", "lftp"),
    ("sipp", "sip-tester"),
    ("ldirectord", "ldirectord"),
    // the real servers of its scenarios
    ("python3", "python3"),
    // Servers that health checks are tried on; where two would do, the smaller one.
    ("nginx", "nginx"),
    // Beside it, servers that show the client's address behind FULLNAT.
    ("/usr/sbin/apache2", "apache2-bin"),
    ("/usr/sbin/haproxy", "haproxy"),
    ("/usr/sbin/exim4", "exim4-daemon-light"),
    ("/usr/lib/dovecot/imap", "dovecot-imapd"),
    ("/usr/lib/dovecot/pop3", "dovecot-pop3d"),
    ("slapd", "slapd"),
    ("freeradius", "freeradius"),
    ("knotd", "knot"),
    ("leafnode", "leafnode"),
    ("mariadbd", "mariadb-server-core"),
    ("/usr/lib/postgresql/15/bin/postgres", "postgresql-15"),
    ("openssl", "openssl"),
    ("nft", "nftables"),
    ("/usr/sbin/dnsmasq", "dnsmasq-base"),
    ("dig", "bind9-dnsutils"),
    ("keepalived", "keepalived"),
    ("tshark", "tshark"),
    ("ping", "iputils-ping"),
];

const KERNELS: &[Program] = &[
    ("/usr/sbin/ipvsadm", "ipvsadm"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("depmod", "kmod"),
    ("xz", "xz-utils"),
    ("setpriv", "util-linux"),
];

const COMPARE: &[Program] = &[
    ("wrk", "wrk"),
    ("iperf3", "iperf3"),
    ("nginx", "nginx"),
    ("nft", "nftables"),
    ("/usr/sbin/haproxy", "haproxy"),
    ("/usr/sbin/ipvsadm", "ipvsadm"),
];

const RECORD: &[Program] = &[
    ("ipvsadm", "ipvsadm"),
    ("iptables", "iptables"),
    ("keepalived", "keepalived"),
];

impl Purpose {
    fn programs(self) -> impl Iterator<Item = &'static Program> {
        let sets: &[&[Program]] = match self {
            Purpose::Build => &[],
            Purpose::Demo => &[LAB],
            Purpose::Test => &[LAB, TEST],
            Purpose::Kernels => &[LAB, KERNELS],
            Purpose::Compare => &[LAB, COMPARE],
            Purpose::Record => &[LAB, KERNELS, RECORD],
        };
        sets.iter().copied().flatten()
    }
}

/// `cargo xtask setup`.
pub fn main(args: &Args) -> Result<()> {
    ensure(args.purpose)?;
    println!("setup: everything needed is there");
    Ok(())
}

/// Makes this machine able to do `purpose`, or says why it cannot.
pub fn ensure(purpose: Purpose) -> Result<()> {
    rust_components()?;
    bpf_linker()?;
    let missing: Vec<_> = purpose
        .programs()
        .filter(|(name, _)| sh::find(name).is_none())
        .map(|(_, package)| *package)
        .collect();
    if !missing.is_empty() {
        deb::install(&missing)?;
    }
    if purpose == Purpose::Test {
        heartbeat_examples()?;
    }
    Ok(())
}

/// Unpacks the package heartbeat into `target/heartbeat`: tests read its example files. It is not
/// installed, for it would bring a cluster with it.
fn heartbeat_examples() -> Result<()> {
    let directory = sh::root().join("target/heartbeat");
    if directory.exists() {
        return Ok(());
    }
    let here = deb::Archive::of_this_machine();
    here.unpack("heartbeat", &directory).or_else(|_| {
        deb::Archive::debian12(&sh::root().join("target/apt"))?.unpack("heartbeat", &directory)
    })
}

/// Installs the missing ones of the components that `rust-toolchain.toml` names.
fn rust_components() -> Result<()> {
    let sysroot =
        PathBuf::from(sh::read(sh::command("rustc").args(["--print", "sysroot"]))?.trim());
    let components = [
        ("rust-src", "lib/rustlib/src/rust/library/core/Cargo.toml"),
        ("rustfmt", "bin/rustfmt"),
        ("clippy", "bin/clippy-driver"),
    ];
    let missing: Vec<_> = components
        .iter()
        .filter(|(_, file)| !sysroot.join(file).exists())
        .map(|(component, _)| *component)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    println!("setup: installing the Rust components {names}");
    // Explicitly, since RUSTUP_AUTO_INSTALL=0 stops rustup from doing it by itself.
    sh::run(
        sh::command("rustup")
            .args(["component", "add"])
            .args(&missing),
    )
    .with_context(|| {
        format!(
            "the Rust in {} lacks {names}, and rustup did not add them",
            sysroot.display()
        )
    })
}

/// Installs bpf-linker into `target/tools`, unless it or the one in `PATH` has our version.
fn bpf_linker() -> Result<()> {
    let tools = sh::root().join("target/tools");
    let ours = tools.join("bin/bpf-linker");
    let wanted = format!("bpf-linker {BPF_LINKER}");
    // Asked from within the repository: bpf-linker loads the LLVM of the toolchain chosen there.
    if [Some(ours), sh::find("bpf-linker")]
        .into_iter()
        .flatten()
        .any(|linker| {
            sh::read(sh::command(linker).arg("--version"))
                .is_ok_and(|version| version.trim() == wanted)
        })
    {
        return Ok(());
    }
    println!("setup: building bpf-linker {BPF_LINKER} into target/tools (a minute or two, once)");
    // In PATH for the installation, which otherwise ends in advice to put it there.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(
        std::iter::once(tools.join("bin")).chain(std::env::split_paths(&path)),
    )?;
    let package = format!("bpf-linker@{BPF_LINKER}");
    sh::run(
        cargo_outside_workspace()
            .env("PATH", path)
            .args(["install", "--locked", "--force", &package, "--root"])
            .arg(tools),
    )
    .context("cannot install bpf-linker")
}

/// Fails with `why` unless this process is root.
pub fn require_root(why: &str) -> Result<()> {
    if !sh::is_root() {
        bail!(
            "{why} needs root: run this as root, \
             for example `sudo env \"PATH=$PATH\" \"HOME=$HOME\" cargo xtask …`"
        );
    }
    Ok(())
}
