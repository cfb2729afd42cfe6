//! Tables, clock and routes as the core asks for them, the same for every hook.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_get_smp_processor_id, bpf_jiffies64};
use pointsman_core::addr::{Address, Be32};
use pointsman_core::conn::{self, Hash, Hints, Key, Set, Word};
use pointsman_core::connect;
use pointsman_core::forward::fullnat::Plan;
use pointsman_core::fragment::FragmentId;
use pointsman_core::host::{Host, Packet, Route, Tables};
use pointsman_core::layout::{
    CallId, Control, DROP_SLOTS, Egress, MAX_SERVERS, MarkRule, NextHop, Runtime, Schedule,
    ServerRecord, ServiceId, ServiceRecord, Stats, Wanted, Wide,
};
use pointsman_core::next_hop::Refreshed;
use pointsman_core::wire::sctp;
use pointsman_core::{
    ftp, local, locality, mark, open, outgoing, overload, persist, rare, reuse, sched, sip, track,
};

use crate::maps::{
    CALL_IDS, CONNECTIONS, CONTROLS, DROPS, EGRESS, EGRESS_IDS, FRAGMENT_PORTS, HINTS, LOCALITY,
    MARK_RULES, RUNTIME, SCHEDULES, SERVERS, SERVICE_IDS, SERVICES, STATS, WANTED, WIDE,
    WIDE_LOCALS,
};
use crate::route;

/// Sets in the connection table minus one; set when the programs are loaded.
#[unsafe(no_mangle)]
static SET_MASK: Global<u32> = Global::new(1023);

/// What differs between XDP and TC.
pub trait Context {
    /// See [`Host::HANDS_UP`].
    const HANDS_UP: bool;
    /// The context pointer helpers want.
    fn raw(&self) -> *mut c_void;
    /// Interface the frame came in by.
    fn ingress(&self) -> u32;
    /// Firewall mark, 0 where there is none yet.
    fn mark(&self) -> u32;
    /// True when the frame was sent to this host.
    fn is_for_us(&self) -> bool;
    /// See [`Host::wrap_apart`].
    fn wrap(&self, l3: u32, server: u32) -> Option<()>;
    /// See [`Host::plan_apart`].
    fn plan(&self, slot: u32, mtu: u32) -> u64;
    /// See [`Host::edit_apart`].
    fn edit(&self, plan: u64) -> bool;
    /// See [`Host::cross_apart`].
    fn cross(&self, slot: u32) -> bool;
    /// [`pointsman_core::next_hop::refresh`] in a stack frame of its own.
    fn refresh(
        ctx: *mut c_void,
        index: u32,
        tag: u64,
        epoch: u32,
        found: &mut MaybeUninit<Refreshed>,
    );
}

/// The host that an eBPF program is to the core.
pub struct Kernel<'a, C>(pub &'a C);

