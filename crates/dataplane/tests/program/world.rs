//! A namespace with two interfaces, the real programs in it, and a director in user space beside
//! them: every row is played on XDP and TC, and user space has to agree with both to the byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};

use pointsman_core::conn::{Slot, Status, Tag};
use pointsman_core::host::Tables as _;
use pointsman_core::layout::WAYS;
use pointsman_dataplane::test_run::Entry;
use pointsman_dataplane::{DataPlane, HookChoice, Interface, Options, Programs, Tables};
use pointsman_model::{
    ConnectionState, Counters, Encapsulation, Forwarding, Protocol, Scheduler, ServerKey,
    ServerSpec, ServerView, ServiceKey, ServiceSpec, Timeouts, Variable, Weight,
};
use pointsman_testkit::frames::{Mac, View};
use pointsman_testkit::{Names, Netns, Pins, wire};

use crate::frame::{Frame, recount};
use crate::packet::Packet;
use crate::user::{Class, To, UserSpace};

pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
/// An address of the director that is no VIP.
pub const DIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub const RS1: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 10);
pub const RS2: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 20);
pub const RS3: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 30);
pub const RS4: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 40);
/// On the servers' segment, but nobody knows its link-layer address.
pub const UNKNOWN: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 99);
/// Its route says unreachable.
pub const UNREACHABLE: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 1);
/// There is no route to it.
pub const NOWHERE: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
/// Source of tunnels.
pub const TUNNEL_SOURCE: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 1);

/// The same hosts over IPv6: the last byte is that of the IPv4 address.
pub const VIP6: Ipv6Addr = front6(100);
pub const OTHER_VIP6: Ipv6Addr = front6(101);
pub const DIP6: Ipv6Addr = front6(1);
pub const CLIENT6: Ipv6Addr = front6(2);
pub const RS1_6: Ipv6Addr = back6(10);
pub const RS2_6: Ipv6Addr = back6(20);
pub const RS3_6: Ipv6Addr = back6(30);
pub const RS4_6: Ipv6Addr = back6(40);
pub const UNKNOWN6: Ipv6Addr = back6(99);
pub const NOWHERE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 1);

const fn front6(host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, host)
}

const fn back6(host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, host)
}

pub const CLIENT_MAC: Mac = [2, 0, 0, 0, 0, 2];
pub const FRONT_MAC: Mac = [2, 0, 0, 0, 1, 1];
pub const BACK_MAC: Mac = [2, 0, 0, 0, 2, 1];

/// Link-layer address of a real server.
pub fn mac_of(server: impl Into<IpAddr>) -> Mac {
    let last = match server.into() {
        IpAddr::V4(server) => server.octets()[3],
        IpAddr::V6(server) => server.segments()[7] as u8,
    };
    [2, 0, 0, 0, 9, last]
}

/// Jiffies in user space: timers run beyond the wrap.
const NEAR_THE_WRAP: u32 = u32::MAX - 500;

const SERVERS: [Ipv4Addr; 4] = [RS1, RS2, RS3, RS4];
const SERVERS6: [Ipv6Addr; 4] = [RS1_6, RS2_6, RS3_6, RS4_6];

/// Who is who in one family: rows that hold for both are played with each.
#[derive(Clone, Copy, Debug)]
pub struct Net {
    pub vip: IpAddr,
    pub client: IpAddr,
    pub rs: [IpAddr; 4],
    /// An address of the director that is no VIP.
    pub dip: IpAddr,
    pub unknown: IpAddr,
    pub nowhere: IpAddr,
}

pub const NET4: Net = Net {
    vip: IpAddr::V4(VIP),
    client: IpAddr::V4(CLIENT),
    rs: [
        IpAddr::V4(RS1),
        IpAddr::V4(RS2),
        IpAddr::V4(RS3),
        IpAddr::V4(RS4),
    ],
    dip: IpAddr::V4(DIP),
    unknown: IpAddr::V4(UNKNOWN),
    nowhere: IpAddr::V4(NOWHERE),
};

