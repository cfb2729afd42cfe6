//! IPVS's operations on the tables that packets read.
//!
//! The tables are the truth: everything a restarted daemon has to know can be read back from them.
//! What this module keeps besides is an index of it, and the rate estimators.

mod address;
mod adopt;
mod arena;
mod connections;
mod counters;
mod egress;
mod hashing;
mod local;
mod locality;
pub mod maps;
mod marks;
mod place;
mod probes;
mod schedule;
mod servers;
mod services;
mod settings;
mod sweep;
#[cfg(test)]
mod tests;
mod views;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::IpAddr;
use std::time::Instant;

use pointsman_core::addr::Address;
use pointsman_core::layout::{Runtime, ServiceId, Settings, VERSION, WAYS};
use pointsman_core::proto::{SCTP_TIMEOUT, UDP_DEFAULT_SECS, UDP_TIMEOUT, sctp, tcp};
use pointsman_model::{
    ConnectionView, RateEstimator, ServerKey, ServerSpec, ServiceKey, ServiceSpec, Timeouts,
};

use crate::Interface;
use arena::{Arena, Block};
use locality::Upkeep;
use maps::Maps;
use schedule::Place;
pub use sweep::Sweep;

/// The tables shared with the programs, and IPVS's operations on them.
pub struct Tables {
    maps: Maps,
    hz: u32,
    services: Vec<Option<Service>>,
    by_key: HashMap<ServiceKey, u32>,
    /// Services on each VIP, by the id that stands for "some service uses it".
    vips: HashMap<ServiceId, u32>,
    kinds: Kinds,
    servers: HashMap<u32, Server>,
    by_address: HashMap<IpAddr, Vec<u32>>,
    /// Servers as probes reach them.
    probed: HashMap<(ServiceKey, ServerKey), u32>,
    /// Removed servers that connections may still refer to, by service and server.
    trash: HashMap<(ServiceKey, ServerKey), u32>,
    free_servers: Vec<u32>,
    next_server: u32,
    next_order: u32,
    arena: Arena,
    /// Places of local addresses of IPv6.
    wide_locals: HashMap<Address, u32>,
    /// VLAN devices and their parents, by interface index.
    vlan_devices: HashMap<u32, u32>,
    /// Interfaces XDP may send out of.
    xdp: HashSet<u32>,
    totals: RateEstimator,
    /// Interfaces by name, for mark rules.
    interfaces: HashMap<String, u32>,
    /// When mark rules last changed halves.
    marks_changed: Option<Instant>,
    /// A server went whose connections are to go with it.
    nodest_due: bool,
    /// State of the small generator that `drop_entry` chooses by; never 0.
    random: u64,
    /// The first set that the sweep under way has still to look at, and what it did so far.
    swept: (u32, Sweep),
    /// The first service whose rates have still to be estimated this time.
    estimated: usize,
}

/// About how often Call-IDs of templates that are gone are looked for.
const FORGET_SECS: u32 = 64;

/// Services of the kinds that packets look for only where there are any.
#[derive(Default)]
struct Kinds {
    marks: u32,
    any_port: u32,
    ftp: u32,
    engines: u32,
}

struct Service {
    spec: ServiceSpec,
    /// Newest first.
    servers: Vec<u32>,
    /// LIPs, in the order in which they were added.
    local_addresses: Vec<IpAddr>,
    local_block: Option<Block>,
    place: Place,
    block: Option<Block>,
    upkeep: Upkeep,
    rates: RateEstimator,
}

struct Server {
    spec: ServerSpec,
    service: ServiceKey,
    rates: RateEstimator,
}

