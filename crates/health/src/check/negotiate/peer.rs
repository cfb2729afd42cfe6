//! The real server under check, and the ways to it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use pointsman_model::ProbeTarget;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::Failure;
use crate::Context;
use crate::check::tls::to_anybody;
use crate::net;

/// When a datagram without an answer is sent again the first time; then after twice as long, as
/// RFC 3261 §17.1.2.1 does with T1.
const RESEND: Duration = Duration::from_millis(500);

/// Whether a protocol is spoken inside TLS from its first byte on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tls {
    No,
    Yes,
}

/// A connection of either kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// The real server under check.
pub(super) struct Peer<'a> {
    target: &'a ProbeTarget,
    context: &'a Context,
    limit: Duration,
}

impl<'a> Peer<'a> {
    /// A server that has `limit` to pass.
    pub(super) fn new(target: &'a ProbeTarget, context: &'a Context, limit: Duration) -> Self {
        Self {
            target,
            context,
            limit,
        }
    }

    /// Where its service listens.
    pub(super) fn addr(&self) -> SocketAddr {
        SocketAddr::new(self.target.addr, self.target.port)
    }

    /// How long the whole check may take.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// Connects to its service.
    pub(super) async fn connect(&self) -> Result<TcpStream, Failure> {
        let connecting = net::connect(self.target, self.limit, self.context);
        connecting.await.map_err(Failure::Connect)
    }

    /// Connects to another address on the server's behalf: a data connection, a redirection.
    pub(super) async fn connect_to(&self, addr: SocketAddr) -> Result<TcpStream, Failure> {
        let target = ProbeTarget {
            addr: addr.ip(),
            port: addr.port(),
            bind_port: None,
            through: None,
            ..self.target.clone()
        };
        let connecting = net::connect(&target, self.limit, self.context);
        connecting.await.map_err(Failure::Connect)
    }

    /// Connects to its service, with TLS if wanted.
    pub(super) async fn stream(&self, tls: Tls) -> Result<Box<dyn Stream>, Failure> {
        let stream = self.connect().await?;
        Ok(match tls {
            Tls::No => Box::new(stream),
            Tls::Yes => Box::new(encrypt(stream, self.addr().ip().into()).await?),
        })
    }

    /// A socket for datagrams to and from its service.
    pub(super) async fn datagrams(&self) -> Result<Datagrams, Failure> {
        let connecting = net::connect_udp(self.target, self.context);
        connecting.await.map(Datagrams).map_err(Failure::Connect)
    }
}

/// A socket that only the server's answers reach.
pub(super) struct Datagrams(UdpSocket);

impl Datagrams {
    /// Our end.
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Sends `request`, again and again at growing intervals, until something is received; gives its
    /// length. Whoever calls limits the time.
    pub(super) async fn ask(&self, request: &[u8], answer: &mut [u8]) -> Result<usize, Failure> {
        let mut pause = RESEND;
        loop {
            self.0.send(request).await.map_err(Failure::Connect)?;
            // An ICMP error comes back as the socket's error: nobody listens.
            match timeout(pause, self.0.recv(answer)).await {
                Ok(received) => return received.map_err(Failure::Connect),
                Err(_) => pause *= 2,
            }
        }
    }

    /// Waits for a further datagram.
    pub(super) async fn more(&self, answer: &mut [u8]) -> Result<usize, Failure> {
        self.0.recv(answer).await.map_err(Failure::Connect)
    }
}

/// Speaks TLS over `stream`, with whoever is there: like ldirectord, a check does not ask whether
/// the certificate is trusted. `name` goes into the server name indication unless it is an address.
pub(super) async fn encrypt<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    name: ServerName<'static>,
) -> Result<TlsStream<S>, Failure> {
    Ok(to_anybody().connect(name, stream).await?)
}
