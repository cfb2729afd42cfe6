//! Posts events to one address, one after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use pointsman_model::Webhook;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use url::Url;

use crate::rate::Rate;

/// So many events leave at once, and then one each so often.
const BURST: u32 = 200;
const PERIOD: Duration = Duration::from_millis(200);
/// Bytes of an answer that are read.
const ANSWER_BYTES: usize = 4096;

/// Posts what comes until nobody can send any more.
pub(crate) async fn post_all(hook: Webhook, mut events: mpsc::Receiver<Bytes>) {
    let mut rate = Rate::new(BURST, PERIOD, Instant::now());
    while let Some(event) = events.recv().await {
        tokio::time::sleep(rate.take(Instant::now())).await;
        match tokio::time::timeout(hook.timeout, post(&hook.url, event)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("webhook {}: event lost: {error}", shown(&hook.url)),
            Err(_) => tracing::warn!("webhook {}: event lost: timed out", shown(&hook.url)),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Unposted {
    #[error("not an http:// or https:// address")]
    Url,
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("answered {0}")]
    Status(u16),
}

async fn post(url: &str, event: Bytes) -> Result<(), Unposted> {
    let url = Url::parse(url).map_err(|_| Unposted::Url)?;
    let host = url.host_str().ok_or(Unposted::Url)?.to_owned();
    let port = url.port_or_known_default().ok_or(Unposted::Url)?;
    let plain = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let stream = TcpStream::connect((plain.as_str(), port)).await?;
    let mut target = url.path().to_owned();
    if let Some(query) = url.query() {
        target = format!("{target}?{query}");
    }
    let named = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host,
    };
    let request = Request::builder()
        .method(Method::POST)
        .uri(target)
        .header(HOST, named)
        .header(USER_AGENT, "pointsman")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(event))
        .map_err(|_| Unposted::Url)?;
    match url.scheme() {
        "http" => exchange(stream, request).await,
        "https" => {
            let name = ServerName::try_from(plain).map_err(|_| Unposted::Url)?;
            exchange(tls()?.connect(name, stream).await?, request).await
        }
        _ => Err(Unposted::Url),
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<(), Unposted>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = async {
        let _ = connection.await;
        std::future::pending().await
    };
    let answered = async {
        let mut response = sender.send_request(request).await?;
        let mut read = 0;
        while read < ANSWER_BYTES
            && let Some(frame) = response.frame().await
        {
            read += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok::<_, hyper::Error>(response.status())
    };
    let status = tokio::select! {
        status = answered => status?,
        () = connection => unreachable!("it is pending for ever"),
    };
    if status.is_success() {
        Ok(())
    } else {
        Err(Unposted::Status(status.as_u16()))
    }
}

fn tls() -> Result<TlsConnector, Unposted> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Scheme and host only: paths of webhooks are often secrets.
fn shown(url: &str) -> String {
    match Url::parse(url) {
        Ok(url) => format!("{}://{}", url.scheme(), url.host_str().unwrap_or("?")),
        Err(_) => "(no address)".to_owned(),
    }
}
