//! The shared tables as user space sees them, and user space as a host of the core.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};

use pointsman_core::addr::Address;
use pointsman_core::conn::{Hints, Set};
use pointsman_core::drop::Drop;
use pointsman_core::fragment::{FRAGMENTS, FragmentId};
use pointsman_core::host;
use pointsman_core::layout::{
    CallId, Control, DROP_SLOTS, Egress, LOCALITIES, MAX_EGRESS, MAX_MARK_RULES,
    MAX_SCHEDULE_WORDS, MAX_SERVERS, MAX_SERVICES, MAX_WIDE_LOCALS, MarkRule, Runtime,
    ServerRecord, ServiceId, ServiceRecord, Stats, WAYS, Wanted, Wide,
};
use pointsman_core::locality;

use crate::memory::Mapped;

/// What user space notes about one server or service; no program reads it, but it is pinned with the
/// rest so that counters outlive the daemon.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Ledger {
    /// Totals at the last zeroing: conns, packets in and out, bytes in and out.
    pub zero: [u64; 5],
    /// Of a service: totals of servers it no longer has. Of all: totals that no service has any more.
    pub folded: [u64; 5],
}

/// Entries of the ledger: servers first, then services, then one for all of them.
pub const LEDGER_LEN: u32 = MAX_SERVERS + MAX_SERVICES + 1;

/// A map of small integers that programs look up by hash.
pub trait Ids<K, V = u32>: Send {
    /// Adds an entry.
    ///
    /// # Errors
    /// The map is full.
    fn insert(&mut self, key: K, value: V) -> Result<(), String>;
    /// Removes an entry.
    fn remove(&mut self, key: &K);
    /// Looks an entry up.
    fn get(&self, key: &K) -> Option<V>;
    /// The keys there are.
    fn keys(&self) -> Vec<K>;
}

impl<K: std::hash::Hash + Eq + Copy + Send, V: Copy + Send> Ids<K, V> for HashMap<K, V> {
    fn insert(&mut self, key: K, value: V) -> Result<(), String> {
        Self::insert(self, key, value);
        Ok(())
    }
    fn remove(&mut self, key: &K) {
        Self::remove(self, key);
    }
    fn get(&self, key: &K) -> Option<V> {
        Self::get(self, key).copied()
    }
    fn keys(&self) -> Vec<K> {
        Self::keys(self).copied().collect()
    }
}

/// All shared tables.
pub struct Maps {
    /// One record.
    pub runtime: Mapped<Runtime>,
    /// The connection table.
    pub connections: Mapped<Set>,
    /// Hints of its sets.
    pub hints: Mapped<Hints>,
    /// Addresses of IPv6 slots.
    pub wide: Mapped<Wide>,
    /// Parents and children of slots.
    pub controls: Mapped<Control>,
    /// What the packet at hand wants, on each CPU.
    pub wanted: Mapped<Wanted>,
    /// Virtual services.
    pub services: Mapped<ServiceRecord>,
    /// Real servers.
    pub servers: Mapped<ServerRecord>,
    /// Scheduling tables.
    pub schedules: Mapped<u64>,
    /// Local addresses of IPv6, each written once.
    pub wide_locals: Mapped<Address>,
    /// What lblc and lblcr remember.
    pub locality: Mapped<locality::Entry>,
    /// Counters, a stripe for each CPU.
    pub stats: Mapped<Stats>,
    /// Drop counters, a stripe for each CPU, and one for user space.
    pub drops: Mapped<u64>,
    /// Native mark rules, in two halves.
    pub mark_rules: Mapped<MarkRule>,
    /// Interfaces to leave by.
    pub egress: Mapped<Egress>,
    /// User space's notes.
    pub ledger: Mapped<Ledger>,
    /// VIP, port, protocol to service.
    pub service_ids: Box<dyn Ids<ServiceId>>,
    /// Interface index to egress entry.
    pub egress_ids: Box<dyn Ids<u32>>,
    /// Call-IDs of templates, by slot.
    pub call_ids: RefCell<Box<dyn Ids<u32, CallId>>>,
    /// What user space as a host remembers of fragments; programs have a map of their own.
    pub fragments: RefCell<HashMap<FragmentId, u64>>,
    /// Jiffies of now.
    pub clock: Box<dyn Fn() -> u32 + Send>,
}

