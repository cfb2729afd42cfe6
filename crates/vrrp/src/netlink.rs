//! Requests to the kernel's rtnetlink, and what it tells unasked.
//!
//! Requests are answered while the caller waits, which takes some ten microseconds; nothing of a
//! thread that keeps to ten milliseconds is worth being asynchronous for that.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use tokio::io::unix::AsyncFd;

use crate::socket::waitable;

/// Multicast groups of `linux/rtnetlink.h`.
const LINK: u32 = 1;
const IPV4_IFADDR: u32 = 5;
const IPV4_ROUTE: u32 = 7;
const IPV4_RULE: u32 = 8;
const IPV6_IFADDR: u32 = 9;
const IPV6_ROUTE: u32 = 11;
const IPV6_RULE: u32 = 19;

/// Receive buffer of the event socket.
const EVENT_BUFFER_BYTES: usize = 1 << 20;

/// A socket for requests, in the network namespace of the thread that opened it.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Has something done; the error is the kernel's.
    pub fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.exchange(message, NLM_F_ACK | flags).map(drop)
    }

    /// Asks for all there is of a kind.
    pub fn dump(&mut self, message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.exchange(message, NLM_F_DUMP)
    }

    fn exchange(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answers = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            for (header, payload) in messages(&datagram) {
                if header.sequence_number != self.sequence {
                    continue;
                }
                match payload {
                    NetlinkPayload::InnerMessage(message) => answers.push(message),
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(error) => match error.code {
                        None => return Ok(answers),
                        Some(_) => return Err(error.to_io()),
                    },
                    _ => {}
                }
            }
        }
    }
}

/// A socket for what the kernel tells unasked. It does not block.
pub(crate) struct Monitor {
    pub socket: Socket,
}

impl Monitor {
    /// Links and addresses; routes and rules where somebody cares, since there may be a million.
    pub fn open(routes: bool) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        socket.set_rx_buf_sz(EVENT_BUFFER_BYTES)?;
        for group in [LINK, IPV4_IFADDR, IPV6_IFADDR] {
            socket.add_membership(group)?;
        }
        if routes {
            for group in [IPV4_ROUTE, IPV6_ROUTE, IPV4_RULE, IPV6_RULE] {
                socket.add_membership(group)?;
            }
        }
        Ok(Self { socket })
    }

    /// A second handle of its socket, to wait for.
    pub fn waitable(&self) -> io::Result<AsyncFd<OwnedFd>> {
        // SAFETY: the socket lives as long as this borrow of it.
        let fd = unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) };
        waitable(fd.try_clone_to_owned()?)
    }

    /// What has been told since the last call; `None` if some of it was lost.
    pub fn take(&self) -> Option<Vec<RouteNetlinkMessage>> {
        let mut told = Vec::new();
        let mut lost = false;
        loop {
            match self.socket.recv_from_full() {
                Ok((datagram, _)) => {
                    told.extend(messages(&datagram).into_iter().filter_map(|(_, payload)| {
                        match payload {
                            NetlinkPayload::InnerMessage(message) => Some(message),
                            _ => None,
                        }
                    }))
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => lost = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        (!lost).then_some(told)
    }
}

/// The messages of a datagram; one that this library cannot read is passed over.
fn messages(mut datagram: &[u8]) -> Vec<(NetlinkHeader, NetlinkPayload<RouteNetlinkMessage>)> {
    let mut messages = Vec::new();
    while let Some(length) = datagram.first_chunk::<4>() {
        let length = u32::from_ne_bytes(*length) as usize;
        if length < 16 || length > datagram.len() {
            break;
        }
        if let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&datagram[..length])
        {
            messages.push(message.into_parts());
        }
        datagram = datagram
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    messages
}