pub const NET6: Net = Net {
    vip: IpAddr::V6(VIP6),
    client: IpAddr::V6(CLIENT6),
    rs: [
        IpAddr::V6(RS1_6),
        IpAddr::V6(RS2_6),
        IpAddr::V6(RS3_6),
        IpAddr::V6(RS4_6),
    ],
    dip: IpAddr::V6(DIP6),
    unknown: IpAddr::V6(UNKNOWN6),
    nowhere: IpAddr::V6(NOWHERE6),
};

impl Net {
    /// The client with a port.
    pub fn client(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.client, port)
    }

    /// The VIP with a port.
    pub fn vip(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.vip, port)
    }

    /// A real server, from 0, with a port.
    pub fn rs(&self, server: usize, port: u16) -> SocketAddr {
        SocketAddr::new(self.rs[server], port)
    }

    /// A real server by NAT, from 0.
    pub fn nat(&self, server: usize, port: u16) -> ServerSpec {
        spec(self.rs(server, port), Forwarding::Masquerade)
    }

    /// A real server by FULLNAT, from 0.
    pub fn fullnat(&self, server: usize, port: u16) -> ServerSpec {
        spec(self.rs(server, port), Forwarding::FullNat)
    }

    /// The `which`-th local address.
    pub fn local(&self, which: u16) -> IpAddr {
        match self.vip {
            IpAddr::V4(_) => Ipv4Addr::new(192, 168, 0, 200 + which as u8).into(),
            IpAddr::V6(_) => back6(200 + which).into(),
        }
    }

    /// A real server by direct routing, from 0.
    pub fn direct(&self, server: usize, port: u16) -> ServerSpec {
        spec(self.rs(server, port), Forwarding::Route)
    }
}

/// Where a frame comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Front,
    Back,
    /// From a client on the director. TC only.
    Loopback,
    /// Out of `front`, by the director's own stack. TC egress, whatever the hook.
    Out,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Xdp,
    Tc,
}

/// Whether XDP and TC must agree in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hooks {
    Agree,
    /// They need not: the reason.
    Differ(&'static str),
}

/// Why hooks differ about packets for the director itself.
pub const STAYS_HERE: &str = "what stays on the director is TC's: XDP hands it up untouched";

/// The real programs and the director in user space.
pub struct World {
    plane: DataPlane,
    user: UserSpace,
    front: u32,
    back: u32,
}

/// A data plane with its maps in `pins`, without programs.
pub fn plane(pins: &Pins, slots: u32) -> DataPlane {
    let options = Options {
        connection_slots: Some(slots),
    };
    DataPlane::open(pins.path(), &options).unwrap_or_else(|e| panic!("{e}"))
}

/// The programs in the caller's namespace, for as long as `f` runs.
pub fn with_plane<T>(slots: u32, f: impl FnOnce(DataPlane) -> T) -> T {
    let pins = Pins::new().unwrap_or_else(|e| panic!("{e}"));
    let mut plane = plane(&pins, slots);
    for programs in [Programs::Tc, Programs::Xdp] {
        plane.load(programs).unwrap_or_else(|e| panic!("{e}"));
    }
    f(plane)
}

/// What is to be done in the shared world.
type Job = Box<dyn FnOnce(&mut World) + Send>;

