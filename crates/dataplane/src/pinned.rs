//! The kernel's maps as the tables see them: arrays in memory, hash maps by calls.

use std::cell::RefCell;
use std::hash::Hash;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;

use aya::maps::{Array, HashMap, Map, MapData};
use aya::{Ebpf, Pod};
use pointsman_core::layout::{
    CallId, DROP_SLOTS, LOCALITIES, MAX_EGRESS, MAX_MARK_RULES, MAX_SCHEDULE_WORDS, MAX_SERVERS,
    MAX_SERVICES, MAX_WIDE_LOCALS, Runtime, ServiceId, WAYS,
};

use crate::Error;
use crate::clock;
use crate::load::{CLOCK, LEDGER, classifier, info, missing};
use crate::memory::Mapped;
use crate::tables::fresh_runtime;
use crate::tables::maps::{Ids, LEDGER_LEN, Ledger, Maps};

const BPF_F_MMAPABLE: u32 = 1 << 10;

/// All of them: made and pinned when the programs' object was loaded, or found there.
///
/// # Errors
/// When one is not what this version expects.
pub(crate) fn open(ebpf: &mut Ebpf, pin_dir: &Path, sets: u32, cpus: u32) -> Result<Maps, Error> {
    let runtime: Mapped<Runtime> = mapped(ebpf, "RUNTIME", 1)?;
    let clock = classifier(ebpf, CLOCK)?;
    let mut hz = runtime.read(0).map_or(0, |r| r.hz);
    if hz == 0 {
        hz = clock::measure_hz(clock)?;
        runtime.write(0, fresh_runtime(cpus, hz, random_seed()?));
    }
    // Jiffies follow the monotonic clock: read together once, the one gives the other.
    let (at, jiffies) = (Instant::now(), clock::jiffies(clock)?);
    let now = move || {
        let ticks = at.elapsed().as_nanos() * u128::from(hz) / 1_000_000_000;
        jiffies.wrapping_add(ticks as u32)
    };
    Ok(Maps {
        runtime,
        connections: mapped(ebpf, "CONNECTIONS", sets + cpus)?,
        hints: mapped(ebpf, "HINTS", sets)?,
        wide: mapped(ebpf, "WIDE", (sets + cpus) * WAYS)?,
        controls: mapped(ebpf, "CONTROLS", (sets + cpus) * WAYS)?,
        wanted: mapped(ebpf, "WANTED", cpus)?,
        services: mapped(ebpf, "SERVICES", MAX_SERVICES)?,
        servers: mapped(ebpf, "SERVERS", MAX_SERVERS)?,
        schedules: mapped(ebpf, "SCHEDULES", MAX_SCHEDULE_WORDS)?,
        wide_locals: mapped(ebpf, "WIDE_LOCALS", MAX_WIDE_LOCALS)?,
        locality: mapped(ebpf, "LOCALITY", LOCALITIES)?,
        stats: mapped(ebpf, "STATS", cpus * MAX_SERVERS)?,
        drops: mapped(ebpf, "DROPS", (cpus + 1) * DROP_SLOTS)?,
        mark_rules: mapped(ebpf, "MARK_RULES", 2 * MAX_MARK_RULES)?,
        egress: mapped(ebpf, "EGRESS", MAX_EGRESS)?,
        ledger: ledger(pin_dir)?,
        service_ids: Box::new(hash::<ServiceKeyBytes, u32>(ebpf, "SERVICE_IDS")?),
        egress_ids: Box::new(hash::<u32, u32>(ebpf, "EGRESS_IDS")?),
        call_ids: RefCell::new(Box::new(hash::<u32, CallIdBytes>(ebpf, "CALL_IDS")?)),
        fragments: RefCell::default(),
        clock: Box::new(now),
    })
}

fn random_seed() -> Result<[u64; 2], Error> {
    let mut seed = [0u64; 2];
    // SAFETY: the buffer is as long as stated.
    let got = unsafe { libc::getrandom((&raw mut seed).cast(), size_of_val(&seed), 0) };
    if got != size_of_val(&seed) as isize {
        return Err(Error::os(
            "drawing a random seed",
            io::Error::last_os_error(),
        ));
    }
    Ok(seed)
}

