//! The packets that are sent: one of each flow, by turns.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use aya::Pod;
use pointsman_model::{Family, Protocol};
use pointsman_testkit::frames::{self, ACK, Ethernet, Segment};

use crate::rig::Interface;

/// Flows are visited in steps of a prime, so that neighbours in time are not neighbours in memory.
const STRIDE: u32 = 7919;
/// Bytes of a packet that are restored: headers of Ethernet, IPv6 and TCP.
const RESTORED: usize = 80;
/// Port of every service and server.
pub const PORT: u16 = 80;

/// The client whose port and low bytes of the address tell flows apart.
pub fn client(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 1, 0, 2).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2).into(),
    }
}

/// The VIP of service `n`.
pub fn vip(family: Family, n: u16) -> IpAddr {
    let [high, low] = n.to_be_bytes();
    match family {
        Family::V4 => Ipv4Addr::new(10, 2, high, low).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, n).into(),
    }
}

/// Real server `n`.
pub fn server(family: Family, n: u16) -> IpAddr {
    let [high, low] = (10 + n).to_be_bytes();
    match family {
        Family::V4 => Ipv4Addr::new(192, 168, high, low).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 3, 0, 0, 0, 0, 0, 10 + n).into(),
    }
}

/// The director's address towards the servers.
pub fn director(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(192, 168, 0, 1).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 3, 0, 0, 0, 0, 0, 1).into(),
    }
}

/// Local address `n` of FULLNAT.
pub fn local(family: Family, n: u16) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(192, 168, 100, n as u8).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 3, 0, 0, 0, 0, 1, n).into(),
    }
}

/// Offsets of the low bytes of the source and destination address, and of the transport header.
fn offsets(family: Family) -> [u32; 3] {
    match family {
        Family::V4 => [14 + 14, 14 + 18, 14 + 20],
        Family::V6 => [14 + 8 + 14, 14 + 24 + 14, 14 + 40],
    }
}

/// The same as `Plan` in `bpf/src/bin/bench.rs`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Plan {
    /// Length of the packet.
    pub len: u32,
    flows: u32,
    stride: u32,
    address_at: u32,
    port_at: u32,
    _reserved: u32,
    /// The packet.
    pub packet: [u8; RESTORED],
}

// SAFETY: plain numbers without padding.
unsafe impl Pod for Plan {}

/// What to send: where it comes in, what it is.
#[derive(Clone, Copy)]
pub struct Traffic {
    /// Where it comes in.
    pub interface: Interface,
    /// The packet, and how it is changed from flow to flow.
    pub plan: Plan,
}

impl Traffic {
    /// Flow by flow: whoever gives flows memory in the order they come would else meet them in that order again.
    pub fn in_order(mut self) -> Self {
        self.plan.stride = 1;
        self
    }

    /// Of other clients in each round, until the sixteenth: 4,096 addresses on.
    pub fn of_round(mut self, round: u32) -> Self {
        let at = self.plan.address_at as usize;
        let low = &mut self.plan.packet[at..at + 2];
        let moved = u16::from_be_bytes([low[0], low[1]]).wrapping_add((round as u16) << 12);
        low.copy_from_slice(&moved.to_be_bytes());
        self
    }
}

/// Packets of clients, told apart by source.
pub fn requests(flows: u32, family: Family, protocol: Protocol, flags: u8) -> Traffic {
    let [source, _, transport] = offsets(family);
    let (from, to) = (client(family), vip(family, 1));
    let plan = plan(flows, packet(from, to, protocol, flags), source, transport);
    let interface = Interface::Front;
    Traffic { interface, plan }
}

/// TCP packets of the first real server, told apart by destination.
pub fn replies(flows: u32, family: Family) -> Traffic {
    let [_, destination, transport] = offsets(family);
    let mut packet = packet(server(family, 0), client(family), Protocol::Tcp, ACK);
    // From the service's port; the other is a flow's.
    let at = transport as usize - 14;
    packet[at..at + 2].copy_from_slice(&PORT.to_be_bytes());
    let interface = Interface::Back;
    let plan = plan(flows, packet, destination, transport + 2);
    Traffic { interface, plan }
}

fn packet(from: IpAddr, to: IpAddr, protocol: Protocol, flags: u8) -> Vec<u8> {
    let (from, to) = (SocketAddr::new(from, 1024), SocketAddr::new(to, PORT));
    match (protocol, from, to) {
        (Protocol::Udp, SocketAddr::V4(from), SocketAddr::V4(to)) => {
            frames::udp((*from.ip(), from.port()), (*to.ip(), to.port()), &[0; 12])
        }
        (Protocol::Tcp, from, to) => Segment {
            flags,
            sequence: 1,
            ..Segment::default()
        }
        .packet(from, to),
        _ => unreachable!("no such row"),
    }
}

fn plan(flows: u32, ip: Vec<u8>, address_at: u32, port_at: u32) -> Plan {
    let ethernet = Ethernet {
        destination: [2, 0, 0, 0, 0, 1],
        source: [2, 0, 0, 0, 0, 2],
        vlan: None,
    };
    let kind = if ip[0] >> 4 == 6 {
        frames::IPV6
    } else {
        frames::IPV4
    };
    let mut packet = [0; RESTORED];
    let frame = ethernet.frame(kind, &ip);
    packet[..frame.len()].copy_from_slice(&frame);
    Plan {
        len: RESTORED as u32,
        flows,
        stride: STRIDE,
        address_at,
        port_at,
        _reserved: 0,
        packet,
    }
}
