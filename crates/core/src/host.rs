//! What the core needs of the world it runs in. XDP, TC and user space each provide it.

use crate::addr::{Address, Be32};
use crate::conn::{self, Hash, Hints, Key, Set, Word};
use crate::connect;
use crate::drop::Drop;
use crate::forward::client;
use crate::forward::cross;
use crate::forward::fullnat::{self, Plan};
use crate::forward::nat;
use crate::forward::tunnel;
use crate::fragment::FragmentId;
use crate::ftp;
use crate::icmp;
use crate::inner::Version;
use crate::layout::{
    CallId, Control, Egress, MarkRule, NextHop, Runtime, Schedule, ServerRecord, ServiceId,
    ServiceRecord, Stats, Wanted, Wide,
};
use crate::local;
use crate::locality;
use crate::mark;
use crate::next_hop::{self, Refreshed};
use crate::open;
use crate::outgoing;
use crate::overload;
use crate::persist;
use crate::rare;
use crate::reuse;
use crate::sched;
use crate::sip;
use crate::track;
use crate::wire::checksum::{self, Diff, Pseudo};
use crate::wire::icmp4::Message;
use crate::wire::{ethernet, sctp};

/// What lies between outer and inner header of a tunnelled packet, as far as a kernel that cuts
/// aggregates into segments has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// Nothing.
    Ip,
    /// A UDP header, and perhaps more.
    Udp,
    /// A GRE header.
    Gre,
}

/// One frame, from the Ethernet header on.
///
/// Offsets beyond the readable part give `None`; nothing panics.
pub trait Packet: Sized {
    /// Bytes of the whole frame.
    fn len(&self) -> u32;

    /// True for a frame without bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the bytes of a `T` lie, at any alignment, until the packet is reshaped.
    fn pointer<T>(&self, at: usize) -> Option<*mut T>;

    /// Copies a value out. `T` must be plain: any bits are a valid `T`.
    #[inline(always)]
    fn read<T: Copy>(&self, at: usize) -> Option<T> {
        // SAFETY: pointer() checked the bounds.
        self.pointer::<T>(at).map(|p| unsafe { get(p) })
    }

    /// Copies a value in.
    #[inline(always)]
    fn write<T: Copy>(&mut self, at: usize, value: T) -> Option<()> {
        // SAFETY: pointer() checked the bounds.
        self.pointer::<T>(at).map(|p| unsafe { put(p, value) })
    }

    /// Copies `len` bytes from `at` on, wherever in the packet they lie; false when they are not all
    /// there.
    ///
    /// # Safety
    /// There is room for 1 to 511 bytes, which is what `len` may be, at `to`.
    #[inline(always)]
    unsafe fn load(&self, at: usize, to: *mut u8, len: usize) -> bool {
        (0..len).all(|i| match self.read::<u8>(at + i) {
            Some(byte) => {
                // SAFETY: passed on to the caller.
                unsafe { to.add(i).write(byte) };
                true
            }
            None => false,
        })
    }

    /// Copies `len` bytes into the packet, from `at` on; false when there is no room for all.
    ///
    /// # Safety
    /// There are 1 to 511 bytes, which is what `len` may be, at `from`.
    #[inline(always)]
    unsafe fn store(&mut self, at: usize, from: *const u8, len: usize) -> bool {
        // SAFETY: passed on to the caller.
        (0..len).all(|i| self.write(at + i, unsafe { from.add(i).read() }).is_some())
    }

    /// Updates the transport checksum at `at`: `addresses` changed in the pseudo header, `ports` in
    /// the transport header. With `optional` (UDP) a zero checksum stays zero.
    ///
    /// As here where the checksum is whole; a host whose checksums may be unfinished does it its way.
    #[inline(always)]
    fn update_checksum(
        &mut self,
        at: usize,
        addresses: Diff,
        ports: Diff,
        optional: bool,
    ) -> Option<()> {
        let old = self.read::<u16>(at)?;
        if optional && old == 0 {
            return Some(());
        }
        self.change_checksum(at, old, addresses.and(ports), optional)
    }

