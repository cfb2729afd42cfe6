//! UDP: an echo that names itself, and its client.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::http::page;
use crate::{Error, Netns};

/// How often the server looks whether it should end.
const HEARTBEAT: Duration = Duration::from_millis(50);

/// A UDP echo server on a thread; every answer is `NAME - ADDR: ` and what came.
///
/// It answers from the address the datagram was sent to, since a VIP is not the address the
/// kernel would choose.
#[derive(Debug)]
pub struct EchoServer {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    serving: Option<JoinHandle<()>>,
}

impl EchoServer {
    /// Listens in `netns` on each of `listen` (a RIP, a VIP) at `port`.
    ///
    /// # Errors
    /// When a port is taken or an address is not local.
    pub fn start(
        netns: &Netns,
        name: &str,
        addr: Ipv4Addr,
        listen: Ipv4Addr,
        port: u16,
    ) -> Result<Self, Error> {
        let bind = || {
            let socket = UdpSocket::bind(SocketAddrV4::new(listen, port))?;
            socket.set_read_timeout(Some(HEARTBEAT))?;
            io::Result::Ok(socket)
        };
        let socket = netns
            .run(bind)
            .map_err(Error::os(format!("{name}: UDP {listen}:{port}")))?;
        let stop = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicU64::new(0));
        let serving = {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            let prefix = format!("{}: ", page(name, addr));
            thread::spawn(move || echo(&socket, &prefix, &stop, &served))
        };
        Ok(Self {
            stop,
            served,
            serving: Some(serving),
        })
    }

    /// Datagrams answered so far.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

fn echo(socket: &UdpSocket, prefix: &str, stop: &AtomicBool, served: &AtomicU64) {
    let mut datagram = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, client)) = socket.recv_from(&mut datagram) else {
            continue;
        };
        let mut answer = prefix.as_bytes().to_vec();
        answer.extend_from_slice(&datagram[..length]);
        // Counted first: who has the answer may look at the counter at once.
        served.fetch_add(1, Ordering::Relaxed);
        let _ = socket.send_to(&answer, client);
    }
}

/// A client socket in the calling thread's namespace: one source port, so one connection to LVS.
#[derive(Debug)]
pub struct EchoClient {
    socket: UdpSocket,
}

impl EchoClient {
    /// Connects to `server` from a port that no other client of this process has or had: a director
    /// keeps a connection for minutes after its client's socket is closed, and a port that the
    /// kernel hands out again by chance would go on with it.
    ///
    /// # Errors
    /// When there is no route, or something else has the port.
    pub fn connect(server: SocketAddrV4) -> Result<Self, Error> {
        static CLIENTS: AtomicU16 = AtomicU16::new(0);
        // Below those the kernel chooses from.
        let port = 10_000 + CLIENTS.fetch_add(1, Ordering::Relaxed) % 20_000;
        let open = || {
            let socket = UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
            socket.connect(server)?;
            socket.set_read_timeout(Some(Duration::from_secs(3)))?;
            io::Result::Ok(socket)
        };
        open()
            .map(|socket| Self { socket })
            .map_err(Error::os(format!("UDP to {server}")))
    }

    /// Sends `text` and returns the name of who sent it back, and what came back.
    ///
    /// # Errors
    /// When no answer comes, or one without a name.
    pub fn ask(&self, text: &str) -> Result<(String, String), Error> {
        self.socket
            .send(text.as_bytes())
            .map_err(Error::os("sending a datagram"))?;
        let mut answer = vec![0; 65_536];
        let length = self
            .socket
            .recv(&mut answer)
            .map_err(Error::os("waiting for an echo"))?;
        let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
        match answer.split_once(": ") {
            Some((name, echo)) => Ok((name.into(), echo.into())),
            None => Err(Error::NotHttp { start: answer }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Names;

    #[test]
    fn an_echo_names_its_server() {
        let netns = Netns::new(&Names::transient(), "alone").unwrap();
        let lo = Ipv4Addr::LOCALHOST;
        let server = EchoServer::start(&netns, "rs1", lo, lo, 5000).unwrap();
        let answer = netns.run(|| {
            EchoClient::connect(SocketAddrV4::new(lo, 5000))
                .unwrap()
                .ask("hello: you")
                .unwrap()
        });
        assert_eq!(answer, ("rs1 - 127.0.0.1".into(), "hello: you".into()));
        assert_eq!(server.served(), 1);
    }
}
