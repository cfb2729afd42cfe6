//! The networks of the LVS text books, each host a namespace.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::wire::{Lan, cable, complete_frames};
use crate::{Error, Names, Netns, PageServer, pass_everything};

/// Which network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The director stands between client and servers, and is the servers' gateway.
    ///
    /// ```text
    /// client ──────────── director ──┬── rs1 .10     VIP 172.25.254.100
    /// 172.25.254.10   .100     .100  └── rs2 .20     servers in 192.168.0.0/24
    /// ```
    Nat,
    /// Director and servers share a segment behind a router.
    ///
    /// ```text
    /// client ──────────── router ──┬── director .200
    /// 172.25.254.10   .1      .1   ├── rs1 .101      VIP 192.168.0.100
    ///                              └── rs2 .102      segment 192.168.0.0/24
    /// ```
    DirectRouting,
    /// The servers are in another network than the director.
    ///
    /// ```text
    /// client ──────────── router ──── director 192.168.0.200     VIP 192.168.0.100
    /// 172.25.254.10   .1     │.1
    ///                        └───┬─── rs1 10.9.0.11
    ///                         .1 └─── rs2 10.9.0.12
    /// ```
    Tunnel,
}

/// What to build.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How the namespaces are called.
    pub names: Names,
    /// Which network.
    pub method: Method,
    /// Prepare the cables for native XDP on the director; costs bulk throughput, so only then.
    pub native_xdp: bool,
    /// Put the VIP on the `lo` of director and servers, and silence the servers' ARP for it. A
    /// lesson leaves this to itself.
    pub ready: bool,
}

impl Plan {
    /// A network for a test: unique names, everything ready.
    pub fn test(method: Method, native_xdp: bool) -> Self {
        Self {
            names: Names::transient(),
            method,
            native_xdp,
            ready: true,
        }
    }
}

/// A real server.
#[derive(Debug)]
pub struct Server {
    /// `rs1`.
    pub name: String,
    /// Where it lives.
    pub netns: Netns,
    /// Its RIP.
    pub addr: Ipv4Addr,
}

impl Server {
    /// Starts a page server that names itself `rs1 - RIP`, on every address of the host.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn serve(&self, port: u16) -> Result<PageServer, Error> {
        PageServer::start(&self.netns, &self.name, self.addr, port)
    }
}

/// A network that stands.
#[derive(Debug)]
pub struct Topology {
    /// Which one.
    pub method: Method,
    /// The virtual address.
    pub vip: Ipv4Addr,
    /// The client.
    pub client: Netns,
    /// The client's address.
    pub client_addr: Ipv4Addr,
    /// The director.
    pub director: Netns,
    /// The second director, where there are two.
    pub backup: Option<Netns>,
    /// `rs1` and `rs2`.
    pub servers: Vec<Server>,
    /// Router and segments.
    pub others: Vec<Netns>,
}

impl Topology {
    /// Builds it.
    ///
    /// # Errors
    /// Without root, or when one of the programs `ip` and `ethtool` is missing.
    pub fn build(plan: &Plan) -> Result<Self, Error> {
        let topology = match plan.method {
            Method::Nat => nat(&plan.names)?,
            Method::DirectRouting => direct_routing(&plan.names)?,
            Method::Tunnel => tunnel(&plan.names)?,
        };
        topology.finish(plan)
    }

    /// Builds it with two directors, for which VRRP moves the VIP.
    ///
    /// ```text
    /// NAT            wan 172.25.254.0/24         lan 192.168.0.0/24
    /// client .10 ──┬── .101 director .101 ──┬── rs1 .10   VIP 172.25.254.100, and
    ///              └── .102 backup   .102 ──┴── rs2 .20   the servers' gateway 192.168.0.100
    ///
    /// direct routing                          lan 192.168.0.0/24
    /// client .10 ──── 172.25.254.1 router .1 ──┬── director .200   VIP 192.168.0.100
    ///                                          ├── backup .201
    ///                                          └── rs1 .101, rs2 .102
    /// ```
    ///
    /// # Errors
    /// As [`build`](Self::build).
    ///
    /// # Panics
    /// For tunnelling, of which there is none.
    pub fn build_pair(plan: &Plan) -> Result<Self, Error> {
        let topology = match plan.method {
            Method::Nat => nat_pair(&plan.names)?,
            Method::DirectRouting => direct_routing_pair(&plan.names)?,
            Method::Tunnel => panic!("no network of tunnels with two directors"),
        };
        topology.finish(plan)
    }

