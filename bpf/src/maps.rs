//! The maps, all pinned by user space. Their layout is `pointsman_core::layout`; sizes given here
//! are set anew when they are made.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, ProgramArray, RingBuf};
use pointsman_core::addr::Address;
use pointsman_core::conn::{Hints, Set};
use pointsman_core::director::call;
use pointsman_core::fragment::{FRAGMENTS, FragmentId, RING};
use pointsman_core::layout::{
    CallId, Control, DROP_SLOTS, Egress, LOCALITIES, MAX_CALL_IDS, MAX_EGRESS, MAX_MARK_RULES,
    MAX_SCHEDULE_WORDS, MAX_SERVERS, MAX_SERVICES, MAX_WIDE_LOCALS, MarkRule, Runtime,
    ServerRecord, ServiceId, ServiceRecord, Stats, Wanted, Wide,
};
use pointsman_core::locality;

const BPF_F_NO_PREALLOC: u32 = 1;

/// The one runtime record.
#[map]
pub static RUNTIME: Array<Runtime> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// The connection table, by sets.
#[map]
pub static CONNECTIONS: Array<Set> = Array::with_max_entries(1024, BPF_F_MMAPABLE);
/// What the slots of each set held last.
#[map]
pub static HINTS: Array<Hints> = Array::with_max_entries(1024, BPF_F_MMAPABLE);
/// Addresses of IPv6 slots.
#[map]
pub static WIDE: Array<Wide> = Array::with_max_entries(8192, BPF_F_MMAPABLE);
/// Parents and children of slots.
#[map]
pub static CONTROLS: Array<Control> = Array::with_max_entries(8192, BPF_F_MMAPABLE);
/// What the packet at hand wants, on each CPU.
#[map]
pub static WANTED: Array<Wanted> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// VIP, port, protocol to index of the service; VIPs and addresses of real servers alone, and real servers
/// by NAT with port and protocol.
#[map]
pub static SERVICE_IDS: HashMap<ServiceId, u32> =
    HashMap::with_max_entries(2 * MAX_SERVICES + MAX_SERVERS, BPF_F_NO_PREALLOC);
/// Virtual services.
#[map]
pub static SERVICES: Array<ServiceRecord> = Array::with_max_entries(MAX_SERVICES, BPF_F_MMAPABLE);
/// Real servers.
#[map]
pub static SERVERS: Array<ServerRecord> = Array::with_max_entries(MAX_SERVERS, BPF_F_MMAPABLE);
/// Scheduling tables.
#[map]
pub static SCHEDULES: Array<u64> = Array::with_max_entries(MAX_SCHEDULE_WORDS, BPF_F_MMAPABLE);
/// Local addresses of IPv6, each written once.
#[map]
pub static WIDE_LOCALS: Array<Address> = Array::with_max_entries(MAX_WIDE_LOCALS, BPF_F_MMAPABLE);
/// What lblc and lblcr remember.
#[map]
pub static LOCALITY: Array<locality::Entry> = Array::with_max_entries(LOCALITIES, BPF_F_MMAPABLE);
/// Counters of real servers, a stripe for each CPU.
#[map]
pub static STATS: Array<Stats> = Array::with_max_entries(MAX_SERVERS, BPF_F_MMAPABLE);
/// Counters of drops, a stripe for each CPU.
#[map]
pub static DROPS: Array<u64> = Array::with_max_entries(DROP_SLOTS, BPF_F_MMAPABLE);
/// Native mark rules: the present ones in one half.
#[map]
pub static MARK_RULES: Array<MarkRule> =
    Array::with_max_entries(2 * MAX_MARK_RULES, BPF_F_MMAPABLE);
/// Call-IDs of templates, by slot.
#[map]
pub static CALL_IDS: HashMap<u32, CallId> =
    HashMap::with_max_entries(MAX_CALL_IDS, BPF_F_NO_PREALLOC);
/// Interfaces to leave by.
#[map]
pub static EGRESS: Array<Egress> = Array::with_max_entries(MAX_EGRESS, BPF_F_MMAPABLE);
/// Interface index to index in `EGRESS`.
#[map]
pub static EGRESS_IDS: HashMap<u32, u32> = HashMap::with_max_entries(MAX_EGRESS, BPF_F_NO_PREALLOC);

/// Ports of fragmented packets.
#[map]
pub static FRAGMENT_PORTS: LruHashMap<FragmentId, u64> = LruHashMap::with_max_entries(FRAGMENTS, 0);

/// Fragments that came before their first one, on their way to user space.
#[map]
pub static FRAGMENTS_HELD: RingBuf = RingBuf::with_byte_size(RING, 0);

/// The parts of the director on XDP, which call each other.
#[map]
pub static XDP_PROGRAMS: ProgramArray = ProgramArray::with_max_entries(call::PROGRAMS, 0);
/// The parts of the director on TC.
#[map]
pub static TC_PROGRAMS: ProgramArray = ProgramArray::with_max_entries(call::PROGRAMS, 0);
