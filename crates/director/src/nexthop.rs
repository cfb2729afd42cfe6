//! Nexthop objects (`ip nexthop`), which routes may refer to: the one a director makes, and that any
//! changed. The netlink crates do not know these messages (`linux/nexthop.h`).

use std::convert::Infallible;
use std::io;

use futures_util::stream::{Stream, StreamExt};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::RouteProtocol;
use rtnetlink::proto;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, SocketAddr};

use crate::netlink::OURS;

/// Changes of nexthop objects are sent to this group (`RTNLGRP_NEXTHOP`).
const GROUP: u32 = 32;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
/// `NHA_ID`, a number of 32 bits.
const NHA_ID: u16 = 1;
/// `NHA_OIF`, the index of an interface.
const NHA_OIF: u16 = 5;

/// A message about a nexthop object: its type, and `struct nhmsg` with attributes.
#[derive(Debug)]
struct Message {
    kind: u16,
    body: Vec<u8>,
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.body.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.body);
    }
}

impl NetlinkDeserializable for Message {
    type Error = Infallible;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Infallible> {
        Ok(Self {
            kind: header.message_type,
            body: payload.to_vec(),
        })
    }
}

/// Makes nexthop object `id` of an IPv6 route out of an interface, unless it is there.
pub(crate) async fn add(id: u32, index: u32) -> io::Result<()> {
    let mut body = header(AddressFamily::Inet6, OURS);
    attribute(&mut body, NHA_ID, id);
    attribute(&mut body, NHA_OIF, index);
    let kind = RTM_NEWNEXTHOP;
    match request(Message { kind, body }, NLM_F_CREATE | NLM_F_EXCL).await {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        done => done,
    }
}

/// Removes a nexthop object with the routes that use it; one that is not there is fine.
pub(crate) async fn remove(id: u32) -> io::Result<()> {
    let mut body = header(AddressFamily::Unspec, RouteProtocol::Unspec);
    attribute(&mut body, NHA_ID, id);
    let kind = RTM_DELNEXTHOP;
    match request(Message { kind, body }, 0).await {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        done => done,
    }
}

/// An item for each nexthop object that comes, changes or goes, from now on; needs a tokio runtime.
/// Its routes do not always tell: those of IPv4 vanish silently with it.
pub(crate) fn follow() -> io::Result<impl Stream<Item = ()> + Unpin + Send> {
    let (mut connection, _, messages) = proto::new_connection::<Message>(NETLINK_ROUTE)?;
    let socket = connection.socket_mut().socket_mut();
    socket.bind_auto()?;
    socket.add_membership(GROUP)?;
    tokio::spawn(connection);
    Ok(Box::pin(messages.map(drop)))
}

async fn request(message: Message, flags: u16) -> io::Result<()> {
    let (connection, handle, _) = proto::new_connection::<Message>(NETLINK_ROUTE)?;
    tokio::spawn(connection);
    let mut message = NetlinkMessage::new(
        NetlinkHeader::default(),
        NetlinkPayload::InnerMessage(message),
    );
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let answers = handle.request(message, SocketAddr::new(0, 0));
    let mut answers = Box::pin(answers.map_err(io::Error::other)?);
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload
            && error.code.is_some()
        {
            return Err(error.to_io());
        }
    }
    Ok(())
}

/// `struct nhmsg`: family, scope, protocol, reserved, flags.
fn header(family: AddressFamily, protocol: RouteProtocol) -> Vec<u8> {
    vec![family.into(), 0, protocol.into(), 0, 0, 0, 0, 0]
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: u32) {
    body.extend(8u16.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value.to_ne_bytes());
}
