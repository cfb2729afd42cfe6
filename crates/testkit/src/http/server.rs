//! The server of a lab: `/` names it, `/client` names its client, `/blob/N` is N bytes, a POST is answered with its sum.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::page;
use crate::{Error, Netns, blob};

/// How long a connection may be silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// A page server on a thread of this process; dropping it closes the port.
#[derive(Debug)]
pub struct PageServer {
    listener: TcpListener,
    served: Arc<AtomicU64>,
    accepting: Option<JoinHandle<()>>,
}

impl PageServer {
    /// Listens on every address of `netns`, so on a VIP too, and names itself `name - addr`.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(netns: &Netns, name: &str, addr: Ipv4Addr, port: u16) -> Result<Self, Error> {
        let listener = netns
            .run(|| {
                // Both families; IPv4 alone where the kernel has no other.
                TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))
                    .or_else(|_| TcpListener::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)))
            })
            .map_err(Error::os(format!("{name}: listening on port {port}")))?;
        let served = Arc::new(AtomicU64::new(0));
        let accepting = {
            let listener = listener
                .try_clone()
                .map_err(Error::os("cloning a listener"))?;
            let served = Arc::clone(&served);
            let page = page(name, addr);
            thread::spawn(move || accept(&listener, &page, &served))
        };
        Ok(Self {
            listener,
            served,
            accepting: Some(accepting),
        })
    }

    /// Requests received so far.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        self.listener
            .local_addr()
            .map_err(Error::os("address of a listener"))
    }
}

impl Drop for PageServer {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours; shutting a listener down wakes its accept.
        unsafe { libc::shutdown(self.listener.as_raw_fd(), libc::SHUT_RDWR) };
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// Serves in the calling thread's namespace until the process ends.
///
/// # Errors
/// When the port is taken.
pub fn serve(name: &str, addr: Ipv4Addr, port: u16) -> io::Result<()> {
    let listener = TcpListener::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
    accept(&listener, &page(name, addr), &Arc::new(AtomicU64::new(0)));
    Ok(())
}

fn accept(listener: &TcpListener, page: &str, served: &Arc<AtomicU64>) {
    let page: Arc<str> = page.into();
    loop {
        let Ok((stream, peer)) = listener.accept() else {
            return;
        };
        let (page, served) = (Arc::clone(&page), Arc::clone(served));
        thread::spawn(move || {
            let _ = answer(stream, peer, &page, &served);
        });
    }
}

fn answer(stream: TcpStream, peer: SocketAddr, page: &str, served: &AtomicU64) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let (method, path, length) = read_head(&mut reader)?;
    // Counted before the answer: who has it may look at the counter at once.
    served.fetch_add(1, Ordering::Relaxed);
    let mut stream = stream;
    if method == "POST" {
        let mut sum = blob::Sum::default();
        let mut body = reader.take(length);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match body.read(&mut buffer)? {
                0 => break,
                n => sum.add(&buffer[..n]),
            }
        }
        return send(
            &mut stream,
            "200 OK",
            &format!("{} {:016x}", sum.length(), sum.finish()),
        );
    }
    if path == "/client" {
        let client = peer.ip().to_canonical();
        return send(&mut stream, "200 OK", &client.to_string());
    }
    match path.strip_prefix("/blob/").map(str::parse) {
        Some(Ok(length)) => send_blob(&mut stream, length),
        Some(Err(_)) => send(&mut stream, "400 Bad Request", "the length is a number"),
        None => send(&mut stream, "200 OK", page),
    }
}

fn read_head(reader: &mut impl BufRead) -> io::Result<(String, String, u64)> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let (method, path) = (method.to_owned(), path.to_owned());
    let mut length = 0;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            return Ok((method, path, length));
        }
        if let Some((key, value)) = line.split_once(':')
            && key.eq_ignore_ascii_case("content-length")
        {
            length = value
                .trim()
                .parse()
                .map_err(|_| io::ErrorKind::InvalidData)?;
        }
    }
}

fn head(status: &str, length: u64) -> String {
    format!("HTTP/1.0 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
}

fn send(stream: &mut TcpStream, status: &str, body: &str) -> io::Result<()> {
    let body = format!("{body}\n");
    // One write: an answer of one segment, as a small page is.
    stream.write_all(format!("{}{body}", head(status, body.len() as u64)).as_bytes())
}

fn send_blob(stream: &mut TcpStream, length: u64) -> io::Result<()> {
    stream.write_all(head("200 OK", length).as_bytes())?;
    let mut buffer = vec![0; 64 * 1024];
    let mut offset = 0;
    while offset < length {
        let part = (length - offset).min(buffer.len() as u64) as usize;
        blob::fill(offset, &mut buffer[..part]);
        stream.write_all(&buffer[..part])?;
        offset += part as u64;
    }
    Ok(())
}
