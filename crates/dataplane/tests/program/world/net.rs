//! The networks in front of the director and behind it, of either family, and what lives there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pointsman_model::{
    Encapsulation, Forwarding, Protocol, Scheduler, ServerKey, ServerSpec, ServiceKey, ServiceSpec,
    Weight,
};
use pointsman_testkit::frames::Mac;

use crate::frame::Frame;

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

pub(super) const SERVERS: [Ipv4Addr; 4] = [RS1, RS2, RS3, RS4];
pub(super) const SERVERS6: [Ipv6Addr; 4] = [RS1_6, RS2_6, RS3_6, RS4_6];

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
        weight: Weight::new(weight).unwrap(),
        ..wide_server(rip.into(), port, forwarding)
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
