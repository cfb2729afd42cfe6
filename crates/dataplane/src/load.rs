//! Loading programs, making or adopting maps.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use aya::maps::{MapData, ProgramArray};
use aya::programs::{Program, ProgramFd, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};
use pointsman_core::director::call;
use pointsman_core::drop::Drop;
use pointsman_core::host::Tables as _;
use pointsman_core::layout::{DROP_SLOTS, MAX_SERVERS, Runtime, VERSION, WAYS};

use crate::attach::{self, Attached};
use crate::fragments::Fragments;
use crate::memory::Mapped;
use crate::tables::Tables;
use crate::test_run::Entry;
use crate::{Attachment, DropCount, Error, Hook, HookChoice, Interface, object, pinned};

/// The maps of the object that are pinned.
const MAPS: [&str; 20] = [
    "RUNTIME",
    "CONNECTIONS",
    "HINTS",
    "WIDE",
    "CONTROLS",
    "WANTED",
    "SERVICE_IDS",
    "SERVICES",
    "SERVERS",
    "SCHEDULES",
    "WIDE_LOCALS",
    "LOCALITY",
    "STATS",
    "DROPS",
    "MARK_RULES",
    "CALL_IDS",
    "EGRESS",
    "EGRESS_IDS",
    "XDP_PROGRAMS",
    "TC_PROGRAMS",
];
/// The map only user space writes.
pub(crate) const LEDGER: &str = "LEDGER";

/// The programs that call each other, with their places in the program arrays.
const XDP: [(u32, &str); call::PROGRAMS as usize] = [
    (call::DIRECTOR, "director_xdp"),
    (call::NARROW, "narrow_xdp"),
    (call::WIDE, "wide_xdp"),
    (call::OPEN, "open_xdp"),
    (call::UNREACHABLE, "unreachable_xdp"),
    (call::RARE, "rare_xdp"),
    (call::RARE_WIDE, "rare_wide_xdp"),
    (call::RARE_FLOW, "rare_flow_xdp"),
    (call::RARE_FLOW_WIDE, "rare_flow_wide_xdp"),
    (call::ONE_PACKET, "one_packet_xdp"),
    (call::ONE_PACKET_WIDE, "one_packet_wide_xdp"),
    (call::FTP, "ftp_xdp"),
    (call::FTP_WIDE, "ftp_wide_xdp"),
    (call::FULLNAT, "fullnat_xdp"),
    (call::FULLNAT_WIDE, "fullnat_wide_xdp"),
];
const TC: [(u32, &str); call::PROGRAMS as usize] = [
    (call::DIRECTOR, "director_tc"),
    (call::NARROW, "narrow_tc"),
    (call::WIDE, "wide_tc"),
    (call::OPEN, "open_tc"),
    (call::UNREACHABLE, "unreachable_tc"),
    (call::RARE, "rare_tc"),
    (call::RARE_WIDE, "rare_wide_tc"),
    (call::RARE_FLOW, "rare_flow_tc"),
    (call::RARE_FLOW_WIDE, "rare_flow_wide_tc"),
    (call::ONE_PACKET, "one_packet_tc"),
    (call::ONE_PACKET_WIDE, "one_packet_wide_tc"),
    (call::FTP, "ftp_tc"),
    (call::FTP_WIDE, "ftp_wide_tc"),
    (call::FULLNAT, "fullnat_tc"),
    (call::FULLNAT_WIDE, "fullnat_wide_tc"),
];
/// TC egress.
const OUT: &str = "director_out";
/// Answers with the jiffies of now.
pub(crate) const CLOCK: &str = "clock";
/// The program that frames are put back with.
const PUT_BACK: &str = "put_back";

/// The programs of one hook, which call each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Programs {
    /// Those of XDP.
    Xdp,
    /// Those of TC, ingress and egress.
    Tc,
}

impl Programs {
    /// The map that holds them, and who stands where in it.
    fn array(self) -> (&'static str, [(u32, &'static str); call::PROGRAMS as usize]) {
        match self {
            Self::Xdp => ("XDP_PROGRAMS", XDP),
            Self::Tc => ("TC_PROGRAMS", TC),
        }
    }

    /// Those that no program calls.
    fn others(self) -> &'static [&'static str] {
        match self {
            Self::Xdp => &[],
            Self::Tc => &[OUT],
        }
    }
}

