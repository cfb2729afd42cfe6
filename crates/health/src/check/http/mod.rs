//! `HTTP_GET` and `SSL_GET`: status, digest and pattern of a page, with keepalived's request bytes.

mod pattern;
pub mod reply;
mod two;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use pointsman_model::check::{HttpCheck, HttpProtocol, HttpUrl};
use pointsman_model::{Check, ProbeTarget};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::Unusable;
use super::tls::Connector;
use crate::net::{connect, describe, within};
use crate::{Context, Outcome};

use pattern::BodyPattern;
use reply::{Reply, Wanted};

/// A whole answer may take this many times as long as one wait for its next bytes: a server that trickles
/// for ever must not hold its check for ever.
const WAITS: u32 = 10;

/// An HTTP check, ready to be asked.
#[derive(Debug)]
pub(super) struct Http {
    urls: Vec<Url>,
    tls: Option<Connector>,
}

#[derive(Debug)]
struct Url {
    path: String,
    request: Request,
    wanted: Wanted,
    close_notify: bool,
}

#[derive(Debug)]
enum Request {
    /// The bytes.
    One(Vec<u8>),
    /// What the request's head holds.
    Two(two::Head),
}

impl Http {
    pub(super) fn new(check: &Check, http: &HttpCheck) -> Result<Self, Unusable> {
        if http.urls.is_empty() {
            return Err(Unusable("no url is given".into()));
        }
        let urls = http
            .urls
            .iter()
            .map(|url| Url::new(url, http, &check.target))
            .collect::<Result<_, _>>()?;
        let alpn: &[&[u8]] = match http.protocol {
            HttpProtocol::Http2 => &[b"h2"],
            HttpProtocol::Http10 | HttpProtocol::Http10Close | HttpProtocol::Http11 => &[],
        };
        let tls = http
            .tls
            .as_ref()
            .map(|options| Connector::new(options, alpn))
            .transpose()?;
        Ok(Self { urls, tls })
    }

    pub(super) async fn probe(
        &self,
        url: usize,
        target: &ProbeTarget,
        limit: Duration,
        context: &Context,
    ) -> Outcome {
        // The schedule counts the same urls.
        let url = &self.urls[url.min(self.urls.len() - 1)];
        let reply = match timeout(limit * WAITS, self.ask(url, target, limit, context)).await {
            Ok(reply) => reply,
            Err(_) => Err(format!(
                "the answer does not end ({:?} are over)",
                limit * WAITS
            )),
        };
        match reply.and_then(|reply| url.wanted.judge(reply)) {
            Ok(status) => Outcome::up(format!("status {status} to GET {}", url.path)),
            Err(reason) => Outcome::down(format!("GET {}: {reason}", url.path)),
        }
    }

    async fn ask(
        &self,
        url: &Url,
        target: &ProbeTarget,
        limit: Duration,
        context: &Context,
    ) -> Result<Reply, String> {
        let plain = connect(target, limit, context)
            .await
            .map_err(|error| describe(&error))?;
        match &self.tls {
            None => url.exchange(plain, limit, false).await,
            Some(connector) => {
                let secret = within(limit, connector.connect(plain))
                    .await
                    .map_err(|error| format!("TLS: {}", describe(&error)))?;
                url.exchange(secret, limit, url.close_notify).await
            }
        }
    }
}

impl Url {
    fn new(url: &HttpUrl, http: &HttpCheck, target: &ProbeTarget) -> Result<Self, Unusable> {
        let asked = target
            .through
            .unwrap_or(SocketAddr::new(target.addr, target.port));
        let host = url.host.clone().unwrap_or_else(|| asked.to_string());
        // Whoever writes the configuration must not be able to smuggle in lines by mistake.
        if url.path.contains(|c: char| c.is_control() || c == ' ')
            || host.contains(char::is_control)
        {
            return Err(Unusable(format!(
                "path `{}` or host `{host}` holds a blank or a control character",
                url.path.escape_debug()
            )));
        }
        let request = match http.protocol {
            HttpProtocol::Http10 => one(&url.path, "1.0", false, &host),
            HttpProtocol::Http10Close => one(&url.path, "1.0", true, &host),
            HttpProtocol::Http11 => one(&url.path, "1.1", true, &host),
            HttpProtocol::Http2 => {
                let scheme = if http.tls.is_some() { "https" } else { "http" };
                two::Head::new(scheme, &host, &url.path).map(Request::Two)?
            }
        };
        let pattern = url.regex.as_ref().map(BodyPattern::new).transpose()?;
        Ok(Self {
            path: url.path.clone(),
            request,
            wanted: Wanted {
                status: url.status.clone(),
                digest: url.digest,
                pattern,
            },
            close_notify: url.tls_compliant,
        })
    }

    async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        mut stream: S,
        limit: Duration,
        close_notify: bool,
    ) -> Result<Reply, String> {
        let mut reply = self.wanted.reply();
        match &self.request {
            Request::Two(head) => two::exchange(head, stream, limit, &mut reply).await?,
            Request::One(bytes) => {
                let sent = async {
                    stream.write_all(bytes).await?;
                    stream.flush().await
                };
                within(limit, sent)
                    .await
                    .map_err(|error| describe(&error))?;
                read(&mut stream, limit, &mut reply).await?;
                if close_notify {
                    // Politeness: whether it arrives says nothing of the answer.
                    let _ = within(limit, stream.shutdown()).await;
                }
            }
        }
        Ok(reply)
    }
}

/// Reads until the peer closes, as keepalived does; each wait is bounded.
async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    limit: Duration,
    reply: &mut Reply,
) -> Result<(), String> {
    let mut buffer = [0; 4096];
    loop {
        match within(limit, stream.read(&mut buffer)).await {
            Ok(0) => return Ok(()),
            Ok(length) => reply.push(&buffer[..length])?,
            // Many servers close TLS without saying so; what came is then the answer.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(describe(&error)),
        }
    }
}

/// keepalived's request, to the byte.
fn one(path: &str, version: &str, close: bool, host: &str) -> Request {
    let close = if close { "Connection: close\r\n" } else { "" };
    Request::One(
        format!(
            "GET {path} HTTP/{version}\r\nUser-Agent: KeepAliveClient\r\n{close}Host: {host}\r\n\r\n"
        )
        .into_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_bytes_of_keepalived() {
        for (version, close, wanted) in [
            (
                "1.0",
                false,
                "GET /x HTTP/1.0\r\nUser-Agent: KeepAliveClient\r\nHost: h\r\n\r\n",
            ),
            (
                "1.1",
                true,
                "GET /x HTTP/1.1\r\nUser-Agent: KeepAliveClient\r\nConnection: close\r\nHost: h\r\n\r\n",
            ),
        ] {
            let Request::One(bytes) = one("/x", version, close, "h") else {
                panic!("this is HTTP/1")
            };
            assert_eq!(String::from_utf8_lossy(&bytes), wanted);
        }
    }
}