impl<C> Tables for Kernel<'_, C> {
    #[inline(always)]
    fn runtime(&self) -> Option<*mut Runtime> {
        RUNTIME.get_ptr_mut(0)
    }

    #[inline(always)]
    fn now(&self) -> u32 {
        // SAFETY: the helper takes nothing.
        unsafe { bpf_jiffies64() as u32 }
    }

    #[inline(always)]
    fn set_mask(&self) -> u32 {
        SET_MASK.load()
    }

    #[inline(always)]
    fn set(&self, index: u32) -> Option<*mut Set> {
        CONNECTIONS.get_ptr_mut(index)
    }

    #[inline(always)]
    fn hints(&self, set: u32) -> Option<*mut Hints> {
        HINTS.get_ptr_mut(set)
    }

    #[inline(always)]
    fn wide(&self, slot: u32) -> Option<*mut Wide> {
        WIDE.get_ptr_mut(slot)
    }

    #[inline(always)]
    fn control(&self, slot: u32) -> Option<*mut Control> {
        CONTROLS.get_ptr_mut(slot)
    }

    #[inline(always)]
    fn wanted(&self) -> Option<*mut Wanted> {
        WANTED.get_ptr_mut(cpu())
    }

    #[inline(always)]
    fn service_index(&self, id: &ServiceId) -> Option<u32> {
        // SAFETY: values are only ever inserted and removed, never changed.
        unsafe { SERVICE_IDS.get(id).copied() }
    }

    #[inline(always)]
    fn service(&self, index: u32) -> Option<*mut ServiceRecord> {
        SERVICES.get_ptr_mut(index)
    }

    #[inline(always)]
    fn server(&self, index: u32) -> Option<*mut ServerRecord> {
        SERVERS.get_ptr_mut(index)
    }

    #[inline(always)]
    fn schedule_word(&self, index: u32) -> Option<u64> {
        // SAFETY: the pointer is into the map.
        SCHEDULES
            .get_ptr(index)
            .map(|word| unsafe { word.read_volatile() })
    }

    #[inline(always)]
    fn wide_local(&self, index: u32) -> Option<*const Address> {
        WIDE_LOCALS.get_ptr(index)
    }

    #[inline(always)]
    fn locality(&self, index: u32) -> Option<*mut locality::Entry> {
        LOCALITY.get_ptr_mut(index)
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: the helper takes nothing.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn stats(&self, server: u32) -> Option<*mut Stats> {
        STATS.get_ptr_mut(cpu().wrapping_mul(MAX_SERVERS).wrapping_add(server))
    }

    #[inline(always)]
    fn mark_rule(&self, index: u32) -> Option<*const MarkRule> {
        MARK_RULES.get_ptr(index)
    }

    #[inline(always)]
    fn egress(&self, index: u16) -> Option<*const Egress> {
        EGRESS.get_ptr(u32::from(index))
    }

    #[inline(always)]
    fn cpu(&self) -> u32 {
        cpu()
    }

    #[inline(always)]
    fn fragment(&self, id: &FragmentId) -> Option<u64> {
        // SAFETY: a value is a word, read as one.
        unsafe { FRAGMENT_PORTS.get(id).copied() }
    }

    #[inline(always)]
    fn set_fragment(&self, id: &FragmentId, value: u64) {
        let _ = FRAGMENT_PORTS.insert(id, value, 0);
    }

    #[inline(always)]
    fn set_call_id(&self, slot: u32, id: &CallId) {
        let _ = CALL_IDS.insert(slot, id, 0);
    }

    #[inline(always)]
    fn count(&self, place: u32) {
        count(place);
    }

    #[inline(always)]
    fn search_apart(&self, hash: Hash, key: &Key, now: u32, but: u32) -> u32 {
        let ports = u64::from(key.ports) | u64::from(key.proto) << 32;
        pm_search(hash.0, key.addresses, ports, now, but)
    }

    #[inline(always)]
    fn attempt_apart(&self, server: u32) -> u32 {
        pm_attempt(server)
    }

    #[inline(always)]
    fn local_apart(&self, server: u32) -> u32 {
        pm_local(server)
    }

    #[inline(always)]
    fn claim_apart(&self, hash: Hash, now: u32) -> u32 {
        pm_claim(hash.0, now)
    }

    #[inline(always)]
    fn free_apart(&self, set: u32, first: u32, now: u32) -> u32 {
        pm_free(set, first, now)
    }

    #[inline(always)]
    fn evictable_apart(&self, set: u32, now: u32) -> u64 {
        pm_evictable(set, now)
    }

    #[inline(always)]
    fn take_apart(&self, index: u32) -> bool {
        pm_take(index) != 0
    }

    #[inline(always)]
    fn schedule_apart(&self, service: u32) -> u32 {
        pm_schedule(service)
    }

    #[inline(always)]
    fn segment_apart(&self, schedule: Schedule, place: u32) -> u32 {
        pm_segment(schedule.0, place)
    }

    #[inline(always)]
    fn reached_apart(&self, schedule: Schedule, weight: u32) -> u32 {
        pm_reached(schedule.0, weight)
    }

    #[inline(always)]
    fn eligible_apart(&self, from: u32, to: u32) -> u32 {
        pm_eligible(from, to)
    }

    #[inline(always)]
    fn least_apart(&self, schedule: Schedule) -> u32 {
        pm_least(schedule.0)
    }

    #[inline(always)]
    fn stride_apart(&self, schedule: Schedule, first: u32, best: u32) -> u32 {
        pm_stride(schedule.0, first, best)
    }

    #[inline(always)]
    fn pass_over_apart(&self, schedule: Schedule, place: u32, heaviest: u32) -> u32 {
        pm_pass_over(schedule.0, place, heaviest)
    }

    #[inline(always)]
    fn weights_apart(&self, schedule: Schedule) -> u64 {
        pm_weights(schedule.0)
    }

    #[inline(always)]
    fn drawn_apart(&self, schedule: Schedule, draw: u64) -> u32 {
        pm_drawn(schedule.0, draw)
    }

    #[inline(always)]
    fn any_usable_apart(&self, schedule: Schedule) -> bool {
        pm_any_usable(schedule.0) != 0
    }

    #[inline(always)]
    fn try_others_apart(&self, schedule: Schedule, hashed: u32, begin: u32) -> u32 {
        pm_try_others(schedule.0, hashed, begin)
    }

    #[inline(always)]
    fn half_idle_apart(&self, schedule: Schedule, first: u32) -> bool {
        pm_half_idle(schedule.0, first) != 0
    }

    #[inline(always)]
    fn lblc_apart(&self, service: u32, schedule: Schedule) -> u32 {
        pm_lblc(service, schedule.0)
    }

    #[inline(always)]
    fn lblcr_apart(&self, service: u32, schedule: Schedule) -> u32 {
        pm_lblcr(service, schedule.0)
    }

    #[inline(always)]
    fn least_busy_apart(&self, service: u32, entry: u32) -> u32 {
        pm_least_busy(service, entry)
    }

    #[inline(always)]
    fn busiest_apart(&self, service: u32, entry: u32) -> u32 {
        pm_busiest(service, entry)
    }

    #[inline(always)]
    fn find_apart(&self, service: u32) -> u32 {
        pm_find(service)
    }

    #[inline(always)]
    fn add_apart(&self, service: u32) -> u32 {
        pm_add(service)
    }

    #[inline(always)]
    fn evaluate_apart(&self, server: u32) {
        pm_evaluate(server);
    }

    #[inline(always)]
    fn kill_apart(&self, index: u32, tag: u64) -> bool {
        pm_kill(index, tag) != 0
    }

    #[inline(always)]
    fn change_apart(&self, index: u32, tag: u64, event: u8) -> u8 {
        pm_change(index, tag, event.into()) as u8
    }

    #[inline(always)]
    fn service_apart(&self, mark: u32) -> u32 {
        pm_service(mark)
    }

    #[inline(always)]
    fn mark_apart(&self) -> u32 {
        pm_mark()
    }

    #[inline(always)]
    fn choose_apart(&self, service: u32, probed: u32) -> u32 {
        pm_choose(service, probed)
    }

    #[inline(always)]
    fn wildcard_apart(&self) -> u32 {
        pm_wildcard()
    }

    #[inline(always)]
    fn call_id_apart(&self, len: u32) -> u32 {
        pm_call_id(len)
    }

    #[inline(always)]
    fn sender_apart(&self) -> u32 {
        pm_sender()
    }

    #[inline(always)]
    fn outgoing_apart(&self, server: u32) -> bool {
        pm_outgoing(server) != 0
    }

    #[inline(always)]
    fn unread_apart(&self, tag: u64) -> bool {
        pm_unread(tag) != 0
    }

    #[inline(always)]
    fn ftp_apart(&self, slot: u32, tag: u64, len: u32) -> u64 {
        pm_ftp(slot, tag, len)
    }

    #[inline(always)]
    fn template_apart(&self, server: u32) -> u32 {
        pm_template(server)
    }

    #[inline(always)]
    fn connect_apart(&self, server: u32, hop: NextHop, epoch: u32, from_here: bool) -> u32 {
        let mtu = u32::from(hop.mtu) | u32::from(from_here) << 16;
        pm_connect(server, hop.way, mtu, epoch)
    }

    #[inline(always)]
    fn reply_apart(&self, server: u32, word: Word, partner: u32) -> u32 {
        pm_reply(server, word.0, partner)
    }

    #[inline(always)]
    fn fill_apart(&self, slot: u32, partner: u32, server: u32, word: Word) -> bool {
        pm_fill(slot, partner, server, word.0) != 0
    }

    #[inline(always)]
    fn known_apart(&self, kind: u8) -> bool {
        pm_known(kind.into()) != 0
    }

    #[inline(always)]
    fn reuse_apart(&self, index: u32, tag: u64) -> bool {
        pm_reuse(index, tag) != 0
    }
}

