use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use pointsman_model::vrrp::BfdInstance;
use tokio::net::UdpSocket;

use super::{Seen, Teller, Watcher};
use crate::Time;
use crate::bfd::{Control, Session};
use crate::socket::set;

/// UDP ports of RFC 5881 and RFC 5883.
const SINGLE_HOP: u16 = 3784;
const MULTI_HOP: u16 = 4784;
/// Source ports of RFC 5881 §4.
const FIRST_SOURCE_PORT: u16 = 49152;
/// What libc does not name (`linux/in.h`, `linux/in6.h`).
const IP_MINTTL: libc::c_int = 21;
const IPV6_MINHOPCOUNT: libc::c_int = 73;

struct Peer {
    session: Session,
    socket: UdpSocket,
    to: SocketAddr,
    told: Option<bool>,
}

/// Keeps sessions with neighbours; tells when one comes up or goes down.
pub(crate) fn watch_bfd(instances: &[BfdInstance], teller: Teller) -> io::Result<Watcher> {
    let now = Time::now();
    let mut peers = Vec::new();
    let mut listeners = BTreeMap::new();
    for (number, config) in (1u32..).zip(instances) {
        let port = if config.multihop {
            MULTI_HOP
        } else {
            SINGLE_HOP
        };
        let key = (config.neighbour.is_ipv6(), port);
        // Packets that made more hops than allowed are the kernel's to drop (RFC 5082).
        let least = config.ttl.saturating_sub(config.max_hops);
        let known = listeners.entry(key).or_insert(least);
        *known = least.min(*known);
        peers.push(Peer {
            socket: sender(config)?,
            to: SocketAddr::new(config.neighbour, port),
            session: Session::new(config.clone(), discriminator(number), now),
            told: None,
        });
    }
    let mut sockets = Vec::new();
    for ((six, port), least) in listeners {
        sockets.push(listener(six, port, least)?);
    }
    Ok(Watcher::spawn(async move {
        let mut buffer = [0; 128];
        loop {
            let now = Time::now();
            for socket in &sockets {
                while let Ok((len, from)) = socket.try_recv_from(&mut buffer) {
                    hear(&mut peers, &buffer[..len], from.ip(), now);
                }
            }
            for peer in &mut peers {
                if let Some(packet) = peer.session.tick(now) {
                    let _ = peer.socket.try_send_to(&packet, peer.to);
                }
                let up = peer.session.is_up();
                if peer.told.replace(up) != Some(up) {
                    let name = peer.session.config().name.clone();
                    if teller.send(Seen::Bfd { name, up }).is_err() {
                        return;
                    }
                }
            }
            let due = peers
                .iter()
                .filter_map(|peer| peer.session.deadline())
                .min();
            let sleep = async {
                match due {
                    Some(due) => tokio::time::sleep(due.since(Time::now())).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = readable(&sockets) => {}
                () = sleep => {}
            }
        }
    }))
}

fn hear(peers: &mut [Peer], bytes: &[u8], from: IpAddr, now: Time) {
    let Some(control) = Control::parse(bytes) else {
        return;
    };
    let peer = peers.iter_mut().find(|peer| {
        peer.to.ip() == from && (control.yours() == 0 || control.yours() == peer.session.local())
    });
    if let Some(peer) = peer
        && let Some(answer) = peer.session.heard(&control, now)
    {
        let _ = peer.socket.try_send_to(&answer, peer.to);
    }
}

/// Not to be guessed from the number alone: an engine that starts again is another end.
fn discriminator(number: u32) -> u32 {
    let micros = Time::now().since_boot().as_micros() as u32;
    (micros << 8 | number & 0xff).max(1)
}

async fn readable(sockets: &[UdpSocket]) {
    std::future::poll_fn(|context| {
        let any = sockets
            .iter()
            .any(|socket| socket.poll_recv_ready(context).is_ready());
        if any {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

fn listener(six: bool, port: u16, least_ttl: u8) -> io::Result<UdpSocket> {
    let any = if six {
        IpAddr::from(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::from(Ipv4Addr::UNSPECIFIED)
    };
    let socket = bound(SocketAddr::new(any, port))?;
    let raw = socket.as_raw_fd();
    let least = libc::c_int::from(least_ttl);
    if six {
        set(raw, libc::IPPROTO_IPV6, IPV6_MINHOPCOUNT, least)?;
    } else {
        set(raw, libc::IPPROTO_IP, IP_MINTTL, least)?;
    }
    Ok(socket)
}

fn sender(config: &BfdInstance) -> io::Result<UdpSocket> {
    let any = match config.neighbour {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let source = config.source.unwrap_or(any);
    let socket = (FIRST_SOURCE_PORT..=u16::MAX)
        .find_map(|port| bound(SocketAddr::new(source, port)).ok())
        .ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
    let raw = socket.as_raw_fd();
    let ttl = libc::c_int::from(config.ttl);
    if config.neighbour.is_ipv6() {
        set(raw, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, ttl)?;
    } else {
        set(raw, libc::IPPROTO_IP, libc::IP_TTL, ttl)?;
    }
    Ok(socket)
}

fn bound(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = if address.is_ipv6() {
        // Without this the IPv4 socket of the same port could not be bound.
        six_only(address)?
    } else {
        std::net::UdpSocket::bind(address)?
    };
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

fn six_only(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
    };
    let fd = socket(
        AddressFamily::Inet6,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(fd.into())
}
