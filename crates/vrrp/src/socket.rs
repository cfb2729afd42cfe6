//! Raw sockets that adverts go and come by: one for each interface, family and protocol.

use std::collections::BTreeSet;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, bind, recvmsg, sendto, setsockopt,
    sockopt,
};
use pointsman_model::Family;
use tokio::io::unix::AsyncFd;

use crate::packet::{AH, VRRP};
use crate::receive::{Datagram, Refusal};

/// What libc does not name (`linux/in.h`, `linux/in6.h`, `asm-generic/socket.h`).
const IPV6_MULTICAST_ALL: libc::c_int = 29;
const SO_BINDTOIFINDEX: libc::c_int = 62;
/// Traffic class of internetwork control.
const INTERNETWORK_CONTROL: libc::c_int = 0xc0;
/// Band of the queueing discipline that control traffic belongs to (`TC_PRIO_CONTROL`).
const PRIORITY_CONTROL: libc::c_int = 7;
/// The longest advert: 255 IPv6 addresses, or 255 of IPv4 behind the longest headers.
pub(crate) const LONGEST: usize = 8 + 255 * 16 + 28;

/// Which socket: two instances whose keys are equal share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub family: Family,
    /// Interface it is bound to.
    pub interface: Option<u32>,
    /// Address it is bound to, where there is no interface.
    pub local: Option<IpAddr>,
    /// Authentication headers instead of VRRP.
    pub ah: bool,
}

/// An open socket.
pub(crate) struct AdvertSocket {
    pub key: Key,
    pub fd: AsyncFd<OwnedFd>,
    groups: BTreeSet<IpAddr>,
}

/// What a raw IPv6 socket says of a packet beside its payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beside {
    source: IpAddr,
    destination: IpAddr,
    hop_limit: u8,
}