/// A world that tests running at the same time share, on a thread of its own. Loading the programs
/// costs seconds; the last test to end takes the world down.
struct Shared {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

static SHARED: Mutex<Weak<Shared>> = Mutex::new(Weak::new());

impl Shared {
    fn join_or_make() -> Arc<Self> {
        let mut present = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = present.upgrade() {
            return shared;
        }
        let (jobs, queue) = mpsc::channel::<Job>();
        let work = move |world: &mut World| queue.into_iter().for_each(|job| job(world));
        let shared = Arc::new(Self {
            jobs: Some(jobs),
            thread: Some(thread::spawn(|| World::alone(1024, work))),
        });
        *present = Arc::downgrade(&shared);
        shared
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl World {
    /// Calls `f` in a world whose connection table has 1024 slots.
    pub fn with(f: impl FnOnce(&mut World) + Send + 'static) {
        let shared = Shared::join_or_make();
        let (tell, told) = mpsc::channel();
        let job = Box::new(move |world: &mut World| {
            let done = panic::catch_unwind(AssertUnwindSafe(|| f(world)));
            let _ = tell.send(done);
        });
        let _ = shared.jobs.as_ref().expect("until dropped").send(job);
        match told.recv() {
            Ok(Ok(())) => {}
            Ok(Err(payload)) => panic::resume_unwind(payload),
            Err(_) => panic!("there is no world to test in (see above; it needs root)"),
        }
    }

    /// Calls `f` in a world of its own whose connection table has `slots` slots.
    pub fn alone(slots: u32, f: impl FnOnce(&mut World) + Send) {
        let names = Names::transient();
        let director = Netns::new(&names, "director").unwrap();
        let far = Netns::new(&names, "far").unwrap();
        wire::cable((&director, "front"), (&far, "front")).unwrap();
        wire::cable((&director, "back"), (&far, "back")).unwrap();
        let ip = |arguments: &str| drop(director.ip(arguments).unwrap());
        ip(&format!("link set front address {}", text(FRONT_MAC)));
        ip(&format!("link set back address {}", text(BACK_MAC)));
        ip("address add 10.0.0.1/24 dev front");
        ip(&format!("address add {VIP}/32 dev front"));
        ip("address add 192.168.0.1/24 dev back");
        ip("route add unreachable 172.31.0.0/16");
        ip(&format!(
            "neighbour add {CLIENT} lladdr {} dev front nud permanent",
            text(CLIENT_MAC)
        ));
        for server in SERVERS {
            let mac = text(mac_of(server));
            ip(&format!(
                "neighbour add {server} lladdr {mac} dev back nud permanent"
            ));
        }
        director.sysctl("net.ipv4.conf.lo.forwarding", "1").unwrap();
        for interface in ["lo", "front", "back"] {
            let disabled = format!("net.ipv6.conf.{interface}.disable_ipv6");
            director.sysctl(&disabled, "0").unwrap();
        }
        ip(&format!("address add {DIP6}/64 dev front nodad"));
        ip(&format!("address add {VIP6}/128 dev front nodad"));
        ip(&format!("address add {OTHER_VIP6}/128 dev front nodad"));
        ip("address add fd00:2::1/64 dev back nodad");
        ip(&format!(
            "neighbour add {CLIENT6} lladdr {} dev front nud permanent",
            text(CLIENT_MAC)
        ));
        for server in SERVERS6 {
            let mac = text(mac_of(server));
            ip(&format!(
                "neighbour add {server} lladdr {mac} dev back nud permanent"
            ));
        }
        director.sysctl("net.ipv6.conf.lo.forwarding", "1").unwrap();
        let (front, back) = (
            director.index("front").unwrap(),
            director.index("back").unwrap(),
        );
        director.run(|| {
            with_plane(slots, |mut plane| {
                let mut user = UserSpace::new(slots / WAYS, || NEAR_THE_WRAP);
                // The same local ports everywhere.
                for maps in [plane.tables().maps(), user.tables.maps()] {
                    let runtime = maps.runtime.at(0).unwrap();
                    // SAFETY: the pointer is into the map; nothing runs yet.
                    unsafe { (*runtime).seed = [0x0123_4567_89ab_cdef, 0xfedc_ba98_89ab_cdef] };
                }
                for interface in interfaces(front, back) {
                    if !interface.loopback {
                        plane.attach(&interface, HookChoice::Xdp).unwrap();
                    }
                    plane.tables().set_interface(&interface);
                    user.tables.set_interface(&interface);
                    user.tables.set_xdp(interface.index, !interface.loopback);
                }
                user.routes = vec![
                    (CLIENT.octets(), To::Neighbour(front, CLIENT_MAC, 1500)),
                    (UNKNOWN.octets(), To::Unknown(back)),
                    (DIP.octets(), To::Local),
                    (VIP.octets(), To::Local),
                    (TUNNEL_SOURCE.octets(), To::Local),
                ];
                for server in SERVERS {
                    let to = To::Neighbour(back, mac_of(server), 1500);
                    user.routes.push((server.octets(), to));
                }
                user.wide_routes = vec![
                    (CLIENT6.octets(), To::Neighbour(front, CLIENT_MAC, 1500)),
                    (UNKNOWN6.octets(), To::Unknown(back)),
                    (DIP6.octets(), To::Local),
                    (VIP6.octets(), To::Local),
                    (OTHER_VIP6.octets(), To::Local),
                ];
                for server in SERVERS6 {
                    let to = To::Neighbour(back, mac_of(server), 1500);
                    user.wide_routes.push((server.octets(), to));
                }
                let mut world = World {
                    plane,
                    user,
                    front,
                    back,
                };
                f(&mut world);
            });
        });
    }

    /// Plays a row on XDP, TC, and user space in the manner of each.
    pub fn play(&mut self, row: &str, hooks: Hooks, play: impl FnMut(&mut Stage<'_>)) {
        let seen = self.play_each(row, play);
        let [xdp, user_xdp, tc, user_tc] = &seen[..] else {
            unreachable!("four hosts")
        };
        same(
            &format!("row `{row}`: XDP and user space differ"),
            xdp,
            user_xdp,
        );
        same(
            &format!("row `{row}`: TC and user space differ"),
            tc,
            user_tc,
        );
        match hooks {
            Hooks::Agree => same(&format!("row `{row}`: XDP and TC differ"), xdp, tc),
            Hooks::Differ(_) => assert_ne!(xdp, tc, "row `{row}`: XDP and TC agree after all"),
        }
    }

    /// The same where chance rules, so that hosts cannot be compared.
    pub fn play_at_random(&mut self, row: &str, play: impl FnMut(&mut Stage<'_>)) {
        self.play_each(row, play);
    }

    fn play_each(&mut self, row: &str, mut play: impl FnMut(&mut Stage<'_>)) -> Vec<Vec<Seen>> {
        let mut seen = Vec::new();
        for hook in [Hook::Xdp, Hook::Tc] {
            for real in [true, false] {
                let mut stage = Stage {
                    world: self,
                    hook,
                    real,
                    seen: Vec::new(),
                };
                stage.reset();
                let played = panic::catch_unwind(AssertUnwindSafe(|| play(&mut stage)));
                if let Err(payload) = played {
                    let host = if real { "the kernel" } else { "user space" };
                    eprintln!("row `{row}`, as {hook:?} in {host}");
                    panic::resume_unwind(payload);
                }
                seen.push(stage.seen);
            }
        }
        seen
    }
}

/// Two hosts did the same to every frame.
#[track_caller]
pub fn same(otherwise: &str, one: &[Seen], other: &[Seen]) {
    for (i, (one, other)) in one.iter().zip(other).enumerate() {
        assert_eq!(one, other, "{otherwise} at frame {i}");
    }
    assert_eq!(
        one.len(),
        other.len(),
        "{otherwise} in the number of frames"
    );
}

/// `lo`, `front` and `back` as netlink would report them.
fn interfaces(front: u32, back: u32) -> [Interface; 3] {
    let interface = |index, name: &str, mac| Interface {
        index,
        name: name.into(),
        mac,
        mtu: 1500,
        kind: Some("veth".into()),
        vlan: None,
        loopback: false,
        ethernet: true,
    };
    let lo = Interface {
        kind: None,
        loopback: true,
        ethernet: false,
        mtu: 65536,
        ..interface(1, "lo", [0; 6])
    };
    [
        lo,
        interface(front, "front", FRONT_MAC),
        interface(back, "back", BACK_MAC),
    ]
}

fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// One host in one row.
pub struct Stage<'w> {
    world: &'w mut World,
    pub hook: Hook,
    /// The eBPF program, not user space.
    real: bool,
    seen: Vec<Seen>,
}

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub class: Class,
    pub packet: Vec<u8>,
    /// Reasons of drops that were counted for it.
    pub counted: Vec<String>,
    pub sent_in: Vec<u8>,
}

impl Stage<'_> {
    pub fn tables(&mut self) -> &mut Tables {
        if self.real {
            self.world.plane.tables()
        } else {
            &mut self.world.user.tables
        }
    }

    /// True in the kernel, false in user space.
    pub fn is_real(&self) -> bool {
        self.real
    }

    /// The director in user space.
    pub fn user(&self) -> &UserSpace {
        &self.world.user
    }

    /// Index of the first server there is.
    pub fn first_server(&mut self) -> u32 {
        let servers = &self.tables().maps().servers;
        let in_use = |&i: &u32| {
            servers
                .read(i)
                .is_some_and(|s| s.in_use != 0 && s.flags & 1 != 0)
        };
        (0..servers.len()).find(in_use).expect("a server")
    }

    /// No services, no connections, default timeouts.
    pub fn reset(&mut self) {
        let tables = self.tables();
        tables.clear_connections();
        tables.flush();
        tables.set_timeouts(Timeouts::default());
        tables.set_mark_rules(&[]).unwrap();
        for variable in Variable::ALL {
            if let Some(value) = variable.default_value() {
                let _ = tables.set_variable(variable, value);
            }
        }
        tables.defend(u64::MAX);
        let runtime = tables.maps().runtime.at(0).unwrap();
        // SAFETY: the pointer is into the map; nothing else runs.
        unsafe { (*runtime).settings.drop_counter = 0 };
    }

    /// A TCP service on the VIP, with servers in the order they are added.
    pub fn tcp_service(&mut self, scheduler: Scheduler, servers: &[ServerSpec]) -> ServiceKey {
        self.service(Protocol::Tcp, 80, scheduler, servers)
    }

    pub fn service(
        &mut self,
        protocol: Protocol,
        port: u16,
        scheduler: Scheduler,
        servers: &[ServerSpec],
    ) -> ServiceKey {
        let key = ServiceKey::Address {
            protocol,
            addr: IpAddr::V4(VIP),
            port,
        };
        let tables = self.tables();
        tables
            .add_service(&ServiceSpec::new(key, scheduler))
            .unwrap();
        for server in servers {
            tables.add_server(&key, server).unwrap();
            if let IpAddr::V4(rip) = server.key.addr {
                tables.set_tunnel_source(rip.into(), TUNNEL_SOURCE.into());
            }
        }
        key
    }

    /// The only service's servers, newest first.
    pub fn servers(&mut self) -> Vec<ServerView> {
        self.tables().services().remove(0).servers
    }

    /// Active and inactive connections of all servers.
    pub fn counts(&mut self) -> (u32, u32) {
        let servers = self.servers();
        servers
            .iter()
            .fold((0, 0), |sum, s| (sum.0 + s.active, sum.1 + s.inactive))
    }

    /// Totals of the only service.
    pub fn totals(&mut self) -> Counters {
        self.tables().estimate();
        self.tables().services().remove(0).counters
    }

    /// States of all live connections.
    pub fn states(&mut self) -> Vec<ConnectionState> {
        self.tables()
            .connections()
            .iter()
            .map(|c| c.state)
            .collect()
    }

    /// Lets `secs` seconds pass for every connection.
    pub fn age(&mut self, secs: u32) {
        let maps = self.tables().maps();
        let jiffies = secs * maps.runtime.read(0).unwrap().hz;
        for set in 0..maps.connections.len() {
            let slots = maps.connections.at(set).unwrap().cast::<Slot>();
            for way in 0..WAYS as usize {
                // SAFETY: within the set; nothing else runs.
                let slot = unsafe { &mut *slots.add(way) };
                if Tag::status(slot.tag) == Status::Ready {
                    slot.expires = slot.expires.wrapping_sub(jiffies);
                    slot.shared_at = slot.shared_at.wrapping_sub((jiffies >> 4) as u16);
                }
            }
        }
    }

    /// From the client, as its stack would send it.
    pub fn client_sends(&mut self, frame: Frame) -> Seen {
        let frame = frame.between(CLIENT_MAC, FRONT_MAC).bytes();
        self.send(Side::Front, &frame)
    }

    /// From a real server towards the client.
    pub fn server_sends(&mut self, frame: Frame) -> Seen {
        let from = mac_of(frame.source.0);
        let frame = frame.between(from, BACK_MAC).bytes();
        self.send(Side::Back, &frame)
    }

    /// From the client, or somebody behind the same router.
    #[track_caller]
    pub fn in_front(&mut self, packet: &Packet) -> Seen {
        self.send(Side::Front, &packet.frame(CLIENT_MAC, FRONT_MAC))
    }

    /// From a real server, or somebody behind it.
    #[track_caller]
    pub fn behind(&mut self, packet: &Packet) -> Seen {
        let from = mac_of(packet.source);
        self.send(Side::Back, &packet.frame(from, BACK_MAC))
    }

    /// A packet whose bytes the network card has summed, to TC in the kernel: the sum stays right.
    #[track_caller]
    pub fn keeps_sum(&mut self, side: Side, packet: &Packet) {
        if (self.real, self.hook) != (true, Hook::Tc) {
            return;
        }
        let (ingress, to) = match side {
            Side::Front => (self.world.front, FRONT_MAC),
            _ => (self.world.back, BACK_MAC),
        };
        let frame = packet.frame(mac_of(packet.source), to);
        self.world.plane.run_summed(&frame, ingress).unwrap();
    }

    /// As a frame that comes in: what XDP lets pass, TC sees next.
    pub fn arrives(&mut self, side: Side, frame: &[u8]) -> Seen {
        if self.hook == Hook::Xdp && matches!(side, Side::Front | Side::Back) {
            let seen = self.send(side, frame);
            if seen.class != Class::Pass {
                return seen;
            }
            assert_eq!(seen.packet, frame, "XDP passes nothing that it changed");
        }
        let hook = std::mem::replace(&mut self.hook, Hook::Tc);
        let seen = self.send(side, frame);
        self.hook = hook;
        seen
    }

    /// From a router on the servers' segment.
    #[track_caller]
    pub fn behind_router(&mut self, packet: &Packet) -> Seen {
        self.send(Side::Back, &packet.frame(mac_of(RS4), BACK_MAC))
    }

    /// Any service, with servers in the order they are added.
    pub fn serve(&mut self, spec: &ServiceSpec, servers: &[ServerSpec]) {
        let tables = self.tables();
        tables.add_service(spec).unwrap();
        for server in servers {
            tables.add_server(&spec.key, server).unwrap();
            if server.key.addr.is_ipv4() {
                tables.set_tunnel_source(server.key.addr, TUNNEL_SOURCE.into());
            }
        }
    }

    /// Sets a variable for this row.
    pub fn set(&mut self, variable: Variable, value: &str) {
        self.tables().set_variable(variable, value).unwrap();
    }

    /// What a listing shows, templates and connections, sorted.
    pub fn listing(&mut self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .tables()
            .connections()
            .iter()
            .map(|c| {
                let protocol = c.protocol.map_or("IP", |p| p.name());
                format!(
                    "{protocol} {} {} {} {}",
                    c.state.name(),
                    c.client,
                    c.virtual_addr,
                    c.destination
                )
            })
            .collect();
        lines.sort();
        lines
    }

    pub fn is_xdp(&self) -> bool {
        self.hook == Hook::Xdp
    }

    /// A SYN from a port of the client; the server's address it went to.
    #[track_caller]
    pub fn syn(&mut self, port: u16) -> Ipv4Addr {
        let seen = self.client_sends(client_tcp(port, crate::frame::SYN));
        let to = seen.sent().destination;
        *SERVERS
            .iter()
            .find(|s| mac_of(**s) == to)
            .expect("sent to a server")
    }

    /// Any bytes by any interface; a second after the last ones, as far as answers are limited.
    #[track_caller]
    pub fn send(&mut self, side: Side, frame: &[u8]) -> Seen {
        self.forget_answers();
        self.send_at_once(side, frame)
    }

    /// Hosts need not agree on what became of the frames so far.
    pub fn forget_seen(&mut self) {
        self.seen.clear();
    }

    /// No answers were sent of late.
    fn forget_answers(&mut self) {
        let maps = self.tables().maps();
        let (now, hz) = (maps.now(), maps.runtime.read(0).unwrap().hz);
        for cpu in 0..maps.wanted.len() {
            // SAFETY: the pointer is into the map; nothing else runs.
            unsafe { (*maps.wanted.at(cpu).unwrap()).credit_at = now.wrapping_sub(2 * hz) };
        }
    }

    /// Any bytes by any interface, in the same second as the last ones.
    #[track_caller]
    pub fn send_at_once(&mut self, side: Side, frame: &[u8]) -> Seen {
        let ingress = match side {
            Side::Front => self.world.front,
            Side::Back => self.world.back,
            Side::Loopback => 1,
            Side::Out => self.world.front,
        };
        if self.real {
            // As the daemon does: the ring of held fragments has room.
            self.world.plane.take_fragments();
        }
        let before = self.tables().drops(true);
        let (class, packet) = match (self.real, self.hook) {
            (true, _) if side == Side::Out => {
                let plane = &self.world.plane;
                let run = plane.run(Entry::TcEgress, frame, ingress).unwrap();
                (class_of_tc(run.verdict), run.packet)
            }
            (false, _) if side == Side::Out => self.world.user.run_egress(frame),
            (true, Hook::Xdp) => {
                let run = self.world.plane.run(Entry::Xdp, frame, ingress).unwrap();
                let class = match run.verdict {
                    1 => Class::Drop,
                    2 => Class::Pass,
                    3 | 4 => Class::Sent,
                    other => panic!("XDP verdict {other}"),
                };
                (class, run.packet)
            }
            (true, Hook::Tc) => {
                let run = self
                    .world
                    .plane
                    .run(Entry::TcIngress, frame, ingress)
                    .unwrap();
                (class_of_tc(run.verdict), run.packet)
            }
            (false, Hook::Xdp) => self.world.user.run::<true>(frame, ingress),
            (false, Hook::Tc) => self.world.user.run::<false>(frame, ingress),
        };
        let mut counted = Vec::new();
        for (before, after) in before.iter().zip(self.tables().drops(true)) {
            assert!(
                after.packets - before.packets <= 1,
                "{} counted twice",
                after.name
            );
            if after.packets != before.packets {
                counted.push(after.name);
            }
        }
        // What is left of a dropped packet is nobody's business.
        let packet = if class == Class::Drop {
            Vec::new()
        } else {
            packet
        };
        let seen = Seen {
            class,
            packet,
            counted,
            sent_in: frame.to_vec(),
        };
        let changed = seen.class != Class::Drop && seen.packet != seen.sent_in;
        if changed && recount(frame).is_ok() {
            recount(&seen.packet).unwrap_or_else(|what| panic!("{what} is wrong in {seen:x?}"));
        }
        self.seen.push(seen.clone());
        seen
    }
}

fn class_of_tc(verdict: i32) -> Class {
    match verdict {
        -1 => Class::Pass,
        2 => Class::Drop,
        7 => Class::Sent,
        other => panic!("TC verdict {other}"),
    }
}

impl Seen {
    #[track_caller]
    pub fn passes_untouched(&self) {
        assert_eq!(self.class, Class::Pass, "{self:x?}");
        assert_eq!(self.packet, self.sent_in);
        assert!(self.counted.is_empty(), "{:?}", self.counted);
    }

    #[track_caller]
    pub fn dropped(&self, reason: &str) {
        assert_eq!(
            (self.class, &self.counted[..]),
            (Class::Drop, &[reason.to_owned()][..])
        );
    }

    /// Forwarded: what left.
    #[track_caller]
    pub fn sent(&self) -> View {
        assert_eq!(self.class, Class::Sent, "{self:x?}");
        assert!(self.counted.is_empty(), "{:?}", self.counted);
        View::of(&self.packet).expect("a frame")
    }

    /// Forwarded to this link-layer address: the packet that left.
    #[track_caller]
    pub fn sent_to(&self, mac: Mac) -> Packet {
        assert_eq!(self.class, Class::Sent, "{self:x?}");
        assert!(self.counted.is_empty(), "{:?}", self.counted);
        assert_eq!(self.packet[..6], mac, "link-layer destination");
        Packet::of(&self.packet)
    }

    /// Forwarded for the kernel to find the neighbour: the packet that left.
    #[track_caller]
    pub fn resolved(&self) -> Packet {
        assert_eq!(self.class, Class::Sent, "{self:x?}");
        assert!(self.counted.is_empty(), "{:?}", self.counted);
        Packet::of(&self.packet)
    }

    /// Addresses and ports of what was forwarded: link-layer destination, source, destination.
    #[track_caller]
    pub fn sent_as(&self) -> (Mac, (Ipv4Addr, u16), (Ipv4Addr, u16)) {
        let view = self.sent();
        let ip = view.ip.expect("IPv4");
        let (sport, dport) = ip.ports.expect("ports");
        (
            view.destination,
            (ip.source, sport),
            (ip.destination, dport),
        )
    }

    /// Answered by an ICMP error about the frame, counted as `reason`.
    #[track_caller]
    pub fn answered(&self, kind: u8, code: u8, mtu: u16, reason: &str) {
        assert_eq!(self.class, Class::Sent, "{self:x?}");
        assert_eq!(self.counted, [reason]);
        let (frame, asked) = (&self.packet, &self.sent_in);
        assert_eq!(
            (&frame[0..6], &frame[6..12]),
            (&asked[6..12], &asked[0..6]),
            "turned round"
        );
        let l3 = 14;
        let total = usize::from(u16::from_be_bytes([asked[l3 + 2], asked[l3 + 3]]));
        let mut quoted = asked[l3..l3 + total.min(548)].to_vec();
        if (kind, code) == (3, 4) {
            // As the kernel: one is off the time to live already.
            quoted[8] -= 1;
            let sum = u32::from(u16::from_be_bytes([quoted[10], quoted[11]])) + 0x100;
            let sum = (sum + (sum >> 16)) as u16;
            quoted[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        let ip = &frame[l3..];
        assert_eq!(
            usize::from(u16::from_be_bytes([ip[2], ip[3]])),
            ip.len(),
            "length"
        );
        assert_eq!(ip.len(), 28 + quoted.len());
        assert_eq!((ip[0], ip[8], ip[9]), (0x45, 64, 1));
        assert_eq!(
            (&ip[12..16], &ip[16..20]),
            (&asked[l3 + 16..l3 + 20], &asked[l3 + 12..l3 + 16])
        );
        assert_eq!((ip[20], ip[21]), (kind, code), "type and code");
        assert_eq!(
            ip[24..28],
            [&[0, 0], &mtu.to_be_bytes()[..]].concat()[..],
            "MTU"
        );
        assert_eq!(ip[28..], quoted, "quotes the packet as it came");
    }
}

/// A service on an address.
pub fn service(protocol: Protocol, vip: SocketAddr) -> ServiceSpec {
    let key = ServiceKey::Address {
        protocol,
        addr: vip.ip(),
        port: vip.port(),
    };
    ServiceSpec::new(key, Scheduler::Rr)
}

/// A server of either family.
pub fn wide_server(rip: IpAddr, port: u16, forwarding: Forwarding) -> ServerSpec {
    spec(SocketAddr::new(rip, port), forwarding)
}

fn spec(server: SocketAddr, forwarding: Forwarding) -> ServerSpec {
    ServerSpec {
        key: ServerKey {
            addr: server.ip(),
            port: server.port(),
        },
        forwarding,
        weight: Weight::new(1).unwrap(),
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

/// A server by NAT, its port the client's.
pub fn nat(rip: Ipv4Addr, port: u16) -> ServerSpec {
    server(rip, port, Forwarding::Masquerade, 1)
}

pub fn direct(rip: Ipv4Addr) -> ServerSpec {
    server(rip, 80, Forwarding::Route, 1)
}

pub fn tunnel(rip: Ipv4Addr) -> ServerSpec {
    server(rip, 80, Forwarding::Tunnel(Encapsulation::Ipip), 1)
}

pub fn server(rip: Ipv4Addr, port: u16, forwarding: Forwarding, weight: u32) -> ServerSpec {
    ServerSpec {
        key: ServerKey {
            addr: IpAddr::V4(rip),
            port,
        },
        forwarding,
        weight: Weight::new(weight).unwrap(),
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

/// From the client's port to the VIP's port 80.
pub fn client_tcp(port: u16, flags: u8) -> Frame {
    Frame::tcp((CLIENT, port), (VIP, 80), flags)
}

/// From a server's port 80 to the client's port.
pub fn server_tcp(rip: Ipv4Addr, port: u16, flags: u8) -> Frame {
    Frame::tcp((rip, 80), (CLIENT, port), flags)
}
