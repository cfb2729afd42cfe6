//! The real server's side: taking the outer headers off tunnelled packets.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use aya::maps::{Map, MapData, PerCpuArray};
use aya::programs::tc::SchedClassifierLink;
use aya::programs::{Program, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};
use pointsman_core::addr::{Address, Be32};
pub use pointsman_core::realserver::{MAX_DIRECTORS, MAX_GUE_PORTS};
use pointsman_core::realserver::{Outcome, mapped};

use crate::attach::{HANDLE, attach_clsact, attach_tcx, drop_link, has_tcx};
use crate::test_run::{Run, run_classifier};
use crate::{Error, Interface, object};

const COUNTERS: &str = "DECAPSULATED";
/// Where the decapsulator sits: before a director.
const DECAPSULATE: Role = Role {
    program: "decapsulate",
    side: TcAttachType::Ingress,
    priority: 49,
};

/// Which tunnelled packets a real server takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accept {
    /// Outer sources; anybody if empty. At most [`MAX_DIRECTORS`].
    pub directors: Vec<IpAddr>,
    /// UDP ports that carry GUE. At most [`MAX_GUE_PORTS`].
    pub gue_ports: Vec<u16>,
}

/// Packets that met the decapsulator, by what became of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// [`Outcome::name`].
    pub name: &'static str,
    /// Packets.
    pub packets: u64,
}

/// The decapsulator, loaded.
pub struct Decapsulator {
    ebpf: Ebpf,
    pins: PathBuf,
}

impl Decapsulator {
    /// Loads it. Its counters are pinned in `pin_dir`, or taken over from there.
    ///
    /// # Errors
    /// `Error::Bpf` when the kernel refuses it.
    ///
    /// # Panics
    /// With more directors or ports than there is room for.
    pub fn load(pin_dir: &Path, accept: &Accept) -> Result<Self, Error> {
        let mut directors = [0u32; 4 * MAX_DIRECTORS];
        for (place, director) in accept.directors.iter().enumerate() {
            let words = match director {
                IpAddr::V4(v4) => mapped(Be32::from_octets(v4.octets())),
                IpAddr::V6(v6) => Address::v6(v6.octets()).0,
            };
            directors[4 * place..][..4].copy_from_slice(&words);
        }
        let mut gue_ports = [0u16; MAX_GUE_PORTS];
        for (place, port) in accept.gue_ports.iter().enumerate() {
            gue_ports[place] = port.to_be();
        }
        let count = accept.directors.len() as u32;
        let mut ebpf = EbpfLoader::new()
            .override_global("DIRECTORS", &directors[..], true)
            .override_global("DIRECTOR_COUNT", &count, true)
            .override_global("GUE_PORTS", &gue_ports[..], true)
            .map_pin_path(COUNTERS, pin_dir.join(COUNTERS))
            .load(object::realserver())
            .map_err(|e| Error::bpf("loading the eBPF object", e))?;
        DECAPSULATE
            .program(&mut ebpf)
            .load()
            .map_err(|e| Error::bpf("loading the decapsulator", e))?;
        let pins = pin_dir.to_owned();
        Ok(Self { ebpf, pins })
    }

    /// Attaches it to an interface of this namespace, in place of what was there.
    ///
    /// # Errors
    /// [`Error::Interface`] when the interface cannot carry it.
    pub fn attach(&mut self, interface: &Interface) -> Result<(), Error> {
        DECAPSULATE.attach(&mut self.ebpf, &self.pins, interface)
    }

    /// Runs it on a packet that came in by interface `ingress` (0: as the kernel likes).
    ///
    /// # Errors
    /// What the kernel refuses, such as a frame under 14 bytes.
    pub fn run(&mut self, packet: &[u8], ingress: u32) -> Result<Run, Error> {
        run_classifier(DECAPSULATE.program(&mut self.ebpf), packet, ingress)
    }

    /// How many instructions the kernel's verifier looked at for each program.
    pub fn verified_instructions(&self) -> Vec<(String, u32)> {
        object::verified_instructions(&self.ebpf)
    }
}