    /// Writes what a whole checksum `old` at `at` becomes by a change. With `optional` (UDP) it is not zero, which
    /// would mean that there is none.
    #[inline(always)]
    fn change_checksum(&mut self, at: usize, old: u16, change: Diff, optional: bool) -> Option<()> {
        let new = change.apply(old);
        self.write(at, if optional && new == 0 { 0xffff } else { new })
    }

    /// As [`Packet::update_checksum`], told all about the pseudo header: by it a host knows whole checksums from
    /// unfinished ones. Of a packet whose transport header follows the IP header.
    #[inline(always)]
    fn update_checksum_under(
        &mut self,
        at: usize,
        pseudo: Pseudo,
        ports: Diff,
        optional: bool,
    ) -> Option<()> {
        self.update_checksum(at, pseudo.change, ports, optional)
    }

    /// Says that the sum of all bytes from the IP header on has changed, to whoever keeps it.
    #[inline(always)]
    fn sum_changed(&mut self, _change: Diff) {}

    /// Keeps a later fragment back until the first one has come; false when it cannot.
    #[inline(always)]
    fn hold(&mut self) -> bool {
        false
    }

    /// One's-complement sum of the `len` bytes at `at`, wherever they lie; an odd one out is padded
    /// with zero.
    ///
    /// As here where every byte is at hand; a host whose packets come in pieces does it its way.
    #[inline(always)]
    fn sum(&self, at: usize, len: u32) -> Option<u32> {
        let (mut sum, end) = (0, at + len as usize);
        for word in (at..end.wrapping_sub(1)).step_by(2) {
            sum = checksum::add(sum, self.read::<u16>(word)?.into());
        }
        if !len.is_multiple_of(2) {
            sum = checksum::add(sum, u16::from_ne_bytes([self.read(end - 1)?, 0]).into());
        }
        Some(sum)
    }

    /// Largest IP packet this frame will be on the wire: more than one for an aggregate (GSO).
    #[inline(always)]
    fn largest_datagram(&self, total_len: u16, _headers: u16) -> u16 {
        total_len
    }

    /// True for a packet that will be longer than so many bytes on the wire, or an aggregate of some that will.
    #[inline(always)]
    fn exceeds(&self, total_len: u16, headers: u16, mtu: u16) -> bool {
        total_len > mtu && self.largest_datagram(total_len, headers) > mtu
    }

    /// True for an aggregate of segments (GSO), each of which will get checksums of its own.
    #[inline(always)]
    fn is_aggregate(&self) -> bool {
        false
    }

    /// Has the whole aggregate come in once more, and cuts this frame of it to `len` bytes, which is no
    /// aggregate then. `None` where there are no aggregates.
    #[inline(always)]
    fn split_off(&mut self, _len: u32) -> Option<()> {
        None
    }

    /// Makes room for `len` bytes at `l3`, where the caller will write a header of version `outer`
    /// and the `shell`. The EtherType stays as it is.
    fn push(&mut self, l3: usize, len: usize, outer: Version, shell: Shell) -> Option<()>;

    /// As [`Packet::push`], of a frame without tags, whose link-layer header the caller will write, too.
    #[inline(always)]
    fn make_room(&mut self, len: usize, outer: Version, shell: Shell) -> Option<()> {
        self.push(ethernet::LEN, len, outer, shell)
    }

    /// Makes room for `bytes` (28 or 48) at `l3` and cuts the frame to `len` bytes after that.
    fn reshape(&mut self, l3: usize, bytes: u32, len: u32) -> Option<()>;

    /// Makes `len` bytes of room at `at`, behind the headers that lie before it; offsets before `at` stay what
    /// they are. Not for aggregates.
    ///
    /// # Safety
    /// `scratch` points to [`crate::layout::TEXT`] bytes.
    unsafe fn insert(&mut self, at: usize, len: u32, scratch: *mut u8) -> Option<()>;

    /// Replaces the `old` bytes of headers at `l3` by room for `new` bytes of the version `to`. The EtherType
    /// stays as it is.
    fn rehead(&mut self, l3: usize, old: u32, new: u32, to: Version) -> Option<()>;

    /// [`client::option`], in a stack frame of its own.
    #[inline(always)]
    fn option_apart(&mut self, header: u32, at: u32, plan: u64) -> u32 {
        client::option(self, header, at, plan)
    }

