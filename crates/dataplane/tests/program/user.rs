//! User space as the third host of the core: plain tables, plain bytes, routes from a list.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::mem;

use pointsman_core::addr::{Address, Be32};
use pointsman_core::conn::{Hints, Set};
use pointsman_core::director::{
    self, FullNarrow, FullWide, Narrow, OneNarrow, OneWide, Verdict, Wide, call,
};
use pointsman_core::fragment::FragmentId;
use pointsman_core::ftp;
use pointsman_core::host::{self, Packet, Route, Shell, Tables as _};
use pointsman_core::inner::Version;
use pointsman_core::layout::{
    self, Control, Egress, MarkRule, NextHop, Runtime, ServerRecord, ServiceId, ServiceRecord,
    Stats, Wanted,
};
use pointsman_core::locality;
use pointsman_core::open;
use pointsman_core::plain;
use pointsman_core::rare::{self, RareNarrow, RareWide};
use pointsman_core::wire::ethernet;
use pointsman_dataplane::Tables;
use pointsman_dataplane::tables::maps::Maps;

/// What a hook would be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// On to the stack.
    Pass,
    /// Gone.
    Drop,
    /// Out of an interface.
    Sent,
}

/// Where the routes of the user-space host lead.
#[derive(Clone, Copy, Debug)]
pub enum To {
    /// Out of an interface to a neighbour, with an MTU.
    Neighbour(u32, [u8; 6], u16),
    /// Out of an interface to a neighbour nobody knows.
    Unknown(u32),
    /// The host itself.
    Local,
}

/// Tables, clock and routes.
pub struct UserSpace {
    pub tables: Tables,
    pub routes: Vec<([u8; 4], To)>,
    pub wide_routes: Vec<([u8; 16], To)>,
}

impl UserSpace {
    /// With `sets` sets of connections, at the jiffies that `clock` tells.
    pub fn new(sets: u32, clock: impl Fn() -> u32 + Send + 'static) -> Self {
        let maps = Maps::in_memory(sets, Box::new(clock));
        Self {
            tables: Tables::new(maps),
            routes: Vec::new(),
            wide_routes: Vec::new(),
        }
    }

    /// Runs the whole pipeline, as XDP (`HANDS_UP`) or TC would.
    pub fn run<const HANDS_UP: bool>(&self, frame: &[u8], ingress: u32) -> (Class, Vec<u8>) {
        let host = User::<HANDS_UP> {
            world: self,
            ingress,
            to: frame
                .get(..6)
                .and_then(|mac| mac.try_into().ok())
                .unwrap_or([0; 6]),
        };
        let bytes = Bytes {
            frame: frame.to_vec(),
            refuses_tags: !HANDS_UP,
        };
        self.go_on(&host, bytes, call::DIRECTOR)
    }

    /// How often each program ran and each verdict fell on this thread since the last time.
    pub fn paths() -> BTreeMap<String, u32> {
        PATHS.take()
    }

    /// Runs programs from `program` on, until one does not call another.
    fn go_on<const HANDS_UP: bool>(
        &self,
        host: &User<'_, HANDS_UP>,
        mut bytes: Bytes,
        mut program: u32,
    ) -> (Class, Vec<u8>) {
        // As often as programs may call each other.
        for _ in 0..16 {
            let verdict = match program {
                call::DIRECTOR => plain::ingress(host, &mut bytes),
                call::NARROW => director::ingress::<_, _, Narrow>(host, &mut bytes),
                call::WIDE => director::ingress::<_, _, Wide>(host, &mut bytes),
                call::RARE => rare::ingress::<_, _, RareNarrow>(host, &mut bytes),
                call::RARE_WIDE => rare::ingress::<_, _, RareWide>(host, &mut bytes),
                call::RARE_FLOW => rare::flow::<_, _, RareNarrow>(host, &mut bytes),
                call::RARE_FLOW_WIDE => rare::flow::<_, _, RareWide>(host, &mut bytes),
                call::ONE_PACKET => director::one_packet::<_, _, OneNarrow>(host, &mut bytes),
                call::ONE_PACKET_WIDE => director::one_packet::<_, _, OneWide>(host, &mut bytes),
                call::FULLNAT => director::full::<_, _, FullNarrow>(host, &mut bytes),
                call::FULLNAT_WIDE => director::full::<_, _, FullWide>(host, &mut bytes),
                call::FTP => ftp::ingress::<_, _, Narrow>(host, &mut bytes),
                call::FTP_WIDE => ftp::ingress::<_, _, Wide>(host, &mut bytes),
                call::UNREACHABLE => director::unreachable(host, &mut bytes),
                call::OPEN => open::open(host, &bytes),
                other => panic!("there is no program {other}"),
            };
            passed(format!("program {program}"));
            let said = format!("{verdict:?}");
            let name = said.split('(').next().unwrap_or_default();
            passed(format!("verdict {name}"));
            let class = match verdict {
                Verdict::Pass | Verdict::Stack | Verdict::HandUp => Class::Pass,
                Verdict::Drop(_) | Verdict::Held => Class::Drop,
                Verdict::Send(egress, _) => {
                    if HANDS_UP {
                        // SAFETY: the entry is in the table.
                        host.retag(&mut bytes, unsafe { *egress });
                    }
                    Class::Sent
                }
                Verdict::Resolve(..) | Verdict::ResolveWide(_) | Verdict::Answer => Class::Sent,
                Verdict::Loopback => {
                    bytes.frame[..12].fill(0);
                    Class::Sent
                }
                Verdict::Call(next) => {
                    program = next;
                    continue;
                }
            };
            return (class, bytes.frame);
        }
        (Class::Drop, bytes.frame)
    }

