//! Everything eBPF programs and user space share in memory, and its version.
//!
//! All of it lies in plain mmapable arrays of the host's byte order; addresses and ports stay in
//! wire order. A change of size, offset or meaning here must advance [`VERSION`]: pinned maps of
//! another version are refused, never reinterpreted.

use crate::addr::{Address, Be16};
use crate::atomic;
use crate::parse::Flow;

/// Version of this layout, kept in [`Runtime::version`].
pub const VERSION: u32 = 10;

/// Slots in one set of the connection table.
pub const WAYS: u32 = 8;
/// Most real servers a service may have: the bound of the loops that look at each of them.
pub const MAX_SERVERS_PER_SERVICE: u32 = 1024;
/// Virtual services a director holds.
pub const MAX_SERVICES: u32 = 16_384;
/// Real servers a director holds, over all services.
pub const MAX_SERVERS: u32 = 131_072;
/// Words of scheduling tables, over all services.
pub const MAX_SCHEDULE_WORDS: u32 = 1 << 21;
/// IPv6 addresses that FULLNAT has had in a client's place.
pub const MAX_WIDE_LOCALS: u32 = 65_536;
/// Addresses that lblc and lblcr remember, over all services.
pub const LOCALITIES: u32 = 65_536;
/// Native mark rules a director holds.
pub const MAX_MARK_RULES: u32 = 256;
/// Ranges of ports in a mark rule.
pub const MARK_PORT_RANGES: usize = 8;
/// Interfaces packets may leave by.
pub const MAX_EGRESS: u32 = 4096;
/// Counters of one CPU: drops by reason, and what is no drop at the ends.
pub const DROP_SLOTS: u32 = 64;
/// Index of the count of connections that gave their slot to a new one before they lapsed.
pub const EVICTIONS: u32 = 0;
/// Index of the count of fragments that were held back until their first one came.
pub const HELD: u32 = 63;
/// Index of the count of packets by FULLNAT that should have told the client's address and had no room.
pub const CLIENT_UNTOLD: u32 = 61;
/// Index of the count of ICMP errors that were not sent, since too many were before.
pub const UNTOLD: u32 = 62;

/// What every packet reads first: written by user space only, but for `local_replies` and `wildcards`.
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
    /// Firewall-mark services: if there are any, a packet's mark is looked up before its address.
    pub mark_services: u32,
    /// Services with port 0.
    pub any_port_services: u32,
    /// Services with port 21.
    pub ftp_services: u32,
    /// Connections whose client port is not known yet were made since the maps were: only then is one
    /// looked for. Set by the programs.
    pub wildcards: u32,
    /// Native mark rules in use: how many in the low half, index of the first in the high half. One
    /// word, so that a packet meets the old rules or the new ones and never a mix.
    pub mark_rules: u32,
    /// TCP follows the table for a host under attack (`secure_tcp` 2 or 3, as it stands now).
    pub secure_tcp: u32,
    /// Timeouts in jiffies: TCP states at 0..11, UDP at 16, SCTP states at 17..31. See
    /// [`crate::proto::timeout_index`].
    pub timeouts: [u32; 32],
    /// What `net.ipv4.vs.*` says to packets.
    pub settings: Settings,
    /// What it says to the director.
    pub defence: Defence,
    /// Services with a persistence engine: if there are any, it is asked about packets of real servers
    /// that have no connection.
    pub engine_services: u32,
}

/// The `net.ipv4.vs.*` variables that packets meet, by their names, in the kernel's values.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// One in so many new connections is dropped; 0 for none. (`drop_packet`, `am_droprate`)
    pub drop_rate: u32,
    /// Candidates since the last one dropped; changed by the programs.
    pub drop_counter: u32,
    /// `cache_bypass`.
    pub cache_bypass: u32,
    /// `conn_reuse_mode`.
    pub conn_reuse_mode: u32,
    /// `expire_nodest_conn`.
    pub expire_nodest_conn: u32,
    /// `expire_quiescent_template`.
    pub expire_quiescent_template: u32,
    /// `nat_icmp_send`.
    pub nat_icmp_send: u32,
    /// `pmtu_disc`.
    pub pmtu_disc: u32,
    /// `schedule_icmp`.
    pub schedule_icmp: u32,
    /// `sloppy_tcp`.
    pub sloppy_tcp: u32,
    /// `sloppy_sctp`.
    pub sloppy_sctp: u32,
    /// `ignore_tunneled`.
    pub ignore_tunneled: u32,
    /// `backup_only`, while a backup synchronisation daemon runs.
    pub backup_only: u32,
    /// `lblc_expiration` in jiffies.
    pub lblc_expiration: u32,
    /// `lblcr_expiration` in jiffies.
    pub lblcr_expiration: u32,
}

