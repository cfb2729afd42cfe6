//! The XDP program that far ends of a veth need, and a look at what is attached.
//!
//! A frame that a native program sends back (XDP_TX) or redirects into a veth is lost unless the
//! peer runs an XDP program itself: only then does it poll the ring the frame lands in.

use std::ffi::c_long;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::{Error, Netns};

const BPF_PROG_LOAD: c_long = 5;
const BPF_PROG_QUERY: c_long = 16;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;

const IFLA_XDP: u16 = 43;
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_FLAGS: u16 = 3;

/// Who runs an XDP program.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    /// The stack, for every kind of interface.
    Generic = 1 << 1,
    /// The driver.
    Native = 1 << 2,
}

/// `r0 = XDP_PASS; exit`.
const PASS: [u64; 2] = [instruction(0xb7, 0, 0, 0, 2), instruction(0x95, 0, 0, 0, 0)];

/// An eBPF instruction: code, destination and source register, offset, number.
pub(crate) const fn instruction(code: u8, to: u8, from: u8, offset: i16, number: i32) -> u64 {
    let number = (number as u32 as u64) << 32;
    code as u64 | (to as u64) << 8 | (from as u64) << 12 | (offset as u16 as u64) << 16 | number
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    rest: [u64; 12],
}

#[repr(C)]
#[derive(Default)]
struct ProgQuery {
    target_ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    pad: u32,
    rest: [u64; 4],
}

/// Attaches a native XDP program that passes every frame; it stays as long as the interface.
///
/// # Errors
/// When the kernel refuses the program or the interface cannot carry it.
pub fn pass_everything(netns: &Netns, interface: &str) -> Result<(), Error> {
    put(netns, interface, &load(&PASS)?, Mode::Native)
}

/// Attaches an XDP program in the place of any other of that mode.
pub(crate) fn put(
    netns: &Netns,
    interface: &str,
    program: &OwnedFd,
    mode: Mode,
) -> Result<(), Error> {
    let index = netns.index(interface)?;
    netns
        .run(|| attach(index, program, mode))
        .map_err(Error::os(format!(
            "attaching an XDP program to {interface} in {}",
            netns.name()
        )))
}

/// eBPF programs on the interfaces of a namespace, as `eth0 xdp` or `eth1 tcx ingress`.
///
/// # Errors
/// When the interfaces cannot be listed.
pub fn attached_programs(netns: &Netns) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    for link in netns.links()? {
        let name = link["ifname"].as_str().unwrap_or("?");
        if link.get("xdp").is_some() {
            found.push(format!("{name} xdp"));
        }
        let index = link["ifindex"].as_u64().unwrap_or(0) as u32;
        for (attach_type, direction) in [(BPF_TCX_INGRESS, "ingress"), (BPF_TCX_EGRESS, "egress")] {
            if netns.run(|| count_tcx(index, attach_type)) > 0 {
                found.push(format!("{name} tcx {direction}"));
            }
        }
    }
    Ok(found)
}

fn count_tcx(target_ifindex: u32, attach_type: u32) -> u32 {
    let mut query = ProgQuery {
        target_ifindex,
        attach_type,
        ..ProgQuery::default()
    };
    // SAFETY: the kernel reads and writes within the structure.
    let status = unsafe { bpf(BPF_PROG_QUERY, &mut query) };
    // Kernels before 6.6 know no tcx and say EINVAL.
    if status < 0 { 0 } else { query.prog_cnt }
}

/// Loads an XDP program.
pub(crate) fn load(program: &[u64]) -> Result<OwnedFd, Error> {
    let mut load = ProgLoad {
        prog_type: BPF_PROG_TYPE_XDP,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        ..ProgLoad::default()
    };
    // SAFETY: both pointers outlive the call; the descriptor is owned at once.
    unsafe {
        match bpf(BPF_PROG_LOAD, &mut load) {
            fd if fd >= 0 => Ok(OwnedFd::from_raw_fd(fd as i32)),
            _ => Err(Error::os("loading an XDP program")(
                io::Error::last_os_error(),
            )),
        }
    }
}

/// bpf(2).
///
/// # Safety
/// Pointers in `attributes` must be valid for what `command` does with them.
pub(crate) unsafe fn bpf<T>(command: c_long, attributes: &mut T) -> c_long {
    // SAFETY: the caller's promise; the size is that of the structure.
    unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    }
}

/// RTM_SETLINK with IFLA_XDP, in the calling thread's namespace.
fn attach(index: u32, program: &OwnedFd, mode: Mode) -> io::Result<()> {
    let mut nested = attribute(IFLA_XDP_FD, program.as_raw_fd() as u32);
    nested.extend(attribute(IFLA_XDP_FLAGS, mode as u32));
    let length = 16 + 16 + 4 + nested.len() as u32;
    let mut message = Vec::new();
    message.extend(length.to_ne_bytes());
    message.extend(libc::RTM_SETLINK.to_ne_bytes());
    message.extend(((libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16).to_ne_bytes());
    message.extend([0; 8]); // sequence, port
    message.extend([0; 4]); // ifinfomsg: family, padding, type
    message.extend(index.to_ne_bytes());
    message.extend([0; 8]); // flags, change
    message.extend((4 + nested.len() as u16).to_ne_bytes());
    message.extend((IFLA_XDP | libc::NLA_F_NESTED as u16).to_ne_bytes());
    message.extend(nested);

    // SAFETY: plain system calls on an owned descriptor and buffers of the length said.
    unsafe {
        let fd = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let socket = OwnedFd::from_raw_fd(fd);
        if libc::send(
            socket.as_raw_fd(),
            message.as_ptr().cast(),
            message.len(),
            0,
        ) < 0
        {
            return Err(io::Error::last_os_error());
        }
        let mut answer = [0_u8; 4096];
        let length = libc::recv(
            socket.as_raw_fd(),
            answer.as_mut_ptr().cast(),
            answer.len(),
            0,
        );
        if length < 20 {
            return Err(io::Error::last_os_error());
        }
        // nlmsgerr: the error is the first word behind the header.
        match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }
}

fn attribute(kind: u16, value: u32) -> Vec<u8> {
    [
        &8_u16.to_ne_bytes()[..],
        &kind.to_ne_bytes(),
        &value.to_ne_bytes(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::{Names, PageServer, http, wire};

    #[test]
    fn a_passing_program_is_seen_and_lets_traffic_through() {
        let names = Names::transient();
        let (a, b) = (
            Netns::new(&names, "a").unwrap(),
            Netns::new(&names, "b").unwrap(),
        );
        wire::cable((&a, "eth0"), (&b, "eth0")).unwrap();
        a.ip("addr add 192.0.2.1/24 dev eth0").unwrap();
        b.ip("addr add 192.0.2.2/24 dev eth0").unwrap();
        assert_eq!(attached_programs(&b).unwrap(), Vec::<String>::new());
        pass_everything(&b, "eth0").unwrap();
        assert_eq!(attached_programs(&b).unwrap(), ["eth0 xdp"]);
        wire::complete_frames(&a, "eth0").unwrap();
        let _page = PageServer::start(&b, "b", Ipv4Addr::new(192, 0, 2, 2), 80).unwrap();
        let page = a
            .run(|| http::get("192.0.2.2:80".parse().unwrap(), "/"))
            .unwrap();
        assert_eq!(page.body, "b - 192.0.2.2");
    }
}