    /// What the director's own stack sends, on its way out.
    pub fn run_egress(&self, frame: &[u8]) -> (Class, Vec<u8>) {
        let mut bytes = Bytes {
            frame: frame.to_vec(),
            refuses_tags: true,
        };
        let host = User::<false> {
            world: self,
            ingress: 0,
            to: [0; 6],
        };
        let verdict = match director::egress::<_, _, Narrow>(&host, &mut bytes) {
            Verdict::Call(call::WIDE) => director::egress::<_, _, Wide>(&host, &mut bytes),
            verdict => verdict,
        };
        match verdict {
            Verdict::Call(program) => self.go_on(&host, bytes, program),
            Verdict::Drop(_) => (Class::Drop, bytes.frame),
            _ => (Class::Pass, bytes.frame),
        }
    }
}

thread_local! {
    static PATHS: RefCell<BTreeMap<String, u32>> = RefCell::default();
}

fn passed(by: String) {
    PATHS.with_borrow_mut(|paths| *paths.entry(by).or_default() += 1);
}

/// The host the core sees for one packet.
pub struct User<'a, const HANDS_UP: bool> {
    world: &'a UserSpace,
    ingress: u32,
    to: [u8; 6],
}

impl<'a, const HANDS_UP: bool> User<'a, HANDS_UP> {
    /// For a frame to the link-layer address `to` that came in by an interface.
    pub fn new(world: &'a UserSpace, ingress: u32, to: [u8; 6]) -> Self {
        Self { world, ingress, to }
    }

    fn maps(&self) -> &Maps {
        self.world.tables.maps()
    }

    fn egress_of(&self, ifindex: u32) -> Option<(u32, Egress)> {
        let at = self.maps().egress_ids.get(&ifindex)?;
        Some((at, self.maps().egress.read(at)?))
    }

    /// The VLAN tag an interface wants, as XDP puts it on.
    fn retag(&self, bytes: &mut Bytes, egress: Egress) {
        let tagged = matches!(bytes.frame[12..14], [0x81, 0] | [0x88, 0xa8]);
        let tci = egress.vlan.to_be_bytes();
        match (egress.vlan, tagged) {
            (0, true) if egress.xdp_ifindex != self.ingress => drop(bytes.frame.drain(12..16)),
            (0, _) => {}
            (_, true) => bytes.frame[ethernet::TCI..ethernet::TCI + 2].copy_from_slice(&tci),
            (_, false) => drop(bytes.frame.splice(12..12, [0x81, 0, tci[0], tci[1]])),
        }
    }
}

impl<const HANDS_UP: bool> host::Tables for User<'_, HANDS_UP> {
    fn runtime(&self) -> Option<*mut Runtime> {
        self.maps().runtime()
    }
    fn now(&self) -> u32 {
        self.maps().now()
    }
    fn set_mask(&self) -> u32 {
        self.maps().set_mask()
    }
    fn set(&self, index: u32) -> Option<*mut Set> {
        self.maps().set(index)
    }
    fn hints(&self, set: u32) -> Option<*mut Hints> {
        self.maps().hints(set)
    }
    fn wide(&self, slot: u32) -> Option<*mut layout::Wide> {
        self.maps().wide(slot)
    }
    fn control(&self, slot: u32) -> Option<*mut Control> {
        self.maps().control(slot)
    }
    fn wanted(&self) -> Option<*mut Wanted> {
        self.maps().wanted()
    }
    fn service_index(&self, id: &ServiceId) -> Option<u32> {
        self.maps().service_index(id)
    }
    fn service(&self, index: u32) -> Option<*mut ServiceRecord> {
        self.maps().service(index)
    }
    fn server(&self, index: u32) -> Option<*mut ServerRecord> {
        self.maps().server(index)
    }
    fn schedule_word(&self, index: u32) -> Option<u64> {
        self.maps().schedule_word(index)
    }
    fn wide_local(&self, index: u32) -> Option<*const Address> {
        self.maps().wide_local(index)
    }
    fn locality(&self, index: u32) -> Option<*mut locality::Entry> {
        self.maps().locality(index)
    }
    fn random(&self) -> u32 {
        self.maps().random()
    }
    fn stats(&self, server: u32) -> Option<*mut Stats> {
        self.maps().stats(server)
    }
    fn mark_rule(&self, index: u32) -> Option<*const MarkRule> {
        self.maps().mark_rule(index)
    }
    fn egress(&self, index: u16) -> Option<*const Egress> {
        self.maps().egress(index)
    }
    fn cpu(&self) -> u32 {
        self.maps().cpu()
    }
    fn fragment(&self, id: &FragmentId) -> Option<u64> {
        self.maps().fragment(id)
    }
    fn set_fragment(&self, id: &FragmentId, value: u64) {
        self.maps().set_fragment(id, value);
    }
    fn set_call_id(&self, slot: u32, id: &layout::CallId) {
        self.maps().set_call_id(slot, id);
    }
    fn count(&self, place: u32) {
        self.maps().count(place);
    }
}