impl AdvertSocket {
    /// Opens it in the network namespace of the calling thread; needs a tokio runtime.
    pub fn open(key: Key, receive_buffer: Option<u32>) -> io::Result<Self> {
        let (domain, protocol) = match key.family {
            Family::V4 => (libc::AF_INET, if key.ah { AH } else { VRRP }),
            Family::V6 => (libc::AF_INET6, VRRP),
        };
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::socket(domain, kind, i32::from(protocol)) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let raw = fd.as_raw_fd();
        set(raw, libc::SOL_SOCKET, libc::SO_PRIORITY, PRIORITY_CONTROL)?;
        if let Some(bytes) = receive_buffer {
            setsockopt(&fd, sockopt::RcvBuf, &(bytes as usize))?;
        }
        let index = key.interface.map(|index| index as libc::c_int);
        if let Some(index) = index {
            set(raw, libc::SOL_SOCKET, SO_BINDTOIFINDEX, index)?;
        }
        match key.family {
            Family::V4 => {
                set(raw, libc::IPPROTO_IP, libc::IP_HDRINCL, 1)?;
                set(raw, libc::IPPROTO_IP, libc::IP_MULTICAST_LOOP, 0)?;
                set(raw, libc::IPPROTO_IP, libc::IP_MULTICAST_ALL, 0)?;
                if let Some(IpAddr::V4(local)) = key.local {
                    bind(raw, &SockaddrIn::from(SocketAddrV4::new(local, 0)))?;
                }
            }
            Family::V6 => {
                set(raw, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
                set(raw, libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, 1)?;
                set(raw, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS, 255)?;
                set(raw, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_LOOP, 0)?;
                set(raw, libc::IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0)?;
                set(
                    raw,
                    libc::IPPROTO_IPV6,
                    libc::IPV6_TCLASS,
                    INTERNETWORK_CONTROL,
                )?;
                if let Some(index) = index {
                    set(raw, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF, index)?;
                }
                if let Some(IpAddr::V6(local)) = key.local {
                    bind(raw, &SockaddrIn6::from(SocketAddrV6::new(local, 0, 0, 0)))?;
                }
            }
        }
        Ok(Self {
            key,
            fd: waitable(fd)?,
            groups: BTreeSet::new(),
        })
    }

    /// Joins a multicast group on its interface, once.
    pub fn join(&mut self, group: IpAddr) -> io::Result<()> {
        if self.groups.contains(&group) {
            return Ok(());
        }
        let index = self.key.interface.unwrap_or(0);
        let raw = self.fd.as_raw_fd();
        match group {
            IpAddr::V4(group) => {
                let request = libc::ip_mreqn {
                    imr_multiaddr: libc::in_addr {
                        s_addr: u32::from(group).to_be(),
                    },
                    imr_address: libc::in_addr { s_addr: 0 },
                    imr_ifindex: index as libc::c_int,
                };
                set(raw, libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, request)?;
                set(raw, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, request)?;
            }
            IpAddr::V6(group) => {
                let request = libc::ipv6_mreq {
                    ipv6mr_multiaddr: libc::in6_addr {
                        s6_addr: group.octets(),
                    },
                    ipv6mr_interface: index,
                };
                set(raw, libc::IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP, request)?;
            }
        }
        self.groups.insert(group);
        Ok(())
    }

    /// Sends a packet; `ttl` is for IPv6 unicast, IPv4 has its own header.
    pub fn send(
        &self,
        source: IpAddr,
        to: IpAddr,
        ttl: Option<u8>,
        bytes: &[u8],
    ) -> io::Result<()> {
        let raw = self.fd.as_raw_fd();
        match (source, to) {
            (_, IpAddr::V4(to)) => {
                let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
                sendto(raw, bytes, &to, MsgFlags::empty())?;
            }
            (IpAddr::V6(source), IpAddr::V6(to)) => {
                self.send6(source, to, ttl, bytes)?;
            }
            (IpAddr::V4(_), IpAddr::V6(_)) => {
                return Err(io::Error::from(io::ErrorKind::InvalidInput));
            }
        }
        Ok(())
    }

    fn send6(
        &self,
        source: Ipv6Addr,
        to: Ipv6Addr,
        ttl: Option<u8>,
        bytes: &[u8],
    ) -> io::Result<()> {
        use nix::sys::socket::{ControlMessage, sendmsg};
        let scoped = to.is_unicast_link_local() || to.is_multicast();
        let index = self.key.interface.unwrap_or(0);
        let scope = if scoped { index } else { 0 };
        let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, scope));
        let info = libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr {
                s6_addr: source.octets(),
            },
            ipi6_ifindex: index,
        };
        let hops = ttl.map(libc::c_int::from);
        let mut beside = vec![ControlMessage::Ipv6PacketInfo(&info)];
        if let Some(hops) = &hops {
            beside.push(ControlMessage::Ipv6HopLimit(hops));
        }
        let payload = [io::IoSlice::new(bytes)];
        sendmsg(
            self.fd.as_raw_fd(),
            &payload,
            &beside,
            MsgFlags::empty(),
            Some(&to),
        )?;
        Ok(())
    }

    /// Takes a packet that has come; `None` when there is no more.
    pub fn receive(&self, buffer: &mut [u8; LONGEST]) -> Option<(usize, Option<Beside>)> {
        loop {
            let received = match self.key.family {
                Family::V4 => {
                    nix::sys::socket::recv(self.fd.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)
                        .map(|len| (len, None))
                }
                Family::V6 => self.receive6(buffer),
            };
            match received {
                Ok(received) => return Some(received),
                Err(nix::errno::Errno::EINTR) => {}
                // A pending error of the socket (a host unreachable) is taken by reading it.
                Err(nix::errno::Errno::EAGAIN) => return None,
                Err(_) => return None,
            }
        }
    }

    fn receive6(&self, buffer: &mut [u8; LONGEST]) -> nix::Result<(usize, Option<Beside>)> {
        let mut room = nix::cmsg_space!(libc::in6_pktinfo, libc::c_int);
        let mut slices = [IoSliceMut::new(buffer)];
        let message = recvmsg::<SockaddrIn6>(
            self.fd.as_raw_fd(),
            &mut slices,
            Some(&mut room),
            MsgFlags::MSG_DONTWAIT,
        )?;
        let mut destination = None;
        let mut hop_limit = 0;
        for beside in message.cmsgs()? {
            match beside {
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    destination = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr));
                }
                ControlMessageOwned::Ipv6HopLimit(hops) => {
                    hop_limit = u8::try_from(hops).unwrap_or(0);
                }
                _ => {}
            }
        }
        let beside = message
            .address
            .zip(destination)
            .map(|(from, destination)| Beside {
                source: from.ip().into(),
                destination: destination.into(),
                hop_limit,
            });
        Ok((message.bytes, beside))
    }
}

/// Has the runtime wait for a descriptor.
pub(crate) fn waitable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned, and stays open until the runtime has forgotten it.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// Splits what was received into its layers.
pub(crate) fn datagram(
    family: Family,
    bytes: &[u8],
    beside: Option<Beside>,
) -> Result<Datagram<'_>, Refusal> {
    match (family, beside) {
        (Family::V4, _) => Datagram::ipv4(bytes),
        (Family::V6, Some(beside)) => Ok(Datagram::ipv6(
            bytes,
            beside.source,
            beside.destination,
            beside.hop_limit,
        )),
        (Family::V6, None) => Err(Refusal::Length),
    }
}

/// Sets an option of a socket.
pub(crate) fn set<T>(fd: RawFd, level: libc::c_int, name: libc::c_int, value: T) -> io::Result<()> {
    // SAFETY: the value lives through the call and has the length that is given.
    let status = unsafe {
        libc::setsockopt(
            fd,
            level,
            name,
            std::ptr::from_ref(&value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if status < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
