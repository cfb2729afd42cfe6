//! A namespace with two interfaces, the real programs in it, and a director in user space beside
//! them: every row is played on XDP and TC, and user space has to agree with both to the byte.

use std::net::IpAddr;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pointsman_core::layout::WAYS;
use pointsman_dataplane::{DataPlane, HookChoice, Interface, Options, Programs};
use pointsman_testkit::frames::Mac;
use pointsman_testkit::{Names, Netns, Pins, wire};

use crate::user::{To, UserSpace};

mod net;
mod stage;

pub use net::*;
use net::{SERVERS, SERVERS6};
pub use stage::{Seen, Stage};

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

/// Jiffies in user space: timers run beyond the wrap.
const NEAR_THE_WRAP: u32 = u32::MAX - 500;

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

/// How long the last to leave the shared world waits for another to come.
const LINGERS: Duration = Duration::from_millis(500);

/// The test runner starts a test when one has ended: without waiting, two that end together would take the world
/// down, and the next would make it anew.
fn leave(shared: Arc<Shared>) {
    let since = Instant::now();
    while since.elapsed() < LINGERS {
        // One at a time, or the last two would each take the other for one who stays.
        let alone = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::strong_count(&shared) > 1 {
            // Under the lock; another is left, so that nothing is taken down here.
            drop(shared);
            return;
        }
        drop(alone);
        thread::sleep(Duration::from_millis(5));
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
        let done = told.recv();
        leave(shared);
        match done {
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
        let neighbour = |at: IpAddr, mac, dev| {
            let mac = text(mac);
            ip(&format!(
                "neighbour add {at} lladdr {mac} dev {dev} nud permanent"
            ));
        };
        neighbour(CLIENT.into(), CLIENT_MAC, "front");
        for server in SERVERS {
            neighbour(server.into(), mac_of(server), "back");
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
        neighbour(CLIENT6.into(), CLIENT_MAC, "front");
        for server in SERVERS6 {
            neighbour(server.into(), mac_of(server), "back");
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
