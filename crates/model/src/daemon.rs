use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

/// Which of the two synchronisation daemons; both may run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DaemonRole {
    /// Sends connections.
    Master,
    /// Receives them.
    Backup,
}

impl DaemonRole {
    /// The word of command lines and listings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Backup => "backup",
        }
    }
}

/// A synchronisation daemon as an operator asks for it; `None` for what IPVS chooses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonSpec {
    /// Which.
    pub role: DaemonRole,
    /// Interface that messages leave or enter by.
    pub interface: String,
    /// Daemons of one number belong together; a backup with 0 takes from all.
    #[serde(default)]
    pub syncid: u8,
    /// Longest message in bytes, without UDP and IP headers.
    #[serde(default)]
    pub max_len_bytes: Option<NonZeroU16>,
    /// Multicast group.
    #[serde(default)]
    pub group: Option<IpAddr>,
    /// UDP port, host order.
    #[serde(default)]
    pub port: Option<NonZeroU16>,
    /// TTL or hop limit of messages.
    #[serde(default)]
    pub ttl: Option<u8>,
}

/// A synchronisation daemon as it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonView {
    /// Which.
    pub role: DaemonRole,
    /// Interface that messages leave or enter by.
    pub interface: String,
    /// Its number.
    pub syncid: u8,
    /// Longest message in bytes, without UDP and IP headers.
    pub max_len_bytes: u16,
    /// Multicast group.
    pub group: IpAddr,
    /// UDP port, host order.
    pub port: u16,
    /// TTL or hop limit of messages.
    pub ttl: u8,
}

impl DaemonSpec {
    /// What it runs with over an interface of this MTU, as IPVS chooses and bounds
    /// (`Linux net/netfilter/ipvs/ip_vs_sync.c`).
    pub fn over(&self, mtu: u32) -> DaemonView {
        const ETHERNET: u32 = 1500;
        const UDP: u32 = 8;
        let group = self.group.unwrap_or(Ipv4Addr::new(224, 0, 0, 81).into());
        let headers = if group.is_ipv4() { 20 + UDP } else { 40 + UDP };
        let most = u32::from(u16::MAX) - headers;
        let len = match (self.role, self.max_len_bytes) {
            (DaemonRole::Master, None) => ETHERNET - headers,
            (DaemonRole::Backup, None) => mtu.clamp(ETHERNET, u16::MAX.into()) - headers,
            (DaemonRole::Master, Some(len)) => u32::from(len.get()).min(most),
            (DaemonRole::Backup, Some(len)) => u32::from(len.get()).clamp(1024, most),
        };
        DaemonView {
            role: self.role,
            interface: self.interface.clone(),
            syncid: self.syncid,
            max_len_bytes: u16::try_from(len).expect("bounded above"),
            group,
            port: self.port.map_or(8848, NonZeroU16::get),
            ttl: self.ttl.filter(|ttl| *ttl != 0).unwrap_or(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_long_as_the_role_and_the_group_allow() {
        let four: IpAddr = "224.0.0.81".parse().unwrap();
        let six: IpAddr = "ff02::81".parse().unwrap();
        for (role, group, asked, mtu, len) in [
            (DaemonRole::Master, four, 0, 9000, 1472),
            (DaemonRole::Master, six, 0, 9000, 1452),
            (DaemonRole::Backup, four, 0, 9000, 8972),
            (DaemonRole::Backup, four, 0, 576, 1472),
            (DaemonRole::Backup, six, 0, 65536, 65487),
            (DaemonRole::Master, four, 1, 1500, 1),
            (DaemonRole::Backup, four, 1, 1500, 1024),
            (DaemonRole::Backup, four, 2000, 1500, 2000),
            (DaemonRole::Master, six, 65507, 1500, 65487),
        ] {
            let spec = DaemonSpec {
                role,
                interface: "eth0".into(),
                syncid: 0,
                max_len_bytes: NonZeroU16::new(asked),
                group: Some(group),
                port: None,
                ttl: None,
            };
            let view = spec.over(mtu);
            assert_eq!(view.max_len_bytes, len, "{role:?} {group} {asked} {mtu}");
            assert_eq!((view.port, view.ttl), (8848, 1));
        }
    }
}
