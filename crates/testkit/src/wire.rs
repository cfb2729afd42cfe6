//! Cables and segments between namespaces.

use std::process::Command;

use crate::netns::checked;
use crate::{Error, Names, Netns};

/// Joins two namespaces by a veth pair, both ends up.
///
/// # Errors
/// When a name is taken.
pub fn cable(a: (&Netns, &str), b: (&Netns, &str)) -> Result<(), Error> {
    let mut command = Command::new("ip");
    command.args(["link", "add", a.1, "netns", a.0.name(), "type", "veth"]);
    command.args(["peer", "name", b.1, "netns", b.0.name()]);
    checked(&mut command)?;
    a.0.ip(&format!("link set {} up", a.1))?;
    b.0.ip(&format!("link set {} up", b.1))?;
    Ok(())
}

/// A segment that several hosts share: a bridge in a namespace of its own.
#[derive(Debug)]
pub struct Lan {
    netns: Netns,
}

impl Lan {
    /// Makes an empty segment. It floods and learns, without spanning tree and IGMP snooping.
    ///
    /// # Errors
    /// When the namespace cannot be made.
    pub fn new(names: &Names, label: &str) -> Result<Self, Error> {
        let netns = Netns::new(names, label)?;
        netns.ip("link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0")?;
        netns.ip("link set br0 up")?;
        Ok(Self { netns })
    }

    /// Plugs `interface` of a host in; the port is named after the host.
    ///
    /// # Errors
    /// When the host is plugged in already.
    pub fn plug(&self, host: &Netns, interface: &str) -> Result<(), Error> {
        let port = host.label();
        cable((&self.netns, port), (host, interface))?;
        self.netns.ip(&format!("link set {port} master br0"))?;
        Ok(())
    }

    /// The bridge's namespace; its ports are named after the hosts.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Hands the namespace over.
    pub fn into_netns(self) -> Netns {
        self.netns
    }
}

/// Puts into a frame what offloads would leave to the device, as native XDP on the way needs: the
/// sender's checksums, and VLAN tags, which a veth otherwise hands over beside the frame.
///
/// # Errors
/// When `ethtool` is missing.
pub fn complete_frames(netns: &Netns, interface: &str) -> Result<(), Error> {
    let mut command = netns.command("ethtool");
    checked(command.args(["-K", interface, "tx", "off", "txvlan", "off"])).map(drop)
}