/// A runtime record for new tables.
pub(crate) fn fresh_runtime(cpus: u32, hz: u32, seed: [u64; 2]) -> Runtime {
    // SAFETY: all bits zero is a valid record.
    let mut runtime: Runtime = unsafe { std::mem::zeroed() };
    runtime.version = VERSION;
    runtime.epoch = 1;
    runtime.seed = seed;
    runtime.hz = hz;
    runtime.cpus = cpus;
    for (state, secs) in tcp::DEFAULT_SECS.into_iter().enumerate() {
        runtime.timeouts[state] = secs * hz;
    }
    runtime.timeouts[UDP_TIMEOUT] = UDP_DEFAULT_SECS * hz;
    for (state, secs) in sctp::DEFAULT_SECS.into_iter().enumerate() {
        runtime.timeouts[SCTP_TIMEOUT + state] = secs * hz;
    }
    runtime.settings = Settings {
        conn_reuse_mode: 1,
        pmtu_disc: 1,
        lblc_expiration: 86_400 * hz,
        lblcr_expiration: 86_400 * hz,
        ..Settings::default()
    };
    runtime.defence.amemthresh = 1024;
    runtime.defence.am_droprate = 10;
    runtime.defence.run_estimation = 1;
    runtime
}

impl Tables {
    /// Takes tables over, with whatever services they already hold.
    pub fn new(maps: Maps) -> Self {
        let runtime = maps.runtime.read(0).expect("one record");
        let mut tables = Self {
            hz: runtime.hz.max(1),
            arena: Arena::new(maps.schedules.len()),
            maps,
            wide_locals: HashMap::new(),
            services: Vec::new(),
            by_key: HashMap::new(),
            vips: HashMap::new(),
            kinds: Kinds::default(),
            servers: HashMap::new(),
            by_address: HashMap::new(),
            probed: HashMap::new(),
            trash: HashMap::new(),
            free_servers: Vec::new(),
            next_server: 0,
            next_order: 1,
            vlan_devices: HashMap::new(),
            xdp: HashSet::new(),
            totals: RateEstimator::default(),
            interfaces: HashMap::new(),
            marks_changed: None,
            nodest_due: false,
            random: RandomState::new().build_hasher().finish() | 1,
            swept: (0, Sweep::default()),
            estimated: 0,
        };
        tables.adopt();
        tables
    }

    /// Live connections, in the order of the table.
    pub fn connections(&self) -> Vec<ConnectionView> {
        connections::list(&self.maps, self.hz)
    }

    /// Slots of the connection table.
    pub fn connection_slots(&self) -> u32 {
        self.maps.hints.len() * WAYS
    }

    /// Ticks of the kernel in a second.
    pub fn hz(&self) -> u32 {
        self.hz
    }

    /// Present timeouts.
    pub fn timeouts(&self) -> Timeouts {
        let runtime = self.maps.runtime.read(0).expect("one record");
        let secs = |at: usize| runtime.timeouts[at] / self.hz;
        Timeouts {
            tcp: secs(tcp::ESTABLISHED.into()),
            tcp_fin: secs(tcp::FIN_WAIT.into()),
            udp: secs(UDP_TIMEOUT),
        }
    }

    /// Changes timeouts; zeros keep the present value. Running timers are not touched.
    pub fn set_timeouts(&mut self, change: Timeouts) {
        let new = self.timeouts().with(change);
        let hz = self.hz;
        let at = self.maps.runtime.at(0).expect("one record");
        for (index, secs) in [
            (usize::from(tcp::ESTABLISHED), new.tcp),
            (usize::from(tcp::FIN_WAIT), new.tcp_fin),
            (UDP_TIMEOUT, new.udp),
        ] {
            // Time stamps are compared as signed differences: half the range is the most.
            let jiffies = secs.saturating_mul(hz).min(i32::MAX as u32);
            // SAFETY: the pointer is into the map, the index below 32.
            unsafe { (&raw mut (*at).timeouts[index]).write_volatile(jiffies) };
        }
    }

    /// A whole sweep at once, and [`Tables::tend`].
    pub fn sweep(&mut self) -> Sweep {
        self.swept = (0, Sweep::default());
        let done = self.sweep_connections();
        self.tend();
        done
    }

    /// Removes lapsed connections, wherever they are, and settles the counts of their servers.
    pub fn sweep_connections(&self) -> Sweep {
        sweep::sweep(&self.maps, 0..self.maps.hints.len())
    }