impl<C: Context> Host for Kernel<'_, C> {
    const HANDS_UP: bool = C::HANDS_UP;

    #[inline(always)]
    fn ingress(&self) -> u32 {
        self.0.ingress()
    }

    #[inline(always)]
    fn is_for_us(&self) -> bool {
        self.0.is_for_us()
    }

    #[inline(always)]
    fn mark(&self) -> u32 {
        self.0.mark()
    }

    #[inline(always)]
    fn route(&self, destination: Be32) -> Route {
        route::lookup(self.0.raw(), destination)
    }

    #[inline(always)]
    fn mtu(&self, ifindex: u32) -> u16 {
        // SAFETY: the pointer is into the map.
        match egress_of(ifindex).map(|(_, egress)| unsafe { (*egress).mtu }) {
            Some(mtu @ 1..=0xffff) => mtu as u16,
            _ => u16::MAX,
        }
    }

    #[inline(always)]
    fn route_wide(&self, destination: *const Address) -> Route {
        route::lookup_wide(self.0.raw(), destination)
    }

    #[inline(always)]
    fn wrap_apart<P: Packet>(&self, _packet: &mut P, l3: usize, server: u32) -> Option<()> {
        self.0.wrap(l3 as u32, server)
    }

    #[inline(always)]
    fn plan_apart<P: Packet>(&self, _packet: &P, slot: u32, mtu: u16) -> Plan {
        Plan(self.0.plan(slot, mtu.into()))
    }

    #[inline(always)]
    fn edit_apart<P: Packet>(&self, _packet: &mut P, plan: Plan) -> Option<()> {
        self.0.edit(plan.0).then_some(())
    }

    #[inline(always)]
    fn cross_apart<P: Packet>(&self, _packet: &mut P, slot: u32) -> Option<()> {
        self.0.cross(slot).then_some(())
    }

    #[inline(always)]
    fn refresh_apart(&self, index: u32, tag: u64, epoch: u32) -> Refreshed {
        let mut found = MaybeUninit::uninit();
        C::refresh(self.0.raw(), index, tag, epoch, &mut found);
        // SAFETY: refresh() writes the whole of it.
        unsafe { found.assume_init() }
    }
}