/// The `net.ipv4.vs.*` variables that the director alone goes by, here to outlive it; in the kernel's
/// values.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defence {
    /// `drop_entry`, as it stands: 1 and 2 change into each other.
    pub drop_entry: u32,
    /// `drop_packet`, likewise.
    pub drop_packet: u32,
    /// `secure_tcp`, likewise.
    pub secure_tcp: u32,
    /// `amemthresh` in pages, signed.
    pub amemthresh: u32,
    /// `am_droprate`, signed.
    pub am_droprate: u32,
    /// `run_estimation`.
    pub run_estimation: u32,
    _reserved: [u32; 10],
}

/// What identifies a virtual service, as the key of the services map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServiceId {
    /// VIP; for a firewall mark, the mark (host order) in the first word.
    pub vip: Address,
    /// Virtual port, 0 for a mark.
    pub vport: Be16,
    /// Protocol number, 0 for a mark. An address with protocol 0 and port 0 stands for "some service
    /// uses this VIP".
    pub proto: u8,
    /// `ID_*`.
    pub kind: u8,
}

/// [`ServiceId::kind`]: an IPv4 address.
pub const ID_IPV4: u8 = 0;
/// [`ServiceId::kind`]: an IPv6 address.
pub const ID_IPV6: u8 = 1;
/// [`ServiceId::kind`]: a firewall mark of IPv4 packets.
pub const ID_MARK4: u8 = 2;
/// [`ServiceId::kind`]: a firewall mark of IPv6 packets.
pub const ID_MARK6: u8 = 3;
/// [`ServiceId::kind`]: no service, but an IPv4 address that some real server has.
pub const ID_REAL4: u8 = 4;
/// [`ServiceId::kind`]: no service, but an IPv6 address that some real server has.
pub const ID_REAL6: u8 = 5;

/// [`ServiceId::kind`]: no service, but the IPv4 address and port of a real server by NAT; the entry is its
/// index. Protocol 0 for any.
pub const ID_SERVER4: u8 = 4;
/// [`ServiceId::kind`]: the same of IPv6.
pub const ID_SERVER6: u8 = 5;

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
    /// What the scheduler counts: servers, segments for wrr, slots for dh, sh and mh.
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
    /// Local addresses of its servers by FULLNAT: a [`crate::local::Pool`].
    pub locals: u64,
    /// `IP_VS_SVC_F_*`: [`SERVICE_PERSISTENT`], [`SERVICE_ONE_PACKET`], [`SERVICE_FALLBACK`],
    /// [`SERVICE_PORT`], and 0x20.
    pub flags: u32,
    /// Persistence timeout in seconds; 0 when not persistent.
    pub timeout_secs: u32,
    /// What of a client's address its template is about: a mask, also for IPv6.
    pub netmask: Address,
    /// 1 while in use; a record with 0 is free.
    pub in_use: u32,
    /// Order of creation.
    pub order: u32,
    /// Identity.
    pub id: ServiceId,
    /// Scheduler number the operator chose, also while there is no table.
    pub sched: u32,
    /// Persistence engine: 0 none, [`ENGINE_SIP`].
    pub engine: u32,
    /// Entries it has in [`crate::locality`] (lblc, lblcr). Changed by the programs and user space.
    pub cached: u32,
    /// How servers by FULLNAT learn the client's address: [`CLIENT_TOA`], [`CLIENT_PROXY`], or 0.
    pub client_address: u32,
    _reserved: [u32; 5],
}

/// Flag of a service: clients stay with their server.
pub const SERVICE_PERSISTENT: u32 = 0x01;
/// Flag of a service: every UDP packet is scheduled (`-o`).
pub const SERVICE_ONE_PACKET: u32 = 0x04;
/// Flag of a service: sh and mh go on to another server when the chosen one is unusable.
pub const SERVICE_FALLBACK: u32 = 0x08;
/// Flag of a service: sh and mh look at the client's port too.
pub const SERVICE_PORT: u32 = 0x10;
/// [`ServiceRecord::engine`]: by SIP Call-ID.
pub const ENGINE_SIP: u32 = 1;

/// [`ServiceRecord::client_address`]: by TCP option 254.
pub const CLIENT_TOA: u32 = 1;
/// [`ServiceRecord::client_address`]: by the PROXY protocol, version 2.
pub const CLIENT_PROXY: u32 = 2;