    /// Goes on with [`Tables::sweep_connections`], by so many sets; with the last of them, what was done
    /// since the first one.
    pub fn sweep_part(&mut self, sets: u32) -> Option<Sweep> {
        let (from, all) = (self.swept.0, self.maps.hints.len());
        let to = from.saturating_add(sets).min(all);
        self.swept.1 += sweep::sweep(&self.maps, from..to);
        self.swept.0 = to;
        (to == all).then(|| std::mem::take(&mut self.swept).1)
    }

    /// Removes connections that the variables give up, tends the caches of lblc and lblcr, and frees servers
    /// nobody refers to any more; to be called every second.
    pub fn tend(&mut self) {
        self.sweep_by_settings();
        self.tend_caches();
        self.empty_trash();
        if self.kinds.engines != 0 && ((self.maps.clock)() / self.hz).is_multiple_of(FORGET_SECS) {
            sweep::forget_call_ids(&self.maps);
        }
    }

    /// An interface appeared or changed.
    pub fn set_interface(&mut self, interface: &Interface) {
        self.mark_interface(interface);
        if let Some((parent, _)) = interface.vlan {
            self.vlan_devices.insert(interface.index, parent);
            self.count_vlan_devices();
        }
        let sends = interface.vlan.map_or(interface.index, |(parent, _)| parent);
        let xdp = self.xdp.contains(&sends);
        if egress::set(&mut self.maps, interface, xdp) {
            self.advance_epoch();
        }
    }

    /// An interface is gone.
    pub fn remove_interface(&mut self, index: u32) {
        self.unmark_interface(index);
        if self.vlan_devices.remove(&index).is_some() {
            self.count_vlan_devices();
        }
        if egress::remove(&mut self.maps, index) {
            self.advance_epoch();
        }
    }

    /// Whether XDP may send out of an interface: only where it runs natively itself. Elsewhere the
    /// driver may drop what it is handed, silently; TC sends in its place.
    pub fn set_xdp(&mut self, index: u32, native: bool) {
        if native {
            self.xdp.insert(index);
        } else {
            self.xdp.remove(&index);
        }
        egress::set_xdp(&self.maps, index, index, native);
        for (&vlan, _) in self
            .vlan_devices
            .iter()
            .filter(|&(_, &parent)| parent == index)
        {
            egress::set_xdp(&self.maps, vlan, index, native);
        }
    }

    /// A route, neighbour, address or link changed: cached next hops are looked up again.
    pub fn advance_epoch(&mut self) {
        // A large odd step: slots keep epochs mixed with their use count (`Tag::stamp`), and a stamp
        // of one epoch and use must not look like one of another.
        const STEP: u32 = 0x9e37_79b1;
        let at = self.maps.runtime.at(0).expect("one record");
        // SAFETY: the pointer is into the map; user space alone writes the epoch.
        unsafe {
            let epoch = &raw mut (*at).epoch;
            epoch.write_volatile(epoch.read_volatile().wrapping_add(STEP).max(1));
        }
    }

    /// Removes every connection.
    pub fn clear_connections(&mut self) {
        sweep::clear(&self.maps);
    }

    /// The tables themselves, for tests and benches.
    pub fn maps(&self) -> &Maps {
        &self.maps
    }

    /// TC leaves tagged frames to VLAN devices if there are any.
    fn count_vlan_devices(&self) {
        let at = self.maps.runtime.at(0).expect("one record");
        let count = self.vlan_devices.len() as u32;
        // SAFETY: the pointer is into the map.
        unsafe { (&raw mut (*at).vlan_devices).write_volatile(count) };
    }

    fn index_of(&self, key: &ServiceKey) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    fn service_mut(&mut self, index: u32) -> &mut Service {
        self.services[index as usize]
            .as_mut()
            .expect("indexed services exist")
    }

    fn take_order(&mut self) -> u32 {
        self.next_order += 1;
        self.next_order - 1
    }
}