/// Tables without a packet.
const BARE: Kernel<'static, ()> = Kernel(&());

// What is off the way of established packets runs in functions of their own, which the linker makes
// global: the verifier looks at each once, not once for every path to it, and each has a stack frame
// of its own. They take scalars, of which it needs to know nothing.

/// [`conn::search`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_search(hash: u64, addresses: u64, ports: u64, now: u32, but: u32) -> u32 {
    conn::search(
        &BARE,
        Hash(hash),
        &Key {
            addresses,
            ports: ports as u32,
            proto: (ports >> 32) as u8,
        },
        now,
        but,
    )
}

/// [`local::attempt`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_attempt(server: u32) -> u32 {
    local::attempt(&BARE, server)
}

/// [`local::pick`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_local(server: u32) -> u32 {
    local::pick(&BARE, server)
}

/// [`conn::claim`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_claim(hash: u64, now: u32) -> u32 {
    conn::claim(&BARE, Hash(hash), now)
}

/// [`conn::free`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_free(set: u32, first: u32, now: u32) -> u32 {
    conn::free(&BARE, set, first, now)
}

/// [`conn::evictable`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_evictable(set: u32, now: u32) -> u64 {
    conn::evictable(&BARE, set, now)
}

/// [`conn::take`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_take(index: u32) -> u32 {
    conn::take(&BARE, index).into()
}

