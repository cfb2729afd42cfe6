//! Everything eBPF programs and user space share in memory, and its version.
//!
//! All of it lies in plain mmapable arrays of the host's byte order; addresses and ports stay in
//! wire order. A change of size, offset or meaning here must advance [`VERSION`]: pinned maps of
//! another version are refused, never reinterpreted.

use crate::addr::{Be16, Be32};

/// Version of this layout, kept in [`Runtime::version`].
pub const VERSION: u32 = 1;

/// Slots in one set of the connection table.
pub const WAYS: u32 = 8;
/// Most real servers a service may have: the bound of the loops that look at each of them.
pub const MAX_SERVERS_PER_SERVICE: u32 = 1024;
/// Virtual services a director holds.
pub const MAX_SERVICES: u32 = 16_384;
/// Real servers a director holds, over all services.
pub const MAX_SERVERS: u32 = 131_072;
/// Words of scheduling tables, over all services.
pub const MAX_SCHEDULE_WORDS: u32 = 1 << 20;
/// Interfaces packets may leave by.
pub const MAX_EGRESS: u32 = 4096;
/// Counters of one CPU: drops by reason, and evictions at index 0.
pub const DROP_SLOTS: u32 = 64;
/// Index of the count of connections that gave their slot to a new one before they lapsed.
pub const EVICTIONS: u32 = 0;

/// What every packet reads: one line, written by user space only, but for the last fields.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct Runtime {
    /// [`VERSION`].
    pub version: u32,
    /// Advanced whenever a route, neighbour, address, link or real server changed: slots and
    /// servers with another epoch look their next hop up again. Never 0.
    pub epoch: u32,
    /// Key of the connection table's hash, drawn when the maps were made.
    pub seed: [u64; 2],
    /// Jiffies per second.
    pub hz: u32,
    /// Non-zero once a connection went to a server on the director itself: only then does egress
    /// look for replies. Set by the programs.
    pub local_replies: u32,
    /// Number of VLAN devices in the namespace: if there are any, TC leaves tagged frames to them.
    pub vlan_devices: u32,
    /// CPUs the striped counters were made for.
    pub cpus: u32,
    _reserved: [u32; 6],
    /// Timeouts in jiffies: TCP states at 0..11, UDP at 16. See [`crate::proto::timeout_index`].
    pub timeouts: [u32; 32],
}

/// What identifies a virtual service, as the key of the services map.
///
/// Protocol 0 and port 0 stand for "some service uses this VIP".
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServiceId {
    /// VIP.
    pub vip: Be32,
    /// Virtual port.
    pub vport: Be16,
    /// Protocol number.
    pub proto: u8,
    /// Zero.
    pub zero: u8,
}

/// Where a service's present scheduling table lies: one word, so that a packet sees the old or the
/// new configuration and never a mix.
///
/// Layout: offset in bits 0..32, entries in bits 32..48, scheduler in bits 48..56.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule(pub u64);

impl Schedule {
    /// A table of `len` words at `offset` for scheduler number `sched`.
    pub const fn new(offset: u32, len: u16, sched: u8) -> Self {
        Self(offset as u64 | (len as u64) << 32 | (sched as u64) << 48)
    }
    /// First word in the schedule array.
    #[inline(always)]
    pub const fn offset(self) -> u32 {
        self.0 as u32
    }
    /// What the scheduler counts: servers, or segments for wrr.
    #[inline(always)]
    pub const fn len(self) -> u32 {
        (self.0 >> 32) as u32 & 0xffff
    }
    /// True without a usable server.
    #[inline(always)]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
    /// Scheduler number, see [`crate::sched`].
    #[inline(always)]
    pub const fn sched(self) -> u8 {
        (self.0 >> 48) as u8
    }
}

/// A virtual service. Written by user space; the programs advance `turn`.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct ServiceRecord {
    /// A [`Schedule`].
    pub schedule: u64,
    /// Turns taken since the table was made (rr, wrr); the next choice is a function of it.
    pub turn: u64,
    /// `turn` when the present table was made.
    pub first_turn: u64,
    /// Identity.
    pub id: ServiceId,
    /// `IP_VS_SVC_F_*` (persistent 1, one-packet 4, scheduler flags 8, 16, 32).
    pub flags: u32,
    /// Persistence timeout in seconds; 0 when not persistent.
    pub timeout_secs: u32,
    /// Persistence netmask.
    pub netmask: Be32,
    /// Firewall mark, 0 for an address service.
    pub mark: u32,
    /// 1 while in use; a record with 0 is free.
    pub in_use: u32,
    /// Order of creation.
    pub order: u32,
    /// Scheduler number the operator chose, also while there is no table.
    pub sched: u32,
    _reserved: u32,
}