    fn finish(self, plan: &Plan) -> Result<Self, Error> {
        let topology = self;
        for host in topology.hosts() {
            // What a namespace starts with depends on the machine.
            for scope in ["all", "default", "lo", "eth0"] {
                host.sysctl(&format!("net.ipv4.conf.{scope}.rp_filter"), "0")?;
            }
        }
        if plan.ready {
            topology.place_vip()?;
        }
        if plan.native_xdp {
            topology.prepare_for_native_xdp()?;
        }
        Ok(topology)
    }

    /// Everything that has addresses: client, director, servers, router.
    pub fn hosts(&self) -> impl Iterator<Item = &Netns> {
        let servers = self.servers.iter().map(|server| &server.netns);
        let routers = self.others.iter().filter(|other| other.label() == "router");
        [&self.client, &self.director]
            .into_iter()
            .chain(&self.backup)
            .chain(servers)
            .chain(routers)
    }

    /// Router or segment `label` (`router`, `lan`, `farm`).
    ///
    /// # Panics
    /// When this network has none of that name.
    pub fn other(&self, label: &str) -> &Netns {
        let found = self.others.iter().find(|other| other.label() == label);
        found.unwrap_or_else(|| panic!("{:?} has no {label}", self.method))
    }

    /// VIP and port.
    pub fn service(&self, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(self.vip, port)
    }

    /// Starts a page server on every real server.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn serve(&self, port: u16) -> Result<Vec<PageServer>, Error> {
        self.servers
            .iter()
            .map(|server| server.serve(port))
            .collect()
    }

    /// Leaves it standing when dropped.
    pub fn keep(&mut self) {
        let servers = self.servers.iter_mut().map(|server| &mut server.netns);
        let all = [&mut self.client, &mut self.director]
            .into_iter()
            .chain(&mut self.backup)
            .chain(servers);
        all.chain(&mut self.others).for_each(Netns::keep);
    }

    fn place_vip(&self) -> Result<(), Error> {
        if self.method == Method::Nat {
            return Ok(());
        }
        // Of two directors, VRRP says who has it.
        if self.backup.is_none() {
            self.director
                .ip(&format!("addr add {}/32 dev lo", self.vip))?;
        }
        for server in &self.servers {
            for scope in ["all", "eth0"] {
                server
                    .netns
                    .sysctl(&format!("net.ipv4.conf.{scope}.arp_ignore"), "1")?;
                server
                    .netns
                    .sysctl(&format!("net.ipv4.conf.{scope}.arp_announce"), "2")?;
            }
            server
                .netns
                .ip(&format!("addr add {}/32 dev lo", self.vip))?;
        }
        Ok(())
    }

    fn prepare_for_native_xdp(&self) -> Result<(), Error> {
        for host in self.hosts() {
            for link in host.links()? {
                if let Some(name) = link["ifname"].as_str()
                    && name != "lo"
                {
                    complete_frames(host, name)?;
                }
            }
        }
        // The far ends of the director's cables.
        let lan = self.other("lan");
        complete_frames(lan, "director")?;
        pass_everything(lan, "director")?;
        match self.method {
            Method::Nat => pass_everything(&self.client, "eth0"),
            Method::DirectRouting | Method::Tunnel => Ok(()),
        }
    }
}

/// A host on a segment with its address and default gateway.
fn host(names: &Names, label: &str, lan: &Lan, cidr: &str, gateway: &str) -> Result<Netns, Error> {
    let netns = Netns::new(names, label)?;
    lan.plug(&netns, "eth0")?;
    address(&netns, "eth0", cidr)?;
    netns.ip(&format!("route add default via {gateway}"))?;
    Ok(netns)
}

fn address(netns: &Netns, interface: &str, cidr: &str) -> Result<(), Error> {
    netns
        .ip(&format!("addr add {cidr} dev {interface}"))
        .map(drop)
}

fn servers(
    names: &Names,
    lan: &Lan,
    addrs: [Ipv4Addr; 2],
    gateway: &str,
) -> Result<Vec<Server>, Error> {
    let one = |(n, addr): (usize, &Ipv4Addr)| {
        let name = format!("rs{}", n + 1);
        let netns = host(names, &name, lan, &format!("{addr}/24"), gateway)?;
        Ok(Server {
            name,
            netns,
            addr: *addr,
        })
    };
    addrs.iter().enumerate().map(one).collect()
}

const CLIENT: Ipv4Addr = Ipv4Addr::new(172, 25, 254, 10);

fn client(names: &Names, beyond: (&Netns, &str)) -> Result<Netns, Error> {
    let client = Netns::new(names, "client")?;
    cable((&client, "eth0"), beyond)?;
    address(&client, "eth0", "172.25.254.10/24")?;
    Ok(client)
}

