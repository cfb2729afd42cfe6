//! What the core needs of the world it runs in. XDP, TC and user space each provide it.

use crate::addr::Be32;
use crate::conn::{self, Hash, Hints, Key, Set};
use crate::connect;
use crate::drop::Drop;
use crate::icmp;
use crate::layout::{
    Control, Egress, NextHop, Runtime, Schedule, ServerRecord, ServiceId, ServiceRecord, Stats,
    Wanted, Wide,
};
use crate::locality;
use crate::next_hop::{self, Refreshed};
use crate::overload;
use crate::sched;
use crate::track;
use crate::wire::checksum::Diff;
use crate::wire::icmp4::Message;

/// One frame, from the Ethernet header on.
///
/// Offsets beyond the readable part give `None`; nothing panics.
pub trait Packet {
    /// Bytes of the whole frame.
    fn len(&self) -> u32;

    /// True for a frame without bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies a value out. `T` must be plain: any bits are a valid `T`.
    fn read<T: Copy>(&self, at: usize) -> Option<T>;

    /// Copies a value in.
    fn write<T: Copy>(&mut self, at: usize, value: T) -> Option<()>;

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
        let new = addresses.and(ports).apply(old);
        self.write(at, if optional && new == 0 { 0xffff } else { new })
    }

    /// Largest IP packet this frame will be on the wire: more than one for an aggregate (GSO).
    #[inline(always)]
    fn largest_datagram(&self, total_len: u16, _headers: u16) -> u16 {
        total_len
    }

    /// Inserts an outer IPv4 header of 20 bytes at `l3`.
    fn push_ipv4(&mut self, l3: usize, header: [u32; 5]) -> Option<()>;

    /// Makes room for `bytes` (28) at `l3` and cuts the frame to `len` bytes after that.
    fn reshape(&mut self, l3: usize, bytes: u32, len: u32) -> Option<()>;

    /// [`icmp::answer`], in a stack frame of its own.
    #[inline(always)]
    fn answer_apart(&mut self, l3: usize, message: Message) -> Option<()>
    where
        Self: Sized,
    {
        icmp::answer(self, l3, message)
    }
}

/// The answer to "which way to this address?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Resolved, or the director itself.
    Resolved(NextHop),
    /// The way is known, the neighbour not: `(interface, next hop address)`.
    Unresolved(u32, Be32),
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
    /// An entry of what lblc and lblcr remember.
    fn locality(&self, index: u32) -> Option<*mut locality::Entry>;
    /// A random number.
    fn random(&self) -> u32;
    /// This CPU's counters of a real server.
    fn stats(&self, server: u32) -> Option<*mut Stats>;
    /// An interface to leave by.
    fn egress(&self, index: u16) -> Option<*const Egress>;
    /// Counts a dropped packet.
    fn count_drop(&self, reason: Drop);
    /// Counts a connection that gave its slot to a new one before it lapsed.
    fn count_eviction(&self);

    /// [`conn::search`].
    #[inline(always)]
    fn search_apart(&self, hash: Hash, key: &Key, now: u32) -> u32
    where
        Self: Sized,
    {
        conn::search(self, hash, key, now)
    }
    /// [`conn::claim`].
    #[inline(always)]
    fn claim_apart(&self, hash: Hash, now: u32) -> u32
    where
        Self: Sized,
    {
        conn::claim(self, hash, now)
    }
    /// [`connect::want`].
    #[inline(always)]
    fn want_apart(&self, key: &Key)
    where
        Self: Sized,
    {
        connect::want(self, key);
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
    /// [`sched::lblc::half_idle`].
    #[inline(always)]
    fn half_idle_apart(&self, schedule: Schedule) -> bool
    where
        Self: Sized,
    {
        sched::lblc::half_idle(self, schedule)
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
    fn change_apart(&self, index: u32, tag: u64, tcp_flags: u8) -> u8
    where
        Self: Sized,
    {
        track::change(self, index, tag, tcp_flags)
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
    /// The way to `destination`, as the director itself would send there.
    fn route(&self, destination: Be32) -> Route;

    /// [`next_hop::refresh`], in a stack frame of its own.
    #[inline(always)]
    fn refresh_apart(&self, index: u32, tag: u64, epoch: u32) -> Refreshed {
        next_hop::refresh(self, index, tag, epoch)
    }
}
