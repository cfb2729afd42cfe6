//! What kind of device an interface is: asked of the kernel in the calling thread's network
//! namespace (sysfs may show another).

use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_GDRVINFO: u32 = 3;

/// The head of `struct ethtool_drvinfo`, padded to its size.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

/// Name of an interface's driver.
pub(crate) fn name(interface: &str) -> Option<String> {
    let mut info = DriverInfo {
        command: ETHTOOL_GDRVINFO,
        driver: [0; 32],
        rest: [0; 160],
    };
    // SAFETY: all bits zero is a valid request; the name is cut to fit with its final zero; the
    // kernel writes at most the structure it defines, which `info` is as large as.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return None;
        }
        let socket = OwnedFd::from_raw_fd(socket);
        let mut request: libc::ifreq = mem::zeroed();
        for (to, from) in request.ifr_name[..libc::IF_NAMESIZE - 1]
            .iter_mut()
            .zip(interface.bytes())
        {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = (&raw mut info).cast();
        if libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) != 0 {
            return None;
        }
    }
    let _ = info.rest;
    let end = info.driver.iter().position(|&b| b == 0)?;
    String::from_utf8(info.driver[..end].to_vec()).ok()
}