fn nat(names: &Names) -> Result<Topology, Error> {
    let director = Netns::new(names, "director")?;
    let client = client(names, (&director, "eth0"))?;
    address(&director, "eth0", "172.25.254.100/24")?;
    let lan = Lan::new(names, "lan")?;
    lan.plug(&director, "eth1")?;
    address(&director, "eth1", "192.168.0.100/24")?;
    director.sysctl("net.ipv4.ip_forward", "1")?;
    let addrs = [
        Ipv4Addr::new(192, 168, 0, 10),
        Ipv4Addr::new(192, 168, 0, 20),
    ];
    Ok(Topology {
        method: Method::Nat,
        vip: Ipv4Addr::new(172, 25, 254, 100),
        client,
        client_addr: CLIENT,
        director,
        backup: None,
        servers: servers(names, &lan, addrs, "192.168.0.100")?,
        others: vec![lan.into_netns()],
    })
}

fn nat_pair(names: &Names) -> Result<Topology, Error> {
    let wan = Lan::new(names, "wan")?;
    let lan = Lan::new(names, "lan")?;
    let client = Netns::new(names, "client")?;
    wan.plug(&client, "eth0")?;
    address(&client, "eth0", "172.25.254.10/24")?;
    let director = |label: &str, number: u8| {
        let director = Netns::new(names, label)?;
        wan.plug(&director, "eth0")?;
        address(&director, "eth0", &format!("172.25.254.{number}/24"))?;
        lan.plug(&director, "eth1")?;
        address(&director, "eth1", &format!("192.168.0.{number}/24"))?;
        director.sysctl("net.ipv4.ip_forward", "1")?;
        Ok::<_, Error>(director)
    };
    let (first, second) = (director("director", 101)?, director("backup", 102)?);
    let addrs = [
        Ipv4Addr::new(192, 168, 0, 10),
        Ipv4Addr::new(192, 168, 0, 20),
    ];
    Ok(Topology {
        method: Method::Nat,
        vip: Ipv4Addr::new(172, 25, 254, 100),
        client,
        client_addr: CLIENT,
        director: first,
        backup: Some(second),
        servers: servers(names, &lan, addrs, "192.168.0.100")?,
        others: vec![lan.into_netns(), wan.into_netns()],
    })
}

fn direct_routing_pair(names: &Names) -> Result<Topology, Error> {
    let lan = Lan::new(names, "lan")?;
    let (client, router) = behind_router(names, &lan)?;
    let director = |label: &str, cidr| host(names, label, &lan, cidr, "192.168.0.1");
    let first = director("director", "192.168.0.200/24")?;
    let second = director("backup", "192.168.0.201/24")?;
    let addrs = [
        Ipv4Addr::new(192, 168, 0, 101),
        Ipv4Addr::new(192, 168, 0, 102),
    ];
    Ok(Topology {
        method: Method::DirectRouting,
        vip: Ipv4Addr::new(192, 168, 0, 100),
        client,
        client_addr: CLIENT,
        director: first,
        backup: Some(second),
        servers: servers(names, &lan, addrs, "192.168.0.1")?,
        others: vec![router, lan.into_netns()],
    })
}

/// Client and router; the router's `eth1` is on `lan`.
fn behind_router(names: &Names, lan: &Lan) -> Result<(Netns, Netns), Error> {
    let router = Netns::new(names, "router")?;
    let client = client(names, (&router, "eth0"))?;
    client.ip("route add default via 172.25.254.1")?;
    address(&router, "eth0", "172.25.254.1/24")?;
    lan.plug(&router, "eth1")?;
    address(&router, "eth1", "192.168.0.1/24")?;
    router.sysctl("net.ipv4.ip_forward", "1")?;
    router.sysctl("net.ipv4.conf.all.send_redirects", "0")?;
    Ok((client, router))
}

fn direct_routing(names: &Names) -> Result<Topology, Error> {
    let lan = Lan::new(names, "lan")?;
    let (client, router) = behind_router(names, &lan)?;
    let director = host(names, "director", &lan, "192.168.0.200/24", "192.168.0.1")?;
    let addrs = [
        Ipv4Addr::new(192, 168, 0, 101),
        Ipv4Addr::new(192, 168, 0, 102),
    ];
    Ok(Topology {
        method: Method::DirectRouting,
        vip: Ipv4Addr::new(192, 168, 0, 100),
        client,
        client_addr: CLIENT,
        director,
        backup: None,
        servers: servers(names, &lan, addrs, "192.168.0.1")?,
        others: vec![router, lan.into_netns()],
    })
}