/// Sizes fixed when the maps are made.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Slots of the connection table; rounded up to a power of two. `None`: from memory.
    pub connection_slots: Option<u32>,
}

/// The kernel side of a director in the calling thread's network namespace.
pub struct DataPlane {
    ebpf: Ebpf,
    loaded: Vec<Programs>,
    pins: PathBuf,
    adopted: bool,
    tables: Tables,
    attached: Attached,
    fragments: Fragments,
}

impl DataPlane {
    /// Makes the maps, or adopts those pinned in `pin_dir`. Programs that balance are loaded by
    /// [`DataPlane::load`] or when an interface needs them, and then replace those of an earlier director.
    ///
    /// # Errors
    /// [`Error::Unsupported`] on kernels that lack something, [`Error::Layout`] for pins of another
    /// version; [`Error::Os`] for anything else.
    pub fn open(pin_dir: &Path, options: &Options) -> Result<Self, Error> {
        check_kernel()?;
        let adopted = pin_dir.join("RUNTIME").exists();
        let sets = if adopted {
            adopted_sets(pin_dir)?
        } else {
            fresh_sets(options)
        };
        let cpus = aya::util::nr_cpus()
            .map_err(|(file, e)| Error::os(format!("counting CPUs in {file}"), e))?
            as u32;
        let set_mask = sets - 1;
        let mut loader = EbpfLoader::new();
        loader
            .override_global("SET_MASK", &set_mask, true)
            .map_max_entries("CONNECTIONS", sets + cpus)
            .map_max_entries("HINTS", sets)
            .map_max_entries("WIDE", (sets + cpus) * WAYS)
            .map_max_entries("CONTROLS", (sets + cpus) * WAYS)
            .map_max_entries("WANTED", cpus)
            .map_max_entries("STATS", cpus * MAX_SERVERS)
            .map_max_entries("DROPS", (cpus + 1) * DROP_SLOTS);
        for name in MAPS {
            loader.map_pin_path(name, pin_dir.join(name));
        }
        let mut ebpf = loader
            .load(object::director())
            .map_err(|e| Error::bpf("loading the eBPF object", e))?;
        for name in [CLOCK, PUT_BACK] {
            load_program(&mut ebpf, name)?;
        }
        let maps = pinned::open(&mut ebpf, pin_dir, sets, cpus)?;
        let fragments = Fragments::open(&mut ebpf)?;
        Ok(Self {
            fragments,
            attached: Attached::adopt(pin_dir),
            ebpf,
            loaded: Vec::new(),
            pins: pin_dir.to_owned(),
            adopted,
            tables: Tables::new(maps),
        })
    }

    /// True when pinned maps were adopted.
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// Loads the programs of a hook, unless they are. The kernel's verifier takes seconds for those of
    /// either, so that a director without an interface for XDP does without XDP's.
    ///
    /// # Errors
    /// [`Error::Unsupported`] on kernels that lack something, [`Error::Os`] for anything else.
    pub fn load(&mut self, programs: Programs) -> Result<(), Error> {
        if !self.loaded.contains(&programs) {
            load_programs(&mut self.ebpf, programs)?;
            self.loaded.push(programs);
        }
        Ok(())
    }

