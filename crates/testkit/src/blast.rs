//! Frames as fast as a host sends them.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::{Error, Netns};

/// Frames that are sent by one system call.
const BATCH: usize = 64;
/// `ENOBUFS`: the interface's queue is full.
const FULL: i32 = libc::ENOBUFS;

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
            let on = 1_i32;
            // SAFETY: the kernel reads the four bytes of `on`.
            let set = unsafe {
                libc::setsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_PACKET,
                    libc::PACKET_QDISC_BYPASS,
                    (&raw const on).cast(),
                    size_of_val(&on) as libc::socklen_t,
                )
            };
            if set == 0 {
                Ok(socket)
            } else {
                Err(io::Error::last_os_error())
            }
        });
        let socket = socket.map_err(Error::os(format!("packet socket on {interface}")))?;
        Ok(Self { socket, index })
    }

    /// Sends these frames again and again for so long; how many went out.
    ///
    /// # Errors
    /// What the kernel refuses, but for a full queue.
    pub fn send_for(&self, frames: &[Vec<u8>], time: Duration) -> Result<u64, Error> {
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
        let (end, mut sent) = (Instant::now() + time, 0);
        while Instant::now() < end {
            for batch in messages.chunks_mut(BATCH) {
                // SAFETY: the messages point to the frames and the address, which outlive the call.
                let count = unsafe {
                    let count = batch.len() as libc::c_uint;
                    libc::sendmmsg(self.socket.as_raw_fd(), batch.as_mut_ptr(), count, 0)
                };
                if count >= 0 {
                    sent += count as u64;
                    continue;
                }
                let error = io::Error::last_os_error();
                if error.raw_os_error() != Some(FULL) {
                    return Err(Error::os("sending frames")(error));
                }
            }
        }
        Ok(sent)
    }
}