    /// [`sctp::checksum_change`], in a stack frame of its own.
    #[inline(always)]
    fn sctp_change_apart(&self, old: u32, new: u32, len: u32) -> u32 {
        sctp::checksum_change(old, new, len)
    }

    /// [`nat::sctp_ports`], in a stack frame of its own.
    #[inline(always)]
    fn sctp_ports_apart(
        &mut self,
        l3: usize,
        l4: usize,
        total_len: u16,
        new_ports: u32,
    ) -> Option<()> {
        nat::sctp_ports(self, l3, l4, total_len, new_ports)
    }

    /// [`icmp::answer`], in a stack frame of its own.
    #[inline(always)]
    fn answer_apart(&mut self, l3: usize, message: Message) -> Option<()> {
        icmp::answer(self, l3, message)
    }

    /// [`icmp::answer_wide`], in a stack frame of its own.
    #[inline(always)]
    fn answer_wide_apart(&mut self, l3: usize, message: Message) -> Option<()> {
        icmp::answer_wide(self, l3, message)
    }
}

/// Reads a value at any alignment.
///
/// # Safety
/// The bytes are there, and any bits are a valid `T`.
#[inline(always)]
pub unsafe fn get<T: Copy>(at: *const T) -> T {
    // Where the kernel runs eBPF, packets may be read at any alignment; a read declared unaligned would
    // become one load for each byte.
    #[cfg(target_arch = "bpf")]
    // SAFETY: passed on to the caller.
    unsafe {
        at.read()
    }
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: passed on to the caller.
    unsafe {
        at.read_unaligned()
    }
}

/// Writes a value at any alignment.
///
/// # Safety
/// The bytes are there.
#[inline(always)]
pub unsafe fn put<T: Copy>(at: *mut T, value: T) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: passed on to the caller.
    unsafe {
        at.write(value);
    }
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: passed on to the caller.
    unsafe {
        at.write_unaligned(value);
    }
}

/// The answer to "which way to this address?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Resolved, or the director itself.
    Resolved(NextHop),
    /// The way is known, the neighbour not: `(interface, next hop address)`.
    Unresolved(u32, Be32),
    /// The way is known, the neighbour not: its IPv6 address is in [`Wanted::next`].
    UnresolvedWide(u32),
    /// None.
    Unreachable,
}

/// What tables and clock a program shares with user space, whatever its hook.
///
/// The `*_apart` methods are the core's own functions, called in a stack frame of their own where a
/// host's stack is small: they are off the way of established packets.
pub trait Tables {
    /// The shared runtime record.
    fn runtime(&self) -> Option<*mut Runtime>;
    /// Now, in jiffies (wrapping).
    fn now(&self) -> u32;
    /// Sets in the connection table minus one (a power of two minus one).
    fn set_mask(&self) -> u32;
    /// A set of the connection table.
    fn set(&self, index: u32) -> Option<*mut Set>;
    /// The hints of a set.
    fn hints(&self, set: u32) -> Option<*mut Hints>;
    /// The addresses of an IPv6 slot.
    fn wide(&self, slot: u32) -> Option<*mut Wide>;
    /// Whose child a slot is, and how many it has.
    fn control(&self, slot: u32) -> Option<*mut Control>;
    /// What the packet at hand wants.
    fn wanted(&self) -> Option<*mut Wanted>;
    /// Index of a service.
    fn service_index(&self, id: &ServiceId) -> Option<u32>;
    /// A service.
    fn service(&self, index: u32) -> Option<*mut ServiceRecord>;
    /// A real server.
    fn server(&self, index: u32) -> Option<*mut ServerRecord>;
    /// A word of the scheduling tables.
    fn schedule_word(&self, index: u32) -> Option<u64>;
    /// An IPv6 address that FULLNAT has in a client's place; one that stays while the maps do.
    fn wide_local(&self, index: u32) -> Option<*const Address>;
    /// Number of this CPU.
    fn cpu(&self) -> u32;
    /// An entry of what lblc and lblcr remember.
    fn locality(&self, index: u32) -> Option<*mut locality::Entry>;
    /// A random number.
    fn random(&self) -> u32;
    /// This CPU's counters of a real server.
    fn stats(&self, server: u32) -> Option<*mut Stats>;
    /// What [`crate::fragment`] remembers of a packet's first fragment.
    fn fragment(&self, id: &FragmentId) -> Option<u64>;
    /// Remembers it.
    fn set_fragment(&self, id: &FragmentId, value: u64);
    /// Remembers the Call-ID of the template in a slot. It lies in the maps.
    fn set_call_id(&self, slot: u32, id: &CallId);
    /// A native mark rule.
    fn mark_rule(&self, index: u32) -> Option<*const MarkRule>;
    /// An interface to leave by.
    fn egress(&self, index: u16) -> Option<*const Egress>;
    /// Counts one more of what [`crate::layout`] has a place for among the drops.
    fn count(&self, place: u32);
    /// Counts a dropped packet.
    #[inline(always)]
    fn count_drop(&self, reason: Drop) {
        self.count(reason as u32);
    }