/// What became of packets, since the decapsulator was first loaded with these pins.
///
/// # Errors
/// `Error::Bpf` when the counters cannot be read; they are missing where none was loaded.
pub fn counts(pin_dir: &Path) -> Result<Vec<Count>, Error> {
    let fail = |e: aya::maps::MapError| Error::bpf("reading the decapsulator's counters", e);
    let map = MapData::from_pin(pin_dir.join(COUNTERS)).map_err(fail)?;
    let map = PerCpuArray::<_, u64>::try_from(Map::PerCpuArray(map)).map_err(fail)?;
    let count = |outcome: Outcome| {
        let of_cpus = map.get(&(outcome as u32), 0).map_err(fail)?;
        Ok(Count {
            name: outcome.name(),
            packets: of_cpus.iter().sum(),
        })
    };
    Outcome::COUNTED.into_iter().map(count).collect()
}

/// Names of interfaces it is attached to.
pub fn attached(pin_dir: &Path) -> Vec<String> {
    DECAPSULATE.attached(pin_dir)
}

/// Removes it everywhere.
///
/// # Errors
/// A pin that cannot be removed.
pub fn detach_all(pin_dir: &Path) -> Result<(), Error> {
    DECAPSULATE.detach_all(pin_dir)?;
    let counters = pin_dir.join(COUNTERS);
    match fs::remove_file(&counters) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(Error::os(format!("removing {}", counters.display()), e))
        }
        _ => Ok(()),
    }
}

/// A program of a real server, and its place on interfaces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Role {
    /// Its name in the object, and of pins.
    pub program: &'static str,
    /// Which way packets go.
    pub side: TcAttachType,
    /// Place of the filter on a clsact qdisc.
    pub priority: u16,
}

impl Role {
    /// The program.
    pub fn program(self, ebpf: &mut Ebpf) -> &mut SchedClassifier {
        match ebpf.program_mut(self.program) {
            Some(Program::SchedClassifier(program)) => program,
            _ => unreachable!("the object has it"),
        }
    }

    /// Attaches the loaded program to an interface of this namespace, in place of what was there, so that
    /// it outlives this process. A mark in the pin directory (the pinned link, where the kernel has
    /// tcx) remembers it.
    pub fn attach(self, ebpf: &mut Ebpf, pins: &Path, interface: &Interface) -> Result<(), Error> {
        let pin = self.pin(pins, &interface.name);
        let program = self.program(ebpf);
        if has_tcx() {
            return attach_tcx(program, interface, self.side, &pin);
        }
        attach_clsact(program, interface, self.side, self.priority)?;
        // A filter has no link to pin; the pinned program marks the interface.
        let _ = fs::remove_file(&pin);
        program.pin(&pin).map_err(|e| Error::Interface {
            name: interface.name.clone(),
            reason: format!("pinning the program: {e}"),
        })
    }

    /// Names of interfaces it is attached to.
    pub fn attached(self, pins: &Path) -> Vec<String> {
        let prefix = self.prefix();
        let mut names: Vec<String> = fs::read_dir(pins)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                Some(
                    entry
                        .file_name()
                        .to_str()?
                        .strip_prefix(&prefix)?
                        .to_owned(),
                )
            })
            .collect();
        names.sort();
        names
    }

    /// Removes it everywhere.
    pub fn detach_all(self, pins: &Path) -> Result<(), Error> {
        for name in self.attached(pins) {
            if !has_tcx() {
                // Dropping a filter's link removes it.
                let _ =
                    SchedClassifierLink::attached(&name, self.side, self.priority, HANDLE, None);
            }
            let pin = self.pin(pins, &name);
            drop_link(&pin);
            if pin.exists() {
                let stays = io::ErrorKind::PermissionDenied.into();
                return Err(Error::os(format!("removing {}", pin.display()), stays));
            }
        }
        Ok(())
    }

    fn pin(self, pins: &Path, interface: &str) -> PathBuf {
        pins.join(self.prefix() + interface)
    }

    fn prefix(self) -> String {
        format!("{}-", self.program)
    }
}