/// [`sched::schedule`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_schedule(service: u32) -> u32 {
    sched::schedule(&BARE, service)
}

/// [`sched::wrr::segment`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_segment(schedule: u64, place: u32) -> u32 {
    sched::wrr::segment(&BARE, Schedule(schedule), place)
}

/// [`sched::wrr::reached`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_reached(schedule: u64, weight: u32) -> u32 {
    sched::wrr::reached(&BARE, Schedule(schedule), weight)
}

/// [`sched::first_eligible`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_eligible(from: u32, to: u32) -> u32 {
    sched::first_eligible(&BARE, from, to)
}

/// [`sched::least::best`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_least(schedule: u64) -> u32 {
    sched::least::best(&BARE, Schedule(schedule))
}

/// [`sched::least::stride`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_stride(schedule: u64, first: u32, best: u32) -> u32 {
    sched::least::stride(&BARE, Schedule(schedule), first, best)
}

/// [`sched::wrr::pass_over`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_pass_over(schedule: u64, place: u32, heaviest: u32) -> u32 {
    sched::wrr::pass_over(&BARE, Schedule(schedule), place, heaviest)
}

/// [`sched::twos::weights`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_weights(schedule: u64) -> u64 {
    sched::twos::weights(&BARE, Schedule(schedule))
}

/// [`sched::twos::drawn`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_drawn(schedule: u64, draw: u64) -> u32 {
    sched::twos::drawn(&BARE, Schedule(schedule), draw)
}

/// [`sched::mh::any_usable`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_any_usable(schedule: u64) -> u32 {
    sched::mh::any_usable(&BARE, Schedule(schedule)).into()
}

/// [`sched::mh::try_others`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_try_others(schedule: u64, hashed: u32, begin: u32) -> u32 {
    sched::mh::try_others(&BARE, Schedule(schedule), hashed, begin)
}

/// [`sched::lblc::half_idle_among`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_half_idle(schedule: u64, first: u32) -> u32 {
    sched::lblc::half_idle_among(&BARE, Schedule(schedule), first).into()
}

/// [`sched::lblc::choose`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_lblc(service: u32, schedule: u64) -> u32 {
    sched::lblc::choose(&BARE, service, Schedule(schedule))
}

/// [`sched::lblcr::choose`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_lblcr(service: u32, schedule: u64) -> u32 {
    sched::lblcr::choose(&BARE, service, Schedule(schedule))
}

/// [`sched::lblcr::least_busy`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_least_busy(service: u32, entry: u32) -> u32 {
    sched::lblcr::least_busy(&BARE, service, entry)
}

/// [`sched::lblcr::busiest`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_busiest(service: u32, entry: u32) -> u32 {
    sched::lblcr::busiest(&BARE, service, entry)
}

/// [`locality::find`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_find(service: u32) -> u32 {
    locality::find(&BARE, service)
}

/// [`locality::add`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_add(service: u32) -> u32 {
    locality::add(&BARE, service)
}

