//! The same question over HTTP/2.

use std::time::Duration;

use http::{Method, Request, Uri, Version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::reply::Reply;
use crate::check::Unusable;

/// The request's head, made once.
#[derive(Debug)]
pub(super) struct Head(Request<()>);

impl Head {
    pub(super) fn new(scheme: &str, host: &str, path: &str) -> Result<Self, Unusable> {
        let unusable = |error: http::Error| Unusable(format!("HTTP/2 to {host}{path}: {error}"));
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(host)
            .path_and_query(path)
            .build()
            .map_err(unusable)?;
        Request::builder()
            .method(Method::GET)
            .version(Version::HTTP_2)
            .uri(uri)
            .header("user-agent", "KeepAliveClient")
            .body(())
            .map(Self)
            .map_err(unusable)
    }
}

/// Asks and reads the whole answer; each wait is bounded by `limit`.
pub(super) async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    head: &Head,
    stream: S,
    limit: Duration,
    reply: &mut Reply,
) -> Result<(), String> {
    let told = |error: h2::Error| format!("HTTP/2: {error}");
    let late = |_| format!("no answer within {limit:?}");
    let (client, connection) = timeout(limit, h2::client::handshake(stream))
        .await
        .map_err(late)?
        .map_err(told)?;
    let talk = async {
        let mut client = timeout(limit, client.ready())
            .await
            .map_err(late)?
            .map_err(told)?;
        let (answer, _) = client.send_request(head.0.clone(), true).map_err(told)?;
        let answer = timeout(limit, answer).await.map_err(late)?.map_err(told)?;
        reply.begin_body(answer.status().as_u16());
        let mut body = answer.into_body();
        while let Some(piece) = timeout(limit, body.data()).await.map_err(late)? {
            let piece = piece.map_err(told)?;
            reply.push(&piece)?;
            let _ = body.flow_control().release_capacity(piece.len());
        }
        Ok(())
    };
    // The connection moves only while it is polled. Its end without our answer's is a failure, and the
    // answer's end is the end of both.
    tokio::select! {
        biased;
        done = talk => done,
        ended = connection => Err(match ended {
            Ok(()) => "connection closed without an answer".into(),
            Err(error) => told(error),
        }),
    }
}
