//! HTTP, HTTPS and HTTP through the real server as a proxy, as libwww-perl's user agent does it.

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, LOCATION, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::lookup_host;
use url::{Host, Url};

use pointsman_model::check::{NegotiateCheck, NegotiateMethod, NegotiateService};

use super::pattern::Pattern;
use super::peer::{Peer, Stream, encrypt};
use super::{Answer, BODY, Failure};

/// How many redirections are followed (`max_redirect` of libwww-perl).
const REDIRECTIONS: usize = 7;
/// Most bytes of header fields.
const HEADERS: usize = 64 * 1024;

/// What the first request asks, and of whom.
struct Start {
    url: Url,
    /// The URL names the real server itself.
    own: bool,
    host: String,
}

pub(super) async fn check(
    peer: &Peer<'_>,
    check: &NegotiateCheck,
    receive: Option<&Pattern>,
) -> Result<Answer, Failure> {
    let Start { url, own, host } = start(peer, check)?;
    let method = match check.method {
        NegotiateMethod::Get => Method::GET,
        NegotiateMethod::Head => Method::HEAD,
    };
    let proxied =
        |url: &Url| check.service == NegotiateService::HttpProxy && url.scheme() == "http";
    let (mut url, mut own, mut host) = (url, own, Some(host));
    for _ in 0..=REDIRECTIONS {
        let stream = match proxied(&url) || own {
            true => connect(peer, &url, host.as_deref(), proxied(&url)).await?,
            false => connect_elsewhere(peer, &url).await?,
        };
        let target = match proxied(&url) {
            true => url.as_str(),
            false => &url[url::Position::BeforePath..url::Position::AfterQuery],
        };
        let host_of_url = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let request = Request::builder()
            .method(method.clone())
            .uri(target)
            .header(HOST, host.as_deref().unwrap_or(host_of_url))
            .header(USER_AGENT, concat!("pointsman/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|_| Failure::Unusable("request or virtualhost cannot stand in a request"))?;
        let page = exchange(stream, request).await?;
        let Some(next) = redirection(&url, &page) else {
            return judge(&page, receive);
        };
        (url, own, host) = (next, false, None);
    }
    Err(Failure::refused("the page", "too many redirections"))
}

/// The first URL: `request` itself when it is one, else that path of the real server.
fn start(peer: &Peer<'_>, check: &NegotiateCheck) -> Result<Start, Failure> {
    let unusable = || Failure::Unusable("request does not make a URL");
    let request = check.request.as_deref().unwrap_or_default();
    let scheme = match check.service {
        NegotiateService::Https => "https",
        _ => "http",
    };
    let whole = request.starts_with(&format!("{scheme}://"));
    let url = match (check.service, whole) {
        (_, true) => Url::parse(request).map_err(|_| unusable())?,
        (NegotiateService::HttpProxy, false) => {
            return Err(Failure::Unusable("request must be a whole URL for a proxy"));
        }
        _ => {
            Url::parse(&format!("{scheme}://{}/{request}", peer.addr())).map_err(|_| unusable())?
        }
    };
    let host = match (&check.virtualhost, check.service) {
        // For a proxy ldirectord sets no header: the URL's own host it is.
        (_, NegotiateService::HttpProxy) => {
            url[url::Position::BeforeHost..url::Position::AfterPort].to_owned()
        }
        (Some(host), _) => host.clone(),
        (None, _) => match peer.addr().ip() {
            std::net::IpAddr::V4(addr) => addr.to_string(),
            std::net::IpAddr::V6(addr) => format!("[{addr}]"),
        },
    };
    Ok(Start {
        own: !whole,
        url,
        host,
    })
}

/// Connects to the real server; over TLS with the virtual host's name, if it has one.
async fn connect(
    peer: &Peer<'_>,
    url: &Url,
    host: Option<&str>,
    proxied: bool,
) -> Result<Box<dyn Stream>, Failure> {
    let stream = peer.connect().await?;
    if proxied || url.scheme() == "http" {
        return Ok(Box::new(stream));
    }
    let name = host.and_then(|host| ServerName::try_from(host.to_owned()).ok());
    let name = name.unwrap_or_else(|| peer.addr().ip().into());
    Ok(Box::new(encrypt(stream, name).await?))
}

/// Connects to where a redirection or a whole URL leads.
async fn connect_elsewhere(peer: &Peer<'_>, url: &Url) -> Result<Box<dyn Stream>, Failure> {
    let nowhere = || Failure::Unusable("the URL leads nowhere");
    let port = url.port_or_known_default().ok_or_else(nowhere)?;
    let (addr, name) = match url.host().ok_or_else(nowhere)? {
        Host::Ipv4(addr) => ((addr, port).into(), std::net::IpAddr::V4(addr).into()),
        Host::Ipv6(addr) => ((addr, port).into(), std::net::IpAddr::V6(addr).into()),
        Host::Domain(name) => {
            let mut found = lookup_host((name, port)).await.map_err(Failure::Connect)?;
            let server_name = ServerName::try_from(name.to_owned()).map_err(|_| nowhere())?;
            (found.next().ok_or_else(nowhere)?, server_name)
        }
    };
    let stream = peer.connect_to(addr).await?;
    Ok(match url.scheme() {
        "https" => Box::new(encrypt(stream, name).await?),
        _ => Box::new(stream),
    })
}

/// A response, with as much of its body as is looked at.
type Page = Response<Vec<u8>>;

async fn exchange(
    stream: Box<dyn Stream>,
    request: Request<Empty<Bytes>>,
) -> Result<Page, Failure> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let talk = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let (head, mut body) = response.into_parts();
        let mut page = Vec::new();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                page.extend_from_slice(&data[..data.len().min(BODY - page.len())]);
            }
            if page.len() == BODY {
                break;
            }
        }
        Ok(Response::from_parts(head, page))
    };
    tokio::pin!(talk);
    tokio::select! {
        page = &mut talk => page,
        // Without a connection the talk ends by itself, and knows why.
        _ = connection => talk.await,
    }
}

/// What hyper's error means for the server.
fn broken(error: hyper::Error) -> Failure {
    if error.is_incomplete_message() {
        return Failure::Closed("the response was complete");
    }
    if error.is_parse() {
        return Failure::garbage("an HTTP response", error.to_string());
    }
    Failure::Io(std::io::Error::other(error))
}

/// Where the page sends us, if it does.
fn redirection(url: &Url, page: &Page) -> Option<Url> {
    let redirects = matches!(
        page.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    let place = page.headers().get(LOCATION).filter(|_| redirects)?;
    let next = url.join(place.to_str().ok()?).ok()?;
    matches!(next.scheme(), "http" | "https").then_some(next)
}

/// 2xx, and the body matches.
fn judge(page: &Page, receive: Option<&Pattern>) -> Result<Answer, Failure> {
    let status = page.status();
    if !status.is_success() {
        return Err(Failure::refused("the page", status.to_string()));
    }
    match receive.filter(|pattern| !pattern.matches(page.body())) {
        Some(pattern) => Err(Failure::mismatch(pattern, page.body())),
        None => Ok(Answer {
            text: status.to_string(),
        }),
    }
}
