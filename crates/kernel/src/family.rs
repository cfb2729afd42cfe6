//! Numbers of the family `IPVS` (`Linux include/uapi/linux/ip_vs.h`), and requests to it.

use std::net::IpAddr;

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLA_F_NESTED, NetlinkDeserializable, NetlinkHeader,
    NetlinkSerializable,
};
use netlink_packet_generic::GenlHeader;
use pointsman_model::{Family, ServiceKey};

pub(crate) const NAME: &str = "IPVS";
const VERSION: u8 = 1;

/// Asks for services.
pub(crate) const GET_SERVICE: u8 = 4;
/// Asks for the servers of a service.
pub(crate) const GET_DEST: u8 = 8;
/// Asks for the timeouts.
pub(crate) const GET_CONFIG: u8 = 13;

/// Attributes of a message.
pub(crate) mod top {
    pub(crate) const SERVICE: u16 = 1;
    pub(crate) const DEST: u16 = 2;
    pub(crate) const TIMEOUT_TCP: u16 = 4;
    pub(crate) const TIMEOUT_TCP_FIN: u16 = 5;
    pub(crate) const TIMEOUT_UDP: u16 = 6;
}

/// Attributes of a service.
pub(crate) mod service {
    pub(crate) const AF: u16 = 1;
    pub(crate) const PROTOCOL: u16 = 2;
    pub(crate) const ADDR: u16 = 3;
    pub(crate) const PORT: u16 = 4;
    pub(crate) const FWMARK: u16 = 5;
    pub(crate) const SCHED_NAME: u16 = 6;
    pub(crate) const FLAGS: u16 = 7;
    pub(crate) const TIMEOUT: u16 = 8;
    pub(crate) const NETMASK: u16 = 9;
    pub(crate) const STATS: u16 = 10;
    pub(crate) const PE_NAME: u16 = 11;
    pub(crate) const STATS64: u16 = 12;
}

/// Attributes of a real server.
pub(crate) mod dest {
    pub(crate) const ADDR: u16 = 1;
    pub(crate) const PORT: u16 = 2;
    pub(crate) const FWD_METHOD: u16 = 3;
    pub(crate) const WEIGHT: u16 = 4;
    pub(crate) const U_THRESH: u16 = 5;
    pub(crate) const L_THRESH: u16 = 6;
    pub(crate) const ACTIVE_CONNS: u16 = 7;
    pub(crate) const INACT_CONNS: u16 = 8;
    pub(crate) const PERSIST_CONNS: u16 = 9;
    pub(crate) const STATS: u16 = 10;
    pub(crate) const ADDR_FAMILY: u16 = 11;
    pub(crate) const STATS64: u16 = 12;
    pub(crate) const TUN_TYPE: u16 = 13;
    pub(crate) const TUN_PORT: u16 = 14;
    pub(crate) const TUN_FLAGS: u16 = 15;
}

/// `AF_INET`.
pub(crate) const V4: u16 = 2;
/// `AF_INET6`.
pub(crate) const V6: u16 = 10;

/// The attribute that identifies a service.
pub(crate) fn identify(key: &ServiceKey) -> Vec<u8> {
    let family = match key.family() {
        Family::V4 => V4,
        Family::V6 => V6,
    };
    let mut within = attribute(service::AF, &family.to_ne_bytes());
    match *key {
        ServiceKey::Mark { mark, .. } => {
            within.extend(attribute(service::FWMARK, &mark.to_ne_bytes()));
        }
        ServiceKey::Address {
            protocol,
            addr,
            port,
        } => {
            let mut bytes = [0; 16];
            match addr {
                IpAddr::V4(v4) => bytes[..4].copy_from_slice(&v4.octets()),
                IpAddr::V6(v6) => bytes = v6.octets(),
            }
            let protocol = u16::from(protocol.number()).to_ne_bytes();
            within.extend(attribute(service::PROTOCOL, &protocol));
            within.extend(attribute(service::ADDR, &bytes));
            within.extend(attribute(service::PORT, &port.to_be_bytes()));
        }
    }
    attribute(top::SERVICE | NLA_F_NESTED, &within)
}

/// One attribute with its padding.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let attribute = DefaultNla::new(kind, value.to_vec());
    let mut bytes = vec![0; attribute.buffer_len()];
    attribute.emit(&mut bytes);
    bytes
}

/// A message of any generic family, its attributes unread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The family's number, which the kernel gives out.
    pub(crate) family: u16,
    pub(crate) command: u8,
    pub(crate) attributes: Vec<u8>,
}

impl Message {
    fn header(&self) -> GenlHeader {
        GenlHeader {
            cmd: self.command,
            version: VERSION,
        }
    }
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        self.header().buffer_len() + self.attributes.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let header = self.header();
        let (front, rest) = buffer.split_at_mut(header.buffer_len());
        header.emit(front);
        rest.copy_from_slice(&self.attributes);
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let generic = GenlHeader::parse(payload)?;
        Ok(Self {
            family: header.message_type,
            command: generic.cmd,
            attributes: payload[generic.buffer_len()..].to_vec(),
        })
    }
}