/// Flag of a server: listed in its service. Without it packets of its connections are dropped.
pub const SERVER_AVAILABLE: u32 = 1;
/// Flag of a server: the upper threshold was reached.
pub const SERVER_OVERLOADED: u32 = 2;
/// Flag of a server: its neighbour does not answer.
pub const SERVER_NEIGHBOUR_DEAD: u32 = 4;
/// Flag of a server: no route leads to it. The programs cannot tell: to their look-up an address
/// without a route looks like one of the director's own.
pub const SERVER_NO_ROUTE: u32 = 8;

/// A real server. Its index stays its own until no connection refers to it.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct ServerRecord {
    /// RIP.
    pub rip: Be32,
    /// Port; 0 keeps the packet's.
    pub rport: Be16,
    /// Forwarding method, [`crate::forward`].
    pub method: u8,
    /// 1 while in use (also in the trash).
    pub in_use: u8,
    /// `SERVER_*`.
    pub flags: u32,
    /// Index of its service.
    pub service: u32,
    /// Weight.
    pub weight: u32,
    /// Source of tunnels to it; 0 until known.
    pub tunnel_source: Be32,
    /// Even: `next_hop` is whole; odd: being written. Advanced by every writer.
    pub next_hop_seq: u32,
    /// Epoch of `next_hop`.
    pub next_hop_epoch: u32,
    /// Where packets to it go.
    pub next_hop: NextHop,
    /// Order of joining, larger is newer.
    pub order: u32,
    /// Thresholds, 0 = none.
    pub upper_threshold: u32,
    /// See `upper_threshold`.
    pub lower_threshold: u32,
    _line: u32,
    /// Connections in an active state. Changed by the programs and by the sweep.
    pub active: u32,
    /// Connections in any other state.
    pub inactive: u32,
    /// Seconds since boot when it was found idle in the trash; 0 while not.
    pub idle_since: u32,
    _reserved: [u32; 13],
}

/// A resolved way out.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextHop {
    /// Index into the egress table in the low 16 bits ([`EGRESS_LOCAL`] means the director's own
    /// stack), link-layer destination above, its first byte lowest: one word, so that nobody sees
    /// half of one way and half of another.
    pub way: u64,
    /// Largest IP packet the route takes.
    pub mtu: u16,
    _reserved: [u16; 3],
}

/// Egress index that stands for local delivery.
pub const EGRESS_LOCAL: u16 = u16::MAX;
/// Egress index 0 is never given out.
pub const EGRESS_NONE: u16 = 0;

impl NextHop {
    /// From its parts.
    #[inline(always)]
    pub const fn new(way: u64, mtu: u16) -> Self {
        Self {
            way,
            mtu,
            _reserved: [0; 3],
        }
    }

    /// Out of interface `egress` to a link-layer address given as three words of memory order.
    #[inline(always)]
    pub const fn remote(egress: u16, mac: [u16; 3], mtu: u16) -> Self {
        let mac = mac[0] as u64 | (mac[1] as u64) << 16 | (mac[2] as u64) << 32;
        Self::new(egress as u64 | mac << 16, mtu)
    }

    /// No way known.
    pub const NONE: Self = Self::new(EGRESS_NONE as u64, 0);
    /// To the director's own stack.
    pub const LOCAL: Self = Self::new(EGRESS_LOCAL as u64, u16::MAX);

    /// True for the director's own stack.
    #[inline(always)]
    pub const fn is_local(&self) -> bool {
        self.egress() == EGRESS_LOCAL
    }

    /// Index into the egress table.
    #[inline(always)]
    pub const fn egress(&self) -> u16 {
        self.way as u16
    }
}

/// An interface packets may leave by. Written by user space.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Egress {
    /// Interface index, 0 when the entry is free.
    pub ifindex: u32,
    /// Interface XDP sends to: the parent of a VLAN device, otherwise the same; 0 when XDP cannot.
    pub xdp_ifindex: u32,
    /// Its own link-layer address, as three words of memory order.
    pub mac: [u16; 3],
    /// VLAN id XDP must put on the frame, 0 for none.
    pub vlan: u16,
    /// MTU.
    pub mtu: u32,
    _reserved: [u32; 3],
}

/// Counters of one real server on one CPU.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Connections scheduled.
    pub conns: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Bytes from clients, from the IP header on.
    pub in_bytes: u64,
    /// Packets to clients.
    pub out_packets: u64,
    /// Bytes to clients.
    pub out_bytes: u64,
    _reserved: [u64; 3],
}

const _: () = {
    assert!(size_of::<Runtime>() == 192);
    assert!(size_of::<ServiceId>() == 8);
    assert!(size_of::<ServiceRecord>() == 64);
    assert!(size_of::<ServerRecord>() == 128);
    assert!(core::mem::offset_of!(ServerRecord, active) == 64);
    assert!(size_of::<NextHop>() == 16);
    assert!(size_of::<Egress>() == 32);
    assert!(size_of::<Stats>() == 64);
};