fn tunnel(names: &Names) -> Result<Topology, Error> {
    let lan = Lan::new(names, "lan")?;
    let (client, router) = behind_router(names, &lan)?;
    let director = host(names, "director", &lan, "192.168.0.200/24", "192.168.0.1")?;
    let farm = Lan::new(names, "farm")?;
    farm.plug(&router, "eth2")?;
    address(&router, "eth2", "10.9.0.1/24")?;
    let addrs = [Ipv4Addr::new(10, 9, 0, 11), Ipv4Addr::new(10, 9, 0, 12)];
    Ok(Topology {
        method: Method::Tunnel,
        vip: Ipv4Addr::new(192, 168, 0, 100),
        client,
        client_addr: CLIENT,
        director,
        backup: None,
        servers: servers(names, &farm, addrs, "10.9.0.1")?,
        others: vec![router, lan.into_netns(), farm.into_netns()],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{arp, http};

    fn reaches_servers_directly(method: Method, native_xdp: bool) {
        let topology = Topology::build(&Plan::test(method, native_xdp)).unwrap();
        let _pages = topology.serve(80).unwrap();
        // Without a director the NAT client has no route to the servers: ask from the director.
        let from = if method == Method::Nat {
            &topology.director
        } else {
            &topology.client
        };
        for server in &topology.servers {
            let reply = from
                .run(|| http::get(SocketAddrV4::new(server.addr, 80), "/"))
                .unwrap();
            assert_eq!(reply.body, http::page(&server.name, server.addr));
        }
    }

    #[test]
    fn servers_behind_nat_answer_the_director() {
        reaches_servers_directly(Method::Nat, false);
        reaches_servers_directly(Method::Nat, true);
    }

    #[test]
    fn servers_on_the_segment_answer_the_client() {
        reaches_servers_directly(Method::DirectRouting, true);
    }

    #[test]
    fn servers_in_another_network_answer_the_client() {
        reaches_servers_directly(Method::Tunnel, false);
    }

    #[test]
    fn only_the_director_answers_for_the_vip_once_servers_are_silent() {
        let mut plan = Plan::test(Method::DirectRouting, false);
        for ready in [false, true] {
            plan.names = Names::transient();
            plan.ready = ready;
            let topology = Topology::build(&plan).unwrap();
            if !ready {
                let director = [&topology.director].into_iter();
                for host in director.chain(topology.servers.iter().map(|server| &server.netns)) {
                    host.ip(&format!("addr add {}/32 dev lo", topology.vip))
                        .unwrap();
                }
            }
            let mut present = vec![Ipv4Addr::new(192, 168, 0, 200)];
            present.extend(topology.servers.iter().map(|server| server.addr));
            let router = Ipv4Addr::new(192, 168, 0, 1);
            let owners = arp::who_has(
                topology.other("router"),
                "eth1",
                router,
                topology.vip,
                &present,
            )
            .unwrap();
            assert_eq!(owners.len(), if ready { 1 } else { 3 });
            let director = topology.director.mac("eth0").unwrap();
            assert!(owners.contains(&director));
        }
    }

    #[test]
    fn a_tagged_frame_is_captured_with_its_tag() {
        use crate::frames::{BROADCAST, Ethernet, IPV4, View, udp};
        for native_xdp in [false, true] {
            let topology = Topology::build(&Plan::test(Method::Nat, native_xdp)).unwrap();
            let [rs1, rs2] = &topology.servers[..] else {
                panic!("two servers")
            };
            // Through a bridge, and to the end of a cable whose other end runs XDP_PASS.
            let captures = [&rs2.netns, &topology.director]
                .map(|netns| {
                    (
                        netns,
                        if netns.label() == "rs2" {
                            "eth0"
                        } else {
                            "eth1"
                        },
                    )
                })
                .map(|(netns, interface)| crate::Capture::start(netns, interface).unwrap());
            let source = rs1.netns.mac("eth0").unwrap();
            let ethernet = Ethernet {
                destination: BROADCAST,
                source,
                vlan: Some(7),
            };
            let packet = udp((rs1.addr, 1), (topology.vip, 9), b"tagged");
            crate::send_frame(&rs1.netns, "eth0", &ethernet.frame(IPV4, &packet)).unwrap();
            for capture in &captures {
                let limit = std::time::Duration::from_secs(3);
                let tagged = |seen: &crate::Captured| {
                    View::of(&seen.frame).is_some_and(|view| view.vlan == Some(7))
                };
                let seen = capture.wait_for("tagged frame", limit, tagged).unwrap();
                assert!(!seen.outgoing);
                let ip = View::of(&seen.frame).unwrap().ip.unwrap();
                assert_eq!(ip.destination, topology.vip);
            }
        }
    }
}