impl Maps {
    /// Tables without a kernel, for tests: one CPU, `sets` sets, time standing at `clock`.
    pub fn in_memory(sets: u32, clock: Box<dyn Fn() -> u32 + Send>) -> Self {
        let maps = Self {
            runtime: Mapped::in_memory(1),
            connections: Mapped::in_memory(sets.next_power_of_two() + THREADS),
            hints: Mapped::in_memory(sets.next_power_of_two()),
            wide: Mapped::in_memory((sets.next_power_of_two() + THREADS) * WAYS),
            controls: Mapped::in_memory((sets.next_power_of_two() + THREADS) * WAYS),
            wanted: Mapped::in_memory(THREADS),
            services: Mapped::in_memory(MAX_SERVICES),
            servers: Mapped::in_memory(MAX_SERVERS),
            schedules: Mapped::in_memory(MAX_SCHEDULE_WORDS),
            wide_locals: Mapped::in_memory(MAX_WIDE_LOCALS),
            locality: Mapped::in_memory(LOCALITIES),
            stats: Mapped::in_memory(MAX_SERVERS),
            drops: Mapped::in_memory(2 * DROP_SLOTS),
            mark_rules: Mapped::in_memory(2 * MAX_MARK_RULES),
            egress: Mapped::in_memory(MAX_EGRESS),
            ledger: Mapped::in_memory(LEDGER_LEN),
            service_ids: Box::new(HashMap::new()),
            egress_ids: Box::new(HashMap::new()),
            call_ids: RefCell::new(Box::new(HashMap::new())),
            fragments: RefCell::default(),
            clock,
        };
        maps.runtime.write(0, super::fresh_runtime(1, 250, [1, 2]));
        maps
    }

    /// CPUs the counters are striped for.
    pub fn cpus(&self) -> u32 {
        self.stats.len() / MAX_SERVERS
    }

    /// Counts a packet that user space gave up, where no program counts.
    pub fn count_own(&self, reason: Drop) {
        self.count_on(self.drops.len() / DROP_SLOTS - 1, reason as u32);
    }

    fn count_on(&self, stripe: u32, place: u32) {
        if let Some(counter) = self.drops.at(stripe * DROP_SLOTS + place) {
            // SAFETY: at() checked the bounds.
            unsafe { *counter += 1 };
        }
    }
}

/// Threads that may be hosts of the core at once: what CPUs are to programs.
const THREADS: u32 = 64;

/// A number of the calling thread's own, as long as there are not too many.
fn thread() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    thread_local! {
        static OWN: u32 = NEXT.fetch_add(1, Ordering::Relaxed) % THREADS;
    }
    OWN.with(|own| *own)
}

impl host::Tables for Maps {
    fn runtime(&self) -> Option<*mut Runtime> {
        self.runtime.at(0)
    }
    fn now(&self) -> u32 {
        (self.clock)()
    }
    fn set_mask(&self) -> u32 {
        self.hints.len() - 1
    }
    fn set(&self, index: u32) -> Option<*mut Set> {
        self.connections.at(index)
    }
    fn hints(&self, set: u32) -> Option<*mut Hints> {
        self.hints.at(set)
    }
    fn wide(&self, slot: u32) -> Option<*mut Wide> {
        self.wide.at(slot)
    }
    fn control(&self, slot: u32) -> Option<*mut Control> {
        self.controls.at(slot)
    }
    fn wanted(&self) -> Option<*mut Wanted> {
        self.wanted.at(thread())
    }
    fn service_index(&self, id: &ServiceId) -> Option<u32> {
        self.service_ids.get(id)
    }
    fn service(&self, index: u32) -> Option<*mut ServiceRecord> {
        self.services.at(index)
    }
    fn server(&self, index: u32) -> Option<*mut ServerRecord> {
        self.servers.at(index)
    }
    fn schedule_word(&self, index: u32) -> Option<u64> {
        self.schedules.read(index)
    }
    fn wide_local(&self, index: u32) -> Option<*const Address> {
        self.wide_locals.at(index).map(<*mut Address>::cast_const)
    }
    fn locality(&self, index: u32) -> Option<*mut locality::Entry> {
        self.locality.at(index)
    }
    fn random(&self) -> u32 {
        // Each has a new key.
        RandomState::new().build_hasher().finish() as u32
    }
    fn stats(&self, server: u32) -> Option<*mut Stats> {
        self.stats.at(server)
    }
    fn mark_rule(&self, index: u32) -> Option<*const MarkRule> {
        self.mark_rules.at(index).map(<*mut MarkRule>::cast_const)
    }
    fn egress(&self, index: u16) -> Option<*const Egress> {
        self.egress
            .at(u32::from(index))
            .map(<*mut Egress>::cast_const)
    }
    fn cpu(&self) -> u32 {
        thread()
    }
    fn fragment(&self, id: &FragmentId) -> Option<u64> {
        self.fragments.borrow().get(id).copied()
    }
    fn set_fragment(&self, id: &FragmentId, value: u64) {
        let mut fragments = self.fragments.borrow_mut();
        if fragments.len() >= FRAGMENTS as usize {
            fragments.clear();
        }
        fragments.insert(*id, value);
    }
    fn set_call_id(&self, slot: u32, id: &CallId) {
        let _ = self.call_ids.borrow_mut().insert(slot, *id);
    }
    fn count(&self, place: u32) {
        self.count_on(0, place);
    }
}
