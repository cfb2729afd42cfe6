//! Frames as they pass an interface, through `AF_PACKET`.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::{Error, Netns, wait_until};

const ETH_P_ALL: u16 = 0x0003;
/// `tp_status` bit of `struct tpacket_auxdata`: the tag in it is valid.
const TP_STATUS_VLAN_VALID: u32 = 1 << 4;

/// A frame seen on an interface.
#[derive(Clone, Debug)]
pub struct Captured {
    /// The frame, with the VLAN tag the kernel had taken out put back.
    pub frame: Vec<u8>,
    /// It left through the interface (as opposed to came in).
    pub outgoing: bool,
}

/// A listener on one interface; it sees what the interface sends and receives (a native XDP
/// program takes what it redirects before that).
#[derive(Debug)]
pub struct Capture {
    frames: Arc<Mutex<Vec<Captured>>>,
    /// How often the reader found nothing more to read.
    idle: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    reading: Option<JoinHandle<()>>,
}

impl Capture {
    /// Listens from now on.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn start(netns: &Netns, interface: &str) -> Result<Self, Error> {
        let socket = FrameSocket::open(netns, interface)?;
        let frames = Arc::new(Mutex::new(Vec::new()));
        let idle = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let reading = {
            let (frames, idle, stop) = (Arc::clone(&frames), Arc::clone(&idle), Arc::clone(&stop));
            netns.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    match socket.receive() {
                        Some(frame) => frames.lock().unwrap().push(frame),
                        None => {
                            idle.fetch_add(1, Ordering::Release);
                        }
                    }
                }
            })
        };
        Ok(Self {
            frames,
            idle,
            stop,
            reading: Some(reading),
        })
    }

    /// What has passed so far.
    pub fn frames(&self) -> Vec<Captured> {
        self.catch_up();
        self.frames.lock().unwrap().clone()
    }

    /// How many frames `wanted` picks of those that have passed so far.
    pub fn count(&self, wanted: impl Fn(&Captured) -> bool) -> usize {
        self.catch_up();
        self.frames
            .lock()
            .unwrap()
            .iter()
            .filter(|seen| wanted(seen))
            .count()
    }

    /// Waits until the reader has read what has passed; under steady traffic, for a second at most.
    fn catch_up(&self) {
        let before = self.idle.load(Ordering::Acquire);
        let idle = || (self.idle.load(Ordering::Acquire) != before).then_some(());
        let _ = wait_until("the reader", Duration::from_secs(1), idle);
    }

    /// Forgets what was seen.
    pub fn clear(&self) {
        self.frames.lock().unwrap().clear();
    }

    /// Waits for a frame that `wanted` picks.
    ///
    /// # Errors
    /// When none came within `limit`.
    pub fn wait_for(
        &self,
        what: impl Into<String>,
        limit: Duration,
        wanted: impl Fn(&Captured) -> bool,
    ) -> Result<Captured, Error> {
        let look = || {
            self.frames
                .lock()
                .unwrap()
                .iter()
                .find(|seen| wanted(seen))
                .cloned()
        };
        wait_until(what, limit, look)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reading) = self.reading.take() {
            let _ = reading.join();
        }
    }
}

/// An open end on one interface, for a dialogue of frames.
#[derive(Debug)]
pub struct FrameSocket(OwnedFd);

impl FrameSocket {
    /// Opens it; frames are kept from now on.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn open(netns: &Netns, interface: &str) -> Result<Self, Error> {
        let index = netns.index(interface)?;
        netns
            .run(|| packet_socket(index))
            .map(Self)
            .map_err(Error::os(format!("packet socket on {interface}")))
    }

    /// Sends a frame as it is.
    ///
    /// # Errors
    /// When the kernel finds the frame too short or too long.
    pub fn send(&self, frame: &[u8]) -> Result<(), Error> {
        // SAFETY: the buffer is as long as is said.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent == frame.len() as isize {
            return Ok(());
        }
        let doing = format!("sending {} bytes", frame.len());
        Err(Error::os(doing)(io::Error::last_os_error()))
    }

    /// The next frame, or `None` after 50 ms of silence.
    pub fn receive(&self) -> Option<Captured> {
        receive(&self.0)
    }
}

/// Sends a frame out of an interface as it is.
///
/// # Errors
/// When there is no such interface, or the kernel finds the frame too short or too long.
pub fn send_frame(netns: &Netns, interface: &str, frame: &[u8]) -> Result<(), Error> {
    FrameSocket::open(netns, interface)?.send(frame)
}

/// A bound packet socket of the calling thread's namespace.
fn packet_socket(index: u32) -> io::Result<OwnedFd> {
    // SAFETY: plain system call; the descriptor is owned at once.
    let socket = unsafe {
        let fd = libc::socket(
            libc::AF_PACKET,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            i32::from(ETH_P_ALL.to_be()),
        );
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    set_option(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1_i32)?;
    let heartbeat = libc::timeval {
        tv_sec: 0,
        tv_usec: 50_000,
    };
    set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &heartbeat)?;
    set_option(
        &socket,
        libc::SOL_SOCKET,
        libc::SO_RCVBUFFORCE,
        &(8 << 20_i32),
    )?;
    // SAFETY: all-zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ETH_P_ALL.to_be();
    address.sll_ifindex = index as i32;
    // SAFETY: the address is a sockaddr_ll of the length said.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if bound == 0 {
        Ok(socket)
    } else {
        Err(io::Error::last_os_error())
    }
}

pub(crate) fn set_option<T>(socket: &OwnedFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: the kernel reads size_of::<T>() bytes of `value`.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The next frame, or `None` after a moment of silence.
fn receive(socket: &OwnedFd) -> Option<Captured> {
    let mut frame = vec![0_u8; 65_600];
    let mut control = [0_u64; 16];
    // SAFETY: all-zero is valid for both.
    let (mut address, mut message): (libc::sockaddr_ll, libc::msghdr) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    let mut buffer = libc::iovec {
        iov_base: frame.as_mut_ptr().cast(),
        iov_len: frame.len(),
    };
    message.msg_name = (&raw mut address).cast();
    message.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    message.msg_iov = &raw mut buffer;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: every pointer in `message` is to a live buffer of the length beside it.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    frame.truncate(usize::try_from(length).ok()?);
    if let Some(tag) = vlan_tag(&message) {
        let tag = [0x81, 0x00, (tag >> 8) as u8, tag as u8];
        frame.splice(12..12, tag);
    }
    let outgoing = address.sll_pkttype == libc::PACKET_OUTGOING;
    Some(Captured { frame, outgoing })
}

/// The tag the kernel moved from the frame into its own notes.
fn vlan_tag(message: &libc::msghdr) -> Option<u16> {
    // SAFETY: the kernel filled the control buffer; the macros stay within msg_controllen.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_PACKET
                && (*header).cmsg_type == libc::PACKET_AUXDATA
            {
                let aux = libc::CMSG_DATA(header)
                    .cast::<libc::tpacket_auxdata>()
                    .read_unaligned();
                let valid = aux.tp_status & TP_STATUS_VLAN_VALID != 0;
                return valid.then_some(aux.tp_vlan_tci);
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    None
}