    /// The programs of both hooks.
    pub fn programs() -> impl Iterator<Item = &'static str> {
        let places = XDP.iter().chain(&TC).map(|(_, name)| *name);
        places.chain([OUT])
    }

    /// Loads one program by itself and tells how many instructions the verifier looked at. For tests:
    /// [`DataPlane::load`] cannot follow.
    ///
    /// # Errors
    /// What the kernel has against it.
    pub fn load_one(&mut self, name: &str) -> Result<u32, Error> {
        load_program(&mut self.ebpf, name)?;
        let counts = self.verified_instructions();
        let count = counts.into_iter().find(|(of, _)| of == name);
        Ok(count.map_or(0, |(_, count)| count))
    }

    /// Attaches to an interface, or replaces the programs on it. Idempotent.
    ///
    /// # Errors
    /// [`Error::Interface`] when it is gone or cannot carry the programs.
    pub fn attach(
        &mut self,
        interface: &Interface,
        choice: HookChoice,
    ) -> Result<Attachment, Error> {
        self.load(Programs::Tc)?;
        if attach::wish(interface, choice).0 {
            self.load(Programs::Xdp)?;
        }
        let attachment = self.attached.attach(&mut self.ebpf, interface, choice)?;
        self.tables
            .set_xdp(interface.index, attachment.hook == Hook::XdpNative);
        Ok(attachment)
    }

    /// Forgets an interface that is gone, or detaches from one that stays.
    pub fn detach(&mut self, index: u32) {
        self.tables.set_xdp(index, false);
        self.attached.detach(index);
    }

    /// What is attached where, by interface index.
    pub fn attachments(&self) -> Vec<Attachment> {
        self.attached.list()
    }

    /// Tables: the IPVS operations.
    pub fn tables(&mut self) -> &mut Tables {
        &mut self.tables
    }

    /// Packets dropped, by reason; with `all` also the reasons that never occurred.
    pub fn drops(&self, all: bool) -> Vec<DropCount> {
        self.tables.drops(all)
    }

    /// Detaches everything and removes every pin.
    ///
    /// # Errors
    /// A pin that cannot be removed.
    pub fn remove(mut self) -> Result<(), Error> {
        self.attached.detach_all();
        for name in MAPS.into_iter().chain([LEDGER]) {
            let pin = self.pins.join(name);
            match fs::remove_file(&pin) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::os(format!("removing {}", pin.display()), e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What becomes readable when there are fragments for [`DataPlane::take_fragments`].
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn fragments_readable(&self) -> Result<OwnedFd, Error> {
        self.fragments
            .readable()
            .map_err(|e| Error::os("copying a descriptor", e))
    }

    /// Takes in fragments that came before the first one of their packet.
    pub fn take_fragments(&mut self) {
        let lost = self.fragments.take_in();
        self.give_up(lost);
    }

    /// When [`DataPlane::put_fragments_back`] is to be called; `None` while no fragment is kept.
    pub fn fragments_due(&self) -> Option<Instant> {
        self.fragments.due()
    }

    /// Puts fragments back on their interfaces whose first one has come meanwhile. To be called in the
    /// network namespace of the programs.
    pub fn put_fragments_back(&mut self) {
        let maps = self.tables.maps();
        let hz = maps.runtime.read(0).map_or(1, |r| r.hz);
        let Some(Program::Xdp(through)) = self.ebpf.program(PUT_BACK) else {
            return;
        };
        let lost = self.fragments.put_back(through, maps.now(), hz);
        self.give_up(lost);
    }

    /// Removes every connection and template, what is known of fragmented packets, and the servers that
    /// only connections still referred to.
    pub fn clear_connections(&mut self) {
        self.tables.clear_connections();
        self.tables.sweep();
        let lost = self.fragments.clear();
        self.give_up(lost);
    }

    fn give_up(&self, fragments: u64) {
        for _ in 0..fragments {
            self.tables.maps().count_own(Drop::Fragment);
        }
    }

    /// How many instructions the kernel's verifier looked at for each program.
    pub fn verified_instructions(&self) -> Vec<(String, u32)> {
        object::verified_instructions(&self.ebpf)
    }

    /// A program that packets meet first, for a harness to call.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn program(&self, entry: Entry) -> Result<ProgramFd, Error> {
        let fd = match entry {
            Entry::Xdp => self.xdp(entry::XDP)?.fd(),
            Entry::TcIngress => self.classifier(entry::TC)?.fd(),
            Entry::TcEgress => self.classifier(entry::OUT)?.fd(),
        };
        fd.map_err(|e| Error::bpf("using a program", e))?
            .try_clone()
            .map_err(|e| Error::os("copying a descriptor", e))
    }

    pub(crate) fn xdp(&self, name: &str) -> Result<&Xdp, Error> {
        match self.ebpf.program(name) {
            Some(Program::Xdp(program)) => Ok(program),
            _ => Err(missing(name)),
        }
    }

    pub(crate) fn classifier(&self, name: &str) -> Result<&SchedClassifier, Error> {
        classifier(&self.ebpf, name)
    }
}

/// Names of the programs packets meet first.
pub(crate) mod entry {
    pub(crate) const XDP: &str = super::XDP[0].1;
    pub(crate) const TC: &str = super::TC[0].1;
    pub(crate) const OUT: &str = super::OUT;
}

pub(crate) fn missing(what: &str) -> Error {
    Error::os(
        format!("looking for {what} in the eBPF object"),
        io::ErrorKind::NotFound.into(),
    )
}

pub(crate) fn classifier<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a SchedClassifier, Error> {
    match ebpf.program(name) {
        Some(Program::SchedClassifier(program)) => Ok(program),
        _ => Err(missing(name)),
    }
}

fn check_kernel() -> Result<(), Error> {
    let version = aya::util::KernelVersion::current()
        .map_err(|e| Error::bpf("reading the kernel's version", e))?;
    if version < aya::util::KernelVersion::new(6, 1, 0) {
        return Err(Error::Unsupported {
            what: "the eBPF features of the data plane".into(),
            since: "6.1".into(),
        });
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Err(Error::Unsupported {
            what: "type information (CONFIG_DEBUG_INFO_BTF, /sys/kernel/btf/vmlinux)".into(),
            since: "a kernel built with it".into(),
        });
    }
    Ok(())
}

/// Sets of a connection table already pinned, after checking that its layout is ours.
fn adopted_sets(pin_dir: &Path) -> Result<u32, Error> {
    let open = |name: &str| {
        let pin = pin_dir.join(name);
        MapData::from_pin(&pin).map_err(|e| Error::bpf(format!("opening {}", pin.display()), e))
    };
    let runtime = open("RUNTIME")?;
    let found = if info(&runtime)?.0 as usize == size_of::<Runtime>() {
        let runtime: Mapped<Runtime> =
            Mapped::of_map(runtime.fd().as_fd(), 1).map_err(|e| Error::os("mapping RUNTIME", e))?;
        runtime.read(0).map_or(0, |r| r.version)
    } else {
        0
    };
    if found != VERSION {
        return Err(Error::Layout {
            dir: pin_dir.display().to_string(),
            found,
            wanted: VERSION,
        });
    }
    Ok(info(&open("HINTS")?)?.1)
}

/// Value size and entries of a map.
pub(crate) fn info(map: &MapData) -> Result<(u32, u32), Error> {
    let info = map
        .info()
        .map_err(|e| Error::bpf("asking about a pinned map", e))?;
    Ok((info.value_size(), info.max_entries()))
}

/// By default a 256th of the machine's memory, between 4 and 512 MiB.
fn fresh_sets(options: &Options) -> u32 {
    const SLOT: u64 = 64;
    let slots = options.connection_slots.unwrap_or_else(|| {
        // SAFETY: plain queries.
        let (pages, size) = unsafe {
            (
                libc::sysconf(libc::_SC_PHYS_PAGES),
                libc::sysconf(libc::_SC_PAGESIZE),
            )
        };
        let memory = pages.max(0) as u64 * size.max(0) as u64;
        let bytes = (memory / 256).clamp(4 << 20, 512 << 20);
        (bytes / SLOT + 1).next_power_of_two() as u32 / 2
    });
    slots.div_ceil(WAYS).next_power_of_two().clamp(2, 1 << 26)
}

fn load_program(ebpf: &mut Ebpf, name: &str) -> Result<(), Error> {
    let loaded = match ebpf.program_mut(name) {
        Some(Program::Xdp(program)) => program.load(),
        Some(Program::SchedClassifier(program)) => program.load(),
        _ => return Err(missing(name)),
    };
    loaded.map_err(|e| Error::bpf(format!("loading the program {name}"), e))
}

fn load_programs(ebpf: &mut Ebpf, programs: Programs) -> Result<(), Error> {
    let (array, places) = programs.array();
    for name in places.iter().map(|(_, name)| name).chain(programs.others()) {
        load_program(ebpf, name)?;
    }
    let map = ebpf.take_map(array).ok_or_else(|| missing(array))?;
    let mut array =
        ProgramArray::try_from(map).map_err(|e| Error::bpf("opening a program array", e))?;
    for (place, name) in places {
        let fd = match ebpf.program(name) {
            Some(Program::Xdp(program)) => program.fd(),
            Some(Program::SchedClassifier(program)) => program.fd(),
            _ => return Err(missing(name)),
        }
        .map_err(|e| Error::bpf(format!("using the program {name}"), e))?;
        array
            .set(place, fd, 0)
            .map_err(|e| Error::bpf("filling a program array", e))?;
    }
    Ok(())
}
