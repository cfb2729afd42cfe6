//! A conversation with the kernel over one netlink socket.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_generic::constants::{
    CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME, CTRL_CMD_GETFAMILY, GENL_ID_CTRL,
};
use netlink_sys::protocols::NETLINK_GENERIC;

use crate::Error;
use crate::attributes::Attributes;
use crate::family::{self, Message};

pub(crate) struct Socket {
    socket: netlink_sys::Socket,
    /// The number that the kernel gave to the family `IPVS`.
    family: u16,
    sequence: u32,
}

impl Socket {
    /// Opens a socket in the network namespace of the calling thread and finds the family.
    pub(crate) fn open() -> Result<Self, Error> {
        let mut socket = netlink_sys::Socket::new(NETLINK_GENERIC).map_err(Error::Io)?;
        socket.bind_auto().map_err(Error::Io)?;
        let mut socket = Self {
            socket,
            family: GENL_ID_CTRL,
            sequence: 0,
        };
        let name = [family::NAME.as_bytes(), b"\0"].concat();
        let name = family::attribute(CTRL_ATTR_FAMILY_NAME, &name);
        let answers = match socket.exchange(CTRL_CMD_GETFAMILY, NLM_F_ACK, name) {
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NoFamily);
            }
            answers => answers?,
        };
        let answer = answers.into_iter().next().unwrap_or_default();
        socket.family =
            Attributes::parse(&answer)?.fitting(CTRL_ATTR_FAMILY_ID, "family number")?;
        Ok(socket)
    }

    /// Asks for one thing.
    pub(crate) fn ask(&mut self, command: u8) -> Result<Vec<u8>, Error> {
        let answers = self.exchange(command, NLM_F_ACK, Vec::new())?;
        Ok(answers.into_iter().next().unwrap_or_default())
    }

    /// Asks for all there is of a kind.
    pub(crate) fn dump(&mut self, command: u8, which: Vec<u8>) -> Result<Vec<Vec<u8>>, Error> {
        self.exchange(command, NLM_F_DUMP, which)
    }

    /// Sends a request and gathers the attributes of its answers.
    fn exchange(&mut self, command: u8, flags: u16, which: Vec<u8>) -> Result<Vec<Vec<u8>>, Error> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let message = Message {
            family: self.family,
            command,
            attributes: which,
        };
        let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map_err(Error::Io)?;

        let mut answers = Answers::new(self.sequence);
        while !answers.complete {
            let (datagram, _) = self.socket.recv_from_full().map_err(Error::Io)?;
            answers.take(&datagram)?;
        }
        Ok(answers.attributes)
    }
}

/// The answers to one request.
pub(crate) struct Answers {
    sequence: u32,
    /// The kernel has said that there are no more.
    pub(crate) complete: bool,
    /// Of each answer.
    pub(crate) attributes: Vec<Vec<u8>>,
}

impl Answers {
    pub(crate) fn new(sequence: u32) -> Self {
        Self {
            sequence,
            complete: false,
            attributes: Vec::new(),
        }
    }

    /// Takes in the messages of a datagram.
    pub(crate) fn take(&mut self, mut datagram: &[u8]) -> Result<(), Error> {
        while !datagram.is_empty() {
            let message = NetlinkMessage::<Message>::deserialize(datagram)
                .map_err(|e| Error::Unreadable(e.to_string()))?;
            let (header, payload) = message.into_parts();
            // Messages are aligned to four bytes, the last of a datagram need not be.
            let length = (header.length as usize).next_multiple_of(4);
            datagram = datagram.get(length..).unwrap_or_default();
            if header.sequence_number != self.sequence {
                continue;
            }
            match payload {
                NetlinkPayload::InnerMessage(message) => self.attributes.push(message.attributes),
                NetlinkPayload::Done(done) if done.code == 0 => self.complete = true,
                NetlinkPayload::Done(done) => return Err(refused(done.code)),
                NetlinkPayload::Error(error) => match error.code {
                    None => self.complete = true,
                    Some(code) => return Err(refused(code.get())),
                },
                _ => {}
            }
        }
        Ok(())
    }
}

/// An error number, which netlink gives negative.
fn refused(code: i32) -> Error {
    let error = io::Error::from_raw_os_error(code.wrapping_neg());
    match error.kind() {
        io::ErrorKind::PermissionDenied => Error::Denied,
        _ => Error::Io(error),
    }
}
