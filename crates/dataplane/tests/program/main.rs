//! The real eBPF object under `BPF_PROG_TEST_RUN`. Needs root.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use pointsman_dataplane::{DataPlane, Options};

/// A data plane whose pins go with it.
struct Plane {
    plane: Option<DataPlane>,
    dir: PathBuf,
}

impl Plane {
    fn new() -> Self {
        static N: AtomicU32 = AtomicU32::new(0);
        let n = N.fetch_add(1, Ordering::Relaxed);
        let dir = PathBuf::from(format!("/sys/fs/bpf/pm-test-{}-{n}", std::process::id()));
        fs::create_dir(&dir).expect("a directory in bpffs (needs root and /sys/fs/bpf mounted)");
        let plane = DataPlane::open(
            &dir,
            &Options {
                connection_slots: Some(4096),
            },
        );
        let plane = Self { plane: None, dir }.with(plane);
        plane
    }

    fn with(mut self, plane: Result<DataPlane, pointsman_dataplane::Error>) -> Self {
        match plane {
            Ok(plane) => self.plane = Some(plane),
            Err(e) => panic!("{e}"),
        }
        self
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        if let Some(plane) = self.plane.take() {
            let _ = plane.remove();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn every_program_passes_the_verifier() {
    let plane = Plane::new();
    for (name, count) in plane.plane.as_ref().unwrap().verified_instructions() {
        println!("verified {name} {count} insns");
    }
}