fn mapped<T>(ebpf: &Ebpf, name: &str, len: u32) -> Result<Mapped<T>, Error> {
    let Some(Map::Array(map)) = ebpf.map(name) else {
        return Err(missing(name));
    };
    let (value, entries) = info(map)?;
    if value as usize != size_of::<T>() || entries != len {
        return Err(Error::os(
            format!(
                "map {name} holds {entries} values of {value} bytes, not {len} of {}",
                size_of::<T>()
            ),
            io::ErrorKind::InvalidData.into(),
        ));
    }
    Mapped::of_map(map.fd().as_fd(), len).map_err(|e| Error::os(format!("mapping {name}"), e))
}

/// The ledger is no program's: it is made, pinned and adopted here.
fn ledger(pin_dir: &Path) -> Result<Mapped<Ledger>, Error> {
    let pin = pin_dir.join(LEDGER);
    let fail = |e: &dyn std::fmt::Display| {
        Error::os(
            format!("making {}", pin.display()),
            io::Error::other(e.to_string()),
        )
    };
    let data = if pin.exists() {
        MapData::from_pin(&pin).map_err(|e| fail(&e))?
    } else {
        let array: Array<MapData, LedgerBytes> =
            Array::create(LEDGER_LEN, BPF_F_MMAPABLE).map_err(|e| fail(&e))?;
        array.pin(&pin).map_err(|e| fail(&e))?;
        MapData::from_pin(&pin).map_err(|e| fail(&e))?
    };
    Mapped::of_map(data.fd().as_fd(), LEDGER_LEN).map_err(|e| Error::os("mapping LEDGER", e))
}

/// A ledger entry as the eBPF library wants values: plain bytes.
type LedgerBytes = [u64; 10];
const _: () = assert!(size_of::<LedgerBytes>() == size_of::<Ledger>());

/// A service key as the eBPF library wants keys.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct ServiceKeyBytes(ServiceId);

// SAFETY: twenty bytes without padding, any bits are valid.
unsafe impl Pod for ServiceKeyBytes {}

/// A Call-ID as the eBPF library wants values.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct CallIdBytes(CallId);

// SAFETY: 264 bytes without padding, any bits are valid.
unsafe impl Pod for CallIdBytes {}

struct KernelIds<K: Pod, V: Pod = u32>(HashMap<MapData, K, V>);

fn hash<K: Pod, V: Pod>(ebpf: &mut Ebpf, name: &str) -> Result<KernelIds<K, V>, Error> {
    let map = ebpf.take_map(name).ok_or_else(|| missing(name))?;
    let map = HashMap::try_from(map).map_err(|e| Error::bpf(format!("opening {name}"), e))?;
    Ok(KernelIds(map))
}

impl<K: Pod, V: Pod> KernelIds<K, V> {
    fn put(&mut self, key: K, value: V) -> Result<(), String> {
        self.0.insert(key, value, 0).map_err(|e| e.to_string())
    }
}

impl Ids<u32> for KernelIds<u32> {
    fn insert(&mut self, key: u32, value: u32) -> Result<(), String> {
        self.put(key, value)
    }
    fn remove(&mut self, key: &u32) {
        let _ = self.0.remove(key);
    }
    fn get(&self, key: &u32) -> Option<u32> {
        self.0.get(key, 0).ok()
    }
    fn keys(&self) -> Vec<u32> {
        self.0.keys().flatten().collect()
    }
}

impl Ids<u32, CallId> for KernelIds<u32, CallIdBytes> {
    fn insert(&mut self, key: u32, value: CallId) -> Result<(), String> {
        self.put(key, CallIdBytes(value))
    }
    fn remove(&mut self, key: &u32) {
        let _ = self.0.remove(key);
    }
    fn get(&self, key: &u32) -> Option<CallId> {
        self.0.get(key, 0).ok().map(|id| id.0)
    }
    fn keys(&self) -> Vec<u32> {
        self.0.keys().flatten().collect()
    }
}

impl Ids<ServiceId> for KernelIds<ServiceKeyBytes> {
    fn insert(&mut self, key: ServiceId, value: u32) -> Result<(), String> {
        self.put(ServiceKeyBytes(key), value)
    }
    fn remove(&mut self, key: &ServiceId) {
        let _ = self.0.remove(&ServiceKeyBytes(*key));
    }
    fn get(&self, key: &ServiceId) -> Option<u32> {
        self.0.get(&ServiceKeyBytes(*key), 0).ok()
    }
    fn keys(&self) -> Vec<ServiceId> {
        self.0.keys().flatten().map(|key| key.0).collect()
    }
}
