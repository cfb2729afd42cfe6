//! Builds the eBPF objects this crate carries inside, with the cargo that builds the crate.
//!
//! `POINTSMAN_BPF_OBJECTS` may name a directory with prebuilt `director`, `realserver`, `toa` and `bench` objects:
//! for packagers, and for documentation builds without bpf-linker.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const OBJECTS: [&str; 4] = ["director", "realserver", "toa", "bench"];
const LINKER: &str = "bpf-linker";

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"))
        .join("../..")
        .canonicalize()
        .expect("the workspace exists");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    println!("cargo::rerun-if-env-changed=POINTSMAN_BPF_OBJECTS");
    for watched in [
        "bpf/src",
        "bpf/Cargo.toml",
        "bpf/Cargo.lock",
        "bpf/.cargo",
        "crates/core",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    let from = match env::var_os("POINTSMAN_BPF_OBJECTS") {
        Some(prebuilt) => PathBuf::from(prebuilt),
        None => build(&root, &out),
    };
    for name in OBJECTS {
        let object = from.join(name);
        fs::copy(&object, out.join(name))
            .unwrap_or_else(|e| panic!("no eBPF object at {}: {e}", object.display()));
    }
}

/// Runs cargo in `bpf/`. Only this nested call may use unstable features.
fn build(root: &Path, out: &Path) -> PathBuf {
    let target = shared_target(out).join("bpf");
    let mut cargo = Command::new(env::var_os("CARGO").expect("set by cargo"));
    cargo
        .current_dir(root.join("bpf"))
        .args(["build", "--release", "--locked", "--target-dir"])
        .arg(&target)
        .env("PATH", path_with_linker(root))
        .env("RUSTC_BOOTSTRAP", "1");
    for inherited in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTDOCFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_PROFILE_RELEASE_LTO",
    ] {
        cargo.env_remove(inherited);
    }
    let status = cargo.status().expect("cargo runs");
    assert!(
        status.success(),
        "building the eBPF programs failed. They need the rust-src component and {LINKER} 0.10.3: \
         `cargo xtask setup` installs both"
    );
    target.join("bpfel-unknown-none/release")
}

/// One directory for all profiles, so that `core` is built once: beside the profile's own directory,
/// of which `OUT_DIR` is `build/PACKAGE/out`.
fn shared_target(out: &Path) -> PathBuf {
    out.ancestors().nth(4).unwrap_or(out).to_path_buf()
}

/// The project's own bpf-linker first, then whatever PATH has.
fn path_with_linker(root: &Path) -> OsString {
    let own = root.join("target/tools/bin");
    let mut paths = vec![own];
    if let Some(path) = env::var_os("PATH") {
        paths.extend(env::split_paths(&path));
    }
    env::join_paths(paths).expect("PATH was well-formed")
}
