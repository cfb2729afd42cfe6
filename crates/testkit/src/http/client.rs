//! A client like curl: one connection a request, in the calling thread's namespace.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::{Error, blob};

/// How long `get` waits for the connection, and then for each piece of the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same for transfers of many megabytes on a busy machine.
const TRANSFER_PATIENCE: Duration = Duration::from_secs(20);

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The page, without the end of line.
    pub body: String,
    /// The client's side of the connection.
    pub local: SocketAddr,
}

/// Fetches `path` over a new connection.
///
/// # Errors
/// When the connection fails or the answer is not a page.
pub fn get(server: SocketAddrV4, path: &str) -> Result<Reply, Error> {
    get_with(server, path, PATIENCE)
}

/// [`get`] with another patience.
///
/// # Errors
/// As [`get`].
pub fn get_with(server: SocketAddrV4, path: &str, patience: Duration) -> Result<Reply, Error> {
    fetch(connect(server, patience)?, server, path)
}

/// [`get`] from one of the host's addresses instead of the one the kernel would choose.
///
/// # Errors
/// As [`get`], and when `source` is not an address of this host.
pub fn get_from(source: Ipv4Addr, server: SocketAddrV4, path: &str) -> Result<Reply, Error> {
    let open = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddrV4::new(source, 0).into())?;
        socket.connect_timeout(&server.into(), PATIENCE)?;
        std::io::Result::Ok(TcpStream::from(socket))
    };
    let stream = open().map_err(Error::os(format!("connecting from {source} to {server}")))?;
    fetch(prepared(stream, PATIENCE)?, server, path)
}

fn fetch(mut stream: TcpStream, server: SocketAddrV4, path: &str) -> Result<Reply, Error> {
    let local = stream.local_addr().map_err(Error::os("own address"))?;
    request(
        &mut stream,
        &format!("GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n"),
    )?;
    let (mut reader, length) = open_answer(stream)?;
    let mut body = String::new();
    reader
        .read_to_string(&mut body)
        .map_err(Error::os("reading a page"))?;
    if length.is_some_and(|length| length != body.len() as u64) {
        return Err(Error::NotHttp {
            start: format!("{} bytes of {length:?}", body.len()),
        });
    }
    Ok(Reply {
        body: body.trim_end().into(),
        local,
    })
}

/// Fetches `length` bytes of the blob and returns how many came and their sum.
///
/// # Errors
/// When the connection breaks.
pub fn download(server: SocketAddrV4, length: u64) -> Result<(u64, u64), Error> {
    let mut stream = connect(server, TRANSFER_PATIENCE)?;
    request(&mut stream, &format!("GET /blob/{length} HTTP/1.0\r\n\r\n"))?;
    let (mut reader, _) = open_answer(stream)?;
    let mut sum = blob::Sum::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match reader.read(&mut buffer).map_err(Error::os("downloading"))? {
            0 => return Ok((sum.length(), sum.finish())),
            n => sum.add(&buffer[..n]),
        }
    }
}

/// Sends `length` bytes of the blob; returns how many arrived and their sum, as the server tells.
///
/// # Errors
/// When the connection breaks or the server's answer makes no sense.
pub fn upload(server: SocketAddrV4, length: u64) -> Result<(u64, u64), Error> {
    let mut stream = connect(server, TRANSFER_PATIENCE)?;
    request(
        &mut stream,
        &format!("POST / HTTP/1.0\r\nContent-Length: {length}\r\n\r\n"),
    )?;
    let mut buffer = vec![0; 64 * 1024];
    let mut offset = 0;
    while offset < length {
        let part = (length - offset).min(buffer.len() as u64) as usize;
        blob::fill(offset, &mut buffer[..part]);
        stream
            .write_all(&buffer[..part])
            .map_err(Error::os("uploading"))?;
        offset += part as u64;
    }
    let (mut reader, _) = open_answer(stream)?;
    let mut body = String::new();
    reader
        .read_to_string(&mut body)
        .map_err(Error::os("reading the sum"))?;
    let mut words = body.split_whitespace();
    let arrived = words.next().and_then(|word| word.parse().ok());
    let sum = words
        .next()
        .and_then(|word| u64::from_str_radix(word, 16).ok());
    arrived.zip(sum).ok_or(Error::NotHttp {
        start: body.chars().take(80).collect(),
    })
}

fn connect(server: SocketAddrV4, patience: Duration) -> Result<TcpStream, Error> {
    let stream = TcpStream::connect_timeout(&server.into(), patience)
        .map_err(Error::os(format!("connecting to {server}")))?;
    prepared(stream, patience)
}

fn prepared(stream: TcpStream, patience: Duration) -> Result<TcpStream, Error> {
    let prepare = || {
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.set_nodelay(true)
    };
    prepare().map_err(Error::os("preparing a socket"))?;
    Ok(stream)
}

fn request(stream: &mut TcpStream, head: &str) -> Result<(), Error> {
    stream
        .write_all(head.as_bytes())
        .map_err(Error::os("sending a request"))
}

/// Reads up to the body; yields the announced length.
fn open_answer(stream: TcpStream) -> Result<(BufReader<TcpStream>, Option<u64>), Error> {
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    let mut line = String::new();
    reader
        .read_line(&mut line)
        .map_err(Error::os("waiting for an answer"))?;
    let status: u16 = line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok())
        .ok_or_else(|| Error::NotHttp {
            start: line.chars().take(80).collect(),
        })?;
    let mut length = None;
    loop {
        line.clear();
        if reader
            .read_line(&mut line)
            .map_err(Error::os("reading an answer"))?
            == 0
        {
            break;
        }
        if line.trim().is_empty() {
            break;
        }
        if let Some((key, value)) = line.split_once(':')
            && key.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok();
        }
    }
    if status == 200 {
        return Ok((reader, length));
    }
    let mut body = String::new();
    let _ = reader.read_to_string(&mut body);
    Err(Error::Status {
        status,
        body: body.trim_end().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::PageServer;
    use crate::{Names, Netns};

    #[test]
    fn a_page_names_its_server_and_a_blob_keeps_its_sum() {
        let netns = Netns::new(&Names::transient(), "alone").unwrap();
        let addr = Ipv4Addr::LOCALHOST;
        let server = PageServer::start(&netns, "rs1", addr, 80).unwrap();
        let here = SocketAddrV4::new(addr, 80);
        netns.run(|| {
            assert_eq!(get(here, "/").unwrap().body, "rs1 - 127.0.0.1");
            assert_eq!(
                download(here, 1_000_001).unwrap(),
                (1_000_001, blob::sum_of(1_000_001))
            );
            assert_eq!(
                upload(here, 70_003).unwrap(),
                (70_003, blob::sum_of(70_003))
            );
            let error = get(here, "/blob/many").unwrap_err();
            assert!(
                matches!(error, Error::Status { status: 400, .. }),
                "{error}"
            );
        });
        assert!(server.served() >= 3);
        drop(server);
        assert!(netns.run(|| get(here, "/")).is_err());
    }
}
