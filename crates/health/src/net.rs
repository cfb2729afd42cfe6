//! Sockets as a probe's target wants them: source, interface, mark, true path.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use pointsman_model::ProbeTarget;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::{Context, Way};

/// Where the packets go, with which mark and by which device: to the server itself, or along its true
/// path.
struct Destination<'a> {
    to: SocketAddr,
    mark: u32,
    device: Option<&'a str>,
}

impl<'a> Destination<'a> {
    fn of(target: &'a ProbeTarget, context: &Context) -> io::Result<Self> {
        let real = SocketAddr::new(target.addr, target.port);
        let Some(vip) = target.through else {
            return Ok(Self {
                to: real,
                mark: target.mark,
                device: target.interface.as_deref(),
            });
        };
        let way = true_path(target, context).map_err(io::Error::other)?;
        Ok(Self {
            to: vip,
            mark: way.map_or(0, |way| way.mark),
            device: way.and_then(|way| way.device),
        })
    }
}

/// The way of a probe that has a true path.
///
/// # Errors
/// That it has none at present, for an operator.
pub(crate) fn true_path(target: &ProbeTarget, context: &Context) -> Result<Option<Way>, String> {
    let Some(vip) = target.through else {
        return Ok(None);
    };
    let real = SocketAddr::new(target.addr, target.port);
    let steering = context.steering.as_ref();
    match steering.and_then(|steering| steering.way(vip, real)) {
        Some(way) => Ok(Some(way)),
        None => Err(format!(
            "the director has no way through {vip} to {real} at present"
        )),
    }
}

/// Applies interface, mark and source to a socket that is not connected yet.
pub(crate) fn prepare(
    socket: SockRef<'_>,
    target: &ProbeTarget,
    mark: u32,
    device: Option<&str>,
) -> io::Result<()> {
    if let Some(device) = device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    if mark != 0 {
        socket.set_mark(mark)?;
    }
    if target.bind_addr.is_some() || target.bind_port.is_some() {
        // A fixed source port is wanted again while the last connection is in TIME_WAIT.
        socket.set_reuse_address(true)?;
        let any = match target.addr {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let source = SocketAddr::new(
            target.bind_addr.unwrap_or(any),
            target.bind_port.unwrap_or(0),
        );
        socket.bind(&source.into())?;
    }
    Ok(())
}

/// A TCP connection to `target`, within `limit`.
///
/// # Errors
/// Whatever the network says; [`io::ErrorKind::TimedOut`] when it says nothing.
pub async fn connect(
    target: &ProbeTarget,
    limit: Duration,
    context: &Context,
) -> io::Result<TcpStream> {
    let destination = Destination::of(target, context)?;
    let socket = match destination.to {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    let Destination { to, mark, device } = destination;
    prepare(SockRef::from(&socket), target, mark, device)?;
    let stream = within(limit, socket.connect(to)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A UDP socket connected to `target`: ICMP errors are seen, and answers of others are not.
///
/// # Errors
/// Whatever the network says.
pub async fn connect_udp(target: &ProbeTarget, context: &Context) -> io::Result<UdpSocket> {
    let Destination { to, mark, device } = Destination::of(target, context)?;
    let domain = socket2::Domain::for_address(to);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    prepare(SockRef::from(&socket), target, mark, device)?;
    socket.connect(&to.into())?;
    UdpSocket::from_std(socket.into())
}

/// `future`, or [`io::ErrorKind::TimedOut`] with how long was waited.
///
/// # Errors
/// Those of `future`, and that one.
pub async fn within<T>(
    limit: Duration,
    future: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(limit, future).await.unwrap_or_else(|_| {
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {limit:?}"),
        ))
    })
}

/// What an error of the network means to an operator, without `(os error 111)`.
pub fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::ConnectionReset => "connection reset".into(),
        io::ErrorKind::HostUnreachable => "host unreachable".into(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".into(),
        io::ErrorKind::UnexpectedEof => "connection closed in mid-answer".into(),
        _ => {
            let text = error.to_string();
            match text.split_once(" (os error") {
                Some((words, _)) => words.to_lowercase(),
                None => text,
            }
        }
    }
}
