//! Many frames, as fast as a host sends them.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread;

use crate::capture::set_option;
use crate::{Error, Netns};

/// Frames that are sent by one system call.
const BATCH: usize = 64;

/// A packet socket that only sends, past all queues.
#[derive(Debug)]
pub struct Blast {
    socket: OwnedFd,
    index: i32,
}

impl Blast {
    /// Opens it on an interface.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn open(netns: &Netns, interface: &str) -> Result<Self, Error> {
        let index = netns.index(interface)? as i32;
        let socket = netns.run(|| {
            // Protocol 0: it hears nothing.
            let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
            // SAFETY: plain system call; the descriptor is owned at once.
            let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: it was just opened.
            let socket = unsafe { OwnedFd::from_raw_fd(fd) };
            set_option(&socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1_i32)?;
            Ok(socket)
        });
        let socket = socket.map_err(Error::os(format!("packet socket on {interface}")))?;
        Ok(Self { socket, index })
    }

    /// Sends every one of these frames, as soon as there is room for it.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn send(&self, frames: &[Vec<u8>]) -> Result<(), Error> {
        // SAFETY: all-zero is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = self.index;
        let mut parts: Vec<libc::iovec> = frames
            .iter()
            .map(|frame| libc::iovec {
                iov_base: frame.as_ptr().cast_mut().cast(),
                iov_len: frame.len(),
            })
            .collect();
        let message = |part: &mut libc::iovec| {
            // SAFETY: all-zero is a valid mmsghdr.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_name = (&raw mut address).cast();
            message.msg_hdr.msg_namelen = size_of_val(&address) as libc::socklen_t;
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message
        };
        let mut messages: Vec<libc::mmsghdr> = parts.iter_mut().map(message).collect();
        let mut left = &mut messages[..];
        while !left.is_empty() {
            // SAFETY: the messages point to the frames and the address, which outlive the call.
            let sent = unsafe {
                let count = left.len().min(BATCH) as libc::c_uint;
                libc::sendmmsg(self.socket.as_raw_fd(), left.as_mut_ptr(), count, 0)
            };
            if sent >= 0 {
                left = &mut left[sent as usize..];
                continue;
            }
            let error = io::Error::last_os_error();
            // The interface's queue is full.
            if error.raw_os_error() != Some(libc::ENOBUFS) {
                return Err(Error::os("sending frames")(error));
            }
            thread::yield_now();
        }
        Ok(())
    }
}
