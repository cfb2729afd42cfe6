//! One host in one row: what is sent to it, and what becomes of that.

use std::net::{IpAddr, Ipv4Addr};

use pointsman_core::conn::{Slot, Status, Tag};
use pointsman_core::host::Tables as _;
use pointsman_core::layout::WAYS;
use pointsman_dataplane::Tables;
use pointsman_dataplane::test_run::Entry;
use pointsman_model::{
    ConnectionState, Counters, Protocol, Scheduler, ServerSpec, ServerView, ServiceKey,
    ServiceSpec, Timeouts, Variable,
};
use pointsman_testkit::frames::{Mac, View};

use super::*;
use crate::frame::{Frame, recount};
use crate::packet::Packet;
use crate::user::{Class, UserSpace};

/// One host in one row.
pub struct Stage<'w> {
    pub(super) world: &'w mut World,
    pub hook: Hook,
    /// The eBPF program, not user space.
    pub(super) real: bool,
    pub(super) seen: Vec<Seen>,
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
        self.serve(&ServiceSpec::new(key, scheduler), servers);
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