    /// [`conn::search`].
    #[inline(always)]
    fn search_apart(&self, hash: Hash, key: &Key, now: u32, but: u32) -> u32
    where
        Self: Sized,
    {
        conn::search(self, hash, key, now, but)
    }
    /// [`local::attempt`].
    #[inline(always)]
    fn attempt_apart(&self, server: u32) -> u32
    where
        Self: Sized,
    {
        local::attempt(self, server)
    }
    /// [`local::pick`].
    #[inline(always)]
    fn local_apart(&self, server: u32) -> u32
    where
        Self: Sized,
    {
        local::pick(self, server)
    }
    /// [`conn::claim`].
    #[inline(always)]
    fn claim_apart(&self, hash: Hash, now: u32) -> u32
    where
        Self: Sized,
    {
        conn::claim(self, hash, now)
    }
    /// [`conn::free`].
    #[inline(always)]
    fn free_apart(&self, set: u32, first: u32, now: u32) -> u32
    where
        Self: Sized,
    {
        conn::free(self, set, first, now)
    }
    /// [`conn::evictable`].
    #[inline(always)]
    fn evictable_apart(&self, set: u32, now: u32) -> u64
    where
        Self: Sized,
    {
        conn::evictable(self, set, now)
    }
    /// [`conn::take`].
    #[inline(always)]
    fn take_apart(&self, index: u32) -> bool
    where
        Self: Sized,
    {
        conn::take(self, index)
    }
    /// [`sched::schedule`].
    #[inline(always)]
    fn schedule_apart(&self, service: u32) -> u32
    where
        Self: Sized,
    {
        sched::schedule(self, service)
    }
    /// [`sched::wrr::segment`].
    #[inline(always)]
    fn segment_apart(&self, schedule: Schedule, place: u32) -> u32
    where
        Self: Sized,
    {
        sched::wrr::segment(self, schedule, place)
    }
    /// [`sched::wrr::reached`].
    #[inline(always)]
    fn reached_apart(&self, schedule: Schedule, weight: u32) -> u32
    where
        Self: Sized,
    {
        sched::wrr::reached(self, schedule, weight)
    }
    /// [`sched::first_eligible`].
    #[inline(always)]
    fn eligible_apart(&self, from: u32, to: u32) -> u32
    where
        Self: Sized,
    {
        sched::first_eligible(self, from, to)
    }
    /// [`sched::least::best`].
    #[inline(always)]
    fn least_apart(&self, schedule: Schedule) -> u32
    where
        Self: Sized,
    {
        sched::least::best(self, schedule)
    }
    /// [`sched::least::stride`].
    #[inline(always)]
    fn stride_apart(&self, schedule: Schedule, first: u32, best: u32) -> u32
    where
        Self: Sized,
    {
        sched::least::stride(self, schedule, first, best)
    }
    /// [`sched::wrr::pass_over`].
    #[inline(always)]
    fn pass_over_apart(&self, schedule: Schedule, place: u32, heaviest: u32) -> u32
    where
        Self: Sized,
    {
        sched::wrr::pass_over(self, schedule, place, heaviest)
    }
    /// [`sched::twos::weights`].
    #[inline(always)]
    fn weights_apart(&self, schedule: Schedule) -> u64
    where
        Self: Sized,
    {
        sched::twos::weights(self, schedule)
    }
    /// [`sched::twos::drawn`].
    #[inline(always)]
    fn drawn_apart(&self, schedule: Schedule, draw: u64) -> u32
    where
        Self: Sized,
    {
        sched::twos::drawn(self, schedule, draw)
    }
    /// [`sched::mh::any_usable`].
    #[inline(always)]
    fn any_usable_apart(&self, schedule: Schedule) -> bool
    where
        Self: Sized,
    {
        sched::mh::any_usable(self, schedule)
    }
    /// [`sched::mh::try_others`].
    #[inline(always)]
    fn try_others_apart(&self, schedule: Schedule, hashed: u32, begin: u32) -> u32
    where
        Self: Sized,
    {
        sched::mh::try_others(self, schedule, hashed, begin)
    }
    /// [`sched::lblc::half_idle_among`].
    #[inline(always)]
    fn half_idle_apart(&self, schedule: Schedule, first: u32) -> bool
    where
        Self: Sized,
    {
        sched::lblc::half_idle_among(self, schedule, first)
    }
    /// [`sched::lblc::choose`].
    #[inline(always)]
    fn lblc_apart(&self, service: u32, schedule: Schedule) -> u32
    where
        Self: Sized,
    {
        sched::lblc::choose(self, service, schedule)
    }
    /// [`sched::lblcr::choose`].
    #[inline(always)]
    fn lblcr_apart(&self, service: u32, schedule: Schedule) -> u32
    where
        Self: Sized,
    {
        sched::lblcr::choose(self, service, schedule)
    }
    /// [`sched::lblcr::least_busy`].
    #[inline(always)]
    fn least_busy_apart(&self, service: u32, entry: u32) -> u32
    where
        Self: Sized,
    {
        sched::lblcr::least_busy(self, service, entry)
    }
    /// [`sched::lblcr::busiest`].
    #[inline(always)]
    fn busiest_apart(&self, service: u32, entry: u32) -> u32
    where
        Self: Sized,
    {
        sched::lblcr::busiest(self, service, entry)
    }
    /// [`locality::find`].
    #[inline(always)]
    fn find_apart(&self, service: u32) -> u32
    where
        Self: Sized,
    {
        locality::find(self, service)
    }
    /// [`locality::add`].
    #[inline(always)]
    fn add_apart(&self, service: u32) -> u32
    where
        Self: Sized,
    {
        locality::add(self, service)
    }
    /// [`overload::evaluate`].
    #[inline(always)]
    fn evaluate_apart(&self, server: u32)
    where
        Self: Sized,
    {
        overload::evaluate(self, server);
    }
    /// [`open::find_service`].
    #[inline(always)]
    fn service_apart(&self, mark: u32) -> u32
    where
        Self: Sized,
    {
        open::find_service(self, mark)
    }
    /// [`mark::mark_of`].
    #[inline(always)]
    fn mark_apart(&self) -> u32
    where
        Self: Sized,
    {
        mark::mark_of(self)
    }
    /// [`open::choose`].
    #[inline(always)]
    fn choose_apart(&self, service: u32, probed: u32) -> u32
    where
        Self: Sized,
    {
        open::choose(self, service, probed)
    }
    /// [`open::take_wildcard`].
    #[inline(always)]
    fn wildcard_apart(&self) -> u32
    where
        Self: Sized,
    {
        open::take_wildcard(self)
    }
    /// [`outgoing::sender`].
    #[inline(always)]
    fn sender_apart(&self) -> u32
    where
        Self: Sized,
    {
        outgoing::sender(self)
    }
    /// [`outgoing::want`].
    #[inline(always)]
    fn outgoing_apart(&self, server: u32) -> bool
    where
        Self: Sized,
    {
        outgoing::want(self, server)
    }
    /// [`ftp::is_unread`].
    #[inline(always)]
    fn unread_apart(&self, tag: u64) -> bool
    where
        Self: Sized,
    {
        ftp::is_unread(self, tag)
    }
    /// [`ftp::act`].
    #[inline(always)]
    fn ftp_apart(&self, slot: u32, tag: u64, len: u32) -> u64
    where
        Self: Sized,
    {
        ftp::act(self, slot, tag, len)
    }
    /// [`persist::make_template`].
    #[inline(always)]
    fn template_apart(&self, server: u32) -> u32
    where
        Self: Sized,
    {
        persist::make_template(self, server)
    }
    /// [`sip::scan`].
    #[inline(always)]
    fn call_id_apart(&self, len: u32) -> u32
    where
        Self: Sized,
    {
        sip::scan(self, len)
    }
    /// [`connect::connect`]; the [`connect::Outcome`] as a number.
    #[inline(always)]
    fn connect_apart(&self, server: u32, hop: NextHop, epoch: u32, from_here: bool) -> u32
    where
        Self: Sized,
    {
        connect::connect(self, server, hop, epoch, from_here).0
    }
    /// [`connect::make_reply`].
    #[inline(always)]
    fn reply_apart(&self, server: u32, word: Word, partner: u32) -> u32
    where
        Self: Sized,
    {
        connect::make_reply(self, server, word, partner)
    }
    /// [`connect::fill_request`].
    #[inline(always)]
    fn fill_apart(&self, slot: u32, partner: u32, server: u32, word: Word) -> bool
    where
        Self: Sized,
    {
        connect::fill_request(self, slot, partner, server, word)
    }
    /// [`rare::is_known`].
    #[inline(always)]
    fn known_apart(&self, kind: u8) -> bool
    where
        Self: Sized,
    {
        rare::is_known(self, kind)
    }
    /// [`reuse::gives_way`].
    #[inline(always)]
    fn reuse_apart(&self, index: u32, tag: u64) -> bool
    where
        Self: Sized,
    {
        reuse::gives_way(self, index, tag)
    }
    /// [`conn::kill`].
    #[inline(always)]
    fn kill_apart(&self, index: u32, tag: u64) -> bool
    where
        Self: Sized,
    {
        conn::kill(self, index, tag)
    }
    /// [`track::change`].
    #[inline(always)]
    fn change_apart(&self, index: u32, tag: u64, event: u8) -> u8
    where
        Self: Sized,
    {
        track::change(self, index, tag, event)
    }
}

