//! A server that does what no server should, for tests of whoever talks to servers.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::{Error, Netns};

/// How long a thread of a server looks away from its end.
const TICK: Duration = Duration::from_millis(50);

/// What a server does with those who ask it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers each message that comes, with the next of these; and first of all, unasked, with the first
    /// one if it `greets`.
    Answers {
        /// The first answer is a greeting.
        greets: bool,
        /// The answers.
        with: &'static [&'static [u8]],
    },
    /// Nobody listens.
    Refused,
    /// Takes connections and says nothing.
    Silent,
    /// Says a byte now and then, and never ends.
    Slow,
    /// Ends its side at once, and goes on listening.
    HalfClosed,
    /// Resets the connection a moment after it stands.
    Reset,
    /// Says bytes without sense, and ends.
    Garbage,
    /// Says this again and again, without end.
    Endless(&'static [u8]),
}

/// A server on threads of this process, for TCP and UDP; dropping it ends it.
#[derive(Debug)]
pub struct MisbehavingServer {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl MisbehavingServer {
    /// Serves `port` of every address of `netns`.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(netns: &Netns, port: u16, behaviour: Behaviour) -> Result<Self, Error> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        if behaviour != Behaviour::Refused {
            let failed = || Error::os(format!("a server at port {port}"));
            let (tcp, udp) = netns
                .run(|| {
                    let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
                    let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
                    tcp.set_nonblocking(true)?;
                    udp.set_read_timeout(Some(TICK))?;
                    Ok((tcp, udp))
                })
                .map_err(failed())?;
            let stopped = Arc::clone(&stop);
            threads.push(thread::spawn(move || accept(&tcp, behaviour, &stopped)));
            let stopped = Arc::clone(&stop);
            threads.push(thread::spawn(move || datagrams(&udp, behaviour, &stopped)));
        }
        Ok(Self { stop, threads })
    }
}

impl Drop for MisbehavingServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, behaviour: Behaviour, stop: &Arc<AtomicBool>) {
    let mut serving: Vec<JoinHandle<()>> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                let stopped = Arc::clone(stop);
                serving.retain(|thread| !thread.is_finished());
                serving.push(thread::spawn(move || {
                    // The client may leave whenever it likes.
                    let _ = serve(stream, behaviour, &stopped);
                }));
            }
            Err(_) => await_connection(listener),
        }
    }
    for thread in serving {
        let _ = thread.join();
    }
}

/// Waits for a client, for a tick at most.
fn await_connection(listener: &TcpListener) {
    let mut poll = libc::pollfd {
        fd: listener.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one pollfd, and one is said. Whatever it returns, the caller tries again.
    unsafe { libc::poll(&raw mut poll, 1, TICK.as_millis() as libc::c_int) };
}

fn serve(mut stream: TcpStream, behaviour: Behaviour, stop: &AtomicBool) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(TICK))?;
    stream.set_write_timeout(Some(TICK))?;
    match behaviour {
        Behaviour::Answers { greets, with } => {
            for (n, answer) in with.iter().enumerate() {
                if n > 0 || !greets {
                    heard(&mut stream, stop)?;
                }
                stream.write_all(answer)?;
            }
            stream.shutdown(Shutdown::Write)?;
            drain(&mut stream, stop)
        }
        Behaviour::Refused => Ok(()),
        Behaviour::Silent => drain(&mut stream, stop),
        Behaviour::Slow => {
            for byte in b" 220 hello\r\n".iter().cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                stream.write_all(&[*byte])?;
                thread::sleep(TICK);
            }
            Ok(())
        }
        Behaviour::HalfClosed => {
            stream.shutdown(Shutdown::Write)?;
            drain(&mut stream, stop)
        }
        Behaviour::Reset => {
            // Not before the client has seen that it is connected.
            thread::sleep(TICK);
            let linger = libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            // SAFETY: the option's value is a linger of that size, and the socket is open.
            let set = unsafe {
                libc::setsockopt(
                    stream.as_raw_fd(),
                    libc::SOL_SOCKET,
                    libc::SO_LINGER,
                    (&raw const linger).cast(),
                    size_of_val(&linger) as libc::socklen_t,
                )
            };
            if set != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        }
        Behaviour::Garbage => {
            stream.write_all(&nonsense())?;
            stream.shutdown(Shutdown::Write)?;
            drain(&mut stream, stop)
        }
        Behaviour::Endless(text) => {
            let block = text.repeat(4096 / text.len().max(1) + 1);
            while !stop.load(Ordering::Relaxed) {
                stream.write_all(&block)?;
            }
            Ok(())
        }
    }
}

fn datagrams(socket: &UdpSocket, behaviour: Behaviour, stop: &AtomicBool) {
    let mut request = [0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let Ok((_, from)) = socket.recv_from(&mut request) else {
            continue;
        };
        let answer: &[u8] = match behaviour {
            Behaviour::Answers { with, .. } => with.first().copied().unwrap_or_default(),
            Behaviour::Garbage => &nonsense(),
            Behaviour::Endless(text) => &text.repeat(60_000 / text.len().max(1)),
            Behaviour::Slow => b" ",
            Behaviour::Refused | Behaviour::Silent | Behaviour::HalfClosed | Behaviour::Reset => {
                continue;
            }
        };
        let _ = socket.send_to(answer, from);
    }
}

/// Waits until something was said.
fn heard(stream: &mut TcpStream, stop: &AtomicBool) -> io::Result<()> {
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => return Ok(()),
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Listens until the other end leaves.
fn drain(stream: &mut TcpStream, stop: &AtomicBool) -> io::Result<()> {
    loop {
        heard(stream, stop)?;
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// Bytes that are the same each time and mean nothing.
fn nonsense() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..900)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8 | 0x80
        })
        .collect()
}
