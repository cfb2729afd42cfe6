//! SCTP for tests in guests: this machine's kernel may not have it.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::{Error, Netns};

/// How long anybody waits for anybody.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a server looks whether it is to end.
const TURN: Duration = Duration::from_millis(100);

/// Answers the first message of each association with its own name and that message.
#[derive(Debug)]
pub struct SctpEcho {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl SctpEcho {
    /// Listens at an address of a host.
    ///
    /// # Errors
    /// When the kernel has no SCTP, or the port is taken.
    pub fn start(netns: &Netns, name: &str, addr: Ipv4Addr, port: u16) -> Result<Self, Error> {
        let open = || -> io::Result<Socket> {
            let socket = socket()?;
            socket.bind(&SocketAddrV4::new(addr, port).into())?;
            socket.listen(64)?;
            // Holds for accept too.
            socket.set_read_timeout(Some(TURN))?;
            Ok(socket)
        };
        let listener = netns
            .run(open)
            .map_err(Error::os(format!("{name}: listening on SCTP port {port}")))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, name) = (Arc::clone(&stop), name.to_owned());
        let thread = netns.spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((association, _)) = listener.accept() {
                    // A client that goes away has its own complaint.
                    let _ = answer(association, &name);
                }
            }
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for SctpEcho {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn socket() -> io::Result<Socket> {
    let sctp = Protocol::from(libc::IPPROTO_SCTP);
    Socket::new(Domain::IPV4, Type::STREAM, Some(sctp))
}

fn answer(mut association: Socket, name: &str) -> io::Result<()> {
    association.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = [0; 2048];
    let len = association.read(&mut buffer)?;
    let message = [name.as_bytes(), b" ", &buffer[..len]].concat();
    association.write_all(&message)?;
    // Until the client has closed: the answer is to arrive.
    while association.read(&mut buffer)? > 0 {}
    Ok(())
}

/// One association: what an [`SctpEcho`] answers to `message`.
///
/// # Errors
/// When it cannot be made, or nothing comes back within twenty seconds.
pub fn ask(server: SocketAddrV4, message: &str) -> io::Result<String> {
    let mut socket = socket()?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.connect(&server.into())?;
    socket.write_all(message.as_bytes())?;
    let mut buffer = [0; 2048];
    let len = socket.read(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..len]).into_owned())
}