/// One hook: what a packet's context adds to the tables.
pub trait Host: Tables + Sized {
    /// True in XDP: what it cannot do goes up to TC on the same interface, untouched.
    const HANDS_UP: bool;

    /// Interface the packet came in by.
    fn ingress(&self) -> u32;
    /// True when the frame was sent to this host (its link-layer address, not flooded).
    fn is_for_us(&self) -> bool;
    /// Firewall mark of the packet, 0 for none and where there are no marks yet.
    fn mark(&self) -> u32;
    /// The way to `destination`, as the director itself would send there.
    fn route(&self, destination: Be32) -> Route;
    /// MTU of an interface, for ways whose neighbour is not resolved yet.
    fn mtu(&self, ifindex: u32) -> u16;
    /// The way to the IPv6 address at `destination`, which lies in the maps.
    fn route_wide(&self, destination: *const Address) -> Route;

    /// [`tunnel::payload`] where needed, [`tunnel::seal`] and [`tunnel::wrap`], each in a stack frame of
    /// its own.
    #[inline(always)]
    fn wrap_apart<P: Packet>(&self, packet: &mut P, l3: usize, server: u32) -> Option<()> {
        let sum = if tunnel::is_summed(self, server) {
            tunnel::payload(packet, l3)?
        } else {
            0
        };
        let seal = tunnel::seal(self, packet, l3, server, sum)?;
        tunnel::wrap(self, packet, l3, server, seal)
    }

    /// [`fullnat::plan`], in a stack frame of its own.
    #[inline(always)]
    fn plan_apart<P: Packet>(&self, packet: &P, slot: u32, mtu: u16) -> Plan {
        Plan(fullnat::plan(self, packet, slot, mtu.into()))
    }

    /// [`client::edit`], in a stack frame of its own.
    #[inline(always)]
    fn edit_apart<P: Packet>(&self, packet: &mut P, plan: Plan) -> Option<()> {
        client::edit(self, packet, plan)
    }

    /// [`cross::translate`], in a stack frame of its own.
    #[inline(always)]
    fn cross_apart<P: Packet>(&self, packet: &mut P, slot: u32) -> Option<()> {
        cross::translate(self, packet, slot)
    }

    /// [`next_hop::refresh`], in a stack frame of its own.
    #[inline(always)]
    fn refresh_apart(&self, index: u32, tag: u64, epoch: u32) -> Refreshed {
        next_hop::refresh(self, index, tag, epoch)
    }
}