/// [`overload::evaluate`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_evaluate(server: u32) -> u32 {
    overload::evaluate(&BARE, server);
    0
}

/// [`conn::kill`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_kill(index: u32, tag: u64) -> u32 {
    conn::kill(&BARE, index, tag).into()
}

/// [`track::change`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_change(index: u32, tag: u64, event: u32) -> u32 {
    track::change(&BARE, index, tag, event as u8).into()
}

/// [`open::find_service`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_service(mark: u32) -> u32 {
    open::find_service(&BARE, mark)
}

/// [`mark::mark_of`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_mark() -> u32 {
    mark::mark_of(&BARE)
}

/// [`open::choose`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_choose(service: u32, probed: u32) -> u32 {
    open::choose(&BARE, service, probed)
}

/// [`open::take_wildcard`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_wildcard() -> u32 {
    open::take_wildcard(&BARE)
}

/// [`sip::scan`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_call_id(len: u32) -> u32 {
    sip::scan(&BARE, len)
}

/// [`outgoing::sender`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_sender() -> u32 {
    outgoing::sender(&BARE)
}

/// [`outgoing::want`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_outgoing(server: u32) -> u32 {
    outgoing::want(&BARE, server).into()
}

/// [`ftp::is_unread`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_unread(tag: u64) -> u32 {
    ftp::is_unread(&BARE, tag).into()
}

/// [`ftp::act`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_ftp(slot: u32, tag: u64, len: u32) -> u64 {
    ftp::act(&BARE, slot, tag, len)
}

/// [`persist::make_template`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_template(server: u32) -> u32 {
    persist::make_template(&BARE, server)
}

/// [`connect::connect`]; `mtu` has whether the client is on the director in bit 16.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_connect(server: u32, way: u64, mtu: u32, epoch: u32) -> u32 {
    let hop = NextHop::new(way, mtu as u16);
    connect::connect(&BARE, server, hop, epoch, mtu >> 16 != 0).0
}

/// [`connect::make_reply`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_reply(server: u32, word: u32, partner: u32) -> u32 {
    connect::make_reply(&BARE, server, Word(word), partner)
}

/// [`connect::fill_request`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_fill(slot: u32, partner: u32, server: u32, word: u32) -> u32 {
    connect::fill_request(&BARE, slot, partner, server, Word(word)).into()
}

/// [`rare::is_known`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_known(kind: u32) -> u32 {
    rare::is_known(&BARE, kind as u8).into()
}

/// [`reuse::gives_way`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn pm_reuse(index: u32, tag: u64) -> u32 {
    reuse::gives_way(&BARE, index, tag).into()
}

/// [`sctp::checksum_change`].
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn pm_sctp_change(old: u32, new: u32, len: u32) -> u32 {
    sctp::checksum_change(old, new, len)
}

/// The entry of an interface among those to leave by, and its number; which mostly is the interface's.
#[inline(always)]
pub fn egress_of(ifindex: u32) -> Option<(u32, *const Egress)> {
    // SAFETY: the pointer is into the map.
    match EGRESS.get_ptr(ifindex) {
        Some(egress) if unsafe { (*egress).ifindex } == ifindex => Some((ifindex, egress)),
        _ => {
            // SAFETY: values are only ever inserted and removed, never changed.
            let index = unsafe { EGRESS_IDS.get(ifindex).copied() }?;
            Some((index, EGRESS.get_ptr(index)?))
        }
    }
}

/// Number of this CPU.
#[inline(always)]
pub fn cpu() -> u32 {
    // SAFETY: the helper takes nothing.
    unsafe { bpf_get_smp_processor_id() }
}

#[inline(always)]
fn count(slot: u32) {
    if let Some(counter) = DROPS.get_ptr_mut(cpu().wrapping_mul(DROP_SLOTS).wrapping_add(slot)) {
        // SAFETY: this CPU's counter.
        unsafe { *counter = (*counter).wrapping_add(1) };
    }
}