impl<const HANDS_UP: bool> host::Host for User<'_, HANDS_UP> {
    const HANDS_UP: bool = HANDS_UP;

    fn ingress(&self) -> u32 {
        self.ingress
    }

    fn is_for_us(&self) -> bool {
        let own = self.egress_of(self.ingress).map(|(_, egress)| egress.mac);
        own.is_none_or(|own| own == words(self.to))
    }

    fn mark(&self) -> u32 {
        0
    }

    fn mtu(&self, ifindex: u32) -> u16 {
        self.egress_of(ifindex)
            .map_or(u16::MAX, |(_, egress)| egress.mtu as u16)
    }

    fn route_wide(&self, destination: *const Address) -> Route {
        // SAFETY: the address lies in the tables.
        let destination = unsafe { *destination };
        let to = self
            .world
            .wide_routes
            .iter()
            .find(|(address, _)| *address == destination.octets());
        match to {
            Some((_, To::Unknown(ifindex))) => {
                // SAFETY: one record of one CPU.
                unsafe { (*self.maps().wanted().unwrap()).next = destination };
                Route::UnresolvedWide(*ifindex)
            }
            to => self.route_to(to.map(|(_, to)| to), Be32::default()),
        }
    }

    fn route(&self, destination: Be32) -> Route {
        let to = self
            .world
            .routes
            .iter()
            .find(|(address, _)| *address == destination.octets());
        self.route_to(to.map(|(_, to)| to), destination)
    }
}

impl<const HANDS_UP: bool> User<'_, HANDS_UP> {
    fn route_to(&self, to: Option<&To>, destination: Be32) -> Route {
        match to {
            Some(To::Local) => Route::Resolved(NextHop::LOCAL),
            Some(To::Unknown(ifindex)) => Route::Unresolved(*ifindex, destination),
            Some(To::Neighbour(ifindex, mac, mtu)) => match self.egress_of(*ifindex) {
                Some((at, _)) => Route::Resolved(NextHop::remote(at as u16, words(*mac), *mtu)),
                None => Route::Unresolved(*ifindex, destination),
            },
            None => Route::Unreachable,
        }
    }
}

fn words(mac: [u8; 6]) -> [u16; 3] {
    [0, 2, 4].map(|i| u16::from_ne_bytes([mac[i], mac[i + 1]]))
}

/// A frame in plain memory.
#[derive(Clone, Debug)]
pub struct Bytes {
    pub frame: Vec<u8>,
    /// As TC, which cannot make room behind a tag that lies in the frame.
    pub refuses_tags: bool,
}

impl Bytes {
    fn make_room(&mut self, l3: usize, bytes: impl IntoIterator<Item = u8>) -> Option<()> {
        if self.refuses_tags && l3 != ethernet::LEN {
            return None;
        }
        self.frame.splice(l3..l3, bytes);
        Some(())
    }
}

impl Packet for Bytes {
    fn len(&self) -> u32 {
        self.frame.len() as u32
    }

    fn pointer<T>(&self, at: usize) -> Option<*mut T> {
        let bytes = self.frame.get(at..at.checked_add(mem::size_of::<T>())?)?;
        Some(bytes.as_ptr().cast::<T>().cast_mut())
    }

    fn hold(&mut self) -> bool {
        true
    }

    fn push(&mut self, l3: usize, len: usize, _outer: Version, _shell: Shell) -> Option<()> {
        self.make_room(l3, vec![0; len])
    }

    unsafe fn insert(&mut self, at: usize, len: u32, _scratch: *mut u8) -> Option<()> {
        let room = vec![0; len as usize];
        self.frame.get(at..)?;
        self.frame.splice(at..at, room);
        Some(())
    }

    fn rehead(&mut self, l3: usize, old: u32, new: u32, _to: Version) -> Option<()> {
        if self.refuses_tags && l3 != ethernet::LEN {
            return None;
        }
        let end = l3 + old as usize;
        self.frame.get(l3..end)?;
        self.frame.splice(l3..end, vec![0; new as usize]);
        Some(())
    }

    fn reshape(&mut self, l3: usize, bytes: u32, len: u32) -> Option<()> {
        self.make_room(l3, vec![0; bytes as usize])?;
        self.frame.resize(len as usize, 0);
        Some(())
    }
}