/// Flag of a server: listed in its service. Without it packets of its connections are dropped.
pub const SERVER_AVAILABLE: u32 = 1;
/// Flag of a server: the upper threshold was reached.
pub const SERVER_OVERLOADED: u32 = 2;
/// Flag of a server: its neighbour does not answer.
pub const SERVER_NEIGHBOUR_DEAD: u32 = 4;
/// Flag of a server: no route leads to it. The programs cannot tell: to their look-up an address
/// without a route looks like one of the director's own.
pub const SERVER_NO_ROUTE: u32 = 8;
/// Flag of a server: its address is IPv6.
pub const SERVER_IPV6: u32 = 16;

/// Flag of a server: in no service's list, but there for probes, see [`crate::probe`].
pub const SERVER_PROBED: u32 = 32;

/// A real server. Its index stays its own until no connection refers to it.
///
/// The first line is what scheduling reads and connections change, the second what forwarding needs, the third what
/// tunnels need besides.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct ServerRecord {
    /// `SERVER_*`. Changed by compare-and-swap or bit operations only: programs and user space both do.
    pub flags: u32,
    /// Weight.
    pub weight: u32,
    /// Connections in an active state. Changed by the programs and by the sweep.
    pub active: u32,
    /// Connections in any other state.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// Most connections before it counts as overloaded, 0 for no limit.
    pub upper_threshold: u32,
    /// Connections below which it takes new ones again; 0 for three quarters of the upper.
    pub lower_threshold: u32,
    /// Index of its service.
    pub service: u32,
    /// Order of joining, larger is newer.
    pub order: u32,
    /// Seconds since boot when it was found idle in the trash; 0 while not.
    pub idle_since: u32,
    /// 1 while in use (also in the trash).
    pub in_use: u32,
    /// The last weight above zero since it was added, of which mh makes its table.
    pub last_weight: u32,
    /// Local ports taken so far, by FULLNAT: see [`crate::local`]. Changed by the programs.
    pub local_turn: u32,
    /// Jiffies when none was found last.
    pub local_none_at: u32,
    _line: [u32; 2],
    /// RIP.
    pub rip: Address,
    /// VIP of its service; 0 for a firewall mark, whose packets may be for any.
    pub vip: Address,
    /// Where packets to it go.
    pub next_hop: NextHop,
    /// Even: `next_hop` is whole; odd: being written. Advanced by every writer.
    pub next_hop_seq: u32,
    /// Epoch of `next_hop`.
    pub next_hop_epoch: u32,
    /// Port; 0 keeps the packet's.
    pub rport: Be16,
    /// Forwarding method, [`crate::forward`].
    pub method: u8,
    /// What a tunnel wraps packets in: [`TUNNEL_IPIP`], [`TUNNEL_GUE`], [`TUNNEL_GRE`].
    pub tunnel_type: u8,
    /// UDP port of GUE.
    pub tunnel_port: Be16,
    /// [`TUNNEL_CSUM`] or [`TUNNEL_REMCSUM`], else 0.
    pub tunnel_flags: u8,
    _byte: u8,
    /// Source of tunnels to it; 0 until known.
    pub tunnel_source: Address,
}

/// [`ServerRecord::tunnel_type`]: IP in IP.
pub const TUNNEL_IPIP: u8 = 0;
/// [`ServerRecord::tunnel_type`]: generic UDP encapsulation.
pub const TUNNEL_GUE: u8 = 1;
/// [`ServerRecord::tunnel_type`]: GRE.
pub const TUNNEL_GRE: u8 = 2;
/// [`ServerRecord::tunnel_flags`]: with a checksum.
pub const TUNNEL_CSUM: u8 = 1;
/// [`ServerRecord::tunnel_flags`]: with remote checksum offload.
pub const TUNNEL_REMCSUM: u8 = 2;

/// A native mark rule: packets that match all of it get `mark`. Written by user space, into the half of
/// the table that packets do not read.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkRule {
    /// Destination address; bits outside the mask are 0.
    pub destination: Address,
    /// Which bits of the destination count.
    pub destination_mask: Address,
    /// Source address; bits outside the mask are 0.
    pub source: Address,
    /// Which bits of the source count.
    pub source_mask: Address,
    /// Ranges of destination ports in host order, first in the low half, last in the high half; one
    /// has to hold the port. Unused ones are [`NO_PORTS`].
    pub ports: [u32; MARK_PORT_RANGES],
    /// Interface the packet comes in by, [`NO_INTERFACE`] while there is none of the name.
    pub ifindex: u32,
    /// All bits when `ifindex` counts, else 0.
    pub ifindex_mask: u32,
    /// Name of the interface, filled up with zeros; for user space.
    pub interface: [u8; 16],
    /// The mark, host order.
    pub mark: u32,
    /// Protocol and family, as in [`crate::proto`].
    pub class: u8,
    /// Which bits of the class count.
    pub class_mask: u8,
    _reserved: [u8; 2],
}

impl MarkRule {
    /// Matches every packet and gives no mark.
    pub const ANY: Self = Self {
        destination: Address::NONE,
        destination_mask: Address::NONE,
        source: Address::NONE,
        source_mask: Address::NONE,
        ports: [
            ALL_PORTS, NO_PORTS, NO_PORTS, NO_PORTS, NO_PORTS, NO_PORTS, NO_PORTS, NO_PORTS,
        ],
        ifindex: 0,
        ifindex_mask: 0,
        interface: [0; 16],
        mark: 0,
        class: 0,
        class_mask: 0,
        _reserved: [0; 2],
    };
}

/// An element of [`MarkRule::ports`] that holds every port.
pub const ALL_PORTS: u32 = 0xffff_0000;
/// An element of [`MarkRule::ports`] that holds none.
pub const NO_PORTS: u32 = 1;
/// An interface that does not exist.
pub const NO_INTERFACE: u32 = u32::MAX;

/// Whose child a connection is, beside its slot: a persistence template or an FTP control connection
/// lives as long as its children do.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Index of the parent's slot.
    pub parent: u32,
    /// Use count of the parent's slot as its tag had it, plus one; 0 for no parent.
    pub parent_use: u32,
    /// This slot's own children. Of a connection by FULLNAT, which has none: what remains to be told of
    /// its client, `fullnat::TELL_*`.
    pub children: u32,
    /// Life in jiffies that each new child gives a template. Of a connection by FULLNAT: the sequence
    /// number of its client's first byte.
    pub timeout: u32,
}

/// The addresses of an IPv6 connection, beside its slot.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wide {
    /// Source of the packets of this direction.
    pub source: Address,
    /// Destination of the packets of this direction.
    pub destination: Address,
    /// Source they leave with.
    pub new_source: Address,
    /// Destination they leave with.
    pub new_destination: Address,
}

/// What the packet at hand wants, one on each CPU: programs that call each other hand it on here, since
/// their stacks cannot hold it.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Client's address.
    pub source: Address,
    /// Address asked for.
    pub destination: Address,
    /// The packet as it was parsed. For IPv6 `key.addresses` stands for both addresses.
    pub flow: Flow,
    /// Hash of `flow.key`.
    pub hash: u64,
    /// Firewall mark, 0 for none.
    pub mark: u32,
    /// The program to start over with once there is a connection, see [`crate::director`].
    pub origin: u32,
    /// Interface the packet came in by.
    pub ingress: u32,
    /// Service found.
    pub service: u32,
    /// Parent of the connection to be made, and the use count of its slot plus one, or 0.
    pub parent: u32,
    /// See `parent`.
    pub parent_use: u32,
    /// Real server's port the connection shall have, as raw wire order; 0 for the packet's own.
    pub rport: u32,
    /// Address that a server by FULLNAT shall see as its client.
    pub local: Address,
    /// Its place among those of IPv6.
    pub local_index: u32,
    /// Its port, raw.
    pub lport: u32,
    /// `KIND_*` the connection shall have besides what follows from its server.
    pub kind: u32,
    /// State the connection starts in; [`FIRST_STATE`] for what the packet makes it.
    pub state: u32,
    /// [`NextHop::way`] to the real server.
    pub way: u64,
    /// Epoch of `way`, 0 when it is not resolved.
    pub epoch: u32,
    /// [`NextHop::mtu`].
    pub mtu: u16,
    /// Answer to the last question about a way.
    pub answer: RouteAnswer,
    /// Next hop of [`crate::director::Verdict::Resolve`] when it is an IPv6 address.
    pub next: Address,
    /// ICMP errors that may be sent, in parts of [`crate::icmp::may_tell`].
    pub credit: u32,
    /// Jiffies when `credit` was last counted.
    pub credit_at: u32,
    /// Key of the persistence template.
    pub template: crate::conn::Key,
    /// Client of the template: its address as far as the netmask goes.
    pub template_client: Address,
    /// VIP of the template, or its mark as an IPv4 address.
    pub template_address: Address,
    /// Index of the real server when it is not to be chosen any more, else [`crate::sched::NO_SERVER`]. With it, all
    /// that says what the connection shall be is there already.
    pub server: u32,
    /// 1 when the packet is a real server's, and all else here is as if its client had sent it.
    pub outgoing: u32,
    /// Where services were found last, by a hash of what identifies them: a service's own record says whether
    /// it still is the one. It spares most new connections the look-up in a hash map.
    pub recent: [u32; RECENT],
    /// Tag of the FTP control connection whose packet was read and now starts over, else 0.
    pub read: u64,
    /// Keyed hash of `call_id`.
    pub call_hash: u64,
    /// The SIP Call-ID that was read, see [`crate::sip`].
    pub call_id: CallId,
    /// What a reader of text remembers between two bytes, see [`crate::text`].
    pub notes: [u32; 8],
    /// Payload bytes to be looked at.
    pub text: [u8; TEXT],
}

/// What the kernel says of a way.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RouteAnswer {
    /// `BPF_FIB_LKUP_RET_*`.
    pub code: i32,
    /// Interface.
    pub ifindex: u32,
    /// Link-layer address of the next hop, as three words of memory order.
    pub mac: [u16; 3],
    /// MTU, 0 when unknown.
    pub mtu: u16,
}

/// A SIP Call-ID, beside the template it is of.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallId {
    /// Use count of the template's slot plus one.
    pub template_use: u32,
    /// Bytes of it.
    pub len: u32,
    /// The bytes, and rubbish after them.
    pub bytes: [u8; 256],
}

/// Templates whose Call-ID is kept for listings.
pub const MAX_CALL_IDS: u32 = 65_536;

/// [`Wanted::state`]: from the packet.
pub const FIRST_STATE: u32 = u32::MAX;

/// Services that each CPU remembers; a power of two.
pub const RECENT: usize = 64;

/// Bytes of payload that the FTP and SIP readers see at once.
pub const TEXT: usize = 512;

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
/// Set in the egress index of a connection whose packets need more than the usual tunnel.
pub const EGRESS_WRAPPED: u16 = 0x8000;
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
        self.way as u16 == EGRESS_LOCAL
    }

    /// Index into the egress table.
    #[inline(always)]
    pub const fn egress(&self) -> u16 {
        self.way as u16 & !EGRESS_WRAPPED
    }

    /// The same way, for packets that are to be wrapped by [`crate::forward::tunnel::wrap`].
    #[inline(always)]
    pub const fn wrapped(self) -> Self {
        Self::new(self.way | EGRESS_WRAPPED as u64, self.mtu)
    }

    /// See [`NextHop::wrapped`].
    #[inline(always)]
    pub const fn is_wrapped(&self) -> bool {
        self.way as u16 & EGRESS_WRAPPED != 0 && !self.is_local()
    }
}

/// An interface packets may leave by. Written by user space.
#[repr(C, align(8))]
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

impl Egress {
    /// Its link-layer address, the first byte lowest, and the VLAN id above: one word.
    ///
    /// # Safety
    /// `egress` is an entry.
    #[inline(always)]
    pub unsafe fn own(egress: *const Self) -> u64 {
        const AT: usize = core::mem::offset_of!(Egress, mac);
        const { assert!(AT.is_multiple_of(8) && core::mem::offset_of!(Egress, vlan) == AT + 6) };
        // SAFETY: passed on to the caller.
        unsafe { atomic::load(egress.byte_add(AT).cast::<u64>()) }
    }
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
    /// What became of handshakes.
    pub handshakes: Handshakes,
}

/// What became of TCP handshakes with one real server, as far as one CPU saw. Numbers wrap.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Handshakes {
    /// Begun by a client's SYN.
    pub begun: u32,
    /// Completed.
    pub answered: u32,
    /// Ended by the server's RST.
    pub refused: u32,
    /// `begun` when one was last completed.
    pub begun_then: u32,
    /// `refused` when one was last completed.
    pub refused_then: u32,
    /// Jiffies that those completed took, added up.
    pub waited: u32,
}

const _: () = {
    assert!(size_of::<Runtime>() == 384);
    assert!(size_of::<ServiceId>() == 20);
    assert!(size_of::<ServiceRecord>() == 128);
    assert!(size_of::<ServerRecord>() == 192);
    assert!(core::mem::offset_of!(ServerRecord, rip) == 64);
    assert!(size_of::<NextHop>() == 16);
    assert!(MAX_EGRESS <= EGRESS_WRAPPED as u32);
    assert!(size_of::<Egress>() == 32);
    assert!(size_of::<Stats>() == 64);
    assert!(size_of::<MarkRule>() == 128);
    assert!(size_of::<Control>() == 16);
    assert!(size_of::<CallId>() == 264);
    assert!(size_of::<Wide>() == 64);
};
